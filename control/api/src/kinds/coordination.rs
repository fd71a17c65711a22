//! The rows of the group `coordination.k8s.io`.

use super::{Kind, Strategy};
use crate::{table, validate};

/// The kinds of `coordination.k8s.io/v1`.
pub fn kinds() -> Vec<Kind> {
    let mut lease = Kind::new(
        "coordination.k8s.io",
        "v1",
        "Lease",
        "leases",
        "k8s.io/api/coordination/v1.Lease",
    )
    .created_on_update()
    .printed(table::core::LEASE, table::core::lease)
    .with(Strategy {
        validate: validate::core::lease,
        ..Strategy::NONE
    });
    lease.revision_required = true;
    vec![lease]
}
