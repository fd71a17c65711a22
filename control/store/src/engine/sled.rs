//! The embedded engine: a sled database in a directory.
//!
//! What we rely on, and what we do not:
//! - One `insert` is atomic, and after a crash sled recovers a prefix of its log. A transaction
//!   is one insert into the tree `log`, so it is whole or absent, and what precedes it is there.
//!   sled's own batches are not needed.
//! - `flush` waits until sled has written its buffers. It ends in `sync_file_range`, which asks
//!   for neither the file's size nor the disk's cache, so we sync the file ourselves as well.
//! - sled may panic on files that it did not write. Every call is guarded; a panic becomes an error.
//! - Garbage in place of the file can look like an empty database to sled. A marker file beside
//!   it, written once, tells an empty store from a lost one.
//!
//! Trees: `base` holds records by key, `log` entries by big-endian revision, and the default
//! tree the floor. Everything is read once, at open; so sled's cache is kept small.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sled::{Db, Tree};

use super::{Engine, EngineError, FoldedRecord, Loaded, LogEntry, OpenError, codec};
use crate::key::Revision;

/// Keeps the log and the base in a directory.
#[derive(Debug)]
pub struct SledEngine {
    path: PathBuf,
    open: Mutex<Option<Trees>>,
}

#[derive(Debug)]
struct Trees {
    // Dropped first: they hold on to the database.
    base: Tree,
    log: Tree,
    db: Db,
    file: File,
}

/// Pages that are kept for the next insert into them; nothing is read through the cache but at open.
const CACHE_BYTES: u64 = 8 << 20;

/// sled's background thread rewrites half-empty segments this often. It also writes buffers,
/// which are empty then unless a commit is under way.
const HOUSEKEEPING_MILLIS: u64 = 5_000;

/// sled lets go of its lock a moment after the database is dropped, when its own threads have
/// finished. A store that is opened again in the same process must not fail for that.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// Between two tries for the lock. The lock has no event to wait for.
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// Says that a store was created here, and in which format.
const MARKER_FILE: &str = "format";
const FORMAT: &str = "coracle-store 1\n";
const FLOOR: &[u8] = b"floor";

impl SledEngine {
    /// Opens the store in a directory; creates both if need be. Fails if another process, or
    /// this one, has it open, and if its content is not a store of ours.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let directory = |error: std::io::Error| OpenError::Directory {
            path: path.into(),
            detail: error.to_string(),
        };
        std::fs::create_dir_all(path).map_err(directory)?;
        let marked = read_marker(path)?;
        let trees = open_when_unlocked(path)?;
        let floor = trees.db.get(FLOOR).map_err(|error| damaged(path, error.to_string()))?;
        if marked && floor.is_none() {
            return Err(damaged(path, "its database is empty".into()));
        }
        if !marked {
            trees.create(path)?;
        }
        Ok(Self {
            path: path.into(),
            open: Mutex::new(Some(trees)),
        })
    }

    /// Runs a function on the open database.
    fn with<T>(
        &self,
        what: &'static str,
        run: impl FnOnce(&Trees) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let open = self.open.lock();
        let trees = open.as_ref().ok_or(EngineError::Closed)?;
        // After a panic the store does not use the engine any more, so nobody sees a half-done state.
        catch_unwind(AssertUnwindSafe(|| run(trees))).unwrap_or_else(|_| {
            Err(EngineError::Damaged {
                what,
                detail: "sled gave up".into(),
            })
        })
    }
}

impl Engine for SledEngine {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn load(&self) -> Result<Loaded, EngineError> {
        self.with("the database", |trees| {
            let floor = trees.floor()?;
            let records = trees.records()?;
            let (folding, log) = trees
                .entries()?
                .into_iter()
                .partition(|entry: &LogEntry| entry.revision <= floor);
            let loaded = Loaded { floor, records, log };
            check_log(&loaded)?;
            trees.finish_compaction(loaded, folding)
        })
    }

    fn commit(&self, group: &[LogEntry]) -> Result<(), EngineError> {
        self.with("the log", |trees| {
            for entry in group {
                trees
                    .log
                    .insert(entry.revision.to_be_bytes(), codec::encode_entry(entry))
                    .map_err(write("the log"))?;
            }
            trees.sync("the log")
        })
    }

