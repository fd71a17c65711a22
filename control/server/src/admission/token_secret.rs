//! Secrets of type `kubernetes.io/service-account-token`: the server fills in a token that is good while the Secret is
//! there.
//!
//! It is filled in by the write that makes the Secret, so that whoever made it can read it at once. The account becomes
//! the Secret's owner: when it goes, the garbage collector takes the Secret along.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_api::object;
use coracle_api::status::ApiError;
use serde_json::{Value, json};

use super::Request;
use crate::tokens::{Claims, Legacy};

const TYPE: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";

/// Fills in what such a Secret lacks, if its account exists.
pub(super) fn fill(request: &Request<'_>, secret: &mut Value) -> Result<(), ApiError> {
    if object::text(secret, "type") != TYPE {
        return Ok(());
    }
    let (core, namespace) = (request.scope.core, request.scope.namespace.unwrap_or_default());
    let account = object::annotation(secret, NAME).unwrap_or_default().to_owned();
    let Some(record) = request.snapshot.get(&format!("serviceaccounts/{namespace}/{account}")) else {
        return Ok(());
    };
    let uid = record.header.uid.clone();
    let known = object::annotation(secret, UID).unwrap_or_default();
    let has = |entry: &str| object::map(secret, "data").is_some_and(|data| data.contains_key(entry));
    if known == uid && has("token") && has("namespace") && has("ca.crt") {
        return Ok(());
    }
    let keep = known == uid && has("token");
    object::set_annotation(secret, UID, &uid);
    let entries = object::fields(object::child(secret, "data"));
    if !keep {
        let claims = Claims::Legacy(Legacy::new(namespace, request.name, &account, &uid));
        let token = core.tokens.sign(&claims);
        let token = token.map_err(|error| ApiError::internal(error.to_string()))?;
        entries.insert("token".to_owned(), json!(STANDARD.encode(token)));
    }
    entries.insert("namespace".to_owned(), json!(STANDARD.encode(namespace)));
    entries.insert("ca.crt".to_owned(), json!(STANDARD.encode(core.pki.ca_pem())));
    if object::owner_references(secret).is_empty() {
        let owner = json!({"apiVersion": "v1", "kind": "ServiceAccount", "name": account, "uid": uid});
        object::set(secret, "metadata.ownerReferences", json!([owner]));
    }
    Ok(())
}
