//! Commands about files. The file system is what is mounted; the directories above the mounts are shown as if they existed.

use crate::values::said;
use crate::{Io, Outcome};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

thread_local! {
    /// Where relative paths begin: WASI has no working directory of its own.
    static DIRECTORY: RefCell<String> = RefCell::new(first_directory());
}

fn first_directory() -> String {
    wasip2::cli::environment::initial_cwd()
        .or_else(|| std::env::var("PWD").ok())
        .filter(|path| path.starts_with('/'))
        .unwrap_or_else(|| "/".to_owned())
}

/// The working directory.
pub fn directory() -> String {
    DIRECTORY.with_borrow(Clone::clone)
}

/// Does something with another working directory.
pub fn in_directory<T>(directory: &str, work: impl FnOnce() -> T) -> T {
    let before = DIRECTORY.replace(directory.to_owned());
    let result = work();
    DIRECTORY.replace(before);
    result
}

/// A path as the system has it.
pub fn path(path: &str) -> String {
    DIRECTORY.with_borrow(|directory| crate::sys::absolute(directory, path))
}

/// Whether there is something, the directories above the mounts among it.
pub fn exists(absolute: &str) -> bool {
    fs::symlink_metadata(absolute).is_ok() || is_device(absolute) || is_directory(absolute)
}

fn is_device(absolute: &str) -> bool {
    matches!(
        absolute,
        "/dev/null"
            | "/dev/zero"
            | "/dev/random"
            | "/dev/urandom"
            | "/dev/stdin"
            | "/dev/stdout"
            | "/dev/stderr"
            | "/dev/tty"
    )
}

/// Whether there is a directory, those above the mounts among it.
pub fn is_directory(absolute: &str) -> bool {
    Path::new(absolute).is_dir() || absolute == "/" || !under(absolute).is_empty()
}

/// The names under a directory that exists only because something is mounted below it.
pub fn under(path: &str) -> Vec<String> {
    let base: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    let mounts = wasip2::filesystem::preopens::get_directories();
    let mut names = BTreeSet::new();
    for (_, mount) in &mounts {
        let parts: Vec<&str> = mount.split('/').filter(|part| !part.is_empty()).collect();
        if parts.len() > base.len() && parts[..base.len()] == base[..] {
            names.insert(parts[base.len()].to_owned());
        }
    }
    names.into_iter().collect()
}

/// The flags, as one text, and the other arguments.
pub fn flags(args: &[String]) -> (String, Vec<&str>) {
    let mut flags = String::new();
    let mut rest = Vec::new();
    for arg in args {
        match arg.strip_prefix('-') {
            Some(letters) if !letters.is_empty() && rest.is_empty() => flags.push_str(letters),
            _ => rest.push(arg.as_str()),
        }
    }
    (flags, rest)
}

/// What went wrong with a path, in the words that people know.
pub fn why(path: &str, error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => format!("{path}: No such file or directory"),
        ErrorKind::PermissionDenied => format!("{path}: Permission denied"),
        ErrorKind::AlreadyExists => format!("{path}: File exists"),
        ErrorKind::DirectoryNotEmpty => format!("{path}: Directory not empty"),
        ErrorKind::NotADirectory => format!("{path}: Not a directory"),
        ErrorKind::IsADirectory => format!("{path}: Is a directory"),
        ErrorKind::ReadOnlyFilesystem => format!("{path}: Read-only file system"),
        _ => format!("{path}: {error}"),
    }
}

/// What a path leads to when it is read.
pub enum Opened {
    File(fs::File),
    /// `/dev/null`
    Nothing,
    Zeros,
    Random,
    Input,
}

impl Read for Opened {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::File(file) => file.read(bytes),
            Self::Nothing => Ok(0),
            Self::Zeros => {
                bytes.fill(0);
                Ok(bytes.len())
            }
            Self::Random => {
                let some = wasip2::random::random::get_random_bytes(bytes.len().min(4096) as u64);
                bytes[..some.len()].copy_from_slice(&some);
                Ok(some.len())
            }
            Self::Input => std::io::stdin().read(bytes),
        }
    }
}

