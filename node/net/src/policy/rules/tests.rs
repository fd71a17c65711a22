//! A small cluster: two namespaces, four pods, and a table of what each policy lets through.

use proptest::prelude::*;

use super::*;
use crate::policy::{NamedPort, PolicyRule};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(own).collect()
}

/// Namespace, address and facts.
type Member = (&'static str, IpAddr, PodFacts);

fn member(namespace: &'static str, last: u8, app: &str) -> Member {
    let port = |name: &str, protocol, port| NamedPort {
        name: name.to_owned(),
        protocol,
        port,
    };
    let facts = PodFacts {
        labels: labels(&[("app", app)]),
        ports: vec![port("http", Protocol::Tcp, 8080), port("dns", Protocol::Udp, 53)],
        node: None,
    };
    (namespace, IpAddr::from([10, 244, 0, last]), facts)
}

/// web and client in demo, client and db in other.
fn members() -> [Member; 4] {
    [
        member("demo", 1, "web"),
        member("demo", 2, "client"),
        member("other", 3, "client"),
        member("other", 4, "db"),
    ]
}

fn told(policies: Vec<NetworkPolicy>) -> Compiled {
    Compiled::new(&Policies {
        policies,
        namespaces: vec![
            ("demo".into(), labels(&[("team", "a")])),
            ("other".into(), labels(&[("team", "b")])),
        ],
    })
}

/// A policy of demo about the web pods.
fn about_web(ingress: Option<Vec<PolicyRule>>, egress: Option<Vec<PolicyRule>>) -> NetworkPolicy {
    NetworkPolicy {
        namespace: "demo".into(),
        name: "p".into(),
        pods: LabelSelector::default().with("app", "web"),
        ingress,
        egress,
    }
}

fn rule(peers: Vec<PolicyPeer>, ports: Vec<PolicyPort>) -> Vec<PolicyRule> {
    vec![PolicyRule { peers, ports }]
}

fn pods(namespaces: Option<LabelSelector>, pods: LabelSelector) -> PolicyPeer {
    PolicyPeer::Pods { namespaces, pods }
}

fn block(network: &str, except: &[&str]) -> PolicyPeer {
    PolicyPeer::Block {
        network: network.parse().unwrap(),
        except: except.iter().map(|part| part.parse().unwrap()).collect(),
    }
}

fn tcp(ports: PortRange) -> PolicyPort {
    PolicyPort {
        protocol: Protocol::Tcp,
        ports,
    }
}

/// Whether one may talk to the other, as both their rules say.
fn passes(compiled: &Compiled, from: &Member, to: &Member, port: u16, protocol: Protocol) -> bool {
    let end = |member: &'_ Member| End {
        ip: member.1,
        pod: None,
    };
    let flow = Flow {
        from: End {
            pod: Some((from.0, &from.2)),
            ..end(from)
        },
        to: End {
            pod: Some((to.0, &to.2)),
            ..end(to)
        },
        port,
        protocol,
    };
    compiled.rules(from.0, &from.2).let_out(&flow) && compiled.rules(to.0, &to.2).let_in(&flow)
}

/// Which of [demo/client, other/client, other/db] reach web at TCP 8080.
fn reach_web(policies: Vec<NetworkPolicy>) -> [bool; 3] {
    let [web, near, far, db] = members();
    let compiled = told(policies);
    [&near, &far, &db].map(|from| passes(&compiled, from, &web, 8080, Protocol::Tcp))
}

/// Which of [demo/client, other/client, other/db] web reaches at TCP 8080.
fn web_reaches(policies: Vec<NetworkPolicy>) -> [bool; 3] {
    let [web, near, far, db] = members();
    let compiled = told(policies);
    [&near, &far, &db].map(|to| passes(&compiled, &web, to, 8080, Protocol::Tcp))
}

const ALL: [bool; 3] = [true; 3];
const NONE: [bool; 3] = [false; 3];

