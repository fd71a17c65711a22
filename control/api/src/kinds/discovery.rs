//! The rows of the group `discovery.k8s.io`.

use super::{Kind, Strategy};
use crate::{defaults, table, validate};

/// The kinds of `discovery.k8s.io/v1`.
pub fn kinds() -> Vec<Kind> {
    let go_type = "k8s.io/api/discovery/v1.EndpointSlice";
    let slice = Kind::new("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", go_type)
        .with_generation()
        .printed(table::service::ENDPOINT_SLICE, table::service::endpoint_slice)
        .with(Strategy {
            default: defaults::service::endpoint_slice,
            validate: validate::endpoints::endpoint_slice,
            validate_update: validate::endpoints::endpoint_slice_update,
            ..Strategy::NONE
        });
    vec![slice]
}
