//! What containers use, in the forms in which a kubelet tells it: `/stats/summary`, `/metrics/resource` and, with how they are
//! throttled, `/metrics/cadvisor`.
//!
//! Pure: from what the containers' meters say to a document. The process is shared by all virtual nodes of a machine, so a
//! node uses what its containers use; what the host's part of the process takes is nobody's.

use crate::cell::PodCell;
use bytes::Bytes;
use coracle_runtime::{Throttling, Usage};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// An answer of the kubelet's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its media type.
    pub content_type: &'static str,
    /// Its body.
    pub body: Bytes,
}

/// The node whose use is told.
pub struct NodeUse<'a> {
    /// Its name.
    pub name: &'a str,
    /// Since when it runs.
    pub since: Timestamp,
    /// What its pods may use together.
    pub memory_bytes: u64,
}

/// What a pod's containers use.
pub struct PodUse {
    /// The pod's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
    /// Since when it is on the node.
    pub since: Option<Timestamp>,
    /// Its running containers.
    pub containers: Vec<(String, Usage)>,
}

impl PodUse {
    /// The use of a pod that has a container running.
    pub fn of(cell: &PodCell) -> Option<Self> {
        let containers = cell.usage();
        if containers.is_empty() {
            return None;
        }
        let pod = cell.wanted().pod;
        let status = pod.status.as_ref();
        Some(Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            since: status.and_then(|s| s.start_time.as_ref()).map(|time| time.0),
            containers,
        })
    }

    fn total(&self) -> Usage {
        sum(self.containers.iter().map(|(_, usage)| *usage))
    }
}

fn sum(all: impl Iterator<Item = Usage>) -> Usage {
    let nothing = Usage {
        cpu_nanos: 0,
        cpu_rate_nanos: 0,
        memory_bytes: 0,
        throttling: Throttling::default(),
    };
    all.fold(nothing, |sum, more| Usage {
        cpu_nanos: sum.cpu_nanos.saturating_add(more.cpu_nanos),
        cpu_rate_nanos: sum.cpu_rate_nanos.saturating_add(more.cpu_rate_nanos),
        memory_bytes: sum.memory_bytes.saturating_add(more.memory_bytes),
        // Periods of different containers are not the same ones: no sum of them means anything.
        throttling: Throttling::default(),
    })
}

/// Answers a path of the kubelet's API; `None` for one that is not told here.
pub fn tell(path: &str, node: &NodeUse<'_>, pods: impl FnOnce() -> Vec<PodUse>, now: Timestamp) -> Option<Told> {
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    match path.trim_end_matches('/') {
        "/stats/summary" => Some(Told {
            content_type: "application/json",
            body: summary(node, &pods(), now).to_string().into(),
        }),
        "/metrics/resource" => Some(Told {
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            body: resource_metrics(&pods(), now).into(),
        }),
        "/metrics/cadvisor" => Some(Told {
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            body: container_metrics(&pods(), now).into(),
        }),
        _ => None,
    }
}

fn summary(node: &NodeUse<'_>, pods: &[PodUse], now: Timestamp) -> Value {
    let total = sum(pods.iter().map(PodUse::total));
    let mut memory = memory(&total, now);
    if let Some(fields) = memory.as_object_mut() {
        let free = node.memory_bytes.saturating_sub(total.memory_bytes);
        fields.insert("availableBytes".to_owned(), free.into());
    }
    let pods: Vec<Value> = pods.iter().map(|pod| told(pod, node, now)).collect();
    json!({
        "node": {"nodeName": node.name, "startTime": node.since, "cpu": cpu(&total, now), "memory": memory},
        "pods": pods,
    })
}

fn told(pod: &PodUse, node: &NodeUse<'_>, now: Timestamp) -> Value {
    let since = pod.since.unwrap_or(node.since);
    let container = |(name, usage): &(String, Usage)| json!({"name": name, "startTime": since, "cpu": cpu(usage, now), "memory": memory(usage, now)});
    let containers: Vec<Value> = pod.containers.iter().map(container).collect();
    let total = pod.total();
    json!({
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "startTime": since, "containers": containers, "cpu": cpu(&total, now), "memory": memory(&total, now),
    })
}

fn cpu(usage: &Usage, now: Timestamp) -> Value {
    json!({"time": now, "usageNanoCores": usage.cpu_rate_nanos, "usageCoreNanoSeconds": usage.cpu_nanos})
}

/// A guest has no page cache and nothing that could be taken from it: all that it holds is its working set.
fn memory(usage: &Usage, now: Timestamp) -> Value {
    let bytes = usage.memory_bytes;
    json!({"time": now, "usageBytes": bytes, "workingSetBytes": bytes, "rssBytes": bytes})
}

/// One metric: its name, its kind, and how it reads a use.
type Metric = (&'static str, &'static str, fn(&Usage) -> f64);

const METRICS: [Metric; 2] = [
    ("cpu_usage_seconds_total", "counter", |usage| {
        usage.cpu_nanos as f64 / 1e9
    }),
    ("memory_working_set_bytes", "gauge", |usage| usage.memory_bytes as f64),
];

