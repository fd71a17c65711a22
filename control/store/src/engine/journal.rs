//! The log of the embedded engine: files that only grow at their end.
//!
//! A commit is one write behind the last one and one wait for the disk, which is as little as durability costs. Files are
//! named by the revision that they begin with; the newest one is written to, and is never removed, so a log without files
//! is a log that was lost. A file holds frames, `length u32, checksum u32, group`, and zeros behind the last frame. A frame
//! is one commit, and the next one is written only when it is durable: whatever a crash leaves behind the last whole frame
//! was acknowledged to nobody, and a whole frame behind a broken one is damage.
//!
//! Zeros are written ahead, some hundred commits' worth at a time. Writing over them changes no length that the file
//! system would have to note down, which halves what a commit waits for.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::codec::{self, DecodeError};
use super::{EngineError, LogEntry};
use crate::key::Revision;

/// A file that is longer is not written to any more. What is folded into the base is forgotten by whole files, so it
/// bounds what lies there needlessly; a new file costs a few milliseconds.
const FILE_BYTES: u64 = 4 << 20;

/// How many zeros are written at a time. They cost about as much as a commit.
const ZEROS_BYTES: usize = 256 << 10;

/// Length and checksum.
const HEADER_BYTES: usize = 8;

/// The log in a directory.
#[derive(Debug)]
pub(super) struct Journal {
    directory: PathBuf,
    /// The revisions with which the files begin, oldest first.
    files: VecDeque<Revision>,
    /// The newest file.
    newest: Option<Newest>,
}

#[derive(Debug)]
struct Newest {
    file: File,
    /// Where the next frame begins.
    end: u64,
    /// Up to where zeros are written.
    zeros: u64,
}

impl Journal {
    /// A log without entries, in a directory that is made for it. What is left there of an earlier try is removed.
    pub(super) fn create(directory: PathBuf) -> io::Result<Self> {
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir(&directory)?;
        directory.parent().map_or(Ok(()), sync_directory)?;
        let mut journal = Self {
            directory,
            files: VecDeque::new(),
            newest: None,
        };
        journal.begin(1)?;
        Ok(journal)
    }

    /// The log in a directory. Its entries must be read before more are appended.
    pub(super) fn open(directory: PathBuf) -> io::Result<Self> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&directory)? {
            let name = entry?.file_name();
            files.extend(name.to_str().and_then(|name| name.parse::<Revision>().ok()));
        }
        files.sort_unstable();
        Ok(Self {
            directory,
            files: files.into(),
            newest: None,
        })
    }

    /// All entries, oldest first.
    pub(super) fn read(&mut self) -> Result<Vec<LogEntry>, EngineError> {
        let failed = |error: io::Error| EngineError::Read {
            what: "the log",
            detail: error.to_string(),
        };
        let damaged = |detail: String| EngineError::Damaged {
            what: "the log",
            detail,
        };
        let mut entries = Vec::new();
        let mut end = 0;
        for first in &self.files {
            let bytes = fs::read(self.path(*first)).map_err(failed)?;
            end = read_frames(&bytes, &mut entries).map_err(|error| damaged(format!("file {first}: {error}")))?;
        }
        let newest = self
            .files
            .back()
            .ok_or_else(|| damaged("its files are missing".into()))?;
        self.newest = Some(Newest::reopen(&self.path(*newest), end as u64).map_err(failed)?);
        Ok(entries)
    }

    /// Appends a group and waits until it is durable.
    pub(super) fn append(&mut self, group: &[LogEntry]) -> io::Result<()> {
        let Some(first) = group.first() else { return Ok(()) };
        if self.newest.as_ref().is_none_or(|newest| newest.end > FILE_BYTES) {
            self.begin(first.revision)?;
        }
        match &mut self.newest {
            Some(newest) => newest.append(frame(group)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Removes the files that hold nothing after `floor`.
    pub(super) fn forget(&mut self, floor: Revision) -> io::Result<()> {
        while let (Some(first), Some(next)) = (self.files.front(), self.files.get(1))
            && *next <= floor + 1
        {
            fs::remove_file(self.path(*first))?;
            self.files.pop_front();
        }
        Ok(())
    }

    /// Starts a file.
    fn begin(&mut self, first: Revision) -> io::Result<()> {
        let file = File::options().write(true).create_new(true).open(self.path(first))?;
        sync_directory(&self.directory)?;
        self.files.push_back(first);
        self.newest = Some(Newest { file, end: 0, zeros: 0 });
        Ok(())
    }

    fn path(&self, first: Revision) -> PathBuf {
        // As long as the largest number, so that a listing is in order.
        self.directory.join(format!("{first:020}"))
    }
}

impl Newest {
    /// Opens a file to write behind `end`; what stood there is removed.
    fn reopen(path: &Path, end: u64) -> io::Result<Self> {
        let file = File::options().write(true).open(path)?;
        if file.metadata()?.len() > end {
            file.set_len(end)?;
            file.sync_all()?;
        }
        Ok(Self { file, end, zeros: end })
    }

    fn append(&mut self, mut frame: Vec<u8>) -> io::Result<()> {
        let end = self.end + frame.len() as u64;
        if end > self.zeros {
            frame.resize(frame.len() + ZEROS_BYTES, 0);
            self.zeros = end + ZEROS_BYTES as u64;
        }
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&frame)?;
        self.file.sync_data()?;
        self.end = end;
        Ok(())
    }
}

/// Makes the names in a directory durable. Only Unix lets a directory be opened; elsewhere the file system sees to it.
fn sync_directory(path: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(path)?.sync_all(),
        false => Ok(()),
    }
}

