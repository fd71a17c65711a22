//! Which ports to open and close, and who is refused because another service has the port. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{ExposedPort, Protocol};

/// What only one service can have.
pub(super) type Place = (u16, Protocol);

pub(super) fn place(port: &ExposedPort) -> Place {
    (port.port, port.protocol)
}

/// What to do so that exactly the wanted ports are held.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) close: BTreeSet<Place>,
    pub(super) open: Vec<ExposedPort>,
    /// Those whose place another service has, with words for the user.
    pub(super) refused: BTreeMap<ExposedPort, String>,
}

/// Who holds a place keeps it; a free one goes to node ports first, which nobody can choose anew, then by name.
pub(super) fn plan(held: &BTreeMap<Place, ExposedPort>, mut asked: Vec<ExposedPort>) -> Plan {
    asked.sort();
    let mut given: BTreeMap<Place, ExposedPort> = BTreeMap::new();
    let holds = |port: &ExposedPort| held.get(&place(port)) == Some(port);
    let (keepers, others): (Vec<_>, Vec<_>) = asked.into_iter().partition(holds);
    given.extend(keepers.into_iter().map(|port| (place(&port), port)));
    let kept: BTreeSet<Place> = given.keys().copied().collect();
    let mut refused = BTreeMap::new();
    for port in others {
        match given.get(&place(&port)) {
            None => {
                given.insert(place(&port), port);
            }
            Some(owner) => {
                let message = format!(
                    "port {} leads to the service {}/{} already",
                    port.port, owner.namespace, owner.service
                );
                refused.insert(port, message);
            }
        }
    }
    Plan {
        close: held.keys().filter(|place| !kept.contains(place)).copied().collect(),
        open: given
            .into_iter()
            .filter(|(place, _)| !kept.contains(place))
            .map(|(_, port)| port)
            .collect(),
        refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ExposedAs;
    use proptest::prelude::*;

    fn any_port() -> impl Strategy<Value = ExposedPort> {
        let exposed_as = prop_oneof![Just(ExposedAs::NodePort), Just(ExposedAs::Balancer)];
        let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
        (exposed_as, "[ab]", protocol, 1u16..4).prop_map(|(exposed_as, service, protocol, port)| ExposedPort {
            exposed_as,
            namespace: "demo".into(),
            service,
            protocol,
            port,
            service_port: 80,
        })
    }

    fn ports() -> impl Strategy<Value = BTreeSet<ExposedPort>> {
        proptest::collection::btree_set(any_port(), 0..8)
    }

    proptest! {
        #[test]
        fn after_the_plan_every_asked_place_has_one_owner_and_holders_stay(before in ports(), asked in ports()) {
            let mut held = BTreeMap::new();
            for port in before {
                held.entry(place(&port)).or_insert(port);
            }
            let plan = plan(&held, asked.iter().cloned().collect());
            let mut after = held.clone();
            after.retain(|place, _| !plan.close.contains(place));
            for port in &plan.open {
                prop_assert!(after.insert(place(port), port.clone()).is_none(), "an open place is not opened again");
            }
            let places: BTreeSet<Place> = asked.iter().map(place).collect();
            prop_assert_eq!(after.keys().copied().collect::<BTreeSet<_>>(), places);
            prop_assert!(after.values().all(|port| asked.contains(port)));
            for port in held.values().filter(|port| asked.contains(port)) {
                prop_assert_eq!(after.get(&place(port)), Some(port));
            }
            for port in &asked {
                prop_assert_eq!(after.get(&place(port)) != Some(port), plan.refused.contains_key(port));
            }
        }
    }
}
