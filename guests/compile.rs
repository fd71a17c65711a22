//! How the build scripts of the main workspace compile guests. It is included by them, not compiled here.
//!
//! The guests are built by a cargo of their own: other target, other profile, other lock file. Nothing of the outer build
//! (flags, wrappers, target) may leak into it. A missing target is installed, because that is what the user would do next.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Compiles `packages` for `target` and returns where each one's module lies, in the same order.
///
/// `out` receives the target directory. Errors are texts for the user, with what to type.
pub fn compile(guests: &Path, out: &Path, target: &str, packages: &[&str]) -> Result<Vec<PathBuf>, String> {
    for file in ["Cargo.toml", "Cargo.lock", "compile.rs", "../wit"]
        .iter()
        .chain(packages)
    {
        println!("cargo::rerun-if-changed={}", guests.join(file).display());
    }
    ensure_target(target)?;
    let target_dir = out.join("guests");
    let mut cargo = clean(Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())));
    cargo
        .current_dir(guests)
        .args(["build", "--release", "--locked", "--target", target, "--target-dir"]);
    cargo.arg(&target_dir);
    for package in packages {
        // A guest under test/ has the name of its directory.
        cargo.args(["--package", package.rsplit('/').next().unwrap_or(package)]);
    }
    let output = cargo
        .output()
        .map_err(|e| format!("cannot start cargo for the guests: {e}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "the guests do not compile for {target}:\n{text}\nTo see it alone: cd guests && cargo build --release --target {target}"
        ));
    }
    let module = |package: &&str| {
        let name = package.rsplit('/').next().unwrap_or(package);
        // A library's module has underscores in its name, a program's has not.
        let directory = target_dir.join(target).join("release");
        let program = directory.join(format!("{name}.wasm"));
        if program.exists() {
            program
        } else {
            directory.join(format!("{}.wasm", name.replace('-', "_")))
        }
    };
    Ok(packages.iter().map(module).collect())
}

/// Writes `pub static <name>: &[(&str, &[u8])]`, one row a module, to `file`, for `include!`.
pub fn write_table(file: &Path, name: &str, rows: &[(String, PathBuf)]) -> Result<(), String> {
    let mut text = format!(
        "/// Name and bytes of each guest, compiled by the build script.\npub static {name}: &[(&str, &[u8])] = &[\n"
    );
    for (row, path) in rows {
        let _ = writeln!(text, "    ({row:?}, include_bytes!({:?})),", path.display().to_string());
    }
    text += "];\n";
    fs::write(file, text).map_err(|e| format!("cannot write {}: {e}", file.display()))
}

/// Sees to it that the toolchain has the standard library for `target`.
fn ensure_target(target: &str) -> Result<(), String> {
    if has_target(target) {
        return Ok(());
    }
    let mut command = vec![OsString::from("target"), "add".into(), target.into()];
    if let Some(toolchain) = env::var_os("RUSTUP_TOOLCHAIN") {
        command.extend(["--toolchain".into(), toolchain]);
    }
    let typed = command
        .iter()
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    println!("cargo::warning=the compiler lacks {target}, which the guests need: running `rustup {typed}`");
    let failed = match clean(Command::new("rustup")).args(&command).output() {
        Ok(output) if output.status.success() && has_target(target) => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(e) => e.to_string(),
    };
    Err(format!(
        "the guests need the compilation target {target}, and installing it failed:\n{failed}\nType: rustup {typed}\nThen build again."
    ))
}

fn has_target(target: &str) -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let Ok(output) = clean(Command::new(rustc))
        .args(["--print", "target-libdir", "--target", target])
        .output()
    else {
        return false;
    };
    let directory = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    fs::read_dir(directory).is_ok_and(|mut files| files.next().is_some())
}

/// Takes out of the environment what the outer cargo put there for its own build.
fn clean(mut command: Command) -> Command {
    const KEPT: [&str; 5] = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
    ];
    const OUTER: [&str; 12] = [
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_LINKER",
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
        "OUT_DIR",
        "NUM_JOBS",
        "MAKEFLAGS",
    ];
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let of_cargo = name.starts_with("CARGO_") && !KEPT.iter().any(|kept| name.starts_with(kept));
        if of_cargo || OUTER.contains(&&*name) {
            command.env_remove(&*name);
        }
    }
    command
}
