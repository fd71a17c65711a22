//! How long writes take in the chain itself, without sockets and without a disk: creates of config maps, creates of pods,
//! merge patches of a deployment's status, and replaces, each one after the other.
//!
//! `cargo run --release -p coracle-server --example writes -- [COUNT]` prints microseconds for each.

// It looks into objects that it made itself.
#![allow(clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use coracle_api::apply::compare::compare;
use coracle_api::apply::owners::{created, updated};
use coracle_api::apply::{Rules, Writer};
use coracle_server::{Config, LocalService, Pki, Server, header_of};
use coracle_store::{MemoryEngine, Store};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

type Failure = Box<dyn std::error::Error>;

async fn send(service: &LocalService, method: Method, path: &str, body: &Value) -> Result<Value, Failure> {
    let media = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", media);
    let request = request.body(Full::new(Bytes::from(body.to_string())))?;
    let answer = service.clone().oneshot(request).await?;
    let good = answer.status().is_success();
    let bytes = answer.into_body().collect().await?.to_bytes();
    match good {
        true => Ok(serde_json::from_slice(&bytes)?),
        false => Err(String::from_utf8_lossy(&bytes).into_owned().into()),
    }
}

fn pod(name: &str) -> Value {
    let container = json!({
        "name": "c", "image": "hello", "args": ["serve"], "ports": [{"containerPort": 8080}],
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
    });
    json!({"metadata": {"name": name, "labels": {"app": "x"}}, "spec": {"containers": [container]}})
}

fn deployment() -> Value {
    let template = json!({"metadata": {"labels": {"app": "x"}}, "spec": pod("x")["spec"]});
    json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": template}})
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let count: usize = std::env::args().nth(1).map_or(Ok(2000), |count| count.parse())?;
    let store = Store::open(
        Arc::new(MemoryEngine::new()),
        header_of,
        coracle_store::Config::default(),
    )?;
    let server = Server::build(Config::new(store, Pki::ephemeral(&[])?)).await?;
    let admin = server.local_admin();
    let (maps, pods) = (
        "/api/v1/namespaces/default/configmaps",
        "/api/v1/namespaces/default/pods",
    );
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let data = "x".repeat(1024);
    let started = Instant::now();
    for n in 0..count {
        let map = json!({"metadata": {"name": format!("m{n}")}, "data": {"k": data}});
        send(&admin, Method::POST, maps, &map).await?;
    }
    report("create config map", started.elapsed(), count);
    let started = Instant::now();
    for n in 0..count {
        send(&admin, Method::POST, pods, &pod(&format!("p{n}"))).await?;
    }
    report("create pod", started.elapsed(), count);
    let mut object = send(&admin, Method::POST, deployments, &deployment()).await?;
    let started = Instant::now();
    for n in 0..count {
        let patch = json!({"status": {"replicas": n, "observedGeneration": n}});
        send(&admin, Method::PATCH, &format!("{deployments}/d/status"), &patch).await?;
    }
    report("patch status", started.elapsed(), count);
    object["metadata"]["resourceVersion"] = Value::Null;
    let started = Instant::now();
    for n in 0..count {
        object["spec"]["replicas"] = json!(n % 7);
        send(&admin, Method::PUT, &format!("{deployments}/d"), &object).await?;
    }
    report("replace", started.elapsed(), count);
    let pod = send(&admin, Method::GET, &format!("{pods}/p0"), &Value::Null).await?;
    let map = send(&admin, Method::GET, &format!("{maps}/m0"), &Value::Null).await?;
    let deployment = send(&admin, Method::GET, &format!("{deployments}/d"), &Value::Null).await?;
    owners("config map", "k8s.io/api/core/v1.ConfigMap", &map, count)?;
    owners("pod", "k8s.io/api/core/v1.Pod", &pod, count)?;
    owners("deployment", "k8s.io/api/apps/v1.Deployment", &deployment, count)
}

/// What it costs, of all this, to know who owns which field: of a new object, and of one whose status changed.
fn owners(what: &str, go_type: &str, object: &Value, count: usize) -> Result<(), Failure> {
    let rules = Rules::of_type(go_type);
    let writer = Writer {
        manager: "me",
        api_version: "v1",
        subresource: "status",
        time: "2026-01-01T00:00:00Z",
    };
    let mut object = object.clone();
    let mut list = serde_json::to_vec(&object["metadata"]["managedFields"].take())?;
    let started = Instant::now();
    let mut entries = 0;
    for _ in 0..count {
        entries += created(compare(rules, &rules.blank(), &object, false), writer).len();
    }
    report(&format!("owners, new {what}"), started.elapsed(), entries);
    let mut next = object.clone();
    let started = Instant::now();
    for n in 0..count {
        next["status"]["observedGeneration"] = json!(n);
        if let Some(next) = updated(&list, &compare(rules, &object, &next, true), writer)? {
            list = next;
        }
    }
    report(&format!("owners, {what} status"), started.elapsed(), count);
    Ok(())
}

fn report(what: &str, took: Duration, count: usize) {
    let micros = took.as_micros() as f64 / count.max(1) as f64;
    println!("{what:>26}: {micros:8.1} us");
}
