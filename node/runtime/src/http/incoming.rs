//! Serves a `wasi:http/incoming-handler` component on an address of its pod.
//!
//! The node listens, speaks HTTP/1.1 and calls the guest once a request. An instance serves one request at a time and is used
//! again for the next; as many are made as requests come at once, up to a limit, above which requests wait. A guest that traps
//! loses its instance and answers 500; the others go on. One that exits or passes its memory limit ends the container, as a
//! server program would.
//!
//! Some components take one request an instance, as the standard lets them: those of a JavaScript engine, for one. Nothing in a
//! component says so. It shows when an instance leaves its second request without an answer: from then on each request gets a fresh
//! instance, and that one is asked again there. So only a request of which nothing can have come may be an instance's second before
//! that is known; any other gets a fresh one.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use coracle_net::{Binding, NetError, Stream};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use wasmtime::Store;
use wasmtime::component::Resource;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p2::types::HostResponseOutparam;
use wasmtime_wasi_http::{Error, WasiBody, WasiHttpView as _};

use crate::container::Shared;
use crate::cpu::Governed;
use crate::executor;
use crate::exit::Exit;
use crate::host::Host;
use crate::http::connections::{Connection, Idle};
use crate::limits;
use crate::memory::OutOfMemory;

/// The listener of one container.
pub(crate) fn listen(shared: &Shared) -> Result<Binding, NetError> {
    let everywhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), shared.spec.http_port);
    let binding = shared.spec.net.bind(everywhere)?;
    binding.listen(limits::HTTP_CONNECTIONS)?;
    Ok(binding)
}

/// Serves until an instance's end is the container's end. Dropping the future ends everything that was started.
pub(crate) async fn serve(shared: Arc<Shared>, pre: ProxyPre<Host>, binding: Binding) -> Exit {
    let (end, mut ended) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let _stop_all = stop.clone().drop_guard();
    let pool = Arc::new(Pool {
        // A fuel limit is one sum for the container, which only one instance at a time can draw on.
        turns: Arc::new(Semaphore::new(if shared.spec.fuel.is_some() {
            1
        } else {
            limits::HTTP_INSTANCES
        })),
        idle: Mutex::new(Vec::new()),
        reusable: OnceLock::new(),
        shared,
        pre,
        end,
        stop,
    });
    let accept = governed(&pool.shared, accept(&pool, &binding));
    tokio::select! {
        exit = ended.recv() => exit.unwrap_or_else(|| Exit::host("the server has no instance left".into())),
        error = accept => Exit::host(format!("the pod's network is gone: {error}")),
    }
}

/// Work for the container, the guest's or the host's, which uses its CPU and waits for its turn among others.
fn governed<F: Future>(shared: &Shared, work: F) -> Governed<F> {
    let (meter, ticker) = (shared.meter.clone(), shared.module.engine.ticker.clone());
    Governed::new(work, meter, ticker).by_fuel(shared.spec.cpu_by_fuel)
}

/// Takes connections until the pod's network ends.
async fn accept(pool: &Arc<Pool>, binding: &Binding) -> NetError {
    let places = Arc::new(Semaphore::new(limits::HTTP_CONNECTIONS));
    let idle = Arc::new(Idle::default());
    loop {
        if places.available_permits() == 0 {
            poll_fn(|cx| binding.poll_acceptable(cx)).await;
            // Some may have gone by themselves until somebody came.
            if places.available_permits() == 0 {
                idle.close_one();
            }
        }
        let Ok(place) = places.clone().acquire_owned().await else {
            return NetError::InvalidState;
        };
        idle.enough();
        match binding.accept().await {
            Ok(conn) => {
                let (pool, stop) = (pool.clone(), pool.stop.clone());
                let connection = Connection::new(&idle, conn.peer_addr().ip());
                let share = pool.shared.meter.share().clone();
                executor::spawn(&share, async move {
                    let closed = connection.closed.clone();
                    let shared = pool.shared.clone();
                    let serve = governed(&shared, serve_connection(pool, conn.into(), connection));
                    let serve = closed.run_until_cancelled(serve);
                    stop.run_until_cancelled(serve).await;
                    drop(place);
                });
            }
            // The client has left the backlog already, or there is no socket free for it now.
            Err(NetError::ConnectionReset | NetError::TooManySockets | NetError::OutOfMemory) => {}
            Err(error) => return error,
        }
    }
}

