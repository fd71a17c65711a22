//! Compiled code: on disk between runs, in memory while somebody uses it. Nothing is compiled twice.
//!
//! A file's name is the hash of the module and the engine's compatibility hash, so that changed options, another version or
//! another processor never meet code that does not fit. The directory belongs to the node alone: whoever can write there can
//! run machine code in its process, so nothing from an image ever gets there except through the compiler.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tracing::warn;
use wasmtime::component::Component;

use crate::compiler::{self, ChildError};
use crate::engine::{GuestEngine, Metering};
use crate::module::{self, LoadError, Module, ModuleInfo};

/// Files of compiled code that are kept. A laptop's cluster uses some dozens of images; code of ten megabytes is large, so this
/// stays below what a cache may take without asking.
const MAX_FILES: usize = 500;

/// Compiled code on disk.
#[derive(Debug)]
pub(crate) struct CodeCache {
    directory: PathBuf,
    /// The program that compiles, as a child of this one.
    compiler: Option<PathBuf>,
}

/// Numbers the files that are being written, over all caches of this process: several may share a directory.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

impl CodeCache {
    /// Makes the directory, readable by the node alone, and removes what a crash or many images left.
    pub(crate) fn open(directory: PathBuf, compiler: Option<PathBuf>) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
        }
        sweep(&directory)?;
        Ok(Self { directory, compiler })
    }

    /// The component of a module: loaded if it was compiled before, compiled otherwise. Blocks.
    pub(crate) fn component(
        &self,
        engine: &GuestEngine,
        info: &ModuleInfo,
        wasm: &[u8],
    ) -> Result<Component, LoadError> {
        let path = self.path(engine, wasm);
        if let Some(component) = load_file(engine, &path) {
            return Ok(component);
        }
        let code = self.compile(engine, info, wasm)?;
        match self.store(&path, &code) {
            Ok(()) => {
                if let Some(component) = load_file(engine, &path) {
                    return Ok(component);
                }
            }
            // A full disk must not keep a pod from running: it costs the next start a compilation.
            Err(error) => warn!(path = %path.display(), %error, "cannot keep compiled code"),
        }
        load_bytes(engine, &code)
    }

    /// In a child where there is a program for it: modules come from strangers. Where none can be started (in tests of a library,
    /// on a system without processes to spare) a pod that starts is worth more than the limits.
    fn compile(&self, engine: &GuestEngine, info: &ModuleInfo, wasm: &[u8]) -> Result<Vec<u8>, LoadError> {
        if let Some(program) = &self.compiler {
            match compiler::compile(program, engine.metering, wasm) {
                Ok(code) => return Ok(code),
                Err(ChildError::Load(error)) => return Err(error),
                Err(ChildError::Absent(error)) => {
                    warn!(program = %program.display(), %error, "the compiler cannot be started as a process; compiling in this one");
                }
            }
        }
        module::compile(&engine.engine, engine.metering, info, wasm)
    }

    fn path(&self, engine: &GuestEngine, wasm: &[u8]) -> PathBuf {
        let mut name = String::with_capacity(96);
        for byte in Sha256::digest(wasm) {
            use std::fmt::Write;
            let _ = write!(name, "{byte:02x}");
        }
        self.directory.join(format!("{name}-{}.cwasm", engine.compatibility))
    }

    /// A reader sees the whole file or none, also after a power failure: a torn file would be executed.
    fn store(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let temporary = self.directory.join(format!("{}-{number}.tmp", std::process::id()));
        let written = File::create(&temporary)
            .and_then(|mut file| file.write_all(code).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

/// Maps compiled code into memory; none when there is none, or none that fits.
#[allow(unsafe_code)]
fn load_file(engine: &GuestEngine, path: &Path) -> Option<Component> {
    if !path.exists() {
        return None;
    }
    // SAFETY: the file holds machine code that this program's compiler wrote: the directory is the node's own (mode 0700), files
    // get there whole by a rename after a sync, and the name ties the code to this module and to this engine's configuration,
    // which the engine checks again. The mapping is private and files are replaced, never written in place.
    match unsafe { Component::deserialize_file(&engine.engine, path) } {
        Ok(component) => Some(component),
        Err(error) => {
            warn!(path = %path.display(), error = format!("{error:#}"), "compiled code does not load; compiling again");
            None
        }
    }
}

/// Loads code that could not be kept on disk.
#[allow(unsafe_code)]
fn load_bytes(engine: &GuestEngine, code: &[u8]) -> Result<Component, LoadError> {
    // SAFETY: the bytes come from this engine's compiler, a moment ago in this process.
    unsafe { Component::deserialize(&engine.engine, code) }.map_err(|e| LoadError::Compile(format!("{e:#}")))
}

/// Removes unfinished files, and the oldest above the limit.
fn sweep(directory: &Path) -> io::Result<()> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(directory)?.flatten() {
        let path = entry.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("tmp") => drop(fs::remove_file(path)),
            Some("cwasm") => kept.push((entry.metadata().and_then(|m| m.modified()).ok(), path)),
            _ => {}
        }
    }
    kept.sort();
    for (_, path) in kept.iter().take(kept.len().saturating_sub(MAX_FILES)) {
        let _ = fs::remove_file(path);
    }
    Ok(())
}

/// The modules that are in use, by digest. Callers that ask for the same one at the same time wait for one compilation.
#[derive(Default)]
pub(crate) struct Loaded {
    /// Holds no module alive; entries nobody uses are dropped when another is added, so it is as large as what runs.
    table: Mutex<HashMap<(String, Metering), Arc<Slot>>>,
}

type Slot = tokio::sync::Mutex<Weak<Module>>;

impl Loaded {
    /// The place of one module. Its lock is held while the module is being made.
    pub(crate) fn slot(&self, digest: &str, metering: Metering) -> Arc<Slot> {
        let mut table = self.table.lock();
        let key = (digest.to_owned(), metering);
        if let Some(slot) = table.get(&key) {
            return slot.clone();
        }
        table.retain(|_, slot| {
            // Somebody else holds the slot, or its module lives.
            Arc::strong_count(slot) > 1 || slot.try_lock().map_or(true, |module| module.strong_count() > 0)
        });
        table.entry(key).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unfinished_and_old_files_are_swept() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a.cwasm", "1-0.tmp", "note.txt"] {
            fs::write(directory.path().join(name), "x").unwrap();
        }
        CodeCache::open(directory.path().to_owned(), None).unwrap();
        let mut left: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["a.cwasm", "note.txt"]);
    }

    #[test]
    fn caches_that_share_a_directory_do_not_mix_their_files() {
        let directory = tempfile::tempdir().unwrap();
        let write = |letter: u8| {
            let cache = CodeCache::open(directory.path().to_owned(), None).unwrap();
            let path = directory.path().join(format!("{letter}.cwasm"));
            move || {
                for _ in 0..20 {
                    // Another cache that opens may sweep the file away; it must never hold what another one wrote.
                    if cache.store(&path, &vec![letter; 200_000]).is_ok() {
                        assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == letter));
                    }
                }
            }
        };
        let (one, two) = (write(1), write(2));
        std::thread::scope(|scope| {
            scope.spawn(one);
            scope.spawn(two);
        });
    }

    #[cfg(unix)]
    #[test]
    fn the_directory_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cache");
        CodeCache::open(path.clone(), None).unwrap();
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
