//! How important a pod is: the number that its priority class stands for.

use coracle_api::object;
use coracle_api::status::ApiError;
use coracle_store::Snapshot;
use memchr::memmem;
use serde_json::{Value, json};

use super::{Request, is};
use crate::document;

/// The classes that every cluster has.
pub(crate) const SYSTEM: [(&str, i64); 2] = [
    ("system-cluster-critical", 2_000_000_000),
    ("system-node-critical", 2_000_001_000),
];
/// What the system classes say of themselves.
pub(crate) const DESCRIPTION: &str = "Used for system critical pods that the cluster cannot do without.";
const GROUP: &str = "scheduling.k8s.io";
const PREFIX: &str = "priorityclasses.scheduling.k8s.io/";

/// Looks up the class, or the default one, and writes its number into the pod.
pub(super) fn mutate(request: &Request<'_>, pod: &mut Value) -> Result<(), ApiError> {
    let name = object::text(pod, "spec.priorityClassName").to_owned();
    let class = if name.is_empty() {
        default(request.snapshot)
    } else {
        let Some(class) = named(request.snapshot, &name) else {
            return Err(request.forbidden(&format!("no PriorityClass with name {name} was found")));
        };
        Some(class)
    };
    let class = class.unwrap_or_else(|| json!({"value": 0}));
    if name.is_empty() && !object::name(&class).is_empty() {
        object::set(pod, "spec.priorityClassName", json!(object::name(&class)));
    }
    let value = object::integer(&class, "value").unwrap_or_default();
    if let Some(own) = object::integer(pod, "spec.priority").filter(|own| *own != value) {
        return Err(request.forbidden(&format!(
            "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        )));
    }
    let policy = match object::text(&class, "preemptionPolicy") {
        "" => "PreemptLowerPriority",
        policy => policy,
    };
    let own = object::text(pod, "spec.preemptionPolicy");
    if !own.is_empty() && own != policy {
        return Err(request.forbidden(&format!(
            "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        )));
    }
    let policy = json!(policy);
    object::set(pod, "spec.preemptionPolicy", policy);
    object::set(pod, "spec.priority", json!(value));
    Ok(())
}

fn named(snapshot: &Snapshot, name: &str) -> Option<Value> {
    if let Some(record) = snapshot.get(&format!("{PREFIX}/{name}")) {
        return document::tree(record).ok();
    }
    let system = SYSTEM.iter().find(|(own, _)| *own == name)?;
    Some(json!({"metadata": {"name": name}, "value": system.1}))
}

/// The class of pods that name none. With several, the least important one.
fn default(snapshot: &Snapshot) -> Option<Value> {
    let records = snapshot.range(PREFIX, None);
    let defaults = records.filter(|record| memmem::find(&record.json, b"\"globalDefault\":true").is_some());
    let classes = defaults.filter_map(|record| document::tree(record).ok());
    classes
        .filter(|class| object::truth(class, "globalDefault"))
        .min_by_key(|class| object::integer(class, "value").unwrap_or_default())
}

/// There is one default class at most.
pub(super) fn validate(request: &Request<'_>, class: &Value) -> Result<(), ApiError> {
    if !is(request.scope.kind, GROUP, "PriorityClass") || !object::truth(class, "globalDefault") {
        return Ok(());
    }
    match default(request.snapshot) {
        Some(other) if object::name(&other) != request.name => Err(request.forbidden(&format!(
            "PriorityClass {} is already marked as default. Only one default can exist",
            object::name(&other)
        ))),
        _ => Ok(()),
    }
}
