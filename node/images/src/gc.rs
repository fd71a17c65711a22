//! What the store may forget: images that nobody uses when the disk fills, and content that no name leads to.
//!
//! A container that was started from an image holds a shared lock on a file of the image's name below `in-use`, and so does every
//! other process that works with the same directory; whoever wants to remove the image needs that lock for itself. Locks end
//! with their process, so a crash leaves none. The file's time says when the image was used last.

use crate::error::ImageError;
use crate::layout;
use crate::reference::Reference;
use crate::store::{Image, ImageStore};
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Content without a name is left alone for this long: a pull may be about to name it. The largest image that a node takes needs
/// less on a slow line.
const GRACE: Duration = Duration::from_secs(3600);

/// An image that was loaded, pulled or used so lately is left alone, as by the kubelet: a pod may be about to start from it.
const LEAST_AGE: Duration = Duration::from_secs(120);

/// The disk may be filled to the first before images are removed, and they are removed until it is filled to the second. The
/// numbers are the kubelet's.
pub const HIGH_PERCENT: u8 = 85;
/// See [`HIGH_PERCENT`].
pub const LOW_PERCENT: u8 = 80;

/// When images are removed that nobody uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Percent of the disk above which.
    pub high_percent: u8,
    /// Percent of the disk down to which.
    pub low_percent: u8,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            high_percent: HIGH_PERCENT,
            low_percent: LOW_PERCENT,
        }
    }
}

/// How full a disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Its size in bytes.
    pub capacity: u64,
    /// Bytes that this user may still write.
    pub available: u64,
}

impl Disk {
    /// The disk that a directory is on; none where the system does not say.
    #[must_use]
    pub fn of(dir: &Path) -> Option<Self> {
        #[cfg(unix)]
        {
            let found = rustix::fs::statvfs(dir).ok()?;
            Some(Self {
                capacity: found.f_blocks.saturating_mul(found.f_frsize),
                available: found.f_bavail.saturating_mul(found.f_frsize),
            })
        }
        #[cfg(not(unix))]
        {
            let _ = dir;
            None
        }
    }

    /// How many bytes are to be freed.
    fn wanted(&self, thresholds: &Thresholds) -> u64 {
        let percent = |percent: u8| (u128::from(self.capacity) * u128::from(percent.min(100)) / 100) as u64;
        let used = self.capacity.saturating_sub(self.available);
        match used > percent(thresholds.high_percent) {
            true => used.saturating_sub(percent(thresholds.low_percent)),
            false => 0,
        }
    }
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Freed {
    /// The names of the images.
    pub images: Vec<String>,
    /// Bytes of all that was removed.
    pub bytes: u64,
}

/// Keeps an image from being removed until it is dropped. Images that have no content in the store need nothing.
#[derive(Debug, Clone, Default)]
pub struct Hold {
    _lock: Option<Arc<File>>,
}

impl ImageStore {
    /// Marks an image as used, from now until the hold is dropped.
    ///
    /// # Errors
    /// When the mark cannot be written, or the image has just been removed.
    pub fn hold(&self, image: &Image) -> Result<Hold, ImageError> {
        if self.layout().blob_path(&image.id).is_none_or(|path| !path.exists()) {
            return Ok(Hold::default());
        }
        let mut holds = self.holds().lock();
        holds.retain(|_, hold| hold.strong_count() > 0);
        if let Some(hold) = holds.get(&*image.id).and_then(std::sync::Weak::upgrade) {
            let _ = hold.set_modified(SystemTime::now());
            return Ok(Hold { _lock: Some(hold) });
        }
        let path = self.mark(&image.id);
        let io = |source| ImageError::Io {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(self.marks()).map_err(io)?;
        let file = File::options().create(true).append(true).open(&path).map_err(io)?;
        file.lock_shared().map_err(io)?;
        let _ = file.set_modified(SystemTime::now());
        let hold = Arc::new(file);
        holds.insert(image.id.to_string(), Arc::downgrade(&hold));
        Ok(Hold { _lock: Some(hold) })
    }

    /// Removes content that no name leads to; with `all`, images that nobody uses as well. Built-in images stay.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn prune(&self, all: bool) -> Result<Freed, ImageError> {
        let wanted = if all { u64::MAX } else { 0 };
        self.free(wanted, SystemTime::now(), |_, _| true)
    }

