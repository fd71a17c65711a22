//! The one error type towards clients. It becomes a `Status` object whose code, reason and words are those of Kubernetes,
//! because clients and their tests match them literally.
//!
//! Nothing here decides whether something is an error; it only says it.

use crate::field_error::{FieldError, joined, quote};
use crate::key::GroupResource;
use serde_json::{Map, Value, json};

/// Largest request body in bytes; larger ones are refused with 413. It is Kubernetes' own limit, which clients know.
pub const BODY_LIMIT_BYTES: usize = 3 * 1024 * 1024;

/// A refused or failed request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason, such as `NotFound`.
    pub reason: &'static str,
    /// The words for people.
    pub message: String,
    /// What the error is about; boxed to keep results small.
    pub details: Option<Box<Details>>,
    /// A fresh continue token for a client whose own expired (410 only); otherwise empty.
    pub continue_token: String,
}

/// What an error is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// The object's name.
    pub name: String,
    /// The object's group.
    pub group: String,
    /// The resource (plural) in most errors, the kind in `Invalid`, as in Kubernetes.
    pub kind: String,
    /// The object's uid.
    pub uid: String,
    /// The single faults.
    pub causes: Vec<Cause>,
    /// After how many seconds to try again; 0 says nothing.
    pub retry_after_seconds: u32,
}

/// One fault of several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cause {
    /// The machine-readable reason.
    pub reason: String,
    /// The words for people.
    pub message: String,
    /// The field it is about, if any.
    pub field: String,
}

impl Cause {
    /// A cause that is not about a field.
    pub fn new(reason: &str, message: impl Into<String>) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.into(),
            field: String::new(),
        }
    }
}

