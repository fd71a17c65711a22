//! How many replicas a measured load asks for. Pure numbers: what is measured comes in, a size comes out.
//!
//! The rule is one line: as many as there are, times what is used over what should be. The rest is care about pods of
//! which nothing is known: they are taken to use what makes the change smaller, and never turn it around.

/// What is aimed at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// So many percent of what the pods request.
    Percent(i32),
    /// So much a pod, in thousandths.
    Each(i128),
}

/// What is known of a pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Known {
    /// It uses so much, in thousandths.
    Uses(i128),
    /// It is not ready, so what it uses tells nothing yet.
    Unready,
    /// Nobody has measured it.
    Nothing,
}

/// One pod that counts.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// What it uses.
    pub known: Known,
    /// What it requests, in thousandths.
    pub request: i128,
}

/// How far the load may be off before anything is done, each way.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Above what is aimed at, as a part of it.
    pub up: f64,
    /// Below it.
    pub down: f64,
}

impl Tolerance {
    fn covers(self, ratio: f64) -> bool {
        (1.0 - self.down) <= ratio && ratio <= (1.0 + self.up)
    }
}

/// What the load asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proposal {
    /// So many replicas.
    pub replicas: i32,
    /// What a measured pod uses, in thousandths.
    pub each: i128,
    /// The same in percent of what is requested.
    pub percent: Option<i32>,
}

/// What pods ask for that were measured one by one; nothing if no ready pod was measured.
pub fn of_pods(current: i32, samples: &[Sample], goal: Goal, tolerance: Tolerance) -> Option<Proposal> {
    let uses = |sample: &Sample| match sample.known {
        Known::Uses(used) => Some((used, sample.request)),
        _ => None,
    };
    let mut measured: Vec<(i128, i128)> = samples.iter().filter_map(uses).collect();
    if measured.is_empty() {
        return None;
    }
    let (ratio, percent) = load(&measured, goal);
    let each = average(&measured);
    let proposal = |replicas| Proposal {
        replicas,
        each,
        percent,
    };
    let of = |known| samples.iter().filter(move |sample| sample.known == known);
    let unready = of(Known::Unready).filter(|_| ratio > 1.0);
    let missing = of(Known::Nothing).filter(|_| ratio != 1.0);
    let assumed: Vec<(i128, i128)> = missing
        .map(|sample| (if ratio < 1.0 { all_of(sample, goal) } else { 0 }, sample.request))
        .chain(unready.map(|sample| (0, sample.request)))
        .collect();
    if assumed.is_empty() {
        let same = tolerance.covers(ratio);
        return Some(proposal(if same { current } else { ceil(ratio, measured.len()) }));
    }
    measured.extend(assumed);
    let (careful, _) = load(&measured, goal);
    let turned = (ratio < 1.0 && careful > 1.0) || (ratio > 1.0 && careful < 1.0);
    if turned || tolerance.covers(careful) {
        return Some(proposal(current));
    }
    let replicas = ceil(careful, measured.len());
    let turned = (careful < 1.0 && replicas > current) || (careful > 1.0 && replicas < current);
    Some(proposal(if turned { current } else { replicas }))
}

/// What one number asks for that is there for all pods together. `each`: the number is to be shared out among the pods.
pub fn of_value(
    (current, ready): (i32, usize),
    value: i128,
    target: i128,
    each: bool,
    tolerance: Tolerance,
) -> Proposal {
    let replicas = if each {
        let ratio = part(value, target.saturating_mul(current.max(1).into()));
        let needed = i32::try_from(value.max(0).saturating_add(target - 1) / target.max(1)).unwrap_or(i32::MAX);
        if current != 0 && tolerance.covers(ratio) {
            current
        } else {
            needed
        }
    } else {
        let ratio = part(value, target);
        match current {
            0 => ceil(ratio, 1),
            _ if tolerance.covers(ratio) => current,
            _ => ceil(ratio, ready),
        }
    };
    let pods = i128::from(current.max(1));
    Proposal {
        replicas,
        each: if each { value / pods } else { value },
        percent: None,
    }
}

