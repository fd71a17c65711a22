//! Kinds that are questions: who am I, whose token is this, and may somebody do this? A create is answered, nothing is
//! stored.

mod access;
mod rules;

use coracle_api::kinds::Kind;
use coracle_api::object;
use coracle_api::status::ApiError;
use http::StatusCode;
use serde_json::{Value, json};

use crate::authn::{self, AUDIENCE};
use crate::chain::Call;
use crate::core::Core;
use crate::decode::{self, RequestBody};
use crate::negotiate;
use crate::respond::{self, Answer};

/// Answers a review.
pub(crate) async fn answer(call: &Call<'_>, kind: &Kind, body: RequestBody) -> Result<Answer, ApiError> {
    negotiate::plain(&call.parts.headers)?;
    let options = call.write_options("CreateOptions")?;
    let api_version = kind.api_version();
    let document = call.document(body).await?;
    let (mut review, warnings) = decode::normalise(document, decode::expected(kind, &api_version), options.validation)?;
    let namespace = call.info.resource.as_ref().and_then(|path| path.namespace.as_deref());
    decode::settle_namespace(&mut review, namespace.filter(|_| kind.namespaced))?;
    let status = match kind.kind.as_ref() {
        "SelfSubjectReview" => json!({"userInfo": call.identity.user_info()}),
        "TokenReview" => token(call.core, &review)?,
        "SelfSubjectAccessReview" => access::answer(call.core, call.identity, &review)?,
        "SubjectAccessReview" => access::answer(call.core, &access::subject(&review)?, &review)?,
        "LocalSubjectAccessReview" => access::local(call.core, &review, namespace.unwrap_or_default())?,
        "SelfSubjectRulesReview" => rules::answer(call.core, call.identity, &review)?,
        _ => return Err(ApiError::no_such_resource()),
    };
    object::set(&mut review, "status", status);
    if kind.kind == "TokenReview" {
        // The answer goes through more hands than the question; it does not repeat the secret.
        object::remove(&mut review, "spec.token");
    }
    let mut answer = respond::json(StatusCode::CREATED, &review);
    respond::warn(&mut answer, &warnings);
    Ok(answer)
}

fn token(core: &Core, review: &Value) -> Result<Value, ApiError> {
    let token = object::text(review, "spec.token");
    if token.is_empty() {
        return Err(ApiError::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let audiences: Vec<&str> = object::list(review, "spec.audiences")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let asked = !audiences.is_empty();
    let audiences = if asked { audiences } else { vec![AUDIENCE] };
    Ok(match authn::verify(core, token, &audiences) {
        Ok(verified) => json!({
            "authenticated": true, "user": verified.identity.user_info(), "audiences": verified.audiences,
        }),
        Err(_) => json!({"user": {}, "error": "invalid bearer token"}),
    })
}
