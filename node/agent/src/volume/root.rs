//! The root directory of a container whose image has files.
//!
//! A container writes to a copy of its own, which begins anew with each start as everywhere; one that may not write shares the
//! image's files. The places of its volumes are made there, so that a listing shows them.

use super::accounts::PodAccounts;
use super::removal;
use coracle_images::copy_files;
use coracle_runtime::Mount;
use k8s_openapi::api::core::v1::Container;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Makes the directory below `dir`, the pod's own, and the mount for it.
///
/// # Errors
/// When the system refuses.
pub fn make(
    dir: &Path,
    container: &Container,
    accounts: &PodAccounts,
    files: &Path,
    mounts: &[Mount],
) -> io::Result<Mount> {
    let root = dir.join("root").join(&container.name);
    let context = container.security_context.as_ref();
    let read_only = context.and_then(|context| context.read_only_root_filesystem) == Some(true);
    match removal::remove(&root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    copy_files(files, &root, read_only)?;
    for mount in mounts {
        make_place(&root, &mount.guest)?;
    }
    Ok(Mount {
        quota: accounts.writable_layer(&root, container)?,
        host: root,
        guest: "/".to_owned(),
        read_only,
        lazy: false,
    })
}

/// Where the image has a file or a link on the way, its own stays: the mount is found by its name all the same.
fn make_place(root: &Path, guest: &str) -> io::Result<()> {
    let mut path = PathBuf::from(root);
    for part in Path::new(guest).components() {
        let Component::Normal(part) = part else { continue };
        path.push(part);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Ok(()),
            Err(_) => fs::create_dir(&path)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_container_begins_with_the_images_files_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let files = dir.path().join("image");
        fs::create_dir_all(files.join("srv")).unwrap();
        fs::write(files.join("srv/page"), "page").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("/nowhere", files.join("link")).unwrap();
        let mounts = ["/data/deep", "/link/x"].map(|guest| Mount {
            host: "/".into(),
            guest: guest.to_owned(),
            read_only: false,
            quota: None,
            lazy: false,
        });
        let pod = dir.path().join("pod");
        let container = |read_only: bool| -> Container {
            let context = json!({"name": "c", "securityContext": {"readOnlyRootFilesystem": read_only}});
            serde_json::from_value(context).unwrap()
        };
        let accounts = PodAccounts::default();
        let mount = make(&pod, &container(false), &accounts, &files, &mounts).unwrap();
        assert_eq!((mount.guest.as_str(), mount.read_only), ("/", false));
        assert!(mount.host.join("data/deep").is_dir());
        fs::write(mount.host.join("srv/page"), "changed").unwrap();
        fs::write(mount.host.join("more"), "x").unwrap();
        assert_eq!(fs::read_to_string(files.join("srv/page")).unwrap(), "page");
        let again = make(&pod, &container(true), &accounts, &files, &mounts).unwrap();
        assert_eq!(fs::read_to_string(again.host.join("srv/page")).unwrap(), "page");
        assert!(!again.host.join("more").exists() && again.read_only);
    }
}
