//! A simulated world: the plans of the Deployment and ReplicaSet reconcilers are carried out on objects in memory, and a
//! simulated node makes pods ready. Laws are checked after each step.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    plan::Verb,
    replicaset,
    scene::{Scene, now},
};

struct Simulation {
    scene: Scene,
    serial: u64,
    now: jiff::Timestamp,
}

fn deployment(replicas: i32, image: &str, strategy: Value) -> Value {
    json!({"kind": "Deployment", "apiVersion": "apps/v1",
        "metadata": {"name": "web", "namespace": "n", "uid": "web", "generation": 1, "annotations": {"note": "mine"}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "strategy": strategy,
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}}})
}

fn rolling(surge: Value, unavailable: Value) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}

impl Simulation {
    fn of(deployment: Value) -> Self {
        Self {
            scene: Scene::default().with(deployment),
            serial: 0,
            now: now(),
        }
    }

    fn world(&self) -> &World {
        self.scene.world()
    }

    fn deployment(&self) -> Deployment {
        (*self.world().deployments.get(&Key::new("n", "web")).unwrap()).clone()
    }

    fn pods(&self) -> Vec<Arc<Pod>> {
        self.world()
            .pods
            .all()
            .into_iter()
            .filter(|pod| pods::is_active(pod))
            .collect()
    }

    fn available(&self) -> usize {
        self.pods().iter().filter(|pod| pods::is_ready(pod)).count()
    }

    /// Changes the Deployment as a user would.
    fn edit(&self, change: impl FnOnce(&mut Value)) {
        let mut d = merge::value(&self.deployment());
        change(&mut d);
        d["metadata"]["generation"] = (d["metadata"]["generation"].as_i64().unwrap() + 1).into();
        self.scene.put(d);
    }

    fn carry_out(&mut self, plan: &Plan) {
        for action in plan.actions() {
            self.serial += 1;
            let (kind, key) = (&*action.target.resource.kind, &action.target.key);
            match &action.verb {
                Verb::Create(body) => {
                    let mut body = body.clone();
                    let meta = &mut body["metadata"];
                    if let Some(prefix) = meta["generateName"].as_str() {
                        meta["name"] = format!("{prefix}{}", self.serial).into();
                    }
                    meta["namespace"] = "n".into();
                    meta["uid"] = format!("uid-{}", self.serial).into();
                    meta["generation"] = 1.into();
                    meta["creationTimestamp"] = crate::clock::after_seconds(self.now, self.serial as i64)
                        .to_string()
                        .into();
                    self.scene.put(body);
                }
                Verb::Merge { patch, .. } => {
                    let mut object = match kind {
                        "Deployment" => merge::value(&*self.world().deployments.get(key).unwrap()),
                        "ReplicaSet" => merge::value(&*self.world().replica_sets.get(key).unwrap()),
                        "Pod" => merge::value(&*self.world().pods.get(key).unwrap()),
                        other => panic!("{other}"),
                    };
                    if patch.get("spec").is_some() {
                        object["metadata"]["generation"] =
                            (object["metadata"]["generation"].as_i64().unwrap() + 1).into();
                    }
                    apply(&mut object, patch);
                    self.scene.put(object);
                }
                Verb::Delete { .. } if kind == "Pod" => {
                    let pod = self.world().pods.get(key).unwrap();
                    self.scene.remove(|i| &i.pods, &*pod);
                }
                Verb::Delete { .. } => {
                    let set = self.world().replica_sets.get(key).unwrap();
                    self.scene.remove(|i| &i.replica_sets, &*set);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn reconcile_deployment(&mut self) -> bool {
        let plan = reconcile(&Key::new("n", "web"), self.world(), &Turn::at(self.now));
        self.carry_out(&plan);
        !plan.is_settled()
    }

    fn reconcile_sets(&mut self) -> bool {
        let mut changed = false;
        for set in self.world().replica_sets.all() {
            let plan = replicaset::reconcile(&Key::of(&set.metadata), self.world(), &Turn::at(self.now));
            changed |= !plan.is_settled();
            self.carry_out(&plan);
        }
        changed
    }

    /// Makes one pod ready that is not; false if there is none.
    fn ready_one(&self, image_fails: Option<&str>) -> bool {
        let waiting = self.pods().into_iter().filter(|pod| !pods::is_ready(pod));
        let image = |pod: &Pod| pod.spec.as_ref().and_then(|s| s.containers.first()?.image.clone());
        let Some(pod) = waiting
            .filter(|pod| image(pod).as_deref() != image_fails)
            .min_by_key(|p| p.metadata.name.clone())
        else {
            return false;
        };
        let mut pod = merge::value(&*pod);
        pod["spec"]["nodeName"] = "a".into();
        pod["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": self.now.to_string()}]});
        self.scene.put(pod);
        true
    }

    /// Lets everybody act until nobody has anything to do.
    fn settle(&mut self, image_fails: Option<&str>, mut check: impl FnMut(&Self)) {
        for _ in 0..2000 {
            let mut changed = self.reconcile_deployment();
            check(self);
            changed |= self.reconcile_sets();
            check(self);
            changed |= self.ready_one(image_fails);
            check(self);
            if !changed {
                return;
            }
        }
        panic!("never settles: {:#?}", self.deployment().status);
    }

    fn sizes(&self) -> BTreeMap<String, i32> {
        let image = |rs: &ReplicaSet| {
            rs.spec
                .as_ref()?
                .template
                .as_ref()?
                .spec
                .as_ref()?
                .containers
                .first()?
                .image
                .clone()
        };
        self.world()
            .replica_sets
            .all()
            .iter()
            .map(|rs| (image(rs).unwrap(), replicas(rs)))
            .collect()
    }

    fn condition(&self, type_: &str) -> Option<(String, String)> {
        let status = self.deployment().status?;
        let condition = status.conditions?.into_iter().find(|c| c.type_ == type_)?;
        Some((condition.status, condition.reason.unwrap_or_default()))
    }
}

fn apply(doc: &mut Value, patch: &Value) {
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
            apply(&mut doc[name], value);
        }
    }
}

