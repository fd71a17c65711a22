//! From the node's store to a registry.

use crate::credentials::Keyring;
use crate::error::ImageError;
use crate::layout::{self, Manifest};
use crate::media;
use crate::reference::{Reference, ReferenceError};
use crate::registry::{self, AsRegistryError, Name, Registry, RegistryError};
use crate::store::ImageStore;
use bytes::Bytes;

/// Why an image cannot be pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The text is no reference.
    #[error(transparent)]
    InvalidReference(#[from] ReferenceError),
    /// The target is not in a registry.
    #[error("{target:?} is no place in a registry: name one with a tag, as in localhost:5000/{path}:v1")]
    NoRegistry {
        /// The target.
        target: String,
        /// Its path, for the hint.
        path: String,
    },
    /// An artifact is a module and nothing else.
    #[error(
        "image {reference:?} has files beside its program, for which an artifact has no place: push it without --artifact"
    )]
    Files {
        /// The image.
        reference: String,
    },
    /// An index has one build for each WASI.
    #[error("two of the builds are for {os}; an artifact has one for wasip1 and one for wasip2")]
    SamePlatform {
        /// What both are for.
        os: &'static str,
    },
    /// The store does not have it.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The registry did not take it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl AsRegistryError for PushError {
    fn registry_error(&self) -> Option<&RegistryError> {
        match self {
            Self::Registry(error) => Some(error),
            _ => None,
        }
    }
}

/// All that makes an image.
pub struct Parts {
    /// What the manifest is; names are in [`crate::media`].
    pub media_type: String,
    /// The manifest.
    pub manifest: Bytes,
    /// The configuration and the layers, by digest.
    pub blobs: Vec<(String, Bytes)>,
}

/// Registry and path of a place to push to, and the tag.
///
/// # Errors
/// When it is not in a registry, or has no tag.
pub fn place(target: &str) -> Result<((String, String), String), PushError> {
    let place = Reference::parse(target)?;
    let (Reference::Registry { registry, path, .. }, Some(tag), None) = (&place, place.tag(), place.digest()) else {
        return Err(PushError::NoRegistry {
            target: target.to_owned(),
            path: place.name().rsplit('/').next().unwrap_or_default().to_owned(),
        });
    };
    Ok(((registry.clone(), path.clone()), tag.to_owned()))
}

impl ImageStore {
    /// Puts an image into a registry under the name `target`, and returns the digest that it has there.
    ///
    /// # Errors
    /// When there is no such image, the target is not in a registry, or the registry does not take it.
    pub async fn push(&self, reference: &str, target: &str, keyring: &Keyring) -> Result<String, PushError> {
        let ((registry, path), tag) = place(target)?;
        let parts = self.parts(reference)?;
        let put = |registry: Registry| {
            let (parts, tag) = (&parts, &tag);
            async move {
                for (digest, bytes) in &parts.blobs {
                    registry.put_blob(digest, bytes.clone()).await?;
                }
                registry
                    .put_manifest(Name::Tag(tag), &parts.media_type, parts.manifest.clone())
                    .await?;
                Ok::<_, PushError>(())
            }
        };
        registry::with_credentials(keyring, (&registry, &path), self.trusted_pem(), put).await?;
        Ok(layout::digest_of(&parts.manifest))
    }

    fn parts(&self, reference: &str) -> Result<Parts, ImageError> {
        let image = self.resolve(reference)?;
        let blob = |digest: &str| {
            let read = self.layout().read_blob(digest);
            read.map(Bytes::from).map_err(|source| ImageError::Damaged {
                reference: image.reference.clone(),
                why: format!("{digest}: {source}"),
            })
        };
        let Ok(manifest) = blob(&image.id) else {
            // Built in, or a file: it has no manifest on disk.
            let wasm = image.wasm()?;
            let (manifest, config) = layout::manifest(&image.config, &wasm);
            let config = (layout::digest_of(&config), config.into());
            return Ok(Parts {
                media_type: media::MANIFEST.to_owned(),
                manifest: manifest.into(),
                blobs: vec![config, (image.digest.to_string(), wasm)],
            });
        };
        let parsed: Manifest = serde_json::from_slice(&manifest).map_err(|error| ImageError::Damaged {
            reference: image.reference.clone(),
            why: error.to_string(),
        })?;
        let mut blobs = Vec::new();
        for descriptor in std::iter::once(&parsed.config).chain(&parsed.layers) {
            blobs.push((descriptor.digest.clone(), blob(&descriptor.digest)?));
        }
        Ok(Parts {
            media_type: match parsed.media_type.is_empty() {
                true => media::MANIFEST.to_owned(),
                false => parsed.media_type,
            },
            manifest,
            blobs,
        })
    }
}
