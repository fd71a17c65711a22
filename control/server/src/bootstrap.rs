//! The objects that every cluster has: namespaces, roles, the system's priorities, and the service of the API itself.
//!
//! They are written through the chain like everybody's, each only if it is missing: what an administrator changed stays.

mod roles;

use std::sync::Arc;

use bytes::Bytes;
use coracle_api::status::ApiError;
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use crate::chain;
use crate::core::Core;
use crate::identity::{Identity, MASTERS};
use crate::server::BuildError;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// The classes of pods that a cluster cannot do without, the second also not for a moment and not elsewhere. Kubernetes'
/// names and values.
const SYSTEM_PRIORITIES: [(&str, u32); 2] = [
    ("system-cluster-critical", 2_000_000_000),
    ("system-node-critical", 2_000_001_000),
];

/// Writes what is missing.
pub(crate) async fn run(core: &Arc<Core>) -> Result<(), BuildError> {
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        create(core, "/api/v1/namespaces", json!({"metadata": {"name": name}})).await?;
    }
    for (role, bindings) in roles::cluster_roles() {
        create(core, &format!("{RBAC}/clusterroles"), role).await?;
        for binding in bindings {
            create(core, &format!("{RBAC}/clusterrolebindings"), binding).await?;
        }
    }
    for (name, value) in SYSTEM_PRIORITIES {
        let class = json!({"metadata": {"name": name}, "value": value});
        create(core, "/apis/scheduling.k8s.io/v1/priorityclasses", class).await?;
    }
    api_service(core).await
}

/// The `kubernetes` service, by which pods find the API.
async fn api_service(core: &Arc<Core>) -> Result<(), BuildError> {
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let service = json!({
        "metadata": {"name": "kubernetes", "labels": labels},
        "spec": {
            "type": "ClusterIP", "clusterIP": core.addresses.first().to_string(), "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": core.advertise.map_or(6443, |(_, port)| port)}],
        },
    });
    create(core, "/api/v1/namespaces/default/services", service).await?;
    // Pods have a loopback of their own, so an API on the host's is no endpoint for them; Kubernetes refuses one too.
    let Some((address, port)) = core.advertise.filter(|(address, _)| !address.is_loopback()) else {
        return Ok(());
    };
    let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
    let endpoints = json!({
        "metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": address.to_string()}], "ports": ports}],
    });
    let slice = json!({
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [address.to_string()], "conditions": {"ready": true}}],
        "ports": ports,
    });
    // The port may be another one at every start.
    put(core, "/api/v1/namespaces/default/endpoints", endpoints).await?;
    put(
        core,
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        slice,
    )
    .await
}

/// Creates an object; that it exists already is fine.
async fn create(core: &Arc<Core>, path: &str, object: Value) -> Result<(), BuildError> {
    match send(core, Method::POST, path, &object).await {
        Ok(()) => Ok(()),
        Err(error) if error.code == 409 => Ok(()),
        Err(source) => Err(failed(path, &object, source)),
    }
}

/// Creates an object or replaces it.
async fn put(core: &Arc<Core>, path: &str, object: Value) -> Result<(), BuildError> {
    let result = match send(core, Method::POST, path, &object).await {
        Err(error) if error.code == 409 => {
            let name = coracle_api::object::name(&object);
            send(core, Method::PUT, &format!("{path}/{name}"), &object).await
        }
        other => other,
    };
    result.map_err(|source| failed(path, &object, source))
}

fn failed(path: &str, object: &Value, source: ApiError) -> BuildError {
    BuildError::Bootstrap {
        object: format!("{path}/{}", coracle_api::object::name(object)),
        source,
    }
}

async fn send(core: &Arc<Core>, method: Method, path: &str, object: &Value) -> Result<(), ApiError> {
    let identity = Identity::new("system:apiserver", &[MASTERS]);
    let body = Full::new(Bytes::from(object.to_string()))
        .map_err(|never| match never {})
        .boxed_unsync();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|error| ApiError::internal(error.to_string()))?;
    let answer = chain::serve(core.clone(), identity, request).await;
    let code = answer.status().as_u16();
    if answer.status().is_success() {
        return Ok(());
    }
    let body = answer
        .into_body()
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let status: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut error = ApiError::bad_request(coracle_api::object::text(&status, "message"));
    error.code = code;
    Err(error)
}
