//! HorizontalPodAutoscaler: as many replicas as the measured load asks for.
//!
//! Wants to be true: at each look, every [`Facts::autoscaler_period`](crate::world::Facts), the target has the number of
//! replicas that the most demanding of its metrics proposes, within the bounds of the autoscaler and no faster than its
//! behaviour allows. It writes to the target only through its scale, and never acts on a metric that it could not read
//! where that would take replicas away.
//!
//! What was recommended and done lately is kept in an annotation, so that a restart does not forget that the load was
//! higher a minute ago.

mod behaviour;
mod calculator;
mod measure;
mod status;
mod target;

use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, MetricStatus};
use serde_json::json;

use crate::{
    clock::after_seconds,
    driver::{Controller, Turn},
    key::Key,
    plan::{Action, EventDraft, Note, Plan, Target, reference},
    resource::HORIZONTAL_POD_AUTOSCALERS,
    store::Change,
    world::{Watch, World},
};
use behaviour::{Behaviour, Bounds, History};
use measure::Measured;
use status::{ABLE, ACTIVE, Draft, LIMITED};
use target::Scaled;

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "horizontal-pod-autoscaler",
    resource: HORIZONTAL_POD_AUTOSCALERS,
    watches: &[Watch::HorizontalPodAutoscaler(itself)],
    reconcile,
};

/// Where an autoscaler's history is kept.
const HISTORY: &str = "coracle.dev/autoscaler-history";

/// Its own status and history are no reason to look again; what is wanted of it is.
fn itself(change: &Change<HorizontalPodAutoscaler>, _: &World, keys: &mut Vec<Key>) {
    let Some(new) = &change.new else { return };
    if change.old.as_ref().is_none_or(|old| old.spec != new.spec) {
        keys.push(Key::of(&new.metadata));
    }
}

/// Decides what to do about one autoscaler.
pub fn reconcile(key: &Key, world: &World, turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let autoscaler = world.horizontal_pod_autoscalers.get(key);
    let Some(autoscaler) = autoscaler.filter(|a| a.metadata.deletion_timestamp.is_none()) else {
        return plan;
    };
    let mut draft = Draft::of(&autoscaler, turn.now);
    match target::read(&autoscaler, turn, &mut plan) {
        None => return plan,
        Some(Err(message)) => {
            draft.set(
                ABLE,
                false,
                "FailedGetScale",
                &told("get the target's current scale", &message),
            );
            warn(&autoscaler, "FailedGetScale", message, &mut plan);
        }
        Some(Ok(scaled)) => {
            draft.set(
                ABLE,
                true,
                "SucceededGetScale",
                "the HPA controller was able to get the target's current scale",
            );
            decide(&autoscaler, &scaled, (world, turn), &mut draft, &mut plan);
            if !plan.asks.is_empty() {
                return Plan {
                    asks: plan.asks,
                    ..Plan::default()
                };
            }
        }
    }
    if let Some(failure) = turn.failure {
        draft.set(
            ABLE,
            false,
            "FailedUpdateScale",
            &told("update the target scale", &failure.message),
        );
    }
    plan.changes
        .extend(draft.write(&autoscaler).map(crate::plan::Step::One));
    plan.requeue(after_seconds(turn.now, world.facts.autoscaler_period.as_secs()));
    plan
}

fn told(what: &str, message: &str) -> String {
    format!("the HPA controller was unable to {what}: {message}")
}

fn warn(autoscaler: &HorizontalPodAutoscaler, reason: &'static str, message: String, plan: &mut Plan) {
    let about = reference(&HORIZONTAL_POD_AUTOSCALERS, &autoscaler.metadata);
    plan.events.push(EventDraft::warning(about, reason, message));
}

/// How many replicas there should be, and why.
struct Wanted {
    replicas: i32,
    reason: String,
}

