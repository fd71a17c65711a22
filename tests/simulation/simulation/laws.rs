//! What must never happen, whatever goes wrong. The laws see each write of the objects that matter, in order and before
//! anybody else, so they judge what is and not what a cache believes.
//!
//! A controller acts on what it last saw. Where a law compares what it did with what it was told to do, the law therefore
//! takes the most lenient of what was told in the last [`LAG`], and counts what others took away in that time.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde_json::Value;

use crate::{
    autoscalers, crons,
    ledger::{Asked, Change, Objects},
    volumes,
};

/// How long a part may not know of what happened: it was away, its watch stood still, its last attempts failed.
const LAG: Duration = Duration::from_secs(90);

/// What a workload was told, and what became of its pods, in the last [`LAG`] and the word before.
#[derive(Default)]
struct Past {
    told: VecDeque<(Duration, Told)>,
    /// When pods were lost that were ready, other than by their own controller.
    lost: VecDeque<Duration>,
}

/// What a workload is told about its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    /// Pods there may be at most.
    most: i64,
    /// Pods that have to be ready at least.
    least: i64,
}

impl Past {
    fn tell(&mut self, at: Duration, told: Told) {
        if self.told.back().is_none_or(|(_, last)| *last != told) {
            self.told.push_back((at, told));
        }
    }

    fn forget(&mut self, at: Duration) {
        let old = at.saturating_sub(LAG);
        // What was said before the time began still held when it began.
        while self.told.get(1).is_some_and(|(when, _)| *when < old) {
            self.told.pop_front();
        }
        self.lost.retain(|when| *when >= old);
    }

    fn most(&self) -> i64 {
        self.told.iter().map(|(_, told)| told.most).max().unwrap_or(i64::MAX)
    }

    fn least(&self) -> i64 {
        let least = self.told.iter().map(|(_, told)| told.least).min().unwrap_or(0);
        least - self.lost.len() as i64
    }
}

#[derive(Default)]
pub struct Laws {
    /// By uid.
    pasts: BTreeMap<String, Past>,
}

impl Laws {
    /// Adds to `broken` each law that the change breaks; `objects` are those after it.
    pub fn judge(&mut self, change: &Change<'_>, objects: &Objects, asked: &Asked, broken: &mut Vec<String>) {
        let resource = change.key.split('/').next().unwrap_or_default();
        if resource == "pods" {
            self.pod(change, objects, asked, broken);
            return;
        }
        let other = match resource {
            "replicasets.apps" => self.replica_set(change, objects),
            "jobs.batch" => crons::judge(change, objects),
            "horizontalpodautoscalers.autoscaling" => autoscalers::judge(change),
            "persistentvolumeclaims" => volumes::judge_claim(change, objects),
            "persistentvolumes" => volumes::judge_volume(change),
            _ => Ok(()),
        };
        broken.extend(other.err());
        if let Some(told) = change.after.and_then(|object| told(resource, object)) {
            self.past(change.after, change.at).tell(change.at, told);
        }
    }

    fn past(&mut self, object: Option<&Value>, at: Duration) -> &mut Past {
        let uid = object.map(|object| text(object, "/metadata/uid")).unwrap_or_default();
        let past = self.pasts.entry(uid.to_owned()).or_default();
        past.forget(at);
        past
    }

    /// A set is not made larger than its Deployment's surge allows. What counts is what the sets are asked to be.
    fn replica_set(&mut self, change: &Change<'_>, objects: &Objects) -> Result<(), String> {
        let size = |set: Option<&Value>| set.map_or(0, |set| number(set, "/spec/replicas"));
        let Some(owner) = change.after.and_then(|set| find_controller(set, objects)) else {
            return Ok(());
        };
        if size(change.after) <= size(change.before.as_ref()) {
            return Ok(());
        }
        let uid = text(owner, "/metadata/uid");
        let sets = of("replicasets.apps", objects).filter(|(_, set)| is_owned(set, uid));
        let sum: i64 = sets.map(|(_, set)| number(set, "/spec/replicas")).sum();
        let most = self.past(Some(owner), change.at).most();
        match sum > most {
            true => Err(format!(
                "with {} the sets ask for {sum} pods, of {most} at most",
                change.key
            )),
            false => Ok(()),
        }
    }