/// Opens a file to read.
pub fn open(path: &str) -> Result<Opened, String> {
    let absolute = self::path(path);
    match absolute.as_str() {
        "/dev/null" => return Ok(Opened::Nothing),
        "/dev/zero" => return Ok(Opened::Zeros),
        "/dev/random" | "/dev/urandom" => return Ok(Opened::Random),
        "/dev/stdin" | "/dev/fd/0" | "/proc/self/fd/0" => return Ok(Opened::Input),
        _ => {}
    }
    if !Path::new(&absolute).is_file() && is_directory(&absolute) {
        return Err(format!("{path}: Is a directory"));
    }
    fs::File::open(&absolute)
        .map(Opened::File)
        .map_err(|error| why(path, &error))
}

/// Opens a file to write, from its beginning or at its end.
pub fn create(path: &str, append: bool) -> Result<Box<dyn Write>, String> {
    let absolute = self::path(path);
    match absolute.as_str() {
        "/dev/null" => return Ok(Box::new(std::io::sink())),
        "/dev/stdout" => return Ok(Box::new(std::io::stdout())),
        "/dev/stderr" => return Ok(Box::new(std::io::stderr())),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    options.create(true).write(true).append(append).truncate(!append);
    match options.open(&absolute) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(why(path, &error)),
    }
}

/// All of a file, as text.
pub fn read_text(path: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).map_err(said)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// All of a file or of standard input, which `-` means.
pub fn input_text(io: &mut Io, path: &str) -> Result<String, String> {
    if path != "-" {
        return read_text(path);
    }
    let mut bytes = Vec::new();
    io.input.read_to_end(&mut bytes).map_err(said)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The names in a directory, sorted; those of mounts below it are among them.
pub fn entries(path: &str) -> Result<Vec<String>, String> {
    let absolute = self::path(path);
    let mut names: BTreeSet<String> = under(&absolute).into_iter().collect();
    match fs::read_dir(&absolute) {
        Ok(found) => names.extend(
            found
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned()),
        ),
        Err(_) if !names.is_empty() || absolute == "/" => {}
        Err(error) => return Err(why(path, &error)),
    }
    Ok(names.into_iter().collect())
}

/// Does something with each path, and says what went wrong with some.
fn each(io: &mut Io, command: &str, paths: &[&str], work: impl Fn(&str) -> Result<(), String>) -> Outcome {
    if paths.is_empty() {
        return Err("missing operand".into());
    }
    let mut code = 0;
    for path in paths {
        if let Err(what) = work(path) {
            io.complain(command, what);
            code = 1;
        }
    }
    Ok(code)
}

pub fn mkdir(io: &mut Io, args: &[String]) -> Outcome {
    let (mut flags, mut paths) = flags(args);
    if flags.contains('m') && !paths.is_empty() {
        // The mode, which directories here do not have.
        paths.remove(0);
        flags.retain(|letter| letter != 'm');
    }
    each(io, "mkdir", &paths, |path| {
        let absolute = self::path(path);
        let made = match flags.contains('p') {
            true if is_directory(&absolute) => Ok(()),
            true => fs::create_dir_all(&absolute),
            false if is_directory(&absolute) => Err(std::io::ErrorKind::AlreadyExists.into()),
            false => fs::create_dir(&absolute),
        };
        made.map_err(|error| format!("cannot create directory {}", why(path, &error)))
    })
}

pub fn rmdir(io: &mut Io, args: &[String]) -> Outcome {
    let (_, paths) = flags(args);
    each(io, "rmdir", &paths, |path| {
        fs::remove_dir(self::path(path)).map_err(|error| why(path, &error))
    })
}

