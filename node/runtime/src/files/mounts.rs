//! Mounts: host directories as preopened directories of the guest.
//!
//! The guest's file system is nothing but its mounts. Paths are resolved below a mount's directory and never leave it, symbolic
//! links included; that is the WASI library's work, and the reason why only directories can be mounted. They are opened once for
//! a container, some only when they are asked for, and its instances share the handles.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use wasmtime_wasi::filesystem::Dir;
use wasmtime_wasi::{FsPerms, OpenMode};

use super::pod::{PodFiles, Root};
use crate::spec::Mount;

/// A mount cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount {} at {guest}: {reason}", host.display())]
pub struct MountError {
    /// The directory on the host.
    pub host: PathBuf,
    /// Where the guest was to see it.
    pub guest: String,
    /// Why not.
    pub reason: String,
}

/// The mounts of a container.
pub(crate) struct Mounts {
    mounts: Vec<Opened>,
    pod: Arc<PodFiles>,
}

/// One of them.
struct Opened {
    dir: OnceLock<(Dir, Root)>,
    mount: Mount,
}

impl Mounts {
    /// Opens the directories for a container, or finds that they are there.
    pub(crate) fn open(mounts: &[Mount], pod: &Arc<PodFiles>) -> Result<Self, MountError> {
        let found = |mount: &Mount| {
            let opened = Opened {
                dir: OnceLock::new(),
                mount: mount.clone(),
            };
            if mount.lazy {
                let metadata = std::fs::metadata(&mount.host).map_err(|error| opened.failed(&error))?;
                if !metadata.is_dir() {
                    return Err(opened.failed(&io::ErrorKind::NotADirectory.into()));
                }
            } else {
                opened.dir(pod)?;
            }
            Ok(opened)
        };
        Ok(Self {
            mounts: mounts.iter().map(found).collect::<Result<_, _>>()?,
            pod: pod.clone(),
        })
    }

    /// Each mount's directory, where the guest sees it, and who pays for what is written there.
    pub(super) fn iter(&self) -> impl Iterator<Item = Result<(Dir, &Mount), MountError>> {
        self.mounts
            .iter()
            .map(|opened| Ok((opened.dir(&self.pod)?, &opened.mount)))
    }
}

impl Opened {
    fn dir(&self, pod: &PodFiles) -> Result<Dir, MountError> {
        if let Some((dir, _)) = self.dir.get() {
            return Ok(dir.clone());
        }
        let (permissions, mode) = match self.mount.read_only {
            true => (FsPerms::ReadOnly, OpenMode::READ),
            false => (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE),
        };
        let opened = pod.root().and_then(|root| Ok((open(&self.mount.host)?, root)));
        let (directory, root) = opened.map_err(|error| self.failed(&error))?;
        let dir = Dir::new(directory, permissions, mode, true);
        // Another instance may have been here meanwhile.
        Ok(self.dir.get_or_init(|| (dir, root)).0.clone())
    }

    fn failed(&self, error: &io::Error) -> MountError {
        MountError {
            host: self.mount.host.clone(),
            guest: self.mount.guest.clone(),
            reason: error.to_string(),
        }
    }
}

#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

#[cfg(windows)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::windows::fs::OpenOptionsExt;
    // A directory is opened only with "backup semantics".
    const BACKUP_SEMANTICS: u32 = 0x0200_0000;
    File::options().read(true).custom_flags(BACKUP_SEMANTICS).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;

    fn mount(host: &Path, lazy: bool) -> Mount {
        Mount {
            host: host.to_owned(),
            guest: "/data".to_owned(),
            read_only: true,
            quota: None,
            lazy,
        }
    }

    #[test]
    fn a_lazy_one_takes_a_handle_when_it_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let all = Arc::new(Semaphore::new(1));
        let pod = Arc::new(PodFiles::of(all.clone()));
        let lazy = Mounts::open(&[mount(dir.path(), true)], &pod).unwrap();
        assert_eq!(all.available_permits(), 1);
        for _ in 0..2 {
            assert!(lazy.iter().all(|mount| mount.is_ok()));
            assert_eq!(all.available_permits(), 0);
        }
        // The next ones find that there is none left, at once or later.
        let refused = Mounts::open(&[mount(dir.path(), false)], &pod)
            .err()
            .unwrap()
            .to_string();
        assert!(refused.contains("/data") && refused.contains("ulimit -n"), "{refused}");
        let late = Mounts::open(&[mount(dir.path(), true)], &pod).unwrap();
        assert!(late.iter().all(|mount| mount.is_err()));
        drop(lazy);
        assert!(late.iter().all(|mount| mount.is_ok()));
    }

    #[test]
    fn what_is_no_directory_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        for (host, lazy) in [(&file, true), (&file, false), (&dir.path().join("absent"), true)] {
            assert!(
                Mounts::open(&[mount(host, lazy)], &Arc::default()).is_err(),
                "{host:?} {lazy}"
            );
        }
    }
}
