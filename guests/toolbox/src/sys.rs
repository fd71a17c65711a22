//! What the toolbox asks of its container: processes, pipes, signals, and files as streams that can be handed on.

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/process",
        world: "host",
        with: { "wasi:io/streams@0.2.0": wasip2::io::streams },
    });
}

pub use bindings::coracle::process::processes::{
    KillError, Program, SpawnError, WaitError, all, catch, caught, ended, ids, kill, spawn, wait,
};
pub use bindings::coracle::process::streams::{End as Given, Fault, Sink, Source, buffer, inherited, pipe};
pub use bindings::coracle::process::terminal::{set_raw, size};

use std::rc::Rc;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};

/// One end of a stream, as a shell's file descriptor holds it.
#[derive(Clone)]
pub enum End {
    Source(Rc<Source>),
    Sink(Rc<Sink>),
}

impl End {
    /// The stream that this program was started with under a number.
    pub fn inherited(number: u32) -> Option<Self> {
        Some(match inherited(number)? {
            Given::Source(source) => Self::Source(Rc::new(source)),
            Given::Sink(sink) => Self::Sink(Rc::new(sink)),
        })
    }

    /// A handle for another program.
    pub fn give(&self) -> Given {
        match self {
            Self::Source(source) => Given::Source(source.share()),
            Self::Sink(sink) => Given::Sink(sink.share()),
        }
    }

    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Source(source) => source.is_terminal(),
            Self::Sink(sink) => sink.is_terminal(),
        }
    }

    /// A pipe.
    pub fn pair((source, sink): (Source, Sink)) -> (Self, Self) {
        (Self::Source(Rc::new(source)), Self::Sink(Rc::new(sink)))
    }
}

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Open {
    Read,
    /// Empties the file or makes it.
    Write,
    Append,
    /// Makes the file and refuses one that is there.
    New,
}

thread_local! {
    static MOUNTS: Vec<(Descriptor, String)> = wasip2::filesystem::preopens::get_directories();
}

/// Where a path lies: one of the mounts, and the path in it.
fn with_mount<T>(path: &str, work: impl FnOnce(&Descriptor, &str) -> Result<T, ErrorCode>) -> Result<T, ErrorCode> {
    MOUNTS.with(|mounts| {
        let inside = |mount: &str| {
            let rest = path.strip_prefix(mount.trim_end_matches('/'))?;
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/').to_owned())
        };
        let best = mounts
            .iter()
            .filter_map(|(descriptor, mount)| Some((descriptor, mount.len(), inside(mount)?)))
            .max_by_key(|(_, length, _)| *length);
        let (descriptor, _, rest) = best.ok_or(ErrorCode::NoEntry)?;
        work(descriptor, if rest.is_empty() { "." } else { &rest })
    })
}

/// Opens the file of an absolute path as a stream.
pub fn open(path: &str, how: Open) -> Result<End, String> {
    let flags = match how {
        Open::Read => OpenFlags::empty(),
        Open::Write => OpenFlags::CREATE | OpenFlags::TRUNCATE,
        Open::Append => OpenFlags::CREATE,
        Open::New => OpenFlags::CREATE | OpenFlags::EXCLUSIVE,
    };
    let wanted = match how {
        Open::Read => DescriptorFlags::READ,
        _ => DescriptorFlags::WRITE,
    };
    let file = with_mount(path, |mount, rest| {
        mount.open_at(PathFlags::SYMLINK_FOLLOW, rest, flags, wanted)
    });
    let stream = file.and_then(|file| {
        Ok(match how {
            Open::Read => {
                if file.get_type()? == wasip2::filesystem::types::DescriptorType::Directory {
                    return Err(ErrorCode::IsDirectory);
                }
                End::Source(Rc::new(Source::over(file.read_via_stream(0)?)))
            }
            Open::Append => End::Sink(Rc::new(Sink::over(file.append_via_stream()?))),
            Open::Write | Open::New => End::Sink(Rc::new(Sink::over(file.write_via_stream(0)?))),
        })
    });
    stream.map_err(|code| why(code, how).to_owned())
}

/// Makes a symbolic link at an absolute path.
pub fn symlink(target: &str, link: &str) -> Result<(), &'static str> {
    with_mount(link, |mount, rest| mount.symlink_at(target, rest)).map_err(|code| why(code, Open::New))
}

fn why(code: ErrorCode, how: Open) -> &'static str {
    match code {
        ErrorCode::NoEntry if how == Open::Read => "No such file",
        ErrorCode::NoEntry => "Directory nonexistent",
        ErrorCode::IsDirectory => "Is a directory",
        ErrorCode::NotDirectory => "Directory nonexistent",
        ErrorCode::Access | ErrorCode::NotPermitted => "Permission denied",
        ErrorCode::ReadOnly => "Read-only file system",
        ErrorCode::Exist => "File exists",
        ErrorCode::InsufficientSpace | ErrorCode::Quota => "No space left on device",
        _ => "Input/output error",
    }
}

/// Signals by name, without `SIG`.
pub const SIGNALS: [(&str, u8); 24] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("WINCH", 28),
    ("SYS", 31),
];

/// The number that a name or number means; 0 is allowed.
pub fn signal(text: &str) -> Option<u8> {
    if let Ok(number) = text.parse::<u8>() {
        return (number < 64).then_some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let found = SIGNALS.iter().find(|(known, _)| *known == name)?;
    Some(found.1)
}

/// The name of a signal.
pub fn signal_name(number: u8) -> String {
    let found = SIGNALS.iter().find(|(_, known)| *known == number);
    found.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

/// An absolute path without `.` and `..`, seen from a directory.
pub fn absolute(directory: &str, path: &str) -> String {
    let whole = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{directory}/{path}"),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
