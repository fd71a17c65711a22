//! Which of a pod's volumes a container sees where.
//!
//! A guest makes links too, so each path below a volume is followed to its end and must stay inside.

use super::accounts::PodAccounts;
use super::{VolumeError, volume_dir, volumes};
use coracle_runtime::{Mount, Quota};
use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// What a container mounts.
///
/// # Errors
/// When a mount names no volume, or its `subPath` leaves it or cannot be made.
pub fn mounts(
    dir: &Path,
    pod: &Pod,
    container: &Container,
    accounts: &PodAccounts,
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
        let found = mount_one(dir, host.clone(), container, mount, &expand)?;
        match mounts.iter_mut().find(|mount| mount.guest == found.guest) {
            // Two files of one directory share it.
            Some(shared) if found.host == shared.host => shared.read_only |= read_only,
            _ => mounts.push(Mount {
                quota: account_of(dir, &found, accounts, &volume.name)?,
                read_only,
                lazy: found.host == host && is_made_here(volume),
                ..found
            }),
        }
    }
    mount_etc(dir, &mut mounts)?;
    Ok(mounts)
}

/// Who pays for what is written through a mount: copies of files are not in their volume any more.
fn account_of(
    dir: &Path,
    mount: &Mount,
    accounts: &PodAccounts,
    volume: &str,
) -> Result<Option<Arc<Quota>>, VolumeError> {
    if !mount.host.starts_with(dir.join("files")) {
        return Ok(accounts.volume(volume));
    }
    accounts.copies(&mount.host).map_err(|source| VolumeError::Io {
        path: mount.host.clone(),
        source,
    })
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
            quota: None,
            lazy: true,
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

/// Whether a volume's directory is the pod's own, and not one that others have too. A part of it may be moved by its guests.
fn is_made_here(volume: &Volume) -> bool {
    volume.host_path.is_none() && volume.persistent_volume_claim.is_none() && volume.ephemeral.is_none()
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
                quota: None,
                lazy: false,
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
            quota: None,
            lazy: false,
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
        quota: None,
        lazy: false,
    })
}
