//! What a Kubernetes object is: its kinds, fields, defaults, rules, patches and how it prints.
//!
//! Everything here is a pure function over `serde_json::Value`. Nothing reads a clock, draws a random number, waits, or
//! opens a file: the time and identifiers come in as arguments, so that every decision can be tested by its inputs alone.

pub mod apply;
pub mod convert;
pub mod custom;
pub mod defaults;
pub mod describe;
pub mod field_error;
pub mod fields;
pub mod json;
pub mod key;
pub mod kinds;
pub mod node;
pub mod normalise;
pub mod object;
pub mod patch;
pub mod policy;
pub mod prepare;
pub mod protobuf;
pub mod quality;
pub mod quantity;
pub mod quota;
pub mod schema;
pub mod selector;
pub mod status;
pub mod table;
pub mod time;
pub mod validate;
pub mod yaml;
