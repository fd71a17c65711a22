use super::*;
use crate::fields::arbitrary;
use proptest::prelude::*;
use serde_json::json;

const POD: &str = "k8s.io/api/core/v1.Pod";
const DEPLOYMENT: &str = "k8s.io/api/apps/v1.Deployment";

fn normalised(go_type: &str, mut value: Value) -> (Value, Vec<String>) {
    let problems = normalise(go_type, &mut value).unwrap();
    (value, problems.iter().map(ToString::to_string).collect())
}

fn refusal(go_type: &str, mut value: Value) -> String {
    let error = normalise(go_type, &mut value).unwrap_err();
    assert_eq!(error.code, 400);
    error.message
}

#[test]
fn a_pod_gets_the_form_that_kubernetes_gives_it() {
    let (pod, problems) = normalised(
        POD,
        json!({
            "spec": {
                "hostNetwork": false,
                "nodeSelector": {},
                "containers": [{
                    "image": "hello", "name": "a", "command": [], "tty": false,
                    "resources": {"limits": {"memory": "0.5Gi", "cpu": 1}, "requests": null},
                    "livenessProbe": {"httpGet": {"port": 80}, "periodSeconds": 0},
                    "env": [{"name": "X", "value": ""}]
                }],
                "terminationGracePeriodSeconds": 0,
                "securityContext": {},
                "volumes": null
            },
            "metadata": {"creationTimestamp": null, "name": "p", "labels": {"b": "2", "a": "1"}, "annotations": null},
            "kind": "Pod",
            "apiVersion": "v1"
        }),
    );
    assert!(problems.is_empty());
    let expected = json!({
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": "p", "labels": {"a": "1", "b": "2"}},
        "spec": {
            "containers": [{
                "name": "a", "image": "hello",
                "env": [{"name": "X"}],
                "resources": {"limits": {"cpu": "1", "memory": "512Mi"}},
                "livenessProbe": {"httpGet": {"port": 80}}
            }],
            "terminationGracePeriodSeconds": 0,
            "securityContext": {}
        },
        "status": {}
    });
    assert_eq!(pod.to_string(), expected.to_string());
}

#[test]
fn what_has_no_omitempty_is_written_even_when_it_is_empty() {
    let (deployment, _) = normalised(DEPLOYMENT, json!({"spec": {"replicas": 0, "template": null}}));
    assert_eq!(
        deployment.to_string(),
        json!({
            "metadata": {},
            "spec": {
                "replicas": 0,
                "selector": null,
                "template": {"metadata": {}, "spec": {"containers": null}},
                "strategy": {}
            },
            "status": {}
        })
        .to_string()
    );
    let (event, _) = normalised(
        "k8s.io/api/core/v1.Event",
        json!({"eventTime": "2026-01-02T03:04:05.1Z"}),
    );
    assert_eq!(event["eventTime"], "2026-01-02T03:04:05.100000Z");
    assert_eq!(event.get("firstTimestamp"), Some(&Value::Null));
    let (slice, _) = normalised("k8s.io/api/discovery/v1.EndpointSlice", json!({"endpoints": []}));
    assert_eq!(slice.get("endpoints"), Some(&Value::Null));
}

