//! Admission policies: rules of users that the server evaluates itself, written in CEL.
//!
//! [`config`] keeps policies and bindings compiled, [`params`] finds what a binding hands to its policy, [`scene`] sets up
//! what expressions may look at, [`validating`] and [`mutating`] decide and change. All of it is a function of the request
//! and a snapshot: nothing waits, and every policy has a budget.
//!
//! Expressions see an object in the version in which the server handles its kind, also where a rule names another one. There
//! is no audit log: what a policy wants to have written down stands in the server's own log.
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
