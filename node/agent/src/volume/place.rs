//! Volumes that are not written by the node: directories of the host, persistent volumes, modules of images.
//!
//! A persistent volume of kind `local` lies under the node's own data directory: `/volumes/<name>` there means `<volumes
//! dir>/<name>` here. Other directories of the host are reached only where the node allows that.

use super::accounts::bytes;
use super::volumes;
use crate::node::Node;
use crate::objects::Watched;
use crate::pull::{NoImage, Policy, Wanted};
use bytes::Bytes;
use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, ImageVolumeSource, PersistentVolume, PersistentVolumeClaim, Pod, Volume,
};
use kube::Api;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// What the paths of persistent volumes on this node begin with.
const LOCAL: &str = "/volumes/";

/// Where a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory, which is made where it is missing.
    Made(PathBuf),
    /// The directory of a persistent volume of the node, made where it is missing, and what it may hold.
    Claim {
        /// The directory.
        path: PathBuf,
        /// The volume's capacity, in bytes; none where it says none.
        limit_bytes: Option<u64>,
    },
    /// A directory that must be there.
    Existing(PathBuf),
    /// The module of an image, as a file with this name.
    Module(String, Bytes),
    /// The files of an image.
    Files(PathBuf),
}

/// Places by the name of their volume.
pub type Places = BTreeMap<String, Place>;

/// Why a volume has no place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The API did not tell.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {what} {name:?}: {source}")]
    Unknown {
        /// The volume.
        volume: String,
        /// What was asked for.
        what: &'static str,
        /// Its name.
        name: String,
        /// What the API said.
        source: Box<kube::Error>,
    },
    /// The claim has no volume yet.
    #[error(
        "MountVolume.SetUp failed for volume {volume:?} : persistentvolumeclaim {claim:?} is not bound to a volume yet; see `kubectl describe pvc {claim}`"
    )]
    Unbound {
        /// The volume.
        volume: String,
        /// The claim.
        claim: String,
    },
    /// A persistent volume that is elsewhere.
    #[error(
        "MountVolume.SetUp failed for volume {volume:?} : persistent volume {name:?} is not of this node; it has volumes of kind local with a path below {LOCAL}"
    )]
    Foreign {
        /// The volume.
        volume: String,
        /// The persistent volume.
        name: String,
    },
    /// Directories of the host are out of bounds.
    #[error(
        "volume {volume:?} is a hostPath, which this node does not allow; use an emptyDir or a persistentVolumeClaim, or start the node with --allow-host-paths"
    )]
    HostPath {
        /// The volume.
        volume: String,
    },
    /// A file of the host cannot be a mount.
    #[error("volume {volume:?} is a hostPath of type {kind:?}; this node has Directory and DirectoryOrCreate")]
    HostPathKind {
        /// The volume.
        volume: String,
        /// What the volume says it is.
        kind: String,
    },
    /// There is no such image.
    #[error("Failed to pull image for volume {volume:?}: {source}")]
    Image {
        /// The volume.
        volume: String,
        /// What the store or the registry says.
        source: NoImage,
    },
}

/// Finds the places of a pod's volumes.
///
/// # Errors
/// At the first volume that has none.
pub async fn places(node: &Node, pod: &Pod, objects: &[Arc<Watched>]) -> Result<Places, PlaceError> {
    let mut places = Places::new();
    for volume in volumes(pod) {
        let place = if let Some(path) = &volume.host_path {
            Some(host_path(node.host_paths, volume, path)?)
        } else if let Some(image) = &volume.image {
            let wanted = Wanted {
                node,
                pod,
                objects,
                field_path: None,
            };
            Some(of_image(wanted, volume, image).await?)
        } else {
            match claim_of(pod, volume) {
                Some(claim) => Some(claimed(node, pod, volume, &claim).await?),
                None => None,
            }
        };
        if let Some(place) = place {
            places.insert(volume.name.clone(), place);
        }
    }
    Ok(places)
}

/// The claim that a volume is; one that is made for the pod alone has a name of its own.
fn claim_of(pod: &Pod, volume: &Volume) -> Option<String> {
    let named = volume.persistent_volume_claim.as_ref();
    named.map(|claim| claim.claim_name.clone()).or_else(|| {
        let pod = pod.metadata.name.as_deref().unwrap_or_default();
        volume.ephemeral.as_ref().map(|_| format!("{pod}-{}", volume.name))
    })
}

