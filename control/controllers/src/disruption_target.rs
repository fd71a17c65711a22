//! The condition by which a pod says that somebody else is about to end it: owners read it to tell a disruption from a
//! failure of the pod's own.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Value, json};

use crate::{
    merge,
    plan::{Action, Target},
    pods,
    resource::PODS,
};

/// The condition's type.
pub const TYPE: &str = "DisruptionTarget";

/// The write that sets the condition.
#[must_use]
pub fn mark(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Action {
    Action::status(Target::of(&PODS, &pod.metadata), patch(pod, reason, message, now))
}

/// The write that sets the condition of a pod that nobody runs any more, and says that it failed.
#[must_use]
pub fn fail(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Action {
    let mut patch = patch(pod, reason, message, now);
    if !pods::is_finished(pod) {
        crate::template::set(&mut patch, &["status", "phase"], "Failed".into());
    }
    Action::status(Target::of(&PODS, &pod.metadata), patch)
}

fn patch(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Value {
    let status = pod.status.as_ref();
    let mut conditions = status.and_then(|s| s.conditions.clone()).unwrap_or_default();
    conditions.retain(|c| c.type_ != TYPE);
    conditions.push(PodCondition {
        type_: TYPE.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(Time(now)),
        ..PodCondition::default()
    });
    // The list is replaced as a whole: nobody else's condition may get lost on the way.
    json!({"metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
        "status": {"conditions": merge::value(&conditions)}})
}
