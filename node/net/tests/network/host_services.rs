//! Addresses that the host answers inside the network.

use bytes::Bytes;
use coracle_net::{NetError, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{addr, endpoint, fabric, pod, service, soon, tell};

#[tokio::test]
async fn a_handler_gets_the_connections_of_pods_and_of_the_host() {
    let fabric = fabric();
    let pod = pod(&fabric, 2);
    let at = addr("10.96.0.1:443");
    let greet = |mut stream: Stream| async move {
        let peer = stream.conn().peer_addr().ip().to_string();
        stream.write_all(peer.as_bytes()).await.unwrap();
    };
    let guard = fabric.serve_host(at, greet).unwrap();
    assert_eq!(fabric.serve_host(at, greet).unwrap_err(), NetError::AddrInUse);
    let mut text = String::new();
    let mut stream = pod.connect(at).stream().await.unwrap();
    assert_eq!(stream.conn().peer_addr(), at);
    soon(stream.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "10.244.0.2");
    text.clear();
    soon(fabric.dial("10.96.0.1", 443).await.unwrap().read_to_string(&mut text))
        .await
        .unwrap();
    assert_eq!(text, "10.244.0.1");
    assert_eq!(
        pod.connect(addr("10.96.0.1:80")).await.unwrap_err(),
        NetError::ConnectionRefused
    );
    drop(guard);
    assert_eq!(pod.connect(at).await.unwrap_err(), NetError::HostUnreachable);
    fabric.serve_host(at, greet).map(drop).unwrap();
}

#[tokio::test]
async fn a_service_may_have_the_host_as_its_endpoint() {
    let fabric = fabric();
    let pod = pod(&fabric, 2);
    let _guard = fabric
        .serve_host(addr("172.30.0.1:6443"), |mut stream| async move {
            stream.write_all(b"api").await.unwrap()
        })
        .unwrap();
    let mut kubernetes = service("kubernetes", "10.96.0.1");
    kubernetes.endpoints = vec![endpoint(0, 6443)];
    kubernetes.endpoints[0].address = "172.30.0.1".parse().unwrap();
    tell(&fabric, vec![kubernetes]);
    let mut text = String::new();
    soon(
        pod.connect(addr("10.96.0.1:80"))
            .stream()
            .await
            .unwrap()
            .read_to_string(&mut text),
    )
    .await
    .unwrap();
    assert_eq!(text, "api");
}

#[tokio::test]
async fn datagrams_reach_a_handler_and_its_answer_comes_from_the_address() {
    let fabric = fabric();
    let pod = pod(&fabric, 2);
    let at = addr("10.96.0.10:53");
    let _guard = fabric
        .serve_host_datagrams(
            at,
            |data, _| async move { (data != "silence").then(|| data.slice(1..)) },
        )
        .unwrap();
    let socket = pod.bind_udp(addr("0.0.0.0:0")).unwrap();
    socket.set_peer(Some(at)).unwrap();
    socket.send(Bytes::from_static(b"silence"), None).unwrap();
    socket.send(Bytes::from_static(b"xyes"), None).unwrap();
    assert_eq!(soon(socket.recv()).await.unwrap(), (Bytes::from_static(b"yes"), at));
    assert_eq!(pod.connect(at).await.unwrap_err(), NetError::ConnectionRefused);
}

#[tokio::test]
async fn a_datagram_is_answered_by_who_sends_it_unless_that_has_to_wait() {
    let fabric = fabric();
    let pod = pod(&fabric, 2);
    let at = addr("10.96.0.10:53");
    let (go, told) = tokio::sync::watch::channel(false);
    let _guard = fabric
        .serve_host_datagrams(at, move |data, _| {
            let mut told = told.clone();
            async move {
                if data == "later" {
                    told.wait_for(|told| *told).await.unwrap();
                }
                Some(data)
            }
        })
        .unwrap();
    let socket = pod.bind_udp(addr("0.0.0.0:0")).unwrap();
    socket.set_peer(Some(at)).unwrap();
    for text in ["later", "now"] {
        socket.send(Bytes::from_static(text.as_bytes()), None).unwrap();
    }
    // Nobody else has run: this runtime has one thread.
    assert_eq!(socket.try_recv().unwrap(), Some((Bytes::from_static(b"now"), at)));
    assert_eq!(socket.try_recv().unwrap(), None);
    go.send(true).unwrap();
    assert_eq!(soon(socket.recv()).await.unwrap(), (Bytes::from_static(b"later"), at));
}

#[test]
fn a_handler_needs_a_runtime() {
    let registered = fabric().serve_host(addr("10.96.0.1:443"), |_| async {});
    assert_eq!(registered.unwrap_err(), NetError::NotSupported);
}
