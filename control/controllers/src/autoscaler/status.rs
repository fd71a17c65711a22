//! What an autoscaler tells of itself, as it is put together during one look.

use jiff::Timestamp;
use k8s_openapi::{
    api::autoscaling::v2::{
        HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::json;

use super::behaviour::History;
use crate::{
    merge,
    plan::{Action, Target},
    resource::HORIZONTAL_POD_AUTOSCALERS,
};

/// Whether the target can be read and written.
pub const ABLE: &str = "AbleToScale";
/// Whether metrics decide.
pub const ACTIVE: &str = "ScalingActive";
/// Whether a bound holds the size.
pub const LIMITED: &str = "ScalingLimited";

/// A status to be written.
pub struct Draft {
    old: HorizontalPodAutoscalerStatus,
    new: HorizontalPodAutoscalerStatus,
    history: Option<(&'static str, History)>,
    now: Timestamp,
}

impl Draft {
    /// The status as it is.
    pub fn of(autoscaler: &HorizontalPodAutoscaler, now: Timestamp) -> Self {
        let old = autoscaler.status.clone().unwrap_or_default();
        let mut new = old.clone();
        new.observed_generation = autoscaler.metadata.generation;
        Self {
            old,
            new,
            history: None,
            now,
        }
    }

    /// Sets a condition.
    pub fn set(&mut self, type_: &str, holds: bool, reason: &str, message: &str) {
        let status = if holds { "True" } else { "False" };
        let conditions = self.new.conditions.get_or_insert_default();
        let found = conditions.iter_mut().find(|condition| condition.type_ == type_);
        let before = self
            .old
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == type_ && c.status == status);
        let condition = HorizontalPodAutoscalerCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: before.map_or(Some(Time(self.now)), |c| c.last_transition_time.clone()),
        };
        match found {
            Some(found) => *found = condition,
            None => conditions.push(condition),
        }
    }

    /// How many replicas there are, and until something else is decided shall be.
    pub fn replicas(&mut self, count: i32) {
        self.new.current_replicas = Some(count);
        self.new.desired_replicas = count;
    }

    /// The size was changed.
    pub fn scaled(&mut self, count: i32, now: Timestamp) {
        self.new.desired_replicas = count;
        self.new.last_scale_time = Some(Time(now));
    }

    /// What was measured.
    pub fn metrics(&mut self, metrics: Vec<MetricStatus>) {
        self.new.current_metrics = (!metrics.is_empty()).then_some(metrics);
    }

    /// What to remember, if it is anything new.
    pub fn history(&mut self, history: &History, annotation: &'static str, longest_seconds: i64, now: Timestamp) {
        let mut history = history.clone();
        history.forget(longest_seconds, now);
        self.history = Some((annotation, history));
    }

    /// The writes that make it so.
    pub fn write(self, autoscaler: &HorizontalPodAutoscaler) -> impl Iterator<Item = Action> {
        let meta = &autoscaler.metadata;
        let target = || Target::of(&HORIZONTAL_POD_AUTOSCALERS, meta);
        let known = |annotation: &str| {
            let text = meta.annotations.as_ref()?.get(annotation)?;
            serde_json::from_str::<History>(text).ok()
        };
        let remembered = self
            .history
            .filter(|(annotation, history)| known(annotation).as_ref() != Some(history));
        let remembered = remembered.map(|(annotation, history)| {
            let text = merge::value(&history).to_string();
            let patch = json!({"metadata": {"uid": meta.uid, "annotations": {annotation: text}}});
            Action::merge(target(), patch)
        });
        let patch = merge::status(meta.uid.as_deref(), &self.old, &self.new);
        let told = patch.map(|patch| Action::status(target(), patch));
        remembered.into_iter().chain(told).collect::<Vec<_>>().into_iter()
    }
}
