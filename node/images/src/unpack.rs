//! The layers of an ordinary image, unpacked over each other.
//!
//! Layers come from strangers. Nothing is believed of their sizes: what comes out of the decompressor is counted, headers are
//! counted, and long names and extended headers are read with a limit. What guests cannot have (devices, owners, set-user-id)
//! is left out.

use crate::media::Packing;
use crate::tree::{Node, PathError, Tree};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use tar::{Archive, Entry, EntryType, PaxExtensions};

/// Bytes that all layers of an image unpack to, archive headers included: twenty times the largest interpreter with its library,
/// and little enough that a hundred megabytes of compressed zeros do not fill a laptop's disk.
pub const MAX_UNPACKED_BYTES: u64 = 2 << 30;

/// Headers in all layers: a distribution of Python has some ten thousand files.
pub const MAX_ENTRIES: usize = 100_000;

/// Layers of one image: docker's own limit.
pub const MAX_LAYERS: usize = 127;

/// Bytes of one extended header: names, and attributes that nobody here reads.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;

/// A file of this name marks one of a lower layer as removed, with the rest of the name.
const REMOVED: &str = ".wh.";
/// A file of this name marks everything that lower layers have in its directory as removed.
const OPAQUE: &str = ".wh..wh..opq";

/// A layer cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Too many layers.
    #[error("it has more than {MAX_LAYERS} layers")]
    Layers,
    /// A name that cannot be used.
    #[error("layer {layer} has the file {name:?}: {why}")]
    Name {
        /// Which layer, from 1.
        layer: usize,
        /// The name.
        name: String,
        /// What is wrong with it.
        why: PathError,
    },
    /// More than a node takes.
    #[error("its layers unpack to more than {MAX_UNPACKED_BYTES} bytes")]
    TooLarge,
    /// More files than a node takes.
    #[error("its layers have more than {MAX_ENTRIES} files")]
    TooMany,
    /// The archive is damaged, or has something that we do not read.
    #[error("layer {layer} cannot be unpacked: {why}")]
    Damaged {
        /// Which layer, from 1.
        layer: usize,
        /// What the reader said.
        why: String,
    },
    /// The file system refused.
    #[error("cannot write the image's files: {0}")]
    Io(#[from] io::Error),
}

/// Unpacks layers, the lowest first, into `target/root`, where `target` is made; returns the tree of what is there. Blocks.
///
/// # Errors
/// At the first layer that cannot be unpacked; the caller removes `target` then.
pub fn unpack(layers: &[(PathBuf, Packing)], target: &Path) -> Result<Tree, UnpackError> {
    if layers.len() > MAX_LAYERS {
        return Err(UnpackError::Layers);
    }
    let (root, content) = (target.join("root"), target.join("content"));
    fs::create_dir_all(&root)?;
    fs::create_dir_all(&content)?;
    let mut unpacking = Unpacking {
        tree: Tree::default(),
        content: content.clone(),
        layer: 0,
        files: 0,
        entries: 0,
        bytes_left: MAX_UNPACKED_BYTES,
        // What hard links will share is counted as if it were copied: a container's own tree has copies.
        linked_bytes: 0,
    };
    for (path, packing) in layers {
        unpacking.layer += 1;
        let file = BufReader::with_capacity(1 << 16, File::open(path)?);
        match packing {
            Packing::Tar => unpacking.archive(file)?,
            Packing::Gzip => unpacking.archive(flate2::bufread::MultiGzDecoder::new(file))?,
        }
    }
    unpacking.tree.make(&root, &content)?;
    fs::remove_dir_all(&content)?;
    Ok(unpacking.tree)
}

struct Unpacking {
    tree: Tree,
    content: PathBuf,
    layer: usize,
    files: u64,
    entries: usize,
    bytes_left: u64,
    linked_bytes: u64,
}

/// What headers before an entry say about it.
#[derive(Default)]
struct Told {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

/// Lets as many bytes pass as are left for the image.
struct Counted<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        Ok(read)
    }
}

