//! What a volume may hold, and what it holds: the account that every write of a guest is charged to before it happens.
//!
//! One account a volume, whoever mounts it: the pods that share a claim pay from one purse. It counts what files are long, holes
//! included, in blocks of [`BLOCK_BYTES`]; a write inside a file is therefore never refused, and only one that makes it longer
//! asks here. Names (files, directories and links) are counted beside that, as the inodes of a file system are.
//!
//! A file that is open is known by its identity: what was promised to writes that are under way, and whether its last name is
//! gone, so that its space is given back with the last handle, as everywhere. The account is in memory alone; it is made by
//! walking through the volume once, when its first user comes.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::limits;

/// What space is counted in: the block of the file systems that hold the volumes.
pub(crate) const BLOCK_BYTES: u64 = 4096;

/// A volume, or the share of one pod of the node's disk, that holds no more than it may.
pub struct Quota {
    /// A larger account that pays too.
    within: Option<Arc<Quota>>,
    state: Mutex<State>,
    /// Held while names change, so that what was seen of a name still holds when it is removed.
    pub(crate) names: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    limit_bytes: u64,
    used_bytes: u64,
    names: u64,
    /// Files that are open, or are being looked at.
    files: HashMap<FileId, Charged>,
    refusals: Refusals,
}

/// Who is told that something was refused for want of room.
#[derive(Debug, Default)]
struct Refusals {
    count: u64,
    told: Option<Instant>,
    listeners: Vec<Weak<Notify>>,
}

/// The shortest time between two times that listeners are told: a program that tries again and again is news once.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// What a file is to the system, whatever its name.
pub(crate) type FileId = u64;

/// What the account knows of a file.
#[derive(Debug, Default)]
struct Charged {
    /// How long it may be, with all writes that were allowed. None until somebody has looked.
    length: Option<u64>,
    handles: usize,
    /// Writes that were allowed and are not over.
    writing: usize,
    /// Where the furthest of them ends.
    writing_to: u64,
    /// A write failed: the file may be shorter than was allowed.
    uncertain: bool,
    /// It has no name any more.
    unlinked: bool,
}

/// How much an account holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaUsage {
    /// Bytes that it may hold.
    pub limit_bytes: u64,
    /// Bytes that it holds, in whole blocks.
    pub used_bytes: u64,
    /// Names that it holds.
    pub names: u64,
    /// How often something was refused for want of room; what follows within ten seconds counts as the same.
    pub refusals: u64,
}

/// There is no room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no space left in the volume")]
pub(crate) struct NoSpace;

/// Where a write begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    At(u64),
    End,
}

impl std::fmt::Debug for Quota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.usage().fmt(f)
    }
}

impl PartialEq for Quota {
    /// An account is equal to itself alone.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Quota {}

impl Quota {
    /// An account over other accounts, which name it as the one they are within.
    #[must_use]
    pub fn share(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self::new(limit_bytes, None))
    }

