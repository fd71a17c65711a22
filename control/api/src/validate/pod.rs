//! Rules of pods and of pod templates: the spec as a whole. Containers, volumes and placement have files of their own.

use super::check::{formed, one_of};
use super::{container, metadata, names, place, pod_claims, volume};
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;

const RESTART_POLICIES: &[&str] = &["Always", "OnFailure", "Never"];
const DNS_POLICIES: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];

/// Checks a pod.
pub fn pod(pod: &Value, faults: &mut Vec<FieldError>) {
    let nothing = Value::Null;
    spec(pod.get("spec").unwrap_or(&nothing), Path::root("spec"), faults);
}

/// Checks the template of a workload whose pods run until they are deleted; `path` is where the template stands.
pub(super) fn template(template: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    lasting_template(template, "ReplicaSet", path, faults);
}

/// The same for workloads of another kind, which the words name.
pub(super) fn lasting_template(template: &Value, kind: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    any_template(template, path, faults);
    let nothing = Value::Null;
    let pod_spec = template.get("spec").unwrap_or(&nothing);
    let here = path.child("spec");
    let policy = object::text(pod_spec, "restartPolicy");
    if RESTART_POLICIES.contains(&policy) && policy != "Always" {
        faults.push(FieldError::not_supported(
            here.child("restartPolicy"),
            policy,
            &["Always"],
        ));
    }
    if object::get(pod_spec, "activeDeadlineSeconds").is_some() {
        let words = format!("activeDeadlineSeconds in {kind} is not Supported");
        faults.push(FieldError::forbidden(here.child("activeDeadlineSeconds"), words));
    }
}

/// Checks what holds for every template.
pub(super) fn any_template(template: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let nothing = Value::Null;
    let labels = path.child("metadata.labels");
    metadata::labels(object::map(template, "metadata.labels"), labels, faults);
    spec(template.get("spec").unwrap_or(&nothing), path.child("spec"), faults);
}

fn spec(spec: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let volumes = volume::volumes(spec, path.child("volumes"), faults);
    container::containers(spec, &volumes, path, faults);
    pod_claims::claims(spec, path, faults);
    let text = |field| object::text(spec, field);
    one_of(
        text("restartPolicy"),
        RESTART_POLICIES,
        path.child("restartPolicy"),
        faults,
    );
    one_of(text("dnsPolicy"), DNS_POLICIES, path.child("dnsPolicy"), faults);
    for (field, form) in [
        ("nodeName", names::dns_subdomain as fn(&str) -> Vec<String>),
        ("serviceAccountName", names::dns_subdomain),
        ("schedulerName", names::qualified_name),
        ("hostname", names::dns_label),
        ("subdomain", names::dns_label),
        ("priorityClassName", names::dns_subdomain),
        ("runtimeClassName", names::dns_subdomain),
    ] {
        formed(text(field), form, path.child(field), faults);
    }
    deadline(spec, path.child("activeDeadlineSeconds"), faults);
    metadata::labels(object::map(spec, "nodeSelector"), path.child("nodeSelector"), faults);
    place::tolerations(object::list(spec, "tolerations"), path.child("tolerations"), faults);
    place::affinity(spec, path.child("affinity"), faults);
    for (index, gate) in object::list(spec, "readinessGates").iter().enumerate() {
        let list = path.child("readinessGates");
        let item = list.index(index);
        formed(
            object::text(gate, "conditionType"),
            names::qualified_name,
            item.child("conditionType"),
            faults,
        );
    }
    for (index, reference) in object::list(spec, "imagePullSecrets").iter().enumerate() {
        let list = path.child("imagePullSecrets");
        let item = list.index(index);
        if object::name_of(reference).is_empty() {
            faults.push(FieldError::required(item.child("name"), ""));
        }
    }
}

