//! Service addresses, from pods and from the host.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use coracle_net::{
    Binding, EndpointPort, Fabric, FabricConfig, NetError, PodFacts, PodNet, Protocol, Service, ServicePort,
};

use crate::world::{addr, endpoint, fabric, ip, pod, service, soon, tell};

const VIP: &str = "10.96.0.20:80";

/// A pod that listens at 8080.
fn server(fabric: &Fabric, last: u8) -> (Arc<PodNet>, Binding) {
    let pod = pod(fabric, last);
    let binding = pod.bind(addr("0.0.0.0:8080")).unwrap();
    binding.listen(64).unwrap();
    (pod, binding)
}

fn web(endpoints: &[u8]) -> Service {
    Service {
        endpoints: endpoints.iter().map(|last| endpoint(*last, 8080)).collect(),
        ..service("web", "10.96.0.20")
    }
}

#[tokio::test]
async fn endpoints_take_turns_and_the_client_sees_the_service() {
    let fabric = fabric();
    let client = pod(&fabric, 2);
    let servers = [server(&fabric, 3), server(&fabric, 4)];
    tell(&fabric, vec![web(&[3, 4])]);
    for _ in 0..6 {
        let conn = client.connect(addr(VIP)).await.unwrap();
        assert_eq!(conn.peer_addr(), addr(VIP));
    }
    for (pod, binding) in &servers {
        for _ in 0..3 {
            let accepted = soon(binding.accept()).await.unwrap();
            assert_eq!(accepted.peer_addr().ip(), ip("10.244.0.2"));
            assert_eq!(accepted.local_addr(), SocketAddr::new(pod.ips()[0], 8080));
        }
    }
}

#[tokio::test]
async fn who_is_refused() {
    let fabric = fabric();
    let client = pod(&fabric, 2);
    let _server = server(&fabric, 3);
    tell(
        &fabric,
        vec![
            web(&[]),
            Service {
                endpoints: vec![endpoint(3, 9)],
                ..service("deaf", "10.96.0.21")
            },
        ],
    );
    for (to, error) in [
        (VIP, NetError::ConnectionRefused),
        ("10.96.0.20:81", NetError::ConnectionRefused),
        ("10.96.0.21:80", NetError::ConnectionRefused),
        ("10.96.0.22:80", NetError::HostUnreachable),
    ] {
        assert_eq!(client.connect(addr(to)).await.unwrap_err(), error, "{to}");
    }
}

#[tokio::test]
async fn an_endpoint_whose_pod_is_gone_is_passed_over() {
    let fabric = fabric();
    let client = pod(&fabric, 2);
    let (_, binding) = server(&fabric, 3);
    tell(&fabric, vec![web(&[9, 3, 8])]);
    for _ in 0..4 {
        client.connect(addr(VIP)).await.unwrap();
        soon(binding.accept()).await.unwrap();
    }
}

#[tokio::test]
async fn a_pod_reaches_itself_through_its_service() {
    let fabric = fabric();
    let (pod, binding) = server(&fabric, 3);
    tell(&fabric, vec![web(&[3])]);
    let conn = pod.connect(addr(VIP)).await.unwrap();
    assert_eq!(soon(binding.accept()).await.unwrap().peer_addr(), conn.local_addr());
}

#[tokio::test]
async fn an_endpoint_on_loopback_is_never_the_callers_own() {
    let fabric = fabric();
    let client = pod(&fabric, 2);
    let own = client.bind(addr("127.0.0.1:8080")).unwrap();
    own.listen(1).unwrap();
    let mut evil = web(&[3]);
    evil.endpoints[0].address = ip("127.0.0.1");
    tell(&fabric, vec![evil.clone()]);
    assert_eq!(
        client.connect(addr(VIP)).await.unwrap_err(),
        NetError::ConnectionRefused
    );
    evil.endpoints[0].address = ip("192.0.2.1");
    tell(&fabric, vec![evil]);
    assert_eq!(
        client.connect(addr(VIP)).await.unwrap_err(),
        NetError::ConnectionRefused
    );
}

