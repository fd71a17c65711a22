//! A server: built from its configuration, used through [`Server::local`], and run on a listener.

use std::sync::Arc;

use coracle_api::status::ApiError;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::core::Core;
use crate::health::ReadyCheck;
use crate::identity::{Identity, MASTERS};
use crate::local::LocalService;
use crate::tls::{self, TlsError};
use crate::tokens::{TokenError, Tokens};
use crate::{Config, aggregate, bootstrap, flow, ip_addresses, keeper, listen, presence, service_ranges};

/// Why a server could not be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The certificates cannot be used.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// Tokens of service accounts cannot be signed.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// The objects that every cluster has could not be written.
    #[error("bootstrap of {object}: {source}")]
    Bootstrap {
        /// Which object.
        object: String,
        /// What the chain answered.
        source: ApiError,
    },
}

/// The API server. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    core: Arc<Core>,
    tls: Arc<rustls::ServerConfig>,
}

impl Server {
    /// Makes a server and writes the objects that every cluster has, where they are missing. From then on
    /// [`Server::local`] serves; [`Server::run`] serves the network.
    pub async fn build(config: Config) -> Result<Self, BuildError> {
        let tls = Arc::new(tls::server_config(&config.pki)?);
        let tokens = Tokens::new(config.pki.token_key())?;
        let core = Arc::new(Core::new(config, tokens));
        bootstrap::run(&core).await?;
        tokio::spawn(keeper::keep(Arc::downgrade(&core)));
        tokio::spawn(ip_addresses::keep(Arc::downgrade(&core)));
        tokio::spawn(service_ranges::keep(Arc::downgrade(&core)));
        tokio::spawn(presence::keep(Arc::downgrade(&core)));
        tokio::spawn(flow::keep(Arc::downgrade(&core)));
        tokio::spawn(aggregate::keep(Arc::downgrade(&core)));
        Ok(Self { core, tls })
    }

    /// A client in this process that acts as `user` in `groups`.
    pub fn local(&self, user: &str, groups: &[&str]) -> LocalService {
        LocalService::new(self.core.clone(), Identity::new(user, groups))
    }

    /// A client in this process to whom everything is allowed.
    pub fn local_admin(&self) -> LocalService {
        self.local("coracle-admin", &[MASTERS])
    }

    /// A client in this process that has proved nothing; a token in its requests says who it is.
    pub fn local_anonymous(&self) -> LocalService {
        LocalService::new(self.core.clone(), Identity::anonymous())
    }

    /// Adds a condition to `/readyz`, which fails until the condition is set.
    pub fn ready_check(&self, name: &str) -> ReadyCheck {
        self.core.health.check(name)
    }

    /// Adds a part of the control plane to those of which `componentstatuses` tells; it works once the check is set.
    pub fn component(&self, name: &str) -> ReadyCheck {
        self.core.health.component(name)
    }

    /// Serves one connection that came by another way than a listener, such as the pod network: with TLS, as any other.
    pub async fn serve<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (core, acceptor) = (self.core.clone(), TlsAcceptor::from(self.tls.clone()));
        let closing = core.closing.clone();
        listen::connection(core, acceptor, stream, None, closing).await;
    }

    /// Serves a listener until `shutdown`; then takes no more connections, ends the streams and lets the other requests
    /// finish.
    pub async fn run(&self, listener: std::net::TcpListener, shutdown: CancellationToken) -> std::io::Result<()> {
        let core = self.core.clone();
        let stop = CancellationToken::new();
        let follow = {
            let (core, stop) = (core.clone(), stop.clone());
            tokio::spawn(async move { core.follow(&stop).await })
        };
        let served = listen::serve(&core, self.tls.clone(), listener, &shutdown).await;
        stop.cancel();
        // The task ends by itself once it is told to stop; how it ended says nothing.
        let _ = follow.await;
        served
    }
}
