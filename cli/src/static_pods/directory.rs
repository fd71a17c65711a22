//! A directory of manifests whose pods run whatever the API says: `coracle up --manifests DIR`.
//!
//! The directory is looked at when the system says that something in it changed. A file that cannot be read is left out and
//! said in the log; the others count.

use std::{fs, path::Path};

use anyhow::Context;
use coracle_agent::Directories;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::pods_of;

/// The pods of a directory, now and after each change until `stop`.
///
/// # Errors
/// When the directory cannot be watched.
pub fn follow(dir: &Path, stop: CancellationToken) -> anyhow::Result<watch::Receiver<Vec<Pod>>> {
    let dir = dir
        .canonicalize()
        .with_context(|| format!("cannot use {} for manifests", dir.display()))?;
    let watched = Directories::new()?;
    watched
        .add(&dir)
        .with_context(|| format!("cannot watch {}", dir.display()))?;
    let (sender, receiver) = watch::channel(read(&dir));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = watched.changed() => if let Err(error) = changed {
                    tracing::error!(dir = %dir.display(), %error, "static pods are not followed any more");
                    return;
                },
            }
            let pods = read(&dir);
            sender.send_if_modified(|before| {
                let differs = *before != pods;
                *before = pods;
                differs
            });
        }
    });
    Ok(receiver)
}

fn read(dir: &Path) -> Vec<Pod> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| is_manifest(path))
        .collect();
    files.sort();
    let mut pods = Vec::new();
    for file in files {
        match read_file(&file) {
            Ok(found) => pods.extend(found),
            Err(error) => tracing::error!(file = %file.display(), "a static pod cannot be read: {error:#}"),
        }
    }
    pods
}

fn is_manifest(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let extension = path.extension().and_then(|extension| extension.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

fn read_file(file: &Path) -> anyhow::Result<Vec<Pod>> {
    pods_of(&fs::read_to_string(file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_come_change_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let pod = |image: &str| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {{containers: [{{name: c, image: {image}}}]}}\n"
            )
        };
        fs::write(dir.path().join("web.yaml"), pod("hello")).unwrap();
        fs::write(dir.path().join("notes.txt"), "no manifest").unwrap();
        fs::write(dir.path().join("wrong.yaml"), "kind: Service\napiVersion: v1\n").unwrap();
        let mut pods = follow(dir.path(), stop.clone()).unwrap();
        let images = |pods: &[Pod]| -> Vec<String> {
            let containers = pods
                .iter()
                .flat_map(|pod| pod.spec.as_ref().unwrap().containers.clone());
            containers.filter_map(|container| container.image).collect()
        };
        assert_eq!(images(&pods.borrow_and_update()), ["hello"]);
        let next = dir.path().join(".next");
        fs::write(&next, pod("worker")).unwrap();
        fs::rename(&next, dir.path().join("web.yaml")).unwrap();
        pods.wait_for(|pods| images(pods) == ["worker"]).await.unwrap();
        fs::remove_file(dir.path().join("web.yaml")).unwrap();
        pods.wait_for(|pods| pods.is_empty()).await.unwrap();
        stop.cancel();
    }
}
