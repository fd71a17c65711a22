//! What the program holds of the host, by kind, so that any call can be made on anything of its kind.

use crate::bindings::coracle::process::streams::{Sink, Source};
use crate::program::Step;
use wasip2::filesystem::types::{Descriptor, DirectoryEntryStream};
use wasip2::http::types as http;
use wasip2::io::error::Error;
use wasip2::io::poll::Pollable;
use wasip2::io::streams::{InputStream, OutputStream};
use wasip2::sockets::ip_name_lookup::ResolveAddressStream;
use wasip2::sockets::tcp::TcpSocket;
use wasip2::sockets::udp::{IncomingDatagramStream, OutgoingDatagramStream, UdpSocket};

/// Things of one kind. One that is full gives up another for a new one.
pub struct Pool<T> {
    items: Vec<T>,
    room: usize,
}

impl<T> Pool<T> {
    fn new(room: usize) -> Self {
        Self {
            items: Vec::new(),
            room,
        }
    }

    pub fn put(&mut self, item: T) {
        if self.items.len() >= self.room {
            // The youngest: what depends on others is younger than they.
            self.items.pop();
        }
        self.items.push(item);
    }

    pub fn pick(&self, p: &mut Step) -> Option<&T> {
        match self.items.len() {
            0 => None,
            count => self.items.get(p.below(count)),
        }
    }

    pub fn take(&mut self, p: &mut Step) -> Option<T> {
        match self.items.len() {
            0 => None,
            count => Some(self.items.swap_remove(p.below(count))),
        }
    }
}

/// All pools. The order of the fields is that in which they are given up at the end: what depends on others comes first.
pub struct Held {
    pub pollables: Pool<Pollable>,
    pub errors: Pool<Error>,
    pub sources: Pool<Source>,
    pub sinks: Pool<Sink>,
    pub inputs: Pool<InputStream>,
    pub outputs: Pool<OutputStream>,
    pub listings: Pool<DirectoryEntryStream>,
    pub descriptors: Pool<Descriptor>,
    pub lookups: Pool<ResolveAddressStream>,
    pub arriving: Pool<IncomingDatagramStream>,
    pub leaving: Pool<OutgoingDatagramStream>,
    pub udp: Pool<UdpSocket>,
    pub tcp: Pool<TcpSocket>,
    pub trailers: Pool<http::FutureTrailers>,
    pub incoming_bodies: Pool<http::IncomingBody>,
    pub responses: Pool<http::IncomingResponse>,
    pub answers: Pool<http::FutureIncomingResponse>,
    pub outgoing_bodies: Pool<http::OutgoingBody>,
    pub requests: Pool<http::OutgoingRequest>,
    pub replies: Pool<http::OutgoingResponse>,
    pub options: Pool<http::RequestOptions>,
    pub fields: Pool<http::Fields>,
    pub children: Pool<u32>,
    /// Answers that were no errors: where there are none, nothing was tried.
    pub good: u64,
}

impl Held {
    /// The program says how much it is going to hoard.
    pub fn new(p: &mut Step) -> Self {
        let room = [16, 64, 10_000][p.below(3)];
        Self {
            pollables: Pool::new(room),
            errors: Pool::new(room),
            sources: Pool::new(room),
            sinks: Pool::new(room),
            inputs: Pool::new(room),
            outputs: Pool::new(room),
            listings: Pool::new(room),
            descriptors: Pool::new(room),
            lookups: Pool::new(room),
            arriving: Pool::new(room),
            leaving: Pool::new(room),
            udp: Pool::new(room),
            tcp: Pool::new(room),
            trailers: Pool::new(room),
            incoming_bodies: Pool::new(room),
            responses: Pool::new(room),
            answers: Pool::new(room),
            outgoing_bodies: Pool::new(room),
            requests: Pool::new(room),
            replies: Pool::new(room),
            options: Pool::new(room),
            fields: Pool::new(room),
            children: Pool::new(room),
            good: 0,
        }
    }

    /// Counts an answer, and hands it on if it is none of the errors.
    pub fn good<T, E>(&mut self, answer: Result<T, E>) -> Option<T> {
        self.good += u64::from(answer.is_ok());
        answer.ok()
    }
}
