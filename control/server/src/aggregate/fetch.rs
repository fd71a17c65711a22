//! This server's own questions to one behind it: whether it serves its group, and its OpenAPI documents.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_api::object;
use http::header::{ACCEPT, ETAG, HOST, IF_NONE_MATCH, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;

use super::backend::Backend;
use super::pass;
use super::remote::{Documents, part_of_v2};
use crate::core::Core;
use crate::identity::{Identity, MASTERS};

/// How long an answer may take, as in Kubernetes.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest document that is read. The whole OpenAPI document of Kubernetes itself has 4 MB.
const DOCUMENT_BYTES: usize = 16 * 1024 * 1024;

struct Fetched {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// Asks for the list of the group's kinds: the proof that the server serves it.
pub(super) async fn resources(core: &Core, backend: &Backend) -> Result<Vec<Value>, String> {
    let fetched = get(core, backend, &format!("/{}", backend.path()), &HeaderMap::new()).await?;
    if !fetched.status.is_success() {
        return Err(format!("bad status from the server: {}", fetched.status.as_u16()));
    }
    let list: Value = serde_json::from_slice(&fetched.body).map_err(|error| error.to_string())?;
    Ok(object::list(&list, "resources").to_vec())
}

/// The OpenAPI documents, as far as the server has them; what did not change is not read again.
pub(super) async fn documents(core: &Core, backend: &Backend, known: &Documents) -> Documents {
    let mut next = known.clone();
    match third(core, backend, known).await {
        Ok(third) => next.third = third,
        Err(why) => tracing::debug!(service = backend.name, %why, "no OpenAPI v3 document"),
    }
    match second(core, backend, known).await {
        Ok(second) => next.second = second,
        Err(why) => tracing::debug!(service = backend.name, %why, "no OpenAPI v2 document"),
    }
    next
}

async fn third(core: &Core, backend: &Backend, known: &Documents) -> Result<Option<(String, Bytes)>, String> {
    let index = get(core, backend, "/openapi/v3", &HeaderMap::new()).await?;
    if !index.status.is_success() {
        return Ok(None);
    }
    let index: Value = serde_json::from_slice(&index.body).map_err(|error| error.to_string())?;
    let path = index
        .get("paths")
        .and_then(|paths| paths.get(backend.path())?.get("serverRelativeURL")?.as_str());
    let Some(path) = path.filter(|path| path.starts_with('/')) else {
        return Ok(None);
    };
    if let Some(same) = known.third.as_ref().filter(|(place, _)| place == path) {
        return Ok(Some(same.clone()));
    }
    let document = get(core, backend, path, &HeaderMap::new()).await?;
    if !document.status.is_success() {
        return Err(format!("{path}: {}", document.status));
    }
    serde_json::from_slice::<serde::de::IgnoredAny>(&document.body).map_err(|error| error.to_string())?;
    Ok(Some((path.to_owned(), document.body)))
}

async fn second(core: &Core, backend: &Backend, known: &Documents) -> Result<Option<(String, Arc<Value>)>, String> {
    let mut headers = HeaderMap::new();
    let tag = known.second.as_ref().and_then(|(tag, _)| tag.parse().ok());
    if let Some(tag) = tag {
        headers.insert(IF_NONE_MATCH, tag);
    }
    let fetched = get(core, backend, "/openapi/v2", &headers).await?;
    if fetched.status == StatusCode::NOT_MODIFIED {
        return Ok(known.second.clone());
    }
    if !fetched.status.is_success() {
        return Ok(None);
    }
    let document: Value = serde_json::from_slice(&fetched.body).map_err(|error| error.to_string())?;
    let tag = fetched.headers.get(ETAG).and_then(|tag| tag.to_str().ok());
    let part = part_of_v2(&document, &backend.path());
    Ok(Some((tag.unwrap_or_default().to_owned(), Arc::new(part))))
}

async fn get(core: &Core, backend: &Backend, path: &str, headers: &HeaderMap) -> Result<Fetched, String> {
    match tokio::time::timeout(PATIENCE, ask(core, backend, path, headers)).await {
        Ok(fetched) => fetched,
        Err(_) => Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned()),
    }
}

async fn ask(core: &Core, backend: &Backend, path: &str, headers: &HeaderMap) -> Result<Fetched, String> {
    let stream = backend.connect(core).await.map_err(|error| error.message)?;
    let mut request = Request::get(path)
        .header(HOST, backend.host())
        .header(ACCEPT, "application/json")
        .header(
            USER_AGENT,
            concat!("kube-aggregator (coracle/", env!("CARGO_PKG_VERSION"), ")"),
        )
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    request.headers_mut().extend(headers.clone());
    pass::introduce(
        &Identity::exactly("system:kube-aggregator", vec![MASTERS.to_owned()]),
        request.headers_mut(),
    );
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, DOCUMENT_BYTES).collect().await;
        Ok(Fetched {
            status: parts.status,
            headers: parts.headers,
            body: body.map_err(|error| error.to_string())?.to_bytes(),
        })
    };
    tokio::pin!(exchange);
    // The connection is driven here and ends with the question.
    tokio::select! {
        fetched = &mut exchange => fetched,
        ended = connection => {
            ended.map_err(|error| error.to_string())?;
            exchange.await
        }
    }
}
