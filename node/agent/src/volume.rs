//! A pod's volumes as host directories, and which of them a container sees where.
//!
//! `<pods dir>/<uid>/volumes/<name>` is one directory a volume, made before the first container starts and deleted with the pod.
//! Volumes from objects are written by replacing a link, so a reader sees all files of one revision or all of another. A guest
//! mounts directories only: a `subPath` that names a file becomes a directory with just this file in it.

mod atomic;
mod projected;

use crate::env::Lookup;
use crate::fields::Facts;
use crate::objects::{Kind, Reference};
use coracle_runtime::Mount;
use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

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
    /// This node has no volumes of the kind.
    #[error(
        "volume {volume:?} is of a kind that this node does not have; it has emptyDir, configMap, secret, downwardAPI and projected"
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

/// Whether the pod needs a directory at all.
pub fn any(pod: &Pod) -> bool {
    !volumes(pod).is_empty()
}

/// Makes or brings up to date every volume of a pod below `dir`, the pod's own directory.
///
/// # Errors
/// At the first volume that cannot be made.
pub fn set_up(dir: &Path, facts: &Facts<'_>, lookup: &impl Lookup) -> Result<(), VolumeError> {
    for volume in volumes(facts.pod) {
        let path = volume_dir(dir, &volume.name);
        fs::create_dir_all(&path).map_err(|source| VolumeError::Io {
            path: path.clone(),
            source,
        })?;
        if volume.empty_dir.is_some() {
            continue;
        }
        let files = projected::files(volume, facts, lookup)?;
        atomic::write(&path, &files).map_err(|source| VolumeError::Io { path, source })?;
    }
    Ok(())
}

/// Deletes the volumes of a pod.
pub fn tear_down(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn volume_dir(dir: &Path, name: &str) -> PathBuf {
    dir.join("volumes").join(name)
}

/// What a container mounts.
///
/// # Errors
/// When a mount names no volume, or its `subPath` leaves it or cannot be made.
pub fn mounts(
    dir: &Path,
    pod: &Pod,
    container: &Container,
    expand: impl Fn(&str) -> String,
) -> Result<Vec<Mount>, VolumeError> {
    let mut mounts: Vec<Mount> = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = volumes(pod)
            .iter()
            .find(|volume| volume.name == mount.name)
            .ok_or_else(|| VolumeError::NoVolume {
                container: container.name.clone(),
                volume: mount.name.clone(),
            })?;
        let host = volume_dir(dir, &volume.name);
        let from_objects = volume.empty_dir.is_none();
        let read_only = mount.read_only == Some(true) || from_objects;
        let found = mount_one(dir, host, container, mount, &expand)?;
        match mounts.iter_mut().find(|mount| mount.guest == found.guest) {
            // Two files of one directory share it.
            Some(shared) if found.host == shared.host => shared.read_only |= read_only,
            _ => mounts.push(Mount { read_only, ..found }),
        }
    }
    Ok(mounts)
}

