//! Images made here from files, as `coracle build` does: the same manifest, configuration and layer that other builders write, so
//! that what is pushed runs elsewhere too.
//!
//! The same files give the same bytes: times, owners and the order of entries are fixed.

use crate::config::ImageConfig;
use crate::error::ImageError;
use crate::layout::{self, ConfigDocument, Descriptor, Platform};
use crate::media::{self, Packing};
use crate::platform;
use crate::pull::{PullError, Temporary, put_files};
use crate::reference::{Reference, ReferenceError};
use crate::store::{Image, ImageStore};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

/// The files of a new image, by their path in it, as `srv/page.html`.
pub type Files = BTreeMap<String, Source>;

/// Where a file of a new image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file of this machine.
    File(PathBuf),
    /// A directory.
    Dir,
    /// A symbolic link to this.
    Link(String),
}

impl ImageStore {
    /// Makes an image of one layer. Its entry point has to be a .wasm file among the files. Blocks.
    ///
    /// # Errors
    /// When the name cannot be used, a file cannot be read, or the entry point is no module.
    pub fn assemble(&self, reference: &str, files: &Files, config: &ImageConfig) -> Result<Image, PullError> {
        let parsed = Reference::parse(reference)?;
        if matches!(parsed, Reference::File(_)) || parsed.digest().is_some() {
            return Err(PullError::InvalidReference(ReferenceError::Invalid {
                reference: reference.to_owned(),
                why: "an image is built under a name and a tag",
            }));
        }
        self.check_name(&parsed)?;
        let io = |source| ImageError::Io {
            path: self.layout().index_path(),
            source,
        };
        let layer = Temporary::new(self.layout());
        let (packed, content) = pack(files, layer.path())?;
        let mut document = ConfigDocument::new(Platform::Module, config.clone());
        let program = match platform::program(&document) {
            Ok(program) => program.to_owned(),
            Err(what) => {
                return Err(PullError::Foreign {
                    reference: parsed.to_string(),
                    what,
                });
            }
        };
        document.set_layers(&[content]);

        // Unpacked from its own layer, as after a pull: what is wrong with it is found here and not elsewhere.
        let unpacked = Temporary::new(self.layout());
        let layers = [(layer.path().to_owned(), Packing::Gzip)];
        let note = put_files(&parsed.to_string(), &layers, unpacked.path(), &program, config)?;
        let module = unpacked.path().join("root").join(&note.path);
        if layout::is_component(&fs::read(module).map_err(io)?) {
            document.set_platform(Platform::Component);
        }
        let config = layout::json(&document);
        let layer_blob = Descriptor::of_blob(media::LAYER, &packed.digest, packed.size);
        let manifest = layout::manifest_of(Descriptor::of(media::CONFIG, &config), vec![layer_blob]);
        let named = Descriptor::of_manifest(&manifest);
        self.layout().move_blob(layer.path(), &packed.digest).map_err(io)?;
        self.layout().write_blob(&config).map_err(io)?;
        self.layout().move_files(unpacked.path(), &named.digest).map_err(io)?;
        Ok(self.name(&parsed, &manifest, named)?)
    }
}

/// A layer that was written.
struct Packed {
    digest: String,
    size: u64,
}

/// Writes the files as a compressed archive; returns it and the digest of what is inside.
fn pack(files: &Files, to: &Path) -> Result<(Packed, String), ImageError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| ImageError::Io { path, source }
    };
    let file = File::create_new(to).map_err(io(to))?;
    let outer = layout::Hashing::new(BufWriter::new(file));
    let gzip = flate2::write::GzEncoder::new(outer, flate2::Compression::default());
    let mut archive = tar::Builder::new(layout::Hashing::new(gzip));
    for (name, source) in files {
        let path = match source {
            Source::File(path) => path.as_path(),
            Source::Dir | Source::Link(_) => to,
        };
        add(&mut archive, name, source).map_err(io(path))?;
    }
    let (gzip, content, _) = archive.into_inner().map_err(io(to))?.finish();
    let (mut file, digest, size) = gzip.finish().map_err(io(to))?.finish();
    io::Write::flush(&mut file).map_err(io(to))?;
    file.get_ref().sync_all().map_err(io(to))?;
    Ok((Packed { digest, size }, content))
}

fn add(archive: &mut tar::Builder<impl io::Write>, name: &str, source: &Source) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mtime(0);
    header.set_mode(0o755);
    header.set_size(0);
    match source {
        Source::Dir => {
            header.set_entry_type(EntryType::Directory);
            archive.append_data(&mut header, format!("{name}/"), io::empty())
        }
        Source::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            archive.append_link(&mut header, name, target)
        }
        Source::File(path) => {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            header.set_entry_type(EntryType::Regular);
            header.set_size(metadata.len());
            header.set_mode(if is_executable(&metadata) { 0o755 } else { 0o644 });
            archive.append_data(&mut header, name, file)
        }
    }
}

#[cfg(unix)]
fn is_executable(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
fn is_executable(_metadata: &fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const WASM: &[u8] = b"\0asm\x01\0\0\0";

    #[test]
    fn the_same_files_are_the_same_image() {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path().join("store")).unwrap();
        let app = dir.path().join("app.wasm");
        fs::write(&app, WASM).unwrap();
        let files: Files = [
            ("srv".to_owned(), Source::Dir),
            ("srv/app.wasm".to_owned(), Source::File(app.clone())),
            ("srv/link".to_owned(), Source::Link("app.wasm".to_owned())),
        ]
        .into();
        let config = ImageConfig {
            entrypoint: vec!["/srv/app.wasm".to_owned()],
            working_dir: "/srv".to_owned(),
            ..ImageConfig::default()
        };
        let image = store.assemble("site:v1", &files, &config).unwrap();
        assert_eq!((image.wasm().unwrap().as_ref(), &*image.config), (WASM, &config));
        assert!(image.files.unwrap().join("srv/app.wasm").exists());
        assert_eq!(store.assemble("other:v1", &files, &config).unwrap().id, image.id);

        let refused = |config: &ImageConfig| store.assemble("bad:v1", &files, config).unwrap_err().to_string();
        let shell = ImageConfig {
            entrypoint: vec!["/bin/sh".to_owned()],
            ..ImageConfig::default()
        };
        assert!(refused(&shell).contains("whose program is \"/bin/sh\""));
        let missing = ImageConfig {
            entrypoint: vec!["/b.wasm".to_owned()],
            ..ImageConfig::default()
        };
        assert!(refused(&missing).contains("not among its files"));
        assert!(store.assemble("hello:v1", &files, &config).is_err());
        store.remove("site:v1").unwrap();
        assert_eq!(store.resolve("other:v1").unwrap().wasm().unwrap(), WASM);
    }
}
