//! Deletes requests for certificates that are done with: an hour after they were decided, a day after they were made if
//! nobody decides.

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::condition;
use crate::{
    clock::after_seconds,
    driver::{Controller, Turn},
    key::Key,
    plan::{Action, Plan},
    resource::CERTIFICATE_SIGNING_REQUESTS,
    store::Change,
    world::{Watch, World},
};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "certificatesigningrequest-cleaner",
    resource: CERTIFICATE_SIGNING_REQUESTS,
    watches: &[Watch::CertificateSigningRequest(itself)],
    reconcile,
};

/// How long a decided request stays, for its asker to fetch the certificate. The numbers are Kubernetes' own.
const DECIDED_SECONDS: i64 = 3600;
/// How long a request waits for a decision.
const PENDING_SECONDS: i64 = 24 * 3600;

fn itself(change: &Change<CertificateSigningRequest>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.new.as_ref().map(|request| Key::of(&request.metadata)));
}

/// Decides what to do about one request.
pub fn reconcile(key: &Key, world: &World, turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let request = world.certificate_signing_requests.get(key);
    let Some(request) = request.filter(|request| request.metadata.deletion_timestamp.is_none()) else {
        return plan;
    };
    match end(&request) {
        Some(end) if end <= turn.now => plan.change(Action::delete(&CERTIFICATE_SIGNING_REQUESTS, &request.metadata)),
        Some(end) => plan.requeue(end),
        // Approved, and its signer has not signed: that may take as long as it takes.
        None => {}
    }
    plan
}

fn end(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let created = request.metadata.creation_timestamp.as_ref().map(|time| time.0)?;
    let signed = request
        .status
        .as_ref()
        .is_some_and(|status| status.certificate.is_some());
    let decided = ["Denied", "Failed", "Approved"]
        .into_iter()
        .find_map(|type_| condition(request, type_));
    let Some(decided) = decided else {
        return Some(after_seconds(created, PENDING_SECONDS));
    };
    if decided.type_ == "Approved" && !signed {
        return None;
    }
    let since = decided.last_update_time.as_ref().map_or(created, |time| time.0);
    Some(after_seconds(since, DECIDED_SECONDS))
}
