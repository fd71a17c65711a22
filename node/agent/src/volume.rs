//! A pod's volumes as host directories, and which of them a container sees where.
//!
//! `<pods dir>/<uid>/volumes/<name>` is one directory a volume, made before the first container starts and deleted with the pod.
//! Volumes from objects are written by replacing a link, so a reader sees all files of one revision or all of another. A guest
//! mounts directories only: a `subPath` that names a file becomes a directory with just this file in it.

mod atomic;
pub mod place;
mod projected;
pub mod root;
pub mod usage;

use crate::env::Lookup;
use crate::fields::Facts;
use crate::objects::{Kind, Reference};
use crate::token::{Book, Wanted};
use coracle_runtime::Mount;
use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};
use place::{Place, Places};
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
        Place::Made(target) => {
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
        let read_only = mount.read_only == Some(true) || is_read_only(volume);
        let found = mount_one(dir, host, container, mount, &expand)?;
        match mounts.iter_mut().find(|mount| mount.guest == found.guest) {
            // Two files of one directory share it.
            Some(shared) if found.host == shared.host => shared.read_only |= read_only,
            _ => mounts.push(Mount { read_only, ..found }),
        }
    }
    mount_etc(dir, &mut mounts)?;
    Ok(mounts)
}

/// Adds the node's own files in `/etc`, unless the pod has a whole directory there. Where it has single files they come
/// together, and the pod's own win.
fn mount_etc(dir: &Path, mounts: &mut Vec<Mount>) -> Result<(), VolumeError> {
    let etc = dir.join("etc");
    let Some(own) = mounts.iter().find(|mount| mount.guest == "/etc") else {
        mounts.push(Mount {
            host: etc,
            guest: "/etc".to_owned(),
            read_only: true,
        });
        return Ok(());
    };
    if !own.host.starts_with(dir.join("files")) {
        return Ok(());
    }
    let copy = || {
        for entry in fs::read_dir(&etc)? {
            let entry = entry?;
            let target = own.host.join(entry.file_name());
            if !target.exists() {
                fs::copy(entry.path(), target)?;
            }
        }
        Ok(())
    };
    copy().map_err(|source| VolumeError::Io {
        path: etc.clone(),
        source,
    })
}

/// A path below `root` that is there, with all links followed and found to stay inside: guests make links too.
///
/// # Errors
/// When it is not there, or leads out.
pub fn existing_inside(root: &Path, path: &str) -> io::Result<PathBuf> {
    let root = fs::canonicalize(root)?;
    let found = fs::canonicalize(root.join(path))?;
    match found.starts_with(&root) {
        true => Ok(found),
        false => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it leads out of its volume",
        )),
    }
}

/// The same for a directory, which is made where it is missing.
fn made_inside(root: &Path, path: &str) -> io::Result<PathBuf> {
    let mut found = fs::canonicalize(root)?;
    for part in Path::new(path).components() {
        let Component::Normal(part) = part else { continue };
        let next = found.join(part);
        if let Err(error) = fs::create_dir(&next)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error);
        }
        found = existing_inside(root, &next.to_string_lossy())?;
    }
    Ok(found)
}

