//! Carries a decision out: binds the pod's claims, where they waited for the choice of the node, and then the pod.

use std::{sync::Arc, time::Duration};

use coracle_controllers::{
    plan::{Action, EventDraft, Target},
    pods,
    resource::{NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS},
    writer::WriteError,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{api::GetParams, core::Request};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    candidate::Candidate,
    devices::Grant,
    granting::GrantError,
    report::about,
    scheduler::{COMPONENT, Scheduler},
    volumes::Serving,
};

/// How long a pod waits for its claims to be bound before another node is looked for: Kubernetes' own number.
const CLAIMS_LIMIT: Duration = Duration::from_secs(600);

/// The pauses between the tries to bind a pod of which nobody tells whether it is bound: a connection that broke is there
/// again at once, a server that restarts within seconds.
const UNSURE_PAUSES: [Duration; 8] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];

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
    /// What its claims to devices get.
    pub grants: Vec<Grant>,
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
    /// Its claims to devices did not get them.
    #[error("{0}")]
    Grant(#[from] GrantError),
}

impl Scheduler {
    /// Carries a decision out; `permit` allows one write.
    pub(crate) async fn bind(self: Arc<Self>, binding: Binding, permit: OwnedSemaphorePermit) {
        let Binding { pod, node, .. } = &binding;
        let bound = if binding.servings.is_empty() && binding.grants.is_empty() {
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
            Err(error) => {
                self.withdraw(&binding).await;
                self.unbound(&binding, &error);
            }
        }
    }

    async fn bind_after_claims(&self, binding: &Binding, claims: Result<(), WriteError>) -> Result<(), BindError> {
        claims?;
        self.claims_bound(&binding.pod).await?;
        self.grant(binding).await?;
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

    /// Binds the pod. As long as it is unknown what became of the write it is made again, and the pod keeps its place on the
    /// node: given to another, the node could get more pods than it has room for.
    async fn write_binding(&self, pod: &Candidate, node: &str) -> Result<(), WriteError> {
        let mut first = true;
        for pause in UNSURE_PAUSES {
            match self.try_binding(pod, node).await {
                Err(error) if error.is_unsure() => {
                    tracing::debug!(pod = %pod.key, node, %error, "nobody tells whether the pod is bound");
                }
                // One of the writes before may have bound it.
                Err(error) if !first && error.is_conflict() => match self.is_bound_to(pod, node).await {
                    Ok(true) => return Ok(()),
                    Ok(false) => return Err(error),
                    Err(_) => {}
                },
                answered => return answered,
            }
            first = false;
            tokio::time::sleep(pause).await;
        }
        self.try_binding(pod, node).await
    }

    async fn is_bound_to(&self, pod: &Candidate, node: &str) -> Result<bool, WriteError> {
        let place = Request::new(PODS.path(&pod.key.namespace));
        let request = place.get(&pod.key.name, &GetParams::default());
        let found: Pod = self
            .writer
            .client()
            .request(request.map_err(kube::Error::BuildRequest)?)
            .await?;
        let same = found.metadata.uid.as_deref() == Some(&*pod.uid);
        Ok(same && pods::node(&found) == Some(node))
    }

    async fn try_binding(&self, pod: &Candidate, node: &str) -> Result<(), WriteError> {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use coracle_controllers::{clock::Clock, events::Recorder, writer::Writer};
    use http::{Request, Response};
    use kube::client::Body;
    use tokio_util::{sync::CancellationToken, task::TaskTracker};

    use super::*;

    fn answer(code: u16, body: serde_json::Value) -> Response<Body> {
        Response::builder()
            .status(code)
            .body(Body::from(body.to_string().into_bytes()))
            .unwrap()
    }

    /// Binds a pod; the first answer is lost on its way, then another write finds the pod bound to `node`.
    async fn bind_after_a_lost_reply(node: &'static str) -> (Result<(), WriteError>, usize) {
        let posts = Arc::new(AtomicUsize::new(0));
        let counted = posts.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let post = (request.method() == http::Method::POST).then(|| counted.fetch_add(1, Ordering::Relaxed));
            async move {
                match post {
                    Some(0) => Err(std::io::Error::other("connection reset")),
                    Some(_) => Ok(answer(
                        409,
                        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409,
                        "reason": "Conflict", "message": "pod a is already assigned"}),
                    )),
                    None => Ok(answer(
                        200,
                        json!({"metadata": {"name": "a", "namespace": "n", "uid": "u"},
                        "spec": {"nodeName": node, "containers": []}}),
                    )),
                }
            }
        });
        let client = kube::Client::new(service, "default");
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let recorder = Recorder::start(client.clone(), Clock::system(), &tasks, stop.clone());
        let scheduler = Scheduler::new(COMPONENT.to_owned(), Clock::system(), Writer::new(client), recorder);
        let pod = serde_json::from_value(
            json!({"metadata": {"name": "a", "namespace": "n", "uid": "u"}, "spec": {"containers": []}}),
        );
        let candidate = Candidate::of(Arc::new(pod.unwrap()));
        let bound = scheduler.write_binding(&candidate, "here").await;
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        (bound, posts.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn a_binding_of_which_nobody_tells_is_made_again() {
        let (bound, posts) = bind_after_a_lost_reply("here").await;
        assert!(bound.is_ok(), "{bound:?}");
        assert_eq!(posts, 2);
        let (bound, _) = bind_after_a_lost_reply("elsewhere").await;
        assert!(bound.unwrap_err().is_conflict(), "somebody else's");
    }
}
