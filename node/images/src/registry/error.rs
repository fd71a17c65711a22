//! What goes wrong with a registry, in words that say what to do.

use std::io;

/// A registry did not give what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Nobody answers there.
    #[error("cannot reach registry {registry}: {why}")]
    Unreachable {
        /// The registry.
        registry: String,
        /// What the connection said.
        why: String,
    },
    /// Nobody is allowed in without credentials.
    #[error(
        "registry {registry} wants a login for {path}: name a Secret of type kubernetes.io/dockerconfigjson in the pod's imagePullSecrets (`kubectl create secret docker-registry`), or log in on this machine with `docker login {registry}`"
    )]
    NoCredentials {
        /// The registry.
        registry: String,
        /// The path of the image.
        path: String,
    },
    /// The credentials do not open it.
    #[error(
        "registry {registry} refuses the login of {origin} for {path}: the password is wrong, or it has no right to this image"
    )]
    Unauthorized {
        /// The registry.
        registry: String,
        /// The path of the image.
        path: String,
        /// Where the credentials come from.
        origin: String,
    },
    /// No such tag, digest or repository.
    #[error("registry {registry} has no {path}{wanted}{known}")]
    NotFound {
        /// The registry.
        registry: String,
        /// The path of the image.
        path: String,
        /// `:tag` or `@digest`.
        wanted: String,
        /// Which tags it has, after a semicolon; may be empty.
        known: String,
    },
    /// The bytes are not those that the digest names.
    #[error("registry {registry} sent other bytes than {digest} names; the image is damaged there, or on the way")]
    Digest {
        /// The registry.
        registry: String,
        /// The digest.
        digest: String,
    },
    /// More than was announced or is taken.
    #[error("registry {registry} sent more than {limit} bytes for {what}")]
    TooLarge {
        /// The registry.
        registry: String,
        /// What was being read.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The registry failed.
    #[error("registry {registry} answered: {why}")]
    Failed {
        /// The registry.
        registry: String,
        /// What it said.
        why: String,
    },
    /// The file system refused.
    #[error("cannot keep what registry {registry} sent: {source}")]
    Io {
        /// The registry.
        registry: String,
        /// What the system said.
        source: io::Error,
    },
}

impl RegistryError {
    /// Whether other credentials may help.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::NoCredentials { .. } | Self::Unauthorized { .. })
    }
}
