//! UDP between pods and to services.

use bytes::Bytes;
use coracle_net::{EndpointPort, MAX_DATAGRAM_BYTES, NetError, Protocol, Service, ServicePort};

use crate::world::{addr, endpoint, fabric, ip, pod, service, soon, tell};

fn data(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn datagrams_keep_their_borders_and_can_be_answered() {
    let fabric = fabric();
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    let a = client.bind_udp(addr("0.0.0.0:0")).unwrap();
    let b = server.bind_udp(addr("0.0.0.0:53")).unwrap();
    for text in ["one", "", "three"] {
        a.send(data(text), Some(addr("10.244.0.3:53"))).unwrap();
    }
    let mut from = None;
    for text in ["one", "", "three"] {
        let (got, source) = soon(b.recv()).await.unwrap();
        assert_eq!(got, text);
        from = Some(source);
    }
    assert_eq!(from.unwrap().ip(), ip("10.244.0.2"));
    b.send(data("pong"), from).unwrap();
    assert_eq!(soon(a.recv()).await.unwrap(), (data("pong"), addr("10.244.0.3:53")));
    assert!(a.try_recv().unwrap().is_none());
}

#[tokio::test]
async fn a_receiver_wakes() {
    let fabric = fabric();
    let pod = pod(&fabric, 2);
    let a = pod.bind_udp(addr("127.0.0.1:0")).unwrap();
    let b = pod.bind_udp(addr("127.0.0.1:53")).unwrap();
    let receiving = tokio::spawn(async move { b.recv().await.unwrap().1 });
    tokio::task::yield_now().await;
    a.send(data("x"), Some(addr("127.0.0.1:53"))).unwrap();
    assert_eq!(soon(receiving).await.unwrap(), a.local_addr());
}

#[tokio::test]
async fn a_fixed_peer_is_the_only_one() {
    let fabric = fabric();
    let (client, server, third) = (pod(&fabric, 2), pod(&fabric, 3), pod(&fabric, 4));
    let a = client.bind_udp(addr("0.0.0.0:1000")).unwrap();
    let b = server.bind_udp(addr("0.0.0.0:53")).unwrap();
    let c = third.bind_udp(addr("0.0.0.0:53")).unwrap();
    let to_a = Some(addr("10.244.0.2:1000"));
    c.send(data("early stranger"), to_a).unwrap();
    b.send(data("early friend"), to_a).unwrap();
    a.set_peer(Some(addr("10.244.0.3:53"))).unwrap();
    c.send(data("stranger"), to_a).unwrap();
    assert_eq!(a.try_recv().unwrap().unwrap().0, "early friend");
    assert!(a.try_recv().unwrap().is_none());
    a.send(data("to the peer"), None).unwrap();
    assert_eq!(b.try_recv().unwrap().unwrap().0, "to the peer");
    drop(b);
    assert_eq!(a.send(data("x"), None), Err(NetError::ConnectionRefused));
    a.set_peer(None).unwrap();
    assert_eq!(a.send(data("x"), None), Err(NetError::InvalidState));
}

#[tokio::test]
async fn what_cannot_be_sent() {
    let fabric = fabric();
    let pod = pod(&fabric, 2);
    let a = pod.bind_udp(addr("0.0.0.0:0")).unwrap();
    let send = |bytes: usize, to: &str| a.send(vec![0; bytes].into(), Some(addr(to)));
    assert_eq!(
        send(MAX_DATAGRAM_BYTES + 1, "127.0.0.1:9"),
        Err(NetError::MessageTooLong)
    );
    assert_eq!(send(1, "127.0.0.1:9"), Ok(()), "lost, as UDP may");
    assert_eq!(send(1, "10.244.0.9:9"), Err(NetError::HostUnreachable));
    assert_eq!(send(1, "192.0.2.1:9"), Err(NetError::NetworkUnreachable));
    assert_eq!(a.set_peer(Some(addr("192.0.2.1:9"))), Err(NetError::NetworkUnreachable));
}

#[tokio::test]
async fn a_full_mailbox_loses_the_newest() {
    let fabric = fabric();
    let pod = pod(&fabric, 2);
    let a = pod.bind_udp(addr("127.0.0.1:0")).unwrap();
    let b = pod.bind_udp(addr("127.0.0.1:53")).unwrap();
    for n in 0..1000u32 {
        a.send(n.to_le_bytes().repeat(250).into(), Some(addr("127.0.0.1:53")))
            .unwrap();
    }
    let arrived: Vec<u32> = std::iter::from_fn(|| b.try_recv().unwrap())
        .map(|(data, _)| u32::from_le_bytes(data[..4].try_into().unwrap()))
        .collect();
    assert!((200..262).contains(&arrived.len()), "{}", arrived.len());
    assert!(arrived.iter().copied().eq(0..arrived.len() as u32));
}

fn udp_service(endpoints: &[u8]) -> Service {
    let udp = |port| EndpointPort {
        name: "dns".into(),
        protocol: Protocol::Udp,
        port,
    };
    Service {
        ports: vec![ServicePort {
            name: "dns".into(),
            protocol: Protocol::Udp,
            port: 53,
            ..ServicePort::default()
        }],
        endpoints: endpoints
            .iter()
            .map(|last| coracle_net::Endpoint {
                ports: vec![udp(5353)],
                ..endpoint(*last, 0)
            })
            .collect(),
        ..service("dns", "10.96.0.53")
    }
}

#[tokio::test]
async fn a_service_keeps_its_endpoint_for_a_socket_and_answers_as_itself() {
    let fabric = fabric();
    let client = pod(&fabric, 2);
    let servers = [pod(&fabric, 3), pod(&fabric, 4)];
    let bound = servers
        .each_ref()
        .map(|pod| pod.bind_udp(addr("0.0.0.0:5353")).unwrap());
    tell(&fabric, vec![udp_service(&[3, 4])]);
    let vip = addr("10.96.0.53:53");
    let a = client.bind_udp(addr("0.0.0.0:0")).unwrap();
    for _ in 0..4 {
        a.send(data("query"), Some(vip)).unwrap();
    }
    let counts = bound
        .each_ref()
        .map(|b| std::iter::from_fn(|| b.try_recv().unwrap()).collect::<Vec<_>>());
    let (chosen, got) = counts.iter().enumerate().find(|(_, got)| !got.is_empty()).unwrap();
    assert_eq!(got.len(), 4, "all of one socket's datagrams go to one endpoint");
    bound[chosen].send(data("answer"), Some(got[0].1)).unwrap();
    assert_eq!(a.try_recv().unwrap(), Some((data("answer"), vip)));

    // The endpoint goes: the flow moves to the other.
    let other = 1 - chosen;
    tell(&fabric, vec![udp_service(&[3 + other as u8])]);
    a.send(data("moved"), Some(vip)).unwrap();
    assert_eq!(bound[other].try_recv().unwrap().unwrap().0, "moved");
    tell(&fabric, vec![udp_service(&[])]);
    assert_eq!(a.send(data("x"), Some(vip)), Err(NetError::ConnectionRefused));
}
