//! A pod's volumes as host directories, and which of them a container sees where.
//!
//! `<pods dir>/<uid>/volumes/<name>` is one directory a volume, made before the first container starts and deleted with the pod.
//! Volumes from objects are written by replacing a link, so a reader sees all files of one revision or all of another. A guest
//! mounts directories only: a `subPath` that names a file becomes a directory with just this file in it.

pub mod accounts;
mod atomic;
mod mounts;
pub mod place;
mod projected;
pub mod removal;
pub mod root;

use crate::env::Lookup;
use crate::fields::Facts;
use crate::objects::{Kind, Reference};
use crate::token::{Book, Wanted};
use k8s_openapi::api::core::v1::{Pod, Volume};
use place::{Place, Places};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use mounts::{existing_inside, mounts};

/// The files of a volume, by path inside it.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Why a volume cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// What it is made of is not there.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {kind} {name:?} not found")]
    Missing {
        /// The volume.
        volume: String,
        /// What is missing.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// The object lacks a key that the volume names.
    #[error("MountVolume.SetUp failed for volume {volume:?} : references non-existent key: {key}")]
    NoKey {
        /// The volume.
        volume: String,
        /// The key.
        key: String,
    },
    /// A field that pods are not told.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {source}")]
    Field {
        /// The volume.
        volume: String,
        /// What is wrong with the reference.
        source: crate::fields::FieldError,
    },
    /// A token that was not asked for: the specification changed meanwhile.
    #[error("MountVolume.SetUp failed for volume {volume:?} : there is no token yet")]
    NoToken {
        /// The volume.
        volume: String,
    },
    /// This node has no volumes of the kind.
    #[error(
        "volume {volume:?} is of a kind that this node does not have; it has emptyDir, configMap, secret, downwardAPI, projected, persistentVolumeClaim, image and, where it is allowed, hostPath"
    )]
    Unsupported {
        /// The volume.
        volume: String,
    },
    /// A path that leaves its volume.
    #[error("path {path:?} of volume {volume:?} leads out of the volume")]
    Path {
        /// The volume.
        volume: String,
        /// The path.
        path: String,
    },
    /// A mount of a volume that the pod does not have.
    #[error("container {container:?} mounts volume {volume:?}, which the pod does not have")]
    NoVolume {
        /// The container.
        container: String,
        /// The volume.
        volume: String,
    },
    /// The file system refused.
    #[error("cannot prepare {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The objects that a pod's containers and volumes refer to.
pub fn references(pod: &Pod) -> Vec<Reference> {
    let namespace: Arc<str> = pod.metadata.namespace.as_deref().unwrap_or_default().into();
    let mut found = Vec::new();
    let mut add = |kind, name: &str| {
        let reference = Reference {
            kind,
            namespace: namespace.clone(),
            name: name.to_owned(),
        };
        if !name.is_empty() && !found.contains(&reference) {
            found.push(reference);
        }
    };
    for container in crate::spec::containers(pod) {
        for source in container.env_from.iter().flatten() {
            source
                .config_map_ref
                .iter()
                .for_each(|from| add(Kind::ConfigMap, &from.name));
            source.secret_ref.iter().for_each(|from| add(Kind::Secret, &from.name));
        }
        for source in container
            .env
            .iter()
            .flatten()
            .filter_map(|variable| variable.value_from.as_ref())
        {
            source
                .config_map_key_ref
                .iter()
                .for_each(|from| add(Kind::ConfigMap, &from.name));
            source
                .secret_key_ref
                .iter()
                .for_each(|from| add(Kind::Secret, &from.name));
        }
    }
    for secret in crate::pull::secrets(pod) {
        add(Kind::Secret, secret);
    }
    for volume in volumes(pod) {
        projected::references(volume)
            .into_iter()
            .for_each(|(kind, name)| add(kind, name));
    }
    found
}

fn volumes(pod: &Pod) -> &[Volume] {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.volumes.as_deref())
        .unwrap_or_default()
}

/// The tokens that a pod's volumes have.
pub fn tokens(pod: &Pod) -> Vec<Wanted> {
    volumes(pod).iter().flat_map(projected::tokens).collect()
}

/// Whether a pod's files show what may change about the pod itself.
pub fn shows_facts(pod: &Pod) -> bool {
    volumes(pod).iter().any(projected::shows_facts)
}

/// Makes or brings up to date every volume of a pod below `dir`, the pod's own directory.
///
/// # Errors
/// At the first volume that cannot be made.
pub fn set_up(
    dir: &Path,
    facts: &Facts<'_>,
    lookup: &impl Lookup,
    tokens: &Book,
    places: &Places,
) -> Result<(), VolumeError> {
    for volume in volumes(facts.pod) {
        let path = volume_dir(dir, &volume.name);
        let made = match places.get(&volume.name) {
            Some(place) => take_place(&path, place),
            None => fs::create_dir_all(&path),
        };
        made.map_err(|source| VolumeError::Io {
            path: path.clone(),
            source,
        })?;
        if volume.empty_dir.is_some() || places.contains_key(&volume.name) {
            continue;
        }
        let files = projected::files(volume, facts, lookup, tokens)?;
        atomic::write(&path, &files).map_err(|source| VolumeError::Io { path, source })?;
    }
    Ok(())
}

/// Makes `path` lead to where the volume is.
fn take_place(path: &Path, place: &Place) -> io::Result<()> {
    let target = match place {
        Place::Module(name, bytes) => {
            fs::create_dir_all(path)?;
            return fs::write(path.join(name), bytes);
        }
        Place::Files(files) => {
            // They do not change while the pod lives; once they are here they stay.
            return match path.exists() {
                true => Ok(()),
                false => coracle_images::copy_files(files, path, true),
            };
        }
        Place::Made(target) | Place::Claim { path: target, .. } => {
            fs::create_dir_all(target)?;
            target
        }
        Place::Existing(target) => target,
    };
    let target = fs::canonicalize(target)?;
    if fs::read_link(path).is_ok_and(|present| present == target) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    atomic::symlink(&target, path)
}

/// Writes what the node itself gives every container of a pod, in `/etc`.
///
/// # Errors
/// When a file cannot be written.
pub fn set_up_etc(dir: &Path, files: &Files) -> Result<(), VolumeError> {
    let etc = dir.join("etc");
    let write = || {
        fs::create_dir_all(&etc)?;
        files
            .iter()
            .try_for_each(|(name, content)| fs::write(etc.join(name), content))
    };
    write().map_err(|source| VolumeError::Io {
        path: etc.clone(),
        source,
    })
}

/// Deletes the volumes of a pod.
pub fn tear_down(dir: &Path) -> io::Result<()> {
    match removal::remove(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn volume_dir(dir: &Path, name: &str) -> PathBuf {
    dir.join("volumes").join(name)
}

#[cfg(test)]
mod tests;
