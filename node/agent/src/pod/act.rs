//! Carries out what `plan` decided.
//!
//! Each action changes what is observed at once, so that it is not planned again, and puts whatever takes time on the task's list.

use super::{Done, NotMounted, PodTask, Run};
use crate::claims;
use crate::clock::after;
use crate::etc::{Names, Zone};
use crate::events::Entry;
use crate::fields::Facts;
use crate::hooks;
use crate::host_ports;
use crate::logs::LogTarget;
use crate::node::Node;
use crate::objects::{Known, Watched};
use crate::observed::{Cause, Doom, Failure, Sandbox, Seen, State, Volumes, waiting};
use crate::plan::Action;
use crate::policies;
use crate::probe::Purpose;
use crate::sidecar;
use crate::spec::{self, Shape};
use crate::start::{Attempt, Held, pod_dir};
use crate::volume;
use crate::volume::accounts::PodAccounts;
use coracle_net::PodIdentity;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a status that only says "starting" waits for the start: most starts take a millisecond, and clients and the API are
/// spared a write that is outdated when it arrives. Longer than a human notices it must not be.
const HOLD: Duration = Duration::from_millis(100);

/// A pod without network, or with files that cannot be written, is tried again after this time.
const RETRY: Duration = Duration::from_secs(10);

impl PodTask {
    /// Acts; says whether what is observed has changed by it.
    pub(super) fn act(&mut self, action: Action, now: Timestamp) -> bool {
        match action {
            Action::CreateSandbox => self.admit(now),
            Action::Mount => self.mount(now),
            Action::Start(index) => self.start(index, now),
            Action::Stop(index) => self.stop(index, now),
            Action::Kill(index) => {
                if let Some(container) = self.runs.get(index).and_then(|run| run.container.as_ref()) {
                    container.kill();
                }
                return false;
            }
            Action::Fail(doom, failure) => self.fail(doom, failure),
            Action::RemoveSandbox => self.remove_sandbox(),
            Action::Finish => return false,
        }
        true
    }

    fn admit(&mut self, now: Timestamp) {
        let fits =
            self.node
                .ledger
                .lock()
                .admit(&self.subject.uid, &self.pod, &self.shape, &self.node.identity.capacity);
        match fits {
            Ok(()) => self.create_sandbox(now),
            Err(failure) => {
                self.event(None, true, "FailedAdmission", failure.message.clone());
                self.observed.doom = Some(Doom {
                    cause: Cause::Failed,
                    deadline: now,
                });
                self.observed.failure = Some(failure);
            }
        }
    }

    fn create_sandbox(&mut self, now: Timestamp) {
        let retry = Sandbox::Failed {
            retry_at: after(now, RETRY),
        };
        let Some(ip) = self.node.addresses.take(self.wanted_ip.take()) else {
            let message = "Failed to create pod sandbox: the node has no free address".to_owned();
            self.event(None, true, "FailedCreatePodSandBox", message);
            self.observed.sandbox = retry;
            return;
        };
        let identity = PodIdentity {
            namespace: self.subject.namespace.clone(),
            name: self.subject.name.clone(),
            uid: self.subject.uid.clone(),
        };
        match self.node.fabric.add_pod(identity, vec![ip]) {
            Ok(net) => {
                let names = self.names(&[ip]);
                net.set_hosts(names.hosts());
                net.set_dns(names.dns());
                net.describe(policies::facts(&self.pod));
                net.set_redirect(sidecar::redirect(&self.pod));
                self.node
                    .fabric
                    .lead_host_ports(&self.subject.uid, host_ports::of(&self.pod));
                self.net = Some(net);
                self.observed.sandbox = Sandbox::Ready(vec![ip]);
            }
            Err(error) => {
                self.node.addresses.give_back(ip);
                let message = format!("Failed to create pod sandbox: address {ip}: {error}");
                self.event(None, true, "FailedCreatePodSandBox", message);
                self.observed.sandbox = retry;
            }
        }
    }