/// Serves the requests of one connection, in order.
async fn serve_connection(pool: Arc<Pool>, stream: Stream, connection: Arc<Connection>) {
    let service = service_fn(|request| {
        let (pool, answering) = (pool.clone(), connection.request());
        async move {
            let response = pool.answer(request).await;
            // Until the whole body is with the client.
            let held = move |frame| {
                let _answering = &answering;
                frame
            };
            Ok::<_, Infallible>(response.map(|body| body.map_frame(held)))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HTTP_HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "a client's connection ended early");
    }
}

/// The instances of one container.
struct Pool {
    shared: Arc<Shared>,
    pre: ProxyPre<Host>,
    turns: Arc<Semaphore>,
    idle: Mutex<Vec<Instance>>,
    /// Whether an instance takes further requests after its first. Unknown until one has had a second.
    reusable: OnceLock<bool>,
    end: mpsc::Sender<Exit>,
    stop: CancellationToken,
}

/// An instance between two requests.
struct Instance {
    store: Store<Host>,
    proxy: Proxy,
    /// It has answered a request.
    used: bool,
}

/// A request was left without an answer.
struct Silent;

type Answer = Result<Response<WasiBody>, ErrorCode>;

impl Pool {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<WasiBody> {
        if request.uri().authority().is_none() && !request.headers().contains_key(http::header::HOST) {
            return plain(StatusCode::BAD_REQUEST, "the request has no Host header\n");
        }
        // What is needed to ask again, as long as that may have to be.
        let again = match self.reusable.get() {
            None => repeatable(&request),
            Some(_) => None,
        };
        let fresh = again.is_none() && self.reusable.get().is_none();
        let mut answer = self.ask(request, fresh).await;
        if answer.is_err()
            && self.reusable.get() == Some(&false)
            && let Some(head) = again
        {
            let nothing = Empty::<Bytes>::new().map_err(|never: Infallible| -> Error { match never {} });
            answer = self.ask(Request::from_parts(head, nothing), true).await;
        }
        answer.unwrap_or_else(|Silent| {
            plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the container failed to answer; its log tells more\n",
            )
        })
    }

    /// Has a request answered by the next instance that is free, or by a fresh one.
    async fn ask<B>(self: &Arc<Self>, request: Request<B>, fresh: bool) -> Result<Response<WasiBody>, Silent>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Error>,
    {
        let Ok(turn) = self.turns.clone().acquire_owned().await else {
            return Ok(plain(StatusCode::SERVICE_UNAVAILABLE, "the container is ending\n"));
        };
        let (send, receive) = oneshot::channel();
        let stop = self.stop.clone();
        // A task of its own: the guest may go on after its answer, or after the client has left.
        let call = governed(&self.shared, self.clone().call(request, fresh, send, turn));
        executor::spawn(self.shared.meter.share(), async move {
            stop.run_until_cancelled(call).await;
        });
        match receive.await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Ok(plain(
                StatusCode::BAD_GATEWAY,
                &format!("the container answered with an error: {error:?}\n"),
            )),
            Err(_) => Err(Silent),
        }
    }

    /// One request in one instance, which goes back to the others if it survives.
    async fn call<B>(
        self: Arc<Self>,
        request: Request<B>,
        fresh: bool,
        answer: oneshot::Sender<Answer>,
        _turn: OwnedSemaphorePermit,
    ) where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Error>,
    {
        // Bound to a name: the lock must be gone before the guest is awaited.
        let idle = if fresh { None } else { self.idle.lock().pop() };
        let outcome = match idle {
            Some(instance) => self.handle(instance, request, answer).await,
            None => match self.instantiate().await {
                Ok(instance) => self.handle(instance, request, answer).await,
                Err(error) => Err(error),
            },
        };
        match outcome {
            Ok(Some(instance)) => self.keep(instance),
            Ok(None) => {}
            Err(error) => self.failed(&error).await,
        }
    }

    /// Puts an instance where the next request finds it.
    fn keep(&self, instance: Instance) {
        let mut idle = self.idle.lock();
        let wanted = match self.reusable.get() {
            Some(reusable) => *reusable,
            // One is enough to find it out, and more would pile up under requests that each get a fresh one.
            None => idle.is_empty(),
        };
        if wanted {
            idle.push(instance);
        }
    }

    async fn instantiate(&self) -> wasmtime::Result<Instance> {
        let mut store = self.shared.store();
        self.shared.fuel_in(&mut store)?;
        let proxy = self.pre.instantiate_async(&mut store).await;
        self.shared.fuel_out(&mut store);
        let proxy = proxy?;
        Ok(Instance {
            store,
            proxy,
            used: false,
        })
    }

    /// Calls the guest; none where it has come back without an answer.
    async fn handle<B>(
        &self,
        mut instance: Instance,
        request: Request<B>,
        answer: oneshot::Sender<Answer>,
    ) -> wasmtime::Result<Option<Instance>>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Error>,
    {
        let Instance { store, proxy, used } = &mut instance;
        self.shared.fuel_in(store)?;
        let request = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
        let answer = store.data_mut().http().new_response_outparam(answer)?;
        let place = answer.rep();
        let called = proxy
            .wasi_http_incoming_handler()
            .call_handle(&mut *store, request, answer)
            .await;
        self.shared.fuel_out(store);
        if let Err(error) = called {
            return Err(self.shared.dumped(instance.store, error).await);
        }
        // The guest holds it no more, or will not give it back: without it nobody waits for an answer that will not come.
        let held = store
            .data_mut()
            .http()
            .table
            .get(&Resource::<HostResponseOutparam>::new_borrow(place))
            .is_ok();
        if !held {
            if std::mem::replace(used, true) {
                let _ = self.reusable.set(true);
            }
            return Ok(Some(instance));
        }
        let first = !*used || self.reusable.set(false).is_err();
        self.idle.lock().clear();
        self.shared.complain(match first {
            true => "a request was left without an answer",
            false => "an instance of this program answers one request: each gets a fresh one from here on",
        });
        Ok(None)
    }

    /// Tells the log, and ends the container if this instance's end is the container's.
    async fn failed(&self, error: &wasmtime::Error) {
        let exit = Exit::of(error);
        let fatal = error.is::<I32Exit>()
            || error.is::<OutOfMemory>()
            || matches!(error.downcast_ref(), Some(wasmtime::Trap::OutOfFuel));
        if fatal {
            // Full means that another instance's end is being told already.
            let _ = self.end.try_send(exit);
        } else if let Some(message) = exit.message {
            self.shared.complain(&format!("a request failed: {message}"));
        }
    }
}

/// The head of a request that may be made twice: it has no body, and is to change nothing.
fn repeatable<B: Body>(request: &Request<B>) -> Option<Parts> {
    let harmless = request.method().is_safe() && request.body().is_end_stream();
    harmless.then(|| {
        let mut head = Request::new(()).into_parts().0;
        head.method = request.method().clone();
        head.uri = request.uri().clone();
        head.version = request.version();
        head.headers = request.headers().clone();
        head
    })
}

/// An answer in the guest's place.
fn plain(status: StatusCode, text: &str) -> Response<WasiBody> {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes()))
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}
