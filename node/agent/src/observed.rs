//! What the node knows of a pod that it runs: the second input of every decision, beside the specification.
//!
//! Plain values without behaviour of the outside world: only the pod's own task changes them, `plan` and `status` read them.

use crate::backoff::Backoff;
use crate::resize::{Resize, Resources};
use jiff::Timestamp;
use std::net::IpAddr;
use std::sync::Arc;

/// The reasons for which a container waits, as clients know them.
pub mod waiting {
    /// The container is being made.
    pub const CREATING: &str = "ContainerCreating";
    /// Init containers come first.
    pub const INITIALIZING: &str = "PodInitializing";
    /// It ended and has to wait before it starts again.
    pub const CRASH_LOOP: &str = "CrashLoopBackOff";
    /// The image could not be had.
    pub const IMAGE_PULL: &str = "ErrImagePull";
    /// The image could not be had and the next attempt is later.
    pub const IMAGE_BACKOFF: &str = "ImagePullBackOff";
    /// The image is not on the node and the policy is `Never`.
    pub const IMAGE_NEVER: &str = "ErrImageNeverPull";
    /// The image's name is no name.
    pub const IMAGE_NAME: &str = "InvalidImageName";
    /// Something that the container's environment refers to is missing.
    pub const CONFIG: &str = "CreateContainerConfigError";
    /// The image is no module that this node can run.
    pub const CREATE: &str = "CreateContainerError";
    /// The module could not be started.
    pub const RUN: &str = "RunContainerError";
}

/// A pod as the node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The pod's network.
    pub sandbox: Sandbox,
    /// The pod's volumes and the objects that it refers to.
    pub volumes: Volumes,
    /// When this node took the pod.
    pub start_time: Timestamp,
    /// Why the pod has to end, once it has to.
    pub doom: Option<Doom>,
    /// Why the node failed it, if it did.
    pub failure: Option<Failure>,
    /// Why containers do not have the resources that their specification wants, if so.
    pub resize: Option<Resize>,
    /// Every container, init containers first.
    pub containers: Vec<Seen>,
    /// The highest phase that was ever published.
    pub phase: Phase,
}

/// The pod's network: its address and loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sandbox {
    /// Not made yet.
    Absent,
    /// Could not be made; try again later.
    Failed {
        /// When.
        retry_at: Timestamp,
    },
    /// The pod has these addresses.
    Ready(Vec<IpAddr>),
    /// It had these addresses and needs them no more.
    Removed(Vec<IpAddr>),
}

impl Sandbox {
    /// The pod's addresses, also after its end.
    pub fn ips(&self) -> &[IpAddr] {
        match self {
            Self::Ready(ips) | Self::Removed(ips) => ips,
            Self::Absent | Self::Failed { .. } => &[],
        }
    }
}

/// Whether containers may look at their files and variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volumes {
    /// Not made yet.
    Unmounted,
    /// Being made, or waiting for the API's answer about an object.
    Mounting,
    /// Could not be made; try again later, or when an object changes.
    Failed {
        /// When.
        retry_at: Timestamp,
    },
    /// All is there.
    Ready,
}

/// Why the node failed a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `DeadlineExceeded`, `OutOfmemory`, ...
    pub reason: String,
    /// One sentence for people.
    pub message: String,
}

/// Why a pod ends before its containers do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doom {
    /// What happened.
    pub cause: Cause,
    /// When containers that still run are killed.
    pub deadline: Timestamp,
}

/// What ends a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Somebody asked for its deletion; the node finishes it.
    Deleted,
    /// The object is gone from the API: nothing to report to any more.
    Gone,
    /// The node ends it: see [`Observed::failure`].
    Failed,
}

/// The life of a pod as clients see it, in the order in which it may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not every container has started.
    Pending,
    /// All have started, some may be starting again.
    Running,
    /// All ended well and none will start again.
    Succeeded,
    /// All ended, some not well.
    Failed,
}

impl Phase {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }

    /// Reads the word of the API; anything else is `Pending`.
    pub fn parse(word: &str) -> Self {
        match word {
            "Running" => Self::Running,
            "Succeeded" => Self::Succeeded,
            "Failed" => Self::Failed,
            _ => Self::Pending,
        }
    }

    /// Whether nothing follows.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// A container as the node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What it is doing.
    pub state: State,
    /// How it ended the last time, when it has been started again since.
    pub last: Option<Terminated>,
    /// How many times it has been started again.
    pub restarts: u32,
    /// Spaces out restarts.
    pub backoff: Backoff,
    /// Spaces out attempts to create it.
    pub attempts: Backoff,
    /// It may start from this time on.
    pub due: Option<Timestamp>,
    /// Whether its readiness probe holds; without one, whether it runs.
    pub ready: bool,
    /// Whether its startup probe held; without one, whether it runs.
    pub started: bool,
    /// What to say while it waits for its next start after an end.
    pub crash_message: Option<Arc<str>>,
    /// Set while it is being stopped: when it is killed.
    pub stop: Option<Timestamp>,
    /// Why it has to be stopped and started again.
    pub unhealthy: Option<Arc<str>>,
    /// Its specification changed: it starts again after its end whatever the policy says.
    pub changed: bool,
    /// The identity of its image, once that is known.
    pub image_id: Option<Arc<str>>,
    /// What it runs with, once it was started.
    pub resources: Option<Resources>,
}

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nothing yet, or the last attempt to create it failed.
    Waiting {
        /// One of [`waiting`].
        reason: &'static str,
        /// One sentence for people.
        message: Option<Arc<str>>,
    },
    /// It is being created.
    Starting,
    /// It runs.
    Running {
        /// Since when.
        since: Timestamp,
        /// The container's identity.
        id: Arc<str>,
    },
    /// It ended.
    Terminated(Terminated),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminated {
    /// 0 is success.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `FuelExhausted`, ...
    pub reason: String,
    /// More for people.
    pub message: Option<String>,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// The container's identity.
    pub id: Arc<str>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            state: State::Waiting {
                reason: waiting::CREATING,
                message: None,
            },
            last: None,
            restarts: 0,
            backoff: Backoff::default(),
            attempts: Backoff::default(),
            due: None,
            crash_message: None,
            ready: false,
            started: false,
            stop: None,
            unhealthy: None,
            changed: false,
            image_id: None,
            resources: None,
        }
    }
}

impl Seen {
    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// How it ended, if it has.
    pub fn terminated(&self) -> Option<&Terminated> {
        match &self.state {
            State::Terminated(terminated) => Some(terminated),
            _ => None,
        }
    }
}
