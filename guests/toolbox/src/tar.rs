//! `tar`, as far as `kubectl cp` and people with a directory to move need it: `tar cf - PATH...`, `tar xf - -C DIR`, `tar tf -`.

use crate::files::{self, entries, open};
use crate::values::said;
use crate::{Io, Outcome};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::fs;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};
use tar::{Archive, Builder, Entry, EntryType, Header};

/// What the arguments ask for.
#[derive(Default)]
struct Wish<'a> {
    letters: String,
    archive: &'a str,
    directory: String,
    paths: Vec<&'a str>,
}

pub fn tar(io: &mut Io, args: &[String]) -> Outcome {
    let wish = wish(args)?;
    let asked = |letter: char| wish.letters.contains(letter);
    let (mut file, mut opened);
    match (asked('c'), asked('x') || asked('t')) {
        (true, false) => {
            let out: &mut dyn Write = match wish.archive {
                "-" => &mut *io.out,
                path => {
                    file = files::create(path, false)?;
                    &mut file
                }
            };
            if asked('z') {
                let mut encoder = GzEncoder::new(out, Compression::default());
                create(&mut encoder, &wish)?;
                encoder.finish().map_err(said)?;
                return Ok(0);
            }
            create(out, &wish)
        }
        (false, true) => {
            let input: &mut dyn Read = match wish.archive {
                "-" => &mut io.input,
                path => {
                    opened = open(path)?;
                    &mut opened
                }
            };
            let mut expanded;
            let input: &mut dyn Read = match asked('z') {
                true => {
                    expanded = MultiGzDecoder::new(input);
                    &mut expanded
                }
                false => input,
            };
            let mut archive = Archive::new(input);
            for entry in archive.entries().map_err(said)? {
                let mut entry = entry.map_err(said)?;
                match asked('t') {
                    true => writeln!(io.out, "{}", entry.path().map_err(said)?.display()).map_err(said)?,
                    false => {
                        if asked('v') {
                            writeln!(io.err, "{}", entry.path().map_err(said)?.display()).map_err(said)?;
                        }
                        extract(&mut entry, &wish.directory)?;
                    }
                }
            }
            Ok(0)
        }
        _ => Err("one of c, x and t must be given".into()),
    }
}

/// Letters may come without a dash when they come first. Those that only say how faithful a copy is are not needed here.
fn wish(args: &[String]) -> Result<Wish<'_>, String> {
    let mut wish = Wish {
        archive: "-",
        directory: files::directory(),
        ..Wish::default()
    };
    let mut args = args.iter().enumerate();
    while let Some((at, arg)) = args.next() {
        let letters = match arg.strip_prefix('-') {
            Some(long) if long.starts_with('-') => continue,
            Some(letters) if !letters.is_empty() => letters,
            _ if at == 0 => arg,
            _ => {
                wish.paths.push(arg);
                continue;
            }
        };
        for letter in letters.chars() {
            let mut value = || args.next().ok_or(format!("option requires an argument -- '{letter}'"));
            match letter {
                'f' => wish.archive = value()?.1,
                'C' => wish.directory = files::path(value()?.1),
                'c' | 'x' | 't' | 'v' | 'z' => wish.letters.push(letter),
                'm' | 'o' | 'p' => {}
                _ => return Err(format!("invalid option -- '{letter}'")),
            }
        }
    }
    Ok(wish)
}

fn create(out: &mut dyn Write, wish: &Wish) -> Outcome {
    let mut archive = Builder::new(out);
    for path in &wish.paths {
        add(&mut archive, Path::new(&wish.directory), path)?;
    }
    archive.into_inner().map_err(said)?.flush().map_err(said)?;
    Ok(0)
}

/// A file, or a directory with all that is in it; names in an archive never begin with a slash.
fn add(archive: &mut Builder<&mut dyn Write>, base: &Path, path: &str) -> Result<(), String> {
    let place = base.join(path);
    let name = match path.trim_start_matches('/') {
        "" => ".",
        name => name,
    };
    let mut header = Header::new_gnu();
    header.set_mtime(modified(&place));
    if place.is_file() {
        let file = open(&place.to_string_lossy())?;
        let size = fs::metadata(&place).map_err(said)?.len();
        header.set_size(size);
        header.set_mode(0o644);
        // A file that grows meanwhile is cut at the size that the header says.
        return archive.append_data(&mut header, name, file.take(size)).map_err(said);
    }
    let names = entries(&place.to_string_lossy())?;
    header.set_entry_type(EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o755);
    archive
        .append_data(
            &mut header,
            format!("{}/", name.trim_end_matches('/')),
            std::io::empty(),
        )
        .map_err(said)?;
    for child in names {
        add(archive, base, &format!("{}/{child}", path.trim_end_matches('/')))?;
    }
    Ok(())
}

/// Seconds since 1970 of a file's last change; zero where nobody knows.
fn modified(path: &Path) -> u64 {
    let time = fs::metadata(path).and_then(|found| found.modified()).ok();
    let since = time.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_secs())
}

/// Writes one file or directory below `directory` and never beside it.
fn extract(entry: &mut Entry<&mut dyn Read>, directory: &str) -> Result<(), String> {
    let path = entry.path().map_err(said)?.into_owned();
    let mut inside = PathBuf::from(directory);
    for part in path.components() {
        match part {
            Component::Normal(name) => inside.push(name),
            Component::CurDir | Component::RootDir => {}
            _ => return Err(format!("{}: leads out of the directory", path.display())),
        }
    }
    match entry.header().entry_type() {
        EntryType::Directory => fs::create_dir_all(&inside).map_err(said),
        EntryType::Regular | EntryType::Continuous => {
            if let Some(parent) = inside.parent() {
                fs::create_dir_all(parent).map_err(said)?;
            }
            let mut file = fs::File::create(&inside).map_err(|error| format!("{}: {error}", inside.display()))?;
            std::io::copy(entry, &mut file).map_err(said)?;
            Ok(())
        }
        _ => Err(format!("{}: neither a file nor a directory", path.display())),
    }
}
