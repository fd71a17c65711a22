use super::*;
use std::sync::mpsc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// How long a thing may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn executor(threads: usize) -> Executor {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    Executor::start(threads, &Arc::new(Tokio::new(runtime))).unwrap()
}

fn share() -> Arc<Share> {
    Arc::new(Share::new(None))
}

/// Runs a future on the executor and waits for what it gives.
fn outcome<T: Send + 'static>(executor: &Executor, work: impl Future<Output = T> + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    executor.spawn(&share(), async move { sender.send(work.await).unwrap() });
    receiver.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn tasks_wake_each_other_on_one_thread_and_on_several() {
    for threads in [1, 3] {
        let executor = executor(threads);
        let rounds = outcome(&executor, async {
            let (ping, pong) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            let (asked, answers) = (ping.clone(), pong.clone());
            spawn(&share(), async move {
                loop {
                    asked.notified().await;
                    answers.notify_one();
                }
            });
            for _ in 0..10_000 {
                ping.notify_one();
                pong.notified().await;
            }
            10_000
        });
        assert_eq!(rounds, 10_000);
        executor.stop();
    }
}

#[test]
fn timers_and_blocking_calls_are_at_hand() {
    let executor = executor(1);
    let sum = outcome(&executor, async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        tokio::task::spawn_blocking(|| 40).await.unwrap() + 2
    });
    assert_eq!(sum, 42);
    executor.stop();
}

#[test]
fn who_never_waits_lets_the_others_run() {
    let executor = executor(1);
    executor.spawn(&share(), async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    // Nor do two who hand the thread to each other.
    let turns = [Arc::new(Notify::new()), Arc::new(Notify::new())];
    for at in 0..2 {
        let (own, other) = (turns[at].clone(), turns[1 - at].clone());
        executor.spawn(&share(), async move {
            loop {
                other.notify_one();
                own.notified().await;
            }
        });
    }
    assert_eq!(outcome(&executor, async { 1 }), 1);
    executor.stop();
}

#[test]
fn who_waits_for_the_system_keeps_nobody_from_running() {
    let executor = executor(1);
    let (give, told) = mpsc::channel();
    let (began, begins) = mpsc::channel();
    executor.spawn(&share(), async move {
        let got = seats::blocking(|| {
            began.send("blocks").unwrap();
            told.recv_timeout(PATIENCE)
        });
        began.send(got.unwrap()).unwrap();
    });
    begins.recv_timeout(PATIENCE).unwrap();
    // As the ticker does.
    let (over, looks) = (Arc::new(AtomicBool::new(false)), executor.clone());
    let until = over.clone();
    let ticks = thread::spawn(move || {
        while !until.load(Ordering::SeqCst) {
            looks.look();
            thread::yield_now();
        }
    });
    assert_eq!(outcome(&executor, async { 1 }), 1);
    give.send("goes on").unwrap();
    assert_eq!(begins.recv_timeout(PATIENCE), Ok("goes on"));
    over.store(true, Ordering::SeqCst);
    ticks.join().unwrap();
    executor.stop();
}

#[test]
fn a_panic_ends_its_task_alone() {
    let executor = executor(1);
    let (sender, receiver) = oneshot::channel::<()>();
    executor.spawn(&share(), async move {
        let _held = sender;
        panic!("as told");
    });
    assert!(outcome(&executor, receiver).is_err(), "what it held is dropped");
    assert_eq!(outcome(&executor, async { 1 }), 1);
    executor.stop();
    assert_eq!(executor.0.tasks.lock().len(), 0);
}

#[test]
fn the_end_drops_all_tasks() {
    let executor = executor(2);
    let held = Arc::new(());
    for _ in 0..100 {
        let held = held.clone();
        executor.spawn(&share(), async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
    }
    // One that runs goes at its next pause.
    let (running, runs) = mpsc::channel();
    let (go_on, told) = mpsc::channel::<()>();
    let (last, gone) = (held.clone(), mpsc::channel::<()>());
    executor.spawn(&share(), async move {
        let _last = (last, gone.0);
        running.send(()).unwrap();
        told.recv_timeout(PATIENCE).unwrap();
        std::future::pending::<()>().await;
    });
    runs.recv_timeout(PATIENCE).unwrap();
    executor.stop();
    go_on.send(()).unwrap();
    assert!(gone.1.recv_timeout(PATIENCE).is_err(), "its sender is dropped");
    // The others may be in the hands of a thread that looks at them for the first time.
    while Arc::strong_count(&held) > 1 {
        std::thread::yield_now();
    }
}
