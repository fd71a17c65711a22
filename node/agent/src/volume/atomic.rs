//! Replaces all files of a directory at once.
//!
//! The files lie in a directory of their own, `..data` is a link to it, and each visible name is a link through `..data`.
//! Replacing the one link `..data` by a rename changes all of them in one step, which is what programs that reload their
//! configuration watch for.

use super::Files;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

const DATA: &str = "..data";

/// Makes `dir` hold exactly these files.
pub fn write(dir: &Path, files: &Files) -> io::Result<()> {
    let current = fs::read_link(dir.join(DATA)).ok();
    if let Some(current) = &current
        && is_same(&dir.join(current), files)
    {
        return Ok(());
    }
    let version = next_version(current.as_deref());
    let fresh = dir.join(&version);
    let _ = fs::remove_dir_all(&fresh);
    fs::create_dir(&fresh)?;
    for (path, content) in files {
        let target = fresh.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(target, content)?;
    }
    let link = dir.join("..data_new");
    let _ = fs::remove_file(&link);
    symlink(Path::new(&version), &link)?;
    fs::rename(&link, dir.join(DATA))?;
    publish(dir, files)?;
    if let Some(current) = current {
        let _ = fs::remove_dir_all(dir.join(current));
    }
    Ok(())
}

/// Two names in turn are enough: the older one is deleted after each change.
fn next_version(current: Option<&Path>) -> String {
    let other = current.is_some_and(|current| current == Path::new("..version_a"));
    if other { "..version_b" } else { "..version_a" }.to_owned()
}

/// The links by which users see the files, and none for files that are gone.
fn publish(dir: &Path, files: &Files) -> io::Result<()> {
    let wanted: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let visible = name.to_str().is_none_or(|name| !name.starts_with(".."));
        if visible && name.to_str().is_none_or(|name| !wanted.contains(name)) {
            fs::remove_file(dir.join(name))?;
        }
    }
    for name in wanted {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(&Path::new(DATA).join(name), &link)?;
        }
    }
    Ok(())
}

fn is_same(dir: &Path, files: &Files) -> bool {
    count(dir) == files.len()
        && files
            .iter()
            .all(|(path, content)| fs::read(dir.join(path)).is_ok_and(|found| found == *content))
}

fn count(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 })
        .sum()
}

/// Makes a link.
#[cfg(unix)]
pub fn symlink(original: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(original, link)
}

/// Makes a link.
#[cfg(windows)]
pub fn symlink(original: &Path, link: &Path) -> io::Result<()> {
    let target = link.parent().unwrap_or(Path::new("")).join(original);
    if target.is_dir() {
        std::os::windows::fs::symlink_dir(original, link)
    } else {
        std::os::windows::fs::symlink_file(original, link)
    }
}
