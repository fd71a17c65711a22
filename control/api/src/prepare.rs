//! What a client may not choose: status, generation, and what else belongs to the system is set or kept here, whatever the
//! request says. Time, names and uids are the server's to set; nothing here needs them.

pub mod apiregistration;
pub mod certificates;
pub mod networking;
pub mod pod_parts;
pub mod storage;
pub mod workloads;

use crate::fields;
use crate::kinds::Kind;
use crate::normalise;
use crate::object;
use serde_json::{Value, json};

/// Makes a new object what a new object is: without a status of the client's, in its first generation.
pub fn create(kind: &Kind, object: &mut Value) {
    if kind.has_status() && !kind.status_on_create {
        match empty_status(kind) {
            Some(status) => object::set(object, "status", status),
            None => drop(object::remove(object, "status")),
        }
    }
    if kind.has_generation {
        object::set_generation(object, 1);
    } else {
        object::remove(object, "metadata.generation");
    }
    (kind.strategy.prepare_create)(object);
}

/// The status that nobody has filled in yet, which clients expect to be there; `None` for kinds defined at run time.
fn empty_status(kind: &Kind) -> Option<Value> {
    let field = fields::go_type(kind.go_type)?.field("status")?;
    normalise::written_when_absent(field)
}

/// Keeps what a replace of the main object must not change; counts a new generation when what is wanted changed.
pub fn update(kind: &Kind, new: &mut Value, old: &Value) {
    if kind.has_status() {
        keep(new, old, "status");
    }
    (kind.strategy.prepare_update)(new, old);
    let generation = object::generation(old);
    if !kind.has_generation {
        keep_in(new, old, "metadata", "generation");
    } else if same_content(kind, new, old) {
        object::set_generation(new, generation);
    } else {
        object::set_generation(new, generation + 1);
    }
}

/// Makes a write to `status` change nothing but the status, and labels and annotations of pods and nodes, which their node
/// reports together with it.
pub fn update_status(kind: &Kind, new: &mut Value, old: &Value) {
    let mut given = std::mem::take(object::fields(new));
    let reported = kind.group.is_empty() && matches!(kind.kind.as_ref(), "Pod" | "Node");
    let fields: &[&str] = if reported {
        &["labels", "annotations", "managedFields", "resourceVersion"]
    } else {
        &["managedFields", "resourceVersion"]
    };
    let mut status = given.shift_remove("status");
    let metadata = given.shift_remove("metadata").unwrap_or_default();
    let kept = object::fields(new);
    for (name, value) in old.as_object().into_iter().flatten() {
        let value = match (name.as_str(), given.shift_remove(name)) {
            ("status", _) => status.take(),
            // A request mostly brings what is there.
            (_, Some(same)) if same == *value => Some(same),
            _ => Some(value.clone()),
        };
        kept.extend(value.map(|value| (name.clone(), value)));
    }
    kept.extend(status.map(|status| ("status".to_owned(), status)));
    for field in fields {
        keep(object::child(new, "metadata"), &metadata, field);
    }
    (kind.strategy.prepare_status)(new, old);
}

/// Makes a write to a namespace's `finalize` change nothing but `spec.finalizers`.
pub fn finalize(new: &mut Value, old: &Value) {
    let mut kept = old.clone();
    let finalizers = object::get(new, "spec.finalizers")
        .cloned()
        .unwrap_or_else(|| json!([]));
    object::set(&mut kept, "spec.finalizers", finalizers);
    keep_in(&mut kept, new, "metadata", "managedFields");
    keep_in(&mut kept, new, "metadata", "resourceVersion");
    *new = kept;
}

/// Whether two objects want the same: all but metadata and status is equal. A custom kind without a status of the system's
/// has only what its users want.
fn same_content(kind: &Kind, new: &Value, old: &Value) -> bool {
    fn content(object: &Value, status: bool) -> impl Iterator<Item = (&String, &Value)> {
        let wanted = move |field: &str| match field {
            "status" => status,
            field => !matches!(field, "metadata" | "apiVersion" | "kind"),
        };
        object
            .as_object()
            .into_iter()
            .flatten()
            .filter(move |(field, _)| wanted(field))
    }
    let status = kind.custom.is_some() && !kind.has_status();
    content(new, status).count() == content(old, status).count()
        && content(new, status).all(|(field, value)| old.get(field) == Some(value))
}