/// What a pod of which nothing is known uses at most, as far as anybody has a right to suppose.
fn all_of(sample: &Sample, goal: Goal) -> i128 {
    match goal {
        Goal::Percent(target) => sample.request.saturating_mul(target.max(100).into()) / 100,
        Goal::Each(target) => target,
    }
}

fn average(measured: &[(i128, i128)]) -> i128 {
    let total: i128 = measured.iter().map(|(used, _)| used).sum();
    total / i128::try_from(measured.len().max(1)).unwrap_or(1)
}

/// What is used over what should be.
fn load(measured: &[(i128, i128)], goal: Goal) -> (f64, Option<i32>) {
    match goal {
        Goal::Each(target) => (part(average(measured), target), None),
        Goal::Percent(target) => {
            let total: i128 = measured.iter().map(|(used, _)| used).sum();
            let requested: i128 = measured.iter().map(|(_, request)| request).sum();
            let percent = i32::try_from(total.saturating_mul(100) / requested.max(1)).unwrap_or(i32::MAX);
            (f64::from(percent) / f64::from(target.max(1)), Some(percent))
        }
    }
}

fn part(of: i128, whole: i128) -> f64 {
    of as f64 / whole.max(1) as f64
}

/// Casting a float holds it at the bounds of the integer.
fn ceil(ratio: f64, pods: usize) -> i32 {
    (ratio * pods as f64).ceil() as i32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOLERANCE: Tolerance = Tolerance { up: 0.1, down: 0.1 };

    fn known() -> impl Strategy<Value = Known> {
        prop_oneof![
            (0..3000_i128).prop_map(Known::Uses),
            Just(Known::Unready),
            Just(Known::Nothing)
        ]
    }

    proptest! {
        /// What is not known makes a change smaller, never larger and never the other way.
        #[test]
        fn the_unknown_only_calms(all in prop::collection::vec(known(), 1..12), percent in 10..200_i32) {
            let sample = |known| Sample { known, request: 1000 };
            let samples: Vec<Sample> = all.iter().copied().map(sample).collect();
            let measured: Vec<Sample> = samples.iter().copied().filter(|s| matches!(s.known, Known::Uses(_))).collect();
            let current = i32::try_from(samples.len()).unwrap();
            let goal = Goal::Percent(percent);
            let Some(found) = of_pods(current, &samples, goal, TOLERANCE) else {
                prop_assert!(measured.is_empty());
                return Ok(());
            };
            let load = f64::from(found.percent.unwrap()) / f64::from(percent);
            if load > 1.1 {
                prop_assert!(found.replicas >= current, "{found:?} of {current}");
            }
            if load < 0.9 {
                prop_assert!(found.replicas <= current, "{found:?} of {current}");
            }
            prop_assert!(found.replicas <= ceil(load.max(1.0), samples.len()));
        }

        /// At the size that is proposed, the same load is no more than what is aimed at.
        #[test]
        fn a_proposal_is_enough(uses in prop::collection::vec(1..3000_i128, 1..12), percent in 10..200_i32) {
            let samples: Vec<Sample> = uses.iter().map(|used| Sample { known: Known::Uses(*used), request: 1000 }).collect();
            let current = i32::try_from(samples.len()).unwrap();
            let found = of_pods(current, &samples, Goal::Percent(percent), TOLERANCE).unwrap();
            let total: i128 = uses.iter().sum();
            let later = total as f64 / (f64::from(found.replicas.max(1)) * 10.0);
            // The percentage is a whole number, so up to one of them is lost.
            let known = f64::from(found.percent.unwrap().max(1));
            prop_assert!(later <= f64::from(percent) * 1.1 * (known + 1.0) / known, "{later} of {percent}");
        }
    }
}
