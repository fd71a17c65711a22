//! Probes: when to ask a container how it is, and what its answers mean.
//!
//! The deciding half, [`Watch`], is pure: results in, verdicts and the next time out. [`ask`] makes one attempt through the pod
//! network.

mod exec;
mod grpc;
mod http;
mod tcp;
mod tls;

use crate::cell::Found;
use crate::clock::after;
use crate::node::Node;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Holds the others back until the container is up; failing restarts it.
    Startup,
    /// Failing takes the pod out of its services.
    Readiness,
    /// Failing restarts the container.
    Liveness,
}

impl Purpose {
    /// The container's probe for this purpose.
    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
        }
    }

    /// As events name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// The numbers of a probe, with the API's defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    initial_delay: Duration,
    period: Duration,
    timeout: Duration,
    success_threshold: u32,
    failure_threshold: u32,
}

impl Timing {
    /// Reads a probe.
    pub fn of(probe: &Probe) -> Self {
        let seconds = |value: Option<i32>, default: u64, least: u64| {
            Duration::from_secs(
                value
                    .and_then(|value| u64::try_from(value).ok())
                    .unwrap_or(default)
                    .max(least),
            )
        };
        let count = |value: Option<i32>, default: u32| {
            value
                .and_then(|value| u32::try_from(value).ok())
                .unwrap_or(default)
                .max(1)
        };
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0, 0),
            period: seconds(probe.period_seconds, 10, 1),
            timeout: seconds(probe.timeout_seconds, 1, 1),
            success_threshold: count(probe.success_threshold, 1),
            failure_threshold: count(probe.failure_threshold, 3),
        }
    }
}

/// What a probe says of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Enough successes.
    Good,
    /// Enough failures.
    Bad,
}

/// A probe's memory of one running container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// What for.
    pub purpose: Purpose,
    timing: Timing,
    next: Timestamp,
    first: Timestamp,
    /// Still in the first moments, without a good answer so far.
    hasty: bool,
    pause: Duration,
    streak: u32,
    streak_good: bool,
    /// An attempt is under way.
    asking: bool,
}

/// The first pause of a hasty probe; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The container is still starting; nobody needs to know.
    Early,
    /// It counts, but no threshold is reached.
    Counted,
    /// A threshold is reached.
    Verdict(Verdict),
}

impl Watch {
    /// The first attempt comes after the initial delay, at once without one.
    pub fn new(purpose: Purpose, timing: Timing, started: Timestamp) -> Self {
        let next = after(started, timing.initial_delay);
        Self {
            purpose,
            timing,
            next,
            first: next,
            hasty: purpose != Purpose::Liveness,
            pause: FIRST_PAUSE,
            streak: 0,
            streak_good: false,
            asking: false,
        }
    }

    /// When the next attempt is due; none while one is under way.
    pub fn due(&self) -> Option<Timestamp> {
        (!self.asking).then_some(self.next)
    }

    /// An attempt begins.
    pub fn ask(&mut self, now: Timestamp) {
        self.asking = true;
        self.next = after(now, self.timing.period);
    }

    /// An attempt ended.
    ///
    /// Within its first period a container that never answered well is asked again after milliseconds, and these failures do
    /// not count: a guest needs a moment to listen, and its pod should be ready then and not a whole period later. Liveness
    /// probes have no such haste.
    pub fn answer(&mut self, good: bool, now: Timestamp) -> Heard {
        self.asking = false;
        let settled = after(self.first, self.timing.period);
        if !good && self.hasty && now < settled {
            self.next = after(now, self.pause).min(settled);
            self.pause *= 2;
            return Heard::Early;
        }
        self.hasty = false;
        self.streak = if self.streak_good == good {
            self.streak.saturating_add(1)
        } else {
            1
        };
        self.streak_good = good;
        self.next = self.next.max(now);
        let (threshold, verdict) = if good {
            (self.timing.success_threshold, Verdict::Good)
        } else {
            (self.timing.failure_threshold, Verdict::Bad)
        };
        if self.streak >= threshold {
            Heard::Verdict(verdict)
        } else {
            Heard::Counted
        }
    }

    /// How long one attempt may take.
    pub fn timeout(&self) -> Duration {
        self.timing.timeout
    }
}

/// How an attempt went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The container is well.
    Good,
    /// It is not; the text goes into the event.
    Bad(String),
}

/// Where a container is asked.
pub struct Place {
    /// The node.
    pub node: Arc<Node>,
    /// The pod's address.
    pub pod_ip: IpAddr,
    /// The container, if it runs.
    pub found: Option<Found>,
}

