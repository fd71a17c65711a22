//! The port at which a node listens, for other nodes and for who wants its API.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::identity::{Keys, LINK, Peer};
use crate::link::Link;
use crate::session::ENCRYPTED_BYTES;

/// Connections at a time. Each API call has one of its own, each other node has one: more than a thousand nodes and as many
/// clients that follow logs. Further ones wait in the kernel's backlog.
const CONNECTIONS: usize = 4096;
/// How long a handshake may take: a few round trips over the slowest link.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A pause after an accept that failed for want of descriptors, which more calls at once would not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A byte stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Serves a connection of somebody who wants the node's API; without a peer it has shown no certificate.
pub type ApiHandler = Arc<dyn Fn(Option<Peer>, Box<dyn Duplex>) -> BoxFuture<'static, ()> + Send + Sync>;

/// A port that listens.
pub struct Endpoint {
    /// The socket, bound.
    pub listener: std::net::TcpListener,
    /// What the node proves itself with.
    pub keys: Arc<Keys>,
    /// Takes other nodes.
    pub link: Link,
    /// Takes the others; without it they are turned away.
    pub api: Option<ApiHandler>,
}

impl Endpoint {
    /// Serves until the shutdown, which ends the connections too.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub async fn run(self, shutdown: CancellationToken) -> io::Result<()> {
        self.listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(self.listener.try_clone()?)?;
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let this = Arc::new(self);
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = accept(&listener, &places) => accepted,
            };
            match accepted {
                Ok((stream, place)) => {
                    let (this, stop) = (this.clone(), shutdown.clone());
                    tasks.spawn(async move {
                        stop.run_until_cancelled(this.serve(stream)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        this.link.close();
        tasks.close();
        tasks.wait().await;
        Ok(())
    }

    async fn serve(&self, stream: TcpStream) {
        let acceptor = TlsAcceptor::from(self.keys.server());
        let mut stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => return tracing::debug!("TLS handshake took too long"),
        };
        let (_, tls) = stream.get_ref();
        let certificate = tls.peer_certificates().and_then(<[_]>::first);
        let peer = certificate.and_then(|der| Peer::from_certificate(der));
        if tls.alpn_protocol() != Some(LINK) {
            if let Some(api) = &self.api {
                api(peer, Box::new(stream)).await;
            }
            return;
        }
        match peer.as_ref().and_then(Peer::node) {
            Some(node) => {
                stream.get_mut().1.set_buffer_limit(Some(ENCRYPTED_BYTES));
                self.link.accept(node, stream).await;
            }
            None => tracing::warn!(?peer, "somebody who is no node wanted to be linked"),
        }
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, Option<tokio::sync::OwnedSemaphorePermit>)> {
    // The semaphore is never closed, so a permit always comes.
    let place = places.clone().acquire_owned().await.ok();
    let (stream, _) = listener.accept().await?;
    // What is small and urgent must not wait for more.
    let _ = stream.set_nodelay(true);
    Ok((stream, place))
}
