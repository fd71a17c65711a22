//! Turns an [`Action`] into a request, and the answer into what a driver must know of it.
//!
//! Of an answer only the metadata that tells one write from another is decoded. Nothing is retried here, but what a server need
//! not offer, the deletion of all objects of a kind at once, is done one by one where it is not offered.

use kube::{
    Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
    core::{ObjectList, PartialObjectMeta, Request},
};
use serde::Deserialize;
use serde_json::Value;

use crate::ask::Ask;
use crate::plan::{Action, Propagation, Target, Verb};

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

    /// Whether the server does not do such a thing with this kind.
    #[must_use]
    pub fn is_not_offered(&self) -> bool {
        matches!(self, Self::Api { code: 405, .. })
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
        let written = self.client.request(request).await.map_err(WriteError::from);
        match (written, &action.verb) {
            (Err(error), Verb::DeleteCollection) if error.is_not_offered() => self.delete_each(&action.target).await,
            (written, _) => written,
        }
    }

    /// Deletes all that is there now, one by one.
    async fn delete_each(&self, target: &Target) -> Result<Written, WriteError> {
        let place = Request::new(target.resource.path(&target.key.namespace));
        let list = place.list_metadata(&ListParams::default());
        let list: ObjectList<PartialObjectMeta> = self.client.request(list.map_err(kube::Error::BuildRequest)?).await?;
        for object in list {
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: object.metadata.uid,
                    resource_version: None,
                }),
                ..DeleteParams::background()
            };
            let name = object.metadata.name.unwrap_or_default();
            let deletion = place.delete(&name, &params).map_err(kube::Error::BuildRequest)?;
            let deleted: Result<Value, _> = self.client.request(deletion).await.map_err(WriteError::from);
            match deleted {
                // It went before, or another has its name now: then that one is seen and deleted next.
                Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error),
                _ => {}
            }
        }
        Ok(Written::default())
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Method, Response};
    use kube::client::Body;
    use parking_lot::Mutex;
    use serde_json::json;

    use super::*;
    use crate::{key::Key, resource::SERVICES};

    /// Writes to a server that answers like this; also gives what it was asked.
    async fn written(
        answer: impl Fn(&Method, &str) -> (u16, Value) + Clone + Send + 'static,
    ) -> (Result<Written, WriteError>, Vec<String>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let (code, body) = answer(&method, &path);
            let log = log.clone();
            async move {
                let said = request.into_body().collect_bytes().await.unwrap();
                let said: Value = serde_json::from_slice(&said).unwrap_or_default();
                let uid = said["preconditions"]["uid"].as_str().unwrap_or_default();
                log.lock().push(format!("{method} {path} {uid}").trim().to_owned());
                let answer = Response::builder()
                    .status(code)
                    .body(Body::from(body.to_string().into_bytes()));
                Ok::<_, std::convert::Infallible>(answer.unwrap())
            }
        });
        let action = Action {
            target: Target {
                resource: SERVICES.clone(),
                key: Key::new("shop", ""),
            },
            verb: Verb::DeleteCollection,
            note: None,
        };
        let written = Writer::new(Client::new(service, "default")).write(&action).await;
        let asked = asked.lock().clone();
        (written, asked)
    }

    fn status(code: u16) -> (u16, Value) {
        let outcome = if code < 300 { "Success" } else { "Failure" };
        (
            code,
            json!({"kind": "Status", "apiVersion": "v1", "status": outcome, "code": code, "reason": "", "message": ""}),
        )
    }

    fn services() -> (u16, Value) {
        let service = |name: &str| json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": name, "uid": format!("of-{name}")}});
        (
            200,
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": [service("a"), service("b")]}),
        )
    }

    const ALL: &str = "/api/v1/namespaces/shop/services";

    #[tokio::test]
    async fn all_of_a_kind_go_one_by_one_where_the_server_cannot_delete_them_at_once() {
        let (written, asked) = written(|method, path| match (method, path) {
            (&Method::DELETE, ALL) => status(405),
            (&Method::GET, ALL) => services(),
            // The first went before.
            (&Method::DELETE, path) if path.ends_with("/a") => status(404),
            _ => status(200),
        })
        .await;
        written.unwrap();
        assert_eq!(
            asked,
            [
                format!("DELETE {ALL}"),
                format!("GET {ALL}"),
                format!("DELETE {ALL}/a of-a"),
                format!("DELETE {ALL}/b of-b"),
            ]
        );
    }

    #[tokio::test]
    async fn all_go_at_once_where_it_can_and_a_refusal_is_told() {
        let (done, asked) = written(|_, _| status(200)).await;
        done.unwrap();
        assert_eq!(asked, [format!("DELETE {ALL}")]);

        let (refused, asked) = written(|method, path| match (method, path) {
            (&Method::DELETE, ALL) => status(405),
            (&Method::GET, _) => services(),
            _ => status(403),
        })
        .await;
        assert!(matches!(refused, Err(WriteError::Api { code: 403, .. })));
        assert_eq!(
            asked.last().unwrap(),
            &format!("DELETE {ALL}/a of-a"),
            "and nothing goes on"
        );
    }
}
