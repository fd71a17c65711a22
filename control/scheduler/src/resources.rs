//! What a pod asks for and what a node has, in whole numbers.

use std::collections::BTreeMap;

use coracle_api::quantity::Quantity;
use k8s_openapi::{
    api::core::v1::{Container, Node, Pod},
    apimachinery::pkg::api::resource::Quantity as Text,
};

/// What a container that asks for nothing is taken to need when nodes are compared, so that such pods spread too:
/// a tenth of a core, as in Kubernetes.
pub const PRESUMED_CPU_MILLI: i64 = 100;
/// The same for memory: 200 MB.
pub const PRESUMED_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

/// Amounts of resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu_milli: i64,
    /// Bytes of memory.
    pub memory_bytes: i64,
    /// All others by name, in their own unit.
    pub others: BTreeMap<String, i64>,
}

type Listed = BTreeMap<String, Text>;

impl Resources {
    /// Reads a list as it stands in an object. What cannot be read counts as nothing: the API server lets none pass.
    #[must_use]
    pub fn read(list: Option<&Listed>) -> Self {
        let mut resources = Self::default();
        for (name, text) in list.into_iter().flatten() {
            let Ok(quantity) = Quantity::parse(&text.0) else {
                continue;
            };
            let whole = |number: i128| i64::try_from(number).unwrap_or(i64::MAX);
            match name.as_str() {
                "cpu" => resources.cpu_milli = whole(quantity.milli()),
                "memory" => resources.memory_bytes = whole(quantity.value()),
                other => {
                    resources.others.insert(other.to_owned(), whole(quantity.value()));
                }
            }
        }
        resources
    }

    /// Adds `more` to it.
    pub fn add(&mut self, more: &Self) {
        self.combine(more, i64::saturating_add);
    }

    /// Takes `less` from it.
    pub fn subtract(&mut self, less: &Self) {
        self.combine(less, i64::saturating_sub);
    }

    /// Raises each amount to that of `other` where that is larger.
    pub fn raise(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, with: fn(i64, i64) -> i64) {
        self.cpu_milli = with(self.cpu_milli, other.cpu_milli);
        self.memory_bytes = with(self.memory_bytes, other.memory_bytes);
        for (name, amount) in &other.others {
            let entry = self.others.entry(name.clone()).or_default();
            *entry = with(*entry, *amount);
        }
    }
}

/// What a node offers to pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The amounts.
    pub resources: Resources,
    /// How many pods.
    pub pods: i64,
}

impl Offer {
    /// What this node offers: its allocatable amounts, or its capacity where it tells none.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        let status = node.status.as_ref();
        let list = status.and_then(|s| s.allocatable.as_ref().or(s.capacity.as_ref()));
        let mut resources = Resources::read(list);
        let pods = resources.others.remove("pods").unwrap_or(0);
        Self { resources, pods }
    }
}

/// What a pod needs reserved: its containers together, or the hungriest moment of its start, whichever is more.
#[must_use]
pub fn requested(pod: &Pod) -> Resources {
    total(pod, |container| Resources::read(requests(container)))
}

/// Like [`requested`], with a presumed need for containers that ask for nothing; only cpu and memory count.
#[must_use]
pub fn presumed(pod: &Pod) -> Resources {
    total(pod, |container| {
        let list = requests(container);
        let mut resources = Resources::read(list);
        let asks = |name: &str| list.is_some_and(|l| l.contains_key(name));
        if !asks("cpu") {
            resources.cpu_milli = PRESUMED_CPU_MILLI;
        }
        if !asks("memory") {
            resources.memory_bytes = PRESUMED_MEMORY_BYTES;
        }
        resources
    })
}

fn requests(container: &Container) -> Option<&Listed> {
    container.resources.as_ref()?.requests.as_ref()
}

fn total(pod: &Pod, of: impl Fn(&Container) -> Resources) -> Resources {
    let Some(spec) = pod.spec.as_ref() else {
        return Resources::default();
    };
    // Init containers run one after another; those that restart always are sidecars and stay.
    let (mut sidecars, mut peak) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&own);
            peak.raise(&sidecars);
        } else {
            let mut moment = sidecars.clone();
            moment.add(&own);
            peak.raise(&moment);
        }
    }
    let mut sum = sidecars;
    spec.containers.iter().for_each(|container| sum.add(&of(container)));
    sum.raise(&peak);
    if let Some(own) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        sum.replace(own);
    }
    sum.add(&Resources::read(spec.overhead.as_ref()));
    sum
}

impl Resources {
    /// What a pod asks for as a whole stands above what its containers ask for.
    fn replace(&mut self, list: &Listed) {
        let own = Self::read(Some(list));
        if list.contains_key("cpu") {
            self.cpu_milli = own.cpu_milli;
        }
        if list.contains_key("memory") {
            self.memory_bytes = own.memory_bytes;
        }
        self.others.extend(own.others);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(cpu: &str, restart: Option<&str>) -> serde_json::Value {
        json!({"name": "c", "restartPolicy": restart, "resources": {"requests": {"cpu": cpu, "memory": "1Gi", "coracle.dev/fuel": "5"}}})
    }

    #[test]
    fn a_pod_needs_its_hungriest_moment() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": {
            "initContainers": [container("100m", Some("Always")), container("900m", None)],
            "containers": [container("300m", None), container("0.2", None)],
            "overhead": {"cpu": "10m"},
        }}))
        .unwrap();
        let need = requested(&pod);
        assert_eq!(need.cpu_milli, 100 + 900 + 10);
        assert_eq!(need.memory_bytes, 3 << 30);
        assert_eq!(need.others["coracle.dev/fuel"], 15);
    }

    #[test]
    fn a_container_that_asks_for_nothing_counts_only_in_comparisons() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [{"name": "c"}]}})).unwrap();
        assert_eq!(requested(&pod), Resources::default());
        assert_eq!(presumed(&pod).cpu_milli, PRESUMED_CPU_MILLI);
    }
}
