//! Which endpoint of a service port takes the next connection: in turn, or the one that the client had before.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// Client addresses that one service port remembers for session affinity. More than a node has pods; when all places are
/// taken by live sessions, further clients are balanced in turn.
const MAX_SESSIONS: usize = 10_000;

/// The turn and the sessions of one service port; they outlive changes of its endpoints.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    turn: AtomicUsize,
    sessions: Mutex<HashMap<IpAddr, Session>>,
}

#[derive(Debug, Clone, Copy)]
struct Session {
    endpoint: SocketAddr,
    used: Instant,
}

impl Balancer {
    /// The endpoint for a connection of `client`. With `affinity`, a client keeps its endpoint until it has been quiet
    /// for that long or the endpoint is gone. `usable` says whether an endpoint can be reached at all.
    pub(crate) fn pick(
        &self,
        endpoints: &[SocketAddr],
        client: IpAddr,
        affinity: Option<Duration>,
        now: Instant,
        usable: impl Fn(SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let Some(timeout) = affinity else {
            return self.in_turn(endpoints, usable);
        };
        let mut sessions = self.sessions.lock();
        let fresh = |session: &Session| now.saturating_duration_since(session.used) < timeout;
        if let Some(session) = sessions.get_mut(&client)
            && fresh(session)
            && endpoints.contains(&session.endpoint)
            && usable(session.endpoint)
        {
            session.used = now;
            return Some(session.endpoint);
        }
        let endpoint = self.in_turn(endpoints, usable)?;
        if sessions.len() >= MAX_SESSIONS {
            sessions.retain(|_, session| fresh(session));
        }
        if sessions.len() < MAX_SESSIONS || sessions.contains_key(&client) {
            sessions.insert(client, Session { endpoint, used: now });
        }
        Some(endpoint)
    }

    fn in_turn(&self, endpoints: &[SocketAddr], usable: impl Fn(SocketAddr) -> bool) -> Option<SocketAddr> {
        let start = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(endpoints.len())?;
        let (before, from) = endpoints.split_at_checked(start)?;
        from.iter().chain(before).copied().find(|endpoint| usable(*endpoint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoints(n: u8) -> Vec<SocketAddr> {
        (0..n).map(|n| SocketAddr::from(([10, 244, 0, n], 80))).collect()
    }

    const ANN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 1, 1));
    const BOB: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 1, 2));

    #[test]
    fn nobody_is_picked_from_nothing() {
        assert_eq!(Balancer::default().pick(&[], ANN, None, Instant::now(), |_| true), None);
        assert_eq!(
            Balancer::default().pick(&endpoints(3), ANN, None, Instant::now(), |_| false),
            None
        );
    }

    #[test]
    fn a_client_keeps_its_endpoint_until_it_was_quiet_for_long() {
        let balancer = Balancer::default();
        let all = endpoints(3);
        let timeout = Duration::from_secs(10);
        let start = Instant::now();
        let pick = |client, after: u64| {
            balancer
                .pick(&all, client, Some(timeout), start + Duration::from_secs(after), |_| {
                    true
                })
                .unwrap()
        };
        let first = pick(ANN, 0);
        assert_ne!(pick(BOB, 1), first);
        assert_eq!(pick(ANN, 9), first);
        assert_eq!(pick(ANN, 18), first, "each use starts the time anew");
        assert_ne!(pick(ANN, 28), first);
    }

    #[test]
    fn a_session_ends_with_its_endpoint() {
        let balancer = Balancer::default();
        let timeout = Some(Duration::from_secs(10));
        let now = Instant::now();
        let all = endpoints(2);
        let first = balancer.pick(&all, ANN, timeout, now, |_| true).unwrap();
        let second = balancer.pick(&all, ANN, timeout, now, |at| at != first).unwrap();
        assert_ne!(second, first);
        assert_eq!(balancer.pick(&all, ANN, timeout, now, |_| true), Some(second));
    }

    proptest! {
        #[test]
        fn turns_are_fair(n in 1u8..20, rounds in 1usize..5) {
            let balancer = Balancer::default();
            let all = endpoints(n);
            let mut counts = HashMap::new();
            for _ in 0..rounds * all.len() {
                let picked = balancer.pick(&all, ANN, None, Instant::now(), |_| true).unwrap();
                *counts.entry(picked).or_insert(0) += 1;
            }
            prop_assert!(all.iter().all(|endpoint| counts.get(endpoint) == Some(&rounds)));
        }
    }
}
