//! Jobs in a simulated world: each test says how pods end, and reads what became of the Job.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    clock::after_seconds,
    simulation::{Simulation, is_over},
};

fn job(spec: Value) -> Value {
    let mut job = json!({"kind": "Job", "apiVersion": "batch/v1", "metadata": {"name": "j", "namespace": "n", "uid": "j"},
        "spec": {"selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "j"}}, "template": {
            "metadata": {"labels": {"batch.kubernetes.io/controller-uid": "j", NAME_LABEL: "j"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    crate::simulation::merge(&mut job["spec"], &spec);
    job
}

fn world(spec: Value) -> Simulation {
    Simulation::of([job(spec)])
}

/// Settles; `code` says how a pod ends, `None` that it goes on.
fn run(world: &mut Simulation, code: impl Fn(&Value) -> Option<i32>) {
    let most = usize::MAX;
    run_checked(world, code, most);
}

fn run_checked(world: &mut Simulation, code: impl Fn(&Value) -> Option<i32>, most: usize) {
    let node = |world: &mut Simulation| {
        let open = |pod: &Value| !is_over(pod) && pod["metadata"]["deletionTimestamp"].is_null();
        if let Some(pod) = world.pod(|pod| open(pod) && code(pod).is_some()) {
            let code = code(&pod).unwrap();
            world.exit(pod, code);
            return true;
        }
        world.start_one(|_| true) || world.end_one()
    };
    world.settle(&[("Job", reconcile)], node, |world| {
        let active = world
            .all("Pod")
            .filter(|p| !is_over(p) && p["metadata"]["deletionTimestamp"].is_null());
        assert!(active.count() <= most, "more pods than may run side by side");
    });
}

fn status(world: &Simulation) -> Value {
    world.get("Job", "j")["status"].clone()
}

fn conditions(world: &Simulation) -> Vec<String> {
    let status = status(world);
    let all = status["conditions"].as_array().cloned().unwrap_or_default();
    all.iter()
        .filter(|c| c["status"] == "True")
        .map(|c| format!("{}/{}", c["type"].as_str().unwrap(), c["reason"].as_str().unwrap()))
        .collect()
}

fn index(pod: &Value) -> i32 {
    pod["metadata"]["annotations"][subject::INDEX]
        .as_str()
        .map_or(-1, |i| i.parse().unwrap())
}

fn held(world: &Simulation) -> usize {
    world
        .all("Pod")
        .filter(|p| !p["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty))
        .count()
}

#[test]
fn a_job_runs_to_its_completions_and_counts_each_pod_once() {
    let mut world = world(json!({"completions": 7, "parallelism": 3}));
    run_checked(&mut world, |_| Some(0), 3);
    let status = status(&world);
    assert_eq!(
        (&status["succeeded"], &status["ready"], &status["terminating"]),
        (&json!(7), &json!(0), &json!(0))
    );
    assert_eq!(status["uncountedTerminatedPods"], json!({}));
    assert!(status["completionTime"].is_string() && status["startTime"].is_string());
    assert_eq!(
        conditions(&world),
        ["SuccessCriteriaMet/CompletionsReached", "Complete/CompletionsReached"]
    );
    assert_eq!(held(&world), 0);
    assert_eq!(world.names("Pod").len(), 7);
}

#[test]
fn indexes_are_given_out_once_each_and_told_to_the_pod() {
    let mut world = world(json!({"completions": 5, "parallelism": 2, "completionMode": "Indexed"}));
    run_checked(&mut world, |_| Some(0), 2);
    let status = status(&world);
    assert_eq!(
        (&status["completedIndexes"], &status["succeeded"]),
        (&json!("0-4"), &json!(5))
    );
    let pod = world.pod(|pod| index(pod) == 3).unwrap();
    assert_eq!(pod["spec"]["hostname"], "j-3");
    let env = &pod["spec"]["containers"][0]["env"][0];
    assert_eq!(
        env["valueFrom"]["fieldRef"]["fieldPath"],
        "metadata.labels['batch.kubernetes.io/job-completion-index']"
    );
    assert!(pod["metadata"]["name"].as_str().unwrap().starts_with("j-3-"));
}

#[test]
fn failures_pause_and_then_exhaust_the_limit() {
    let mut world = world(json!({"backoffLimit": 2}));
    for wait in [10, 20] {
        let begun = world.now;
        run(&mut world, |_| Some(1));
        assert!(conditions(&world).is_empty());
        assert_eq!(world.due, Some(after_seconds(begun, wait)));
        world.now = world.due.unwrap();
    }
    run(&mut world, |_| Some(1));
    assert_eq!(
        conditions(&world),
        ["FailureTarget/BackoffLimitExceeded", "Failed/BackoffLimitExceeded"]
    );
    assert_eq!((status(&world)["failed"].as_i64(), held(&world)), (Some(3), 0));
    assert!(
        world
            .events
            .contains(&"BackoffLimitExceeded Job has reached the specified backoff limit".to_owned())
    );
}

#[test]
fn a_deadline_ends_what_runs_and_counts_it_as_failed() {
    let mut world = world(json!({"activeDeadlineSeconds": 30, "parallelism": 2, "completions": 2}));
    run(&mut world, |_| None);
    assert_eq!(
        (status(&world)["active"].as_i64(), status(&world)["ready"].as_i64()),
        (Some(2), Some(2))
    );
    world.now = world.due.expect("the deadline");
    run(&mut world, |_| None);
    assert_eq!(
        conditions(&world),
        ["FailureTarget/DeadlineExceeded", "Failed/DeadlineExceeded"]
    );
    assert_eq!(
        (status(&world)["failed"].as_i64(), status(&world).get("active")),
        (Some(2), None)
    );
    assert!(world.names("Pod").is_empty());
}

#[test]
fn suspension_removes_pods_uncounted_and_resumption_starts_the_clock_anew() {
    let mut world = world(json!({"parallelism": 2, "completions": 2, "activeDeadlineSeconds": 100}));
    run(&mut world, |_| None);
    world.edit("Job", "j", |job| job["spec"]["suspend"] = true.into());
    run(&mut world, |_| None);
    assert_eq!(conditions(&world), ["Suspended/JobSuspended"]);
    assert!(world.names("Pod").is_empty());
    assert_eq!(
        (status(&world).get("failed"), status(&world).get("active")),
        (None, None)
    );
    world.now = after_seconds(world.now, 500);
    world.edit("Job", "j", |job| job["spec"]["suspend"] = false.into());
    run(&mut world, |_| Some(0));
    assert_eq!(
        conditions(&world),
        ["SuccessCriteriaMet/CompletionsReached", "Complete/CompletionsReached"]
    );
    assert_eq!(status(&world)["startTime"], world.now.to_string());
    assert!(world.events.iter().any(|e| e.starts_with("Resumed")));
}

#[test]
fn each_index_has_tries_of_its_own() {
    let mut world = world(json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed",
        "backoffLimitPerIndex": 1, "backoffLimit": 1000}));
    let code = |pod: &Value| Some(if index(pod) == 1 { 3 } else { 0 });
    run(&mut world, code);
    assert!(conditions(&world).is_empty());
    assert_eq!(held(&world), 1, "the failed pod remembers the tries of its index");
    world.now = world.due.expect("the index's own pause");
    run(&mut world, code);
    assert_eq!(
        conditions(&world),
        ["FailureTarget/FailedIndexes", "Failed/FailedIndexes"]
    );
    let status = status(&world);
    assert_eq!(
        (&status["failedIndexes"], &status["completedIndexes"]),
        (&json!("1"), &json!("0,2"))
    );
    assert_eq!(
        (status["failed"].as_i64(), status["succeeded"].as_i64(), held(&world)),
        (Some(2), Some(2), 0)
    );
}

#[test]
fn a_failure_policy_fails_the_job_at_once_and_ignores_disruptions() {
    let rules = json!([
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [9]}},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
    ]);
    let mut first = world(json!({"podFailurePolicy": {"rules": rules}, "backoffLimit": 0}));
    run(&mut first, |_| Some(9));
    assert_eq!(
        (conditions(&first).len(), status(&first).get("failed"), held(&first)),
        (0, None, 0)
    );
    let mut second = world(json!({"podFailurePolicy": {"rules": rules}, "parallelism": 2, "completions": 2}));
    run(&mut second, |pod| {
        pod["metadata"]["name"].as_str().unwrap().ends_with('4').then_some(42)
    });
    run(&mut second, |_| Some(42));
    assert_eq!(
        conditions(&second),
        ["FailureTarget/PodFailurePolicy", "Failed/PodFailurePolicy"]
    );
}

#[test]
fn a_success_policy_ends_the_job_before_all_is_done() {
    let mut world = world(json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed",
        "successPolicy": {"rules": [{"succeededIndexes": "0,2", "succeededCount": 1}]}}));
    run(&mut world, |pod| (index(pod) == 2).then_some(0));
    assert_eq!(
        conditions(&world),
        ["SuccessCriteriaMet/SuccessPolicy", "Complete/SuccessPolicy"]
    );
    assert_eq!(status(&world)["completedIndexes"], "2");
}

#[test]
fn pods_whose_job_is_gone_are_let_go() {
    let mut world = world(json!({}));
    run(&mut world, |_| None);
    let pod = world.names("Pod")[0].to_owned();
    world.delete("Job", "j");
    world.delete("Pod", &pod);
    let plan = reconcile(&Key::new("n", "j"), world.scene.world(), &Turn::at(world.now));
    assert!(matches!(&plan.guards[..], [Guard::Absent(_, uid)] if uid == "j"));
    world.carry_out(&plan);
    world.end_one();
    assert!(world.names("Pod").is_empty());
}

/// A Job whose pods say nothing of it but who controls them.
fn by_hand(name: &str) -> Value {
    let mut job = job(json!({"manualSelector": true}));
    job["metadata"] = json!({"name": name, "namespace": "n", "uid": name});
    let labels = json!({"mine": "x"});
    job["spec"]["selector"] = json!({"matchLabels": labels});
    job["spec"]["template"]["metadata"] = json!({"labels": labels});
    job
}

/// A Job by hand with one pod, whose name that is.
fn running_by_hand() -> (Simulation, String) {
    let mut world = Simulation::of([by_hand("j")]);
    run(&mut world, |_| None);
    let pod = world.names("Pod")[0].to_owned();
    (world, pod)
}

/// Does what a controller does that starts and sees the pod.
fn seen(world: &mut Simulation, pod: &str) {
    let known = world.scene.world();
    let change = Change {
        old: None,
        new: known.pods.get(&Key::new("n", pod)),
    };
    let mut keys = Vec::new();
    of_pod(&change, known, &mut keys);
    for key in keys {
        let plan = reconcile(&key, world.scene.world(), &Turn::at(world.now));
        world.carry_out(&plan);
    }
}

#[test]
fn pods_without_the_name_of_their_job_are_let_go_too() {
    let (mut world, pod) = running_by_hand();
    world.delete("Job", "j");
    world.delete("Pod", &pod);
    seen(&mut world, &pod);
    world.end_one();
    assert!(world.names("Pod").is_empty());

    // Another Job of that name does not count them as its own.
    let (mut world, pod) = running_by_hand();
    world.delete("Job", "j");
    let mut another = by_hand("j");
    another["metadata"]["uid"] = "another".into();
    world.create(another);
    seen(&mut world, &pod);
    assert!(
        world.get("Pod", &pod)["metadata"]["finalizers"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn an_orphan_without_the_name_of_its_job_is_let_go_unless_another_picks_it() {
    for other in [None, Some(by_hand("k"))] {
        let (mut world, pod) = running_by_hand();
        world.edit("Pod", &pod, |pod| pod["metadata"]["ownerReferences"] = json!([]));
        world.delete("Job", "j");
        let adopts = other.is_some();
        other.into_iter().for_each(|job| world.create(job));
        seen(&mut world, &pod);
        assert_eq!(held(&world), usize::from(adopts));
        assert_eq!(
            world.get("Pod", &pod)["metadata"]["ownerReferences"][0]["name"] == "k",
            adopts
        );
    }
}

#[test]
fn another_manager_is_left_alone_and_deletion_creates_nothing() {
    let mut other = world(json!({"managedBy": "example.com/other"}));
    run(&mut other, |_| Some(0));
    assert!(other.names("Pod").is_empty() && status(&other).is_null());
    let mut ending = job(json!({}));
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    ending["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
    let mut ending = Simulation::of([ending]);
    run(&mut ending, |_| Some(0));
    assert!(ending.names("Pod").is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn every_job_ends_with_right_numbers(
        completions in 1..9_i32, parallelism in 1..6_i32, indexed in any::<bool>(), codes in prop::collection::vec(0..3_i32, 1..12),
    ) {
        let mode = if indexed { "Indexed" } else { "NonIndexed" };
        let mut world = world(json!({"completions": completions, "parallelism": parallelism, "completionMode": mode, "backoffLimit": 4}));
        let code = |pod: &Value| {
            let serial: usize = pod["metadata"]["name"].as_str().unwrap().rsplit('-').next().unwrap().parse().unwrap();
            Some(codes[serial % codes.len()].min(1))
        };
        for _ in 0..30 {
            run_checked(&mut world, code, usize::try_from(parallelism).unwrap());
            match world.due { Some(due) => world.now = due, None => break }
        }
        let phase = |wanted: &str| world.all("Pod").filter(|p| p["status"]["phase"] == wanted).count() as i64;
        let status = status(&world);
        prop_assert_eq!(held(&world), 0);
        prop_assert_eq!(status["uncountedTerminatedPods"].clone(), json!({}));
        prop_assert_eq!(status["succeeded"].as_i64().unwrap_or(0), phase("Succeeded"));
        // Pods that ran when the Job failed are gone, and count.
        prop_assert!(status["failed"].as_i64().unwrap_or(0) >= phase("Failed"));
        let over: Vec<String> = conditions(&world);
        prop_assert_eq!(over.len(), 2, "{:?}", over);
    }
}
