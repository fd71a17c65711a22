//! The cluster's own certificates: an authority, a serving certificate and client certificates, made at first start.
//!
//! Private keys are ECDSA P-256 and are written so that only their owner may read them. What is there is kept: a second
//! start changes no file unless the serving certificate lacks a name that is now wanted.

mod request;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use thiserror::Error;

use crate::identity::NODES;

pub(crate) use request::{Purpose, Signing, groups_of_request};

/// How long the authority lives. Ten years, as with kubeadm: replacing it means replacing every kubeconfig.
const AUTHORITY_DAYS: u64 = 3650;
/// How long other certificates live. They cannot be renewed without a restart yet, and a laptop's cluster should not
/// break while it runs, so they live as long as the authority.
const LEAF_DAYS: u64 = 3650;
/// Certificates begin this long before they are made, so that a peer whose clock is behind accepts them.
const BACKDATE: Duration = Duration::from_secs(3600);
/// Short ones begin only this part of their life before: their holder reckons from their beginning when to renew them, and an
/// hour would have most of that behind it.
const BACKDATE_PART: u32 = 10;
/// The names that every serving certificate has, besides the ones asked for.
const SERVING_NAMES: [&str; 8] = [
    "localhost",
    "127.0.0.1",
    "::1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "10.96.0.1",
];
/// The administrator's user name.
const ADMIN: &str = "coracle-admin";
/// What this server is called by servers behind it.
pub(crate) const FRONT_PROXY: &str = "front-proxy-client";

/// What can go wrong with certificates.
#[derive(Debug, Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// More than one group was asked for.
    #[error("certificate of {subject}: only one group fits into a certificate")]
    Groups {
        /// Whose certificate.
        subject: String,
    },
    /// A certificate could not be made, or a stored one could not be used.
    #[error("certificate of {subject}: {source}")]
    Certificate {
        /// Whose certificate.
        subject: String,
        /// What the certificate library said.
        source: rcgen::Error,
    },
}

/// The authority with what it has issued for the server and the administrator. Cheap to clone.
#[derive(Clone)]
pub struct Pki {
    inner: Arc<Inner>,
}

struct Inner {
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
    serving: (String, String),
    admin: (String, String),
    /// The key that signs tokens of service accounts, PEM. Not the authority's: a token is no certificate.
    token_key: String,
    front: FrontProxy,
}

/// By what servers behind this one know it. The authority is one of its own: whoever it vouches for may speak in
/// everybody's name there, and the cluster's authority vouches for every user.
struct FrontProxy {
    ca_pem: String,
    client: (String, String),
}

