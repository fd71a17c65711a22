//! How images lie on disk: an OCI image layout.
//!
//! `blobs/sha256/<hex>` holds modules, configurations and manifests; `index.json` maps names to manifests. A blob is written under
//! another name and renamed, so that a file with a digest for a name always has that content. The index is replaced as a whole,
//! under an advisory lock, because the command line writes to it while a node reads it.

use crate::config::ImageConfig;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/wasm";
/// The annotation under which an OCI layout keeps a manifest's name.
const NAME_ANNOTATION: &str = "org.opencontainers.image.ref.name";

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
    media_type: String,
    /// `sha256:...` of the blob.
    pub digest: String,
    /// The length of the blob in bytes.
    pub size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// A manifest: which configuration and which module make an image.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    schema_version: u32,
    media_type: String,
    /// The configuration.
    pub config: Descriptor,
    /// The module, as the only layer.
    pub layers: Vec<Descriptor>,
}

/// The OCI image configuration around ours.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigDocument {
    architecture: String,
    os: String,
    /// The defaults for containers.
    pub config: ImageConfig,
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
    fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: digest_of(bytes),
            size: bytes.len() as u64,
            annotations: BTreeMap::new(),
        }
    }

    /// The descriptor of a manifest.
    pub fn of_manifest(bytes: &[u8]) -> Self {
        Self::of(MANIFEST_TYPE, bytes)
    }

    fn name(&self) -> Option<&str> {
        self.annotations.get(NAME_ANNOTATION).map(String::as_str)
    }
}

/// The manifest and the configuration blob of a module with these defaults.
pub fn manifest(config: &ImageConfig, wasm: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let document = ConfigDocument {
        architecture: "wasm".into(),
        os: "wasip2".into(),
        config: config.clone(),
    };
    let config = json(&document);
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST_TYPE.to_owned(),
        config: Descriptor::of(CONFIG_TYPE, &config),
        layers: vec![Descriptor::of(LAYER_TYPE, wasm)],
    };
    (json(&manifest), config)
}

/// These documents are plain strings, numbers and maps with string keys: serialising them cannot fail.
fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// `sha256:` and the digest in hexadecimal.
pub fn digest_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(71);
    text.push_str("sha256:");
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
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
        index.media_type = INDEX_TYPE.to_owned();
        self.replace(&self.index_path(), &serde_json::to_vec_pretty(&index)?)?;
        Ok(result)
    }

    /// Stores a blob under its digest, unless it is there.
    pub fn write_blob(&self, bytes: &[u8]) -> io::Result<String> {
        let digest = digest_of(bytes);
        if let Some(path) = self.blob_path(&digest)
            && !path.exists()
        {
            self.replace(&path, bytes)?;
        }
        Ok(digest)
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

    /// Writes beside the target and renames: readers see the old file or the new one.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let unique = format!(".new-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let temporary = self.dir.join(unique);
        let written = fs::File::create(&temporary)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}
