//! What the API is told of a pod: (pod, shape, observed, what was told before) to `PodStatus`.
//!
//! Pure. The laws that clients rely on hold here: a phase never goes back, a condition keeps its transition time while its
//! status stays, a container that ended and will start again shows as waiting with its end as last state.

use crate::clock::whole_seconds;
use crate::observed::{Cause, Observed, Phase, Sandbox, Seen, State, Terminated, waiting};
use crate::resize::Resources;
use crate::spec::{self, Role, Shape};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::net::IpAddr;

/// What every pod of a node shares.
#[derive(Debug, Clone)]
pub struct Host {
    /// The node's address.
    pub ip: IpAddr,
}

/// The phase that the containers alone give, never below what was published before.
pub fn phase(shape: &Shape, pod: &Observed) -> Phase {
    containers_phase(shape, pod).max(pod.phase)
}

fn containers_phase(shape: &Shape, pod: &Observed) -> Phase {
    if let Some(doom) = &pod.doom
        && let Some(end) = end_phase(shape, pod, doom.cause)
    {
        return end;
    }
    let of = |wanted: Role| {
        shape
            .roles
            .iter()
            .zip(&pod.containers)
            .filter(move |(role, _)| **role == wanted)
            .map(|(_, seen)| seen)
    };
    for seen in of(Role::Init) {
        match seen.terminated() {
            Some(ended) if ended.exit_code == 0 => {}
            Some(ended) if !shape.restarts(Role::Init, ended.exit_code) => return Phase::Failed,
            _ => return Phase::Pending,
        }
    }
    let (mut running, mut failed, mut again, mut fresh) = (0, 0, 0, 0);
    for seen in of(Role::Main) {
        match &seen.state {
            State::Running { .. } => running += 1,
            State::Terminated(ended) if shape.restarts(Role::Main, ended.exit_code) => again += 1,
            State::Terminated(ended) if ended.exit_code != 0 => failed += 1,
            State::Terminated(_) => {}
            State::Waiting { .. } | State::Starting if seen.last.is_some() => again += 1,
            State::Waiting { .. } | State::Starting => fresh += 1,
        }
    }
    if fresh > 0 {
        return Phase::Pending;
    }
    let sidecars_run = of(Role::Sidecar).any(Seen::is_running);
    if running + again > 0 || sidecars_run {
        return Phase::Running;
    }
    if failed > 0 { Phase::Failed } else { Phase::Succeeded }
}

/// The phase of a pod that is being ended, once nothing of it runs.
fn end_phase(shape: &Shape, pod: &Observed, cause: Cause) -> Option<Phase> {
    if cause == Cause::Failed || pod.failure.is_some() {
        return Some(Phase::Failed);
    }
    if pod.containers.iter().any(Seen::is_running) {
        return None;
    }
    let well = |seen: &Seen| seen.terminated().is_some_and(|ended| ended.exit_code == 0);
    let mut counted = shape.roles.iter().zip(&pod.containers);
    let ended = pod.containers.iter().any(|seen| seen.terminated().is_some());
    ended.then(|| {
        if counted.all(|(role, seen)| *role == Role::Ephemeral || well(seen)) {
            Phase::Succeeded
        } else {
            Phase::Failed
        }
    })
}

/// Everything that the API is told. `before` is what it was told last.
pub fn status(
    pod: &Pod,
    shape: &Shape,
    observed: &Observed,
    before: Option<&PodStatus>,
    host: &Host,
    now: Timestamp,
) -> PodStatus {
    let phase = phase(shape, observed);
    let statuses = |roles: &[Role]| -> Option<Vec<ContainerStatus>> {
        let all = spec::containers(pod).zip(shape.roles.iter().zip(&observed.containers));
        let list: Vec<_> = all
            .filter(|(_, (role, _))| roles.contains(role))
            .map(|(container, (role, seen))| container_status(container, *role, seen, shape, observed, now))
            .collect();
        (!list.is_empty()).then_some(list)
    };
    let ips = observed.sandbox.ips();
    let failure = observed.failure.clone();
    PodStatus {
        phase: Some(phase.as_str().to_owned()),
        reason: failure.as_ref().map(|failure| failure.reason.clone()),
        message: failure.map(|failure| failure.message),
        conditions: Some(conditions(pod, shape, observed, before, phase, now)),
        init_container_statuses: statuses(&[Role::Init, Role::Sidecar]),
        container_statuses: statuses(&[Role::Main]),
        ephemeral_container_statuses: statuses(&[Role::Ephemeral]),
        host_ip: Some(host.ip.to_string()),
        host_ips: Some(vec![HostIP {
            ip: host.ip.to_string(),
        }]),
        pod_ip: ips.first().map(ToString::to_string),
        pod_ips: (!ips.is_empty()).then(|| ips.iter().map(|ip| PodIP { ip: ip.to_string() }).collect()),
        start_time: Some(Time(whole_seconds(observed.start_time))),
        observed_generation: pod.metadata.generation,
        qos_class: before.and_then(|status| status.qos_class.clone()),
        ..PodStatus::default()
    }
}

