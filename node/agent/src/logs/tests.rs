use super::*;
use crate::clock::SystemClock;
use futures::StreamExt;

fn logs() -> (tempfile::TempDir, Logs, LogTarget) {
    let dir = tempfile::tempdir().unwrap();
    let logs = Logs::new(dir.path().to_owned(), Arc::new(SystemClock));
    let target = LogTarget {
        namespace: "ns".into(),
        pod: "p".into(),
        uid: "u".into(),
        container: "c".into(),
    };
    (dir, logs, target)
}

async fn text(logs: &Logs, target: &LogTarget, restart: u32, options: &LogOptions) -> String {
    let mut stream = logs.read(target, restart, options).unwrap();
    let mut all = Vec::new();
    while let Some(bytes) = stream.next().await {
        all.extend_from_slice(&bytes.unwrap());
    }
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn lines_come_back_in_order_and_partial_ones_at_the_end() {
    let (_dir, logs, target) = logs();
    let log = logs.start(&target, 0);
    log.stdout().write(b"one\ntw");
    log.stderr().write(b"err\n");
    log.stdout().write(b"o\nthree");
    assert_eq!(text(&logs, &target, 0, &LogOptions::default()).await, "one\nerr\ntwo\n");
    log.end();
    assert_eq!(
        text(&logs, &target, 0, &LogOptions::default()).await,
        "one\nerr\ntwo\nthree\n"
    );
    let tail = LogOptions {
        tail_lines: Some(2),
        ..LogOptions::default()
    };
    assert_eq!(text(&logs, &target, 0, &tail).await, "two\nthree\n");
    let none = LogOptions {
        tail_lines: Some(0),
        ..LogOptions::default()
    };
    assert_eq!(text(&logs, &target, 0, &none).await, "");
    let limited = LogOptions {
        limit_bytes: Some(5),
        ..LogOptions::default()
    };
    assert_eq!(text(&logs, &target, 0, &limited).await, "one\ne");
}

#[tokio::test]
async fn timestamps_and_since() {
    let (_dir, logs, target) = logs();
    let log = logs.start(&target, 0);
    log.stdout().write(b"old\n");
    // Whole microseconds, and surely after the first line.
    let between = jiff::Timestamp::now()
        .checked_add(jiff::SignedDuration::from_micros(1))
        .unwrap();
    while jiff::Timestamp::now() <= between {
        std::hint::spin_loop();
    }
    log.stdout().write(b"new\n");
    let since = LogOptions {
        since_micros: Some(between.as_microsecond()),
        timestamps: true,
        ..LogOptions::default()
    };
    let out = text(&logs, &target, 0, &since).await;
    let (time, rest) = out.split_once(' ').unwrap();
    assert_eq!(rest, "new\n");
    assert!(time.parse::<jiff::Timestamp>().unwrap() >= between);
    assert_eq!(time.len(), "2006-01-02T15:04:05.000000000Z".len());
}

#[tokio::test]
async fn a_follower_sees_what_comes_and_ends_with_the_container() {
    let (_dir, logs, target) = logs();
    let log = logs.start(&target, 0);
    let options = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    let mut stream = logs.read(&target, 0, &options).unwrap();
    let writer = tokio::spawn(async move {
        for number in 0..1000 {
            log.stdout().write(format!("line {number}\n").as_bytes());
            if number % 50 == 0 {
                tokio::task::yield_now().await;
            }
        }
        log.end();
    });
    let mut all = Vec::new();
    while let Some(bytes) = stream.next().await {
        all.extend_from_slice(&bytes.unwrap());
    }
    writer.await.unwrap();
    let expected: String = (0..1000).map(|number| format!("line {number}\n")).collect();
    assert_eq!(String::from_utf8(all).unwrap(), expected);
}

#[tokio::test]
async fn rotation_loses_nothing_to_a_follower_and_keeps_two_files() {
    let (_dir, logs, target) = logs();
    let log = logs.start(&target, 0);
    let options = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    let stream = logs.read(&target, 0, &options).unwrap();
    let reader = tokio::spawn(async move {
        stream
            .fold(0usize, |total, bytes| async move { total + bytes.unwrap().len() })
            .await
    });
    let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
    for number in 0..15_000 {
        log.stdout().write(&line);
        if number % 256 == 0 {
            tokio::task::yield_now().await;
        }
    }
    log.end();
    assert_eq!(reader.await.unwrap(), 15_000 * 1024);
    assert_eq!(
        text(&logs, &target, 0, &LogOptions::default()).await.len(),
        15_000 * 1024
    );
    assert!(fs::metadata(&log.path).unwrap().len() < MAX_FILE_BYTES);
}

#[tokio::test]
async fn a_line_without_end_is_cut() {
    let (_dir, logs, target) = logs();
    let log = logs.start(&target, 0);
    log.stdout().write(&b"y".repeat(40_000));
    log.stdout().write(b"z\n");
    let expected = format!("{}z\n", "y".repeat(40_000));
    assert_eq!(text(&logs, &target, 0, &LogOptions::default()).await, expected);
}

#[tokio::test]
async fn only_two_starts_are_kept_and_a_new_process_reads_them() {
    let (dir, logs, target) = logs();
    for restart in 0..3 {
        let log = logs.start(&target, restart);
        log.stdout().write(format!("start {restart}\n").as_bytes());
        log.end();
    }
    let fresh = Logs::new(dir.path().to_owned(), Arc::new(SystemClock));
    assert_eq!(text(&fresh, &target, 0, &LogOptions::default()).await, "");
    assert_eq!(text(&fresh, &target, 1, &LogOptions::default()).await, "start 1\n");
    assert_eq!(text(&fresh, &target, 2, &LogOptions::default()).await, "start 2\n");
    fresh.remove_pod("ns", "p", "u");
    assert!(fresh.pods().is_empty());
}

#[test]
fn a_pod_that_goes_takes_its_own_logs_along_and_a_start_what_is_left_of_earlier_ones() {
    let (dir, logs, mut target) = logs();
    let known = || -> Vec<String> {
        let live = logs.live.lock();
        let paths = live.keys().map(|path| path.strip_prefix(dir.path()).unwrap());
        paths.map(|path| path.display().to_string()).collect()
    };
    let _other = ["u", "u2", "t"].map(|uid| {
        target.uid = uid.into();
        logs.start(&target, 0)
    });
    target.uid = "u".into();
    drop(logs.start(&target, 1));
    let _running = logs.start(&target, 2);
    let container = &target.container;
    let all = ["t", "u", "u", "u2"].iter().zip([0, 0, 2, 0]);
    let all: Vec<String> = all
        .map(|(uid, start)| format!("ns_p_{uid}/{container}/{start}.log"))
        .collect();
    assert_eq!(known(), all);
    logs.remove_pod("ns", "p", "u");
    assert_eq!(known(), [all[0].clone(), all[3].clone()]);
}

#[tokio::test]
async fn few_files_stay_open() {
    let (_dir, logs, mut target) = logs();
    let all: Vec<_> = (0..MAX_OPEN_FILES + 50)
        .map(|number| {
            target.container = format!("c{number}");
            let log = logs.start(&target, 0);
            log.stdout().write(b"first\n");
            log
        })
        .collect();
    let open = all.iter().filter(|log| log.state.lock().file.is_some()).count();
    assert_eq!(open, MAX_OPEN_FILES);
    all[0].stdout().write(b"second\n");
    target.container = "c0".into();
    assert_eq!(text(&logs, &target, 0, &LogOptions::default()).await, "first\nsecond\n");
}
