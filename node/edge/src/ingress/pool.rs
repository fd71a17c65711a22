//! Connections to endpoints, kept from one request to the next.
//!
//! Which endpoint a request goes to its service decides anew each time, so that turns, sessions and the drain of endpoints
//! are as for everybody; only then is it asked whether a connection to that endpoint is at hand. A connection serves one
//! request at a time over HTTP/1.1 and comes back when the answer has been read to its end; one that speaks HTTP/2 is shared.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use coracle_net::{Fabric, NetError, Picked};
use http::header::CONNECTION;
use http::{Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::headers;
use super::patience::Noted;
use super::tee::Broken;

/// The body of a request as it goes out.
pub type Outgoing = Noted<UnsyncBoxBody<Bytes, Broken>>;

/// How long a connection is kept without a request. Programs that end idle connections of their clients wait longer, as a
/// rule; a guest that serves one connection at a time says `connection: close`, or is ours again after this.
const IDLE: Duration = Duration::from_secs(4);

/// Idle connections kept for one endpoint: each takes a socket of the pod, of which it has 1,024.
const IDLE_OF_ENDPOINT: usize = 64;

/// Idle connections in all; each holds two buffers of a few KiB.
const IDLE_IN_ALL: usize = 2048;

/// How long one attempt to connect may take. An endpoint in the same process takes it at once unless it is overrun.
const CONNECT: Duration = Duration::from_secs(5);

/// Why a request has no answer.
pub enum Failed {
    /// There was no connection; the request is untouched.
    Unconnected(NetError, Box<Request<Outgoing>>),
    /// It was sent; whether the endpoint has seen it, nobody knows.
    Sent {
        /// What happened.
        error: hyper::Error,
        /// Whether the connection had served requests before, so that its end may have been on its way already.
        kept: bool,
    },
}

/// The connections; see the module page.
pub struct Pool {
    fabric: Fabric,
    idle: Mutex<Idle>,
    /// Tells that there is something to expire again.
    filled: Notify,
}

struct Idle {
    endpoints: HashMap<SocketAddr, Endpoint>,
    count: usize,
}

#[derive(Default)]
struct Endpoint {
    /// The last that came back is used first, so that what a burst left behind becomes old.
    http1: Vec<(http1::SendRequest<Outgoing>, Instant)>,
    http2: Option<(http2::SendRequest<Outgoing>, Instant)>,
}

/// A connection that takes a request.
enum Sender {
    Http1(http1::SendRequest<Outgoing>),
    Http2(http2::SendRequest<Outgoing>),
}

impl Pool {
    /// A pool of connections over this network.
    pub fn new(fabric: Fabric) -> Arc<Self> {
        Arc::new(Self {
            fabric,
            idle: Mutex::new(Idle {
                endpoints: HashMap::new(),
                count: 0,
            }),
            filled: Notify::new(),
        })
    }

    /// Sends a request to an endpoint: over a connection that is at hand, or a new one where there is none or `fresh` says
    /// so.
    ///
    /// # Errors
    /// See [`Failed`].
    pub async fn send(
        self: &Arc<Self>,
        endpoint: Picked,
        http2: bool,
        fresh: bool,
        request: Request<Outgoing>,
    ) -> Result<Response<Answer>, Failed> {
        let at = endpoint.at();
        let mut request = match http2 {
            true => headers::http2_form(request),
            false => headers::http1_form(request),
        };
        while let Some(sender) = if fresh { None } else { self.take(at, http2) } {
            match self.over(at, sender, request).await {
                Ok(answer) => return Ok(answer),
                // The connection had ended before the request was on its way.
                Err(Over {
                    untouched: Some(back), ..
                }) => request = *back,
                Err(Over { error, .. }) => return Err(Failed::Sent { error, kept: true }),
            }
        }
        let sender = match self.connect(endpoint, http2).await {
            Ok(sender) => sender,
            Err(error) => return Err(Failed::Unconnected(error, Box::new(request))),
        };
        match self.over(at, sender, request).await {
            Ok(answer) => Ok(answer),
            Err(Over {
                untouched: Some(back), ..
            }) => Err(Failed::Unconnected(NetError::ConnectionReset, back)),
            Err(Over { error, .. }) => Err(Failed::Sent { error, kept: false }),
        }
    }

    async fn connect(self: &Arc<Self>, endpoint: Picked, http2: bool) -> Result<Sender, NetError> {
        let at = endpoint.at();
        let stream = tokio::time::timeout(CONNECT, self.fabric.dial_picked(endpoint)).await;
        let stream = TokioIo::new(stream.map_err(|_| NetError::TimedOut)??);
        let broken = |_| NetError::ConnectionReset;
        if http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.map_err(broken)?;
            tokio::spawn(ended(connection));
            self.share(at, &sender);
            return Ok(Sender::Http2(sender));
        }
        let (sender, connection) = http1::handshake(stream).await.map_err(broken)?;
        tokio::spawn(ended(connection.with_upgrades()));
        Ok(Sender::Http1(sender))
    }

    async fn over(
        self: &Arc<Self>,
        at: SocketAddr,
        sender: Sender,
        request: Request<Outgoing>,
    ) -> Result<Response<Answer>, Over> {
        let over = |mut error: hyper::client::conn::TrySendError<Request<Outgoing>>| Over {
            untouched: error.take_message().map(Box::new),
            error: error.into_error(),
        };
        match sender {
            Sender::Http2(mut sender) => {
                let answer = sender.try_send_request(request).await.map_err(over)?;
                Ok(answer.map(|body| Answer { body, back: None }))
            }
            Sender::Http1(mut sender) => {
                let answer = sender.try_send_request(request).await.map_err(over)?;
                let back = goes_on(&answer).then(|| Back {
                    pool: self.clone(),
                    at,
                    sender,
                });
                Ok(answer.map(|body| Answer::new(body, back)))
            }
        }
    }

    /// A connection that is at hand and takes a request now.
    fn take(&self, at: SocketAddr, http2: bool) -> Option<Sender> {
        let mut idle = self.idle.lock();
        let idle = &mut *idle;
        let endpoint = idle.endpoints.get_mut(&at)?;
        if http2 {
            if endpoint.http2.take_if(|(sender, _)| sender.is_closed()).is_some() {
                idle.count -= 1;
            }
            let (sender, used) = endpoint.http2.as_mut()?;
            *used = Instant::now();
            return Some(Sender::Http2(sender.clone()));
        }
        let before = endpoint.http1.len();
        endpoint.http1.retain(|(sender, _)| !sender.is_closed());
        // The end of an answer may not have been noticed yet by the task of the connection; the next one then serves.
        let ready = endpoint.http1.iter().rposition(|(sender, _)| sender.is_ready());
        let taken = ready.map(|at| endpoint.http1.remove(at).0);
        idle.count -= before - endpoint.http1.len();
        taken.map(Sender::Http1)
    }

    /// Keeps a connection of HTTP/1.1 whose answer has been read.
    fn keep(&self, at: SocketAddr, sender: http1::SendRequest<Outgoing>) {
        let mut idle = self.idle.lock();
        if idle.count >= IDLE_IN_ALL || sender.is_closed() {
            return;
        }
        let endpoint = idle.endpoints.entry(at).or_default();
        if endpoint.http1.len() >= IDLE_OF_ENDPOINT {
            return;
        }
        endpoint.http1.push((sender, Instant::now()));
        idle.count += 1;
        self.told(&idle);
    }

    /// Lets other requests use a connection of HTTP/2, unless there is one.
    fn share(&self, at: SocketAddr, sender: &http2::SendRequest<Outgoing>) {
        let mut idle = self.idle.lock();
        if idle.count >= IDLE_IN_ALL {
            return;
        }
        let endpoint = idle.endpoints.entry(at).or_default();
        let lives = endpoint.http2.as_ref().is_some_and(|(sender, _)| !sender.is_closed());
        if !lives {
            let new = endpoint.http2.replace((sender.clone(), Instant::now())).is_none();
            idle.count += usize::from(new);
        }
        self.told(&idle);
    }

    fn told(&self, idle: &Idle) {
        if idle.count == 1 {
            self.filled.notify_one();
        }
    }

    /// Ends connections that have been idle for long, for ever.
    pub async fn expire(&self) {
        loop {
            let next = self.idle.lock().expire(Instant::now());
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => self.filled.notified().await,
            }
        }
    }

    /// Idle connections at the moment.
    #[cfg(test)]
    pub fn kept(&self) -> usize {
        self.idle.lock().count
    }
}

