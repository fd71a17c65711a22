//! Arguments, environment, files, output, exit codes.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use coracle_fixtures::greedy;
use coracle_runtime::{ContainerSpec, ExecError, ExitReason, LogSink, Module, Mount, Process, ProcessSpec};
use parking_lot::Mutex;

use crate::world::{Guest, Log, World, soon};

#[tokio::test]
async fn exit_codes_are_kept() {
    let world = World::new();
    let pod = world.pod("job");
    let job = world.run(&pod, "worker", &["1000", "42"]).await;
    let exit = job.exit().await;
    assert_eq!((exit.code, exit.reason, exit.message), (42, ExitReason::Error, None));
    assert!(
        job.out.text().contains("168 primes, the largest is 997"),
        "{}",
        job.out.text()
    );

    let good = world.run(&pod, "worker", &["100000"]).await;
    assert!(good.printed().await.contains("9592 primes"));
    // What std can say in WASI 0.2.
    assert_eq!(world.run(&pod, "probe", &["exit", "7"]).await.exit().await.code, 1);
}

#[tokio::test]
async fn a_wasi_0_1_module_runs_and_keeps_its_exit_code() {
    let world = World::new();
    let pod = world.pod("old");
    let wasm = Bytes::from_static(coracle_fixtures::preview1("probe").unwrap());
    assert!(world.runtime.check(&wasm).unwrap().preview1);
    let module = world.runtime.load("probe-p1", wasm).await.unwrap();
    assert_eq!(
        world
            .start(&pod, module.clone(), &["exit", "7"], |_| {})
            .exit()
            .await
            .code,
        7
    );
    let lines = world.start(&pod, module.clone(), &["lines", "2"], |_| {});
    assert_eq!(lines.printed().await, "line 0\nline 1\n");
    let hog = world.start(&pod, module, &["hog"], |spec| spec.memory_limit_bytes = Some(16 << 20));
    assert_eq!(hog.exit().await.reason, ExitReason::OomKilled);
}

#[tokio::test]
async fn a_panic_is_told_with_its_place() {
    let world = World::new();
    let pod = world.pod("panics");
    let panics = world.run(&pod, "probe", &["panic"]).await;
    let exit = panics.exit().await;
    assert_eq!((exit.code, exit.reason), (134, ExitReason::Error));
    assert!(panics.err.text().contains("as told"), "{}", panics.err.text());
    assert!(exit.message.unwrap().contains("unreachable"));
}

#[tokio::test]
async fn a_guest_sees_its_variables_and_no_others() {
    let world = World::new();
    let pod = world.pod("plain");
    let env = world
        .run_with(&pod, "probe", &["env"], |spec| {
            spec.env = vec![("A".into(), "1".into())]
        })
        .await;
    assert_eq!(env.printed().await, "[(\"A\", \"1\")]\n");
}

#[tokio::test]
async fn mounts_are_all_the_files_there_are() {
    let world = World::new();
    let pod = world.pod("files");
    let directory = tempfile::tempdir().unwrap();
    let (data, settings) = (directory.path().join("data"), directory.path().join("settings"));
    std::fs::create_dir_all(&data).unwrap();
    std::fs::create_dir_all(&settings).unwrap();
    std::fs::write(settings.join("colour"), "blue").unwrap();
    std::fs::write(directory.path().join("secret"), "outside").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("../secret", data.join("way-out")).unwrap();
    let mounts = vec![
        Mount {
            host: data.clone(),
            guest: "/data".into(),
            read_only: false,
            quota: None,
            lazy: false,
        },
        Mount {
            host: settings,
            guest: "/etc/settings".into(),
            read_only: true,
            quota: None,
            lazy: false,
        },
    ];
    let run = async |args: &[&str]| {
        world
            .run_with(&pod, "probe", args, |spec| spec.mounts = mounts.clone())
            .await
            .printed()
            .await
    };
    assert_eq!(run(&["read", "/etc/settings/colour"]).await, "Ok(\"blue\")\n");
    assert_eq!(run(&["write", "/data/note", "kept"]).await, "Ok(())\n");
    assert_eq!(std::fs::read_to_string(data.join("note")).unwrap(), "kept");
    for forbidden in [
        ["write", "/etc/settings/colour", "red"].as_slice(),
        &["write", "/etc/settings/new", "x"],
        &["read", "/data/../secret"],
        &["read", "/data/way-out"],
        &["read", "/etc/passwd"],
        &["list", "/"],
    ] {
        let printed = run(forbidden).await;
        assert!(printed.starts_with("Err("), "{forbidden:?}: {printed}");
    }
}

#[tokio::test]
async fn a_missing_mount_is_refused_with_its_name() {
    let world = World::new();
    let pod = world.pod("mountless");
    let module = world.module("probe").await;
    let missing = Mount {
        host: "/does/not/exist".into(),
        guest: "/data".into(),
        read_only: true,
        quota: None,
        lazy: false,
    };
    let error = world
        .refused(&pod, module, |spec| spec.mounts = vec![missing])
        .to_string();
    assert!(error.contains("/does/not/exist") && error.contains("/data"), "{error}");
}

/// Takes nothing until it is opened.
#[derive(Default)]
struct Gate {
    open: Mutex<(bool, Vec<Waker>)>,
    bytes: Mutex<Vec<u8>>,
}