fn container_status(
    container: &Container,
    role: Role,
    seen: &Seen,
    shape: &Shape,
    pod: &Observed,
    now: Timestamp,
) -> ContainerStatus {
    let (state, last) = states(role, seen, shape, pod, now);
    let id = match (&seen.state, &seen.last) {
        (State::Running { id, .. }, _) => Some(id),
        (State::Terminated(ended), _) | (_, Some(ended)) => Some(&ended.id),
        _ => None,
    };
    let resources = seen.resources.as_ref().filter(|_| seen.is_running());
    let (resources, allocated_resources) = resources.and_then(Resources::for_status).unzip();
    let initialized = role == Role::Init && seen.terminated().is_some_and(|ended| ended.exit_code == 0);
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: seen.image_id.as_deref().unwrap_or_default().to_owned(),
        container_id: id.map(|id| id.to_string()),
        ready: initialized || (!matches!(role, Role::Init | Role::Ephemeral) && seen.is_running() && seen.ready),
        started: Some(seen.is_running() && seen.started),
        restart_count: i32::try_from(seen.restarts).unwrap_or(i32::MAX),
        state: Some(state),
        last_state: last.map(terminated_state),
        resources,
        allocated_resources: allocated_resources.flatten(),
        ..ContainerStatus::default()
    }
}

/// The state and the last state. An end that will be followed by a start is shown as waiting.
fn states<'a>(
    role: Role,
    seen: &'a Seen,
    shape: &Shape,
    pod: &Observed,
    now: Timestamp,
) -> (ContainerState, Option<&'a Terminated>) {
    match &seen.state {
        State::Running { since, .. } => {
            let running = ContainerStateRunning {
                started_at: Some(Time(whole_seconds(*since))),
            };
            (
                ContainerState {
                    running: Some(running),
                    ..ContainerState::default()
                },
                seen.last.as_ref(),
            )
        }
        State::Terminated(ended) => {
            let again =
                pod.doom.is_none() && shape.restarts(role, ended.exit_code) && seen.due.is_some_and(|due| due > now);
            if again {
                let message = seen.crash_message.as_deref().map(str::to_owned);
                (waiting_state(waiting::CRASH_LOOP, message), Some(ended))
            } else {
                (terminated_state(ended), seen.last.as_ref())
            }
        }
        State::Starting => (waiting_state(creating(role, shape, pod), None), seen.last.as_ref()),
        State::Waiting { reason, message } => {
            let reason = if *reason == waiting::CREATING {
                creating(role, shape, pod)
            } else {
                reason
            };
            (
                waiting_state(reason, message.as_deref().map(str::to_owned)),
                seen.last.as_ref(),
            )
        }
    }
}

/// While init containers are not done, everything else is "initializing".
fn creating(role: Role, shape: &Shape, pod: &Observed) -> &'static str {
    let is_init = |role: &Role| matches!(role, Role::Init | Role::Sidecar);
    let has_init = shape.roles.iter().any(is_init);
    if is_init(&role) || (has_init && role == Role::Main && !initialized(shape, pod)) {
        waiting::INITIALIZING
    } else {
        waiting::CREATING
    }
}

fn initialized(shape: &Shape, pod: &Observed) -> bool {
    incomplete(shape, pod).next().is_none()
}

/// The numbers of the init containers that are not done yet.
fn incomplete<'a>(shape: &'a Shape, pod: &'a Observed) -> impl Iterator<Item = usize> + 'a {
    shape
        .roles
        .iter()
        .zip(&pod.containers)
        .enumerate()
        .filter_map(|(index, (role, seen))| {
            let done = match role {
                Role::Main | Role::Ephemeral => true,
                Role::Init => seen.terminated().is_some_and(|ended| ended.exit_code == 0),
                Role::Sidecar => (seen.is_running() && seen.started) || seen.terminated().is_some(),
            };
            (!done).then_some(index)
        })
}

fn waiting_state(reason: &str, message: Option<String>) -> ContainerState {
    let waiting = ContainerStateWaiting {
        reason: Some(reason.to_owned()),
        message,
    };
    ContainerState {
        waiting: Some(waiting),
        ..ContainerState::default()
    }
}

fn terminated_state(ended: &Terminated) -> ContainerState {
    let terminated = ContainerStateTerminated {
        exit_code: ended.exit_code,
        reason: Some(ended.reason.clone()),
        message: ended.message.clone(),
        started_at: Some(Time(whole_seconds(ended.started_at))),
        finished_at: Some(Time(whole_seconds(ended.finished_at))),
        container_id: Some(ended.id.to_string()).filter(|id| !id.is_empty()),
        signal: None,
    };
    ContainerState {
        terminated: Some(terminated),
        ..ContainerState::default()
    }
}

