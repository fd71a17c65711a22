//! `coracle build`: an image in the local store from a Cargo project or a Dockerfile.
//!
//! Cargo says itself which files it made, so nothing is guessed from names or directories.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, bail};
use coracle_images::{ImageConfig, ImageStore, Reference};
use serde_json::Value;
use tokio::process::Command;

use crate::{args::BuildArgs, context, dockerfile, image, say::say};

/// What programs are compiled for: WASI 0.2.
const TARGET: &str = "wasm32-wasip2";

/// Makes an image of a directory: by its Dockerfile where one is named, or where there is one and no Cargo project.
///
/// # Errors
/// When it does not compile, makes no program or several to choose from, or the Dockerfile cannot be followed.
pub async fn run(args: BuildArgs) -> anyhow::Result<()> {
    let beside = args.path.join("Dockerfile");
    let file = match &args.file {
        Some(file) => Some(file.clone()),
        None => Some(beside).filter(|file| file.exists() && !args.path.join("Cargo.toml").exists()),
    };
    match file {
        Some(file) => from_dockerfile(&args, &file),
        None => from_project(&args).await,
    }
}

fn from_dockerfile(args: &BuildArgs, file: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let steps = dockerfile::parse(&text).with_context(|| file.display().to_string())?;
    let files = context::collect(&args.path, &steps.copies).with_context(|| file.display().to_string())?;
    let name = match &args.tag {
        Some(name) => name.clone(),
        None => directory_name(&args.path).context("name the image with --tag")?,
    };
    let store = ImageStore::open(image::data_path(&args.data)?.join("images"))?;
    let built = store.assemble(&name, &files, &steps.config)?;
    say(format_args!(
        "{} built ({} files, {})\nTry:  kubectl run {} --image={name}",
        built.reference,
        files.len(),
        built.id,
        name.split([':', '/']).next_back().unwrap_or(&name),
    ));
    Ok(())
}

fn directory_name(path: &Path) -> Option<String> {
    let name = path.canonicalize().ok()?.file_name()?.to_str()?.to_ascii_lowercase();
    Reference::parse(&name).is_ok().then_some(name)
}

/// Compiles a project and puts the program into the store.
async fn from_project(args: &BuildArgs) -> anyhow::Result<()> {
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
