//! `serviceaccounts/token`: a fresh token for a service account, with an end, for certain audiences, bound to an object.

use coracle_api::field_error::FieldError;
use coracle_api::key::GroupResource;
use coracle_api::status::ApiError;
use coracle_api::{object, time};
use coracle_store::{Record, Snapshot};
use serde_json::{Value, json};

use crate::authn::AUDIENCE;
use crate::core::new_uid;
use crate::decode::{self, Document, Expected};
use crate::document;
use crate::query::WriteOptions;
use crate::registry::Scope;
use crate::tokens::{Bound, Claims, Home, Reference};
use crate::webhook::Operation;

const TOKEN_REQUEST: Expected<'static> = Expected {
    api_version: "authentication.k8s.io/v1",
    version: "v1",
    kind: "TokenRequest",
    go_type: "k8s.io/api/authentication/v1.TokenRequest",
    custom: None,
};
/// How long a token is good when the request does not say: an hour.
const DEFAULT_SECONDS: i64 = 3600;
/// Shorter tokens would be fetched again all the time.
const SHORTEST_SECONDS: i64 = 600;
/// Longer than any token should be, and still a number that all clients can hold.
const LONGEST_SECONDS: i64 = 1 << 32;
/// What kubelets ask for on behalf of pods: an hour, and some seconds that mark it. Old clients read such a token once and
/// never again, so it is good for a year, and says after which time its user should have had a newer one.
const MARKED_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 86_400;

impl Scope<'_> {
    /// Issues a token for a service account.
    pub(crate) async fn issue_token(
        &self,
        name: &str,
        document: Document,
        options: WriteOptions<'_>,
    ) -> Result<Value, ApiError> {
        let (mut request, _) = decode::normalise(document, TOKEN_REQUEST, options.validation)?;
        settle(&mut request);
        let asked = self.asked(Operation::Create, "token", name, None, options.dry_run);
        self.users_change_part(&asked, &mut request, TOKEN_REQUEST).await?;
        settle(&mut request);
        let faults = faults(&request);
        if !faults.is_empty() {
            return Err(ApiError::invalid("TokenRequest", "authentication.k8s.io", name, faults));
        }
        self.users_refuse(&asked, Some(&request)).await?;
        let snapshot = self.core.store.snapshot();
        let namespace = self.namespace.unwrap_or_default();
        let account = snapshot
            .get(self.key(name).as_str())
            .ok_or_else(|| self.not_found(name))?;
        let mut home = Home {
            namespace: namespace.to_owned(),
            node: None,
            pod: None,
            secret: None,
            serviceaccount: reference(name, account),
            warnafter: None,
        };
        bind(&snapshot, &mut home, &request, name)?;
        if let Some(node) = self.identity.node() {
            may_request(node, &snapshot, &home)?;
        }
        let now = self.core.now_micros() / time::SECOND;
        let wanted = object::integer(&request, "spec.expirationSeconds").unwrap_or(DEFAULT_SECONDS);
        let marked = wanted == MARKED_SECONDS && home.pod.is_some();
        home.warnafter = marked.then_some(now + MARKED_SECONDS);
        let claims = Claims::Bound(Bound {
            aud: texts(&request, "spec.audiences"),
            exp: now + if marked { EXTENDED_SECONDS } else { wanted },
            iat: now,
            iss: AUDIENCE.to_owned(),
            jti: new_uid(),
            kubernetes: home,
            nbf: now,
            sub: format!("system:serviceaccount:{namespace}:{name}"),
        });
        let token = self.core.tokens.sign(&claims);
        let token = token.map_err(|error| ApiError::internal(error.to_string()))?;
        let end = time::format_seconds((now + wanted) * time::SECOND);
        object::set_name(&mut request, name);
        object::set_namespace(&mut request, namespace);
        object::set(
            &mut request,
            "status",
            json!({"token": token, "expirationTimestamp": end}),
        );
        Ok(request)
    }
}

fn settle(request: &mut Value) {
    if object::list(request, "spec.audiences").is_empty() {
        object::set(request, "spec.audiences", json!([AUDIENCE]));
    }
    if object::integer(request, "spec.expirationSeconds").is_none() {
        object::set(request, "spec.expirationSeconds", json!(DEFAULT_SECONDS));
    }
}

