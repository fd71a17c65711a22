//! Policies between pods of two nodes: by the true source, on both sides.

use coracle_net::{LabelSelector, NetError, NetworkPolicy, Policies, PolicyPeer, PolicyRule};

use crate::world::{Machine, addr, introduce, listen, soon, two};

fn from(app: &str) -> Vec<PolicyRule> {
    vec![PolicyRule {
        peers: vec![PolicyPeer::Pods {
            namespaces: None,
            pods: LabelSelector::default().with("app", app),
        }],
        ports: Vec::new(),
    }]
}

fn policy(app: &str, ingress: Option<Vec<PolicyRule>>, egress: Option<Vec<PolicyRule>>) -> Policies {
    let policy = NetworkPolicy {
        namespace: "demo".into(),
        name: "p".into(),
        pods: LabelSelector::default().with("app", app),
        ingress,
        egress,
    };
    Policies {
        policies: vec![policy],
        namespaces: vec![("demo".into(), Default::default())],
    }
}

fn everywhere(machines: &[&Machine], policies: &Policies) {
    for machine in machines {
        machine.fabric.update_policies(policies);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_receivers_node_asks_by_the_true_source() {
    let (a, b) = two();
    let (friend, stranger) = (a.pod(2, "friend"), a.pod(3, "stranger"));
    let server = b.pod(7, "server");
    let _listening = listen(&server, 80);
    everywhere(&[&a, &b], &policy("server", Some(from("friend")), None));
    introduce(
        &[&a, &b],
        &[(a.ip(2), "friend"), (a.ip(3), "stranger"), (b.ip(7), "server")],
    );
    soon(friend.connect(b.at(7, 80))).await.unwrap();
    assert_eq!(soon(stranger.connect(b.at(7, 80))).await.unwrap_err(), NetError::Denied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_has_just_started_is_waited_for() {
    let (a, b) = two();
    let (friend, server) = (a.pod(2, "friend"), b.pod(7, "server"));
    let _listening = listen(&server, 80);
    everywhere(&[&b], &policy("server", Some(from("friend")), None));
    let connecting = tokio::spawn(friend.connect(b.at(7, 80)));
    b.linked("a").await;
    introduce(&[&a, &b], &[(a.ip(2), "friend")]);
    soon(connecting).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_senders_node_knows_the_other_pod() {
    let (a, b) = two();
    let client = a.pod(2, "client");
    let (wanted, other) = (b.pod(7, "wanted"), b.pod(8, "other"));
    let _listening = (listen(&wanted, 80), listen(&other, 80));
    introduce(&[&a, &b], &[(b.ip(7), "wanted"), (b.ip(8), "other")]);
    everywhere(&[&a, &b], &policy("client", None, Some(from("wanted"))));
    soon(client.connect(b.at(7, 80))).await.unwrap();
    assert_eq!(soon(client.connect(b.at(8, 80))).await.unwrap_err(), NetError::Denied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_come_back_whatever_policies_say() {
    let (a, b) = two();
    let (client, server) = (a.pod(2, "client"), b.pod(7, "server"));
    introduce(&[&a, &b], &[(a.ip(2), "client"), (b.ip(7), "server")]);
    // Nobody may begin to talk to the client, and the server may begin nothing.
    let mut shut = policy("client", Some(Vec::new()), None);
    shut.policies.extend(policy("server", None, Some(Vec::new())).policies);
    everywhere(&[&a, &b], &shut);
    let asking = client.bind_udp(addr("0.0.0.0:0")).unwrap();
    let answering = server.bind_udp(addr("0.0.0.0:53")).unwrap();
    let to_client = std::net::SocketAddr::new(a.ip(2), asking.local_addr().port());
    assert_eq!(answering.send("unasked".into(), Some(to_client)), Err(NetError::Denied));
    asking.send("question".into(), Some(b.at(7, 53))).unwrap();
    let (_, from) = soon(answering.recv()).await.unwrap();
    answering.send("answer".into(), Some(from)).unwrap();
    assert_eq!(&soon(asking.recv()).await.unwrap().0[..], b"answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_node_itself_always_reaches_pods() {
    let (a, b) = two();
    let server = b.pod(7, "server");
    let binding = listen(&server, 80);
    everywhere(&[&a, &b], &policy("server", Some(Vec::new()), None));
    let _stream = soon(a.fabric.dial(&b.ip(7).to_string(), 80)).await.unwrap();
    let served = soon(binding.accept()).await.unwrap();
    assert_eq!(served.peer_addr().ip(), a.ip(1));
}
