//! Scenarios and laws of EndpointSlices.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{
    plan::Verb,
    scene::{Scene, now},
};

fn service() -> Value {
    json!({"kind": "Service", "metadata": {"name": "s", "namespace": "n", "uid": "s"},
        "spec": {"clusterIP": "10.96.0.7", "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}})
}

fn pod(name: &str, port: u16, ready: &str) -> Value {
    json!({"kind": "Pod", "metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "a", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": format!("10.0.0.{}", name.len())}],
            "conditions": [{"type": "Ready", "status": ready}]}})
}

/// Does what the plan says, as a server would.
fn carry_out(scene: &Scene, plan: &Plan, serial: &mut u32) {
    for action in plan.actions() {
        let key = &action.target.key;
        match &action.verb {
            Verb::Create(body) => {
                *serial += 1;
                let mut body = body.clone();
                body["metadata"]["name"] = format!("s-{serial}").into();
                body["metadata"]["uid"] = format!("slice-{serial}").into();
                scene.put(body);
            }
            Verb::Merge { patch, .. } => {
                let mut body = merge::value(&*scene.world().endpoint_slices.get(key).unwrap());
                body["endpoints"] = patch["endpoints"].clone();
                body["ports"] = patch["ports"].clone();
                scene.put(body);
            }
            Verb::Delete { .. } => {
                let slice = scene.world().endpoint_slices.get(key).unwrap();
                scene.remove(|i| &i.endpoint_slices, &*slice);
            }
            other => panic!("{other:?}"),
        }
    }
}

fn plan(scene: &Scene) -> Plan {
    reconcile(&Key::new("n", "s"), scene.world(), &Turn::at(now()))
}

fn listed(scene: &Scene) -> Vec<String> {
    let slices = scene.world().endpoint_slices.all();
    let endpoints = slices.iter().flat_map(|s| s.endpoints.iter().flatten());
    let mut names: Vec<String> = endpoints
        .map(|e| e.target_ref.as_ref().unwrap().name.clone().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn pods_with_different_ports_get_different_slices() {
    let scene = Scene::default()
        .with(service())
        .with(pod("a", 8080, "True"))
        .with(pod("bb", 9090, "False"));
    let mut serial = 0;
    let first = plan(&scene);
    carry_out(&scene, &first, &mut serial);
    let slices = scene.world().endpoint_slices.all();
    assert_eq!(slices.len(), 2);
    for slice in &slices {
        let endpoint = &slice.endpoints.as_ref().unwrap()[0];
        let port = slice.ports.as_ref().unwrap()[0].port.unwrap();
        assert_eq!(endpoint.conditions.as_ref().unwrap().ready, Some(port == 8080));
        assert_eq!(slice.metadata.labels.as_ref().unwrap()[SERVICE_LABEL], "s");
    }
    assert!(plan(&scene).is_settled());
}

#[test]
fn a_service_nobody_stands_behind_has_one_empty_slice_that_pods_fill() {
    let scene = Scene::default().with(service());
    let mut serial = 0;
    carry_out(&scene, &plan(&scene), &mut serial);
    assert_eq!(
        (scene.world().endpoint_slices.all().len(), listed(&scene).len()),
        (1, 0)
    );
    assert!(plan(&scene).is_settled());
    let empty = scene.world().endpoint_slices.all()[0].metadata.name.clone();
    scene.put(pod("a", 8080, "True"));
    carry_out(&scene, &plan(&scene), &mut serial);
    assert_eq!(
        (scene.world().endpoint_slices.all().len(), listed(&scene).len()),
        (1, 1)
    );
    assert_eq!(scene.world().endpoint_slices.all()[0].metadata.name, empty);
    assert!(plan(&scene).is_settled());
}

#[test]
fn a_foreign_slice_is_left_alone() {
    let foreign = json!({"kind": "EndpointSlice", "metadata": {"name": "x", "namespace": "n",
        "labels": {SERVICE_LABEL: "s", MANAGER_LABEL: "somebody"}}, "addressType": "IPv4", "endpoints": []});
    let mut bare = service();
    bare["spec"]["selector"] = json!({});
    assert!(plan(&Scene::default().with(bare).with(foreign)).is_settled());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn each_pod_is_in_exactly_one_slice_and_a_second_look_changes_nothing(
        steps in prop::collection::vec((0..260_usize, 0..2_u16), 1..4),
    ) {
        let scene = Scene::default().with(service());
        let mut serial = 0;
        for (count, shift) in steps {
            for existing in scene.world().pods.all() {
                scene.remove(|i| &i.pods, &*existing);
            }
            let names: Vec<String> = (0..count).map(|i| format!("p{i:03}")).collect();
            for (i, name) in names.iter().enumerate() {
                scene.put(pod(name, 8000 + shift * u16::try_from(i % 2).unwrap(), "True"));
            }
            carry_out(&scene, &plan(&scene), &mut serial);
            prop_assert_eq!(listed(&scene), names);
            for slice in scene.world().endpoint_slices.all() {
                prop_assert!(slice.endpoints.iter().flatten().count() <= SLICE_LIMIT);
            }
            prop_assert!(plan(&scene).is_settled());
        }
    }
}
