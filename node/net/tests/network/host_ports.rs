//! Host ports of pods: from the host by real sockets, and from pods at the address of their node.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use coracle_net::{
    Cidr, Elsewhere, Exposed, ExposedPorts, Fabric, FabricConfig, HostPort, LabelSelector, NetError, NetworkPolicy,
    Outgoing, PodNet, Policies, Protocol, RemoteNode, Uplink,
};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::world::{addr, ip, pod, service, soon, tell};

const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// By what other nodes and pods know this one.
const NODE: &str = "192.168.7.1";

/// A network whose host ports listen at the loopback address.
struct World {
    fabric: Fabric,
    state: watch::Receiver<Exposed>,
    _running: DropGuard,
}

impl World {
    fn new() -> Self {
        let fabric = Fabric::new(FabricConfig {
            node_ips: vec![ip(NODE)],
            ..FabricConfig::default()
        });
        let stop = CancellationToken::new();
        let ports = ExposedPorts::new(fabric.clone(), LOCAL);
        let state = ports.state();
        tokio::spawn(ports.run(stop.clone()));
        Self {
            fabric,
            state,
            _running: stop.drop_guard(),
        }
    }

    /// A pod that has a port of the host.
    fn pod(&self, last: u8, wanted: HostPort) -> Arc<PodNet> {
        let pod = pod(&self.fabric, last);
        self.fabric.lead_host_ports(&pod.identity().uid, vec![wanted]);
        pod
    }

    /// Waits for so many ports that listen and that do not; says why these do not.
    async fn settled(&mut self, open: usize, failed: usize) -> Vec<String> {
        let settled = |state: &Exposed| (state.open.len(), state.failed.len()) == (open, failed);
        let state = soon(self.state.wait_for(settled)).await.unwrap();
        state.failed.values().cloned().collect()
    }
}

fn wanted(port: u16, protocol: Protocol) -> HostPort {
    HostPort {
        ip: None,
        port,
        protocol,
        target_port: 8080,
    }
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(address), port)
}