async fn claimed(node: &Node, pod: &Pod, volume: &Volume, claim: &str) -> Result<Place, PlaceError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let unknown = |what, name: &str, source| PlaceError::Unknown {
        volume: volume.name.clone(),
        what,
        name: name.to_owned(),
        source: Box::new(source),
    };
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(node.client.clone(), namespace);
    let found = claims.get(claim).await;
    let found = found.map_err(|source| unknown("persistentvolumeclaim", claim, source))?;
    let bound = found.status.and_then(|status| status.phase).as_deref() == Some("Bound");
    let name = found
        .spec
        .and_then(|spec| spec.volume_name)
        .filter(|name| bound && !name.is_empty());
    let name = name.ok_or_else(|| PlaceError::Unbound {
        volume: volume.name.clone(),
        claim: claim.to_owned(),
    })?;
    let persistent: Api<PersistentVolume> = Api::all(node.client.clone());
    let found = persistent.get(&name).await;
    let found = found.map_err(|source| unknown("persistentvolume", &name, source))?;
    let spec = found.spec.unwrap_or_default();
    if let Some(local) = spec
        .local
        .as_ref()
        .and_then(|local| local_path(&node.volumes_dir, &local.path))
    {
        let capacity = spec.capacity.as_ref().and_then(|capacity| capacity.get("storage"));
        return Ok(Place::Claim {
            path: local,
            limit_bytes: capacity
                .and_then(|capacity| bytes(&capacity.0))
                .filter(|bytes| *bytes > 0),
        });
    }
    match spec.host_path {
        Some(path) => host_path(node.host_paths, volume, &path),
        None => Err(PlaceError::Foreign {
            volume: volume.name.clone(),
            name,
        }),
    }
}

/// The directory that a local volume's path means.
fn local_path(dir: &Path, path: &str) -> Option<PathBuf> {
    let name = Path::new(path.strip_prefix(LOCAL)?);
    let mut parts = name.components();
    let one = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    one.then(|| dir.join(name))
}

fn host_path(allowed: bool, volume: &Volume, path: &HostPathVolumeSource) -> Result<Place, PlaceError> {
    let name = || volume.name.clone();
    if !allowed {
        return Err(PlaceError::HostPath { volume: name() });
    }
    let host = PathBuf::from(&path.path);
    match path.type_.as_deref() {
        None | Some("" | "Directory") => Ok(Place::Existing(host)),
        Some("DirectoryOrCreate") => Ok(Place::Made(host)),
        Some(kind) => Err(PlaceError::HostPathKind {
            volume: name(),
            kind: kind.to_owned(),
        }),
    }
}

async fn of_image(wanted: Wanted<'_>, volume: &Volume, image: &ImageVolumeSource) -> Result<Place, PlaceError> {
    let failed = |source| PlaceError::Image {
        volume: volume.name.clone(),
        source,
    };
    let (name, policy) = (image.reference.as_deref(), image.pull_policy.as_deref());
    let had = wanted.image(name.unwrap_or_default(), Policy::parse(policy)).await;
    let (image, _) = had.map_err(failed)?;
    if let Some(files) = image.files {
        return Ok(Place::Files(files));
    }
    let program = image.config.entrypoint.first().map_or("module", String::as_str);
    let name = program.rsplit('/').next().unwrap_or(program).trim_end_matches(".wasm");
    let bytes = image.wasm().map_err(|error| failed(error.into()))?;
    Ok(Place::Module(format!("{name}.wasm"), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn local_paths_stay_below_the_nodes_volumes() {
        let dir = Path::new("/data/volumes");
        for (path, expected) in [
            ("/volumes/pvc-1", Some("/data/volumes/pvc-1")),
            ("/volumes/../x", None),
            ("/volumes/a/b", None),
            ("/volumes/", None),
            ("/mnt/disk", None),
        ] {
            assert_eq!(local_path(dir, path), expected.map(PathBuf::from), "{path}");
        }
    }

    #[test]
    fn the_host_is_out_of_bounds_unless_the_node_says_otherwise() {
        let volume = |kind: &str| -> Volume {
            serde_json::from_value(json!({"name": "v", "hostPath": {"path": "/srv", "type": kind}})).unwrap()
        };
        let place = |allowed, kind: &str| {
            let volume = volume(kind);
            host_path(allowed, &volume, volume.host_path.as_ref().unwrap()).map_err(|error| error.to_string())
        };
        assert!(place(false, "").unwrap_err().contains("--allow-host-paths"));
        assert_eq!(place(true, "Directory"), Ok(Place::Existing("/srv".into())));
        assert_eq!(place(true, "DirectoryOrCreate"), Ok(Place::Made("/srv".into())));
        assert!(place(true, "Socket").unwrap_err().contains("\"Socket\""));
    }

    #[test]
    fn a_claim_may_be_the_pods_own() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "db-0"}, "spec": {"containers": [], "volumes": [
            {"name": "a", "persistentVolumeClaim": {"claimName": "shared"}}, {"name": "b", "ephemeral": {}}, {"name": "c", "emptyDir": {}}]}}))
        .unwrap();
        let claims: Vec<_> = volumes(&pod).iter().map(|volume| claim_of(&pod, volume)).collect();
        assert_eq!(claims, [Some("shared".into()), Some("db-0-b".into()), None]);
    }
}