fn set_image(d: &mut Value, image: &str) {
    d["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
}

#[test]
fn a_new_deployment_comes_up_and_says_so() {
    let mut world = Simulation::of(deployment(3, "a", rolling("25%".into(), "25%".into())));
    world.settle(None, |_| {});
    let d = world.deployment();
    let status = d.status.clone().unwrap();
    assert_eq!(
        (
            status.ready_replicas,
            status.updated_replicas,
            status.observed_generation
        ),
        (Some(3), Some(3), Some(1))
    );
    assert_eq!(
        world.condition("Available"),
        Some(("True".into(), "MinimumReplicasAvailable".into()))
    );
    assert_eq!(
        world.condition("Progressing"),
        Some(("True".into(), "NewReplicaSetAvailable".into()))
    );
    assert_eq!(d.metadata.annotations.as_ref().unwrap()[REVISION], "1");
    let rs = world.world().replica_sets.all().pop().unwrap();
    let annotations = rs.metadata.annotations.as_ref().unwrap();
    assert_eq!(
        (annotations["note"].as_str(), annotations[DESIRED].as_str()),
        ("mine", "3")
    );
    let pod = world.pods().pop().unwrap();
    assert_eq!(
        pod.metadata.labels.as_ref().unwrap()[HASH_LABEL],
        rs.metadata.labels.as_ref().unwrap()[HASH_LABEL]
    );
    assert_eq!(
        owner::controller_key(&pod.metadata, &REPLICA_SETS),
        Some(Key::of(&rs.metadata))
    );
}

#[test]
fn undo_brings_the_old_set_back_under_a_new_number() {
    let mut world = Simulation::of(deployment(2, "a", rolling(1.into(), 0.into())));
    world.settle(None, |_| {});
    world.edit(|d| set_image(d, "b"));
    world.settle(None, |_| {});
    assert_eq!(world.sizes(), BTreeMap::from([("a".into(), 0), ("b".into(), 2)]));
    world.edit(|d| set_image(d, "a"));
    world.settle(None, |_| {});
    assert_eq!(world.sizes(), BTreeMap::from([("a".into(), 2), ("b".into(), 0)]));
    assert_eq!(world.deployment().metadata.annotations.unwrap()[REVISION], "3");
}

#[test]
fn a_paused_deployment_scales_and_does_not_roll() {
    let mut world = Simulation::of(deployment(2, "a", rolling(1.into(), 0.into())));
    world.settle(None, |_| {});
    world.edit(|d| {
        d["spec"]["paused"] = true.into();
        d["spec"]["replicas"] = 4.into();
        set_image(d, "b");
    });
    world.settle(None, |_| {});
    assert_eq!(world.sizes(), BTreeMap::from([("a".into(), 4)]));
    assert_eq!(
        world.condition("Progressing"),
        Some(("Unknown".into(), "DeploymentPaused".into()))
    );
    world.edit(|d| d["spec"]["paused"] = false.into());
    world.settle(None, |_| {});
    assert_eq!(world.sizes()["b"], 4);
    assert_eq!(
        world.condition("Progressing"),
        Some(("True".into(), "NewReplicaSetAvailable".into()))
    );
}

#[test]
fn recreate_never_runs_two_templates_at_once() {
    let mut world = Simulation::of(deployment(3, "a", json!({"type": "Recreate"})));
    world.settle(None, |_| {});
    world.edit(|d| set_image(d, "b"));
    world.settle(None, |world| {
        let images: std::collections::BTreeSet<_> = world
            .pods()
            .iter()
            .map(|p| p.spec.as_ref().unwrap().containers[0].image.clone())
            .collect();
        assert!(images.len() <= 1, "{images:?}");
    });
    assert_eq!(world.sizes(), BTreeMap::from([("a".into(), 0), ("b".into(), 3)]));
}

#[test]
fn a_rollout_that_is_stuck_keeps_the_old_pods_and_times_out() {
    let mut world = Simulation::of(deployment(4, "a", rolling(1.into(), 1.into())));
    world.settle(None, |_| {});
    world.edit(|d| set_image(d, "broken"));
    world.settle(Some("broken"), |world| assert!(world.available() >= 3));
    assert_eq!(world.condition("Progressing").unwrap().0, "True");
    let plan = reconcile(&Key::new("n", "web"), world.world(), &Turn::at(world.now));
    world.now = plan.requeue_at.expect("a deadline");
    world.settle(Some("broken"), |_| {});
    assert_eq!(
        world.condition("Progressing"),
        Some(("False".into(), "ProgressDeadlineExceeded".into()))
    );
    world.edit(|d| set_image(d, "a"));
    world.settle(None, |_| {});
    assert_eq!(
        world.condition("Progressing"),
        Some(("True".into(), "NewReplicaSetAvailable".into()))
    );
}

#[test]
fn history_is_kept_to_its_limit() {
    let mut d = deployment(1, "v0", rolling(1.into(), 0.into()));
    d["spec"]["revisionHistoryLimit"] = 2.into();
    let mut world = Simulation::of(d);
    for version in 1..6 {
        world.settle(None, |_| {});
        world.edit(|d| set_image(d, &format!("v{version}")));
    }
    world.settle(None, |_| {});
    assert_eq!(world.sizes().into_keys().collect::<Vec<_>>(), ["v3", "v4", "v5"]);
}

#[test]
fn a_taken_name_is_avoided() {
    let mut world = Simulation::of(deployment(1, "a", rolling(1.into(), 0.into())));
    let name = format!("web-{}", revision::hash(&world.deployment().spec.unwrap().template, 0));
    world.scene.put(json!({"kind": "ReplicaSet", "metadata": {"name": name, "namespace": "n", "uid": "foreign", "generation": 1},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"x": "y"}}, "template": {"metadata": {"labels": {"x": "y"}},
            "spec": {"containers": [{"name": "c", "image": "z"}]}}}}));
    world.settle(None, |_| {});
    assert_eq!(world.deployment().status.unwrap().collision_count, Some(1));
    assert_eq!(world.sizes()["a"], 1);
}