    fn pod(&mut self, change: &Change<'_>, objects: &Objects, asked: &Asked, broken: &mut Vec<String>) {
        let before = change.before.as_ref();
        let mut check = |law: Result<(), String>| broken.extend(law.err());
        if let Some(after) = change.after {
            check(bound_once(change, after));
            check(fits(change, after, objects));
            check(volumes::judge_pod(change, after, objects));
        }
        match (before, change.after) {
            (None, Some(pod)) => {
                check(ordinal_is_its_own(change.key, pod, objects));
                check(one_for_a_node(change.key, pod, objects));
                check(one_for_an_index(change.key, pod, objects));
                if let Some(owner) = find_controller(pod, objects) {
                    let most = self.past(Some(owner), change.at).most();
                    check(not_too_many(change.key, owner, most, objects));
                }
            }
            (Some(pod), None) => check(its_node_let_it_go(change.key, pod, objects, asked)),
            _ => {}
        }
        // Whatever makes a ready pod one that is not to be counted on any more.
        let Some(pod) = before.filter(|pod| is_up(pod)) else {
            return;
        };
        if change.after.is_some_and(is_up) {
            return;
        }
        let by = asked.deletions.get(change.key).map_or("", String::as_str);
        let goes = change.after.is_none_or(is_deleting);
        for owner in owners(pod, objects) {
            let is_deployment = text(owner, "/kind") == "Deployment";
            let past = self.past(Some(owner), change.at);
            if goes && by == "controllers" && is_deployment && is_kept(pod, objects) && !is_deleting(owner) {
                check(enough_are_ready(change.key, owner, past.least(), objects));
            } else {
                past.lost.push_back(change.at);
            }
        }
        for budget in budgets(pod, objects) {
            let past = self.past(Some(budget), change.at);
            if goes && by == "eviction" {
                check(the_budget_holds(change.key, budget, past.lost.len() as i64, objects));
            } else {
                past.lost.push_back(change.at);
            }
        }
    }
}

/// What an object of the kind is told about the number of its pods.
fn told(resource: &str, object: &Value) -> Option<Told> {
    let replicas = number(object, "/spec/replicas");
    match resource {
        "deployments.apps" => {
            let part = |name: &str, up: bool| {
                let value = object.pointer(&format!("/spec/strategy/rollingUpdate/{name}"));
                value.map_or(0, |value| part_of(value, replicas, up))
            };
            let (surge, mut away) = (part("maxSurge", true), part("maxUnavailable", false));
            if surge == 0 && away == 0 {
                away = 1;
            }
            let recreate = text(object, "/spec/strategy/type") == "Recreate";
            Some(Told {
                most: replicas + surge,
                least: if recreate { 0 } else { replicas - away },
            })
        }
        "replicasets.apps" | "statefulsets.apps" => Some(Told {
            most: replicas,
            least: 0,
        }),
        "jobs.batch" => Some(Told {
            most: number(object, "/spec/parallelism"),
            least: 0,
        }),
        _ => None,
    }
}

/// A number, or a percentage of `whole`.
pub fn part_of(value: &Value, whole: i64, up: bool) -> i64 {
    match value
        .as_str()
        .and_then(|text| text.strip_suffix('%')?.parse::<i64>().ok())
    {
        Some(percent) if up => (whole * percent + 99) / 100,
        Some(percent) => whole * percent / 100,
        None => value.as_i64().unwrap_or(0),
    }
}

