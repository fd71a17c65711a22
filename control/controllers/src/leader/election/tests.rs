use std::convert::Infallible;

use http::Response;
use kube::{api::ObjectMeta, core::Status};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc;

use super::*;

/// A server that holds one Lease and any ConfigMaps, and links to it that can be cut.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<(Option<Value>, u64)>>);

impl Server {
    fn answer(&self, method: &Method, body: &Value) -> (u16, Value) {
        let mut state = self.0.lock();
        let (lease, version) = &mut *state;
        let same = body["metadata"]["resourceVersion"].as_str() == Some(&version.to_string());
        match (method.as_str(), lease.is_some()) {
            ("GET", true) => return (200, lease.clone().unwrap()),
            ("GET", false) => return (404, failure(404)),
            ("POST", false) => {}
            ("PUT", true) if same => {}
            _ => return (409, failure(409)),
        }
        *version += 1;
        let mut body = body.clone();
        body["metadata"]["resourceVersion"] = version.to_string().into();
        *lease = Some(body.clone());
        (200, body)
    }

    fn client(&self, cut: CancellationToken) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (server, cut) = (server.clone(), cut.clone());
            async move {
                if cut.is_cancelled() {
                    std::future::pending::<()>().await;
                }
                let method = request.method().clone();
                let body = request.into_body().collect_bytes().await.unwrap();
                let (code, body) = server.answer(&method, &serde_json::from_slice(&body).unwrap_or_default());
                let body = Body::from(body.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        });
        Client::new(service, "default")
    }

    fn lease(&self) -> Record {
        record(&serde_json::from_value(self.0.lock().0.clone().unwrap()).unwrap())
    }
}

fn failure(code: u16) -> Value {
    let status = Status::failure("no", if code == 409 { "Conflict" } else { "NotFound" }).with_code(code);
    serde_json::to_value(status).unwrap()
}

/// A contender that tells when it works, tries to write every second, and how it ended.
fn enter(server: &Server, cut: &CancellationToken, stop: &CancellationToken) -> mpsc::UnboundedReceiver<String> {
    let (tell, told) = mpsc::unbounded_channel();
    let election = Election::new(server.client(cut.clone()), "kube-scheduler", "host", Timing::default());
    let stop = stop.clone();
    tokio::spawn(async move {
        let say = tell.clone();
        let work = |_, stop: CancellationToken| async move {
            say.send("works".to_owned()).unwrap();
            stop.cancelled().await;
        };
        let ended = election.lead(&stop, |_| {}, work).await;
        tell.send(ended.map_or_else(|lost| lost.to_string(), |()| "ended".to_owned()))
            .unwrap();
    });
    told
}

#[tokio::test(start_paused = true)]
async fn whoever_is_cut_off_stops_before_another_begins() {
    let (server, stop) = (Server::default(), CancellationToken::new());
    let (cut, whole) = (CancellationToken::new(), CancellationToken::new());
    let mut first = enter(&server, &cut, &stop);
    assert_eq!(first.recv().await.unwrap(), "works");
    let mut second = enter(&server, &whole, &stop);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(second.try_recv().is_err(), "it is renewed");
    let holder = server.lease().holder;
    cut.cancel();
    let began = Instant::now();
    let lost = first.recv().await.unwrap();
    let stopped = began.elapsed();
    assert!(
        lost.contains("could not be renewed within 10s: no answer within"),
        "{lost}"
    );
    assert_eq!(second.recv().await.unwrap(), "works");
    let taken = began.elapsed();
    assert!(
        stopped <= Duration::from_secs(10) && taken >= Duration::from_secs(13),
        "{stopped:?} {taken:?}"
    );
    assert!(taken <= Duration::from_secs(18), "{taken:?}");
    assert_ne!(server.lease().holder, holder);
    assert_eq!(server.lease().transitions, 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_ends_gives_the_lease_back() {
    let (server, whole) = (Server::default(), CancellationToken::new());
    let (stop, never) = (CancellationToken::new(), CancellationToken::new());
    let mut first = enter(&server, &whole, &stop);
    assert_eq!(first.recv().await.unwrap(), "works");
    let mut second = enter(&server, &whole, &never);
    tokio::time::sleep(Duration::from_secs(5)).await;
    stop.cancel();
    assert_eq!(first.recv().await.unwrap(), "ended");
    assert_eq!(server.lease().holder, "");
    let began = Instant::now();
    assert_eq!(second.recv().await.unwrap(), "works");
    assert!(began.elapsed() <= Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn whose_lease_was_taken_says_by_whom() {
    let (server, whole, stop) = (Server::default(), CancellationToken::new(), CancellationToken::new());
    let mut first = enter(&server, &whole, &stop);
    assert_eq!(first.recv().await.unwrap(), "works");
    server.0.lock().0.as_mut().unwrap()["spec"]["holderIdentity"] = "somebody".into();
    let lost = first.recv().await.unwrap();
    assert_eq!(
        lost,
        "leadership lost: the lease kube-system/kube-scheduler is held by somebody"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_after_the_time_of_the_last_renewal() {
    let (server, gate) = (Server::default(), Arc::new(Gate::new()));
    let client = gated(&server.client(CancellationToken::new()), gate.clone());
    let leases: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some("l".to_owned()),
            ..Default::default()
        },
        spec: None,
    };
    let params = PostParams::default();
    let refused = leases.create(&params, &lease).await.unwrap_err();
    assert!(causes(&refused).contains("does not lead any more"), "{refused:?}");
    gate.set(Duration::from_secs(10));
    leases.create(&params, &lease).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let found = leases.get("l").await.unwrap();
    leases.replace("l", &params, &found).await.unwrap_err();
    assert_eq!(server.0.lock().1, 1, "it did not reach the server");
}
