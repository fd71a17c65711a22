//! Passing requests and answers on: what belongs to one connection stays there, bodies go through as streams, and after an
//! upgrade bytes are copied.

use bytes::Bytes;
use coracle_api::status::ApiError;
use futures::StreamExt;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyStream;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::authn::impersonate;
use crate::body::ResponseBody;
use crate::decode::RequestBody;
use crate::dial::Duplex;
use crate::respond::Answer;

/// What belongs to one connection and not to the request.
const HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

/// Whether a client wants to go on with another protocol.
pub(crate) fn wants_upgrade(headers: &HeaderMap) -> bool {
    let connection = headers.get_all(header::CONNECTION).iter();
    headers.contains_key(header::UPGRADE)
        && connection
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

/// Removes what belongs to one connection, also where the `Connection` header names it.
pub(crate) fn without_hops(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| token.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP) {
        headers.remove(name);
    }
}

/// The headers of a request as they go on to another server. What belongs to this connection stays behind, and so does what
/// says who asks: a token is not for others to see, and for whom somebody may speak was decided here.
pub(crate) fn onward(headers: &HeaderMap, upgrade: bool) -> HeaderMap {
    let wanted = headers.get(header::UPGRADE).cloned().filter(|_| upgrade);
    let mut onward = headers.clone();
    without_hops(&mut onward);
    onward.remove(header::UPGRADE);
    onward.remove(header::AUTHORIZATION);
    without(&mut onward, impersonate::PREFIX);
    if let Some(upgrade) = wanted {
        onward.insert(header::UPGRADE, upgrade);
        onward.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    onward
}

/// Removes the headers whose names begin like this.
pub(crate) fn without(headers: &mut HeaderMap, prefix: &str) {
    let named = headers.keys().filter(|name| name.as_str().starts_with(prefix));
    for name in named.cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
}

/// A request to another server for a path with its query.
///
/// # Errors
/// 400 when it is no path.
pub(crate) fn request(
    method: &Method,
    target: &str,
    headers: HeaderMap,
    body: RequestBody,
) -> Result<Request<RequestBody>, ApiError> {
    let mut request = Request::new(body);
    *request.method_mut() = method.clone();
    *request.uri_mut() = target
        .parse()
        .map_err(|error: http::uri::InvalidUri| ApiError::bad_request(error.to_string()))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Sends a request on a connection of its own.
pub(crate) async fn exchange(
    stream: Box<dyn Duplex>,
    request: Request<RequestBody>,
) -> Result<Response<Incoming>, ApiError> {
    let failed = |error: hyper::Error| ApiError::service_unavailable(format!("error trying to reach service: {error}"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // It ends when both bodies have, or when the client's side of the answer is dropped.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            debug!(%error, "a proxied connection ended");
        }
    });
    sender.send_request(request).await.map_err(failed)
}

/// The other side agreed to an upgrade: so do we, and from then on bytes are copied.
pub(crate) fn switch(
    mut answered: Response<Incoming>,
    client: Option<hyper::upgrade::OnUpgrade>,
    stop: CancellationToken,
) -> Result<Answer, ApiError> {
    let client = client.ok_or_else(|| ApiError::bad_request("this connection cannot be upgraded"))?;
    let server = hyper::upgrade::on(&mut answered);
    let mut answer = Response::new(ResponseBody::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = answered.headers().clone();
    tokio::spawn(async move {
        let (Ok(client), Ok(server)) = tokio::join!(client, server) else {
            return;
        };
        let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
        tokio::select! {
            // Which side ended, and how, is theirs to know.
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
            () = stop.cancelled() => {}
        }
    });
    Ok(answer)
}

/// A body that comes from elsewhere, as the body of an answer.
pub(crate) fn stream(body: Incoming) -> ResponseBody {
    ResponseBody::stream(BodyStream::new(body).filter_map(|frame| {
        std::future::ready(match frame {
            Ok(frame) => frame.into_data().ok().map(Ok::<Bytes, _>),
            Err(error) => Some(Err(std::io::Error::other(error))),
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_and_by_which_connection_stays_here() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer secret"),
            ("impersonate-user", "root"),
            ("impersonate-extra-a", "b"),
            ("connection", "upgrade, x-mine"),
            ("upgrade", "SPDY/3.1"),
            ("x-mine", "1"),
            ("accept", "text/plain"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let plain = onward(&headers, false);
        assert_eq!(plain.keys().collect::<Vec<_>>(), [header::ACCEPT]);
        let upgrade = onward(&headers, true);
        assert_eq!(
            (&upgrade["upgrade"], &upgrade["connection"]),
            (&headers["upgrade"], &HeaderValue::from_static("Upgrade"))
        );
        assert_eq!(upgrade.len(), 3);
    }
}
