//! What a quota counts: how much an object takes of what is limited, and which objects a quota is about.

pub mod amounts;
pub mod scopes;
pub mod usage;

use crate::kinds::Kind;

/// Whether a kind is the built-in one of this name.
fn is(kind: &Kind, group: &str, name: &str) -> bool {
    kind.kind == name && kind.group == group
}
