//! The audit log: a line of JSON for every request, who asked for what and what came of it.
//!
//! Lines are events of `audit.k8s.io/v1` of the level `Metadata`, at the stage `ResponseComplete`: what was sent and what
//! was answered is never among them. Credentials are taken out of a request before anybody looks at it here, and the query
//! of a request that goes on into a container or another server is left out: it belongs to the program there. A line is
//! written before its request is answered, or when its stream ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use coracle_api::status::ApiError;
use coracle_api::{object, time};
use http::header::USER_AGENT;
use http::request::Parts;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::core::Core;
use crate::identity::Identity;
use crate::request::RequestInfo;
use crate::respond::Answer;

/// A file to which lines are added.
#[derive(Debug)]
pub struct AuditLog(Mutex<File>);

impl AuditLog {
    /// Opens a file, or makes one that only its owner can read.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Self(Mutex::new(options.open(path)?)))
    }

    /// Adds a line. It is one write, so lines of several servers to one file do not mix.
    fn add(&self, event: &Value) {
        let line = format!("{event}\n");
        if let Err(error) = self.0.lock().write_all(line.as_bytes()) {
            tracing::error!(%error, "the audit log cannot be written");
        }
    }
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// What becomes known of a request on its way through the chain.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    /// Who proved to be somebody, and as whom they act, if as somebody else.
    pub(crate) users: OnceLock<(Identity, Option<Identity>)>,
    /// Whether the rights allow it.
    pub(crate) allowed: OnceLock<bool>,
    /// The name of the object that was made.
    pub(crate) name: OnceLock<String>,
    /// What else is to be known of it, under names.
    pub(crate) annotations: Mutex<Vec<(String, String)>>,
}

/// What is known of a request when it comes in.
pub(crate) struct Received {
    at_micros: i64,
    uri: String,
    user_agent: String,
    peer: Option<IpAddr>,
}

impl Received {
    pub(crate) fn of(parts: &Parts, info: &RequestInfo, at_micros: i64) -> Self {
        let part = info.resource.as_ref().and_then(|path| path.subresource.as_deref());
        let passed_on = matches!(part, Some("exec" | "attach" | "portforward" | "proxy"));
        let uri = match parts.uri.path_and_query() {
            Some(whole) if !passed_on => whole.as_str(),
            _ => parts.uri.path(),
        };
        let agent = parts.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
        Self {
            at_micros,
            uri: uri.to_owned(),
            user_agent: agent.unwrap_or_default().to_owned(),
            peer: parts.extensions.get::<Peer>().map(|peer| peer.0),
        }
    }
}

/// Writes the line of a request, or has it written when its stream ends.
pub(crate) fn complete(
    core: &Arc<Core>,
    id: &str,
    received: Received,
    info: &RequestInfo,
    noted: Noted,
    answer: Answer,
    failure: Option<&ApiError>,
) -> Answer {
    let mut event = event(id, received, info, noted, answer.status().as_u16(), failure);
    if info.long_running() && answer.status().is_success() {
        let pending = Pending {
            core: core.clone(),
            event,
        };
        return answer.map(|body| body.holding(pending));
    }
    finish(core, &mut event);
    answer
}

/// A line that waits for the end of a stream.
struct Pending {
    core: Arc<Core>,
    event: Value,
}

impl Drop for Pending {
    fn drop(&mut self) {
        finish(&self.core, &mut self.event);
    }
}

fn finish(core: &Core, event: &mut Value) {
    object::set(event, "stageTimestamp", time::format_micros(core.now_micros()).into());
    if let Some(log) = &core.audit {
        log.add(event);
    }
}

fn event(
    id: &str,
    received: Received,
    info: &RequestInfo,
    noted: Noted,
    code: u16,
    failure: Option<&ApiError>,
) -> Value {
    let mut event = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": id, "stage": "ResponseComplete",
        "requestURI": received.uri, "verb": info.verb,
    });
    let mut set = |field: &str, value: Value| object::fields(&mut event).insert(field.to_owned(), value);
    let (user, other) = noted
        .users
        .into_inner()
        .unwrap_or_else(|| (Identity::anonymous(), None));
    set("user", user.user_info());
    if let Some(other) = other {
        set("impersonatedUser", other.user_info());
    }
    if let Some(peer) = received.peer {
        set("sourceIPs", json!([peer]));
    }
    if !received.user_agent.is_empty() {
        set("userAgent", received.user_agent.into());
    }
    if let Some(reference) = reference(info, noted.name.into_inner()) {
        set("objectRef", reference);
    }
    set("responseStatus", status(info, code, failure));
    set(
        "requestReceivedTimestamp",
        time::format_micros(received.at_micros).into(),
    );
    let mut annotations: Map<String, Value> = noted.annotations.into_inner().into_iter().map(text).collect();
    if let Some(allowed) = noted.allowed.into_inner() {
        let decision = if allowed { "allow" } else { "forbid" };
        annotations.insert("authorization.k8s.io/decision".to_owned(), decision.into());
    }
    if !annotations.is_empty() {
        set("annotations", Value::Object(annotations));
    }
    event
}

