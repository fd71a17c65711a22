//! `coracle build`: an image in the local store from a Cargo project.
//!
//! Cargo says itself which files it made, so nothing is guessed from names or directories.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, bail};
use coracle_images::{ImageConfig, ImageStore};
use serde_json::Value;
use tokio::process::Command;

use crate::{args::BuildArgs, image, say::say};

/// What programs are compiled for: WASI 0.2.
const TARGET: &str = "wasm32-wasip2";

/// Compiles a project and puts the program into the store.
///
/// # Errors
/// When it does not compile, or makes no program or several to choose from.
pub async fn run(args: BuildArgs) -> anyhow::Result<()> {
    let modules = compile(&args.path, args.bin.as_deref()).await?;
    let (program, file) = match modules.as_slice() {
        [one] => one,
        [] => bail!(
            "the project in {} makes no WebAssembly program; it needs a binary, or a library with crate-type \"cdylib\"",
            args.path.display()
        ),
        several => {
            let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
            bail!(
                "the project makes several programs; choose one with --bin: {}",
                names.join(", ")
            );
        }
    };
    let name = args.tag.as_deref().unwrap_or(program);
    let wasm = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let store = ImageStore::open(image::data_path(&args.data)?.join("images"))?;
    let config = ImageConfig {
        entrypoint: vec![program.clone()],
        ..ImageConfig::default()
    };
    let built = store.load(name, &wasm, &config)?;
    say(format_args!(
        "{} built ({} bytes, {})\nTry:  kubectl run {program} --image={name}",
        built.reference,
        wasm.len(),
        built.digest
    ));
    Ok(())
}

/// Runs cargo, which shows its progress itself.
async fn compile(project: &Path, bin: Option<&str>) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(project)
        .args(["build", "--release", "--target", TARGET])
        .args(["--message-format", "json-render-diagnostics"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    if let Some(bin) = bin {
        cargo.args(["--bin", bin]);
    }
    let output = cargo
        .output()
        .await
        .context("cannot start cargo; install Rust from https://rustup.rs")?;
    if !output.status.success() {
        bail!("the project does not compile for {TARGET}; if the target is missing: rustup target add {TARGET}");
    }
    Ok(modules(&String::from_utf8_lossy(&output.stdout)))
}

/// The programs that cargo says it made.
fn modules(messages: &str) -> Vec<(String, PathBuf)> {
    let artefacts = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message.get("reason").and_then(Value::as_str) == Some("compiler-artifact"));
    let program = |message: Value| {
        let target = message.get("target")?;
        let kinds = target.get("kind")?.as_array()?;
        let runs = kinds.iter().any(|kind| kind == "bin" || kind == "cdylib");
        let files = message.get("filenames")?.as_array()?.iter().filter_map(Value::as_str);
        let file = files.filter(|_| runs).find(|file| file.ends_with(".wasm"))?;
        Some((target.get("name")?.as_str()?.to_owned(), PathBuf::from(file)))
    };
    artefacts.filter_map(program).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_what_it_made() {
        let messages = [
            r#"{"reason":"compiler-artifact","target":{"name":"dep","kind":["lib"]},"filenames":["/t/libdep.rlib"]}"#,
            r#"{"reason":"compiler-artifact","target":{"name":"build-script-build","kind":["custom-build"]},"filenames":["/t/x"]}"#,
            r#"{"reason":"compiler-artifact","target":{"name":"app","kind":["bin"]},"filenames":["/t/app.wasm"]}"#,
            r#"{"reason":"compiler-artifact","target":{"name":"svc","kind":["cdylib","rlib"]},"filenames":["/t/libsvc.rlib","/t/svc.wasm"]}"#,
            r#"{"reason":"build-finished","success":true}"#,
            "not json",
        ];
        let made = modules(&messages.join("\n"));
        let expected = [("app", "/t/app.wasm"), ("svc", "/t/svc.wasm")];
        assert_eq!(
            made,
            expected.map(|(name, file)| (name.to_owned(), PathBuf::from(file)))
        );
    }
}
