//! How large each ReplicaSet of a Deployment should be now: the arithmetic of rollouts, free of everything else.
//!
//! Laws: the sizes never add up to more than replicas plus surge unless they did before; scaling down never takes
//! available pods below replicas minus unavailable; each step of a rollout brings it nearer to its end.

use std::sync::Arc;

use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::revision::{self, DESIRED, MAXIMUM};
use crate::{amount::scaled, replicaset::replicas};

/// What a Deployment allows while it rolls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Pods wanted.
    pub replicas: i32,
    /// Pods allowed beyond that.
    pub surge: i32,
    /// Pods that may be missing.
    pub unavailable: i32,
    /// Whether old pods end before new ones start.
    pub recreate: bool,
}

impl Bounds {
    /// What the Deployment asks for; percentages round so that there is always a way forward.
    #[must_use]
    pub fn of(d: &Deployment) -> Self {
        let spec = d.spec.as_ref();
        let replicas = spec.and_then(|s| s.replicas).unwrap_or(1);
        let strategy = spec.and_then(|s| s.strategy.as_ref());
        if strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate") {
            return Self {
                replicas,
                surge: 0,
                unavailable: 0,
                recreate: true,
            };
        }
        let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".to_owned());
        let surge = rolling.and_then(|r| r.max_surge.as_ref()).unwrap_or(&quarter);
        let unavailable = rolling.and_then(|r| r.max_unavailable.as_ref()).unwrap_or(&quarter);
        let surge = scaled(surge, replicas, true);
        let unavailable = match scaled(unavailable, replicas, false) {
            0 if surge == 0 => 1,
            unavailable => unavailable.min(replicas),
        };
        Self {
            replicas,
            surge,
            unavailable,
            recreate: false,
        }
    }

    /// The most pods at a time.
    #[must_use]
    pub fn maximum(&self) -> i32 {
        self.replicas.saturating_add(self.surge)
    }

    /// The fewest available pods.
    #[must_use]
    pub fn minimum(&self) -> i32 {
        self.replicas.saturating_sub(self.unavailable)
    }
}

/// One ReplicaSet and the size it should have.
#[derive(Clone, Debug)]
pub struct Sized {
    /// The ReplicaSet.
    pub rs: Arc<ReplicaSet>,
    /// Whether it has the Deployment's template.
    pub new: bool,
    /// The size it should have; at first the one it has.
    pub size: i32,
}

impl Sized {
    /// At its present size.
    #[must_use]
    pub fn of(rs: Arc<ReplicaSet>, new: bool) -> Self {
        let size = replicas(&rs);
        Self { rs, new, size }
    }

    /// Pods that serve and will stay: a status may still count pods beyond the size, which are about to go.
    fn available(&self) -> i32 {
        self.rs
            .status
            .as_ref()
            .and_then(|s| s.available_replicas)
            .unwrap_or(0)
            .min(self.size)
    }
}

fn total(sets: &[Sized]) -> i32 {
    sets.iter().fold(0, |sum, set| sum.saturating_add(set.size))
}

/// Whether the Deployment's size was changed since the ReplicaSets were sized.
#[must_use]
pub fn is_scaling(sets: &[Sized], bounds: &Bounds) -> bool {
    let desired = i64::from(bounds.replicas);
    sets.iter()
        .any(|set| set.size > 0 && revision::number(&set.rs, DESIRED).is_some_and(|d| d != desired))
}

/// The size of the new ReplicaSet, which has `current` now, when all sizes add up to `total`.
#[must_use]
pub fn of_new(bounds: &Bounds, current: i32, total: i32) -> i32 {
    if bounds.recreate || current > bounds.replicas {
        return bounds.replicas;
    }
    let room = bounds.maximum().saturating_sub(total).max(0);
    current.saturating_add(room.min(bounds.replicas.saturating_sub(current)))
}

