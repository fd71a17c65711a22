//! A connection to a port of a pod's own loopback: bytes in both directions after an upgrade.

use super::path::{Pod, Query};
use super::{Body, switching, text, upgrade};
use crate::handle::AgentHandle;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;

/// What the connection becomes.
const PROTOCOL: &str = "coracle.dev/port-forward";

/// Answers `/portForward`.
pub(super) async fn answer(
    handle: &AgentHandle,
    pod: &Pod,
    query: &Query,
    request: &mut Request<Incoming>,
    stop: CancellationToken,
) -> Response<Body> {
    let Ok(Some(port)) = query.number::<u16>("port") else {
        return text(StatusCode::BAD_REQUEST, "a port is needed: ?port=8080");
    };
    let Some(upgraded) = upgrade(request, PROTOCOL) else {
        return text(StatusCode::BAD_REQUEST, format!("Upgrade request required: {PROTOCOL}"));
    };
    let mut stream = match handle.dial(&pod.namespace, &pod.name, &pod.uid, port).await {
        Ok(stream) => stream,
        Err(error) => return text(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    };
    tokio::spawn(async move {
        let copy = async {
            match upgraded.await {
                // Neither failure concerns anybody but the two ends, which see it.
                Ok(upgraded) => {
                    let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(upgraded), &mut stream).await;
                }
                Err(error) => tracing::debug!(%error, "upgrade failed"),
            }
        };
        stop.run_until_cancelled(copy).await;
    });
    switching(PROTOCOL)
}
