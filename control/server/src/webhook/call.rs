//! Asks a webhook: one POST over TLS, through the pod network where it is a service.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;

use super::config::Endpoint;
use crate::core::Core;
use crate::dial::Duplex;
use crate::outbound::{self, OutboundError};

/// How much of an answer to one object is read: as much as a request to this server may have.
pub(super) const ANSWER_BYTES: usize = 3 * 1024 * 1024;

/// A question to a webhook.
pub(super) struct Question<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) timeout: Duration,
    /// The authorities of the webhook's certificate, PEM.
    pub(super) authorities: &'a [u8],
    pub(super) body: &'a [u8],
    /// How much of the answer is read.
    pub(super) answer_bytes: usize,
}

/// Why a webhook did not answer.
#[derive(Debug, Error)]
pub(super) enum CallError {
    #[error("{0:?} is no address of a webhook: it must be https://HOST[:PORT]/PATH")]
    Url(String),
    #[error("Post {url:?}: dial tcp: {why}")]
    Connect { url: String, why: String },
    #[error("Post {url:?}: {source}")]
    Tls { url: String, source: OutboundError },
    #[error("Post {url:?}: {source}")]
    Http { url: String, source: hyper::Error },
    #[error("Post {url:?}: the answer cannot be read: {why}")]
    Body { url: String, why: String },
    #[error("the server answered {status}")]
    Status { status: http::StatusCode },
}

/// Sends a question and returns the bytes of the answer.
pub(super) async fn post(core: &Core, question: &Question<'_>) -> Result<Bytes, CallError> {
    let url = question.endpoint.url(question.timeout);
    let uri: Uri = url.parse().map_err(|_| CallError::Url(url.clone()))?;
    let host = uri
        .host()
        .filter(|_| uri.scheme_str() == Some("https"))
        .ok_or_else(|| CallError::Url(url.clone()))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = connect(core, question.endpoint, host, uri.port_u16().unwrap_or(443)).await;
    let stream = stream.map_err(|why| CallError::Connect { url: url.clone(), why })?;
    let secured = outbound::connect_verified(stream, host, question.authorities).await;
    let secured = secured.map_err(|source| CallError::Tls {
        url: url.clone(),
        source,
    })?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, uri.authority().map_or(host, |authority| authority.as_str()))
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json, */*")
        .header(
            USER_AGENT,
            concat!("kube-apiserver-admission (coracle/", env!("CARGO_PKG_VERSION"), ")"),
        )
        .body(Full::new(Bytes::copy_from_slice(question.body)))
        .map_err(|_| CallError::Url(url.clone()))?;
    let failed = |source| CallError::Http {
        url: url.clone(),
        source,
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(secured)).await.map_err(failed)?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(failed)?;
        if !answer.status().is_success() {
            return Err(CallError::Status {
                status: answer.status(),
            });
        }
        let body = Limited::new(answer.into_body(), question.answer_bytes).collect().await;
        let body = body.map_err(|error| CallError::Body {
            url: url.clone(),
            why: error.to_string(),
        })?;
        Ok(body.to_bytes())
    };
    tokio::pin!(exchange);
    // The connection is driven here and ends with the question: nothing is left behind.
    tokio::select! {
        answer = &mut exchange => answer,
        ended = connection => {
            ended.map_err(failed)?;
            exchange.await
        }
    }
}

async fn connect(core: &Core, endpoint: &Endpoint, host: &str, port: u16) -> Result<Box<dyn Duplex>, String> {
    match endpoint {
        Endpoint::Service { .. } => core.cluster.connect(host, port).await.map_err(|error| error.message),
        Endpoint::Url(_) => match TcpStream::connect((host, port)).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(format!("{host}:{port}: {error}")),
        },
    }
}
