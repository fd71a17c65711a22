//! The laws of apply, and what users see of it.

use super::compare::compare;
use super::owners::{self, Writer};
use super::{Application, Conflicts, Rules};
use crate::normalise::normalise;
use crate::object;
use proptest::prelude::*;
use serde_json::{Value, json};

const DEPLOYMENT: &str = "k8s.io/api/apps/v1.Deployment";
const POD: &str = "k8s.io/api/core/v1.Pod";

/// An object with its owners, as a server keeps them.
#[derive(Clone, Debug, PartialEq)]
struct World {
    go_type: &'static str,
    live: Value,
    owners: Vec<Value>,
    clock: u32,
}

impl World {
    fn new(go_type: &'static str) -> Self {
        Self {
            go_type,
            live: json!({}),
            owners: Vec::new(),
            clock: 0,
        }
    }

    fn rules(&self) -> Rules<'static> {
        Rules::of_type(self.go_type)
    }

    fn stored(&self, mut value: Value) -> Value {
        normalise(self.go_type, &mut value).unwrap();
        value
    }

    fn tick(&mut self) -> String {
        self.clock += 1;
        format!("2026-01-01T00:{:02}:{:02}Z", self.clock / 60, self.clock % 60)
    }

    fn update(&mut self, manager: &str, new: Value) {
        let (new, time) = (self.stored(new), self.tick());
        let writer = Writer {
            manager,
            api_version: "v1",
            subresource: "",
            time: &time,
        };
        if self.live == json!({}) {
            let changes = compare(self.rules(), &self.rules().blank(), &new, false);
            self.owners = owners::created(changes, writer);
        } else {
            let changes = compare(self.rules(), &self.live, &new, false);
            let list = serde_json::to_vec(&self.owners).unwrap();
            if let Some(list) = owners::updated(&list, &changes, writer).unwrap() {
                self.owners = serde_json::from_slice(&list).unwrap();
            }
        }
        self.live = new;
    }

    fn apply(&mut self, manager: &str, config: &Value, force: bool) -> Result<(), Conflicts> {
        let time = self.tick();
        let writer = Writer {
            manager,
            api_version: "v1",
            subresource: "",
            time: &time,
        };
        let rules = self.rules();
        let blank = match self.live == json!({}) {
            true => rules.blank(),
            false => self.live.clone(),
        };
        let application = Application::new(rules, &blank, self.owners.clone(), config, writer, false).unwrap();
        let new = self.stored(application.merged.clone());
        self.owners = application.settle(&blank, &new, false, force)?;
        self.live = new;
        Ok(())
    }

    fn fields_of(&self, manager: &str) -> Value {
        let entry = self
            .owners
            .iter()
            .find(|entry| object::text(entry, "manager") == manager);
        entry.map_or(Value::Null, |entry| entry["fieldsV1"].clone())
    }
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "hello", "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "1"}]}]},
            },
        },
    })
}

