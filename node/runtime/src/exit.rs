//! How a container ended, told from the error that the guest's call returned.
//!
//! Pure. The codes are those that a Linux container would have shown: the guest's own, 128 plus a signal for what the system
//! ended, so that scripts written for Kubernetes understand them.

use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::limits;
use crate::memory::OutOfMemory;

/// The code of a container that was killed: 128 + SIGKILL.
pub const KILLED: i32 = 137;
/// The code of a guest that trapped, as if it had called abort: 128 + SIGABRT.
const ABORTED: i32 = 134;
/// The code of a guest that touched memory or stack it does not have: 128 + SIGSEGV.
const FAULTED: i32 = 139;
/// The code when the host could not carry the guest on; the one that shells use for "cannot run".
const HOST_FAILED: i32 = 126;

/// The code of a program that wrote where nobody reads: 128 + SIGPIPE.
const UNHEARD: i32 = 141;

/// A program wrote into a pipe that nobody reads any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads what it writes")]
pub(crate) struct BrokenPipe;

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// What Kubernetes shows as `exitCode`.
    pub code: i32,
    /// What Kubernetes shows as `reason`.
    pub reason: ExitReason,
    /// What happened, for a person; none after an ordinary exit.
    pub message: Option<String>,
}

/// Why a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// It exited with code 0.
    Completed,
    /// It exited with another code, or trapped.
    Error,
    /// It wanted more memory than its limit.
    OomKilled,
    /// It used up its fuel.
    FuelExhausted,
    /// It was killed or terminated from outside.
    Killed,
}

impl ExitReason {
    /// The word that Kubernetes and its users know.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "Completed",
            // Kubernetes has no word of its own for a signal; the code tells.
            Self::Error | Self::Killed => "Error",
            Self::OomKilled => "OOMKilled",
            Self::FuelExhausted => "FuelExhausted",
        }
    }
}

impl Exit {
    /// An ordinary exit with the guest's own code.
    pub(crate) fn code(code: i32) -> Self {
        let reason = if code == 0 {
            ExitReason::Completed
        } else {
            ExitReason::Error
        };
        Self {
            code,
            reason,
            message: None,
        }
    }

    /// Ended from outside.
    pub(crate) fn killed(code: i32) -> Self {
        Self {
            code,
            reason: ExitReason::Killed,
            message: None,
        }
    }

    /// Ended because the machine had no memory left, while it held so many bytes.
    pub(crate) fn starved(held_bytes: u64) -> Self {
        Self {
            code: KILLED,
            reason: ExitReason::OomKilled,
            message: Some(format!(
                "the machine has no memory left, and this container held the most: {} MiB",
                held_bytes >> 20
            )),
        }
    }

    /// Could not be carried on for a reason that is not the guest's.
    pub(crate) fn host(message: String) -> Self {
        Self {
            code: HOST_FAILED,
            reason: ExitReason::Error,
            message: Some(message),
        }
    }

    /// What the failure of a guest's call means.
    pub(crate) fn of(error: &wasmtime::Error) -> Self {
        if let Some(I32Exit(code)) = error.downcast_ref() {
            return Self::code(*code);
        }
        if let Some(oom) = error.downcast_ref::<OutOfMemory>() {
            return Self {
                code: KILLED,
                reason: ExitReason::OomKilled,
                message: Some(oom.to_string()),
            };
        }
        if error.downcast_ref::<BrokenPipe>().is_some() {
            // No message: it is how the programs of a pipeline usually end.
            return Self::killed(UNHEARD);
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => Self {
                code: KILLED,
                reason: ExitReason::FuelExhausted,
                message: Some("the container used up its fuel".into()),
            },
            Some(trap @ (Trap::StackOverflow | Trap::MemoryOutOfBounds | Trap::HeapMisaligned)) => {
                Self::trap(FAULTED, trap.to_string(), error)
            }
            Some(trap) => Self::trap(ABORTED, trap.to_string(), error),
            // A host function refused to go on: a limit, or a misuse of an interface.
            None => Self::trap(ABORTED, error.root_cause().to_string(), error),
        }
    }

    fn trap(code: i32, what: String, error: &wasmtime::Error) -> Self {
        let frames = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
        Self {
            code,
            reason: ExitReason::Error,
            message: Some(format!("{what}{frames}")),
        }
    }
}

/// The guest's functions, innermost first, one a line; the first twenty.
fn frames(backtrace: &WasmBacktrace) -> String {
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => format!("\n  at {}", plain(without_hash(name))),
        None => format!("\n  at function {}", frame.func_index()),
    };
    backtrace
        .frames()
        .iter()
        .take(limits::BACKTRACE_FRAMES)
        .map(name)
        .collect()
}

/// A name as it may be shown: its beginning, without what a terminal or a log would obey.
pub(crate) fn plain(name: &str) -> String {
    let mut shown: String = name
        .chars()
        .take(limits::FRAME_NAME_CHARS)
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if name.chars().nth(limits::FRAME_NAME_CHARS).is_some() {
        shown.push('\u{2026}');
    }
    shown
}

/// Rust's legacy mangling ends in a hash that tells a reader nothing.
pub(crate) fn without_hash(name: &str) -> &str {
    name.split_once("::h")
        .filter(|(_, hash)| hash.len() == 16)
        .map_or(name, |(path, _)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_own_code_is_kept_exactly() {
        for code in [0, 1, 7, 255] {
            let exit = Exit::of(&wasmtime::Error::from(I32Exit(code)));
            assert_eq!((exit.code, exit.message), (code, None));
            assert_eq!(exit.reason == ExitReason::Completed, code == 0);
        }
    }

    #[test]
    fn the_error_is_found_below_its_context() {
        let oom = wasmtime::Error::from(OutOfMemory {
            limit_bytes: 64 << 20,
            wanted_bytes: 1 << 20,
        })
        .context("growing");
        let exit = Exit::of(&oom);
        assert_eq!((exit.code, exit.reason.as_str()), (137, "OOMKilled"));
        assert!(exit.message.unwrap().contains("64 MiB"));
    }

    #[test]
    fn a_name_is_short_and_obeyed_by_nobody() {
        assert_eq!(plain("core::panicking::panic"), "core::panicking::panic");
        assert_eq!(plain("\u{1b}[2J\nforged"), "\u{fffd}[2J\u{fffd}forged");
        let long = plain(&"\u{e4}".repeat(1000));
        assert_eq!(long.chars().count(), limits::FRAME_NAME_CHARS + 1);
    }

    #[test]
    fn traps_look_like_signals() {
        let of = |trap: Trap| Exit::of(&wasmtime::Error::from(trap));
        assert_eq!(of(Trap::StackOverflow).code, 139);
        assert_eq!(of(Trap::UnreachableCodeReached).code, 134);
        assert_eq!(of(Trap::OutOfFuel).reason, ExitReason::FuelExhausted);
        let refused = Exit::of(&wasmtime::Error::msg("too many handles").context("poll"));
        assert_eq!(
            (refused.code, refused.message.as_deref()),
            (134, Some("too many handles"))
        );
    }
}
