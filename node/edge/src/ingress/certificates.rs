//! Which certificate a client gets, by the name that it asks for.
//!
//! The certificates stand in Secrets that ingresses name. Who asks for a name of which none speaks gets a certificate that
//! nobody has signed, as with most ingress controllers: the client's user then decides.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::Ingress;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::gateway;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The Secret does not exist, or is none of type kubernetes.io/tls.
    #[error("there is no Secret {0:?} of type kubernetes.io/tls")]
    Absent(String),
    /// A part of it is no PEM.
    #[error("Secret {secret:?}: {part}: {source}")]
    Pem {
        /// Name of the Secret.
        secret: String,
        /// Which part.
        part: &'static str,
        /// What is wrong with it.
        source: rustls_pki_types::pem::Error,
    },
    /// The key cannot be used, or is not that of the certificate.
    #[error("Secret {secret:?}: {source}")]
    Key {
        /// Name of the Secret.
        secret: String,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// The certificate for other names cannot be made.
    #[error("cannot make a certificate: {0}")]
    Own(#[from] rcgen::Error),
}

/// The certificates of one moment.
#[derive(Debug, Default)]
pub struct Certificates {
    hosts: HashMap<String, Arc<CertifiedKey>>,
    /// By what stands behind the first label: `.example.com`.
    wildcards: HashMap<String, Arc<CertifiedKey>>,
}

impl Certificates {
    /// Adds those of an ingress; `secret` finds a Secret of its namespace. Returns what is wrong with them.
    pub fn add<'a>(
        &mut self,
        ingress: &Ingress,
        secret: impl Fn(&str) -> Option<&'a Secret>,
        provider: &CryptoProvider,
    ) -> Vec<CertificateError> {
        let Some(spec) = &ingress.spec else { return Vec::new() };
        let mut wrong = Vec::new();
        for tls in spec.tls.iter().flatten() {
            let name = tls.secret_name.as_deref().unwrap_or_default();
            let found = secret(name).ok_or_else(|| CertificateError::Absent(name.to_owned()));
            match found.and_then(|secret| certified(name, secret, provider)) {
                Ok(key) => {
                    let own = tls.hosts.iter().flatten();
                    let of_rules = spec.rules.iter().flatten().filter_map(|rule| rule.host.as_ref());
                    // Without hosts of its own it is for all that the ingress has rules for.
                    match tls.hosts.as_ref().is_none_or(Vec::is_empty) {
                        true => of_rules.for_each(|host| self.insert(host, &key)),
                        false => own.for_each(|host| self.insert(host, &key)),
                    }
                }
                Err(error) => wrong.push(error),
            }
        }
        wrong
    }

    /// The oldest ingress is added first and keeps a host.
    fn insert(&mut self, host: &str, key: &Arc<CertifiedKey>) {
        let host = host.to_ascii_lowercase();
        match host.strip_prefix('*') {
            Some(rest) => self.wildcards.entry(rest.to_owned()),
            None => self.hosts.entry(host),
        }
        .or_insert_with(|| key.clone());
    }

    /// The certificate for a name.
    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let wildcard = || self.wildcards.get(name.get(name.find('.')?..)?);
        self.hosts.get(&name).or_else(wildcard)
    }
}

/// The certificate and key of a Secret.
///
/// # Errors
/// Where they are none, or do not belong together.
pub fn certified(
    name: &str,
    secret: &Secret,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, CertificateError> {
    let pem = |part| {
        move |source| CertificateError::Pem {
            secret: name.to_owned(),
            part,
            source,
        }
    };
    let part = |part: &str| {
        let data = secret.data.as_ref().and_then(|data| data.get(part));
        data.map(|bytes| bytes.0.as_slice()).unwrap_or_default()
    };
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(part("tls.crt")).collect();
    let chain = chain.map_err(pem("tls.crt"))?;
    let key = PrivateKeyDer::from_pem_slice(part("tls.key")).map_err(pem("tls.key"))?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|source| CertificateError::Key {
        secret: name.to_owned(),
        source,
    })?;
    Ok(Arc::new(certified))
}

/// Chooses among the certificates as they are at the moment: those of gateways at this port, then those of ingresses.
pub struct Resolver {
    port: u16,
    gateways: Arc<ArcSwap<gateway::Table>>,
    ingresses: Option<Arc<ArcSwap<Certificates>>>,
    other: Arc<CertifiedKey>,
}

