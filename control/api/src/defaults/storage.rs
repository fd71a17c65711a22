//! Defaults of volumes, of claims to them, and of their classes and drivers.

use super::{fill, fill_text, part};
use crate::object;
use serde_json::{Value, json};

/// A volume is kept when it is released, and holds a file system.
pub fn persistent_volume(volume: &mut Value) {
    fill_text(object::child(volume, "status"), "phase", "Pending");
    let spec = object::child(volume, "spec");
    fill_text(spec, "persistentVolumeReclaimPolicy", "Retain");
    fill(spec, "volumeMode", "Filesystem");
    if let Some(path) = part(spec, "hostPath") {
        fill(path, "type", "");
    }
    if let Some(iscsi) = part(spec, "iscsi") {
        fill_text(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = part(spec, "rbd") {
        fill_text(rbd, "pool", "rbd");
        fill_text(rbd, "user", "admin");
        fill_text(rbd, "keyring", "/etc/ceph/keyring");
    }
}

/// A claim asks for a file system. The old and the new name of its data source agree, as long as the old one can say it.
pub fn claim(claim: &mut Value) {
    let spec = object::child(claim, "spec");
    fill(spec, "volumeMode", "Filesystem");
    let elsewhere = !object::text(spec, "dataSourceRef.namespace").is_empty();
    let [old, new] = ["dataSource", "dataSourceRef"].map(|field| object::get(spec, field).cloned());
    match (old, new) {
        (Some(source), None) => fill(spec, "dataSourceRef", source),
        (None, Some(source)) if !elsewhere => fill(spec, "dataSource", source),
        _ => {}
    }
}

/// A class deletes released volumes and makes new ones as soon as they are claimed.
pub fn class(class: &mut Value) {
    fill(class, "reclaimPolicy", "Delete");
    fill(class, "volumeBindingMode", "Immediate");
}

/// A driver attaches its volumes first, and is not told more than it asks for.
pub fn driver(driver: &mut Value) {
    let spec = object::child(driver, "spec");
    fill(spec, "attachRequired", true);
    fill(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    for field in ["podInfoOnMount", "requiresRepublish", "seLinuxMount", "storageCapacity"] {
        fill(spec, field, false);
    }
    fill(spec, "volumeLifecycleModes", json!(["Persistent"]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_a_data_source_agree() {
        let source = json!({"kind": "VolumeSnapshot", "name": "s", "apiGroup": "snapshot.storage.k8s.io"});
        let mut old = json!({"spec": {"dataSource": source}});
        claim(&mut old);
        assert_eq!(old["spec"]["dataSourceRef"], source);
        let mut far = source.clone();
        far["namespace"] = json!("other");
        let mut new = json!({"spec": {"dataSourceRef": far}});
        claim(&mut new);
        assert!(new["spec"].get("dataSource").is_none());
    }
}
