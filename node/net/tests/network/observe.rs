//! What is seen of a pod's traffic: flow log, counters and captured packets.

use std::net::SocketAddr;

use bytes::Bytes;
use coracle_net::capture::Packet;
use coracle_net::{Direction, FlowEvent, NetError};

use crate::world::{addr, fabric, ip, pair, pod, read_all, soon};

/// The TCP segments of a capture: source, destination, flags, sequence number, payload.
fn segments(packets: &[Packet]) -> Vec<(SocketAddr, SocketAddr, u8, u32, Vec<u8>)> {
    let word = |bytes: &[u8]| u16::from_be_bytes([bytes[0], bytes[1]]);
    let of = |packet: &Packet| {
        let packet = &packet.data;
        assert_eq!((packet[0], packet[9]), (0x45, 6), "IPv4 and TCP");
        let ip = |at: usize| -> [u8; 4] { packet[at..at + 4].try_into().unwrap() };
        let tcp = &packet[20..];
        let sequence = u32::from_be_bytes(tcp[4..8].try_into().unwrap());
        let from = SocketAddr::from((ip(12), word(&tcp[0..2])));
        (
            from,
            SocketAddr::from((ip(16), word(&tcp[2..4]))),
            tcp[13],
            sequence,
            tcp[20..].to_vec(),
        )
    };
    packets.iter().map(of).collect()
}

#[tokio::test]
async fn both_pods_log_a_connection_with_its_bytes() {
    let fabric = fabric();
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    let mut news = client.last_flow();
    let (a, b) = pair(&client, &server, addr("0.0.0.0:80")).await;
    soon(news.changed()).await.unwrap();
    a.try_write(Bytes::from_static(b"question")).unwrap();
    b.try_write(Bytes::from_static(b"no")).unwrap();
    let local = a.local_addr();
    drop((a, b));
    let of_client = client.flows_after(0);
    assert_eq!(of_client.len(), 2);
    assert_eq!(of_client[0].event, FlowEvent::Opened);
    assert_eq!(
        (of_client[0].direction, of_client[0].local),
        (Direction::Outbound, Some(local))
    );
    assert_eq!(of_client[0].peer, addr("10.244.0.3:80"));
    assert_eq!(of_client[1].event, FlowEvent::Closed { sent: 8, received: 2 });
    let of_server = server.flows_after(1);
    assert_eq!(of_server.len(), 1, "the first was seen already");
    assert_eq!(of_server[0].event, FlowEvent::Closed { sent: 2, received: 8 });
    assert_eq!((of_server[0].direction, of_server[0].peer), (Direction::Inbound, local));

    client.connect(addr("10.244.0.3:81")).await.unwrap_err();
    let failed = client.flows_after(2);
    assert_eq!(failed[0].event, FlowEvent::Failed(NetError::ConnectionRefused));
    let counts = client.flow_counts();
    assert_eq!((counts.opened_outbound, counts.closed, counts.failed), (1, 1, 1));
    assert_eq!((counts.bytes_sent, counts.bytes_received), (8, 2));
}

#[tokio::test]
async fn the_log_forgets_the_oldest_and_keeps_its_numbers() {
    let fabric = fabric();
    let client = pod(&fabric, 2);
    for _ in 0..1000 {
        client.connect(addr("10.244.0.2:81")).await.unwrap_err();
    }
    let held = client.flows_after(0);
    assert!(held.len() < 1000 && held.last().unwrap().number == 1000);
    assert!(held.windows(2).all(|pair| pair[1].number == pair[0].number + 1));
    assert_eq!(client.flow_counts().failed, 1000);
}

#[tokio::test]
async fn a_capture_shows_a_connection_from_its_handshake_to_its_end() {
    let fabric = fabric();
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    server.start_capture().unwrap();
    let (a, b) = pair(&client, &server, addr("0.0.0.0:80")).await;
    a.try_write(Bytes::from(vec![7; 100_000])).unwrap();
    a.shutdown_write();
    assert_eq!(read_all(&b).await.len(), 100_000);
    b.try_write(Bytes::from_static(b"answer")).unwrap();
    let (from_client, from_server) = (a.local_addr(), addr("10.244.0.3:80"));
    drop(b);
    drop(a);
    let (packets, lost) = soon(server.capture()).await.unwrap();
    assert_eq!(lost, 0);
    let segments = segments(&packets);
    let flags: Vec<u8> = segments.iter().map(|segment| segment.2).collect();
    // SYN, SYN ACK, ACK, two of data, FIN; data, FIN.
    assert_eq!(flags, [0x02, 0x12, 0x10, 0x18, 0x18, 0x11, 0x18, 0x11]);
    assert!(
        segments
            .iter()
            .all(|(from, to, ..)| [*from, *to] == [from_client, from_server]
                || [*from, *to] == [from_server, from_client])
    );
    let mut next = 1;
    let mut data = Vec::new();
    for (_, _, _, sequence, payload) in segments
        .iter()
        .filter(|segment| segment.0 == from_client && segment.2 == 0x18)
    {
        assert_eq!(*sequence, next);
        next += payload.len() as u32;
        data.extend_from_slice(payload);
    }
    assert_eq!(data, vec![7; 100_000]);
    server.end_capture();
}

