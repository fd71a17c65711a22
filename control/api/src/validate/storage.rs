//! Rules of volumes, claims, classes and drivers.

use super::check::{NOT_NEGATIVE, formed, named, one_of, one_of_if_set};
use super::{immutable, names};
use crate::defaults::pod::VOLUME_SOURCES;
use crate::field_error::{FieldError, Path};
use crate::object;
use crate::quantity::Quantity;
use serde_json::Value;
use std::collections::HashSet;

const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];

/// Checks a persistent volume.
pub fn persistent_volume(volume: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let nothing = Value::Null;
    let spec = volume.get("spec").unwrap_or(&nothing);
    access_modes(spec, "", path, faults);
    let capacity = object::map(spec, "capacity").filter(|amounts| !amounts.is_empty());
    match capacity {
        None => faults.push(FieldError::required(path.child("capacity"), "")),
        Some(amounts) if !amounts.contains_key("storage") || amounts.len() > 1 => {
            let given: Vec<&str> = amounts.keys().map(String::as_str).collect();
            faults.push(FieldError::not_supported(
                path.child("capacity"),
                json_list(&given),
                &["storage"],
            ));
        }
        Some(amounts) => {
            let at = path.child("capacity");
            positive(amounts.get("storage"), at.key("storage"), faults);
        }
    }
    one_of_if_set(
        object::text(spec, "persistentVolumeReclaimPolicy"),
        &["Delete", "Recycle", "Retain"],
        path.child("persistentVolumeReclaimPolicy"),
        faults,
    );
    let mut sources = sources(spec);
    if sources.next().is_none() {
        faults.push(FieldError::required(path, "must specify a volume type"));
    }
    for source in sources {
        faults.push(FieldError::forbidden(
            path.child(source),
            "may not specify more than 1 volume type",
        ));
    }
    class_and_mode(spec, path, faults);
}

fn json_list(texts: &[&str]) -> Value {
    texts.iter().copied().map(Value::from).collect()
}

/// Where the volume's files are: all fields that say so.
fn sources(spec: &Value) -> impl Iterator<Item = &'static str> {
    let known = VOLUME_SOURCES.iter().chain(&["local"]);
    known.copied().filter(|source| object::get(spec, source).is_some())
}

fn class_and_mode(spec: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    for field in ["storageClassName", "volumeAttributesClassName"] {
        formed(
            object::text(spec, field),
            names::dns_subdomain,
            path.child(field),
            faults,
        );
    }
    one_of_if_set(
        object::text(spec, "volumeMode"),
        VOLUME_MODES,
        path.child("volumeMode"),
        faults,
    );
}

fn access_modes(spec: &Value, missing: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let here = path.child("accessModes");
    let modes = object::list(spec, "accessModes");
    if modes.is_empty() {
        faults.push(FieldError::required(here, missing));
    }
    for mode in modes.iter().filter_map(Value::as_str) {
        one_of(mode, MODES, here, faults);
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        let words = "may not use ReadWriteOncePod with other access modes";
        faults.push(FieldError::forbidden(here, words));
    }
}

fn positive(amount: Option<&Value>, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let Some(read) = amount
        .and_then(Value::as_str)
        .and_then(|text| Quantity::parse(text).ok())
    else {
        return;
    };
    if read <= Quantity::ZERO {
        faults.push(FieldError::invalid(path, read.to_string(), "must be greater than zero"));
    }
}

/// Where a volume's files are never changes.
pub fn persistent_volume_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let nothing = Value::Null;
    let [after, before] = [new, old].map(|volume| volume.get("spec").unwrap_or(&nothing));
    let changed = sources(after)
        .chain(sources(before))
        .any(|source| after.get(source) != before.get(source));
    if changed {
        let words = "spec.persistentvolumesource is immutable after creation";
        faults.push(FieldError::forbidden(path.child("persistentvolumesource"), words));
    }
    immutable(
        after.get("volumeMode"),
        before.get("volumeMode"),
        path.child("volumeMode"),
        faults,
    );
    if object::get(before, "nodeAffinity").is_some() {
        immutable(
            after.get("nodeAffinity"),
            before.get("nodeAffinity"),
            path.child("nodeAffinity"),
            faults,
        );
    }
}

/// Checks a claim.
pub fn claim(claim: &Value, faults: &mut Vec<FieldError>) {
    let nothing = Value::Null;
    claim_spec(claim.get("spec").unwrap_or(&nothing), Path::root("spec"), faults);
}

