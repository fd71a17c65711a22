//! Which daemons an update touches next: never more nodes without an available daemon, or with two, than allowed.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::{
    amount, history,
    pods::{self, Availability},
};

/// How many nodes an update may trouble at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Nodes that may have an old and a new daemon.
    pub surge: usize,
    /// Nodes that may be without an available daemon.
    pub unavailable: usize,
}

impl Bounds {
    /// What the set allows when `nodes` should have a daemon; `None` if it is updated by hand.
    #[must_use]
    pub fn of(ds: &DaemonSet, nodes: usize) -> Option<Self> {
        let strategy = ds.spec.as_ref().and_then(|s| s.update_strategy.as_ref());
        if strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete") {
            return None;
        }
        let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
        let nodes = i32::try_from(nodes).unwrap_or(i32::MAX);
        let of = |value: Option<&IntOrString>, default: i32| {
            let value = value.cloned().unwrap_or(IntOrString::Int(default));
            usize::try_from(amount::scaled(&value, nodes, true)).unwrap_or(0)
        };
        let surge = of(rolling.and_then(|r| r.max_surge.as_ref()), 0);
        let default = if surge > 0 { 0 } else { 1 };
        let unavailable = of(rolling.and_then(|r| r.max_unavailable.as_ref()), default);
        // Both zero would mean that nothing ever happens.
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
        Some(Self { surge, unavailable })
    }
}

/// The daemons of one node that should have one.
pub struct OnNode {
    /// The node.
    pub node: String,
    /// Those that are not ending, the oldest first.
    pub pods: Vec<Arc<Pod>>,
}

/// What an update does next.
#[derive(Default)]
pub struct Step {
    /// Daemons to delete.
    pub delete: Vec<Arc<Pod>>,
    /// Nodes to start a second daemon on.
    pub surge: Vec<String>,
}

/// What decides about pods: their revision and how long they must have been ready.
pub struct View<'a> {
    /// The label of the present revision.
    pub hash: &'a str,
    /// Seconds that a daemon must have been ready.
    pub min_ready_seconds: i32,
    /// The time.
    pub now: Timestamp,
}

impl View<'_> {
    /// Whether the pod is of the present revision.
    #[must_use]
    pub fn is_new(&self, pod: &Pod) -> bool {
        let labels = pod.metadata.labels.as_ref();
        labels
            .and_then(|l| l.get(history::LABEL))
            .is_some_and(|hash| hash == self.hash)
    }

    /// Whether the pod has been ready long enough.
    #[must_use]
    pub fn is_available(&self, pod: &Pod) -> bool {
        pods::availability(pod, self.min_ready_seconds, self.now) == Availability::Available
    }

    fn split<'n>(&self, on: &'n OnNode) -> (Option<&'n Arc<Pod>>, Option<&'n Arc<Pod>>) {
        let new = on.pods.iter().find(|pod| self.is_new(pod));
        let old = on.pods.iter().find(|pod| !self.is_new(pod));
        (new, old)
    }

    /// The next step of an update over the nodes that should have a daemon.
    #[must_use]
    pub fn step(&self, nodes: &[OnNode], bounds: Bounds) -> Step {
        if bounds.surge > 0 {
            self.surge(nodes, bounds)
        } else {
            self.replace(nodes, bounds)
        }
    }

    fn replace(&self, nodes: &[OnNode], bounds: Bounds) -> Step {
        let (mut missing, mut step, mut candidates) = (0_usize, Step::default(), Vec::new());
        for on in nodes {
            match self.split(on) {
                (Some(new), None) if self.is_available(new) => {}
                (None, Some(old)) if self.is_available(old) => candidates.push(old.clone()),
                // It serves nobody: replacing it costs nothing.
                (None, Some(old)) => {
                    missing += 1;
                    step.delete.push(old.clone());
                }
                _ => missing += 1,
            }
        }
        let room = bounds.unavailable.saturating_sub(missing);
        step.delete.extend(candidates.into_iter().take(room));
        step
    }

    fn surge(&self, nodes: &[OnNode], bounds: Bounds) -> Step {
        let (mut surging, mut step, mut candidates) = (0_usize, Step::default(), Vec::new());
        for on in nodes {
            match self.split(on) {
                (_, None) => {}
                (None, Some(old)) if self.is_available(old) => candidates.push(on.node.clone()),
                (None, Some(_)) => step.surge.push(on.node.clone()),
                (Some(new), Some(old)) if self.is_available(new) => step.delete.push(old.clone()),
                (Some(_), Some(_)) => surging += 1,
            }
        }
        let room = bounds.surge.saturating_sub(surging);
        step.surge.extend(candidates.into_iter().take(room));
        step
    }
}
