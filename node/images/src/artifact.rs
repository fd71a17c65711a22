//! Wasm artifacts: a module in a registry as the CNCF's working group lays it out, for tools that know modules and no images.
//!
//! An artifact has one layer, the module, and a configuration that tells which WASI it needs and, of a component, what it imports
//! and exports. It has no place for what an image gives its containers: a program's name, variables, files. Several builds of
//! one program, for WASI 0.1 and 0.2, become an index from which each runtime takes what it can run.

use crate::credentials::Keyring;
use crate::layout::{self, Descriptor, Platform};
use crate::media;
use crate::push::{Parts, PushError, place};
use crate::registry::{self, Name, Registry};
use crate::store::ImageStore;
use bytes::Bytes;
use serde::Serialize;

/// When every artifact says that it was made. The layout wants a time; the real one would give the same module another digest with
/// each push.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// One build of a program.
#[derive(Debug, Clone)]
pub struct Build<'a> {
    /// The image in the store that has the module.
    pub reference: &'a str,
    /// What the module says of itself, where it is a component.
    pub component: Option<Interfaces>,
}

/// The names at the outermost level of a component.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Interfaces {
    /// What it offers, as `wasi:cli/run@0.2.3`.
    pub exports: Vec<String>,
    /// What it needs.
    pub imports: Vec<String>,
}

/// The configuration of an artifact.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    created: &'static str,
    architecture: &'static str,
    os: &'static str,
    layer_digests: [&'a str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<&'a Interfaces>,
}

/// A list of builds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    manifest: Descriptor,
    platform: ListedPlatform,
}

#[derive(Serialize)]
struct ListedPlatform {
    architecture: &'static str,
    os: &'static str,
}

impl ImageStore {
    /// Puts modules of the store into a registry as an artifact under the name `target`, and returns the digest that it has
    /// there: that of its manifest, or of the index where there are several builds.
    ///
    /// # Errors
    /// When there is no such image or it has files, two builds are for the same WASI, the target is not in a registry, or the
    /// registry does not take it.
    pub async fn push_artifact(
        &self,
        builds: &[Build<'_>],
        target: &str,
        keyring: &Keyring,
    ) -> Result<String, PushError> {
        let ((registry, path), tag) = place(target)?;
        let built = builds.iter().map(|build| self.artifact(build));
        let built: Vec<(Platform, Parts)> = built.collect::<Result<_, _>>()?;
        let (media_type, document) = match built.as_slice() {
            [(_, only)] => (media::MANIFEST, only.manifest.clone()),
            several => (media::INDEX, list(several)?),
        };
        let digest = layout::digest_of(&document);
        let put = |registry: Registry| {
            let (built, document, tag) = (&built, &document, &tag);
            async move {
                for (_, parts) in built {
                    for (digest, bytes) in &parts.blobs {
                        registry.put_blob(digest, bytes.clone()).await?;
                    }
                    let digest = layout::digest_of(&parts.manifest);
                    registry
                        .put_manifest(Name::Digest(&digest), media::MANIFEST, parts.manifest.clone())
                        .await?;
                }
                registry
                    .put_manifest(Name::Tag(tag), media_type, document.clone())
                    .await?;
                Ok::<_, PushError>(())
            }
        };
        registry::with_credentials(keyring, (&registry, &path), self.trusted_pem(), put).await?;
        Ok(digest)
    }

    fn artifact(&self, build: &Build<'_>) -> Result<(Platform, Parts), PushError> {
        let image = self.resolve(build.reference)?;
        if image.files.is_some() {
            return Err(PushError::Files {
                reference: image.reference,
            });
        }
        let wasm = image.wasm()?;
        let platform = Platform::of(&wasm);
        let config = layout::json(&Config {
            created: CREATED,
            architecture: "wasm",
            os: platform.os(),
            layer_digests: [&image.digest],
            component: build.component.as_ref(),
        });
        let manifest = layout::manifest_of(
            Descriptor::of(media::WASM_CONFIG, &config),
            vec![Descriptor::of(media::MODULE, &wasm)],
        );
        let blobs = vec![
            (layout::digest_of(&config), config.into()),
            (image.digest.to_string(), wasm),
        ];
        let parts = Parts {
            media_type: media::MANIFEST.to_owned(),
            manifest: manifest.into(),
            blobs,
        };
        Ok((platform, parts))
    }
}

/// The index of several builds.
fn list(builds: &[(Platform, Parts)]) -> Result<Bytes, PushError> {
    let mut seen = Vec::new();
    let mut manifests = Vec::new();
    for (platform, parts) in builds {
        if seen.contains(platform) {
            return Err(PushError::SamePlatform { os: platform.os() });
        }
        seen.push(*platform);
        manifests.push(Listed {
            manifest: Descriptor::of_manifest(&parts.manifest),
            platform: ListedPlatform {
                architecture: "wasm",
                os: platform.os(),
            },
        });
    }
    Ok(layout::json(&List {
        schema_version: 2,
        media_type: media::INDEX,
        manifests,
    })
    .into())
}
