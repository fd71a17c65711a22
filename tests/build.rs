//! Says whether kubectl is there: tests that drive it are reported as ignored where it is missing.

use std::process::{Command, ExitCode, Stdio};

fn main() -> ExitCode {
    println!("cargo::rustc-check-cfg=cfg(has_kubectl)");
    println!("cargo::rerun-if-env-changed=PATH");
    println!("cargo::rerun-if-env-changed=CORACLE_REQUIRE_KUBECTL");
    let runs = Command::new("kubectl")
        .args(["version", "--client"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if runs.is_ok_and(|status| status.success()) {
        println!("cargo::rustc-cfg=has_kubectl");
    } else if std::env::var_os("CORACLE_REQUIRE_KUBECTL").is_some() {
        eprintln!("CORACLE_REQUIRE_KUBECTL is set, but there is no kubectl on the PATH");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
