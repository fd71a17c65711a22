//! Gives containers other resources while they run.

use super::PodTask;
use crate::clock::after;
use crate::resize::{Resize, Resources};
use crate::spec;
use crate::start::limits;
use jiff::Timestamp;
use std::time::Duration;

/// A resize that the node has no room for, or that a guest's memory stands against, is tried again after this time: neither
/// tells when it is over.
const RETRY: Duration = Duration::from_secs(10);

impl PodTask {
    /// What a container is started with: what its specification wants, unless the node has not agreed to that yet.
    pub(super) fn allocate(&mut self, index: usize) -> Resources {
        let wanted = spec::container(&self.pod, index).map(Resources::of).unwrap_or_default();
        let waits = matches!(self.observed.resize, Some(Resize::Deferred(_) | Resize::Infeasible(_)));
        let Some(seen) = self.observed.containers.get_mut(index) else {
            return wanted;
        };
        match &mut seen.resources {
            Some(held) if waits => held.clone(),
            held => held.insert(wanted).clone(),
        }
    }

    /// Compares what the specification wants with what containers have, and acts.
    pub(super) fn resize(&mut self, now: Timestamp) {
        self.resize_at = None;
        if self.observed.doom.is_some() || !self.differs() {
            self.observed.resize = None;
            return;
        }
        let node = self.node.clone();
        let booked = node
            .ledger
            .lock()
            .resize(&self.subject.uid, &self.pod, &self.shape, &node.identity.capacity);
        self.observed.resize = match booked {
            Ok(()) => self.apply_resize().err().map(Resize::Failed),
            Err(refusal) => Some(refusal),
        };
        if matches!(self.observed.resize, Some(Resize::Deferred(_) | Resize::Failed(_))) {
            self.resize_at = Some(after(now, RETRY));
        }
    }

    /// Tries again when it is time. Returns when that is.
    pub(super) fn resize_again(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.resize_at.is_some_and(|at| at <= now) {
            self.resize(now);
        }
        self.resize_at
    }

    fn differs(&self) -> bool {
        let all = spec::containers(&self.pod).zip(&self.observed.containers);
        all.into_iter().any(|(container, seen)| {
            let held = seen.resources.as_ref();
            held.is_some_and(|held| *held != Resources::of(container))
        })
    }

    fn apply_resize(&mut self) -> Result<(), String> {
        let all = spec::containers(&self.pod).zip(self.observed.containers.iter_mut().zip(&self.runs));
        let mut outcome = Ok(());
        for (spec, (seen, run)) in all {
            let wanted = Resources::of(spec);
            let Some(held) = seen.resources.as_ref().filter(|held| **held != wanted) else {
                continue;
            };
            if let Some(container) = &run.container {
                if held.restarts(&wanted, spec) {
                    seen.changed = true;
                    seen.unhealthy = Some("resize requires restart".into());
                    continue;
                }
                let limits = limits(&wanted);
                container.reweigh(limits.cpu_request_milli);
                if let Err(error) = container.resize(limits.memory_bytes, limits.cpu_milli) {
                    outcome = Err(format!("container {}: {error}", spec.name));
                    continue;
                }
            }
            seen.resources = Some(wanted);
        }
        outcome
    }
}
