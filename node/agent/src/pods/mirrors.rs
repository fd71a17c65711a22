//! Keeps static pods as the list says, and their mirrors in the API.

use super::Pods;
use crate::cell::{Object, PodCell};
use crate::static_pods::{mirror_of, mirrored, pod_of};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Pauses between attempts to make a mirror: the API may be away, or an earlier pod of the name still ending.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// How long a static pod may take to end when its entry says nothing.
const GRACE_SECONDS: i64 = 30;

impl Pods {
    /// Starts what is new in the list and ends what is no longer there.
    pub(super) fn keep_static(&self, list: &[Pod]) {
        let wanted: Vec<Pod> = list
            .iter()
            .map(|entry| pod_of(entry, &self.node.identity.name))
            .collect();
        let uids: HashSet<&str> = wanted.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        for (uid, cell) in self.cells.read().iter() {
            if cell.object() != Object::Own && !uids.contains(uid.as_str()) && !cell.is_ending() {
                self.end_static(cell);
            }
        }
        for pod in wanted {
            let Some(uid) = pod.metadata.uid.clone() else { continue };
            if self.cells.read().contains_key(&uid) {
                continue;
            }
            self.start(uid.clone(), PodCell::new_static(Arc::new(pod)));
            if !self.first {
                self.show(&uid);
            }
        }
    }

    /// As if somebody had deleted the pod in the API.
    fn end_static(&self, cell: &PodCell) {
        let mut pod = (*cell.wanted().pod).clone();
        let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        pod.metadata.deletion_timestamp = Some(Time(self.node.clock.now()));
        pod.metadata.deletion_grace_period_seconds = Some(grace.unwrap_or(GRACE_SECONDS));
        cell.update(Arc::new(pod));
    }

    /// Makes the mirrors that a complete list of the API does not have.
    pub(super) fn show_missing(&self, listed: &HashSet<String>) {
        let lacks = |cell: &PodCell| match cell.object() {
            Object::Own => false,
            Object::NoMirror => true,
            Object::Mirror(uid) => !listed.contains(&uid),
        };
        let cells = self.cells.read();
        let lacking: Vec<&String> = cells
            .iter()
            .filter(|(_, cell)| lacks(cell))
            .map(|(uid, _)| uid)
            .collect();
        for uid in lacking {
            self.show(uid);
        }
    }

    /// Somebody's mirror: one of ours that shows a pod stays, any other goes.
    pub(super) fn mirror_seen(&self, mirror: &Pod) {
        let shown = mirrored(mirror).and_then(|uid| self.cells.read().get(uid).cloned());
        match shown.filter(|_| mirror.metadata.deletion_timestamp.is_none()) {
            Some(cell) => cell.set_mirror(mirror.metadata.uid.clone()),
            None => self.hide(mirror),
        }
    }

    /// A mirror is gone: the pod ends with it if it was to end, or else gets another.
    pub(super) fn mirror_gone(&self, mirror: &Pod) {
        let Some(uid) = mirrored(mirror) else { return };
        let Some(cell) = self.cells.read().get(uid).cloned() else {
            return;
        };
        if let Object::Mirror(known) = cell.object()
            && mirror.metadata.uid.as_deref() != Some(&known)
        {
            return;
        }
        cell.set_mirror(None);
        if cell.is_ending() {
            cell.gone();
        } else {
            self.show(uid);
        }
    }

    fn api(&self, pod: &Pod) -> Api<Pod> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        Api::namespaced(self.node.client.clone(), namespace)
    }

    /// Makes a mirror, however long that takes.
    fn show(&self, uid: &str) {
        let Some(cell) = self.cells.read().get(uid).cloned() else {
            return;
        };
        let pod = cell.wanted().pod;
        let (api, mirror, shutdown) = (self.api(&pod), mirror_of(&pod), self.shutdown.clone());
        self.tasks.spawn(async move {
            let mut pause = RETRY_FIRST;
            while !cell.is_ending() && !matches!(cell.object(), Object::Mirror(_)) {
                match api.create(&PostParams::default(), &mirror).await {
                    Ok(_) => return,
                    Err(error) => {
                        let name = mirror.metadata.name.as_deref().unwrap_or_default();
                        tracing::debug!(name, %error, "a static pod cannot be shown yet; trying again");
                    }
                }
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_MAX),
                }
            }
        });
    }

    fn hide(&self, mirror: &Pod) {
        let (api, name) = (self.api(mirror), mirror.metadata.name.clone().unwrap_or_default());
        let only = DeleteParams::default().grace_period(0).preconditions(Preconditions {
            uid: mirror.metadata.uid.clone(),
            resource_version: None,
        });
        self.tasks.spawn(async move {
            if let Err(error) = api.delete(&name, &only).await {
                tracing::debug!(name, %error, "the mirror of a pod that is no more cannot be deleted");
            }
        });
    }
}
