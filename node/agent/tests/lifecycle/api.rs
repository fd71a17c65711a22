//! As much of a Kubernetes API as an agent needs, in memory: objects, lists, watches, status patches, deletion.

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The API.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    revision: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// By collection path and name.
    objects: BTreeMap<(String, String), Value>,
    watches: Vec<Watch>,
    /// Every status patch, in order.
    patches: Vec<Value>,
    /// Every body of a deletion.
    deletions: Vec<Value>,
    /// Every request for a token.
    tokens: Vec<Value>,
}

struct Watch {
    collection: String,
    events: mpsc::UnboundedSender<Bytes>,
}

impl Api {
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            state: Mutex::default(),
            revision: watch::Sender::new(1),
        }))
    }

    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Makes or replaces an object.
    pub fn put(&self, collection: &str, mut object: Value) -> Value {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let mut state = self.0.state.lock();
        let revision = self.0.revision.borrow().wrapping_add(1);
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        let known = state.objects.insert((collection.to_owned(), name), object.clone());
        state.tell(collection, if known.is_some() { "MODIFIED" } else { "ADDED" }, &object);
        self.0.revision.send_replace(revision);
        object
    }

    /// Changes an object in one step, so that nothing that is written meanwhile is lost.
    pub fn change(&self, collection: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.0.state.lock();
        let revision = self.0.revision.borrow().wrapping_add(1);
        let object = state
            .objects
            .get_mut(&(collection.to_owned(), name.to_owned()))
            .unwrap();
        change(object);
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        let object = object.clone();
        state.tell(collection, "MODIFIED", &object);
        self.0.revision.send_replace(revision);
    }

    pub fn remove(&self, collection: &str, name: &str) {
        let mut state = self.0.state.lock();
        if let Some(object) = state.objects.remove(&(collection.to_owned(), name.to_owned())) {
            state.tell(collection, "DELETED", &object);
        }
        self.0.revision.send_modify(|revision| *revision += 1);
    }

    pub fn get(&self, collection: &str, name: &str) -> Option<Value> {
        self.0
            .state
            .lock()
            .objects
            .get(&(collection.to_owned(), name.to_owned()))
            .cloned()
    }

    pub fn patches(&self) -> Vec<Value> {
        self.0.state.lock().patches.clone()
    }

    pub fn deletions(&self) -> Vec<Value> {
        self.0.state.lock().deletions.clone()
    }

    /// The texts `reason: message` of all events, with the name of their object.
    pub fn events(&self) -> Vec<(String, String)> {
        let state = self.0.state.lock();
        let events = state
            .objects
            .iter()
            .filter(|((collection, _), _)| collection.ends_with("/events"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        events
            .map(|(_, event)| {
                let what = format!("{}: {}", text(&event["reason"]), text(&event["message"]));
                (text(&event["involvedObject"]["name"]), what)
            })
            .collect()
    }

    /// Waits until something holds.
    pub async fn until<T>(&self, what: &str, holds: impl Fn(&Self) -> Option<T>) -> T {
        let mut revision = self.0.revision.subscribe();
        let wait = async {
            loop {
                revision.borrow_and_update();
                if let Some(found) = holds(self) {
                    return found;
                }
                revision.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(Duration::from_secs(120), wait).await {
            Ok(found) => found,
            Err(_) => {
                let state = self.0.state.lock();
                let pods: Vec<_> = state.objects.iter().filter(|((c, _), _)| c.ends_with("pods")).collect();
                panic!("waited in vain for {what}; pods: {pods:#?}; events: {:#?}", {
                    let events: Vec<_> = state
                        .objects
                        .iter()
                        .filter(|((c, _), _)| c.ends_with("events"))
                        .collect();
                    events.iter().map(|(_, e)| e["message"].clone()).collect::<Vec<_>>()
                });
            }
        }
    }

    async fn answer(&self, request: Request<kube::client::Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path = parts.uri.path().trim_end_matches('/').to_owned();
        let query = parts.uri.query().unwrap_or_default();
        match parts.method {
            Method::GET if query.contains("watch=true") => self.watch(&path, query),
            Method::GET => match path.rsplit_once('/').and_then(|(parent, name)| self.get(parent, name)) {
                Some(object) => json_response(200, &object),
                None => self.list(&path, query),
            },
            Method::POST if path.ends_with("/token") => json_response(201, &self.issue(body)),
            Method::POST => json_response(201, &self.create(&path, body)),
            Method::PATCH => self.patch(&path, &body),
            Method::DELETE => self.delete(&path, body),
            _ => json_response(405, &failure(405)),
        }
    }

    fn watch(&self, path: &str, query: &str) -> Response<Body> {
        let (events, stream) = mpsc::unbounded_channel();
        let since: u64 = parameter(query, "resourceVersion")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let mut state = self.0.state.lock();
        // What was written between the list and the watch; a deletion in between does not happen in these tests.
        for ((collection, _), object) in &state.objects {
            let revision: u64 = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
            if matches_collection(collection, path) && revision > since {
                let _ = events.send(event("MODIFIED", object));
            }
        }
        state.watches.push(Watch {
            collection: path.to_owned(),
            events,
        });
        let stream = UnboundedReceiverStream::new(stream).map(|bytes| Ok(http_body::Frame::data(bytes)));
        Response::builder()
            .status(200)
            .body(StreamBody::new(stream).boxed_unsync())
            .unwrap()
    }

    fn list(&self, path: &str, query: &str) -> Response<Body> {
        let name = parameter(query, "fieldSelector")
            .and_then(|selector| selector.strip_prefix("metadata.name%3D").map(str::to_owned));
        let state = self.0.state.lock();
        let items: Vec<&Value> = state
            .objects
            .iter()
            .filter(|((collection, found), _)| {
                matches_collection(collection, path) && name.as_ref().is_none_or(|name| name == found)
            })
            .map(|(_, object)| object)
            .collect();
        let revision = self.0.revision.borrow().to_string();
        json_response(200, &json!({"metadata": {"resourceVersion": revision}, "items": items}))
    }

    /// The next token of any account: good for a moment, so that it has to be renewed.
    fn issue(&self, mut request: Value) -> Value {
        let mut state = self.0.state.lock();
        state.tokens.push(request["spec"].clone());
        let end = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(1500);
        let token = format!("token {}", state.tokens.len());
        request["status"] = json!({"token": token, "expirationTimestamp": end.to_string()});
        self.0.revision.send_modify(|revision| *revision += 1);
        request
    }

    /// What was wanted of every token, in order.
    pub fn tokens(&self) -> Vec<Value> {
        self.0.state.lock().tokens.clone()
    }

    fn create(&self, path: &str, mut object: Value) -> Value {
        object["metadata"]["uid"] = format!("uid-of-{}", object["metadata"]["name"].as_str().unwrap()).into();
        self.put(path, object)
    }

    fn patch(&self, path: &str, patch: &Value) -> Response<Body> {
        let (path, status_only) = path.strip_suffix("/status").map_or((path, false), |path| (path, true));
        let (collection, name) = path.rsplit_once('/').unwrap();
        let Some(object) = self.get(collection, name) else {
            return json_response(404, &failure(404));
        };
        if let Some(uid) = patch["metadata"]["uid"].as_str()
            && object["metadata"]["uid"] != uid
        {
            return json_response(409, &failure(409));
        }
        if status_only {
            self.0.state.lock().patches.push(patch.clone());
        }
        self.change(collection, name, |object| {
            if status_only {
                if !object["status"].is_object() {
                    object["status"] = json!({});
                }
                merge_status(
                    object["status"].as_object_mut().unwrap(),
                    patch["status"].as_object().unwrap(),
                );
            } else {
                for (key, value) in patch.as_object().unwrap() {
                    object[key] = value.clone();
                }
            }
        });
        json_response(200, &self.get(collection, name).unwrap_or(object))
    }

    fn delete(&self, path: &str, options: Value) -> Response<Body> {
        let (collection, name) = path.rsplit_once('/').unwrap();
        self.0.state.lock().deletions.push(options);
        self.remove(collection, name);
        json_response(
            200,
            &json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "metadata": {}}),
        )
    }
}

impl State {
    fn tell(&mut self, collection: &str, type_: &str, object: &Value) {
        let bytes = event(type_, object);
        self.watches.retain(|watch| {
            !matches_collection(collection, &watch.collection) || watch.events.send(bytes.clone()).is_ok()
        });
    }
}

/// `/api/v1/pods` means the pods of all namespaces.
fn matches_collection(collection: &str, asked: &str) -> bool {
    collection == asked
        || match (collection.split_once("/namespaces/"), asked.rsplit_once('/')) {
            (Some((root, rest)), Some((asked_root, kind))) => {
                root == asked_root && rest.split_once('/').is_some_and(|(_, found)| found == kind)
            }
            _ => false,
        }
}

fn event(type_: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({"type": type_, "object": object})))
}

