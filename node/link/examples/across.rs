//! Measures connections between pods of two nodes beside plain TLS over the same loopback, in one run: bytes per second and
//! round trips per second, each as often as the other and by turns.
//!
//! `cargo run --release -p coracle-link --example across`

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use coracle_link::{Credentials, Endpoint, Keys, Link, Timing, serving_name};
use coracle_net::{Cidr, Elsewhere, Fabric, FabricConfig, PodIdentity, PodNet, RemoteNode};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

const MIB: usize = 1024 * 1024;
const BULK_BYTES: usize = 1024 * MIB;
const CHUNK_BYTES: usize = 64 * 1024;
const ROUND_TRIPS: usize = 20_000;
const ROUNDS: usize = 5;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    // On a worker, as guests run: the main thread is none.
    tokio::spawn(measure()).await?
}

async fn measure() -> Result<()> {
    let authority = Authority::new()?;
    let (a, b) = (Machine::start(&authority, "a", 1)?, Machine::start(&authority, "b", 2)?);
    a.knows(&b);
    b.knows(&a);
    let (client, server) = (a.pod(2)?, b.pod(2)?);
    let binding = server.bind("0.0.0.0:80".parse()?)?;
    binding.listen(128)?;
    let at = SocketAddr::new(b.ip(2), 80);
    let plain = Plain::start(&authority).await?;

    let (mut bytes, mut trips) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let tls = bulk(plain.connect().await?, plain.accept().await?).await?;
        let pods = bulk(client.connect(at).stream().await?, binding.accept_stream().await?).await?;
        bytes.push((tls, pods));
        let tls = round_trips(plain.connect().await?, plain.accept().await?).await?;
        let pods = round_trips(client.connect(at).stream().await?, binding.accept_stream().await?).await?;
        trips.push((tls, pods));
    }
    report("MiB/s", bytes);
    report("round trips/s", trips);
    Ok(())
}

/// Medians of both, and their ratio.
fn report(unit: &str, measured: Vec<(f64, f64)>) {
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let tls = median(measured.iter().map(|(tls, _)| *tls).collect());
    let pods = median(measured.iter().map(|(_, pods)| *pods).collect());
    println!(
        "{unit:<14} plain TLS {tls:>9.0}   pods of two nodes {pods:>9.0}   {:>4.0} %",
        100.0 * pods / tls
    );
}