/// Whether nobody may write to a volume: it is made by the node, or the pod says so.
fn is_read_only(volume: &Volume) -> bool {
    match &volume.persistent_volume_claim {
        Some(claim) => claim.read_only == Some(true),
        None => volume.empty_dir.is_none() && volume.host_path.is_none() && volume.ephemeral.is_none(),
    }
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
    let io = |path: &Path, source| VolumeError::Io {
        path: path.to_owned(),
        source,
    };
    let wanted = volume_dir.join(&sub_path);
    let file = existing_inside(&volume_dir, &sub_path)
        .ok()
        .filter(|path| path.is_file());
    let Some(host) = file else {
        return Ok(Mount {
            host: made_inside(&volume_dir, &sub_path).map_err(|source| io(&wanted, source))?,
            guest,
            read_only: false,
        });
    };
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
        set_up(dir.path(), &facts(&pod), &first, &Book::new(), &Places::new()).unwrap();
        let mounts = mounted(dir.path(), &pod);
        assert_eq!(
            mounts
                .iter()
                .map(|m| (m.guest.as_str(), m.read_only))
                .collect::<Vec<_>>(),
            [("/etc/v", true), ("/data", false), ("/d", true), ("/etc", true)]
        );
        let read = |at: usize, path: &str| fs::read_to_string(mounts[at].host.join(path)).unwrap();
        assert_eq!(read(0, "sub/a.txt"), "one");
        assert!(!mounts[0].host.join("b").exists());
        assert_eq!(read(2, "labels"), "app=\"x\"");
        fs::write(mounts[1].host.join("kept"), "x").unwrap();
        let second = Objects(vec![(Kind::ConfigMap, "m", vec![("a", "three")])]);
        set_up(dir.path(), &facts(&pod), &second, &Book::new(), &Places::new()).unwrap();
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
            super::set_up(dir.path(), &facts(&pod), &none, &Book::new(), &Places::new())
                .map_err(|error| error.to_string())
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
            set_up(json!({"name": "v", "nfs": {"server": "s", "path": "/"}}))
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
        set_up(dir.path(), &facts(&pod), &objects, &Book::new(), &Places::new()).unwrap();
        let mounts = mounted(dir.path(), &pod);
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[0].guest, "/etc/app");
        assert_eq!(fs::read_to_string(mounts[0].host.join("a.conf")).unwrap(), "one");
        assert_eq!(fs::read_to_string(mounts[0].host.join("b.conf")).unwrap(), "two");
        assert!(mounts[1].host.ends_with("e/x/y") && mounts[1].host.is_dir());
    }

    #[test]
    fn a_volume_that_lies_elsewhere_outlives_the_pod() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("pod");
        let pod = pod(
            json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "i", "image": {"reference": "x"}}]),
            json!([{"name": "v", "mountPath": "/data", "subPath": "a"}, {"name": "i", "mountPath": "/image"}]),
        );
        let places = Places::from([
            ("v".to_owned(), Place::Made(dir.path().join("volumes/pv"))),
            ("i".to_owned(), Place::Module("x.wasm".to_owned(), b"wasm"[..].into())),
        ]);
        for _ in 0..2 {
            super::set_up(&own, &facts(&pod), &Objects(vec![]), &Book::new(), &places).unwrap();
        }
        let mounts = mounted(&own, &pod);
        assert_eq!((mounts[0].read_only, mounts[1].read_only), (false, true));
        assert_eq!(fs::read(mounts[1].host.join("x.wasm")).unwrap(), b"wasm");
        fs::write(mounts[0].host.join("f"), "kept").unwrap();
        tear_down(&own).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("volumes/pv/a/f")).unwrap(), "kept");
        let gone = Places::from([("v".to_owned(), Place::Existing(dir.path().join("none")))]);
        assert!(super::set_up(&own, &facts(&pod), &Objects(vec![]), &Book::new(), &gone).is_err());
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

    #[test]
    fn the_nodes_own_files_join_single_files_of_the_pod() {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects(vec![(Kind::ConfigMap, "m", vec![("hosts", "mine"), ("more", "x")])]);
        let pod = pod(
            json!([{"name": "v", "configMap": {"name": "m"}}]),
            json!([{"name": "v", "mountPath": "/etc/hosts", "subPath": "hosts"}]),
        );
        set_up(dir.path(), &facts(&pod), &objects, &Book::new(), &Places::new()).unwrap();
        let own = Files::from([
            ("hosts".into(), b"node's".to_vec()),
            ("resolv.conf".into(), b"r".to_vec()),
        ]);
        set_up_etc(dir.path(), &own).unwrap();
        let mounts = mounted(dir.path(), &pod);
        assert_eq!(mounts.len(), 1);
        let read = |name: &str| fs::read_to_string(mounts[0].host.join(name)).unwrap();
        assert_eq!((read("hosts").as_str(), read("resolv.conf").as_str()), ("mine", "r"));
    }

    #[cfg(unix)]
    #[test]
    fn a_guests_links_lead_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let pod = pod(
            json!([{"name": "e", "emptyDir": {}}]),
            json!([{"name": "e", "mountPath": "/work", "subPath": "link/new"}]),
        );
        set_up(dir.path(), &facts(&pod), &Objects(vec![]), &Book::new(), &Places::new()).unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink("../../outside", dir.path().join("volumes/e/link")).unwrap();
        let container = crate::spec::container(&pod, 0).unwrap();
        let error = mounts(dir.path(), &pod, container, str::to_owned).unwrap_err();
        assert!(error.to_string().contains("leads out"), "{error}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
}
