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

/// Things of one kind.
pub struct Pool<T>(Vec<T>);

impl<T> Pool<T> {
    fn new() -> Self {
        Self(Vec::new())
    }

    pub fn put(&mut self, item: T) {
        self.0.push(item);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn pick(&self, p: &mut Step) -> Option<&T> {
        match self.0.len() {
            0 => None,
            count => self.0.get(p.below(count)),
        }
    }

    pub fn take(&mut self, p: &mut Step) -> Option<T> {
        match self.0.len() {
            0 => None,
            count => Some(self.0.swap_remove(p.below(count))),
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
    pub fields: Pool<http::Fields>,
    pub trailers: Pool<http::FutureTrailers>,
    pub incoming_bodies: Pool<http::IncomingBody>,
    pub responses: Pool<http::IncomingResponse>,
    pub answers: Pool<http::FutureIncomingResponse>,
    pub outgoing_bodies: Pool<http::OutgoingBody>,
    pub requests: Pool<http::OutgoingRequest>,
    pub replies: Pool<http::OutgoingResponse>,
    pub options: Pool<http::RequestOptions>,
    pub children: Pool<u32>,
    /// How many of a kind are held before all is given up and begun anew.
    room: usize,
    /// Answers that were no errors: where there are none, nothing was tried.
    pub good: u64,
}

impl Held {
    /// The program says how much it is going to hoard.
    pub fn new(p: &mut Step) -> Self {
        Self::empty([16, 64, 10_000][p.below(3)])
    }

    fn empty(room: usize) -> Self {
        Self {
            pollables: Pool::new(),
            errors: Pool::new(),
            sources: Pool::new(),
            sinks: Pool::new(),
            inputs: Pool::new(),
            outputs: Pool::new(),
            listings: Pool::new(),
            descriptors: Pool::new(),
            lookups: Pool::new(),
            arriving: Pool::new(),
            leaving: Pool::new(),
            udp: Pool::new(),
            tcp: Pool::new(),
            trailers: Pool::new(),
            incoming_bodies: Pool::new(),
            responses: Pool::new(),
            answers: Pool::new(),
            outgoing_bodies: Pool::new(),
            requests: Pool::new(),
            replies: Pool::new(),
            options: Pool::new(),
            fields: Pool::new(),
            children: Pool::new(),
            room,
            good: 0,
        }
    }

    /// Gives everything up, what depends on others first, when there is much of it.
    pub fn tidy(&mut self) {
        let most = [
            self.pollables.0.len(),
            self.inputs.0.len(),
            self.outputs.0.len(),
            self.descriptors.0.len(),
            self.listings.0.len(),
            self.tcp.0.len(),
            self.udp.0.len(),
            self.fields.0.len(),
            self.requests.0.len(),
            self.sources.0.len(),
        ];
        if most.into_iter().any(|count| count > self.room) {
            let good = self.good;
            *self = Self::empty(self.room);
            self.good = good;
        }
    }

    /// Gives up what waits for others. Whoever gives up those first is ended, which happens seldom.
    pub fn free(&mut self, p: &mut Step) {
        if !p.deadly() {
            self.pollables.clear();
        }
    }

    /// Gives up streams, and what waits for them.
    pub fn free_streams(&mut self, p: &mut Step) {
        if !p.deadly() {
            self.pollables.clear();
            self.inputs.clear();
            self.outputs.clear();
            self.arriving.clear();
            self.leaving.clear();
        }
    }

    /// Gives up what belongs to requests and responses.
    pub fn free_fields(&mut self, p: &mut Step) {
        if !p.deadly() {
            self.pollables.clear();
            self.fields.clear();
        }
    }

    /// Counts an answer, and hands it on if it is none of the errors.
    pub fn good<T, E>(&mut self, answer: Result<T, E>) -> Option<T> {
        self.good += u64::from(answer.is_ok());
        answer.ok()
    }
}
