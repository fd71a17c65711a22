//! Names outside the cluster, asked of another resolver where the operator allows it.
//!
//! Each question goes out from a socket of its own with a number of its own, so that nobody who cannot see the traffic can
//! answer in the resolver's place (RFC 5452). Nothing is kept: the resolver does that.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::UDP_PAYLOAD_BYTES;
use super::zone::Answer;

/// How long one attempt may take, and how many there are: together less than the five seconds that clients wait.
const PATIENCE: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;

/// Questions under way at a time; each holds a socket. Further ones fail at once, and their clients ask again.
const QUESTIONS: usize = 256;

/// Another resolver; clones share its limit.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    at: SocketAddr,
    places: Arc<Semaphore>,
}

impl Upstream {
    pub(super) fn new(at: SocketAddr) -> Self {
        Self {
            at,
            places: Arc::new(Semaphore::new(QUESTIONS)),
        }
    }

    /// What the resolver says of a question of class IN; SERVFAIL where it says nothing.
    pub(super) async fn ask(&self, name: &Name, kind: RecordType) -> Answer {
        let Ok(_place) = self.places.try_acquire() else {
            return Answer::code(ResponseCode::ServFail);
        };
        for _ in 0..ATTEMPTS {
            match tokio::time::timeout(PATIENCE, self.exchange(name, kind)).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(error)) => tracing::debug!(%error, %name, "the upstream resolver does not answer"),
                Err(_) => tracing::debug!(%name, "the upstream resolver does not answer in time"),
            }
        }
        Answer::code(ResponseCode::ServFail)
    }

    async fn exchange(&self, name: &Name, kind: RecordType) -> io::Result<Answer> {
        // The keys of a fresh hasher are random.
        let random = RandomState::new().build_hasher().finish();
        let [low, high, ..] = random.to_le_bytes();
        let mut question = Message::new(u16::from_le_bytes([low, high]), MessageType::Query, OpCode::Query);
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(name.clone(), kind));
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD_BYTES);
        question.set_edns(edns);
        let bytes = question.to_vec().map_err(io::Error::other)?;
        let answer = self.over_udp(&bytes, &question).await?;
        let answer = match answer.metadata.truncation {
            true => self.over_tcp(&bytes, &question).await?,
            false => answer,
        };
        Ok(Answer {
            code: answer.metadata.response_code,
            authoritative: false,
            answers: answer.answers,
            authority: answer.authorities,
            additionals: answer.additionals,
        })
    }

    async fn over_udp(&self, bytes: &[u8], question: &Message) -> io::Result<Message> {
        let any = match self.at {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
        socket.connect(self.at).await?;
        socket.send(bytes).await?;
        let mut buffer = vec![0; UDP_PAYLOAD_BYTES.into()];
        loop {
            let length = socket.recv(&mut buffer).await?;
            // What does not answer this question is somebody else's attempt; the answer may still come.
            let message = Message::from_vec(buffer.get(..length).unwrap_or_default());
            if let Ok(message) = message
                && answers(&message, question)
            {
                return Ok(message);
            }
        }
    }

    async fn over_tcp(&self, bytes: &[u8], question: &Message) -> io::Result<Message> {
        let mut stream = TcpStream::connect(self.at).await?;
        stream
            .write_u16(u16::try_from(bytes.len()).map_err(io::Error::other)?)
            .await?;
        stream.write_all(bytes).await?;
        let mut reply = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut reply).await?;
        let message = Message::from_vec(&reply).map_err(io::Error::other)?;
        match answers(&message, question) {
            true => Ok(message),
            false => Err(io::Error::other("the answer is one to another question")),
        }
    }
}

/// Whether a message answers a question.
fn answers(message: &Message, question: &Message) -> bool {
    message.metadata.message_type == MessageType::Response
        && message.metadata.id == question.metadata.id
        && message.queries == question.queries
}
