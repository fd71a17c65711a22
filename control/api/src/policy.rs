//! The expressions of admission policies and of webhooks' match conditions: what they may know, and how they are compiled.
//!
//! A policy is compiled as a whole by one function, whether its author writes it and wants to be told what is wrong, or the
//! server is about to go by it. Nothing is evaluated here: that needs a request and a cluster. Who may do what is asked of
//! a [`Rights`](authorizer::Rights), which whoever evaluates brings along.

pub mod authorizer;
mod compile;
pub mod devices;
pub mod library;
mod names;
pub mod types;

pub use compile::{Annotation, Condition, Mutation, Policy, Validation, conditions, mutating, validating};
pub use names::{NAMESPACE, REQUEST, webhook_names};

/// What one evaluation may cost, as in Kubernetes.
pub const CALL_LIMIT: u64 = 1_000_000;
/// What all evaluations of a policy for one write may cost together, as in Kubernetes.
pub const POLICY_LIMIT: u64 = 10_000_000;
/// What the match conditions for one write may cost together, as in Kubernetes.
pub const CONDITIONS_LIMIT: u64 = 2_500_000;
/// The longest message that an expression may make, in bytes, as in Kubernetes.
pub const MESSAGE_LIMIT_BYTES: usize = 5 * 1024;
