//! Turns an [`Action`] into a request, and the answer into what a driver must know of it.
//!
//! Of an answer only the metadata that tells one write from another is decoded. Nothing is retried here.

use kube::{
    Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
    core::Request,
};
use serde::Deserialize;
use serde_json::Value;

use crate::ask::Ask;
use crate::plan::{Action, Propagation, Verb};

/// Why a write did not go through.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The server refused it.
    #[error("{message}")]
    Api {
        /// The HTTP status.
        code: u16,
        /// The machine-readable reason, `AlreadyExists`.
        reason: String,
        /// The server's sentence.
        message: String,
    },
    /// The server was not reached, or its answer was not understood.
    #[error("{0}")]
    Transport(String),
}

impl WriteError {
    /// Somebody else's write came first.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api { code: 409, reason, .. } if reason != "AlreadyExists")
    }

    /// Whether it is unknown what became of the write: the answer was lost on its way, or the server could not say.
    #[must_use]
    pub fn is_unsure(&self) -> bool {
        match self {
            Self::Api { code, .. } => *code >= 500,
            Self::Transport(_) => true,
        }
    }

    /// Whether the object is not there (any more).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { code: 404, .. })
    }

    /// Whether the namespace is on its way out, so that nothing can be created in it for good.
    #[must_use]
    pub fn is_namespace_ending(&self) -> bool {
        matches!(self, Self::Api { code: 403, message, .. } if message.contains("because it is being terminated"))
    }
}

impl From<kube::Error> for WriteError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Api {
                code: status.code,
                reason: status.reason.clone(),
                message: status.message.clone(),
            },
            other => Self::Transport(other.to_string()),
        }
    }
}

/// What the server said of an object that was written or read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Written {
    /// Its identity, where the answer is an object.
    pub metadata: WrittenMetadata,
}

/// The metadata of a [`Written`] object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WrittenMetadata {
    /// The name, which the server may have made up.
    pub name: String,
    /// The uid.
    pub uid: String,
    /// The resource version of the write.
    pub resource_version: String,
    /// Set when the object is being deleted.
    pub deletion_timestamp: Option<String>,
}

/// Writes actions through a client.
#[derive(Clone)]
pub struct Writer {
    client: Client,
}

impl Writer {
    /// A writer through this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Writes once.
    ///
    /// # Errors
    /// When the server refuses or is not reached.
    pub async fn write(&self, action: &Action) -> Result<Written, WriteError> {
        let request = request(action).map_err(kube::Error::BuildRequest)?;
        Ok(self.client.request(request).await?)
    }

    /// Asks once.
    ///
    /// # Errors
    /// When the server refuses or is not reached.
    pub async fn ask(&self, ask: &Ask) -> Result<Value, WriteError> {
        let json = http::HeaderValue::from_static("application/json");
        let request = http::Request::builder()
            .uri(&ask.path)
            .header(http::header::ACCEPT, json.clone());
        let request = match &ask.review {
            None => request.body(Vec::new()),
            Some(review) => {
                let request = request
                    .method(http::Method::POST)
                    .header(http::header::CONTENT_TYPE, json);
                request.body(review.to_string().into_bytes())
            }
        };
        let request = request.map_err(|error| WriteError::Transport(error.to_string()))?;
        Ok(self.client.request(request).await?)
    }
}

fn request(action: &Action) -> Result<http::Request<Vec<u8>>, kube::core::request::Error> {
    let key = &action.target.key;
    let place = Request::new(action.target.resource.path(&key.namespace));
    match &action.verb {
        Verb::Create(body) => place.create(&PostParams::default(), bytes(body)?),
        Verb::Merge {
            subresource: None,
            patch,
        } => place.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)),
        Verb::Merge {
            subresource: Some(subresource),
            patch,
        } => place.patch_subresource(subresource, &key.name, &PatchParams::default(), &Patch::Merge(patch)),
        Verb::Replace { subresource, body } => {
            place.replace_subresource(subresource, &key.name, &PostParams::default(), bytes(body)?)
        }
        Verb::Delete {
            uid,
            resource_version,
            propagation,
            grace_period_seconds,
        } => {
            let params = DeleteParams {
                grace_period_seconds: *grace_period_seconds,
                propagation_policy: Some(policy(*propagation)),
                preconditions: Some(Preconditions {
                    uid: Some(uid.clone()),
                    resource_version: resource_version.clone(),
                }),
                ..DeleteParams::default()
            };
            place.delete(&key.name, &params)
        }
        Verb::DeleteCollection => place.delete_collection(&DeleteParams::background(), &ListParams::default()),
    }
}

fn bytes(body: &serde_json::Value) -> Result<Vec<u8>, kube::core::request::Error> {
    serde_json::to_vec(body).map_err(kube::core::request::Error::SerializeBody)
}

fn policy(propagation: Propagation) -> PropagationPolicy {
    match propagation {
        Propagation::Background => PropagationPolicy::Background,
        Propagation::Foreground => PropagationPolicy::Foreground,
        Propagation::Orphan => PropagationPolicy::Orphan,
    }
}