/// Makes one attempt, within its timeout.
pub async fn ask(at: Place, container: Container, probe: Probe, timeout: Duration) -> Answer {
    let (fabric, pod_ip) = (&at.node.fabric, at.pod_ip);
    let attempt = async {
        if let Some(action) = &probe.http_get {
            http::get(fabric, pod_ip, &container, action).await
        } else if let Some(action) = &probe.tcp_socket {
            tcp::connect(fabric, pod_ip, &container, action).await
        } else if let Some(action) = &probe.exec {
            exec::run(&at, action).await
        } else if let Some(action) = &probe.grpc {
            grpc::check(fabric, pod_ip, action).await
        } else {
            Answer::Good
        }
    };
    match tokio::time::timeout(timeout, attempt).await {
        Ok(answer) => answer,
        Err(_) => Answer::Bad(format!("no answer within {} s (timeoutSeconds)", timeout.as_secs())),
    }
}

/// A port by number or by its name among the container's ports.
pub fn port(container: &Container, port: &IntOrString) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let named = container
                .ports
                .as_ref()?
                .iter()
                .find(|port| port.name.as_deref() == Some(name));
            match named {
                Some(port) => u16::try_from(port.container_port).ok(),
                None => name.parse().ok(),
            }
        }
    }
    .filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn watch(probe: &Probe) -> Watch {
        Watch::new(Purpose::Readiness, Timing::of(probe), at(100))
    }

    #[test]
    fn defaults_are_those_of_the_api() {
        let mut watch = watch(&Probe::default());
        assert_eq!(watch.due(), Some(at(100)));
        assert_eq!(watch.timeout(), Duration::from_secs(1));
        watch.ask(at(100));
        assert_eq!(watch.due(), None);
        assert_eq!(watch.answer(true, at(100)), Heard::Verdict(Verdict::Good));
        assert_eq!(watch.due(), Some(at(110)));
    }

    #[test]
    fn thresholds_count_in_a_row() {
        let probe = Probe {
            success_threshold: Some(2),
            failure_threshold: Some(3),
            initial_delay_seconds: Some(5),
            ..Probe::default()
        };
        let mut watch = watch(&probe);
        assert_eq!(watch.due(), Some(at(105)));
        let heard: Vec<_> = [true, true, false, false, true, false, false, false]
            .into_iter()
            .map(|good| watch.answer(good, at(120)))
            .collect();
        let (good, bad, counted) = (
            Heard::Verdict(Verdict::Good),
            Heard::Verdict(Verdict::Bad),
            Heard::Counted,
        );
        assert_eq!(heard, [counted, good, counted, counted, counted, counted, counted, bad]);
    }

    #[test]
    fn a_starting_container_is_asked_often_and_not_blamed() {
        let mut watch = watch(&Probe {
            failure_threshold: Some(1),
            ..Probe::default()
        });
        let mut now = at(100);
        let mut asked = 0;
        while now < at(110) {
            watch.ask(now);
            assert_eq!(watch.answer(false, now), Heard::Early);
            now = watch.due().unwrap();
            asked += 1;
        }
        assert!((8..20).contains(&asked), "asked {asked} times");
        assert_eq!(now, at(110));
        assert_eq!(watch.answer(false, now), Heard::Verdict(Verdict::Bad));
        let mut liveness = Watch::new(Purpose::Liveness, Timing::of(&Probe::default()), at(100));
        liveness.ask(at(100));
        assert_eq!(liveness.answer(false, at(100)), Heard::Counted);
        assert_eq!(liveness.due(), Some(at(110)));
    }

    #[test]
    fn a_slow_answer_does_not_make_attempts_overlap_or_pile_up() {
        let mut watch = watch(&Probe {
            period_seconds: Some(1),
            timeout_seconds: Some(30),
            ..Probe::default()
        });
        watch.ask(at(100));
        watch.answer(false, at(120));
        assert_eq!(watch.due(), Some(at(120)));
    }

    #[test]
    fn ports_by_number_and_by_name() {
        let container: Container = serde_json::from_value(
            serde_json::json!({"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}),
        )
        .unwrap();
        assert_eq!(port(&container, &IntOrString::Int(80)), Some(80));
        assert_eq!(port(&container, &IntOrString::String("http".into())), Some(8080));
        assert_eq!(port(&container, &IntOrString::String("9".into())), Some(9));
        assert_eq!(port(&container, &IntOrString::String("x".into())), None);
        assert_eq!(port(&container, &IntOrString::Int(0)), None);
    }

    proptest! {
        #[test]
        fn a_verdict_needs_its_threshold(threshold in 1i32..6, answers in prop::collection::vec(any::<bool>(), 1..60)) {
            let probe = Probe { failure_threshold: Some(threshold), ..Probe::default() };
            let mut watch = Watch::new(Purpose::Liveness, Timing::of(&probe), at(100));
            let mut failures = 0;
            for good in answers {
                failures = if good { 0 } else { failures + 1 };
                let heard = watch.answer(good, at(100));
                prop_assert_eq!(heard == Heard::Verdict(Verdict::Bad), failures >= threshold);
                prop_assert_eq!(heard == Heard::Verdict(Verdict::Good), good);
            }
        }
    }
}
