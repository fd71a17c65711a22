//! Requests that a guest makes through `wasi:http/outgoing-handler`.
//!
//! The name is looked up and the connection made as the guest's own sockets would: services, pods and the pod's loopback are
//! there, the host is not. For `https` the host speaks TLS, and never goes out in the clear instead.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use coracle_net::{Conn, NetError, PodNet, Stream};
use futures::FutureExt as _;
use http::uri::{Authority, Scheme, Uri};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, timeout};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::tls::Trust;
use crate::crowd::Share;
use crate::executor;
use crate::limits::{self, HTTP_OUTGOING, HTTP_OUTGOING_TIMEOUT};

/// What is left to do for a response: to drive its connection.
type Rest = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// The way out of one container; clones share its limit.
#[derive(Clone)]
pub(crate) struct Outgoing {
    net: Arc<PodNet>,
    /// By what servers are known; none where no authority was named.
    trust: Option<Trust>,
    slots: Arc<Semaphore>,
    /// By which the connections' tasks take their turns.
    share: Arc<Share>,
}

impl Outgoing {
    pub(crate) fn new(net: Arc<PodNet>, trust: Option<Trust>, share: Arc<Share>) -> Self {
        Self {
            net,
            trust,
            slots: Arc::new(Semaphore::new(HTTP_OUTGOING)),
            share,
        }
    }
}

impl WasiHttpHooks for Outgoing {
    /// A guest that names no scheme means the one that there is.
    fn default_scheme(&mut self) -> Option<Scheme> {
        Some(Scheme::HTTP)
    }

    /// What of a body waits to be sent is charged to the container, so it is no more than a write to a file takes.
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        limits::TRANSFER_BYTES
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _transmitted: Rest,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Rest), Error>> + Send> {
        let out = self.clone();
        Box::new(async move {
            // At the limit the guest is told, rather than left to hang behind its own requests.
            let slot = out.slots.clone().try_acquire_owned();
            let slot = slot.map_err(|_| Error::ConnectionLimitReached)?;
            send(&out, slot, request, Patience::of(options.unwrap_or_default())).await
        })
    }
}

/// How long each step may take: what the guest asks for, up to our limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Patience {
    connect: Duration,
    first_byte: Duration,
    between_bytes: Duration,
}

impl Patience {
    fn of(options: RequestOptions) -> Self {
        let capped = |asked: Option<Duration>| asked.unwrap_or(HTTP_OUTGOING_TIMEOUT).min(HTTP_OUTGOING_TIMEOUT);
        Self {
            connect: capped(options.connect_timeout),
            first_byte: capped(options.first_byte_timeout),
            between_bytes: capped(options.between_bytes_timeout),
        }
    }
}

async fn send(
    out: &Outgoing,
    slot: OwnedSemaphorePermit,
    mut request: Request<WasiBody>,
    patience: Patience,
) -> Result<(Response<WasiBody>, Rest), Error> {
    let https = request.uri().scheme() == Some(&Scheme::HTTPS);
    let authority = request.uri().authority().cloned().ok_or(Error::HttpRequestUriInvalid)?;
    let trust = out.trust.clone().filter(|_| https);
    let open = open(&out.net, trust, https, &authority);
    let stream = timeout(patience.connect, open)
        .await
        .map_err(|_| Error::ConnectionTimeout)??;
    // A server wants the path alone; the rest is in the Host header.
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map(Uri::from).unwrap_or_default();

    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The connection moves bytes for the request while we wait for the answer, and for its body afterwards.
    // It ends with the handle: with the request that it serves.
    let (driver, ended) = connection.remote_handle();
    executor::spawn(&out.share, driver);
    let mut response = timeout(patience.first_byte, sender.send_request(request))
        .await
        .map_err(|_| Error::ConnectionReadTimeout)??;
    take_apart(response.headers_mut());
    let response = response.map(|body| Patient::new(body, patience.between_bytes).boxed_unsync());
    let rest = Box::new(async move {
        let _slot = slot;
        ended.await.map_err(Error::from)
    });
    Ok((response, rest))
}

/// Puts values of headers into allocations of their own. They come as parts of what was read from the connection, and a guest that
/// keeps one of them would keep all of that, for the price of the header.
fn take_apart(headers: &mut HeaderMap) {
    for value in headers.values_mut() {
        if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
            *value = copy;
        }
    }
}

/// A way for bytes, in the clear or not.
trait Bytestream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Bytestream for S {}

/// Connects to a server, and when that is wanted makes sure that it is the one.
async fn open(
    net: &Arc<PodNet>,
    trust: Option<Trust>,
    https: bool,
    authority: &Authority,
) -> Result<Box<dyn Bytestream>, Error> {
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
    if https && trust.is_none() {
        let why = "this node was told no authority by which it could know a TLS server";
        return Err(Error::InternalError(Some(why.into())));
    }
    let stream = Stream::from(connect(net, host, port).await?);
    match trust {
        Some(trust) => Ok(Box::new(trust.connect(host, stream).await?)),
        None => Ok(Box::new(stream)),
    }
}

/// Tries the addresses of a name in turn, as `std` does.
async fn connect(net: &Arc<PodNet>, host: &str, port: u16) -> Result<Conn, Error> {
    let addresses = match host.parse::<IpAddr>() {
        Ok(ip) => vec![ip],
        Err(_) => net.resolve(host).map_err(error)?,
    };
    let mut last = NetError::NameNotFound;
    for ip in addresses {
        match net.connect(SocketAddr::new(ip, port)).await {
            Ok(conn) => return Ok(conn),
            Err(e) => last = e,
        }
    }
    Err(error(last))
}

/// The network's errors in the vocabulary of `wasi:http`.
fn error(error: NetError) -> Error {
    match error {
        NetError::NameNotFound => Error::DnsError {
            rcode: Some("NXDOMAIN".into()),
            info_code: None,
        },
        NetError::ConnectionRefused => Error::ConnectionRefused,
        NetError::ConnectionReset | NetError::BrokenPipe => Error::ConnectionTerminated,
        NetError::HostUnreachable | NetError::NetworkUnreachable | NetError::NetworkDown => {
            Error::DestinationIpUnroutable
        }
        NetError::TimedOut => Error::ConnectionTimeout,
        NetError::Denied => Error::DestinationIpProhibited,
        NetError::TooManySockets => Error::ConnectionLimitReached,
        other => Error::InternalError(Some(other.to_string())),
    }
}

/// A response's body that gives up when it stays silent for too long.
struct Patient {
    body: Incoming,
    limit: Duration,
    silence: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(body: Incoming, limit: Duration) -> Self {
        Self {
            body,
            limit,
            silence: None,
        }
    }
}

impl Body for Patient {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.silence = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
        }
        let limit = this.limit;
        let silence = this.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(silence.as_mut().poll(cx));
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_may_be_less_patient_than_we_are_but_not_more() {
        let asked = RequestOptions {
            connect_timeout: Some(Duration::from_secs(1)),
            first_byte_timeout: Some(Duration::from_secs(1_000_000)),
            between_bytes_timeout: None,
        };
        let patience = Patience::of(asked);
        assert_eq!(patience.connect, Duration::from_secs(1));
        assert_eq!(
            (patience.first_byte, patience.between_bytes),
            (HTTP_OUTGOING_TIMEOUT, HTTP_OUTGOING_TIMEOUT)
        );
    }
}
