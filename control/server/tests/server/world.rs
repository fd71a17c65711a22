//! A server of its own for every test, and requests as plain JSON.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use coracle_api::status::ApiError;
use coracle_server::{
    Config, ContainerTarget, Duplex, LocalService, LogOptions, LogStream, NodeAnswer, NodeDialer, Pki, PodTarget,
    ProcessStreams, Server, header_of,
};
use coracle_store::{MemoryEngine, Store};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::net::Net;

/// A node on which every pod echoes what it is sent on port 7, and logs its own name.
pub struct Echo;

#[async_trait]
impl NodeDialer for Echo {
    /// Every node but the one called `silent` tells the use of a pod with the uid `measured`.
    async fn get(&self, node: &str, path: &str) -> Result<NodeAnswer, ApiError> {
        if node == "silent" {
            return Err(ApiError::service_unavailable("no connection"));
        }
        let used = json!({
            "cpu": {"time": "2026-01-01T00:00:00Z", "usageNanoCores": 250_000_000},
            "memory": {"workingSetBytes": 3 << 20}, "name": "main",
        });
        let pod = json!({"podRef": {"uid": "measured"}, "cpu": used["cpu"], "containers": [used]});
        let told = json!({"asked": path, "node": used, "pods": [pod]});
        Ok(NodeAnswer {
            status: 200,
            content_type: "application/json".to_owned(),
            body: told.to_string().into(),
        })
    }

    async fn logs(&self, node: &str, target: &ContainerTarget, options: &LogOptions) -> Result<LogStream, ApiError> {
        let text = format!("{node} {} {} {:?}\n", target.pod, target.container, options.tail_lines);
        Ok(Box::pin(futures::stream::iter([Ok::<_, io::Error>(Bytes::from(text))])))
    }

    /// `cat` gives back what it gets, `exit N` ends with a code, anything else is said on standard error.
    async fn exec(
        &self,
        _: &str,
        _: &ContainerTarget,
        command: &[String],
        streams: ProcessStreams,
    ) -> Result<i32, ApiError> {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["cat"] => {
                let (mut stdin, stdout) = (streams.stdin.unwrap(), streams.stdout.unwrap());
                while let Some(bytes) = stdin.recv().await {
                    stdout.send(bytes).await.unwrap();
                }
                Ok(0)
            }
            ["size"] => {
                let size = streams.terminal.unwrap().recv().await.unwrap();
                let text = format!("{}x{}", size.width, size.height);
                streams.stdout.unwrap().send(text.into()).await.unwrap();
                Ok(0)
            }
            ["exit", code] => Ok(code.parse().unwrap()),
            ["missing"] => Err(ApiError::internal("no such program")),
            ["forever"] => std::future::pending().await,
            words => {
                streams.stderr.unwrap().send(words.join(" ").into()).await.unwrap();
                Ok(0)
            }
        }
    }

    async fn attach(&self, _: &str, target: &ContainerTarget, streams: ProcessStreams) -> Result<i32, ApiError> {
        let said = format!("attached to {}", target.container);
        streams.stdout.unwrap().send(said.into()).await.unwrap();
        Ok(3)
    }

    async fn connect(&self, _: &str, _: &PodTarget, port: u16) -> Result<Box<dyn Duplex>, ApiError> {
        if port != 7 {
            return Err(ApiError::service_unavailable("connection refused"));
        }
        let (near, far) = tokio::io::duplex(4096);
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(far);
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut writer).await;
        });
        Ok(Box::new(near))
    }
}

pub struct World {
    pub server: Server,
    /// What the server finds in the pod network.
    pub net: Net,
    pub pki: Pki,
}

pub async fn world() -> World {
    let world = world_with(coracle_store::Config::default()).await;
    world.settles().await;
    world
}

/// A world whose store keeps what `config` says. The server may still be noting things by itself.
pub async fn world_with(config: coracle_store::Config) -> World {
    build(config, |_| ()).await
}

/// A world whose server is another than usual.
pub async fn world_where(change: impl FnOnce(&mut Config)) -> World {
    let world = build(coracle_store::Config::default(), change).await;
    world.settles().await;
    world
}

async fn build(config: coracle_store::Config, change: impl FnOnce(&mut Config)) -> World {
    let pki = Pki::ephemeral(&[]).unwrap();
    let store = Store::open(Arc::new(MemoryEngine::new()), header_of, config).unwrap();
    let mut config = Config::new(store, pki.clone());
    config.nodes = Arc::new(Echo);
    let net = Net::default();
    config.cluster = Arc::new(net.clone());
    change(&mut config);
    World {
        net,
        server: Server::build(config).await.unwrap(),
        pki,
    }
}