#[test]
fn who_creates_owns_as_in_kubernetes() {
    let mut world = World::new(DEPLOYMENT);
    world.update("kubectl-create", deployment());
    let wanted = json!({
        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
        "f:spec": {
            "f:replicas": {},
            "f:selector": {},
            "f:template": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {
                    ".": {},
                    "f:env": {".": {}, "k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}},
                    "f:image": {},
                    "f:name": {},
                    "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                }}},
            },
        },
    });
    let found = world.fields_of("kubectl-create");
    // Empty structs that are always written belong to who creates, as in Kubernetes; the test looks at the rest.
    let mut found = found;
    found["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"]
        .as_object_mut()
        .unwrap()
        .shift_remove("f:resources");
    assert_eq!(found, wanted);
    assert_eq!(world.owners[0]["operation"], "Update");
    assert_eq!(world.owners[0]["fieldsType"], "FieldsV1");
}

#[test]
fn an_apply_owns_what_it_states() {
    let mut world = World::new(DEPLOYMENT);
    world.apply("me", &deployment(), false).unwrap();
    let fields = world.fields_of("me");
    assert_eq!(fields["f:metadata"], json!({"f:labels": {"f:app": {}}}));
    assert_eq!(fields["f:spec"]["f:selector"], json!({}));
    assert_eq!(
        fields["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"]["f:ports"],
        json!({"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}})
    );
    assert_eq!(world.owners.len(), 1);
}

#[test]
fn a_field_that_is_no_longer_stated_goes() {
    let mut world = World::new(DEPLOYMENT);
    world.apply("me", &deployment(), false).unwrap();
    let mut less = deployment();
    less["metadata"].as_object_mut().unwrap().shift_remove("labels");
    less["spec"].as_object_mut().unwrap().shift_remove("replicas");
    less["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "B", "value": "2"}]);
    world.apply("me", &less, false).unwrap();
    assert_eq!(world.live["spec"].get("replicas"), None);
    assert_eq!(world.live["metadata"].get("labels"), None);
    assert_eq!(
        world.live["spec"]["template"]["spec"]["containers"][0]["env"],
        json!([{"name": "B", "value": "2"}])
    );
    // Somebody else who states it keeps it.
    world.apply("me", &deployment(), false).unwrap();
    let shared = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 3}});
    world.apply("you", &shared, false).unwrap();
    world.apply("me", &less, false).unwrap();
    assert_eq!(world.live["spec"]["replicas"], 3);
    world
        .apply("you", &json!({"apiVersion": "apps/v1", "kind": "Deployment"}), false)
        .unwrap();
    assert_eq!(world.live["spec"].get("replicas"), None);
    assert_eq!(world.fields_of("you"), Value::Null);
}

#[test]
fn what_nobody_stated_stays() {
    let mut world = World::new(DEPLOYMENT);
    world.apply("me", &deployment(), false).unwrap();
    let mut live = world.live.clone();
    live["spec"]["template"]["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "sidecar", "image": "s"}));
    live["metadata"]["labels"]["by"] = json!("injector");
    world.update("injector", live);
    let mut less = deployment();
    less["metadata"].as_object_mut().unwrap().shift_remove("labels");
    world.apply("me", &less, false).unwrap();
    assert_eq!(world.live["metadata"]["labels"], json!({"by": "injector"}));
    let names: Vec<&str> = world.live["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|container| object::text(container, "name"))
        .collect();
    assert_eq!(names, ["c", "sidecar"]);
}

#[test]
fn a_changed_field_of_another_is_a_conflict_unless_forced() {
    let mut world = World::new(DEPLOYMENT);
    world.apply("me", &deployment(), false).unwrap();
    let mut live = world.live.clone();
    live["spec"]["replicas"] = json!(5);
    world.update("scaler", live);
    assert_eq!(world.fields_of("me")["f:spec"].get("f:replicas"), None);
    let before = world.clone();
    let conflicts = world.apply("me", &deployment(), false).unwrap_err();
    assert_eq!(
        conflicts.to_error().message,
        "Apply failed with 1 conflict: conflict with \"scaler\" using v1: .spec.replicas"
    );
    assert_eq!((&world.live, &world.owners), (&before.live, &before.owners));
    world.apply("me", &deployment(), true).unwrap();
    assert_eq!(world.live["spec"]["replicas"], 3);
    assert_eq!(world.fields_of("scaler"), Value::Null);
    assert_eq!(world.fields_of("me")["f:spec"]["f:replicas"], json!({}));
}

#[test]
fn kubectl_meets_no_conflict_with_its_former_self() {
    let mut world = World::new(DEPLOYMENT);
    let mut old = deployment();
    old["metadata"]["annotations"] = json!({super::last_applied::ANNOTATION: deployment().to_string()});
    world.update("kubectl-client-side-apply", old);
    let mut new = deployment();
    new["spec"]["replicas"] = json!(4);
    assert!(world.clone().apply("other", &new, false).is_err());
    world.apply("kubectl", &new, false).unwrap();
    assert_eq!(world.live["spec"]["replicas"], 4);
    // What somebody changed since is a conflict still.
    let mut scaled = world.live.clone();
    scaled["spec"]["replicas"] = json!(9);
    world.update("scaler", scaled);
    assert!(world.apply("kubectl", &new, false).is_err());
}

#[test]
fn an_object_without_owners_belonged_to_someone() {
    let mut world = World::new(DEPLOYMENT);
    world.update("x", deployment());
    world.owners.clear();
    let mut changed = world.live.clone();
    changed["spec"]["replicas"] = json!(7);
    world.update("y", changed);
    assert_eq!(world.owners, Vec::<Value>::new());
    let error = world.apply("me", &deployment(), false).unwrap_err().to_error();
    assert_eq!(
        error.message,
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .spec.replicas"
    );
}

#[test]
fn many_updaters_become_one() {
    let mut world = World::new(DEPLOYMENT);
    world.update("first", deployment());
    for n in 0..30 {
        let mut live = world.live.clone();
        live["metadata"]["labels"][format!("l{n:02}")] = json!("x");
        world.update(&format!("m{n:02}"), live);
    }
    assert_eq!(world.owners.len(), owners::UPDATERS_LIMIT);
    let ancient = world.fields_of(owners::ANCIENT);
    assert!(ancient["f:metadata"]["f:labels"].get("f:l05").is_some(), "{ancient}");
    assert!(ancient["f:spec"].get("f:replicas").is_some());
    assert!(!world.fields_of("m29").is_null());
}

#[test]
fn a_controller_has_one_entry_however_often_it_writes() {
    let mut world = World::new(DEPLOYMENT);
    world.update("me", deployment());
    for replicas in 0..50 {
        let mut live = world.live.clone();
        live["spec"]["replicas"] = json!(replicas % 7 + 1);
        world.update("scaler", live);
    }
    assert_eq!(world.owners.len(), 2);
    assert_eq!(world.fields_of("scaler"), json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn mistakes_are_named_by_their_paths() {
    let mut config = deployment();
    config["spec"]["nonsense"] = json!(1);
    let fault = |config: &Value| {
        super::extract::extract(Rules::of_type(DEPLOYMENT), config)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(fault(&config), ".spec.nonsense: field not declared in schema");
    config["spec"]["template"]["spec"]["containers"] = json!([{"name": "a"}, {"name": "a"}, {"image": "b"}]);
    assert_eq!(
        fault(&config),
        "errors:\n  .spec.template.spec.containers: duplicate entries for key [name=\"a\"]\n  .spec.template.spec.containers: element 2: associative list with keys has an element that omits all key fields [\"name\"] (and doesn't have default values for any key fields)\n  .spec.nonsense: field not declared in schema"
    );
}

#[test]
fn requests_can_reset_or_replace_the_owners() {
    use owners::{Request, request};
    let with = |list: Value| request(&json!({"metadata": {"managedFields": list}}));
    assert_eq!(request(&json!({"metadata": {}})), Request::Keep);
    assert_eq!(with(json!([])), Request::Reset);
    assert_eq!(with(json!([{}])), Request::Reset);
    assert_eq!(with(json!([{"manager": "x"}])), Request::Keep);
    let entry = json!({"manager": "x", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}});
    assert_eq!(with(json!([entry])), Request::Set(vec![entry]));
}

#[test]
fn custom_resources_merge_by_their_schema() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "size": {"type": "integer"},
        "boats": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {"name": {"type": "string"}, "oars": {"type": "integer"}}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }}}});
    let rules = Rules::of_resource(&schema);
    let writer = |manager| Writer {
        manager,
        api_version: "x/v1",
        subresource: "",
        time: "t",
    };
    let live =
        json!({"metadata": {"name": "a"}, "spec": {"boats": [{"name": "x", "oars": 2}], "free": {"a": {"b": 1}}}});
    let owners = owners::created(compare(rules, &rules.blank(), &live, false), writer("one"));
    let config = json!({"metadata": {"name": "a", "labels": {"l": "1"}}, "spec": {"boats": [{"name": "y"}], "free": {"a": {"c": 2}}}});
    let application = Application::new(rules, &live, owners, &config, writer("two"), false).unwrap();
    let new = application.merged.clone();
    assert_eq!(
        new["spec"],
        json!({"boats": [{"name": "y"}, {"name": "x", "oars": 2}], "free": {"a": {"b": 1, "c": 2}}})
    );
    let owners = application.settle(&live, &new, false, false).unwrap();
    assert_eq!(
        owners[0]["fieldsV1"],
        json!({"f:metadata": {"f:labels": {"f:l": {}}}, "f:spec": {
            "f:boats": {"k:{\"name\":\"y\"}": {".": {}, "f:name": {}}},
            "f:free": {"f:a": {".": {}, "f:c": {}}},
        }})
    );
    let wrong = json!({"spec": {"sise": 1}});
    assert_eq!(
        super::extract::extract(rules, &wrong).unwrap_err().to_string(),
        ".spec.sise: field not declared in schema"
    );
}