fn faults(request: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    let seconds = object::integer(request, "spec.expirationSeconds").unwrap_or(DEFAULT_SECONDS);
    let path = "spec.expirationSeconds";
    if seconds < SHORTEST_SECONDS {
        let detail = "may not specify a duration less than 10 minutes";
        faults.push(FieldError::invalid(path, seconds, detail));
    }
    if seconds > LONGEST_SECONDS {
        let detail = "may not specify a duration larger than 2^32 seconds";
        faults.push(FieldError::invalid(path, seconds, detail));
    }
    faults
}

/// Finds the object that the token is to be bound to.
fn bind(snapshot: &Snapshot, home: &mut Home, request: &Value, account: &str) -> Result<(), ApiError> {
    let Some(wanted) = object::get(request, "spec.boundObjectRef").filter(|wanted| wanted.is_object()) else {
        return Ok(());
    };
    let (kind, version) = (object::text(wanted, "kind"), object::text(wanted, "apiVersion"));
    let (name, uid) = (object::text(wanted, "name"), object::text(wanted, "uid"));
    let (resource, namespace) = match (kind, version) {
        ("Pod", "v1") => ("pods", home.namespace.as_str()),
        ("Secret", "v1") => ("secrets", home.namespace.as_str()),
        ("Node", "v1") => ("nodes", ""),
        _ => {
            return Err(ApiError::bad_request(format!(
                "cannot bind token for serviceaccount {account:?} to type {}",
                wanted_type(version, kind)
            )));
        }
    };
    let resource = GroupResource::new("", resource);
    let record = snapshot
        .get(&format!("{resource}/{namespace}/{name}"))
        .ok_or_else(|| ApiError::not_found(&resource, name))?;
    let known = &record.header.uid;
    if !uid.is_empty() && uid != known {
        let message = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict(&resource, name, &message));
    }
    let found = reference(name, record);
    match kind {
        "Pod" => {
            let pod = document::tree(record)?;
            let own = object::text(&pod, "spec.serviceAccountName");
            if own != account {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                )));
            }
            home.node = node_of(snapshot, object::text(&pod, "spec.nodeName"));
            home.pod = Some(found);
        }
        "Secret" => home.secret = Some(found),
        _ => home.node = Some(found),
    }
    Ok(())
}

fn wanted_type(version: &str, kind: &str) -> String {
    let (group, version) = coracle_api::kinds::split_api_version(version);
    format!("{group}/{version}, Kind={kind}")
}

fn node_of(snapshot: &Snapshot, name: &str) -> Option<Reference> {
    let record = snapshot.get(&format!("nodes//{name}"))?;
    Some(reference(name, record))
}

/// A node gets tokens only for pods that run on it, and bound to them.
fn may_request(node: &str, snapshot: &Snapshot, home: &Home) -> Result<(), ApiError> {
    let refuse = |words: String| {
        let resource = GroupResource::new("", "serviceaccounts");
        Err(ApiError::forbidden(&resource, &home.serviceaccount.name, &words))
    };
    let Some(pod) = &home.pod else {
        return refuse("node requested token not bound to a pod".to_owned());
    };
    let record = snapshot.get(&format!("pods/{}/{}", home.namespace, pod.name));
    let place = record.and_then(|record| field(record, "spec.nodeName"));
    if place != Some(node) {
        return refuse(format!(
            "node requested token bound to a pod scheduled on a different node: {}",
            pod.name
        ));
    }
    Ok(())
}

fn field<'a>(record: &'a Record, label: &str) -> Option<&'a str> {
    let mut fields = record.header.fields.iter();
    fields.find(|(own, _)| own == label).map(|(_, value)| value.as_str())
}

fn reference(name: &str, record: &Record) -> Reference {
    Reference {
        name: name.to_owned(),
        uid: record.header.uid.clone(),
    }
}

fn texts(value: &Value, path: &str) -> Vec<String> {
    let items = object::list(value, path).iter();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_limits() {
        for (seconds, good) in [
            (599, false),
            (600, true),
            (1_i64 << 32, true),
            ((1_i64 << 32) + 1, false),
        ] {
            let request = json!({"spec": {"expirationSeconds": seconds}});
            assert_eq!(faults(&request).is_empty(), good, "{seconds}");
        }
        let mut silent = json!({});
        settle(&mut silent);
        assert_eq!(
            silent["spec"],
            json!({"audiences": [AUDIENCE], "expirationSeconds": 3600})
        );
    }
}
