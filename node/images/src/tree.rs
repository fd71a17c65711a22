//! The files of an image while its layers are laid over each other.
//!
//! Nothing of a layer decides where on the disk something is written: names are resolved in this table, where links lead nowhere
//! else, and content lies under numbers. Only the finished tree is put in place, directories first and links last, so no link
//! is ever followed on the way.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Links that are followed for one name: as many as Linux does.
const MAX_LINKS: usize = 40;

/// The longest name, in bytes, and the most directories in it: what systems have in common.
const MAX_PATH_BYTES: usize = 4096;
const MAX_DEPTH: usize = 255;

/// A name in a layer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It has `..`, or something that is no name on this system.
    #[error("its path leads out of the image")]
    Outside,
    /// Longer than systems allow.
    #[error("its path is too long")]
    TooLong,
    /// Links that lead to each other.
    #[error("its path has too many links")]
    Links,
}

/// What is under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Dir,
    /// A file: the number of its content, and whether it may be executed.
    File(u64, bool),
    /// A symbolic link.
    Link(String),
}

/// Names relative to the image's root, and what is there.
#[derive(Debug, Default)]
pub struct Tree {
    /// With the number of the layer that it came from.
    nodes: BTreeMap<PathBuf, (Node, usize)>,
}

impl Tree {
    /// The place that a name in a layer means: links in its directory are followed inside the image.
    ///
    /// # Errors
    /// When the name leaves the image or is none.
    pub fn place(&self, name: &str) -> Result<PathBuf, PathError> {
        let mut parts = normal(name)?;
        let Some(last) = parts.pop() else {
            return Ok(PathBuf::new());
        };
        Ok(self.follow(parts)?.join(last))
    }

    /// What a name means when all links are followed, if it is there.
    pub fn find(&self, name: &str) -> Option<(PathBuf, &Node)> {
        let path = self.follow(normal(name).ok()?).ok()?;
        let (node, _) = self.nodes.get(&path)?;
        Some((path, node))
    }

    fn follow(&self, parts: Vec<String>) -> Result<PathBuf, PathError> {
        let (mut left, mut found, mut links) = (parts, PathBuf::new(), 0);
        left.reverse();
        while let Some(part) = left.pop() {
            if part == ".." {
                found.pop();
                continue;
            }
            let next = found.join(&part);
            let Some((Node::Link(target), _)) = self.nodes.get(&next) else {
                found = next;
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(PathError::Links);
            }
            if target.starts_with('/') {
                found = PathBuf::new();
            }
            // `..` in a link ends at the root, as in a real one.
            let steps = target.split('/').filter(|step| !matches!(*step, "" | "."));
            left.extend(steps.rev().map(str::to_owned));
            if left.len() > MAX_DEPTH {
                return Err(PathError::TooLong);
            }
        }
        Ok(found)
    }

    /// Puts something at a place, with the directories above it. A directory over a directory changes nothing.
    pub fn put(&mut self, path: &Path, node: Node, layer: usize) {
        if path.as_os_str().is_empty() {
            return;
        }
        let above: Vec<_> = path.ancestors().skip(1).collect();
        for dir in above.into_iter().rev().filter(|dir| !dir.as_os_str().is_empty()) {
            if !matches!(self.nodes.get(dir), Some((Node::Dir, _))) {
                self.nodes.insert(dir.to_owned(), (Node::Dir, layer));
            }
        }
        let both_dirs = node == Node::Dir && matches!(self.nodes.get(path), Some((Node::Dir, _)));
        if !both_dirs {
            self.remove(path, usize::MAX);
        }
        self.nodes.insert(path.to_owned(), (node, layer));
    }

    /// What is at a place.
    pub fn get(&self, path: &Path) -> Option<&Node> {
        self.nodes.get(path).map(|(node, _)| node)
    }

