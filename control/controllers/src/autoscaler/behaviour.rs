//! How fast an autoscaler may act: what was recommended lately calms it, and policies bound each step.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscaler};
use serde::{Deserialize, Serialize};

use super::calculator::Tolerance;
use crate::clock::after_seconds;
use coracle_api::quantity::Quantity;

/// The load may be off by a tenth before anything is done, as in Kubernetes.
const TOLERANCE: f64 = 0.1;
/// Replicas go away only when nothing has asked for them for five minutes, as in Kubernetes.
const DOWN_WINDOW_SECONDS: i64 = 300;

/// The reason and the sentence of a condition.
type Why = (&'static str, &'static str);

/// The least and the most replicas.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The least.
    pub least: i32,
    /// The most.
    pub most: i32,
}

/// What one direction may do.
#[derive(Clone, Debug)]
struct Rules {
    window_seconds: i64,
    tolerance: f64,
    /// `Max`, `Min` or `Disabled`.
    select: String,
    policies: Vec<Policy>,
}

#[derive(Clone, Copy, Debug)]
struct Policy {
    percent: bool,
    value: i32,
    seconds: i64,
}

/// What both directions may do.
#[derive(Clone, Debug)]
pub struct Behaviour {
    up: Rules,
    down: Rules,
}

/// What may be done of what is wanted.
#[derive(Debug, PartialEq)]
pub struct Allowed {
    /// So many replicas.
    pub replicas: i32,
    /// Why that is calmer than what was recommended.
    pub stabilised: Option<Why>,
    /// Which bound held it.
    pub limited: Option<Why>,
}

const POLICY: fn(bool, i32) -> Policy = |percent, value| Policy {
    percent,
    value,
    seconds: 15,
};

impl Behaviour {
    /// What this autoscaler says, and Kubernetes' own rules for what it leaves out.
    pub fn of(autoscaler: &HorizontalPodAutoscaler) -> Self {
        let said = autoscaler.spec.behavior.as_ref();
        Self {
            up: rules(
                said.and_then(|said| said.scale_up.as_ref()),
                0,
                &[POLICY(true, 100), POLICY(false, 4)],
            ),
            down: rules(
                said.and_then(|said| said.scale_down.as_ref()),
                DOWN_WINDOW_SECONDS,
                &[POLICY(true, 100)],
            ),
        }
    }

    /// How far the load may be off.
    pub fn tolerance(&self) -> Tolerance {
        Tolerance {
            up: self.up.tolerance,
            down: self.down.tolerance,
        }
    }

    /// How long anything has to be remembered.
    pub fn longest_seconds(&self) -> i64 {
        let of = |rules: &Rules| {
            let periods = rules.policies.iter().map(|policy| policy.seconds);
            periods.chain([rules.window_seconds]).max().unwrap_or(0)
        };
        of(&self.up).max(of(&self.down))
    }

    /// What may be done of `wanted`, which is the last that `history` recommends.
    pub fn allow(&self, wanted: i32, current: i32, bounds: Bounds, history: &History, now: Timestamp) -> Allowed {
        let least = history
            .recommended_since(after_seconds(now, -self.up.window_seconds))
            .min();
        let most = history
            .recommended_since(after_seconds(now, -self.down.window_seconds))
            .max();
        let (least, most) = (least.unwrap_or(wanted).min(wanted), most.unwrap_or(wanted).max(wanted));
        let calm = if current < least { least } else { current.min(most) };
        let stabilised = match calm {
            calm if calm < wanted => Some((
                "ScaleUpStabilized",
                "recent recommendations were lower than current one, using the lowest recent recommendation",
            )),
            calm if calm > wanted => Some((
                "ScaleDownStabilized",
                "recent recommendations were higher than current one, using the highest recent recommendation",
            )),
            _ => None,
        };
        let (replicas, limited) = self.limit(calm, current, bounds, history, now);
        Allowed {
            replicas,
            stabilised,
            limited,
        }
    }

    fn limit(
        &self,
        wanted: i32,
        current: i32,
        bounds: Bounds,
        history: &History,
        now: Timestamp,
    ) -> (i32, Option<Why>) {
        if wanted > current {
            let rate = self.up.bound(current, true, history, now).max(current);
            let (most, why) = if bounds.most > rate {
                let text = "the desired replica count is increasing faster than the maximum scale rate";
                (rate, ("ScaleUpLimit", text))
            } else {
                let text = "the desired replica count is more than the maximum replica count";
                (bounds.most, ("TooManyReplicas", text))
            };
            return if wanted > most {
                (most, Some(why))
            } else {
                (wanted, None)
            };
        }
        if wanted < current {
            let rate = self.down.bound(current, false, history, now).min(current);
            let (least, why) = if bounds.least < rate {
                let text = "the desired replica count is decreasing faster than the maximum scale rate";
                (rate, ("ScaleDownLimit", text))
            } else {
                let text = "the desired replica count is less than the minimum replica count";
                (bounds.least, ("TooFewReplicas", text))
            };
            return if wanted < least {
                (least, Some(why))
            } else {
                (wanted, None)
            };
        }
        (wanted, None)
    }
}