/// A port that was free a moment ago.
async fn free_port() -> u16 {
    let listener = TcpListener::bind((LOCAL, 0)).await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn a_port_is_the_pods_while_it_is_there() {
    let mut world = World::new();
    let port = free_port().await;
    let server = world.pod(3, wanted(port, Protocol::Tcp));
    world.settled(1, 0).await;
    let binding = server.bind(addr("0.0.0.0:8080")).unwrap();
    binding.listen(16).unwrap();
    let mut client = TcpStream::connect((LOCAL, port)).await.unwrap();
    client.write_all(b"ping").await.unwrap();
    let mut stream = soon(binding.accept_stream()).await.unwrap();
    assert_eq!(stream.conn().peer_addr().ip(), ip("10.244.0.1"));
    let mut got = [0; 4];
    soon(stream.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"ping");

    // Pods find it at the address of the node, and at the one by which they know the host anyhow.
    let other = pod(&world.fabric, 4);
    for address in [NODE, "10.244.0.1"] {
        soon(other.connect(at(address, port))).await.unwrap();
        soon(binding.accept()).await.unwrap();
    }
    let refused = soon(other.connect(at(NODE, port ^ 1))).await.unwrap_err();
    assert_eq!(refused, NetError::ConnectionRefused);

    world.fabric.remove_pod("uid-3");
    world.settled(0, 0).await;
    assert!(TcpStream::connect((LOCAL, port)).await.is_err());
    let gone = soon(other.connect(at(NODE, port))).await.unwrap_err();
    assert_eq!(gone, NetError::ConnectionRefused);
    // The next pod has it.
    world.pod(5, wanted(port, Protocol::Tcp));
    world.settled(1, 0).await;
}

#[tokio::test]
async fn a_pod_that_does_not_listen_refuses() {
    let mut world = World::new();
    let port = free_port().await;
    world.pod(3, wanted(port, Protocol::Tcp));
    world.settled(1, 0).await;
    let mut client = TcpStream::connect((LOCAL, port)).await.unwrap();
    let error = soon(client.read(&mut [0; 9])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn datagrams_go_both_ways() {
    let mut world = World::new();
    let port = free_port().await;
    let server = world.pod(3, wanted(port, Protocol::Udp));
    world.settled(1, 0).await;
    let serving = server.bind_udp(addr("0.0.0.0:8080")).unwrap();
    let answer = async |expected: &str| {
        let (got, from) = soon(serving.recv()).await.unwrap();
        assert_eq!(got, Bytes::from(expected.to_owned()));
        serving.send(format!("re {expected}").into(), Some(from)).unwrap();
    };
    let client = UdpSocket::bind((LOCAL, 0)).await.unwrap();
    let inside = pod(&world.fabric, 4).bind_udp(addr("0.0.0.0:0")).unwrap();
    let node = at(NODE, port);
    for round in ["one", "two"] {
        client.send_to(round.as_bytes(), (LOCAL, port)).await.unwrap();
        answer(round).await;
        let mut buffer = [0; 64];
        let (length, from) = soon(client.recv_from(&mut buffer)).await.unwrap();
        assert_eq!(&buffer[..length], format!("re {round}").as_bytes());
        assert_eq!(from.port(), port);

        inside.send(round.into(), Some(node)).unwrap();
        answer(round).await;
        let (got, from) = soon(inside.recv()).await.unwrap();
        assert_eq!(
            (got, from),
            (Bytes::from(format!("re {round}")), node),
            "from where it was asked"
        );
    }
}

#[tokio::test]
async fn one_address_or_none_is_the_pods_to_choose() {
    let mut world = World::new();
    let port = free_port().await;
    let only_at = |address: &str| HostPort {
        ip: Some(ip(address)),
        ..wanted(port, Protocol::Tcp)
    };
    let server = world.pod(3, only_at("127.0.0.1"));
    let binding = server.bind(addr("0.0.0.0:8080")).unwrap();
    binding.listen(16).unwrap();
    world.settled(1, 0).await;
    TcpStream::connect((LOCAL, port)).await.unwrap();
    soon(binding.accept()).await.unwrap();
    let refused = soon(server.connect(at(NODE, port))).await.unwrap_err();
    assert_eq!(
        refused,
        NetError::ConnectionRefused,
        "the host's loopback is none of the pods'"
    );

    // The node's own address is other listeners' here; one that the node does not have is nobody's.
    world.pod(4, only_at(NODE));
    world.pod(5, only_at("192.0.2.1"));
    let failed = world.settled(1, 1).await;
    assert_eq!(
        failed,
        ["192.0.2.1 is no address at which this node listens (127.0.0.1, 192.168.7.1)"]
    );
}

#[tokio::test]
async fn a_port_that_somebody_has_is_told() {
    let mut world = World::new();
    let taken = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let port = taken.local_addr().unwrap().port();
    world.pod(3, wanted(port, Protocol::Tcp));
    let failed = world.settled(0, 1).await;
    assert_eq!(
        failed,
        [format!("127.0.0.1:{port} is in use by another program on this machine")]
    );
    drop(taken);
    world.settled(1, 0).await;
    // A service with that node port, and a pod of another node of this process.
    let mut web = service("web", "10.96.0.20");
    web.ports[0].node_port = Some(port);
    tell(&world.fabric, vec![web]);
    world.pod(4, wanted(port, Protocol::Tcp));
    let failed = world.settled(1, 2).await;
    let message = format!("port {port} leads to the pod demo/pod-3 already");
    assert_eq!(failed, [message.as_str(); 2]);
}

#[tokio::test]
async fn policies_see_the_pod_and_who_asks() {
    let mut world = World::new();
    let port = free_port().await;
    let server = world.pod(3, wanted(port, Protocol::Tcp));
    let binding = server.bind(addr("0.0.0.0:8080")).unwrap();
    binding.listen(16).unwrap();
    world.settled(1, 0).await;
    world.fabric.update_policies(&Policies {
        policies: vec![NetworkPolicy {
            namespace: "demo".into(),
            name: "shut".into(),
            pods: LabelSelector::default(),
            ingress: Some(vec![]),
            egress: None,
        }],
        namespaces: vec![],
    });
    let stranger = pod(&world.fabric, 4);
    let denied = soon(stranger.connect(at(NODE, port))).await.unwrap_err();
    assert_eq!(denied, NetError::Denied);
    // The machine's own programs always may.
    TcpStream::connect((LOCAL, port)).await.unwrap();
    soon(binding.accept()).await.unwrap();
}

/// Notes where connections are wanted to, and refuses them.
#[derive(Default)]
struct Noting(Mutex<Vec<(String, SocketAddr)>>);

impl Uplink for Noting {
    fn connect(&self, outgoing: Outgoing) {
        self.0.lock().push((outgoing.node.name.clone(), outgoing.to));
        outgoing.answer(Err(NetError::ConnectionRefused));
    }

    fn send(&self, node: &RemoteNode, _: SocketAddr, to: SocketAddr, _: Bytes) {
        self.0.lock().push((node.name.clone(), to));
    }
}

#[tokio::test]
async fn a_port_of_another_node_leads_to_its_pod() {
    let world = World::new();
    let uplink = Arc::new(Noting::default());
    world.fabric.set_uplink(uplink.clone());
    let (node, there) = (at("192.168.7.2", 8088), addr("10.1.0.3:8080"));
    let remote = RemoteNode {
        name: "second".into(),
        address: addr("192.168.7.2:10250"),
        networks: vec![Cidr::new(ip("10.1.0.0"), 24)],
    };
    world.fabric.update_elsewhere(Elsewhere {
        nodes: vec![Arc::new(remote)],
        host_ports: [((node, Protocol::Tcp), there), ((node, Protocol::Udp), there)].into(),
        ..Elsewhere::default()
    });
    let client = pod(&world.fabric, 4);
    soon(client.connect(node)).await.unwrap_err();
    let asking = client.bind_udp(addr("0.0.0.0:0")).unwrap();
    asking.send("?".into(), Some(node)).unwrap();
    assert_eq!(
        *uplink.0.lock(),
        [("second".to_owned(), there), ("second".to_owned(), there)]
    );
}