pub fn rm(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, paths) = flags(args);
    let force = flags.contains('f');
    if paths.is_empty() && force {
        return Ok(0);
    }
    each(io, "rm", &paths, |path| {
        let absolute = self::path(path);
        let is_link = fs::symlink_metadata(&absolute).is_ok_and(|found| found.is_symlink());
        let removed = match (!is_link && is_directory(&absolute), flags.contains(['r', 'R'])) {
            (true, true) => fs::remove_dir_all(&absolute),
            (true, false) => return Err(format!("cannot remove '{path}': Is a directory")),
            (false, _) => fs::remove_file(&absolute),
        };
        match removed {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && force => Ok(()),
            Err(error) => Err(format!("cannot remove {}", why(path, &error))),
            Ok(()) => Ok(()),
        }
    })
}

/// Where a copy goes: into a directory under the same name, or to the path itself.
fn place(from: &str, to: &str) -> String {
    match is_directory(&path(to)) {
        true => {
            let from = from.trim_end_matches('/');
            format!(
                "{}/{}",
                to.trim_end_matches('/'),
                from.rsplit('/').next().unwrap_or(from)
            )
        }
        false => to.to_owned(),
    }
}

fn copy(from: &str, to: &str, deep: bool) -> Result<(), String> {
    let (source, target) = (path(from), path(to));
    if is_directory(&source) && !source.starts_with("/dev/") {
        if !deep {
            return Err(format!("-r not specified; omitting directory '{from}'"));
        }
        if !is_directory(&target) {
            fs::create_dir(&target).map_err(|error| why(to, &error))?;
        }
        for name in entries(&source)? {
            copy(&format!("{from}/{name}"), &format!("{to}/{name}"), true)?;
        }
        return Ok(());
    }
    let mut input = open(from)?;
    let mut output = create(to, false)?;
    std::io::copy(&mut input, &mut output).map_err(|error| why(to, &error))?;
    Ok(())
}

/// The sources and the target of `cp`, `mv` and `ln`; several need a directory.
fn operands<'a>(paths: &[&'a str]) -> Result<(Vec<&'a str>, &'a str), String> {
    let Some((to, from)) = paths.split_last().filter(|(_, from)| !from.is_empty()) else {
        return Err("missing operand".into());
    };
    if from.len() > 1 && !is_directory(&path(to)) {
        return Err(format!("target '{to}' is not a directory"));
    }
    Ok((from.to_vec(), to))
}

pub fn cp(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, paths) = flags(args);
    let (from, to) = operands(&paths)?;
    let deep = flags.contains(['r', 'R', 'a']);
    each(io, "cp", &from, |path| copy(path, &place(path, to), deep))
}

pub fn mv(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, paths) = flags(args);
    let (from, to) = operands(&paths)?;
    each(io, "mv", &from, |from| {
        let target = place(from, to);
        if flags.contains('n') && exists(&path(&target)) {
            return Ok(());
        }
        match fs::rename(path(from), path(&target)) {
            // Another mount, as another file system elsewhere.
            Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices || crosses(from, &target) => {
                copy(from, &target, true)?;
                let from = path(from);
                let removed = match is_directory(&from) {
                    true => fs::remove_dir_all(&from),
                    false => fs::remove_file(&from),
                };
                removed.map_err(|error| why(&from, &error))
            }
            moved => moved.map_err(|error| why(from, &error)),
        }
    })
}

