//! TLS on a socket, on which both sides show certificates of one authority.

use std::cell::RefCell;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};
use webpki::EndEntityCert;

use crate::socket::Socket;

/// Bytes of TLS that are read at a time: a record with its frame.
const RECORD_BYTES: usize = 16 * 1024 + 512;

/// Who this side is, and by whom it knows others.
pub struct Identity {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Identity {
    /// Reads the certificates of a directory.
    pub fn read(directory: &str) -> Result<Self> {
        let provider = Arc::new(rustls_rustcrypto::provider());
        let read = |name: &str| {
            let path = Path::new(directory).join(name);
            std::fs::read(&path).map_err(|error| Error::other(format!("{}: {error}", path.display())))
        };
        let (authority, certificate, key) = (read("ca.crt")?, read("tls.crt")?, read("tls.key")?);
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&authority) {
            roots.add(certificate.map_err(Error::other)?).map_err(Error::other)?;
        }
        let roots = Arc::new(roots);
        let chain: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate).collect();
        let chain = chain.map_err(Error::other)?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(Error::other)?;
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(Error::other)?
            .with_client_cert_verifier(clients.build().map_err(Error::other)?)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(Error::other)?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Error::other)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(Error::other)?;
        Ok(Self {
            client: Arc::new(client),
            server: Arc::new(server),
        })
    }
}

/// A connection on which each side knows the other.
pub struct Secured {
    socket: Socket,
    tls: RefCell<Connection>,
}

impl Secured {
    /// As the side that has connected, to a service of this name.
    pub async fn client(socket: Socket, identity: &Identity, name: &str) -> Result<Self> {
        let name = ServerName::try_from(name.to_owned()).map_err(Error::other)?;
        let tls = ClientConnection::new(identity.client.clone(), name).map_err(Error::other)?;
        Self::agree(socket, tls.into()).await
    }

    /// As the side that was connected to, by a client with one of these names.
    pub async fn server(socket: Socket, identity: &Identity, clients: &[String]) -> Result<Self> {
        let tls = ServerConnection::new(identity.server.clone()).map_err(Error::other)?;
        let secured = Self::agree(socket, tls.into()).await?;
        if !clients.iter().any(|name| secured.is(name)) {
            return Err(Error::new(
                ErrorKind::PermissionDenied,
                "the client is none of MESH_CLIENTS",
            ));
        }
        Ok(secured)
    }

    /// Whether the other side's certificate has this name.
    fn is(&self, name: &str) -> bool {
        let tls = self.tls.borrow();
        let certificate = tls.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.and_then(|der| EndEntityCert::try_from(der).ok());
        let name = ServerName::try_from(name).ok();
        certificate
            .zip(name)
            .is_some_and(|(certificate, name)| certificate.verify_is_valid_for_subject_name(&name).is_ok())
    }

    async fn agree(socket: Socket, tls: Connection) -> Result<Self> {
        let secured = Self {
            socket,
            tls: RefCell::new(tls),
        };
        loop {
            secured.flush().await?;
            if !secured.tls.borrow().is_handshaking() {
                return Ok(secured);
            }
            if let Err(error) = secured.receive().await {
                // The other side is told why.
                let _ = secured.flush().await;
                return Err(error);
            }
        }
    }

    /// Sends what TLS has to say.
    async fn flush(&self) -> Result<()> {
        let mut out = Vec::new();
        {
            let mut tls = self.tls.borrow_mut();
            while tls.wants_write() {
                tls.write_tls(&mut out)?;
            }
        }
        if out.is_empty() {
            Ok(())
        } else {
            self.socket.write(&out).await
        }
    }

    /// Takes what comes.
    async fn receive(&self) -> Result<()> {
        let mut record = vec![0; RECORD_BYTES];
        let count = self.socket.read(&mut record).await?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut rest = &record[..count];
        let mut tls = self.tls.borrow_mut();
        while !rest.is_empty() {
            tls.read_tls(&mut rest)?;
            tls.process_new_packets().map_err(Error::other)?;
        }
        Ok(())
    }

    /// Reads; none at the end that the other side has announced. What TLS itself answers goes out with what is written next.
    pub async fn read(&self, into: &mut [u8]) -> Result<usize> {
        loop {
            match self.tls.borrow_mut().reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            self.receive().await?;
        }
    }

    /// Writes all.
    pub async fn write(&self, bytes: &[u8]) -> Result<()> {
        self.tls.borrow_mut().writer().write_all(bytes)?;
        self.flush().await
    }

    /// There is no more to send.
    pub async fn finish(&self) -> Result<()> {
        self.tls.borrow_mut().send_close_notify();
        self.flush().await?;
        self.socket.finish()
    }
}
