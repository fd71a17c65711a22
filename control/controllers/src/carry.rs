//! Carries a plan out: guards, changes, reports, events, in that order.
//!
//! A failure is not retried here: it is reported, and the key's next turn decides anew.

use futures::{StreamExt, stream::FuturesUnordered};
use serde_json::Value;

use crate::{
    ask::Ask,
    doubt::Doubt,
    driver::Failure,
    events::Recorder,
    graph::Graph,
    guard,
    key::Key,
    plan::{Action, EventDraft, Note, Plan, Step, Verb},
    resource::Resource,
    writer::{WriteError, Writer, Written},
};

/// The first size of a batch: one write tells whether the others have a chance.
const BATCH_LEAST: usize = 1;
/// Writes in flight at a time: enough to fill the store's group commit, few enough that other callers get their turn.
const BATCH_MOST: usize = 64;

/// What came of a plan.
#[derive(Default)]
pub struct Outcome {
    /// What a cache must have seen before the key's next turn.
    pub written: Vec<Effect>,
    /// What may have been made or not.
    pub doubts: Vec<Doubt>,
    /// The first thing that went wrong.
    pub error: Option<CarryError>,
}

/// The trace that one write leaves in a watch.
pub enum Effect {
    /// The kind reaches this resource version.
    Seen(Resource, u64),
    /// The object with this uid is gone or going.
    Ended(Resource, Key, String),
}

/// What went wrong with a plan.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// The cache was behind the server; look again.
    #[error("the world has moved on")]
    Stale,
    /// A write failed.
    #[error("{what}: {error}")]
    Write {
        /// Which write.
        what: String,
        /// Whether it was to create something.
        creating: bool,
        /// Why it failed.
        error: WriteError,
    },
}

/// Carries plans out as one component.
pub struct Carrier {
    writer: Writer,
    recorder: Recorder,
    component: &'static str,
}

impl Carrier {
    /// A carrier that tells its events as `component`.
    #[must_use]
    pub fn new(writer: Writer, recorder: Recorder, component: &'static str) -> Self {
        Self {
            writer,
            recorder,
            component,
        }
    }

    /// Records an event.
    pub fn record(&self, draft: EventDraft) {
        self.recorder.record(self.component, draft);
    }

    /// Asks the server.
    ///
    /// # Errors
    /// When the server refuses or is not reached.
    pub async fn ask(&self, ask: &Ask) -> Result<Value, Failure> {
        let answered = self.writer.ask(ask).await;
        answered.map_err(|error| Failure::of(&error, false))
    }

    /// The revision that a cache must have reached to settle the doubt.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn settles(&self, doubt: &Doubt) -> Result<u64, WriteError> {
        doubt.revision(&self.writer).await
    }

    /// Does what the plan says.
    pub async fn carry_out(&self, plan: Plan, graph: &Graph) -> Outcome {
        let mut outcome = Outcome::default();
        for guard in &plan.guards {
            match guard::holds(guard, &self.writer, graph).await {
                Ok(true) => {}
                Ok(false) => {
                    return Outcome {
                        error: Some(CarryError::Stale),
                        ..outcome
                    };
                }
                Err(error) => {
                    let error = CarryError::Write {
                        what: "checking".to_owned(),
                        creating: false,
                        error,
                    };
                    return Outcome {
                        error: Some(error),
                        ..outcome
                    };
                }
            }
        }
        for step in &plan.changes {
            match step {
                Step::One(action) => self.write(action, &mut outcome).await,
                Step::Batch(actions) => self.batch(actions, &mut outcome).await,
            }
            if outcome.error.is_some() {
                break;
            }
        }
        for action in &plan.reports {
            self.write(action, &mut outcome).await;
        }
        if outcome.error.is_none() {
            plan.events.into_iter().for_each(|draft| self.record(draft));
        }
        outcome
    }

    async fn batch(&self, actions: &[Action], outcome: &mut Outcome) {
        let mut size = BATCH_LEAST;
        let mut rest = actions;
        while !rest.is_empty() && outcome.error.is_none() {
            let (now, later) = rest.split_at(size.min(rest.len()));
            let mut waiting = now.iter();
            let mut writes = FuturesUnordered::new();
            loop {
                while writes.len() < BATCH_MOST
                    && let Some(action) = waiting.next()
                {
                    writes.push(self.attempt(action));
                }
                let Some((action, result)) = writes.next().await else {
                    break;
                };
                self.took(action, result, outcome);
            }
            (rest, size) = (later, size.saturating_mul(2));
        }
    }

    async fn attempt<'a>(&self, action: &'a Action) -> (&'a Action, Result<Written, WriteError>) {
        (action, self.writer.write(action).await)
    }

    async fn write(&self, action: &Action, outcome: &mut Outcome) {
        let result = self.writer.write(action).await;
        self.took(action, result, outcome);
    }

    fn took(&self, action: &Action, result: Result<Written, WriteError>, outcome: &mut Outcome) {
        match result {
            Ok(written) => {
                self.tell(action.note.as_ref(), Ok(name_of(action, &written)));
                outcome.written.extend(effect(action, &written));
            }
            // Whoever wanted it gone has their wish.
            Err(error) if error.is_not_found() && matches!(action.verb, Verb::Delete { .. }) => {}
            Err(error) => {
                if !error.is_conflict() && !error.is_namespace_ending() {
                    self.tell(action.note.as_ref(), Err(&error));
                }
                let what = format!("{} {}", action.target.resource.plural, action.target.key);
                let creating = matches!(action.verb, Verb::Create(_));
                if creating && error.is_unsure() {
                    outcome.doubts.push(Doubt::of(action));
                }
                outcome.error.get_or_insert(CarryError::Write { what, creating, error });
            }
        }
    }

    fn tell(&self, note: Option<&Note>, result: Result<&str, &WriteError>) {
        let Some(note) = note else { return };
        match (result, &note.success, &note.failure) {
            (Ok(name), Some((reason, text)), _) => {
                self.record(EventDraft::normal(
                    note.about.clone(),
                    reason,
                    text.replace("{name}", name),
                ));
            }
            (Err(error), _, Some((reason, text))) => {
                let text = text.replace("{error}", &error.to_string());
                self.record(EventDraft::warning(note.about.clone(), reason, text));
            }
            _ => {}
        }
    }
}

fn name_of<'a>(action: &'a Action, written: &'a Written) -> &'a str {
    if written.metadata.name.is_empty() {
        &action.target.key.name
    } else {
        &written.metadata.name
    }
}

fn effect(action: &Action, written: &Written) -> Option<Effect> {
    let resource = action.target.resource.clone();
    match &action.verb {
        Verb::Delete { uid, .. } => Some(Effect::Ended(resource, action.target.key.clone(), uid.clone())),
        Verb::DeleteCollection => None,
        _ => written
            .metadata
            .resource_version
            .parse()
            .ok()
            .map(|seen| Effect::Seen(resource, seen)),
    }
}
