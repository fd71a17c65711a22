//! Terminals as the node and a program have them: keys or lines, the window, the end-of-file key, the interrupt key.

use std::sync::Arc;

use bytes::Bytes;
use coracle_runtime::{ContainerSpec, ProcessSpec, Stdin, Tty, pipe};

use crate::shell::{Toolbox, toolbox};
use crate::world::{Guest, Log, Pod, World};

async fn shell(world: &World, pod: &Pod, script: &str, change: impl FnOnce(&mut ContainerSpec)) -> Guest {
    let module = toolbox(world).await;
    world.start(pod, module.clone(), &[], |spec| {
        spec.args = ["sh", "-c", script].map(str::to_owned).to_vec();
        spec.programs = Some(Arc::new(Toolbox(module)));
        change(spec);
    })
}

#[tokio::test]
async fn a_program_and_the_node_see_the_same_terminal() {
    let world = World::new();
    let pod = world.pod("terminal");
    let script = "stty size; read go; stty size; stty raw; echo keys; read go; stty -raw; echo lines; cat; echo one end; \
                  cat; echo all ended";
    let guest = shell(&world, &pod, script, |spec| {
        (spec.stdin, spec.terminal) = (Stdin::Open, true)
    })
    .await;
    let tty = guest.container.terminal().unwrap().clone();
    let (keys, once) = guest.container.attach().unwrap().stdin.unwrap();
    assert!(!once);
    let press = async |text: &'static str| assert!(keys.send(Bytes::from_static(text.as_bytes())).await);
    guest.out.wait_for("0 0\n").await;
    assert_eq!((tty.size(), tty.is_raw()), (None, false));
    tty.resize((80, 24));
    press("go\n").await;
    guest.out.wait_for("24 80\nkeys\n").await;
    assert!(tty.is_raw());
    press("go\n").await;
    guest.out.wait_for("lines\n").await;
    assert!(!tty.is_raw());
    // The end-of-file key is the end for who reads just then, and not for the next.
    press("one\n").await;
    guest.out.wait_for("one\n").await;
    keys.mark_end();
    guest.out.wait_for("one end\n").await;
    press("two\n").await;
    guest.out.wait_for("two\n").await;
    keys.close();
    assert!(guest.printed().await.ends_with("two\nall ended\n"));
    assert!(!keys.send(Bytes::from_static(b"too late")).await);
}

#[tokio::test]
async fn who_attaches_once_is_the_end_of_the_input() {
    let world = World::new();
    let pod = world.pod("once");
    let guest = shell(&world, &pod, "cat; stty size", |spec| spec.stdin = Stdin::Once).await;
    assert!(guest.container.terminal().is_none());
    let (input, once) = guest.container.attach().unwrap().stdin.unwrap();
    assert!(once && input.send(Bytes::from_static(b"all of it\n")).await);
    input.close();
    assert_eq!(guest.exit().await.code, 1);
    assert_eq!(guest.out.text(), "all of it\n");
    assert!(guest.err.text().contains("Inappropriate ioctl"), "{}", guest.err.text());
}

#[tokio::test]
async fn the_interrupt_key_of_a_container_ends_its_program() {
    let world = World::new();
    let pod = world.pod("interrupted");
    let guest = shell(&world, &pod, "echo up; sleep 3600; echo never", |spec| {
        spec.terminal = true
    })
    .await;
    guest.out.wait_for("up").await;
    guest.container.interrupt();
    assert_eq!((guest.exit().await.code, guest.out.text().as_str()), (130, "up\n"));
}

#[tokio::test]
async fn what_exec_starts_has_a_terminal_of_its_own() {
    let world = World::new();
    let pod = world.pod("two");
    let guest = shell(&world, &pod, "echo up; sleep 3600", |spec| spec.terminal = true).await;
    guest.out.wait_for("up").await;
    let (tty, out) = (Arc::new(Tty::default()), Arc::new(Log::default()));
    tty.resize((132, 43));
    let (keys, reader) = pipe();
    let spec = ProcessSpec {
        args: [
            "sh",
            "-c",
            "stty size; stty raw; test -t 0 && test -t 1 && read x && echo \"$x\"",
        ]
        .map(str::to_owned)
        .to_vec(),
        stdin: Some(reader),
        terminal: Some(tty.clone()),
        stdout: out.clone(),
        stderr: out.clone(),
    };
    let process = guest.container.exec(toolbox(&world).await, spec).unwrap();
    assert!(keys.send(Bytes::from_static(b"typed\n")).await);
    assert_eq!(process.wait().await.code, 0);
    assert_eq!(out.text(), "43 132\ntyped\n");
    assert!(tty.is_raw());
    let first = guest.container.terminal().unwrap();
    assert_eq!((first.size(), first.is_raw()), (None, false));
}