impl Unpacking {
    fn archive(&mut self, reader: impl Read) -> Result<(), UnpackError> {
        let left = self.bytes_left;
        let mut archive = Archive::new(Counted { inner: reader, left });
        let mut told = Told::default();
        // Raw: the crate would read long names and extended headers whole, however long they are.
        let entries = archive.entries().map_err(|error| self.damaged(&error))?.raw(true);
        for entry in entries {
            let mut entry = entry.map_err(|error| self.damaged(&error))?;
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(UnpackError::TooMany);
            }
            match entry.header().entry_type() {
                EntryType::GNULongName => told.name = Some(self.extension(&mut entry)?),
                EntryType::GNULongLink => told.link = Some(self.extension(&mut entry)?),
                EntryType::XHeader => self.extended(&mut entry, &mut told)?,
                EntryType::XGlobalHeader => {}
                kind => self.entry(&mut entry, kind, std::mem::take(&mut told))?,
            }
        }
        self.bytes_left = archive.into_inner().left;
        Ok(())
    }

    fn extension(&self, entry: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, UnpackError> {
        if entry.size() > MAX_EXTENSION_BYTES {
            return Err(self.broken("a header is too long"));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|error| self.damaged(&error))?;
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(bytes)
    }

    fn extended(&self, entry: &mut Entry<'_, impl Read>, told: &mut Told) -> Result<(), UnpackError> {
        let bytes = self.extension(entry)?;
        for extension in PaxExtensions::new(&bytes) {
            let extension = extension.map_err(|error| self.damaged(&error))?;
            match extension.key_bytes() {
                b"path" => told.name = Some(extension.value_bytes().to_vec()),
                b"linkpath" => told.link = Some(extension.value_bytes().to_vec()),
                b"size" => return Err(self.broken("a file is larger than a header can say")),
                key if key.starts_with(b"GNU.sparse") => return Err(self.broken("sparse files are not supported")),
                _ => {}
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &mut Entry<'_, impl Read>, kind: EntryType, told: Told) -> Result<(), UnpackError> {
        let name = told.name.unwrap_or_else(|| entry.path_bytes().into_owned());
        let name = self.text(name)?;
        let path = self.place(&name)?;
        if self.removes(&path) {
            return Ok(());
        }
        let link = told
            .link
            .or_else(|| entry.link_name_bytes().map(|bytes| bytes.into_owned()));
        let node = match kind {
            EntryType::Directory => Node::Dir,
            // Archives of old mark a directory by a slash.
            EntryType::Regular if name.ends_with('/') => Node::Dir,
            EntryType::Regular | EntryType::Continuous => self.file(entry)?,
            EntryType::Symlink => {
                let target = self.text(link.unwrap_or_default())?;
                if target.len() > 4096 || target.contains('\0') {
                    return Err(self.unusable(&name, PathError::TooLong));
                }
                Node::Link(target)
            }
            EntryType::Link => {
                let target = self.text(link.unwrap_or_default())?;
                let target = self.place(&target)?;
                let Some(node) = self.tree.get(&target).cloned() else {
                    return Err(self.broken("a hard link leads nowhere"));
                };
                if let Node::File(number, _) = node {
                    self.count_linked(number)?;
                }
                node
            }
            EntryType::GNUSparse => return Err(self.broken("sparse files are not supported")),
            // Devices and pipes: no guest can have them.
            _ => return Ok(()),
        };
        self.tree.put(&path, node, self.layer);
        Ok(())
    }

    /// Carries out a mark of removal; says whether this is one.
    fn removes(&mut self, path: &Path) -> bool {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return false;
        };
        let dir = path.parent().unwrap_or(Path::new(""));
        if name == OPAQUE {
            self.tree.clear(dir, self.layer);
            return true;
        }
        let Some(removed) = name.strip_prefix(REMOVED) else {
            return false;
        };
        let removed = dir.join(removed);
        self.tree.remove(&removed, self.layer);
        true
    }

    fn file(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<Node, UnpackError> {
        let number = self.files;
        self.files += 1;
        let executable = entry.header().mode().is_ok_and(|mode| mode & 0o111 != 0);
        let mut file = File::create_new(self.content.join(number.to_string()))?;
        let expected = entry.size();
        let copied = io::copy(entry, &mut file).map_err(|error| self.damaged(&error))?;
        match copied == expected {
            true => Ok(Node::File(number, executable)),
            false => Err(self.broken("it ends in the middle of a file")),
        }
    }

    fn count_linked(&mut self, number: u64) -> Result<(), UnpackError> {
        let size = fs::metadata(self.content.join(number.to_string()))?.len();
        self.linked_bytes = self.linked_bytes.saturating_add(size);
        match self.linked_bytes > MAX_UNPACKED_BYTES {
            true => Err(UnpackError::TooLarge),
            false => Ok(()),
        }
    }

    fn place(&self, name: &str) -> Result<PathBuf, UnpackError> {
        self.tree.place(name).map_err(|why| self.unusable(name, why))
    }

    fn text(&self, bytes: Vec<u8>) -> Result<String, UnpackError> {
        String::from_utf8(bytes).map_err(|_| self.broken("a name is not UTF-8"))
    }

    fn unusable(&self, name: &str, why: PathError) -> UnpackError {
        UnpackError::Name {
            layer: self.layer,
            name: name.chars().take(256).collect(),
            why,
        }
    }

    fn broken(&self, why: &str) -> UnpackError {
        UnpackError::Damaged {
            layer: self.layer,
            why: why.to_owned(),
        }
    }

    fn damaged(&self, error: &io::Error) -> UnpackError {
        match error.kind() {
            io::ErrorKind::FileTooLarge => UnpackError::TooLarge,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => UnpackError::Io(error.kind().into()),
            _ => self.broken(&error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
