//! One pod's life: a task that observes, asks `plan`, carries out, and tells the API.
//!
//! Everything that takes time (mounting, starting, probing, hooks, requests) is a future that this task polls itself: it spawns
//! nothing, and when it ends nothing of the pod is left running. A pod at rest is one idle task that waits for an exit, a
//! probe's time or a change of its object.

mod act;
mod heard;
mod report;
mod resize;
mod room;

use crate::cell::{Found, PodCell};
use crate::clock::until;
use crate::events::{Entry, Subject};
use crate::logs::LogFile;
use crate::node::Node;
use crate::objects::Watched;
use crate::observed::{Cause, Observed, State};
use crate::plan::{self, Action};
use crate::probe::{Answer, Place, Purpose, Watch};
use crate::recover;
use crate::spec::{self, Shape};
use crate::start::{Failure, Started};
use crate::termination::MessageFile;
use crate::token::Tokens;
use crate::volume::accounts::{Full, PodAccounts};
use coracle_images::Hold;
use coracle_net::PodNet;
use coracle_runtime::{Container, Exit, PodFiles};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use std::net::IpAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The task of one pod.
pub struct PodTask {
    node: Arc<Node>,
    cell: Arc<PodCell>,
    pod: Arc<Pod>,
    shape: Shape,
    subject: Arc<Subject>,
    observed: Observed,
    net: Option<Arc<PodNet>>,
    /// The address before the process started, which is taken again if it is free.
    wanted_ip: Option<IpAddr>,
    runs: Vec<Run>,
    objects: Option<Arc<[Arc<Watched>]>>,
    /// The revisions of the objects that volumes were made from last.
    seen_revisions: Vec<Option<String>>,
    /// Volumes are being written.
    mounting: bool,
    /// They have to be written once more after that.
    mount_again: bool,
    tokens: Arc<Tokens>,
    /// When files have to be written again although no object changed.
    refresh_at: Option<Timestamp>,
    /// When to try again to give containers other resources.
    resize_at: Option<Timestamp>,
    /// What volumes may hold.
    accounts: Arc<PodAccounts>,
    /// What was told of volumes that are full.
    told_full: Vec<Full>,
    /// The pod's part of handles and threads for files.
    files: Arc<PodFiles>,
    report: Report,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
}

/// What belongs to the present start of a container.
#[derive(Default)]
struct Run {
    /// Which start: results of an earlier one are ignored.
    number: u32,
    container: Option<Arc<Container>>,
    log: Option<Arc<LogFile>>,
    message: Option<MessageFile>,
    /// The image that it was started from, as the pod names it.
    image: String,
    /// The digest of its module.
    digest: Option<Arc<str>>,
    /// Keeps the image while the pod is there: the container may start again.
    _hold: Hold,
    watches: Vec<Watch>,
}

/// What the API knows, and what is on the way to it.
#[derive(Default)]
struct Report {
    told: Option<Box<PodStatus>>,
    /// The uid of the object that was told.
    uid: Option<String>,
    busy: bool,
    deleted: bool,
    failures: u32,
    retry_at: Option<Timestamp>,
    /// While containers are being started, an intermediate status waits until then.
    hold_until: Option<Timestamp>,
}

/// Why a pod's files are not there: the reason of the event, and its message.
struct NotMounted {
    reason: &'static str,
    message: String,
}

impl NotMounted {
    /// Because of a volume.
    fn volume(message: impl ToString) -> Self {
        Self {
            reason: "FailedMount",
            message: message.to_string(),
        }
    }
}

/// Something that took time is over.
enum Done {
    Mounted(Result<PodAccounts, NotMounted>),
    Started {
        index: usize,
        number: u32,
        result: Result<Started, Failure>,
    },
    Exited {
        index: usize,
        number: u32,
        exit: Exit,
    },
    PreStop {
        index: usize,
        number: u32,
        result: Result<(), String>,
    },
    PostStart {
        index: usize,
        number: u32,
        result: Result<(), String>,
    },
    Probed {
        index: usize,
        number: u32,
        purpose: Purpose,
        answer: Answer,
    },
    Reported {
        status: Box<PodStatus>,
        result: Result<(), kube::Error>,
    },
    Deleted(Result<(), kube::Error>),
}

impl PodTask {
    /// A task for a pod that was assigned to the node.
    pub fn new(node: Arc<Node>, cell: Arc<PodCell>) -> Self {
        let pod = cell.wanted().pod;
        let shape = Shape::of(&pod);
        let observed = recover::recover(&pod, &shape, node.clock.now());
        let runs = observed.containers.iter().map(|_| Run::default()).collect();
        let report = Report {
            told: pod.status.clone().map(Box::new),
            ..Report::default()
        };
        let accounts = Arc::new(PodAccounts::of(&pod));
        Self {
            subject: Arc::new(Subject::of(&pod)),
            wanted_ip: recover::addresses(pod.status.as_ref()).first().copied(),
            node,
            cell,
            pod,
            shape,
            observed,
            net: None,
            runs,
            objects: None,
            seen_revisions: Vec::new(),
            mounting: false,
            mount_again: false,
            tokens: Arc::default(),
            refresh_at: None,
            resize_at: None,
            accounts,
            told_full: Vec::new(),
            files: Arc::default(),
            report,
            work: FuturesUnordered::new(),
        }
    }

