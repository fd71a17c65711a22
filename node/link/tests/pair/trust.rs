//! Who is believed, and what.

use coracle_net::NetError;

use crate::world::{Authority, Machine, introduce, introduce_as, listen, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_speaks_for_its_own_addresses_only() {
    let authority = Authority::new();
    let (a, b) = (Machine::start(&authority, "a", 1), Machine::start(&authority, "b", 2));
    introduce(&[&a, &b], &[]);
    let _listening = listen(&b.pod(7, "server"), 80);
    // A pod there with an address that b knows as nobody's.
    let mut lesser = a.told();
    lesser.networks = vec!["10.0.9.0/24".parse().unwrap()];
    introduce_as(&[&b], &[lesser], &[]);
    let liar = a.pod(2, "liar");
    assert_eq!(soon(liar.connect(b.at(7, 80))).await.unwrap_err(), NetError::Denied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_node_is_not_linked() {
    let authority = Authority::new();
    let b = Machine::start(&authority, "b", 2);
    let person = Machine::with(authority.credentials("a", "people"), "a", 1);
    let other_cluster = Machine::with(Authority::new().credentials("c", "system:nodes"), "c", 3);
    introduce(&[&person, &other_cluster, &b], &[]);
    let _listening = listen(&b.pod(7, "server"), 80);
    for machine in [&person, &other_cluster] {
        let pod = machine.pod(2, "client");
        let error = soon(pod.connect(b.at(7, 80))).await.unwrap_err();
        assert_eq!(error, NetError::HostUnreachable, "{}", machine.name);
    }
    assert!(b.link.peers().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_another_one_is_not_spoken_to() {
    let authority = Authority::new();
    let (a, b) = (Machine::start(&authority, "a", 1), Machine::start(&authority, "b", 2));
    let mut disguised = b.told();
    disguised.name = "c".into();
    introduce_as(&[&a], &[disguised], &[]);
    let _listening = listen(&b.pod(7, "server"), 80);
    let error = soon(a.pod(2, "client").connect(b.at(7, 80))).await.unwrap_err();
    assert_eq!(error, NetError::HostUnreachable);
}