    fn compact(&self, floor: Revision, records: &[FoldedRecord]) -> Result<(), EngineError> {
        self.with("the base", |trees| {
            let old = trees.floor()?;
            // From here on a load does the rest, if we do not.
            trees
                .db
                .insert(FLOOR, &floor.to_le_bytes())
                .map_err(write("the floor"))?;
            for record in records {
                trees.fold(record)?;
            }
            // The base must be safe before the log that it came from goes.
            trees.sync("the base")?;
            for revision in old + 1..=floor {
                trees.log.remove(revision.to_be_bytes()).map_err(write("the log"))?;
            }
            Ok(())
        })
    }

    fn close(&self) {
        let Some(trees) = self.open.lock().take() else { return };
        // sled flushes when it is dropped; everything acknowledged is on the disk already.
        if catch_unwind(AssertUnwindSafe(|| drop(trees))).is_err() {
            tracing::warn!("sled did not shut down cleanly");
        }
    }
}

impl Drop for SledEngine {
    fn drop(&mut self) {
        self.close();
    }
}

impl Trees {
    /// Makes an empty database a store of ours. The marker comes last: a crash before it leaves
    /// a directory that the next start creates again.
    fn create(&self, path: &Path) -> Result<(), OpenError> {
        if !self
            .db
            .contains_key(FLOOR)
            .map_err(|error| damaged(path, error.to_string()))?
        {
            self.db
                .insert(FLOOR, &0_u64.to_le_bytes())
                .map_err(|error| damaged(path, error.to_string()))?;
        }
        let failed = |detail: String| OpenError::Directory {
            path: path.into(),
            detail,
        };
        self.sync("the floor").map_err(|error| failed(error.to_string()))?;
        let marker = path.join(MARKER_FILE);
        let written = std::fs::write(&marker, FORMAT).and_then(|()| File::open(&marker)?.sync_all());
        written.map_err(|error| failed(error.to_string()))
    }

    /// Waits until everything written so far survives a loss of power.
    fn sync(&self, what: &'static str) -> Result<(), EngineError> {
        self.db.flush().map_err(write(what))?;
        self.file.sync_data().map_err(|error| EngineError::Write {
            what,
            detail: error.to_string(),
        })
    }

    fn floor(&self) -> Result<Revision, EngineError> {
        let what = "the floor";
        let bytes = self.db.get(FLOOR).map_err(read(what))?;
        let bytes: Option<[u8; 8]> = bytes.and_then(|bytes| bytes.as_ref().try_into().ok());
        let missing = || EngineError::Damaged {
            what,
            detail: "it is missing".into(),
        };
        bytes.map(u64::from_le_bytes).ok_or_else(missing)
    }

    fn records(&self) -> Result<Vec<super::StoredRecord>, EngineError> {
        let what = "the base";
        let decode = |(key, value): (sled::IVec, sled::IVec)| {
            codec::decode_record(&key, &value).map_err(|error| EngineError::Damaged {
                what,
                detail: error.to_string(),
            })
        };
        self.base
            .iter()
            .map(|pair| pair.map_err(read(what)).and_then(decode))
            .collect()
    }

    fn entries(&self) -> Result<Vec<LogEntry>, EngineError> {
        let what = "the log";
        let decode = |(key, value): (sled::IVec, sled::IVec)| {
            let damaged = |detail: String| EngineError::Damaged { what, detail };
            let key: [u8; 8] = key
                .as_ref()
                .try_into()
                .map_err(|_| damaged("an entry has no revision".into()))?;
            let revision = Revision::from_be_bytes(key);
            codec::decode_entry(revision, &value).map_err(|error| damaged(format!("entry {revision}: {error}")))
        };
        self.log
            .iter()
            .map(|pair| pair.map_err(read(what)).and_then(decode))
            .collect()
    }

    fn fold(&self, record: &FoldedRecord) -> Result<(), EngineError> {
        let key = record.key.as_str();
        let done = match &record.state {
            Some((revision, json)) => self.base.insert(key, codec::encode_record(*revision, json)),
            None => self.base.remove(key),
        };
        done.map(drop).map_err(write("the base"))
    }

