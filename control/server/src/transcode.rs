//! Protobuf answers, for the few clients that take nothing else. Everyone who also takes JSON gets JSON: stored bytes go out as
//! they are.

use coracle_api::protobuf;
use coracle_api::status::ApiError;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response};
use http_body_util::BodyExt;

use crate::body::ResponseBody;
use crate::respond::Answer;
use crate::{document, negotiate};

const JSON: &str = "application/json";
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/vnd.kubernetes.protobuf");

/// Makes the request one for JSON if protobuf is all that its client takes, and says whether it was.
pub(crate) fn ask_for_json(headers: &mut HeaderMap) -> bool {
    let only = negotiate::only_protobuf(headers);
    if only {
        headers.insert(http::header::ACCEPT, HeaderValue::from_static(JSON));
    }
    only
}

/// The same answer in protobuf. What is no object of a known kind, such as text, stays as it is.
pub(crate) async fn to_protobuf(answer: Answer) -> Result<Answer, ApiError> {
    let json = answer.headers().get(CONTENT_TYPE).is_some_and(|value| value == JSON);
    if !json {
        return Ok(answer);
    }
    let (mut parts, body) = answer.into_parts();
    let bytes = body
        .collect()
        .await
        .map_err(|error| ApiError::internal(error.to_string()))?
        .to_bytes();
    let encoded = document::parse(&bytes).and_then(|object| protobuf::encode(&object));
    let body = match encoded {
        Ok(encoded) => {
            parts.headers.insert(CONTENT_TYPE, PROTOBUF);
            ResponseBody::full(encoded)
        }
        Err(_) => ResponseBody::full(bytes),
    };
    parts.headers.remove(CONTENT_LENGTH);
    Ok(Response::from_parts(parts, body))
}
