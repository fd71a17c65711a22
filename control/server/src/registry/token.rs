//! The token with which a client asks for the next page of a list: opaque to clients, the same shape as in Kubernetes.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coracle_api::status::ApiError;
use serde::{Deserialize, Serialize};

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// The revision of all pages; -1 goes on with the newest state.
    pub(crate) revision: i64,
    /// The last key that was shown, without the part that all keys of the list share.
    pub(crate) after: String,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: String,
    rv: i64,
    start: String,
}

const VERSION: &str = "meta.k8s.io/v1";

impl Token {
    pub(crate) fn encode(&self) -> String {
        let wire = Wire {
            v: VERSION.to_owned(),
            rv: self.revision,
            start: format!("{}\0", self.after),
        };
        // A struct of two strings and a number always serialises.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wire).unwrap_or_default())
    }

    /// Reads a token; 400 when it is none of ours.
    pub(crate) fn decode(text: &str) -> Result<Self, ApiError> {
        let bad = || ApiError::bad_request("continue key is not valid");
        let json = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| bad())?;
        let wire: Wire = serde_json::from_slice(&json).map_err(|_| bad())?;
        if wire.v != VERSION {
            return Err(bad());
        }
        let after = wire.start.strip_suffix('\0').ok_or_else(bad)?.to_owned();
        Ok(Self {
            revision: wire.rv,
            after,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(revision in -1_i64.., after in "[a-z./-]{0,60}") {
            let token = Token { revision, after };
            prop_assert_eq!(Token::decode(&token.encode()).unwrap(), token);
        }

        #[test]
        fn anything_else_is_refused_quietly(text in ".{0,80}") {
            let _ = Token::decode(&text);
        }
    }
}