fn decide(
    autoscaler: &HorizontalPodAutoscaler,
    scaled: &Scaled,
    (world, turn): (&World, &Turn<'_>),
    draft: &mut Draft,
    plan: &mut Plan,
) {
    let spec = &autoscaler.spec;
    let bounds = Bounds {
        least: spec.min_replicas.unwrap_or(1),
        most: spec.max_replicas,
    };
    draft.replicas(scaled.replicas);
    let forced = |replicas, reason: &str| Wanted {
        replicas,
        reason: reason.to_owned(),
    };
    let wanted = match scaled.replicas {
        0 if bounds.least != 0 => {
            let message = "scaling is disabled since the replica count of the target is zero";
            draft.set(ACTIVE, false, "ScalingDisabled", message);
            return;
        }
        now if now > bounds.most => forced(bounds.most, "Current number of replicas above Spec.MaxReplicas"),
        now if now < bounds.least => forced(bounds.least, "Current number of replicas below Spec.MinReplicas"),
        _ => match by_metrics(autoscaler, scaled, bounds, (world, turn), draft, plan) {
            Some(wanted) => wanted,
            None => return,
        },
    };
    if wanted.replicas != scaled.replicas && plan.asks.is_empty() {
        rescale(autoscaler, scaled, &wanted, turn, draft, plan);
    }
}

/// What the metrics ask for, held within what the behaviour allows; nothing where they cannot be read.
fn by_metrics(
    autoscaler: &HorizontalPodAutoscaler,
    scaled: &Scaled,
    bounds: Bounds,
    (world, turn): (&World, &Turn<'_>),
    draft: &mut Draft,
    plan: &mut Plan,
) -> Option<Wanted> {
    let behaviour = Behaviour::of(autoscaler);
    let place = measure::Place {
        autoscaler,
        scaled,
        tolerance: behaviour.tolerance(),
        world,
    };
    let rivals = target::rivals(autoscaler, &place.pods(), world);
    if !rivals.is_empty() {
        let names: Vec<String> = rivals.iter().map(ToString::to_string).collect();
        let (selector, names) = (&scaled.selector, names.join(" "));
        let message = format!("pods by selector {selector} are controlled by multiple HPAs: [{names}]");
        draft.set(ACTIVE, false, "AmbiguousSelector", &message);
        warn(autoscaler, "AmbiguousSelector", message, plan);
        return None;
    }
    let metrics = autoscaler.spec.metrics.as_deref().unwrap_or_default();
    let mut measured: Vec<Result<Measured, measure::Unknown>> = Vec::new();
    for metric in metrics {
        measured.extend(measure::measure(metric, &place, turn, plan));
    }
    if !plan.asks.is_empty() {
        return None;
    }
    let proposed = most_demanding(autoscaler, scaled.replicas, measured, draft, plan)?;
    let mut history = History::read(autoscaler, HISTORY, scaled.replicas, turn.now);
    history.recommend(turn.now, proposed.replicas);
    let allowed = behaviour.allow(proposed.replicas, scaled.replicas, bounds, &history, turn.now);
    let (reason, message) = allowed
        .stabilised
        .unwrap_or(("ReadyForNewScale", "recommended size matches current size"));
    draft.set(ABLE, true, reason, message);
    let within = ("DesiredWithinRange", "the desired count is within the acceptable range");
    let (reason, message) = allowed.limited.unwrap_or(within);
    draft.set(LIMITED, allowed.limited.is_some(), reason, message);
    if allowed.replicas != scaled.replicas {
        history.scale(turn.now, allowed.replicas.saturating_sub(scaled.replicas));
    }
    draft.history(&history, HISTORY, behaviour.longest_seconds(), turn.now);
    let reason = match proposed.replicas {
        more if more > scaled.replicas => format!("{} above target", proposed.reason),
        _ => "All metrics below target".to_owned(),
    };
    Some(Wanted {
        replicas: allowed.replicas,
        reason,
    })
}

/// The largest proposal. Without some of the metrics a proposal may only add replicas: what cannot be read may be high.
fn most_demanding(
    autoscaler: &HorizontalPodAutoscaler,
    current: i32,
    measured: Vec<Result<Measured, measure::Unknown>>,
    draft: &mut Draft,
    plan: &mut Plan,
) -> Option<Wanted> {
    let count = measured.len();
    let (known, unknown): (Vec<_>, Vec<_>) = measured.into_iter().partition(Result::is_ok);
    let known: Vec<Measured> = known.into_iter().flatten().collect();
    let unknown: Vec<measure::Unknown> = unknown.into_iter().filter_map(Result::err).collect();
    draft.metrics(
        known
            .iter()
            .map(|measured| measured.status.clone())
            .collect::<Vec<MetricStatus>>(),
    );
    let best = known
        .into_iter()
        .reduce(|best, next| if next.replicas > best.replicas { next } else { best });
    for unknown in &unknown {
        warn(autoscaler, unknown.reason, unknown.message.clone(), plan);
    }
    if let Some(first) = unknown.first()
        && best.as_ref().is_none_or(|best| best.replicas < current)
    {
        let why = format!("the HPA was unable to compute the replica count: {}", first.message);
        draft.set(ACTIVE, false, first.reason, &why);
        let text = format!(
            "invalid metrics ({} invalid out of {count}), first error is: {}",
            unknown.len(),
            first.message
        );
        warn(autoscaler, "FailedComputeMetricsReplicas", text, plan);
        return None;
    }
    let best = best?;
    let found = format!(
        "the HPA was able to successfully calculate a replica count from {}",
        best.name
    );
    draft.set(ACTIVE, true, "ValidMetricFound", &found);
    Some(Wanted {
        replicas: best.replicas,
        reason: best.name,
    })
}

fn rescale(
    autoscaler: &HorizontalPodAutoscaler,
    scaled: &Scaled,
    wanted: &Wanted,
    turn: &Turn<'_>,
    draft: &mut Draft,
    plan: &mut Plan,
) {
    let (size, why) = (wanted.replicas, &wanted.reason);
    let target = Target {
        resource: scaled.resource.clone(),
        key: Key::new(
            autoscaler.metadata.namespace.as_deref().unwrap_or_default(),
            &scaled.name,
        ),
    };
    let action = Action::of_subresource(target, "scale", json!({"spec": {"replicas": size}}));
    plan.change(action.noting(Note {
        about: reference(&HORIZONTAL_POD_AUTOSCALERS, &autoscaler.metadata),
        success: Some(("SuccessfulRescale", format!("New size: {size}; reason: {why}"))),
        failure: Some((
            "FailedRescale",
            format!("New size: {size}; reason: {why}; error: {{error}}"),
        )),
    }));
    let message = format!("the HPA controller was able to update the target scale to {size}");
    draft.set(ABLE, true, "SucceededRescale", &message);
    draft.scaled(size, turn.now);
}