impl Details {
    fn of(resource: &GroupResource, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            group: resource.group.to_string(),
            kind: resource.resource.to_string(),
            ..Self::default()
        }
    }

    fn to_value(&self) -> Value {
        let mut out = Map::new();
        let texts = [
            ("name", &self.name),
            ("group", &self.group),
            ("kind", &self.kind),
            ("uid", &self.uid),
        ];
        for (field, text) in texts {
            if !text.is_empty() {
                out.insert(field.to_owned(), Value::from(text.as_str()));
            }
        }
        if !self.causes.is_empty() {
            out.insert("causes".to_owned(), self.causes.iter().map(Cause::to_value).collect());
        }
        if self.retry_after_seconds > 0 {
            out.insert("retryAfterSeconds".to_owned(), Value::from(self.retry_after_seconds));
        }
        Value::Object(out)
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (field, text) in [
            ("reason", &self.reason),
            ("message", &self.message),
            ("field", &self.field),
        ] {
            if !text.is_empty() {
                out.insert(field.to_owned(), Value::from(text.as_str()));
            }
        }
        Value::Object(out)
    }
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
            continue_token: String::new(),
        }
    }

    /// With what the error is about.
    #[must_use]
    pub fn with_details(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// With one more cause.
    #[must_use]
    pub fn with_cause(mut self, cause: Cause) -> Self {
        self.details.get_or_insert_default().causes.push(cause);
        self
    }

    /// With a hint after how many seconds to try again; the server also sends it as `Retry-After`.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// With a fresh continue token, for an expired list.
    #[must_use]
    pub fn with_continue(mut self, token: impl Into<String>) -> Self {
        self.continue_token = token.into();
        self
    }

    /// Seconds after which to try again; 0 when the error says nothing about it.
    pub fn retry_after_seconds(&self) -> u32 {
        self.details.as_ref().map_or(0, |details| details.retry_after_seconds)
    }

    /// The error as a `v1 Status` object.
    pub fn to_status(&self) -> Value {
        let mut metadata = Map::new();
        if !self.continue_token.is_empty() {
            metadata.insert("continue".to_owned(), Value::from(self.continue_token.as_str()));
        }
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure",
            "message": self.message, "reason": self.reason,
        });
        if let Some(object) = status.as_object_mut() {
            if let Some(details) = &self.details {
                object.insert("details".to_owned(), details.to_value());
            }
            object.insert("code".to_owned(), Value::from(self.code));
        }
        status
    }

    /// 404: the object does not exist.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{resource} {} not found", quote(name)))
            .with_details(Details::of(resource, name))
    }

    /// 404: no such path, resource or subresource.
    pub fn no_such_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").with_details(Details::default())
    }

    /// 409: an object of that name exists.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::new(
            409,
            "AlreadyExists",
            format!("{resource} {} already exists", quote(name)),
        )
        .with_details(Details::of(resource, name))
    }

    /// 409: no free name was found for a `generateName`; the client may try again.
    pub fn generate_name_conflict(resource: &GroupResource, name: &str) -> Self {
        let name_in_words = quote(name);
        let words = format!(
            "{resource} {name_in_words} already exists, the server was not able to generate a unique name for the object"
        );
        Self::new(409, "AlreadyExists", words)
            .with_details(Details::of(resource, name))
            .with_retry_after(1)
    }

    /// 409: the object changed meanwhile, or a precondition failed; `message` says which.
    pub fn conflict(resource: &GroupResource, name: &str, message: &str) -> Self {
        let words = format!("Operation cannot be fulfilled on {resource} {}: {message}", quote(name));
        Self::new(409, "Conflict", words).with_details(Details::of(resource, name))
    }

    /// 409: the resource version in the request is no longer the current one.
    pub fn modified(resource: &GroupResource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 409: an apply would take fields from other managers; `message` names them.
    pub fn apply_conflict(message: impl Into<String>) -> Self {
        Self::new(409, "Conflict", message)
    }

    /// 403: the user may not, or admission refuses; `name` may be empty.
    pub fn forbidden(resource: &GroupResource, name: &str, message: &str) -> Self {
        let words = match (resource.resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {message}"),
            (false, true) => format!("{resource} is forbidden: {message}"),
            (false, false) => format!("{resource} {} is forbidden: {message}", quote(name)),
        };
        Self::new(403, "Forbidden", words).with_details(Details::of(resource, name))
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 422: the object breaks rules; `kind` is the kind (not the resource) and `errors` say which fields.
    pub fn invalid(kind: &str, group: &str, name: &str, errors: Vec<FieldError>) -> Self {
        let qualified = if group.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind}.{group}")
        };
        let mut words = format!("{qualified} {} is invalid", quote(name));
        if !errors.is_empty() {
            words.push_str(": ");
            words.push_str(&joined(&errors));
        }
        let causes = errors.iter().map(|error| Cause {
            reason: error.kind.reason().to_owned(),
            message: error.body(),
            field: error.path.clone(),
        });
        let details = Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: kind.to_owned(),
            causes: causes.collect(),
            ..Details::default()
        };
        Self::new(422, "Invalid", words).with_details(details)
    }

    /// 401: who are you?
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 405: the resource does not know this verb.
    pub fn method_not_allowed(resource: &GroupResource, verb: &str) -> Self {
        let words = format!(
            "{verb} is not supported on resources of kind {}",
            quote(&resource.to_string())
        );
        Self::new(405, "MethodNotAllowed", words).with_details(Details::of(resource, ""))
    }

    /// 410: the resource version or continue token is too old.
    pub fn gone_expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 413: the body is larger than `limit_bytes`.
    pub fn too_large(limit_bytes: usize) -> Self {
        Self::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {limit_bytes}"),
        )
    }

    /// 413: a JSON patch has more operations than allowed.
    pub fn too_many_operations(limit: usize, found: usize) -> Self {
        let words = format!("The allowed maximum operations in a JSON patch is {limit}, got {found}");
        Self::new(413, "RequestEntityTooLarge", words)
    }

    /// 413: the copies in a JSON patch make the object too large.
    pub fn too_much_copied(limit_bytes: usize, found_bytes: usize) -> Self {
        let words = format!(
            "Unable to complete the copy, the accumulated size increase of copy is {found_bytes}, exceeding the limit {limit_bytes}"
        );
        Self::new(413, "RequestEntityTooLarge", words)
    }

    /// 415: the body has a type that the server does not read.
    pub fn unsupported_media(accepted: &[&str]) -> Self {
        let words = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", words)
    }

    /// 406: the server cannot answer in a type that the client accepts.
    pub fn not_acceptable(available: &[&str]) -> Self {
        Self::new(
            406,
            "NotAcceptable",
            format!("only the following media types are accepted: {}", available.join(", ")),
        )
    }

    /// 422 without an object: a well-formed request that cannot be carried out, such as a failed test of a JSON patch.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(422, "Invalid", message)
    }

    /// 429: too much; try again after `retry_after_seconds`.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(429, "TooManyRequests", message).with_retry_after(retry_after_seconds)
    }

    /// 500: our own fault.
    pub fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        Self::new(500, "InternalError", format!("Internal error occurred: {message}")).with_cause(Cause {
            reason: String::new(),
            message,
            field: String::new(),
        })
    }

    /// 500 without a reason, for what Kubernetes answers so.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// 501: Kubernetes knows this, the server does not.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(501, "NotImplemented", message)
    }

    /// 503: not now.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 504: it took too long.
    pub fn timeout(message: &str, retry_after_seconds: u32) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {message}")).with_retry_after(retry_after_seconds)
    }

    /// 504: the client has seen a later revision than this server.
    pub fn too_large_resource_version(wanted: u64, current: u64) -> Self {
        Self::timeout(&format!("Too large resource version: {wanted}, current: {current}"), 1)
            .with_cause(Cause::new("ResourceVersionTooLarge", "Too large resource version"))
    }
}

