//! Connects to a server that is slow to accept.

use coracle_net::{FabricConfig, NetError};
use futures::FutureExt;
use std::time::Duration;

use crate::world::{addr, fabric, pod, soon};

const AT: &str = "10.244.0.3:80";

#[tokio::test]
async fn connects_beyond_the_backlog_wait_their_turn() {
    let fabric = coracle_net::Fabric::new(FabricConfig::default());
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    let binding = server.bind(addr("0.0.0.0:80")).unwrap();
    binding.listen(2).unwrap();
    let mut established = Vec::new();
    for _ in 0..2 {
        established.push(client.connect(addr(AT)).now_or_never().expect("there is room").unwrap());
    }
    let mut waiting: Vec<_> = (0..3).map(|_| client.connect(addr(AT))).collect();
    for connect in &mut waiting {
        assert!(futures::poll!(&mut *connect).is_pending());
    }
    let given_up = waiting.remove(0);
    let given_up_from = 2;
    drop(given_up);
    for connect in waiting {
        let accepted = soon(binding.accept()).await.unwrap();
        assert_eq!(accepted.peer_addr(), established[0].local_addr());
        established.remove(0);
        established.push(soon(connect).await.unwrap());
    }
    assert_eq!(
        client.sockets(),
        2,
        "the one that gave up, number {given_up_from}, left nothing behind"
    );
    for conn in &established {
        assert_eq!(soon(binding.accept()).await.unwrap().peer_addr(), conn.local_addr());
    }
    assert!(binding.try_accept().unwrap().is_none());
}

#[tokio::test]
async fn a_longer_backlog_admits_those_who_wait_at_once_and_first() {
    let fabric = coracle_net::Fabric::new(FabricConfig::default());
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    let binding = server.bind(addr("0.0.0.0:80")).unwrap();
    binding.listen(1).unwrap();
    let first = client.connect(addr(AT)).await.unwrap();
    let mut second = client.connect(addr(AT));
    assert!(futures::poll!(&mut second).is_pending());
    binding.listen(3).unwrap();
    let second = soon(second).await.unwrap();
    let third = client.connect(addr(AT)).await.unwrap();
    for conn in [first, second, third] {
        assert_eq!(soon(binding.accept()).await.unwrap().peer_addr(), conn.local_addr());
    }
}

#[tokio::test]
async fn a_connect_that_nobody_takes_times_out() {
    let fabric = fabric();
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    let binding = server.bind(addr("0.0.0.0:80")).unwrap();
    binding.listen(1).unwrap();
    let _first = client.connect(addr(AT)).await.unwrap();
    assert_eq!(soon(client.connect(addr(AT))).await.unwrap_err(), NetError::TimedOut);
}

#[tokio::test]
async fn a_listener_that_closes_refuses_who_waits_and_resets_who_was_queued() {
    let fabric = coracle_net::Fabric::new(FabricConfig::default());
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    let binding = server.bind(addr("0.0.0.0:80")).unwrap();
    binding.listen(1).unwrap();
    let queued = client.connect(addr(AT)).await.unwrap();
    let mut waiting = client.connect(addr(AT));
    assert!(futures::poll!(&mut waiting).is_pending());
    drop(binding);
    assert_eq!(soon(waiting).await.unwrap_err(), NetError::ConnectionRefused);
    assert_eq!(queued.try_read(9), Err(NetError::ConnectionReset));
}

#[tokio::test]
async fn a_full_waiting_room_refuses_and_forgets_those_who_left() {
    let fabric = coracle_net::Fabric::new(FabricConfig {
        connect_timeout: Duration::from_secs(60),
        ..Default::default()
    });
    let server = pod(&fabric, 3);
    let binding = server.bind(addr("0.0.0.0:80")).unwrap();
    binding.listen(1).unwrap();
    let clients = [pod(&fabric, 4), pod(&fabric, 5)];
    let first = clients[0].connect(addr(AT)).await.unwrap();
    let mut waiting = Vec::new();
    let refused = loop {
        let client = &clients[waiting.len() / 900];
        let mut connect = client.connect(addr(AT));
        match futures::poll!(&mut connect) {
            std::task::Poll::Pending => waiting.push(connect),
            std::task::Poll::Ready(outcome) => break outcome.unwrap_err(),
        }
    };
    assert_eq!((refused, waiting.len()), (NetError::ConnectionRefused, 1024));
    waiting.truncate(10);
    let mut again = clients[0].connect(addr(AT));
    assert!(futures::poll!(&mut again).is_pending(), "those who left made room");
    drop((first, waiting));
    soon(binding.accept()).await.unwrap();
    soon(again).await.unwrap();
}

#[tokio::test]
async fn an_acceptor_wakes_for_a_connection() {
    let fabric = fabric();
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    let binding = server.bind(addr("0.0.0.0:80")).unwrap();
    binding.listen(1).unwrap();
    let accepting = tokio::spawn(async move { binding.accept().await.unwrap().peer_addr() });
    tokio::task::yield_now().await;
    let conn = client.connect(addr(AT)).await.unwrap();
    assert_eq!(soon(accepting).await.unwrap(), conn.local_addr());
}
