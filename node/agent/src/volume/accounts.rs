//! What the volumes of a pod may hold, as accounts that the runtime charges each write to.
//!
//! A claim may hold what its persistent volume says, whoever mounts it. An emptyDir has its `sizeLimit`. All that lies on the node
//! for the pod alone (emptyDirs, what containers write to their own files) is also held to what the pod's containers may have
//! together of `ephemeral-storage`. A write that does not fit gets "no space left", where a kubelet would evict the pod later.

use super::{Places, volume_dir, volumes};
use crate::quantity;
use crate::volume::place::Place;
use coracle_runtime::{Accounts, Quota};
use k8s_openapi::api::core::v1::{Container, Pod, Volume};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Notify;

/// The resource that limits what a pod keeps on the node.
const EPHEMERAL: &str = "ephemeral-storage";

/// What a container may write beside its message of 4 KiB where the directory is its own and no other limit holds: a message
/// that is too long is cut when it is read, and more is not meant to be there.
const MESSAGE_DIRECTORY_BYTES: u64 = 1 << 20;

/// The accounts of one pod.
#[derive(Debug, Default)]
pub struct PodAccounts {
    volumes: BTreeMap<String, Arc<Quota>>,
    /// What the pod may keep on the node; none without a limit.
    share: Option<Arc<Quota>>,
}

/// A volume, or the pod's share, that had no room for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// The volume; none for the pod's share.
    pub volume: Option<String>,
    /// What it may hold.
    pub limit_bytes: u64,
    /// How often it was so.
    pub refusals: u64,
}

impl PodAccounts {
    /// Accounts for a pod that has no volumes yet.
    pub fn of(pod: &Pod) -> Self {
        Self {
            volumes: BTreeMap::new(),
            share: share_bytes(pod).map(Quota::share),
        }
    }

    /// Accounts for the volumes below `dir`, the pod's own directory, which are there by now. May walk through them.
    ///
    /// # Errors
    /// When a volume cannot be read.
    pub fn open(
        accounts: &Accounts,
        dir: &Path,
        pod: &Pod,
        places: &Places,
        share: Option<Arc<Quota>>,
    ) -> Result<Self, (String, io::Error)> {
        let mut found = BTreeMap::new();
        for volume in volumes(pod) {
            let Some((limit_bytes, within)) = limit(volume, places, share.as_ref()) else {
                continue;
            };
            let quota = accounts
                .of(&volume_dir(dir, &volume.name), limit_bytes, within)
                .map_err(|error| (volume.name.clone(), error))?;
            found.insert(volume.name.clone(), quota);
        }
        Ok(Self { volumes: found, share })
    }

    /// The account of a volume; none without a limit.
    pub fn volume(&self, name: &str) -> Option<Arc<Quota>> {
        self.volumes.get(name).cloned()
    }

    /// What the pod may keep on the node.
    pub fn share(&self) -> Option<Arc<Quota>> {
        self.share.clone()
    }

    /// Wakes `listener` when something is refused.
    pub fn listen(&self, listener: &Arc<Notify>) {
        self.volumes
            .values()
            .chain(&self.share)
            .for_each(|quota| quota.listen(listener));
    }

    /// The account of a container's own files, which begin as those of its image. None without a limit.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn writable_layer(&self, root: &Path, container: &Container) -> io::Result<Option<Arc<Quota>>> {
        let limit_bytes = container_bytes(container);
        if limit_bytes.is_none() && self.share.is_none() {
            return Ok(None);
        }
        Quota::of_writable_layer(root, limit_bytes.unwrap_or(u64::MAX), self.share()).map(Some)
    }

    /// The account of the directory that a container's message lies in.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn messages(&self, directory: &Path) -> io::Result<Arc<Quota>> {
        Quota::of_directory(directory, MESSAGE_DIRECTORY_BYTES, self.share())
    }

    /// The account of copies of files that a container mounts one by one. None without a limit.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn copies(&self, directory: &Path) -> io::Result<Option<Arc<Quota>>> {
        let Some(share) = self.share() else {
            return Ok(None);
        };
        Quota::of_writable_layer(directory, u64::MAX, Some(share)).map(Some)
    }

    /// What has refused something so far.
    pub fn full(&self) -> Vec<Full> {
        let mut found = Vec::new();
        for (name, quota) in &self.volumes {
            let usage = quota.usage();
            if usage.refusals == 0 {
                continue;
            }
            let share = self.share.as_ref().map(|share| share.usage());
            // The smaller of the two had no room.
            let by_share = share.filter(|share| {
                share.limit_bytes.saturating_sub(share.used_bytes) < usage.limit_bytes.saturating_sub(usage.used_bytes)
            });
            found.push(Full {
                volume: by_share.is_none().then(|| name.clone()),
                limit_bytes: by_share.unwrap_or(usage).limit_bytes,
                refusals: usage.refusals,
            });
        }
        found
    }
}

