//! Rows of volumes, claims, classes and drivers.

use super::{NAME, age, column, joined, length, name, number, text, text_or, wide};
use crate::kinds::Column;
use crate::object;
use serde_json::Value;

/// Columns of persistent volumes.
pub const PERSISTENT_VOLUME: &[Column] = &[
    NAME,
    text("Capacity"),
    text("Access Modes"),
    text("Reclaim Policy"),
    text("Status"),
    text("Claim"),
    text("StorageClass"),
    text("VolumeAttributesClass"),
    text("Reason"),
    text("Age"),
    wide("VolumeMode"),
];

/// Cells of a persistent volume.
pub fn persistent_volume(volume: &Value, now: i64) -> Vec<Value> {
    let claim = object::get(volume, "spec.claimRef").map_or_else(String::new, |claim| {
        format!("{}/{}", object::text(claim, "namespace"), object::text(claim, "name"))
    });
    vec![
        name(volume),
        Value::from(object::text(volume, "spec.capacity.storage")),
        Value::from(modes(object::list(volume, "spec.accessModes"))),
        Value::from(object::text(volume, "spec.persistentVolumeReclaimPolicy")),
        Value::from(phase(volume)),
        Value::from(claim),
        Value::from(class_of(volume)),
        text_or(volume, "spec.volumeAttributesClassName", "<unset>"),
        Value::from(object::text(volume, "status.reason")),
        age(volume, now),
        text_or(volume, "spec.volumeMode", "<unset>"),
    ]
}

/// Columns of claims.
pub const CLAIM: &[Column] = &[
    NAME,
    text("Status"),
    text("Volume"),
    text("Capacity"),
    text("Access Modes"),
    text("StorageClass"),
    text("VolumeAttributesClass"),
    text("Age"),
    wide("VolumeMode"),
];

/// Cells of a claim. What it has is known once it is bound.
pub fn claim(claim: &Value, now: i64) -> Vec<Value> {
    let volume = object::text(claim, "spec.volumeName");
    let bound = !volume.is_empty();
    let capacity = if bound {
        object::text(claim, "status.capacity.storage")
    } else {
        ""
    };
    let access = if bound {
        modes(object::list(claim, "status.accessModes"))
    } else {
        String::new()
    };
    vec![
        name(claim),
        Value::from(phase(claim)),
        Value::from(volume),
        Value::from(capacity),
        Value::from(access),
        Value::from(class_of(claim)),
        text_or(claim, "spec.volumeAttributesClassName", "<unset>"),
        age(claim, now),
        text_or(claim, "spec.volumeMode", "<unset>"),
    ]
}

fn phase(object: &Value) -> &str {
    if object::deletion_timestamp(object).is_some() {
        "Terminating"
    } else {
        object::text(object, "status.phase")
    }
}

fn class_of(object: &Value) -> &str {
    object::annotation(object, "volume.beta.kubernetes.io/storage-class")
        .unwrap_or_else(|| object::text(object, "spec.storageClassName"))
}

/// Access modes in short, each once and in Kubernetes' order.
fn modes(modes: &[Value]) -> String {
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let found = known.iter().filter(|(mode, _)| modes.iter().any(|one| one == mode));
    let found: Vec<&str> = found.map(|(_, short)| *short).collect();
    found.join(",")
}

/// Columns of storage classes.
pub const CLASS: &[Column] = &[
    NAME,
    text("Provisioner"),
    text("ReclaimPolicy"),
    text("VolumeBindingMode"),
    text("AllowVolumeExpansion"),
    text("Age"),
];

/// Cells of a storage class. The default one is marked.
pub fn class(class: &Value, now: i64) -> Vec<Value> {
    let marks = [
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ];
    let default = marks.iter().any(|mark| object::annotation(class, mark) == Some("true"));
    let named = object::name(class);
    vec![
        Value::from(if default {
            format!("{named} (default)")
        } else {
            named.to_owned()
        }),
        Value::from(object::text(class, "provisioner")),
        text_or(class, "reclaimPolicy", "Delete"),
        text_or(class, "volumeBindingMode", "Immediate"),
        Value::from(object::truth(class, "allowVolumeExpansion")),
        age(class, now),
    ]
}

