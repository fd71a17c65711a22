//! A listener's queue: who connects, who accepts, and its end.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::FutureExt;
use network::{Binding, Conn, Connecting, NetError, SOCKET_BYTES, TryRead};

use crate::threads::{in_every_order, in_most_orders, spawn, told, told_and_looking, wait_for};
use crate::world::{AT, Purse, World};

/// Pays for a listening socket and two connections.
const SOCKETS: usize = 3 * SOCKET_BYTES;

/// Accepts as the only acceptor: who is told of a connection finds it.
fn accept(binding: &Binding) -> Result<Conn, NetError> {
    told(|cx| binding.poll_acceptable(cx));
    Ok(binding.try_accept()?.expect("told of a connection that is not there"))
}

fn connect(world: &World) -> Result<Conn, NetError> {
    wait_for(world.client.connect(AT.into()))
}

/// A connect that has begun to wait at a full backlog.
fn waiting(world: &World) -> Connecting {
    let mut connecting = world.client.connect(AT.into());
    assert!((&mut connecting).now_or_never().is_none(), "there was room");
    connecting
}

/// What a client learns that neither reads nor is sent anything: that its connection is broken.
fn is_broken(client: &Conn) -> bool {
    wait_for(client.readable());
    matches!(client.try_read(9), Ok(TryRead::End) | Err(NetError::ConnectionReset))
}

#[test]
fn a_connection_is_accepted_with_what_the_client_sent() {
    in_every_order(|| {
        let (world, purse) = (World::new(), Purse::of(SOCKETS));
        let binding = world.listening(1, &purse);
        let client = spawn({
            let world = world.clone();
            move || {
                let client = connect(&world).unwrap();
                assert_eq!(client.try_write(Bytes::from_static(b"hello")), Ok(5));
                client
            }
        });
        let server = accept(&binding).unwrap();
        told(|cx| server.poll_readable(cx));
        assert_eq!(server.try_read(9), Ok(TryRead::Data(Bytes::from_static(b"hello"))));
        drop((binding, server));
        assert!(is_broken(&client.join().unwrap()));
        purse.is_as_at_first();
    });
}

#[test]
fn each_of_two_acceptors_gets_its_connection() {
    in_most_orders(|| {
        let (world, purse) = (World::new(), Purse::of(SOCKETS));
        let binding = Arc::new(world.listening(2, &purse));
        let acceptors =
            [binding.clone(), binding].map(|binding| spawn(move || wait_for(binding.accept()).unwrap().peer_addr()));
        let clients = [connect(&world).unwrap(), connect(&world).unwrap()];
        let mut accepted = acceptors.map(|acceptor| acceptor.join().unwrap());
        accepted.sort();
        assert_eq!(accepted, clients.map(|client| client.local_addr()));
    });
}

#[test]
fn a_connect_to_a_listener_that_closes_is_refused_or_broken() {
    in_every_order(|| {
        let (world, purse) = (World::new(), Purse::of(SOCKETS));
        let binding = world.listening(1, &purse);
        let client = spawn({
            let world = world.clone();
            move || match connect(&world) {
                Ok(client) => assert!(is_broken(&client)),
                Err(error) => assert_eq!(error, NetError::ConnectionRefused),
            }
        });
        drop(binding);
        client.join().unwrap();
        purse.is_as_at_first();
    });
}

#[test]
fn an_acceptor_of_a_removed_pod_is_told_and_its_connection_breaks() {
    in_most_orders(|| {
        let (world, purse) = (World::new(), Purse::of(SOCKETS));
        let binding = world.listening(1, &purse);
        let client = spawn({
            let world = world.clone();
            move || match connect(&world) {
                Ok(client) => assert!(is_broken(&client)),
                Err(error) => assert!(
                    [NetError::ConnectionRefused, NetError::HostUnreachable].contains(&error),
                    "{error:?}"
                ),
            }
        });
        let acceptor = spawn(move || match wait_for(binding.accept()) {
            Ok(server) => assert!(is_broken(&server)),
            Err(error) => assert_eq!(error, NetError::NetworkDown),
        });
        world.remove_server();
        acceptor.join().unwrap();
        client.join().unwrap();
        purse.is_as_at_first();
    });
}

