//! Approves the requests by which nodes get their client certificates.
//!
//! Wants to be true: a request for the certificate of a node is approved if its asker may have that approved without a
//! person: for itself, or for any node as one that bootstraps. A request that asks for anything more is left to people.

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
    prelude::{FromDer, ParsedExtension},
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
const GROUP: &str = "system:nodes";
const USER: &str = "system:node:";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
/// What a node may use its certificate for. The first is optional: not every key can do it.
const USAGES: [&str; 3] = ["key encipherment", "client auth", "digital signature"];

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
    let Some(node) = node(&request.spec) else { return plan };
    let own = request.spec.username.as_deref() == Some(&node);
    let rights = [
        (
            "selfnodeclient",
            "Auto approving self kubelet client certificate after SubjectAccessReview.",
            own,
        ),
        (
            "nodeclient",
            "Auto approving kubelet client certificate after SubjectAccessReview.",
            true,
        ),
    ];
    for (right, message, fits) in rights {
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

/// The user that the certificate would name, if it is nothing but a node's.
fn node(spec: &CertificateSigningRequestSpec) -> Option<String> {
    let usages = spec.usages.as_deref().unwrap_or_default();
    let known = usages.iter().all(|usage| USAGES.contains(&usage.as_str()));
    let needed = USAGES
        .iter()
        .skip(1)
        .all(|usage| usages.iter().any(|found| found == usage));
    if spec.signer_name != SIGNER || !known || !needed {
        return None;
    }
    let (_, pem) = parse_x509_pem(&spec.request.0).ok()?;
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    let named = request.requested_extensions().is_some_and(|mut extensions| {
        extensions.any(|extension| matches!(extension, ParsedExtension::SubjectAlternativeName(_)))
    });
    let subject = &request.certification_request_info.subject;
    let groups: Vec<&str> = subject
        .iter_organization()
        .filter_map(|group| group.as_str().ok())
        .collect();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    (!named && groups == [GROUP] && name.starts_with(USER)).then(|| name.to_owned())
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