fn rules(said: Option<&HPAScalingRules>, window_seconds: i64, policies: &[Policy]) -> Rules {
    let listed = said.and_then(|said| said.policies.as_ref());
    let read = |policy: &k8s_openapi::api::autoscaling::v2::HPAScalingPolicy| Policy {
        percent: policy.type_ == "Percent",
        value: policy.value,
        seconds: policy.period_seconds.into(),
    };
    let tolerance = said.and_then(|said| Quantity::parse(&said.tolerance.as_ref()?.0).ok());
    Rules {
        window_seconds: said
            .and_then(|said| said.stabilization_window_seconds)
            .map_or(window_seconds, i64::from),
        tolerance: tolerance.map_or(TOLERANCE, |tolerance| tolerance.nanos() as f64 / 1e9),
        select: said
            .and_then(|said| said.select_policy.clone())
            .unwrap_or_else(|| "Max".to_owned()),
        policies: listed.map_or_else(|| policies.to_vec(), |listed| listed.iter().map(read).collect()),
    }
}

impl Rules {
    /// The size that may not be passed now.
    fn bound(&self, current: i32, up: bool, history: &History, now: Timestamp) -> i32 {
        if self.select == "Disabled" {
            return current;
        }
        let of = |policy: &Policy| {
            // The period began with another size: what was done since counts against the policy.
            let since = after_seconds(now, -policy.seconds);
            let began = current.saturating_sub(history.scaled_since(since));
            let sign = if up { 1 } else { -1 };
            match policy.percent {
                false => began.saturating_add(sign * policy.value),
                true => {
                    let part = f64::from(began) * (1.0 + f64::from(sign * policy.value) / 100.0);
                    (if up { part.ceil() } else { part }) as i32
                }
            }
        };
        let bounds = self.policies.iter().map(of);
        // The policy that allows the most, unless the one that allows the least is asked for.
        let found = if (self.select == "Min") == up {
            bounds.min()
        } else {
            bounds.max()
        };
        found.unwrap_or(current)
    }
}

/// What was recommended and done lately. A recommendation holds until the next one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// From when on which size was recommended, in seconds since 1970; oldest first.
    recommended: Vec<(i64, i32)>,
    /// When by how many replicas the size was changed; oldest first.
    scaled: Vec<(i64, i32)>,
}

impl History {
    /// What the annotation of that name says. An autoscaler without one begins with the present size, as if it had been
    /// recommended: it takes nothing away before it has looked for a while.
    pub fn read(autoscaler: &HorizontalPodAutoscaler, annotation: &str, current: i32, now: Timestamp) -> Self {
        let annotations = autoscaler.metadata.annotations.as_ref();
        let text = annotations.and_then(|all| all.get(annotation));
        let read = text.and_then(|text| serde_json::from_str::<Self>(text).ok());
        let read = read.filter(|history| !history.recommended.is_empty());
        read.unwrap_or_else(|| Self {
            recommended: vec![(now.as_second(), current)],
            scaled: Vec::new(),
        })
    }

    /// Another recommendation.
    pub fn recommend(&mut self, now: Timestamp, replicas: i32) {
        if self.recommended.last().is_none_or(|(_, last)| *last != replicas) {
            self.recommended.push((now.as_second(), replicas));
        }
    }

    /// The size was changed by so many.
    pub fn scale(&mut self, now: Timestamp, by: i32) {
        self.scaled.push((now.as_second(), by));
    }

    /// Forgets what nothing depends on any more.
    pub fn forget(&mut self, longest_seconds: i64, now: Timestamp) {
        let since = now.as_second().saturating_sub(longest_seconds);
        while self.recommended.get(1).is_some_and(|(until, _)| *until <= since) {
            self.recommended.remove(0);
        }
        self.scaled.retain(|(when, _)| *when > since);
    }

    /// The sizes that were recommended at some time after `since`.
    fn recommended_since(&self, since: Timestamp) -> impl Iterator<Item = i32> {
        let since = since.as_second();
        let ends = self.recommended.iter().skip(1).map(|(when, _)| *when).chain([i64::MAX]);
        let steps = self.recommended.iter().zip(ends);
        steps
            .filter(move |(_, end)| *end > since)
            .map(|((_, replicas), _)| *replicas)
    }

    fn scaled_since(&self, since: Timestamp) -> i32 {
        let later = self.scaled.iter().filter(|(when, _)| *when > since.as_second());
        later.fold(0, |sum, (_, by)| sum.saturating_add(*by))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scene::now;

    proptest! {
        /// Whatever is asked for, whenever: the size stays within the bounds, and one look never does more than its
        /// policies allow.
        #[test]
        fn steps_stay_within_bounds_and_policies(
            asked in prop::collection::vec((1..40_i64, 0..60_i32), 1..40),
            start in 2..20_i32,
        ) {
            let behaviour = Behaviour::of(&HorizontalPodAutoscaler::default());
            let bounds = Bounds { least: 2, most: 20 };
            let (mut at, mut size) = (now(), start);
            let mut history = History { recommended: vec![(at.as_second(), start)], scaled: Vec::new() };
            for (pause, wanted) in asked {
                at = after_seconds(at, pause);
                history.recommend(at, wanted);
                let allowed = behaviour.allow(wanted, size, bounds, &history, at).replicas;
                prop_assert!((bounds.least..=bounds.most).contains(&allowed), "{allowed}");
                prop_assert!(allowed <= (size * 2).max(size + 4), "{size} to {allowed}");
                if allowed != size {
                    history.scale(at, allowed - size);
                    size = allowed;
                }
                let before = history.clone();
                history.forget(behaviour.longest_seconds(), at);
                // What is forgotten changes no answer.
                prop_assert_eq!(
                    behaviour.allow(wanted, size, bounds, &before, at),
                    behaviour.allow(wanted, size, bounds, &history, at)
                );
            }
        }
    }
}
