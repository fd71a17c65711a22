//! What a guest had in memory when it failed, on request: a file in the format of the WebAssembly tool conventions for core dumps
//! (<https://github.com/WebAssembly/tool-conventions/blob/main/Coredump.md>), which holds the guest's stack, memories and globals, and
//! nothing of the host.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmtime::{Error, Store, WasmCoreDump};
use wasmtime_wasi::I32Exit;

use crate::limits;
use crate::profile::create_private;

/// While one dump is made the others wait: each takes as much memory of the host as the guest had.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Why there is no dump.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoDump {
    #[error("the program had {} MiB of memory, and a core dump holds {} MiB", .0 >> 20, limits::CORE_DUMP_BYTES >> 20)]
    TooLarge(usize),
    #[error("{}: {}", .0.display(), .1)]
    Write(PathBuf, io::Error),
}

/// Writes how a guest's instance failed to a file readable by this user alone, and gives the error back. An exit, whatever its code, is
/// no failure.
pub(crate) async fn write<T: Send + 'static>(
    to: Arc<Path>,
    store: Store<T>,
    error: Error,
) -> (Error, Result<(), NoDump>) {
    if error.is::<I32Exit>() || !error.is::<WasmCoreDump>() {
        return (error, Ok(()));
    }
    let turn = TURN.lock().await;
    let write = move || {
        // Until it is written, also where nobody waits for it any more.
        let (_turn, mut store) = (turn, store);
        let written = match error.downcast_ref::<WasmCoreDump>() {
            Some(dump) => serialize(dump, &mut store).and_then(|bytes| save(&to, &bytes)),
            None => Ok(()),
        };
        (error, written)
    };
    let outcome = tokio::task::spawn_blocking(write).await;
    // The node is ending, or this failed badly: the guest's own error is gone.
    outcome.unwrap_or_else(|failed| (Error::from(failed), Ok(())))
}

fn serialize<T: 'static>(dump: &WasmCoreDump, store: &mut Store<T>) -> Result<Vec<u8>, NoDump> {
    let bytes = dump.memories().iter().map(|memory| memory.data_size(&*store)).sum();
    if bytes > limits::CORE_DUMP_BYTES {
        return Err(NoDump::TooLarge(bytes));
    }
    Ok(dump.serialize(store, "container"))
}

fn save(to: &Path, bytes: &[u8]) -> Result<(), NoDump> {
    let written = create_private(to).and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| NoDump::Write(to.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::{Config, Engine, Instance, Module};

    /// A guest that writes a word into its memory, and traps.
    fn failed(pages: usize) -> (Store<()>, Error) {
        let engine = Engine::new(Config::new().coredump_on_trap(true)).unwrap();
        let module = format!(
            "(module (memory {pages}) (data (i32.const 5000) \"a word\") (func (export \"fails\") unreachable))"
        );
        let module = Module::new(&engine, wat::parse_str(module).unwrap()).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let fails = instance.get_typed_func::<(), ()>(&mut store, "fails").unwrap();
        let error = fails.call(&mut store, ()).unwrap_err();
        (store, error)
    }

    #[tokio::test]
    async fn a_dump_holds_the_memory_of_who_failed() {
        let dir = tempfile::tempdir().unwrap();
        let to: Arc<Path> = dir.path().join("deep/0.core").into();
        let (store, error) = failed(1);
        let (error, written) = write(to.clone(), store, error).await;
        written.unwrap();
        assert_eq!(error.downcast_ref(), Some(&wasmtime::Trap::UnreachableCodeReached));
        let dump = std::fs::read(&to).unwrap();
        assert_eq!(dump.get(..4), Some(&b"\0asm"[..]));
        for held in ["a word", "core", "corestack"] {
            assert!(
                dump.windows(held.len()).any(|window| window == held.as_bytes()),
                "{held}"
            );
        }
    }

    #[tokio::test]
    async fn one_that_is_too_large_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let to: Arc<Path> = dir.path().join("0.core").into();
        let (store, error) = failed(limits::CORE_DUMP_BYTES / 65_536 + 1);
        let (_, written) = write(to.clone(), store, error).await;
        let refused = written.unwrap_err().to_string();
        assert!(refused.contains("had 128 MiB") && !to.exists(), "{refused}");
    }
}