impl Pki {
    /// Loads the certificates in `dir`, and makes those that are missing. `names` are further host names and addresses
    /// of the serving certificate.
    pub fn load_or_create(dir: &Path, names: &[&str]) -> Result<Self, PkiError> {
        fs::create_dir_all(dir).map_err(|source| PkiError::File {
            path: dir.to_owned(),
            source,
        })?;
        let ca = load_or_make(dir, "ca", || make_authority("coracle-ca"))?;
        let issuer = issuer(&ca)?;
        let names = serving_names(names);
        let serving = load_or_make(dir, "server", || make_serving(&issuer, &names))?;
        let serving = if covers(&serving.0, &names) {
            serving
        } else {
            let renewed = make_serving(&issuer, &names)?;
            store(dir, "server", &renewed)?;
            renewed
        };
        let admin = load_or_make(dir, "admin", || make_client(&issuer, ADMIN, &["system:masters"]))?;
        let token_key = load_or_make_key(dir, "service-account")?;
        let front_ca = load_or_make(dir, "front-proxy-ca", || make_authority("front-proxy-ca"))?;
        let front_issuer = issuer_of("front-proxy-ca", &front_ca)?;
        let front = FrontProxy {
            ca_pem: front_ca.0,
            client: load_or_make(dir, FRONT_PROXY, || make_client(&front_issuer, FRONT_PROXY, &[]))?,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                ca_pem: ca.0,
                issuer,
                serving,
                admin,
                token_key,
                front,
            }),
        })
    }

    /// Makes certificates that live in memory only, for clusters that leave nothing behind.
    pub fn ephemeral(names: &[&str]) -> Result<Self, PkiError> {
        let ca = make_authority("coracle-ca")?;
        let issuer = issuer(&ca)?;
        let serving = make_serving(&issuer, &serving_names(names))?;
        let admin = make_client(&issuer, ADMIN, &["system:masters"])?;
        let front_ca = make_authority("front-proxy-ca")?;
        let front_issuer = issuer_of("front-proxy-ca", &front_ca)?;
        Ok(Self {
            inner: Arc::new(Inner {
                ca_pem: ca.0,
                issuer,
                serving,
                admin,
                token_key: key("service-account")?.serialize_pem(),
                front: FrontProxy {
                    ca_pem: front_ca.0,
                    client: make_client(&front_issuer, FRONT_PROXY, &[])?,
                },
            }),
        })
    }

    /// The authority's certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.inner.ca_pem
    }

    /// The serving certificate and its private key, PEM.
    pub fn serving(&self) -> (&str, &str) {
        (&self.inner.serving.0, &self.inner.serving.1)
    }

    /// The administrator's certificate and private key, PEM.
    pub fn admin(&self) -> (&str, &str) {
        (&self.inner.admin.0, &self.inner.admin.1)
    }

    /// The certificate of the authority by which servers behind this one know it, PEM.
    pub(crate) fn front_proxy_ca_pem(&self) -> &str {
        &self.inner.front.ca_pem
    }

    /// The certificate and private key by which servers behind this one know it, PEM.
    pub(crate) fn front_proxy(&self) -> (&str, &str) {
        (&self.inner.front.client.0, &self.inner.front.client.1)
    }

    /// The private key that signs tokens of service accounts, PEM.
    pub(crate) fn token_key(&self) -> &str {
        &self.inner.token_key
    }

    /// Issues a client certificate for `user` in `groups`, of which there may be one: the certificate and its private key, PEM. Nothing is kept.
    pub fn issue_client(&self, user: &str, groups: &[&str]) -> Result<(String, String), PkiError> {
        make_client(&self.inner.issuer, user, groups)
    }

    /// Issues what a node of this process needs to be known to others: a client certificate and a serving certificate, each
    /// with its private key, PEM. Nothing is kept.
    pub fn issue_node(&self, node: &str) -> Result<[(String, String); 2], PkiError> {
        let user = format!("system:node:{node}");
        let names = [coracle_api::node::serving_name(node)];
        let serving = parameters(&user, &[NODES], &names, LEAF_DAYS)?;
        let issuer = &self.inner.issuer;
        Ok([
            make_client(issuer, &user, &[NODES])?,
            sign(issuer, serving, &user, ExtendedKeyUsagePurpose::ServerAuth)?,
        ])
    }

    /// A kubeconfig for the administrator with everything inside it; the context, cluster and user have `name`.
    /// `server` is the API's URL.
    pub fn admin_kubeconfig(&self, name: &str, server: &str) -> serde_json::Value {
        let (certificate, key) = self.admin();
        let encode = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
        serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {
                "server": server,
                "certificate-authority-data": encode(self.ca_pem()),
            }}],
            "users": [{"name": name, "user": {
                "client-certificate-data": encode(certificate),
                "client-key-data": encode(key),
            }}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        })
    }
}

fn serving_names(more: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = SERVING_NAMES.iter().map(|name| (*name).to_owned()).collect();
    for name in more {
        if !names.iter().any(|known| known == name) {
            names.push((*name).to_owned());
        }
    }
    names
}