    /// Removes what layers below `layer` have at a place and under it.
    pub fn remove(&mut self, path: &Path, layer: usize) {
        if self.nodes.get(path).is_some_and(|(_, from)| *from < layer) {
            self.nodes.remove(path);
        }
        self.clear(path, layer);
    }

    /// Removes what layers below `layer` have under a place.
    pub fn clear(&mut self, path: &Path, layer: usize) {
        let under = self.nodes.range(path.to_owned()..);
        let under = under.take_while(|(name, _)| name.starts_with(path));
        let gone: Vec<PathBuf> = under
            .filter(|(name, (_, from))| *name != path && *from < layer)
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.nodes.remove(&name);
        }
    }

    /// Makes the tree below `root`, an empty directory, from content in files named by number below `content`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn make(&self, root: &Path, content: &Path) -> io::Result<()> {
        for (path, (node, _)) in &self.nodes {
            match node {
                Node::Dir => fs::create_dir_all(root.join(path))?,
                Node::File(number, executable) => {
                    // A layer may remove a directory of a lower one and put a file in it.
                    if let Some(dir) = root.join(path).parent() {
                        fs::create_dir_all(dir)?;
                    }
                    let from = content.join(number.to_string());
                    set_executable(&from, *executable)?;
                    link_or_copy(&from, &root.join(path))?;
                }
                Node::Link(_) => {}
            }
        }
        for (path, (node, _)) in &self.nodes {
            if let Node::Link(target) = node {
                if let Some(dir) = root.join(path).parent() {
                    fs::create_dir_all(dir)?;
                }
                symlink(&relative(path, target), &root.join(path))?;
            }
        }
        Ok(())
    }
}

/// The parts of a name; a leading slash means nothing.
fn normal(name: &str) -> Result<Vec<String>, PathError> {
    if name.len() > MAX_PATH_BYTES {
        return Err(PathError::TooLong);
    }
    let mut parts = Vec::new();
    for part in name.split('/').filter(|part| !matches!(*part, "" | ".")) {
        // A name must be one name on this system too: on some a backslash or a colon would make it more.
        let mut components = Path::new(part).components();
        let one = matches!((components.next(), components.next()), (Some(Component::Normal(own)), None) if own == part);
        if !one || part.contains('\0') {
            return Err(PathError::Outside);
        }
        parts.push(part.to_owned());
    }
    match parts.len() > MAX_DEPTH {
        true => Err(PathError::TooLong),
        false => Ok(parts),
    }
}

/// Guests have the image as their root directory and follow no absolute links, so one becomes relative.
fn relative(link: &Path, target: &str) -> String {
    match target.strip_prefix('/') {
        Some(inside) => {
            let up = "../".repeat(link.components().count().saturating_sub(1));
            let text = format!("{up}{}", inside.trim_start_matches('/'));
            if text.is_empty() { ".".to_owned() } else { text }
        }
        None => target.to_owned(),
    }
}

/// Copies a tree of files; links stay links and are not followed. Where nobody will write to the copy, files are shared.
///
/// # Errors
/// When the system refuses.
pub fn copy(from: &Path, to: &Path, shared: bool) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let mut directories = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = directories.pop() {
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type()?;
            if kind.is_dir() {
                fs::create_dir_all(&target)?;
                directories.push((source, target));
            } else if kind.is_symlink() {
                let link = fs::read_link(&source)?;
                symlink(&link.to_string_lossy(), &target)?;
            } else if shared {
                link_or_copy(&source, &target)?;
            } else {
                fs::copy(&source, &target)?;
            }
        }
    }
    Ok(())
}

fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        // Another device, or a file system without links.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => fs::copy(from, to).map(drop),
        result => result,
    }
}

