//! Where a pod's task meets everybody else: what is wanted of the pod, and what may be asked about it.
//!
//! Level-triggered: whoever changes something here wakes the task, and the task looks at the present state.

use crate::logs::{LogError, LogTarget};
use crate::observed::{Observed, State, waiting};
use crate::spec;
use coracle_runtime::{Container, Usage};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::Notify;

/// One pod as seen from outside its task.
pub struct PodCell {
    /// Wakes the task.
    pub changed: Arc<Notify>,
    wanted: Mutex<Wanted>,
    view: Mutex<View>,
    object: Mutex<Object>,
}

/// The object by which the API shows a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// The pod itself: it came from there.
    Own,
    /// A static pod's mirror does not exist.
    NoMirror,
    /// A static pod's mirror has this uid.
    Mirror(String),
}

/// What is wanted of a pod.
#[derive(Clone)]
pub struct Wanted {
    /// The latest object.
    pub pod: Arc<Pod>,
    /// Whether it is gone from the API.
    pub gone: bool,
}

/// What may be asked about a pod.
#[derive(Default)]
pub struct View {
    /// Its address.
    pub ip: Option<IpAddr>,
    /// Its containers.
    pub containers: Vec<ContainerView>,
}

/// What may be asked about a container.
pub struct ContainerView {
    /// Its name.
    pub name: String,
    /// Which start's log is the current one; none before the first start.
    pub log: Option<u32>,
    /// Why it waits.
    pub waiting: &'static str,
    /// The container while it runs.
    pub running: Option<Arc<Container>>,
}

/// A container that runs, with the pod that it belongs to.
pub struct Found {
    /// The pod.
    pub pod: Arc<Pod>,
    /// The container's name.
    pub name: String,
    /// The container.
    pub container: Arc<Container>,
}

impl PodCell {
    /// A pod that was assigned to the node.
    pub fn new(pod: Arc<Pod>) -> Self {
        Self {
            changed: Arc::new(Notify::new()),
            wanted: Mutex::new(Wanted { pod, gone: false }),
            view: Mutex::default(),
            object: Mutex::new(Object::Own),
        }
    }

    /// A pod that the API does not know yet.
    pub fn new_static(pod: Arc<Pod>) -> Self {
        Self {
            object: Mutex::new(Object::NoMirror),
            ..Self::new(pod)
        }
    }

    /// The object by which the API shows the pod.
    pub fn object(&self) -> Object {
        self.object.lock().clone()
    }

    /// The mirror of a static pod came or went.
    pub fn set_mirror(&self, uid: Option<String>) {
        *self.object.lock() = uid.map_or(Object::NoMirror, Object::Mirror);
        self.changed.notify_one();
    }

    /// Whether the pod has to end.
    pub fn is_ending(&self) -> bool {
        let wanted = self.wanted.lock();
        wanted.gone || wanted.pod.metadata.deletion_timestamp.is_some()
    }

    /// The object changed.
    pub fn update(&self, pod: Arc<Pod>) {
        self.wanted.lock().pod = pod;
        self.changed.notify_one();
    }

    /// The object is gone.
    pub fn gone(&self) {
        self.wanted.lock().gone = true;
        self.changed.notify_one();
    }

    /// What is wanted now.
    pub fn wanted(&self) -> Wanted {
        self.wanted.lock().clone()
    }

    /// The task tells how things are.
    pub fn show(&self, pod: &Pod, observed: &Observed, running: impl Iterator<Item = Option<Arc<Container>>>) {
        let containers = spec::containers(pod)
            .zip(&observed.containers)
            .zip(running)
            .map(|((container, seen), running)| {
                let (log, waiting) = match &seen.state {
                    State::Running { .. } | State::Terminated(_) => (Some(seen.restarts), ""),
                    State::Starting => (seen.restarts.checked_sub(1), waiting::CREATING),
                    State::Waiting { reason, .. } => (seen.restarts.checked_sub(1), *reason),
                };
                ContainerView {
                    name: container.name.clone(),
                    log,
                    waiting,
                    running,
                }
            })
            .collect();
        *self.view.lock() = View {
            ip: observed.sandbox.ips().first().copied(),
            containers,
        };
    }

    /// The pod's address, if it has one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.view.lock().ip
    }

    /// Which start's log to read.
    ///
    /// # Errors
    /// When there is no such container, or it has not run (often enough) yet.
    pub fn log(&self, target: &LogTarget, previous: bool) -> Result<u32, LogError> {
        let (container, pod) = (target.container.clone(), target.pod.clone());
        let view = self.view.lock();
        let Some(found) = view.containers.iter().find(|view| view.name == container) else {
            return Err(LogError::NoContainer { container, pod });
        };
        match found.log {
            None => Err(LogError::Waiting {
                container,
                pod,
                reason: found.waiting.to_owned(),
            }),
            Some(log) if !previous => Ok(log),
            Some(log) => log.checked_sub(1).ok_or(LogError::NoPrevious { container, pod }),
        }
    }

    /// A container that runs.
    pub fn running(&self, container: &str) -> Option<Found> {
        let running = {
            let view = self.view.lock();
            let found = view.containers.iter().find(|view| view.name == container)?;
            found.running.clone()?
        };
        Some(Found {
            pod: self.wanted().pod,
            name: container.to_owned(),
            container: running,
        })
    }

    /// What the pod's running containers use.
    pub fn usage(&self) -> Vec<(String, Usage)> {
        let view = self.view.lock();
        let of = |view: &ContainerView| Some((view.name.clone(), view.running.as_ref()?.usage()));
        view.containers.iter().filter_map(of).collect()
    }
}
