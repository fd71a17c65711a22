//! A node's own certificates: what it asks for, how long it has them, and by what it knows the authority.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::{Peer, serving_name};

/// The part of a certificate's life after which another is asked for, in percent: a tenth of a year is left for a server that
/// is away, and for people who have to approve.
const RENEW_PERCENT: u32 = 70;

/// For what a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// For what the node begins: towards the API server and other nodes.
    Client,
    /// For who comes to the node.
    Serving,
}

/// No request could be made.
#[derive(Debug, thiserror::Error)]
#[error("no request for a certificate of node {node:?} can be made: {source}")]
pub struct RequestError {
    node: String,
    source: rcgen::Error,
}

/// A new private key and the request for its certificate, both PEM: the request first.
///
/// # Errors
/// When the node's name cannot stand in a certificate.
pub fn request(node: &str, purpose: Purpose) -> Result<(String, String), RequestError> {
    let failed = |source| RequestError {
        node: node.to_owned(),
        source,
    };
    let names = match purpose {
        Purpose::Client => Vec::new(),
        Purpose::Serving => vec![serving_name(node)],
    };
    let mut parameters = CertificateParams::new(names).map_err(failed)?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "system:nodes");
    subject.push(DnType::CommonName, format!("system:node:{node}"));
    parameters.distinguished_name = subject;
    let key = KeyPair::generate().map_err(failed)?;
    let request = parameters.serialize_request(&key).map_err(failed)?;
    Ok((request.pem().map_err(failed)?, key.serialize_pem()))
}

/// From when to when a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Its beginning.
    pub from: SystemTime,
    /// Its end.
    pub until: SystemTime,
}

impl Validity {
    /// When another should be asked for.
    #[must_use]
    pub fn renew_at(&self) -> SystemTime {
        let life = self.until.duration_since(self.from).unwrap_or_default();
        self.from + life * RENEW_PERCENT / 100
    }
}

/// From when to when the first certificate of a PEM text is good; none where there is no certificate.
#[must_use]
pub fn validity(pem: &str) -> Option<Validity> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let at = |time: x509_parser::time::ASN1Time| {
        let seconds = u64::try_from(time.timestamp()).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    };
    let validity = certificate.validity();
    Some(Validity {
        from: at(validity.not_before)?,
        until: at(validity.not_after)?,
    })
}

/// The node that a client certificate (PEM) is of.
#[must_use]
pub fn node_of(pem: &str) -> Option<String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    Peer::from_certificate(&der)?.node().map(str::to_owned)
}

/// What an authority (PEM) is known by: `sha256:` and the hash of its public key, as kubeadm has it. None where it is none.
#[must_use]
pub fn authority_pin(pem: &str) -> Option<String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let hash = Sha256::digest(certificate.public_key().raw);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("sha256:{hex}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_before_its_end() {
        let from = SystemTime::UNIX_EPOCH;
        let until = from + Duration::from_secs(1000);
        assert_eq!(Validity { from, until }.renew_at(), from + Duration::from_secs(700));
    }

    #[test]
    fn a_request_is_for_the_node_and_nothing_else() {
        for purpose in [Purpose::Client, Purpose::Serving] {
            let (request, key) = request("worker-1", purpose).unwrap();
            assert!(request.contains("CERTIFICATE REQUEST") && key.contains("PRIVATE KEY"));
        }
        assert_eq!(validity("nonsense"), None);
        assert_eq!(authority_pin("nonsense"), None);
        assert_eq!(node_of("nonsense"), None);
    }
}
