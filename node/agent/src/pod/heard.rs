//! Takes in what came of the things that took time: starts, ends, probes, hooks, mounts.

use super::{Done, NotMounted, PodTask, place};
use crate::clock::after;
use crate::hooks;
use crate::observed::{Seen, State, Terminated, Volumes, waiting};
use crate::probe::{self, Answer, Heard, Purpose, Timing, Verdict, Watch};
use crate::spec::{self, Role};
use crate::start::{Failure, Started};
use crate::termination;
use crate::volume::accounts::PodAccounts;
use coracle_runtime::Exit;
use jiff::Timestamp;
use rand::random;
use std::sync::Arc;
use std::time::Duration;

/// Files that could not be written are tried again after this time; a missing object wakes the pod by itself.
const MOUNT_RETRY: Duration = Duration::from_secs(10);

/// The longest that a postStart hook may take: it has no limit of its own, and a hook that hangs would hold the pod for ever.
const POST_START: Duration = Duration::from_secs(300);

/// The user interface of Kubernetes cuts longer messages; a trap's backtrace may be long.
const MAX_MESSAGE_BYTES: usize = 4096;

impl PodTask {
    /// Takes in one result.
    pub(super) fn heard(&mut self, done: Done) {
        let now = self.node.clock.now();
        match done {
            Done::Mounted(result) => self.mounted(result, now),
            Done::Reported { status, result } => self.reported(status, result, now),
            Done::Deleted(result) => self.deleted(result, now),
            Done::Started { index, number, result } if self.is_current(index, number) => match result {
                Ok(started) => self.started(index, started, now),
                Err(failure) => self.not_started(index, failure, now),
            },
            Done::Exited { index, number, exit } if self.is_current(index, number) => self.exited(index, exit, now),
            Done::PreStop { index, number, result } if self.is_current(index, number) => {
                if let Err(why) = result {
                    self.event(
                        Some(index),
                        true,
                        "FailedPreStopHook",
                        format!("PreStopHook failed: {why}"),
                    );
                }
                self.terminate(index);
            }
            Done::PostStart { index, number, result } if self.is_current(index, number) => {
                if let Err(why) = result {
                    self.event(
                        Some(index),
                        true,
                        "FailedPostStartHook",
                        format!("PostStartHook failed: {why}"),
                    );
                    self.unhealthy(index, "failed its postStart hook");
                }
            }
            Done::Probed {
                index,
                number,
                purpose,
                answer,
            } if self.is_current(index, number) => {
                self.probed(index, purpose, answer, now);
            }
            // Of an earlier start of the container.
            Done::Started { .. }
            | Done::Exited { .. }
            | Done::PreStop { .. }
            | Done::PostStart { .. }
            | Done::Probed { .. } => {}
        }
    }

    fn is_current(&self, index: usize, number: u32) -> bool {
        self.run_number(index) == number
    }

    fn mounted(&mut self, result: Result<PodAccounts, NotMounted>, now: Timestamp) {
        self.mounting = false;
        if std::mem::take(&mut self.mount_again) {
            self.set_up_volumes();
            return;
        }
        match result {
            Ok(accounts) => {
                self.accounts_opened(accounts);
                self.observed.volumes = Volumes::Ready;
                self.refresh_at = self.tokens.renew_at();
            }
            Err(NotMounted { reason, message }) => {
                self.event(None, true, reason, message);
                let retry_at = after(now, MOUNT_RETRY);
                // Files that are there stay as they are when they cannot be brought up to date.
                match self.observed.volumes {
                    Volumes::Ready => self.refresh_at = Some(retry_at),
                    _ => self.observed.volumes = Volumes::Failed { retry_at },
                }
            }
        }
    }