/// What a volume may hold, and whose share it is of.
fn limit(volume: &Volume, places: &Places, share: Option<&Arc<Quota>>) -> Option<(u64, Option<Arc<Quota>>)> {
    if let Some(Place::Claim { limit_bytes, .. }) = places.get(&volume.name) {
        return limit_bytes.map(|limit| (limit, None));
    }
    let size = volume.empty_dir.as_ref()?.size_limit.as_ref();
    match size.and_then(|size| bytes(&size.0)) {
        // Zero is no limit, as for a kubelet.
        Some(limit) if limit > 0 => Some((limit, share.cloned())),
        _ => share.map(|share| (u64::MAX, Some(share.clone()))),
    }
}

/// Bytes of a quantity.
pub fn bytes(text: &str) -> Option<u64> {
    quantity::whole(text).and_then(|bytes| u64::try_from(bytes).ok())
}

fn container_bytes(container: &Container) -> Option<u64> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    bytes(&limits.get(EPHEMERAL)?.0)
}

/// What the containers of a pod may have together, where any says so.
fn share_bytes(pod: &Pod) -> Option<u64> {
    crate::spec::containers(pod)
        .filter_map(container_bytes)
        .reduce(u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;

    fn pod(limits: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"spec": {
            "containers": [{"name": "a", "resources": {"limits": limits}}, {"name": "b"}],
            "volumes": [{"name": "free", "emptyDir": {}}, {"name": "small", "emptyDir": {"sizeLimit": "8Ki"}},
                        {"name": "claimed", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "told", "configMap": {}}]}}))
        .unwrap()
    }

    fn open(limits: serde_json::Value) -> PodAccounts {
        let (dir, pod) = (tempfile::tempdir().unwrap(), pod(limits));
        for volume in volumes(&pod) {
            fs::create_dir_all(volume_dir(dir.path(), &volume.name)).unwrap();
        }
        let claim = Place::Claim {
            path: dir.path().to_owned(),
            limit_bytes: Some(1 << 20),
        };
        let places = Places::from([("claimed".to_owned(), claim)]);
        let share = PodAccounts::of(&pod).share();
        PodAccounts::open(&Accounts::default(), dir.path(), &pod, &places, share).unwrap()
    }

    fn limit_of(accounts: &PodAccounts, volume: &str) -> Option<u64> {
        accounts.volume(volume).map(|quota| quota.usage().limit_bytes)
    }

    #[test]
    fn a_volume_has_the_limit_that_is_written() {
        let accounts = open(json!({}));
        let limits = ["free", "small", "claimed", "told"].map(|name| limit_of(&accounts, name));
        assert_eq!(limits, [None, Some(8192), Some(1 << 20), None]);
        assert_eq!((accounts.share(), accounts.full()), (None, Vec::new()));
    }

    #[test]
    fn a_limit_of_a_container_is_one_of_its_pod() {
        let accounts = open(json!({"ephemeral-storage": "64Ki"}));
        assert_eq!(accounts.share().unwrap().usage().limit_bytes, 64 << 10);
        assert_eq!(limit_of(&accounts, "free"), Some(u64::MAX));
        assert_eq!(limit_of(&accounts, "claimed"), Some(1 << 20));
    }
}
