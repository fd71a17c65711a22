//! The embedded engine: a directory with the log in files of its own and the base in a sled database.
//!
//! The log is what a write waits for, so it is made of the least that durability needs, see [`super::journal`]. The base
//! is written behind, when the history forgets; sled keeps it in order of keys.
//!
//! What we rely on in sled, and what we do not:
//! - One `insert` is atomic, and after a crash sled recovers a prefix of what was inserted. Its batches are not needed:
//!   the log has whatever a compaction did not get done.
//! - `flush` waits until sled has written its buffers. It ends in `sync_file_range`, which asks
//!   for neither the file's size nor the disk's cache, so we sync the file ourselves as well.
//! - sled may panic on files that it did not write. Every call is guarded; a panic becomes an error.
//! - Garbage in place of the file can look like an empty database to sled. A marker file beside
//!   it, written once, tells an empty store from a lost one.
//!
//! The tree `base` holds records by key, the default tree the floor and how far the base has come to it. Everything is
//! read once, at open; so sled's cache is kept small.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sled::{Db, Tree};

use super::journal::Journal;
use super::{Engine, EngineError, FoldedRecord, Loaded, LogEntry, OpenError, codec};
use crate::key::Revision;
use crate::record::EventKind;

/// Keeps the log and the base in a directory.
#[derive(Debug)]
pub struct SledEngine {
    path: PathBuf,
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    log: Journal,
    base: Base,
}