impl World {
    /// Waits until the server has noted what it notes by itself, so that tests see no version but their own.
    async fn settles(&self) {
        let judged = |_: &str, object: &Value| !object["status"]["conditions"].is_null();
        for collection in [
            "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas",
            "/apis/apiregistration.k8s.io/v1/apiservices",
            "/apis/networking.k8s.io/v1/servicecidrs",
        ] {
            for object in self.get(collection).await["items"].as_array().unwrap() {
                if object["status"]["conditions"].is_null() {
                    let name = object["metadata"]["name"].as_str().unwrap();
                    self.until(collection, name, judged).await;
                }
            }
        }
        let service = self.get("/api/v1/namespaces/default/services/kubernetes").await;
        let address = service["spec"]["clusterIP"].as_str().unwrap();
        let addresses = "/apis/networking.k8s.io/v1/ipaddresses";
        self.until(addresses, address, |kind, _| kind == "ADDED").await;
    }

    pub fn admin(&self) -> LocalService {
        self.server.local_admin()
    }

    pub async fn ok(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = send(self.admin(), method.clone(), path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {answer}");
        answer
    }

    pub async fn fails(&self, method: Method, path: &str, body: Value) -> (u16, String) {
        let (status, answer) = send(self.admin(), method.clone(), path, body).await;
        assert!(!status.is_success(), "{method} {path}: {status} {answer}");
        assert_eq!(answer["kind"], "Status", "{answer}");
        (
            status.as_u16(),
            answer["message"].as_str().unwrap_or_default().to_owned(),
        )
    }

    /// The code of an answer that may be no Status.
    pub async fn fails_plainly(&self, path: &str) -> u16 {
        send(self.admin(), Method::GET, path, Value::Null).await.0.as_u16()
    }

    pub async fn table(&self, path: &str) -> Value {
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
        let request = Request::builder().uri(path).header("accept", accept);
        let answer = self
            .admin()
            .oneshot(request.body(Full::new(Bytes::new())).unwrap())
            .await
            .unwrap();
        serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    pub async fn get(&self, path: &str) -> Value {
        self.ok(Method::GET, path, Value::Null).await
    }

    /// Waits for a state of the one object of a collection, told by a watch.
    pub async fn until(&self, collection: &str, name: &str, reached: impl Fn(&str, &Value) -> bool) -> Value {
        let path = format!("{collection}?watch=1&fieldSelector=metadata.name%3D{name}");
        self.told(&path, reached).await
    }

    /// Waits until there is no object of a name in a collection.
    pub async fn gone(&self, collection: &str, name: &str) {
        let path = format!(
            "{collection}?watch=1&fieldSelector=metadata.name%3D{name}\
             &sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        );
        let mut there = false;
        self.told(&path, |kind, _| {
            there |= kind == "ADDED";
            kind == "DELETED" || (kind == "BOOKMARK" && !there)
        })
        .await;
    }

    /// The object of the first event of a watch with which a state is reached.
    async fn told(&self, path: &str, mut reached: impl FnMut(&str, &Value) -> bool) -> Value {
        let request = Request::get(path).body(Full::new(Bytes::new())).unwrap();
        let mut body = self.admin().oneshot(request).await.unwrap().into_body();
        let waiting = async {
            let mut text = String::new();
            loop {
                let frame = body.frame().await.expect("the watch ended").unwrap();
                text.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap()));
                while let Some((line, rest)) = text.split_once('\n') {
                    let event: Value = serde_json::from_str(line).unwrap();
                    if reached(event["type"].as_str().unwrap(), &event["object"]) {
                        return event["object"].clone();
                    }
                    text = rest.to_owned();
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting)
            .await
            .expect("the state is reached")
    }
}

fn content_type(method: &Method, body: &Value) -> &'static str {
    match (method, body) {
        (&Method::PATCH, Value::Array(_)) => "application/json-patch+json",
        (&Method::PATCH, _) => "application/strategic-merge-patch+json",
        _ => "application/json",
    }
}

pub async fn send(service: LocalService, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
    let content_type = content_type(&method, &body);
    send_as(service, method, path, content_type, body).await
}

pub async fn send_as(
    service: LocalService,
    method: Method,
    path: &str,
    content_type: &str,
    body: Value,
) -> (StatusCode, Value) {
    let bytes = if body.is_null() {
        Bytes::new()
    } else {
        Bytes::from(body.to_string())
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type);
    let answer = service.oneshot(request.body(Full::new(bytes)).unwrap()).await.unwrap();
    let status = answer.status();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let value = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
    (status, value)
}

/// The status of a condition of an object.
pub fn condition<'a>(object: &'a Value, name: &str) -> &'a str {
    let all = object["status"]["conditions"].as_array().into_iter().flatten();
    all.into_iter()
        .find(|one| one["type"] == name)
        .map_or("", |one| one["status"].as_str().unwrap())
}

pub fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "hello"}]}})
}

pub fn deployment(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "hello"}]},
            },
        },
    })
}