fn mount_one(
    dir: &Path,
    volume_dir: PathBuf,
    container: &Container,
    mount: &VolumeMount,
    expand: &impl Fn(&str) -> String,
) -> Result<Mount, VolumeError> {
    let guest = mount.mount_path.trim_end_matches('/').to_owned();
    let guest = if guest.is_empty() { "/".to_owned() } else { guest };
    let sub_path = match (&mount.sub_path, &mount.sub_path_expr) {
        (Some(path), _) if !path.is_empty() => path.clone(),
        (_, Some(expression)) if !expression.is_empty() => expand(expression),
        _ => {
            return Ok(Mount {
                host: volume_dir,
                guest,
                read_only: false,
            });
        }
    };
    let inside = Path::new(&sub_path)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside {
        return Err(VolumeError::Path {
            volume: mount.name.clone(),
            path: sub_path,
        });
    }
    let host = volume_dir.join(&sub_path);
    let io = |path: &Path, source| VolumeError::Io {
        path: path.to_owned(),
        source,
    };
    if !host.is_file() {
        fs::create_dir_all(&host).map_err(|source| io(&host, source))?;
        return Ok(Mount {
            host,
            guest,
            read_only: false,
        });
    }
    // A file: its directory in the guest holds a copy, as it was when the container started.
    let (parent, name) = guest.rsplit_once('/').unwrap_or(("", &guest));
    let parent = if parent.is_empty() { "/" } else { parent };
    let files = dir.join("files").join(&container.name).join(parent.replace('/', "~"));
    fs::create_dir_all(&files).map_err(|source| io(&files, source))?;
    let copy = files.join(name);
    fs::copy(&host, &copy).map_err(|source| io(&copy, source))?;
    Ok(Mount {
        host: files,
        guest: parent.to_owned(),
        read_only: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::Payload;
    use serde_json::json;

    type Row = (Kind, &'static str, Vec<(&'static str, &'static str)>);

    struct Objects(Vec<Row>);

    impl Lookup for Objects {
        fn find(&self, kind: Kind, name: &str) -> Option<Arc<Payload>> {
            let (_, _, data) = self.0.iter().find(|(k, n, _)| (*k, *n) == (kind, name))?;
            let data = data
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
                .collect();
            Some(Arc::new(Payload {
                data,
                revision: "1".into(),
            }))
        }
    }

    fn facts(pod: &Pod) -> Facts<'_> {
        crate::fields::tests::facts(pod)
    }

    fn pod(volumes: serde_json::Value, mounts: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "x"}},
            "spec": {"volumes": volumes, "containers": [{"name": "c", "volumeMounts": mounts}]}
        }))
        .unwrap()
    }

    fn mounted(dir: &Path, pod: &Pod) -> Vec<Mount> {
        mounts(dir, pod, crate::spec::container(pod, 0).unwrap(), str::to_owned).unwrap()
    }

    #[test]
    fn files_of_objects_appear_and_change_together() {
        let dir = tempfile::tempdir().unwrap();
        let pod = pod(
            json!([{"name": "v", "configMap": {"name": "m", "items": [{"key": "a", "path": "sub/a.txt"}]}},
                   {"name": "d", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                   {"name": "e", "emptyDir": {}}]),
            json!([{"name": "v", "mountPath": "/etc/v/"}, {"name": "e", "mountPath": "/data"}, {"name": "d", "mountPath": "/d"}]),
        );
        let first = Objects(vec![(Kind::ConfigMap, "m", vec![("a", "one"), ("b", "two")])]);
        set_up(dir.path(), &facts(&pod), &first).unwrap();
        let mounts = mounted(dir.path(), &pod);
        assert_eq!(
            mounts
                .iter()
                .map(|m| (m.guest.as_str(), m.read_only))
                .collect::<Vec<_>>(),
            [("/etc/v", true), ("/data", false), ("/d", true)]
        );
        let read = |at: usize, path: &str| fs::read_to_string(mounts[at].host.join(path)).unwrap();
        assert_eq!(read(0, "sub/a.txt"), "one");
        assert!(!mounts[0].host.join("b").exists());
        assert_eq!(read(2, "labels"), "app=\"x\"");
        fs::write(mounts[1].host.join("kept"), "x").unwrap();
        let second = Objects(vec![(Kind::ConfigMap, "m", vec![("a", "three")])]);
        set_up(dir.path(), &facts(&pod), &second).unwrap();
        assert_eq!(read(0, "sub/a.txt"), "three");
        assert_eq!(read(1, "kept"), "x");
        tear_down(dir.path()).unwrap();
        assert!(!dir.path().exists());
    }

    #[test]
    fn missing_objects_and_keys_are_said_unless_optional() {
        let dir = tempfile::tempdir().unwrap();
        let none = Objects(vec![(Kind::Secret, "s", vec![])]);
        let set_up = |volume: serde_json::Value| {
            let pod = pod(json!([volume]), json!([]));
            super::set_up(dir.path(), &facts(&pod), &none).map_err(|error| error.to_string())
        };
        assert_eq!(
            set_up(json!({"name": "v", "configMap": {"name": "m"}})),
            Err("MountVolume.SetUp failed for volume \"v\" : configmap \"m\" not found".into())
        );
        assert_eq!(
            set_up(json!({"name": "v", "configMap": {"name": "m", "optional": true}})),
            Ok(())
        );
        let no_key = set_up(json!({"name": "v", "secret": {"secretName": "s", "items": [{"key": "k", "path": "k"}]}}));
        assert!(no_key.unwrap_err().contains("references non-existent key: k"));
        assert!(
            set_up(json!({"name": "v", "hostPath": {"path": "/"}}))
                .unwrap_err()
                .contains("does not have")
        );
        let outside = set_up(
            json!({"name": "v", "downwardAPI": {"items": [{"path": "../x", "fieldRef": {"fieldPath": "metadata.name"}}]}}),
        );
        assert!(outside.unwrap_err().contains("leads out"));
    }

    #[test]
    fn a_file_as_sub_path_gets_a_directory_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects(vec![(Kind::ConfigMap, "m", vec![("a", "one"), ("b", "two")])]);
        let pod = pod(
            json!([{"name": "v", "configMap": {"name": "m"}}, {"name": "e", "emptyDir": {}}]),
            json!([{"name": "v", "mountPath": "/etc/app/a.conf", "subPath": "a"},
                   {"name": "v", "mountPath": "/etc/app/b.conf", "subPath": "b"},
                   {"name": "e", "mountPath": "/work", "subPathExpr": "x/y"}]),
        );
        set_up(dir.path(), &facts(&pod), &objects).unwrap();
        let mounts = mounted(dir.path(), &pod);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].guest, "/etc/app");
        assert_eq!(fs::read_to_string(mounts[0].host.join("a.conf")).unwrap(), "one");
        assert_eq!(fs::read_to_string(mounts[0].host.join("b.conf")).unwrap(), "two");
        assert!(mounts[1].host.ends_with("e/x/y") && mounts[1].host.is_dir());
    }

    #[test]
    fn references_are_found_once() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"namespace": "ns"},
            "spec": {"volumes": [{"name": "p", "projected": {"sources": [{"secret": {"name": "s"}}, {"configMap": {"name": "m"}}]}}],
                "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "m"}}]}],
                "containers": [{"name": "c", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s2", "key": "k"}}}]}]}
        }))
        .unwrap();
        let found: Vec<_> = references(&pod).into_iter().map(|r| (r.kind, r.name)).collect();
        assert_eq!(
            found,
            [
                (Kind::ConfigMap, "m".to_owned()),
                (Kind::Secret, "s2".to_owned()),
                (Kind::Secret, "s".to_owned())
            ]
        );
    }
}
