//! Node ports and load balancers through real sockets of the host.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;

use coracle_net::{
    Balancer, Binding, EndpointPort, Exposed, ExposedAs, ExposedPorts, Fabric, LabelSelector, NetworkPolicy, PodNet,
    Policies, Protocol, Service, ServicePort,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::world::{addr, endpoint, fabric, ip, pod, service, soon, tell};

const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A network with a server at 10.244.0.3:8080 and exposed ports.
struct World {
    fabric: Fabric,
    pod: Arc<PodNet>,
    binding: Binding,
    state: watch::Receiver<Exposed>,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl World {
    fn new() -> Self {
        let fabric = fabric();
        let pod = pod(&fabric, 3);
        let binding = pod.bind(addr("0.0.0.0:8080")).unwrap();
        binding.listen(16).unwrap();
        let shutdown = CancellationToken::new();
        let ports = ExposedPorts::new(fabric.clone(), LOCAL);
        let state = ports.state();
        let running = tokio::spawn(ports.run(shutdown.clone()));
        Self {
            fabric,
            pod,
            binding,
            state,
            shutdown,
            running,
        }
    }

    fn tell(&self, port: u16, endpoints: &[u8]) {
        tell(&self.fabric, vec![web(port, endpoints)]);
    }
}

fn web(port: u16, endpoints: &[u8]) -> Service {
    let mut service = service("web", "10.96.0.20");
    service.ports[0].node_port = Some(port);
    service.endpoints = endpoints.iter().map(|last| endpoint(*last, 8080)).collect();
    service
}

/// A port that was free a moment ago.
async fn free_port() -> u16 {
    TcpListener::bind((LOCAL, 0))
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Connects once the port is open: the listener follows the snapshot on its own task.
async fn connect(port: u16) -> TcpStream {
    soon(async {
        loop {
            match TcpStream::connect((LOCAL, port)).await {
                Ok(stream) => return stream,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_client_of_the_host_reaches_the_service() {
    let world = World::new();
    let port = free_port().await;
    world.tell(port, &[3]);
    let mut client = connect(port).await;
    client.write_all(b"ping").await.unwrap();
    client.shutdown().await.unwrap();
    let mut server = soon(world.binding.accept_stream()).await.unwrap();
    assert_eq!(server.conn().peer_addr().ip(), ip("10.244.0.1"));
    let mut got = Vec::new();
    soon(server.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got, b"ping");
    server.write_all(b"pong").await.unwrap();
    drop(server);
    got.clear();
    soon(client.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got, b"pong");
}

#[tokio::test]
async fn a_port_closes_with_its_service_and_shutdown_ends_all() {
    let world = World::new();
    let port = free_port().await;
    world.tell(port, &[3]);
    let mut client = connect(port).await;
    let _server = soon(world.binding.accept()).await.unwrap();
    tell(&world.fabric, vec![]);
    soon(async {
        while TcpStream::connect((LOCAL, port)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    world.shutdown.cancel();
    soon(world.running).await.unwrap();
    let ended = soon(client.read(&mut [0; 9])).await;
    assert!(matches!(&ended, Ok(0)) || ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn without_an_endpoint_the_connection_is_reset() {
    let world = World::new();
    let port = free_port().await;
    world.tell(port, &[]);
    let mut client = connect(port).await;
    let error = soon(client.read(&mut [0; 9])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_taken_port_is_told_and_tried_again() {
    let mut world = World::new();
    let taken = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let port = taken.local_addr().unwrap().port();
    world.tell(port, &[3]);
    let state = soon(world.state.wait_for(|state| !state.failed.is_empty()))
        .await
        .unwrap()
        .clone();
    let (failed, message) = state.failed.first_key_value().unwrap();
    assert_eq!(
        (failed.namespace.as_str(), failed.name.as_str(), failed.port),
        ("demo", "web", port)
    );
    assert_eq!(
        message,
        &format!("127.0.0.1:{port} is in use by another program on this machine")
    );
    // Nothing tells that it is free.
    drop(taken);
    soon(world.state.wait_for(|state| state.failed.is_empty()))
        .await
        .unwrap();
    let _client = connect(port).await;
    soon(world.binding.accept()).await.unwrap();
    let open = soon(world.state.wait_for(|state| state.failed.is_empty()))
        .await
        .unwrap()
        .clone()
        .open;
    assert_eq!(open.first().unwrap().port, port);
}

/// A LoadBalancer with a port of its own at the host.
fn balanced(name: &str, port: u16, source_ranges: &[&str]) -> Service {
    let mut service = service(name, "10.96.0.30");
    service.ports[0].port = port;
    service.endpoints = vec![endpoint(3, 8080)];
    service.balancer = Some(Balancer {
        source_ranges: source_ranges.iter().map(|range| range.parse().unwrap()).collect(),
        shown: vec![],
    });
    service
}

#[tokio::test]
async fn a_balancer_has_the_ports_of_its_service_and_the_first_keeps_them() {
    let mut world = World::new();
    let port = free_port().await;
    tell(&world.fabric, vec![balanced("second", port, &[])]);
    let _client = connect(port).await;
    soon(world.binding.accept()).await.unwrap();
    // Another of the same port waits, though its name comes first.
    tell(
        &world.fabric,
        vec![balanced("first", port, &[]), balanced("second", port, &[])],
    );
    let told = soon(world.state.wait_for(|state| !state.failed.is_empty()))
        .await
        .unwrap()
        .clone();
    assert_eq!(told.open.first().unwrap().name, "second");
    assert_eq!(
        told.failed.values().next().unwrap(),
        &format!("port {port} leads to the service demo/second already")
    );
    tell(&world.fabric, vec![balanced("first", port, &[])]);
    let told = soon(world.state.wait_for(|state| state.failed.is_empty()))
        .await
        .unwrap()
        .clone();
    let open = told.open.first().unwrap();
    assert_eq!((open.name.as_str(), &open.exposed_as), ("first", &ExposedAs::Balancer));
    let _client = connect(port).await;
    soon(world.binding.accept()).await.unwrap();
}

#[tokio::test]
async fn a_balancer_lets_in_whom_its_ranges_name() {
    let world = World::new();
    let (shut, open) = (free_port().await, free_port().await);
    let mut second = balanced("open", open, &["192.0.2.0/24", "127.0.0.0/8"]);
    second.cluster_ips = vec![ip("10.96.0.31")];
    tell(&world.fabric, vec![balanced("shut", shut, &["192.0.2.0/24"]), second]);
    let mut client = connect(shut).await;
    let error = soon(client.read(&mut [0; 9])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let _client = connect(open).await;
    soon(world.binding.accept()).await.unwrap();
}

#[tokio::test]
async fn datagrams_find_the_service_and_the_way_back() {
    let mut world = World::new();
    let port = free_port().await;
    let mut dns = service("dns", "10.96.0.40");
    dns.ports = vec![ServicePort {
        name: "dns".into(),
        protocol: Protocol::Udp,
        port: 53,
        node_port: Some(port),
        app_protocol: None,
    }];
    let mut at = endpoint(3, 53);
    at.ports = vec![EndpointPort {
        name: "dns".into(),
        protocol: Protocol::Udp,
        port: 53,
    }];
    dns.endpoints = vec![at];
    tell(&world.fabric, vec![dns]);
    soon(world.state.wait_for(|state| !state.open.is_empty()))
        .await
        .unwrap();
    // A pod that may begin nothing still answers.
    world.fabric.update_policies(&Policies {
        policies: vec![NetworkPolicy {
            namespace: "demo".into(),
            name: "shut".into(),
            pods: LabelSelector::default(),
            ingress: None,
            egress: Some(vec![]),
        }],
        namespaces: vec![],
    });
    let serving = world.pod.bind_udp(addr("0.0.0.0:53")).unwrap();
    let clients = [
        UdpSocket::bind((LOCAL, 0)).await.unwrap(),
        UdpSocket::bind((LOCAL, 0)).await.unwrap(),
    ];
    let mut buffer = [0; 64];
    for round in ["one", "two"] {
        for (number, client) in clients.iter().enumerate() {
            let question = format!("{round} {number}");
            client.send_to(question.as_bytes(), (LOCAL, port)).await.unwrap();
            let (got, from) = soon(serving.recv()).await.unwrap();
            assert_eq!((got, from.ip()), (question.clone().into(), ip("10.244.0.1")));
            serving.send(format!("re {question}").into(), Some(from)).unwrap();
            let (length, from) = soon(client.recv_from(&mut buffer)).await.unwrap();
            assert_eq!(&buffer[..length], format!("re {question}").as_bytes());
            assert_eq!(from.port(), port);
        }
    }
}