    /// Removes images of registries that nobody has used lately, the longest unused first, as far as the disk is too full; and
    /// content that no name leads to. What a user built or loaded under a name without a registry stays: nobody could get
    /// it again.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn collect(&self, disk: Option<Disk>, thresholds: &Thresholds) -> Result<Freed, ImageError> {
        let wanted = disk.map_or(0, |disk| disk.wanted(thresholds));
        self.collect_at(wanted, SystemTime::now())
    }

    fn collect_at(&self, wanted: u64, now: SystemTime) -> Result<Freed, ImageError> {
        let pulled = |name: &str| matches!(Reference::parse(name), Ok(Reference::Registry { .. }));
        self.free(wanted, now, |last_used, names| {
            let rests = now.duration_since(last_used).is_ok_and(|age| age >= LEAST_AGE);
            rests && names.iter().all(|name| pulled(name))
        })
    }

    /// The disk that the store is on.
    #[must_use]
    pub fn disk(&self) -> Option<Disk> {
        Disk::of(self.layout().dir())
    }

    /// Of the images that nobody uses only those go that `may_go` says, by when they were used last and their names.
    fn free(
        &self,
        wanted: u64,
        now: SystemTime,
        may_go: impl Fn(SystemTime, &[String]) -> bool,
    ) -> Result<Freed, ImageError> {
        let io = |source| self.io(source);
        let mut freed = self.remove_unnamed(now).map_err(io)?;
        if freed.bytes >= wanted {
            return Ok(freed);
        }
        let index = self.layout().read_index().map_err(io)?;
        let ids: BTreeSet<&str> = index.iter().map(|(_, manifest)| manifest.digest.as_str()).collect();
        let mut ids: Vec<(SystemTime, &str)> = ids.into_iter().map(|id| (self.last_used(id), id)).collect();
        ids.sort();
        for (last_used, id) in ids {
            if freed.bytes >= wanted {
                break;
            }
            let names: Vec<String> = index
                .iter()
                .filter(|(_, manifest)| manifest.digest == id)
                .map(|(name, _)| name.to_owned())
                .collect();
            if !may_go(last_used, &names) {
                continue;
            }
            let Some(_alone) = self.alone(id).map_err(io)? else {
                continue;
            };
            let before = self.size();
            for name in names {
                match self.remove(&name) {
                    Ok(()) => freed.images.push(name),
                    // Somebody else removed it meanwhile.
                    Err(ImageError::NotFound { .. } | ImageError::NotPulled { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            freed.bytes = freed.bytes.saturating_add(before.saturating_sub(self.size()));
            let _ = fs::remove_file(self.mark(id));
        }
        Ok(freed)
    }

    /// The lock that says that nobody uses an image; none when somebody does.
    fn alone(&self, id: &str) -> io::Result<Option<File>> {
        fs::create_dir_all(self.marks())?;
        let file = File::options().create(true).append(true).open(self.mark(id))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn last_used(&self, id: &str) -> SystemTime {
        let time = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
        let pulled = self.layout().blob_path(id).and_then(|path| time(&path));
        time(&self.mark(id)).max(pulled).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Removes what no name leads to and what was left unfinished, when it is old enough.
    fn remove_unnamed(&self, now: SystemTime) -> io::Result<Freed> {
        let old = |path: &Path| {
            let modified = fs::symlink_metadata(path).and_then(|found| found.modified());
            modified.is_ok_and(|time| now.duration_since(time).is_ok_and(|age| age > GRACE))
        };
        let index = self.layout().read_index()?;
        let named = self.blobs_of(index.iter().map(|(_, manifest)| manifest.digest.as_str()));
        let mut freed = Freed::default();
        let dir = self.layout().dir();
        for (place, blobs) in [
            (dir.join("blobs").join("sha256"), true),
            (dir.join("files"), true),
            (dir.to_owned(), false),
        ] {
            for entry in fs::read_dir(&place).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let unwanted = match blobs {
                    true => !named.contains(&format!("sha256:{name}")),
                    false => name.starts_with(layout::TEMPORARY),
                };
                let path = entry.path();
                if unwanted && old(&path) {
                    freed.bytes = freed.bytes.saturating_add(size_of(&path));
                    match path.is_dir() {
                        true => fs::remove_dir_all(&path)?,
                        false => fs::remove_file(&path)?,
                    }
                }
            }
        }
        Ok(freed)
    }

    /// Bytes that the store has on the disk.
    fn size(&self) -> u64 {
        let dir = self.layout().dir();
        size_of(&dir.join("blobs")).saturating_add(size_of(&dir.join("files")))
    }

    fn marks(&self) -> PathBuf {
        self.layout().dir().join("in-use")
    }

    fn mark(&self, id: &str) -> PathBuf {
        self.marks().join(id.trim_start_matches("sha256:"))
    }
}

/// Bytes of all files below a path. Links are not followed.
fn size_of(path: &Path) -> u64 {
    let Ok(found) = fs::symlink_metadata(path) else {
        return 0;
    };
    if !found.is_dir() {
        return found.len();
    }
    let inside = fs::read_dir(path).into_iter().flatten().flatten();
    inside.map(|entry| size_of(&entry.path())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ImageConfig;

    fn module(letter: u8, size: usize) -> Vec<u8> {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        module.resize(size, letter);
        module
    }

    fn full(capacity: u64) -> Option<Disk> {
        // 90 percent.
        Some(Disk {
            capacity,
            available: capacity / 10,
        })
    }

    fn names(store: &ImageStore) -> Vec<String> {
        let stored = store.list().unwrap().into_iter().filter(|image| !image.builtin);
        stored.map(|image| image.reference).collect()
    }

    #[test]
    fn the_longest_unused_goes_first_and_nothing_that_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path()).unwrap();
        let day = |day: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * day);
        for (letter, name) in [
            (1, "localhost/used"),
            (2, "localhost/old"),
            (3, "localhost/new"),
            (4, "own"),
        ] {
            let image = store
                .load(name, &module(letter, 10_000), &ImageConfig::default())
                .unwrap();
            let path = store.layout().blob_path(&image.id).unwrap();
            File::options()
                .append(true)
                .open(path)
                .unwrap()
                .set_modified(day(letter.into()))
                .unwrap();
        }
        let used = store.hold(&store.resolve("localhost/used").unwrap()).unwrap();
        let thresholds = Thresholds::default();
        let fine = Disk {
            capacity: 1000,
            available: 150,
        };
        assert_eq!(store.collect(Some(fine), &thresholds).unwrap(), Freed::default());
        assert_eq!(store.collect(None, &thresholds).unwrap(), Freed::default());

        // Another process, as far as locks go: another store on the directory.
        let other = ImageStore::open(dir.path()).unwrap();
        let freed = other.collect(full(60_000), &thresholds).unwrap();
        assert_eq!(freed.images, ["localhost/old:latest"]);
        assert!(freed.bytes >= 10_000, "{freed:?}");
        assert_eq!(
            names(&store),
            ["localhost/new:latest", "localhost/used:latest", "own:latest"]
        );

        // What has just come is left alone, and so is what could not be pulled again, however full the disk.
        let image = store
            .load("localhost/latest", &module(5, 10_000), &ImageConfig::default())
            .unwrap();
        assert_eq!(
            other.collect_at(u64::MAX, SystemTime::now()).unwrap().images,
            ["localhost/new:latest"]
        );
        let later = SystemTime::now() + LEAST_AGE;
        assert_eq!(other.collect_at(u64::MAX, later).unwrap().images, [&*image.reference]);

        assert_eq!(other.prune(true).unwrap().images, ["own:latest"]);
        assert_eq!(names(&store), ["localhost/used:latest"]);
        drop(used);
        assert_eq!(store.prune(true).unwrap().images, ["localhost/used:latest"]);
        assert!(store.resolve("hello").is_ok());
    }

    #[test]
    fn content_without_a_name_goes_when_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path()).unwrap();
        store.load("app", &module(1, 100), &ImageConfig::default()).unwrap();
        let blob = store.layout().write_blob(b"nobody's").unwrap();
        let blob = store.layout().blob_path(&blob).unwrap();
        let unfinished = store.layout().temporary();
        fs::write(&unfinished, "x").unwrap();
        assert_eq!(store.prune(false).unwrap(), Freed::default());
        let later = SystemTime::now() + GRACE + Duration::from_secs(60);
        assert_eq!(store.free(0, later, |_, _| true).unwrap().bytes, 9);
        assert!(!blob.exists() && !unfinished.exists());
        store.resolve("app").unwrap().wasm().unwrap();
    }

    #[test]
    fn the_disk_of_a_directory_is_told() {
        let dir = tempfile::tempdir().unwrap();
        if cfg!(unix) {
            let disk = Disk::of(dir.path()).unwrap();
            assert!(disk.capacity > 0 && disk.available <= disk.capacity);
        }
        let disk = Disk {
            capacity: 1000,
            available: 100,
        };
        assert_eq!(disk.wanted(&Thresholds::default()), 100);
    }
}
