//! Server-side apply: who owns which field of an object, and how a configuration is merged into it.
//!
//! Every write leaves a trace in `metadata.managedFields`: which manager set which fields, with which operation. An apply
//! states everything that its manager wants; fields that it no longer names go away when nobody else owns them, and a
//! field that it changes while another owns it is a conflict. The rules are those of Kubernetes, and so is the form in which
//! sets of fields are written.
//!
//! Everything here is pure: the time comes in with the [`Writer`]. Three questions are answered: who owns a new object
//! ([`owners::created`]), who owns it after a write ([`owners::updated`]), and what an apply makes of it ([`Application`]).
//! On the way of an ordinary write nothing is decoded that the write did not touch.

pub mod application;
pub mod compare;
pub mod conflict;
pub mod extract;
pub mod fields_v1;
pub mod last_applied;
pub mod merge;
pub mod overlay;
pub mod owners;
pub mod path;
pub mod rules;
pub mod set;
#[cfg(test)]
mod tests;

pub use application::Application;
pub use conflict::Conflicts;
pub use extract::Faults;
pub use overlay::overlay;
pub use owners::Writer;
pub use rules::Rules;
pub use set::Set;

/// The part of the metadata that the system writes, and the name: nobody owns it.
pub(crate) const SYSTEM_METADATA: &[&str] = &[
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];
