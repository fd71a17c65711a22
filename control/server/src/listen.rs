//! Connections: accepted, unwrapped from TLS, given an identity, and drained at the end.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::audit::Peer;
use crate::chain;
use crate::core::Core;
use crate::identity::{self, CertificateOver, Identity};

/// Open connections. Beyond what a laptop's clients need by far, and below the usual limit of file descriptors (1,024 soft
/// on many systems would already be an error of the accept call, which is survived).
const CONNECTIONS: usize = 4096;
/// How long a handshake may take: a few round trips over the slowest link.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client may take to send a request's headers over HTTP/1.
const HEADERS: Duration = Duration::from_secs(30);
/// Requests at once on one HTTP/2 connection. Go clients put all their watches on one connection; when they hit a limit,
/// they stall.
const STREAMS: u32 = 1000;
/// How often a quiet HTTP/2 connection is pinged, and how long the answer may take.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);
/// How long requests may go on after the shutdown began.
const DRAIN: Duration = Duration::from_secs(10);
/// A pause after an accept that failed for want of descriptors or memory, which more calls at once would not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown`, then drains.
pub(crate) async fn serve(
    core: &Arc<Core>,
    tls: Arc<rustls::ServerConfig>,
    listener: std::net::TcpListener,
    shutdown: &CancellationToken,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let acceptor = TlsAcceptor::from(tls);
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, peer, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (core, acceptor, shutdown) = (core.clone(), acceptor.clone(), shutdown.clone());
        connections.spawn(async move {
            connection(core, acceptor, stream, Some(peer), shutdown).await;
            drop(place);
        });
    }
    drop(listener);
    core.closing.cancel();
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        warn!(left = connections.len(), "connections did not finish in time");
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, IpAddr, Option<tokio::sync::OwnedSemaphorePermit>)> {
    // The semaphore is never closed, so a permit always comes.
    let place = places.clone().acquire_owned().await.ok();
    let (stream, peer) = listener.accept().await?;
    // Small frames of watches must not wait for each other.
    let _ = stream.set_nodelay(true);
    Ok((stream, peer.ip(), place))
}

/// Serves one connection, wherever it comes from, to its end. `peer` is its other end's address, where it has one.
pub(crate) async fn connection<S>(
    core: Arc<Core>,
    acceptor: TlsAcceptor,
    stream: S,
    peer: Option<IpAddr>,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%error, "TLS handshake failed"),
        Err(_) => return debug!("TLS handshake took too long"),
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let until = certificate.and_then(|der| identity::until(der));
    let identity = certificate
        .and_then(|der| Identity::from_certificate(der))
        .unwrap_or_else(Identity::anonymous);
    let ending = shutdown.child_token();
    let over = ending.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (core, identity) = (core.clone(), identity.clone());
        // The handshake has seen that it is good; a connection may outlive it.
        let is_over = until.is_some_and(|until| until <= SystemTime::now());
        if is_over {
            over.cancel();
        }
        async move {
            let mut request = request.map(|body| body.map_err(std::io::Error::other).boxed_unsync());
            if let (Some(peer), Some(_)) = (peer, &core.audit) {
                request.extensions_mut().insert(Peer(peer));
            }
            if is_over {
                request.extensions_mut().insert(CertificateOver);
            }
            Ok::<_, Infallible>(chain::serve(core, identity, request).await)
        }
    });
    let builder = builder();
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = ending.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "connection ended");
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    builder
}