#[test]
fn unknown_fields_are_dropped_and_named_in_order_of_appearance() {
    let (deployment, problems) = normalised(
        DEPLOYMENT,
        json!({
            "spec": {
                "unknownField": 1,
                "template": {"spec": {"containers": [{"name": "a"}, {"name": "b", "Image": "x", "ports": [{"containerport": 1}]}]}}
            },
            "metadata": {"labels": {"any": "thing"}, "lables": {}},
            "foo": {}
        }),
    );
    assert_eq!(
        problems,
        [
            r#"unknown field "spec.unknownField""#,
            r#"unknown field "spec.template.spec.containers[1].Image""#,
            r#"unknown field "spec.template.spec.containers[1].ports[0].containerport""#,
            r#"unknown field "metadata.lables""#,
            r#"unknown field "foo""#
        ]
    );
    assert_eq!(deployment.get("foo"), None);
    let problems = [
        Problem::UnknownField("spec.x".into()),
        Problem::DuplicateField("spec.replicas".into()),
    ];
    assert!(
        strict_error("Deployment", "v1", &problems)
            .unwrap()
            .message
            .ends_with(r#"strict decoding error: unknown field "spec.x", duplicate field "spec.replicas""#)
    );
}

#[test]
fn wrong_types_are_refused_in_the_words_of_kubernetes() {
    let head = r#"Deployment in version "v1" cannot be handled as a Deployment: "#;
    let cases = [
        (
            json!({"kind": "Deployment", "apiVersion": "apps/v1", "spec": {"replicas": "3"}}),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"spec": {"replicas": 1.5}}),
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"spec": {"replicas": 3_000_000_000i64}}),
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"spec": []}),
            "json: cannot unmarshal array into Go struct field Deployment.spec of type v1.DeploymentSpec",
        ),
        (
            json!({"metadata": {"labels": {"a": 1}}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": {"name": "a"}}}}}),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"imagePullPolicy": true}]}}}}),
            "json: cannot unmarshal bool into Go struct field Container.spec.template.spec.containers.imagePullPolicy of type v1.PullPolicy",
        ),
        (
            json!({"metadata": {"creationTimestamp": "yesterday"}}),
            r#"parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006""#,
        ),
        (
            json!({"spec": {"template": {"spec": {"overhead": {"cpu": "a lot"}}}}}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": true}}}}),
            "json: cannot unmarshal bool into Go value of type int32",
        ),
        (
            json!([]),
            "json: cannot unmarshal array into Go value of type v1.Deployment",
        ),
    ];
    for (body, words) in cases {
        assert_eq!(refusal(DEPLOYMENT, body), format!("{head}{words}"));
    }
    assert!(
        refusal("k8s.io/api/core/v1.Secret", json!({"data": {"a": "%"}}))
            .ends_with("illegal base64 data at input byte 0")
    );
}

#[test]
fn embedded_objects_pass_untouched() {
    let set = json!({"f:metadata": {"f:labels": {".": {}, "f:b": {}, "f:a": {}}}});
    let managed = json!([{"manager": "m", "fieldsV1": set, "time": "2026-01-02T03:04:05.999+01:00"}]);
    let (pod, problems) = normalised(POD, json!({"metadata": {"managedFields": managed}}));
    assert!(problems.is_empty());
    assert_eq!(
        pod["metadata"]["managedFields"][0]["fieldsV1"].to_string(),
        set.to_string()
    );
    assert_eq!(pod["metadata"]["managedFields"][0]["time"], "2026-01-02T02:04:05Z");
    let (list, _) = normalised(
        "k8s.io/apimachinery/pkg/apis/meta/v1.List",
        json!({"items": [{"b": 1, "a": null}]}),
    );
    assert_eq!(list["items"].to_string(), r#"[{"b":1,"a":null}]"#);
}

#[test]
fn schemas_of_custom_resources_keep_their_forms() {
    let crd = "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.CustomResourceDefinition";
    let schema = json!({
        "type": "object",
        "default": {"z": null, "a": 0},
        "properties": {
            "a": {"additionalProperties": false, "items": {"type": "string", "format": ""}},
            "b": {"additionalProperties": {"type": "string"}, "maximum": 1.5, "x-kubernetes-int-or-string": true}
        }
    });
    let (value, problems) = normalised(
        crd,
        json!({"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]}}),
    );
    assert!(problems.is_empty(), "{problems:?}");
    let kept = &value["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    assert_eq!(kept["default"], json!({"z": null, "a": 0}));
    assert_eq!(
        kept["properties"]["a"],
        json!({"items": {"type": "string"}, "additionalProperties": false})
    );
    assert_eq!(kept["properties"]["b"]["maximum"], json!(1.5));
}

/// Puts a value of some other type, or none, at one place of an object.
fn spoil(value: &mut Value, seed: u64) {
    let count = match value {
        Value::Array(list) => list.len(),
        Value::Object(map) => map.len(),
        _ => 0,
    };
    if count == 0 || seed.is_multiple_of(7) {
        *value = [
            json!(null),
            json!({}),
            json!([]),
            json!(""),
            json!(0),
            json!(false),
            json!([null]),
            json!({"a": null}),
        ][(seed / 7 % 8) as usize]
            .clone();
        return;
    }
    let at = (seed / 7) as usize % count;
    match value {
        Value::Array(list) => spoil(&mut list[at], seed / 13),
        Value::Object(map) => spoil(map.values_mut().nth(at).unwrap(), seed / 13),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn normalising_twice_changes_nothing(index in 0usize..10_000, seed: u64, spoilt: u64) {
        let kinds: Vec<_> = fields::structs().filter(|s| s.is_object()).collect();
        let kind = kinds[index % kinds.len()];
        let mut once = arbitrary::object(kind, seed);
        prop_assert_eq!(normalise(kind.name(), &mut once), Ok(vec![]));
        let mut twice = once.clone();
        prop_assert_eq!(normalise(kind.name(), &mut twice), Ok(vec![]));
        prop_assert_eq!(once.to_string(), twice.to_string());
        spoil(&mut once, spoilt);
        if normalise(kind.name(), &mut once).is_ok() {
            let mut twice = once.clone();
            prop_assert_eq!(normalise(kind.name(), &mut twice), Ok(vec![]));
            prop_assert_eq!(once.to_string(), twice.to_string());
        }
    }
}
