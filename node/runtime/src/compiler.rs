//! Compiling in a process of its own.
//!
//! The compiler has no limit of time or memory, cannot be stopped, and meets modules from strangers. So the node starts its own
//! program once more, which takes the limits that it is given upon itself, reads one module from its standard input and writes machine code to its
//! standard output. What it cannot do it says; what ends it, the node tells.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;

use crate::engine::{self, Metering};
use crate::limits;
use crate::module::{self, LoadError};

/// The name of the program's command for this; [`compile_as_child`] is what it does.
pub const COMPILE_COMMAND: &str = "compile-module";

/// Why a child ended, beside success: the text on its standard error is the reason.
const INVALID: u8 = 3;
const FAILED: u8 = 4;

/// A child could not be asked.
#[derive(Debug)]
pub(crate) enum ChildError {
    /// It could not be started: somebody else has to compile.
    Absent(io::Error),
    /// It was started, and this is the outcome.
    Load(LoadError),
}

/// Compiles a module in a child of this program. Blocks.
pub(crate) fn compile(program: &Path, metering: Metering, wasm: &[u8]) -> Result<Vec<u8>, ChildError> {
    let metering = match metering {
        Metering::Time => "time",
        Metering::Fuel => "fuel",
    };
    let mut child = Command::new(program)
        .args([COMPILE_COMMAND, metering])
        .arg(limits::COMPILE_MEMORY_BYTES.to_string())
        .arg(limits::COMPILE_CPU_SECONDS.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(ChildError::Absent)?;
    let failed = |error: io::Error| ChildError::Load(LoadError::Compile(error.to_string()));
    let outcome = talk(&mut child, wasm);
    if outcome.is_err() {
        let _ = child.kill();
    }
    // It has closed its output or was killed, so this does not wait for long.
    let status = child.wait().map_err(failed)?;
    let (code, said) = outcome.map_err(failed)?;
    if status.success() {
        return Ok(code);
    }
    Err(ChildError::Load(reason(status, said.trim())))
}

/// Sends the module and takes what comes back, within the limit of time.
fn talk(child: &mut Child, wasm: &[u8]) -> io::Result<(Vec<u8>, String)> {
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let (sender, outcome) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let read = read_limited(stdout, limits::CODE_BYTES);
            let said = read_limited(stderr, limits::COMPILER_WORDS_BYTES).unwrap_or_default();
            let said = String::from_utf8_lossy(&said).into_owned();
            // Nobody waits any more when the time is over.
            let _ = sender.send(read.map(|code| (code, said)));
        });
        // One that ends early says why, or how it ended does.
        let _ = stdin.write_all(wasm);
        drop(stdin);
        match outcome.recv_timeout(limits::COMPILE_WALL_TIME) {
            Ok(outcome) => outcome,
            Err(_) => {
                // Its end closes the pipes, which ends the thread that reads them.
                let _ = child.kill();
                let seconds = limits::COMPILE_WALL_TIME.as_secs();
                let why = format!("it took longer than {seconds} seconds");
                Err(io::Error::new(io::ErrorKind::TimedOut, why))
            }
        }
    })
}

fn read_limited(mut from: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.by_ref().take(limit as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.len() > limit {
        true => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("its code has more than {limit} bytes"),
        )),
        false => Ok(bytes),
    }
}

fn reason(status: ExitStatus, said: &str) -> LoadError {
    let first = said.lines().next().unwrap_or_default();
    match status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(INVALID) => LoadError::Invalid(said.to_owned()),
        Some(FAILED) => LoadError::Compile(said.to_owned()),
        // What Rust says when an allocation fails, before it aborts.
        _ if said.contains("memory allocation of") => LoadError::Compile(format!(
            "it needs more than the {} MiB of memory that the compiler may have",
            limits::COMPILE_MEMORY_BYTES >> 20
        )),
        _ if is_out_of_time(status) => LoadError::Compile(format!(
            "it needs more than {} seconds of CPU",
            limits::COMPILE_CPU_SECONDS
        )),
        _ => LoadError::Compile(format!("the compiler ended with {status}: {first}")),
    }
}