/// A condition's status, reason and message.
struct Verdict {
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn yes() -> Self {
        Self {
            holds: true,
            reason: None,
            message: None,
        }
    }

    fn no(reason: &'static str, message: Option<String>) -> Self {
        Self {
            holds: false,
            reason: Some(reason),
            message,
        }
    }
}

fn conditions(
    pod: &Pod,
    shape: &Shape,
    observed: &Observed,
    before: Option<&PodStatus>,
    phase: Phase,
    now: Timestamp,
) -> Vec<PodCondition> {
    let before = before
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let generation = pod.metadata.generation;
    let ready = containers_ready(pod, shape, observed, phase);
    let gates = readiness_gates(pod);
    let ready_condition = match gates {
        Some(message) if ready.holds => Verdict::no("ReadinessGatesNotReady", Some(message)),
        _ => Verdict {
            holds: ready.holds,
            reason: ready.reason,
            message: ready.message.clone(),
        },
    };
    let network = Verdict {
        holds: matches!(observed.sandbox, Sandbox::Ready(_)),
        reason: None,
        message: None,
    };
    [
        ("PodReadyToStartContainers", network),
        ("Initialized", initialized_condition(pod, shape, observed, phase)),
        ("Ready", ready_condition),
        ("ContainersReady", ready),
        ("PodScheduled", Verdict::yes()),
    ]
    .into_iter()
    .chain(observed.resize.as_ref().map(|resize| {
        let (type_, reason, message) = resize.condition();
        let verdict = Verdict {
            holds: true,
            reason: Some(reason),
            message: Some(message.to_owned()),
        };
        (type_, verdict)
    }))
    .map(|(type_, verdict)| condition(before, type_, verdict, generation, now))
    .collect()
}

fn condition(
    before: &[PodCondition],
    type_: &str,
    verdict: Verdict,
    generation: Option<i64>,
    now: Timestamp,
) -> PodCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let unchanged = before
        .iter()
        .find(|before| before.type_ == type_ && before.status == status);
    PodCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message,
        last_transition_time: Some(
            unchanged
                .and_then(|before| before.last_transition_time.clone())
                .unwrap_or_else(|| Time(whole_seconds(now))),
        ),
        last_probe_time: None,
        observed_generation: generation,
    }
}

fn initialized_condition(pod: &Pod, shape: &Shape, observed: &Observed, phase: Phase) -> Verdict {
    if phase == Phase::Succeeded {
        return Verdict {
            reason: Some("PodCompleted"),
            ..Verdict::yes()
        };
    }
    let names = names(pod, incomplete(shape, observed));
    if names.is_empty() {
        return Verdict::yes();
    }
    Verdict::no(
        "ContainersNotInitialized",
        Some(format!("containers with incomplete status: [{names}]")),
    )
}

fn containers_ready(pod: &Pod, shape: &Shape, observed: &Observed, phase: Phase) -> Verdict {
    match phase {
        Phase::Succeeded => return Verdict::no("PodCompleted", None),
        Phase::Failed => return Verdict::no("PodFailed", None),
        Phase::Pending | Phase::Running => {}
    }
    let unready = shape
        .roles
        .iter()
        .zip(&observed.containers)
        .enumerate()
        .filter_map(|(index, (role, seen))| {
            let ready = matches!(role, Role::Init | Role::Ephemeral) || (seen.is_running() && seen.ready);
            (!ready).then_some(index)
        });
    let names = names(pod, unready);
    if names.is_empty() && initialized(shape, observed) {
        return Verdict::yes();
    }
    Verdict::no(
        "ContainersNotReady",
        Some(format!("containers with unready status: [{names}]")),
    )
}

fn names(pod: &Pod, indices: impl Iterator<Item = usize>) -> String {
    let name = |index| spec::container(pod, index).map(|container| container.name.as_str());
    indices.filter_map(name).collect::<Vec<_>>().join(" ")
}

/// What stands in the way among the conditions that other parties set.
fn readiness_gates(pod: &Pod) -> Option<String> {
    let gates = pod.spec.as_ref()?.readiness_gates.as_ref()?;
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let missing: Vec<String> = gates
        .iter()
        .filter_map(|gate| {
            let type_ = &gate.condition_type;
            match conditions.iter().find(|condition| condition.type_ == *type_) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate {type_:?} does not exist."
                )),
                Some(condition) if condition.status != "True" => Some(format!(
                    "the status of pod readiness gate {type_:?} is not \"True\", but {}",
                    condition.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

#[cfg(test)]
mod tests;