/// One connect waits behind another, and perhaps behind what `before` left: it is the next that is accepted.
fn who_waits_is_admitted(before: fn(&World)) {
    in_every_order(move || {
        let (world, purse) = (World::new(), Purse::of(SOCKETS));
        let binding = world.listening(1, &purse);
        let first = connect(&world).unwrap();
        before(&world);
        let second = spawn({
            let world = world.clone();
            move || connect(&world).unwrap()
        });
        let accepted = [accept(&binding).unwrap(), accept(&binding).unwrap()];
        let clients = [first, second.join().unwrap()];
        assert_eq!(
            accepted.each_ref().map(Conn::peer_addr),
            clients.each_ref().map(Conn::local_addr)
        );
        drop((accepted, binding));
        purse.is_as_at_first();
    });
}

#[test]
fn a_connect_that_waits_is_admitted_when_one_is_accepted() {
    who_waits_is_admitted(|_| {});
}

#[test]
fn who_has_given_up_takes_no_place_from_who_waits() {
    who_waits_is_admitted(|world| drop(waiting(world)));
}

#[test]
fn a_connect_that_waits_is_refused_when_the_listener_closes() {
    in_every_order(|| {
        let (world, purse) = (World::new(), Purse::of(SOCKETS));
        let binding = world.listening(1, &purse);
        let first = connect(&world).unwrap();
        let second = spawn({
            let world = world.clone();
            move || connect(&world).map(|_| ()).unwrap_err()
        });
        drop(binding);
        assert_eq!(second.join().unwrap(), NetError::ConnectionRefused);
        assert!(is_broken(&first));
        purse.is_as_at_first();
    });
}

#[test]
fn a_connect_that_gives_up_leaves_at_most_a_connection_that_has_ended() {
    in_every_order(|| {
        let (world, purse) = (World::new(), Purse::of(SOCKETS));
        let binding = world.listening(1, &purse);
        let first = connect(&world).unwrap();
        let second = waiting(&world);
        let quitter = spawn(move || drop(second));
        assert_eq!(accept(&binding).unwrap().peer_addr(), first.local_addr());
        if let Some(server) = binding.try_accept().unwrap() {
            quitter.join().unwrap();
            assert_eq!(server.try_read(9), Ok(TryRead::End));
        } else {
            quitter.join().unwrap();
        }
        assert_eq!(world.client.sockets(), 1);
        drop(binding);
        purse.is_as_at_first();
    });
}

#[test]
fn a_longer_backlog_admits_who_waits_before_who_comes_now() {
    in_every_order(|| {
        let (world, purse) = (World::new(), Purse::of(SOCKETS + SOCKET_BYTES));
        let binding = world.listening(1, &purse);
        let first = connect(&world).unwrap();
        let second = waiting(&world);
        let third = spawn({
            let world = world.clone();
            // Admitted at once or never: here it is not waited for.
            move || {
                let mut third = world.client.connect(AT.into());
                let outcome = wait_for(poll_fn(|cx| match third.poll_unpin(cx) {
                    Poll::Ready(outcome) => Poll::Ready(Some(outcome.unwrap())),
                    Poll::Pending => Poll::Ready(None),
                }));
                (third, outcome)
            }
        });
        binding.listen(2).unwrap();
        let second = wait_for(second).unwrap();
        let _third = third.join().unwrap();
        for client in [&first, &second] {
            assert_eq!(accept(&binding).unwrap().peer_addr(), client.local_addr());
        }
    });
}

#[test]
fn no_lock_is_held_while_acceptors_are_woken() {
    in_every_order(|| {
        let (world, purse) = (World::new(), Purse::of(SOCKETS));
        let binding = Arc::new(world.listening(1, &purse));
        let acceptor = spawn(move || {
            let looking = binding.clone();
            let look = move || {
                let _ = looking.poll_acceptable(&mut Context::from_waker(Waker::noop()));
            };
            told_and_looking(look.clone(), |cx| binding.poll_acceptable(cx));
            drop(binding.try_accept());
            told_and_looking(look, |cx| binding.poll_acceptable(cx));
        });
        let client = connect(&world).unwrap();
        world.remove_server();
        acceptor.join().unwrap();
        drop(client);
    });
}
