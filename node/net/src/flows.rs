//! What a pod's connections did: counters, and a log of the last ones that can be followed.
//!
//! Each record has a number; who follows asks for those after the last that it has seen, and is told how many are gone.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::SystemTime;

use tokio::sync::watch;

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::{NetError, Protocol};

/// Records that a pod's log holds, some 12 KiB: what happens between two looks of somebody who follows, at thousands of
/// connections a second.
const RECORDS: usize = 128;

/// Who began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The pod.
    Outbound,
    /// Somebody else.
    Inbound,
}

/// What happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowEvent {
    /// It was established.
    Opened,
    /// It has ended on the pod's side.
    Closed {
        /// Bytes that the pod sent.
        sent: u64,
        /// Bytes that were sent to it.
        received: u64,
    },
    /// It was not made, or a datagram was not let through.
    Failed(NetError),
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowRecord {
    /// Its number, from 1.
    pub number: u64,
    /// When.
    pub at: SystemTime,
    /// What happened.
    pub event: FlowEvent,
    /// Who began.
    pub direction: Direction,
    /// Streams or datagrams.
    pub protocol: Protocol,
    /// The pod's own address; none where it had none yet.
    pub local: Option<SocketAddr>,
    /// The other's, as the pod sees it.
    pub peer: SocketAddr,
}

/// What a pod's network has done since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlowCounts {
    /// Connections that the pod made.
    pub opened_outbound: u64,
    /// Connections that it accepted.
    pub opened_inbound: u64,
    /// Connections that have ended.
    pub closed: u64,
    /// Connections and datagrams that policies refused.
    pub denied: u64,
    /// Connections that failed for other reasons.
    pub failed: u64,
    /// Bytes sent over connections that have ended.
    pub bytes_sent: u64,
    /// Bytes received over them.
    pub bytes_received: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Datagrams that arrived.
    pub datagrams_received: u64,
}

/// The end of one connection that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) direction: Direction,
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
}

/// A pod's log.
#[derive(Debug)]
pub(crate) struct FlowLog {
    state: Mutex<State>,
    last: watch::Sender<u64>,
    datagrams_sent: AtomicU64,
    datagrams_received: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    counts: FlowCounts,
    records: VecDeque<FlowRecord>,
}

impl Default for FlowLog {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            last: watch::Sender::new(0),
            datagrams_sent: AtomicU64::new(0),
            datagrams_received: AtomicU64::new(0),
        }
    }
}

impl FlowLog {
    pub(crate) fn opened(&self, flow: Flow) {
        self.add(
            flow.direction,
            Protocol::Tcp,
            Some(flow.local),
            flow.peer,
            FlowEvent::Opened,
        );
    }

    pub(crate) fn closed(&self, flow: Flow, sent: u64, received: u64) {
        let event = FlowEvent::Closed { sent, received };
        self.add(flow.direction, Protocol::Tcp, Some(flow.local), flow.peer, event);
    }

    /// The pod could not begin to talk to `peer`.
    pub(crate) fn failed(&self, protocol: Protocol, peer: SocketAddr, error: NetError) {
        self.add(Direction::Outbound, protocol, None, peer, FlowEvent::Failed(error));
    }

    pub(crate) fn datagram_sent(&self) {
        self.datagrams_sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn datagram_received(&self) {
        self.datagrams_received.fetch_add(1, Ordering::Relaxed);
    }

    fn add(
        &self,
        direction: Direction,
        protocol: Protocol,
        local: Option<SocketAddr>,
        peer: SocketAddr,
        event: FlowEvent,
    ) {
        let at = SystemTime::now();
        let mut state = self.state.lock();
        let counts = &mut state.counts;
        match (event, direction) {
            (FlowEvent::Opened, Direction::Outbound) => counts.opened_outbound += 1,
            (FlowEvent::Opened, Direction::Inbound) => counts.opened_inbound += 1,
            (FlowEvent::Failed(NetError::Denied), _) => counts.denied += 1,
            (FlowEvent::Failed(_), _) => counts.failed += 1,
            (FlowEvent::Closed { sent, received }, _) => {
                counts.closed += 1;
                counts.bytes_sent += sent;
                counts.bytes_received += received;
            }
        }
        if state.records.len() == RECORDS {
            state.records.pop_front();
        }
        let number = *self.last.borrow() + 1;
        state.records.push_back(FlowRecord {
            number,
            at,
            event,
            direction,
            protocol,
            local,
            peer,
        });
        // Under the lock, so that numbers are told in their order.
        self.last.send_replace(number);
    }

    pub(crate) fn counts(&self) -> FlowCounts {
        FlowCounts {
            datagrams_sent: self.datagrams_sent.load(Ordering::Relaxed),
            datagrams_received: self.datagrams_received.load(Ordering::Relaxed),
            ..self.state.lock().counts
        }
    }

    /// The records after a number that are still held, the oldest first.
    pub(crate) fn after(&self, number: u64) -> Vec<FlowRecord> {
        let state = self.state.lock();
        let later = state.records.iter().filter(|record| record.number > number);
        later.cloned().collect()
    }

    /// The number of the last record, and each that follows.
    pub(crate) fn last(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}
