//! Rules of jobs.

use super::check::{label_selector, not_negative, one_of};
use super::{immutable, pod};
use crate::field_error::{FieldError, Path};
use crate::object;
use crate::selector::LabelSelector;
use serde_json::Value;

/// Most pods of an indexed job that run at once. Kubernetes' limit: their indexes are listed in the status.
pub const INDEXED_PARALLELISM_LIMIT: i64 = 100_000;
/// Most rules of a pod failure policy.
pub const RULES_LIMIT: usize = 20;
/// Most exit codes of one rule.
pub const EXIT_CODES_LIMIT: usize = 255;

const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
/// What of a template may change while the job waits: where its pods may run.
const DIRECTIVES: [&str; 4] = ["affinity", "nodeSelector", "schedulingGates", "tolerations"];

/// Checks a job.
pub fn job(job: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let nothing = Value::Null;
    let found = job.get("spec").unwrap_or(&nothing);
    spec(found, path, faults);
    let template = found.get("template").unwrap_or(&nothing);
    let Some(selector) = object::get(found, "selector") else {
        faults.push(FieldError::required(path.child("selector"), ""));
        return;
    };
    label_selector(selector, path.child("selector"), faults);
    if LabelSelector::from_object(selector).is_ok_and(|read| !read.matches_object(template)) {
        let labels = object::get(template, "metadata.labels").cloned().unwrap_or_default();
        let at = path.child("template.metadata.labels");
        faults.push(FieldError::invalid(
            at,
            labels,
            "`selector` does not match template `labels`",
        ));
    }
}

/// Checks the spec of a job, also within a cron job, where it has no selector yet.
pub(super) fn spec(spec: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        not_negative(spec, field, path, faults);
    }
    indexes(spec, path, faults);
    if let Some(policy) = object::get(spec, "podReplacementPolicy").and_then(Value::as_str) {
        let supported: &[&str] = match object::get(spec, "podFailurePolicy") {
            Some(_) => &["Failed"],
            None => &["Failed", "TerminatingOrFailed"],
        };
        one_of(policy, supported, path.child("podReplacementPolicy"), faults);
    }
    if let Some(policy) = object::get(spec, "podFailurePolicy") {
        failure_policy(policy, path.child("podFailurePolicy"), faults);
    }
    let nothing = Value::Null;
    let template = spec.get("template").unwrap_or(&nothing);
    let here = path.child("template");
    pod::any_template(template, here, faults);
    let restart = object::text(template, "spec.restartPolicy");
    if !matches!(restart, "OnFailure" | "Never") {
        let words = "valid values: \"OnFailure\", \"Never\"";
        faults.push(FieldError::required(here.child("spec.restartPolicy"), words));
    } else if object::get(spec, "podFailurePolicy").is_some() && restart != "Never" {
        let words = "only \"Never\" is supported when podFailurePolicy is specified";
        faults.push(FieldError::invalid(here.child("spec.restartPolicy"), restart, words));
    }
}

fn indexes(spec: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let mode = object::text(spec, "completionMode");
    let completions = object::integer(spec, "completions");
    if !mode.is_empty() && !matches!(mode, "NonIndexed" | "Indexed") {
        let here = path.child("completionMode");
        faults.push(FieldError::not_supported(here, mode, &["Indexed", "NonIndexed"]));
    }
    let indexed = mode == "Indexed";
    if indexed && completions.is_none() {
        let words = "when completion mode is Indexed";
        faults.push(FieldError::required(path.child("completions"), words));
    }
    let parallelism = object::integer(spec, "parallelism").unwrap_or_default();
    if indexed && parallelism > INDEXED_PARALLELISM_LIMIT {
        let words = "must be less than or equal to 100000 when completion mode is Indexed";
        faults.push(FieldError::invalid(path.child("parallelism"), parallelism, words));
    }
    let per_index = object::get(spec, "backoffLimitPerIndex");
    for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
        if let Some(value) = object::get(spec, field).filter(|_| !indexed) {
            faults.push(FieldError::invalid(
                path.child(field),
                value.clone(),
                "requires indexed completion mode",
            ));
        }
    }
    let Some(most) = object::integer(spec, "maxFailedIndexes") else {
        return;
    };
    if per_index.is_none() {
        let words = "when maxFailedIndexes is specified";
        faults.push(FieldError::required(path.child("backoffLimitPerIndex"), words));
    }
    if completions.is_some_and(|completions| most > completions) {
        let words = "must be less than or equal to completions";
        faults.push(FieldError::invalid(path.child("maxFailedIndexes"), most, words));
    }
}

fn failure_policy(policy: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let list = path.child("rules");
    let rules = object::list(policy, "rules");
    if rules.len() > RULES_LIMIT {
        faults.push(FieldError::too_many(list, rules.len(), RULES_LIMIT));
    }
    for (index, rule) in rules.iter().enumerate() {
        let here = list.index(index);
        one_of(object::text(rule, "action"), ACTIONS, here.child("action"), faults);
        let conditions = !object::list(rule, "onPodConditions").is_empty();
        match (object::get(rule, "onExitCodes"), conditions) {
            (Some(_), true) => {
                let words = "specifying both OnExitCodes and OnPodConditions is not supported";
                faults.push(FieldError::invalid(here, rule.clone(), words));
            }
            (None, false) => {
                let words = "specifying one of OnExitCodes and OnPodConditions is required";
                faults.push(FieldError::invalid(here, rule.clone(), words));
            }
            (Some(codes), false) => exit_codes(codes, here.child("onExitCodes"), faults),
            (None, true) => {}
        }
    }
}