#[test]
fn what_a_server_refuses_is_told_in_the_status() {
    let world = Simulation::of(deployment(1, "a", rolling(1.into(), 0.into())));
    let failure = crate::driver::Failure {
        creating: true,
        code: 403,
        message: "quota".into(),
    };
    let turn = Turn {
        failure: Some(&failure),
        ..Turn::at(world.now)
    };
    let plan = reconcile(&Key::new("n", "web"), world.world(), &turn);
    let Verb::Merge { patch, .. } = &plan.reports[0].verb else {
        panic!("{plan:?}")
    };
    assert!(patch.to_string().contains("ReplicaSetCreateError"), "{patch}");
}

fn amount() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0..4_i32).prop_map(Value::from),
        (0..100_i32).prop_map(|p| format!("{p}%").into())
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_rollout_ends_and_never_leaves_its_bounds(
        replicas in 1..12_i32, surge in amount(), unavailable in amount(), steps in prop::collection::vec((0..3_u8, 1..12_i32), 1..4),
    ) {
        let mut world = Simulation::of(deployment(replicas, "v0", rolling(surge, unavailable)));
        world.settle(None, |_| {});
        let mut most = Bounds::of(&world.deployment()).maximum();
        for (i, (what, size)) in steps.into_iter().enumerate() {
            let resized = what == 1;
            world.edit(|d| {
                if resized { d["spec"]["replicas"] = size.into() } else { set_image(d, &format!("v{}", i + 1)) }
            });
            let bounds = Bounds::of(&world.deployment());
            let limit = most.max(bounds.maximum());
            world.settle(None, |world| {
                assert!(world.pods().len() <= usize::try_from(limit).unwrap(), "more pods than surge allows");
                assert!(resized || world.available() >= usize::try_from(bounds.minimum()).unwrap(), "fewer available than promised");
            });
            most = bounds.maximum();
            let wanted = world.deployment().spec.unwrap().replicas.unwrap();
            prop_assert_eq!(world.available(), usize::try_from(wanted).unwrap());
            prop_assert_eq!(world.sizes().values().filter(|size| **size > 0).count(), 1);
        }
    }
}
