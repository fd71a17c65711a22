//! What goes wrong between a part and the server: requests and answers that are late or lost, refusals, watches that stall
//! or are cut. All of it is drawn from the seed.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use coracle_server::ResponseBody;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use kube::client::Body;
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tower::Service;

use crate::server::House;

/// How often something goes wrong, in parts of a thousand.
const NOT_SENT: u32 = 15;
const REPLY_LOST: u32 = 15;
const REFUSED: u32 = 15;
const SLOW: u32 = 20;
const STALL: u32 = 15;
const SILENCE: u32 = 100;

type Broken = Box<dyn std::error::Error + Send + Sync>;

/// Draws what goes wrong; one for all parts.
pub struct Faults {
    draws: Mutex<StdRng>,
    active: AtomicBool,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    NotSent,
    ReplyLost,
    Refused(StatusCode),
}

impl Faults {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            draws: Mutex::new(StdRng::seed_from_u64(seed)),
            active: AtomicBool::new(true),
        })
    }

    /// From now on all goes well.
    pub fn end(&self) {
        self.active.store(false, Ordering::Relaxed);
    }

    fn hits(&self, thousandths: u32) -> bool {
        self.active.load(Ordering::Relaxed) && self.draws.lock().random_range(0..1000) < thousandths
    }

    fn fate(&self, method: &Method) -> Fate {
        if self.hits(NOT_SENT) {
            Fate::NotSent
        } else if self.hits(REPLY_LOST) {
            Fate::ReplyLost
        } else if self.hits(REFUSED) {
            let conflict = *method != Method::GET && self.draws.lock().random();
            let others = [StatusCode::TOO_MANY_REQUESTS, StatusCode::INTERNAL_SERVER_ERROR];
            let other = others[usize::from(self.draws.lock().random::<bool>())];
            Fate::Refused(if conflict { StatusCode::CONFLICT } else { other })
        } else {
            Fate::Fine
        }
    }

    /// How long a message is on its way.
    fn delay(&self) -> Duration {
        let most = if self.hits(SLOW) { 2_000_000 } else { 2_000 };
        Duration::from_micros(self.draws.lock().random_range(100..most))
    }

    /// How long a watch waits before it brings the next piece.
    fn stall(&self) -> Option<Duration> {
        self.hits(STALL)
            .then(|| Duration::from_millis(self.draws.lock().random_range(10..3_000)))
    }

    /// Whether a node does not tell what its pods use.
    pub fn silences(&self) -> bool {
        self.hits(SILENCE)
    }

    /// How long a watch lives.
    fn cut(&self) -> Option<(Duration, bool)> {
        self.active.load(Ordering::Relaxed).then(|| {
            let mut draws = self.draws.lock();
            (Duration::from_millis(draws.random_range(500..120_000)), draws.random())
        })
    }
}

/// A part's way to the server, as a client takes it. When the part's life ends, nothing of it reaches the server any more.
#[derive(Clone)]
pub struct Link {
    pub part: Arc<str>,
    pub user: &'static str,
    pub groups: &'static [&'static str],
    pub house: Arc<House>,
    pub faults: Arc<Faults>,
    /// What each message takes longer.
    pub slow: Duration,
    pub life: CancellationToken,
}

impl Link {
    pub fn client(self) -> kube::Client {
        kube::Client::new(self, "default")
    }

    async fn send(self, request: Request<Body>) -> Result<Response<LinkBody>, Broken> {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let fate = self.faults.fate(&method);
        let line = |end: String| {
            if method != Method::GET {
                self.house.ledger.request(&self.part, &method, &uri, &end);
            }
        };
        sleep(self.faults.delay() + self.slow).await;
        match fate {
            Fate::NotSent => {
                line("was not sent".into());
                return Err("connection refused".into());
            }
            Fate::Refused(code) => {
                line(format!("was refused with {code}"));
                return Ok(refusal(code));
            }
            Fate::Fine | Fate::ReplyLost => {}
        }
        let Some((server, down)) = self.house.current() else {
            return Err("connection refused".into());
        };
        self.house.ledger.asks(&self.part, &method, &uri);
        let answered = tokio::select! {
            biased;
            () = self.life.cancelled() => return Err("this part is dead".into()),
            () = down.cancelled() => {
                line("met the end of the server".into());
                return Err("connection reset".into());
            }
            answered = server.local(self.user, self.groups).call(request) => answered?,
        };
        drop(server);
        line(format!("{} {fate:?}", answered.status().as_u16()));
        sleep(self.faults.delay() + self.slow).await;
        if fate == Fate::ReplyLost {
            return Err("connection reset".into());
        }
        let watch = uri.query().is_some_and(|query| query.contains("watch=true"));
        let (parts, body) = answered.into_parts();
        let body = LinkBody {
            body: Some(body),
            cut: self
                .faults
                .cut()
                .filter(|_| watch)
                .map(|(after, clean)| (Box::pin(sleep(after)), clean)),
            stall: None,
            faults: watch.then(|| self.faults.clone()),
            ends: [Box::pin(self.life.cancelled_owned()), Box::pin(down.cancelled_owned())],
        };
        Ok(Response::from_parts(parts, body))
    }
}

impl Service<Request<Body>> for Link {
    type Response = Response<LinkBody>;
    type Error = Broken;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Broken>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (link, life) = (self.clone(), self.life.clone());
        Box::pin(async move {
            tokio::select! {
                biased;
                () = life.cancelled() => Err("this part is dead".into()),
                answered = link.send(request) => answered,
            }
        })
    }
}

fn refusal(code: StatusCode) -> Response<LinkBody> {
    let reason = match code {
        StatusCode::CONFLICT => "Conflict",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        _ => "InternalError",
    };
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "the simulation refuses", "reason": reason, "code": code.as_u16()});
    let never = || Box::pin(CancellationToken::new().cancelled_owned());
    let body = LinkBody {
        body: Some(ResponseBody::full(status.to_string())),
        cut: None,
        stall: None,
        faults: None,
        ends: [never(), never()],
    };
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response
}

/// An answer's body on its way.
pub struct LinkBody {
    body: Option<ResponseBody>,
    /// When it ends by a fault, and whether that looks like a good end.
    cut: Option<(Pin<Box<Sleep>>, bool)>,
    stall: Option<Pin<Box<Sleep>>>,
    /// Of a watch.
    faults: Option<Arc<Faults>>,
    /// The ends of the part and of the server.
    ends: [Pin<Box<WaitForCancellationFutureOwned>>; 2],
}

impl http_body::Body for LinkBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        if this.ends.iter_mut().any(|end| end.as_mut().poll(context).is_ready()) {
            this.body = None;
            return Poll::Ready(Some(Err("connection reset".into())));
        }
        if let Some((cut, clean)) = &mut this.cut
            && cut.as_mut().poll(context).is_ready()
        {
            this.body = None;
            return Poll::Ready((!*clean).then(|| Err("connection reset".into())));
        }
        if let Some(stall) = &mut this.stall {
            if stall.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            this.stall = None;
        }
        let polled = Pin::new(body).poll_frame(context);
        if polled.is_ready() {
            this.stall = this
                .faults
                .as_ref()
                .and_then(|faults| faults.stall())
                .map(|after| Box::pin(sleep(after)));
        }
        polled.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(ResponseBody::is_end_stream)
    }
}
