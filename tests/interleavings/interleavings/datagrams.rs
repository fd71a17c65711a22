//! A UDP port's mailbox: who sends, who receives, and its end.

use std::sync::Arc;

use bytes::Bytes;
use network::{NetError, SOCKET_BYTES, UdpBinding};

use crate::threads::{in_every_order, in_most_orders, spawn, told, told_and_looking, wait_for};
use crate::world::{AT, Purse, World};

/// Room for both datagrams of a model.
const BUDGET: usize = SOCKET_BYTES + 1_000;

fn datagram(number: u8) -> Bytes {
    vec![number; 100].into()
}

fn send(from: &UdpBinding, number: u8) {
    from.send(datagram(number), Some(AT.into())).unwrap();
}

/// Receives as the only receiver: who is told of a datagram finds it.
fn receive(at: &UdpBinding) -> Result<Bytes, NetError> {
    told(|cx| at.poll_readable(cx));
    let (data, _) = at.try_recv()?.expect("told of a datagram that is not there");
    Ok(data)
}

#[test]
fn datagrams_of_one_sender_arrive_in_order_and_once() {
    in_every_order(|| {
        let (world, purse) = (World::new(), Purse::of(BUDGET));
        let (client, server) = world.mailboxes(&purse);
        let sender = spawn(move || {
            send(&client, 1);
            send(&client, 2);
            client
        });
        assert_eq!(receive(&server), Ok(datagram(1)));
        assert_eq!(receive(&server), Ok(datagram(2)));
        drop(sender.join().unwrap());
        assert_eq!(server.try_recv(), Ok(None));
        drop(server);
        purse.is_as_at_first();
    });
}

#[test]
fn each_of_two_receivers_gets_its_datagram() {
    in_most_orders(|| {
        let (world, purse) = (World::new(), Purse::of(BUDGET));
        let (client, server) = world.mailboxes(&purse);
        let server = Arc::new(server);
        let receivers = [server.clone(), server].map(|server| spawn(move || wait_for(server.recv()).unwrap().0));
        send(&client, 1);
        send(&client, 2);
        let mut received = receivers.map(|receiver| receiver.join().unwrap());
        received.sort();
        assert_eq!(received, [datagram(1), datagram(2)]);
        purse.is_as_at_first();
    });
}

#[test]
fn a_receiver_of_a_removed_pod_is_told_and_what_waits_is_paid_back() {
    in_every_order(|| {
        let (world, purse) = (World::new(), Purse::of(BUDGET));
        let (client, server) = world.mailboxes(&purse);
        let receiver = spawn(move || {
            let first = receive(&server);
            let second = first.clone().and_then(|_| receive(&server));
            (first, second)
        });
        let sender = spawn(move || {
            // Lost, where there is no pod any more, or no route there.
            let _ = client.send(datagram(1), Some(AT.into()));
        });
        world.remove_server();
        let (first, second) = receiver.join().unwrap();
        assert!(
            first == Ok(datagram(1)) || first == Err(NetError::NetworkDown),
            "{first:?}"
        );
        assert_eq!(second, Err(NetError::NetworkDown));
        sender.join().unwrap();
        purse.is_as_at_first();
    });
}

#[test]
fn a_datagram_for_a_port_that_closes_costs_nobody_anything() {
    in_every_order(|| {
        let (world, purse) = (World::new(), Purse::of(BUDGET));
        let (client, server) = world.mailboxes(&purse);
        let sender = spawn(move || send(&client, 1));
        drop(server);
        sender.join().unwrap();
        purse.is_as_at_first();
    });
}

#[test]
fn no_lock_is_held_while_receivers_are_woken() {
    in_every_order(|| {
        let (world, purse) = (World::new(), Purse::of(BUDGET));
        let (client, server) = world.mailboxes(&purse);
        let server = Arc::new(server);
        let receiver = spawn(move || {
            let looking = server.clone();
            let look = move || {
                let _ = looking.peer();
            };
            told_and_looking(look.clone(), |cx| server.poll_readable(cx));
            server.try_recv().unwrap().unwrap();
            told_and_looking(look, |cx| server.poll_readable(cx));
        });
        send(&client, 1);
        world.remove_server();
        receiver.join().unwrap();
    });
}