fn deadline(spec: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let seconds = object::integer(spec, "activeDeadlineSeconds");
    if let Some(seconds) = seconds.filter(|seconds| !(1..=i64::from(i32::MAX)).contains(seconds)) {
        faults.push(FieldError::invalid(
            path,
            seconds,
            "must be between 1 and 2147483647, inclusive",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defaults;
    use serde_json::json;

    /// The faults of a pod whose single container is completed with what it needs.
    fn faults_of(spec: Value) -> Vec<String> {
        let mut pod = json!({"spec": spec});
        defaults::pod::pod(&mut pod);
        let mut faults = Vec::new();
        super::pod(&pod, &mut faults);
        faults.iter().map(ToString::to_string).collect()
    }

    fn with_container(extra: Value) -> Value {
        let mut container = json!({"name": "a", "image": "hello"});
        crate::patch::merge(&mut container, &extra);
        json!({"containers": [container], "volumes": [{"name": "v"}]})
    }

    #[test]
    fn a_plain_pod_is_fine() {
        assert_eq!(faults_of(with_container(json!({}))), Vec::<String>::new());
    }

    #[test]
    fn faults_of_the_spec_have_the_words_of_kubernetes() {
        let one = json!({"name": "a", "image": "hello"});
        let cases = [
            (json!({}), "spec.containers: Required value"),
            (
                json!({"containers": [{"name": "a"}]}),
                "spec.containers[0].image: Required value",
            ),
            (
                json!({"containers": [{"image": "hello"}]}),
                "spec.containers[0].name: Required value",
            ),
            (
                json!({"containers": [one, one]}),
                "spec.containers[1].name: Duplicate value: \"a\"",
            ),
            (
                json!({"containers": [one], "initContainers": [one]}),
                "spec.initContainers[0].name: Duplicate value: \"a\"",
            ),
            (
                json!({"containers": [one], "restartPolicy": "Sometimes"}),
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ),
            (
                json!({"containers": [one], "activeDeadlineSeconds": 0}),
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
            ),
            (
                json!({"containers": [one], "volumes": [{"name": "v"}, {"name": "v"}]}),
                "spec.volumes[1].name: Duplicate value: \"v\"",
            ),
            (
                json!({"containers": [one], "volumes": [{"name": "v", "emptyDir": {}, "configMap": {"name": "c"}}]}),
                "spec.volumes[0].configMap: Forbidden: may not specify more than 1 volume type",
            ),
            (
                json!({"containers": [one], "volumes": [{"name": "v", "secret": {}}]}),
                "spec.volumes[0].secret.secretName: Required value",
            ),
            (
                json!({"containers": [one], "volumes": [{"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "../x"}]}}]}),
                "spec.volumes[0].configMap.items[0].path: Invalid value: \"../x\": must not contain '..'",
            ),
            (
                json!({"containers": [one], "tolerations": [{"operator": "Equal", "value": "x"}]}),
                "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ),
            (
                json!({"containers": [one], "tolerations": [{"key": "a", "tolerationSeconds": 3}]}),
                "spec.tolerations[0].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set",
            ),
            (
                json!({"containers": [one], "initContainers": [{"name": "i", "image": "x", "readinessProbe": {"tcpSocket": {"port": 1}}}]}),
                "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
            ),
            (
                json!({"containers": [{"name": "a", "image": "x", "ports": [{"containerPort": 1, "hostPort": 2}]}, {"name": "b", "image": "x", "ports": [{"containerPort": 1, "hostPort": 2}]}]}),
                "spec.containers[1].ports[0].hostPort: Duplicate value: \"TCP//2\"",
            ),
        ];
        for (spec, wanted) in cases {
            assert_eq!(faults_of(spec.clone()), [wanted], "{spec}");
        }
    }

    #[test]
    fn faults_of_a_container_have_the_words_of_kubernetes() {
        let cases = [
            (
                json!({"image": " hello"}),
                "image: Invalid value: \" hello\": must not have leading or trailing whitespace",
            ),
            (
                json!({"imagePullPolicy": "Maybe"}),
                "imagePullPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            ),
            (
                json!({"ports": [{"containerPort": 70000}]}),
                "ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ),
            (
                json!({"ports": [{"containerPort": 1, "name": "x"}, {"containerPort": 2, "name": "x"}]}),
                "ports[1].name: Duplicate value: \"x\"",
            ),
            (
                json!({"ports": [{"containerPort": 1, "protocol": "ICMP"}]}),
                "ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ),
            (json!({"env": [{"value": "x"}]}), "env[0].name: Required value"),
            (
                json!({"env": [{"name": "A", "valueFrom": {}}]}),
                "env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            ),
            (
                json!({"env": [{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
                "env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
            ),
            (
                json!({"volumeMounts": [{"name": "w", "mountPath": "/x"}]}),
                "volumeMounts[0].name: Not found: \"w\"",
            ),
            (
                json!({"volumeMounts": [{"name": "v", "mountPath": "/x"}, {"name": "v", "mountPath": "/x"}]}),
                "volumeMounts[1].mountPath: Invalid value: \"/x\": must be unique",
            ),
            (
                json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}),
                "resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ),
            (
                json!({"resources": {"requests": {"memory": "-1"}}}),
                "resources.requests[memory]: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
            (
                json!({"resources": {"requests": {"coracle.dev/fuel": "5"}}}),
                "resources.limits: Required value: Limit must be set for non overcommitable resources",
            ),
            (
                json!({"readinessProbe": {}}),
                "readinessProbe: Required value: must specify a handler type",
            ),
            (
                json!({"readinessProbe": {"tcpSocket": {"port": 1}, "httpGet": {"port": 1}}}),
                "readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
            ),
            (
                json!({"livenessProbe": {"tcpSocket": {"port": "web"}, "successThreshold": 2}}),
                "livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ),
            (
                json!({"readinessProbe": {"httpGet": {"port": 0}}}),
                "readinessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ),
        ];
        for (extra, wanted) in cases {
            assert_eq!(
                faults_of(with_container(extra.clone())),
                [format!("spec.containers[0].{wanted}")],
                "{extra}"
            );
        }
    }

    #[test]
    fn unknown_plain_resources_are_refused() {
        let faults = faults_of(with_container(json!({"resources": {"limits": {"fuel": "1"}}})));
        assert!(faults[0].starts_with(
            "spec.containers[0].resources.limits[fuel]: Invalid value: \"fuel\": must be a standard resource"
        ));
        assert!(
            faults_of(with_container(
                json!({"resources": {"limits": {"coracle.dev/fuel": "1k"}}})
            ))
            .is_empty()
        );
    }
}
