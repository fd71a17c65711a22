//! TLS towards others: pods behind the proxy, webhooks, aggregated APIs.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
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

/// TLS with a peer whose certificate is not looked at.
pub(crate) async fn connect_unverified(stream: Box<dyn Duplex>, name: &str) -> Result<Box<dyn Duplex>, OutboundError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    connect(stream, name, config).await
}

/// TLS with a peer that must have a certificate for `name` of one of these authorities (PEM), or of one that the system
/// trusts when none are given.
pub(crate) async fn connect_verified(
    stream: Box<dyn Duplex>,
    name: &str,
    authorities: &[u8],
) -> Result<Box<dyn Duplex>, OutboundError> {
    let roots = match authorities.is_empty() {
        true => system_roots()?,
        false => Arc::new(roots(authorities)?),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    connect(stream, name, config).await
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

async fn connect(stream: Box<dyn Duplex>, name: &str, config: ClientConfig) -> Result<Box<dyn Duplex>, OutboundError> {
    let name = ServerName::try_from(name.to_owned()).map_err(|_| OutboundError::Name(name.to_owned()))?;
    Ok(Box::new(
        TlsConnector::from(Arc::new(config)).connect(name, stream).await?,
    ))
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