/// Whether a stored serving certificate has all `names`.
fn covers(pem: &str, names: &[String]) -> bool {
    use x509_parser::prelude::*;
    let Ok((_, pem)) = parse_x509_pem(pem.as_bytes()) else {
        return false;
    };
    let Ok(certificate) = pem.parse_x509() else {
        return false;
    };
    let Ok(Some(present)) = certificate.subject_alternative_name() else {
        return false;
    };
    names.iter().all(|name| {
        present
            .value
            .general_names
            .iter()
            .any(|general| match (general, name.parse::<std::net::IpAddr>()) {
                (GeneralName::IPAddress(bytes), Ok(std::net::IpAddr::V4(ip))) => *bytes == ip.octets(),
                (GeneralName::IPAddress(bytes), Ok(std::net::IpAddr::V6(ip))) => *bytes == ip.octets(),
                (GeneralName::DNSName(dns), Err(_)) => dns == name,
                _ => false,
            })
    })
}

fn parameters(subject: &str, groups: &[&str], names: &[String], days: u64) -> Result<CertificateParams, PkiError> {
    let failed = |source| PkiError::Certificate {
        subject: subject.to_owned(),
        source,
    };
    let mut parameters = CertificateParams::new(names).map_err(failed)?;
    // The certificate library's names hold one value of a type; a second group would silently replace the first.
    if groups.len() > 1 {
        return Err(PkiError::Groups {
            subject: subject.to_owned(),
        });
    }
    let mut distinguished = DistinguishedName::new();
    for group in groups {
        distinguished.push(DnType::OrganizationName, *group);
    }
    distinguished.push(DnType::CommonName, subject);
    parameters.distinguished_name = distinguished;
    let now = SystemTime::now();
    parameters.not_before = (now - BACKDATE).into();
    parameters.not_after = (now + Duration::from_secs(days * 86_400)).into();
    Ok(parameters)
}

/// How long before it is made a certificate begins that is good for so long.
fn backdate(life: Duration) -> Duration {
    BACKDATE.min(life / BACKDATE_PART)
}

fn key(subject: &str) -> Result<KeyPair, PkiError> {
    KeyPair::generate().map_err(|source| PkiError::Certificate {
        subject: subject.to_owned(),
        source,
    })
}

fn make_authority(subject: &str) -> Result<(String, String), PkiError> {
    let mut parameters = parameters(subject, &[], &[], AUTHORITY_DAYS)?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let key = key(subject)?;
    let certificate = parameters.self_signed(&key).map_err(|source| PkiError::Certificate {
        subject: subject.to_owned(),
        source,
    })?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn issuer(ca: &(String, String)) -> Result<Issuer<'static, KeyPair>, PkiError> {
    issuer_of("coracle-ca", ca)
}

fn issuer_of(subject: &str, ca: &(String, String)) -> Result<Issuer<'static, KeyPair>, PkiError> {
    let failed = |source| PkiError::Certificate {
        subject: subject.to_owned(),
        source,
    };
    let key = KeyPair::from_pem(&ca.1).map_err(failed)?;
    Issuer::from_ca_cert_pem(&ca.0, key).map_err(failed)
}