/// Pods that differ in what apply treats in different ways: scalars, maps, lists with keys, sets, atomic lists.
fn any_pod() -> impl Strategy<Value = Value> {
    let text = || prop::option::of("[a-c]");
    let labels = prop::collection::btree_map("[a-c]", "[x-z]", 0..3);
    let container = (
        text(),
        prop::option::of(prop::collection::vec("[a-c]", 0..3)),
        prop::collection::btree_map("[A-C]", "[x-z]", 0..3),
    );
    let containers = prop::collection::btree_map("[a-c]", container, 0..3);
    let finalizers = prop::collection::btree_set("[a-c]", 0..3);
    (labels, containers, finalizers, text(), prop::option::of(prop::bool::ANY)).prop_map(
        |(labels, containers, finalizers, host, network)| {
            let containers: Vec<Value> = containers
                .into_iter()
                .map(|(name, (image, args, env))| {
                    let mut container = json!({"name": name});
                    if let Some(image) = image {
                        container["image"] = json!(image);
                    }
                    if let Some(args) = args {
                        container["args"] = json!(args);
                    }
                    let env: Vec<Value> = env.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
                    if !env.is_empty() {
                        container["env"] = json!(env);
                    }
                    container
                })
                .collect();
            let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers}});
            if !labels.is_empty() {
                pod["metadata"]["labels"] = json!(labels);
            }
            if !finalizers.is_empty() {
                pod["metadata"]["finalizers"] = json!(finalizers);
            }
            if let Some(host) = host {
                pod["spec"]["hostname"] = json!(host);
            }
            if let Some(network) = network {
                pod["spec"]["hostNetwork"] = json!(network);
            }
            pod
        },
    )
}

