use super::*;
use crate::fields::arbitrary;
use crate::normalise::normalise;
use proptest::prelude::*;
use serde_json::json;

const POD: &str = "k8s.io/api/core/v1.Pod";
const DEPLOYMENT: &str = "k8s.io/api/apps/v1.Deployment";
const SERVICE: &str = "k8s.io/api/core/v1.Service";

fn patched(go_type: &str, doc: Value, patch: Value) -> Value {
    strategic(go_type, &doc, &patch).unwrap()
}

fn refusal(go_type: &str, doc: Value, patch: Value) -> String {
    let error = strategic(go_type, &doc, &patch).unwrap_err();
    assert_eq!(error.code, 400);
    error.message
}

fn containers(list: Value) -> Value {
    json!({"spec": {"containers": list}})
}

#[test]
fn lists_merge_by_key_and_keep_what_the_patch_does_not_name() {
    let doc = containers(json!([
        {"name": "web", "image": "web:1", "args": ["-v"], "ports": [{"containerPort": 80, "name": "http"}]},
        {"name": "side", "image": "side:1"}
    ]));
    // kubectl set image
    let patch = json!({"spec": {"$setElementOrder/containers": [{"name": "web"}, {"name": "side"}],
        "containers": [{"name": "web", "image": "web:2", "ports": [{"containerPort": 81}]}]}});
    let ports = json!([{"containerPort": 81}, {"containerPort": 80, "name": "http"}]);
    assert_eq!(
        patched(POD, doc.clone(), patch)["spec"]["containers"],
        json!([{"name": "web", "image": "web:2", "args": ["-v"], "ports": ports}, {"name": "side", "image": "side:1"}])
    );
    let delete = containers(json!([{"name": "web", "$patch": "delete"}, {"name": "new", "image": "n", "env": null}]));
    assert_eq!(
        patched(POD, doc.clone(), delete)["spec"]["containers"],
        json!([{"name": "new", "image": "n"}, {"name": "side", "image": "side:1"}])
    );
    let replace = containers(json!([{"$patch": "replace"}, {"name": "only", "image": "o"}]));
    assert_eq!(
        patched(POD, doc, replace)["spec"]["containers"],
        json!([{"name": "only", "image": "o"}])
    );
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    let doc = containers(json!([{"name": "web", "args": ["a", "b"], "command": ["c"]}]));
    let patch = containers(json!([{"name": "web", "args": ["z"]}]));
    assert_eq!(
        patched(POD, doc, patch)["spec"]["containers"],
        json!([{"name": "web", "args": ["z"], "command": ["c"]}])
    );
}

#[test]
fn the_order_that_a_patch_sets_is_kept() {
    let doc = containers(json!([{"name": "a"}, {"name": "b"}, {"name": "server"}, {"name": "c"}]));
    let patch = json!({"spec": {
        "$setElementOrder/containers": [{"name": "c"}, {"name": "new"}, {"name": "a"}],
        "containers": [{"name": "new"}, {"name": "b", "$patch": "delete"}]
    }});
    assert_eq!(
        patched(POD, doc, patch)["spec"]["containers"],
        json!([{"name": "server"}, {"name": "c"}, {"name": "new"}, {"name": "a"}])
    );
    let wrong = json!({"spec": {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]}});
    assert!(refusal(POD, json!({"spec": {}}), wrong).contains("setElementOrder"));
}

#[test]
fn objects_merge_replace_and_go() {
    let doc = json!({"metadata": {"labels": {"a": "1", "b": "2"}, "annotations": {"x": "y"}}, "spec": {"nodeSelector": {"k": "v"}}});
    let patch = json!({
        "metadata": {"labels": {"a": null, "c": "3"}, "annotations": {"$patch": "replace", "n": "w"}, "name": null},
        "spec": {"nodeSelector": {"$patch": "delete"}, "affinity": {"nodeAffinity": null, "$retainKeys": ["x"]}}
    });
    assert_eq!(
        patched(POD, doc, patch),
        json!({"metadata": {"labels": {"b": "2", "c": "3"}, "annotations": {"n": "w"}}, "spec": {"nodeSelector": {}, "affinity": {}}})
    );
}

