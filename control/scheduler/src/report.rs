//! What a pod that fits nowhere is told, and what those are told and asked who make room for it.

use std::sync::Arc;

use coracle_controllers::{
    disruption_target,
    plan::{Action, EventDraft, Target, reference},
    resource::PODS,
    writer::WriteError,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Pod, PodCondition},
        resource::v1::ResourceClaim,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::core::Request;
use serde_json::json;

use crate::{
    candidate::Candidate,
    preemption,
    scheduler::{COMPONENT, Scheduler},
};

/// A victim is told live: it may have changed since it was chosen, and is told again so often.
const TELL_TRIES: usize = 3;

/// What is to be told.
pub struct Report {
    /// The pod that fits nowhere.
    pub pod: Arc<Candidate>,
    /// Why.
    pub message: String,
    /// The node on which room is made for it, or that none is any more; `None` leaves what it was told.
    pub nominated: Option<Option<Arc<str>>>,
    /// Who has to leave that node.
    pub victims: Vec<Arc<Candidate>>,
    /// Pods that matter less and wait for room on that node: it is not for them any more.
    pub outdone: Vec<Arc<Candidate>>,
    /// A claim to devices that keeps the pod from where it could go, and is to be allocated anew.
    pub released: Option<Arc<ResourceClaim>>,
}

impl Report {
    /// That pod fits nowhere, and nobody has to do anything about it.
    #[must_use]
    pub fn of(pod: Arc<Candidate>, message: String) -> Self {
        Self {
            pod,
            message,
            nominated: None,
            victims: Vec::new(),
            outdone: Vec::new(),
            released: None,
        }
    }
}

impl Scheduler {
    /// Tells all.
    pub(crate) async fn tell(self: Arc<Self>, report: Report) {
        let pod = &report.pod;
        self.recorder.record(
            COMPONENT,
            EventDraft::warning(about(pod), "FailedScheduling", report.message.clone()),
        );
        let node = report.nominated.clone().flatten();
        for victim in &report.victims {
            match self.dismiss(victim).await {
                Ok(()) => {
                    let by = format!(
                        "Preempted by pod {} on node {}",
                        pod.uid,
                        node.as_deref().unwrap_or_default()
                    );
                    self.recorder
                        .record(COMPONENT, EventDraft::normal(about(victim), "Preempted", by));
                }
                Err(error) => tracing::warn!(pod = %victim.key, %error, "a pod was not preempted"),
            }
        }
        for outdone in &report.outdone {
            let patch = json!({"metadata": {"uid": &*outdone.uid}, "status": {"nominatedNodeName": null}});
            self.write_status(outdone, patch).await;
        }
        if let Some(claim) = &report.released {
            self.release(claim).await;
        }
        let mut status = serde_json::Map::new();
        if let Some(conditions) = unschedulable(&pod.pod, report.message, self.clock.now()) {
            status.insert("conditions".to_owned(), json!(conditions));
        }
        if let Some(nominated) = report.nominated
            && nominated.as_deref() != pod.nominated()
        {
            status.insert("nominatedNodeName".to_owned(), json!(nominated.as_deref()));
        }
        if !status.is_empty() {
            let patch = json!({"metadata": {"uid": &*pod.uid}, "status": status});
            self.write_status(pod, patch).await;
        }
    }

    async fn write_status(&self, pod: &Candidate, patch: serde_json::Value) {
        let target = Target {
            resource: PODS,
            key: pod.key.clone(),
        };
        if let Err(error) = self.writer.write(&Action::status(target, patch)).await {
            tracing::debug!(pod = %pod.key, %error, "a status was not written");
        }
    }

    /// Tells a victim why it has to go, and deletes it.
    async fn dismiss(&self, victim: &Candidate) -> Result<(), WriteError> {
        let message = format!("{COMPONENT}: preempting to accommodate a higher priority pod");
        let mut pod = (*victim.pod).clone();
        for attempt in 1..=TELL_TRIES {
            let mark = disruption_target::mark(&pod, preemption::REASON, &message, self.clock.now());
            match self.writer.write(&mark).await {
                Err(error) if error.is_conflict() && attempt < TELL_TRIES => {
                    let request = Request::new(PODS.path(&victim.key.namespace));
                    let request = request.get(&victim.key.name, &Default::default());
                    let request = request.map_err(kube::Error::BuildRequest)?;
                    pod = self.writer.client().request(request).await?;
                }
                Err(error) if !error.is_not_found() => return Err(error),
                _ => break,
            }
        }
        match self.writer.write(&Action::delete(&PODS, &victim.pod.metadata)).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

/// The pod, as events name it.
#[must_use]
pub fn about(pod: &Candidate) -> ObjectReference {
    reference(&PODS, &pod.pod.metadata)
}

/// The pod's conditions with `PodScheduled` False; `None` if they say so already.
fn unschedulable(pod: &Pod, message: String, now: Timestamp) -> Option<Vec<PodCondition>> {
    let mut conditions = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.clone())
        .unwrap_or_default();
    let before = conditions
        .iter()
        .position(|c| c.type_ == "PodScheduled")
        .map(|at| conditions.remove(at));
    let before = before.filter(|c| c.status == "False");
    let same = |c: &PodCondition| c.reason.as_deref() == Some("Unschedulable") && c.message.as_ref() == Some(&message);
    if before.as_ref().is_some_and(same) {
        return None;
    }
    conditions.push(PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some("Unschedulable".to_owned()),
        message: Some(message),
        last_transition_time: Some(before.and_then(|c| c.last_transition_time).unwrap_or(Time(now))),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    });
    Some(conditions)
}