impl Idle {
    /// Drops what is old or has ended; returns when there may be more to drop.
    fn expire(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let mut count = 0;
        let mut young = |used: Instant, closed: bool| {
            let until = used + IDLE;
            let stays = !closed && until > now;
            if stays {
                next = Some(next.map_or(until, |next| next.min(until)));
                count += 1;
            }
            stays
        };
        self.endpoints.retain(|_, endpoint| {
            endpoint.http1.retain(|(sender, used)| young(*used, sender.is_closed()));
            // Requests that are on their way keep the connection by themselves.
            endpoint
                .http2
                .take_if(|(sender, used)| !young(*used, sender.is_closed()));
            !endpoint.http1.is_empty() || endpoint.http2.is_some()
        });
        self.count = count;
        next
    }
}

struct Over {
    /// The request, where nothing of it was sent.
    untouched: Option<Box<Request<Outgoing>>>,
    error: hyper::Error,
}

/// Whether a connection may serve another request after this answer.
fn goes_on<T>(answer: &Response<T>) -> bool {
    let closes = headers::names(answer.headers(), CONNECTION).any(|name| name.eq_ignore_ascii_case("close"));
    answer.version() == Version::HTTP_11 && answer.status() != StatusCode::SWITCHING_PROTOCOLS && !closes
}

/// Drives a connection to its end. Both ends see their own part of a failure.
async fn ended(connection: impl Future<Output = hyper::Result<()>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to a service ended");
    }
}

/// The body of an answer, which gives its connection back once it has been read.
pub struct Answer {
    body: Incoming,
    back: Option<Back>,
}

struct Back {
    pool: Arc<Pool>,
    at: SocketAddr,
    sender: http1::SendRequest<Outgoing>,
}

impl Answer {
    fn new(body: Incoming, back: Option<Back>) -> Self {
        let mut answer = Self { body, back };
        if answer.body.is_end_stream() {
            answer.give_back();
        }
        answer
    }

    fn give_back(&mut self) {
        if let Some(Back { pool, at, sender }) = self.back.take() {
            pool.keep(at, sender);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Err(_)) => self.back = None,
            None => self.give_back(),
            Some(Ok(_)) if self.body.is_end_stream() => self.give_back(),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