    /// The account of the directory `root`. What is in it is counted by walking through it, which takes as long as `du` does:
    /// call it where it may block.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn of_directory(root: &Path, limit_bytes: u64, within: Option<Arc<Quota>>) -> io::Result<Arc<Self>> {
        let quota = Self::new(limit_bytes, within);
        let held = walk(root)?;
        quota.take_anyway(held.used_bytes);
        quota.state.lock().names = held.names;
        Ok(Arc::new(quota))
    }

    /// As [`Quota::of_directory`], for a directory that holds `limit_bytes` beside what it begins with.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn of_writable_layer(root: &Path, limit_bytes: u64, within: Option<Arc<Quota>>) -> io::Result<Arc<Self>> {
        let quota = Self::new(limit_bytes, within);
        let held = walk(root)?;
        let mut state = quota.state.lock();
        state.limit_bytes = limit_bytes.saturating_add(held.used_bytes);
        state.used_bytes = held.used_bytes;
        state.names = held.names;
        drop(state);
        Ok(Arc::new(quota))
    }

    fn new(limit_bytes: u64, within: Option<Arc<Quota>>) -> Self {
        Self {
            within,
            state: Mutex::new(State {
                limit_bytes,
                ..State::default()
            }),
            names: tokio::sync::Mutex::new(()),
        }
    }

    /// What it holds.
    pub fn usage(&self) -> QuotaUsage {
        let state = self.state.lock();
        QuotaUsage {
            limit_bytes: state.limit_bytes,
            used_bytes: state.used_bytes,
            names: state.names,
            refusals: state.refusals.count,
        }
    }

    /// Lets it hold another amount from now on. What is there stays, even if it is more.
    pub fn resize(&self, limit_bytes: u64) {
        self.state.lock().limit_bytes = limit_bytes;
    }

    /// Wakes `listener` when something is refused, as long as it is there.
    pub fn listen(&self, listener: &Arc<Notify>) {
        let listeners = &mut self.state.lock().refusals.listeners;
        listeners.retain(|other| other.strong_count() > 0);
        let own = Arc::downgrade(listener);
        if !listeners.iter().any(|other| other.ptr_eq(&own)) {
            listeners.push(own);
        }
    }

    /// Something is refused.
    fn refuse(&self) -> NoSpace {
        let refusals = &mut self.state.lock().refusals;
        let now = Instant::now();
        if refusals.told.is_none_or(|told| now.duration_since(told) >= TELL_AGAIN) {
            refusals.count += 1;
            refusals.told = Some(now);
            let listeners = refusals.listeners.iter().filter_map(Weak::upgrade);
            listeners.for_each(|listener| listener.notify_one());
        }
        NoSpace
    }

    /// Bytes that are free.
    fn room(&self) -> u64 {
        let state = self.state.lock();
        let own = state.limit_bytes.saturating_sub(state.used_bytes);
        match &self.within {
            Some(within) => own.min(within.room()),
            None => own,
        }
    }

    fn take(&self, bytes: u64) -> Result<(), NoSpace> {
        let mut state = self.state.lock();
        self.take_in(&mut state, bytes)
    }

    fn take_in(&self, state: &mut State, bytes: u64) -> Result<(), NoSpace> {
        let sum = state.used_bytes.checked_add(bytes).ok_or(NoSpace)?;
        if bytes > 0 && sum > state.limit_bytes {
            return Err(NoSpace);
        }
        if let Some(within) = &self.within {
            within.take(bytes)?;
        }
        state.used_bytes = sum;
        Ok(())
    }

    /// Counts what is there already.
    fn take_anyway(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.used_bytes = state.used_bytes.saturating_add(bytes);
        if let Some(within) = &self.within {
            within.take_anyway(bytes);
        }
    }

    fn give_back(&self, state: &mut State, bytes: u64) {
        state.used_bytes = state.used_bytes.saturating_sub(bytes);
        if let Some(within) = &self.within {
            within.give_back(&mut within.state.lock(), bytes);
        }
    }

    /// Takes one name.
    pub(crate) fn take_name(&self) -> Result<(), NoSpace> {
        let mut state = self.state.lock();
        if state.names < names_of(state.limit_bytes) {
            state.names += 1;
            return Ok(());
        }
        drop(state);
        Err(self.refuse())
    }

    /// A name is gone, or was not made after all.
    pub(crate) fn give_back_name(&self) {
        let mut state = self.state.lock();
        state.names = state.names.saturating_sub(1);
    }

    /// Keeps a file in mind while its name is looked at and removed.
    pub(crate) fn pin(self: &Arc<Self>, id: FileId) -> Opened {
        self.state.lock().files.entry(id).or_default().handles += 1;
        Opened {
            quota: self.clone(),
            id,
            handle: None,
        }
    }

    /// A file was opened. None if its last name went away meanwhile, and its space with it.
    pub(crate) fn opened(self: &Arc<Self>, id: FileId, handle: Arc<File>) -> io::Result<Option<Opened>> {
        let mut state = self.state.lock();
        // Under the lock: a name that goes away from here on finds the file open.
        let metadata = handle.metadata()?;
        if links(&metadata) == 0 {
            return Ok(None);
        }
        let file = state.files.entry(id).or_default();
        file.length.get_or_insert(metadata.len());
        file.handles += 1;
        Ok(Some(Opened {
            quota: self.clone(),
            id,
            handle: Some(handle),
        }))
    }

    /// The length of a file turned out to be another than was counted.
    fn corrected(&self, state: &mut State, before: u64, after: u64) {
        let (before, after) = (blocks(before), blocks(after));
        if after > before {
            state.used_bytes = state.used_bytes.saturating_add(after - before);
            if let Some(within) = &self.within {
                within.take_anyway(after - before);
            }
        } else {
            self.give_back(state, before - after);
        }
    }
}

/// A file that is open, for its account. It is as long open as the last of its handles and streams.
pub(crate) struct Opened {
    quota: Arc<Quota>,
    id: FileId,
    /// None where only its name is looked at.
    handle: Option<Arc<File>>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        let mut state = self.quota.state.lock();
        let Some(file) = state.files.get_mut(&self.id) else {
            return;
        };
        file.handles -= 1;
        if file.handles > 0 {
            return;
        }
        let (unlinked, length) = (file.unlinked, file.length.unwrap_or_default());
        state.files.remove(&self.id);
        if unlinked {
            self.quota.give_back(&mut state, blocks(length));
        }
    }
}

impl Opened {
    /// A name of it is gone. `links` is how many it had with that one, `length` how long it was then.
    pub(crate) fn unlinked(&self, links: u64, length: u64) {
        let mut state = self.quota.state.lock();
        state.names = state.names.saturating_sub(1);
        if let Some(file) = state.files.get_mut(&self.id) {
            // Who has it open knows better how long it is.
            file.length.get_or_insert(length);
            file.unlinked |= links <= 1;
        }
    }

    /// Asks for a write: how many of the bytes may be written, at least one.
    pub(crate) fn allow(self: &Arc<Self>, from: Begin, bytes: u64) -> Result<Allowed, NoSpace> {
        self.ask(from, bytes).map_err(|_| self.quota.refuse())
    }

