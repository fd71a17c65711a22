//! A pod network in memory: handlers at addresses, with TLS where a test wants it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use coracle_api::status::ApiError;
use coracle_server::{ClusterDialer, Duplex};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::io::DuplexStream;
use tokio_rustls::TlsAcceptor;

/// Answers a request whose body has been read.
pub type Handler = Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, Response<Bytes>> + Send + Sync>;

/// Takes a connection.
type Acceptor = Arc<dyn Fn(DuplexStream) -> BoxFuture<'static, ()> + Send + Sync>;

/// The network; clones are the same one.
#[derive(Clone, Default)]
pub struct Net(Arc<Mutex<HashMap<(String, u16), Acceptor>>>);

impl Net {
    /// Takes the connections to an address.
    pub fn accept<F>(&self, host: &str, port: u16, acceptor: F)
    where
        F: Fn(DuplexStream) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    {
        self.0.lock().insert((host.to_owned(), port), Arc::new(acceptor));
    }

    /// Answers at an address.
    pub fn serve<F>(&self, host: &str, port: u16, handler: F)
    where
        F: Fn(Request<Bytes>) -> BoxFuture<'static, Response<Bytes>> + Send + Sync + 'static,
    {
        let handler: Handler = Arc::new(handler);
        self.accept(host, port, move |stream| http(stream, handler.clone()).boxed());
    }

    /// Answers over TLS with a certificate for the host, and returns the authority's certificate (PEM).
    pub fn serve_tls<F>(&self, host: &str, port: u16, handler: F) -> String
    where
        F: Fn(Request<Bytes>) -> BoxFuture<'static, Response<Bytes>> + Send + Sync + 'static,
    {
        let (config, authority) = tls(host, None);
        let handler: Handler = Arc::new(handler);
        self.accept(host, port, move |stream| {
            let (acceptor, handler) = (TlsAcceptor::from(config.clone()), handler.clone());
            async move {
                if let Ok(secured) = acceptor.accept(stream).await {
                    http(secured, handler).await;
                }
            }
            .boxed()
        });
        authority
    }
}

/// TLS with a certificate for the host, which clients must answer with one of `clients` (PEM) if that is given; and the
/// certificate's authority.
pub fn tls(host: &str, clients: Option<&str>) -> (Arc<rustls::ServerConfig>, String) {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = rustls::RootCertStore::empty();
            for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
                roots.add(authority.unwrap()).unwrap();
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            config.with_client_cert_verifier(verifier.unwrap())
        }
    };
    let config = config.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    (Arc::new(config), made.cert.pem())
}

#[async_trait]
impl ClusterDialer for Net {
    async fn connect(&self, host: &str, port: u16) -> Result<Box<dyn Duplex>, ApiError> {
        let acceptor = self.0.lock().get(&(host.to_owned(), port)).cloned();
        let Some(acceptor) = acceptor else {
            return Err(ApiError::service_unavailable("connect: connection refused"));
        };
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(acceptor(far));
        Ok(Box::new(near))
    }
}

async fn http(stream: impl Duplex + 'static, handler: Handler) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        let handler = handler.clone();
        async move {
            if request.headers().contains_key("upgrade") {
                let upgraded = hyper::upgrade::on(&mut request);
                tokio::spawn(async move {
                    let mut stream = TokioIo::new(upgraded.await.unwrap());
                    let (mut reader, mut writer) = tokio::io::split(&mut stream);
                    let _ = tokio::io::copy(&mut reader, &mut writer).await;
                });
                let answer = Response::builder()
                    .status(101)
                    .header("connection", "upgrade")
                    .header("upgrade", "echo");
                return Ok::<_, Infallible>(answer.body(Full::default()).unwrap());
            }
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Ok(handler(Request::from_parts(parts, body)).await.map(Full::new))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _ = connection.with_upgrades().await;
}