/// Columns of classes of volume attributes.
pub const ATTRIBUTES_CLASS: &[Column] = &[NAME, text("DriverName"), text("Age")];

/// Cells of a class of volume attributes.
pub fn attributes_class(class: &Value, now: i64) -> Vec<Value> {
    vec![
        name(class),
        Value::from(object::text(class, "driverName")),
        age(class, now),
    ]
}

/// Columns of attachments.
pub const ATTACHMENT: &[Column] = &[
    NAME,
    text("Attacher"),
    text("PV"),
    text("Node"),
    column("Attached", "boolean"),
    text("Age"),
];

/// Cells of an attachment.
pub fn attachment(attachment: &Value, now: i64) -> Vec<Value> {
    vec![
        name(attachment),
        Value::from(object::text(attachment, "spec.attacher")),
        Value::from(object::text(attachment, "spec.source.persistentVolumeName")),
        Value::from(object::text(attachment, "spec.nodeName")),
        Value::from(object::truth(attachment, "status.attached")),
        age(attachment, now),
    ]
}

/// Columns of the drivers of nodes.
pub const CSI_NODE: &[Column] = &[NAME, number("Drivers"), text("Age")];

/// Cells of the drivers of a node.
pub fn csi_node(node: &Value, now: i64) -> Vec<Value> {
    vec![name(node), length(node, "spec.drivers"), age(node, now)]
}

/// Columns of drivers.
pub const DRIVER: &[Column] = &[
    NAME,
    column("AttachRequired", "boolean"),
    column("PodInfoOnMount", "boolean"),
    column("StorageCapacity", "boolean"),
    text("TokenRequests"),
    column("RequiresRepublish", "boolean"),
    text("Modes"),
    text("Age"),
];

/// Cells of a driver.
pub fn driver(driver: &Value, now: i64) -> Vec<Value> {
    let flag = |field: &str| Value::from(object::truth(driver, &format!("spec.{field}")));
    let audiences: Vec<&str> = object::list(driver, "spec.tokenRequests")
        .iter()
        .map(|request| object::text(request, "audience"))
        .collect();
    let audiences = if audiences.is_empty() {
        "<unset>".to_owned()
    } else {
        audiences.join(",")
    };
    vec![
        name(driver),
        flag("attachRequired"),
        flag("podInfoOnMount"),
        flag("storageCapacity"),
        Value::from(audiences),
        flag("requiresRepublish"),
        Value::from(joined(object::list(driver, "spec.volumeLifecycleModes"))),
        age(driver, now),
    ]
}

/// Columns of capacities.
pub const CAPACITY: &[Column] = &[NAME, text("StorageClassName"), text("Capacity")];

/// Cells of a capacity.
pub fn capacity(capacity: &Value, _: i64) -> Vec<Value> {
    vec![
        name(capacity),
        Value::from(object::text(capacity, "storageClassName")),
        Value::from(object::text(capacity, "capacity")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_prints_what_it_got() {
        let object = json!({
            "metadata": {"name": "c"}, "spec": {"volumeName": "v", "storageClassName": "fast", "volumeMode": "Filesystem"},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"]},
        });
        let cells = json!([
            "c",
            "Bound",
            "v",
            "1Gi",
            "RWO,RWX",
            "fast",
            "<unset>",
            "<unknown>",
            "Filesystem"
        ]);
        assert_eq!(Value::from(claim(&object, 0)), cells);
    }

    #[test]
    fn the_default_class_is_marked() {
        let object = json!({"metadata": {"name": "s", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "p"});
        assert_eq!(
            Value::from(class(&object, 0)),
            json!(["s (default)", "p", "Delete", "Immediate", false, "<unknown>"])
        );
    }
}
