//! Rows of pods. What a pod's `Status` column says is a function of all its containers, not its phase.

use super::{NAME, age, name, or_none, text, wide};
use crate::kinds::Column;
use crate::{object, time};
use serde_json::Value;

/// Columns of pods.
pub const COLUMNS: &[Column] = &[
    NAME,
    text("Ready"),
    text("Status"),
    text("Restarts"),
    text("Age"),
    wide("IP"),
    wide("Node"),
    wide("Nominated Node"),
    wide("Readiness Gates"),
];

/// Cells of a pod.
pub fn cells(pod: &Value, now: i64) -> Vec<Value> {
    let summary = Summary::of(pod);
    let ip = object::list(pod, "status.podIPs")
        .first()
        .map_or("", |ip| object::text(ip, "ip"));
    let ip = if ip.is_empty() {
        object::text(pod, "status.podIP")
    } else {
        ip
    };
    vec![
        name(pod),
        Value::from(format!("{}/{}", summary.ready, summary.containers)),
        Value::from(summary.reason),
        Value::from(summary.restarts.print(now)),
        age(pod, now),
        or_none(ip.to_owned()),
        or_none(object::text(pod, "spec.nodeName").to_owned()),
        or_none(object::text(pod, "status.nominatedNodeName").to_owned()),
        or_none(gates(pod)),
    ]
}

#[derive(Default)]
struct Restarts {
    count: i64,
    last: Option<i64>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += object::integer(status, "restartCount").unwrap_or_default();
        let finished = time::parse(object::text(status, "lastState.terminated.finishedAt"));
        self.last = self.last.max(finished);
    }

    fn print(&self, now: i64) -> String {
        match self.last {
            Some(last) if self.count > 0 => format!("{} ({} ago)", self.count, time::age(now, last)),
            _ => self.count.to_string(),
        }
    }
}

