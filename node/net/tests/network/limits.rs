//! What one pod may hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use coracle_net::{MAX_SOCKETS_PER_POD, MemoryCharge, NetError, PIPE_CAPACITY, PIPE_FLOOR, SOCKET_BYTES};

use crate::world::{addr, fabric, pod, read_all};

/// An account with a limit that a test can read.
struct Budget {
    used: AtomicUsize,
    limit: AtomicUsize,
}

impl Budget {
    fn of(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
        })
    }

    fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }
}

impl MemoryCharge for Budget {
    fn charge(&self, bytes: usize) -> bool {
        let limit = self.limit.load(Ordering::SeqCst);
        let take = |used: usize| (used + bytes <= limit).then_some(used + bytes);
        self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    }

    fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_pod_has_a_limited_number_of_sockets() {
    let fabric = fabric();
    let (greedy, other) = (pod(&fabric, 2), pod(&fabric, 3));
    let listener = greedy.bind(addr("0.0.0.0:80")).unwrap();
    listener.listen(4).unwrap();
    let held: Vec<_> = (1..MAX_SOCKETS_PER_POD)
        .map(|_| greedy.bind(addr("127.0.0.1:0")).unwrap())
        .collect();
    assert_eq!(greedy.bind(addr("127.0.0.1:0")).unwrap_err(), NetError::TooManySockets);
    assert_eq!(
        greedy.bind_udp(addr("127.0.0.1:0")).unwrap_err(),
        NetError::TooManySockets
    );
    assert_eq!(
        greedy.connect(addr("127.0.0.1:80")).await.unwrap_err(),
        NetError::TooManySockets
    );
    assert_eq!(greedy.claim(None).unwrap_err(), NetError::TooManySockets);
    let client = other.connect(addr("10.244.0.2:80")).await.unwrap();
    assert_eq!(listener.try_accept().unwrap_err(), NetError::TooManySockets);
    drop(held);
    let accepted = listener.try_accept().unwrap().expect("the connection was not lost");
    assert_eq!(accepted.peer_addr(), client.local_addr());
}

#[tokio::test]
async fn the_receiver_pays_for_what_waits_in_its_buffers() {
    let fabric = fabric();
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    let budget = Budget::of(usize::MAX);
    let binding = server
        .bind_with(server.claim(Some(budget.clone())).unwrap(), addr("0.0.0.0:80"))
        .unwrap();
    binding.listen(4).unwrap();
    let sender = client.connect(addr("10.244.0.3:80")).await.unwrap();
    let receiver = binding.accept().await.unwrap();
    assert_eq!(budget.used(), 2 * SOCKET_BYTES);
    assert_eq!(sender.try_write(vec![1; PIPE_CAPACITY].into()), Ok(PIPE_CAPACITY));
    assert_eq!(budget.used(), 2 * SOCKET_BYTES + PIPE_CAPACITY - PIPE_FLOOR);
    sender.shutdown_write();
    assert_eq!(read_all(&receiver).await.len(), PIPE_CAPACITY);
    assert_eq!(budget.used(), 2 * SOCKET_BYTES);
    drop((sender, receiver, binding));
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_receiver_without_memory_slows_its_sender_and_loses_nothing() {
    let fabric = fabric();
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    let budget = Budget::of(2 * SOCKET_BYTES);
    let binding = server
        .bind_with(server.claim(Some(budget.clone())).unwrap(), addr("0.0.0.0:80"))
        .unwrap();
    binding.listen(4).unwrap();
    let sender = client.connect(addr("10.244.0.3:80")).await.unwrap();
    let receiver = binding.accept().await.unwrap();
    let data = Bytes::from((0..100_000u32).map(|n| n as u8).collect::<Vec<_>>());
    let mut rest = data.clone();
    assert_eq!(sender.try_write(rest.clone()), Ok(PIPE_FLOOR));
    rest = rest.slice(PIPE_FLOOR..);
    let sending = tokio::spawn(async move {
        while !rest.is_empty() {
            sender.writable().await;
            let n = sender.try_write(rest.clone()).unwrap();
            assert!(n > 0, "writable means that a write takes something");
            rest = rest.slice(n..);
        }
    });
    assert!(read_all(&receiver).await == data);
    sending.await.unwrap();
}

#[tokio::test]
async fn a_socket_that_its_account_cannot_pay_is_refused() {
    let fabric = fabric();
    let pod = pod(&fabric, 2);
    assert_eq!(
        pod.claim(Some(Budget::of(SOCKET_BYTES - 1))).unwrap_err(),
        NetError::OutOfMemory
    );
    assert_eq!(pod.sockets(), 0);
}

#[tokio::test]
async fn datagrams_are_charged_while_they_wait() {
    let fabric = fabric();
    let (client, server) = (pod(&fabric, 2), pod(&fabric, 3));
    let budget = Budget::of(SOCKET_BYTES + 2000);
    let receiver = server
        .bind_udp_with(server.claim(Some(budget.clone())).unwrap(), addr("0.0.0.0:53"))
        .unwrap();
    let sender = client.bind_udp(addr("0.0.0.0:0")).unwrap();
    for _ in 0..3 {
        sender
            .send(Bytes::from_static(&[0; 900]), Some(addr("10.244.0.3:53")))
            .unwrap();
    }
    assert!(budget.used() > SOCKET_BYTES);
    let arrived = std::iter::from_fn(|| receiver.try_recv().unwrap()).count();
    assert_eq!(
        (arrived, budget.used()),
        (1, SOCKET_BYTES),
        "the second and third found no memory"
    );
    sender
        .send(Bytes::from_static(b"left behind"), Some(addr("10.244.0.3:53")))
        .unwrap();
    drop(receiver);
    assert_eq!(budget.used(), 0);
}
