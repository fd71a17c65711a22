//! TLS that the host speaks for a guest which asks `wasi:http` for `https`.
//!
//! A guest reaches nothing but the cluster, so the authority to trust is the cluster's own: by it the API server is known, and
//! whatever else in the cluster has a certificate of it. Programs that want to trust others bring a TLS of their own.

use std::sync::Arc;

use coracle_net::Stream;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use wasmtime_wasi_http::Error;

/// The certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// They are not in PEM.
    #[error("the trusted certificates: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// They are no certificates of an authority.
    #[error("the trusted certificates: {0}")]
    Certificate(#[from] rustls::Error),
}

/// Connects to servers whose certificates an authority has signed; clones share it.
#[derive(Clone)]
pub(crate) struct Trust(TlsConnector);

impl Trust {
    /// Trusts the authorities of a PEM text.
    pub(crate) fn new(pem: &str) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Agrees on keys with a server that must be `host`.
    pub(crate) async fn connect(&self, host: &str, stream: Stream) -> Result<TlsStream<Stream>, Error> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::HttpRequestUriInvalid)?;
        self.0.connect(name, stream).await.map_err(|error| {
            let of_certificate = error
                .get_ref()
                .and_then(|error| error.downcast_ref::<rustls::Error>())
                .is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_)));
            match of_certificate {
                true => Error::TlsCertificateError,
                false => Error::Tls(error),
            }
        })
    }
}
