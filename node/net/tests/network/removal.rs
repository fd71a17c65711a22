//! What the removal of a pod does to others and to itself.

use bytes::Bytes;
use coracle_net::{NetError, PodIdentity};

use crate::world::{addr, fabric, ip, pair, pod, soon};

#[tokio::test]
async fn connections_are_reset_on_both_sides_and_listeners_close() {
    let fabric = fabric();
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    let (a, b) = pair(&client, &server, addr("0.0.0.0:80")).await;
    let binding = server.bind(addr("0.0.0.0:81")).unwrap();
    binding.listen(2).unwrap();
    let queued = client.connect(addr("10.244.0.3:81")).await.unwrap();
    a.try_write(Bytes::from_static(b"never read")).unwrap();
    let reader = tokio::spawn(async move {
        a.readable().await;
        (a.try_read(9), a.try_write(Bytes::from_static(b"x")))
    });
    tokio::task::yield_now().await;
    fabric.remove_pod("uid-3");
    let reset = NetError::ConnectionReset;
    assert_eq!(soon(reader).await.unwrap(), (Err(reset), Err(reset)));
    assert_eq!(b.try_read(9), Err(reset));
    assert_eq!(binding.accept().await.unwrap_err(), NetError::NetworkDown);
    assert_eq!(queued.try_read(9), Err(reset));
    assert_eq!(
        client.connect(addr("10.244.0.3:80")).await.unwrap_err(),
        NetError::HostUnreachable
    );
}

#[tokio::test]
async fn a_removed_pod_begins_nothing_new() {
    let fabric = fabric();
    let (gone, other) = (pod(&fabric, 2), pod(&fabric, 3));
    let udp = gone.bind_udp(addr("0.0.0.0:53")).unwrap();
    let binding = gone.bind(addr("0.0.0.0:80")).unwrap();
    let listener = other.bind(addr("0.0.0.0:80")).unwrap();
    listener.listen(1).unwrap();
    fabric.remove_pod("uid-2");
    let down = NetError::NetworkDown;
    assert_eq!(gone.bind(addr("0.0.0.0:81")).unwrap_err(), down);
    assert_eq!(gone.bind_udp(addr("0.0.0.0:81")).unwrap_err(), down);
    assert_eq!(gone.connect(addr("10.244.0.3:80")).await.unwrap_err(), down);
    assert_eq!(binding.listen(1).unwrap_err(), down);
    assert_eq!(binding.connect(addr("10.244.0.3:80")).await.unwrap_err(), down);
    assert_eq!(udp.try_recv().unwrap_err(), down);
    assert_eq!(
        udp.send(Bytes::from_static(b"x"), Some(addr("10.244.0.3:53")))
            .unwrap_err(),
        down
    );
    assert!(listener.try_accept().unwrap().is_none());
}

#[tokio::test]
async fn addresses_and_uids_belong_to_one_pod_at_a_time() {
    let fabric = fabric();
    let first = pod(&fabric, 2);
    let identity = |uid: &str| PodIdentity {
        uid: uid.into(),
        ..first.identity().clone()
    };
    let add = |uid: &str, at: &str| fabric.add_pod(identity(uid), vec![ip(at)]).map(drop);
    assert_eq!(add("uid-9", "10.244.0.2"), Err(NetError::AddrInUse));
    assert_eq!(add("uid-2", "10.244.0.9"), Err(NetError::AddrInUse));
    for at in [
        "127.0.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "10.96.0.10",
        "10.97.0.1",
        "10.244.0.1",
        "::ffff:127.0.0.1",
    ] {
        assert_eq!(add("uid-9", at), Err(NetError::AddrNotAvailable), "{at}");
    }
    fabric.remove_pod("uid-2");
    fabric.remove_pod("uid-2");
    assert_eq!(add("uid-9", "10.244.0.2"), Ok(()));
}

#[tokio::test]
async fn dialing_into_a_pod_ends_with_it() {
    let fabric = fabric();
    let server = pod(&fabric, 3);
    let binding = server.bind(addr("127.0.0.1:80")).unwrap();
    binding.listen(1).unwrap();
    let stream = fabric.dial_pod(ip("10.244.0.3"), addr("127.0.0.1:80")).await.unwrap();
    fabric.remove_pod("uid-3");
    soon(stream.conn().readable()).await;
    assert_eq!(stream.conn().try_read(9), Err(NetError::ConnectionReset));
    let again = fabric.dial_pod(ip("10.244.0.3"), addr("127.0.0.1:80")).await;
    assert_eq!(again.unwrap_err(), NetError::HostUnreachable);
}