    fn started(&mut self, index: usize, started: Started, now: Timestamp) {
        let name = self.container_name(index).to_owned();
        let Some((seen, run)) = self.observed.containers.get_mut(index).zip(self.runs.get_mut(index)) else {
            return;
        };
        seen.image_id = Some(started.image_id);
        seen.attempts = crate::backoff::Backoff::default();
        seen.state = State::Running {
            since: now,
            id: format!("wasmtime://{:032x}", random::<u128>()).into(),
        };
        let container = started.container;
        run.container = Some(container.clone());
        run.message = started.message;
        run.digest = Some(started.digest);
        run._hold = started.hold;
        let number = run.number;
        if let Some(spec) = spec::container(&self.pod, index) {
            let watch = |purpose: Purpose| Some(Watch::new(purpose, Timing::of(purpose.of(spec)?), now));
            // The others begin when the startup probe has held.
            run.watches = match watch(Purpose::Startup) {
                Some(startup) => vec![startup],
                None => [Purpose::Readiness, Purpose::Liveness]
                    .into_iter()
                    .filter_map(watch)
                    .collect(),
            };
            seen.started = spec.startup_probe.is_none();
            seen.ready = seen.started && spec.readiness_probe.is_none();
        }
        self.later(async move {
            Done::Exited {
                index,
                number,
                exit: container.wait().await,
            }
        });
        self.event(Some(index), false, "Pulled", started.pulled);
        self.event(Some(index), false, "Created", format!("Created container: {name}"));
        self.event(Some(index), false, "Started", format!("Started container {name}"));
        self.post_start(index, number);
    }

    fn post_start(&self, index: usize, number: u32) {
        let Some(container) = spec::container(&self.pod, index) else {
            return;
        };
        let hook = container
            .lifecycle
            .as_ref()
            .and_then(|lifecycle| lifecycle.post_start.clone());
        let (Some(hook), Some(ip)) = (hook, self.observed.sandbox.ips().first().copied()) else {
            return;
        };
        let (at, container) = (self.place(index, ip), container.clone());
        self.later(async move {
            let result = hooks::run(at, container, hook, POST_START).await;
            Done::PostStart { index, number, result }
        });
    }

    fn not_started(&mut self, index: usize, failure: Failure, now: Timestamp) {
        let limits = self.node.create_backoff;
        let Some((seen, run)) = self.observed.containers.get_mut(index).zip(self.runs.get_mut(index)) else {
            return;
        };
        seen.due = Some(seen.attempts.after_failure(&limits, now));
        let repeated =
            matches!(&seen.state, State::Waiting { message: Some(before), .. } if **before == *failure.message);
        seen.state = State::Waiting {
            reason: failure.reason,
            message: Some(cut(failure.message).into()),
        };
        if let Some(log) = run.log.take() {
            log.end();
        }
        if !repeated {
            self.event(Some(index), true, failure.event, cut(failure.event_message));
        }
    }

    fn exited(&mut self, index: usize, exit: Exit, now: Timestamp) {
        let (limits, subject) = (self.node.restart_backoff, self.subject.clone());
        let name = self.container_name(index).to_owned();
        let role = self.shape.roles.get(index).copied().unwrap_or(Role::Main);
        let again = self.observed.doom.is_none() && self.shape.restarts(role, exit.code);
        let Some((seen, run)) = self.observed.containers.get_mut(index).zip(self.runs.get_mut(index)) else {
            return;
        };
        run.container = None;
        run.watches = Vec::new();
        let log = run.log.take();
        if let Some(log) = &log {
            log.end();
        }
        let tail = |lines, bytes| log.as_ref().map(|log| log.tail(lines, bytes)).unwrap_or_default();
        let message = termination::message(
            spec::container(&self.pod, index),
            &exit,
            run.message.take().as_ref(),
            tail,
        );
        let (since, id) = match &seen.state {
            State::Running { since, id } => (*since, id.clone()),
            _ => (now, Arc::default()),
        };
        (seen.ready, seen.started, seen.stop, seen.unhealthy) = (false, false, None, None);
        let due = seen.backoff.after_exit(&limits, since, now);
        seen.due = again.then_some(due);
        let ended = Terminated {
            exit_code: exit.code,
            reason: exit.reason.as_str().to_owned(),
            message: message.map(cut),
            started_at: since,
            finished_at: now,
            id,
        };
        if std::mem::take(&mut seen.changed) && self.observed.doom.is_none() {
            // Neither its exit code nor its policy says anything about what it is now.
            (seen.last, seen.due) = (Some(ended), None);
            seen.restarts += 1;
            seen.state = Seen::default().state;
            return;
        }
        seen.state = State::Terminated(ended);
        if again && due > now {
            let delay = seen.backoff.current().as_secs_f64();
            let pod = format!("{}_{}({})", subject.name, subject.namespace, subject.uid);
            seen.crash_message = Some(format!("back-off {delay}s restarting failed container={name} pod={pod}").into());
            let message = format!("Back-off restarting failed container {name} in pod {pod}");
            self.event(Some(index), true, "BackOff", message);
        }
    }

