//! A small network for a test, and the words in which the tests speak of it.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use coracle_net::{
    Conn, Endpoint, EndpointPort, Fabric, FabricConfig, PodIdentity, PodNet, Protocol, Service, ServicePort, Snapshot,
    TryRead,
};

pub fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A network whose connects give up soon.
pub fn fabric() -> Fabric {
    Fabric::new(FabricConfig {
        connect_timeout: Duration::from_millis(50),
        ..FabricConfig::default()
    })
}

/// Adds the pod `demo/pod-<last>` at 10.244.0.<last>.
pub fn pod(fabric: &Fabric, last: u8) -> Arc<PodNet> {
    let identity = PodIdentity {
        namespace: "demo".into(),
        name: format!("pod-{last}"),
        uid: format!("uid-{last}"),
    };
    fabric
        .add_pod(identity, vec![IpAddr::from([10, 244, 0, last])])
        .unwrap()
}

/// Both ends of a connection from `client` to a listener of `server` at `at`.
pub async fn pair(client: &Arc<PodNet>, server: &Arc<PodNet>, at: SocketAddr) -> (Conn, Conn) {
    let binding = server.bind(at).unwrap();
    binding.listen(1).unwrap();
    let to = if at.ip().is_unspecified() {
        server.ips()[0]
    } else {
        at.ip()
    };
    let conn = client
        .connect(SocketAddr::new(to, binding.local_addr().port()))
        .await
        .unwrap();
    (conn, binding.accept().await.unwrap())
}

/// Reads until the end.
pub async fn read_all(conn: &Conn) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        match conn.try_read(usize::MAX).unwrap() {
            TryRead::Data(data) => all.extend_from_slice(&data),
            TryRead::Empty => soon(conn.readable()).await,
            TryRead::End => return all,
        }
    }
}

/// What `future` gives, which must not take long: a test that would hang fails instead.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("it never happened")
}

/// A service `demo/<name>` at a cluster address, with a port 80 named http.
pub fn service(name: &str, cluster_ip: &str) -> Service {
    Service {
        namespace: "demo".into(),
        name: name.into(),
        cluster_ips: vec![ip(cluster_ip)],
        ports: vec![ServicePort {
            name: "http".into(),
            port: 80,
            ..ServicePort::default()
        }],
        ..Service::default()
    }
}

/// A ready endpoint at 10.244.0.<last> that serves http at `port`.
pub fn endpoint(last: u8, port: u16) -> Endpoint {
    Endpoint {
        address: IpAddr::from([10, 244, 0, last]),
        ready: true,
        serving: true,
        node: None,
        topology: coracle_net::Topology::default(),
        hostname: None,
        ports: vec![EndpointPort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port,
        }],
    }
}

pub fn tell(fabric: &Fabric, services: Vec<Service>) {
    fabric.update(Arc::new(Snapshot { services }));
}