proptest! {
    #[test]
    fn apply_twice_is_once(live in any_pod(), config in any_pod()) {
        let mut world = World::new(POD);
        world.update("creator", live);
        world.apply("me", &config, true).unwrap();
        let once = world.clone();
        world.apply("me", &config, false).unwrap();
        prop_assert_eq!(&world.live, &once.live);
        prop_assert_eq!(&world.owners, &once.owners);
    }

    #[test]
    fn applying_what_is_there_changes_ownership_only(live in any_pod()) {
        let mut world = World::new(POD);
        world.update("creator", live.clone());
        let before = world.clone();
        world.apply("me", &live, false).unwrap();
        prop_assert_eq!(&world.live, &before.live);
        prop_assert_eq!(world.fields_of("creator"), before.fields_of("creator"));
    }

    #[test]
    fn the_last_of_one_manager_is_what_is_there(first in any_pod(), second in any_pod()) {
        let mut world = World::new(POD);
        world.apply("me", &first, false).unwrap();
        world.apply("me", &second, false).unwrap();
        let mut fresh = World::new(POD);
        fresh.apply("me", &second, false).unwrap();
        prop_assert_eq!(sorted(&world.live), sorted(&fresh.live));
        prop_assert_eq!(world.fields_of("me"), fresh.fields_of("me"));
    }

    #[test]
    fn what_was_applied_holds(live in any_pod(), config in any_pod()) {
        let mut world = World::new(POD);
        world.update("creator", live);
        world.apply("me", &config, true).unwrap();
        let merged = super::merge::merge(world.rules(), &world.live, &config);
        prop_assert_eq!(world.stored(merged), world.live);
    }

    #[test]
    fn fields_that_change_belong_to_who_changed_them(one in any_pod(), two in any_pod()) {
        let mut world = World::new(POD);
        world.update("a", one.clone());
        world.update("b", two.clone());
        let (a, b) = (world.fields_of("a"), world.fields_of("b"));
        let read = |fields: &Value| super::fields_v1::read(fields).unwrap_or_default();
        prop_assert!(read(&a).intersection(&read(&b)).is_empty());
        // Together they own what one creator of the second state would.
        let mut fresh = World::new(POD);
        fresh.update("a", two);
        let all = read(&fresh.fields_of("a"));
        prop_assert!(read(&b).difference(&all).is_empty(), "{:?}", read(&b).difference(&all).paths());
    }
}

/// Lists with keys in one order, for comparing states that were reached on different ways.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), sorted(value))).collect(),
        Value::Array(list) if list.iter().all(|item| item.get("name").is_some() || item.is_string()) => {
            let mut list: Vec<Value> = list.iter().map(sorted).collect();
            if list.iter().all(|item| item.get("name").is_some()) {
                list.sort_by_key(ToString::to_string);
            }
            Value::Array(list)
        }
        other => other.clone(),
    }
}
