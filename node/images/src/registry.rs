//! One registry, asked for one image: the OCI distribution protocol with limits, and errors that say what to do.
//!
//! Registries on this machine may speak plain HTTP, all others speak TLS. Each request has a limit of time between two parts of
//! its answer, and each blob one of size.

mod error;

use crate::credentials::{Candidate, Keyring};
use crate::layout::Descriptor;
use crate::media;
use bytes::Bytes;
use futures::TryStreamExt;
use oci_client::client::{Certificate, CertificateEncoding, Client, ClientConfig, ClientProtocol};
use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference as Named, RegistryOperation};
use std::error::Error as _;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

pub use error::RegistryError;

/// How long a registry may take to answer, and between two parts of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes of a manifest or a configuration: the limit of the distribution specification for manifests.
pub const MAX_DOCUMENT_BYTES: u64 = 4 << 20;

/// Tags that a message names.
const SHOWN_TAGS: usize = 10;

/// A place in a registry, and who we are there.
pub struct Registry {
    client: Client,
    registry: String,
    path: String,
    candidate: Candidate,
}

/// What an image is called in its registry.
#[derive(Debug, Clone, Copy)]
pub enum Name<'a> {
    /// By a tag.
    Tag(&'a str),
    /// By a digest.
    Digest(&'a str),
}

impl Registry {
    /// Finds out how the registry is spoken to. `trusted_pem` are authorities beside those that the system trusts.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn connect(
        registry: &str,
        path: &str,
        candidate: Candidate,
        trusted_pem: Option<&str>,
    ) -> Result<Self, RegistryError> {
        // Fails when another part of the process has installed one before, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
        let new = |protocol, candidate| -> Result<Self, RegistryError> {
            let client = Client::try_from(config(protocol, trusted_pem, registry));
            let client = client.map_err(|error| RegistryError::Unreachable {
                registry: registry.to_owned(),
                why: told(&error),
            })?;
            Ok(Self {
                client,
                registry: registry.to_owned(),
                path: path.to_owned(),
                candidate,
            })
        };
        if !is_loopback(registry) {
            return new(ClientProtocol::Https, candidate);
        }
        let asking = new(ClientProtocol::Https, nobody())?;
        let named = asking.named(Name::Tag("latest"));
        let asked = asking
            .client
            .auth(&named, &RegistryAuth::Anonymous, RegistryOperation::Pull);
        match asked.await {
            Err(OciDistributionError::RequestError(error)) if speaks_no_tls(&error) => {
                new(ClientProtocol::Http, candidate)
            }
            _ => new(ClientProtocol::Https, candidate),
        }
    }

    fn named(&self, name: Name<'_>) -> Named {
        let (registry, path) = (self.registry.clone(), self.path.clone());
        match name {
            Name::Tag(tag) => Named::with_tag(registry, path, tag.to_owned()),
            Name::Digest(digest) => Named::with_digest(registry, path, digest.to_owned()),
        }
    }

    /// A manifest or an index, with its digest.
    ///
    /// # Errors
    /// When there is no such image, it is damaged, or the registry refuses or fails.
    pub async fn manifest(&self, name: Name<'_>) -> Result<(Bytes, String), RegistryError> {
        let named = self.named(name);
        let pulled = self
            .client
            .pull_manifest_raw(&named, &self.candidate.auth, &media::ACCEPTED);
        let bytes = match pulled.await {
            Ok((bytes, _)) => bytes,
            Err(error) => return Err(self.explain(error, Some(name)).await),
        };
        if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
            return Err(self.too_large("a manifest", MAX_DOCUMENT_BYTES));
        }
        let digest = crate::layout::digest_of(&bytes);
        match name {
            Name::Digest(wanted) if wanted != digest => Err(RegistryError::Digest {
                registry: self.registry.clone(),
                digest: wanted.to_owned(),
            }),
            _ => Ok((bytes, digest)),
        }
    }

    /// Writes a blob to a new file, which must have the size and the digest that its descriptor says.
    ///
    /// # Errors
    /// When the registry sends something else, refuses or fails, or the file cannot be written.
    pub async fn blob(&self, blob: &Descriptor, to: &Path) -> Result<(), RegistryError> {
        let io = |source| RegistryError::Io {
            registry: self.registry.clone(),
            source,
        };
        let named = self.named(Name::Digest(&blob.digest));
        let host = named.resolve_registry().to_owned();
        self.client.store_auth_if_needed(&host, &self.candidate.auth).await;
        let pulled = self.client.pull_blob_stream(&named, blob.digest.as_str()).await;
        let mut parts = match pulled {
            Ok(pulled) => pulled.stream,
            Err(error) => return Err(self.explain(error, Some(Name::Digest(&blob.digest))).await),
        };
        let mut file = tokio::fs::File::create_new(to).await.map_err(io)?;
        let mut left = blob.size;
        loop {
            match parts.try_next().await {
                Ok(Some(part)) => {
                    left = match left.checked_sub(part.len() as u64) {
                        Some(left) => left,
                        None => return Err(self.too_large(&blob.digest, blob.size)),
                    };
                    file.write_all(&part).await.map_err(io)?;
                }
                Ok(None) if left == 0 => break,
                // The stream has compared the digest, so the size in the descriptor is a lie.
                Ok(None) => return Err(self.wrong_bytes(&blob.digest)),
                Err(error) if error.get_ref().is_some_and(|error| error.is::<DigestError>()) => {
                    return Err(self.wrong_bytes(&blob.digest));
                }
                Err(error) => {
                    return Err(RegistryError::Failed {
                        registry: self.registry.clone(),
                        why: chain(&error),
                    });
                }
            }
        }
        file.sync_all().await.map_err(io)
    }

    /// Puts a blob there, unless it is there.
    ///
    /// # Errors
    /// When the registry refuses or fails.
    pub async fn put_blob(&self, digest: &str, bytes: Bytes) -> Result<(), RegistryError> {
        let named = self.named(Name::Digest(digest));
        self.login().await?;
        if self.client.blob_exists(&named, digest).await.unwrap_or(false) {
            return Ok(());
        }
        match self.client.push_blob(&named, bytes, digest).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.explain(error, None).await),
        }
    }

    /// Puts a manifest or an index there under its name. Its blobs or manifests must be there.
    ///
    /// # Errors
    /// When the registry refuses or fails.
    pub async fn put_manifest(&self, name: Name<'_>, media_type: &str, bytes: Bytes) -> Result<(), RegistryError> {
        let named = self.named(name);
        let Ok(media_type) = media_type.parse() else {
            return Err(RegistryError::Failed {
                registry: self.registry.clone(),
                why: format!("{media_type:?} is no media type"),
            });
        };
        match self.client.push_manifest_raw(&named, bytes, media_type).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.explain(error, None).await),
        }
    }

    /// Shows the credentials for writing.
    async fn login(&self) -> Result<(), RegistryError> {
        let named = self.named(Name::Tag("latest"));
        match self
            .client
            .auth(&named, &self.candidate.auth, RegistryOperation::Push)
            .await
        {
            Ok(_) => Ok(()),
            Err(error) => Err(self.explain(error, None).await),
        }
    }

    fn too_large(&self, what: &str, limit: u64) -> RegistryError {
        RegistryError::TooLarge {
            registry: self.registry.clone(),
            what: what.to_owned(),
            limit,
        }
    }

    fn wrong_bytes(&self, digest: &str) -> RegistryError {
        RegistryError::Digest {
            registry: self.registry.clone(),
            digest: digest.to_owned(),
        }
    }

    fn refused(&self) -> RegistryError {
        let (registry, path) = (self.registry.clone(), self.path.clone());
        match self.candidate.auth {
            RegistryAuth::Anonymous => RegistryError::NoCredentials { registry, path },
            _ => RegistryError::Unauthorized {
                registry,
                path,
                origin: self.candidate.origin.clone(),
            },
        }
    }

    async fn explain(&self, error: OciDistributionError, name: Option<Name<'_>>) -> RegistryError {
        use OciErrorCode::{BlobUnknown, Denied, ManifestUnknown, NameUnknown, NotFound, Unauthorized};
        let registry = self.registry.clone();
        match &error {
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_)
            | OciDistributionError::ServerError { code: 401 | 403, .. } => return self.refused(),
            OciDistributionError::RegistryError { envelope, .. } => {
                let says = |codes: &[OciErrorCode]| envelope.errors.iter().any(|error| codes.contains(&error.code));
                if says(&[Denied, Unauthorized]) {
                    return self.refused();
                }
                if says(&[BlobUnknown, ManifestUnknown, NameUnknown, NotFound]) {
                    return self.missing(name).await;
                }
            }
            OciDistributionError::ImageManifestNotFoundError(_)
            | OciDistributionError::ServerError { code: 404, .. } => {
                return self.missing(name).await;
            }
            OciDistributionError::DigestError(_) => {
                let digest = match name {
                    Some(Name::Digest(digest)) => digest,
                    _ => "its digest",
                };
                return self.wrong_bytes(digest);
            }
            OciDistributionError::RequestError(request) if request.status().is_none() => {
                return RegistryError::Unreachable {
                    registry,
                    why: told(&error),
                };
            }
            _ => {}
        }
        RegistryError::Failed {
            registry,
            why: told(&error),
        }
    }

    async fn missing(&self, name: Option<Name<'_>>) -> RegistryError {
        let (wanted, known) = match name {
            Some(Name::Tag(tag)) => (format!(":{tag}"), self.tags().await),
            Some(Name::Digest(digest)) => (format!("@{digest}"), String::new()),
            None => (String::new(), String::new()),
        };
        RegistryError::NotFound {
            registry: self.registry.clone(),
            path: self.path.clone(),
            wanted,
            known,
        }
    }

    /// What could have been meant.
    async fn tags(&self) -> String {
        let named = self.named(Name::Tag("latest"));
        let listed = self
            .client
            .list_tags(&named, &self.candidate.auth, Some(SHOWN_TAGS), None);
        match listed.await {
            Ok(found) if !found.tags.is_empty() => {
                let shown: Vec<&str> = found.tags.iter().take(SHOWN_TAGS).map(String::as_str).collect();
                format!("; it has the tags {}", shown.join(", "))
            }
            _ => format!("; it has no repository {}, or nobody may see it", self.path),
        }
    }
}

