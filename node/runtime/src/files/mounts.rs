//! Mounts: host directories as preopened directories of the guest.
//!
//! The guest's file system is nothing but its mounts. Paths are resolved below a mount's directory and never leave it, symbolic
//! links included; that is the WASI library's work, and the reason why only directories can be mounted. They are opened once for
//! a container, and its instances share the handles.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmtime_wasi::filesystem::Dir;
use wasmtime_wasi::{FsPerms, OpenMode};

use super::quota::Quota;
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
pub(crate) struct Mounts(Vec<Opened>);

/// One of them.
pub(super) struct Opened {
    pub(super) dir: Dir,
    pub(super) guest: String,
    pub(super) quota: Option<Arc<Quota>>,
}

impl Mounts {
    /// Opens the directories for a container.
    pub(crate) fn open(mounts: &[Mount]) -> Result<Self, MountError> {
        mounts.iter().map(Opened::new).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Opened> {
        self.0.iter()
    }
}

impl Opened {
    fn new(mount: &Mount) -> Result<Self, MountError> {
        let (permissions, mode) = match mount.read_only {
            true => (FsPerms::ReadOnly, OpenMode::READ),
            false => (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE),
        };
        let directory = open(&mount.host).map_err(|error| MountError {
            host: mount.host.clone(),
            guest: mount.guest.clone(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            dir: Dir::new(directory, permissions, mode, false),
            guest: mount.guest.clone(),
            quota: mount.quota.clone(),
        })
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
