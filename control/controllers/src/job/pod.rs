//! The pods that a Job makes, and which of them go when there are too many.

use std::{collections::HashSet, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{
    policy::{self, Ruling},
    subject::{FAILURES, FINALIZER, IGNORED, INDEX, Subject, number},
};
use crate::{plan::controller_of, resource::JOBS, template, victims};

/// The longest prefix of a generated name: five letters are added, and a host name has no more than 63.
const PREFIX_LIMIT: usize = 58;

/// A pod for that index, or for no index in particular; `after` is the failed pod whose place it takes.
#[must_use]
pub fn of(subject: &Subject<'_>, index: Option<i32>, after: Option<&Pod>) -> Value {
    let meta = &subject.job.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let mut pod = template::pod(Some(&subject.spec.template), &controller_of(&JOBS, meta));
    let mut finalizers = subject
        .spec
        .template
        .metadata
        .clone()
        .and_then(|m| m.finalizers)
        .unwrap_or_default();
    finalizers.push(FINALIZER.to_owned());
    template::set(&mut pod, &["metadata", "finalizers"], json!(finalizers));
    let Some(index) = index else {
        template::set(&mut pod, &["metadata", "generateName"], prefix(name, "-").into());
        return pod;
    };
    let generated = prefix(name, &format!("-{index}-"));
    template::set(&mut pod, &["metadata", "generateName"], generated.into());
    template::set(&mut pod, &["metadata", "annotations", INDEX], index.to_string().into());
    template::set(&mut pod, &["metadata", "labels", INDEX], index.to_string().into());
    if pod
        .pointer("/spec/hostname")
        .and_then(Value::as_str)
        .is_none_or(str::is_empty)
    {
        template::set(&mut pod, &["spec", "hostname"], format!("{name}-{index}").into());
    }
    if subject.spec.backoff_limit_per_index.is_some() {
        count_tries(subject, &mut pod, after);
    }
    for list in ["/spec/initContainers", "/spec/containers"] {
        let containers = pod.pointer_mut(list).and_then(Value::as_array_mut);
        containers.into_iter().flatten().for_each(tell_index);
    }
    pod
}

/// The name cut so that it fits before `suffix` and what the server adds.
fn prefix(name: &str, suffix: &str) -> String {
    let room = PREFIX_LIMIT.saturating_sub(suffix.len());
    let cut: String = name.chars().take(room).collect();
    format!("{cut}{suffix}")
}

fn count_tries(subject: &Subject<'_>, pod: &mut Value, after: Option<&Pod>) {
    let (mut failures, mut ignored) = after.map_or((0, 0), |pod| (number(pod, FAILURES), number(pod, IGNORED)));
    if let Some(after) = after {
        match policy::ruling(subject.spec.pod_failure_policy.as_ref(), after) {
            Ruling::Ignore => ignored += 1,
            _ => failures += 1,
        }
    }
    template::set(pod, &["metadata", "annotations", FAILURES], failures.to_string().into());
    if ignored > 0 {
        template::set(pod, &["metadata", "annotations", IGNORED], ignored.to_string().into());
    }
}

fn tell_index(container: &mut Value) {
    const NAME: &str = "JOB_COMPLETION_INDEX";
    let field = format!("metadata.labels['{INDEX}']");
    let Value::Object(fields) = container else { return };
    let env = fields.entry("env").or_insert_with(|| json!([]));
    let Value::Array(env) = env else { return };
    if !env
        .iter()
        .any(|var| var.get("name").and_then(Value::as_str) == Some(NAME))
    {
        env.push(json!({"name": NAME, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": field}}}));
    }
}

/// The active pods to delete so that at most `wanted` are left, with no two of one index and none of a foreign one.
#[must_use]
pub fn surplus(subject: &Subject<'_>, active: &[Arc<Pod>], wanted: usize) -> Vec<Arc<Pod>> {
    // From the most to the least worth keeping.
    let mut order = victims::choose(active, active.len(), active, subject.now);
    order.reverse();
    let mut seen = HashSet::new();
    let (keep, mut gone): (Vec<_>, Vec<_>) = order
        .into_iter()
        .partition(|pod| subject.indexes().is_none() || subject.index(pod).is_some_and(|index| seen.insert(index)));
    gone.extend(keep.into_iter().skip(wanted));
    gone
}
