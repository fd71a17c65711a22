//! One request: finds its service, connects, and passes both ways what is said.
//!
//! A connection that was not made is tried again, at another endpoint if there is one. A request that has gone out is sent a
//! second time only where that changes nothing (its method is idempotent and it has no body), and only when the connection
//! had been kept from earlier requests, so that its end may have crossed the request. Bodies flow through with the
//! back-pressure of both connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use coracle_net::{Fabric, NetError};
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;

use super::headers::{self, Came};
use super::mirror::Mirrors;
use super::patience::{Moved, Noted};
use super::pool::{Answer, Failed, Outgoing, Pool};
use super::routes::{Port, Table, Target};
use crate::gateway;

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// How often a connection is tried: the first endpoint may be ending just now, and the second may.
const ATTEMPTS: usize = 3;

/// What a port of a service declares (`appProtocol`) where HTTP/2 is spoken without TLS.
const HTTP2: [&str; 2] = ["kubernetes.io/h2c", "grpc"];

/// How long a service may think before the head of its answer comes: what nginx grants.
pub const RESPONSE: Duration = Duration::from_secs(60);

/// What requests are served from.
#[derive(Clone)]
pub struct Proxy {
    /// The network with the services.
    pub fabric: Fabric,
    /// Connections to endpoints.
    pub pool: Arc<Pool>,
    /// Copies of requests.
    pub mirrors: Arc<Mirrors>,
    /// The rules of gateways, asked first; replaced as a whole.
    pub gateways: Arc<ArcSwap<gateway::Table>>,
    /// The rules of ingresses, where this is their socket; replaced as a whole.
    pub table: Option<Arc<ArcSwap<Table>>>,
    /// Ends connections that have changed their protocol, which nothing else would end.
    pub stop: CancellationToken,
}

