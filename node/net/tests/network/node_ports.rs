//! Node ports through real sockets of the host.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;

use coracle_net::{Binding, Fabric, NodePorts, PodNet, Service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::world::{addr, endpoint, fabric, ip, pod, service, soon, tell};

const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A network with a server at 10.244.0.3:8080 and node ports that report failures.
struct World {
    fabric: Fabric,
    _pod: Arc<PodNet>,
    binding: Binding,
    failures: mpsc::UnboundedReceiver<coracle_net::NodePortFailure>,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl World {
    fn new() -> Self {
        let fabric = fabric();
        let pod = pod(&fabric, 3);
        let binding = pod.bind(addr("0.0.0.0:8080")).unwrap();
        binding.listen(16).unwrap();
        let (report, failures) = mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        let ports = NodePorts::new(fabric.clone(), LOCAL).on_failure(move |failure| {
            let _ = report.send(failure.clone());
        });
        let running = tokio::spawn(ports.run(shutdown.clone()));
        Self {
            fabric,
            _pod: pod,
            binding,
            failures,
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
async fn a_taken_port_is_reported_once_and_tried_again() {
    let mut world = World::new();
    let taken = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let port = taken.local_addr().unwrap().port();
    world.tell(port, &[3]);
    let failure = soon(world.failures.recv()).await.unwrap();
    assert_eq!(
        (failure.namespace.as_str(), failure.service.as_str(), failure.port),
        ("demo", "web", port)
    );
    assert_eq!(
        failure.message,
        format!("127.0.0.1:{port} is in use by another program on this machine")
    );
    world.tell(port, &[]);
    drop(taken);
    world.tell(port, &[3]);
    let _client = connect(port).await;
    soon(world.binding.accept()).await.unwrap();
    assert!(world.failures.try_recv().is_err(), "the same failure is not told twice");
}
