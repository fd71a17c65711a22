//! The node's images: built-ins first, then its own content store, then files where they are allowed.
//!
//! Resolving reads no module: bytes are read when a module has to be compiled, which is once per content. What another process
//! loads into the same directory is seen by the next `resolve`, because the index is read again when its file has changed.

use crate::builtin::{self, Builtin};
use crate::config::ImageConfig;
use crate::error::ImageError;
use crate::layout::{self, ConfigDocument, Descriptor, Index, Layout, Manifest};
use crate::module::{MAX_MODULE_BYTES, check_module};
use crate::pull::{Program, Pulls};
use crate::reference::{Reference, ReferenceError};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

/// Descriptions of files are kept for this many paths: a node that runs guests from files has few of them, and one entry is small.
const MAX_DESCRIBED_FILES: usize = 256;

/// An image that a reference was resolved to.
#[derive(Clone, Debug)]
pub struct Image {
    /// The reference in full, with its tag.
    pub reference: String,
    /// The identity of the image: the digest of its manifest. Differs when only the defaults differ.
    pub id: Arc<str>,
    /// The digest of the module: the key under which it is compiled.
    pub digest: Arc<str>,
    /// The defaults for containers.
    pub config: Arc<ImageConfig>,
    /// The size of the module in bytes.
    pub size: u64,
    /// The directory with the files of an ordinary image, which its containers get at `/`; nobody may write there.
    pub files: Option<PathBuf>,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Static(Bytes),
    File(PathBuf),
}

impl Image {
    /// The bytes of the module; read from disk unless it is a built-in.
    ///
    /// # Errors
    /// When the file is gone or cannot be read.
    pub fn wasm(&self) -> Result<Bytes, ImageError> {
        match &self.source {
            Source::Static(bytes) => Ok(bytes.clone()),
            Source::File(path) => match fs::read(path) {
                Ok(bytes) => Ok(Bytes::from(bytes)),
                Err(source) => Err(ImageError::Io {
                    path: path.clone(),
                    source,
                }),
            },
        }
    }
}

/// One line of `coracle image ls`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The name with its tag.
    pub reference: String,
    /// The digest of the manifest.
    pub id: String,
    /// The size of the module in bytes.
    pub size: u64,
    /// Whether the image is part of the binary.
    pub builtin: bool,
}

/// The images of one node.
#[derive(Debug)]
pub struct ImageStore {
    layout: Layout,
    files_allowed: bool,
    index: Mutex<Cached>,
    files: Mutex<HashMap<PathBuf, DescribedFile>>,
    pulls: Pulls,
    holds: Mutex<HashMap<String, Weak<fs::File>>>,
    trusted_pem: Option<String>,
}

#[derive(Debug, Default)]
struct Cached {
    stamp: Option<Stamp>,
    index: Index,
    /// Images by the digest of their manifest, so that a manifest is read once.
    resolved: HashMap<String, Image>,
}

/// What tells whether a file is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    len: u64,
}

#[derive(Debug, Clone)]
struct DescribedFile {
    stamp: Stamp,
    digest: Arc<str>,
}