#[derive(Debug)]
struct Base {
    // Dropped first: it holds on to the database.
    records: Tree,
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
const FORMAT: &str = "coracle-store 2\n";
const LOG_DIRECTORY: &str = "log";
/// The revision that the base is to have.
const FLOOR: &[u8] = b"floor";
/// The revision that it has; behind the floor only when a compaction was interrupted.
const FOLDED: &[u8] = b"folded";

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
        let base = open_when_unlocked(path)?;
        let floor = base.db.get(FLOOR).map_err(|error| damaged(path, error.to_string()))?;
        if marked && floor.is_none() {
            return Err(damaged(path, "its database is empty".into()));
        }
        let log = path.join(LOG_DIRECTORY);
        let log = match marked {
            true => Journal::open(log).map_err(|error| damaged(path, format!("its log: {error}")))?,
            false => {
                base.create().map_err(|error| directory(std::io::Error::other(error)))?;
                let log = Journal::create(log).map_err(directory)?;
                // The marker comes last: a crash before it leaves a directory that the next start creates again.
                let marker = path.join(MARKER_FILE);
                let written = std::fs::write(&marker, FORMAT).and_then(|()| File::open(&marker)?.sync_all());
                written.map_err(directory)?;
                log
            }
        };
        Ok(Self {
            path: path.into(),
            open: Mutex::new(Some(Open { log, base })),
        })
    }

    /// Runs a function on what is open.
    fn with<T>(
        &self,
        what: &'static str,
        run: impl FnOnce(&mut Open) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let mut open = self.open.lock();
        let open = open.as_mut().ok_or(EngineError::Closed)?;
        // After a panic the store does not use the engine any more, so nobody sees a half-done state.
        catch_unwind(AssertUnwindSafe(|| run(open))).unwrap_or_else(|_| {
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
        self.with("the database", |Open { log, base }| {
            let floor = base.number(FLOOR)?;
            let (folding, log) = log
                .read()?
                .into_iter()
                .partition(|entry: &LogEntry| entry.revision <= floor);
            if base.number(FOLDED)? < floor {
                base.finish_compaction(floor, folding)?;
            }
            let records = base.records()?;
            let loaded = Loaded { floor, records, log };
            check_log(&loaded).map(|()| loaded)
        })
    }

    fn commit(&self, group: &[LogEntry]) -> Result<(), EngineError> {
        self.with("the log", |open| open.log.append(group).map_err(write_file("the log")))
    }

    fn compact(&self, floor: Revision, records: &[FoldedRecord]) -> Result<(), EngineError> {
        self.with("the base", |Open { log, base }| {
            // From here on a load does the rest, if we do not.
            base.set_number(FLOOR, floor)?;
            for record in records {
                base.fold(record)?;
            }
            // The base must be safe before the log that it came from goes.
            base.sync("the base")?;
            base.set_number(FOLDED, floor)?;
            log.forget(floor).map_err(write_file("the log"))
        })
    }

    fn close(&self) {
        let Some(open) = self.open.lock().take() else { return };
        // sled flushes when it is dropped; everything acknowledged is on the disk already.
        if catch_unwind(AssertUnwindSafe(|| drop(open))).is_err() {
            tracing::warn!("sled did not shut down cleanly");
        }
    }
}

impl Drop for SledEngine {
    fn drop(&mut self) {
        self.close();
    }
}

impl Base {
    /// Makes an empty database a base without records.
    fn create(&self) -> Result<(), EngineError> {
        self.set_number(FLOOR, 0)?;
        self.set_number(FOLDED, 0)?;
        self.sync("the floor")
    }

    /// Waits until everything written so far survives a loss of power.
    fn sync(&self, what: &'static str) -> Result<(), EngineError> {
        self.db.flush().map_err(write(what))?;
        self.file.sync_data().map_err(write_file(what))
    }

    fn number(&self, name: &'static [u8]) -> Result<Revision, EngineError> {
        let what = "the floor";
        let bytes = self.db.get(name).map_err(read(what))?;
        let bytes: Option<[u8; 8]> = bytes.and_then(|bytes| bytes.as_ref().try_into().ok());
        let missing = || EngineError::Damaged {
            what,
            detail: "it is missing".into(),
        };
        bytes.map(u64::from_le_bytes).ok_or_else(missing)
    }

    fn set_number(&self, name: &'static [u8], number: Revision) -> Result<(), EngineError> {
        let set = self.db.insert(name, &number.to_le_bytes());
        set.map(drop).map_err(write("the floor"))
    }

    fn records(&self) -> Result<Vec<super::StoredRecord>, EngineError> {
        let what = "the base";
        let decode = |(key, value): (sled::IVec, sled::IVec)| {
            codec::decode_record(&key, &value).map_err(|error| EngineError::Damaged {
                what,
                detail: error.to_string(),
            })
        };
        let pairs = self.records.iter();
        pairs.map(|pair| pair.map_err(read(what)).and_then(decode)).collect()
    }

    fn fold(&self, record: &FoldedRecord) -> Result<(), EngineError> {
        let key = record.key.as_str();
        let done = match &record.state {
            Some((revision, json)) => self.records.insert(key, codec::encode_record(*revision, json)),
            None => self.records.remove(key),
        };
        done.map(drop).map_err(write("the base"))
    }

    /// Does the rest of a compaction that a crash interrupted: entries up to the floor that are
    /// still in the log go to the base. Those that are gone were in the base before.
    fn finish_compaction(&self, floor: Revision, folding: Vec<LogEntry>) -> Result<(), EngineError> {
        for entry in folding {
            for change in entry.changes {
                let put = change.kind == EventKind::Put;
                self.fold(&FoldedRecord {
                    key: change.key,
                    state: put.then_some((entry.revision, change.json)),
                })?;
            }
        }
        self.sync("the base")?;
        self.set_number(FOLDED, floor)
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

fn open_when_unlocked(path: &Path) -> Result<Base, OpenError> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match open_base(path) {
            Err(OpenError::InUse { .. }) if Instant::now() < deadline => std::thread::sleep(LOCK_RETRY),
            result => return result,
        }
    }
}

fn open_base(path: &Path) -> Result<Base, OpenError> {
    let open = || {
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES);
        let db = config.flush_every_ms(Some(HOUSEKEEPING_MILLIS)).open()?;
        let file = File::options().read(true).write(true).open(path.join("db"))?;
        Ok(Base {
            records: db.open_tree("base")?,
            db,
            file,
        })
    };
    let opened: Result<Base, sled::Error> =
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

fn write_file(what: &'static str) -> impl Fn(std::io::Error) -> EngineError {
    move |error| EngineError::Write {
        what,
        detail: error.to_string(),
    }
}
