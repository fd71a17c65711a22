//! The rows of the group `resource.k8s.io`.

use super::{Kind, Strategy};
use crate::{defaults, table, validate};

fn row(kind: &'static str, plural: &'static str, go_type: &'static str) -> Kind {
    Kind::new("resource.k8s.io", "v1", kind, plural, go_type)
}

/// The kinds of `resource.k8s.io/v1`.
pub fn kinds() -> Vec<Kind> {
    vec![device_class(), claim(), claim_template(), slice()]
}

fn device_class() -> Kind {
    row("DeviceClass", "deviceclasses", "k8s.io/api/resource/v1.DeviceClass")
        .cluster()
        .with_generation()
        .printed(table::resource::CREATED, table::resource::created)
        .with(Strategy {
            validate: validate::devices::class,
            ..Strategy::NONE
        })
}

fn claim() -> Kind {
    row(
        "ResourceClaim",
        "resourceclaims",
        "k8s.io/api/resource/v1.ResourceClaim",
    )
    .with_status()
    .printed(table::resource::CLAIM, table::resource::claim)
    .with(Strategy {
        default: defaults::devices::claim,
        validate: validate::devices::claim,
        validate_update: validate::devices::claim_update,
        validate_status: validate::devices::claim_status,
        ..Strategy::NONE
    })
}

fn claim_template() -> Kind {
    let go_type = "k8s.io/api/resource/v1.ResourceClaimTemplate";
    row("ResourceClaimTemplate", "resourceclaimtemplates", go_type)
        .printed(table::resource::CREATED, table::resource::created)
        .with(Strategy {
            default: defaults::devices::claim_template,
            validate: validate::devices::claim_template,
            validate_update: validate::devices::claim_template_update,
            ..Strategy::NONE
        })
}

fn slice() -> Kind {
    row(
        "ResourceSlice",
        "resourceslices",
        "k8s.io/api/resource/v1.ResourceSlice",
    )
    .cluster()
    .with_generation()
    .selectable_by(&["spec.nodeName", "spec.driver"])
    .printed(table::resource::SLICE, table::resource::slice)
    .with(Strategy {
        validate: validate::devices::slice,
        validate_update: validate::devices::slice_update,
        ..Strategy::NONE
    })
}
