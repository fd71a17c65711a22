//! How others find out by which key tokens of service accounts are signed: OpenID Connect discovery.

use bytes::Bytes;
use http::header::HeaderValue;
use http::{StatusCode, header};
use serde_json::json;

use crate::authn::AUDIENCE;
use crate::body::ResponseBody;
use crate::respond::{self, Answer};
use crate::tokens::Tokens;

const KEYS: &str = "openid/v1/jwks";
/// Keys change with the cluster only; an hour is what Kubernetes lets others remember them.
const REMEMBER: HeaderValue = HeaderValue::from_static("public, max-age=3600");

/// Answers a discovery path (without its first slash); `None` when it is none.
pub(crate) fn answer(tokens: &Tokens, path: &str) -> Option<Answer> {
    let (document, media) = match path {
        ".well-known/openid-configuration" => (
            json!({
                "issuer": AUDIENCE,
                "jwks_uri": format!("{AUDIENCE}/{KEYS}"),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            }),
            "application/json",
        ),
        KEYS => (tokens.key_set(), "application/jwk-set+json"),
        _ => return None,
    };
    let body = ResponseBody::full(Bytes::from(document.to_string()));
    let mut answer = respond::typed(StatusCode::OK, HeaderValue::from_static(media), body);
    answer.headers_mut().insert(header::CACHE_CONTROL, REMEMBER);
    Some(answer)
}
