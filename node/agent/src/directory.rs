//! Tells in which directories something changed: a file came, went, was replaced or written to its end.
//!
//! On Linux the kernel tells. Where it does not, the directories' holders are told once a second and look for themselves.

use std::io;
use std::path::PathBuf;

pub use system::Directories;

#[cfg(target_os = "linux")]
mod system {
    use super::{PathBuf, io};
    use parking_lot::Mutex;
    use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
    use std::collections::{BTreeSet, HashMap};
    use std::fs::File;
    use std::path::Path;
    use tokio::net::unix::pipe::Receiver;

    /// What happened is read in pieces of this size: a few dozen events.
    const BUFFER_BYTES: usize = 4096;

    /// What stands before the name in an event: watch, mask, cookie, and the length of the name.
    const HEAD_BYTES: usize = 16;

    /// Directories under watch.
    pub struct Directories {
        /// The kernel's end of it; a descriptor from which events are read as from a pipe.
        events: Receiver,
        /// The same, to add to.
        control: File,
        watched: Mutex<HashMap<i32, PathBuf>>,
    }

    impl Directories {
        /// None yet.
        ///
        /// # Errors
        /// When the system has no more watchers, or outside of a tokio runtime.
        pub fn new() -> io::Result<Self> {
            let events = File::from(init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?);
            Ok(Self {
                control: events.try_clone()?,
                events: Receiver::from_file_unchecked(events)?,
                watched: Mutex::default(),
            })
        }

        /// Watches a directory too; twice is as good as once.
        ///
        /// # Errors
        /// When it is none, or there are too many.
        pub fn add(&self, dir: &Path) -> io::Result<()> {
            let what = WatchFlags::CLOSE_WRITE
                | WatchFlags::CREATE
                | WatchFlags::DELETE
                | WatchFlags::MOVED_FROM
                | WatchFlags::MOVED_TO;
            let watch = add_watch(&self.control, dir, what | WatchFlags::ONLYDIR)?;
            self.watched.lock().insert(watch, dir.to_owned());
            Ok(())
        }

        /// Waits for changes, and says where they were.
        ///
        /// # Errors
        /// When the system does not tell any more.
        pub async fn changed(&self) -> io::Result<Vec<PathBuf>> {
            let mut buffer = [0; BUFFER_BYTES];
            loop {
                self.events.readable().await?;
                match self.events.try_read(&mut buffer) {
                    Ok(length) => {
                        let watched = self.watched.lock();
                        let watches = watches(buffer.get(..length).unwrap_or_default());
                        return Ok(watches.iter().filter_map(|watch| watched.get(watch).cloned()).collect());
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Which watches the events are of.
    fn watches(mut events: &[u8]) -> BTreeSet<i32> {
        let mut found = BTreeSet::new();
        while let Some((head, rest)) = events.split_at_checked(HEAD_BYTES) {
            let number = |at: usize| head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            let (Some(watch), Some(length)) = (number(0), number(12)) else {
                break;
            };
            found.insert(i32::from_ne_bytes(watch));
            let length = usize::try_from(u32::from_ne_bytes(length)).unwrap_or(usize::MAX);
            events = rest.get(length..).unwrap_or_default();
        }
        found
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{PathBuf, io};
    use parking_lot::Mutex;
    use std::path::Path;
    use std::time::Duration;

    /// A developer who saves a file does not notice a second.
    const PAUSE: Duration = Duration::from_secs(1);

    /// Directories under watch.
    #[derive(Default)]
    pub struct Directories {
        watched: Mutex<Vec<PathBuf>>,
    }

    impl Directories {
        /// None yet.
        ///
        /// # Errors
        /// Never here.
        pub fn new() -> io::Result<Self> {
            Ok(Self::default())
        }

        /// Watches a directory too; twice is as good as once.
        ///
        /// # Errors
        /// When it is none.
        pub fn add(&self, dir: &Path) -> io::Result<()> {
            std::fs::read_dir(dir)?;
            let mut watched = self.watched.lock();
            if !watched.iter().any(|known| known == dir) {
                watched.push(dir.to_owned());
            }
            Ok(())
        }

        /// Waits for the next moment to look.
        ///
        /// # Errors
        /// Never here.
        pub async fn changed(&self) -> io::Result<Vec<PathBuf>> {
            tokio::time::sleep(PAUSE).await;
            Ok(self.watched.lock().clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_file_that_is_replaced_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let directories = Directories::new().unwrap();
        directories.add(dir.path()).unwrap();
        directories.add(dir.path()).unwrap();
        std::fs::write(dir.path().join("next"), "x").unwrap();
        std::fs::rename(dir.path().join("next"), dir.path().join("file")).unwrap();
        let changed = tokio::time::timeout(Duration::from_secs(30), directories.changed());
        assert_eq!(changed.await.expect("a change is told").unwrap(), [dir.path()]);
        assert!(directories.add(&dir.path().join("file")).is_err());
    }
}
