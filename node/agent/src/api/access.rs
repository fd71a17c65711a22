//! Who may use the node's API: administrators, as the API server itself is one, and whom the API server lets.
//!
//! A certificate was verified before; a token is the API server's to judge, and so is what its owner may do.

use super::Caller;
use super::path::Route;
use crate::handle::AgentHandle;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

/// The group to which everything is allowed; asking the API server would give no other answer.
const MASTERS: &str = "system:masters";

/// What comes of a request.
pub(super) enum Decision {
    Allowed,
    /// Nobody knows who asks.
    Unknown,
    /// Somebody who may not, with words for them.
    Forbidden(String),
}

/// Decides whether a request may go on.
pub(super) async fn decide(
    handle: &AgentHandle,
    caller: Option<Caller>,
    token: Option<String>,
    route: &Route,
) -> Decision {
    let client = &handle.node.client;
    let caller = match (caller, token) {
        (Some(caller), _) => caller,
        (None, Some(token)) => match owner(client, token).await {
            Some(caller) => caller,
            None => return Decision::Unknown,
        },
        (None, None) => return Decision::Unknown,
    };
    if caller.groups.iter().any(|group| group == MASTERS) {
        return Decision::Allowed;
    }
    let node = &handle.node.identity.name;
    let (subresource, verb) = route.right();
    match may(client, &caller, node, subresource, verb).await {
        Ok(true) => Decision::Allowed,
        Ok(false) => Decision::Forbidden(format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource={subresource})",
            caller.user
        )),
        Err(error) => Decision::Forbidden(format!("the API server does not say whether this is allowed: {error}")),
    }
}

/// Whose token it is, if it is anybody's.
async fn owner(client: &Client, token: String) -> Option<Caller> {
    let review = TokenReview {
        spec: TokenReviewSpec { token, audiences: None },
        ..TokenReview::default()
    };
    let review = Api::<TokenReview>::all(client.clone())
        .create(&PostParams::default(), &review)
        .await;
    let status = match review {
        Ok(review) => review.status?,
        Err(error) => {
            tracing::warn!(%error, "a token cannot be looked at");
            return None;
        }
    };
    let user = status.user.filter(|_| status.authenticated == Some(true))?;
    Some(Caller {
        user: user.username.unwrap_or_default(),
        groups: user.groups.unwrap_or_default(),
    })
}

async fn may(client: &Client, caller: &Caller, node: &str, part: &str, verb: &str) -> Result<bool, kube::Error> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(caller.user.clone()),
            groups: Some(caller.groups.clone()),
            resource_attributes: Some(ResourceAttributes {
                name: Some(node.to_owned()),
                resource: Some("nodes".to_owned()),
                subresource: Some(part.to_owned()),
                verb: Some(verb.to_owned()),
                version: Some("v1".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let review = Api::<SubjectAccessReview>::all(client.clone())
        .create(&PostParams::default(), &review)
        .await?;
    Ok(review.status.is_some_and(|status| status.allowed))
}
