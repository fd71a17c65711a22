//! What a pod's runtime class asks of the node.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::{Api, Client};

/// Handlers that run guests as pods without a class have them.
const PLAIN: [&str; 2] = ["coracle", "wasmtime"];

/// The handler that meters CPU limits by instructions.
const FUEL: &str = "coracle-fuel";

/// The node does not do what the class asks.
#[derive(Debug, thiserror::Error)]
pub enum ClassError {
    /// The API did not tell.
    #[error("Failed to create pod sandbox: cannot read RuntimeClass {name:?}: {source}")]
    Unknown {
        /// Its name.
        name: String,
        /// What the API said.
        source: Box<kube::Error>,
    },
    /// Its handler is another program's.
    #[error("Failed to create pod sandbox: no runtime for {handler:?} is configured; this node has coracle and {FUEL}")]
    NoHandler {
        /// The handler.
        handler: String,
    },
}

/// Whether a pod's CPU limits count instructions. Pods without a class ask nobody.
///
/// # Errors
/// When the class cannot be read, or is for another kind of node.
pub async fn of(client: &Client, pod: &Pod) -> Result<bool, ClassError> {
    let class = pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_deref());
    let Some(name) = class.filter(|name| !name.is_empty()) else {
        return Ok(false);
    };
    let classes: Api<RuntimeClass> = Api::all(client.clone());
    let found = classes.get(name).await;
    let found = found.map_err(|source| ClassError::Unknown {
        name: name.to_owned(),
        source: Box::new(source),
    })?;
    match found.handler.as_str() {
        FUEL => Ok(true),
        plain if PLAIN.contains(&plain) => Ok(false),
        handler => Err(ClassError::NoHandler {
            handler: handler.to_owned(),
        }),
    }
}
