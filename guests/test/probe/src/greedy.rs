//! Taking of the host's files and of `wasi:http` as much as it gives.

use std::fmt::{Debug, Formatter};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What an error says, also where the standard library knows no name for it on WASI.
struct Reason(std::io::Error);

impl Debug for Reason {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self.0.raw_os_error() {
            Some(19) => f.write_str("QuotaExceeded"),
            Some(51) => f.write_str("StorageFull"),
            _ => self.0.kind().fmt(f),
        }
    }
}

/// Opens one file until the host refuses.
pub fn open(path: &str) {
    fs::write(path, "x").unwrap();
    let mut held = Vec::new();
    loop {
        match File::open(path) {
            Ok(file) => held.push(file),
            Err(e) => {
                println!("{} files, then {:?}", held.len(), Reason(e));
                return;
            }
        }
    }
}

/// Writes to a file until there is no room: how much, and what was said. By half blocks, so that the end is in the middle.
pub fn fill(path: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    println!("{}", until_full(&mut file));
}

fn until_full(file: &mut File) -> String {
    let piece = [7; 3000];
    loop {
        if let Err(e) = file.write_all(&piece) {
            return format!("{} bytes, then {:?}", file.metadata().unwrap().len(), Reason(e));
        }
    }
}

/// Makes a file this long without writing.
pub fn extend(path: &str, length: u64) {
    let file = OpenOptions::new().create(true).write(true).open(path).unwrap();
    println!("{:?}", file.set_len(length).map_err(Reason));
}

/// Everything that makes room again, and one thing that does not: what is removed while it is open is still there.
pub fn room(dir: &str) {
    let path = |name: &str| Path::new(dir).join(name);
    let full = |name: &str| {
        let mut file = File::create(path(name)).unwrap();
        until_full(&mut file)
    };
    let no_room = |name: &str| fs::write(path(name), "x").map_err(Reason);
    println!("filled: {}", full("a"));
    println!("more: {:?}", no_room("b"));
    fs::rename(path("a"), path("c")).unwrap();
    println!("renamed: {:?}", no_room("b"));
    let mut inside = OpenOptions::new().write(true).open(path("c")).unwrap();
    println!("inside: {:?}", inside.write_all(b"changed").map_err(Reason));
    inside.set_len(0).unwrap();
    println!("cut: {:?}", no_room("b"));
    inside.seek(SeekFrom::Start(0)).unwrap();
    println!("again: {}", until_full(&mut inside));
    fs::remove_file(path("c")).unwrap();
    println!("removed, open: {:?}", no_room("d"));
    drop(inside);
    println!("closed: {:?}", no_room("d"));
    println!("filled: {}", full("a"));
    fs::rename(path("b"), path("a")).unwrap();
    println!("replaced: {:?}", no_room("e"));
    println!("filled: {}", full("f"));
    File::create(path("f")).unwrap();
    println!("made anew: {:?}", no_room("e"));
    for name in ["a", "d", "e", "f"] {
        fs::remove_file(path(name)).unwrap();
    }
    println!("left: {}", fs::read_dir(dir).unwrap().count());
}

/// Makes names of all kinds until there is no room for one.
pub fn names(dir: &str) {
    let dir = PathBuf::from(dir);
    let mut made = 0;
    loop {
        let path = dir.join(made.to_string());
        let result = match made % 2 {
            0 => File::create(path).map(drop),
            _ => fs::create_dir(path),
        };
        if let Err(e) = result {
            println!("{made} names, then {:?}", Reason(e));
            return;
        }
        made += 1;
    }
}

/// Makes empty files.
pub fn make(dir: &str, count: usize) {
    for number in 0..count {
        File::create(Path::new(dir).join(number.to_string())).unwrap();
    }
    println!("made");
}

/// Counts the entries of a directory, and how many are files.
pub fn entries(dir: &str) {
    let (mut all, mut files) = (0, 0);
    for entry in fs::read_dir(dir).unwrap() {
        all += 1;
        files += usize::from(entry.unwrap().file_type().unwrap().is_file());
    }
    println!("{all} entries, {files} files");
}

/// Moves a file from one volume to another, and writes one there.
pub fn transfer(from: &str, to: &str) {
    println!("{:?}", fs::rename(from, to).map_err(Reason));
    println!("{:?}", fs::hard_link(from, to).map_err(Reason));
}

/// Writes so many pieces, reads them again, and says how many bytes that were.
pub fn copy(path: &str, pieces: usize, bytes: usize) {
    let mut file = File::create(path).unwrap();
    let piece = vec![7; bytes];
    for _ in 0..pieces {
        file.write_all(&piece).unwrap();
    }
    println!("written");
    let (mut file, mut total, mut piece) = (File::open(path).unwrap(), 0, piece);
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => total += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => panic!("{e}"),
        }
    }
    println!("read {total}");
}

/// Headers of one message until they are refused.
#[cfg(target_env = "p2")]
pub fn headers() {
    use wasip2::http::types::Fields;
    let (fields, value) = (Fields::new(), vec![b'x'; 1024]);
    for number in 0..10_000 {
        if let Err(error) = fields.append(&format!("x-{number}"), &value) {
            println!("{number} headers, then {error:?}");
            return;
        }
    }
    println!("all headers were taken");
}

/// One header with so many bytes.
#[cfg(target_env = "p2")]
pub fn header(bytes: usize) {
    use wasip2::http::types::Fields;
    println!("{:?}", Fields::new().append("x", &vec![b'x'; bytes]));
}
