//! One direction of a connection: its bytes, its ends, and who waits at it.
//!
//! The server's account decides how much its pipe holds: [`network::PIPE_FLOOR`] bytes where it pays for sockets alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};

use bytes::Bytes;
use network::{Conn, MemoryCharge, NetError, PIPE_FLOOR, SOCKET_BYTES, Stream, TryRead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::threads::{in_every_order, in_most_orders, spawn, told, told_and_looking, wait_for, wait_once};
use crate::world::{Purse, World};

/// Pays for the listening socket and for the connection, and for no window beyond its floor.
const SOCKETS: usize = 2 * SOCKET_BYTES;

/// By how much a window grows at first.
const STEP: usize = 64 * 1024 - PIPE_FLOOR;

/// A connection whose server has a small window.
fn narrow() -> (World, Arc<Purse>, Arc<Conn>, Arc<Conn>) {
    let (world, purse) = (World::new(), Purse::of(SOCKETS));
    let (client, server) = world.connected(&purse);
    (world, purse, Arc::new(client), Arc::new(server))
}

fn text(len: usize) -> Bytes {
    (0..len).map(|n| (n % 251) as u8).collect()
}

/// Reads as the only reader: who is told that there is something finds it.
fn read(conn: &Conn, max: usize) -> Result<TryRead, NetError> {
    match conn.try_read(max)? {
        TryRead::Empty => {
            told(|cx| conn.poll_readable(cx));
            let found = conn.try_read(max)?;
            assert_ne!(found, TryRead::Empty, "told of bytes that are not there");
            Ok(found)
        }
        found => Ok(found),
    }
}

/// Writes all of `data` as the only writer: who is told that there is room finds some.
fn write(conn: &Conn, mut data: Bytes) -> Result<(), NetError> {
    while !data.is_empty() {
        let mut taken = conn.try_write(data.clone())?;
        if taken == 0 {
            told(|cx| conn.poll_writable(cx));
            taken = conn.try_write(data.clone())?;
            assert_ne!(taken, 0, "told of room that is not there");
        }
        data = data.slice(taken..);
    }
    Ok(())
}

/// Fills the pipe.
fn fill(conn: &Conn) {
    assert_eq!(conn.try_write(text(PIPE_FLOOR)), Ok(PIPE_FLOOR));
    assert_eq!(conn.try_write(text(1)), Ok(0));
}

#[test]
fn bytes_arrive_in_order_and_once_and_the_end_after_the_last() {
    in_most_orders(|| {
        let (_world, _purse, client, server) = narrow();
        let sent = text(PIPE_FLOOR + 2_500);
        let writer = spawn({
            let sent = sent.clone();
            move || {
                write(&client, sent.slice(..3_000)).unwrap();
                // Small ones, which share a block.
                write(&client, sent.slice(3_000..4_000)).unwrap();
                write(&client, sent.slice(4_000..)).unwrap();
                client.shutdown_write();
                client
            }
        });
        let mut received = Vec::new();
        while let TryRead::Data(data) = read(&server, 2_200).unwrap() {
            received.extend_from_slice(&data);
        }
        assert!(
            received == sent,
            "{} of {} bytes, or others",
            received.len(),
            sent.len()
        );
        drop(writer.join().unwrap());
    });
}

#[test]
fn a_stream_of_tokio_carries_the_same_bytes() {
    in_most_orders(|| {
        let (_world, _purse, client, server) = narrow();
        let mut client = Stream::from(Arc::into_inner(client).unwrap());
        let mut server = Stream::from(Arc::into_inner(server).unwrap());
        let sent = text(2 * PIPE_FLOOR);
        let writer = spawn({
            let sent = sent.clone();
            move || {
                wait_for(async {
                    client.write_all(&sent).await.unwrap();
                    client.shutdown().await.unwrap();
                });
                client
            }
        });
        let mut received = Vec::new();
        wait_for(server.read_to_end(&mut received)).unwrap();
        assert!(
            received == sent,
            "{} of {} bytes, or others",
            received.len(),
            sent.len()
        );
        drop(writer.join().unwrap());
    });
}

/// A way for a connection to end, of which the client's end may be dropped.
type Ending = fn(&World, &mut Option<Arc<Conn>>, &Conn);

const CLIENT_FINISHES: Ending = |_, client, _| client.as_ref().unwrap().shutdown_write();
const CLIENT_GOES: Ending = |_, client, _| *client = None;
const CLIENT_RESETS: Ending = |_, client, _| client.as_ref().unwrap().reset();
const SERVER_READS_NO_MORE: Ending = |_, _, server| server.shutdown_read();
const SERVER_IS_REMOVED: Ending = |world, _, _| world.remove_server();

#[test]
fn a_waiting_reader_learns_how_it_ended() {
    let reset = Err(NetError::ConnectionReset);
    for (end, expected) in [
        (CLIENT_FINISHES, Ok(TryRead::End)),
        (CLIENT_GOES, Ok(TryRead::End)),
        (SERVER_READS_NO_MORE, Ok(TryRead::End)),
        (CLIENT_RESETS, reset.clone()),
        (SERVER_IS_REMOVED, reset),
    ] {
        in_every_order(move || {
            let (world, purse, client, server) = narrow();
            let reader = spawn({
                let server = server.clone();
                move || read(&server, 9)
            });
            let mut client = Some(client);
            end(&world, &mut client, &server);
            assert_eq!(reader.join().unwrap(), expected);
            drop((client, server));
            purse.is_as_at_first();
        });
    }
}

#[test]
fn a_waiting_writer_learns_how_it_ended() {
    let broken = Err(NetError::BrokenPipe);
    let reset = Err(NetError::ConnectionReset);
    for (end, expected) in [
        (CLIENT_FINISHES, broken),
        (SERVER_READS_NO_MORE, broken),
        (CLIENT_RESETS, reset),
        (SERVER_IS_REMOVED, reset),
    ] {
        in_every_order(move || {
            let (world, purse, client, server) = narrow();
            fill(&client);
            let writer = spawn({
                let client = client.clone();
                move || write(&client, text(9))
            });
            let mut client = Some(client);
            end(&world, &mut client, &server);
            assert_eq!(writer.join().unwrap(), expected);
            drop((client, server));
            purse.is_as_at_first();
        });
    }
}

#[test]
fn what_comes_before_the_end_is_read_or_reset_but_never_cut() {
    for end in [CLIENT_RESETS, SERVER_READS_NO_MORE] {
        in_most_orders(move || {
            let (world, purse, client, server) = narrow();
            let writer = spawn({
                let client = client.clone();
                move || {
                    let written = write(&client, text(3_000)).and_then(|()| write(&client, text(9)));
                    client.shutdown_write();
                    written
                }
            });
            let ended = Arc::new(AtomicBool::new(false));
            let ender = spawn({
                let (ended, server) = (ended.clone(), server.clone());
                let mut client = Some(client);
                move || {
                    ended.store(true, Ordering::Relaxed);
                    end(&world, &mut client, &server);
                    client
                }
            });
            let mut received = 0;
            let outcome = loop {
                match read(&server, 2_000) {
                    Ok(TryRead::Data(data)) => received += data.len(),
                    other => break other,
                }
            };
            let ended = ended.load(Ordering::Relaxed);
            match outcome {
                Ok(_) => assert!(received == 3_009 || ended, "an end after {received} bytes"),
                Err(error) => assert_eq!((error, ended), (NetError::ConnectionReset, true)),
            }
            drop((writer.join().unwrap(), ender.join().unwrap(), server));
            purse.is_as_at_first();
        });
    }
}

#[test]
fn two_readers_share_what_comes_and_both_see_the_end() {
    in_most_orders(|| {
        let (_world, _purse, client, server) = narrow();
        let readers = [server.clone(), server].map(|server| {
            spawn(move || {
                let mut received = 0;
                loop {
                    match server.try_read(usize::MAX).unwrap() {
                        TryRead::Data(data) => received += data.len(),
                        // In vain where the other was faster.
                        TryRead::Empty => wait_for(server.readable()),
                        TryRead::End => return received,
                    }
                }
            })
        });
        write(&client, text(7)).unwrap();
        write(&client, text(2_500)).unwrap();
        client.shutdown_write();
        let received = readers.map(|reader| reader.join().unwrap());
        assert_eq!(received.iter().sum::<usize>(), 2_507, "{received:?}");
    });
}

#[test]
fn a_parked_writer_finds_half_of_the_window() {
    in_every_order(|| {
        let (_world, purse, client, server) = narrow();
        fill(&client);
        let writer = spawn({
            let client = client.clone();
            move || {
                let mut parked = false;
                told(|cx| {
                    let room = client.poll_writable(cx);
                    parked |= room.is_pending();
                    room
                });
                let taken = client.try_write(text(PIPE_FLOOR)).unwrap();
                assert!(taken > 0 && (!parked || taken >= PIPE_FLOOR / 2), "{taken}");
                taken
            }
        });
        let mut drained = 0;
        while drained < PIPE_FLOOR / 2 {
            let TryRead::Data(data) = server.try_read(1_000).unwrap() else {
                panic!("what was written is gone");
            };
            drained += data.len();
        }
        let mut left = PIPE_FLOOR - drained + writer.join().unwrap();
        while let TryRead::Data(data) = server.try_read(usize::MAX).unwrap() {
            left -= data.len();
        }
        assert_eq!(left, 0);
        drop((client, server));
        purse.is_as_at_first();
    });
}

#[test]
fn of_two_parked_writers_one_at_least_finds_the_room_of_which_both_were_told() {
    in_most_orders(|| {
        let (_world, purse, client, server) = narrow();
        fill(&client);
        let writers = [client.clone(), client].map(|client| {
            spawn(move || {
                wait_once(|cx| client.poll_writable(cx));
                client.try_write(text(PIPE_FLOOR)).unwrap()
            })
        });
        // What was there before, and what one of them writes, without which this waits forever.
        for _ in 0..2 {
            assert_eq!(read(&server, usize::MAX), Ok(TryRead::Data(text(PIPE_FLOOR))));
        }
        let written: usize = writers.map(|writer| writer.join().unwrap()).iter().sum();
        let rest = server.try_read(usize::MAX).unwrap();
        let expected = match written - PIPE_FLOOR {
            0 => TryRead::End,
            rest => TryRead::Data(text(rest)),
        };
        assert_eq!(rest, expected);
        drop(server);
        purse.is_as_at_first();
    });
}

#[test]
fn a_promise_of_room_is_kept_and_paid_whatever_else_takes_the_budget() {
    in_every_order(|| {
        let (world, purse) = (World::new(), Purse::of(SOCKETS + STEP));
        let (client, server) = world.connected(&purse);
        let (client, server) = (Arc::new(client), Arc::new(server));
        assert_eq!(client.try_write(text(9)), Ok(9));
        let reader = spawn({
            let server = server.clone();
            move || server.try_read(9)
        });
        let other = spawn({
            let purse = purse.clone();
            move || purse.empty()
        });
        let promised = client.writable_bytes().unwrap();
        let taken = client.try_write(text(promised)).unwrap();
        assert_eq!(taken, promised);
        assert_eq!(reader.join().unwrap(), Ok(TryRead::Data(text(9))));
        purse.release(other.join().unwrap());
        let unpaid = taken.saturating_sub(PIPE_FLOOR);
        assert!(
            unpaid <= purse.paid() - SOCKET_BYTES,
            "{taken} bytes for {}",
            purse.paid()
        );
        drop((client, server));
        purse.is_as_at_first();
    });
}

#[test]
fn no_lock_is_held_while_readers_are_woken() {
    in_every_order(|| {
        let (_world, _purse, client, server) = narrow();
        let reader = spawn(move || {
            let looking = server.clone();
            let look = move || {
                let _ = looking.try_read(0);
            };
            told_and_looking(look.clone(), |cx| server.poll_readable(cx));
            assert_eq!(server.try_read(9), Ok(TryRead::Data(text(1))));
            told_and_looking(look, |cx| server.poll_readable(cx));
        });
        assert_eq!(client.try_write(text(1)), Ok(1));
        client.shutdown_write();
        reader.join().unwrap();
    });
}

#[test]
fn no_lock_is_held_while_writers_are_woken() {
    in_every_order(|| {
        let (_world, _purse, client, server) = narrow();
        fill(&client);
        let writer = spawn(move || {
            let looking = client.clone();
            let look = move || {
                let _ = looking.poll_writable(&mut Context::from_waker(Waker::noop()));
            };
            told_and_looking(look.clone(), |cx| client.poll_writable(cx));
            let _ = client.try_write(text(PIPE_FLOOR));
            told_and_looking(look, |cx| client.poll_writable(cx));
        });
        assert_eq!(server.try_read(usize::MAX), Ok(TryRead::Data(text(PIPE_FLOOR))));
        server.shutdown_read();
        writer.join().unwrap();
    });
}
