//! Images on one node: what an `image:` field names, and the bytes behind it.
//!
//! The crate answers one question, "which module, which files and which defaults does this reference mean?", from three places: the
//! images that are part of the binary, the node's own content store, and (where the node allows it) a file. What registries have
//! comes into that store by [`ImageStore::pull`]; resolving never asks a network. It never runs or compiles a module, and a name
//! without a registry never means somebody else's registry.

mod artifact;
mod assemble;
mod builtin;
mod config;
mod credentials;
mod error;
mod gc;
mod layout;
mod media;
mod module;
mod platform;
mod pull;
mod push;
mod reference;
mod registry;
mod store;
/// What the toolbox can do: the list is the guest's own.
#[path = "../../../guests/toolbox/src/commands.rs"]
mod toolbox;
mod tree;
mod unpack;

pub use artifact::{Build, Interfaces};
pub use assemble::{Files, Source};
pub use builtin::driver;
pub use config::ImageConfig;
pub use credentials::{CredentialsError, Keyring};
pub use error::ImageError;
pub use gc::{Disk, Freed, HIGH_PERCENT, Hold, LOW_PERCENT, Thresholds};
pub use pull::{PullError, Pulled};
pub use push::PushError;
pub use reference::{Reference, ReferenceError};
pub use registry::RegistryError;
pub use store::{Image, ImageStore, Listed};
pub use toolbox::COMMANDS as TOOLBOX_COMMANDS;
pub use tree::copy as copy_files;
