//! Asks the conversion webhook of a custom kind.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coracle_api::custom::{Custom, conversion};
use coracle_api::kinds::Kind;
use coracle_api::object;
use coracle_api::status::ApiError;
use serde_json::Value;

use super::call::{self, Question};
use super::config::Endpoint;
use crate::core::Core;
use crate::document;

/// How long a conversion may take, as in Kubernetes.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How much of an answer is read. A whole list is one question, so this is what a list of small objects may have: some
/// 60,000 of 1 KiB.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Brings objects into a version of their kind, given as an `apiVersion`. Those that are in it already stay as they are;
/// the others are asked about in one question.
///
/// # Errors
/// When the webhook does not answer as it must.
pub(crate) async fn convert(
    core: &Core,
    kind: &Kind,
    custom: &Custom,
    desired: &str,
    objects: &mut [Value],
) -> Result<(), ApiError> {
    let Some(webhook) = custom.webhook.as_deref() else {
        return Ok(());
    };
    let other = |object: &&mut Value| object::text(object, "apiVersion") != desired;
    let waiting: Vec<&mut Value> = objects.iter_mut().filter(other).collect();
    if waiting.is_empty() {
        return Ok(());
    }
    let asked: Vec<Value> = waiting.iter().map(|object| (**object).clone()).collect();
    let from = asked.first().map_or("", |object| object::text(object, "apiVersion"));
    let converted = ask(core, webhook, desired, &asked).await.map_err(|why| {
        ApiError::internal(format!(
            "conversion webhook for {from}, Kind={} failed: {why}",
            kind.kind
        ))
    })?;
    for (place, object) in waiting.into_iter().zip(converted) {
        *place = object;
    }
    Ok(())
}

async fn ask(core: &Core, webhook: &Value, desired: &str, objects: &[Value]) -> Result<Vec<Value>, String> {
    let understood = object::list(webhook, "conversionReviewVersions");
    if !understood.iter().any(|version| version == "v1") {
        return Err("it understands no version of reviews that this server writes: v1".to_owned());
    }
    let nothing = Value::Null;
    let client = webhook.get("clientConfig").unwrap_or(&nothing);
    let endpoint = Endpoint::of(client);
    let authorities = STANDARD.decode(object::text(client, "caBundle")).unwrap_or_default();
    let uid = uuid::Uuid::new_v4().to_string();
    let question = document::bytes(&conversion::question(&uid, desired, objects));
    let question = Question {
        endpoint: &endpoint,
        timeout: TIMEOUT,
        authorities: &authorities,
        body: &question,
        answer_bytes: ANSWER_BYTES,
    };
    let posted = call::post(core, &question);
    let answer = match tokio::time::timeout(TIMEOUT, posted).await {
        Ok(Ok(bytes)) => serde_json::from_slice(&bytes).map_err(|error| error.to_string())?,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("Post {:?}: context deadline exceeded", endpoint.url(TIMEOUT))),
    };
    conversion::converted(&uid, desired, objects, &answer)
}
