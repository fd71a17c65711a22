//! What a container says about its end: the file that it may write, or the end of its log.
//!
//! The file lies in a directory that only this container mounts, or in a volume where its path leads into one. It is read when
//! the container has ended, never through a link that leads out of that directory.

use crate::volume;
use crate::volume::accounts::PodAccounts;
use crate::volume::removal;
use coracle_runtime::{Exit, Mount};
use k8s_openapi::api::core::v1::Container;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Where a container writes that says nothing else.
const DEFAULT_PATH: &str = "/dev/termination-log";

/// The longest message that the API keeps of a container.
const MAX_BYTES: u64 = 4096;

/// How much of a log stands in for a message: what the kubelet takes.
const LOG_BYTES: usize = 2048;
const LOG_LINES: usize = 80;

/// Where a container's message lies on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageFile {
    /// The directory that it must not be read outside of.
    root: PathBuf,
    /// The path below that.
    path: String,
}

impl MessageFile {
    /// Makes the file's place for a new start: adds a mount unless the path lies in one. None where nobody can write it.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn make(
        dir: &Path,
        container: &Container,
        accounts: &PodAccounts,
        mounts: &mut Vec<Mount>,
    ) -> io::Result<Option<Self>> {
        let path = container.termination_message_path.as_deref().unwrap_or(DEFAULT_PATH);
        let Some((parent, name)) = path.rsplit_once('/') else {
            return Ok(None);
        };
        let parent = if parent.is_empty() { "/" } else { parent };
        let covering = mounts
            .iter()
            .filter_map(|mount| Some((mount, below(&mount.guest, parent)?)))
            .max_by_key(|(mount, _)| mount.guest.len());
        if let Some((mount, rest)) = covering {
            let found = Self {
                root: mount.host.clone(),
                path: Path::new(rest).join(name).to_string_lossy().into_owned(),
            };
            if mount.read_only {
                return Ok(None);
            }
            // What an earlier start said is not said again.
            if let Some(stale) = found.real_path() {
                fs::remove_file(stale)?;
            }
            return Ok(Some(found));
        }
        let root = dir.join("messages").join(&container.name);
        match removal::remove(&root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&root)?,
        }
        File::create(root.join(name))?;
        mounts.push(Mount {
            host: root.clone(),
            guest: parent.to_owned(),
            read_only: false,
            quota: Some(accounts.messages(&root)?),
            lazy: true,
        });
        Ok(Some(Self {
            root,
            path: name.to_owned(),
        }))
    }

    fn real_path(&self) -> Option<PathBuf> {
        volume::existing_inside(&self.root, &self.path)
            .ok()
            .filter(|path| path.is_file())
    }

    /// What the container wrote, as far as it is kept.
    fn read(&self) -> Option<String> {
        let mut text = Vec::new();
        let file = File::open(self.real_path()?).ok()?;
        file.take(MAX_BYTES).read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned()).filter(|text| !text.is_empty())
    }
}

/// The part of `path` below `root`, where it is.
fn below<'a>(root: &str, path: &'a str) -> Option<&'a str> {
    let rest = path.strip_prefix(root.trim_end_matches('/'))?;
    match rest.strip_prefix('/') {
        Some(rest) => Some(rest),
        None => rest.is_empty().then_some(rest),
    }
}

/// The message of a container that ended: its own, or where it wants that and failed the end of its log, or what the runtime
/// says about it.
pub fn message(
    container: Option<&Container>,
    exit: &Exit,
    file: Option<&MessageFile>,
    tail: impl FnOnce(usize, usize) -> String,
) -> Option<String> {
    let own = file.and_then(MessageFile::read);
    let falls_back = container
        .and_then(|container| container.termination_message_policy.as_deref())
        .is_some_and(|policy| policy == "FallbackToLogsOnError");
    own.or_else(|| {
        let wanted = falls_back && exit.code != 0;
        wanted
            .then(|| tail(LOG_LINES, LOG_BYTES))
            .filter(|text| !text.is_empty())
    })
    .or_else(|| exit.message.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_runtime::ExitReason;
    use serde_json::json;

    fn container(more: serde_json::Value) -> Container {
        let mut container = json!({"name": "c"});
        container
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        serde_json::from_value(container).unwrap()
    }

    fn exit(code: i32) -> Exit {
        Exit {
            code,
            reason: ExitReason::Error,
            message: Some("trapped".into()),
        }
    }

    #[test]
    fn a_file_of_its_own_is_read_and_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let container = container(json!({}));
        let mut mounts = Vec::new();
        let file = MessageFile::make(dir.path(), &container, &PodAccounts::default(), &mut mounts)
            .unwrap()
            .unwrap();
        assert_eq!((mounts[0].guest.as_str(), mounts[0].read_only), ("/dev", false));
        let say = |file: &MessageFile, code| message(Some(&container), &exit(code), Some(file), |_, _| "log".into());
        assert_eq!(say(&file, 1).as_deref(), Some("trapped"));
        fs::write(mounts[0].host.join("termination-log"), "x".repeat(5000)).unwrap();
        assert_eq!(say(&file, 0).unwrap().len(), 4096);
        let again = MessageFile::make(dir.path(), &container, &PodAccounts::default(), &mut Vec::new())
            .unwrap()
            .unwrap();
        assert_eq!(say(&again, 0).as_deref(), Some("trapped"));
    }

    #[test]
    fn in_a_volume_no_link_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, secret) = (dir.path().join("v"), dir.path().join("secret"));
        fs::create_dir_all(volume.join("logs")).unwrap();
        fs::write(&secret, "host's").unwrap();
        let container = container(json!({"terminationMessagePath": "/data/logs/end"}));
        let mut mounts = vec![Mount {
            host: volume.clone(),
            guest: "/data".into(),
            read_only: false,
            quota: None,
            lazy: false,
        }];
        let file = MessageFile::make(dir.path(), &container, &PodAccounts::default(), &mut mounts)
            .unwrap()
            .unwrap();
        assert_eq!(mounts.len(), 1);
        fs::write(volume.join("logs/end"), "well").unwrap();
        assert_eq!(file.read().as_deref(), Some("well"));
        fs::remove_file(volume.join("logs/end")).unwrap();
        std::os::unix::fs::symlink("../../secret", volume.join("logs/end")).unwrap();
        assert_eq!(file.read(), None);
        mounts[0].read_only = true;
        assert_eq!(
            MessageFile::make(dir.path(), &container, &PodAccounts::default(), &mut mounts).unwrap(),
            None
        );
    }

    #[test]
    fn a_failure_may_be_told_by_the_log() {
        let container = container(json!({"terminationMessagePolicy": "FallbackToLogsOnError"}));
        let say = |code| {
            message(Some(&container), &exit(code), None, |lines, bytes| {
                format!("{lines} {bytes}")
            })
        };
        assert_eq!(say(1).as_deref(), Some("80 2048"));
        assert_eq!(say(0).as_deref(), Some("trapped"));
    }
}
