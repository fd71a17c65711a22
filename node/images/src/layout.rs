//! How images lie on disk: an OCI image layout.
//!
//! `blobs/sha256/<hex>` holds modules, configurations and manifests; `index.json` maps names to manifests. A blob is written under
//! another name and renamed, so that a file with a digest for a name always has that content. The index is replaced as a whole,
//! under an advisory lock, because the command line writes to it while a node reads it.

use crate::config::ImageConfig;
use crate::media;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// What the names of unfinished files begin with.
pub const TEMPORARY: &str = ".new-";
/// The annotation under which an OCI layout keeps a manifest's name.
const NAME_ANNOTATION: &str = "org.opencontainers.image.ref.name";
/// The annotation under which we keep the digest that a registry gave for the name, where it is that of an index.
const INDEX_ANNOTATION: &str = "dev.coracle.image.index";

/// The names in a layout and what they mean.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

/// A reference to a blob.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is; names are in [`crate::media`].
    #[serde(default)]
    pub media_type: String,
    /// `sha256:...` of the blob.
    pub digest: String,
    /// The length of the blob in bytes.
    pub size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// A manifest: which configuration and which module or files make an image.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    #[serde(default)]
    schema_version: u32,
    /// What kind of manifest this is; names are in [`crate::media`].
    #[serde(default)]
    pub media_type: String,
    /// The configuration.
    pub config: Descriptor,
    /// The module as the only layer, or archives of files, each over those before.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
}

/// The OCI image configuration around ours. The one of a wasm artifact has other members, which say nothing about containers.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigDocument {
    /// What the image is for: `wasm`, `amd64`, ...
    pub architecture: String,
    /// `wasip1`, `wasip2`, `linux`, ...
    pub os: String,
    /// What the layers hold. Only builders look at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    rootfs: Option<Value>,
    /// The defaults for containers.
    #[serde(deserialize_with = "crate::config::nullable")]
    pub config: ImageConfig,
}

/// What the program of an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// A core module, of WASI 0.1.
    Module,
    /// A component, of WASI 0.2.
    Component,
}

/// Whether a WebAssembly file is a component: the header says so.
pub fn is_component(wasm: &[u8]) -> bool {
    wasm.get(4..8) == Some(&[0x0d, 0, 1, 0])
}

impl Platform {
    /// What a program needs, by its header.
    pub fn of(wasm: &[u8]) -> Self {
        match is_component(wasm) {
            true => Self::Component,
            false => Self::Module,
        }
    }

    /// Its name in configurations and indexes.
    pub fn os(self) -> &'static str {
        match self {
            Self::Module => "wasip1",
            Self::Component => "wasip2",
        }
    }
}

impl ConfigDocument {
    /// A configuration with these defaults for containers.
    pub fn new(platform: Platform, config: ImageConfig) -> Self {
        let mut document = Self {
            architecture: "wasm".to_owned(),
            config,
            ..Self::default()
        };
        document.set_platform(platform);
        document
    }

    /// Says what the program is.
    pub fn set_platform(&mut self, platform: Platform) {
        platform.os().clone_into(&mut self.os);
    }

    /// Says what the layers hold, by the digests of their content.
    pub fn set_layers(&mut self, content: &[String]) {
        self.rootfs = Some(json!({"type": "layers", "diff_ids": content}));
    }
}

impl Manifest {
    /// The module, where a layer is one as it is.
    pub fn module(&self) -> Option<&Descriptor> {
        self.layers.iter().find(|layer| media::is_module(&layer.media_type))
    }
}

impl Index {
    /// The manifest of a name.
    pub fn find(&self, name: &str) -> Option<&Descriptor> {
        self.manifests.iter().find(|manifest| manifest.name() == Some(name))
    }

    /// Every name with its manifest.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Descriptor)> {
        self.manifests
            .iter()
            .filter_map(|manifest| Some((manifest.name()?, manifest)))
    }

    /// Makes `name` mean `manifest`.
    pub fn set(&mut self, name: &str, mut manifest: Descriptor) {
        self.remove(name);
        manifest.annotations.insert(NAME_ANNOTATION.to_owned(), name.to_owned());
        self.manifests.push(manifest);
    }

    /// Forgets a name; says whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.manifests.len();
        self.manifests.retain(|manifest| manifest.name() != Some(name));
        self.manifests.len() != before
    }
}

impl Descriptor {
    /// The descriptor of bytes.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::of_blob(media_type, &digest_of(bytes), bytes.len() as u64)
    }

    /// The descriptor of a blob whose digest is known.
    pub fn of_blob(media_type: &str, digest: &str, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: digest.to_owned(),
            size,
            annotations: BTreeMap::new(),
        }
    }

    /// The descriptor of a manifest.
    pub fn of_manifest(bytes: &[u8]) -> Self {
        Self::of(media::MANIFEST, bytes)
    }

    /// Notes that a registry has the manifest as part of this index.
    #[must_use]
    pub fn in_index(mut self, digest: &str) -> Self {
        self.annotations.insert(INDEX_ANNOTATION.to_owned(), digest.to_owned());
        self
    }

    /// The index that a registry has it in, if it is in one.
    pub fn index(&self) -> Option<&str> {
        self.annotations.get(INDEX_ANNOTATION).map(String::as_str)
    }

    /// Whether a digest names this manifest, or the index that it was chosen from.
    pub fn is(&self, digest: &str) -> bool {
        self.digest == digest || self.index() == Some(digest)
    }

    fn name(&self) -> Option<&str> {
        self.annotations.get(NAME_ANNOTATION).map(String::as_str)
    }
}

