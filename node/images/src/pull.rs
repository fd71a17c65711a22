//! From a registry into the node's store.
//!
//! What an image is gets known from its manifest and its configuration, a few kilobytes, before anything large is fetched. The
//! content is written under its digests first and gets its name last, so a pull that is given up leaves no half image.

use crate::config::ImageConfig;
use crate::credentials::Keyring;
use crate::error::ImageError;
use crate::layout::{self, ConfigDocument, Descriptor, Layout, Manifest};
use crate::media::{self, Packing};
use crate::module::{MAX_MODULE_BYTES, check_module};
use crate::platform::{self, Builds};
use crate::reference::{Reference, ReferenceError};
use crate::registry::{self, AsRegistryError, MAX_DOCUMENT_BYTES, Name, Registry, RegistryError};
use crate::store::{Image, ImageStore};
use crate::tree::Node;
use crate::unpack::{self, UnpackError};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// Pulls under way at once: registries limit what one address may ask, and a laptop's line is full with fewer.
const MAX_PULLS: usize = 4;

/// Bytes of all layers of an image as they are sent: half of what they may unpack to.
const MAX_LAYER_BYTES: u64 = 1 << 30;

/// The program of an ordinary image, noted beside its files.
#[derive(Debug, Serialize, Deserialize)]
pub struct Program {
    /// Where it lies below the image's root.
    pub path: PathBuf,
    /// The digest of the module.
    pub digest: String,
    /// The size of the module in bytes.
    pub size: u64,
}

impl Program {
    /// The name of the note.
    pub const FILE: &str = "program.json";
}

/// An image that was pulled.
#[derive(Debug)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// How many bytes the registry sent for it; none when it was here already.
    pub bytes: u64,
}

