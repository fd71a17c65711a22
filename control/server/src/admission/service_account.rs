//! Every pod runs as a service account of its namespace, which must exist, and finds a token for it in its files.

use std::time::Duration;

use coracle_api::object;
use coracle_api::status::ApiError;
use serde_json::{Value, json};

use super::Request;
use crate::document;
use crate::registry::Scope;
use crate::registry::create::generated_name;

const DEFAULT: &str = "default";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// How long a pod waits for the account that a new namespace gets: somebody who makes a namespace and a pod in it at once
/// need not know that a controller comes between.
const PATIENCE: Duration = Duration::from_secs(1);
/// Where client libraries look for what they need to call the API.
const ACCESS_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What the names of the volumes with these files begin with.
const ACCESS_VOLUME: &str = "kube-api-access-";
/// An hour, and some seconds by which the server knows such a token.
const TOKEN_SECONDS: u32 = 3607;

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
    let says = |word: &str| memchr::memmem::find(&record.json, word.as_bytes()).is_some();
    let account = match says("\"imagePullSecrets\"") || says("\"automountServiceAccountToken\"") {
        true => document::tree(record)?,
        false => Value::Null,
    };
    let secrets = object::list(&account, "imagePullSecrets").to_vec();
    if !secrets.is_empty() && object::list(pod, "spec.imagePullSecrets").is_empty() {
        object::set(pod, "spec.imagePullSecrets", Value::Array(secrets));
    }
    let wanted = |object: &Value, path: &str| object::get(object, path).and_then(Value::as_bool);
    let own = wanted(pod, "spec.automountServiceAccountToken");
    if own.or_else(|| wanted(&account, "automountServiceAccountToken")) != Some(false) {
        mount_access(pod);
    }
    Ok(())
}

/// Gives every container that has nothing at the usual place the files by which it calls the API.
fn mount_access(pod: &mut Value) {
    let mut volumes = object::list(pod, "spec.volumes").iter().map(object::name_of);
    let known = volumes.find(|name| name.starts_with(ACCESS_VOLUME));
    let volume = known.map_or_else(|| generated_name(ACCESS_VOLUME), str::to_owned);
    let mount = json!({"name": volume, "readOnly": true, "mountPath": ACCESS_PATH});
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        let containers = pod.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let mut mounts = object::list(container, "volumeMounts").to_vec();
            if mounts.iter().any(|own| object::text(own, "mountPath") == ACCESS_PATH) {
                continue;
            }
            mounts.push(mount.clone());
            object::set(container, "volumeMounts", Value::Array(mounts));
            mounted = true;
        }
    }
    let mut volumes = object::list(pod, "spec.volumes").to_vec();
    if mounted && !volumes.iter().any(|own| object::name_of(own) == volume) {
        volumes.push(json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            ]}},
        ]}}));
        object::set(pod, "spec.volumes", Value::Array(volumes));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_find_their_token_unless_they_have_something_there() {
        let own = json!({"name": "own", "mountPath": ACCESS_PATH});
        let mut pod = json!({"spec": {
            "initContainers": [{"name": "i"}],
            "containers": [{"name": "a", "volumeMounts": [own]}, {"name": "b"}],
            "volumes": [{"name": "own", "emptyDir": {}}],
        }});
        mount_access(&mut pod);
        let spec = &pod["spec"];
        let name = spec["volumes"][1]["name"].as_str().unwrap().to_owned();
        assert!(
            name.starts_with(ACCESS_VOLUME) && name.len() == ACCESS_VOLUME.len() + 5,
            "{name}"
        );
        let mount = json!([{"name": name, "readOnly": true, "mountPath": ACCESS_PATH}]);
        assert_eq!(spec["initContainers"][0]["volumeMounts"], mount);
        assert_eq!(spec["containers"][0]["volumeMounts"], json!([own]));
        assert_eq!(spec["containers"][1]["volumeMounts"], mount);
        let once = pod.clone();
        mount_access(&mut pod);
        assert_eq!(pod, once, "a pod that is created from another's text has it already");
    }
}
