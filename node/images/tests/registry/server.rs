//! A registry in memory, in this process: the part of the OCI distribution protocol that pulling and pushing needs. It can ask for
//! a login, speak TLS, and send other bytes than it should.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

#[derive(Default)]
struct Content {
    /// By path and tag or digest: media type and bytes.
    manifests: HashMap<(String, String), (String, Vec<u8>)>,
    blobs: HashMap<String, Vec<u8>>,
    /// What was asked, as `GET /v2/app/blobs/sha256:...`.
    asked: Vec<String>,
    /// `Basic` credentials that are wanted of everybody.
    login: Option<String>,
}

/// A registry that runs until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    content: Arc<Mutex<Content>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn digest(bytes: &[u8]) -> String {
    use sha2::Digest;
    let hex: String = sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

impl Server {
    pub async fn start() -> Self {
        Self::listen(None).await
    }

    /// Speaks TLS with a certificate for 127.0.0.1; returns its authority too, in PEM.
    pub async fn start_tls() -> (Self, String) {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let pem = made.cert.pem();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let tls = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        (Self::listen(Some(tls)).await, pem)
    }

    async fn listen(tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let content = Arc::new(Mutex::new(Content::default()));
        let served = content.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (served, tls) = (served.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, served).await;
                            }
                        }
                        None => serve(stream, served).await,
                    }
                });
            }
        });
        Self { address, content, task }
    }

    /// The full name of an image here.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    /// Wants this login of everybody.
    pub fn lock(&self, basic: &str) {
        self.content.lock().unwrap().login = Some(basic.to_owned());
    }

    pub fn put_blob(&self, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        self.content
            .lock()
            .unwrap()
            .blobs
            .insert(digest.clone(), bytes.to_vec());
        digest
    }

    /// Sends these bytes for a digest, whatever it says.
    pub fn replace_blob(&self, digest: &str, bytes: &[u8]) {
        self.content
            .lock()
            .unwrap()
            .blobs
            .insert(digest.to_owned(), bytes.to_vec());
    }

    pub fn put_manifest(&self, path: &str, tag: &str, media_type: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let mut content = self.content.lock().unwrap();
        for name in [tag, &digest] {
            let value = (media_type.to_owned(), bytes.to_vec());
            content.manifests.insert((path.to_owned(), name.to_owned()), value);
        }
        digest
    }

    /// What was put there: its media type and its bytes.
    pub fn manifest(&self, path: &str, name: &str) -> (String, Vec<u8>) {
        self.content.lock().unwrap().manifests[&(path.to_owned(), name.to_owned())].clone()
    }

    pub fn blob(&self, digest: &str) -> Vec<u8> {
        self.content.lock().unwrap().blobs[digest].clone()
    }

    /// What was asked since the last time.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.content.lock().unwrap().asked)
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, content: Arc<Mutex<Content>>) {
    let service = service_fn(move |request| answer(request, content.clone()));
    let _ = Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn reply(status: StatusCode, bytes: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(bytes.into()));
    *response.status_mut() = status;
    response
}

fn error(status: StatusCode, code: &str) -> Response<Full<Bytes>> {
    reply(
        status,
        format!(r#"{{"errors":[{{"code":"{code}","message":"{code}"}}]}}"#),
    )
}

async fn answer(request: Request<Incoming>, content: Arc<Mutex<Content>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut content = content.lock().unwrap();
    content.asked.push(format!("{} {}", parts.method, parts.uri.path()));
    if let Some(login) = &content.login {
        let shown = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        if shown != Some(login) {
            let mut refused = error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
            refused
                .headers_mut()
                .insert(WWW_AUTHENTICATE, "Basic realm=\"test\"".parse().unwrap());
            return Ok(refused);
        }
    }
    let path = parts.uri.path().trim_start_matches("/v2/").to_owned();
    let split = |word: &str| {
        path.split_once(word)
            .map(|(name, rest)| (name.to_owned(), rest.to_owned()))
    };
    let response = if path.is_empty() {
        reply(StatusCode::OK, "")
    } else if let Some((name, reference)) = split("/manifests/") {
        manifest(&mut content, &parts, body, name, reference)
    } else if let Some((name, _)) = split("/blobs/uploads/") {
        upload(&mut content, &parts, body, &name)
    } else if let Some((_, digest)) = split("/blobs/") {
        match content.blobs.get(&digest) {
            Some(bytes) => reply(StatusCode::OK, bytes.clone()),
            None => error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
        }
    } else if let Some((name, _)) = split("/tags/list") {
        let names = content.manifests.keys().filter(|(path, _)| *path == name);
        let mut tags: Vec<_> = names.map(|(_, tag)| tag).filter(|tag| !tag.contains(':')).collect();
        tags.sort();
        match tags.is_empty() {
            true => error(StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            false => reply(
                StatusCode::OK,
                serde_json::json!({"name": name, "tags": tags}).to_string(),
            ),
        }
    } else {
        error(StatusCode::NOT_FOUND, "UNSUPPORTED")
    };
    Ok(response)
}

fn manifest(
    content: &mut Content,
    parts: &hyper::http::request::Parts,
    body: Bytes,
    name: String,
    reference: String,
) -> Response<Full<Bytes>> {
    if parts.method == Method::PUT {
        let media_type = parts.headers.get(CONTENT_TYPE).unwrap().to_str().unwrap().to_owned();
        let (digest, location) = (digest(&body), parts.uri.path().to_owned());
        for tag in [reference, digest] {
            let value = (media_type.clone(), body.to_vec());
            content.manifests.insert((name.clone(), tag), value);
        }
        let mut made = reply(StatusCode::CREATED, "");
        made.headers_mut().insert(LOCATION, location.parse().unwrap());
        return made;
    }
    match content.manifests.get(&(name, reference)) {
        Some((media_type, bytes)) => {
            let mut found = reply(StatusCode::OK, bytes.clone());
            found.headers_mut().insert(CONTENT_TYPE, media_type.parse().unwrap());
            found
        }
        None => error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
    }
}

/// Parts of one upload at a time are kept under the name of the repository.
fn upload(
    content: &mut Content,
    parts: &hyper::http::request::Parts,
    body: Bytes,
    name: &str,
) -> Response<Full<Bytes>> {
    let key = format!("upload of {name}");
    let mut answer = match parts.method {
        Method::POST => {
            content.blobs.insert(key, Vec::new());
            reply(StatusCode::ACCEPTED, "")
        }
        Method::PATCH => {
            let held = content.blobs.entry(key).or_default();
            held.extend_from_slice(&body);
            let range = format!("0-{}", held.len() - 1);
            let mut taken = reply(StatusCode::ACCEPTED, "");
            taken.headers_mut().insert("range", range.parse().unwrap());
            taken
        }
        _ => {
            let mut bytes = content.blobs.remove(&key).unwrap_or_default();
            bytes.extend_from_slice(&body);
            content.blobs.insert(digest(&bytes), bytes);
            reply(StatusCode::CREATED, "")
        }
    };
    let location = format!("/v2/{name}/blobs/uploads/1");
    answer.headers_mut().insert(LOCATION, location.parse().unwrap());
    answer
}
