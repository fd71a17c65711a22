//! How much the volumes with a limit hold.
//!
//! A guest writes to the host's file system directly, so a limit is held by looking and not by refusing a write: who is found
//! over it is evicted, as a kubelet does.

use super::{volume_dir, volumes};
use crate::quantity;
use k8s_openapi::api::core::v1::Pod;
use std::fs;
use std::path::Path;

/// A volume that holds more than it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excess {
    /// The volume.
    pub volume: String,
    /// Its limit, as the pod says it.
    pub limit: String,
}

/// Volumes with a limit: name, limit as it is written, bytes.
fn limited(pod: &Pod) -> impl Iterator<Item = (&str, &str, u64)> {
    volumes(pod).iter().filter_map(|volume| {
        let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
        let bytes = quantity::whole(&limit.0).and_then(|bytes| u64::try_from(bytes).ok())?;
        Some((volume.name.as_str(), limit.0.as_str(), bytes))
    })
}

/// Whether a pod has volumes with a limit.
pub fn is_limited(pod: &Pod) -> bool {
    limited(pod).next().is_some()
}

/// The first volume below `dir`, the pod's own directory, that holds too much.
pub fn excess(dir: &Path, pod: &Pod) -> Option<Excess> {
    let mut over = limited(pod).filter(|(name, _, bytes)| held(&volume_dir(dir, name), *bytes) > *bytes);
    over.next().map(|(volume, limit, _)| Excess {
        volume: volume.to_owned(),
        limit: limit.to_owned(),
    })
}

/// The bytes of all files below a directory; counting ends where `enough` are found. Links are not followed.
fn held(dir: &Path, enough: u64) -> u64 {
    let mut total = 0;
    let mut directories = vec![dir.to_owned()];
    while let Some(dir) = directories.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                directories.push(entry.path());
            } else {
                total += metadata.len();
            }
            if total > enough {
                return total;
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_volume_that_holds_too_much_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [], "volumes": [
            {"name": "free", "emptyDir": {}}, {"name": "small", "emptyDir": {"sizeLimit": "1Ki"}}]}}))
        .unwrap();
        assert!(is_limited(&pod));
        for name in ["free", "small/deep"] {
            fs::create_dir_all(volume_dir(dir.path(), name)).unwrap();
            fs::write(volume_dir(dir.path(), name).join("f"), vec![0; 1000]).unwrap();
        }
        assert_eq!(excess(dir.path(), &pod), None);
        fs::write(volume_dir(dir.path(), "small").join("g"), vec![0; 25]).unwrap();
        assert_eq!(
            excess(dir.path(), &pod),
            Some(Excess {
                volume: "small".into(),
                limit: "1Ki".into()
            })
        );
    }
}
