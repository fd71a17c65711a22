//! Binding, connecting, reading, writing and closing.

use std::net::SocketAddr;

use bytes::Bytes;
use coracle_net::{NetError, PIPE_CAPACITY, Stream, TryRead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{addr, fabric, ip, pair, pod, read_all, soon};

#[tokio::test]
async fn two_pods_bind_the_same_port_and_each_reaches_its_own() {
    let fabric = fabric();
    let pods = [pod(&fabric, 2), pod(&fabric, 3)];
    let bindings = pods.each_ref().map(|pod| pod.bind(addr("127.0.0.1:8080")).unwrap());
    for (pod, binding) in pods.iter().zip(&bindings) {
        binding.listen(1).unwrap();
        let client = pod.connect(addr("127.0.0.1:8080")).await.unwrap();
        let server = soon(binding.accept()).await.unwrap();
        client.try_write(Bytes::from(pod.identity().name.clone())).unwrap();
        client.shutdown_write();
        assert_eq!(read_all(&server).await, pod.identity().name.as_bytes());
        assert_eq!(server.peer_addr(), client.local_addr());
        assert!(server.peer_addr().ip().is_loopback());
    }
}

#[tokio::test]
async fn a_third_pod_does_not_reach_a_loopback() {
    let fabric = fabric();
    let (server, other) = (pod(&fabric, 2), pod(&fabric, 3));
    let binding = server.bind(addr("127.0.0.1:8080")).unwrap();
    binding.listen(1).unwrap();
    for to in ["127.0.0.1:8080", "10.244.0.2:8080", "[::1]:8080", "0.0.0.0:8080"] {
        assert_eq!(
            other.connect(addr(to)).await.unwrap_err(),
            NetError::ConnectionRefused,
            "{to}"
        );
    }
    assert!(binding.try_accept().unwrap().is_none());
    server
        .connect(addr("0.0.0.0:8080"))
        .await
        .expect("unspecified means the own loopback");
}

#[tokio::test]
async fn pods_meet_at_their_addresses() {
    let fabric = fabric();
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    let (a, b) = pair(&client, &server, addr("0.0.0.0:80")).await;
    assert_eq!(a.peer_addr(), addr("10.244.0.3:80"));
    assert_eq!(b.local_addr(), addr("10.244.0.3:80"));
    assert_eq!(b.peer_addr(), a.local_addr());
    assert_eq!(a.local_addr().ip(), ip("10.244.0.2"));
    assert!((32768..=60999).contains(&a.local_addr().port()));
}

#[tokio::test]
async fn addresses_that_cannot_be_bound() {
    let fabric = fabric();
    let pod = pod(&fabric, 2);
    let _wildcard = pod.bind(addr("0.0.0.0:80")).unwrap();
    let _specific = pod.bind(addr("127.0.0.1:81")).unwrap();
    for (at, error) in [
        ("127.0.0.1:80", NetError::AddrInUse),
        ("10.244.0.2:80", NetError::AddrInUse),
        ("0.0.0.0:80", NetError::AddrInUse),
        ("[::]:80", NetError::AddrInUse),
        ("0.0.0.0:81", NetError::AddrInUse),
        ("10.244.0.3:82", NetError::AddrNotAvailable),
        ("192.0.2.1:82", NetError::AddrNotAvailable),
        ("[fd00::1]:82", NetError::AddrNotAvailable),
    ] {
        assert_eq!(pod.bind(addr(at)).unwrap_err(), error, "{at}");
        assert_eq!(pod.sockets(), 2, "a failed bind keeps no place");
    }
    pod.bind(addr("10.244.0.2:81")).unwrap();
    pod.bind(addr("[::1]:80")).unwrap();
}

#[tokio::test]
async fn a_port_is_free_as_soon_as_its_socket_is_gone() {
    let fabric = fabric();
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    for _ in 0..3 {
        let (a, b) = pair(&client, &server, addr("0.0.0.0:80")).await;
        a.try_write(Bytes::from_static(b"unread")).unwrap();
        drop((b, a));
    }
    assert_eq!((client.sockets(), server.sockets()), (0, 0));
}

#[tokio::test]
async fn an_accepted_connection_outlives_its_listener() {
    let fabric = fabric();
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    let (a, b) = pair(&client, &server, addr("0.0.0.0:80")).await;
    assert_eq!(
        client.connect(addr("10.244.0.3:80")).await.unwrap_err(),
        NetError::ConnectionRefused
    );
    b.try_write(Bytes::from_static(b"still here")).unwrap();
    drop(b);
    assert_eq!(read_all(&a).await, b"still here");
}

#[tokio::test]
async fn bound_but_deaf_ports_refuse() {
    let fabric = fabric();
    let pod = pod(&fabric, 2);
    let binding = pod.bind(addr("127.0.0.1:80")).unwrap();
    assert_eq!(
        pod.connect(addr("127.0.0.1:80")).await.unwrap_err(),
        NetError::ConnectionRefused
    );
    assert_eq!(binding.try_accept().unwrap_err(), NetError::InvalidState);
}

#[tokio::test]
async fn where_no_route_leads() {
    let fabric = fabric();
    let pod = pod(&fabric, 2);
    for (to, error) in [
        ("10.244.0.9:80", NetError::HostUnreachable),
        ("10.96.7.7:80", NetError::HostUnreachable),
        ("192.0.2.1:80", NetError::NetworkUnreachable),
        ("169.254.169.254:80", NetError::NetworkUnreachable),
        ("192.168.1.1:80", NetError::NetworkUnreachable),
        ("[2001:db8::1]:80", NetError::NetworkUnreachable),
        ("224.0.0.1:80", NetError::Denied),
        ("255.255.255.255:80", NetError::Denied),
        ("10.244.0.1:80", NetError::ConnectionRefused),
    ] {
        assert_eq!(pod.connect(addr(to)).await.unwrap_err(), error, "{to}");
    }
    assert_eq!(pod.sockets(), 0);
}

#[tokio::test]
async fn the_hosts_own_loopback_is_out_of_reach() {
    let host = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = host.local_addr().unwrap().port();
    let fabric = fabric();
    let pod = pod(&fabric, 2);
    for to in ["127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"] {
        let to = SocketAddr::new(ip(to), port);
        assert_eq!(pod.connect(to).await.unwrap_err(), NetError::ConnectionRefused, "{to}");
    }
    assert_eq!(
        fabric.dial("127.0.0.1", port).await.unwrap_err(),
        NetError::NetworkUnreachable
    );
}

#[tokio::test]
async fn one_direction_ends_while_the_other_goes_on() {
    let fabric = fabric();
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    let (a, b) = pair(&client, &server, addr("0.0.0.0:80")).await;
    a.try_write(Bytes::from_static(b"question")).unwrap();
    a.shutdown_write();
    assert_eq!(a.try_write(Bytes::from_static(b"more")), Err(NetError::BrokenPipe));
    assert_eq!(read_all(&b).await, b"question");
    b.try_write(Bytes::from_static(b"answer")).unwrap();
    drop(b);
    assert_eq!(read_all(&a).await, b"answer");
}

#[tokio::test]
async fn a_writer_learns_that_nobody_reads() {
    let fabric = fabric();
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    let (a, b) = pair(&client, &server, addr("0.0.0.0:80")).await;
    b.shutdown_read();
    assert_eq!(a.try_write(Bytes::from_static(b"x")), Err(NetError::BrokenPipe));
    assert_eq!(b.try_write(Bytes::from_static(b"x")), Ok(1), "only one direction ended");
    drop(b);
    assert_eq!(a.writable_bytes(), Err(NetError::BrokenPipe));
    assert_eq!(a.try_read(9), Ok(TryRead::Data(Bytes::from_static(b"x"))));
    assert_eq!(a.try_read(9), Ok(TryRead::End));
}

#[tokio::test]
async fn each_direction_holds_a_quarter_mebibyte() {
    let fabric = fabric();
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    let (a, b) = pair(&client, &server, addr("0.0.0.0:80")).await;
    for conn in [&a, &b] {
        let mut total = 0;
        while let n @ 1.. = conn.try_write(Bytes::from_static(&[1; 10_000])).unwrap() {
            total += n;
        }
        assert_eq!((total, conn.writable_bytes()), (PIPE_CAPACITY, Ok(0)));
    }
}

#[tokio::test]
async fn streams_carry_more_than_they_hold() {
    let fabric = fabric();
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    let (a, b) = pair(&client, &server, addr("0.0.0.0:80")).await;
    let (mut a, mut b) = (Stream::from(a), Stream::from(b));
    let sent: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        a.write_all(&sent).await.unwrap();
        a.shutdown().await.unwrap();
        let mut rest = Vec::new();
        a.read_to_end(&mut rest).await.unwrap();
        rest
    });
    let mut got = Vec::new();
    soon(b.read_to_end(&mut got)).await.unwrap();
    assert!(got == expected);
    b.write_all(b"done").await.unwrap();
    drop(b);
    assert_eq!(soon(writer).await.unwrap(), b"done");
}

