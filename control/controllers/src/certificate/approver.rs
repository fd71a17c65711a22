//! Approves the requests by which nodes get their certificates.
//!
//! Wants to be true: a request for the client certificate of a node is approved if its asker may have that approved without
//! a person: for itself, or for any node as one that bootstraps; one for the serving certificate of a node if a node asks for
//! itself and for no other name than the one by which other nodes and the API server know it. A request that asks for anything
//! more is left to people.

use k8s_openapi::{
    api::certificates::v1::{
        CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestSpec,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Value, json};
use x509_parser::{
    certification_request::X509CertificationRequest,
    pem::parse_x509_pem,
    prelude::{FromDer, GeneralName, ParsedExtension},
};

use super::condition;
use crate::{
    ask::Ask,
    driver::{Controller, Turn},
    key::Key,
    merge,
    plan::{Action, Plan, Target},
    resource::CERTIFICATE_SIGNING_REQUESTS,
    store::Change,
    world::{Watch, World},
};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "certificatesigningrequest-approver",
    resource: CERTIFICATE_SIGNING_REQUESTS,
    watches: &[Watch::CertificateSigningRequest(itself)],
    reconcile,
};

const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
const GROUP: &str = "system:nodes";
const USER: &str = "system:node:";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
/// What a node may use its certificates for. The first is optional: not every key can do it.
const USAGES: [&str; 3] = ["key encipherment", "client auth", "digital signature"];
const SERVING_USAGES: [&str; 3] = ["key encipherment", "server auth", "digital signature"];

fn itself(change: &Change<CertificateSigningRequest>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.new.as_ref().map(|request| Key::of(&request.metadata)));
}

/// Decides what to do about one request.
pub fn reconcile(key: &Key, world: &World, turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(request) = world.certificate_signing_requests.get(key) else {
        return plan;
    };
    let decided = ["Approved", "Denied", "Failed"]
        .iter()
        .any(|type_| condition(&request, type_).is_some());
    if decided || request.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    for (right, message, fits) in rights(&request.spec) {
        if !fits {
            continue;
        }
        let Some(answer) = turn.ask(review(&request.spec, right), &mut plan) else {
            return plan;
        };
        let allowed = answer.is_ok_and(|answer| answer.pointer("/status/allowed") == Some(&Value::Bool(true)));
        if allowed {
            plan.change(approve(&request, message, turn));
            return plan;
        }
    }
    plan
}

/// By which rights a request may be approved, what is said of it then, and whether the request is of that kind.
fn rights(spec: &CertificateSigningRequestSpec) -> [(&'static str, &'static str, bool); 3] {
    let asks = |user: &str| spec.username.as_deref() == Some(user);
    let client = client_of(spec);
    [
        (
            "selfnodeclient",
            "Auto approving self kubelet client certificate after SubjectAccessReview.",
            client.as_deref().is_some_and(asks),
        ),
        (
            "nodeclient",
            "Auto approving kubelet client certificate after SubjectAccessReview.",
            client.is_some(),
        ),
        (
            "selfnodeserving",
            "Auto approving self kubelet serving certificate after SubjectAccessReview.",
            serving_of(spec).is_some_and(|user| asks(&user)),
        ),
    ]
}

/// The user that a client certificate would name, if it is nothing but a node's.
fn client_of(spec: &CertificateSigningRequestSpec) -> Option<String> {
    let asked = asked(spec, SIGNER, &USAGES)?;
    asked.names.is_empty().then_some(asked.user)
}

/// The user that a serving certificate would name, if it is nothing but a node's by its own name.
fn serving_of(spec: &CertificateSigningRequestSpec) -> Option<String> {
    let asked = asked(spec, SERVING_SIGNER, &SERVING_USAGES)?;
    let name = coracle_api::node::serving_name(asked.user.strip_prefix(USER)?);
    (asked.names == [Some(name)]).then_some(asked.user)
}

/// What a request for a node's certificate asks for.
struct Asked {
    user: String,
    /// Alternative names: `None` for one that is not a DNS name.
    names: Vec<Option<String>>,
}

/// Reads a request that is for a node, of this signer, and for these usages.
fn asked(spec: &CertificateSigningRequestSpec, signer: &str, usages: &[&str; 3]) -> Option<Asked> {
    let wanted = spec.usages.as_deref().unwrap_or_default();
    let known = wanted.iter().all(|usage| usages.contains(&usage.as_str()));
    let needed = usages
        .iter()
        .skip(1)
        .all(|usage| wanted.iter().any(|found| found == usage));
    if spec.signer_name != signer || !known || !needed {
        return None;
    }
    let (_, pem) = parse_x509_pem(&spec.request.0).ok()?;
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    let mut names = Vec::new();
    for extension in request.requested_extensions().into_iter().flatten() {
        if let ParsedExtension::SubjectAlternativeName(found) = extension {
            names.extend(found.general_names.iter().map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            }));
        }
    }
    let subject = &request.certification_request_info.subject;
    let groups: Vec<&str> = subject
        .iter_organization()
        .filter_map(|group| group.as_str().ok())
        .collect();
    let user = subject.iter_common_name().next()?.as_str().ok()?;
    (groups == [GROUP] && user.starts_with(USER)).then(|| Asked {
        user: user.to_owned(),
        names,
    })
}

/// May the asker have such requests approved without a person?
fn review(spec: &CertificateSigningRequestSpec, right: &str) -> Ask {
    let attributes = json!({
        "group": "certificates.k8s.io", "resource": "certificatesigningrequests", "subresource": right,
        "verb": "create", "version": "*",
    });
    Ask {
        path: REVIEWS.to_owned(),
        review: Some(json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": spec.username, "groups": spec.groups, "uid": spec.uid, "extra": spec.extra,
                "resourceAttributes": attributes,
            },
        })),
    }
}

fn approve(request: &CertificateSigningRequest, message: &str, turn: &Turn<'_>) -> Action {
    let mut conditions = request
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    conditions.push(CertificateSigningRequestCondition {
        type_: "Approved".to_owned(),
        status: "True".to_owned(),
        reason: Some("AutoApproved".to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(Time(turn.now)),
        last_transition_time: None,
    });
    let meta = &request.metadata;
    let patch = json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version},
        "status": {"conditions": merge::value(&conditions)}});
    Action::of_subresource(Target::of(&CERTIFICATE_SIGNING_REQUESTS, meta), "approval", patch)
}
