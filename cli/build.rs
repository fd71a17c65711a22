//! Says whether the tests may make network namespaces and drive kubectl: those that need both are reported as ignored where
//! something is missing.

use std::process::{Command, ExitCode, Stdio};

fn main() -> ExitCode {
    println!("cargo::rustc-check-cfg=cfg(has_machines)");
    println!("cargo::rerun-if-env-changed=PATH");
    println!("cargo::rerun-if-env-changed=CORACLE_REQUIRE_NAMESPACES");
    println!("cargo::rerun-if-changed=build.rs");
    let missing = if !makes_namespaces() {
        "this user may not make network namespaces (ip netns, veth, bridge)"
    } else if !runs("kubectl", &["version", "--client"]) {
        "there is no kubectl on the PATH"
    } else {
        println!("cargo::rustc-cfg=has_machines");
        return ExitCode::SUCCESS;
    };
    if std::env::var_os("CORACLE_REQUIRE_NAMESPACES").is_some() {
        eprintln!("CORACLE_REQUIRE_NAMESPACES is set, but {missing}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn makes_namespaces() -> bool {
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os != "linux") {
        return false;
    }
    let name = format!("coracle-try-{}", std::process::id());
    if !runs("ip", &["netns", "add", &name]) {
        return false;
    }
    // Short names could be taken for words of the command.
    let bridge = runs("ip", &["-n", &name, "link", "add", "bridge0", "type", "bridge"]);
    let pair = ["-n", &name, "link", "add", "one", "type", "veth", "peer", "name", "two"];
    let veth = runs("ip", &pair);
    runs("ip", &["netns", "del", &name]);
    bridge && veth
}

fn runs(program: &str, args: &[&str]) -> bool {
    let ended = Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    ended.is_ok_and(|status| status.success())
}
