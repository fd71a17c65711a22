//! The objects that every cluster has: namespaces, roles, the system's priorities, the default class of storage, and the
//! service of the API itself.
//!
//! They are written through the chain like everybody's, and only where something is missing: what an administrator added
//! stays.

pub(crate) mod components;
mod flow;
mod reconcile;
mod roles;

use std::sync::Arc;

use bytes::Bytes;
use coracle_api::object;
use coracle_api::status::ApiError;
use futures::future::{try_join, try_join_all, try_join3};
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use crate::admission::priority;
use crate::core::Core;
use crate::identity::{Identity, MASTERS};
use crate::pki::FRONT_PROXY;
use crate::server::BuildError;
use crate::{aggregate, chain, document, presence, service_ranges};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const FLOW: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// Set to `false` by whoever wants a default role or binding to stay as it is.
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// Writes what is missing.
pub(crate) async fn run(core: &Arc<Core>) -> Result<(), BuildError> {
    for name in NAMESPACES {
        create(core, "/api/v1/namespaces", json!({"metadata": {"name": name}})).await?;
    }
    // Together: each write is durable before the next, but those that wait at the same time share one commit.
    let roles = roles::cluster_roles().into_iter().flat_map(|(role, bindings)| {
        let bindings = bindings.into_iter().map(|binding| ("clusterrolebindings", binding));
        std::iter::once(("clusterroles", role)).chain(bindings)
    });
    try_join_all(roles.map(|(plural, object)| keep(core, plural, object))).await?;
    let accounts = NAMESPACES.map(|namespace| {
        let account = json!({"metadata": {"name": "default"}});
        create_path(core, format!("/api/v1/namespaces/{namespace}/serviceaccounts"), account)
    });
    let registrations = aggregate::local::builtin(document::kinds());
    let registrations = registrations
        .into_iter()
        .map(|one| create_path(core, aggregate::PATH.to_owned(), one));
    let flows = [
        ("flowschemas", flow::schemas()),
        ("prioritylevelconfigurations", flow::levels()),
    ];
    let flows = flows
        .into_iter()
        .flat_map(|(plural, objects)| objects.into_iter().map(move |object| (plural, object)));
    let flows = flows.map(|(plural, object)| keep_flow(core, plural, object));
    try_join3(try_join_all(accounts), try_join_all(registrations), try_join_all(flows)).await?;
    priority_classes(core).await?;
    storage_class(core).await?;
    authentication(core).await?;
    service_range(core).await?;
    presence::announce(core).await.map_err(|source| BuildError::Bootstrap {
        object: "the lease of the server".to_owned(),
        source,
    })?;
    api_service(core).await
}

/// Makes a role or binding, or adds to it what it lacks.
async fn keep(core: &Arc<Core>, plural: &str, wanted: Value) -> Result<(), BuildError> {
    let name = object::name(&wanted);
    let path = format!("{RBAC}/{plural}");
    let Some(record) = core
        .store
        .snapshot()
        .get(&format!("{plural}.{}//{name}", roles::RBAC))
        .cloned()
    else {
        return create(core, &path, wanted).await;
    };
    let present = document::tree(&record).map_err(|error| failed(&path, &wanted, error))?;
    match reconcile::reconcile(&present, &wanted) {
        None => Ok(()),
        Some(next) => {
            let sent = send(core, Method::PUT, &format!("{path}/{name}"), &next).await;
            sent.map_err(|error| failed(&path, &wanted, error))
        }
    }
}

/// Makes a flow schema or a level, or gives it its spec back, unless an administrator has taken it over.
async fn keep_flow(core: &Arc<Core>, plural: &str, wanted: Value) -> Result<(), BuildError> {
    let name = object::name(&wanted);
    let path = format!("{FLOW}/{plural}");
    let key = format!("{plural}.flowcontrol.apiserver.k8s.io//{name}");
    let Some(record) = core.store.snapshot().get(&key).cloned() else {
        return create(core, &path, wanted).await;
    };
    let mut next = document::tree(&record).map_err(|error| failed(&path, &wanted, error))?;
    if object::annotation(&next, flow::AUTO_UPDATE) != Some("true") || next.get("spec") == wanted.get("spec") {
        return Ok(());
    }
    object::set(&mut next, "spec", wanted.get("spec").cloned().unwrap_or_default());
    let sent = send(core, Method::PUT, &format!("{path}/{name}"), &next).await;
    sent.map_err(|error| failed(&path, &wanted, error))
}