#[tokio::test]
async fn connections_stay_where_they_were_made() {
    let fabric = fabric();
    let client = pod(&fabric, 2);
    let (_, first) = server(&fabric, 3);
    let (_, second) = server(&fabric, 4);
    tell(&fabric, vec![web(&[3])]);
    let old = client.connect(addr(VIP)).await.unwrap();
    let served = soon(first.accept()).await.unwrap();
    tell(&fabric, vec![web(&[4])]);
    client.connect(addr(VIP)).await.unwrap();
    soon(second.accept()).await.unwrap();
    served.try_write("hello".into()).unwrap();
    drop(served);
    assert_eq!(crate::world::read_all(&old).await, b"hello");
}

#[tokio::test]
async fn client_affinity_holds_per_client() {
    let fabric = fabric();
    let clients = [pod(&fabric, 20), pod(&fabric, 21)];
    let servers = [server(&fabric, 3), server(&fabric, 4)];
    tell(
        &fabric,
        vec![Service {
            affinity_timeout_seconds: Some(10_800),
            ..web(&[3, 4])
        }],
    );
    let mut chosen = HashMap::new();
    for _ in 0..5 {
        for client in &clients {
            client.connect(addr(VIP)).await.unwrap();
            for (server, binding) in &servers {
                if let Some(conn) = binding.try_accept().unwrap() {
                    let at = chosen.entry(conn.peer_addr().ip()).or_insert(server.ips()[0]);
                    assert_eq!(*at, server.ips()[0]);
                }
            }
        }
    }
    assert_eq!(chosen.len(), 2);
}

#[tokio::test]
async fn node_and_external_addresses_lead_to_the_service_from_inside() {
    let fabric = Fabric::new(FabricConfig {
        node_ips: vec![ip("172.30.0.1")],
        ..FabricConfig::default()
    });
    let client = pod(&fabric, 2);
    let (_, binding) = server(&fabric, 3);
    let mut service = web(&[3]);
    service.external_ips = vec![ip("203.0.113.7")];
    service.ports[0].node_port = Some(30080);
    tell(&fabric, vec![service]);
    for to in ["172.30.0.1:30080", "10.244.0.1:30080", "203.0.113.7:80"] {
        client
            .connect(addr(to))
            .await
            .unwrap_or_else(|error| panic!("{to}: {error}"));
        soon(binding.accept()).await.unwrap();
    }
    for to in ["172.30.0.1:30081", "203.0.113.7:81"] {
        assert_eq!(
            client.connect(addr(to)).await.unwrap_err(),
            NetError::ConnectionRefused,
            "{to}"
        );
    }
}

#[tokio::test]
async fn the_host_dials_services_names_and_pods() {
    let fabric = fabric();
    let (pod, binding) = server(&fabric, 3);
    let local = pod.bind(addr("127.0.0.1:9090")).unwrap();
    local.listen(4).unwrap();
    tell(&fabric, vec![web(&[3])]);
    let mut streams = vec![fabric.dial_service("demo", "web", 80).await.unwrap()];
    for host in [
        "web.demo.svc",
        "web.demo.svc.cluster.local",
        "web.demo.svc.cluster.local.",
        "10.96.0.20",
    ] {
        streams.push(
            fabric
                .dial(host, 80)
                .await
                .unwrap_or_else(|error| panic!("{host}: {error}")),
        );
    }
    streams.push(fabric.dial("10.244.0.3", 8080).await.unwrap());
    streams.push(
        fabric
            .dial_pod(ip("10.244.0.3"), addr("10.244.0.3:8080"))
            .await
            .unwrap(),
    );
    for stream in &streams {
        let accepted = soon(binding.accept()).await.unwrap();
        assert_eq!(accepted.peer_addr(), stream.conn().local_addr());
        assert_eq!(accepted.peer_addr().ip(), ip("10.244.0.1"));
    }
    let forwarded = fabric.dial_pod(ip("10.244.0.3"), addr("127.0.0.1:9090")).await.unwrap();
    assert_eq!(local.accept().await.unwrap().peer_addr(), forwarded.conn().local_addr());
    assert!(forwarded.conn().local_addr().ip().is_loopback());

    let dial = async |host: &str, port| fabric.dial(host, port).await.unwrap_err();
    assert_eq!(dial("absent.demo.svc", 80).await, NetError::NameNotFound);
    assert_eq!(dial("example.com", 80).await, NetError::NameNotFound);
    assert_eq!(dial("web.demo.svc", 81).await, NetError::ConnectionRefused);
    assert_eq!(dial("192.0.2.1", 80).await, NetError::NetworkUnreachable);
    let service = async |name: &str, port| fabric.dial_service("demo", name, port).await.unwrap_err();
    assert_eq!(service("absent", 80).await, NetError::NameNotFound);
    assert_eq!(service("web", 81).await, NetError::ConnectionRefused);
    let foreign = fabric.dial_pod(ip("10.244.0.3"), addr("10.244.0.4:80")).await;
    assert_eq!(foreign.unwrap_err(), NetError::AddrNotAvailable);
}

