//! Whether a pod that was assigned to the node fits on it.
//!
//! The scheduler has looked already; this is for pods that name their node themselves, and for two schedulers that did not see
//! each other. Only requests count. A pod that does not fit fails at once, with the reason that the kubelet gives.

use crate::fields::Capacity;
use crate::observed::Failure;
use crate::quantity;
use crate::resize::Resize;
use crate::spec::{self, Role, Shape};
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::HashMap;

/// What pods asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Amounts {
    cpu_milli: u64,
    memory_bytes: u64,
}

/// Who was admitted with how much.
#[derive(Debug, Default)]
pub struct Ledger {
    pods: HashMap<String, Amounts>,
    used: Amounts,
    /// Ports of the node that pods have, and who has them.
    ports: Vec<(HostPort, String)>,
}

/// A port of the node that a pod wants for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HostPort {
    port: i32,
    protocol: String,
    /// Empty: all addresses.
    ip: String,
}

impl HostPort {
    fn conflicts(&self, other: &Self) -> bool {
        let everywhere = |ip: &str| matches!(ip, "" | "0.0.0.0" | "::");
        let same = everywhere(&self.ip) || everywhere(&other.ip) || self.ip == other.ip;
        same && self.port == other.port && self.protocol == other.protocol
    }
}

/// The ports of the node that a pod wants.
fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let ports = spec::containers(pod).flat_map(|container| container.ports.iter().flatten());
    let wanted = ports.filter_map(|port| {
        Some(HostPort {
            port: port.host_port.filter(|port| *port > 0)?,
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            ip: port.host_ip.clone().unwrap_or_default(),
        })
    });
    wanted.collect()
}

impl Ledger {
    /// Books a pod, or says why it does not fit.
    ///
    /// # Errors
    /// With what the pod's status is to say.
    pub fn admit(&mut self, uid: &str, pod: &Pod, shape: &Shape, capacity: &Capacity) -> Result<(), Failure> {
        let asked = requests(pod, shape);
        let pods = self.pods.len() as u64;
        for (resource, asked, used, capacity) in [
            ("pods", 1, pods, capacity.pods),
            ("cpu", asked.cpu_milli, self.used.cpu_milli, capacity.cpu_milli),
            (
                "memory",
                asked.memory_bytes,
                self.used.memory_bytes,
                capacity.memory_bytes,
            ),
        ] {
            if asked > 0 && used.saturating_add(asked) > capacity {
                return Err(Failure {
                    reason: format!("OutOf{resource}"),
                    message: format!(
                        "Pod was rejected: Node didn't have enough resource: {resource}, requested: {asked}, used: {used}, capacity: {capacity}"
                    ),
                });
            }
        }
        let ports = host_ports(pod);
        let taken = |wanted: &HostPort| {
            self.ports
                .iter()
                .any(|(port, owner)| owner != uid && port.conflicts(wanted))
        };
        if ports.iter().any(taken) {
            return Err(Failure {
                reason: "NodePorts".to_owned(),
                message: "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
                    .to_owned(),
            });
        }
        if self.pods.insert(uid.to_owned(), asked).is_none() {
            self.ports.extend(ports.into_iter().map(|port| (port, uid.to_owned())));
            self.used.cpu_milli = self.used.cpu_milli.saturating_add(asked.cpu_milli);
            self.used.memory_bytes = self.used.memory_bytes.saturating_add(asked.memory_bytes);
        }
        Ok(())
    }

    /// Books other amounts for a pod that runs, or says why it has to do with what it has.
    ///
    /// # Errors
    /// With what the pod's status is to say.
    pub fn resize(&mut self, uid: &str, pod: &Pod, shape: &Shape, capacity: &Capacity) -> Result<(), Resize> {
        let asked = requests(pod, shape);
        let own = self.pods.get(uid).copied().unwrap_or_default();
        for (resource, asked, others, capacity) in [
            (
                "cpu",
                asked.cpu_milli,
                self.used.cpu_milli.saturating_sub(own.cpu_milli),
                capacity.cpu_milli,
            ),
            (
                "memory",
                asked.memory_bytes,
                self.used.memory_bytes.saturating_sub(own.memory_bytes),
                capacity.memory_bytes,
            ),
        ] {
            if asked > capacity {
                return Err(Resize::Infeasible(format!(
                    "Node didn't have enough capacity: {resource}, requested: {asked}, capacity: {capacity}"
                )));
            }
            if others.saturating_add(asked) > capacity {
                return Err(Resize::Deferred(format!(
                    "Node didn't have enough resource: {resource}, requested: {asked}, used: {others}, capacity: {capacity}"
                )));
            }
        }
        self.give_back(uid);
        self.pods.insert(uid.to_owned(), asked);
        self.used.cpu_milli = self.used.cpu_milli.saturating_add(asked.cpu_milli);
        self.used.memory_bytes = self.used.memory_bytes.saturating_add(asked.memory_bytes);
        Ok(())
    }

    /// The pod needs nothing more.
    pub fn release(&mut self, uid: &str) {
        self.ports.retain(|(_, owner)| owner != uid);
        self.give_back(uid);
    }

    fn give_back(&mut self, uid: &str) {
        if let Some(amounts) = self.pods.remove(uid) {
            self.used.cpu_milli = self.used.cpu_milli.saturating_sub(amounts.cpu_milli);
            self.used.memory_bytes = self.used.memory_bytes.saturating_sub(amounts.memory_bytes);
        }
    }
}

