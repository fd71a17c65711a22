//! The data directory: where a cluster keeps its state, and the lock that keeps a second process out.
//!
//! Layout: `pki/ store/ images/ cache/ pods/ logs/ processes/ kubeconfig lock`. The directory is private to the user, for it holds keys and Secrets.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use etcetera::BaseStrategy;
use fs4::FileExt;

use crate::{args::DataDirArgs, image};

/// A data directory that this process owns for as long as the value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Held open: the lock goes with the file, also when the process is killed.
    _lock: File,
    /// Present for a temporary directory, which goes with the value.
    _temporary: Option<tempfile::TempDir>,
}

impl DataDir {
    /// Opens (and creates) a directory and takes its lock.
    ///
    /// # Errors
    /// When the directory cannot be made or another process holds it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        Self::lock(path.to_path_buf(), None)
    }

    /// The directory that the arguments mean.
    ///
    /// # Errors
    /// As [`DataDir::open`] and [`DataDir::ephemeral`].
    pub fn of(args: &DataDirArgs, ephemeral: bool) -> anyhow::Result<Self> {
        match ephemeral {
            true => Self::ephemeral(),
            false => Self::open(&image::data_path(args)?),
        }
    }

    /// A fresh directory that is removed with the value.
    ///
    /// # Errors
    /// When the system's temporary directory cannot be written.
    pub fn ephemeral() -> anyhow::Result<Self> {
        let temporary = tempfile::Builder::new()
            .prefix("coracle-")
            .tempdir()
            .context("cannot make a temporary data directory")?;
        Self::lock(temporary.path().to_path_buf(), Some(temporary))
    }

    fn lock(path: PathBuf, temporary: Option<tempfile::TempDir>) -> anyhow::Result<Self> {
        create_private(&path).with_context(|| {
            format!(
                "cannot create the data directory {}; choose another with --data-dir",
                path.display()
            )
        })?;
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&lock_path)
            .with_context(|| {
                format!(
                    "cannot open {}; choose another data directory with --data-dir",
                    lock_path.display()
                )
            })?;
        if FileExt::try_lock(&lock).is_err() {
            let mut holder = String::new();
            lock.read_to_string(&mut holder).ok();
            let holder = holder.trim();
            let who = if holder.is_empty() {
                "another coracle".to_owned()
            } else {
                format!("another coracle (process {holder})")
            };
            bail!(
                "the data directory {} is in use by {who}: stop that one, or choose another with --data-dir or --ephemeral",
                path.display()
            );
        }
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Self {
            path,
            _lock: lock,
            _temporary: temporary,
        })
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A part of the directory.
    #[must_use]
    pub fn join(&self, part: &str) -> PathBuf {
        self.path.join(part)
    }
}

/// The data directory that is used when none is named.
///
/// # Errors
/// When the user's home directory is unknown.
pub fn default_path() -> anyhow::Result<PathBuf> {
    let base = etcetera::choose_base_strategy()
        .context("your home directory is unknown: name a data directory with --data-dir")?;
    Ok(base.data_dir().join("coracle"))
}

#[cfg(unix)]
pub(crate) fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
pub(crate) fn create_private(path: &Path) -> std::io::Result<()> {
    fs::create_dir_all(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_use_is_refused_with_the_holder_and_a_way_out() {
        let root = tempfile::tempdir().unwrap();
        let first = DataDir::open(root.path()).unwrap();
        let refusal = DataDir::open(root.path()).unwrap_err().to_string();
        assert!(refusal.contains("in use"), "{refusal}");
        assert!(refusal.contains(&std::process::id().to_string()), "{refusal}");
        assert!(refusal.contains("--data-dir"), "{refusal}");
        drop(first);
        DataDir::open(root.path()).unwrap();
    }

    #[test]
    fn an_ephemeral_directory_goes_with_its_value() {
        let dir = DataDir::ephemeral().unwrap();
        let path = dir.path().to_path_buf();
        assert!(path.exists());
        drop(dir);
        assert!(!path.exists());
    }
}
