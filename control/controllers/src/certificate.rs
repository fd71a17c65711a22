//! Requests for certificates. The API server signs what is approved, for the authority's key never leaves it; who may be
//! approved without asking anybody, and when a request is done with, is decided here.

pub mod approver;
pub mod cleaner;

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};

/// The condition of that type.
#[must_use]
pub fn condition<'a>(
    request: &'a CertificateSigningRequest,
    type_: &str,
) -> Option<&'a CertificateSigningRequestCondition> {
    let conditions = request.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_)
}
