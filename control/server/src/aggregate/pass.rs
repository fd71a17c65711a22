//! Passes a request to the server of its group, in the name of whoever asks.
//!
//! The request has been authenticated and authorised here; the other server learns from headers who asks, and trusts them
//! because of the certificate with which this server connects. Bodies go through as streams both ways, upgrades too.

use std::time::Duration;

use coracle_api::status::ApiError;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::backend::Backend;
use crate::chain::Call;
use crate::decode::RequestBody;
use crate::identity::Identity;
use crate::proxy::pass;
use crate::respond::Answer;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(30);
const PREFIX: &str = "x-remote-";
const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const EXTRA: &str = "x-remote-extra-";
/// What may stand in the name of a header.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// Answers a request for a group that another server serves.
pub(crate) async fn answer(call: &mut Call<'_>, backend: &Backend, body: RequestBody) -> Result<Answer, ApiError> {
    if !backend.available {
        return Err(ApiError::service_unavailable("service unavailable"));
    }
    // Who may do what was decided by the path as it stands; it must not lead elsewhere on the other side.
    if call.info.path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(ApiError::no_such_resource());
    }
    let upgrade = pass::wants_upgrade(&call.parts.headers);
    let request = request(call, backend, upgrade, body)?;
    let client_side = if upgrade { call.parts.extensions.remove() } else { None };
    let stream = match tokio::time::timeout(CONNECT, backend.connect(call.core)).await {
        Ok(connected) => connected?,
        Err(_) => {
            return Err(ApiError::service_unavailable(
                "error trying to reach service: i/o timeout",
            ));
        }
    };
    let answered = pass::exchange(stream, request).await?;
    if answered.status() == StatusCode::SWITCHING_PROTOCOLS {
        return pass::switch(answered, client_side, call.core.closing.child_token());
    }
    let (mut parts, body) = answered.into_parts();
    pass::without_hops(&mut parts.headers);
    Ok(Response::from_parts(parts, pass::stream(body)))
}

fn request(
    call: &Call<'_>,
    backend: &Backend,
    upgrade: bool,
    body: RequestBody,
) -> Result<Request<RequestBody>, ApiError> {
    let mut headers = pass::onward(&call.parts.headers, upgrade);
    introduce(call.identity, &mut headers);
    if let Ok(host) = HeaderValue::from_str(&backend.host()) {
        headers.insert(header::HOST, host);
    }
    let target = call.parts.uri.path_and_query().map_or("/", |path| path.as_str());
    pass::request(&call.parts.method, target, headers, body)
}

/// Says in headers who asks; what a client said there itself is dropped.
pub(super) fn introduce(identity: &Identity, headers: &mut HeaderMap) {
    pass::without(headers, PREFIX);
    let mut say = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.append(name, value);
        }
    };
    say(USER, &identity.user);
    if !identity.uid.is_empty() {
        say(UID, &identity.uid);
    }
    for group in identity.groups.iter() {
        say(GROUP, group);
    }
    for (key, values) in identity.extra.iter() {
        let name = format!("{EXTRA}{}", utf8_percent_encode(key, ENCODED)).to_ascii_lowercase();
        let Ok(name) = HeaderName::try_from(name) else { continue };
        for value in values {
            say(name.clone(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_speaks_for_somebody_else() {
        let mut headers = HeaderMap::new();
        headers.append("x-remote-user", "root".parse().unwrap());
        headers.append("x-remote-extra-a", "b".parse().unwrap());
        let mut identity = Identity::new("ann", &["dev"]);
        identity.extra = std::sync::Arc::new([("acme.com/project".to_owned(), vec!["x".to_owned()])].into());
        introduce(&identity, &mut headers);
        assert_eq!(headers.get_all("x-remote-user").iter().collect::<Vec<_>>(), ["ann"]);
        let groups: Vec<_> = headers.get_all("x-remote-group").iter().collect();
        assert_eq!(groups, ["dev", "system:authenticated"]);
        assert_eq!(headers["x-remote-extra-acme.com%2fproject"], "x");
        assert!(!headers.contains_key("x-remote-extra-a"));
    }
}
