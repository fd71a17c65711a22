//! Looking at a pod's traffic: its flow log, and captures of its packets.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use super::PodNet;
use crate::NetError;
use crate::capture::{Packet, Tap};
use crate::flows::{Direction, FlowCounts, FlowRecord};
use crate::stream::Link;

impl PodNet {
    /// What the pod's network has done since it began.
    pub fn flow_counts(&self) -> FlowCounts {
        self.flows.counts()
    }

    /// The records of the flow log after a number that are still held, the oldest first.
    pub fn flows_after(&self, number: u64) -> Vec<FlowRecord> {
        self.flows.after(number)
    }

    /// The number of the last record of the flow log, and each that follows.
    pub fn last_flow(&self) -> watch::Receiver<u64> {
        self.flows.last()
    }

    /// Takes the packets that the pod's interface has carried since the last call, waiting for the first; and how many were
    /// lost because nobody took them. The first call begins the capture, which ends when no call comes for half a minute.
    ///
    /// # Errors
    /// [`NetError::NetworkDown`] once the pod has been removed.
    pub async fn capture(&self) -> Result<(Vec<Packet>, u64), NetError> {
        let tap = self.begin_capture()?;
        let mut news = tap.news();
        loop {
            let (packets, lost) = tap.take();
            if !packets.is_empty() || lost > 0 {
                return Ok((packets, lost));
            }
            if tap.is_over() || news.changed().await.is_err() {
                return Err(NetError::NetworkDown);
            }
        }
    }

    /// Begins a capture, or goes on with the one under way: what passes from now on is what the next
    /// [`PodNet::capture`] takes.
    ///
    /// # Errors
    /// [`NetError::NetworkDown`] once the pod has been removed.
    pub fn start_capture(&self) -> Result<(), NetError> {
        self.begin_capture().map(drop)
    }

    fn begin_capture(&self) -> Result<Arc<Tap>, NetError> {
        if let Some(tap) = self.tap() {
            return Ok(tap);
        }
        let tap = Tap::new();
        let tables = self.tables.lock();
        if tables.removed {
            return Err(NetError::NetworkDown);
        }
        // Under the lock, so that no connection begins between the two.
        self.tap.store(Some(tap.clone()));
        for held in tables.links.values() {
            let flow = held.flow;
            let (client, server) = match flow.direction {
                Direction::Outbound => (flow.local, flow.peer),
                Direction::Inbound => (flow.peer, flow.local),
            };
            held.link.taps.add(tap.clone(), client, server, false);
        }
        Ok(tap)
    }

    /// Ends the capture.
    pub fn end_capture(&self) {
        if let Some(tap) = self.tap.swap(None) {
            tap.end();
        }
    }

    /// The capture under way.
    pub(super) fn tap(&self) -> Option<Arc<Tap>> {
        let tap = self.tap.load();
        let tap = tap.as_ref()?;
        if tap.is_over() {
            self.tap.store(None);
            return None;
        }
        Some(tap.clone())
    }

    /// A connection to the pod begins.
    pub(crate) fn arrives(&self, link: &Link, client: SocketAddr, server: SocketAddr) {
        if let Some(tap) = self.tap() {
            link.taps.add(tap, client, server, true);
        }
    }

    /// The pod sends a datagram.
    pub(crate) fn sends(&self, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        self.flows.datagram_sent();
        if let Some(tap) = self.tap() {
            tap.datagram(from, to, data);
        }
    }

    /// A datagram arrives at the pod.
    pub(crate) fn receives(&self, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        self.flows.datagram_received();
        if let Some(tap) = self.tap() {
            tap.datagram(from, to, data);
        }
    }
}
