//! A cluster for tests: plans are carried out on objects in memory as the API server would, and a pretended node runs
//! the pods. Each reconciler sees the result at once; time goes on only when the test says so.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    driver::Turn,
    key::Key,
    plan::{Plan, Verb},
    scene::{Scene, now},
    world::World,
};

pub type Reconcile = fn(&Key, &World, &Turn<'_>) -> Plan;

/// Turns after which a world that is still being written to is said never to settle.
const TURNS_LIMIT: usize = 3000;

pub struct Simulation {
    pub scene: Scene,
    pub objects: BTreeMap<(String, Key), Value>,
    pub now: Timestamp,
    pub events: Vec<String>,
    /// The plan that asked to be looked at again first.
    pub due: Option<Timestamp>,
    serial: u64,
}

impl Default for Simulation {
    fn default() -> Self {
        Self {
            scene: Scene::default(),
            objects: BTreeMap::new(),
            now: now(),
            events: Vec::new(),
            due: None,
            serial: 0,
        }
    }
}

impl Simulation {
    pub fn with_facts(facts: crate::world::Facts) -> Self {
        let simulation = Self::default();
        Self {
            scene: simulation.scene.facts(facts),
            ..simulation
        }
    }

    pub fn of(objects: impl IntoIterator<Item = Value>) -> Self {
        let mut simulation = Self::default();
        objects.into_iter().for_each(|object| simulation.create(object));
        simulation
    }

    pub fn create(&mut self, mut object: Value) {
        self.serial += 1;
        let meta = &mut object["metadata"];
        if let Some(prefix) = meta["generateName"].as_str().filter(|_| meta["name"].is_null()) {
            meta["name"] = format!("{prefix}{}", self.serial).into();
        }
        if meta["uid"].is_null() {
            meta["uid"] = format!("uid-{}", self.serial).into();
        }
        meta["generation"] = 1.into();
        if meta["creationTimestamp"].is_null() {
            meta["creationTimestamp"] = self.now.to_string().into();
        }
        let id = id(&object);
        assert!(!self.objects.contains_key(&id), "{id:?} already exists");
        self.put(object);
    }

    pub fn put(&mut self, mut object: Value) {
        self.serial += 1;
        object["metadata"]["resourceVersion"] = self.serial.to_string().into();
        self.scene.put(object.clone());
        self.objects.insert(id(&object), object);
    }

    pub fn get(&self, kind: &str, name: &str) -> &Value {
        self.objects
            .get(&(kind.to_owned(), Key::new("n", name)))
            .unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    pub fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects
            .iter()
            .filter(move |((k, _), _)| k == kind)
            .map(|(_, object)| object)
    }

    pub fn names<'a>(&'a self, kind: &'a str) -> Vec<&'a str> {
        self.all(kind)
            .map(|object| object["metadata"]["name"].as_str().unwrap())
            .collect()
    }

    /// Changes an object as a user would.
    pub fn edit(&mut self, kind: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(kind, name).clone();
        change(&mut object);
        object["metadata"]["generation"] = (object["metadata"]["generation"].as_i64().unwrap_or(0) + 1).into();
        self.put(object);
    }

    pub fn delete(&mut self, kind: &str, name: &str) {
        self.remove(&(kind.to_owned(), Key::new("n", name)));
    }

    /// Deletes as the server does: what a finalizer or a node holds is only marked.
    fn remove(&mut self, id: &(String, Key)) {
        let Some(mut object) = self.objects.get(id).cloned() else {
            return;
        };
        let held = object["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|f| !f.is_empty());
        let phase = object["status"]["phase"].as_str().unwrap_or_default();
        let running =
            id.0 == "Pod" && object["spec"]["nodeName"].is_string() && !matches!(phase, "Succeeded" | "Failed");
        if held || running {
            if object["metadata"]["deletionTimestamp"].is_null() {
                object["metadata"]["deletionTimestamp"] = self.now.to_string().into();
                self.put(object);
            }
        } else {
            self.scene.forget(object);
            self.objects.remove(id);
        }
    }

    pub fn carry_out(&mut self, plan: &Plan) {
        for action in plan.actions() {
            let id = (action.target.resource.kind.to_string(), action.target.key.clone());
            match &action.verb {
                Verb::Create(body) => {
                    let mut body = body.clone();
                    body["metadata"]["namespace"] = id.1.namespace.to_string().into();
                    self.create(body);
                }
                Verb::Merge { patch, .. } => {
                    let mut object = self.objects.get(&id).unwrap_or_else(|| panic!("no {id:?}")).clone();
                    let mut patch = patch.clone();
                    // Earlier writes of the same plan are the plan's own.
                    if let Some(meta) = patch.get_mut("metadata").and_then(Value::as_object_mut) {
                        meta.remove("resourceVersion");
                    }
                    if patch.get("spec").is_some() {
                        let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
                        object["metadata"]["generation"] = (generation + 1).into();
                    }
                    merge(&mut object, &patch);
                    let ended = !object["metadata"]["deletionTimestamp"].is_null();
                    self.put(object);
                    if ended {
                        self.remove(&id);
                    }
                }
                Verb::Delete { uid, .. } => {
                    let found = self.objects.get(&id).map(|o| o["metadata"]["uid"].clone());
                    assert!(found.is_none_or(|found| found == uid.as_str()), "another {id:?}");
                    self.remove(&id);
                }
                other => panic!("{other:?}"),
            }
        }
        self.events
            .extend(plan.events.iter().map(|e| format!("{} {}", e.reason, e.message)));
        if let Some(due) = plan.requeue_at {
            self.due = Some(self.due.map_or(due, |set| set.min(due)));
        }
    }

    /// One turn for each object of that kind; true if anything was written.
    pub fn reconcile(&mut self, kind: &str, reconcile: Reconcile) -> bool {
        let keys: Vec<Key> = self
            .objects
            .keys()
            .filter(|(k, _)| k == kind)
            .map(|(_, key)| key.clone())
            .collect();
        let mut changed = false;
        for key in keys {
            let plan = reconcile(&key, self.scene.world(), &Turn::at(self.now));
            changed |= !plan.is_settled();
            self.carry_out(&plan);
        }
        changed
    }

    /// Lets everybody act until nobody writes; `node` does one thing on the node and says whether it did.
    pub fn settle(
        &mut self,
        actors: &[(&str, Reconcile)],
        mut node: impl FnMut(&mut Self) -> bool,
        mut check: impl FnMut(&Self),
    ) {
        for _ in 0..TURNS_LIMIT {
            self.due = None;
            let mut changed = false;
            for (kind, reconcile) in actors {
                changed |= self.reconcile(kind, *reconcile);
                check(self);
            }
            changed |= node(self);
            check(self);
            if !changed {
                return;
            }
        }
        panic!("never settles: {:#?}", self.objects.values().collect::<Vec<_>>());
    }

    /// The first pod that this picks.
    pub fn pod(&self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        self.all("Pod").find(|pod| wanted(pod)).cloned()
    }

    /// Ends what is to end; true if there was something.
    pub fn end_one(&mut self) -> bool {
        let ending = |pod: &Value| !pod["metadata"]["deletionTimestamp"].is_null() && !is_over(pod);
        let Some(mut pod) = self.pod(ending) else { return false };
        pod["status"]["phase"] = "Failed".into();
        let id = id(&pod);
        self.put(pod);
        self.remove(&id);
        true
    }

    /// Makes one waiting pod run and be ready; true if there was one.
    pub fn start_one(&mut self, willing: impl Fn(&Value) -> bool) -> bool {
        let waiting = |pod: &Value| {
            pod["status"]["phase"].as_str().is_none_or(|p| p == "Pending")
                && pod["metadata"]["deletionTimestamp"].is_null()
                && willing(pod)
        };
        let Some(mut pod) = self.pod(waiting) else { return false };
        if pod["spec"]["nodeName"].is_null() {
            pod["spec"]["nodeName"] = "a".into();
        }
        let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": self.now.to_string()});
        pod["status"] = json!({"phase": "Running", "conditions": [ready]});
        self.put(pod);
        true
    }

    /// Ends a pod with that exit code.
    pub fn exit(&mut self, mut pod: Value, code: i32) {
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        let ended = json!({"exitCode": code, "finishedAt": self.now.to_string()});
        if pod["spec"]["nodeName"].is_null() {
            pod["spec"]["nodeName"] = "a".into();
        }
        pod["status"] = json!({"phase": phase, "containerStatuses": [{"name": "c", "image": "i", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"terminated": ended}}]});
        self.put(pod);
    }
}

pub fn is_over(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn id(object: &Value) -> (String, Key) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (
        object["kind"].as_str().unwrap().to_owned(),
        Key::new(&text("namespace"), &text("name")),
    )
}

/// RFC 7396.
pub fn merge(doc: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *doc = patch.clone();
        return;
    };
    if !doc.is_object() {
        *doc = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            doc.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut doc[name], value);
        }
    }
}
