//! The root directory of a container whose image has files.
//!
//! A container writes to a copy of its own, which begins anew with each start as everywhere; one that may not write shares the
//! image's files. The places of its volumes are made there, so that a listing shows them.

use coracle_images::copy_files;
use coracle_runtime::Mount;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Makes the directory below `dir`, the pod's own, and the mount for it.
///
/// # Errors
/// When the system refuses.
pub fn make(dir: &Path, container: &str, files: &Path, mounts: &[Mount], read_only: bool) -> io::Result<Mount> {
    let root = dir.join("root").join(container);
    match fs::remove_dir_all(&root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    copy_files(files, &root, read_only)?;
    for mount in mounts {
        make_place(&root, &mount.guest)?;
    }
    Ok(Mount {
        host: root,
        guest: "/".to_owned(),
        read_only,
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
        });
        let pod = dir.path().join("pod");
        let mount = make(&pod, "c", &files, &mounts, false).unwrap();
        assert_eq!((mount.guest.as_str(), mount.read_only), ("/", false));
        assert!(mount.host.join("data/deep").is_dir());
        fs::write(mount.host.join("srv/page"), "changed").unwrap();
        fs::write(mount.host.join("more"), "x").unwrap();
        assert_eq!(fs::read_to_string(files.join("srv/page")).unwrap(), "page");
        let again = make(&pod, "c", &files, &mounts, true).unwrap();
        assert_eq!(fs::read_to_string(again.host.join("srv/page")).unwrap(), "page");
        assert!(!again.host.join("more").exists() && again.read_only);
    }
}