#[test]
fn who_may_come_in() {
    let any = LabelSelector::default;
    let app = |app: &str| any().with("app", app);
    let team = |team: &str| Some(any().with("team", team));
    let ingress = |peers| reach_web(vec![about_web(Some(rule(peers, vec![])), None)]);
    assert_eq!(reach_web(vec![]), ALL, "no policy");
    assert_eq!(reach_web(vec![about_web(None, Some(vec![]))]), ALL, "egress only");
    assert_eq!(reach_web(vec![about_web(Some(vec![]), None)]), NONE, "deny all");
    assert_eq!(ingress(vec![]), ALL, "a rule for everybody");
    assert_eq!(ingress(vec![pods(None, any())]), [true, false, false], "own namespace");
    assert_eq!(ingress(vec![pods(None, app("db"))]), NONE, "own namespace's db");
    assert_eq!(ingress(vec![pods(Some(any()), any())]), ALL, "all namespaces");
    assert_eq!(ingress(vec![pods(Some(any()), app("client"))]), [true, true, false]);
    assert_eq!(ingress(vec![pods(team("b"), any())]), [false, true, true]);
    assert_eq!(
        ingress(vec![pods(team("b"), app("db"))]),
        [false, false, true],
        "both must hold"
    );
    assert_eq!(
        ingress(vec![pods(team("a"), any()), pods(team("b"), app("db"))]),
        [true, false, true],
        "either will do"
    );
    assert_eq!(
        ingress(vec![block("10.244.0.0/24", &["10.244.0.3/32"])]),
        [true, false, true]
    );
    assert_eq!(ingress(vec![block("192.0.2.0/24", &[])]), NONE);
    assert_eq!(
        ingress(vec![
            block("10.244.0.0/24", &["10.244.0.3/32"]),
            block("10.244.0.3/32", &[])
        ]),
        ALL,
        "what one block leaves out another may let in"
    );
}

#[test]
fn where_one_may_go() {
    let any = LabelSelector::default;
    let egress = |peers, ports| web_reaches(vec![about_web(None, Some(rule(peers, ports)))]);
    assert_eq!(web_reaches(vec![about_web(Some(vec![]), None)]), ALL, "ingress only");
    assert_eq!(web_reaches(vec![about_web(None, Some(vec![]))]), NONE, "deny all");
    assert_eq!(egress(vec![], vec![]), ALL);
    assert_eq!(egress(vec![pods(None, any())], vec![]), [true, false, false]);
    assert_eq!(egress(vec![block("10.244.0.4/32", &[])], vec![]), [false, false, true]);
    assert_eq!(egress(vec![], vec![tcp(PortRange::Named("http".into()))]), ALL);
    assert_eq!(egress(vec![], vec![tcp(PortRange::Named("admin".into()))]), NONE);
}

#[test]
fn which_ports() {
    let [web, near, ..] = members();
    let at = |ports: Vec<PolicyPort>, port: u16, protocol| {
        let compiled = told(vec![about_web(Some(rule(vec![], ports)), None)]);
        passes(&compiled, &near, &web, port, protocol)
    };
    let (t, u) = (Protocol::Tcp, Protocol::Udp);
    let range = || vec![tcp(PortRange::Numbers(8000, 8080))];
    let table = [
        (vec![], 1, u, true),
        (range(), 8000, t, true),
        (range(), 8080, t, true),
        (range(), 7999, t, false),
        (range(), 8081, t, false),
        (range(), 8000, u, false),
        (vec![tcp(PortRange::All)], 1, t, true),
        (vec![tcp(PortRange::All)], 1, u, false),
        (vec![tcp(PortRange::Named("http".into()))], 8080, t, true),
        (vec![tcp(PortRange::Named("http".into()))], 8081, t, false),
        (vec![tcp(PortRange::Named("http".into()))], 8080, u, false),
        (vec![tcp(PortRange::Named("dns".into()))], 53, t, false),
        (vec![tcp(PortRange::Named("absent".into()))], 8080, t, false),
        ([range(), vec![tcp(PortRange::Numbers(9, 9))]].concat(), 9, t, true),
    ];
    for (ports, port, protocol, expected) in table {
        assert_eq!(
            at(ports.clone(), port, protocol),
            expected,
            "{ports:?} {port} {protocol:?}"
        );
    }
}

