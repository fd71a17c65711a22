//! Programs that start programs: signals, groups, limits.

use std::sync::Arc;

use coracle_runtime::{ContainerSpec, ExitReason, Module, Process, ProcessSpec, limits};

use crate::shell::{Toolbox, toolbox};
use crate::world::{Guest, Log, Pod, World, soon};

async fn run(world: &World, pod: &Pod, script: &str, change: impl FnOnce(&mut ContainerSpec)) -> (Guest, Arc<Module>) {
    let module = toolbox(world).await;
    let guest = world.start(pod, module.clone(), &[], |spec| {
        spec.args = ["sh", "-c", script].map(str::to_owned).to_vec();
        spec.programs = Some(Arc::new(Toolbox(module.clone())));
        change(spec);
    });
    (guest, module)
}

fn exec(guest: &Guest, module: &Arc<Module>, args: &[&str]) -> (Process, Arc<Log>) {
    let out = Arc::new(Log::default());
    let spec = ProcessSpec {
        args: args.iter().map(|arg| arg.to_string()).collect(),
        stdin: None,
        terminal: None,
        stdout: out.clone(),
        stderr: out.clone(),
    };
    (guest.container.exec(module.clone(), spec).unwrap(), out)
}

async fn a_script_with_a_trap_ends_in_its_own_way(world: &World) {
    let pod = world.pod("trap");
    let script = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done";
    let (guest, _) = run(world, &pod, script, |_| {}).await;
    guest.out.wait_for("up").await;
    guest.container.terminate();
    let exit = guest.exit().await;
    assert_eq!((exit.code, guest.out.text().as_str()), (7, "up\nbye\n"));

    let script = "trap 'echo bye; exit 8' TERM; echo up; sleep 3600 & wait";
    let (guest, _) = run(world, &pod, script, |_| {}).await;
    guest.out.wait_for("up").await;
    guest.container.terminate();
    assert_eq!(guest.exit().await.code, 8, "a signal ends `wait` at once");

    let (guest, _) = run(world, &pod, "echo up; sleep 3600", |_| {}).await;
    guest.out.wait_for("up").await;
    guest.container.terminate();
    let exit = guest.exit().await;
    assert_eq!((exit.code, exit.reason), (143, ExitReason::Killed));
}

async fn what_exec_started_ends_with_its_handle(world: &World) {
    let pod = world.pod("group");
    let (guest, module) = run(world, &pod, "sleep 3600", |_| {}).await;
    let (process, out) = exec(
        &guest,
        &module,
        &["sh", "-c", "sleep 1111 & sleep 2222 | cat & echo up; wait"],
    );
    out.wait_for("up").await;
    drop(process);
    soon("the group to end", async {
        loop {
            let (process, out) = exec(&guest, &module, &["ps"]);
            assert_eq!(process.wait().await.code, 0);
            let shown = out.text();
            assert!(shown.contains("sleep 3600"), "{shown}");
            if !shown.contains("1111") && !shown.contains("2222") {
                return;
            }
        }
    })
    .await;
}

async fn the_interrupt_key_ends_a_script_and_what_it_runs(world: &World) {
    let pod = world.pod("interrupt");
    let (guest, module) = run(world, &pod, "sleep 3600", |_| {}).await;
    let (process, out) = exec(&guest, &module, &["sh", "-c", "echo up; sleep 3600; echo never"]);
    out.wait_for("up").await;
    process.interrupt();
    assert_eq!((process.wait().await.code, out.text().as_str()), (130, "up\n"));
    let (process, out) = exec(
        &guest,
        &module,
        &["sh", "-c", "trap 'echo caught' INT; echo up; sleep 0.2; echo on"],
    );
    out.wait_for("up").await;
    process.interrupt();
    assert_eq!(process.wait().await.code, 0);
    assert_eq!(out.text(), "up\ncaught\non\n");
}

async fn a_container_has_so_many_processes_and_no_more(world: &World) {
    let pod = world.pod("many");
    let script = format!(
        "i=0; while [ $i -lt {} ]; do sleep 3600 & i=$((i+1)); done; ps | wc -l; echo full; wait",
        limits::PROCESSES + 5
    );
    let (guest, module) = run(world, &pod, &script, |_| {}).await;
    guest.err.wait_for("Resource temporarily unavailable").await;
    guest.out.wait_for("full").await;
    // Somebody outside still gets in.
    let (process, out) = exec(&guest, &module, &["ps"]);
    assert_eq!(process.wait().await.code, 0);
    // One more is in the arguments of the script itself.
    assert_eq!(
        out.text().matches("sleep 3600").count(),
        limits::PROCESSES + 1,
        "{}",
        out.text()
    );
    guest.container.kill();
    assert_eq!(guest.exit().await.code, 137);
}

async fn what_a_shell_holds_is_the_containers_memory(world: &World) {
    let pod = world.pod("hungry");
    let script = "x=$(yes | head -c 30000000) && echo never";
    let (guest, _) = run(world, &pod, script, |spec| spec.memory_limit_bytes = Some(16 << 20)).await;
    let exit = guest.exit().await;
    assert_ne!(exit.code, 0);
    assert!(!guest.out.text().contains("never"), "{}", guest.out.text());
}

/// One after the other in one process of the test: each of them would compile the toolbox anew.
#[tokio::test]
async fn programs_start_programs() {
    let world = World::new();
    a_script_with_a_trap_ends_in_its_own_way(&world).await;
    what_exec_started_ends_with_its_handle(&world).await;
    the_interrupt_key_ends_a_script_and_what_it_runs(&world).await;
    a_container_has_so_many_processes_and_no_more(&world).await;
    what_a_shell_holds_is_the_containers_memory(&world).await;
}