fn frame(group: &[LogEntry]) -> Vec<u8> {
    let size: usize = group.iter().map(codec::entry_bytes).sum();
    let mut frame = Vec::with_capacity(HEADER_BYTES + size);
    frame.extend_from_slice(&codec::length(size));
    frame.extend_from_slice(&[0; 4]);
    group.iter().for_each(|entry| codec::put_entry(&mut frame, entry));
    let checksum = crc32fast::hash(frame.get(HEADER_BYTES..).unwrap_or_default());
    if let Some(place) = frame.get_mut(4..HEADER_BYTES) {
        place.copy_from_slice(&checksum.to_le_bytes());
    }
    frame
}

/// Reads a file's frames up to the first that is not whole, and says where that is.
fn read_frames(bytes: &[u8], entries: &mut Vec<LogEntry>) -> Result<usize, DecodeError> {
    let mut at = 0;
    while let Some((place, _)) = header(bytes, at) {
        let next = place.end;
        let Some(group) = whole(bytes, at) else {
            return match whole(bytes, next) {
                Some(_) => Err(DecodeError::Checksum(at)),
                None => Ok(at),
            };
        };
        codec::decode_group(group, entries)?;
        at = next;
    }
    Ok(at)
}

/// Where the group of the frame at `at` is said to be, and its checksum; `None` when there is no frame.
fn header(bytes: &[u8], at: usize) -> Option<(Range<usize>, u32)> {
    let (length, rest) = bytes.get(at..)?.split_first_chunk::<4>()?;
    let (checksum, _) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length))
        .ok()
        .filter(|length| *length > 0)?;
    let start = at + HEADER_BYTES;
    Some((start..start.checked_add(length)?, u32::from_le_bytes(*checksum)))
}

/// The group of the frame at `at`, if it is whole.
fn whole(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let (place, checksum) = header(bytes, at)?;
    bytes.get(place).filter(|group| crc32fast::hash(group) == checksum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::LogChange;
    use crate::record::EventKind;
    use bytes::Bytes;

    fn group(revisions: Range<Revision>, bytes: usize) -> Vec<LogEntry> {
        let entry = |revision| LogEntry {
            revision,
            millis: 7,
            changes: vec![LogChange {
                kind: EventKind::Put,
                key: "k/a/b".into(),
                json: Bytes::from(vec![b'x'; bytes]),
            }],
        };
        revisions.map(entry).collect()
    }

    fn reopened(directory: &Path) -> (Journal, Vec<LogEntry>) {
        let mut journal = Journal::open(directory.to_owned()).unwrap();
        let entries = journal.read().unwrap();
        (journal, entries)
    }

    #[test]
    fn entries_come_back_over_files_and_old_files_go() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("log");
        let mut journal = Journal::create(directory.clone()).unwrap();
        let large = FILE_BYTES as usize / 3;
        for start in [1, 3, 5, 7] {
            journal.append(&group(start..start + 2, large)).unwrap();
        }
        drop(journal);
        let (mut journal, entries) = reopened(&directory);
        assert_eq!(entries, group(1..9, large));
        let files = |journal: &Journal| journal.files.iter().copied().collect::<Vec<_>>();
        assert_eq!(files(&journal), [1, 5]);
        journal.forget(3).unwrap();
        assert_eq!(files(&journal), [1, 5]);
        journal.forget(4).unwrap();
        assert_eq!(files(&journal), [5]);
        journal.forget(8).unwrap();
        assert_eq!(files(&journal), [5], "the newest stays");
        journal.append(&group(9..10, 1)).unwrap();
        assert_eq!(reopened(&directory).1.len(), 5);
    }

    #[test]
    fn a_write_that_was_cut_off_is_overwritten() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("log");
        let mut journal = Journal::create(directory.clone()).unwrap();
        journal.append(&group(1..3, 100)).unwrap();
        journal.append(&group(3..5, 100)).unwrap();
        let file = journal.path(1);
        let whole = fs::read(&file).unwrap();
        let first = frame(&group(1..3, 100)).len();
        for left in [0, 1, 7, 8, 9, 100, first - 1] {
            fs::write(&file, &whole[..first + left]).unwrap();
            let (mut journal, entries) = reopened(&directory);
            assert_eq!(entries, group(1..3, 100), "{left}");
            journal.append(&group(3..4, 5)).unwrap();
            assert_eq!(reopened(&directory).1.len(), 3, "{left}");
        }
        // The blocks of a write may reach the disk in any order.
        let mut torn = whole;
        torn[first..first + 60].fill(0);
        fs::write(&file, &torn).unwrap();
        assert_eq!(reopened(&directory).1, group(1..3, 100));
    }

    #[test]
    fn a_broken_frame_before_a_whole_one_is_damage() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("log");
        let mut journal = Journal::create(directory.clone()).unwrap();
        journal.append(&group(1..3, 100)).unwrap();
        journal.append(&group(3..5, 100)).unwrap();
        let file = journal.path(1);
        let mut bytes = fs::read(&file).unwrap();
        bytes[50] ^= 1;
        fs::write(&file, &bytes).unwrap();
        let error = Journal::open(directory.clone()).unwrap().read().unwrap_err();
        assert!(matches!(error, EngineError::Damaged { .. }), "{error}");
        fs::remove_file(&file).unwrap();
        let error = Journal::open(directory).unwrap().read().unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
    }
}
