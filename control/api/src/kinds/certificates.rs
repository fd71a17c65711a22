//! The rows of the group `certificates.k8s.io`.

use super::{CHANGE, Kind, NameRule, Strategy};
use crate::{prepare, table, validate};

/// The kinds of `certificates.k8s.io/v1`.
pub fn kinds() -> Vec<Kind> {
    let go_type = "k8s.io/api/certificates/v1.CertificateSigningRequest";
    let request = Kind::new(
        "certificates.k8s.io",
        "v1",
        "CertificateSigningRequest",
        "certificatesigningrequests",
        go_type,
    )
    .cluster()
    .short(&["csr"])
    .sub("approval", CHANGE)
    .with_status()
    .selectable_by(&["spec.signerName"])
    .printed(table::certificates::COLUMNS, table::certificates::cells)
    .with(Strategy {
        name: NameRule::PathSegment,
        validate: validate::certificates::request,
        validate_status: validate::certificates::decided,
        prepare_update: prepare::certificates::update,
        prepare_status: prepare::certificates::update_status,
        ..Strategy::NONE
    });
    vec![request]
}