/// One step of a rolling update. The sets are ordered from the oldest on.
pub fn roll(sets: &mut [Sized], bounds: &Bounds) {
    let sum = total(sets);
    let Some(new) = sets.iter_mut().find(|set| set.new) else {
        return;
    };
    let grown = of_new(bounds, new.size, sum);
    if grown != new.size {
        new.size = grown;
        return;
    }
    let new_unavailable = new.size.saturating_sub(new.available()).max(0);
    let spare = sum.saturating_sub(bounds.minimum()).saturating_sub(new_unavailable);
    if spare > 0 {
        drop_unhealthy(sets, spare);
        drop_old(sets, bounds);
    }
}

/// Pods of old sets that serve nobody cost nothing: they go first.
fn drop_unhealthy(sets: &mut [Sized], spare: i32) {
    let mut left = spare;
    for set in sets.iter_mut().filter(|set| !set.new) {
        let dropped = set.size.saturating_sub(set.available()).clamp(0, left);
        set.size -= dropped;
        left -= dropped;
    }
}

fn drop_old(sets: &mut [Sized], bounds: &Bounds) {
    let available = sets.iter().fold(0_i32, |sum, set| sum.saturating_add(set.available()));
    let mut left = available.saturating_sub(bounds.minimum());
    for set in sets.iter_mut().filter(|set| !set.new) {
        let dropped = set.size.min(left).max(0);
        set.size -= dropped;
        left -= dropped;
    }
}

/// All old sets to zero. True if any was larger.
pub fn stop_old(sets: &mut [Sized]) -> bool {
    let mut stopped = false;
    for set in sets.iter_mut().filter(|set| !set.new && set.size > 0) {
        set.size = 0;
        stopped = true;
    }
    stopped
}

/// Spreads a change of the Deployment's size over its sets, in proportion to what they have.
pub fn spread(sets: &mut [Sized], bounds: &Bounds) {
    let active = sets.iter().filter(|set| set.size > 0).count();
    if active <= 1 {
        // The only active one; else the new one; else the latest.
        let only = sets
            .iter()
            .position(|set| set.size > 0)
            .or_else(|| sets.iter().position(|set| set.new));
        let only = only.or_else(|| sets.len().checked_sub(1));
        if let Some(set) = only.and_then(|at| sets.get_mut(at)) {
            set.size = bounds.replicas;
        }
        return;
    }
    if is_saturated(sets, bounds) {
        stop_old(sets);
    } else if !bounds.recreate {
        in_proportion(sets, bounds);
    }
}

fn is_saturated(sets: &[Sized], bounds: &Bounds) -> bool {
    sets.iter().find(|set| set.new).is_some_and(|set| {
        set.size == bounds.replicas
            && set.available() == bounds.replicas
            && revision::number(&set.rs, DESIRED) == Some(bounds.replicas.into())
    })
}

fn in_proportion(sets: &mut [Sized], bounds: &Bounds) {
    let allowed = if bounds.replicas > 0 { bounds.maximum() } else { 0 };
    let to_add = i64::from(allowed) - i64::from(total(sets));
    if to_add == 0 {
        return;
    }
    let mut order: Vec<usize> = (0..sets.len())
        .filter(|at| sets.get(*at).is_some_and(|s| s.size > 0))
        .collect();
    // The largest first; of equal ones the newer grows and the older shrinks. The sets come from the oldest on.
    order.sort_by_key(|at| {
        let size = sets.get(*at).map_or(0, |set| set.size);
        let age = i64::try_from(*at).unwrap_or(0);
        (std::cmp::Reverse(size), if to_add > 0 { -age } else { age })
    });
    let mut added = 0_i64;
    for at in &order {
        let Some(set) = sets.get_mut(*at) else { continue };
        let left = to_add - added;
        let share = share(set, bounds);
        let share = if to_add > 0 { share.min(left) } else { share.max(left) };
        added += share;
        set.size = i32::try_from(i64::from(set.size) + share).unwrap_or(0).max(0);
    }
    if let Some(set) = order.first().and_then(|at| sets.get_mut(*at)) {
        set.size = i32::try_from(i64::from(set.size) + to_add - added).unwrap_or(0).max(0);
    }
}