    pub(super) fn remove_sandbox(&mut self) {
        self.node.ledger.lock().release(&self.subject.uid);
        let Sandbox::Ready(ips) = &self.observed.sandbox else {
            return;
        };
        let ips = ips.clone();
        self.node.fabric.remove_pod(&self.subject.uid);
        for ip in &ips {
            self.node.addresses.give_back(*ip);
        }
        self.net = None;
        self.observed.sandbox = Sandbox::Removed(ips);
    }

    fn mount(&mut self, now: Timestamp) {
        self.report.hold_until = Some(after(now, HOLD));
        if self.objects.is_none() {
            self.hold_objects();
        }
        // The API's answer wakes the task: see `objects_changed`.
        self.observed.volumes = Volumes::Mounting;
        let mut objects = self.objects.iter().flat_map(|objects| objects.iter());
        if !objects.any(|object| matches!(object.known(), Known::Nothing)) {
            self.set_up_volumes();
        }
    }

    /// Watches what the pod refers to.
    fn hold_objects(&mut self) {
        let references = volume::references(&self.pod);
        let hold = |reference| self.node.objects.hold(reference, &self.cell.changed);
        self.objects = Some(references.iter().map(hold).collect());
    }

    /// The names that the pod knows once it has these addresses.
    fn names(&self, ips: &[IpAddr]) -> Names {
        let network = self.node.fabric.config();
        let zone = Zone {
            domain: &network.cluster_domain,
            dns_ip: network.dns_ip,
        };
        Names::of(&facts(&self.node, &self.pod, ips), &zone)
    }

    /// Writes the files of all volumes; never twice at a time.
    pub(super) fn set_up_volumes(&mut self) {
        if self.mounting {
            self.mount_again = true;
            return;
        }
        self.mounting = true;
        let objects = self.objects.clone().unwrap_or_else(|| Arc::from(Vec::new()));
        self.seen_revisions = revisions(&objects);
        self.refresh_at = None;
        let tokens = self.tokens.clone();
        let (node, pod, ips) = (
            self.node.clone(),
            self.pod.clone(),
            self.observed.sandbox.ips().to_vec(),
        );
        let etc = self.names(&ips).files();
        // Claims are looked at before the first start, and not each time that files are written again.
        let first = !matches!(self.observed.volumes, Volumes::Ready);
        let subject = self.subject.clone();
        let share = self.accounts.share();
        self.later(async move {
            if first {
                match claims::prepare(&node.client, &pod).await {
                    Ok(notes) => notes.into_iter().for_each(|message| {
                        node.recorder.record(Entry {
                            subject: subject.clone(),
                            field_path: None,
                            warning: true,
                            reason: claims::NO_DRIVER,
                            message,
                        });
                    }),
                    Err(error) => {
                        return Done::Mounted(Err(NotMounted {
                            reason: "FailedPrepareDynamicResources",
                            message: error.to_string(),
                        }));
                    }
                }
            }
            let tokens = match tokens.fresh(&node, &pod, volume::tokens(&pod)).await {
                Ok(tokens) => tokens,
                Err(error) => {
                    let message = format!("MountVolume.SetUp failed: {error}");
                    return Done::Mounted(Err(NotMounted::volume(message)));
                }
            };
            let places = match volume::place::places(&node, &pod, &objects).await {
                Ok(places) => places,
                Err(error) => return Done::Mounted(Err(NotMounted::volume(error))),
            };
            let work = tokio::task::spawn_blocking(move || {
                let dir = pod_dir(&node, &pod);
                let facts = facts(&node, &pod, &ips);
                volume::set_up_etc(&dir, &etc)
                    .and_then(|()| volume::set_up(&dir, &facts, &Held(&objects), &tokens, &places))
                    .map_err(NotMounted::volume)?;
                PodAccounts::open(node.runtime.accounts(), &dir, &pod, &places, share).map_err(|(volume, error)| {
                    NotMounted::volume(format!("MountVolume.SetUp failed for volume {volume:?} : {error}"))
                })
            });
            Done::Mounted(work.await.unwrap_or_else(|error| Err(NotMounted::volume(error))))
        });
    }

    /// Writes files again whose time has come. Returns when that is next.
    pub(super) fn refresh(&mut self, now: Timestamp) -> Option<Timestamp> {
        let needed = self.observed.doom.is_none() && matches!(self.observed.sandbox, Sandbox::Ready(_));
        let due = self.refresh_at.filter(|_| needed)?;
        if due > now {
            return Some(due);
        }
        self.refresh_at = None;
        self.set_up_volumes();
        None
    }

