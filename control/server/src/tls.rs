//! TLS as the server speaks it: HTTP/2 or 1.1 by ALPN, a client certificate of our own authority if the client has one.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use crate::Pki;

/// Why TLS could not be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A stored certificate or key is no PEM.
    #[error("{what}: {source}")]
    Pem {
        /// Which one.
        what: &'static str,
        /// What is wrong with it.
        source: rustls_pki_types::pem::Error,
    },
    /// The certificates do not fit together.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
    /// The authority cannot verify clients.
    #[error("{0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The server's side of TLS.
pub(crate) fn server_config(pki: &Pki) -> Result<rustls::ServerConfig, TlsError> {
    let pem = |what| move |source| TlsError::Pem { what, source };
    let authority = CertificateDer::from_pem_slice(pki.ca_pem().as_bytes()).map_err(pem("authority"))?;
    let (certificate, key) = pki.serving();
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(pem("serving certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(pem("serving key"))?;
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate, authority], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