/// The manifest and the configuration blob of a module with these defaults.
pub fn manifest(config: &ImageConfig, wasm: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let config = json(&ConfigDocument::new(Platform::of(wasm), config.clone()));
    let module = Descriptor::of(media::MODULE, wasm);
    (
        manifest_of(Descriptor::of(media::CONFIG, &config), vec![module]),
        config,
    )
}

/// A manifest of these blobs.
pub fn manifest_of(config: Descriptor, layers: Vec<Descriptor>) -> Vec<u8> {
    json(&Manifest {
        schema_version: 2,
        media_type: media::MANIFEST.to_owned(),
        config,
        layers,
    })
}

/// These documents are plain strings, numbers and maps with string keys: serialising them cannot fail.
pub fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// `sha256:` and the digest in hexadecimal.
pub fn digest_of(bytes: &[u8]) -> String {
    digest_text(Sha256::new_with_prefix(bytes))
}

/// The same of what a hasher was fed.
pub fn digest_text(hasher: Sha256) -> String {
    let mut text = String::with_capacity(71);
    text.push_str("sha256:");
    for byte in hasher.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Counts and hashes what is written through it.
pub struct Hashing<W> {
    inner: W,
    hasher: Sha256,
    written: u64,
}

impl<W> Hashing<W> {
    /// Nothing yet.
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            written: 0,
        }
    }

    /// Where it went, its digest, and how many bytes it was.
    pub fn finish(self) -> (W, String, u64) {
        (self.inner, digest_text(self.hasher), self.written)
    }
}

impl<W: io::Write> io::Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..taken).unwrap_or_default());
        self.written += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The directory of a layout.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Creates the directories if they are missing.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir.join("blobs").join("sha256"))?;
        let marker = dir.join("oci-layout");
        if !marker.exists() {
            fs::write(&marker, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the index lies.
    pub fn index_path(&self) -> PathBuf {
        self.dir.join("index.json")
    }

    /// Where a blob lies; `None` for a digest that is not SHA-256, so that no digest leaves the directory.
    pub fn blob_path(&self, digest: &str) -> Option<PathBuf> {
        let hex = digest.strip_prefix("sha256:")?;
        (hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| self.dir.join("blobs").join("sha256").join(hex))
    }

    /// Reads the index; an absent one is empty.
    pub fn read_index(&self) -> io::Result<Index> {
        match fs::read(self.index_path()) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Index::default()),
            Err(error) => Err(error),
        }
    }

    /// Changes the index under the lock and returns what `change` returned.
    pub fn change_index<T>(&self, change: impl FnOnce(&mut Index) -> T) -> io::Result<T> {
        let lock = fs::File::create(self.dir.join("index.lock"))?;
        lock.lock()?;
        let mut index = self.read_index()?;
        let result = change(&mut index);
        index.schema_version = 2;
        index.media_type = media::INDEX.to_owned();
        self.replace(&self.index_path(), &serde_json::to_vec_pretty(&index)?)?;
        Ok(result)
    }

    /// Stores a blob under its digest, unless it is there.
    pub fn write_blob(&self, bytes: &[u8]) -> io::Result<String> {
        let digest = digest_of(bytes);
        if let Some(path) = self.blob_path(&digest)
            && !self.keep_blob(&path)
        {
            self.replace(&path, bytes)?;
        }
        Ok(digest)
    }

    /// Says whether a blob is there, and marks it as wanted now: what nobody names is removed when it has been so for a while.
    pub fn keep_blob(&self, path: &Path) -> bool {
        let Ok(file) = fs::File::options().append(true).open(path) else {
            return false;
        };
        // Without the mark it is fetched again at worst.
        let _ = file.set_modified(SystemTime::now());
        true
    }

    /// Makes a file that is whole and on disk the blob of this digest.
    pub fn move_blob(&self, from: &Path, digest: &str) -> io::Result<()> {
        let path = self.blob_path(digest).ok_or(io::ErrorKind::InvalidInput)?;
        fs::rename(from, path)
    }

    /// Makes a directory the files of an image, unless they are there.
    pub fn move_files(&self, from: &Path, manifest: &str) -> io::Result<()> {
        let path = self.files_path(manifest).ok_or(io::ErrorKind::InvalidInput)?;
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        match fs::rename(from, &path) {
            // Somebody else was as far, with the same content.
            Err(_) if path.is_dir() => Ok(()),
            result => result,
        }
    }

    /// Reads a blob; an unusable digest counts as absent.
    pub fn read_blob(&self, digest: &str) -> io::Result<Vec<u8>> {
        match self.blob_path(digest) {
            Some(path) => fs::read(path),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Deletes a blob that nothing refers to any more.
    pub fn remove_blob(&self, digest: &str) -> io::Result<()> {
        match self.blob_path(digest) {
            Some(path) => fs::remove_file(path),
            None => Ok(()),
        }
    }

    /// Where the files of an ordinary image lie, by the digest of its manifest; `None` for a digest that is not SHA-256.
    pub fn files_path(&self, manifest: &str) -> Option<PathBuf> {
        let blob = self.blob_path(manifest)?;
        Some(self.dir.join("files").join(blob.file_name()?))
    }

    /// A path in the layout that nobody else uses, for what is moved to its place when it is whole.
    pub fn temporary(&self) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let unique = format!(
            "{TEMPORARY}{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        self.dir.join(unique)
    }

    /// Writes beside the target and renames: readers see the old file or the new one.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.temporary();
        let written = fs::File::create(&temporary)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}