    /// The pod's own object changed: files may show that, and a configuration may now be good.
    pub(super) fn pod_changed(&mut self, before: &Pod, now: Timestamp) {
        self.shape = Shape::of(&self.pod);
        self.observed
            .containers
            .resize_with(self.shape.roles.len(), Seen::default);
        self.runs.resize_with(self.shape.roles.len(), Run::default);
        if self.objects.is_some() && before.spec != self.pod.spec {
            self.hold_objects();
        }
        self.compare_images();
        self.resize(now);
        let (old, new) = (&before.metadata, &self.pod.metadata);
        if (&old.labels, &old.annotations) == (&new.labels, &new.annotations) {
            return;
        }
        if let Some(net) = self.net.as_ref().filter(|_| old.labels != new.labels) {
            net.describe(policies::facts(&self.pod));
        }
        if self.observed.volumes == Volumes::Ready && volume::shows_facts(&self.pod) {
            self.set_up_volumes();
        }
        self.try_configurations_again();
    }

    /// A container whose image was replaced starts again from the new one.
    fn compare_images(&mut self) {
        let all = spec::containers(&self.pod).zip(self.observed.containers.iter_mut().zip(&self.runs));
        for (container, (seen, run)) in all {
            let other = container.image.as_deref().unwrap_or_default() != run.image;
            if other && seen.is_running() && !seen.changed {
                seen.changed = true;
                seen.unhealthy = Some("definition changed".into());
            }
        }
    }

    /// The file of an image was replaced, perhaps: its container starts again with what is there now.
    pub(super) fn image_files_changed(&mut self) {
        let node = self.node.clone();
        let all = spec::containers(&self.pod).zip(self.observed.containers.iter_mut().zip(&self.runs));
        for (container, (seen, run)) in all {
            let name = container.image.as_deref().unwrap_or_default();
            if !name.starts_with("file:") {
                continue;
            }
            if let State::Waiting { reason, .. } = &seen.state
                && *reason != waiting::CREATING
            {
                seen.due = None;
            }
            let Some(digest) = run.digest.as_ref().filter(|_| seen.is_running() && !seen.changed) else {
                continue;
            };
            if node.images.resolve(name).is_ok_and(|image| image.digest != *digest) {
                seen.changed = true;
                seen.unhealthy = Some("image file changed".into());
            }
        }
    }

    /// Objects that the pod refers to changed, perhaps: what waits for them is tried again, and files are refreshed.
    pub(super) fn objects_changed(&mut self) {
        let Some(objects) = self.objects.as_ref().filter(|objects| !objects.is_empty()) else {
            return;
        };
        let revisions = revisions(objects);
        let unchanged = self.seen_revisions == revisions;
        self.seen_revisions = revisions;
        match self.observed.volumes {
            Volumes::Ready if unchanged => return,
            Volumes::Ready => self.set_up_volumes(),
            Volumes::Mounting if self.mounting => self.mount_again = true,
            Volumes::Mounting | Volumes::Failed { .. } => self.observed.volumes = Volumes::Unmounted,
            Volumes::Unmounted => {}
        }
        self.try_configurations_again();
    }

    /// A container whose configuration was not good need not wait for its next attempt.
    fn try_configurations_again(&mut self) {
        for seen in &mut self.observed.containers {
            if matches!(
                seen.state,
                State::Waiting {
                    reason: waiting::CONFIG,
                    ..
                }
            ) {
                seen.due = None;
            }
        }
    }

