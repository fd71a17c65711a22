//! Running a model, and waiting in it.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

use loom::sync::{Condvar, Mutex};
use loom::thread;
use tokio::runtime::{Builder, Runtime};

/// In machine words, a quarter MiB: without optimisation a connect does not fit into loom's 32 KiB.
const STACK_WORDS: usize = 32 * 1024;

/// Changes of thread at a moment when the running one could have gone on, in one run of a model too long for all orders.
/// One or two are enough for most errors; with four, these models take minutes.
const PREEMPTIONS: usize = 3;

/// Runs `model` in every order of its threads.
pub fn in_every_order(model: impl Fn() + Send + Sync + 'static) {
    check(&loom::model::Builder::new(), model);
}

/// Runs `model` in every order of its threads with up to [`PREEMPTIONS`], or as many as `LOOM_MAX_PREEMPTIONS` says.
pub fn in_most_orders(model: impl Fn() + Send + Sync + 'static) {
    let mut checker = loom::model::Builder::new();
    checker.preemption_bound.get_or_insert(PREEMPTIONS);
    check(&checker, model);
}

fn check(checker: &loom::model::Builder, model: impl Fn() + Send + Sync + 'static) {
    // A connect that waits makes a timer. Nobody drives this runtime, so none runs out.
    static TIMERS: OnceLock<Runtime> = OnceLock::new();
    let timers = TIMERS.get_or_init(|| Builder::new_current_thread().enable_time().build().unwrap());
    let _entered = timers.enter();
    let orders = Arc::new(AtomicUsize::new(0));
    let (model, tried) = (Arc::new(model), orders.clone());
    checker.check(move || {
        tried.fetch_add(1, Ordering::Relaxed);
        let model = model.clone();
        spawn(move || model()).join().unwrap();
    });
    let orders = orders.load(Ordering::Relaxed);
    println!("{orders} orders");
    assert!(orders > 1, "the threads of this model never meet");
}

/// Starts a thread of the model.
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::Builder::new().stack_size(STACK_WORDS).spawn(work).unwrap()
}

/// A task that can be woken, as the sandbox has one for each guest.
#[derive(Default)]
struct Task {
    woken: Mutex<bool>,
    changed: Condvar,
    look: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Task {
    fn sleep(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.changed.wait(woken).unwrap();
        }
        *woken = false;
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if let Some(look) = &self.look {
            look();
        }
        *self.woken.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

/// Waits until `poll` is ready, as a guest does whom the sandbox ends when it wakes up in vain: what it was told is so.
pub fn told<T>(poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    wait(Task::default(), poll)
}

/// As [`told`], where who wakes the task takes a `look` at what it waits for at once: a lock that is still held then is
/// never released.
pub fn told_and_looking<T>(
    look: impl Fn() + Send + Sync + 'static,
    poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> T {
    let look: Option<Box<dyn Fn() + Send + Sync>> = Some(Box::new(look));
    wait(
        Task {
            look,
            ..Task::default()
        },
        poll,
    )
}

fn wait<T>(task: Task, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let task = Arc::new(task);
    let waker = Waker::from(task.clone());
    let mut cx = Context::from_waker(&waker);
    if let Poll::Ready(found) = poll(&mut cx) {
        return found;
    }
    task.sleep();
    match poll(&mut cx) {
        Poll::Ready(found) => found,
        Poll::Pending => panic!("woken in vain"),
    }
}

/// Waits until `poll` is ready or the task has been woken, whatever it then finds.
pub fn wait_once(poll: impl FnOnce(&mut Context<'_>) -> Poll<()>) {
    let task = Arc::new(Task::default());
    let waker = Waker::from(task.clone());
    if poll(&mut Context::from_waker(&waker)).is_pending() {
        task.sleep();
    }
}

/// Waits for `future`, which may be woken as often as it likes.
pub fn wait_for<F: Future>(future: F) -> F::Output {
    let task = Arc::new(Task::default());
    let waker = Waker::from(task.clone());
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => task.sleep(),
        }
    }
}
