//! Files that containers were started from by `file:///...`: watched, so that what a developer saves is what runs.
//!
//! A file's directory is watched and not the file, because compilers and editors put a new file in its place. Whoever holds a
//! file is woken by whatever happens beside it, and looks for himself.

use crate::directory::Directories;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// The files under watch. Nothing is watched before the first is held.
#[derive(Default)]
pub struct ImageFiles(Mutex<Option<Watching>>);

struct Watching {
    directories: Arc<Directories>,
    holders: Arc<Mutex<HashMap<PathBuf, Vec<Weak<Notify>>>>>,
    /// Ends with the node.
    _task: AbortOnDropHandle<()>,
}

impl ImageFiles {
    /// Wakes `holder` from now on when the file may have changed.
    ///
    /// # Errors
    /// When the system cannot watch the directory.
    pub fn hold(&self, file: &Path, holder: &Arc<Notify>) -> io::Result<()> {
        let Some(dir) = file.parent() else { return Ok(()) };
        let mut watching = self.0.lock();
        let watching = match &mut *watching {
            Some(watching) => watching,
            none => none.insert(Watching::start()?),
        };
        watching.directories.add(dir)?;
        let mut holders = watching.holders.lock();
        let present = holders.entry(dir.to_owned()).or_default();
        present.retain(|holder| holder.strong_count() > 0);
        let own = Arc::downgrade(holder);
        if !present.iter().any(|known| known.ptr_eq(&own)) {
            present.push(own);
        }
        Ok(())
    }
}

impl Watching {
    fn start() -> io::Result<Self> {
        let directories = Arc::new(Directories::new()?);
        let holders: Arc<Mutex<HashMap<PathBuf, Vec<Weak<Notify>>>>> = Arc::default();
        let (changing, waiting) = (directories.clone(), holders.clone());
        let task = tokio::spawn(async move {
            loop {
                let changed = match changing.changed().await {
                    Ok(changed) => changed,
                    Err(error) => {
                        tracing::warn!(%error, "changes of images' files are not seen any more");
                        return;
                    }
                };
                let waiting = waiting.lock();
                let beside = changed.iter().filter_map(|dir| waiting.get(dir)).flatten();
                beside.filter_map(Weak::upgrade).for_each(|holder| holder.notify_one());
            }
        });
        Ok(Self {
            directories,
            holders,
            _task: AbortOnDropHandle::new(task),
        })
    }
}