fn claim_spec(spec: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    access_modes(spec, "at least 1 access mode is required", path, faults);
    let resources = path.child("resources");
    let here = resources.key("storage");
    match object::get(spec, "resources.requests.storage") {
        None => faults.push(FieldError::required(here, "")),
        Some(amount) => {
            let requests = resources.child("requests");
            positive(Some(amount), requests.key("storage"), faults);
        }
    }
    class_and_mode(spec, path, faults);
    if let Some(selector) = object::get(spec, "selector") {
        super::check::label_selector(selector, path.child("selector"), faults);
    }
    for field in ["dataSource", "dataSourceRef"] {
        let Some(source) = object::get(spec, field) else {
            continue;
        };
        let here = path.child(field);
        for part in ["name", "kind"] {
            if object::text(source, part).is_empty() {
                faults.push(FieldError::required(here.child(part), ""));
            }
        }
        if object::text(source, "apiGroup").is_empty() && object::text(source, "kind") != "PersistentVolumeClaim" {
            let words = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            faults.push(FieldError::invalid(here, object::text(source, "kind"), words));
        }
    }
}

/// A claim stays what it is, but for being bound, for growing once it is, and for its attributes.
pub fn claim_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let bound = object::text(old, "status.phase") == "Bound";
    let fixed = |claim: &Value| {
        let mut spec = claim.get("spec").cloned().unwrap_or_default();
        if bound {
            object::remove(&mut spec, "resources.requests");
            object::fields(&mut spec).shift_remove("volumeAttributesClassName");
        }
        if object::text(old, "spec.volumeName").is_empty() {
            object::fields(&mut spec).shift_remove("volumeName");
        }
        if object::get(old, "spec.storageClassName").is_none() {
            object::fields(&mut spec).shift_remove("storageClassName");
        }
        spec
    };
    if fixed(new) != fixed(old) {
        let words =
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        faults.push(FieldError::forbidden(path, words));
    }
    let size = |object: &Value, field: &str| Quantity::parse(object::text(object, field)).ok();
    let wanted = size(new, "spec.resources.requests.storage");
    let had = size(old, "spec.resources.requests.storage");
    let has = size(old, "status.capacity.storage").or(had);
    if bound && wanted < had && wanted < has {
        let words = "field can not be less than status.capacity";
        faults.push(FieldError::forbidden(path.child("resources.requests.storage"), words));
    }
}

/// Checks a storage class.
pub fn class(class: &Value, faults: &mut Vec<FieldError>) {
    named(
        &object::text(class, "provisioner").to_lowercase(),
        names::qualified_name,
        Path::root("provisioner"),
        faults,
    );
    one_of_if_set(
        object::text(class, "reclaimPolicy"),
        &["Delete", "Retain"],
        Path::root("reclaimPolicy"),
        faults,
    );
    one_of(
        object::text(class, "volumeBindingMode"),
        &["Immediate", "WaitForFirstConsumer"],
        Path::root("volumeBindingMode"),
        faults,
    );
}

/// A class stays what it is: volumes were made by it.
pub fn class_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    for field in ["parameters", "provisioner", "reclaimPolicy"] {
        if object::get(new, field) != object::get(old, field) {
            let words = format!("updates to {field} are forbidden.");
            faults.push(FieldError::forbidden(Path::root(field), words));
        }
    }
    let field = "volumeBindingMode";
    immutable(new.get(field), old.get(field), Path::root(field), faults);
}

/// Checks a class of volume attributes.
pub fn attributes_class(class: &Value, faults: &mut Vec<FieldError>) {
    let driver = object::text(class, "driverName").to_lowercase();
    named(&driver, names::qualified_name, Path::root("driverName"), faults);
    if object::map(class, "parameters").is_none_or(serde_json::Map::is_empty) {
        let words = "must contain at least one key/value pair";
        faults.push(FieldError::required(Path::root("parameters"), words));
    }
}

/// A class of volume attributes stays what it is.
pub fn attributes_class_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    for field in ["driverName", "parameters"] {
        if object::get(new, field) != object::get(old, field) {
            let words = format!("updates to {field} are forbidden.");
            faults.push(FieldError::forbidden(Path::root(field), words));
        }
    }
}