#[test]
fn both_sides_must_agree() {
    let [web, near, ..] = members();
    let closed = NetworkPolicy {
        pods: LabelSelector::default().with("app", "client"),
        ..about_web(None, Some(vec![]))
    };
    let open = about_web(Some(rule(vec![], vec![])), None);
    let compiled = told(vec![open, closed]);
    assert!(!passes(&compiled, &near, &web, 8080, Protocol::Tcp));
    assert!(passes(&compiled, &web, &near, 8080, Protocol::Tcp));
}

fn any_policy() -> impl Strategy<Value = NetworkPolicy> {
    let selector = || {
        prop_oneof![
            Just(LabelSelector::default()),
            Just(LabelSelector::default().with("app", "web")),
            Just(LabelSelector::default().with("app", "client")),
        ]
    };
    let peer = prop_oneof![
        (proptest::option::of(selector()), selector())
            .prop_map(|(namespaces, pods)| PolicyPeer::Pods { namespaces, pods }),
        (0u8..=32).prop_map(|prefix| PolicyPeer::Block {
            network: Cidr::new(IpAddr::from([10, 244, 0, 2]), prefix),
            except: vec![Cidr::new(IpAddr::from([10, 244, 0, 3]), 32)],
        }),
    ];
    let port = prop_oneof![
        Just(tcp(PortRange::All)),
        Just(tcp(PortRange::Named("http".into()))),
        (8070u16..8090).prop_map(|port| tcp(PortRange::Numbers(8070, port))),
    ];
    let rule = (
        proptest::collection::vec(peer, 0..3),
        proptest::collection::vec(port, 0..2),
    )
        .prop_map(|(peers, ports)| PolicyRule { peers, ports });
    let rules = || proptest::option::of(proptest::collection::vec(rule.clone(), 0..3));
    (prop_oneof!["demo", "other"], selector(), rules(), rules()).prop_map(|(namespace, pods, ingress, egress)| {
        NetworkPolicy {
            namespace,
            name: "p".into(),
            pods,
            ingress,
            egress,
        }
    })
}

proptest! {
    #[test]
    fn order_means_nothing_and_more_rules_never_shut_what_was_open(
        policies in proptest::collection::vec(any_policy(), 0..5),
        more in any_policy(),
    ) {
        let members = members();
        let forth = told(policies.clone());
        let back = told(policies.iter().rev().cloned().collect());
        let grown = told(policies.iter().cloned().chain([more.clone()]).collect());
        for from in &members {
            for to in &members {
                let before = passes(&forth, from, to, 8080, Protocol::Tcp);
                prop_assert_eq!(before, passes(&back, from, to, 8080, Protocol::Tcp));
                let after = passes(&grown, from, to, 8080, Protocol::Tcp);
                let isolated = |member: &Member, compiled: &Compiled| {
                    let rules = compiled.rules(member.0, &member.2);
                    (rules.ingress.is_some(), rules.egress.is_some())
                };
                // Where the new policy isolates nobody anew it can only allow more.
                if isolated(from, &forth).1 == isolated(from, &grown).1 && isolated(to, &forth).0 == isolated(to, &grown).0 {
                    prop_assert!(after || !before);
                }
            }
        }
    }

    #[test]
    fn a_policy_is_about_nobody_outside_its_namespace(mut policy in any_policy()) {
        policy.namespace = "elsewhere".into();
        let compiled = told(vec![policy]);
        for from in &members() {
            for to in &members() {
                prop_assert!(passes(&compiled, from, to, 8080, Protocol::Tcp));
            }
        }
    }
}
