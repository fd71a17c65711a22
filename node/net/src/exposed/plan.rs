//! Which ports to open and close, and who is refused because somebody else has the port. Pure.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::{ExposedAs, ExposedPort, Protocol};

/// What only one can have.
pub(super) type Place = (IpAddr, u16, Protocol);

/// A port with the address at which it is to listen.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) port: ExposedPort,
    pub(super) ip: IpAddr,
}

impl Asked {
    pub(super) fn place(&self) -> Place {
        (self.ip, self.port.port, self.port.protocol)
    }
}

/// What to do so that exactly the wanted ports are held.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) close: BTreeSet<Place>,
    pub(super) open: Vec<Asked>,
    /// Those whose place somebody else has, with words for the user.
    pub(super) refused: BTreeMap<ExposedPort, String>,
}

/// Who holds a place keeps it; a free one goes to node ports first, which nobody can choose anew, then to load balancers, both
/// by name, and then to pods as they came, which is how other pods find them.
pub(super) fn plan(held: &BTreeMap<Place, ExposedPort>, mut asked: Vec<Asked>) -> Plan {
    asked.sort_by(|a, b| first(&a.port, &b.port));
    let mut given: BTreeMap<Place, Asked> = BTreeMap::new();
    let holds = |asked: &Asked| held.get(&asked.place()) == Some(&asked.port);
    let (keepers, others): (Vec<_>, Vec<_>) = asked.into_iter().partition(holds);
    given.extend(keepers.into_iter().map(|asked| (asked.place(), asked)));
    let kept: BTreeSet<Place> = given.keys().copied().collect();
    let mut refused = BTreeMap::new();
    for asked in others {
        match given.get(&asked.place()) {
            None => {
                given.insert(asked.place(), asked);
            }
            Some(Asked { port: owner, .. }) => {
                let message = format!(
                    "port {} leads to the {} {}/{} already",
                    owner.port,
                    owner.exposed_as.owner(),
                    owner.namespace,
                    owner.name
                );
                refused.insert(asked.port, message);
            }
        }
    }
    Plan {
        close: held.keys().filter(|place| !kept.contains(place)).copied().collect(),
        open: given
            .into_iter()
            .filter(|(place, _)| !kept.contains(place))
            .map(|(_, asked)| asked)
            .collect(),
        refused,
    }
}

fn first(a: &ExposedPort, b: &ExposedPort) -> Ordering {
    let is_pods = |port: &ExposedPort| matches!(port.exposed_as, ExposedAs::HostPort { .. });
    match (is_pods(a), is_pods(b)) {
        (true, true) => Ordering::Equal,
        (false, false) => a.cmp(b),
        (of_a, of_b) => of_a.cmp(&of_b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_port() -> impl Strategy<Value = Asked> {
        let of_pod = |uid: &str| ExposedAs::HostPort {
            uid: uid.to_owned(),
            ip: None,
        };
        let exposed_as = prop_oneof![
            Just(ExposedAs::NodePort),
            Just(ExposedAs::Balancer),
            Just(of_pod("x")),
            Just(of_pod("y"))
        ];
        let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
        let ip = (1u8..3).prop_map(|last| IpAddr::from([127, 0, 0, last]));
        (exposed_as, "[ab]", protocol, 1u16..4, ip).prop_map(|(exposed_as, name, protocol, port, ip)| Asked {
            port: ExposedPort {
                exposed_as,
                namespace: "demo".into(),
                name,
                protocol,
                port,
                target_port: 80,
            },
            ip,
        })
    }

    /// A port is asked for at one address by one set of listeners.
    fn ports() -> impl Strategy<Value = BTreeMap<ExposedPort, Asked>> {
        let all = proptest::collection::vec(any_port(), 0..8);
        all.prop_map(|all| all.into_iter().map(|asked| (asked.port.clone(), asked)).collect())
    }

    proptest! {
        #[test]
        fn after_the_plan_every_asked_place_has_one_owner_and_holders_stay(before in ports(), asked in ports()) {
            let mut held = BTreeMap::new();
            for asked in before.into_values() {
                held.entry(asked.place()).or_insert(asked.port);
            }
            let plan = plan(&held, asked.values().cloned().collect());
            let mut after = held.clone();
            after.retain(|place, _| !plan.close.contains(place));
            for asked in &plan.open {
                prop_assert!(after.insert(asked.place(), asked.port.clone()).is_none(), "an open place is not opened again");
            }
            let places: BTreeSet<Place> = asked.values().map(Asked::place).collect();
            prop_assert_eq!(after.keys().copied().collect::<BTreeSet<_>>(), places);
            let is_asked = |place: &Place, port: &ExposedPort| asked.get(port).is_some_and(|asked| asked.place() == *place);
            prop_assert!(after.iter().all(|(place, port)| is_asked(place, port)));
            for (place, port) in held.iter().filter(|(place, port)| is_asked(place, port)) {
                prop_assert_eq!(after.get(place), Some(port));
            }
            for asked in asked.values() {
                prop_assert_eq!(after.get(&asked.place()) != Some(&asked.port), plan.refused.contains_key(&asked.port));
            }
        }
    }
}
