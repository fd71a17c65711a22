//! Why there is no image, in words that say what to do.

use crate::module::MAX_MODULE_BYTES;
use crate::reference::ReferenceError;
use std::io;
use std::path::PathBuf;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The text is no reference.
    #[error(transparent)]
    InvalidReference(#[from] ReferenceError),
    /// An unqualified name that the node does not have.
    #[error(
        "image {reference:?} is not in this node's store; load it with `coracle image load {reference} FILE.wasm`, or use a built-in image: {builtin}"
    )]
    NotFound {
        /// The reference in full.
        reference: String,
        /// The names of the built-in images.
        builtin: String,
    },
    /// A name of a registry that the node does not have.
    #[error(
        "image {reference:?} is not in this node's store; fetch it with `coracle image pull {reference}`, or let the pod's imagePullPolicy be IfNotPresent or Always"
    )]
    NotPulled {
        /// The reference in full.
        reference: String,
    },
    /// The node runs no modules from files.
    #[error("image file://{}: this node does not run modules from files; load it with `coracle image load NAME {}`", path.display(), path.display())]
    FilesNotAllowed {
        /// The path in the reference.
        path: PathBuf,
    },
    /// The content is no WebAssembly.
    #[error("image {reference:?} is not WebAssembly: it is {what}")]
    NotWasm {
        /// The reference or path.
        reference: String,
        /// What the content looks like.
        what: &'static str,
    },
    /// Bigger than a node accepts.
    #[error("image {reference:?} has {size} bytes, more than the {MAX_MODULE_BYTES} that a node accepts")]
    TooLarge {
        /// The reference or path.
        reference: String,
        /// The size in bytes.
        size: u64,
    },
    /// The name belongs to an image that is part of the binary.
    #[error("{reference:?} is a built-in image and cannot be replaced or removed; use another name or tag")]
    Builtin {
        /// The reference in full.
        reference: String,
    },
    /// The store's files do not fit together.
    #[error("image {reference:?} is damaged in this node's store ({why}); load it again")]
    Damaged {
        /// The reference in full.
        reference: String,
        /// What was found.
        why: String,
    },
    /// The file system refused.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