/// MiB a second from one end to the other.
async fn bulk<C, S>(mut client: C, mut server: S) -> Result<f64>
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let started = Instant::now();
    let sending = tokio::spawn(async move {
        let chunk = vec![1; CHUNK_BYTES];
        for _ in 0..BULK_BYTES / CHUNK_BYTES {
            client.write_all(&chunk).await?;
        }
        client.shutdown().await?;
        // The other side's answer to the end is waited for, so that nothing is left behind.
        anyhow::Ok(client)
    });
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut total = 0;
    while total < BULK_BYTES {
        match server.read(&mut buffer).await? {
            0 => anyhow::bail!("ended after {total} bytes"),
            count => total += count,
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    sending.await??;
    Ok((BULK_BYTES / MIB) as f64 / seconds)
}

/// Round trips of one byte a second.
async fn round_trips<C, S>(mut client: C, mut server: S) -> Result<f64>
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let echo = tokio::spawn(async move {
        let mut byte = [0];
        for _ in 0..ROUND_TRIPS {
            server.read_exact(&mut byte).await?;
            server.write_all(&byte).await?;
            server.flush().await?;
        }
        anyhow::Ok(server)
    });
    let started = Instant::now();
    let mut byte = [7];
    for _ in 0..ROUND_TRIPS {
        client.write_all(&byte).await?;
        client.flush().await?;
        client.read_exact(&mut byte).await?;
    }
    let seconds = started.elapsed().as_secs_f64();
    echo.await?.context("echo")?;
    Ok(ROUND_TRIPS as f64 / seconds)
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Result<Self> {
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let pem = parameters.self_signed(&key)?.pem();
        let issuer = Issuer::from_ca_cert_pem(&pem, key)?;
        Ok(Self { pem, issuer })
    }

    fn sign(&self, node: &str, usage: ExtendedKeyUsagePurpose) -> Result<(String, String)> {
        let mut parameters = CertificateParams::new(vec![serving_name(node)])?;
        let mut subject = DistinguishedName::new();
        subject.push(DnType::OrganizationName, "system:nodes");
        subject.push(DnType::CommonName, format!("system:node:{node}"));
        parameters.distinguished_name = subject;
        parameters.extended_key_usages = vec![usage];
        let key = KeyPair::generate()?;
        Ok((parameters.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }
}

/// A node.
struct Machine {
    name: String,
    fabric: Fabric,
    address: SocketAddr,
    octet: u8,
}

impl Machine {
    fn start(authority: &Authority, name: &str, octet: u8) -> Result<Self> {
        let fabric = Fabric::new(FabricConfig {
            host_ip: IpAddr::from([10, 0, octet, 1]),
            ..FabricConfig::default()
        });
        let keys = Keys::new(&Credentials {
            authority: authority.pem.clone(),
            client: authority.sign(name, ExtendedKeyUsagePurpose::ClientAuth)?,
            serving: authority.sign(name, ExtendedKeyUsagePurpose::ServerAuth)?,
        })?;
        let link = Link::new(name, keys.clone(), fabric.clone(), Timing::default());
        fabric.set_uplink(Arc::new(link.clone()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let endpoint = Endpoint {
            listener,
            keys,
            link,
            api: None,
        };
        tokio::spawn(endpoint.run(CancellationToken::new()));
        Ok(Self {
            name: name.to_owned(),
            fabric,
            address,
            octet,
        })
    }

    fn ip(&self, last: u8) -> IpAddr {
        IpAddr::from([10, 0, self.octet, last])
    }

    fn knows(&self, other: &Machine) {
        let node = RemoteNode {
            name: other.name.clone(),
            address: other.address,
            networks: vec![Cidr::new(other.ip(0), 24)],
        };
        self.fabric.update_elsewhere(Elsewhere {
            nodes: vec![Arc::new(node)],
            ..Elsewhere::default()
        });
    }

    fn pod(&self, last: u8) -> Result<Arc<PodNet>> {
        let identity = PodIdentity {
            namespace: "bench".into(),
            name: self.name.clone(),
            uid: self.name.clone(),
        };
        Ok(self.fabric.add_pod(identity, vec![self.ip(last)])?)
    }
}

/// TLS of rustls, and nothing else.
struct Plain {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    waiting: tokio::sync::Mutex<Option<tokio::task::JoinHandle<Result<Server>>>>,
}

type Server = tokio_rustls::server::TlsStream<TcpStream>;

impl Plain {
    async fn start(authority: &Authority) -> Result<Arc<Self>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (certificate, key) = authority.sign("plain", ExtendedKeyUsagePurpose::ServerAuth)?;
        let server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes())?],
                PrivateKeyDer::from_pem_slice(key.as_bytes())?,
            )?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes())?)?;
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(Self {
            listener: TcpListener::bind("127.0.0.1:0").await?,
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
            waiting: tokio::sync::Mutex::default(),
        }))
    }

    async fn connect(self: &Arc<Self>) -> Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let this = self.clone();
        let accepting = tokio::spawn(async move {
            let (stream, _) = this.listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(this.acceptor.accept(stream).await?)
        });
        *self.waiting.lock().await = Some(accepting);
        let stream = TcpStream::connect(self.listener.local_addr()?).await?;
        stream.set_nodelay(true)?;
        Ok(self
            .connector
            .connect(ServerName::try_from(serving_name("plain"))?, stream)
            .await?)
    }

    async fn accept(&self) -> Result<Server> {
        let accepting = self.waiting.lock().await.take().context("nobody connects")?;
        accepting.await?
    }
}
