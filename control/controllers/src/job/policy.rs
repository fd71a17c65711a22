//! What a Job's pod failure policy says of a pod that failed.

use k8s_openapi::api::{
    batch::v1::{PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern},
    core::v1::Pod,
};

/// What a failed pod means to its Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// One failure more.
    Count,
    /// As if it had not happened.
    Ignore,
    /// Its index has failed for good; counts as a failure.
    FailIndex,
    /// The Job has failed for good, with that message; counts as a failure.
    FailJob(String),
}

/// The ruling of the first rule that fits; a failure that no rule fits counts. Only a pod whose phase is `Failed` is
/// ruled on: others may not have told all their exit codes yet.
#[must_use]
pub fn ruling(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Ruling {
    for (at, rule) in policy.iter().flat_map(|policy| policy.rules.iter()).enumerate() {
        let told = match (&rule.on_exit_codes, &rule.on_pod_conditions) {
            (Some(codes), _) => by_exit_code(codes, pod, &rule.action, at),
            (None, conditions) => by_condition(conditions.as_deref().unwrap_or_default(), pod, &rule.action, at),
        };
        if let Some(message) = told {
            return match rule.action.as_str() {
                "Ignore" => Ruling::Ignore,
                "FailIndex" => Ruling::FailIndex,
                "FailJob" => Ruling::FailJob(message),
                _ => Ruling::Count,
            };
        }
    }
    Ruling::Count
}

fn place(pod: &Pod) -> String {
    let meta = &pod.metadata;
    format!(
        "{}/{}",
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default()
    )
}

fn by_exit_code(
    codes: &PodFailurePolicyOnExitCodesRequirement,
    pod: &Pod,
    action: &str,
    rule: usize,
) -> Option<String> {
    let status = pod.status.as_ref()?;
    let all = status.init_container_statuses.iter().chain(&status.container_statuses);
    for container in all.flatten() {
        if codes
            .container_name
            .as_ref()
            .is_some_and(|name| *name != container.name)
        {
            continue;
        }
        let ended = container.state.as_ref().and_then(|state| state.terminated.as_ref());
        let Some(code) = ended.map(|ended| ended.exit_code).filter(|code| *code != 0) else {
            continue;
        };
        let listed = codes.values.contains(&code);
        if listed == (codes.operator == "In") {
            return Some(format!(
                "Container {} for pod {} failed with exit code {code} matching {action} rule at index {rule}",
                container.name,
                place(pod)
            ));
        }
    }
    None
}

fn by_condition(
    patterns: &[PodFailurePolicyOnPodConditionsPattern],
    pod: &Pod,
    action: &str,
    rule: usize,
) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_deref().unwrap_or_default();
    let found = conditions.iter().find(|condition| {
        patterns.iter().any(|pattern| {
            pattern.type_ == condition.type_ && pattern.status.as_deref().unwrap_or("True") == condition.status
        })
    })?;
    Some(format!(
        "Pod {} has condition {} matching {action} rule at index {rule}",
        place(pod),
        found.type_
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(code: i32, condition: &str) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "n"}, "status": {"phase": "Failed",
            "conditions": [{"type": condition, "status": "True"}],
            "containerStatuses": [{"name": "main", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code}}}]}}),
        )
        .unwrap()
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let policy: PodFailurePolicy = serde_json::from_value(json!({"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
            {"action": "FailIndex", "onExitCodes": {"containerName": "other", "operator": "In", "values": [1]}},
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
            {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1, 2]}},
        ]}))
        .unwrap();
        let of = |code, condition| ruling(Some(&policy), &pod(code, condition));
        assert_eq!(of(42, "DisruptionTarget"), Ruling::Ignore);
        assert_eq!(
            of(42, "Ready"),
            Ruling::FailJob(
                "Container main for pod n/p failed with exit code 42 matching FailJob rule at index 2".into()
            )
        );
        assert_eq!(of(1, "Ready"), Ruling::Count);
        assert_eq!(of(7, "Ready"), Ruling::FailIndex);
        assert_eq!(of(0, "Ready"), Ruling::Count, "an exit code of zero matches nothing");
        assert_eq!(ruling(None, &pod(3, "Ready")), Ruling::Count);
    }
}