/// Why an image cannot be pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The text is no reference.
    #[error(transparent)]
    InvalidReference(#[from] ReferenceError),
    /// A name without a registry.
    #[error("image {reference:?} names no registry: put one before it, as in localhost:5000/{reference}")]
    NoRegistry {
        /// The reference.
        reference: String,
    },
    /// The registry did not give it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It is for something else.
    #[error(
        "image {reference:?} cannot run here: {what}; Coracle runs WebAssembly: wasm artifacts, and images whose program is a .wasm file"
    )]
    Foreign {
        /// The reference.
        reference: String,
        /// What it is.
        what: String,
    },
    /// Something that is no image.
    #[error(
        "{reference:?} is no image that runs here: its {what} has the media type {media_type:?}, which is not known{hint}"
    )]
    MediaType {
        /// The reference.
        reference: String,
        /// `manifest`, `layer`, ...
        what: &'static str,
        /// What the registry says it is.
        media_type: String,
        /// What to do, after a semicolon; may be empty.
        hint: &'static str,
    },
    /// A document that is not understood.
    #[error("image {reference:?} is damaged: its {what} is not understood: {why}")]
    Document {
        /// The reference.
        reference: String,
        /// `manifest` or `configuration`.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// More than a node takes.
    #[error("image {reference:?} has {size} bytes, more than the {limit} that a node accepts")]
    TooLarge {
        /// The reference.
        reference: String,
        /// What its manifest announces.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// Its layers cannot be unpacked.
    #[error("image {reference:?}: {source}")]
    Unpack {
        /// The reference.
        reference: String,
        /// Why.
        source: UnpackError,
    },
    /// Its program is not there, or none.
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl AsRegistryError for PullError {
    fn registry_error(&self) -> Option<&RegistryError> {
        match self {
            Self::Registry(error) => Some(error),
            _ => None,
        }
    }
}

/// Who is pulling: two containers that want the same image wait for one pull.
#[derive(Debug)]
pub struct Pulls {
    places: tokio::sync::Semaphore,
    names: parking_lot::Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Default for Pulls {
    fn default() -> Self {
        Self {
            places: tokio::sync::Semaphore::new(MAX_PULLS),
            names: parking_lot::Mutex::default(),
        }
    }
}

impl Pulls {
    fn name(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut names = self.names.lock();
        names.retain(|_, name| name.strong_count() > 0);
        if let Some(lock) = names.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        names.insert(name.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

impl ImageStore {
    /// Makes the node's store have what the registry has under this name now.
    ///
    /// # Errors
    /// When the registry does not give it or it cannot run here; the message says what to do.
    pub async fn pull(&self, reference: &str, keyring: &Keyring) -> Result<Pulled, PullError> {
        let parsed = Reference::parse(reference)?;
        let Reference::Registry { registry, path, .. } = &parsed else {
            return Err(PullError::NoRegistry {
                reference: parsed.to_string(),
            });
        };
        let pulls = self.pulls();
        let name = pulls.name(&parsed.to_string());
        let _one = name.lock().await;
        // The semaphore is never closed.
        let _place = pulls.places.acquire().await.ok();
        let pull = |registry| {
            let parsed = &parsed;
            async move {
                let pull = Pull {
                    store: self,
                    reference: parsed,
                    registry,
                };
                pull.run().await
            }
        };
        registry::with_credentials(keyring, (registry, path), self.trusted_pem(), pull).await
    }
}

struct Pull<'a> {
    store: &'a ImageStore,
    reference: &'a Reference,
    registry: Registry,
}

/// What an image is made of.
enum Content {
    Module(Descriptor),
    Layers(Vec<(Descriptor, Packing)>),
}

impl Pull<'_> {
    async fn run(&self) -> Result<Pulled, PullError> {
        let name = match (self.reference.digest(), self.reference.tag()) {
            (Some(digest), _) => Name::Digest(digest),
            (None, tag) => Name::Tag(tag.unwrap_or("latest")),
        };
        let (bytes, digest) = self.registry.manifest(name).await?;
        if let Some(image) = self.present(&digest) {
            return Ok(Pulled { image, bytes: 0 });
        }
        let (manifest, named) = self.choose(bytes, &digest).await?;
        let parsed: Manifest = self.parse("manifest", &manifest)?;
        let content = self.content(&parsed)?;
        let mut bytes = self.fetch(&parsed.config).await?;
        let program = self.program(&parsed, &content)?;
        match content {
            Content::Module(module) => {
                bytes += self.fetch(&module).await?;
                self.check(&module).await?;
            }
            Content::Layers(layers) => {
                for (layer, _) in &layers {
                    bytes += self.fetch(layer).await?;
                }
                self.unpack(&named, layers, program).await?;
            }
        }
        let image = self.store.name(self.reference, &manifest, named)?;
        Ok(Pulled { image, bytes })
    }

    /// The image, when the name means this digest here too and all of it is there.
    fn present(&self, digest: &str) -> Option<Image> {
        let known = self.store.descriptor(self.reference).ok().flatten()?;
        let image = self.store.resolve(&self.reference.to_string()).ok()?;
        known.is(digest).then_some(image)
    }

    /// The manifest itself, or the one of an index that runs here.
    async fn choose(&self, bytes: Bytes, digest: &str) -> Result<(Bytes, Descriptor), PullError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Kind {
            #[serde(default)]
            media_type: String,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let kind: Kind = self.parse("manifest", &bytes)?;
        // The media type is optional in both; only one has a list.
        if !media::is_index(&kind.media_type) && kind.manifests.is_none() {
            let named = Descriptor::of_manifest(&bytes);
            return Ok((bytes, named));
        }
        let builds: Builds = self.parse("index", &bytes)?;
        let Some(build) = builds.choose() else {
            let names = builds.names();
            return Err(self.foreign(format!("it has builds for {names}, and none for WebAssembly")));
        };
        let (manifest, _) = self.registry.manifest(Name::Digest(&build.digest)).await?;
        let named = Descriptor::of_manifest(&manifest).in_index(digest);
        Ok((manifest, named))
    }

    fn content(&self, manifest: &Manifest) -> Result<Content, PullError> {
        let sizes = manifest.layers.iter().map(|layer| layer.size);
        let size = sizes.fold(manifest.config.size, u64::saturating_add);
        if let Some(module) = manifest.module() {
            self.fits(module.size, MAX_MODULE_BYTES)?;
            return Ok(Content::Module(module.clone()));
        }
        self.fits(size, MAX_LAYER_BYTES)?;
        if !media::is_image_config(&manifest.config.media_type) {
            return Err(self.unknown("configuration", &manifest.config.media_type));
        }
        let packed = |layer: &Descriptor| match media::packing(&layer.media_type) {
            Some(packing) => Ok((layer.clone(), packing)),
            None => Err(self.unknown("layer", &layer.media_type)),
        };
        let layers: Result<Vec<_>, _> = manifest.layers.iter().map(packed).collect();
        Ok(Content::Layers(layers?))
    }

    fn fits(&self, size: u64, limit: u64) -> Result<(), PullError> {
        match size > limit {
            true => Err(PullError::TooLarge {
                reference: self.reference.to_string(),
                size,
                limit,
            }),
            false => Ok(()),
        }
    }

    /// The program that an ordinary image names; its files are fetched only when it is a module. Empty for modules as they are.
    fn program(&self, manifest: &Manifest, content: &Content) -> Result<(String, ImageConfig), PullError> {
        let Content::Layers(_) = content else {
            return Ok(Default::default());
        };
        let bytes = self.layout().read_blob(&manifest.config.digest);
        let bytes = bytes.map_err(|source| self.io(source))?;
        let config: ConfigDocument = self.parse("configuration", &bytes)?;
        let program = platform::program(&config).map_err(|what| self.foreign(what))?;
        Ok((program.to_owned(), config.config))
    }

    /// Brings a blob into the store, and says how many bytes that took.
    async fn fetch(&self, blob: &Descriptor) -> Result<u64, PullError> {
        let Some(path) = self.layout().blob_path(&blob.digest) else {
            return Err(PullError::Document {
                reference: self.reference.to_string(),
                what: "manifest",
                why: format!("{:?} is no SHA-256 digest", blob.digest),
            });
        };
        let document = !media::is_module(&blob.media_type) && media::packing(&blob.media_type).is_none();
        self.fits(if document { blob.size } else { 0 }, MAX_DOCUMENT_BYTES)?;
        if self.layout().keep_blob(&path) {
            return Ok(0);
        }
        let temporary = Temporary::new(self.layout());
        self.registry.blob(blob, temporary.path()).await?;
        fs::rename(temporary.path(), &path).map_err(|source| self.io(source))?;
        Ok(blob.size)
    }

    async fn check(&self, module: &Descriptor) -> Result<(), PullError> {
        let bytes = self
            .layout()
            .read_blob(&module.digest)
            .map_err(|source| self.io(source))?;
        check_module(&self.reference.to_string(), &bytes)?;
        Ok(())
    }

    /// Unpacks the layers to where the image's files belong, and notes its program there.
    async fn unpack(
        &self,
        manifest: &Descriptor,
        layers: Vec<(Descriptor, Packing)>,
        (program, config): (String, ImageConfig),
    ) -> Result<(), PullError> {
        let layout = self.layout().clone();
        let Some(target) = layout.files_path(&manifest.digest) else {
            return Ok(());
        };
        if target.join(Program::FILE).exists() {
            return Ok(());
        }
        let (reference, id) = (self.reference.to_string(), manifest.digest.clone());
        let work = move || {
            let path = |(layer, packing): &(Descriptor, Packing)| Some((layout.blob_path(&layer.digest)?, *packing));
            let layers: Vec<_> = layers.iter().filter_map(path).collect();
            let temporary = Temporary::new(&layout);
            put_files(&reference, &layers, temporary.path(), &program, &config)?;
            let moved = layout.move_files(temporary.path(), &id);
            moved.map_err(|source| {
                let path = target;
                PullError::Image(ImageError::Io { path, source })
            })
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(self.io(io::Error::other(error)).into()))
    }

    fn layout(&self) -> &Layout {
        self.store.layout()
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, what: &'static str, bytes: &[u8]) -> Result<T, PullError> {
        serde_json::from_slice(bytes).map_err(|error| PullError::Document {
            reference: self.reference.to_string(),
            what,
            why: error.to_string(),
        })
    }

    fn foreign(&self, what: String) -> PullError {
        PullError::Foreign {
            reference: self.reference.to_string(),
            what,
        }
    }

    fn unknown(&self, what: &'static str, media_type: &str) -> PullError {
        PullError::MediaType {
            reference: self.reference.to_string(),
            what,
            media_type: media_type.chars().take(128).collect(),
            hint: match media_type.ends_with("zstd") {
                true => "; push it again with layers that are compressed by gzip",
                false => "",
            },
        }
    }

    fn io(&self, source: io::Error) -> ImageError {
        ImageError::Io {
            path: self.layout().index_path(),
            source,
        }
    }
}

/// A path that is removed unless it was moved away.
pub struct Temporary(PathBuf);

impl Temporary {
    /// A path in the layout; nothing is there yet.
    pub fn new(layout: &Layout) -> Self {
        Self(layout.temporary())
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = match self.0.is_dir() {
            true => fs::remove_dir_all(&self.0),
            false => fs::remove_file(&self.0),
        };
    }
}

/// Unpacks the layers of an image to `to`, where nothing is yet, and notes its program there.
///
/// # Errors
/// When a layer cannot be unpacked, or the program is not among the files or none.
pub fn put_files(
    reference: &str,
    layers: &[(PathBuf, Packing)],
    to: &Path,
    program: &str,
    config: &ImageConfig,
) -> Result<Program, PullError> {
    let io = |source| ImageError::Io {
        path: to.to_owned(),
        source,
    };
    let tree = unpack::unpack(layers, to).map_err(|source| PullError::Unpack {
        reference: reference.to_owned(),
        source,
    })?;
    // A relative name is looked for in the working directory, as everywhere.
    let inside = match program.starts_with('/') {
        true => program.to_owned(),
        false => format!("{}/{program}", config.working_dir),
    };
    let found = tree.find(&inside).or_else(|| tree.find(program));
    let Some((path, Node::File(..))) = found else {
        return Err(PullError::Foreign {
            reference: reference.to_owned(),
            what: format!("its program {program:?} is not among its files"),
        });
    };
    let file = to.join("root").join(&path);
    let size = fs::metadata(&file).map_err(io)?.len();
    if size > MAX_MODULE_BYTES {
        return Err(PullError::TooLarge {
            reference: reference.to_owned(),
            size,
            limit: MAX_MODULE_BYTES,
        });
    }
    let wasm = fs::read(&file).map_err(io)?;
    check_module(reference, &wasm)?;
    let note = Program {
        path,
        digest: layout::digest_of(&wasm),
        size,
    };
    fs::write(to.join(Program::FILE), layout::json(&note)).map_err(io)?;
    Ok(note)
}
