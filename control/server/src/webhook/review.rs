//! The question that is put to a webhook and the answer that it may give: `AdmissionReview`. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coracle_api::kinds::Kind;
use coracle_api::object;
use coracle_api::status::ApiError;
use serde_json::{Value, json};
use thiserror::Error;

use super::Asked;

const KIND: &str = "AdmissionReview";
const VERSION: &str = "admission.k8s.io/v1";
/// How long one warning may be, in characters; clients show them in one line.
const WARNING_CHARS: usize = 256;

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// An answer that cannot be used.
#[derive(Debug, Error)]
pub(super) enum ReviewError {
    #[error("received invalid webhook response: {0}")]
    Json(#[from] serde_json::Error),
    #[error(
        "received invalid webhook response: expected webhook response of {VERSION}, Kind={KIND}, got {0}, Kind={1}"
    )]
    Kind(String, String),
    #[error("received invalid webhook response: webhook response was absent")]
    Absent,
    #[error("received invalid webhook response: expected response.uid={wanted:?}, got {got:?}")]
    Uid { wanted: String, got: String },
    #[error("received invalid webhook response: webhook returned response.patch but not response.patchType")]
    NoPatchType,
    #[error("received invalid webhook response: invalid response.patchType {0:?}")]
    PatchType(String),
    #[error("received invalid webhook response: response.patch: {0}")]
    Patch(String),
}

/// What a webhook said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    pub(super) patch: Option<Value>,
    pub(super) warnings: Vec<String>,
    /// What is to be known of the request.
    pub(super) annotations: Vec<(String, String)>,
    status: Value,
}

/// What a webhook is asked about a write.
pub(super) fn question(asked: &Asked<'_>, object: Option<&Value>, uid: &str) -> Vec<u8> {
    let mut request = asked.request();
    object::set(&mut request, "uid", uid.into());
    object::set(&mut request, "object", json!(object));
    object::set(&mut request, "oldObject", json!(asked.old));
    let review = json!({"kind": KIND, "apiVersion": VERSION, "request": request});
    serde_json::to_vec(&review).unwrap_or_default()
}

impl Asked<'_> {
    /// The request as webhooks and expressions see it, without the objects.
    pub(crate) fn request(&self) -> Value {
        // A part of an object may be of another kind, such as a Binding.
        let of = |kind: &Kind| match kind.subresource(self.subresource).and_then(|part| part.body.as_ref()) {
            Some(body) => json!({"group": body.group, "version": body.version, "kind": body.kind}),
            None => json!({"group": kind.group, "version": kind.version, "kind": kind.kind}),
        };
        let resource = |kind: &Kind| json!({"group": kind.group, "version": kind.version, "resource": kind.plural});
        let mut request = json!({
            "kind": of(self.seen), "resource": resource(self.seen),
            "requestKind": of(self.shown), "requestResource": resource(self.shown),
            "operation": self.operation.name(), "userInfo": self.identity.user_info(),
            "dryRun": self.dry_run, "options": options(self),
        });
        let texts = [
            ("subResource", self.subresource),
            ("requestSubResource", self.subresource),
            ("name", self.name),
            ("namespace", self.namespace.unwrap_or_default()),
        ];
        for (field, text) in texts {
            if !text.is_empty() {
                object::set(&mut request, field, text.into());
            }
        }
        request
    }
}

/// The options of the request.
fn options(asked: &Asked<'_>) -> Value {
    let kind = match asked.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if asked.dry_run {
        object::set(&mut options, "dryRun", json!(["All"]));
    }
    options
}

/// Reads an answer.
pub(super) fn parse(bytes: &[u8], uid: &str) -> Result<Answer, ReviewError> {
    let review: Value = serde_json::from_slice(bytes)?;
    let (version, kind) = (object::text(&review, "apiVersion"), object::text(&review, "kind"));
    if version != VERSION || kind != KIND {
        return Err(ReviewError::Kind(version.to_owned(), kind.to_owned()));
    }
    let response = review.get("response").filter(|response| response.is_object());
    let response = response.ok_or(ReviewError::Absent)?;
    let own = object::text(response, "uid");
    if own != uid {
        return Err(ReviewError::Uid {
            wanted: uid.to_owned(),
            got: own.to_owned(),
        });
    }
    let warnings = object::list(response, "warnings").iter().filter_map(Value::as_str);
    Ok(Answer {
        allowed: response.get("allowed").and_then(Value::as_bool).unwrap_or(false),
        patch: patch(response)?,
        warnings: warnings
            .map(|text| text.chars().take(WARNING_CHARS).collect())
            .collect(),
        annotations: object::map(response, "auditAnnotations")
            .into_iter()
            .flatten()
            .filter_map(|(key, text)| Some((key.clone(), text.as_str()?.to_owned())))
            .collect(),
        status: response.get("status").cloned().unwrap_or_default(),
    })
}