fn exit_codes(codes: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let operator = object::text(codes, "operator");
    one_of(operator, &["In", "NotIn"], path.child("operator"), faults);
    let list = path.child("values");
    let values = object::list(codes, "values");
    if values.is_empty() {
        faults.push(FieldError::invalid(
            list,
            Value::from(values),
            "at least one value is required",
        ));
    } else if values.len() > EXIT_CODES_LIMIT {
        faults.push(FieldError::too_many(list, values.len(), EXIT_CODES_LIMIT));
    }
    for (index, value) in values.iter().enumerate() {
        if operator == "In" && *value == 0 {
            faults.push(FieldError::invalid(
                list.index(index),
                0,
                "must not be 0 for the In operator",
            ));
        }
        if values.iter().take(index).any(|earlier| earlier == value) {
            faults.push(FieldError::duplicate(list.index(index), value.clone()));
        }
    }
}

/// What a job does never changes once it is made, but for its size, and for where its pods may run while it waits.
pub fn update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let nothing = Value::Null;
    let [after, before] = [new, old].map(|job| job.get("spec").unwrap_or(&nothing));
    completions(after, before, path, faults);
    for field in [
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        immutable(
            object::get(after, field),
            object::get(before, field),
            path.child(field),
            faults,
        );
    }
    let waits = object::truth(before, "suspend") && object::get(old, "status.startTime").is_none();
    let template = |spec: &Value| {
        let mut template = spec.get("template").cloned().unwrap_or_default();
        if waits {
            object::fields(&mut template).shift_remove("metadata");
            let inner = object::fields(object::child(&mut template, "spec"));
            DIRECTIVES.iter().for_each(|field| {
                inner.shift_remove(*field);
            });
        }
        template
    };
    if template(after) != template(before) {
        let value = after.get("template").cloned().unwrap_or_default();
        faults.push(FieldError::invalid(path.child("template"), value, "field is immutable"));
    }
}

fn completions(after: &Value, before: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let [new, old] = [after, before].map(|spec| object::get(spec, "completions"));
    if new == old {
        return;
    }
    let here = path.child("completions");
    if object::text(after, "completionMode") != "Indexed" {
        immutable(new, old, here, faults);
    } else if new.is_none() || new != object::get(after, "parallelism") {
        let words = "can only be modified in tandem with parallelism";
        faults.push(FieldError::invalid(here, new.cloned().unwrap_or_default(), words));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defaults;
    use serde_json::json;

    fn made(change: &Value) -> Value {
        let spec =
            json!({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "x"}]}}});
        let mut object = json!({"metadata": {"name": "j", "uid": "u"}, "spec": spec});
        crate::patch::merge(&mut object, &json!({"spec": change}));
        defaults::batch::job(&mut object);
        crate::prepare::workloads::create_job(&mut object);
        object
    }

    fn faults_of(change: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        job(&made(change), &mut faults);
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn jobs_are_refused_in_the_words_of_kubernetes() {
        let cases = [
            (
                json!({"template": {"spec": {"restartPolicy": "Always"}}}),
                "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
            ),
            (
                json!({"parallelism": -1}),
                "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                json!({"completionMode": "Indexed", "parallelism": 1}),
                "spec.completions: Required value: when completion mode is Indexed",
            ),
            (
                json!({"backoffLimitPerIndex": 1}),
                "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
            ),
            (
                json!({"selector": {"matchLabels": {"a": "b"}}, "manualSelector": true}),
                "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`",
            ),
            (
                json!({"podFailurePolicy": {"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [0]}}]}}),
                "spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator",
            ),
        ];
        for (change, wanted) in cases {
            assert_eq!(faults_of(&change), [wanted], "{change}");
        }
        assert_eq!(faults_of(&json!({})), Vec::<String>::new());
    }

    #[test]
    fn a_job_stays_what_it_is() {
        let paths = |new: &Value, old: &Value| {
            let mut faults = Vec::new();
            update(new, old, &mut faults);
            faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
        };
        let old = made(&json!({}));
        assert!(
            paths(
                &made(&json!({"suspend": true, "parallelism": 3, "completions": 1})),
                &old
            )
            .is_empty()
        );
        assert_eq!(paths(&made(&json!({"completions": 3})), &old), ["spec.completions"]);
        let moved = json!({"template": {"spec": {"nodeSelector": {"a": "b"}}}, "suspend": true});
        assert_eq!(paths(&made(&moved), &old), ["spec.template"]);
        assert!(paths(&made(&moved), &made(&json!({"suspend": true}))).is_empty());
        let indexed =
            |count: u32| made(&json!({"completionMode": "Indexed", "completions": count, "parallelism": count}));
        assert!(paths(&indexed(3), &indexed(2)).is_empty());
    }
}
