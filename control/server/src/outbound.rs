//! TLS towards others: pods behind the proxy, webhooks, aggregated APIs.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use thiserror::Error;
use tokio_rustls::TlsConnector;

use crate::dial::Duplex;

/// A connection cannot be secured.
#[derive(Debug, Error)]
pub(crate) enum OutboundError {
    /// The authorities that were given are none.
    #[error("the CA bundle holds no certificate that can be used: {0}")]
    Bundle(String),
    /// The system has no authorities.
    #[error("no CA bundle is given, and the system trusts no authority: {0}")]
    System(String),
    /// Our own certificate.
    #[error("the client certificate cannot be used: {0}")]
    Client(String),
    /// The peer's name is none.
    #[error("{0:?} is not a name that a certificate could have")]
    Name(String),
    /// TLS itself.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
    /// The handshake.
    #[error("tls: {0}")]
    Handshake(#[from] std::io::Error),
}

/// Whom a peer must be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trust<'a> {
    /// Its certificate is not looked at.
    Anyone,
    /// It has a certificate for its name of one of these authorities (PEM), or of one that the system trusts when none are
    /// given.
    Authorities(&'a [u8]),
}

/// TLS with a peer whose certificate is not looked at.
pub(crate) async fn connect_unverified(stream: Box<dyn Duplex>, name: &str) -> Result<Box<dyn Duplex>, OutboundError> {
    secure(&connector(Trust::Anyone, None)?, stream, name).await
}

/// TLS with a peer that must have a certificate for `name` of one of these authorities (PEM), or of one that the system
/// trusts when none are given.
pub(crate) async fn connect_verified(
    stream: Box<dyn Duplex>,
    name: &str,
    authorities: &[u8],
) -> Result<Box<dyn Duplex>, OutboundError> {
    secure(&connector(Trust::Authorities(authorities), None)?, stream, name).await
}

/// What TLS connections to a peer are made with. `client` is the certificate and key (PEM) by which the peer knows us.
pub(crate) fn connector(trust: Trust<'_>, client: Option<(&str, &str)>) -> Result<TlsConnector, OutboundError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let config = match trust {
        Trust::Anyone => config
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider))),
        Trust::Authorities([]) => config.with_root_certificates(system_roots()?),
        Trust::Authorities(authorities) => config.with_root_certificates(roots(authorities)?),
    };
    let config = match client {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let failed = |error: rustls_pki_types::pem::Error| OutboundError::Client(error.to_string());
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(failed)?;
            config.with_client_auth_cert(chain.map_err(failed)?, key)?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots(authorities: &[u8]) -> Result<RootCertStore, OutboundError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities) {
        let certificate = certificate.map_err(|error| OutboundError::Bundle(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| OutboundError::Bundle(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(OutboundError::Bundle("it is empty".to_owned()));
    }
    Ok(roots)
}

/// The authorities that the system trusts, read once. Reading them takes a while, so a failure is tried again.
fn system_roots() -> Result<Arc<RootCertStore>, OutboundError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(known) = ROOTS.get() {
        return Ok(known.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (good, _) = roots.add_parsable_certificates(found.certs);
    if good == 0 {
        let why = found.errors.first().map(ToString::to_string).unwrap_or_default();
        return Err(OutboundError::System(why));
    }
    Ok(ROOTS.get_or_init(|| Arc::new(roots)).clone())
}

/// Secures a connection to the peer of this name.
pub(crate) async fn secure(
    connector: &TlsConnector,
    stream: Box<dyn Duplex>,
    name: &str,
) -> Result<Box<dyn Duplex>, OutboundError> {
    let name = ServerName::try_from(name.to_owned()).map_err(|_| OutboundError::Name(name.to_owned()))?;
    Ok(Box::new(connector.connect(name, stream).await?))
}

/// Takes every certificate, but not every signature: the peer must hold the key of the one that it shows.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