    fn start(&mut self, index: usize, now: Timestamp) {
        let name = self.container_name(index).to_owned();
        let Some((seen, run)) = self.observed.containers.get_mut(index).zip(self.runs.get_mut(index)) else {
            return;
        };
        let Some(net) = self.net.clone() else { return };
        if let State::Terminated(ended) = std::mem::replace(&mut seen.state, State::Starting) {
            seen.last = Some(ended);
            seen.restarts += 1;
        }
        (seen.due, seen.stop, seen.unhealthy, seen.crash_message) = (None, None, None, None);
        (seen.ready, seen.started, seen.changed) = (false, false, false);
        self.report.hold_until = Some(after(now, HOLD));
        let target = LogTarget {
            namespace: self.subject.namespace.clone(),
            pod: self.subject.name.clone(),
            uid: self.subject.uid.clone(),
            container: name,
        };
        let log = self.node.logs.start(&target, seen.restarts);
        let number = run.number + 1;
        let image = spec::container(&self.pod, index).and_then(|container| container.image.clone());
        *run = Run {
            number,
            image: image.unwrap_or_default(),
            log: Some(log.clone()),
            ..Run::default()
        };
        let resources = self.allocate(index);
        let attempt = Attempt {
            resources,
            changed: self.cell.changed.clone(),
            node: self.node.clone(),
            pod: self.pod.clone(),
            index,
            net,
            ips: self.observed.sandbox.ips().to_vec(),
            objects: self.objects.clone().unwrap_or_else(|| Arc::from(Vec::new())),
            log,
            accounts: self.accounts.clone(),
            files: self.files.clone(),
        };
        self.later(async move {
            Done::Started {
                index,
                number,
                result: attempt.run().await,
            }
        });
    }

    fn stop(&mut self, index: usize, now: Timestamp) {
        let deadline = self.stop_deadline(index, now);
        let name = self.container_name(index).to_owned();
        let Some(seen) = self.observed.containers.get_mut(index) else {
            return;
        };
        seen.stop = Some(deadline);
        let message = match &seen.unhealthy {
            Some(why) if self.observed.doom.is_none() => format!("Container {name} {why}, will be restarted"),
            _ => format!("Stopping container {name}"),
        };
        self.event(Some(index), false, "Killing", message);
        let container = spec::container(&self.pod, index).cloned();
        let hook = container
            .as_ref()
            .and_then(|container| container.lifecycle.as_ref()?.pre_stop.clone());
        let ip = self.observed.sandbox.ips().first().copied();
        let (Some(hook), Some(ip), Some(container)) = (hook, ip, container) else {
            self.terminate(index);
            return;
        };
        let (at, number) = (self.place(index, ip), self.run_number(index));
        let timeout = crate::clock::until(now, deadline);
        self.later(async move {
            let result = hooks::run(at, container, hook, timeout).await;
            Done::PreStop { index, number, result }
        });
    }

    pub(super) fn terminate(&self, index: usize) {
        if let Some(container) = self.runs.get(index).and_then(|run| run.container.as_ref()) {
            container.terminate();
        }
    }

    /// When a container that is being stopped is killed.
    fn stop_deadline(&self, index: usize, now: Timestamp) -> Timestamp {
        if let Some(doom) = &self.observed.doom {
            return doom.deadline;
        }
        let of_probe = |purpose: Purpose| {
            purpose
                .of(spec::container(&self.pod, index)?)?
                .termination_grace_period_seconds
        };
        let own = of_probe(Purpose::Liveness).or_else(|| of_probe(Purpose::Startup));
        let seconds = own
            .and_then(|seconds| u64::try_from(seconds).ok())
            .unwrap_or(self.shape.grace_seconds);
        after(now, Duration::from_secs(seconds))
    }

    fn fail(&mut self, doom: Doom, failure: Failure) {
        self.event(None, true, "DeadlineExceeded", failure.message.clone());
        self.observed.doom = Some(doom);
        self.observed.failure = Some(failure);
    }
}

/// What a pod may be told about itself.
fn facts<'a>(node: &'a Node, pod: &'a Pod, ips: &'a [IpAddr]) -> Facts<'a> {
    Facts {
        pod,
        pod_ips: ips,
        node_name: &node.identity.name,
        host_ip: node.identity.ip,
        allocatable: node.identity.capacity,
    }
}

/// What tells whether any of the objects changed.
fn revisions(objects: &[Arc<Watched>]) -> Vec<Option<String>> {
    let revision = |object: &Arc<Watched>| match object.known() {
        Known::Present(payload) => Some(payload.revision.clone()),
        Known::Absent | Known::Nothing => None,
    };
    objects.iter().map(revision).collect()
}
