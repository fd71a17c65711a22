//! What an HTTP/1.1 request wants to become, and the answer that agrees.

use coracle_api::status::ApiError;
use http::header::{CONNECTION, HeaderName, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use hyper::upgrade::OnUpgrade;

use crate::body::ResponseBody;
use crate::respond::{self, Answer};

const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_PROTOCOLS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    WebSocket,
    Spdy,
}

/// Reads the upgrade headers.
pub(super) fn wanted(headers: &HeaderMap) -> Option<Wanted> {
    let connection = tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    let mut upgrades = tokens(headers, &UPGRADE);
    upgrades.find_map(|token| match token.to_ascii_lowercase().as_str() {
        "websocket" if connection => Some(Wanted::WebSocket),
        "spdy/3.1" if connection => Some(Wanted::Spdy),
        _ => None,
    })
}

/// The comma-separated values of a header, over all its lines.
pub(super) fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// The connection, as it will be after the answer. There is none for callers in this process and over HTTP/2.
pub(super) fn take(parts: &mut Parts) -> Result<OnUpgrade, ApiError> {
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    upgrade.ok_or_else(|| ApiError::bad_request("this connection cannot be upgraded"))
}

/// Chooses the first stream protocol of a SPDY client that is spoken here, and begins the answer: 101, or 403 with what is
/// spoken. A client that offers none means the oldest one, the last of `spoken`.
pub(super) fn agree(headers: &HeaderMap, spoken: &[&'static str]) -> (Option<&'static str>, Answer) {
    let mut offered = tokens(headers, &STREAM_PROTOCOL).peekable();
    let chosen = match offered.peek() {
        None => spoken.last().copied(),
        Some(_) => offered.find_map(|offer| spoken.iter().find(|own| **own == offer).copied()),
    };
    if chosen.is_some() {
        return (chosen, switching("SPDY/3.1"));
    }
    let mut refused = respond::text(StatusCode::FORBIDDEN, "no stream protocol in common\n");
    for own in spoken {
        refused
            .headers_mut()
            .append(ACCEPTED_PROTOCOLS, HeaderValue::from_static(own));
    }
    (None, refused)
}

/// Says which stream protocol was chosen.
pub(super) fn confirm(answer: &mut Answer, protocol: &'static str) {
    answer
        .headers_mut()
        .insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
}

/// 101: from now on the connection is something else.
pub(super) fn switching(protocol: &'static str) -> Answer {
    let mut answer = respond::typed(
        StatusCode::SWITCHING_PROTOCOLS,
        HeaderValue::from_static("text/plain"),
        ResponseBody::empty(),
    );
    answer.headers_mut().clear();
    answer
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static(protocol));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upgrades_are_recognised() {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        assert_eq!(wanted(&headers), None);
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        assert_eq!(wanted(&headers), Some(Wanted::Spdy));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        assert_eq!(wanted(&headers), Some(Wanted::WebSocket));
    }
}
