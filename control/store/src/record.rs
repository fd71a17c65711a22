//! What the store holds: bytes with a header, and the events that changed them.
//!
//! The bytes are never parsed here. The one thing the store writes into them is the decimal
//! revision, at the place that the caller names.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use crate::key::{Key, Revision};

/// What selectors and the garbage collector ask of a record, so that nobody parses its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The identity of the object behind the name.
    pub uid: String,
    /// Label keys and values.
    pub labels: Vec<(String, String)>,
    /// Selectable fields: path (`spec.nodeName`) and value.
    pub fields: Vec<(Cow<'static, str>, String)>,
    /// Uids of the owners.
    pub owners: Vec<String>,
    /// Whether deletion was asked for and something still holds the object.
    pub deleting: bool,
}

/// One stored object at one revision. Immutable; shared as `Arc<Record>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The record's name.
    pub key: Key,
    /// The revision that wrote it.
    pub revision: Revision,
    /// The canonical JSON, with the revision inside; served as it is.
    pub json: Bytes,
    /// What was extracted from the JSON.
    pub header: Header,
}

/// JSON that waits for its revision: it contains `"resourceVersion":""`, and the writer splices
/// the decimal revision between the two quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// The JSON text without the revision.
    pub json: Vec<u8>,
    /// The byte offset at which the revision's digits belong.
    pub revision_at: usize,
}

impl Body {
    /// The finished bytes, in one allocation; `None` if the offset lies outside of the text.
    pub(crate) fn splice(&self, revision: Revision) -> Option<Bytes> {
        let (head, tail) = self.json.split_at_checked(self.revision_at)?;
        let mut digits = [0_u8; MAX_DIGITS];
        let digits = decimal(revision, &mut digits);
        let mut json = Vec::with_capacity(self.json.len() + digits.len());
        json.extend_from_slice(head);
        json.extend_from_slice(digits);
        json.extend_from_slice(tail);
        Some(Bytes::from(json))
    }
}

/// The digits of `u64::MAX`.
const MAX_DIGITS: usize = 20;

/// Writes a number's digits to the end of a buffer and returns them.
fn decimal(mut number: u64, buffer: &mut [u8; MAX_DIGITS]) -> &[u8] {
    let mut start = MAX_DIGITS;
    for slot in buffer.iter_mut().rev() {
        *slot = b'0' + (number % 10) as u8;
        number /= 10;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    buffer.get(start..).unwrap_or_default()
}

/// Whether a record was written or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Created or replaced.
    Put,
    /// Removed.
    Delete,
}

/// One change of one record; shared by the ring and all watchers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The revision of the transaction that made the change.
    pub revision: Revision,
    /// What happened.
    pub kind: EventKind,
    /// The record after the change; for a deletion its last body, with the deletion's revision.
    pub record: Arc<Record>,
    /// The record before the change; `None` means that this event created it.
    pub previous: Option<Arc<Record>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_spliced_body_has_the_revision_at_its_place(revision: u64, head in ".{0,9}", tail in ".{0,9}") {
            let body = Body { json: format!("{head}{tail}").into_bytes(), revision_at: head.len() };
            let expected = Bytes::from(format!("{head}{revision}{tail}"));
            prop_assert_eq!(body.splice(revision), Some(expected));
        }
    }

    #[test]
    fn an_offset_beyond_the_text_is_refused() {
        let body = Body {
            json: b"{}".to_vec(),
            revision_at: 3,
        };
        assert_eq!(body.splice(1), None);
    }
}
