//! What an object takes of what a quota limits.

use crate::kinds::Kind;
use crate::object;
use crate::quantity::Quantity;
use serde_json::Value;

use super::amounts::{self, Amounts};
use super::is;

/// Resources that a quota limits by their own name, meaning what is requested.
const PLAIN: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Kinds of the core group that a quota counts by their plural alone.
const COUNTED: [&str; 7] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
];
const CLASS: &str = ".storageclass.storage.k8s.io/";

/// Whether objects of a kind can take anything of it.
pub fn concerns(kind: &Kind, hard: &Amounts) -> bool {
    let plural = kind.plural.as_ref();
    let core = kind.group.is_empty();
    let count = format!("count/{}", kind.group_resource());
    let special = core && matches!(plural, "pods" | "services" | "persistentvolumeclaims");
    special || hard.contains_key(&count) || (core && COUNTED.contains(&plural) && hard.contains_key(plural))
}

/// What an object takes of the resources in `hard`.
pub fn of(kind: &Kind, object: &Value, hard: &Amounts) -> Amounts {
    let mut used = Amounts::new();
    let one = Quantity::from_value(1);
    used.insert(format!("count/{}", kind.group_resource()), one);
    let core = kind.group.is_empty();
    if is(kind, "", "Pod") {
        // A pod that has ended holds nothing any more; it still is an object.
        if !matches!(object::text(object, "status.phase"), "Succeeded" | "Failed") {
            used.insert("pods".to_owned(), one);
            pod(object, &mut used);
        }
    } else if core && COUNTED.contains(&kind.plural.as_ref()) {
        used.insert(kind.plural.to_string(), one);
    }
    if is(kind, "", "Service") {
        service(object, &mut used);
    }
    if is(kind, "", "PersistentVolumeClaim") {
        claim(object, &mut used);
    }
    used.retain(|name, amount| hard.contains_key(name) && !amount.is_zero());
    used
}

fn pod(pod: &Value, used: &mut Amounts) {
    for (name, amount) in amounts::of_pod(pod, "requests") {
        if PLAIN.contains(&name.as_str()) || name.starts_with("hugepages-") {
            used.insert(name.clone(), amount);
        }
        used.insert(format!("requests.{name}"), amount);
    }
    for (name, amount) in amounts::of_pod(pod, "limits") {
        used.insert(format!("limits.{name}"), amount);
    }
}

fn service(service: &Value, used: &mut Amounts) {
    let kind = object::text(service, "spec.type");
    let ports = object::list(service, "spec.ports");
    let without = object::get(service, "spec.allocateLoadBalancerNodePorts") == Some(&Value::Bool(false));
    let count = |ports: usize| Quantity::from_value(i64::try_from(ports).unwrap_or(i64::MAX));
    match kind {
        "NodePort" => {
            used.insert("services.nodeports".to_owned(), count(ports.len()));
        }
        "LoadBalancer" => {
            used.insert("services.loadbalancers".to_owned(), count(1));
            let chosen = ports
                .iter()
                .filter(|port| object::integer(port, "nodePort").is_some_and(|port| port != 0));
            let ports = if without { chosen.count() } else { ports.len() };
            used.insert("services.nodeports".to_owned(), count(ports));
        }
        _ => {}
    }
}

fn claim(claim: &Value, used: &mut Amounts) {
    let one = Quantity::from_value(1);
    let class = match object::annotation(claim, "volume.beta.kubernetes.io/storage-class") {
        Some(class) => class,
        None => object::text(claim, "spec.storageClassName"),
    };
    let storage = amounts::read(claim, "spec.resources.requests").remove("storage");
    if !class.is_empty() {
        used.insert(format!("{class}{CLASS}persistentvolumeclaims"), one);
    }
    if let Some(storage) = storage {
        used.insert("requests.storage".to_owned(), storage);
        if !class.is_empty() {
            used.insert(format!("{class}{CLASS}requests.storage"), storage);
        }
    }
}

/// What the containers of a new pod leave unsaid that a quota has to know: `limits.cpu for: a,b`.
pub fn unsaid(kind: &Kind, pod: &Value, hard: &Amounts) -> Vec<String> {
    if !is(kind, "", "Pod") {
        return Vec::new();
    }
    let mut unsaid = Vec::new();
    for limited in hard.keys() {
        let (which, resource) = match limited.split_once('.') {
            Some((which @ ("requests" | "limits"), resource)) => (which, resource),
            _ => ("requests", limited.as_str()),
        };
        // Other resources are nothing where they are not said.
        if !matches!(resource, "cpu" | "memory") {
            continue;
        }
        let lists = ["spec.containers", "spec.initContainers"].into_iter();
        let mut silent: Vec<&str> = lists
            .flat_map(|list| object::list(pod, list))
            .filter(|container| {
                let said = object::map(container, &format!("resources.{which}"));
                !said.is_some_and(|said| said.contains_key(resource))
            })
            .map(|container| object::text(container, "name"))
            .collect();
        silent.sort_unstable();
        if !silent.is_empty() {
            unsaid.push(format!("{limited} for: {}", silent.join(",")));
        }
    }
    unsaid
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Kinds;
    use serde_json::json;

    fn hard(names: &[&str]) -> Amounts {
        names
            .iter()
            .map(|name| ((*name).to_owned(), Quantity::from_value(9)))
            .collect()
    }

    fn used(plural: &str, object: Value, names: &[&str]) -> Vec<String> {
        let kinds = Kinds::builtin();
        let kind = kinds.find("", "v1", plural).unwrap();
        let used = of(kind, &object, &hard(names));
        used.iter().map(|(name, amount)| format!("{name}={amount}")).collect()
    }

    #[test]
    fn objects_take_what_they_are_and_what_they_ask_for() {
        let pod = json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "1", "memory": "1Mi"}, "limits": {"cpu": "2"}}}]}});
        let names = ["pods", "count/pods", "cpu", "requests.memory", "limits.cpu", "secrets"];
        assert_eq!(
            used("pods", pod.clone(), &names),
            ["count/pods=1", "cpu=1", "limits.cpu=2", "pods=1", "requests.memory=1Mi"]
        );
        let mut ended = pod;
        ended["status"] = json!({"phase": "Succeeded"});
        assert_eq!(used("pods", ended, &names), ["count/pods=1"]);
        let service = json!({"spec": {"type": "LoadBalancer", "ports": [{}, {}]}});
        assert_eq!(
            used(
                "services",
                service,
                &["services", "services.loadbalancers", "services.nodeports"]
            ),
            ["services=1", "services.loadbalancers=1", "services.nodeports=2"]
        );
    }

    #[test]
    fn containers_have_to_say_what_is_limited() {
        let kinds = Kinds::builtin();
        let kind = kinds.find("", "v1", "pods").unwrap();
        let pod =
            json!({"spec": {"containers": [{"name": "b"}, {"name": "a", "resources": {"limits": {"cpu": "1"}}}]}});
        let names = ["limits.cpu", "requests.memory", "pods"];
        assert_eq!(
            unsaid(kind, &pod, &hard(&names)),
            ["limits.cpu for: b", "requests.memory for: a,b"]
        );
    }
}