fn bound_once(change: &Change<'_>, pod: &Value) -> Result<(), String> {
    let was = change
        .before
        .as_ref()
        .map(|before| text(before, "/spec/nodeName"))
        .unwrap_or_default();
    let is = text(pod, "/spec/nodeName");
    match was.is_empty() || was == is {
        true => Ok(()),
        false => Err(format!("{} was bound to {was} and is bound to {is}", change.key)),
    }
}

fn fits(change: &Change<'_>, pod: &Value, objects: &Objects) -> Result<(), String> {
    let node = text(pod, "/spec/nodeName");
    let was = change
        .before
        .as_ref()
        .map(|before| text(before, "/spec/nodeName"))
        .unwrap_or_default();
    if node.is_empty() || was == node {
        return Ok(());
    }
    let Some(found) = objects.get(&format!("nodes//{node}")) else {
        return Ok(());
    };
    let here = || pods(objects).filter(|(_, pod)| text(pod, "/spec/nodeName") == node && !is_over(pod));
    let (cpu, room) = (
        here().map(|(_, pod)| millicpu(pod)).sum::<i64>(),
        millis(found.pointer("/status/allocatable/cpu")),
    );
    if cpu > room {
        return Err(format!(
            "{} was bound to {node}, whose pods now ask for {cpu}m of {room}m",
            change.key
        ));
    }
    let (count, room) = (
        here().count() as i64,
        millis(found.pointer("/status/allocatable/pods")) / 1000,
    );
    if count > room {
        return Err(format!(
            "{} was bound to {node}, which now has {count} pods of {room}",
            change.key
        ));
    }
    Ok(())
}

/// Two pods of a set never have one ordinal. They have one name then, so the second would come while the first still runs:
/// see [`its_node_let_it_go`].
fn ordinal_is_its_own(key: &str, pod: &Value, objects: &Objects) -> Result<(), String> {
    let ordinal = |pod: &Value| text(pod, "/metadata/labels/apps.kubernetes.io~1pod-index").to_owned();
    let mine = ordinal(pod);
    let twin = controller(pod)
        .filter(|owner| text(owner, "/kind") == "StatefulSet")
        .and_then(|owner| {
            let uid = text(owner, "/uid");
            owned(uid, objects).find(|(other, pod)| *other != key && ordinal(pod) == mine)
        });
    twin.map_or(Ok(()), |(other, _)| Err(format!("{key} has the ordinal of {other}")))
}

fn one_for_a_node(key: &str, pod: &Value, objects: &Objects) -> Result<(), String> {
    let target = |pod: &Value| pod.pointer("/spec/affinity/nodeAffinity").map(Value::to_string);
    let Some(owner) = controller(pod).filter(|owner| text(owner, "/kind") == "DaemonSet") else {
        return Ok(());
    };
    let others =
        owned(text(owner, "/uid"), objects).filter(|(other, pod)| *other != key && !is_over(pod) && !is_deleting(pod));
    let same: Vec<_> = others
        .filter(|(_, other)| target(other) == target(pod))
        .map(|(other, _)| other)
        .collect();
    match same.is_empty() {
        true => Ok(()),
        false => Err(format!("{key} was made for a node that has {same:?} of the same set")),
    }
}

fn one_for_an_index(key: &str, pod: &Value, objects: &Objects) -> Result<(), String> {
    let index = |pod: &Value| text(pod, "/metadata/labels/batch.kubernetes.io~1job-completion-index").to_owned();
    let (Some(owner), false) = (controller(pod), index(pod).is_empty()) else {
        return Ok(());
    };
    let twin = owned(text(owner, "/uid"), objects)
        .find(|(other, twin)| *other != key && !is_over(twin) && !is_deleting(twin) && index(twin) == index(pod));
    twin.map_or(Ok(()), |(other, _)| {
        Err(format!("{key} was made for the index of {other}"))
    })
}