#[tokio::test]
async fn an_ipv6_wildcard_hears_both_families() {
    let fabric = fabric();
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    let binding = server.bind(addr("[::]:80")).unwrap();
    binding.listen(4).unwrap();
    let _v4 = client.connect(addr("10.244.0.3:80")).await.unwrap();
    let seen = soon(binding.accept()).await.unwrap();
    assert_eq!(seen.peer_addr().ip(), ip("::ffff:10.244.0.2"));
    assert_eq!(seen.local_addr(), addr("[::ffff:10.244.0.3]:80"));
    for to in ["[::1]:80", "127.0.0.1:80", "[::ffff:127.0.0.1]:80"] {
        let conn = server.connect(addr(to)).await.unwrap();
        assert_eq!(conn.local_addr().is_ipv6(), addr(to).is_ipv6(), "{to}");
    }
}

#[tokio::test]
async fn a_client_may_choose_its_port() {
    let fabric = fabric();
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    let listener = server.bind(addr("0.0.0.0:80")).unwrap();
    listener.listen(1).unwrap();
    let conn = client
        .bind(addr("0.0.0.0:4000"))
        .unwrap()
        .connect(addr("10.244.0.3:80"))
        .await
        .unwrap();
    assert_eq!(conn.local_addr(), addr("10.244.0.2:4000"));
    assert_eq!(listener.accept().await.unwrap().peer_addr(), addr("10.244.0.2:4000"));
    assert_eq!(client.bind(addr("0.0.0.0:4000")).unwrap_err(), NetError::AddrInUse);
    drop(conn);
    client.bind(addr("0.0.0.0:4000")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_connections_at_once() {
    const CLIENTS: u32 = 300;
    let fabric = fabric();
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    let binding = server.bind(addr("0.0.0.0:80")).unwrap();
    binding.listen(16).unwrap();
    let echo = tokio::spawn(async move {
        let mut served = tokio::task::JoinSet::new();
        for _ in 0..CLIENTS {
            let mut stream = binding.accept_stream().await.unwrap();
            served.spawn(async move {
                let (mut read, mut write) = tokio::io::split(&mut stream);
                tokio::io::copy(&mut read, &mut write).await.unwrap();
            });
        }
        served.join_all().await;
    });
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..CLIENTS {
        let client = client.clone();
        clients.spawn(async move {
            let mut stream = client.connect(addr("10.244.0.3:80")).stream().await.unwrap();
            let sent = n.to_le_bytes().repeat(5000);
            let (mut read, mut write) = tokio::io::split(&mut stream);
            let mut got = vec![0; sent.len()];
            let (written, received) = tokio::join!(write.write_all(&sent), read.read_exact(&mut got));
            written.unwrap();
            received.unwrap();
            assert!(sent == got);
        });
    }
    soon(clients.join_all()).await;
    soon(echo).await.unwrap();
    assert_eq!((client.sockets(), server.sockets()), (0, 0));
}
