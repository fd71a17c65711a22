//! Policies on connections, datagrams and names.

use std::sync::Arc;

use coracle_net::{
    Binding, Dns, Fabric, LabelSelector, Labels, NamedPort, NetError, NetworkPolicy, PodFacts, PodNet, Policies,
    PolicyPeer, PolicyPort, PolicyRule, PortRange, Protocol,
};
use tokio_util::sync::CancellationToken;

use crate::world::{addr, endpoint, fabric, ip, pod, service, soon, tell};

/// A pod of the namespace demo with a label `app`.
fn labelled(fabric: &Fabric, last: u8, app: &str) -> Arc<PodNet> {
    let pod = pod(fabric, last);
    pod.describe(PodFacts {
        labels: Labels::from([("app".to_owned(), app.to_owned())]),
        ports: vec![NamedPort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8080,
        }],
        ..PodFacts::default()
    });
    pod
}

fn listen(pod: &Arc<PodNet>, at: &str) -> Binding {
    let binding = pod.bind(addr(at)).unwrap();
    binding.listen(16).unwrap();
    binding
}

fn app(app: &str) -> LabelSelector {
    LabelSelector::default().with("app", app)
}

fn policy(pods: LabelSelector, ingress: Option<Vec<PolicyRule>>, egress: Option<Vec<PolicyRule>>) -> NetworkPolicy {
    NetworkPolicy {
        namespace: "demo".into(),
        name: "p".into(),
        pods,
        ingress,
        egress,
    }
}

/// A rule for pods of the namespace with this label.
fn with(app_label: &str, ports: Vec<PolicyPort>) -> PolicyRule {
    PolicyRule {
        peers: vec![PolicyPeer::Pods {
            namespaces: None,
            pods: app(app_label),
        }],
        ports,
    }
}

fn set(fabric: &Fabric, policies: Vec<NetworkPolicy>) {
    fabric.update_policies(&Policies {
        policies,
        namespaces: vec![("demo".into(), Labels::new())],
    });
}

#[tokio::test]
async fn connections_need_both_sides_and_follow_labels_and_policies() {
    let fabric = fabric();
    let (client, server) = (labelled(&fabric, 2, "client"), labelled(&fabric, 3, "web"));
    let _listening = listen(&server, "0.0.0.0:8080");
    let _other = listen(&server, "0.0.0.0:9090");
    let to = addr("10.244.0.3:8080");
    let reach = async || client.connect(to).await.map(drop);
    reach().await.unwrap();

    let http = PolicyPort {
        protocol: Protocol::Tcp,
        ports: PortRange::Named("http".into()),
    };
    let web = policy(app("web"), Some(vec![with("friend", vec![http])]), None);
    set(&fabric, vec![web.clone()]);
    assert_eq!(reach().await, Err(NetError::Denied));
    // The friend is let in at the named port only; who refuses comes before who listens.
    let friend = labelled(&fabric, 4, "friend");
    friend.connect(to).await.unwrap();
    for port in ["10.244.0.3:9090", "10.244.0.3:1"] {
        assert_eq!(
            friend.connect(addr(port)).await.unwrap_err(),
            NetError::Denied,
            "{port}"
        );
    }
    // A pod becomes a friend when it is labelled so, and ceases to be one.
    client.describe(PodFacts {
        labels: Labels::from([("app".to_owned(), "friend".to_owned())]),
        ..PodFacts::default()
    });
    reach().await.unwrap();
    let closed = policy(app("friend"), None, Some(vec![]));
    set(&fabric, vec![web, closed]);
    assert_eq!(reach().await, Err(NetError::Denied));
    set(&fabric, vec![]);
    reach().await.unwrap();
}

#[tokio::test]
async fn the_pod_itself_and_the_node_are_never_kept_out() {
    let fabric = fabric();
    let server = labelled(&fabric, 3, "web");
    let listening = listen(&server, "0.0.0.0:8080");
    tell(
        &fabric,
        vec![coracle_net::Service {
            endpoints: vec![endpoint(3, 8080)],
            ..service("web", "10.96.0.20")
        }],
    );
    set(
        &fabric,
        vec![policy(LabelSelector::default(), Some(vec![]), Some(vec![]))],
    );
    for to in ["127.0.0.1:8080", "10.244.0.3:8080", "10.96.0.20:80"] {
        server.connect(addr(to)).await.unwrap();
        soon(listening.accept()).await.unwrap();
    }
    for to in ["127.0.0.1:8080", "10.244.0.3:8080"] {
        fabric.dial_pod(ip("10.244.0.3"), addr(to)).await.unwrap();
        soon(listening.accept()).await.unwrap();
    }
    fabric.dial_service("demo", "web", 80).await.unwrap();
}

#[tokio::test]
async fn what_is_connected_stays_connected() {
    let fabric = fabric();
    let (client, server) = (labelled(&fabric, 2, "client"), labelled(&fabric, 3, "web"));
    let (near, far) = crate::world::pair(&client, &server, addr("0.0.0.0:8080")).await;
    set(
        &fabric,
        vec![policy(LabelSelector::default(), Some(vec![]), Some(vec![]))],
    );
    far.try_write("still here".into()).unwrap();
    drop(far);
    assert_eq!(crate::world::read_all(&near).await, b"still here");
    assert_eq!(
        client.connect(addr("10.244.0.3:8080")).await.unwrap_err(),
        NetError::Denied
    );
}