fn not_too_many(key: &str, owner: &Value, most: i64, objects: &Objects) -> Result<(), String> {
    // A StatefulSet fills its places before it takes away what is beyond them, so what counts is which place is filled.
    if text(owner, "/kind") == "StatefulSet" {
        let place = key.rsplit('-').next().and_then(|ordinal| ordinal.parse::<i64>().ok());
        return match place.is_some_and(|place| place < most) {
            true => Ok(()),
            false => Err(format!("{key} is made, and its set may have {most}")),
        };
    }
    let uid = text(owner, "/metadata/uid");
    let count = owned(uid, objects)
        .filter(|(_, pod)| !is_over(pod) && !is_deleting(pod))
        .count() as i64;
    match count > most {
        true => Err(format!(
            "{key} is pod {count} of {} {}, which may have {most}",
            text(owner, "/kind"),
            text(owner, "/metadata/name")
        )),
        false => Ok(()),
    }
}

fn enough_are_ready(key: &str, owner: &Value, least: i64, objects: &Objects) -> Result<(), String> {
    let uid = text(owner, "/metadata/uid");
    let count = below(uid, objects).filter(|(_, pod)| is_up(pod)).count() as i64;
    match count < least {
        true => Err(format!(
            "without {key} {count} pods of {} are ready, of {least} at least",
            text(owner, "/metadata/name")
        )),
        false => Ok(()),
    }
}

/// A pod that runs is gone only when its node says so, or is gone itself.
fn its_node_let_it_go(key: &str, pod: &Value, objects: &Objects, asked: &Asked) -> Result<(), String> {
    let node = text(pod, "/spec/nodeName");
    let runs = !node.is_empty() && !is_over(pod) && objects.contains_key(&format!("nodes//{node}"));
    let by = asked.deletions.get(key).map_or("nobody", String::as_str);
    match !runs || by == node {
        true => Ok(()),
        false => Err(format!("{key} ran on {node} and was taken away by {by}")),
    }
}

fn the_budget_holds(key: &str, budget: &Value, lost: i64, objects: &Objects) -> Result<(), String> {
    let namespace = text(budget, "/metadata/namespace");
    let app = text(budget, "/spec/selector/matchLabels/app");
    let up = of_app(namespace, app, objects).filter(|pod| is_up(pod)).count() as i64;
    let wanted = number(budget, "/status/expectedPods");
    let least = match (
        budget.pointer("/spec/minAvailable"),
        budget.pointer("/spec/maxUnavailable"),
    ) {
        (Some(least), _) => part_of(least, wanted, true),
        (_, Some(most)) => wanted - part_of(most, wanted, true),
        _ => 0,
    };
    match up < least - lost {
        true => Err(format!(
            "{key} was evicted: {up} healthy pods are left for budget {}, which wants {least}",
            text(budget, "/metadata/name")
        )),
        false => Ok(()),
    }
}

/// The pods of an app.
pub fn of_app<'a>(namespace: &'a str, app: &'a str, objects: &'a Objects) -> impl Iterator<Item = &'a Value> {
    let all = pods(objects).map(|(_, pod)| pod);
    all.filter(move |pod| text(pod, "/metadata/namespace") == namespace && text(pod, "/metadata/labels/app") == app)
}

/// Those of them that are not over.
pub fn sharing<'a>(namespace: &'a str, app: &'a str, objects: &'a Objects) -> impl Iterator<Item = &'a Value> {
    of_app(namespace, app, objects).filter(|pod| !is_over(pod))
}

pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

pub fn pods(objects: &Objects) -> impl Iterator<Item = (&str, &Value)> {
    of("pods", objects)
}

/// The objects of a resource.
pub fn of<'a>(resource: &str, objects: &'a Objects) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let (from, to) = (format!("{resource}/"), format!("{resource}0"));
    objects.range(from..to).map(|(key, object)| (key.as_str(), object))
}

/// The reference to the controller.
pub fn controller(object: &Value) -> Option<&Value> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)
}

fn is_owned(object: &Value, uid: &str) -> bool {
    controller(object).is_some_and(|owner| text(owner, "/uid") == uid)
}

