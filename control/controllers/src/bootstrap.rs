//! Bootstrap tokens: secrets by which a machine joins that knows nothing of the cluster yet but a token.

pub mod cleaner;
pub mod signer;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

/// An entry of the secret, as text; empty if it is not there.
fn entry<'a>(secret: &'a Secret, name: &str) -> &'a str {
    let bytes = secret.data.as_ref().and_then(|data| data.get(name));
    bytes
        .and_then(|bytes| std::str::from_utf8(&bytes.0).ok())
        .unwrap_or_default()
}

/// When the token ends, if it ever does.
fn expiration(secret: &Secret) -> Option<Timestamp> {
    entry(secret, "expiration").parse().ok()
}