/// Gives a field of `new` the value, or the absence, that it has in `old`.
fn keep(new: &mut Value, old: &Value, field: &str) {
    match old.get(field) {
        Some(value) => object::fields(new).insert(field.to_owned(), value.clone()),
        None => object::fields(new).shift_remove(field),
    };
}

fn keep_in(new: &mut Value, old: &Value, parent: &str, field: &str) {
    let nothing = Value::Null;
    keep(object::child(new, parent), old.get(parent).unwrap_or(&nothing), field);
}

/// A new namespace is active and waits for the namespace controller to finalize it.
pub fn create_namespace(namespace: &mut Value) {
    object::set(namespace, "status", json!({"phase": "Active"}));
    let finalizers = object::list(namespace, "spec.finalizers");
    if !finalizers.iter().any(|finalizer| finalizer == "kubernetes") {
        let all: Vec<Value> = std::iter::once(json!("kubernetes"))
            .chain(finalizers.iter().cloned())
            .collect();
        object::set(namespace, "spec.finalizers", Value::Array(all));
    }
}

/// A namespace's own finalizers change through `finalize` only.
pub fn update_namespace(new: &mut Value, old: &Value) {
    keep_in(new, old, "spec", "finalizers");
}

/// A new pod is pending, in the quality-of-service class that its resources say.
pub fn create_pod(pod: &mut Value) {
    let class = crate::quality::class(pod);
    let mut status = json!({"phase": "Pending", "qosClass": class});
    if !object::list(pod, "spec.schedulingGates").is_empty() {
        // Nobody else would say so: what is gated is not tried.
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        });
        object::set(&mut status, "conditions", json!([condition]));
    }
    object::set(pod, "status", status);
}

/// A new service has no load balancer yet.
pub fn create_service(service: &mut Value) {
    object::set(service, "status", json!({"loadBalancer": {}}));
}

/// A changed service keeps the address and the node ports that it was given, where the change does not name others, and
/// gives back what its new type has no use for.
pub fn update_service(new: &mut Value, old: &Value) {
    let [after, before] = [&*new, old].map(|service| object::text(service, "spec.type").to_owned());
    let addressed = |kind: &str| kind != "ExternalName";
    let exposed = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    match (addressed(&before), addressed(&after)) {
        (true, true) if object::text(new, "spec.clusterIP").is_empty() => {
            keep_in(new, old, "spec", "clusterIP");
            keep_in(new, old, "spec", "clusterIPs");
        }
        (true, false) if object::text(new, "spec.clusterIP") == object::text(old, "spec.clusterIP") => {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                object::fields(object::child(new, "spec")).shift_remove(field);
            }
        }
        _ => {}
    }
    if exposed(&before) {
        node_ports(new, old, exposed(&after));
    }
}