/// The pods that the object with that uid controls.
pub fn owned<'a>(uid: &'a str, objects: &'a Objects) -> impl Iterator<Item = (&'a str, &'a Value)> {
    pods(objects).filter(move |(_, pod)| is_owned(pod, uid))
}

/// The pods that the object with that uid controls, by replica sets too.
pub fn below<'a>(uid: &'a str, objects: &'a Objects) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let sets: Vec<&str> = of("replicasets.apps", objects)
        .filter(|(_, set)| is_owned(set, uid))
        .map(|(_, set)| text(set, "/metadata/uid"))
        .collect();
    pods(objects).filter(move |(_, pod)| is_owned(pod, uid) || sets.iter().any(|set| is_owned(pod, set)))
}

/// The controller of a pod, and the controller of that.
fn owners<'a>(pod: &Value, objects: &'a Objects) -> Vec<&'a Value> {
    let mut found = Vec::new();
    let mut next = find_controller(pod, objects);
    while let Some(owner) = next {
        found.push(owner);
        next = find_controller(owner, objects);
    }
    found
}

fn find_controller<'a>(object: &Value, objects: &'a Objects) -> Option<&'a Value> {
    let reference = controller(object)?;
    let resource = match text(reference, "/kind") {
        "ReplicaSet" => "replicasets.apps",
        "Deployment" => "deployments.apps",
        "StatefulSet" => "statefulsets.apps",
        "Job" => "jobs.batch",
        _ => return None,
    };
    let key = format!(
        "{resource}/{}/{}",
        text(object, "/metadata/namespace"),
        text(reference, "/name")
    );
    objects
        .get(&key)
        .filter(|owner| text(owner, "/metadata/uid") == text(reference, "/uid"))
}

fn budgets<'a>(pod: &Value, objects: &'a Objects) -> Vec<&'a Value> {
    let app = text(pod, "/metadata/labels/app");
    let namespace = text(pod, "/metadata/namespace");
    of("poddisruptionbudgets.policy", objects)
        .map(|(_, budget)| budget)
        .filter(|budget| {
            text(budget, "/metadata/namespace") == namespace && text(budget, "/spec/selector/matchLabels/app") == app
        })
        .collect()
}

/// Whether nothing but its workload's own plans takes the pod away: its place lives on, and so do those who own it.
fn is_kept(pod: &Value, objects: &Objects) -> bool {
    let node = objects.get(&format!("nodes//{}", text(pod, "/spec/nodeName")));
    let evicts = |taint: &Value| text(taint, "/effect") == "NoExecute";
    let node_is_well = node.is_some_and(|node| {
        !is_deleting(node)
            && !node
                .pointer("/spec/taints")
                .and_then(Value::as_array)
                .is_some_and(|taints| taints.iter().any(evicts))
    });
    let namespace = objects.get(&format!("namespaces//{}", text(pod, "/metadata/namespace")));
    let owners = owners(pod, objects);
    node_is_well
        && namespace.is_some_and(|namespace| !is_deleting(namespace))
        && owners.len() == 2
        && !owners.iter().any(|owner| is_deleting(owner))
}

pub fn is_deleting(object: &Value) -> bool {
    object
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|at| !at.is_null())
}

pub fn is_over(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|condition| text(condition, "/type") == "Ready" && text(condition, "/status") == "True")
}

fn is_up(pod: &Value) -> bool {
    is_ready(pod) && !is_deleting(pod) && !is_over(pod)
}

/// What a pod asks for, in thousandths of a CPU.
pub fn millicpu(pod: &Value) -> i64 {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    containers
        .into_iter()
        .flatten()
        .map(|container| millis(container.pointer("/resources/requests/cpu")))
        .sum()
}

/// A quantity, in thousandths.
pub fn millis(quantity: Option<&Value>) -> i64 {
    let text = quantity.and_then(Value::as_str).unwrap_or_default();
    match text.strip_suffix('m') {
        Some(number) => number.parse().unwrap_or(0),
        None => text.parse::<i64>().unwrap_or(0) * 1000,
    }
}