/// By how much the set should grow so that it keeps its part of the whole.
fn share(set: &Sized, bounds: &Bounds) -> i64 {
    let size = i64::from(set.size);
    if bounds.replicas == 0 {
        return -size;
    }
    let before = revision::number(&set.rs, MAXIMUM)
        .filter(|m| *m > 0)
        .unwrap_or(i64::from(bounds.replicas));
    let wanted = size.saturating_mul(bounds.maximum().into());
    (wanted.saturating_mul(2).saturating_add(before)) / before.saturating_mul(2) - size
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn deployment(replicas: i32, surge: serde_json::Value, unavailable: serde_json::Value) -> Deployment {
        serde_json::from_value(json!({"metadata": {"name": "d"}, "spec": {"replicas": replicas, "selector": {}, "template": {},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}})).unwrap()
    }

    fn set(new: bool, size: i32, available: i32, maximum: i32, desired: i32) -> Sized {
        let rs = serde_json::from_value(json!({
            "metadata": {"annotations": {MAXIMUM: maximum.to_string(), DESIRED: desired.to_string()}},
            "spec": {"replicas": size, "selector": {}}, "status": {"replicas": size, "availableReplicas": available}}))
        .unwrap();
        Sized::of(Arc::new(rs), new)
    }

    #[test]
    fn percentages_round_towards_progress() {
        let bounds = Bounds::of(&deployment(10, "25%".into(), "25%".into()));
        assert_eq!((bounds.surge, bounds.unavailable), (3, 2));
        let bounds = Bounds::of(&deployment(3, 0.into(), "25%".into()));
        assert_eq!((bounds.surge, bounds.unavailable), (0, 1), "never stuck");
    }

    #[test]
    fn proportional_scaling_follows_the_documented_example() {
        // 10 replicas, surge 3, in the middle of a rollout at 8 old and 5 new; scaled to 15.
        let bounds = Bounds {
            replicas: 15,
            surge: 3,
            unavailable: 2,
            recreate: false,
        };
        let mut sets = [set(false, 8, 8, 13, 10), set(true, 5, 0, 13, 10)];
        assert!(is_scaling(&sets, &bounds));
        spread(&mut sets, &bounds);
        assert_eq!((sets[0].size, sets[1].size), (11, 7));
    }

    #[test]
    fn scaling_to_zero_stops_all() {
        let bounds = Bounds {
            replicas: 0,
            surge: 0,
            unavailable: 0,
            recreate: false,
        };
        let mut sets = [set(false, 8, 8, 13, 10), set(true, 5, 0, 13, 10)];
        spread(&mut sets, &bounds);
        assert_eq!(total(&sets), 0);
    }

    proptest! {
        #[test]
        fn spreading_fills_the_allowed_size(a in 1..40_i32, b in 1..40_i32, replicas in 1..100_i32, surge in 0..10_i32) {
            let bounds = Bounds { replicas, surge, unavailable: 1, recreate: false };
            let mut sets = [set(false, a, 0, a + b, 999), set(true, b, 0, a + b, 999)];
            spread(&mut sets, &bounds);
            prop_assert_eq!(total(&sets), bounds.maximum());
        }

        #[test]
        fn a_step_keeps_surge_and_availability(
            old in 0..20_i32, sick in 0..20_i32, new in 0..20_i32, young in 0..20_i32,
            replicas in 0..20_i32, surge in 0..5_i32, unavailable in 0..5_i32,
        ) {
            let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable.min(replicas) };
            let bounds = Bounds { replicas, surge, unavailable, recreate: false };
            let mut sets = [set(false, old, (old - sick).max(0), 0, 0), set(true, new, (new - young).max(0), 0, 0)];
            let before = total(&sets);
            let available: i32 = sets.iter().map(Sized::available).sum();
            roll(&mut sets, &bounds);
            prop_assert!(total(&sets) <= before.max(bounds.maximum()));
            // At worst every dropped pod of an old set beyond its sick ones was an available one.
            let healthy_dropped = (sets[0].available() - sets[0].size).max(0);
            let shrunk_new = (sets[1].available() - sets[1].size).max(0);
            if shrunk_new == 0 {
                prop_assert!(available - healthy_dropped >= bounds.minimum().min(available));
            }
        }
    }
}