/// What all containers of a pod say together. The reason is the word in the `Status` column: `Running`, `Init:1/2`,
/// `CrashLoopBackOff`, `Completed`, `Terminating`, ...
struct Summary {
    ready: usize,
    containers: usize,
    reason: String,
    restarts: Restarts,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let phase = object::text(pod, "status.phase");
        let own = object::text(pod, "status.reason");
        let reason = if own.is_empty() { phase } else { own };
        let sidecars = object::list(pod, "spec.initContainers")
            .iter()
            .filter(|container| is_sidecar(container))
            .count();
        let mut summary = Self {
            ready: 0,
            containers: object::list(pod, "spec.containers").len() + sidecars,
            reason: reason.to_owned(),
            restarts: Restarts::default(),
        };
        if condition(pod, "PodScheduled").is_some_and(|found| object::text(found, "reason") == "SchedulingGated") {
            summary.reason = "SchedulingGated".to_owned();
        }
        let (initializing, sidecar_restarts) = summary.init(pod);
        if !initializing || is_true(pod, "Initialized") {
            summary.restarts = sidecar_restarts;
            summary.run(pod);
        }
        if object::deletion_timestamp(pod).is_some() {
            if own == "NodeLost" {
                summary.reason = "Unknown".to_owned();
            } else if !matches!(phase, "Succeeded" | "Failed") {
                summary.reason = "Terminating".to_owned();
            }
        }
        summary
    }

    /// Goes through the init containers up to the first that is not done; says whether there is one.
    fn init(&mut self, pod: &Value) -> (bool, Restarts) {
        let specs = object::list(pod, "spec.initContainers");
        let mut sidecar_restarts = Restarts::default();
        for (index, status) in object::list(pod, "status.initContainerStatuses").iter().enumerate() {
            let name = object::name_of(status);
            let sidecar = specs
                .iter()
                .any(|spec| object::name_of(spec) == name && is_sidecar(spec));
            self.restarts.add(status);
            if sidecar {
                sidecar_restarts.add(status);
            }
            let terminated = object::get(status, "state.terminated");
            if terminated.is_some_and(|end| object::integer(end, "exitCode").unwrap_or_default() == 0) {
                continue;
            }
            if sidecar && object::truth(status, "started") {
                self.ready += usize::from(object::truth(status, "ready"));
                continue;
            }
            let waiting = object::text(status, "state.waiting.reason");
            self.reason = match terminated {
                Some(end) => format!("Init:{}", ending(end)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{index}/{}", specs.len()),
            };
            return (true, sidecar_restarts);
        }
        (false, sidecar_restarts)
    }

    /// Goes through the containers from the last to the first, whose word counts most.
    fn run(&mut self, pod: &Value) {
        let mut running = false;
        for status in object::list(pod, "status.containerStatuses").iter().rev() {
            self.restarts.add(status);
            let waiting = object::text(status, "state.waiting.reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(end) = object::get(status, "state.terminated") {
                self.reason = ending(end);
            } else if object::truth(status, "ready") && object::get(status, "state.running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            self.reason = if is_true(pod, "Ready") { "Running" } else { "NotReady" }.to_owned();
        }
    }
}

fn ending(terminated: &Value) -> String {
    let number = |field| object::integer(terminated, field).unwrap_or_default();
    match (object::text(terminated, "reason"), number("signal")) {
        ("", 0) => format!("ExitCode:{}", number("exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn is_sidecar(container: &Value) -> bool {
    object::text(container, "restartPolicy") == "Always"
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    object::list(pod, "status.conditions")
        .iter()
        .find(|condition| object::text(condition, "type") == kind)
}

fn is_true(pod: &Value, kind: &str) -> bool {
    condition(pod, kind).is_some_and(|condition| object::text(condition, "status") == "True")
}

fn gates(pod: &Value) -> String {
    let gates = object::list(pod, "spec.readinessGates");
    let open = gates
        .iter()
        .filter(|gate| is_true(pod, object::text(gate, "conditionType")))
        .count();
    if gates.is_empty() {
        String::new()
    } else {
        format!("{open}/{}", gates.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(pod: &Value) -> String {
        Summary::of(pod).reason
    }

    fn ended(code: i64, reason: &str) -> Value {
        json!({"terminated": {"exitCode": code, "reason": reason}})
    }

    #[test]
    fn the_status_word_is_that_of_kubectl() {
        let running = json!({"state": {"running": {}}, "ready": true});
        let back_off = json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 3});
        let cases = [
            (json!({"status": {"phase": "Pending"}}), "Pending"),
            (
                json!({"status": {"phase": "Running", "containerStatuses": [running]}}),
                "Running",
            ),
            (
                json!({"status": {"phase": "Running", "containerStatuses": [running, back_off]}}),
                "CrashLoopBackOff",
            ),
            (
                json!({"status": {"phase": "Succeeded", "containerStatuses": [{"state": ended(0, "Completed")}]}}),
                "Completed",
            ),
            (
                json!({"status": {"phase": "Failed", "containerStatuses": [{"state": ended(1, "Error")}]}}),
                "Error",
            ),
            (
                json!({"status": {"phase": "Failed", "containerStatuses": [{"state": ended(3, "")}]}}),
                "ExitCode:3",
            ),
            (json!({"status": {"phase": "Failed", "reason": "Evicted"}}), "Evicted"),
            (
                json!({"status": {"phase": "Running", "containerStatuses": [{"state": ended(0, "Completed")}, running]}}),
                "NotReady",
            ),
            (
                json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [{"state": ended(0, "Completed")}, running]}}),
                "Running",
            ),
            (
                json!({"metadata": {"deletionTimestamp": "1970-01-01T00:00:00Z"}, "status": {"phase": "Running"}}),
                "Terminating",
            ),
            (
                json!({"metadata": {"deletionTimestamp": "1970-01-01T00:00:00Z"}, "status": {"phase": "Running", "reason": "NodeLost"}}),
                "Unknown",
            ),
            (
                json!({"status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}}),
                "SchedulingGated",
            ),
        ];
        for (pod, word) in cases {
            assert_eq!(status(&pod), word, "{pod}");
        }
    }

    #[test]
    fn init_containers_show_their_progress() {
        let specs = json!([{"name": "a"}, {"name": "b"}]);
        let done = json!({"name": "a", "state": ended(0, "Completed")});
        let cases = [
            (json!([done, {"name": "b", "state": {"running": {}}}]), "Init:1/2"),
            (
                json!([{"name": "a", "state": {"waiting": {"reason": "PodInitializing"}}}]),
                "Init:0/2",
            ),
            (
                json!([{"name": "a", "state": {"waiting": {"reason": "ErrImagePull"}}}]),
                "Init:ErrImagePull",
            ),
            (json!([{"name": "a", "state": ended(1, "Error")}]), "Init:Error"),
            (
                json!([{"name": "a", "state": {"terminated": {"exitCode": 1, "signal": 9}}}]),
                "Init:Signal:9",
            ),
            (json!([done, done]), "Pending"),
        ];
        for (statuses, word) in cases {
            let pod = json!({"spec": {"initContainers": specs}, "status": {"phase": "Pending", "initContainerStatuses": statuses}});
            assert_eq!(status(&pod), word, "{statuses}");
        }
    }

    #[test]
    fn restarts_tell_when_the_last_was() {
        let status = json!({
            "restartCount": 3, "state": {"running": {}}, "ready": true, "lastState": {"terminated": {"finishedAt": "1970-01-01T00:00:00Z"}},
        });
        let pod = json!({
            "metadata": {"name": "p", "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"containers": [{}, {}], "nodeName": "n", "initContainers": [{"name": "s", "restartPolicy": "Always"}]},
            "status": {
                "phase": "Running", "containerStatuses": [status], "podIPs": [{"ip": "10.1.0.2"}],
                "initContainerStatuses": [{"name": "s", "restartCount": 1, "started": true, "ready": true, "state": {"running": {}}}],
            },
        });
        let wanted = json!([
            "p",
            "2/3",
            "Running",
            "4 (5m ago)",
            "5m",
            "10.1.0.2",
            "n",
            "<none>",
            "<none>"
        ]);
        assert_eq!(Value::from(cells(&pod, 300_000_000)), wanted);
    }
}