/// The two classes for pods that a cluster cannot do without.
async fn priority_classes(core: &Arc<Core>) -> Result<(), BuildError> {
    let served = core.serving.current();
    if served
        .kinds
        .find("scheduling.k8s.io", "v1", "priorityclasses")
        .is_none()
    {
        return Ok(());
    }
    for (name, value) in priority::SYSTEM {
        let class = json!({"metadata": {"name": name}, "value": value, "description": priority::DESCRIPTION});
        create(core, "/apis/scheduling.k8s.io/v1/priorityclasses", class).await?;
    }
    Ok(())
}

/// The class of claims that name none: a directory on the node of the first pod that uses it.
async fn storage_class(core: &Arc<Core>) -> Result<(), BuildError> {
    let class = json!({
        "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "coracle.dev/node-local",
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete",
        "allowVolumeExpansion": true,
    });
    create(core, "/apis/storage.k8s.io/v1/storageclasses", class).await
}

/// How servers behind this one find out whom it trusts, and who may read that.
async fn authentication(core: &Arc<Core>) -> Result<(), BuildError> {
    let namespace = "/api/v1/namespaces/kube-system";
    let map = json!({
        "metadata": {"name": "extension-apiserver-authentication"},
        "data": {
            "client-ca-file": core.pki.ca_pem(),
            "requestheader-client-ca-file": core.pki.front_proxy_ca_pem(),
            "requestheader-allowed-names": json!([FRONT_PROXY]).to_string(),
            "requestheader-username-headers": json!(["X-Remote-User"]).to_string(),
            "requestheader-uid-headers": json!(["X-Remote-Uid"]).to_string(),
            "requestheader-group-headers": json!(["X-Remote-Group"]).to_string(),
            "requestheader-extra-headers-prefix": json!(["X-Remote-Extra-"]).to_string(),
        },
    });
    put(core, &format!("{namespace}/configmaps"), map).await?;
    let role = roles::labelled(json!({
        "metadata": {"name": "extension-apiserver-authentication-reader"},
        "rules": [{
            "apiGroups": [""], "resources": ["configmaps"],
            "resourceNames": ["extension-apiserver-authentication"], "verbs": ["get", "list", "watch"],
        }],
    }));
    let user = |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name});
    let binding = roles::labelled(json!({
        "metadata": {"name": "system::extension-apiserver-authentication-reader"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "extension-apiserver-authentication-reader",
        },
        "subjects": [user("system:kube-controller-manager"), user("system:kube-scheduler")],
    }));
    let place = format!("{RBAC}/namespaces/kube-system");
    let role = create_path(core, format!("{place}/roles"), role);
    let binding = create_path(core, format!("{place}/rolebindings"), binding);
    try_join(role, binding).await.map(drop)
}

async fn create_path(core: &Arc<Core>, path: String, object: Value) -> Result<(), BuildError> {
    create(core, &path, object).await
}

/// The range that the addresses of services are from.
async fn service_range(core: &Arc<Core>) -> Result<(), BuildError> {
    let range = service_ranges::default_object(&core.addresses.range());
    create(core, "/apis/networking.k8s.io/v1/servicecidrs", range).await
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
            let name = object::name(&object);
            send(core, Method::PUT, &format!("{path}/{name}"), &object).await
        }
        other => other,
    };
    result.map_err(|source| failed(path, &object, source))
}

fn failed(path: &str, object: &Value, source: ApiError) -> BuildError {
    BuildError::Bootstrap {
        object: format!("{path}/{}", object::name(object)),
        source,
    }
}

/// Writes through the chain, as the server itself.
pub(crate) async fn send(core: &Arc<Core>, method: Method, path: &str, object: &Value) -> Result<(), ApiError> {
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
    let mut error = ApiError::bad_request(object::text(&status, "message"));
    error.code = code;
    Err(error)
}
