//! The kubelet's API of one node, on connections that somebody else has accepted and secured: logs, exec, attach, ports of
//! pods, and what the node tells of itself.
//!
//! The paths and parameters are the kubelet's; exec and attach speak its WebSocket protocol, and a port of a pod is bytes
//! after an upgrade. Everything but `/healthz` is for those who prove to be somebody whom the API server lets reach nodes.

mod access;
mod command;
mod forward;
mod path;

use crate::handle::AgentHandle;
use crate::logs::LogOptions;
use access::{Decision, decide};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use path::{Query, Route};
use std::convert::Infallible;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// How long a client may take to send a request's headers.
const HEADERS: Duration = Duration::from_secs(30);

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Who is at the other end of a connection, as its certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub user: String,
    /// The groups that the user is in.
    pub groups: Vec<String>,
}

/// Serves one connection to its end. Without a caller a request must bring a token.
pub async fn serve<S>(handle: AgentHandle, caller: Option<Caller>, stream: S, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stop = shutdown.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (handle, caller, stop) = (handle.clone(), caller.clone(), stop.clone());
        async move { Ok::<_, Infallible>(answer(handle, caller, request, stop).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS);
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::select! {
        () = shutdown.cancelled() => {}
        ended = connection => if let Err(error) = ended {
            tracing::debug!(%error, "a connection to the node's API ended");
        },
    }
}

async fn answer(
    handle: AgentHandle,
    caller: Option<Caller>,
    mut request: Request<Incoming>,
    stop: CancellationToken,
) -> Response<Body> {
    let Some(route) = path::route(request.uri().path()) else {
        return text(StatusCode::NOT_FOUND, "404 page not found");
    };
    if route == Route::Health {
        return text(StatusCode::OK, "ok");
    }
    let token = bearer(request.headers());
    match decide(&handle, caller, token, &route).await {
        Decision::Allowed => {}
        Decision::Unknown => return text(StatusCode::UNAUTHORIZED, "Unauthorized"),
        Decision::Forbidden(why) => return text(StatusCode::FORBIDDEN, why),
    }
    let query = Query::parse(request.uri().query());
    match route {
        Route::Health => text(StatusCode::OK, "ok"),
        Route::Pods => json(&handle.pod_list()),
        Route::Told(path) => match handle.tell(&path) {
            Some(told) => typed(StatusCode::OK, told.content_type, told.body),
            None => text(StatusCode::NOT_FOUND, "404 page not found"),
        },
        Route::Logs { pod, container } => logs(&handle, &pod, &container, &query, &stop).await,
        Route::Exec { pod, container } => {
            let words = query.all("command");
            if words.is_empty() {
                return text(StatusCode::BAD_REQUEST, "a command is needed");
            }
            command::answer(handle, pod, container, Some(words), &query, &mut request, stop)
        }
        Route::Attach { pod, container } => command::answer(handle, pod, container, None, &query, &mut request, stop),
        Route::PortForward { pod } => forward::answer(&handle, &pod, &query, &mut request, stop).await,
    }
}

async fn logs(
    handle: &AgentHandle,
    pod: &path::Pod,
    container: &str,
    query: &Query,
    stop: &CancellationToken,
) -> Response<Body> {
    let options = match options(query) {
        Ok(options) => options,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let uid = query.get("uid").unwrap_or_default();
    match handle.logs(&pod.namespace, &pod.name, uid, container, &options).await {
        Ok(lines) => {
            let lines = lines.take_until(stop.clone().cancelled_owned());
            let body = StreamBody::new(lines.map_ok(Frame::data)).boxed_unsync();
            let mut answer = Response::new(body);
            let plain = HeaderValue::from_static("text/plain");
            answer.headers_mut().insert(CONTENT_TYPE, plain);
            answer
        }
        Err(error) => text(StatusCode::BAD_REQUEST, error.to_string()),
    }
}

fn options(query: &Query) -> Result<LogOptions, String> {
    let wrong = |name: &str, text: &str| format!("invalid value {text:?} of query parameter {name}");
    let since_micros = match query.get("sinceTime") {
        None => None,
        Some(text) => {
            let at: jiff::Timestamp = text.parse().map_err(|_| wrong("sinceTime", text))?;
            Some(at.as_microsecond())
        }
    };
    Ok(LogOptions {
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        since_seconds: query
            .number("sinceSeconds")
            .map_err(|text| wrong("sinceSeconds", text))?,
        since_micros,
        timestamps: query.flag("timestamps"),
        tail_lines: query.number("tailLines").map_err(|text| wrong("tailLines", text))?,
        limit_bytes: query.number("limitBytes").map_err(|text| wrong("limitBytes", text))?,
    })
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

/// The connection as it will be after the answer, where the request asks for this protocol.
fn upgrade(request: &mut Request<Incoming>, protocol: &str) -> Option<OnUpgrade> {
    let names = |name, wanted: &str| {
        let values = request.headers().get_all(name).iter();
        let mut tokens = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        tokens.any(|token| token.trim().eq_ignore_ascii_case(wanted))
    };
    (names(CONNECTION, "upgrade") && names(UPGRADE, protocol)).then(|| hyper::upgrade::on(request))
}

/// 101: from now on the connection is something else.
fn switching(protocol: &'static str) -> Response<Body> {
    let mut answer = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = answer.headers_mut();
    headers.clear();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(protocol));
    answer
}

fn text(status: StatusCode, words: impl Into<Bytes>) -> Response<Body> {
    typed(status, "text/plain; charset=utf-8", words.into())
}

fn json(value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(body) => typed(StatusCode::OK, "application/json", body.into()),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn typed(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut answer = Response::new(Full::new(body).map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}
