//! Guests that try to pass a limit, one below it and one above: the first ends well, the second is refused, and the node goes on.
//! The limits are in `docs/limits.md`.

use coracle_runtime::Exit;

use crate::world::World;

/// Runs a small program to its end.
async fn run(world: &World, name: &str, text: &str) -> Exit {
    let wasm = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    // The text names the bytes: these programs are not loaded again.
    let module = world.runtime.load(text, wasm.into()).await.unwrap();
    let pod = world.pod(name);
    world.start(&pod, module, &[], |_| {}).exit().await
}

/// A component whose `main` is `body`, in a core module that has `imports` under the name `host`.
fn component(before: &str, imports: &str, with: &str, body: &str) -> String {
    format!(
        r#"(component
            {before}
            (core module $main {imports} (func (export "run") (result i32) (local $i i32) {body} i32.const 0))
            (core instance $main (instantiate $main {with}))
            (func $run (result (result)) (canon lift (core func $main "run")))
            (component $shim (import "run" (func $f (result (result)))) (export "run" (func $f)))
            (instance $i (instantiate $shim (with "run" (func $run))))
            (export "wasi:cli/run@0.2.0" (instance $i)))"#
    )
}

/// A loop that does something so many times.
fn times(count: u32, what: &str) -> String {
    format!(
        "(loop $again {what} (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $again (i32.lt_u (local.get $i) (i32.const {count}))))"
    )
}

/// The smaller amount is had and the larger is not.
async fn between(what: &str, fine: u32, too_much: u32, program: impl Fn(u32) -> String) {
    let world = World::new();
    let exit = run(&world, "modest", &program(fine)).await;
    assert_eq!(exit.code, 0, "{what}: {fine}: {exit:?}");
    let exit = run(&world, "greedy", &program(too_much)).await;
    assert_ne!(exit.code, 0, "{what}: {too_much} were had");
    // Whatever it was, the next guest runs.
    let pod = world.pod("next");
    assert_eq!(
        world.run(&pod, "probe", &["lines", "1"]).await.printed().await,
        "line 0\n"
    );
}

#[tokio::test]
async fn instances() {
    between("instances", 40, 70, |count| {
        let instances = "(core instance (instantiate $empty))".repeat(count as usize);
        component(&format!("(core module $empty) {instances}"), "", "", "")
    })
    .await;
}

#[tokio::test]
async fn memories() {
    between("memories", 6, 9, |count| {
        let instances = "(core instance (instantiate $one))".repeat(count as usize);
        component(&format!("(core module $one (memory 1)) {instances}"), "", "", "")
    })
    .await;
}

#[tokio::test]
async fn elements_of_a_table() {
    // The program is told, and says so by its end.
    between("elements", 90_000, 110_000, |count| {
        let grow = format!(
            "(if (i32.lt_s (table.grow $t (ref.null func) (i32.const {count})) (i32.const 0)) (then unreachable))"
        );
        component("", "(table $t 0 funcref)", "", &grow)
    })
    .await;
}

#[tokio::test]
async fn bytes_of_randomness_at_once() {
    between("bytes", 1 << 20, (1 << 20) + 1, |count| {
        format!(
            r#"(module
                (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
                (memory (export "memory") 64)
                (func (export "_start") (if (call $random (i32.const 0) (i32.const {count})) (then unreachable))))"#
        )
    })
    .await;
}

#[tokio::test]
async fn objects_of_the_host() {
    // Timers are the cheapest of them; sockets have a limit of their own, below this one.
    let clock = r#"
        (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
            (alias outer 1 $pollable (type $p))
            (export "pollable" (type $q (eq $p)))
            (export "subscribe-duration" (func (param "when" u64) (result (own $q))))))
        (core func $timer (canon lower (func $clock "subscribe-duration")))"#;
    // Each is two: the time, and what waits for it.
    between("timers", 1500, 5000, |count| {
        component(
            clock,
            r#"(import "host" "timer" (func $timer (param i64) (result i32)))"#,
            r#"(with "host" (instance (export "timer" (func $timer))))"#,
            &times(count, "(drop (call $timer (i64.const 1000000)))"),
        )
    })
    .await;
}

#[tokio::test]
async fn bytes_of_a_module() {
    let world = World::new();
    let mut large = b"\0asm\x01\0\0\0".to_vec();
    large.resize((128 << 20) + 1, 0);
    let refused = world.runtime.check(&large).unwrap_err().to_string();
    assert!(refused.contains("at most 134217728 are compiled"), "{refused}");
}