    /// Begins the probes that are due. Returns when the next one is.
    pub(super) fn probe(&mut self, now: Timestamp) -> Option<Timestamp> {
        let ip = self.observed.sandbox.ips().first().copied()?;
        let mut next: Option<Timestamp> = None;
        for (index, run) in self.runs.iter_mut().enumerate() {
            for watch in &mut run.watches {
                let Some(due) = watch.due() else { continue };
                if due > now {
                    next = Some(next.map_or(due, |next| next.min(due)));
                    continue;
                }
                let Some(container) = spec::container(&self.pod, index) else {
                    continue;
                };
                let Some(probe) = watch.purpose.of(container) else {
                    continue;
                };
                watch.ask(now);
                let at = place(&self.node, &self.pod, run.container.as_ref(), &container.name, ip);
                let (container, probe) = (container.clone(), probe.clone());
                let (number, purpose, timeout) = (run.number, watch.purpose, watch.timeout());
                self.work.push(Box::pin(async move {
                    let answer = probe::ask(at, container, probe, timeout).await;
                    Done::Probed {
                        index,
                        number,
                        purpose,
                        answer,
                    }
                }));
            }
        }
        next
    }

    fn probed(&mut self, index: usize, purpose: Purpose, answer: Answer, now: Timestamp) {
        let Some(run) = self.runs.get_mut(index) else { return };
        let Some(watch) = run.watches.iter_mut().find(|watch| watch.purpose == purpose) else {
            return;
        };
        let heard = watch.answer(answer == Answer::Good, now);
        if let (Heard::Counted | Heard::Verdict(_), Answer::Bad(why)) = (&heard, answer) {
            let message = format!("{} probe failed: {why}", purpose.name());
            self.event(Some(index), true, "Unhealthy", message);
        }
        if let Heard::Verdict(verdict) = heard {
            self.verdict(index, purpose, verdict, now);
        }
    }

    fn verdict(&mut self, index: usize, purpose: Purpose, verdict: Verdict, now: Timestamp) {
        let Some((seen, run)) = self.observed.containers.get_mut(index).zip(self.runs.get_mut(index)) else {
            return;
        };
        match (purpose, verdict) {
            (Purpose::Readiness, verdict) => seen.ready = verdict == Verdict::Good,
            (Purpose::Startup, Verdict::Good) => {
                let Some(spec) = spec::container(&self.pod, index) else {
                    return;
                };
                let watch = |purpose: Purpose| Some(Watch::new(purpose, Timing::of(purpose.of(spec)?), now));
                run.watches = [Purpose::Readiness, Purpose::Liveness]
                    .into_iter()
                    .filter_map(watch)
                    .collect();
                seen.started = true;
                seen.ready = spec.readiness_probe.is_none();
            }
            (Purpose::Startup, Verdict::Bad) => self.unhealthy(index, "failed startup probe"),
            (Purpose::Liveness, Verdict::Bad) => self.unhealthy(index, "failed liveness probe"),
            (Purpose::Liveness, Verdict::Good) => {}
        }
    }

    fn unhealthy(&mut self, index: usize, why: &str) {
        if let Some((seen, run)) = self.observed.containers.get_mut(index).zip(self.runs.get_mut(index)) {
            seen.unhealthy = Some(why.into());
            run.watches = Vec::new();
        }
    }

    /// The API has been told of a failed pull: from now on the container waits for the next attempt.
    pub(super) fn back_off_pulls(&mut self) {
        for index in 0..self.observed.containers.len() {
            let image = spec::container(&self.pod, index)
                .and_then(|container| container.image.clone())
                .unwrap_or_default();
            let Some(seen) = self.observed.containers.get_mut(index) else {
                continue;
            };
            if let State::Waiting {
                reason: reason @ waiting::IMAGE_PULL,
                message,
            } = &mut seen.state
            {
                *reason = waiting::IMAGE_BACKOFF;
                let text = format!("Back-off pulling image {image:?}");
                *message = Some(format!("{text}: {}", message.as_deref().unwrap_or_default()).into());
                self.event(Some(index), false, "BackOff", text);
            }
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_MESSAGE_BYTES {
        let end = (0..=MAX_MESSAGE_BYTES)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(end);
    }
    text
}
