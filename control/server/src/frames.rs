//! Watch events as they go over the wire, each made once and shared by all who watch it.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use coracle_store::Event;
use parking_lot::Mutex;

/// How many events are remembered. Watchers of one resource read an event within moments of each other; a power of two
/// well above the number of writes in that time.
const SLOTS: usize = 512;

/// What a watch event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Modified,
    Deleted,
}

impl Change {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// The frames of recent events.
pub(crate) struct Frames {
    slots: Vec<Mutex<Option<Framed>>>,
}

/// A frame with the event that it shows, which is held so that its address means it and nothing else.
struct Framed {
    event: Arc<Event>,
    change: Change,
    bytes: Bytes,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Mutex::new(None)).collect(),
        }
    }
}

impl Frames {
    /// The frame of a stored event, made now or before.
    pub(crate) fn of(&self, event: &Arc<Event>, change: Change) -> Bytes {
        let slot = usize::try_from(event.revision % SLOTS as u64)
            .ok()
            .and_then(|index| self.slots.get(index));
        let Some(slot) = slot else {
            return frame(change.name(), &event.record.json);
        };
        let mut slot = slot.lock();
        if let Some(framed) = slot.as_ref()
            && Arc::ptr_eq(&framed.event, event)
            && framed.change == change
        {
            return framed.bytes.clone();
        }
        let bytes = frame(change.name(), &event.record.json);
        *slot = Some(Framed {
            event: event.clone(),
            change,
            bytes: bytes.clone(),
        });
        bytes
    }
}

/// One event around an object's bytes.
pub(crate) fn frame(change: &str, object: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(object.len() + change.len() + 24);
    frame.put_slice(b"{\"type\":\"");
    frame.put_slice(change.as_bytes());
    frame.put_slice(b"\",\"object\":");
    frame.put_slice(object);
    frame.put_slice(b"}\n");
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_json() {
        let value: serde_json::Value = serde_json::from_slice(&frame("ADDED", b"{\"a\":1}")).unwrap();
        assert_eq!(value, serde_json::json!({"type": "ADDED", "object": {"a": 1}}));
    }
}