/// Containers that run together add up; an init container runs alone, beside the sidecars.
fn requests(pod: &Pod, shape: &Shape) -> Amounts {
    let (mut together, mut alone) = (Amounts::default(), Amounts::default());
    for (container, role) in spec::containers(pod).zip(&shape.roles) {
        let own = Amounts {
            cpu_milli: request(container, "cpu", 1),
            memory_bytes: request(container, "memory", 1000),
        };
        match role {
            Role::Init => {
                alone.cpu_milli = alone.cpu_milli.max(own.cpu_milli);
                alone.memory_bytes = alone.memory_bytes.max(own.memory_bytes);
            }
            Role::Ephemeral => {}
            Role::Main | Role::Sidecar => {
                together.cpu_milli = together.cpu_milli.saturating_add(own.cpu_milli);
                together.memory_bytes = together.memory_bytes.saturating_add(own.memory_bytes);
            }
        }
    }
    Amounts {
        cpu_milli: together.cpu_milli.max(alone.cpu_milli),
        memory_bytes: together.memory_bytes.max(alone.memory_bytes),
    }
}

fn request(container: &Container, resource: &str, unit_milli: i128) -> u64 {
    let requests = container
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    let amount = requests.and_then(|requests| requests.get(resource));
    amount
        .and_then(|amount| quantity::milli(&amount.0))
        .and_then(|milli| u64::try_from(milli / unit_milli).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;
    use serde_json::json;

    const CAPACITY: Capacity = Capacity {
        cpu_milli: 1000,
        memory_bytes: 1 << 30,
        disk_bytes: None,
        pods: 3,
    };

    #[test]
    fn requests_are_booked_and_released() {
        let mut ledger = Ledger::default();
        let (big, shape, _) = pod(json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "600m"}}}]}));
        let admit = |ledger: &mut Ledger, uid: &str| ledger.admit(uid, &big, &shape, &CAPACITY);
        assert_eq!(admit(&mut ledger, "a"), Ok(()));
        let failure = admit(&mut ledger, "b").unwrap_err();
        assert_eq!(failure.reason, "OutOfcpu");
        assert!(
            failure.message.contains("requested: 600, used: 600, capacity: 1000"),
            "{}",
            failure.message
        );
        ledger.release("a");
        assert_eq!(admit(&mut ledger, "b"), Ok(()));
        let (small, shape, _) = pod(json!({"containers": [{"name": "a"}]}));
        for uid in ["c", "d"] {
            assert_eq!(ledger.admit(uid, &small, &shape, &CAPACITY), Ok(()));
        }
        assert_eq!(
            ledger.admit("e", &small, &shape, &CAPACITY).unwrap_err().reason,
            "OutOfpods"
        );
    }

    #[test]
    fn a_port_of_the_node_is_one_pods() {
        let wants = |ports: serde_json::Value| pod(json!({"containers": [{"name": "a", "ports": ports}]}));
        let mut ledger = Ledger::default();
        let mut admit = |uid: &str, ports| {
            let (pod, shape, _) = wants(ports);
            ledger
                .admit(uid, &pod, &shape, &Capacity { pods: 9, ..CAPACITY })
                .map_err(|failure| failure.reason)
        };
        let port = |ip: &str, protocol: &str| json!([{"containerPort": 80, "hostPort": 8080, "hostIP": ip, "protocol": protocol}]);
        assert_eq!(admit("a", port("127.0.0.1", "TCP")), Ok(()));
        assert_eq!(admit("b", port("127.0.0.2", "TCP")), Ok(()));
        assert_eq!(admit("c", port("", "UDP")), Ok(()));
        assert_eq!(admit("d", port("", "TCP")), Err("NodePorts".to_owned()));
        assert_eq!(admit("a", port("127.0.0.1", "TCP")), Ok(()), "its own");
        assert_eq!(admit("e", json!([{"containerPort": 80}])), Ok(()));
        for uid in ["a", "b"] {
            ledger.release(uid);
        }
        let (pod, shape, _) = wants(port("", "TCP"));
        assert_eq!(ledger.admit("d", &pod, &shape, &CAPACITY), Ok(()));
    }

    #[test]
    fn a_pod_grows_as_far_as_there_is_room() {
        let asks = |cpu: &str| pod(json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]}));
        let mut ledger = Ledger::default();
        for uid in ["a", "b"] {
            let (pod, shape, _) = asks("400m");
            assert_eq!(ledger.admit(uid, &pod, &shape, &CAPACITY), Ok(()));
        }
        let mut resize = |uid: &str, cpu: &str| {
            let (pod, shape, _) = asks(cpu);
            ledger.resize(uid, &pod, &shape, &CAPACITY)
        };
        assert_eq!(resize("a", "600m"), Ok(()));
        assert!(matches!(resize("b", "500m"), Err(Resize::Deferred(_))));
        assert!(matches!(resize("b", "2"), Err(Resize::Infeasible(_))));
        assert_eq!(resize("a", "100m"), Ok(()));
        assert_eq!(resize("b", "900m"), Ok(()));
    }

    #[test]
    fn init_containers_do_not_add_up() {
        let asks = |memory: &str| json!({"requests": {"memory": memory}});
        let (pod, shape, _) = pod(json!({
            "initContainers": [{"name": "i", "resources": asks("300Mi")}, {"name": "j", "resources": asks("200Mi")}],
            "containers": [{"name": "a", "resources": asks("100Mi")}, {"name": "b", "resources": asks("100Mi")}],
        }));
        assert_eq!(requests(&pod, &shape).memory_bytes, 300 << 20);
    }
}
