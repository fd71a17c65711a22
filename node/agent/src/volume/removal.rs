//! Removing what guests made. A guest can nest directories deeper than any path is long, by moving what it has into a new one again
//! and again; who goes down after it needs a piece of stack and a handle for each level, and has neither in the end. So nobody
//! goes down: directories come up.

use std::fs;
use std::io;
use std::path::Path;

/// Removes a directory and everything in it, with the same stack and two handles however deep it is. To be called when no guest
/// has it any more.
///
/// # Errors
/// Where there is no such directory, or the system refuses.
pub fn remove(root: &Path) -> io::Result<()> {
    let mut number = 0_u64;
    loop {
        let mut left = false;
        for entry in fs::read_dir(root)? {
            left = true;
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                lift(&entry.path(), root, &mut number)?;
                fs::remove_dir(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        if !left {
            return fs::remove_dir(root);
        }
    }
}

/// Removes the files of a directory, and brings the directories in it up beside it.
fn lift(directory: &Path, root: &Path, number: &mut u64) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            fs::remove_file(entry.path())?;
        } else if fs::remove_dir(entry.path()).is_err() {
            // Not empty.
            let mut place = root.join(format!("removed-{number}"));
            while fs::symlink_metadata(&place).is_ok() {
                *number += 1;
                place = root.join(format!("removed-{number}"));
            }
            fs::rename(entry.path(), place)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_of_any_depth_goes_without_following_links() {
        const STACK_BYTES: usize = 96 << 10;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let kept = dir.path().join("kept");
        fs::write(&kept, "kept").unwrap();
        fs::create_dir_all(root.join("deep")).unwrap();
        for _ in 0..2_000 {
            fs::create_dir(root.join("next")).unwrap();
            fs::rename(root.join("deep"), root.join("next/deep")).unwrap();
            fs::rename(root.join("next"), root.join("deep")).unwrap();
        }
        // Names that are in the way, files, and links out.
        fs::create_dir_all(root.join("wide/a/b")).unwrap();
        fs::create_dir_all(root.join("removed-0/x")).unwrap();
        fs::write(root.join("removed-1"), "x").unwrap();
        fs::write(root.join("wide/a/file"), "x").unwrap();
        #[cfg(unix)]
        for link in ["link", "wide/link", "wide/a/link"] {
            std::os::unix::fs::symlink(dir.path(), root.join(link)).unwrap();
        }
        let removed = std::thread::Builder::new().stack_size(STACK_BYTES);
        let gone = root.clone();
        removed.spawn(move || remove(&gone)).unwrap().join().unwrap().unwrap();
        assert!(!root.exists());
        assert_eq!(fs::read_to_string(kept).unwrap(), "kept");
        assert_eq!(remove(&root).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
