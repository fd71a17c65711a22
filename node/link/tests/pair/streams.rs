//! Connections between pods of two nodes.

use coracle_net::{NetError, TryRead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{Authority, Machine, introduce, listen, soon, two};

/// Bytes that are not the same twice in a row.
fn pattern(count: usize) -> Vec<u8> {
    (0..count)
        .map(|n| u8::try_from((n * 31 + n / 251) % 251).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_go_both_ways_and_the_source_is_the_pods_own() {
    let (a, b) = two();
    let (client, server) = (a.pod(2, "client"), b.pod(7, "server"));
    let binding = listen(&server, 80);
    let sent = pattern(3_000_000);
    let wanted = sent.clone();
    let serve = tokio::spawn(async move {
        let mut stream = binding.accept_stream().await.unwrap();
        let peer = stream.conn().peer_addr();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, wanted);
        stream.write_all(&got).await.unwrap();
        peer
    });
    let mut stream = soon(client.connect(b.at(7, 80)))
        .await
        .map(coracle_net::Stream::from)
        .unwrap();
    assert_eq!(stream.conn().peer_addr(), b.at(7, 80));
    let local = stream.conn().local_addr();
    stream.write_all(&sent).await.unwrap();
    // The end of one direction leaves the other.
    stream.shutdown().await.unwrap();
    let mut back = Vec::new();
    soon(stream.read_to_end(&mut back)).await.unwrap();
    assert!(back == sent);
    assert_eq!(serve.await.unwrap(), local);
    assert_eq!(local.ip(), a.ip(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_carries_both_nodes_streams() {
    let (a, b) = two();
    let (of_a, of_b) = (a.pod(2, "a"), b.pod(2, "b"));
    let (at_a, at_b) = (listen(&of_a, 80), listen(&of_b, 80));
    let one = soon(of_a.connect(b.at(2, 80))).await.unwrap();
    b.linked("a").await;
    let other = soon(of_b.connect(a.at(2, 80))).await.unwrap();
    assert_eq!(soon(at_b.accept()).await.unwrap().peer_addr(), one.local_addr());
    assert_eq!(soon(at_a.accept()).await.unwrap().peer_addr(), other.local_addr());
    // Nobody can dial any more, and streams still come about: they share what stands.
    let mut gone = a.told();
    gone.address = b.told().address;
    crate::world::introduce_as(&[&a, &b], &[gone, b.told()], &[]);
    soon(of_b.connect(a.at(2, 80))).await.unwrap();
    assert_eq!(
        (a.link.peers(), b.link.peers()),
        (vec!["b".to_owned()], vec!["a".to_owned()])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_may_dial_at_once() {
    let (a, b) = two();
    let (of_a, of_b) = (a.pod(2, "a"), b.pod(2, "b"));
    let (at_a, at_b) = (listen(&of_a, 80), listen(&of_b, 80));
    let (one, other) = soon(async { tokio::join!(of_a.connect(b.at(2, 80)), of_b.connect(a.at(2, 80))) }).await;
    for (conn, binding) in [(one.unwrap(), at_b), (other.unwrap(), at_a)] {
        let served = soon(binding.accept()).await.unwrap();
        served.try_write("hello".into()).unwrap();
        soon(conn.readable()).await;
        assert_eq!(conn.try_read(10).unwrap(), TryRead::Data("hello".into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_reached_is_said_as_on_one_node() {
    let (a, b) = two();
    let (client, _server) = (a.pod(2, "client"), b.pod(7, "server"));
    let refused = soon(client.connect(b.at(7, 81))).await.unwrap_err();
    assert_eq!(refused, NetError::ConnectionRefused);
    let nobody = soon(client.connect(b.at(9, 80))).await.unwrap_err();
    assert_eq!(nobody, NetError::HostUnreachable);
    let no_node = soon(client.connect("10.0.3.2:80".parse().unwrap())).await.unwrap_err();
    assert_eq!(no_node, NetError::HostUnreachable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_does_not_read_holds_up_only_its_own_sender() {
    let (a, b) = two();
    let (client, server) = (a.pod(2, "client"), b.pod(7, "server"));
    let binding = listen(&server, 80);
    let stuck = soon(client.connect(b.at(7, 80))).await.unwrap();
    let unread = soon(binding.accept()).await.unwrap();
    // What fits on the way is bounded: the sender waits in the end.
    let chunk = bytes::Bytes::from(vec![1; 64 * 1024]);
    let mut sent = 0;
    loop {
        sent += stuck.try_write(chunk.clone()).unwrap();
        let more = tokio::time::timeout(std::time::Duration::from_millis(500), stuck.writable()).await;
        if more.is_err() {
            break;
        }
        assert!(sent < 64 << 20, "a sender without a reader is never held up");
    }
    let mut free = soon(client.connect(b.at(7, 80)))
        .await
        .map(coracle_net::Stream::from)
        .unwrap();
    let mut served = soon(binding.accept_stream()).await.unwrap();
    let sent_freely = pattern(2_000_000);
    let (wrote, read) = soon(async {
        tokio::join!(
            async {
                free.write_all(&sent_freely).await.unwrap();
                free.shutdown().await
            },
            async {
                let mut got = Vec::new();
                served.read_to_end(&mut got).await.map(|_| got)
            }
        )
    })
    .await;
    wrote.unwrap();
    assert!(read.unwrap() == sent_freely);
    // The stuck one goes on as soon as it is read, and nothing is lost.
    stuck.shutdown_write();
    let mut got = 0;
    loop {
        match unread.try_read(usize::MAX).unwrap() {
            TryRead::Data(bytes) => got += bytes.len(),
            TryRead::Empty => soon(unread.readable()).await,
            TryRead::End => break,
        }
    }
    assert_eq!(got, sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_closes_is_a_broken_pipe() {
    let (a, b) = two();
    let (client, server) = (a.pod(2, "client"), b.pod(7, "server"));
    let binding = listen(&server, 80);
    let conn = soon(client.connect(b.at(7, 80))).await.unwrap();
    drop(soon(binding.accept()).await.unwrap());
    let broken = soon(async {
        loop {
            match conn.try_write("x".into()) {
                Err(error) => return error,
                Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
            }
        }
    });
    assert_eq!(broken.await, NetError::BrokenPipe);
    // A pod that is removed resets what it had.
    let conn = soon(client.connect(b.at(7, 80))).await.unwrap();
    let served = soon(binding.accept()).await.unwrap();
    b.fabric.remove_pod("b-7");
    soon(conn.readable()).await;
    assert_eq!(conn.try_read(1), Err(NetError::ConnectionReset));
    drop(served);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_at_once_are_not_mixed_up() {
    let authority = Authority::new();
    let (a, b) = (Machine::start(&authority, "a", 1), Machine::start(&authority, "b", 2));
    introduce(&[&a, &b], &[]);
    let (client, server) = (a.pod(2, "client"), b.pod(7, "server"));
    let binding = listen(&server, 80);
    tokio::spawn(async move {
        while let Ok(mut stream) = binding.accept_stream().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(&mut stream);
                tokio::io::copy(&mut reader, &mut writer).await.unwrap();
                writer.shutdown().await.unwrap();
            });
        }
    });
    let mut streams = tokio::task::JoinSet::new();
    for number in 0..200usize {
        let client = client.clone();
        let to = b.at(7, 80);
        streams.spawn(async move {
            let mut stream = client.connect(to).stream().await.unwrap();
            let sent = pattern(10_000 + number);
            stream.write_all(&sent).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).await.unwrap();
            assert!(back == sent, "stream {number}");
        });
    }
    soon(async {
        while let Some(ended) = streams.join_next().await {
            ended.unwrap()
        }
    })
    .await;
    assert_eq!(client.sockets(), 0);
}