impl Resolver {
    /// Chooses from these for a port, and makes a certificate for all other names.
    ///
    /// # Errors
    /// When that cannot be made.
    pub fn new(
        port: u16,
        gateways: Arc<ArcSwap<gateway::Table>>,
        ingresses: Option<Arc<ArcSwap<Certificates>>>,
        provider: &CryptoProvider,
    ) -> Result<Self, CertificateError> {
        let made = rcgen::generate_simple_self_signed(vec!["ingress.coracle.invalid".to_owned()])?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let other = CertifiedKey::from_der(vec![made.cert.der().clone()], key, provider);
        let other = other.map_err(|source| CertificateError::Key {
            secret: String::new(),
            source,
        })?;
        Ok(Self {
            port,
            gateways,
            ingresses,
            other: Arc::new(other),
        })
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        let of_gateways = self.gateways.load().certificate(self.port, name);
        let of_ingresses = || {
            let certificates = self.ingresses.as_ref()?.load();
            certificates.find(name?).cloned()
        };
        of_gateways.or_else(of_ingresses).or_else(|| Some(self.other.clone()))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;
    use serde_json::json;

    fn secret(host: &str) -> Secret {
        let made = rcgen::generate_simple_self_signed(vec![host.to_owned()]).unwrap();
        let part = |name: &str, text: String| (name.to_owned(), ByteString(text.into_bytes()));
        Secret {
            data: Some(
                [
                    part("tls.crt", made.cert.pem()),
                    part("tls.key", made.signing_key.serialize_pem()),
                ]
                .into(),
            ),
            ..Secret::default()
        }
    }

    fn ingress(tls: serde_json::Value) -> Ingress {
        serde_json::from_value(json!({"spec": {"tls": tls, "rules": [{"host": "rule.com"}]}})).unwrap()
    }

    #[test]
    fn names_find_their_certificate_in_full_then_by_wildcard() {
        let provider = rustls::crypto::ring::default_provider();
        let (full, wild, rule) = (secret("a.x.com"), secret("*.x.com"), secret("rule.com"));
        let find = |name: &str| match name {
            "full" => Some(&full),
            "wild" => Some(&wild),
            "rule" => Some(&rule),
            _ => None,
        };
        let tls = json!([
            {"hosts": ["a.x.com"], "secretName": "full"}, {"hosts": ["*.x.com"], "secretName": "wild"},
            {"secretName": "rule"}, {"hosts": ["gone.com"], "secretName": "absent"}]);
        let mut certificates = Certificates::default();
        let wrong = certificates.add(&ingress(tls), find, &provider);
        assert_eq!(wrong.len(), 1);
        assert_eq!(
            wrong[0].to_string(),
            "there is no Secret \"absent\" of type kubernetes.io/tls"
        );
        let cert = |name: &str| certificates.find(name).map(|key| key.cert[0].clone());
        let of = |secret: &Secret| CertificateDer::from_pem_slice(&secret.data.as_ref().unwrap()["tls.crt"].0).unwrap();
        assert_eq!(cert("A.x.com"), Some(of(&full)));
        assert_eq!(cert("b.x.com"), Some(of(&wild)));
        assert_eq!(cert("rule.com"), Some(of(&rule)));
        for name in ["c.b.x.com", "x.com", "gone.com", ""] {
            assert_eq!(cert(name), None, "{name}");
        }
    }

    #[test]
    fn a_broken_secret_is_told() {
        let provider = rustls::crypto::ring::default_provider();
        let (mut mixed, other) = (secret("a.com"), secret("b.com"));
        let key = other.data.unwrap()["tls.key"].clone();
        mixed.data.as_mut().unwrap().insert("tls.key".into(), key);
        let tls = json!([{"hosts": ["a.com"], "secretName": "mixed"}, {"hosts": ["a.com"], "secretName": "empty"}]);
        let empty = Secret::default();
        let find = |name: &str| Some(if name == "mixed" { &mixed } else { &empty });
        let wrong = Certificates::default().add(&ingress(tls), find, &provider);
        assert!(matches!(wrong[0], CertificateError::Key { .. }), "{wrong:?}");
        assert!(matches!(wrong[1], CertificateError::Pem { .. }), "{wrong:?}");
    }
}
