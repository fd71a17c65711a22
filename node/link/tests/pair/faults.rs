//! Nodes that come and go, and wires that fall silent.

use std::net::SocketAddr;
use std::sync::Arc;

use coracle_net::NetError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::world::{Authority, Machine, introduce, introduce_as, listen, soon};

/// A wire that can be cut: while it is, nothing passes and nobody is told.
struct Wire {
    address: SocketAddr,
    cut: watch::Sender<bool>,
}

impl Wire {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = watch::Sender::new(false);
        let watched = cut.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let watched = watched.clone();
                tokio::spawn(async move {
                    let far = TcpStream::connect(target).await.unwrap();
                    let (near_reader, near_writer) = near.into_split();
                    let (far_reader, far_writer) = far.into_split();
                    tokio::join!(
                        pass(near_reader, far_writer, watched.subscribe()),
                        pass(far_reader, near_writer, watched.subscribe())
                    );
                });
            }
        });
        Self { address, cut }
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut cut: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count) = from.read(&mut buffer).await {
        if cut.wait_for(|cut| !cut).await.is_err() || count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wire_that_falls_silent_breaks_what_stood_and_heals() {
    let authority = Authority::new();
    let (a, b) = (Machine::start(&authority, "a", 1), Machine::start(&authority, "b", 2));
    let wire = Wire::to(b.address).await;
    let mut through = b.told();
    through.address = wire.address;
    introduce_as(&[&a], &[through], &[]);
    introduce_as(&[&b], &[a.told()], &[]);
    let (client, server) = (a.pod(2, "client"), b.pod(7, "server"));
    let binding = listen(&server, 80);
    let conn = soon(client.connect(b.at(7, 80))).await.unwrap();
    let served = soon(binding.accept()).await.unwrap();
    // Signs of life keep an idle connection.
    tokio::time::sleep(crate::world::TIMING.silence * 2).await;
    assert_eq!(a.link.peers(), ["b"]);

    wire.cut.send_replace(true);
    for end in [&conn, &served] {
        soon(end.readable()).await;
        assert_eq!(end.try_read(1), Err(NetError::ConnectionReset));
    }
    a.alone().await;
    let away = soon(client.connect(b.at(7, 80))).await.unwrap_err();
    assert_eq!(away, NetError::HostUnreachable);

    wire.cut.send_replace(false);
    let healed = soon(async {
        loop {
            match client.connect(b.at(7, 80)).await {
                Ok(conn) => return conn,
                Err(error) => assert_eq!(error, NetError::HostUnreachable),
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    healed.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_replaced_under_its_name_is_found_again() {
    let authority = Authority::new();
    let a = Machine::start(&authority, "a", 1);
    let b = Machine::start(&authority, "b", 2);
    introduce(&[&a, &b], &[]);
    let client = a.pod(2, "client");
    let server = b.pod(7, "server");
    let binding = listen(&server, 80);
    let conn = soon(client.connect(b.at(7, 80))).await.unwrap();
    let _served = soon(binding.accept()).await.unwrap();
    b.link.close();
    drop(b);
    soon(conn.readable()).await;
    assert_eq!(conn.try_read(1), Err(NetError::ConnectionReset));

    let b = Machine::start(&authority, "b", 2);
    introduce(&[&a, &b], &[]);
    let server = b.pod(7, "server");
    let binding = listen(&server, 80);
    let conn = soon(client.connect(b.at(7, 80))).await.unwrap();
    assert_eq!(soon(binding.accept()).await.unwrap().peer_addr(), conn.local_addr());
    // The other way as well, over what stands.
    let back = listen(&client, 81);
    let conn: Arc<_> = soon(server.connect(a.at(2, 81))).await.unwrap().into();
    assert_eq!(soon(back.accept()).await.unwrap().peer_addr(), conn.local_addr());
}
