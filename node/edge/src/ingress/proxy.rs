//! One request: finds its service, connects, and passes both ways what is said.
//!
//! A request that has begun to go out is never sent a second time; only a connection that was not made is tried again, and
//! then at another endpoint if there is one. Bodies flow through with the back-pressure of both connections.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use coracle_net::{Fabric, NetError, Stream};
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_util::sync::CancellationToken;

use super::headers::{self, Came};
use super::patience::{Moved, Noted};
use super::routes::{Port, Table, Target};

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// How long one attempt to connect may take. An endpoint in the same process takes it at once unless it is overrun.
const CONNECT: Duration = Duration::from_secs(5);

/// How often a connection is tried: the first endpoint may be ending just now, and the second may.
const ATTEMPTS: usize = 3;

/// What a port of a service declares (`appProtocol`) where HTTP/2 is spoken without TLS.
const HTTP2: [&str; 2] = ["kubernetes.io/h2c", "grpc"];

/// How long a service may think before the head of its answer comes: what nginx grants.
const RESPONSE: Duration = Duration::from_secs(60);

/// What requests are served from.
#[derive(Clone)]
pub struct Proxy {
    /// The way to services.
    pub fabric: Fabric,
    /// The rules; replaced as a whole.
    pub table: Arc<ArcSwap<Table>>,
    /// Ends connections that have changed their protocol, which nothing else would end.
    pub stop: CancellationToken,
}

impl Proxy {
    /// Answers a request, whatever happens.
    pub async fn serve(&self, request: Request<Incoming>, came: Came) -> Response<Body> {
        self.pass(request, came)
            .await
            .unwrap_or_else(|(status, why)| plain(status, why))
    }

    async fn pass(
        &self,
        mut request: Request<Incoming>,
        came: Came,
    ) -> Result<Response<Body>, (StatusCode, &'static str)> {
        if request.method() == Method::CONNECT {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "an ingress is no tunnel"));
        }
        let host = headers::host(request.uri(), request.headers());
        let host = host.ok_or((StatusCode::BAD_REQUEST, "the request names no host"))?;
        let target = {
            let table = self.table.load();
            let name = host.to_str().unwrap_or_default();
            let found = table.find(name, request.uri().path()).cloned();
            found.ok_or((StatusCode::NOT_FOUND, "no ingress has a rule for this host and path"))?
        };
        let (stream, http2) = self.connect(&target).await.map_err(failure)?;
        let upgrade = headers::upgrade(request.headers()).map(|_| hyper::upgrade::on(&mut request));
        let moved = Moved::now();
        let mut request = request.map(|body| Noted {
            body,
            moved: moved.clone(),
        });
        headers::to_service(request.headers_mut(), host.clone(), came);
        let answer = moved.within(RESPONSE, async move {
            match http2 {
                true => send_http2(stream, request, &host).await,
                false => send_http1(stream, request).await,
            }
        });
        let answer = answer
            .await
            .ok_or((StatusCode::GATEWAY_TIMEOUT, "the service did not answer in time"))?;
        let mut answer = answer.map_err(|error| {
            tracing::debug!(%error, service = %target.service, "a request failed");
            (StatusCode::BAD_GATEWAY, "the service did not answer")
        })?;
        let changes = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        if let (true, Some(client)) = (changes, upgrade) {
            let service = hyper::upgrade::on(&mut answer);
            tokio::spawn(join(client, service, self.stop.clone()));
        }
        headers::to_client(answer.headers_mut(), changes);
        Ok(answer.map(BodyExt::boxed_unsync))
    }

    /// A connection to an endpoint, and whether HTTP/2 is spoken there.
    async fn connect(&self, target: &Target) -> Result<(Stream, bool), NetError> {
        let (namespace, name) = (&target.namespace, &target.service);
        let port = self.fabric.service_port(namespace, name, |port| match &target.port {
            Port::Number(number) => port.port == *number,
            Port::Name(named) => port.name == *named,
        });
        let port = port.ok_or(NetError::NameNotFound)?;
        let http2 = port
            .app_protocol
            .as_deref()
            .is_some_and(|spoken| HTTP2.contains(&spoken));
        let port = port.port;
        let mut last = NetError::TimedOut;
        for _ in 0..ATTEMPTS {
            let dial = self.fabric.dial_service(namespace, name, port);
            match tokio::time::timeout(CONNECT, dial).await {
                Ok(Ok(stream)) => return Ok((stream, http2)),
                Ok(Err(NetError::NameNotFound)) => return Err(NetError::NameNotFound),
                Ok(Err(error)) => last = error,
                Err(_) => last = NetError::TimedOut,
            }
        }
        Err(last)
    }
}

/// Sends a request over HTTP/1.1, which may change its protocol.
async fn send_http1(stream: Stream, mut request: Request<Noted<Incoming>>) -> hyper::Result<Response<Incoming>> {
    *request.uri_mut() = origin_form(request.uri());
    *request.version_mut() = Version::HTTP_11;
    let (mut service, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(ended(connection.with_upgrades()));
    service.send_request(request).await
}

/// Sends a request over HTTP/2, as gRPC needs it, to a server that knows without TLS that it is asked so.
async fn send_http2(
    stream: Stream,
    mut request: Request<Noted<Incoming>>,
    host: &HeaderValue,
) -> hyper::Result<Response<Incoming>> {
    // The host stands in the target here.
    request.headers_mut().remove(HOST);
    let whole = Uri::builder().scheme("http").authority(host.as_bytes());
    let path = request.uri().path_and_query().cloned();
    if let Ok(uri) = whole
        .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
        .build()
    {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = Version::HTTP_2;
    let (mut service, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(ended(connection));
    service.send_request(request).await
}

/// Drives a connection to its end. Both ends see their own part of a failure.
async fn ended(connection: impl Future<Output = hyper::Result<()>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to a service ended");
    }
}

fn failure(error: NetError) -> (StatusCode, &'static str) {
    match error {
        NetError::NameNotFound => (
            StatusCode::SERVICE_UNAVAILABLE,
            "there is no such service, or it has no such port",
        ),
        NetError::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "no endpoint took the connection in time"),
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the service has no endpoint that takes connections",
        ),
    }
}

/// Path and query, as a server that is no proxy is asked.
fn origin_form(uri: &Uri) -> Uri {
    let path = uri.path_and_query().cloned();
    path.map_or_else(Uri::default, Uri::from)
}

/// Passes bytes both ways once both ends have changed their protocol.
async fn join(client: OnUpgrade, service: OnUpgrade, stop: CancellationToken) {
    let joined = async {
        let (client, service) = tokio::try_join!(client, service).map_err(io::Error::other)?;
        let stream = |upgraded: Upgraded| TokioIo::new(upgraded);
        tokio::io::copy_bidirectional(&mut stream(client), &mut stream(service)).await
    };
    tokio::select! {
        () = stop.cancelled() => {}
        joined = joined => {
            if let Err(error) = joined {
                tracing::debug!(%error, "a connection of another protocol ended");
            }
        }
    }
}

fn plain(status: StatusCode, why: &'static str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("{why}\n"))).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests;