fn patch(response: &Value) -> Result<Option<Value>, ReviewError> {
    let text = object::text(response, "patch");
    match (text, object::text(response, "patchType")) {
        ("", _) => Ok(None),
        (_, "") => Err(ReviewError::NoPatchType),
        (text, "JSONPatch") => {
            let bytes = STANDARD
                .decode(text)
                .map_err(|error| ReviewError::Patch(error.to_string()))?;
            let patch = serde_json::from_slice(&bytes).map_err(|error| ReviewError::Patch(error.to_string()))?;
            Ok(Some(patch))
        }
        (_, other) => Err(ReviewError::PatchType(other.to_owned())),
    }
}

impl Answer {
    /// What the client is told, if this is a refusal.
    pub(super) fn denial(&self, webhook: &str) -> Option<ApiError> {
        if self.allowed {
            return None;
        }
        let text = |name: &str| object::text(&self.status, name);
        let denied = format!("admission webhook {webhook:?} denied the request");
        let message = match (text("message"), text("reason")) {
            ("", "") => format!("{denied} without explanation"),
            ("", reason) => format!("{denied}: {reason}"),
            (message, _) => format!("{denied}: {message}"),
        };
        let code = self
            .status
            .get("code")
            .and_then(Value::as_u64)
            .and_then(|code| u16::try_from(code).ok());
        let mut error = ApiError::bad_request(message);
        error.reason = reason(text("reason"));
        error.code = code.filter(|code| (400..600).contains(code)).unwrap_or(400);
        Some(error)
    }
}

/// A webhook's reason, if it is one of those that clients know; otherwise none.
fn reason(text: &str) -> &'static str {
    const KNOWN: [&str; 12] = [
        "AlreadyExists",
        "BadRequest",
        "Conflict",
        "Forbidden",
        "Gone",
        "Invalid",
        "InternalError",
        "NotAcceptable",
        "NotFound",
        "ServiceUnavailable",
        "TooManyRequests",
        "Unauthorized",
    ];
    KNOWN.into_iter().find(|known| *known == text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(response: Value) -> Result<Answer, ReviewError> {
        let review = json!({"kind": KIND, "apiVersion": VERSION, "response": response});
        parse(review.to_string().as_bytes(), "1")
    }

    #[test]
    fn refusals_are_told_in_the_known_words() {
        let said = |response| {
            let error = answer(response).unwrap().denial("w.x.y").unwrap();
            (error.code, error.message)
        };
        assert_eq!(
            said(json!({"uid": "1", "allowed": false})),
            (
                400,
                "admission webhook \"w.x.y\" denied the request without explanation".to_owned()
            )
        );
        assert_eq!(
            said(json!({"uid": "1", "status": {"message": "no", "code": 403, "reason": "Forbidden"}})),
            (403, "admission webhook \"w.x.y\" denied the request: no".to_owned())
        );
        assert_eq!(said(json!({"uid": "1", "status": {"code": 200}})).0, 400);
    }

    #[test]
    fn a_patch_comes_in_base64() {
        let operations = json!([{"op": "add", "path": "/x", "value": 1}]);
        let coded = STANDARD.encode(operations.to_string());
        let good = answer(json!({"uid": "1", "allowed": true, "patch": coded, "patchType": "JSONPatch"})).unwrap();
        assert_eq!(good.patch, Some(operations));
        assert!(answer(json!({"uid": "1", "allowed": true, "patch": coded})).is_err());
        assert!(answer(json!({"uid": "1", "allowed": true, "patch": "%", "patchType": "JSONPatch"})).is_err());
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        assert!(matches!(
            answer(json!({"uid": "2", "allowed": true})),
            Err(ReviewError::Uid { .. })
        ));
        assert!(parse(b"{}", "1").is_err() && parse(b"[", "1").is_err());
    }
}
