//! Connections of clients: accepted, unwrapped from TLS, served, and drained at the end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
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

use super::headers::Came;
use super::proxy::Proxy;

/// Connections at a time; further clients wait in the kernel's backlog. As for exposed ports: each is a file descriptor.
const CONNECTIONS: usize = 2048;
/// How long a handshake may take: a few round trips over the slowest link.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client may take to send a request's headers over HTTP/1, and how long it may be quiet before.
const HEADERS: Duration = Duration::from_secs(60);
/// The largest head of a request over HTTP/1, and of the list of headers over HTTP/2: what browsers and their cookies stay
/// below, twice over.
const HEAD_BYTES: usize = 64 * 1024;
/// Requests at once on one HTTP/2 connection, as most servers allow.
const STREAMS: u32 = 128;
/// How long requests may go on after the shutdown began.
const DRAIN: Duration = Duration::from_secs(5);
/// A pause after an accept that failed for want of descriptors or memory, which more calls at once would not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves plain connections, or TLS where there is an acceptor, until `stop`; then drains.
pub async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, proxy: Proxy, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    let port = listener.local_addr().map_or(0, |at| at.port());
    loop {
        let next = async {
            // The semaphore is never closed, so a permit always comes.
            let place = places.clone().acquire_owned().await.ok();
            listener.accept().await.map(|(stream, from)| (stream, from, place))
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = next => accepted,
        };
        match accepted {
            Ok((stream, from, place)) => {
                let (tls, proxy, stop) = (tls.clone(), proxy.clone(), stop.clone());
                connections.spawn(async move {
                    accepted_one(stream, from, port, tls, proxy, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "ingress: a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::debug!(left = connections.len(), "ingress: connections did not finish in time");
    }
}

async fn accepted_one(
    stream: TcpStream,
    from: SocketAddr,
    port: u16,
    tls: Option<TlsAcceptor>,
    proxy: Proxy,
    stop: CancellationToken,
) {
    // Without it the end of an answer may wait for the client's next word.
    let _ = stream.set_nodelay(true);
    let came = Came {
        from: from.ip().to_canonical(),
        port,
        secure: tls.is_some(),
    };
    let Some(acceptor) = tls else {
        return connection(stream, came, proxy, stop).await;
    };
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => connection(stream, came, proxy, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "ingress: TLS handshake failed"),
        Err(_) => tracing::debug!("ingress: TLS handshake took too long"),
    }
}

async fn connection<S>(stream: S, came: Came, proxy: Proxy, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let proxy = proxy.clone();
        async move { Ok::<_, Infallible>(proxy.serve(request, came).await) }
    });
    let builder = builder();
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "ingress: a connection ended");
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX))
        .keep_alive_interval(HEADERS)
        .keep_alive_timeout(HANDSHAKE);
    builder
}
