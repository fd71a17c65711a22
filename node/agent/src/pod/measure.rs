//! Looks at how much the volumes with a limit hold, and evicts the pod that is over.

use super::{Done, PodTask};
use crate::clock::after;
use crate::observed::{Cause, Doom, Failure, Seen};
use crate::start::pod_dir;
use crate::volume::usage::{self, Excess};
use jiff::Timestamp;
use std::time::{Duration, Instant};

/// The shortest time between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Looking takes at most this part of the time: a directory with a million files is looked at less often.
const SHARE: u32 = 50;

impl PodTask {
    /// Looks when it is time. Returns when that is.
    pub(super) fn measure(&mut self, now: Timestamp) -> Option<Timestamp> {
        let runs = self.observed.containers.iter().any(Seen::is_running);
        if !runs || self.observed.doom.is_some() || !usage::is_limited(&self.pod) {
            return None;
        }
        let due = self.measure_at?;
        if due > now {
            return Some(due);
        }
        self.measure_at = None;
        let (dir, pod) = (pod_dir(&self.node, &self.pod), self.pod.clone());
        self.later(async move {
            let started = Instant::now();
            let look = tokio::task::spawn_blocking(move || usage::excess(&dir, &pod));
            Done::Measured {
                excess: look.await.ok().flatten(),
                took: started.elapsed(),
            }
        });
        None
    }

    pub(super) fn measured(&mut self, excess: Option<Excess>, took: Duration, now: Timestamp) {
        self.measure_at = Some(after(now, PAUSE.max(took * SHARE)));
        let Some(Excess { volume, limit }) = excess.filter(|_| self.observed.doom.is_none()) else {
            return;
        };
        let message = format!("Usage of EmptyDir volume {volume:?} exceeds the limit {limit:?}. ");
        self.event(None, true, "Evicted", message.clone());
        // As a kubelet evicts: the guest has no say in it.
        self.observed.doom = Some(Doom {
            cause: Cause::Failed,
            deadline: after(now, PAUSE),
        });
        self.observed.failure = Some(Failure {
            reason: "Evicted".to_owned(),
            message,
        });
    }
}