fn sign(
    issuer: &Issuer<'static, KeyPair>,
    mut parameters: CertificateParams,
    subject: &str,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(String, String), PkiError> {
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![usage];
    parameters.use_authority_key_identifier_extension = true;
    let key = key(subject)?;
    let certificate = parameters
        .signed_by(&key, issuer)
        .map_err(|source| PkiError::Certificate {
            subject: subject.to_owned(),
            source,
        })?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn make_serving(issuer: &Issuer<'static, KeyPair>, names: &[String]) -> Result<(String, String), PkiError> {
    let parameters = parameters("kube-apiserver", &[], names, LEAF_DAYS)?;
    sign(
        issuer,
        parameters,
        "kube-apiserver",
        ExtendedKeyUsagePurpose::ServerAuth,
    )
}

fn make_client(issuer: &Issuer<'static, KeyPair>, user: &str, groups: &[&str]) -> Result<(String, String), PkiError> {
    let parameters = parameters(user, groups, &[], LEAF_DAYS)?;
    sign(issuer, parameters, user, ExtendedKeyUsagePurpose::ClientAuth)
}

fn load_or_make(
    dir: &Path,
    name: &str,
    make: impl FnOnce() -> Result<(String, String), PkiError>,
) -> Result<(String, String), PkiError> {
    let (certificate, key) = paths(dir, name);
    match (read(&certificate)?, read(&key)?) {
        (Some(certificate), Some(key)) => Ok((certificate, key)),
        _ => {
            let made = make()?;
            store(dir, name, &made)?;
            Ok(made)
        }
    }
}

/// The same for a key that has no certificate.
fn load_or_make_key(dir: &Path, name: &str) -> Result<String, PkiError> {
    let path = dir.join(format!("{name}.key"));
    if let Some(key) = read(&path)? {
        return Ok(key);
    }
    let key = key(name)?.serialize_pem();
    write_private(&path, key.as_bytes()).map_err(|source| PkiError::File { path, source })?;
    Ok(key)
}

fn paths(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")))
}

fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The key is written first: a certificate without its key would be taken for a whole pair by nobody.
fn store(dir: &Path, name: &str, pair: &(String, String)) -> Result<(), PkiError> {
    let (certificate, key) = paths(dir, name);
    write_private(&key, pair.1.as_bytes()).map_err(|source| PkiError::File { path: key, source })?;
    fs::write(&certificate, &pair.0).map_err(|source| PkiError::File {
        path: certificate,
        source,
    })
}

/// Writes a file that only its owner may read. The one place of this crate that asks for Unix permissions.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    fn der(pem: &str) -> Vec<u8> {
        x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap().1.contents
    }

    #[test]
    fn a_second_start_keeps_every_file() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::load_or_create(dir.path(), &[]).unwrap();
        let second = Pki::load_or_create(dir.path(), &[]).unwrap();
        assert_eq!(first.ca_pem(), second.ca_pem());
        assert_eq!(first.serving(), second.serving());
        assert_eq!(first.admin(), second.admin());
        assert_eq!(first.token_key(), second.token_key());
        assert_eq!(first.front_proxy(), second.front_proxy());
        assert_ne!(first.front_proxy_ca_pem(), first.ca_pem());
    }

    #[test]
    fn a_new_name_renews_only_the_serving_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::load_or_create(dir.path(), &[]).unwrap();
        let second = Pki::load_or_create(dir.path(), &["10.1.2.3", "box.local"]).unwrap();
        assert_eq!(first.ca_pem(), second.ca_pem());
        assert_ne!(first.serving(), second.serving());
        assert!(covers(
            second.serving().0,
            &["10.1.2.3".into(), "box.local".into(), "10.96.0.1".into()]
        ));
    }

    #[test]
    fn a_client_certificate_names_user_and_groups() {
        let pki = Pki::ephemeral(&[]).unwrap();
        let (certificate, _) = pki.issue_client("ann", &["dev"]).unwrap();
        assert_eq!(
            Identity::from_certificate(&der(&certificate)),
            Some(Identity::new("ann", &["dev"]))
        );
        assert!(matches!(
            pki.issue_client("ann", &["dev", "ops"]),
            Err(PkiError::Groups { .. })
        ));
        let admin = Identity::from_certificate(&der(pki.admin().0)).unwrap();
        assert!(admin.is_master());
        assert_eq!(&*admin.user, "coracle-admin");
    }

    #[cfg(unix)]
    #[test]
    fn keys_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        Pki::load_or_create(dir.path(), &[]).unwrap();
        for name in ["ca", "server", "admin", "service-account"] {
            let mode = fs::metadata(dir.path().join(format!("{name}.key")))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}
