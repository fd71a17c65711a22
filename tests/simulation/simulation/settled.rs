//! What must be true once nothing goes wrong any more: the cluster is as its objects ask, and nothing is left of what went.

use std::collections::BTreeSet;

use coracle_store::Snapshot;
use serde_json::Value;

use crate::{
    autoscalers, crons,
    laws::{self, controller, is_deleting, is_over, is_ready, number, of, owned, part_of, pods, sharing, text},
    ledger::Objects,
    load::Loads,
    volumes,
};

/// What is still missing.
pub fn missing(objects: &Objects, snapshot: &Snapshot, loads: &Loads) -> Vec<String> {
    let mut missing = Vec::new();
    left_behind(snapshot, &mut missing);
    for (key, object) in objects {
        let resource = key.split('/').next().unwrap_or_default();
        let found = match resource {
            "deployments.apps" => deployment(object, objects),
            "statefulsets.apps" => stateful_set(object, objects),
            "replicasets.apps" => replica_set(object, objects),
            "daemonsets.apps" => daemon_set(object, objects),
            "jobs.batch" => job(object, objects),
            "horizontalpodautoscalers.autoscaling" if !is_hindered(object, objects) => {
                autoscalers::settled(object, objects, loads)
            }
            "cronjobs.batch" => crons::settled(object, objects),
            "persistentvolumeclaims" => volumes::claim_settled(object, objects),
            "persistentvolumes" => volumes::volume_settled(object, objects),
            "poddisruptionbudgets.policy" => budget(object, objects),
            "pods" => pod(object, objects),
            _ => Ok(()),
        };
        missing.extend(found.err().map(|what| format!("{key}: {what}")));
    }
    for record in snapshot.range("resourcequotas/", None) {
        missing.extend(quota(&serde_json::from_slice(&record.json).unwrap(), objects).err());
    }
    missing.extend(services(objects, snapshot));
    missing
}

/// Objects whose owners or namespaces are gone, and what is said to go and does not.
fn left_behind(snapshot: &Snapshot, missing: &mut Vec<String>) {
    let all = || snapshot.range("", None);
    let uids: BTreeSet<&str> = all().map(|record| record.header.uid.as_str()).collect();
    let namespaces: BTreeSet<&str> = all()
        .filter_map(|record| record.key.as_str().strip_prefix("namespaces//"))
        .collect();
    for record in all() {
        let owners = &record.header.owners;
        if !owners.is_empty() && !owners.iter().any(|owner| uids.contains(owner.as_str())) {
            missing.push(format!("{} outlives its owner", record.key));
        }
        let namespace = record.key.as_str().split('/').nth(1).unwrap_or_default();
        if !namespace.is_empty() && !namespaces.contains(namespace) {
            missing.push(format!("{} outlives its namespace", record.key));
        }
        if record.header.deleting {
            missing.push(format!("{} does not go", record.key));
        }
    }
}

fn same(what: &str, is: i64, wanted: i64) -> Result<(), String> {
    match is == wanted {
        true => Ok(()),
        false => Err(format!("{what} is {is} and should be {wanted}")),
    }
}

/// Pods of the namespace that no node has room for, and what a quota refuses, keep updates from going on.
fn is_hindered(object: &Value, objects: &Objects) -> bool {
    let namespace = text(object, "/metadata/namespace");
    pods(objects).any(|(_, pod)| {
        text(pod, "/metadata/namespace") == namespace && !is_over(pod) && text(pod, "/spec/nodeName").is_empty()
    })
}

fn deployment(object: &Value, objects: &Objects) -> Result<(), String> {
    same(
        "the generation",
        number(object, "/status/observedGeneration"),
        number(object, "/metadata/generation"),
    )?;
    if is_hindered(object, objects) {
        return Ok(());
    }
    let wanted = number(object, "/spec/replicas");
    for count in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
        same(count, number(object, &format!("/status/{count}")), wanted)?;
    }
    let (uid, version) = (text(object, "/metadata/uid"), version(object.pointer("/spec/template")));
    let pods: Vec<_> = laws::below(uid, objects).filter(|(_, pod)| !is_over(pod)).collect();
    same("the pods", pods.len() as i64, wanted)?;
    let old = pods.iter().find(|(_, pod)| self::version(Some(pod)) != version);
    old.map_or(Ok(()), |(key, _)| Err(format!("{key} is of another version")))
}

