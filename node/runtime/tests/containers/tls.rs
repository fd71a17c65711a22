//! `https` of guests: whom the host trusts in their place, and what others get to hear.

use std::net::SocketAddr;
use std::sync::Arc;

use coracle_net::{HostService, Stream};
use coracle_runtime::{Runtime, RuntimeConfig, RuntimeError};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

use crate::world::{World, config};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret";

/// Who signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(parameters, key),
            pem,
        }
    }

    /// A server that is known by this name.
    fn server(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(certificate)], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// All that anybody was told by a guest.
type Heard = Arc<Mutex<Vec<u8>>>;

async fn answer<S: AsyncReadExt + AsyncWriteExt + Unpin>(mut stream: S, heard: Heard) {
    let mut request = [0; 4096];
    let length = stream.read(&mut request).await.unwrap_or(0);
    heard.lock().extend_from_slice(&request[..length]);
    let _ = stream.write_all(ANSWER).await;
    let _ = stream.shutdown().await;
}

/// Serves TLS, or what is none.
fn serve(world: &World, at: SocketAddr, tls: Option<TlsAcceptor>, heard: &Heard) -> HostService {
    let heard = heard.clone();
    let served = world.fabric.serve_host(at, move |stream: Stream| {
        let (tls, heard) = (tls.clone(), heard.clone());
        async move {
            match tls {
                None => answer(stream, heard).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        answer(stream, heard).await;
                    }
                }
            }
        }
    });
    served.unwrap()
}

#[tokio::test]
async fn a_server_is_known_by_the_clusters_authority_and_its_name() {
    let (ours, strange) = (Authority::new(), Authority::new());
    let trusting = RuntimeConfig {
        trusted_pem: Some(ours.pem.clone()),
        ..config()
    };
    let world = World::on(Runtime::new(trusting).unwrap());
    let client = world.pod("client");
    let fetch = async |authority: &str| {
        let guest = world
            .run(&client, "probe", &["fetch", "https", authority, "/private"])
            .await;
        guest.printed().await
    };
    let at = |last: u8| SocketAddr::from(([10, 96, 0, last], 443));
    let (known, strangers) = (Heard::default(), Heard::default());
    let _served = [
        serve(&world, at(50), Some(ours.server("10.96.0.50")), &known),
        serve(&world, at(51), Some(ours.server("another.name")), &strangers),
        serve(&world, at(52), Some(strange.server("10.96.0.52")), &strangers),
        serve(&world, at(53), None, &strangers),
    ];
    assert_eq!(fetch("10.96.0.50").await, "200 secret\n");
    assert!(known.lock().starts_with(b"GET /private HTTP/1.1"));

    for wrong in ["10.96.0.51", "10.96.0.52"] {
        assert_eq!(fetch(wrong).await, "ErrorCode::TlsCertificateError\n", "{wrong}");
    }
    assert_eq!(fetch("10.96.0.53").await, "ErrorCode::TlsProtocolError\n");
    // Whoever could not say who he is has learned nothing.
    let heard = String::from_utf8_lossy(&strangers.lock()).into_owned();
    assert!(!heard.contains("GET") && !heard.contains("private"), "{heard:?}");

    // A name that finds an address and is none that a certificate could have.
    let echo = world.run(&client, "probe", &["echo", "127.0.0.1:443"]).await;
    echo.out.wait_for("listening").await;
    assert_eq!(fetch("a..localhost").await, "ErrorCode::HttpRequestUriInvalid\n");
}

#[tokio::test]
async fn who_is_told_to_trust_nonsense_says_so() {
    let begin = |pem: &str| {
        Runtime::new(RuntimeConfig {
            trusted_pem: Some(pem.to_owned()),
            ..config()
        })
    };
    for pem in [
        "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let error = begin(pem).unwrap_err();
        assert!(matches!(error, RuntimeError::Trust(_)), "{error}");
    }
}