impl ImageStore {
    /// Opens the store in `dir`, which is made if it is missing.
    ///
    /// # Errors
    /// When the directory cannot be made or written.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, ImageError> {
        let dir = dir.as_ref();
        let layout = Layout::open(dir).map_err(|source| ImageError::Io {
            path: dir.to_owned(),
            source,
        })?;
        Ok(Self {
            layout,
            files_allowed: false,
            index: Mutex::default(),
            files: Mutex::default(),
            pulls: Pulls::default(),
            holds: Mutex::default(),
            trusted_pem: None,
        })
    }

    /// Trusts registries whose certificates this authority signed, beside those that the system trusts. In PEM.
    #[must_use]
    pub fn with_registry_authority(mut self, pem: Option<String>) -> Self {
        self.trusted_pem = pem;
        self
    }

    pub(crate) fn trusted_pem(&self) -> Option<&str> {
        self.trusted_pem.as_deref()
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The marks of images that this process uses, by the digest of their manifest.
    pub(crate) fn holds(&self) -> &Mutex<HashMap<String, Weak<fs::File>>> {
        &self.holds
    }

    pub(crate) fn pulls(&self) -> &Pulls {
        &self.pulls
    }

    /// Built-in images are what they are.
    pub(crate) fn check_name(&self, reference: &Reference) -> Result<(), ImageError> {
        match find_builtin(reference) {
            Some(_) => Err(ImageError::Builtin {
                reference: reference.to_string(),
            }),
            None => Ok(()),
        }
    }

    /// What a name in the store means.
    pub(crate) fn descriptor(&self, reference: &Reference) -> Result<Option<Descriptor>, ImageError> {
        let index = self.layout.read_index().map_err(|source| self.io(source))?;
        Ok(wanted_manifest(&index, reference).cloned())
    }

    /// Gives content that is in the store its name.
    pub(crate) fn name(&self, reference: &Reference, manifest: &[u8], named: Descriptor) -> Result<Image, ImageError> {
        let name = reference.to_string();
        self.write(&name, &[manifest], named)
            .map_err(|source| self.io(source))?;
        self.resolve(&name)
    }

    /// Lets `file:///...` references name any file that this process can read. Off by default: it lets whoever may
    /// create a pod read which files exist on the host.
    #[must_use]
    pub fn with_files_allowed(mut self, allowed: bool) -> Self {
        self.files_allowed = allowed;
        self
    }

    /// What `reference` means now.
    ///
    /// # Errors
    /// When the text is no reference or there is no such image; the message says what to do.
    pub fn resolve(&self, reference: &str) -> Result<Image, ImageError> {
        let parsed = Reference::parse(reference)?;
        if let Reference::File(path) = &parsed {
            return self.resolve_file(path);
        }
        if let Some(builtin) = find_builtin(&parsed) {
            return Ok(builtin_image(builtin, &parsed));
        }
        match self.resolve_stored(&parsed)? {
            Some(image) => Ok(image),
            None => Err(absent(&parsed)),
        }
    }

    /// Stores a module under a name.
    ///
    /// # Errors
    /// When the name is no reference, is built in or pinned by digest, when the bytes are no WebAssembly, or when they cannot be written.
    pub fn load(&self, reference: &str, wasm: &[u8], config: &ImageConfig) -> Result<Image, ImageError> {
        let parsed = Reference::parse(reference)?;
        if matches!(parsed, Reference::File(_)) || parsed.digest().is_some() {
            return Err(ReferenceError::Invalid {
                reference: reference.to_owned(),
                why: "an image is loaded under a name and a tag",
            }
            .into());
        }
        self.check_name(&parsed)?;
        check_module(&parsed.to_string(), wasm)?;
        let (manifest, config) = layout::manifest(config, wasm);
        self.write(
            &parsed.to_string(),
            &[wasm, &config, &manifest],
            Descriptor::of_manifest(&manifest),
        )
        .map_err(|source| self.io(source))?;
        self.resolve(reference)
    }

    /// All images, by name.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, ImageError> {
        let index = self.layout.read_index().map_err(|source| self.io(source))?;
        let mut listed: Vec<Listed> = builtin::all()
            .iter()
            .map(|builtin| Listed {
                reference: format!("{}:{}", builtin.name, builtin.tag),
                id: builtin.describe().id.to_string(),
                size: builtin.wasm.len() as u64,
                builtin: true,
            })
            .collect();
        listed.extend(index.iter().map(|(name, manifest)| Listed {
            reference: name.to_owned(),
            id: manifest.digest.clone(),
            size: self.module_size(&manifest.digest),
            builtin: false,
        }));
        listed.sort();
        Ok(listed)
    }

    /// Forgets a name and deletes what no other name uses.
    ///
    /// # Errors
    /// When there is no such name, it is built in, or the store cannot be written.
    pub fn remove(&self, reference: &str) -> Result<(), ImageError> {
        let parsed = Reference::parse(reference)?;
        self.check_name(&parsed)?;
        let name = parsed.to_string();
        let removed = self
            .layout
            .change_index(|index| {
                let digest = index.find(&name).map(|manifest| manifest.digest.clone());
                index.remove(&name);
                let kept = self.blobs_of(index.iter().map(|(_, manifest)| manifest.digest.as_str()));
                digest.map(|digest| (digest, kept))
            })
            .map_err(|source| self.io(source))?;
        let Some((digest, kept)) = removed else {
            return Err(absent(&parsed));
        };
        for blob in self.blobs_of([digest.as_str()]) {
            if !kept.contains(&blob) {
                self.layout.remove_blob(&blob).map_err(|source| self.io(source))?;
            }
        }
        match self
            .layout
            .files_path(&digest)
            .filter(|files| !kept.contains(&digest) && files.exists())
        {
            Some(files) => fs::remove_dir_all(files).map_err(|source| self.io(source)),
            None => Ok(()),
        }
    }

    fn write(&self, name: &str, blobs: &[&[u8]], manifest: Descriptor) -> io::Result<()> {
        for blob in blobs {
            self.layout.write_blob(blob)?;
        }
        self.layout.change_index(|index| index.set(name, manifest))
    }

    fn resolve_stored(&self, reference: &Reference) -> Result<Option<Image>, ImageError> {
        let mut cached = self.index.lock();
        let path = self.layout.index_path();
        let stamp = fs::metadata(&path).ok().and_then(|metadata| stamp_of(&metadata));
        if stamp != cached.stamp {
            cached.index = self
                .layout
                .read_index()
                .map_err(|source| ImageError::Io { path, source })?;
            cached.stamp = stamp;
            cached.resolved.clear();
        }
        let Some(id) = wanted_manifest(&cached.index, reference).map(|found| found.digest.clone()) else {
            return Ok(None);
        };
        let image = match cached.resolved.get(&id) {
            Some(image) => image.clone(),
            None => {
                let image = self.read_manifest(reference, &id)?;
                cached.resolved.insert(id, image.clone());
                image
            }
        };
        Ok(Some(Image {
            reference: reference.to_string(),
            ..image
        }))
    }

    fn read_manifest(&self, reference: &Reference, id: &str) -> Result<Image, ImageError> {
        let damaged = |why: String| ImageError::Damaged {
            reference: reference.to_string(),
            why,
        };
        let read = |digest: &str| {
            self.layout
                .read_blob(digest)
                .map_err(|error| damaged(format!("{digest}: {error}")))
        };
        let manifest: Manifest = serde_json::from_slice(&read(id)?).map_err(|error| damaged(error.to_string()))?;
        let config: ConfigDocument =
            serde_json::from_slice(&read(&manifest.config.digest)?).map_err(|error| damaged(error.to_string()))?;
        let image = |digest: &str, size, path, files| Image {
            reference: reference.to_string(),
            id: id.into(),
            digest: digest.into(),
            config: Arc::new(config.config),
            size,
            files,
            source: Source::File(path),
        };
        if let Some(module) = manifest.module() {
            let Some(path) = self.layout.blob_path(&module.digest).filter(|path| path.exists()) else {
                return Err(damaged(format!("{} is missing", module.digest)));
            };
            return Ok(image(&module.digest, module.size, path, None));
        }
        let Some(files) = self.layout.files_path(id) else {
            return Err(damaged(format!("{id} is no digest")));
        };
        let note = fs::read(files.join(Program::FILE)).map_err(|error| damaged(format!("its files: {error}")))?;
        let program: Program = serde_json::from_slice(&note).map_err(|error| damaged(error.to_string()))?;
        let root = files.join("root");
        let path = root.join(&program.path);
        Ok(image(&program.digest, program.size, path, Some(root)))
    }

    fn resolve_file(&self, path: &Path) -> Result<Image, ImageError> {
        if !self.files_allowed {
            return Err(ImageError::FilesNotAllowed { path: path.to_owned() });
        }
        let io = |source| ImageError::Io {
            path: path.to_owned(),
            source,
        };
        let reference = format!("file://{}", path.display());
        let metadata = fs::metadata(path).map_err(io)?;
        let stamp = stamp_of(&metadata).unwrap_or(Stamp {
            modified: SystemTime::UNIX_EPOCH,
            len: metadata.len(),
        });
        if stamp.len > MAX_MODULE_BYTES {
            return Err(ImageError::TooLarge {
                reference,
                size: stamp.len,
            });
        }
        let known = self.files.lock().get(path).filter(|file| file.stamp == stamp).cloned();
        let digest = match known {
            Some(file) => file.digest,
            None => {
                let wasm = fs::read(path).map_err(io)?;
                check_module(&reference, &wasm)?;
                let digest: Arc<str> = layout::digest_of(&wasm).into();
                let mut files = self.files.lock();
                if files.len() >= MAX_DESCRIBED_FILES {
                    files.clear();
                }
                files.insert(
                    path.to_owned(),
                    DescribedFile {
                        stamp,
                        digest: digest.clone(),
                    },
                );
                digest
            }
        };
        Ok(Image {
            reference,
            id: digest.clone(),
            digest,
            config: Arc::default(),
            size: stamp.len,
            files: None,
            source: Source::File(path.to_owned()),
        })
    }

    /// The manifests given and all that they refer to.
    pub(crate) fn blobs_of<'a>(&self, manifests: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
        let mut blobs = BTreeSet::new();
        for id in manifests {
            blobs.insert(id.to_owned());
            let manifest = self
                .layout
                .read_blob(id)
                .ok()
                .and_then(|bytes| serde_json::from_slice::<Manifest>(&bytes).ok());
            if let Some(manifest) = manifest {
                blobs.insert(manifest.config.digest);
                blobs.extend(manifest.layers.into_iter().map(|layer| layer.digest));
            }
        }
        blobs
    }

    fn module_size(&self, id: &str) -> u64 {
        let manifest = self
            .layout
            .read_blob(id)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Manifest>(&bytes).ok());
        manifest.map_or(0, |manifest| manifest.layers.iter().map(|layer| layer.size).sum())
    }

    pub(crate) fn io(&self, source: io::Error) -> ImageError {
        ImageError::Io {
            path: self.layout.index_path(),
            source,
        }
    }
}