/// Whether two paths lie below different mounts.
fn crosses(from: &str, to: &str) -> bool {
    let mounts = wasip2::filesystem::preopens::get_directories();
    let mount = |wanted: &str| {
        let absolute = path(wanted);
        let inside = mounts.iter().filter(|(_, mount)| {
            let mount = mount.trim_end_matches('/');
            absolute
                .strip_prefix(mount)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        inside.map(|(_, mount)| mount.clone()).max_by_key(String::len)
    };
    exists(&path(from)) && mount(from) != mount(to)
}

/// `ln -s TARGET LINK`
pub fn ln(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, mut paths) = flags(args);
    if paths.len() == 1 {
        paths.push(".");
    }
    let (from, to) = operands(&paths)?;
    each(io, "ln", &from, |from| {
        let link = place(from, to);
        if flags.contains('f') {
            // What is not there need not be taken away.
            let _ = fs::remove_file(path(&link));
        }
        let made = match flags.contains('s') {
            true => crate::sys::symlink(from, &path(&link)).map_err(str::to_owned),
            false => fs::hard_link(path(from), path(&link)).map_err(|error| error.to_string()),
        };
        made.map_err(|what| format!("{link}: {what}"))
    })
}

pub fn touch(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, paths) = flags(args);
    each(io, "touch", &paths, |path| {
        let absolute = self::path(path);
        let now = std::time::SystemTime::now();
        if is_directory(&absolute) || (flags.contains('c') && !exists(&absolute)) {
            return Ok(());
        }
        let file = fs::OpenOptions::new().create(true).append(true).open(&absolute);
        let touched = file.and_then(|file| file.set_times(fs::FileTimes::new().set_accessed(now).set_modified(now)));
        touched.map_err(|error| why(path, &error))
    })
}

/// `chmod` and `chown`: files here have neither modes nor owners, so there is nothing to change; the path must exist.
pub fn chmod(io: &mut Io, args: &[String]) -> Outcome {
    let paths: Vec<&str> = args
        .iter()
        .filter(|arg| !arg.starts_with('-'))
        .skip(1)
        .map(String::as_str)
        .collect();
    each(io, "chmod", &paths, |path| match exists(&self::path(path)) {
        true => Ok(()),
        false => Err(format!("{path}: No such file or directory")),
    })
}

pub fn realpath(io: &mut Io, args: &[String]) -> Outcome {
    let (_, paths) = flags(args);
    for path in paths {
        let mut absolute = self::path(path);
        // A link leads on, but not for ever.
        for _ in 0..16 {
            let Ok(target) = fs::read_link(&absolute) else {
                break;
            };
            let directory = absolute
                .rsplit_once('/')
                .map_or("/", |(directory, _)| directory)
                .to_owned();
            absolute = crate::sys::absolute(&directory, &target.to_string_lossy());
        }
        writeln!(io.out, "{absolute}").map_err(said)?;
    }
    Ok(0)
}

pub fn readlink(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, paths) = flags(args);
    if flags.contains('f') {
        return realpath(io, args);
    }
    let path = paths.first().ok_or("missing operand")?;
    match fs::read_link(self::path(path)) {
        Ok(target) => writeln!(io.out, "{}", target.display()).map(|()| 0).map_err(said),
        Err(_) => Ok(1),
    }
}

/// `mktemp [-d] [-p DIRECTORY] [TEMPLATE]`
pub fn mktemp(io: &mut Io, args: &[String]) -> Outcome {
    let (mut directory, mut flags, mut template) = (None, String::new(), None);
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.strip_prefix('-') {
            Some("p") => directory = rest.next().cloned(),
            Some(letters) => flags += letters,
            None => template = Some(arg.clone()),
        }
    }
    let temporary = || std::env::var("TMPDIR").unwrap_or_else(|_| "/tmp".into());
    let template = match (template, directory) {
        (Some(template), None) if !flags.contains('t') => template,
        (template, directory) => {
            let template = template.unwrap_or_else(|| "tmp.XXXXXXXXXX".into());
            format!("{}/{template}", directory.unwrap_or_else(temporary))
        }
    };
    let count = template.len() - template.trim_end_matches('X').len();
    if count < 3 {
        return Err(format!("too few X's in template '{template}'"));
    }
    let signs = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let some = wasip2::random::random::get_random_bytes(count as u64);
    let end: String = some
        .iter()
        .map(|byte| char::from(signs[*byte as usize % signs.len()]))
        .collect();
    let made = format!("{}{end}", &template[..template.len() - count]);
    let absolute = path(&made);
    let result = match flags.contains('d') {
        true => fs::create_dir(&absolute),
        false => fs::File::create_new(&absolute).map(drop),
    };
    result.map_err(|error| format!("cannot create {}", why(&made, &error)))?;
    writeln!(io.out, "{made}").map_err(said)?;
    Ok(0)
}