impl LogSink for Gate {
    fn write(&self, bytes: &[u8]) {
        self.bytes.lock().extend_from_slice(bytes);
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut open = self.open.lock();
        if open.0 {
            return Poll::Ready(());
        }
        open.1.push(cx.waker().clone());
        Poll::Pending
    }
}

#[tokio::test]
async fn a_slow_log_suspends_the_guest_and_loses_nothing() {
    let world = World::new();
    let pod = world.pod("chatty");
    let gate = Arc::new(Gate::default());
    let chatty = world
        .run_with(&pod, "probe", &["lines", "5000"], |spec| spec.stdout = gate.clone())
        .await;
    // Waiting for the log, the guest waits for a waker of ours.
    soon("the guest to wait", async {
        while gate.open.lock().1.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(gate.bytes.lock().is_empty() && chatty.container.exit().is_none());
    let wakers = {
        let mut open = gate.open.lock();
        open.0 = true;
        std::mem::take(&mut open.1)
    };
    wakers.into_iter().for_each(Waker::wake);
    assert_eq!(chatty.exit().await.code, 0);
    let text = String::from_utf8(gate.bytes.lock().clone()).unwrap();
    assert!(text.lines().enumerate().all(|(n, line)| line == format!("line {n}")) && text.lines().count() == 5000);
}

#[tokio::test]
async fn a_run_that_can_be_repeated_is_the_same_for_the_same_number() {
    let world = World::new();
    let pod = world.pod("seeded");
    let run = async |seed| {
        let guest = world.run_with(&pod, "probe", &["rules", "chance"], |spec| spec.seed = Some(seed));
        guest.await.printed().await
    };
    let first = run(7).await;
    assert!(
        first.contains("seconds: 1767225600") && first.contains(" 1000\n"),
        "{first}"
    );
    assert_eq!(first, run(7).await);
    assert_ne!(first, run(8).await);
    let free = world.run(&pod, "probe", &["rules", "chance"]).await.printed().await;
    assert!(!free.contains("seconds: 1767225600"), "{free}");
}

fn exec(guest: &Guest, module: &Arc<Module>, args: &[&str]) -> Result<(Process, Arc<Log>), ExecError> {
    let out = Arc::new(Log::default());
    let spec = ProcessSpec {
        args: args.iter().map(|arg| arg.to_string()).collect(),
        stdin: None,
        terminal: None,
        stdout: out.clone(),
        stderr: out.clone(),
    };
    Ok((guest.container.exec(module.clone(), spec)?, out))
}

#[tokio::test]
async fn what_exec_starts_ends_with_its_code_and_must_be_a_program() {
    let world = World::new();
    let pod = world.pod("host");
    let guest = world.run(&pod, "probe", &["sleep"]).await;
    let service = world.module("web").await;
    let refused = exec(&guest, &service, &["web"]).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "the module is a service without an entry point of its own"
    );
    // One that returns an error instead of ending with a code.
    let text = greedy::component("", "", "", "(return (i32.const 1))");
    let module = world
        .runtime
        .load(&text, wat::parse_str(&text).unwrap().into())
        .await
        .unwrap();
    let (process, _) = exec(&guest, &module, &["fails"]).unwrap();
    assert_eq!(process.wait().await.code, 1);
    assert!(guest.container.exit().is_none());
    guest.container.kill();
    assert_eq!(guest.exit().await.code, 137);
}

#[tokio::test]
async fn a_container_with_fuel_runs_one_program_and_those_of_exec() {
    let world = World::new();
    let pod = world.pod("fuelled");
    let load = async |name: &'static str| {
        let wasm = Bytes::from_static(coracle_fixtures::component(name).unwrap());
        world.runtime.load_metered(name, wasm).await.unwrap()
    };
    let fuel = |spec: &mut ContainerSpec| spec.fuel = Some(1_000_000_000);
    let (hostile, probe) = (load("hostile").await, load("probe").await);
    let said = world.start(&pod, hostile, &["dolls", "1"], fuel).printed().await;
    let why = "SpawnError::Failed(\"a container with a limit of fuel runs one program\")";
    assert_eq!(said, format!("1 left, then {why}\n"));
    let guest = world.start(&pod, probe.clone(), &["sleep"], fuel);
    let (process, out) = exec(&guest, &probe, &["probe", "lines", "2"]).unwrap();
    assert_eq!(
        (process.wait().await.code, out.text().as_str()),
        (0, "line 0\nline 1\n")
    );
    assert!(guest.container.exit().is_none());
}

/// A variable is often a password, and what is shown for debugging goes into logs.
#[tokio::test]
async fn nothing_that_a_container_was_given_is_shown_for_debugging() {
    let world = World::new();
    let pod = world.pod("quiet");
    let guest = world.run_with(&pod, "probe", &["sleep"], |spec| {
        (spec.name, spec.env) = ("quiet".into(), vec![("PASSWORD".into(), "hunter2".into())]);
    });
    let (guest, module) = (guest.await, world.module("probe").await);
    let (process, _) = exec(&guest, &module, &["probe", "sleep", "hunter2"]).unwrap();
    let shown = [
        format!("{:?}", guest.container),
        format!("{process:?}"),
        format!("{module:?}"),
        format!("{:?}", world.runtime),
        format!("{:?}", world.runtime.accounts()),
    ];
    assert!(shown[0].contains("quiet") && shown[1].contains("pid"), "{shown:?}");
    assert!(!shown.concat().contains("hunter2"), "{shown:?}");
}
