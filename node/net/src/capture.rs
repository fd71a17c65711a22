//! A pod's virtual interface, packet by packet: what the queues carry is written as the packets that a wire would have
//! carried, for Wireshark and its like.
//!
//! A capture holds what nobody has fetched yet, up to a limit beyond which packets are counted as lost, and ends by itself
//! when nobody fetches any more. Connections that are not captured pay for it by one look at a flag.

mod packet;
pub mod pcapng;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::watch;

use crate::stream::Side;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use packet::{Segment, flags};

/// Bytes of packets that wait to be fetched: a second of a busy pod.
const HELD_BYTES: usize = 16 * 1024 * 1024;

/// How long a capture goes on that nobody fetches.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// Payload of one TCP packet: as much as an IPv4 packet holds, rounded down. Nothing is cut into smaller parts in memory.
const SEGMENT_BYTES: usize = 60_000;

/// Captures of one connection at a time: one of each of its two pods.
const CAPTURES: usize = 2;

/// One packet with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// When.
    pub at: SystemTime,
    /// The packet, from its IP header.
    pub data: Bytes,
}

/// A capture under way.
#[derive(Debug)]
pub(crate) struct Tap {
    state: Mutex<State>,
    news: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    packets: VecDeque<Packet>,
    bytes: usize,
    total: u64,
    lost: u64,
    fetched: Instant,
    over: bool,
}

impl Tap {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                packets: VecDeque::new(),
                bytes: 0,
                total: 0,
                lost: 0,
                fetched: Instant::now(),
                over: false,
            }),
            news: watch::Sender::new(0),
        })
    }

    /// Takes what has been captured, and how many packets were lost since the last time.
    pub(crate) fn take(&self) -> (Vec<Packet>, u64) {
        let mut state = self.state.lock();
        state.fetched = Instant::now();
        state.bytes = 0;
        let lost = std::mem::take(&mut state.lost);
        (std::mem::take(&mut state.packets).into(), lost)
    }

    /// Changes whenever there is something to take.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.state.lock().over
    }

    /// Ends it.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        state.over = true;
        state.packets.clear();
        drop(state);
        self.news.send_modify(|_| {});
    }

    fn add(&self, packet: Vec<u8>) {
        let mut state = self.state.lock();
        if state.over {
            return;
        }
        if state.fetched.elapsed() > FORGOTTEN {
            state.over = true;
            state.packets.clear();
            return;
        }
        if state.bytes + packet.len() > HELD_BYTES {
            state.lost += 1;
            return;
        }
        state.bytes += packet.len();
        state.total += 1;
        let total = state.total;
        state.packets.push_back(Packet {
            at: SystemTime::now(),
            data: packet.into(),
        });
        drop(state);
        self.news.send_replace(total);
    }

    /// A datagram that passes the interface.
    pub(crate) fn datagram(&self, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        self.add(packet::udp(from, to, data));
    }
}

/// The captures of one connection.
#[derive(Debug, Default)]
pub(crate) struct Taps {
    any: AtomicBool,
    taps: Mutex<Vec<LinkTap>>,
}

/// A connection as one capture sees it.
#[derive(Debug)]
struct LinkTap {
    tap: Arc<Tap>,
    client: SocketAddr,
    server: SocketAddr,
    /// The next sequence numbers of the client and of the server.
    next: [u32; 2],
    ended: [bool; 2],
}

impl Taps {
    /// Whether anybody captures; all that the others pay.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Captures from now on; a connection that has only begun shows its handshake.
    pub(crate) fn add(&self, tap: Arc<Tap>, client: SocketAddr, server: SocketAddr, new: bool) {
        let mut taps = self.taps.lock();
        taps.retain(|other| !other.tap.is_over());
        if taps.len() >= CAPTURES || taps.iter().any(|other| Arc::ptr_eq(&other.tap, &tap)) {
            return;
        }
        let mut of_link = LinkTap {
            tap,
            client,
            server,
            next: [0, 0],
            ended: [false, false],
        };
        if new {
            of_link.send(Side::Client, flags::SYN, &[]);
            of_link.send(Side::Server, flags::SYN | flags::ACK, &[]);
            of_link.send(Side::Client, flags::ACK, &[]);
        } else {
            of_link.next = [1, 1];
        }
        taps.push(of_link);
        self.any.store(true, Ordering::Relaxed);
    }

    /// What one side has sent.
    pub(crate) fn data(&self, from: Side, data: &[u8]) {
        for tap in self.taps.lock().iter_mut() {
            for part in data.chunks(SEGMENT_BYTES) {
                tap.send(from, flags::ACK | flags::PSH, part);
            }
        }
    }

    /// One side sends no more.
    pub(crate) fn end(&self, from: Side) {
        for tap in self.taps.lock().iter_mut() {
            tap.end(from);
        }
    }

    /// The connection is broken.
    pub(crate) fn reset(&self) {
        for tap in self.taps.lock().iter_mut() {
            if tap.ended != [true, true] {
                tap.send(Side::Server, flags::ACK | flags::RST, &[]);
                tap.ended = [true, true];
            }
        }
    }
}

impl LinkTap {
    fn end(&mut self, from: Side) {
        let [client, server] = &mut self.ended;
        let ended = if from == Side::Client { client } else { server };
        if !std::mem::replace(ended, true) {
            self.send(from, flags::ACK | flags::FIN, &[]);
        }
    }

    fn send(&mut self, from: Side, flags: u8, data: &[u8]) {
        let [of_client, of_server] = &mut self.next;
        let (source, destination, next, acknowledged) = match from {
            Side::Client => (self.client, self.server, of_client, *of_server),
            Side::Server => (self.server, self.client, of_server, *of_client),
        };
        let segment = Segment {
            from: source,
            to: destination,
            sequence: *next,
            acknowledged: if flags & flags::ACK == 0 { 0 } else { acknowledged },
            flags,
            data,
        };
        self.tap.add(packet::tcp(&segment));
        let counted = u32::from(flags & (flags::SYN | flags::FIN) != 0);
        let length = u32::try_from(data.len()).unwrap_or_default();
        *next = next.wrapping_add(length).wrapping_add(counted);
    }
}
