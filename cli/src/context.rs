//! The files that a Dockerfile copies: from the directory that is built, to paths in the image.
//!
//! Nothing outside the directory gets into an image: links that lead out of it are refused, and others stay links.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use coracle_images::{Files, Source};

use crate::dockerfile::Copy;

/// Files of one image; more is most likely a directory that was not meant.
const MAX_FILES: usize = 50_000;

/// Finds all files that are copied.
///
/// # Errors
/// When a source is not there or not in the directory, with the line that names it.
pub fn collect(dir: &Path, copies: &[Copy]) -> anyhow::Result<Files> {
    let dir = dir
        .canonicalize()
        .with_context(|| format!("cannot read {}", dir.display()))?;
    let mut files = Files::new();
    for copy in copies {
        add(&dir, copy, &mut files).with_context(|| format!("line {}", copy.line))?;
    }
    Ok(files)
}

fn add(dir: &Path, copy: &Copy, files: &mut Files) -> anyhow::Result<()> {
    for source in &copy.sources {
        let found = matches(dir, source)?;
        ensure!(
            !found.is_empty(),
            "COPY {source}: there is no such file in {}",
            dir.display()
        );
        let several = found.len() > 1;
        ensure!(
            !several || copy.target.ends_with('/') || copy.target == "/",
            "COPY {source} is several files, which needs a directory for a target, with a slash at its end"
        );
        for path in found {
            add_one(dir, &path, &copy.target, files)?;
        }
    }
    Ok(())
}

fn add_one(dir: &Path, path: &Path, target: &str, files: &mut Files) -> anyhow::Result<()> {
    let real = path
        .canonicalize()
        .with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        real.starts_with(dir),
        "COPY {}: it leads out of the directory",
        path.display()
    );
    if real.is_dir() {
        return add_dir(&real, target.trim_matches('/'), files);
    }
    let is_dir = target.ends_with('/') || files.get(target.trim_matches('/')) == Some(&Source::Dir);
    let name = path.file_name().context("a file has a name")?;
    let target = match is_dir {
        true => join(target.trim_matches('/'), name)?,
        false => target.trim_matches('/').to_owned(),
    };
    put(files, target, Source::File(real))
}

/// The content of a directory, not the directory itself: what COPY means everywhere.
fn add_dir(dir: &Path, target: &str, files: &mut Files) -> anyhow::Result<()> {
    if !target.is_empty() {
        put(files, target.to_owned(), Source::Dir)?;
    }
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let entry = entry?;
        let inside = join(target, &entry.file_name())?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            add_dir(&entry.path(), &inside, files)?;
        } else if kind.is_symlink() {
            let link = fs::read_link(entry.path())?;
            let link = link
                .to_str()
                .with_context(|| format!("{} is not UTF-8", link.display()))?;
            put(files, inside, Source::Link(link.to_owned()))?;
        } else if kind.is_file() {
            put(files, inside, Source::File(entry.path()))?;
        }
    }
    Ok(())
}

fn join(dir: &str, name: &std::ffi::OsStr) -> anyhow::Result<String> {
    let name = name
        .to_str()
        .with_context(|| format!("{} is not UTF-8", Path::new(name).display()))?;
    Ok(match dir.is_empty() {
        true => name.to_owned(),
        false => format!("{dir}/{name}"),
    })
}

fn put(files: &mut Files, name: String, source: Source) -> anyhow::Result<()> {
    files.insert(name, source);
    ensure!(
        files.len() <= MAX_FILES,
        "more than {MAX_FILES} files are copied; name what the image needs"
    );
    Ok(())
}

/// The paths that a source names; `*` and `?` stand for parts of one name.
fn matches(dir: &Path, source: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = vec![dir.to_owned()];
    for part in source.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            bail!("COPY {source}: it leads out of the directory");
        }
        let mut next = Vec::new();
        for path in found {
            if !part.contains(['*', '?']) {
                next.extend(Some(path.join(part)).filter(|path| path.symlink_metadata().is_ok()));
                continue;
            }
            for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
                if entry
                    .file_name()
                    .to_str()
                    .is_some_and(|name| fits(part.as_bytes(), name.as_bytes()))
                {
                    next.push(entry.path());
                }
            }
        }
        next.sort();
        found = next;
    }
    Ok(found)
}

fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => fits(rest, name) || name.split_first().is_some_and(|(_, left)| fits(pattern, left)),
        (Some((b'?', rest)), Some((_, left))) => fits(rest, left),
        (Some((letter, rest)), Some((other, left))) => letter == other && fits(rest, left),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(sources: &[&str], target: &str) -> Copy {
        Copy {
            line: 7,
            sources: sources.iter().map(|source| (*source).to_owned()).collect(),
            target: target.to_owned(),
        }
    }

    #[test]
    fn files_go_where_docker_puts_them() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("site/deep")).unwrap();
        for name in ["app.wasm", "a.txt", "b.txt", "site/page", "site/deep/more"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let copies = [
            copy(&["app.wasm"], "/app.wasm"),
            copy(&["?.txt"], "/etc/"),
            copy(&["site"], "/srv"),
            copy(&["a.txt"], "/srv"),
            copy(&["site/deep/"], "/"),
        ];
        let files = collect(dir.path(), &copies).unwrap();
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "app.wasm",
                "etc/a.txt",
                "etc/b.txt",
                "more",
                "srv",
                "srv/a.txt",
                "srv/deep",
                "srv/deep/more",
                "srv/page"
            ]
        );
        for (sources, target, words) in [
            (&["none"][..], "/", "line 7: COPY none: there is no such file"),
            (&["../x"], "/", "leads out of the directory"),
            (&["*.txt"], "/one", "several files"),
        ] {
            let refused = format!("{:#}", collect(dir.path(), &[copy(sources, target)]).unwrap_err());
            assert!(refused.contains(words), "{refused}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("/etc/hostname", dir.path().join("out")).unwrap();
            let refused = format!("{:#}", collect(dir.path(), &[copy(&["out"], "/out")]).unwrap_err());
            assert!(refused.contains("leads out of the directory"), "{refused}");
        }
    }
}
