//! Who a node is towards others, and who others are: certificates of the cluster's authority on both sides.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

/// What nodes speak among each other, as ALPN names it.
pub(crate) const LINK: &[u8] = b"coracle-link/1";
/// What the node's API speaks.
pub(crate) const HTTP: &[u8] = b"http/1.1";
/// Under what domain nodes have names in their serving certificates. It is no domain of anybody's, so that such a
/// certificate is good for talking to that node and for nothing else.
const DOMAIN: &str = "node.coracle.internal";
const NODES: &str = "system:nodes";
const NODE: &str = "system:node:";

/// The name in the serving certificate of a node.
#[must_use]
pub fn serving_name(node: &str) -> String {
    format!("{node}.{DOMAIN}")
}

/// Certificates that do not fit together, or are none.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A text that is no certificate or key.
    #[error("the {what} cannot be read: {source}")]
    Pem {
        /// Which one.
        what: &'static str,
        /// What is wrong with it.
        source: rustls_pki_types::pem::Error,
    },
    /// They cannot be used.
    #[error("the certificates of this node cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
    /// The authority cannot verify others.
    #[error("the authority cannot be used: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// What a node proves itself with, each certificate with its private key, all PEM.
#[derive(Clone)]
pub struct Credentials {
    /// The cluster's authority.
    pub authority: String,
    /// For what this node begins.
    pub client: (String, String),
    /// For who comes to this node.
    pub serving: (String, String),
}

/// A node's credentials as they are now: they are renewed while connections come and go.
pub struct Keys(ArcSwap<Configs>);

struct Configs {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Keys {
    /// Reads credentials.
    ///
    /// # Errors
    /// When they cannot be read or do not fit together.
    pub fn new(credentials: &Credentials) -> Result<Arc<Self>, KeyError> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(configs(credentials)?))))
    }

    /// Takes others from now on. Connections that stand go on.
    ///
    /// # Errors
    /// As [`Keys::new`]; then all stays as it was.
    pub fn replace(&self, credentials: &Credentials) -> Result<(), KeyError> {
        self.0.store(Arc::new(configs(credentials)?));
        Ok(())
    }

    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.0.load().server.clone()
    }

    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.0.load().client.clone()
    }
}

fn configs(credentials: &Credentials) -> Result<Configs, KeyError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in chain("authority", &credentials.authority)? {
        roots.add(authority)?;
    }
    let roots = Arc::new(roots);
    // Who brings a token to the API has no certificate; other nodes are asked for theirs when they say what they want.
    let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let (certificate, private) = &credentials.serving;
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain("serving certificate", certificate)?, key("serving key", private)?)?;
    server.alpn_protocols = vec![LINK.to_vec(), HTTP.to_vec()];
    let (certificate, private) = &credentials.client;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain("client certificate", certificate)?, key("client key", private)?)?;
    client.alpn_protocols = vec![LINK.to_vec()];
    Ok(Configs {
        server: Arc::new(server),
        client: Arc::new(client),
    })
}

fn chain(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, KeyError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    all.map_err(|source| KeyError::Pem { what, source })
}

fn key(what: &'static str, pem: &str) -> Result<PrivateKeyDer<'static>, KeyError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|source| KeyError::Pem { what, source })
}

/// Who is at the other end, as its certificate says, which was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The user: the certificate's common name.
    pub user: String,
    /// The groups: its organisations.
    pub groups: Vec<String>,
}

impl Peer {
    /// Reads a certificate; none where it names nobody.
    pub(crate) fn from_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let user = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
        let groups = groups.map(str::to_owned).collect();
        (!user.is_empty()).then_some(Self { user, groups })
    }

    /// The node that this is, if it is one.
    pub(crate) fn node(&self) -> Option<&str> {
        let node = self.user.strip_prefix(NODE).filter(|name| !name.is_empty())?;
        self.groups.iter().any(|group| group == NODES).then_some(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_one_by_user_and_group() {
        let peer = |user: &str, group: &str| Peer {
            user: user.to_owned(),
            groups: vec![group.to_owned()],
        };
        assert_eq!(peer("system:node:a", "system:nodes").node(), Some("a"));
        assert_eq!(peer("system:node:a", "people").node(), None);
        assert_eq!(peer("a", "system:nodes").node(), None);
        assert_eq!(peer("system:node:", "system:nodes").node(), None);
    }
}