#[test]
fn kept_keys_clear_the_others() {
    let doc = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(
        patched(DEPLOYMENT, doc.clone(), patch),
        json!({"spec": {"strategy": {"type": "Recreate"}}})
    );
    for bad in [json!(["rollingUpdate"]), json!("type")] {
        let patch = json!({"spec": {"strategy": {"$retainKeys": bad, "type": "Recreate"}}});
        assert!(refusal(DEPLOYMENT, doc.clone(), patch).contains("retainKeys"));
    }
}

#[test]
fn scalars_join_and_leave_their_lists() {
    let doc = json!({"metadata": {"finalizers": ["a", "b"]}});
    let patch = json!({"metadata": {"finalizers": ["c", "a"], "$deleteFromPrimitiveList/finalizers": ["b"]}});
    assert_eq!(
        patched(POD, doc.clone(), patch)["metadata"]["finalizers"],
        json!(["c", "a"])
    );
    let patch = json!({"metadata": {"$setElementOrder/finalizers": ["b", "n", "a"], "finalizers": ["n"]}});
    assert_eq!(
        patched(POD, doc, patch)["metadata"]["finalizers"],
        json!(["b", "n", "a"])
    );
}

#[test]
fn a_service_port_is_found_by_its_number() {
    let doc = json!({"spec": {"ports": [{"port": 80, "targetPort": 8080, "nodePort": 30000}, {"port": 443}]}});
    let patch = json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}]}});
    assert_eq!(
        patched(SERVICE, doc, patch)["spec"]["ports"],
        json!([{"port": 80, "targetPort": "http", "nodePort": 30000}, {"port": 443}])
    );
}

#[test]
fn elements_without_their_key_are_refused() {
    assert_eq!(
        refusal(
            POD,
            containers(json!([{"name": "a"}])),
            containers(json!([{"image": "x", "tty": true}]))
        ),
        "map: map[image:x tty:true] does not contain declared merge key: name"
    );
    assert_eq!(
        refusal(
            POD,
            containers(json!([{"name": "a"}])),
            containers(json!([{"name": "a", "$patch": "burn"}]))
        ),
        "unknown patch type: burn in map: map[$patch:burn name:a]"
    );
    assert!(refusal(POD, json!({}), json!([])).contains("expected a map"));
    assert!(refusal(POD, containers(json!([{"name": "a"}])), containers(json!(["a"]))).contains("expected a map"));
}

#[test]
fn fields_that_no_type_knows_are_kept_for_the_normaliser_to_name() {
    let patch = json!({"spec": {"foo": {"bar": [1]}}});
    let mut object = patched(POD, json!({"spec": {"foo": {"baz": 1}}}), patch);
    assert_eq!(object["spec"]["foo"], json!({"baz": 1, "bar": [1]}));
    let problems = normalise(POD, &mut object).unwrap();
    assert_eq!(problems.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn an_empty_patch_changes_nothing(seed: u64) {
        let object = arbitrary::object(fields::go_type(POD).unwrap(), seed);
        prop_assert_eq!(patched(POD, object.clone(), json!({})), object);
    }

    #[test]
    fn the_same_patch_again_changes_nothing(seed: u64, change: u64) {
        let kind = fields::go_type(DEPLOYMENT).unwrap();
        let doc = arbitrary::object(kind, seed);
        let patch = arbitrary::object(kind, change);
        if let Ok(once) = strategic(DEPLOYMENT, &doc, &patch) {
            prop_assert_eq!(strategic(DEPLOYMENT, &once, &patch).unwrap(), once);
        }
    }

    #[test]
    fn a_patch_of_directives_is_applied_or_refused(
        name in prop::sample::select(vec!["$patch", "$retainKeys", "$setElementOrder/containers", "$deleteFromPrimitiveList/containers", "containers"]),
        value in prop::sample::select(vec![json!("delete"), json!("x"), json!([]), json!([1]), json!([{"name": "a"}]), json!([{"$patch": "delete", "name": "a"}]), json!([[1]]), json!({}), json!(null)]),
        other in prop::sample::select(vec![json!([{"name": "b"}]), json!(["b"]), json!(null), json!({})]),
    ) {
        for doc in [containers(json!([{"name": "a"}, {"name": "c"}])), containers(json!(null)), containers(json!([1])), json!({})] {
            let patch = json!({"spec": {"containers": other, name: value}});
            if let Ok(result) = strategic(POD, &doc, &patch) {
                prop_assert!(!result.to_string().contains("\"$"), "{}", result);
            }
        }
    }
}