/// The annotation that users change to roll something.
fn version(template: Option<&Value>) -> &str {
    template.map_or("", |template| text(template, "/metadata/annotations/version"))
}

fn replica_set(object: &Value, objects: &Objects) -> Result<(), String> {
    let mine = owned(text(object, "/metadata/uid"), objects).filter(|(_, pod)| !is_over(pod) && !is_deleting(pod));
    let mine: Vec<&Value> = mine.map(|(_, pod)| pod).collect();
    same("the pods", mine.len() as i64, number(object, "/spec/replicas"))?;
    same("status.replicas", number(object, "/status/replicas"), mine.len() as i64)?;
    let ready = mine.iter().filter(|pod| is_ready(pod)).count() as i64;
    same("status.readyReplicas", number(object, "/status/readyReplicas"), ready)
}

fn stateful_set(object: &Value, objects: &Objects) -> Result<(), String> {
    same(
        "the generation",
        number(object, "/status/observedGeneration"),
        number(object, "/metadata/generation"),
    )?;
    if is_hindered(object, objects) {
        return Ok(());
    }
    let (wanted, name) = (number(object, "/spec/replicas"), text(object, "/metadata/name"));
    for count in ["replicas", "readyReplicas", "availableReplicas"] {
        same(count, number(object, &format!("/status/{count}")), wanted)?;
    }
    let is: BTreeSet<&str> = owned(text(object, "/metadata/uid"), objects)
        .map(|(_, pod)| text(pod, "/metadata/name"))
        .collect();
    let should: Vec<String> = (0..wanted).map(|ordinal| format!("{name}-{ordinal}")).collect();
    if is != should.iter().map(String::as_str).collect() {
        return Err(format!("the pods are {is:?}"));
    }
    let version = version(object.pointer("/spec/template"));
    let old = owned(text(object, "/metadata/uid"), objects).find(|(_, pod)| self::version(Some(pod)) != version);
    old.map_or(Ok(()), |(key, _)| Err(format!("{key} is of another version")))
}

fn daemon_set(object: &Value, objects: &Objects) -> Result<(), String> {
    same(
        "the generation",
        number(object, "/status/observedGeneration"),
        number(object, "/metadata/generation"),
    )?;
    if is_hindered(object, objects) {
        return Ok(());
    }
    let nodes: BTreeSet<&str> = of("nodes", objects)
        .map(|(_, node)| text(node, "/metadata/name"))
        .collect();
    let uid = text(object, "/metadata/uid");
    let mine: Vec<&Value> = owned(uid, objects)
        .map(|(_, pod)| pod)
        .filter(|pod| is_ready(pod))
        .collect();
    let on: BTreeSet<&str> = mine.iter().map(|pod| text(pod, "/spec/nodeName")).collect();
    if on != nodes || mine.len() != nodes.len() {
        return Err(format!("its ready pods are on {on:?}, {} in all", mine.len()));
    }
    for count in [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
    ] {
        same(count, number(object, &format!("/status/{count}")), nodes.len() as i64)?;
    }
    Ok(())
}

fn job(object: &Value, objects: &Objects) -> Result<(), String> {
    if is_hindered(object, objects) {
        return Ok(());
    }
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let ended = |kind: &str| {
        let is = |c: &Value| text(c, "/type") == kind && text(c, "/status") == "True";
        conditions.is_some_and(|conditions| conditions.iter().any(is))
    };
    if ended("Failed") {
        return Ok(());
    }
    if !ended("Complete") {
        return Err("it is not complete".to_owned());
    }
    same(
        "succeeded",
        number(object, "/status/succeeded"),
        number(object, "/spec/completions"),
    )?;
    same("active", number(object, "/status/active"), 0)
}