#[tokio::test]
async fn policies_see_the_endpoint_behind_a_service() {
    let fabric = fabric();
    let (client, server) = (labelled(&fabric, 2, "client"), labelled(&fabric, 3, "web"));
    let _listening = listen(&server, "0.0.0.0:8080");
    tell(
        &fabric,
        vec![coracle_net::Service {
            endpoints: vec![endpoint(3, 8080)],
            ..service("web", "10.96.0.20")
        }],
    );
    let to = |port| {
        let ports = vec![PolicyPort {
            protocol: Protocol::Tcp,
            ports: PortRange::Numbers(port, port),
        }];
        policy(app("client"), None, Some(vec![with("web", ports)]))
    };
    let reach = async || client.connect(addr("10.96.0.20:80")).await.map(drop);
    set(&fabric, vec![to(80)]);
    assert_eq!(reach().await, Err(NetError::Denied));
    set(&fabric, vec![to(8080)]);
    reach().await.unwrap();
}

#[tokio::test]
async fn datagrams_are_kept_out_but_answers_are_not() {
    let fabric = fabric();
    let (client, server) = (labelled(&fabric, 2, "client"), labelled(&fabric, 3, "web"));
    let asking = client.bind_udp(addr("0.0.0.0:5000")).unwrap();
    let serving = server.bind_udp(addr("0.0.0.0:53")).unwrap();
    // The client takes nothing that it did not ask for; the server begins nothing.
    set(
        &fabric,
        vec![
            policy(app("client"), Some(vec![]), None),
            policy(app("web"), None, Some(vec![])),
        ],
    );
    let (at_client, at_server) = (addr("10.244.0.2:5000"), addr("10.244.0.3:53"));
    assert_eq!(serving.send("early".into(), Some(at_client)), Err(NetError::Denied));
    asking.send("question".into(), Some(at_server)).unwrap();
    assert_eq!(soon(serving.recv()).await.unwrap(), ("question".into(), at_client));
    serving.send("answer".into(), Some(at_client)).unwrap();
    assert_eq!(soon(asking.recv()).await.unwrap(), ("answer".into(), at_server));
    // Only who was asked may answer, from where it was asked.
    let beside = server.bind_udp(addr("0.0.0.0:54")).unwrap();
    assert_eq!(beside.send("me too".into(), Some(at_client)), Err(NetError::Denied));

    set(&fabric, vec![policy(app("client"), None, Some(vec![]))]);
    let fresh = client.bind_udp(addr("0.0.0.0:5001")).unwrap();
    assert_eq!(fresh.send("out".into(), Some(at_server)), Err(NetError::Denied));
}

#[tokio::test]
async fn names_need_the_way_to_dns() {
    let fabric = fabric();
    tell(&fabric, vec![service("web", "10.96.0.20")]);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(Dns::bind(fabric.clone(), vec![], vec![]).run(shutdown.clone()));
    let client = labelled(&fabric, 2, "client");
    let found = Ok(vec![ip("10.96.0.20")]);
    assert_eq!(client.resolve("web"), found);

    set(&fabric, vec![policy(LabelSelector::default(), None, Some(vec![]))]);
    assert_eq!(client.resolve("web"), Err(NetError::Denied));
    assert_eq!(
        client.resolve("localhost").unwrap().len(),
        2,
        "nobody is asked for that"
    );
    let socket = client.bind_udp(addr("0.0.0.0:0")).unwrap();
    // The server registers on its own task.
    soon(async {
        while socket.send("x".into(), Some(addr("10.96.0.10:53"))) != Err(NetError::Denied) {
            tokio::task::yield_now().await;
        }
    })
    .await;

    // What every cluster's manuals say about DNS, and the plain address.
    let dns = |peers| PolicyRule {
        peers,
        ports: vec![PolicyPort {
            protocol: Protocol::Udp,
            ports: PortRange::Numbers(53, 53),
        }],
    };
    let usual = PolicyPeer::Pods {
        namespaces: Some(LabelSelector::default().with("kubernetes.io/metadata.name", "kube-system")),
        pods: LabelSelector::default().with("k8s-app", "kube-dns"),
    };
    let address = PolicyPeer::Block {
        network: "10.96.0.10/32".parse().unwrap(),
        except: vec![],
    };
    for peers in [vec![], vec![usual], vec![address]] {
        fabric.update_policies(&Policies {
            policies: vec![policy(LabelSelector::default(), None, Some(vec![dns(peers)]))],
            namespaces: vec![(
                "kube-system".into(),
                Labels::from([("kubernetes.io/metadata.name".to_owned(), "kube-system".to_owned())]),
            )],
        });
        assert_eq!(client.resolve("web"), found);
        socket.send("x".into(), Some(addr("10.96.0.10:53"))).unwrap();
    }
    shutdown.cancel();
    soon(running).await.unwrap().unwrap();
}
