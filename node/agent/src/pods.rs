//! The node's pods: one watch of all that are assigned here, the list of static pods, one task for each.
//!
//! This file only keeps the two in step. What a pod needs is its own task's business.

mod mirrors;

use crate::cell::{Object, PodCell};
use crate::handle::Cells;
use crate::node::Node;
use crate::pod::PodTask;
use crate::spec;
use crate::static_pods;
use crate::volume;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use std::collections::HashSet;
use std::fs;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Runs the pods until the shutdown, beginning when all that the network needs is known.
pub async fn run(
    node: Arc<Node>,
    cells: Cells,
    mut static_pods: Option<watch::Receiver<Vec<Pod>>>,
    synced: [watch::Receiver<bool>; 2],
    shutdown: CancellationToken,
) {
    for mut synced in synced {
        tokio::select! {
            () = shutdown.cancelled() => return,
            known = synced.wait_for(|known| *known) => if known.is_err() { return },
        }
    }
    let api: Api<Pod> = Api::all(node.client.clone());
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", node.identity.name));
    let mut events = pin!(watcher(api, config).default_backoff());
    let mut pods = Pods {
        node,
        cells,
        tasks: TaskTracker::new(),
        shutdown: shutdown.clone(),
        listed: None,
        first: true,
    };
    if let Some(list) = &mut static_pods {
        pods.keep_static(&list.borrow_and_update());
    }
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(list) = changed(&mut static_pods) => pods.keep_static(&list),
            event = events.next() => match event {
                Some(Ok(event)) => pods.apply(event),
                Some(Err(error)) => tracing::warn!(%error, "the node's pods cannot be watched; trying again"),
                None => break,
            },
        }
    }
    pods.tasks.close();
    pods.tasks.wait().await;
}

/// The list after its next change; never where there is none any more.
async fn changed(list: &mut Option<watch::Receiver<Vec<Pod>>>) -> Option<Vec<Pod>> {
    if let Some(receiver) = list
        && receiver.changed().await.is_ok()
    {
        return Some(receiver.borrow_and_update().clone());
    }
    std::future::pending().await
}

struct Pods {
    node: Arc<Node>,
    cells: Cells,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    /// The uids of a list that is being read.
    listed: Option<HashSet<String>>,
    /// No list has been read to its end.
    first: bool,
}

impl Pods {
    fn apply(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listed = Some(HashSet::new()),
            watcher::Event::InitApply(pod) => {
                if let (Some(listed), Some(uid)) = (&mut self.listed, &pod.metadata.uid) {
                    listed.insert(uid.clone());
                }
                self.present(pod);
            }
            watcher::Event::InitDone => {
                if let Some(listed) = self.listed.take() {
                    self.drop_missing(&listed);
                    self.show_missing(&listed);
                    if std::mem::take(&mut self.first) {
                        remove_orphans(self.node.clone(), self.cells.clone());
                    }
                }
            }
            watcher::Event::Apply(pod) => self.present(pod),
            watcher::Event::Delete(pod) if static_pods::mirrored(&pod).is_some() => self.mirror_gone(&pod),
            watcher::Event::Delete(pod) => {
                if let Some(cell) = pod
                    .metadata
                    .uid
                    .as_ref()
                    .and_then(|uid| self.cells.read().get(uid).cloned())
                {
                    cell.gone();
                }
            }
        }
    }

    fn present(&mut self, mut pod: Pod) {
        // Nobody here reads them, and they are the largest part of many objects.
        pod.metadata.managed_fields = None;
        let Some(uid) = pod.metadata.uid.clone() else { return };
        if static_pods::mirrored(&pod).is_some() {
            self.mirror_seen(&pod);
            return;
        }
        let known = self.cells.read().get(&uid).cloned();
        if known.is_some() && pod.spec.as_ref().is_none_or(|spec| spec.readiness_gates.is_none()) {
            // The task itself wrote it; only the conditions of readiness gates come from others.
            pod.status = None;
        }
        spec::adopt(&mut pod);
        let pod = Arc::new(pod);
        match known {
            Some(cell) => cell.update(pod),
            None => self.start(uid, PodCell::new(pod)),
        }
    }

    fn start(&self, uid: String, cell: PodCell) {
        let cell = Arc::new(cell);
        self.cells.write().insert(uid.clone(), cell.clone());
        let (node, cells, shutdown) = (self.node.clone(), self.cells.clone(), self.shutdown.clone());
        self.tasks.spawn(async move {
            PodTask::new(node, cell).run(shutdown).await;
            cells.write().remove(&uid);
        });
    }

    fn drop_missing(&self, listed: &HashSet<String>) {
        for (uid, cell) in self.cells.read().iter() {
            if cell.object() == Object::Own && !listed.contains(uid) {
                cell.gone();
            }
        }
    }
}

/// Deletes what pods left behind that went away while no agent ran.
fn remove_orphans(node: Arc<Node>, cells: Cells) {
    tokio::task::spawn_blocking(move || {
        // A pod is among the cells before it has a directory.
        let known = |uid: &str| cells.read().contains_key(uid);
        let volumes = fs::read_dir(&node.pods_dir).into_iter().flatten().flatten();
        for entry in volumes {
            if entry.file_name().to_str().is_some_and(|uid| !known(uid)) {
                let _ = volume::removal::remove(&entry.path());
            }
        }
        for name in node.logs.pods() {
            // <namespace>_<pod>_<uid>; none of the three has an underscore.
            if name.rsplit_once('_').is_some_and(|(_, uid)| !known(uid)) {
                node.logs.remove_named(&name);
            }
        }
    });
}
