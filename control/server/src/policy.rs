//! Admission policies: rules of users that the server evaluates itself, written in CEL.
//!
//! [`config`] keeps policies and bindings compiled, [`params`] finds what a binding hands to its policy, [`scene`] sets up
//! what expressions may look at, [`validating`] and [`mutating`] decide and change. All of it is a function of the request
//! and a snapshot, and every policy has a budget; nothing waits, but for the webhook of a custom kind whose objects have to be
//! converted.
//!
//! Expressions see an object in the version that the policy's rule names, see [`crate::sight`]. What a policy wants to
//! have written down stands in the audit log, where there is one.
//!
//! Like webhooks, policies are never asked about what they are set up by, so a wrong one can always be taken away.

mod config;
mod mutating;
mod params;
mod rights;
mod scene;
mod validating;

pub(crate) use config::{AdmissionPolicies, PREFIXES};
pub(crate) use mutating::mutate;
pub(crate) use scene::Scene;
pub(crate) use validating::validate;
