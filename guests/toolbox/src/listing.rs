//! Commands that tell about files: `ls`, `stat`, `du`, `df`.

use crate::calendar::Moment;
use crate::files::{self, entries, flags};
use crate::values::said;
use crate::{Io, Outcome};
use std::fs::{self, Metadata};
use std::io::IsTerminal;

/// The code of a path that was named and is not there.
const NOT_THERE: i32 = 2;

struct Entry {
    name: String,
    path: String,
    data: Option<Metadata>,
}

impl Entry {
    fn of(name: &str, path: String) -> Self {
        Self {
            name: name.to_owned(),
            data: fs::symlink_metadata(&path).ok(),
            path,
        }
    }

    fn is_directory(&self) -> bool {
        self.data
            .as_ref()
            .map_or_else(|| files::is_directory(&self.path), Metadata::is_dir)
    }

    fn size(&self) -> u64 {
        self.data.as_ref().map_or(0, Metadata::len)
    }

    fn changed(&self) -> std::time::SystemTime {
        let changed = self.data.as_ref().and_then(|data| data.modified().ok());
        changed.unwrap_or(std::time::UNIX_EPOCH)
    }

    /// The line of `ls -l`. Files here have no modes and no owners; what is shown is what holds.
    fn line(&self, human: bool) -> String {
        let kind = match &self.data {
            Some(data) if data.is_symlink() => 'l',
            _ if self.is_directory() => 'd',
            _ => '-',
        };
        let target = fs::read_link(&self.path)
            .map(|to| format!(" -> {}", to.display()))
            .unwrap_or_default();
        let size = if human {
            human_size(self.size())
        } else {
            self.size().to_string()
        };
        let time = Moment::of(self.changed()).format("%b %e %H:%M");
        format!("{kind}rwxr-xr-x 1 root root {size:>8} {time} {}{target}", self.name)
    }
}

/// Bytes in the largest unit that leaves a short number.
pub fn human_size(bytes: u64) -> String {
    let (mut size, mut units) = (bytes as f64, ["", "K", "M", "G", "T"].iter());
    let mut unit = units.next().copied().unwrap_or_default();
    while size >= 1024.0 {
        size /= 1024.0;
        unit = units.next().copied().unwrap_or("P");
    }
    match unit.is_empty() || size >= 10.0 {
        true => format!("{:.0}{unit}", size.ceil()),
        false => format!("{size:.1}{unit}"),
    }
}

pub fn ls(io: &mut Io, args: &[String]) -> Outcome {
    let (letters, mut paths) = flags(args);
    if paths.is_empty() {
        paths.push(".");
    }
    let list = List {
        letters: &letters,
        in_columns: std::io::stdout().is_terminal() && !letters.contains(['1', 'l']),
    };
    let (mut code, mut single, mut directories) = (0, Vec::new(), Vec::new());
    for path in &paths {
        let absolute = files::path(path);
        if !files::exists(&absolute) {
            io.complain("ls", format!("cannot access '{path}': No such file or directory"));
            code = NOT_THERE;
        } else if files::is_directory(&absolute) && !letters.contains('d') {
            directories.push((*path).to_owned());
        } else {
            single.push(Entry::of(path, absolute));
        }
    }
    let mut first = single.is_empty();
    list.show(io, single)?;
    let several = paths.len() > 1 || letters.contains('R');
    directories.reverse();
    while let Some(path) = directories.pop() {
        if several {
            let gap = if first { "" } else { "\n" };
            writeln!(io.out, "{gap}{path}:").map_err(said)?;
        }
        first = false;
        let absolute = files::path(&path);
        let mut found: Vec<Entry> = Vec::new();
        if letters.contains('a') {
            found.extend([".", ".."].map(|name| Entry::of(name, files::path(&format!("{path}/{name}")))));
        }
        for name in entries(&absolute)? {
            if !name.starts_with('.') || letters.contains(['a', 'A']) {
                found.push(Entry::of(&name, format!("{}/{name}", absolute.trim_end_matches('/'))));
            }
        }
        if letters.contains('R') {
            let inner = found
                .iter()
                .filter(|entry| entry.is_directory() && !entry.name.starts_with('.'));
            let inner: Vec<_> = inner
                .map(|entry| format!("{}/{}", path.trim_end_matches('/'), entry.name))
                .collect();
            directories.extend(inner.into_iter().rev());
        }
        list.show(io, found)?;
    }
    Ok(code)
}

struct List<'a> {
    letters: &'a str,
    in_columns: bool,
}

