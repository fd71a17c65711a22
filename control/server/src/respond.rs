//! How answers are written: JSON, errors as Kubernetes Status objects, and the headers that every answer has.

use bytes::Bytes;
use coracle_api::status::ApiError;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::body::ResponseBody;

/// An answer.
pub(crate) type Answer = Response<ResponseBody>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache, private");
/// All warnings of one answer together stay below this, as in Kubernetes: clients and proxies limit headers.
const WARNINGS_BYTES: usize = 4096;

/// Bytes that are JSON already.
pub(crate) fn bytes(status: StatusCode, json: Bytes) -> Answer {
    typed(status, JSON, ResponseBody::full(json))
}

/// A tree as JSON.
pub(crate) fn json(status: StatusCode, value: &Value) -> Answer {
    // A tree of strings, numbers and maps always serialises.
    bytes(status, serde_json::to_vec(value).unwrap_or_default().into())
}

/// Plain text.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    typed(
        status,
        HeaderValue::from_static("text/plain; charset=utf-8"),
        ResponseBody::full(text),
    )
}

/// Any body with its content type.
pub(crate) fn typed(status: StatusCode, content_type: HeaderValue, body: ResponseBody) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer.headers_mut().insert(CACHE_CONTROL, NO_CACHE);
    answer
}

/// An error, as a Status.
pub(crate) fn error(error: &ApiError) -> Answer {
    let status = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = json(status, &error.to_status());
    let seconds = error.retry_after_seconds();
    if seconds > 0 {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

/// A path that leads nowhere.
pub(crate) fn page_not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// Adds warnings that kubectl shows to its user; each text once.
pub(crate) fn warn(answer: &mut Answer, warnings: &[String]) {
    let mut used = 0;
    for (index, warning) in warnings.iter().enumerate() {
        if warnings.iter().take(index).any(|earlier| earlier == warning) {
            continue;
        }
        let clean: String = warning.chars().filter(|c| !c.is_control()).collect();
        let text = format!("299 - \"{}\"", clean.replace('\\', "\\\\").replace('"', "\\\""));
        used += text.len();
        if used > WARNINGS_BYTES {
            return;
        }
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            answer.headers_mut().append(http::header::WARNING, value);
        }
    }
}

/// The quoted hash that names a document's content.
pub(crate) fn etag(document: &[u8]) -> String {
    let hash = Sha256::digest(document);
    let hex: String = hash.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("\"{hex}\"")
}

/// A document with its hash, or 304 when the client has it.
pub(crate) fn cached(headers: &HeaderMap, content_type: HeaderValue, document: &Bytes, etag: &str) -> Answer {
    let known = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| matches!(value.trim(), "*") || value.trim().trim_start_matches("W/") == etag);
    let mut answer = if known {
        let mut answer = typed(StatusCode::NOT_MODIFIED, content_type, ResponseBody::empty());
        answer.headers_mut().remove(CONTENT_TYPE);
        answer
    } else {
        typed(StatusCode::OK, content_type, ResponseBody::full(document.clone()))
    };
    if let Ok(value) = HeaderValue::from_str(etag) {
        answer.headers_mut().insert(ETAG, value);
    }
    answer
        .headers_mut()
        .append(http::header::VARY, HeaderValue::from_static("Accept"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_quoted_and_said_once() {
        let mut answer = json(StatusCode::OK, &Value::Null);
        warn(
            &mut answer,
            &[
                "unknown field \"spec.x\"".into(),
                "unknown field \"spec.x\"".into(),
                "two".into(),
            ],
        );
        let found: Vec<_> = answer
            .headers()
            .get_all("warning")
            .iter()
            .map(|v| v.to_str().unwrap().to_owned())
            .collect();
        assert_eq!(found, ["299 - \"unknown field \\\"spec.x\\\"\"", "299 - \"two\""]);
    }

    #[test]
    fn a_known_document_is_not_sent_again() {
        let document = Bytes::from_static(b"{}");
        let tag = etag(&document);
        let mut headers = HeaderMap::new();
        assert_eq!(cached(&headers, JSON, &document, &tag).status(), StatusCode::OK);
        headers.insert(IF_NONE_MATCH, tag.parse().unwrap());
        assert_eq!(
            cached(&headers, JSON, &document, &tag).status(),
            StatusCode::NOT_MODIFIED
        );
    }
}
