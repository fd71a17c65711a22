//! Who is believed, and what.

use std::time::{Duration, SystemTime};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_certificates_go_on_where_the_old_ones_end() {
    let authority = Authority::new();
    let until = SystemTime::now() + Duration::from_secs(4);
    let machine = |name, octet| Machine::with(authority.credentials_until(name, until), name, octet);
    let (a, b, forgetful) = (machine("a", 1), machine("b", 2), machine("c", 3));
    introduce(&[&a, &b, &forgetful], &[]);
    let servers = [&a, &b, &forgetful].map(|machine| machine.pod(7, "server"));
    let _listening = [0, 1, 2].map(|at| listen(&servers[at], 80));
    let clients = [&a, &b, &forgetful].map(|machine| machine.pod(2, "client"));
    soon(clients[0].connect(b.at(7, 80))).await.unwrap();
    for (machine, name) in [(&a, "a"), (&b, "b")] {
        let renewed = authority.credentials(name, "system:nodes");
        machine.keys.replace(&renewed).unwrap();
    }
    // The verifier goes by the time of the system, which ends certificates with a whole second.
    let over = until + Duration::from_secs(1);
    tokio::time::sleep(over.duration_since(SystemTime::now()).unwrap_or_default()).await;

    // The connection that stands carries more, and others are made with the new certificates, whoever dials.
    soon(clients[0].connect(b.at(7, 80))).await.unwrap();
    for (client, from, to) in [(&clients[0], &a, &b), (&clients[1], &b, &a)] {
        a.link.close();
        b.link.close();
        a.alone().await;
        b.alone().await;
        soon(client.connect(to.at(7, 80))).await.unwrap();
        from.linked(&to.name).await;
    }
    // Who has kept the old ones neither gets out nor is reached.
    let out = soon(clients[2].connect(a.at(7, 80))).await.unwrap_err();
    let inwards = soon(clients[0].connect(forgetful.at(7, 80))).await.unwrap_err();
    assert_eq!([out, inwards], [NetError::HostUnreachable; 2]);
}
