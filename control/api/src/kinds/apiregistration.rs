//! The rows of the group `apiregistration.k8s.io`.

use super::{Kind, NameRule, Strategy};
use crate::{defaults, prepare, table, validate};

/// The kinds of `apiregistration.k8s.io/v1`.
pub fn kinds() -> Vec<Kind> {
    let go_type = "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1.APIService";
    let service = Kind::new("apiregistration.k8s.io", "v1", "APIService", "apiservices", go_type)
        .cluster()
        .in_extensions()
        .with_status()
        .printed(table::admission::API_SERVICE, table::admission::api_service)
        .with(Strategy {
            name: NameRule::PathSegment,
            default: defaults::admission::api_service,
            validate: validate::apiregistration::api_service,
            prepare_create: prepare::apiregistration::create,
            ..Strategy::NONE
        });
    vec![service]
}
