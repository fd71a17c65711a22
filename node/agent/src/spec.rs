//! What the deciders need to know of a pod's specification, read once.
//!
//! Containers are numbered through: init containers first, in order, then the others, and last those that were added to the
//! running pod. Every list of containers in this crate is in that order, and a number once given stays.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod};

/// When an ended container starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever its exit code.
    Always,
    /// When its exit code is not zero.
    OnFailure,
    /// Not at all.
    Never,
}

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container that keeps running beside the others.
    Sidecar,
    /// One of the containers that make the pod's work.
    Main,
    /// Somebody added it to look around: it runs once, and the pod's life does not depend on it.
    Ephemeral,
}

/// The parts of a specification that decide a pod's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The pod's restart policy.
    pub policy: RestartPolicy,
    /// The role of every container.
    pub roles: Vec<Role>,
    /// `activeDeadlineSeconds`.
    pub active_deadline_seconds: Option<i64>,
    /// `terminationGracePeriodSeconds`; 30 where the pod says nothing.
    pub grace_seconds: u64,
}

impl Shape {
    /// Reads a pod.
    pub fn of(pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        let policy = match spec.and_then(|spec| spec.restart_policy.as_deref()) {
            Some("Never") => RestartPolicy::Never,
            Some("OnFailure") => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        };
        let init = spec
            .and_then(|spec| spec.init_containers.as_deref())
            .unwrap_or_default();
        let main = spec.map_or(&[][..], |spec| spec.containers.as_slice());
        let init_roles = init.iter().map(|container| match container.restart_policy.as_deref() {
            Some("Always") => Role::Sidecar,
            _ => Role::Init,
        });
        let main_roles = main.iter().map(|container| match is_ephemeral(pod, &container.name) {
            true => Role::Ephemeral,
            false => Role::Main,
        });
        Self {
            policy,
            roles: init_roles.chain(main_roles).collect(),
            active_deadline_seconds: spec.and_then(|spec| spec.active_deadline_seconds),
            grace_seconds: spec
                .and_then(|spec| spec.termination_grace_period_seconds)
                .map_or(30, |seconds| u64::try_from(seconds).unwrap_or(1)),
        }
    }

    /// Whether a container with this role starts again after this exit code.
    pub fn restarts(&self, role: Role, exit_code: i32) -> bool {
        match (role, self.policy) {
            (Role::Sidecar, _) | (Role::Main, RestartPolicy::Always) => true,
            (Role::Main | Role::Init, RestartPolicy::Never) | (Role::Ephemeral, _) => false,
            // An init container that succeeded is done under every policy.
            (Role::Init, _) | (Role::Main, RestartPolicy::OnFailure) => exit_code != 0,
        }
    }
}

/// Lists the ephemeral containers of a pod from the API behind the others, so that this crate sees all alike.
pub fn adopt(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    spec.containers.extend(ephemeral.filter_map(as_container));
}

/// They have the fields of other containers, and one more that means nothing here.
fn as_container(ephemeral: &EphemeralContainer) -> Option<Container> {
    serde_json::from_value(serde_json::to_value(ephemeral).ok()?).ok()
}

fn is_ephemeral(pod: &Pod, name: &str) -> bool {
    let spec = pod.spec.as_ref();
    let mut ephemeral = spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    ephemeral.any(|container| container.name == name)
}

/// All containers of a pod, in this crate's order.
pub fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.as_ref();
    let init = spec
        .and_then(|spec| spec.init_containers.as_deref())
        .unwrap_or_default();
    let main = spec.map_or(&[][..], |spec| spec.containers.as_slice());
    init.iter().chain(main)
}

/// One container of a pod by its number.
pub fn container(pod: &Pod, index: usize) -> Option<&Container> {
    containers(pod).nth(index)
}

/// How many of the containers are init containers.
pub fn init_count(pod: &Pod) -> usize {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.init_containers.as_ref())
        .map_or(0, Vec::len)
}

/// The `fieldPath` by which events name a container.
pub fn field_path(pod: &Pod, index: usize) -> Option<String> {
    let container = container(pod, index)?;
    let list = if index < init_count(pod) {
        "initContainers"
    } else if is_ephemeral(pod, &container.name) {
        "ephemeralContainers"
    } else {
        "containers"
    };
    Some(format!("spec.{list}{{{}}}", container.name))
}