/// Carries out work with the credentials that fit, one after the other, until the registry does not refuse them.
///
/// # Errors
/// The last refusal, or what else went wrong.
pub async fn with_credentials<T, E, F>(
    keyring: &Keyring,
    (registry, path): (&str, &str),
    trusted_pem: Option<&str>,
    work: impl Fn(Registry) -> F,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
    E: From<RegistryError> + AsRegistryError,
{
    let mut last = None;
    for candidate in keyring.candidates(registry, path).await {
        let connected = Registry::connect(registry, path, candidate, trusted_pem).await?;
        match work(connected).await {
            Err(error) if error.registry_error().is_some_and(RegistryError::is_refusal) => last = Some(error),
            result => return result,
        }
    }
    Err(last.unwrap_or_else(|| {
        E::from(RegistryError::NoCredentials {
            registry: registry.to_owned(),
            path: path.to_owned(),
        })
    }))
}

/// An error that may be a registry's.
pub trait AsRegistryError {
    /// The registry's part of it.
    fn registry_error(&self) -> Option<&RegistryError>;
}

fn nobody() -> Candidate {
    Candidate {
        auth: RegistryAuth::Anonymous,
        origin: String::new(),
    }
}

fn config(protocol: ClientProtocol, trusted_pem: Option<&str>, registry: &str) -> ClientConfig {
    let certificate = |pem: &str| Certificate {
        encoding: CertificateEncoding::Pem,
        data: pem.as_bytes().to_vec(),
    };
    let mut config = ClientConfig {
        protocol,
        extra_root_certificates: trusted_pem.map(certificate).into_iter().collect(),
        read_timeout: Some(READ_TIMEOUT),
        connect_timeout: Some(CONNECT_TIMEOUT),
        user_agent: concat!("coracle/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    if is_loopback(registry) {
        // What the environment says about proxies is for other machines: one named here takes its place, and is not used.
        config.http_proxy = Some(format!("http://{registry}"));
        config.https_proxy.clone_from(&config.http_proxy);
        config.no_proxy = Some("localhost,127.0.0.0/8,::1".to_owned());
    }
    config
}

/// Whether a registry is on this machine.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => registry,
    };
    host == "localhost" || host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether the other side answered a greeting of TLS with something else.
fn speaks_no_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return matches!(error, rustls::Error::InvalidMessage(_));
        }
        // The kind of error that streams have carries its cause inside, not as a source.
        if let Some(error) = error.downcast_ref::<io::Error>() {
            match error.get_ref() {
                Some(inner) => return speaks_no_tls(inner),
                None => {
                    return matches!(
                        error.kind(),
                        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                    );
                }
            }
        }
        next = error.source();
    }
    false
}

/// The whole of an error in one line; the client's own words for most of them repeat the address.
fn told(error: &OciDistributionError) -> String {
    match error {
        OciDistributionError::ServerError { code, message, .. } => {
            let message: String = message.trim().chars().take(300).collect();
            format!("{code} {message}")
        }
        OciDistributionError::RegistryError { envelope, .. } => {
            let says = envelope.errors.iter().map(|error| match error.message.is_empty() {
                true => format!("{:?}", error.code),
                false => error.message.clone(),
            });
            says.collect::<Vec<_>>().join("; ")
        }
        OciDistributionError::RequestError(error) => error.source().map_or_else(|| error.to_string(), chain),
        other => chain(other),
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = error.source();
    }
    text
}