/// An answer of this side, in place of the service's.
pub type Refusal = (StatusCode, &'static str);

/// Who says what is done with a request.
enum Found {
    Ingress(Arc<Target>),
    Gateway(gateway::Found),
}

impl Proxy {
    /// Answers a request, whatever happens.
    pub async fn serve(&self, request: Request<Incoming>, came: Came) -> Response<Body> {
        self.pass(request, came)
            .await
            .unwrap_or_else(|(status, why)| plain(status, why))
    }

    async fn pass(&self, mut request: Request<Incoming>, came: Came) -> Result<Response<Body>, Refusal> {
        if request.method() == Method::CONNECT {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "an ingress is no tunnel"));
        }
        let host = headers::host(request.uri(), request.headers());
        let host = host.ok_or((StatusCode::BAD_REQUEST, "the request names no host"))?;
        let found = self.find(host.to_str().unwrap_or_default(), &request, came)?;
        let upgrade = headers::upgrade(request.headers()).map(|_| hyper::upgrade::on(&mut request));
        let (mut parts, body) = request.into_parts();
        headers::to_service(&mut parts.headers, host.clone(), came);
        let (target, rule, copies) = match found {
            Found::Ingress(target) => (target, None, Vec::new()),
            Found::Gateway(found) => match found.decide(&mut parts, &host, came) {
                gateway::Decision::Forward(target, changes, copies) => (target, Some((found.rule, changes)), copies),
                gateway::Decision::Redirect(status, location) => return Ok(redirect(status, location)),
                gateway::Decision::Broken => {
                    return Err((StatusCode::INTERNAL_SERVER_ERROR, "the route's backend cannot be used"));
                }
            },
        };
        let moved = Moved::now();
        let (body, under_way) = self.mirrored(body, copies);
        let request = Request::from_parts(
            parts,
            Noted {
                body,
                moved: moved.clone(),
            },
        );
        let answer = moved.within(RESPONSE, self.deliver(&target, request, &moved));
        let limit = rule.as_ref().and_then(|(rule, _)| rule.timeout);
        let answer = match limit {
            Some(limit) => tokio::time::timeout(limit, answer).await.ok().flatten(),
            None => answer.await,
        };
        // Whatever the answer is, the client has waited for it.
        if let Some(mut copies) = under_way {
            copies.detach_all();
        }
        let mut answer = answer.ok_or(LATE)??;
        let changes = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        if let (true, Some(client)) = (changes, upgrade) {
            let service = hyper::upgrade::on(&mut answer);
            tokio::spawn(join(client, service, self.stop.clone()));
        }
        headers::to_client(answer.headers_mut(), changes);
        if let Some((rule, of_backend)) = rule {
            of_backend.response.apply(answer.headers_mut());
            rule.filters.response.apply(answer.headers_mut());
        }
        Ok(answer.map(BodyExt::boxed_unsync))
    }

    fn find<B>(&self, host: &str, request: &Request<B>, came: Came) -> Result<Found, Refusal> {
        if let Some(found) = self.gateways.load().find(came.port, host, request) {
            return Ok(Found::Gateway(found));
        }
        let ingress = self.table.as_ref().and_then(|table| {
            let table = table.load();
            table.find(host, request.uri().path()).cloned()
        });
        let ingress = ingress.ok_or((StatusCode::NOT_FOUND, "nothing has a rule for this host and path"))?;
        Ok(Found::Ingress(ingress))
    }

    /// Has a request answered by an endpoint of the service. One that refuses is passed over; a connection that was kept and
    /// ended under way is replaced where the request may be sent twice.
    pub(super) async fn deliver(
        &self,
        target: &Target,
        mut request: Request<Outgoing>,
        moved: &Moved,
    ) -> Result<Response<Answer>, Refusal> {
        let (port, http2) = self.port(target).ok_or_else(|| failure(NetError::NameNotFound))?;
        let spare = Spare::of(&request);
        let mut last = NetError::TimedOut;
        let mut fresh = false;
        for _ in 0..ATTEMPTS {
            let endpoint = self.fabric.pick_service(&target.namespace, &target.service, port);
            let endpoint = endpoint.map_err(failure)?;
            match self.pool.send(endpoint, http2, fresh, request).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Unconnected(error, back)) => {
                    last = error;
                    request = *back;
                }
                Err(Failed::Sent { error, kept }) => {
                    tracing::debug!(%error, kept, service = %target.service, "a request failed");
                    let again = spare.as_ref().filter(|_| kept);
                    request = again.map(|spare| spare.request(moved)).ok_or(NO_ANSWER)?;
                    last = NetError::ConnectionReset;
                    fresh = true;
                }
            }
        }
        Err(failure(last))
    }

    /// The number of the port, and whether HTTP/2 is spoken there.
    fn port(&self, target: &Target) -> Option<(u16, bool)> {
        let port = self
            .fabric
            .service_port(&target.namespace, &target.service, |port| match &target.port {
                Port::Number(number) => port.port == *number,
                Port::Name(named) => port.name == *named,
            })?;
        let spoken = port.app_protocol.as_deref();
        Some((port.port, spoken.is_some_and(|spoken| HTTP2.contains(&spoken))))
    }
}

/// What took too long.
pub const LATE: Refusal = (StatusCode::GATEWAY_TIMEOUT, "the service did not answer in time");

/// What was sent and got no answer.
const NO_ANSWER: Refusal = (StatusCode::BAD_GATEWAY, "the service did not answer");

/// A request that may be sent twice (RFC 9110, 9.2.2), and has no body that would be gone.
struct Spare(http::request::Parts);

impl Spare {
    fn of(request: &Request<Outgoing>) -> Option<Self> {
        let twice = request.method().is_idempotent() && request.body().is_end_stream();
        twice.then(|| {
            let (mut parts, ()) = Request::new(()).into_parts();
            parts.method = request.method().clone();
            parts.uri = request.uri().clone();
            parts.headers = request.headers().clone();
            Self(parts)
        })
    }

    fn request(&self, moved: &Moved) -> Request<Outgoing> {
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let moved = moved.clone();
        Request::from_parts(self.0.clone(), Noted { body, moved })
    }
}

fn failure(error: NetError) -> (StatusCode, &'static str) {
    match error {
        NetError::NameNotFound => (
            StatusCode::SERVICE_UNAVAILABLE,
            "there is no such service, or it has no such port",
        ),
        NetError::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "no endpoint took the connection in time"),
        NetError::ConnectionReset => NO_ANSWER,
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the service has no endpoint that takes connections",
        ),
    }
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

fn redirect(status: StatusCode, location: HeaderValue) -> Response<Body> {
    let mut response = plain(status, "see the location");
    response.headers_mut().insert(LOCATION, location);
    response
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
pub(super) mod tests;