fn text((key, value): (String, String)) -> (String, Value) {
    (key, Value::String(value))
}

/// What the request is about, if it is a resource.
fn reference(info: &RequestInfo, made: Option<String>) -> Option<Value> {
    let path = info.resource.as_ref()?;
    let mut reference = json!({"resource": path.resource, "apiVersion": path.version});
    let texts = [
        ("namespace", path.namespace.as_deref()),
        ("name", path.name.as_deref().or(made.as_deref())),
        ("apiGroup", Some(path.group.as_str())),
        ("subresource", path.subresource.as_deref()),
    ];
    for (field, text) in texts {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            object::set(&mut reference, field, text.into());
        }
    }
    Some(reference)
}

/// What came of it. What a refusal says may quote what was sent, so of secrets only the reason is told.
fn status(info: &RequestInfo, code: u16, failure: Option<&ApiError>) -> Value {
    let mut status = json!({"metadata": {}, "code": code});
    let Some(failure) = failure else { return status };
    object::set(&mut status, "status", "Failure".into());
    if !failure.reason.is_empty() {
        object::set(&mut status, "reason", failure.reason.into());
    }
    let secret = |resource: &str| matches!(resource, "secrets" | "tokenreviews" | "certificatesigningrequests");
    let quotes = info.resource.as_ref().is_some_and(|path| secret(&path.resource));
    if !quotes {
        object::set(&mut status, "message", failure.message.as_str().into());
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Query;

    fn received(path: &str) -> (Received, RequestInfo) {
        let request = http::Request::post(path)
            .header("user-agent", "kubectl/v1")
            .body(())
            .unwrap();
        let (parts, ()) = request.into_parts();
        let query = Query::parse(parts.uri.query());
        let info = RequestInfo::parse(&parts.method, parts.uri.path(), &query);
        (Received::of(&parts, &info, 0), info)
    }

    #[test]
    fn a_line_says_who_what_and_what_came_of_it() {
        let (received, info) = received("/apis/apps/v1/namespaces/shop/deployments?fieldManager=x");
        let noted = Noted::default();
        let other = Identity::new("bob", &[]);
        noted.users.set((Identity::new("ann", &["dev"]), Some(other))).unwrap();
        noted.allowed.set(true).unwrap();
        noted.name.set("web".to_owned()).unwrap();
        let event = event("1", received, &info, noted, 201, None);
        assert_eq!(
            event["requestURI"],
            "/apis/apps/v1/namespaces/shop/deployments?fieldManager=x"
        );
        assert_eq!(
            (&event["user"]["username"], &event["impersonatedUser"]["username"]),
            (&json!("ann"), &json!("bob"))
        );
        assert_eq!(
            event["objectRef"],
            json!({"resource": "deployments", "apiVersion": "v1", "namespace": "shop", "name": "web", "apiGroup": "apps"})
        );
        assert_eq!(event["responseStatus"], json!({"metadata": {}, "code": 201}));
        assert_eq!(event["annotations"], json!({"authorization.k8s.io/decision": "allow"}));
        assert_eq!(
            (&event["verb"], &event["userAgent"]),
            (&json!("create"), &json!("kubectl/v1"))
        );
    }

    #[test]
    fn nothing_of_secrets_or_of_programs_is_told() {
        let (into, info) = received("/api/v1/namespaces/a/pods/p/exec?command=login&command=s3cret");
        assert_eq!(
            event("1", into, &info, Noted::default(), 101, None)["requestURI"],
            "/api/v1/namespaces/a/pods/p/exec"
        );
        let (secret, info) = received("/api/v1/namespaces/a/secrets");
        let failure = ApiError::bad_request("cannot read \"s3cret\"");
        let told = event("1", secret, &info, Noted::default(), 400, Some(&failure));
        assert_eq!(
            told["responseStatus"],
            json!({"metadata": {}, "code": 400, "status": "Failure", "reason": "BadRequest"})
        );
    }
}
