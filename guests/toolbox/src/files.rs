//! Commands about files. The file system is what is mounted; the directories above the mounts are shown as if they existed.

use crate::values::said;
use crate::{Io, Outcome};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

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

fn why(path: &str, error: std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => format!("{path}: No such file or directory"),
        std::io::ErrorKind::PermissionDenied => format!("{path}: Permission denied"),
        _ => format!("{path}: {error}"),
    }
}

/// Opens a file, with the words that people know when it cannot be.
pub fn open(path: &str) -> Result<fs::File, String> {
    if !Path::new(path).is_file() && (Path::new(path).is_dir() || !under(path).is_empty()) {
        return Err(format!("{path}: Is a directory"));
    }
    fs::File::open(path).map_err(|error| why(path, error))
}

pub fn ls(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, mut paths) = flags(args);
    let (all, long) = (flags.contains('a'), flags.contains('l'));
    let here = io.env.get("PWD").cloned().unwrap_or_else(|| "/".into());
    if paths.is_empty() {
        paths.push(&here);
    }
    let mut code = 0;
    let several = paths.len() > 1;
    for path in paths {
        let names = if Path::new(path).is_file() {
            vec![path.to_owned()]
        } else {
            match entries(path) {
                Ok(names) => names,
                Err(error) => {
                    io.complain("ls", error);
                    code = 1;
                    continue;
                }
            }
        };
        if several {
            writeln!(io.out, "{path}:").map_err(said)?;
        }
        for name in names.iter().filter(|name| all || !name.starts_with('.')) {
            match long {
                true => writeln!(io.out, "{}", described(path, name)).map_err(said)?,
                false => writeln!(io.out, "{name}").map_err(said)?,
            }
        }
    }
    Ok(code)
}

/// The names in a directory, sorted.
pub fn entries(path: &str) -> Result<Vec<String>, String> {
    match fs::read_dir(path) {
        Ok(found) => {
            let mut names: Vec<String> = found
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect();
            names.sort_unstable();
            Ok(names)
        }
        Err(error) => match under(path) {
            names if names.is_empty() && path != "/" => Err(why(path, error)),
            names => Ok(names),
        },
    }
}

fn described(directory: &str, name: &str) -> String {
    let path = if Path::new(directory).is_file() {
        name.to_owned()
    } else {
        format!("{directory}/{name}")
    };
    match fs::symlink_metadata(&path) {
        Ok(found) => {
            let kind = match () {
                () if found.is_dir() => 'd',
                () if found.is_symlink() => 'l',
                () => '-',
            };
            let target = fs::read_link(&path)
                .map(|to| format!(" -> {}", to.display()))
                .unwrap_or_default();
            format!("{kind} {:>9} {name}{target}", found.len())
        }
        Err(_) => format!("d {:>9} {name}", 0),
    }
}

pub fn mkdir(_: &mut Io, args: &[String]) -> Outcome {
    let (flags, paths) = flags(args);
    for path in paths {
        let made = if flags.contains('p') {
            fs::create_dir_all(path)
        } else {
            fs::create_dir(path)
        };
        made.map_err(|error| why(path, error))?;
    }
    Ok(0)
}

pub fn rmdir(_: &mut Io, args: &[String]) -> Outcome {
    for path in args {
        fs::remove_dir(path).map_err(|error| why(path, error))?;
    }
    Ok(0)
}

pub fn rm(_: &mut Io, args: &[String]) -> Outcome {
    let (flags, paths) = flags(args);
    for path in paths {
        let removed = match (Path::new(path).is_dir(), flags.contains(['r', 'R'])) {
            (true, true) => fs::remove_dir_all(path),
            (true, false) => return Err(format!("{path}: is a directory")),
            (false, _) => fs::remove_file(path),
        };
        match removed {
            Err(error) if !flags.contains('f') => return Err(why(path, error)),
            _ => {}
        }
    }
    Ok(0)
}

/// Where a copy goes: into a directory under the same name, or to the path itself.
fn place(from: &str, to: &str) -> String {
    match Path::new(to).is_dir() {
        true => format!(
            "{}/{}",
            to.trim_end_matches('/'),
            from.rsplit('/').next().unwrap_or(from)
        ),
        false => to.to_owned(),
    }
}

pub fn cp(_: &mut Io, args: &[String]) -> Outcome {
    let (_, paths) = flags(args);
    let Some((to, from)) = paths.split_last().filter(|(_, from)| !from.is_empty()) else {
        return Err("missing operand".into());
    };
    for path in from {
        let mut source = open(path)?;
        let target = place(path, to);
        let mut target_file = fs::File::create(&target).map_err(|error| why(&target, error))?;
        std::io::copy(&mut source, &mut target_file).map_err(|error| why(&target, error))?;
    }
    Ok(0)
}

pub fn mv(_: &mut Io, args: &[String]) -> Outcome {
    let (_, paths) = flags(args);
    let Some((to, from)) = paths.split_last().filter(|(_, from)| !from.is_empty()) else {
        return Err("missing operand".into());
    };
    for path in from {
        fs::rename(path, place(path, to)).map_err(|error| why(path, error))?;
    }
    Ok(0)
}

pub fn touch(_: &mut Io, args: &[String]) -> Outcome {
    for path in args {
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|error| why(path, error))?;
    }
    Ok(0)
}
