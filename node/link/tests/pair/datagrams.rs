//! Datagrams between pods of two nodes, straight and through a service.

use std::sync::Arc;

use coracle_net::{Endpoint, EndpointPort, Protocol, Service, ServicePort, Snapshot};

use crate::world::{addr, soon, two};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_and_its_answer_cross() {
    let (a, b) = two();
    let (client, server) = (a.pod(2, "client"), b.pod(7, "server"));
    let asking = client.bind_udp(addr("0.0.0.0:0")).unwrap();
    let answering = server.bind_udp(addr("0.0.0.0:53")).unwrap();
    asking.send("question".into(), Some(b.at(7, 53))).unwrap();
    let (question, from) = soon(answering.recv()).await.unwrap();
    assert_eq!((&question[..], from.ip()), (&b"question"[..], a.ip(2)));
    // As long as UDP allows.
    let long = bytes::Bytes::from(vec![7; coracle_net::MAX_DATAGRAM_BYTES]);
    answering.send(long.clone(), Some(from)).unwrap();
    assert_eq!(soon(asking.recv()).await.unwrap(), (long, b.at(7, 53)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_answers_by_its_own_address() {
    let (a, b) = two();
    let (client, server) = (a.pod(2, "client"), b.pod(7, "server"));
    let answering = server.bind_udp(addr("0.0.0.0:5353")).unwrap();
    let service = Service {
        namespace: "demo".into(),
        name: "names".into(),
        cluster_ips: vec![addr("10.96.0.20:0").ip()],
        ports: vec![ServicePort {
            protocol: Protocol::Udp,
            port: 53,
            ..ServicePort::default()
        }],
        endpoints: vec![Endpoint {
            address: b.ip(7),
            ready: true,
            serving: true,
            node: Some("b".into()),
            topology: coracle_net::Topology::default(),
            hostname: None,
            ports: vec![EndpointPort {
                protocol: Protocol::Udp,
                port: 5353,
                ..EndpointPort::default()
            }],
        }],
        ..Service::default()
    };
    let snapshot = Snapshot {
        services: vec![service],
    };
    a.fabric.update(Arc::new(snapshot));
    let asking = client.bind_udp(addr("0.0.0.0:0")).unwrap();
    let at = addr("10.96.0.20:53");
    for text in ["one", "two"] {
        asking.send(text.into(), Some(at)).unwrap();
        let (question, from) = soon(answering.recv()).await.unwrap();
        assert_eq!(&question[..], text.as_bytes());
        answering.send(question, Some(from)).unwrap();
        assert_eq!(soon(asking.recv()).await.unwrap(), (text.into(), at));
    }
}
