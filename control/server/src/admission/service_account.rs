//! Every pod runs as a service account of its namespace, which must exist.

use std::time::Duration;

use coracle_api::object;
use coracle_api::status::ApiError;
use serde_json::{Value, json};

use super::Request;
use crate::document;
use crate::registry::Scope;

const DEFAULT: &str = "default";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// How long a pod waits for the account that a new namespace gets: somebody who makes a namespace and a pod in it at once
/// need not know that a controller comes between.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits for the default account of a namespace that has just been made.
pub(crate) async fn wait(scope: &Scope<'_>, pod: &Value) {
    let name = object::text(pod, "spec.serviceAccountName");
    if !matches!(name, "" | DEFAULT) {
        return;
    }
    let store = &scope.core.store;
    let snapshot = store.snapshot();
    let namespace = scope.namespace.unwrap_or_default();
    let key = format!("serviceaccounts/{namespace}/{DEFAULT}");
    // Without the namespace there is nothing to wait for.
    let lives = snapshot.get(&super::namespace::key(namespace)).is_some();
    if !lives || snapshot.get(&key).is_some() {
        return;
    }
    if let Ok(mut events) = store.watch(&key, snapshot.revision()) {
        // Whether it came is looked at again by who decides.
        let _ = tokio::time::timeout(PATIENCE, events.next()).await;
    }
}

/// Names the account, and gives the pod what the account brings along.
pub(super) fn mutate(request: &Request<'_>, pod: &mut Value) -> Result<(), ApiError> {
    if object::annotation(pod, MIRROR).is_some() {
        return mirror(request, pod);
    }
    if object::text(pod, "spec.serviceAccountName").is_empty() {
        object::set(pod, "spec.serviceAccountName", json!(DEFAULT));
    }
    let name = object::text(pod, "spec.serviceAccountName").to_owned();
    object::set(pod, "spec.serviceAccount", json!(name));
    let namespace = request.scope.namespace.unwrap_or_default();
    let Some(record) = request.snapshot.get(&format!("serviceaccounts/{namespace}/{name}")) else {
        return Err(request.forbidden(&format!(
            "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
        )));
    };
    let brings = memchr::memmem::find(&record.json, b"\"imagePullSecrets\"").is_some();
    if brings && object::list(pod, "spec.imagePullSecrets").is_empty() {
        let account = document::tree(record)?;
        let secrets = object::list(&account, "imagePullSecrets").to_vec();
        if !secrets.is_empty() {
            object::set(pod, "spec.imagePullSecrets", Value::Array(secrets));
        }
    }
    Ok(())
}

/// A pod that a node shows, but that does not come from the API, has no account and no objects.
fn mirror(request: &Request<'_>, pod: &Value) -> Result<(), ApiError> {
    if !object::text(pod, "spec.serviceAccountName").is_empty() {
        return Err(request.forbidden("a mirror pod may not reference service accounts"));
    }
    let volumes = object::list(pod, "spec.volumes").iter();
    let mut volumes = volumes.filter(|volume| object::get(volume, "secret").is_some());
    match volumes.next() {
        Some(_) => Err(request.forbidden("a mirror pod may not reference secrets")),
        None => Ok(()),
    }
}