impl List<'_> {
    fn has(&self, letter: char) -> bool {
        self.letters.contains(letter)
    }

    fn show(&self, io: &mut Io, mut found: Vec<Entry>) -> Result<(), String> {
        if self.has('t') {
            found.sort_by_key(|entry| std::cmp::Reverse(entry.changed()));
        } else if self.has('S') {
            found.sort_by_key(|entry| std::cmp::Reverse(entry.size()));
        }
        if self.has('r') {
            found.reverse();
        }
        let marked = |entry: &Entry| {
            let mark = if (self.has('F') || self.has('p')) && entry.is_directory() {
                "/"
            } else {
                ""
            };
            format!("{}{mark}", entry.name)
        };
        if self.has('l') {
            for entry in &found {
                writeln!(io.out, "{}", entry.line(self.has('h'))).map_err(said)?;
            }
            return Ok(());
        }
        let names: Vec<String> = found.iter().map(marked).collect();
        if !self.in_columns {
            return names
                .iter()
                .try_for_each(|name| writeln!(io.out, "{name}").map_err(said));
        }
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0) + 2;
        let screen = crate::sys::size().map_or(80, |(columns, _)| usize::from(columns));
        let columns = (screen / width).max(1);
        let rows = names.len().div_ceil(columns);
        for row in 0..rows {
            let line: String = names
                .iter()
                .skip(row)
                .step_by(rows.max(1))
                .map(|name| format!("{name:<width$}"))
                .collect();
            writeln!(io.out, "{}", line.trim_end()).map_err(said)?;
        }
        Ok(())
    }
}

/// `stat [-c FORMAT] FILE...`
pub fn stat(io: &mut Io, args: &[String]) -> Outcome {
    let (mut format, mut paths) = (None, Vec::new());
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "-c" | "--format" => format = rest.next().cloned(),
            "-L" => {}
            other => paths.push(other.to_owned()),
        }
    }
    let mut code = 0;
    for path in &paths {
        let entry = Entry::of(path, files::path(path));
        if !files::exists(&entry.path) {
            io.complain("stat", format!("cannot stat '{path}': No such file or directory"));
            code = 1;
            continue;
        }
        let kind = match &entry.data {
            _ if entry.is_directory() => "directory",
            Some(data) if data.is_symlink() => "symbolic link",
            _ if entry.size() == 0 => "regular empty file",
            _ => "regular file",
        };
        let time = Moment::of(entry.changed());
        let Some(format) = &format else {
            writeln!(io.out, "  File: {path}\n  Size: {:<10} {kind}", entry.size()).map_err(said)?;
            writeln!(io.out, "Modify: {}", time.format("%F %T.%N +0000")).map_err(said)?;
            continue;
        };
        let mut text = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            match (c, if c == '%' { chars.next() } else { None }) {
                ('%', Some('n')) => text += path,
                ('%', Some('s')) => text += &entry.size().to_string(),
                ('%', Some('F')) => text += kind,
                ('%', Some('Y')) => text += &time.format("%s"),
                ('%', Some('y')) => text += &time.format("%F %T.%N +0000"),
                ('%', Some('a')) => text += "755",
                ('%', Some('u' | 'g')) => text += "0",
                ('%', Some('U' | 'G')) => text += "root",
                ('%', Some(other)) => text.push(other),
                (c, _) => text.push(c),
            }
        }
        writeln!(io.out, "{text}").map_err(said)?;
    }
    Ok(code)
}

/// `du [-shkba] [PATH...]`: bytes that files hold, in units of a kilobyte.
pub fn du(io: &mut Io, args: &[String]) -> Outcome {
    let (letters, mut paths) = flags(args);
    if paths.is_empty() {
        paths.push(".");
    }
    for path in paths {
        let total = usage(io, path, &letters, true)?;
        if letters.contains('s') {
            used(io, path, total, &letters)?;
        }
    }
    Ok(0)
}

fn used(io: &mut Io, path: &str, bytes: u64, letters: &str) -> Result<(), String> {
    let size = match () {
        () if letters.contains('h') => human_size(bytes),
        () if letters.contains('b') => bytes.to_string(),
        () => bytes.div_ceil(1024).to_string(),
    };
    writeln!(io.out, "{size}\t{path}").map_err(said)
}

fn usage(io: &mut Io, path: &str, letters: &str, top: bool) -> Result<u64, String> {
    let entry = Entry::of(path, files::path(path));
    let mut total = entry.size();
    if entry.is_directory() {
        for name in entries(&entry.path)? {
            total += usage(io, &format!("{}/{name}", path.trim_end_matches('/')), letters, false)?;
        }
    }
    if !letters.contains('s') && (entry.is_directory() || letters.contains('a') || top) {
        used(io, path, total, letters)?;
    }
    Ok(total)
}

/// `df`: the mounts. How large they may grow WASI does not tell.
pub fn df(io: &mut Io, _: &[String]) -> Outcome {
    writeln!(io.out, "{:<20} {:>10} Mounted on", "Filesystem", "Used").map_err(said)?;
    for (_, mount) in wasip2::filesystem::preopens::get_directories() {
        let bytes = usage(io, &mount, "s", false)?;
        writeln!(io.out, "{:<20} {:>10} {mount}", "volume", human_size(bytes)).map_err(said)?;
    }
    Ok(0)
}
