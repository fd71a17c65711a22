//! The rows of the group `storage.k8s.io`.

use super::{Kind, Strategy};
use crate::{defaults, table, validate};

fn row(kind: &'static str, plural: &'static str, go_type: &'static str) -> Kind {
    Kind::new("storage.k8s.io", "v1", kind, plural, go_type)
}

/// The kinds of `storage.k8s.io/v1`.
pub fn kinds() -> Vec<Kind> {
    vec![
        driver(),
        csi_node(),
        capacity(),
        storage_class(),
        attachment(),
        attributes_class(),
    ]
}

fn driver() -> Kind {
    row("CSIDriver", "csidrivers", "k8s.io/api/storage/v1.CSIDriver")
        .cluster()
        .with_generation()
        .printed(table::storage::DRIVER, table::storage::driver)
        .with(Strategy {
            default: defaults::storage::driver,
            validate: validate::storage::driver,
            validate_update: validate::storage::driver_update,
            ..Strategy::NONE
        })
}

fn csi_node() -> Kind {
    row("CSINode", "csinodes", "k8s.io/api/storage/v1.CSINode")
        .cluster()
        .printed(table::storage::CSI_NODE, table::storage::csi_node)
        .with(Strategy {
            validate: validate::storage::csi_node,
            ..Strategy::NONE
        })
}

fn capacity() -> Kind {
    row(
        "CSIStorageCapacity",
        "csistoragecapacities",
        "k8s.io/api/storage/v1.CSIStorageCapacity",
    )
    .printed(table::storage::CAPACITY, table::storage::capacity)
    .with(Strategy {
        validate: validate::storage::capacity,
        validate_update: validate::storage::capacity_update,
        ..Strategy::NONE
    })
}

fn storage_class() -> Kind {
    row("StorageClass", "storageclasses", "k8s.io/api/storage/v1.StorageClass")
        .cluster()
        .short(&["sc"])
        .printed(table::storage::CLASS, table::storage::class)
        .with(Strategy {
            default: defaults::storage::class,
            validate: validate::storage::class,
            validate_update: validate::storage::class_update,
            ..Strategy::NONE
        })
}

fn attachment() -> Kind {
    row(
        "VolumeAttachment",
        "volumeattachments",
        "k8s.io/api/storage/v1.VolumeAttachment",
    )
    .cluster()
    .with_status()
    .printed(table::storage::ATTACHMENT, table::storage::attachment)
    .with(Strategy {
        validate: validate::storage::attachment,
        validate_update: validate::storage::attachment_update,
        ..Strategy::NONE
    })
}

fn attributes_class() -> Kind {
    row(
        "VolumeAttributesClass",
        "volumeattributesclasses",
        "k8s.io/api/storage/v1.VolumeAttributesClass",
    )
    .cluster()
    .short(&["vac"])
    .printed(table::storage::ATTRIBUTES_CLASS, table::storage::attributes_class)
    .with(Strategy {
        validate: validate::storage::attributes_class,
        validate_update: validate::storage::attributes_class_update,
        ..Strategy::NONE
    })
}
