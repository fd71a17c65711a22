//! The accounts of directories, so that all who mount one pay from the same.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::quota::Quota;

/// Accounts by directory. One lives as long as somebody holds it; the next is made by walking through the directory again.
#[derive(Default)]
pub struct Accounts(Mutex<HashMap<PathBuf, Slot>>);

/// Held while the directory is walked through: others wait, and find what was found.
type Slot = Arc<Mutex<Weak<Quota>>>;

impl Accounts {
    /// The account of a directory, which may hold so many bytes from now on. May walk through it: call it where it may block.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn of(&self, directory: &Path, limit_bytes: u64, within: Option<Arc<Quota>>) -> io::Result<Arc<Quota>> {
        let directory = std::fs::canonicalize(directory)?;
        let slot = self.slot(&directory);
        let mut place = slot.lock();
        if let Some(quota) = place.upgrade() {
            quota.resize(limit_bytes);
            return Ok(quota);
        }
        let quota = Quota::of_directory(&directory, limit_bytes, within)?;
        *place = Arc::downgrade(&quota);
        Ok(quota)
    }

    fn slot(&self, directory: &Path) -> Slot {
        let mut all = self.0.lock();
        // One that somebody walks through is not to be had now, and stays.
        all.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.lock().strong_count() > 0);
        all.entry(directory.to_owned()).or_default().clone()
    }
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Accounts").field(&self.0.lock().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_directory_has_one_account_while_it_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = Accounts::default();
        let first = accounts.of(dir.path(), 4096, None).unwrap();
        let second = accounts.of(&dir.path().join("."), 8192, None).unwrap();
        assert_eq!((&first, first.usage().limit_bytes), (&second, 8192));
        drop((first, second));
        std::fs::write(dir.path().join("late"), "x").unwrap();
        assert_eq!(accounts.of(dir.path(), 8192, None).unwrap().usage().names, 1);
        assert!(accounts.of(&dir.path().join("none"), 1, None).is_err());
    }
}
