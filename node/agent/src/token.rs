//! Tokens of service accounts for a pod's volumes: asked for before the first container starts, renewed long before they end.
//!
//! Each is bound to the pod, so the API refuses it as soon as the pod is gone. A renewal that fails is tried again while the
//! old token is still good.

use crate::clock::after;
use crate::node::Node;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The oldest token that a pod reads, however long it would be good.
const OLDEST: Duration = Duration::from_secs(24 * 3600);

/// What a volume wants of a token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// For whom the token is; empty means the API server.
    pub audience: String,
    /// How long it is to be good.
    pub seconds: i64,
}

/// Tokens by what was wanted.
pub type Book = BTreeMap<Wanted, Arc<str>>;

/// There is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The API refused.
    #[error("failed to fetch token: {0}")]
    Refused(#[from] kube::Error),
    /// The API answered without one.
    #[error("failed to fetch token: the API's answer has none")]
    Missing,
}

/// The tokens of one pod.
#[derive(Default)]
pub struct Tokens(Mutex<BTreeMap<Wanted, Held>>);

struct Held {
    token: Arc<str>,
    renew_at: Timestamp,
}

impl Tokens {
    /// When the first of them has to be renewed.
    pub fn renew_at(&self) -> Option<Timestamp> {
        self.0.lock().values().map(|held| held.renew_at).min()
    }

    /// All that are wanted; asks for those that lack or are due.
    ///
    /// # Errors
    /// When one cannot be had. The others are kept.
    pub async fn fresh(&self, node: &Node, pod: &Pod, wanted: Vec<Wanted>) -> Result<Book, TokenError> {
        let mut book = Book::new();
        for wanted in wanted {
            let now = node.clock.now();
            let known = self.0.lock().get(&wanted).and_then(|held| held.good(now));
            let token = match known {
                Some(token) => token,
                None => {
                    let (token, end) = request(node, pod, &wanted).await?;
                    let held = Held {
                        token: token.clone(),
                        renew_at: renewal(now, end),
                    };
                    self.0.lock().insert(wanted.clone(), held);
                    token
                }
            };
            book.insert(wanted, token);
        }
        Ok(book)
    }
}

impl Held {
    fn good(&self, now: Timestamp) -> Option<Arc<str>> {
        (now < self.renew_at).then(|| self.token.clone())
    }
}

/// A token is replaced when four fifths of its time are over, and every day.
fn renewal(now: Timestamp, end: Timestamp) -> Timestamp {
    let life = Duration::try_from(end.duration_since(now)).unwrap_or_default();
    after(now, (life / 5 * 4).min(OLDEST))
}

async fn request(node: &Node, pod: &Pod, wanted: &Wanted) -> Result<(Arc<str>, Timestamp), TokenError> {
    let metadata = &pod.metadata;
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    let api: Api<ServiceAccount> =
        Api::namespaced(node.client.clone(), metadata.namespace.as_deref().unwrap_or_default());
    let body = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: (!wanted.audience.is_empty()).then(|| vec![wanted.audience.clone()]),
            expiration_seconds: Some(wanted.seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: metadata.name.clone(),
                uid: metadata.uid.clone(),
            }),
        }),
        ..TokenRequest::default()
    };
    let _permit = node.requests.acquire().await;
    let answer = api
        .create_token_request(account.unwrap_or("default"), &PostParams::default(), &body)
        .await?;
    let status = answer.status.ok_or(TokenError::Missing)?;
    let (token, end) = status
        .token
        .zip(status.expiration_timestamp)
        .ok_or(TokenError::Missing)?;
    Ok((token.into(), end.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn tokens_are_renewed_in_time() {
        assert_eq!(renewal(at(1000), at(4600)), at(1000 + 2880));
        assert_eq!(renewal(at(0), at(365 * 86_400)), at(86_400), "once a day");
        assert_eq!(renewal(at(100), at(50)), at(100), "one that is over at once");
    }

    #[test]
    fn a_token_is_good_until_its_renewal() {
        let held = Held {
            token: "t".into(),
            renew_at: at(10),
        };
        assert!(held.good(at(9)).is_some() && held.good(at(10)).is_none());
    }
}