/// Checks an attachment.
pub fn attachment(attachment: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let attacher = object::text(attachment, "spec.attacher").to_lowercase();
    named(&attacher, names::qualified_name, path.child("attacher"), faults);
    if object::text(attachment, "spec.nodeName").is_empty() {
        faults.push(FieldError::required(path.child("nodeName"), ""));
    }
    let source = path.child("source");
    let given = ["persistentVolumeName", "inlineVolumeSpec"]
        .into_iter()
        .filter(|field| object::get(attachment, &format!("spec.source.{field}")).is_some());
    match given.count() {
        0 => faults.push(FieldError::required(
            source,
            "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        )),
        1 => {}
        _ => faults.push(FieldError::forbidden(
            source,
            "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        )),
    }
}

/// What is attached where never changes.
pub fn attachment_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    immutable(new.get("spec"), old.get("spec"), Path::root("spec"), faults);
}

/// Checks the drivers of a node.
pub fn csi_node(node: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let list = path.child("drivers");
    let mut seen = HashSet::new();
    for (index, driver) in object::list(node, "spec.drivers").iter().enumerate() {
        let here = list.index(index);
        let name = object::name_of(driver);
        named(&name.to_lowercase(), names::dns_subdomain, here.child("name"), faults);
        super::check::unique(&mut seen, name, here.child("name"), faults);
        if object::text(driver, "nodeID").is_empty() {
            faults.push(FieldError::required(here.child("nodeID"), ""));
        }
        if let Some(count) = object::integer(driver, "allocatable.count").filter(|count| *count < 0) {
            let allocatable = here.child("allocatable");
            faults.push(FieldError::invalid(allocatable.child("count"), count, NOT_NEGATIVE));
        }
    }
}

/// Checks a driver.
pub fn driver(driver: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    one_of_if_set(
        object::text(driver, "spec.fsGroupPolicy"),
        &["File", "None", "ReadWriteOnceWithFSType"],
        path.child("fsGroupPolicy"),
        faults,
    );
    let modes = path.child("volumeLifecycleModes");
    for mode in object::list(driver, "spec.volumeLifecycleModes")
        .iter()
        .filter_map(Value::as_str)
    {
        one_of(mode, &["Ephemeral", "Persistent"], modes, faults);
    }
}

/// How a driver's volumes are attached never changes.
pub fn driver_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    for field in ["attachRequired", "volumeLifecycleModes"] {
        let [after, before] = [new, old].map(|driver| object::get(driver, "spec").and_then(|spec| spec.get(field)));
        immutable(after, before, path.child(field), faults);
    }
}

/// Checks a capacity.
pub fn capacity(capacity: &Value, faults: &mut Vec<FieldError>) {
    named(
        object::text(capacity, "storageClassName"),
        names::dns_subdomain,
        Path::root("storageClassName"),
        faults,
    );
    for field in ["capacity", "maximumVolumeSize"] {
        let read = Quantity::parse(object::text(capacity, field)).ok();
        if let Some(read) = read.filter(|read| read.is_negative()) {
            faults.push(FieldError::invalid(Path::root(field), read.to_string(), NOT_NEGATIVE));
        }
    }
}

/// Where a capacity is never changes.
pub fn capacity_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    for field in ["nodeTopology", "storageClassName"] {
        immutable(new.get(field), old.get(field), Path::root(field), faults);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(check: impl FnOnce(&mut Vec<FieldError>)) -> Vec<String> {
        let mut faults = Vec::new();
        check(&mut faults);
        faults.iter().map(ToString::to_string).collect()
    }

    fn claimed(storage: &str) -> Value {
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}}, "status": {"phase": "Bound", "capacity": {"storage": "2Gi"}}})
    }

    #[test]
    fn claims_say_how_much_and_how() {
        assert!(texts(|f| claim(&claimed("1Gi"), f)).is_empty());
        assert_eq!(
            texts(|f| claim(&json!({"spec": {}}), f)),
            [
                "spec.accessModes: Required value: at least 1 access mode is required",
                "spec.resources[storage]: Required value",
            ]
        );
    }

    #[test]
    fn a_claim_only_grows() {
        assert!(texts(|f| claim_update(&claimed("3Gi"), &claimed("2Gi"), f)).is_empty());
        assert_eq!(
            texts(|f| claim_update(&claimed("1Gi"), &claimed("2Gi"), f)),
            ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]
        );
        let mut other = claimed("2Gi");
        other["spec"]["accessModes"] = json!(["ReadOnlyMany"]);
        assert_eq!(texts(|f| claim_update(&other, &claimed("2Gi"), f)).len(), 1);
    }

    #[test]
    fn a_volume_has_one_source() {
        let volume = |change: Value| {
            let mut object = json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}});
            crate::patch::merge(&mut object, &json!({"spec": change}));
            texts(|f| persistent_volume(&object, f))
        };
        assert!(volume(json!({})).is_empty());
        assert_eq!(
            volume(json!({"hostPath": null})),
            ["spec: Required value: must specify a volume type"]
        );
        assert_eq!(
            volume(json!({"nfs": {}})),
            ["spec.nfs: Forbidden: may not specify more than 1 volume type"]
        );
    }

    #[test]
    fn a_class_stays_what_it_is() {
        let old = json!({"provisioner": "a", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"});
        let new = json!({"provisioner": "b", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"});
        assert!(texts(|f| class(&new, f)).is_empty());
        assert_eq!(
            texts(|f| class_update(&new, &old, f)),
            ["provisioner: Forbidden: updates to provisioner are forbidden."]
        );
    }
}
