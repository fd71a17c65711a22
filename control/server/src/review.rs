//! Kinds that are questions: who am I, and may somebody do this? A create is answered, nothing is stored.

use coracle_api::kinds::Kind;
use coracle_api::object;
use coracle_api::status::ApiError;
use http::StatusCode;
use serde_json::{Value, json};

use crate::authz::{self, Attributes, Subject};
use crate::chain::Call;
use crate::decode::{self, RequestBody};
use crate::identity::{Identity, MASTERS};
use crate::negotiate;
use crate::query::WriteOptions;
use crate::respond::{self, Answer};

/// Answers a review.
pub(crate) async fn answer(call: &Call<'_>, kind: &Kind, body: RequestBody) -> Result<Answer, ApiError> {
    negotiate::plain(&call.parts.headers)?;
    let options = WriteOptions::parse(call.query)?;
    let api_version = kind.api_version();
    let document = call.document(body).await?;
    let (mut review, warnings) = decode::normalise(document, decode::expected(kind, &api_version), options.validation)?;
    let status = match kind.kind.as_ref() {
        "SelfSubjectReview" => json!({"userInfo": user_info(call.identity)}),
        "SelfSubjectAccessReview" => access(call, &Subject::of(call.identity), &review),
        "SubjectAccessReview" => {
            let spec = review.get("spec").cloned().unwrap_or_default();
            let groups: Vec<String> = object::list(&spec, "groups")
                .iter()
                .filter_map(|group| group.as_str().map(str::to_owned))
                .collect();
            let user = object::text(&spec, "user");
            if user.is_empty() && groups.is_empty() {
                return Err(ApiError::bad_request("at least one of user or group must be specified"));
            }
            access(call, &Subject { user, groups: &groups }, &review)
        }
        _ => return Err(ApiError::no_such_resource()),
    };
    object::set(&mut review, "status", status);
    let mut answer = respond::json(StatusCode::CREATED, &review);
    respond::warn(&mut answer, &warnings);
    Ok(answer)
}

fn user_info(identity: &Identity) -> Value {
    json!({"username": &*identity.user, "groups": identity.groups.to_vec()})
}

fn access(call: &Call<'_>, subject: &Subject<'_>, review: &Value) -> Value {
    let resource = object::get(review, "spec.resourceAttributes");
    let path = object::get(review, "spec.nonResourceAttributes");
    let attributes = match (resource, path) {
        (Some(resource), _) => {
            let optional = |field: &str| Some(object::text(resource, field)).filter(|text| !text.is_empty());
            Attributes {
                verb: object::text(resource, "verb"),
                path: None,
                group: object::text(resource, "group"),
                resource: object::text(resource, "resource"),
                subresource: optional("subresource"),
                namespace: optional("namespace"),
                name: optional("name"),
            }
        }
        (None, Some(path)) => Attributes {
            verb: object::text(path, "verb"),
            path: Some(object::text(path, "path")),
            ..Attributes::default()
        },
        (None, None) => return json!({"allowed": false, "reason": "nothing was asked"}),
    };
    let master = subject.groups.iter().any(|group| group == MASTERS);
    if master || call.core.policies.current().allows(subject, &attributes) {
        return json!({"allowed": true});
    }
    let identity = Identity {
        user: subject.user.into(),
        groups: subject.groups.into(),
    };
    json!({"allowed": false, "reason": authz::refusal(&identity, &attributes)})
}