/// Strategic merge as far as a pod's or node's status needs it.
fn merge_status(status: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, value) in patch {
        match (key.as_str(), value) {
            (_, Value::Null) => {
                status.remove(key);
            }
            ("conditions", Value::Array(changed)) => {
                let conditions = status.entry(key).or_insert_with(|| json!([])).as_array_mut().unwrap();
                for condition in changed {
                    conditions.retain(|old| old["type"] != condition["type"]);
                    if condition["$patch"] == "delete" {
                        continue;
                    }
                    let mut condition = condition.clone();
                    condition.as_object_mut().unwrap().retain(|_, value| !value.is_null());
                    conditions.push(condition);
                }
            }
            (_, Value::Array(items)) => {
                let items: Vec<Value> = items
                    .iter()
                    .filter(|item| item.get("$patch").is_none())
                    .cloned()
                    .collect();
                status.insert(key.clone(), items.into());
            }
            _ => {
                status.insert(key.clone(), value.clone());
            }
        }
    }
}

fn parameter(query: &str, name: &str) -> Option<String> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}

fn failure(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "no", "reason": "No", "code": code})
}

fn json_response(status: u16, value: &Value) -> Response<Body> {
    let bytes = Bytes::from(value.to_string());
    let body = StreamBody::new(futures::stream::iter([Ok(http_body::Frame::data(bytes))]));
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(body.boxed_unsync())
        .unwrap()
}