fn resource_metrics(pods: &[PodUse], now: Timestamp) -> String {
    let (mut text, at) = (String::new(), now.as_millisecond());
    let total = sum(pods.iter().map(PodUse::total));
    for scope in ["container", "node", "pod"] {
        for (name, kind, read) in METRICS {
            // Writing to a string never fails.
            let _ = writeln!(text, "# TYPE {scope}_{name} {kind}");
            let mut line = |labels: String, usage: &Usage| {
                let _ = writeln!(text, "{scope}_{name}{labels} {} {at}", read(usage));
            };
            if scope == "node" {
                line(String::new(), &total);
                continue;
            }
            for pod in pods {
                let of = format!("namespace=\"{}\",pod=\"{}\"", pod.namespace, pod.name);
                if scope == "pod" {
                    line(format!("{{{of}}}"), &pod.total());
                    continue;
                }
                for (container, usage) in &pod.containers {
                    line(format!("{{container=\"{container}\",{of}}}"), usage);
                }
            }
        }
    }
    text.push_str("# TYPE resource_scrape_error gauge\nresource_scrape_error 0\n");
    text
}

/// The names by which dashboards know them.
const CONTAINER_METRICS: [Metric; 5] = [
    ("container_cpu_usage_seconds_total", "counter", |usage| {
        usage.cpu_nanos as f64 / 1e9
    }),
    ("container_cpu_cfs_periods_total", "counter", |usage| {
        usage.throttling.periods as f64
    }),
    ("container_cpu_cfs_throttled_periods_total", "counter", |usage| {
        usage.throttling.throttled_periods as f64
    }),
    ("container_cpu_cfs_throttled_seconds_total", "counter", |usage| {
        usage.throttling.throttled_nanos as f64 / 1e9
    }),
    ("container_memory_working_set_bytes", "gauge", |usage| {
        usage.memory_bytes as f64
    }),
];

fn container_metrics(pods: &[PodUse], now: Timestamp) -> String {
    let (mut text, at) = (String::new(), now.as_millisecond());
    for (name, kind, read) in CONTAINER_METRICS {
        let _ = writeln!(text, "# TYPE {name} {kind}");
        for pod in pods {
            for (container, usage) in &pod.containers {
                let labels = format!(
                    "container=\"{container}\",namespace=\"{}\",pod=\"{}\"",
                    pod.namespace, pod.name
                );
                let _ = writeln!(text, "{name}{{{labels}}} {} {at}", read(usage));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(path: &str) -> Option<Told> {
        let usage = |cpu_rate_nanos, memory_bytes| Usage {
            cpu_nanos: 3_000_000_000,
            cpu_rate_nanos,
            memory_bytes,
            throttling: Throttling {
                periods: 10,
                throttled_periods: 4,
                throttled_nanos: 250_000_000,
            },
        };
        let pod = PodUse {
            name: "web".to_owned(),
            namespace: "default".to_owned(),
            uid: "u".to_owned(),
            since: None,
            containers: vec![("a".to_owned(), usage(5, 100)), ("b".to_owned(), usage(7, 200))],
        };
        let node = NodeUse {
            name: "n",
            since: Timestamp::UNIX_EPOCH,
            memory_bytes: 1000,
        };
        tell(path, &node, || vec![pod], Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_summary_adds_up() {
        let told = ask("/stats/summary?only_cpu_and_memory=true").unwrap();
        let summary: Value = serde_json::from_slice(&told.body).unwrap();
        assert_eq!(summary["pods"][0]["cpu"]["usageNanoCores"], 12);
        assert_eq!(summary["pods"][0]["containers"][1]["memory"]["workingSetBytes"], 200);
        assert_eq!(summary["node"]["cpu"]["usageCoreNanoSeconds"], 6_000_000_000_u64);
        assert_eq!(summary["node"]["memory"]["availableBytes"], 700);
        assert_eq!(summary["node"]["startTime"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn metrics_have_a_line_for_each_container_pod_and_the_node() {
        let told = ask("/metrics/resource").unwrap();
        let text = String::from_utf8(told.body.to_vec()).unwrap();
        for line in [
            "# TYPE container_cpu_usage_seconds_total counter",
            "container_cpu_usage_seconds_total{container=\"a\",namespace=\"default\",pod=\"web\"} 3 0",
            "pod_memory_working_set_bytes{namespace=\"default\",pod=\"web\"} 300 0",
            "node_cpu_usage_seconds_total 6 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        let told = ask("/metrics/cadvisor").unwrap();
        let text = String::from_utf8(told.body.to_vec()).unwrap();
        let of = "{container=\"a\",namespace=\"default\",pod=\"web\"}";
        for line in [
            format!("container_cpu_cfs_periods_total{of} 10 0"),
            format!("container_cpu_cfs_throttled_periods_total{of} 4 0"),
            format!("container_cpu_cfs_throttled_seconds_total{of} 0.25 0"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert_eq!(ask("/pods"), None);
    }
}
