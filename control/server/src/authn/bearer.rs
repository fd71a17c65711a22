//! Bearer tokens: where they stand in a request, and which kinds there are.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coracle_api::status::ApiError;
use http::HeaderMap;
use http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};

use super::{bootstrap, service_account};
use crate::core::Core;
use crate::identity::Identity;

/// For whom the tokens of this API are, and who issues them: an address at which pods reach it.
pub(crate) const AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";
/// Browsers cannot set headers on a WebSocket; they send the token as one of the protocols that they offer.
const PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";
/// The longest token that is looked at. Ours have some 1,000 characters.
const TOKEN_BYTES: usize = 16 * 1024;

/// What a good token says.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) identity: Identity,
    /// For which of the audiences in question the token is.
    pub(crate) audiences: Vec<String>,
}

/// The token of an `Authorization` header.
pub(super) fn from_header(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The token among the protocols that a WebSocket offers, which is taken out of them.
pub(super) fn from_protocols(headers: &mut HeaderMap) -> Option<String> {
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let offered: Vec<String> = offered
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|protocol| protocol.trim().to_owned())
        .collect();
    let (tokens, others): (Vec<String>, Vec<String>) =
        offered.into_iter().partition(|protocol| protocol.starts_with(PROTOCOL));
    let token = tokens.first()?.strip_prefix(PROTOCOL)?.to_owned();
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Ok(value) = HeaderValue::from_str(&others.join(", ")) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    String::from_utf8(URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).ok()?).ok()
}

/// Says whose token it is; 401 when it is nobody's. It must be for one of `audiences`.
pub(crate) fn verify(core: &Core, token: &str, audiences: &[&str]) -> Result<Verified, ApiError> {
    if token.len() > TOKEN_BYTES {
        return Err(ApiError::unauthorized());
    }
    let snapshot = core.store.snapshot();
    let now = core.now_micros();
    let verified = match token.split_once('.') {
        Some((id, secret)) if !secret.contains('.') => {
            let identity = bootstrap::verify(&snapshot, id, secret, now);
            // A bootstrap token says nothing of audiences: it is for this API.
            let audiences = audiences.iter().filter(|audience| **audience == AUDIENCE);
            let audiences: Vec<String> = audiences.map(|audience| (*audience).to_owned()).collect();
            identity
                .filter(|_| !audiences.is_empty())
                .map(|identity| Verified { identity, audiences })
        }
        Some(_) => core
            .tokens
            .verify(token)
            .and_then(|claims| service_account::verify(&snapshot, &claims, token, audiences, now)),
        None => None,
    };
    verified.ok_or_else(ApiError::unauthorized)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let cases = [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Bearer ", None),
            ("Basic abc", None),
            ("abc", None),
        ];
        for (header, token) in cases {
            assert_eq!(from_header(&HeaderValue::from_static(header)), token, "{header}");
        }
    }

    #[test]
    fn a_protocol_can_carry_the_token_and_is_not_passed_on() {
        let mut headers = HeaderMap::new();
        headers.insert(
            SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static("base64url.bearer.authorization.k8s.io.YWJj, v5.channel.k8s.io"),
        );
        assert_eq!(from_protocols(&mut headers).as_deref(), Some("abc"));
        assert_eq!(headers.get(SEC_WEBSOCKET_PROTOCOL).unwrap(), "v5.channel.k8s.io");
        assert_eq!(from_protocols(&mut headers), None);
    }
}