#[cfg(unix)]
fn is_out_of_time(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.signal() == Some(rustix::process::Signal::XCPU.as_raw())
}

#[cfg(not(unix))]
fn is_out_of_time(_status: ExitStatus) -> bool {
    false
}

/// What a child does: a module from standard input, code to standard output, words to standard error, within so much address
/// space and time of CPU. Returns its exit code.
#[must_use]
pub fn compile_as_child(metering: Metering, memory_bytes: u64, cpu_seconds: u64) -> u8 {
    if let Err(error) = take_limits(memory_bytes, cpu_seconds) {
        eprintln!("cannot limit the compiler: {error}");
        return FAILED;
    }
    match read_and_compile(metering) {
        Ok(code) => match io::stdout().write_all(&code).and_then(|()| io::stdout().flush()) {
            Ok(()) => 0,
            Err(_) => FAILED,
        },
        Err(LoadError::Invalid(why)) => {
            eprintln!("{why}");
            INVALID
        }
        Err(LoadError::Compile(why)) => {
            eprintln!("{why}");
            FAILED
        }
        Err(error) => {
            eprintln!("{error}");
            FAILED
        }
    }
}

fn read_and_compile(metering: Metering) -> Result<Vec<u8>, LoadError> {
    let wasm = read_limited(io::stdin().lock(), limits::MODULE_BYTES);
    let wasm = wasm.map_err(|error| LoadError::Compile(error.to_string()))?;
    let info = module::inspect(&wasm)?;
    module::compile(&engine::compiler(metering)?, metering, &info, &wasm)
}

/// Lets the system end this process when it takes too much, and lets others go first.
#[cfg(unix)]
fn take_limits(memory_bytes: u64, cpu_seconds: u64) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};
    for (resource, most) in [
        (Resource::As, memory_bytes),
        (Resource::Cpu, cpu_seconds),
        (Resource::Core, 0),
    ] {
        let own = getrlimit(resource);
        let most = own.maximum.map_or(most, |own| own.min(most));
        let limit = Rlimit {
            current: Some(most),
            maximum: own.maximum,
        };
        setrlimit(resource, limit)?;
    }
    nice(10).map(drop).map_err(io::Error::from)
}

/// Only the node's clock holds it there.
#[cfg(not(unix))]
fn take_limits(_memory_bytes: u64, _cpu_seconds: u64) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    /// A program that stands in for ours.
    fn script(dir: &Path, text: &str) -> std::path::PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.join("compiler");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn outcome(text: &str) -> Result<Vec<u8>, String> {
        let dir = tempfile::tempdir().unwrap();
        let program = script(dir.path(), text);
        compile(&program, Metering::Time, b"module").map_err(|error| match error {
            ChildError::Load(error) => error.to_string(),
            ChildError::Absent(error) => panic!("{error}"),
        })
    }

    #[test]
    fn what_the_child_writes_is_the_code_and_what_it_says_the_reason() {
        assert_eq!(
            outcome(r#"test "$1 $2" = "compile-module time" && exec cat"#).unwrap(),
            b"module"
        );
        let refused = outcome("cat >/dev/null; echo 'a bad section' >&2; exit 3").unwrap_err();
        assert_eq!(refused, "this WebAssembly module is not valid: a bad section");
        let refused = outcome("exec >&- ; echo 'memory allocation of 64 bytes failed' >&2; kill -ABRT $$").unwrap_err();
        assert!(refused.contains("needs more than the 6144 MiB of memory"), "{refused}");
        let refused = outcome("kill -KILL $$").unwrap_err();
        assert!(refused.contains("signal: 9"), "{refused}");
        let xcpu = reason(ExitStatus::from_raw(rustix::process::Signal::XCPU.as_raw()), "");
        assert!(
            xcpu.to_string().contains("needs more than 600 seconds of CPU"),
            "{xcpu}"
        );
        assert!(matches!(
            compile(Path::new("/nowhere/coracle"), Metering::Time, b""),
            Err(ChildError::Absent(_))
        ));
    }
}
