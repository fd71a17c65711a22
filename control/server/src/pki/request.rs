//! Certificates that somebody else made the key for: what a request may ask of which signer, and the signature.

use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateSigningRequestParams, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::{Pki, backdate};
use crate::identity::{MASTERS, NODES};

/// For what a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Somebody's identity towards the API.
    Client,
    /// A node's identity towards the API.
    NodeClient,
    /// A node's own server.
    NodeServing,
}

/// What is to be signed.
pub(crate) struct Signing<'a> {
    pub(crate) request_pem: &'a str,
    pub(crate) purpose: Purpose,
    /// As the request's object names them: `digital signature`, `client auth`.
    pub(crate) usages: &'a [&'a str],
    pub(crate) seconds: u64,
}

/// Why a request is not signed.
#[derive(Debug, Error)]
pub(crate) enum SigningError {
    #[error("the request cannot be read: {0}")]
    Pem(rustls_pki_types::pem::Error),
    #[error("the request cannot be read: {0}")]
    Request(rcgen::Error),
    #[error("the request cannot be signed: {0}")]
    Sign(rcgen::Error),
    #[error("subject organization is not system:nodes")]
    NotANode,
    #[error("subject common name does not begin with system:node:")]
    NodeName,
    #[error("subject has no common name")]
    NoName,
    #[error("subject organization {MASTERS} is not allowed")]
    Masters,
    #[error("a subject with several organizations cannot be signed")]
    Organizations,
    #[error("subject alternative names are not allowed")]
    Names,
    #[error("DNS name or IP address subject alternative names are required")]
    NoNames,
    #[error("only DNS names and IP addresses are allowed as subject alternative names")]
    OtherNames,
    #[error("usages did not contain {0:?}")]
    UsageMissing(&'static str),
    #[error("usage {0:?} is not allowed")]
    Usage(String),
}

impl Pki {
    /// Signs a request: the certificate, PEM.
    pub(crate) fn sign_request(&self, signing: &Signing<'_>) -> Result<String, SigningError> {
        let der = CertificateSigningRequestDer::from_pem_slice(signing.request_pem.as_bytes());
        let der = der.map_err(SigningError::Pem)?;
        // The library keeps one organization; with more it would sign another subject than was asked for.
        let groups = groups(&der);
        if groups.len() > 1 {
            return Err(SigningError::Organizations);
        }
        let mut request = CertificateSigningRequestParams::from_der(&der).map_err(SigningError::Request)?;
        let name = match request.params.distinguished_name.get(&DnType::CommonName) {
            Some(DnValue::Utf8String(name)) => name.clone(),
            Some(DnValue::PrintableString(name)) => name.to_string(),
            _ => return Err(SigningError::NoName),
        };
        check_subject(signing.purpose, &name, &groups)?;
        check_names(signing.purpose, &request.params.subject_alt_names)?;
        let (plain, extended) = usages(signing)?;
        let now = SystemTime::now();
        request.params.key_usages = plain;
        request.params.extended_key_usages = extended;
        request.params.is_ca = IsCa::NoCa;
        request.params.use_authority_key_identifier_extension = true;
        let life = Duration::from_secs(signing.seconds);
        request.params.not_before = (now - backdate(life)).into();
        request.params.not_after = (now + life).into();
        let signed = request.signed_by(&self.inner.issuer).map_err(SigningError::Sign)?;
        Ok(signed.pem())
    }
}

/// The organizations of a request's subject; none when it cannot be read.
pub(crate) fn groups_of_request(pem: &str) -> Vec<String> {
    CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
        .map(|der| groups(&der))
        .unwrap_or_default()
}

fn groups(der: &CertificateSigningRequestDer<'_>) -> Vec<String> {
    let Ok((_, request)) = X509CertificationRequest::from_der(der) else {
        return Vec::new();
    };
    let organizations = request.certification_request_info.subject.iter_organization();
    organizations
        .filter_map(|organization| organization.as_str().ok().map(str::to_owned))
        .collect()
}

fn check_subject(purpose: Purpose, name: &str, groups: &[String]) -> Result<(), SigningError> {
    match purpose {
        Purpose::Client if groups.iter().any(|group| group == MASTERS) => Err(SigningError::Masters),
        Purpose::Client => Ok(()),
        _ if groups.first().is_none_or(|group| group != NODES) => Err(SigningError::NotANode),
        _ if !name.starts_with("system:node:") => Err(SigningError::NodeName),
        _ => Ok(()),
    }
}

fn check_names(purpose: Purpose, names: &[SanType]) -> Result<(), SigningError> {
    let plain = |name: &SanType| matches!(name, SanType::DnsName(_) | SanType::IpAddress(_));
    match purpose {
        Purpose::NodeServing if names.is_empty() => Err(SigningError::NoNames),
        Purpose::NodeServing if !names.iter().all(plain) => Err(SigningError::OtherNames),
        Purpose::NodeClient if !names.is_empty() => Err(SigningError::Names),
        _ => Ok(()),
    }
}

fn usages(signing: &Signing<'_>) -> Result<(Vec<KeyUsagePurpose>, Vec<ExtendedKeyUsagePurpose>), SigningError> {
    let (needed, extended) = match signing.purpose {
        Purpose::NodeServing => ("server auth", ExtendedKeyUsagePurpose::ServerAuth),
        _ => ("client auth", ExtendedKeyUsagePurpose::ClientAuth),
    };
    if !signing.usages.contains(&needed) {
        return Err(SigningError::UsageMissing(needed));
    }
    let mut plain = Vec::new();
    for usage in signing.usages.iter().filter(|usage| **usage != needed) {
        plain.push(match *usage {
            "digital signature" | "signing" => KeyUsagePurpose::DigitalSignature,
            "key encipherment" => KeyUsagePurpose::KeyEncipherment,
            other => return Err(SigningError::Usage(other.to_owned())),
        });
    }
    Ok((plain, vec![extended]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    fn request(name: &str, group: &str) -> String {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        if !group.is_empty() {
            parameters.distinguished_name.push(DnType::OrganizationName, group);
        }
        parameters.distinguished_name.push(DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.serialize_request(&key).unwrap().pem().unwrap()
    }

    fn sign(pki: &Pki, pem: &str, purpose: Purpose, usages: &[&str]) -> Result<String, SigningError> {
        pki.sign_request(&Signing {
            request_pem: pem,
            purpose,
            usages,
            seconds: 600,
        })
    }

    #[test]
    fn a_signed_request_is_an_identity() {
        let pki = Pki::ephemeral(&[]).unwrap();
        let pem = sign(
            &pki,
            &request("ann", "dev"),
            Purpose::Client,
            &["client auth", "digital signature"],
        )
        .unwrap();
        let der = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap().1.contents;
        assert_eq!(Identity::from_certificate(&der), Some(Identity::new("ann", &["dev"])));
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        let validity = certificate.validity();
        // Its beginning is not so long ago that it would have to be renewed already.
        let life = validity.not_after.timestamp() - validity.not_before.timestamp();
        assert!((659..=661).contains(&life), "{life}");
    }

    #[test]
    fn nobody_signs_more_than_the_signer_stands_for() {
        let pki = Pki::ephemeral(&[]).unwrap();
        let client = ["client auth"];
        for (name, group, purpose, usages) in [
            ("ann", MASTERS, Purpose::Client, &client[..]),
            ("ann", "dev", Purpose::Client, &["server auth"][..]),
            ("ann", "dev", Purpose::Client, &["client auth", "cert sign"][..]),
            ("ann", NODES, Purpose::NodeClient, &client[..]),
            ("system:node:a", "dev", Purpose::NodeClient, &client[..]),
            ("system:node:a", NODES, Purpose::NodeServing, &["server auth"][..]),
        ] {
            assert!(
                sign(&pki, &request(name, group), purpose, usages).is_err(),
                "{name} {group} {purpose:?}"
            );
        }
        assert!(sign(&pki, &request("system:node:a", NODES), Purpose::NodeClient, &client).is_ok());
        assert!(sign(&pki, "nonsense", Purpose::Client, &client).is_err());
    }
}