fn wanted_manifest<'a>(index: &'a Index, reference: &Reference) -> Option<&'a Descriptor> {
    let Some(digest) = reference.digest() else {
        return index.find(&reference.to_string());
    };
    let name = reference.name();
    let of_name = |stored: &str| Reference::parse(stored).is_ok_and(|stored| stored.name() == name);
    let found = index
        .iter()
        .find(|(stored, manifest)| manifest.is(digest) && of_name(stored));
    found.map(|(_, manifest)| manifest)
}

fn find_builtin(reference: &Reference) -> Option<&'static Builtin> {
    let Reference::Local { path, tag, digest } = reference else {
        return None;
    };
    builtin::all()
        .iter()
        .filter(|builtin| builtin.name == path)
        .find(|builtin| match (digest, tag) {
            (Some(digest), _) => *builtin.describe().id == **digest,
            (None, Some(tag)) => builtin.tag == tag,
            (None, None) => false,
        })
}

fn builtin_image(builtin: &'static Builtin, reference: &Reference) -> Image {
    let described = builtin.describe();
    Image {
        reference: reference.to_string(),
        id: described.id.clone(),
        digest: described.digest.clone(),
        config: described.config.clone(),
        size: builtin.wasm.len() as u64,
        files: None,
        source: Source::Static(builtin.bytes()),
    }
}

fn absent(reference: &Reference) -> ImageError {
    let text = reference.to_string();
    match reference {
        Reference::Registry { .. } => ImageError::NotPulled { reference: text },
        Reference::Local { .. } | Reference::File(_) => ImageError::NotFound {
            reference: text,
            builtin: builtin::names(),
        },
    }
}

fn stamp_of(metadata: &fs::Metadata) -> Option<Stamp> {
    Some(Stamp {
        modified: metadata.modified().ok()?,
        len: metadata.len(),
    })
}

#[cfg(test)]
mod tests;