    /// Does the rest of a compaction that a crash interrupted: entries up to the floor that are
    /// still in the log go to the base. Those that are gone were in the base before.
    fn finish_compaction(&self, mut loaded: Loaded, folding: Vec<LogEntry>) -> Result<Loaded, EngineError> {
        if folding.is_empty() {
            return Ok(loaded);
        }
        for entry in &folding {
            for change in &entry.changes {
                let put = change.kind == crate::record::EventKind::Put;
                let state = put.then(|| (entry.revision, change.json.clone()));
                self.fold(&FoldedRecord {
                    key: change.key.clone(),
                    state,
                })?;
            }
        }
        self.sync("the base")?;
        for entry in &folding {
            self.log
                .remove(entry.revision.to_be_bytes())
                .map_err(write("the log"))?;
        }
        loaded.records = self.records()?;
        Ok(loaded)
    }
}

/// A log without gaps that starts after the base, and a base that is not ahead of its floor:
/// anything else means that something was lost.
fn check_log(loaded: &Loaded) -> Result<(), EngineError> {
    for (entry, expected) in loaded.log.iter().zip(loaded.floor + 1..) {
        if entry.revision != expected {
            let detail = format!("revision {expected} is missing before {}", entry.revision);
            return Err(EngineError::Damaged {
                what: "the log",
                detail,
            });
        }
    }
    match loaded.records.iter().find(|record| record.revision > loaded.floor) {
        None => Ok(()),
        Some(record) => {
            let detail = format!("{} is newer than revision {}", record.key, loaded.floor);
            Err(EngineError::Damaged {
                what: "the base",
                detail,
            })
        }
    }
}

/// Whether the directory's marker is there; an error if it is of another format.
fn read_marker(path: &Path) -> Result<bool, OpenError> {
    match std::fs::read_to_string(path.join(MARKER_FILE)) {
        Ok(text) if text == FORMAT => Ok(true),
        Ok(text) => Err(damaged(path, format!("its format is {:?}", text.trim_end()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(damaged(path, "its format is unreadable".into()))
        }
        Err(error) => Err(OpenError::Directory {
            path: path.into(),
            detail: error.to_string(),
        }),
    }
}

fn open_when_unlocked(path: &Path) -> Result<Trees, OpenError> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match open_trees(path) {
            Err(OpenError::InUse { .. }) if Instant::now() < deadline => std::thread::sleep(LOCK_RETRY),
            result => return result,
        }
    }
}

fn open_trees(path: &Path) -> Result<Trees, OpenError> {
    let open = || {
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES);
        let db = config.flush_every_ms(Some(HOUSEKEEPING_MILLIS)).open()?;
        let file = File::options().read(true).write(true).open(path.join("db"))?;
        Ok(Trees {
            base: db.open_tree("base")?,
            log: db.open_tree("log")?,
            db,
            file,
        })
    };
    let opened: Result<Trees, sled::Error> =
        catch_unwind(open).map_err(|_| damaged(path, "sled gave up while reading it".into()))?;
    opened.map_err(|error| open_error(path, error))
}

/// What the lock's failure is called in sled's message; there is no variant for it.
const LOCK_MESSAGE: &str = "could not acquire lock";

fn open_error(path: &Path, error: sled::Error) -> OpenError {
    let path: PathBuf = path.into();
    match error {
        sled::Error::Io(error) if error.to_string().starts_with(LOCK_MESSAGE) => OpenError::InUse { path },
        sled::Error::Io(error) => OpenError::Directory {
            path,
            detail: error.to_string(),
        },
        other => OpenError::Damaged {
            path,
            detail: other.to_string(),
        },
    }
}

fn damaged(path: &Path, detail: String) -> OpenError {
    OpenError::Damaged {
        path: path.into(),
        detail,
    }
}

fn read(what: &'static str) -> impl Fn(sled::Error) -> EngineError {
    move |error| EngineError::Read {
        what,
        detail: error.to_string(),
    }
}

fn write(what: &'static str) -> impl Fn(sled::Error) -> EngineError {
    move |error| EngineError::Write {
        what,
        detail: error.to_string(),
    }
}
