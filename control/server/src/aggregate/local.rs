//! The registrations of the groups that this server serves itself, which clients list to see all groups in one place.

use std::collections::BTreeMap;

use coracle_api::custom::definition::version_order;
use coracle_api::kinds::Kinds;
use serde_json::{Value, json};

use super::{GROUP, MANAGED};
use crate::discovery;

/// How the built-in groups stand in the order of all: far before whatever users add, in the order of the table.
const BUILTIN_PRIORITY: i64 = 18_000;
const BUILTIN_STEP: i64 = 100;
/// The priorities of groups that definitions make, as in Kubernetes.
const CUSTOM_PRIORITY: (i64, i64) = (1000, 100);

/// Where a version of a group stands in the order of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Priority {
    pub(crate) group: i64,
    pub(crate) version: i64,
}

/// The versions that are served here with their places, and whether they are built in.
pub(crate) fn versions(kinds: &Kinds) -> Vec<(&str, &str, Priority, bool)> {
    let mut place = BUILTIN_PRIORITY + BUILTIN_STEP;
    let mut all = Vec::new();
    for (group, versions) in discovery::groups(kinds) {
        let custom = |kinds: &[&coracle_api::kinds::Kind]| kinds.iter().all(|kind| kind.custom.is_some());
        let builtin = versions.iter().any(|(_, kinds)| !custom(kinds));
        if builtin {
            place -= BUILTIN_STEP;
        }
        let count = i64::try_from(versions.len()).unwrap_or_default();
        for ((version, _), index) in versions.iter().zip(0_i64..) {
            let (group_priority, version_priority) = match builtin {
                true => (place, 15 * (count - index)),
                false => CUSTOM_PRIORITY,
            };
            let priority = Priority {
                group: group_priority,
                version: version_priority,
            };
            all.push((group, *version, priority, builtin));
        }
    }
    all
}

/// The order of two versions of a group.
pub(crate) fn version_first(one: (&str, i64), other: (&str, i64)) -> std::cmp::Ordering {
    other.1.cmp(&one.1).then_with(|| version_order(one.0, other.0))
}

/// The registrations that are written once, at a start.
pub(crate) fn builtin(kinds: &Kinds) -> Vec<Value> {
    versions(kinds)
        .into_iter()
        .filter(|(group, _, _, builtin)| *builtin && *group != GROUP)
        .map(|(group, version, priority, _)| registration(group, version, priority, "onstart"))
        .collect()
}

/// The registrations of the groups that definitions make, by name.
pub(super) fn custom(kinds: &Kinds) -> BTreeMap<String, Value> {
    versions(kinds)
        .into_iter()
        .filter(|(_, _, _, builtin)| !builtin)
        .map(|(group, version, priority, _)| {
            (
                format!("{version}.{group}"),
                registration(group, version, priority, "true"),
            )
        })
        .collect()
}

fn registration(group: &str, version: &str, priority: Priority, managed: &str) -> Value {
    json!({
        "metadata": {"name": format!("{version}.{group}"), "labels": {MANAGED: managed}},
        "spec": {
            "group": group, "version": version,
            "groupPriorityMinimum": priority.group, "versionPriority": priority.version,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::kinds;

    #[test]
    fn every_group_but_the_registrations_own_is_registered() {
        let all = builtin(kinds());
        let named = |name: &str| all.iter().find(|one| one["metadata"]["name"] == name);
        assert_eq!(named("v1.").unwrap()["spec"]["groupPriorityMinimum"], 18_000);
        assert!(named("v1.apiregistration.k8s.io").is_none());
        let version = |name: &str| named(name).unwrap()["spec"]["versionPriority"].as_i64();
        assert!(version("v2.autoscaling") > version("v1.autoscaling"));
        assert!(custom(kinds()).is_empty());
    }
}