fn budget(object: &Value, objects: &Objects) -> Result<(), String> {
    same(
        "the generation",
        number(object, "/status/observedGeneration"),
        number(object, "/metadata/generation"),
    )?;
    let (namespace, app) = (
        text(object, "/metadata/namespace"),
        text(object, "/spec/selector/matchLabels/app"),
    );
    let healthy = sharing(namespace, app, objects).filter(|pod| is_ready(pod)).count() as i64;
    same("currentHealthy", number(object, "/status/currentHealthy"), healthy)?;
    let wanted = number(object, "/status/desiredHealthy");
    if let Some(least) = object.pointer("/spec/minAvailable") {
        same(
            "desiredHealthy",
            wanted,
            part_of(least, number(object, "/status/expectedPods"), true),
        )?;
    }
    same(
        "disruptionsAllowed",
        number(object, "/status/disruptionsAllowed"),
        (healthy - wanted).max(0),
    )
}

/// Each pod runs, is over, or has good reason to wait.
fn pod(object: &Value, objects: &Objects) -> Result<(), String> {
    if is_over(object) || is_ready(object) {
        return Ok(());
    }
    if !text(object, "/spec/nodeName").is_empty() {
        return Err("it is bound and not ready".to_owned());
    }
    let daemon = controller(object).is_some_and(|owner| text(owner, "/kind") == "DaemonSet");
    let wants = laws::millicpu(object);
    let fits = of("nodes", objects).find(|(_, node)| {
        let name = text(node, "/metadata/name");
        if volumes::home(object, objects).any(|home| home != name) {
            return false;
        }
        let taken = pods(objects).filter(|(_, pod)| text(pod, "/spec/nodeName") == name && !is_over(pod));
        let taken: i64 = taken.map(|(_, pod)| laws::millicpu(pod)).sum();
        wants + taken <= laws::millis(node.pointer("/status/allocatable/cpu"))
    });
    match fits {
        Some((node, _)) if !daemon => Err(format!("it waits, and {node} has room")),
        _ => Ok(()),
    }
}

fn quota(object: &Value, objects: &Objects) -> Result<(), String> {
    let namespace = text(object, "/metadata/namespace");
    let there = pods(objects).filter(|(_, pod)| text(pod, "/metadata/namespace") == namespace && !is_over(pod));
    let used = laws::millis(object.pointer("/status/used/pods")) / 1000;
    same(&format!("the used quota of {namespace}"), used, there.count() as i64)
}

/// Each service has the addresses of its ready pods, and no others.
fn services(objects: &Objects, snapshot: &Snapshot) -> Vec<String> {
    let read = |prefix: &str| -> Vec<Value> {
        snapshot
            .range(prefix, None)
            .map(|record| serde_json::from_slice(&record.json).unwrap())
            .collect()
    };
    let slices = read("endpointslices.discovery.k8s.io/");
    let mut missing = Vec::new();
    for service in read("services/") {
        let (namespace, name) = (text(&service, "/metadata/namespace"), text(&service, "/metadata/name"));
        let app = text(&service, "/spec/selector/app");
        if app.is_empty() {
            continue;
        }
        let of_it = |slice: &&Value| {
            text(slice, "/metadata/namespace") == namespace
                && text(slice, "/metadata/labels/kubernetes.io~1service-name") == name
        };
        let endpoints = slices
            .iter()
            .filter(of_it)
            .flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
        let told: BTreeSet<&str> = endpoints
            .filter(|endpoint| endpoint.pointer("/conditions/ready") == Some(&Value::Bool(true)))
            .map(|endpoint| text(endpoint, "/addresses/0"))
            .collect();
        let ready = sharing(namespace, app, objects).filter(|pod| is_ready(pod));
        let should: BTreeSet<&str> = ready.map(|pod| text(pod, "/status/podIP")).collect();
        if told != should {
            missing.push(format!(
                "the service {namespace}/{name} leads to {told:?} and should to {should:?}"
            ));
        }
    }
    missing
}
