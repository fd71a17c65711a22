//! Says whether kubectl, dig, drill and docker-registry are there: tests that drive them are reported as ignored where they are missing.

use std::process::{Command, ExitCode, Stdio};

fn main() -> ExitCode {
    println!("cargo::rustc-check-cfg=cfg(has_kubectl)");
    println!("cargo::rustc-check-cfg=cfg(has_docker_registry)");
    println!("cargo::rustc-check-cfg=cfg(has_dig)");
    println!("cargo::rustc-check-cfg=cfg(has_drill)");
    println!("cargo::rerun-if-env-changed=PATH");
    println!("cargo::rerun-if-env-changed=CORACLE_REQUIRE_KUBECTL");
    if runs("dig", &["-v"]) {
        println!("cargo::rustc-cfg=has_dig");
    }
    if runs("drill", &["-v"]) {
        println!("cargo::rustc-cfg=has_drill");
    }
    if runs("docker-registry", &["--version"]) {
        println!("cargo::rustc-cfg=has_docker_registry");
    }
    if runs("kubectl", &["version", "--client"]) {
        println!("cargo::rustc-cfg=has_kubectl");
    } else if std::env::var_os("CORACLE_REQUIRE_KUBECTL").is_some() {
        eprintln!("CORACLE_REQUIRE_KUBECTL is set, but there is no kubectl on the PATH");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn runs(program: &str, args: &[&str]) -> bool {
    let ended = Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    ended.is_ok_and(|status| status.success())
}
