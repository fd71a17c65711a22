//! What names a record, and what counts the writes.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The number of a transaction: the first one is 1, each later one is one more.
/// 0 is the revision of a store that was never written to.
pub type Revision = u64;

/// The name of a record: `<resource.group>/<namespace or empty>/<name>`, ordered bytewise.
///
/// The store gives meaning to one part only: what stands before the first `/` says which
/// watchers are looked at when the record changes. Cloning a key copies a pointer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(Arc::from(text))
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self(Arc::from(text))
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}
