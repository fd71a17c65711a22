//! A pod network in memory: handlers at addresses, with TLS where a test wants it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use coracle_api::status::ApiError;
use coracle_server::{ClusterDialer, Duplex};
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;

/// Answers a request whose body has been read.
pub type Handler = Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, Response<Bytes>> + Send + Sync>;

#[derive(Clone)]
struct Entry {
    handler: Handler,
    tls: Option<Arc<rustls::ServerConfig>>,
}

/// The network; clones are the same one.
#[derive(Clone, Default)]
pub struct Net(Arc<Mutex<HashMap<(String, u16), Entry>>>);

impl Net {
    /// Answers at an address.
    pub fn serve<F>(&self, host: &str, port: u16, handler: F)
    where
        F: Fn(Request<Bytes>) -> BoxFuture<'static, Response<Bytes>> + Send + Sync + 'static,
    {
        let entry = Entry {
            handler: Arc::new(handler),
            tls: None,
        };
        self.0.lock().insert((host.to_owned(), port), entry);
    }

    /// Answers over TLS with a certificate for the host, and returns the authority's certificate (PEM).
    pub fn serve_tls<F>(&self, host: &str, port: u16, handler: F) -> String
    where
        F: Fn(Request<Bytes>) -> BoxFuture<'static, Response<Bytes>> + Send + Sync + 'static,
    {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let entry = Entry {
            handler: Arc::new(handler),
            tls: Some(Arc::new(config)),
        };
        self.0.lock().insert((host.to_owned(), port), entry);
        made.cert.pem()
    }
}

#[async_trait]
impl ClusterDialer for Net {
    async fn connect(&self, host: &str, port: u16) -> Result<Box<dyn Duplex>, ApiError> {
        let entry = self.0.lock().get(&(host.to_owned(), port)).cloned();
        let Some(Entry { handler, tls }) = entry else {
            return Err(ApiError::service_unavailable("connect: connection refused"));
        };
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            match tls {
                None => http(far, handler).await,
                Some(tls) => {
                    if let Ok(secured) = tokio_rustls::TlsAcceptor::from(tls).accept(far).await {
                        http(secured, handler).await;
                    }
                }
            }
        });
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