    fn ask(self: &Arc<Self>, from: Begin, bytes: u64) -> Result<Allowed, NoSpace> {
        let room = self.quota.room();
        let mut state = self.quota.state.lock();
        let state = &mut *state;
        let length = state.length(self.id);
        let begin = from.begin(length);
        let whole = begin.checked_add(bytes).ok_or(NoSpace)?;
        // What fits is written, as on a disk.
        let end = whole.min(furthest(length, room));
        if end <= begin && bytes > 0 {
            return Err(NoSpace);
        }
        if blocks(end) > blocks(length) {
            self.quota.take_in(state, blocks(end) - blocks(length))?;
        }
        if let Some(file) = state.files.get_mut(&self.id) {
            file.length = Some(length.max(end));
            file.writing += 1;
            file.writing_to = file.writing_to.max(end);
        }
        Ok(Allowed {
            file: Some(self.clone()),
            bytes: end.saturating_sub(begin),
        })
    }

    /// How many bytes a write there may have.
    pub(crate) fn room(&self, from: Begin) -> u64 {
        let room = self.quota.room();
        let length = self.quota.state.lock().length(self.id);
        let room = furthest(length, room).saturating_sub(from.begin(length));
        if room == 0 {
            self.quota.refuse();
        }
        room
    }

    /// Asks for another length, the whole of it.
    pub(crate) fn allow_length(self: &Arc<Self>, length: u64) -> Result<Allowed, NoSpace> {
        let allowed = self.allow(Begin::At(0), length)?;
        // With a part dropped again.
        if allowed.bytes < length {
            return Err(self.quota.refuse());
        }
        Ok(allowed)
    }

    /// It was cut.
    pub(crate) fn cut(&self) {
        self.look(&mut self.quota.state.lock());
    }

    /// Counts what its length is, and what the writes under way may still make of it.
    fn look(&self, state: &mut State) {
        // Under the lock: what ended before is seen.
        let Some(Ok(metadata)) = self.handle.as_ref().map(|handle| handle.metadata()) else {
            return;
        };
        let before = state.length(self.id);
        if let Some(file) = state.files.get_mut(&self.id) {
            let after = metadata.len().max(if file.writing > 0 { file.writing_to } else { 0 });
            file.length = Some(after);
            self.quota.corrected(state, before, after);
        }
    }

    fn write_ended(&self, all: bool) {
        let mut state = self.quota.state.lock();
        let Some(file) = state.files.get_mut(&self.id) else {
            return;
        };
        file.writing -= 1;
        file.uncertain |= !all;
        if file.writing > 0 {
            return;
        }
        file.writing_to = 0;
        if std::mem::take(&mut file.uncertain) {
            self.look(&mut state);
        }
    }
}

impl State {
    fn length(&self, id: FileId) -> u64 {
        self.files.get(&id).and_then(|file| file.length).unwrap_or_default()
    }
}

impl Begin {
    fn begin(self, length: u64) -> u64 {
        match self {
            Self::At(begin) => begin,
            Self::End => length,
        }
    }
}

/// Where a file of this length may end at most.
fn furthest(length: u64, room: u64) -> u64 {
    let room = room / BLOCK_BYTES * BLOCK_BYTES;
    blocks(length).saturating_add(room)
}

/// A write that was allowed. Dropped without a word it has not happened, or not wholly.
pub(crate) struct Allowed {
    file: Option<Arc<Opened>>,
    /// How much of it.
    pub(crate) bytes: u64,
}

impl Allowed {
    /// All that was allowed was written.
    pub(crate) fn written(mut self) {
        if let Some(file) = self.file.take() {
            file.write_ended(true);
        }
    }
}

impl Drop for Allowed {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            file.write_ended(false);
        }
    }
}

/// The space of a file of this length.
fn blocks(length: u64) -> u64 {
    length.checked_next_multiple_of(BLOCK_BYTES).unwrap_or(u64::MAX)
}

/// How many names go with a size: one for each block, as the file systems in memory have it, and enough for a small program's
/// files in the smallest volume.
fn names_of(limit_bytes: u64) -> u64 {
    (limit_bytes / BLOCK_BYTES).max(limits::VOLUME_NAMES)
}

/// Counts what is below a directory. Links are not followed, and a file with several names is counted once.
fn walk(root: &Path) -> io::Result<QuotaUsage> {
    let mut held = QuotaUsage {
        limit_bytes: 0,
        used_bytes: 0,
        names: 0,
        refusals: 0,
    };
    let mut seen = std::collections::HashSet::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            // What is gone meanwhile is not counted.
            let Ok(metadata) = entry.metadata() else { continue };
            held.names += 1;
            if metadata.is_dir() {
                directories.push(entry.path());
            } else if metadata.is_file() && (links(&metadata) < 2 || seen.insert(identity(&metadata))) {
                held.used_bytes = held.used_bytes.saturating_add(blocks(metadata.len()));
            }
        }
    }
    Ok(held)
}

/// How many names a file has.
#[cfg(unix)]
fn links(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

#[cfg(not(unix))]
fn links(_metadata: &Metadata) -> u64 {
    1
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn identity(_metadata: &Metadata) -> (u64, u64) {
    (0, 0)
}

#[cfg(test)]
mod tests;
