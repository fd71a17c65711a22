//! How log entries and records of the base look as bytes.
//!
//! Numbers are little-endian, texts and bodies have their length in front. A log entry is
//! `revision u64, millis u64, count u32, count times (kind u8, key, json)`, and a group its entries
//! one after the other; a record is `revision u64, json` with the JSON up to the end. Decoding
//! trusts nothing: damaged bytes give an error, never a panic.

use bytes::Bytes;

use super::{LogChange, LogEntry, StoredRecord};
use crate::key::{Key, Revision};
use crate::record::EventKind;

/// Why bytes are no entry or record.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("it ends too early")]
    Truncated,
    #[error("the bytes at {0} are not those that were written")]
    Checksum(usize),
    #[error("a key is not UTF-8")]
    Key,
    #[error("unknown kind of change {0}")]
    Kind(u8),
}

const PUT: u8 = 1;
const DELETE: u8 = 2;

/// How many bytes [`put_entry`] writes.
pub(crate) fn entry_bytes(entry: &LogEntry) -> usize {
    let changes = entry.changes.iter();
    let changes = changes.map(|change| 9 + change.key.as_str().len() + change.json.len());
    20 + changes.sum::<usize>()
}

/// Writes a log entry.
pub(crate) fn put_entry(out: &mut Vec<u8>, entry: &LogEntry) {
    out.extend_from_slice(&entry.revision.to_le_bytes());
    out.extend_from_slice(&entry.millis.to_le_bytes());
    out.extend_from_slice(&length(entry.changes.len()));
    for change in &entry.changes {
        out.push(match change.kind {
            EventKind::Put => PUT,
            EventKind::Delete => DELETE,
        });
        put_bytes(out, change.key.as_str().as_bytes());
        put_bytes(out, &change.json);
    }
}

/// Reads the log entries that were written one after the other.
pub(crate) fn decode_group(bytes: &[u8], entries: &mut Vec<LogEntry>) -> Result<(), DecodeError> {
    let mut input = Input(bytes);
    while !input.0.is_empty() {
        entries.push(decode_entry(&mut input)?);
    }
    Ok(())
}

fn decode_entry(input: &mut Input<'_>) -> Result<LogEntry, DecodeError> {
    let revision = input.u64()?;
    let millis = input.u64()?;
    let count = input.u32()?;
    let mut changes = Vec::new();
    for _ in 0..count {
        let kind = match input.u8()? {
            PUT => EventKind::Put,
            DELETE => EventKind::Delete,
            other => return Err(DecodeError::Kind(other)),
        };
        let key = key(input.bytes()?)?;
        let json = Bytes::copy_from_slice(input.bytes()?);
        changes.push(LogChange { kind, key, json });
    }
    Ok(LogEntry {
        revision,
        millis,
        changes,
    })
}

/// The bytes of a record of the base.
pub(crate) fn encode_record(revision: Revision, json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + json.len());
    out.extend_from_slice(&revision.to_le_bytes());
    out.extend_from_slice(json);
    out
}

/// The record of the base that is kept under a key.
pub(crate) fn decode_record(name: &[u8], bytes: &[u8]) -> Result<StoredRecord, DecodeError> {
    let mut input = Input(bytes);
    let revision = input.u64()?;
    Ok(StoredRecord {
        key: key(name)?,
        revision,
        json: Bytes::copy_from_slice(input.0),
    })
}

fn key(bytes: &[u8]) -> Result<Key, DecodeError> {
    std::str::from_utf8(bytes).map(Key::from).map_err(|_| DecodeError::Key)
}

/// A length as it is written. Transactions are far below 4 GiB; one that is not would fail to
/// decode as truncated, never silently lose its end.
pub(crate) fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&length(bytes.len()));
    out.extend_from_slice(bytes);
}

/// Bytes that are still to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take(N)?.try_into().map_err(|_| DecodeError::Truncated)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u32()?;
        self.take(usize::try_from(length).map_err(|_| DecodeError::Truncated)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries() -> impl Strategy<Value = LogEntry> {
        let kind = prop_oneof![Just(EventKind::Put), Just(EventKind::Delete)];
        let change =
            (kind, ".{0,12}", proptest::collection::vec(any::<u8>(), 0..40)).prop_map(|(kind, key, json)| LogChange {
                kind,
                key: Key::from(key),
                json: Bytes::from(json),
            });
        (any::<u64>(), any::<u64>(), proptest::collection::vec(change, 0..4)).prop_map(|(revision, millis, changes)| {
            LogEntry {
                revision,
                millis,
                changes,
            }
        })
    }

    fn encoded(group: &[LogEntry]) -> Vec<u8> {
        let mut bytes = Vec::new();
        group.iter().for_each(|entry| put_entry(&mut bytes, entry));
        bytes
    }

    fn decoded(bytes: &[u8]) -> Result<Vec<LogEntry>, DecodeError> {
        let mut entries = Vec::new();
        decode_group(bytes, &mut entries).map(|()| entries)
    }

    proptest! {
        #[test]
        fn a_group_comes_back_as_it_was(group in proptest::collection::vec(entries(), 0..4)) {
            let bytes = encoded(&group);
            prop_assert_eq!(bytes.len(), group.iter().map(entry_bytes).sum::<usize>());
            prop_assert_eq!(decoded(&bytes), Ok(group));
        }

        #[test]
        fn an_entry_that_lost_its_end_is_an_error(entry in entries(), cut: prop::sample::Index) {
            let bytes = encoded(&[entry]);
            let cut = 1 + cut.index(bytes.len() - 1);
            prop_assert!(decoded(&bytes[..cut]).is_err());
        }

        #[test]
        fn random_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decoded(&bytes);
            let _ = decode_record(&bytes, &bytes);
        }
    }
}
