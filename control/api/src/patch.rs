//! The three ways to patch a document. Each takes a document and a patch, already read, and neither knows the clock nor the store.

pub mod json;
pub mod merge;
pub mod strategic;

pub use self::json::json;
pub use self::merge::merge;
