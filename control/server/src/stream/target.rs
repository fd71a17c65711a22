//! What an upgraded connection leads to: a pod on its node, or one of its containers; and who may open one.

use coracle_api::object;
use coracle_api::status::ApiError;
use serde_json::Value;

use crate::authz::{self, Attributes};
use crate::chain::Call;
use crate::dial::{ContainerTarget, PodTarget};

/// A GET opens a connection as much as a POST does, so it needs the same right.
pub(super) fn may_connect(call: &Call<'_>) -> Result<(), ApiError> {
    let Some(path) = call.info.resource.as_ref().filter(|_| call.info.verb == "get") else {
        return Ok(());
    };
    let attributes = Attributes {
        verb: "create",
        path: None,
        group: &path.group,
        resource: &path.resource,
        subresource: path.subresource.as_deref(),
        namespace: path.namespace.as_deref(),
        name: path.name.as_deref(),
        node: None,
    };
    authz::check(call.core, call.identity, &attributes)
}

/// The node that runs a pod.
pub(super) fn node(pod: &Value) -> Result<&str, ApiError> {
    match object::text(pod, "spec.nodeName") {
        "" => Err(ApiError::bad_request(format!(
            "pod {} does not have a host assigned",
            object::name(pod)
        ))),
        node => Ok(node),
    }
}

/// A pod, as a node knows it.
pub(super) fn pod(pod: &Value) -> PodTarget {
    PodTarget {
        namespace: object::namespace(pod).to_owned(),
        pod: object::name(pod).to_owned(),
        uid: object::uid(pod).to_owned(),
    }
}

/// One of a pod's containers, as a node knows it.
pub(super) fn container(pod: &Value, container: String) -> ContainerTarget {
    ContainerTarget {
        namespace: object::namespace(pod).to_owned(),
        pod: object::name(pod).to_owned(),
        uid: object::uid(pod).to_owned(),
        container,
    }
}
