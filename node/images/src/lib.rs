//! Images on one node: what an `image:` field names, and the bytes behind it.
//!
//! The crate answers one question, "which module and which defaults does this reference mean?", from three places: the images that are
//! part of the binary, the node's own content store, and (where the node allows it) a file. It never runs or compiles a module,
//! it never asks a network, and a name without a registry never means somebody else's registry.

mod builtin;
mod config;
mod layout;
mod reference;
mod store;
/// What the toolbox can do: the list is the guest's own.
#[path = "../../../guests/toolbox/src/commands.rs"]
mod toolbox;

pub use config::ImageConfig;
pub use reference::{Reference, ReferenceError};
pub use store::{Image, ImageError, ImageStore, Listed};
pub use toolbox::COMMANDS as TOOLBOX_COMMANDS;