#[tokio::test]
async fn a_capture_that_begins_later_joins_connections_and_shows_datagrams() {
    let fabric = fabric();
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    let (a, b) = pair(&client, &server, addr("0.0.0.0:80")).await;
    a.try_write(Bytes::from_static(b"before")).unwrap();
    client.start_capture().unwrap();
    a.try_write(Bytes::from_static(b"after")).unwrap();
    let socket = client.bind_udp(addr("0.0.0.0:5000")).unwrap();
    let other = server.bind_udp(addr("0.0.0.0:6000")).unwrap();
    socket
        .send(Bytes::from_static(b"ping"), Some(addr("10.244.0.3:6000")))
        .unwrap();
    let (_, from) = soon(other.recv()).await.unwrap();
    other.send(Bytes::from_static(b"pong"), Some(from)).unwrap();
    let (packets, _) = soon(client.capture()).await.unwrap();
    let tcp: Vec<Packet> = packets.iter().filter(|packet| packet.data[9] == 6).cloned().collect();
    assert_eq!(
        segments(&tcp)
            .iter()
            .map(|segment| segment.4.as_slice())
            .collect::<Vec<_>>(),
        [b"after"]
    );
    let udp: Vec<&[u8]> = packets
        .iter()
        .filter(|packet| packet.data[9] == 17)
        .map(|packet| &packet.data[28..])
        .collect();
    assert_eq!(udp, [&b"ping"[..], b"pong"]);
    // Nothing is captured any more once it has ended.
    client.end_capture();
    a.try_write(Bytes::from_static(b"later")).unwrap();
    client.start_capture().unwrap();
    a.reset();
    let (packets, _) = soon(client.capture()).await.unwrap();
    assert_eq!(
        segments(&packets).iter().map(|segment| segment.2).collect::<Vec<_>>(),
        [0x14]
    );
    drop(b);
}

#[tokio::test]
async fn a_capture_that_nobody_fetches_loses_packets_and_says_how_many() {
    let fabric = fabric();
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    client.start_capture().unwrap();
    let (a, b) = pair(&client, &server, addr("0.0.0.0:80")).await;
    for _ in 0..300 {
        a.try_write(Bytes::from(vec![1; 100_000])).unwrap();
        while let coracle_net::TryRead::Data(_) = b.try_read(usize::MAX).unwrap() {}
    }
    let (packets, lost) = soon(client.capture()).await.unwrap();
    let bytes: usize = packets.iter().map(|packet| packet.data.len()).sum();
    assert!(bytes <= 16 * 1024 * 1024 && lost > 0, "{bytes} bytes, {lost} lost");
    fabric.remove_pod("uid-2");
    let end = async { while client.capture().await.is_ok() {} };
    soon(end).await;
}

#[tokio::test]
async fn all_of_a_pods_traffic_goes_through_its_sidecar() {
    use coracle_net::{MemoryCharge, Redirect};
    struct OfSidecar;
    impl MemoryCharge for OfSidecar {
        fn charge(&self, _: usize) -> bool {
            true
        }
        fn release(&self, _: usize) {}
        fn is_sidecar(&self) -> bool {
            true
        }
    }
    let fabric = fabric();
    let (app, other) = (pod(&fabric, 2), pod(&fabric, 3));
    app.set_redirect(Some(Redirect {
        outbound: Some(15001),
        inbound: Some(15006),
    }));
    let listen = |pod: &std::sync::Arc<coracle_net::PodNet>, at: &str| {
        let binding = pod.bind(addr(at)).unwrap();
        binding.listen(4).unwrap();
        binding
    };
    let outbound = listen(&app, "127.0.0.1:15001");
    let inbound = listen(&app, "0.0.0.0:15006");
    let server = listen(&app, "0.0.0.0:8080");
    let far = listen(&other, "0.0.0.0:80");

    // What the application asks for comes to the sidecar, which sees where it was to go.
    let asked = app.connect(addr("10.244.0.3:80")).await.unwrap();
    let seen = soon(outbound.accept()).await.unwrap();
    assert_eq!(seen.local_addr(), addr("10.244.0.3:80"));
    assert_eq!(seen.peer_addr(), asked.local_addr());
    assert_eq!(asked.peer_addr(), addr("10.244.0.3:80"));
    assert!(far.try_accept().unwrap().is_none());
    // The sidecar itself gets there.
    let slot = app.claim(Some(std::sync::Arc::new(OfSidecar))).unwrap();
    let _direct = app.connect_with(slot, addr("10.244.0.3:80")).await.unwrap();
    assert_eq!(soon(far.accept()).await.unwrap().local_addr(), addr("10.244.0.3:80"));
    // What others ask of the application does too; the loopback and the node's probes do not.
    let _from_other = other.connect(addr("10.244.0.2:8080")).await.unwrap();
    assert_eq!(
        soon(inbound.accept()).await.unwrap().local_addr(),
        addr("10.244.0.2:8080")
    );
    let _local = app.connect(addr("127.0.0.1:8080")).await.unwrap();
    soon(server.accept()).await.unwrap();
    let _probe = fabric
        .dial_pod(ip("10.244.0.2"), addr("10.244.0.2:8080"))
        .await
        .unwrap();
    soon(server.accept()).await.unwrap();
    assert!(inbound.try_accept().unwrap().is_none() && outbound.try_accept().unwrap().is_none());
    // Without its sidecar a pod that must go through it goes nowhere.
    drop(outbound);
    assert_eq!(
        app.connect(addr("10.244.0.3:80")).await.unwrap_err(),
        NetError::ConnectionRefused
    );
    app.set_redirect(None);
    app.connect(addr("10.244.0.3:80")).await.unwrap();
}
