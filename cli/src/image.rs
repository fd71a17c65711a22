//! `coracle image`: the node's local image store from the command line.
//!
//! The store lies under the data directory and may be written while a cluster runs on it: names are looked up afresh for each pod.

use std::path::PathBuf;

use anyhow::Context;
use coracle_images::{Build, ImageConfig, ImageStore, Interfaces, Keyring};

use crate::{
    args::{DataDirArgs, ImageCommand, RegistryArgs},
    data_dir,
};

/// Runs one of the image commands.
///
/// # Errors
/// When the store cannot be read or written, the image is not there, or a registry does not give or take it.
pub async fn run(command: ImageCommand) -> anyhow::Result<()> {
    match command {
        ImageCommand::Pull { data, registry, name } => pull(&open_with(&data, &registry)?, &name).await,
        ImageCommand::Push {
            data,
            registry,
            name,
            target,
            artifact,
            with,
        } => {
            let (store, target) = (open_with(&data, &registry)?, target.as_deref().unwrap_or(&name));
            match artifact {
                true => push_artifact(&store, &name, with.as_deref(), target).await,
                false => push(&store, &name, target).await,
            }
        }
        ImageCommand::Ls(data) => list(&open(&data)?),
        ImageCommand::Load { data, file, name } => load(&open(&data)?, &file, &name),
        ImageCommand::Prune { data, all } => prune(&open(&data)?, all),
        ImageCommand::Inspect { data, name } => inspect(&open(&data)?, &name),
        ImageCommand::Rm { data, name } => {
            open(&data)?.remove(&name)?;
            println!("{name} removed");
            Ok(())
        }
    }
}

/// The data directory that the arguments mean.
///
/// # Errors
/// When none is named and the home directory is unknown.
pub fn data_path(data: &DataDirArgs) -> anyhow::Result<PathBuf> {
    data.data_dir.clone().map_or_else(data_dir::default_path, Ok)
}

fn open(data: &DataDirArgs) -> anyhow::Result<ImageStore> {
    let path = data_path(data)?.join("images");
    ImageStore::open(&path).with_context(|| format!("cannot open {}", path.display()))
}

fn open_with(data: &DataDirArgs, registry: &RegistryArgs) -> anyhow::Result<ImageStore> {
    Ok(open(data)?.with_registry_authority(registry_authority(registry)?))
}

/// The authority of registries that the arguments name, in PEM.
///
/// # Errors
/// When the file cannot be read.
pub fn registry_authority(registry: &RegistryArgs) -> anyhow::Result<Option<String>> {
    let read =
        |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    registry.registry_ca.as_ref().map(read).transpose()
}

fn prune(store: &ImageStore, all: bool) -> anyhow::Result<()> {
    let freed = store.prune(all)?;
    for name in &freed.images {
        println!("{name} removed");
    }
    println!("{} bytes freed", freed.bytes);
    Ok(())
}

async fn pull(store: &ImageStore, name: &str) -> anyhow::Result<()> {
    let pulled = store.pull(name, &Keyring::default().with_users_own()).await?;
    match pulled.bytes {
        0 => println!("{name} is up to date ({})", pulled.image.id),
        bytes => println!("{name} pulled ({bytes} bytes, {})", pulled.image.id),
    }
    Ok(())
}

async fn push(store: &ImageStore, name: &str, target: &str) -> anyhow::Result<()> {
    let digest = store.push(name, target, &Keyring::default().with_users_own()).await?;
    println!("{target} pushed ({digest})");
    Ok(())
}

async fn push_artifact(store: &ImageStore, name: &str, with: Option<&str>, target: &str) -> anyhow::Result<()> {
    let build = |reference| -> anyhow::Result<Build<'_>> {
        let wasm = store.resolve(reference)?.wasm()?;
        let found = coracle_runtime::interfaces(&wasm).with_context(|| format!("image {reference:?}"))?;
        let component = found.map(|found| Interfaces {
            exports: found.exports,
            imports: found.imports,
        });
        Ok(Build { reference, component })
    };
    let builds: Vec<Build<'_>> = [name].into_iter().chain(with).map(build).collect::<Result<_, _>>()?;
    let keyring = Keyring::default().with_users_own();
    let digest = store.push_artifact(&builds, target, &keyring).await?;
    println!("{target} pushed ({digest})");
    Ok(())
}

fn list(store: &ImageStore) -> anyhow::Result<()> {
    println!("{:<28} {:<15} {:>12}  ORIGIN", "IMAGE", "ID", "BYTES");
    for image in store.list()? {
        let id = image
            .id
            .trim_start_matches("sha256:")
            .get(..12)
            .unwrap_or_default()
            .to_owned();
        let origin = if image.builtin { "built in" } else { "in store" };
        println!("{:<28} {id:<15} {:>12}  {origin}", image.reference, image.size);
    }
    Ok(())
}

fn inspect(store: &ImageStore, name: &str) -> anyhow::Result<()> {
    let image = store.resolve(name)?;
    let shown = serde_json::json!({
        "reference": image.reference,
        "id": &*image.id,
        "module": {"digest": &*image.digest, "size": image.size},
        "files": image.files,
        "config": &*image.config,
    });
    println!("{shown:#}");
    Ok(())
}

fn load(store: &ImageStore, file: &std::path::Path, name: &str) -> anyhow::Result<()> {
    let wasm = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let entrypoint = file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let config = ImageConfig {
        entrypoint: entrypoint.into_iter().collect(),
        ..ImageConfig::default()
    };
    let image = store.load(name, &wasm, &config)?;
    println!("{name} loaded ({} bytes, {})", wasm.len(), image.digest);
    Ok(())
}