#[cfg(unix)]
fn symlink(target: &str, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Links need rights there that users do not have, and few images of modules have any.
#[cfg(not(unix))]
fn symlink(target: &str, link: &Path) -> io::Result<()> {
    tracing::debug!(target, link = %link.display(), "a link of an image is left out");
    Ok(())
}

#[cfg(unix)]
fn set_executable(path: &Path, executable: bool) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = if executable { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn set_executable(_path: &Path, _executable: bool) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with(nodes: &[(&str, Node)]) -> Tree {
        let mut tree = Tree::default();
        for (path, node) in nodes {
            let path = tree.place(path).unwrap();
            tree.put(&path, node.clone(), 0);
        }
        tree
    }

    #[test]
    fn names_stay_inside() {
        let tree = with(&[
            ("bin", Node::Link("/usr/bin".into())),
            ("up", Node::Link("../../../../etc".into())),
            ("loop", Node::Link("loop".into())),
        ]);
        assert_eq!(tree.place("/bin/sh"), Ok("usr/bin/sh".into()));
        assert_eq!(tree.place("up/passwd"), Ok("etc/passwd".into()));
        assert_eq!(tree.place("bin"), Ok("bin".into()), "the last part is not followed");
        assert_eq!(tree.place("../x"), Err(PathError::Outside));
        assert_eq!(tree.place("a/../../x"), Err(PathError::Outside));
        assert_eq!(tree.place("loop/x"), Err(PathError::Links));
        assert_eq!(tree.place(&"a/".repeat(300)), Err(PathError::TooLong));
        assert_eq!(tree.place("./"), Ok(PathBuf::new()));
    }

    #[test]
    fn later_layers_replace_and_remove() {
        let mut tree = with(&[("a/b", Node::File(1, false)), ("a/c/d", Node::File(2, false))]);
        tree.put(Path::new("a/b"), Node::Dir, 1);
        tree.put(Path::new("a/b/e"), Node::File(3, false), 1);
        tree.clear(Path::new("a"), 1);
        assert!(tree.get(Path::new("a/c/d")).is_none());
        assert_eq!(tree.find("a/b/e").unwrap().1, &Node::File(3, false));
        tree.put(Path::new("a"), Node::File(4, true), 2);
        assert!(tree.find("a/b/e").is_none());
    }

    #[cfg(unix)]
    #[test]
    fn absolute_links_become_relative_and_files_are_placed_once() {
        let dir = tempfile::tempdir().unwrap();
        let content = dir.path().join("content");
        fs::create_dir_all(&content).unwrap();
        fs::write(content.join("1"), "text").unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let tree = with(&[
            ("usr/bin/tool", Node::File(1, true)),
            ("same", Node::File(1, true)),
            ("opt/deep/tool", Node::Link("/usr/bin/tool".into())),
        ]);
        tree.make(&root, &content).unwrap();
        assert_eq!(
            fs::read_link(root.join("opt/deep/tool")).unwrap(),
            Path::new("../../usr/bin/tool")
        );
        assert_eq!(fs::read_to_string(root.join("opt/deep/tool")).unwrap(), "text");
        for (shared, name) in [(false, "copy"), (true, "linked")] {
            let target = dir.path().join(name);
            copy(&root, &target, shared).unwrap();
            assert_eq!(fs::read_to_string(target.join("opt/deep/tool")).unwrap(), "text");
        }
        fs::write(dir.path().join("copy/same"), "changed").unwrap();
        assert_eq!(fs::read_to_string(root.join("same")).unwrap(), "text");
    }

    proptest! {
        /// Whatever the links are, a name means a place without `..` and without a root.
        #[test]
        fn no_links_lead_out(
            links in prop::collection::vec(("[a-c](/[a-c]){0,2}", "(/|\\.\\./){0,3}[a-c](/(\\.\\.|[a-c])){0,3}"), 0..6),
            name in "[a-c](/[a-c]){0,3}",
        ) {
            let mut tree = Tree::default();
            for (path, target) in links {
                if let Ok(path) = tree.place(&path) {
                    tree.put(&path, Node::Link(target), 0);
                }
            }
            if let Ok(path) = tree.place(&name) {
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }
}
