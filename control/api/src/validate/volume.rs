//! Rules of volumes: one name, one source, paths that stay inside.

use super::check::{named, relative_path, unique};
use super::{container, names};
use crate::defaults::pod::VOLUME_SOURCES;
use crate::field_error::{FieldError, Path};
use crate::object;
use crate::quantity::Quantity;
use serde_json::Value;
use std::collections::HashSet;

/// Checks a pod spec's volumes and answers with their names.
pub(super) fn volumes<'a>(spec: &'a Value, path: Path<'_>, faults: &mut Vec<FieldError>) -> HashSet<&'a str> {
    let mut seen = HashSet::new();
    for (index, found) in object::list(spec, "volumes").iter().enumerate() {
        let here = path.index(index);
        let name = object::name_of(found);
        named(name, names::dns_label, here.child("name"), faults);
        unique(&mut seen, name, here.child("name"), faults);
        volume(found, here, faults);
    }
    seen
}

fn volume(volume: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let mut given = VOLUME_SOURCES
        .iter()
        .filter_map(|field| Some((*field, object::get(volume, field)?)));
    let Some((field, first)) = given.next() else {
        faults.push(FieldError::required(path, "must specify a volume type"));
        return;
    };
    source(field, first, path.child(field), faults);
    for (field, _) in given {
        faults.push(FieldError::forbidden(
            path.child(field),
            "may not specify more than 1 volume type",
        ));
    }
}

fn source(kind: &str, source: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let mut required = |field: &str| {
        if object::text(source, field).is_empty() {
            faults.push(FieldError::required(path.child(field), ""));
        }
    };
    match kind {
        "secret" => required("secretName"),
        "configMap" => required("name"),
        "hostPath" => required("path"),
        "persistentVolumeClaim" => required("claimName"),
        "image" => required("reference"),
        "csi" => required("driver"),
        _ => {}
    }
    match kind {
        "emptyDir" => empty_dir(source, path, faults),
        "secret" | "configMap" => {
            mode(source, "defaultMode", path, faults);
            key_items(source, path.child("items"), faults);
        }
        "downwardAPI" => {
            mode(source, "defaultMode", path, faults);
            field_items(source, path.child("items"), faults);
        }
        "projected" => {
            mode(source, "defaultMode", path, faults);
            projected(source, path.child("sources"), faults);
        }
        _ => {}
    }
}

fn empty_dir(source: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    if let Some(limit) = object::get(source, "sizeLimit") {
        let read = limit.as_str().and_then(|text| Quantity::parse(text).ok());
        if read.is_none_or(Quantity::is_negative) {
            let words = "SizeLimit field must be a valid resource quantity";
            faults.push(FieldError::forbidden(path.child("sizeLimit"), words));
        }
    }
}

fn mode(owner: &Value, field: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    if let Some(bits) = object::integer(owner, field).filter(|bits| !(0..=0o777).contains(bits)) {
        let words = "must be a number between 0 and 0777 (octal), both inclusive";
        faults.push(FieldError::invalid(path.child(field), bits, words));
    }
}

fn target(item: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    match object::text(item, "path") {
        "" => faults.push(FieldError::required(path.child("path"), "")),
        text => {
            relative_path(text, path.child("path"), faults);
            if text.starts_with("..") && !text.starts_with("../") {
                faults.push(FieldError::invalid(
                    path.child("path"),
                    text,
                    "must not start with '..'",
                ));
            }
        }
    }
    mode(item, "mode", path, faults);
}

fn key_items(source: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    for (index, item) in object::list(source, "items").iter().enumerate() {
        let here = path.index(index);
        if object::text(item, "key").is_empty() {
            faults.push(FieldError::required(here.child("key"), ""));
        }
        target(item, here, faults);
    }
}

fn field_items(source: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    for (index, item) in object::list(source, "items").iter().enumerate() {
        let here = path.index(index);
        target(item, here, faults);
        match (object::get(item, "fieldRef"), object::get(item, "resourceFieldRef")) {
            (Some(_), Some(_)) => {
                let words = "fieldRef and resourceFieldRef can not be specified simultaneously";
                faults.push(FieldError::invalid(here, "resource", words));
            }
            (None, None) => faults.push(FieldError::required(
                here,
                "one of fieldRef and resourceFieldRef is required",
            )),
            (None, Some(resource)) => container::resource_ref(resource, here.child("resourceFieldRef"), faults),
            (Some(field), None) => {
                if object::text(field, "fieldPath").is_empty() {
                    let reference = here.child("fieldRef");
                    faults.push(FieldError::required(reference.child("fieldPath"), ""));
                }
            }
        }
    }
}

fn projected(source: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    for (index, part) in object::list(source, "sources").iter().enumerate() {
        let here = path.index(index);
        for field in ["secret", "configMap"] {
            let Some(reference) = object::get(part, field) else {
                continue;
            };
            let at = here.child(field);
            if object::name_of(reference).is_empty() {
                faults.push(FieldError::required(at.child("name"), ""));
            }
            key_items(reference, at.child("items"), faults);
        }
        if let Some(fields) = object::get(part, "downwardAPI") {
            let at = here.child("downwardAPI");
            field_items(fields, at.child("items"), faults);
        }
        if let Some(token) = object::get(part, "serviceAccountToken") {
            let at = here.child("serviceAccountToken");
            let seconds = object::integer(token, "expirationSeconds").unwrap_or_default();
            if seconds < 600 {
                let words = "may not specify a duration less than 10 minutes";
                faults.push(FieldError::invalid(at.child("expirationSeconds"), seconds, words));
            }
            target(token, at, faults);
        }
    }
}
