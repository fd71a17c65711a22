//! Listings of directories, some entries at a time: however large a directory is, the host holds no more of it than a batch.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, statat};
use wasmtime_wasi::p2::FsResult;
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};

use super::pod::{Place, PodFiles};
use crate::limits;
use crate::memory::{Charge, MemoryAccount};
use crate::seats::blocking;

/// What an entry costs beside its name: a place in the batch and an allocation.
const ENTRY_BYTES: usize = 64;

/// A directory that is being listed.
pub(super) struct Listing {
    /// None while it is read, and at its end.
    source: Option<Source>,
    batch: VecDeque<FsResult<DirectoryEntry>>,
    /// For the batch. Who reads one entry of each holds as many batches as there are objects, with names as long as names are.
    paid: Option<Charge>,
    pod: Arc<PodFiles>,
    memory: Arc<MemoryAccount>,
}

struct Source {
    directory: Arc<File>,
    entries: Dir,
    /// Its place among the pod's handles.
    _place: Place,
}

impl Listing {
    pub(super) async fn open(directory: Arc<File>, pod: Arc<PodFiles>, memory: Arc<MemoryAccount>) -> FsResult<Self> {
        let place = pod.handle().ok_or(ErrorCode::Quota)?;
        let turn = pod.turn().await;
        let entries = blocking(|| Dir::read_from(&directory)).map_err(io::Error::from)?;
        drop(turn);
        Ok(Self {
            source: Some(Source {
                directory,
                entries,
                _place: place,
            }),
            batch: VecDeque::new(),
            paid: None,
            pod,
            memory,
        })
    }

    pub(super) async fn next(&mut self) -> FsResult<Option<DirectoryEntry>> {
        if self.batch.is_empty()
            && let Some(mut source) = self.source.take()
        {
            let turn = self.pod.turn().await;
            let batch = blocking(|| source.read());
            drop(turn);
            // Given back first: this batch comes in the place of the last one.
            self.paid = None;
            let paid = Charge::take(&self.memory, batch.iter().map(cost).sum());
            self.paid = Some(paid.map_err(|_| ErrorCode::InsufficientMemory)?);
            self.batch = batch;
            if self.batch.len() == limits::LISTING_ENTRIES {
                self.source = Some(source);
            }
        }
        let entry = self.batch.pop_front();
        if self.batch.is_empty() {
            self.paid = None;
        }
        entry.transpose()
    }
}

fn cost(entry: &FsResult<DirectoryEntry>) -> usize {
    ENTRY_BYTES + entry.as_ref().map_or(0, |entry| entry.name.len())
}

impl Source {
    /// The next entries; fewer than a batch at the end.
    fn read(&mut self) -> VecDeque<FsResult<DirectoryEntry>> {
        let mut batch = VecDeque::with_capacity(limits::LISTING_ENTRIES);
        while batch.len() < limits::LISTING_ENTRIES {
            let Some(entry) = self.entries.read() else { break };
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    batch.push_back(Err(io::Error::from(error).into()));
                    break;
                }
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let mut found = entry.file_type();
            if found == FileType::Unknown {
                let stat = statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW);
                found = stat.map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode));
            }
            let name = name.to_str().map_err(|_| ErrorCode::IllegalByteSequence.into());
            batch.push_back(name.map(|name| DirectoryEntry {
                type_: kind(found),
                name: name.to_owned(),
            }));
        }
        batch
    }
}

fn kind(found: FileType) -> DescriptorType {
    match found {
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::Fifo => DescriptorType::Fifo,
        FileType::Socket => DescriptorType::Socket,
        FileType::Unknown => DescriptorType::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[tokio::test]
    async fn a_large_directory_is_listed_whole_and_held_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let count = limits::LISTING_ENTRIES * 3 + 1;
        for number in 0..count {
            std::fs::write(dir.path().join(number.to_string()), "").unwrap();
        }
        let pod = Arc::new(PodFiles::default());
        let directory = Arc::new(File::open(dir.path()).unwrap());
        let memory = MemoryAccount::new(Some(1 << 20), false);
        let mut listing = Listing::open(directory.clone(), pod.clone(), memory.clone())
            .await
            .unwrap();
        let mut names = BTreeSet::new();
        while let Some(entry) = listing.next().await.unwrap() {
            assert!(listing.batch.len() < limits::LISTING_ENTRIES);
            assert!(memory.used_bytes() >= (listing.batch.len() * ENTRY_BYTES) as u64);
            assert_eq!(entry.type_, DescriptorType::RegularFile);
            names.insert(entry.name);
        }
        assert_eq!((names.len(), pod.open(), memory.used_bytes()), (count, 0, 0));
        // Who cannot pay gets no entries.
        let poor = MemoryAccount::new(Some(1000), false);
        let mut listing = Listing::open(directory, pod, poor.clone()).await.unwrap();
        assert!(listing.next().await.is_err() && listing.next().await.unwrap().is_none());
        assert_eq!(poor.used_bytes(), 0);
    }
}