#[tokio::test]
async fn a_local_service_keeps_pods_on_their_node() {
    let fabric = fabric();
    let on = |pod: &Arc<PodNet>, node: &str| {
        pod.describe(PodFacts {
            node: Some(node.to_owned()),
            ..PodFacts::default()
        });
    };
    let (client, lonely) = (pod(&fabric, 2), pod(&fabric, 5));
    on(&client, "a");
    on(&lonely, "c");
    let (_, near) = server(&fabric, 3);
    let (_, far) = server(&fabric, 4);
    let mut local = web(&[3, 4]);
    local.internal_local = true;
    for (endpoint, node) in local.endpoints.iter_mut().zip(["a", "b"]) {
        endpoint.node = Some(node.to_owned());
    }
    tell(&fabric, vec![local]);
    for _ in 0..4 {
        client.connect(addr(VIP)).await.unwrap();
        soon(near.accept()).await.unwrap();
    }
    assert!(far.try_accept().unwrap().is_none());
    assert_eq!(
        lonely.connect(addr(VIP)).await.unwrap_err(),
        NetError::ConnectionRefused
    );
    // The host belongs to all nodes of the process.
    for _ in 0..2 {
        fabric.dial("10.96.0.20", 80).await.unwrap();
    }
    assert!(near.try_accept().unwrap().is_some() && far.try_accept().unwrap().is_some());
}

#[tokio::test]
async fn a_terminating_endpoint_drains() {
    let fabric = fabric();
    let client = pod(&fabric, 2);
    let (_, leaving) = server(&fabric, 3);
    let (_, staying) = server(&fabric, 4);
    tell(&fabric, vec![web(&[3])]);
    let old = client.connect(addr(VIP)).await.unwrap();
    let served = soon(leaving.accept()).await.unwrap();
    // While it is the only one it still gets what is new; once another is ready it only keeps what it has.
    let mut draining = web(&[3]);
    draining.endpoints[0].ready = false;
    tell(&fabric, vec![draining.clone()]);
    client.connect(addr(VIP)).await.unwrap();
    soon(leaving.accept()).await.unwrap();
    draining.endpoints.push(endpoint(4, 8080));
    tell(&fabric, vec![draining]);
    for _ in 0..3 {
        client.connect(addr(VIP)).await.unwrap();
        soon(staying.accept()).await.unwrap();
    }
    assert!(leaving.try_accept().unwrap().is_none());
    served.try_write("bye".into()).unwrap();
    drop(served);
    assert_eq!(crate::world::read_all(&old).await, b"bye");
}

#[tokio::test]
async fn ports_with_names_lead_each_to_its_own_target() {
    let fabric = fabric();
    let client = pod(&fabric, 2);
    let (pod, http) = server(&fabric, 3);
    let admin = pod.bind(addr("0.0.0.0:9090")).unwrap();
    admin.listen(4).unwrap();
    let mut service = web(&[3]);
    service.ports.push(ServicePort {
        name: "admin".into(),
        port: 81,
        ..ServicePort::default()
    });
    service.endpoints[0].ports.push(EndpointPort {
        name: "admin".into(),
        protocol: Protocol::Tcp,
        port: 9090,
    });
    tell(&fabric, vec![service]);
    client.connect(addr("10.96.0.20:81")).await.unwrap();
    soon(admin.accept()).await.unwrap();
    client.connect(addr(VIP)).await.unwrap();
    soon(http.accept()).await.unwrap();
}
