//! Carries a decision out: binds the pod's claims, where they waited for the choice of the node, and then the pod.

use std::{sync::Arc, time::Duration};

use coracle_controllers::{
    plan::{Action, EventDraft, Target},
    resource::{NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS},
    writer::WriteError,
};
use kube::core::Request;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    candidate::Candidate,
    report::about,
    scheduler::{COMPONENT, Scheduler},
    volumes::Serving,
};

/// How long a pod waits for its claims to be bound before another node is looked for: Kubernetes' own number.
const CLAIMS_LIMIT: Duration = Duration::from_secs(600);

/// The annotation of a claim that says for which node its volume is to be made.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The annotation of a volume whose claim was chosen and not asked for.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

/// A decision to be carried out.
pub struct Binding {
    /// The pod.
    pub pod: Arc<Candidate>,
    /// Where it goes.
    pub node: Arc<str>,
    /// How its open claims are served there.
    pub servings: Vec<Serving>,
}

/// Why a decision was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A write failed.
    #[error("{0}")]
    Write(#[from] WriteError),
    /// Its claims were not bound in time.
    #[error("binding volumes: context deadline exceeded")]
    Claims,
}

impl Scheduler {
    /// Carries a decision out; `permit` allows one write.
    pub(crate) async fn bind(self: Arc<Self>, binding: Binding, permit: OwnedSemaphorePermit) {
        let Binding { pod, node, servings } = &binding;
        let bound = if servings.is_empty() {
            self.write_binding(pod, node).await.map_err(BindError::from)
        } else {
            // Others write while this pod waits.
            let claims = self.bind_claims(&binding).await;
            drop(permit);
            self.bind_after_claims(&binding, claims).await
        };
        match bound {
            Ok(()) => {
                self.bound(pod);
                let message = format!("Successfully assigned {} to {node}", pod.key);
                self.recorder
                    .record(COMPONENT, EventDraft::normal(about(pod), "Scheduled", message));
            }
            Err(error) => self.unbound(&binding, &error),
        }
    }

    async fn bind_after_claims(&self, binding: &Binding, claims: Result<(), WriteError>) -> Result<(), BindError> {
        claims?;
        self.claims_bound(&binding.pod).await?;
        let _permit = self.writes.acquire().await;
        Ok(self.write_binding(&binding.pod, &binding.node).await?)
    }

    async fn bind_claims(&self, binding: &Binding) -> Result<(), WriteError> {
        for serving in &binding.servings {
            let action = match serving {
                Serving::Volume(claim, volume) => {
                    let uid = self.claim_uid(claim);
                    let reference = json!({"kind": "PersistentVolumeClaim", "apiVersion": "v1",
                        "namespace": &*claim.namespace, "name": &*claim.name, "uid": uid});
                    let patch = json!({
                        "metadata": {"uid": volume.metadata.uid, "resourceVersion": volume.metadata.resource_version,
                            "annotations": {BOUND_BY_CONTROLLER: "yes"}},
                        "spec": {"claimRef": reference},
                    });
                    Action::merge(Target::of(&PERSISTENT_VOLUMES, &volume.metadata), patch)
                }
                Serving::Made(claim) => {
                    let patch = json!({"metadata": {"uid": claim.metadata.uid,
                        "annotations": {SELECTED_NODE: &*binding.node}}});
                    Action::merge(Target::of(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata), patch)
                }
            };
            self.writer.write(&action).await?;
        }
        Ok(())
    }

    /// Waits until all claims of the pod are bound.
    async fn claims_bound(&self, pod: &Candidate) -> Result<(), BindError> {
        let wait = async {
            loop {
                let changed = self.claims_changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.are_bound(pod) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(CLAIMS_LIMIT, wait)
            .await
            .map_err(|_| BindError::Claims)
    }

    async fn write_binding(&self, pod: &Candidate, node: &str) -> Result<(), WriteError> {
        let (name, namespace) = (&*pod.key.name, &*pod.key.namespace);
        let body = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": &*pod.uid},
            "target": {"apiVersion": "v1", "kind": NODES.kind, "name": node},
        });
        let request = Request::new(PODS.path(namespace));
        let body = body.to_string().into_bytes();
        let request = request.create_subresource("binding", name, &Default::default(), body);
        let request = request.map_err(kube::Error::BuildRequest)?;
        Ok(self.writer.client().request_text(request).await.map(drop)?)
    }
}