    /// Runs until the pod is gone from the API, or the shutdown.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let cell = self.cell.clone();
        while let Some(wake_at) = self.advance() {
            let now = self.node.clock.now();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(done) = self.work.next(), if !self.work.is_empty() => self.heard(done),
                () = cell.changed.notified() => {
                    self.image_files_changed();
                    self.objects_changed();
                }
                () = sleep_until(wake_at, now) => {}
            }
        }
        self.clean_up(shutdown.is_cancelled());
    }

    /// Plans and acts until nothing more can be done now. Returns when to look again; none when the pod is over.
    fn advance(&mut self) -> Option<Option<Timestamp>> {
        loop {
            let now = self.node.clock.now();
            self.observe(now);
            let plan = plan::plan(&self.shape, &self.observed, now);
            let mut progress = false;
            for action in plan.actions {
                match action {
                    Action::Finish if self.is_gone() => return None,
                    Action::Finish => {}
                    action => progress |= self.act(action, now),
                }
            }
            while let Some(Some(done)) = self.work.next().now_or_never() {
                self.heard(done);
                progress = true;
            }
            if progress {
                continue;
            }
            let running = self.runs.iter().map(|run| run.container.clone());
            self.cell.show(&self.pod, &self.observed, running);
            let probes = self.probe(now);
            let refresh = self.refresh(now);
            let resize = self.resize_again(now);
            let report = self.report(now);
            self.tell_full();
            let times = [plan.wake_at, probes, refresh, resize, report];
            return Some(times.into_iter().flatten().min());
        }
    }

    /// Takes in what others want of the pod.
    fn observe(&mut self, now: Timestamp) {
        let wanted = self.cell.wanted();
        let changed = !Arc::ptr_eq(&wanted.pod, &self.pod);
        if changed {
            let before = std::mem::replace(&mut self.pod, wanted.pod);
            self.pod_changed(&before, now);
        }
        let current = self.observed.doom.as_ref();
        let known = current.is_some_and(|doom| doom.cause == Cause::Gone || (doom.cause == Cause::Deleted && !changed));
        if !known || wanted.gone {
            self.observed.doom = plan::doom(current, &self.pod, wanted.gone, now);
        }
    }

    fn is_gone(&self) -> bool {
        self.observed
            .doom
            .as_ref()
            .is_some_and(|doom| doom.cause == Cause::Gone)
    }

    fn run_number(&self, index: usize) -> u32 {
        self.runs.get(index).map_or(0, |run| run.number)
    }

    fn container_name(&self, index: usize) -> &str {
        spec::container(&self.pod, index).map_or("", |container| container.name.as_str())
    }

    fn place(&self, index: usize, ip: IpAddr) -> Place {
        let container = self.runs.get(index).and_then(|run| run.container.as_ref());
        place(&self.node, &self.pod, container, self.container_name(index), ip)
    }

    fn later(&self, future: impl Future<Output = Done> + Send + 'static) {
        self.work.push(future.boxed());
    }

    fn event(&self, index: Option<usize>, warning: bool, reason: &'static str, message: String) {
        self.node.recorder.record(Entry {
            subject: self.subject.clone(),
            field_path: index.and_then(|index| spec::field_path(&self.pod, index)),
            warning,
            reason,
            message,
        });
    }

    /// What is left after the last container: the network, and unless the agent will come back for the pod, its files.
    fn clean_up(mut self, shutdown: bool) {
        for run in &mut self.runs {
            run.container = None;
            if let Some(log) = run.log.take() {
                log.end();
            }
        }
        self.remove_sandbox();
        if shutdown {
            return;
        }
        let (node, subject, pod) = (self.node, self.subject, self.pod);
        let work = move || {
            node.logs.remove_pod(&subject.namespace, &subject.name, &subject.uid);
            let dir = crate::start::pod_dir(&node, &pod);
            if let Err(error) = crate::volume::tear_down(&dir) {
                tracing::warn!(dir = %dir.display(), %error, "cannot delete the volumes of a pod");
            }
        };
        tokio::task::spawn_blocking(work);
    }
}

/// Where a container of a pod is asked how it is.
fn place(node: &Arc<Node>, pod: &Arc<Pod>, container: Option<&Arc<Container>>, name: &str, pod_ip: IpAddr) -> Place {
    Place {
        node: node.clone(),
        pod_ip,
        found: container.map(|container| Found {
            pod: pod.clone(),
            name: name.to_owned(),
            container: container.clone(),
        }),
    }
}

async fn sleep_until(at: Option<Timestamp>, now: Timestamp) {
    match at {
        Some(at) => tokio::time::sleep(until(now, at)).await,
        None => std::future::pending().await,
    }
}

/// Whether this state means that a start is under way.
fn is_starting(state: &State) -> bool {
    matches!(state, State::Starting)
}
