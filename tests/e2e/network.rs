//! One loopback per pod, addresses of pods, Services and names, and nothing of the host.

use std::{net::SocketAddr, str::FromStr};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RecordType},
};
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::api::{DeleteParams, ListParams};

use crate::world::{World, pod_ip, ready};

/// A pod whose only container listens on a port and sends everything back.
async fn echo(world: &World, name: &str, address: &str) -> Pod {
    world.run(name, "probe", &["echo", address], "").await;
    world.says(name, "main", "listening").await;
    world.pod(name, ready).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_bind_the_same_port_and_each_loopback_is_its_own() {
    let world = World::start().await;
    world.load_probe();
    let first = echo(&world, "first", "0.0.0.0:7000").await;
    let second = echo(&world, "second", "0.0.0.0:7000").await;
    let (first, second) = (pod_ip(&first), pod_ip(&second));
    assert_ne!(first, second);

    // Containers of one pod meet on 127.0.0.1, where nobody else sees them.
    world
        .apply(
            "apiVersion: v1
kind: Pod
metadata: {name: pair}
spec:
  containers:
  - {name: private, image: probe, args: [echo, '127.0.0.1:7100']}
  - {name: app, image: hello, env: [{name: PORT, value: '7200'}]}
  - {name: main, image: caller, args: ['http://127.0.0.1:7200/', --every, '0.1']}
",
        )
        .await;
    world.says("pair", "private", "listening").await;
    let said = world.says("pair", "main", "you asked").await;
    assert!(said.contains("Hello from pair"), "{said}");
    let pair = pod_ip(&world.pod("pair", ready).await);

    let third = world
        .output(
            "third",
            "probe",
            &[
                "connect",
                &format!("{first}:7000"),
                &format!("{second}:7000"),
                "127.0.0.1:7000",
                &format!("{pair}:7100"),
                &format!("{pair}:7200"),
            ],
        )
        .await;
    assert!(third.contains(&format!("{first}:7000: reached")), "{third}");
    assert!(third.contains(&format!("{second}:7000: reached")), "{third}");
    assert!(third.contains("127.0.0.1:7000: ConnectionRefused"), "{third}");
    assert!(third.contains(&format!("{pair}:7200: reached")), "{third}");
    assert!(third.contains(&format!("{pair}:7100: ConnectionRefused")), "{third}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_is_out_of_reach() {
    let world = World::start().await;
    world.load_probe();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap();
    let api = world.cluster.access().server.trim_start_matches("https://").to_owned();
    let said = world
        .output("escape", "probe", &["connect", &host.to_string(), &api])
        .await;
    assert!(!said.contains("reached"), "{said}");
    // The listener is there: the host itself reaches it, and it has nobody in its queue but the host.
    let (mine, theirs) = tokio::join!(tokio::net::TcpStream::connect(host), listener.accept());
    assert_eq!(theirs.unwrap().1, mine.unwrap().local_addr().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_found_by_name_inside_and_outside() {
    let world = World::start().await;
    world.load_probe();
    let pod = echo(&world, "server", "0.0.0.0:7000").await;
    world
        .apply(
            "apiVersion: v1
kind: Service
metadata: {name: one}
spec: {selector: {app: server}, ports: [{port: 80, targetPort: 7000}]}
---
apiVersion: v1
kind: Service
metadata: {name: each}
spec: {clusterIP: None, selector: {app: server}, ports: [{port: 7000}]}
",
        )
        .await;
    let service = world.until::<Service>(&world.all(), "one", |_| true).await;
    let cluster_ip = service.spec.unwrap().cluster_ip.unwrap();
    let said = world
        .output(
            "client",
            "probe",
            &[
                "connect",
                "one:80",
                "one.default:80",
                "one.default.svc.cluster.local:80",
                "each:7000",
                "missing:80",
            ],
        )
        .await;
    for name in [
        "one:80",
        "one.default:80",
        "one.default.svc.cluster.local:80",
        "each:7000",
    ] {
        assert!(said.contains(&format!("{name}: reached")), "{said}");
    }
    assert!(!said.contains("missing:80: reached"), "{said}");

    let dns = world.cluster.dns();
    assert_eq!(ask(dns, "one.default.svc.cluster.local.").await, [cluster_ip]);
    assert_eq!(ask(dns, "each.default.svc.cluster.local.").await, [pod_ip(&pod)]);
    assert!(ask(dns, "missing.default.svc.cluster.local.").await.is_empty());
}

/// The A records of a name, asked for over UDP.
async fn ask(server: SocketAddr, name: &str) -> Vec<String> {
    let mut question = Message::new(7, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(Name::from_str(name).unwrap(), RecordType::A));
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    socket.send(&question.to_vec().unwrap()).await.unwrap();
    let mut buffer = [0; 1500];
    let received = socket.recv(&mut buffer).await.unwrap();
    let answer = Message::from_vec(&buffer[..received]).unwrap();
    answer.answers.iter().map(|record| record.data.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_leads_to_ready_pods_only_and_answers_on_the_node() {
    let world = World::start().await;
    world.load_probe();
    world
        .apply(
            "apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
",
        )
        .await;
    let service = world.until::<Service>(&world.all(), "web", |_| true).await;
    let port = service.spec.unwrap().ports.unwrap()[0].node_port.unwrap();
    // Without an endpoint a connection is refused at once, inside and outside.
    let said = world.output("early", "probe", &["connect", "web:80"]).await;
    assert!(said.contains("ConnectionRefused"), "{said}");

    world.run("web", "hello", &["hello"], "").await;
    world.pod("web", ready).await;
    let slices: kube::Api<EndpointSlice> = world.all();
    let of_web = ListParams::default().labels("kubernetes.io/service-name=web");
    let slices_of_web = slices.list(&of_web).await.unwrap();
    let slice = slices_of_web.items[0].metadata.name.clone().unwrap();
    world
        .until(&slices, &slice, |slice| {
            let mut endpoints = slice.endpoints.iter().flatten();
            endpoints.any(|endpoint| endpoint.conditions.as_ref().is_some_and(|c| c.ready == Some(true)))
        })
        .await;
    let said = world.output("late", "caller", &["http://web/"]).await;
    assert!(said.contains("Hello from web"), "{said}");
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap()))
        .await
        .unwrap();
    let answer = crate::world::http(stream).await;
    assert!(answer.contains("Hello from web"), "{answer}");

    world
        .all::<Pod>()
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    world.gone::<Pod>(&world.all(), "web").await;
    let said = world.output("after", "probe", &["connect", "web:80"]).await;
    assert!(said.contains("ConnectionRefused"), "{said}");
}
