//! Guests that try to pass a limit, one below it and one above: the first ends well, the second is refused, and the node goes on.
//! The limits are in `docs/limits.md`.

use std::sync::Arc;

use coracle_fixtures::greedy;
use coracle_runtime::{ExecError, Exit, FindError, Module, ProcessSpec, Programs, limits};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::world::{Log, World};

/// Runs a small program to its end.
async fn run(world: &World, name: &str, text: &str) -> Exit {
    let wasm = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    // The text names the bytes: these programs are not loaded again.
    let module = world.runtime.load(text, wasm.into()).await.unwrap();
    let pod = world.pod(name);
    world.start(&pod, module, &[], |_| {}).exit().await
}

/// Whatever it was, the next guest runs.
async fn goes_on(world: &World) {
    let pod = world.pod("next");
    let next = world.run(&pod, "probe", &["lines", "1"]).await;
    assert_eq!(next.printed().await, "line 0\n");
}

/// The smaller amount is had and the larger is not.
async fn between(what: &str, fine: u32, too_much: u32, program: impl Fn(u32) -> String) {
    let world = World::new();
    let exit = run(&world, "modest", &program(fine)).await;
    assert_eq!(exit.code, 0, "{what}: {fine}: {exit:?}");
    let exit = run(&world, "greedy", &program(too_much)).await;
    assert_ne!(exit.code, 0, "{what}: {too_much} were had");
    goes_on(&world).await;
}

#[tokio::test]
async fn instances() {
    between("instances", 40, 70, greedy::instances).await;
}

#[tokio::test]
async fn memories() {
    between("memories", 6, 9, greedy::memories).await;
}

#[tokio::test]
async fn elements_of_a_table() {
    between("elements", 90_000, 110_000, greedy::elements_of_a_table).await;
}

#[tokio::test]
async fn bytes_of_randomness_at_once() {
    between("bytes", 1 << 20, (1 << 20) + 1, greedy::bytes_of_randomness).await;
}

#[tokio::test]
async fn objects_of_the_host() {
    // Sockets and files have limits of their own, below this one.
    between("timers", 1500, 5000, greedy::timers).await;
}

#[tokio::test]
async fn handles_of_components() {
    between("handles", 8000, 8200, greedy::handles).await;
}

#[tokio::test]
async fn entries_of_one_poll() {
    between("entries", 8000, 8200, greedy::entries_of_a_poll).await;
}

#[tokio::test]
async fn bytes_of_one_call_to_the_host() {
    let world = World::new();
    let pod = world.pod("caller");
    let small = world.run(&pod, "probe", &["header", "1024"]).await;
    assert_eq!(small.exit().await.code, 0);
    let large = world.run(&pod, "probe", &["header", &(3 << 20).to_string()]).await;
    let exit = large.exit().await;
    let message = exit.message.clone().unwrap_or_default();
    // The bytes are refused before the host holds them; of a header that is only too long something else is said.
    assert!(exit.code == 134 && message.contains("fuel"), "{exit:?}");
    goes_on(&world).await;
}

#[tokio::test]
async fn headers_of_a_message() {
    let world = World::new();
    let pod = world.pod("caller");
    let exit = world.run(&pod, "probe", &["headers"]).await.exit().await;
    let message = exit.message.clone().unwrap_or_default();
    assert_eq!(exit.code, 134, "{exit:?}");
    assert!(message.starts_with("total size of fields exceeds limit"), "{message}");
    goes_on(&world).await;
}

#[tokio::test]
async fn programs_by_exec_and_who_is_attached() {
    let world = World::new();
    let pod = world.pod("busy");
    let sleeper = world.run(&pod, "probe", &["sleep"]).await;
    let module = world.module("probe").await;
    let exec = || {
        let log = Arc::new(Log::default());
        let spec = ProcessSpec {
            args: ["probe", "sleep"].map(str::to_owned).to_vec(),
            stdin: None,
            terminal: None,
            stdout: log.clone(),
            stderr: log,
        };
        sleeper.container.exec(module.clone(), spec)
    };
    let programs: Vec<_> = (0..limits::EXECS).map(|_| exec().unwrap()).collect();
    assert!(matches!(exec(), Err(ExecError::TooMany(limits::EXECS))));
    let attached: Vec<_> = (0..limits::ATTACHED)
        .map(|_| sleeper.container.attach().unwrap())
        .collect();
    assert!(sleeper.container.attach().is_none());
    drop((programs, attached));
    goes_on(&world).await;
}

#[tokio::test]
async fn bytes_of_a_module() {
    let world = World::new();
    let mut large = b"\0asm\x01\0\0\0".to_vec();
    large.resize((128 << 20) + 1, 0);
    let refused = world.runtime.check(&large).unwrap_err().to_string();
    assert!(refused.contains("at most 134217728 are compiled"), "{refused}");
}

#[tokio::test]
async fn bytes_that_nobody_was_asked_to_take() {
    let world = World::new();
    let pod = world.pod("loud");
    let guest = world.run(&pod, "hostile", &["unasked-lines"]).await;
    let exit = guest.exit().await;
    let message = exit.message.clone().unwrap_or_default();
    assert!(exit.code == 134 && message.contains("check-write"), "{exit:?}");
    assert!(!guest.out.text().contains('\n'));
    goes_on(&world).await;
}

/// The guest's own name.
pub struct Own(pub Arc<Module>);

impl Programs for Own {
    fn find<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Arc<Module>, FindError>> {
        std::future::ready(Ok(self.0.clone())).boxed()
    }
}

/// What the host has to hold for something small is what the container pays.
#[tokio::test]
async fn small_things_that_are_large_for_the_host() {
    const LIMIT_BYTES: u64 = 16 << 20;
    let world = World::new();
    let module = world.module("hostile").await;
    for (what, fewest_bytes) in [("crumbs", 65), ("remains", 64 << 10), ("wordy", 2 << 20)] {
        let pod = world.pod(what);
        let guest = world.start(&pod, module.clone(), &[what], |spec| {
            spec.memory_limit_bytes = Some(LIMIT_BYTES);
            spec.programs = Some(Arc::new(Own(module.clone())));
        });
        let kept: u64 = guest.printed().await.trim().parse().unwrap();
        assert!(kept > 0 && kept <= LIMIT_BYTES / fewest_bytes, "{what}: {kept}");
    }
    goes_on(&world).await;
}

#[tokio::test]
async fn streams_in_streams() {
    let world = World::new();
    let module = world.module("hostile").await;
    for (depth, end) in [
        (limits::NESTED_STREAMS, "read Err(StreamError::Closed)"),
        (limits::NESTED_STREAMS + 2, "too many streams stand in each other"),
        (3000, "too many streams stand in each other"),
    ] {
        let pod = world.pod(&format!("dolls-{depth}"));
        let guest = world.start(&pod, module.clone(), &["dolls", &depth.to_string()], |spec| {
            spec.programs = Some(Arc::new(Own(module.clone())));
        });
        // The last ones inherit what the first was given.
        match end.starts_with("read") {
            true => guest.out.wait_for(end).await,
            false => guest.err.wait_for(end).await,
        }
        guest.container.kill();
        assert_eq!(guest.exit().await.code, 137);
    }
    goes_on(&world).await;
}