fn node_ports(new: &mut Value, old: &Value, exposed: bool) {
    let given: Vec<i64> = object::list(new, "spec.ports")
        .iter()
        .filter_map(|port| object::integer(port, "nodePort"))
        .collect();
    let ports = new
        .get_mut("spec")
        .and_then(|spec| spec.get_mut("ports"))
        .and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten() {
        let same = |candidate: &&Value| {
            ["protocol", "port"]
                .iter()
                .all(|field| candidate.get(field) == port.get(field))
        };
        let Some(number) = object::list(old, "spec.ports")
            .iter()
            .find(same)
            .and_then(|port| object::integer(port, "nodePort"))
        else {
            continue;
        };
        let current = object::integer(port, "nodePort").unwrap_or_default();
        if exposed && current == 0 && !given.contains(&number) {
            object::fields(port).insert("nodePort".to_owned(), Value::from(number));
        } else if !exposed && current == number {
            object::fields(port).shift_remove("nodePort");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Kinds;
    use std::sync::Arc;

    fn kind(group: &str, plural: &str) -> Arc<Kind> {
        Kinds::builtin().find(group, "v1", plural).unwrap().clone()
    }

    #[test]
    fn a_new_object_has_the_systems_status() {
        let mut pod = json!({"spec": {"containers": [{"name": "a"}]}, "status": {"phase": "Running"}});
        create(&kind("", "pods"), &mut pod);
        assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
        let mut gated = json!({"spec": {"schedulingGates": [{"name": "example.com/wait"}]}});
        create(&kind("", "pods"), &mut gated);
        assert_eq!(gated["status"]["conditions"][0]["reason"], "SchedulingGated");
        assert_eq!(object::generation(&pod), 1);
        let mut deployment = json!({"metadata": {"generation": 9}, "status": {"replicas": 3}});
        create(&kind("apps", "deployments"), &mut deployment);
        assert_eq!(deployment, json!({"metadata": {"generation": 1}, "status": {}}));
        let mut set = json!({});
        create(&kind("apps", "replicasets"), &mut set);
        assert_eq!(set["status"], json!({"replicas": 0}));
        let mut namespace = json!({"metadata": {"generation": 3}});
        create(&kind("", "namespaces"), &mut namespace);
        assert_eq!(
            namespace,
            json!({"metadata": {}, "status": {"phase": "Active"}, "spec": {"finalizers": ["kubernetes"]}})
        );
    }

    #[test]
    fn a_node_tells_its_status_when_it_registers() {
        let mut node = json!({"status": {"capacity": {"cpu": "1"}}});
        create(&kind("", "nodes"), &mut node);
        assert_eq!(node["status"]["capacity"]["cpu"], "1");
    }

    #[test]
    fn a_replace_keeps_status_and_counts_generations() {
        let kind = kind("apps", "deployments");
        let old = json!({"metadata": {"generation": 4}, "spec": {"replicas": 1}, "status": {"replicas": 1}});
        let mut same = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 1}, "status": {"replicas": 7}});
        update(&kind, &mut same, &old);
        assert_eq!(
            same,
            json!({"metadata": {"labels": {"a": "b"}, "generation": 4}, "spec": {"replicas": 1}, "status": {"replicas": 1}})
        );
        let mut changed = json!({"spec": {"replicas": 2}});
        update(&kind, &mut changed, &old);
        assert_eq!((object::generation(&changed), &changed["status"]), (5, &old["status"]));
    }

    #[test]
    fn a_status_write_changes_the_status_only() {
        let old = json!({"metadata": {"name": "a", "labels": {"x": "1"}}, "spec": {"replicas": 1}, "status": {"replicas": 1}});
        let mut new = json!({"metadata": {"name": "a", "labels": {"x": "2"}, "resourceVersion": "7"}, "spec": {"replicas": 5}, "status": {"replicas": 2}});
        let mut deployment = new.clone();
        update_status(&kind("apps", "deployments"), &mut deployment, &old);
        assert_eq!(
            deployment,
            json!({"metadata": {"name": "a", "labels": {"x": "1"}, "resourceVersion": "7"}, "spec": {"replicas": 1}, "status": {"replicas": 2}})
        );
        update_status(&kind("", "nodes"), &mut new, &old);
        assert_eq!(new["metadata"]["labels"], json!({"x": "2"}));
    }

    #[test]
    fn a_namespaces_finalizers_change_through_finalize_only() {
        let old = json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Terminating"}});
        let mut new = json!({"metadata": {"name": "a"}, "spec": {}});
        update(&kind("", "namespaces"), &mut new, &old);
        assert_eq!(new["spec"], old["spec"]);
        let mut done = json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"finalizers": []}});
        finalize(&mut done, &old);
        assert_eq!(
            done,
            json!({"metadata": {"name": "a"}, "spec": {"finalizers": []}, "status": {"phase": "Terminating"}})
        );
    }

    #[test]
    fn a_service_keeps_what_it_was_given() {
        let kind = kind("", "services");
        let port = json!({"port": 80, "protocol": "TCP", "nodePort": 30080});
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": [port]}});
        let mut new = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}, {"port": 90, "protocol": "TCP"}]}});
        update(&kind, &mut new, &old);
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.96.0.9"]));
        assert_eq!(new["spec"]["ports"], json!([port, {"port": 90, "protocol": "TCP"}]));
        let mut inner = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.9", "ports": [port]}});
        update(&kind, &mut inner, &old);
        assert_eq!(inner["spec"]["ports"], json!([{"port": 80, "protocol": "TCP"}]));
        let mut named =
            json!({"spec": {"type": "ExternalName", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"]}});
        update(&kind, &mut named, &old);
        assert_eq!(named["spec"], json!({"type": "ExternalName"}));
    }
}