/// The Status that answers a finished delete.
pub fn deleted(resource: &GroupResource, name: &str, uid: &str) -> Value {
    let details = Details {
        uid: uid.to_owned(),
        ..Details::of(resource, name)
    };
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details.to_value()})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> GroupResource {
        GroupResource::new("", "pods")
    }

    #[test]
    fn words_are_those_of_kubernetes() {
        let deployments = GroupResource::new("apps", "deployments");
        let cases = [
            (
                ApiError::not_found(&deployments, "x"),
                404,
                r#"deployments.apps "x" not found"#,
            ),
            (
                ApiError::already_exists(&pods(), "x"),
                409,
                r#"pods "x" already exists"#,
            ),
            (
                ApiError::modified(&pods(), "x"),
                409,
                "Operation cannot be fulfilled on pods \"x\": the object has been modified; please apply your changes to the latest version and try again",
            ),
            (
                ApiError::forbidden(&pods(), "x", "no"),
                403,
                r#"pods "x" is forbidden: no"#,
            ),
            (ApiError::forbidden(&pods(), "", "no"), 403, "pods is forbidden: no"),
            (ApiError::unauthorized(), 401, "Unauthorized"),
            (
                ApiError::method_not_allowed(&pods(), "create"),
                405,
                r#"create is not supported on resources of kind "pods""#,
            ),
            (
                ApiError::too_large(BODY_LIMIT_BYTES),
                413,
                "Request entity too large: limit is 3145728",
            ),
            (ApiError::internal("boom"), 500, "Internal error occurred: boom"),
            (
                ApiError::too_large_resource_version(9, 3),
                504,
                "Timeout: Too large resource version: 9, current: 3",
            ),
        ];
        for (error, code, message) in cases {
            assert_eq!((error.code, error.message.as_str()), (code, message));
        }
    }

    #[test]
    fn an_invalid_object_lists_its_causes() {
        let errors = vec![
            FieldError::required("spec.containers[0].image", ""),
            FieldError::duplicate("spec.containers[1].name", "a"),
        ];
        let status = ApiError::invalid("Pod", "", "x", errors).to_status();
        assert_eq!(
            status["message"],
            r#"Pod "x" is invalid: [spec.containers[0].image: Required value, spec.containers[1].name: Duplicate value: "a"]"#
        );
        assert_eq!(status["details"]["kind"], "Pod");
        assert_eq!(status["details"]["causes"][1]["message"], r#"Duplicate value: "a""#);
        assert_eq!(status["details"]["causes"][0]["reason"], "FieldValueRequired");
        assert_eq!(status["code"], 422);
    }

    #[test]
    fn a_status_has_the_fields_that_clients_decode() {
        let status = ApiError::gone_expired("too old").with_continue("t").to_status();
        assert_eq!(
            status,
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {"continue": "t"}, "status": "Failure", "message": "too old", "reason": "Expired", "code": 410})
        );
        let done = deleted(&pods(), "x", "u");
        assert_eq!(done["details"], json!({"name": "x", "kind": "pods", "uid": "u"}));
    }
}
