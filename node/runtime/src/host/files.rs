//! Mounts: host directories as preopened directories of the guest.
//!
//! The guest's file system is nothing but its mounts. Paths are resolved below a mount's directory and never leave it, symbolic
//! links included; that is the WASI library's work, and the reason why only directories can be mounted.

use std::path::PathBuf;

use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

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

/// Opens the directories for a guest.
pub(crate) fn mount(wasi: &mut WasiCtxBuilder, mounts: &[Mount]) -> Result<(), MountError> {
    for mount in mounts {
        let permissions = if mount.read_only {
            FsPerms::ReadOnly
        } else {
            FsPerms::ReadWrite
        };
        wasi.preopened_dir(&mount.host, &mount.guest, permissions)
            .map_err(|error| MountError {
                host: mount.host.clone(),
                guest: mount.guest.clone(),
                reason: error.root_cause().to_string(),
            })?;
    }
    Ok(())
}
