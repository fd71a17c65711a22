//! The cluster's DNS server: hickory-server on host sockets, and the same handler at the cluster DNS address for pods.
//!
//! It answers from the [`zone`] of the moment, for the cluster domain and the reverse zones of its networks. All other names
//! it refuses, unless the operator has named a resolver to ask for them.

mod upstream;
pub(crate) mod zone;

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::Server;
use hickory_server::net::NetError as WireError;
use hickory_server::net::runtime::{Time, TokioTime};
use hickory_server::net::xfer::Protocol as Wire;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::{MessageResponse, MessageResponseBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::fabric::{Fabric, Inner};
use crate::host::HostService;
use crate::sync::Mutex;
use crate::{NetError, Stream};
use upstream::Upstream;
use zone::Answer;

/// The port of DNS.
const PORT: u16 = 53;

/// How long a TCP client may be silent: RFC 7766 asks for seconds, and a resolver that needs longer connects again.
const TCP_IDLE: Duration = Duration::from_secs(10);

/// Answers that wait for one TCP client of the host. It pipelines a handful at most.
const TCP_RESPONSES: usize = 32;

/// The largest UDP answer offered with EDNS. Inside one machine nothing is fragmented.
const UDP_PAYLOAD_BYTES: u16 = 4096;

/// What UDP carries to clients without EDNS (RFC 1035).
const UDP_PLAIN_BYTES: u16 = 512;

/// Why the DNS server ended.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// A host socket could not be used.
    #[error("DNS socket: {0}")]
    Socket(#[from] io::Error),
    /// The cluster DNS address could not be served in the network.
    #[error("cluster DNS address: {0}")]
    ClusterAddress(#[from] NetError),
    /// The server failed.
    #[error("DNS server: {0}")]
    Serve(String),
}

/// The DNS server, before it runs.
#[derive(Debug)]
pub struct Dns {
    fabric: Fabric,
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    upstream: Option<SocketAddr>,
}

impl Dns {
    /// A server on host sockets that are already bound; without any, only pods are served.
    pub fn bind(fabric: Fabric, udp: Vec<UdpSocket>, tcp: Vec<TcpListener>) -> Self {
        Self {
            fabric,
            udp,
            tcp,
            upstream: None,
        }
    }

    /// Asks another resolver for names outside the cluster, if there is one; else they are refused.
    #[must_use]
    pub fn with_upstream(self, upstream: Option<SocketAddr>) -> Self {
        Self { upstream, ..self }
    }

    /// Serves until `shutdown`.
    ///
    /// # Errors
    /// See [`DnsError`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), DnsError> {
        let handler = Handler {
            fabric: Arc::downgrade(self.fabric.inner()),
            upstream: self.upstream.map(Upstream::new),
        };
        let _in_network = serve_pods(&self.fabric, &handler)?;
        let mut server = Server::new(handler);
        for socket in self.udp {
            socket.set_nonblocking(true)?;
            server.register_socket(tokio::net::UdpSocket::from_std(socket)?);
        }
        for listener in self.tcp {
            listener.set_nonblocking(true)?;
            server.register_listener(tokio::net::TcpListener::from_std(listener)?, TCP_IDLE, TCP_RESPONSES);
        }
        shutdown.cancelled().await;
        server
            .shutdown_gracefully()
            .await
            .map_err(|error| DnsError::Serve(error.to_string()))
    }
}

/// Puts the handler at the cluster DNS address inside the network.
fn serve_pods(fabric: &Fabric, handler: &Handler) -> Result<[HostService; 2], NetError> {
    let at = SocketAddr::new(fabric.config().dns_ip, PORT);
    let (over_udp, over_tcp) = (handler.clone(), handler.clone());
    let udp = fabric.serve_host_datagrams(at, move |query, from| {
        let handler = over_udp.clone();
        async move { handler.reply(query.to_vec(), from, Wire::Udp).await }
    })?;
    let tcp = fabric.serve_host(at, move |stream| {
        let handler = over_tcp.clone();
        async move {
            if let Err(error) = handler.converse(stream).await {
                tracing::debug!(%error, "a DNS connection of a pod ended");
            }
        }
    })?;
    Ok([udp, tcp])
}

#[derive(Clone)]
struct Handler {
    /// Not the network itself, which owns the handler.
    fabric: Weak<Inner>,
    upstream: Option<Upstream>,
}

impl Handler {
    /// The answer to one message, none where it deserves none.
    async fn reply(&self, query: Vec<u8>, from: SocketAddr, wire: Wire) -> Option<Bytes> {
        let id = match query.first_chunk::<12>() {
            // Answers are not answered.
            Some(&[_, _, flags, ..]) if flags & 0x80 != 0 => return None,
            Some(&[high, low, ..]) => u16::from_be_bytes([high, low]),
            None => return None,
        };
        match Request::from_bytes(query, from, wire) {
            Ok(request) => {
                let out = Captured {
                    wire,
                    bytes: Arc::default(),
                };
                self.handle_request::<_, TokioTime>(&request, out.clone()).await;
                out.bytes.lock().take()
            }
            Err(_) => {
                let mut message = Message::new(id, MessageType::Response, OpCode::Query);
                message.metadata.response_code = ResponseCode::FormErr;
                message.to_vec().ok().map(Bytes::from)
            }
        }
    }

    /// Length-prefixed messages over a stream, until the client ends or falls silent.
    async fn converse(&self, mut stream: Stream) -> io::Result<()> {
        let from = stream.conn().peer_addr();
        loop {
            let length = match tokio::time::timeout(TCP_IDLE, stream.read_u16()).await {
                Ok(Ok(length)) => length,
                Ok(Err(error)) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
                _ => return Ok(()),
            };
            let mut query = vec![0; length.into()];
            tokio::time::timeout(TCP_IDLE, stream.read_exact(&mut query)).await??;
            let Some(reply) = self.reply(query, from, Wire::Tcp).await else {
                return Ok(());
            };
            let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
            stream.write_u16(length).await?;
            stream.write_all(&reply).await?;
        }
    }

    fn answer(&self, name: &Name, kind: RecordType) -> Answer {
        match self.fabric.upgrade() {
            Some(fabric) => fabric.with_zone(|zone| zone.answer(name, kind)),
            None => Answer::code(ResponseCode::ServFail),
        }
    }

    async fn decide(&self, request: &Request) -> Answer {
        if request.metadata.op_code != OpCode::Query {
            return Answer::code(ResponseCode::NotImp);
        }
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Answer::code(ResponseCode::BADVERS);
        }
        match request.queries.queries() {
            [query] if query.query_class() == DNSClass::IN => {
                let (name, kind) = (query.original().name(), query.query_type());
                let answer = self.answer(name, kind);
                match &self.upstream {
                    Some(upstream) if answer.code == ResponseCode::Refused && request.metadata.recursion_desired => {
                        upstream.ask(name, kind).await
                    }
                    _ => answer,
                }
            }
            [_] => Answer::code(ResponseCode::Refused),
            _ => Answer::code(ResponseCode::FormErr),
        }
    }
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut out: R) -> ResponseInfo {
        let answer = self.decide(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = answer.authoritative;
        metadata.recursion_available = self.upstream.is_some();
        metadata.response_code = answer.code;
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(asked.max_payload().clamp(UDP_PLAIN_BYTES, UDP_PAYLOAD_BYTES));
            edns
        });
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        let response = builder.build(metadata, &answer.answers, [], &answer.authority, &answer.additionals);
        out.send_response(response).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "a DNS answer was not sent");
            hickory_proto::op::Header {
                metadata,
                counts: Default::default(),
            }
            .into()
        })
    }
}

/// Keeps an answer as bytes, for the transports inside the network.
#[derive(Clone)]
struct Captured {
    wire: Wire,
    bytes: Arc<Mutex<Option<Bytes>>>,
}

#[async_trait]
impl ResponseHandler for Captured {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, WireError> {
        let limit = match self.wire {
            Wire::Udp => response.edns().map_or(UDP_PLAIN_BYTES, Edns::max_payload),
            _ => u16::MAX,
        };
        let mut bytes = Vec::with_capacity(UDP_PLAIN_BYTES.into());
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(limit);
        let info = response.destructive_emit(&mut encoder)?;
        *self.bytes.lock() = Some(bytes.into());
        Ok(info)
    }
}
