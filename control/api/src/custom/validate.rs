//! Whether a definition may be as it is, in the words of Kubernetes.

use std::collections::HashSet;

use serde_json::Value;

use super::definition::{is_true, storage_version};
use super::jsonpath::{self, JsonPath};
use super::schema::Schema;
use super::structural;
use crate::field_error::FieldError;
use crate::object;
use crate::validate::names;

/// The annotation that says who allowed a definition in one of Kubernetes' own groups.
const APPROVAL: &str = "api-approved.kubernetes.io";
/// What a definition may ask for as a column's type.
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
/// The most selectable fields of a version, as in Kubernetes.
const SELECTABLE_LIMIT: usize = 8;

/// Checks a definition.
pub fn definition(definition: &Value, faults: &mut Vec<FieldError>) {
    let group = object::text(definition, "spec.group");
    let plural = object::text(definition, "spec.names.plural");
    let expected = format!("{plural}.{group}");
    if object::name(definition) != expected {
        faults.push(FieldError::invalid(
            "metadata.name",
            object::name(definition),
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
    of_group(group, faults);
    approval(definition, group, faults);
    match object::text(definition, "spec.scope") {
        "Cluster" | "Namespaced" => {}
        "" => faults.push(FieldError::required("spec.scope", "")),
        other => faults.push(FieldError::not_supported(
            "spec.scope",
            other,
            &["Cluster", "Namespaced"],
        )),
    }
    if object::truth(definition, "spec.preserveUnknownFields") {
        let words =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        faults.push(FieldError::invalid("spec.preserveUnknownFields", true, words));
    }
    of_names(definition, faults);
    conversion(definition, faults);
    versions(definition, faults);
}

fn of_group(group: &str, faults: &mut Vec<FieldError>) {
    if group.is_empty() {
        return faults.push(FieldError::required("spec.group", ""));
    }
    let wrong = names::dns_subdomain(group);
    if !wrong.is_empty() {
        faults.push(FieldError::invalid("spec.group", group, wrong.join(",")));
    } else if !group.contains('.') {
        faults.push(FieldError::invalid(
            "spec.group",
            group,
            "should be a domain with at least one dot",
        ));
    }
}

fn approval(definition: &Value, group: &str, faults: &mut Vec<FieldError>) {
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|suffix| group == *suffix || group.ends_with(&format!(".{suffix}")));
    if !protected {
        return;
    }
    let path = format!("metadata.annotations[{APPROVAL}]");
    match object::annotation(definition, APPROVAL) {
        None | Some("") => faults.push(FieldError::required(path, "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111")),
        Some(said) if said.starts_with("unapproved") || said.starts_with("https://") || said.starts_with("http://") => {}
        Some(said) => faults.push(FieldError::invalid(path, said, "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111")),
    }
}

fn of_names(definition: &Value, faults: &mut Vec<FieldError>) {
    let text = |field: &str| object::text(definition, &format!("spec.names.{field}"));
    for (field, required) in [
        ("plural", true),
        ("singular", false),
        ("kind", true),
        ("listKind", true),
    ] {
        let (name, path) = (text(field), format!("spec.names.{field}"));
        if name.is_empty() {
            if required {
                faults.push(FieldError::required(path, ""));
            }
            continue;
        }
        let mixed = field.to_ascii_lowercase().ends_with("kind");
        let wrong = if mixed {
            names::service_name(&name.to_lowercase())
        } else {
            names::service_name(name)
        };
        if !wrong.is_empty() {
            let words = if mixed {
                format!("may have mixed case, but should otherwise match: {}", wrong.join(","))
            } else {
                wrong.join(",")
            };
            faults.push(FieldError::invalid(path, name, words));
        }
    }
    for field in ["shortNames", "categories"] {
        for (index, name) in object::list(definition, &format!("spec.names.{field}"))
            .iter()
            .enumerate()
        {
            let name = name.as_str().unwrap_or_default();
            let wrong = names::service_name(name);
            if !wrong.is_empty() {
                faults.push(FieldError::invalid(
                    format!("spec.names.{field}[{index}]"),
                    name,
                    wrong.join(","),
                ));
            }
        }
    }
    let (kind, list) = (text("kind"), text("listKind"));
    if !kind.is_empty() && kind == list {
        faults.push(FieldError::invalid(
            "spec.names.listKind",
            list,
            "kind and listKind may not be the same",
        ));
    }
}

fn conversion(definition: &Value, faults: &mut Vec<FieldError>) {
    let webhook = object::get(definition, "spec.conversion.webhook");
    match (object::text(definition, "spec.conversion.strategy"), webhook) {
        ("" | "None", None) => {}
        ("" | "None", Some(_)) => faults.push(FieldError::forbidden(
            "spec.conversion.webhook",
            "should not be set when strategy is not set to Webhook",
        )),
        ("Webhook", None) => faults.push(FieldError::required(
            "spec.conversion.webhook.clientConfig",
            "required when strategy is set to Webhook",
        )),
        ("Webhook", Some(webhook)) => {
            if object::list(webhook, "conversionReviewVersions").is_empty() {
                faults.push(FieldError::required(
                    "spec.conversion.webhook.conversionReviewVersions",
                    "",
                ));
            }
        }
        (other, _) => faults.push(FieldError::not_supported(
            "spec.conversion.strategy",
            other,
            &["None", "Webhook"],
        )),
    }
}

fn versions(definition: &Value, faults: &mut Vec<FieldError>) {
    let versions = object::list(definition, "spec.versions");
    if versions.is_empty() {
        return faults.push(FieldError::required("spec.versions", ""));
    }
    let names: Vec<Value> = versions
        .iter()
        .map(|version| Value::from(object::text(version, "name")))
        .collect();
    let shown = Value::Array(names.clone());
    let unique: HashSet<&str> = names.iter().filter_map(Value::as_str).collect();
    if unique.len() != names.len() {
        faults.push(FieldError::invalid(
            "spec.versions",
            shown.clone(),
            "must contain unique version names",
        ));
    }
    if versions
        .iter()
        .filter(|version| object::truth(version, "storage"))
        .count()
        != 1
    {
        faults.push(FieldError::invalid(
            "spec.versions",
            shown,
            "must have exactly one version marked as storage version",
        ));
    }
    for (index, one) in versions.iter().enumerate() {
        version(one, &format!("spec.versions[{index}]"), faults);
    }
    let storage = storage_version(definition);
    let stored = object::list(definition, "status.storedVersions");
    if !storage.is_empty() && !stored.is_empty() && !stored.iter().any(|version| version == storage) {
        faults.push(FieldError::invalid(
            "status.storedVersions",
            Value::from(stored),
            format!("must have the storage version {storage}"),
        ));
    }
    for (index, version) in stored.iter().enumerate() {
        if !names.contains(version) {
            let words = "missing from spec.versions; it was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in it and removes it from status.storedVersions";
            faults.push(FieldError::invalid(
                format!("status.storedVersions[{index}]"),
                version.clone(),
                words.replacen("it was", &format!("{} was", version.as_str().unwrap_or_default()), 1),
            ));
        }
    }
}

fn version(version: &Value, path: &str, faults: &mut Vec<FieldError>) {
    let name = object::text(version, "name");
    let wrong = names::service_name(name);
    if !wrong.is_empty() {
        faults.push(FieldError::invalid(format!("{path}.name"), name, wrong.join(",")));
    }
    if !object::truth(version, "deprecated") && object::get(version, "deprecationWarning").is_some() {
        let said = object::text(version, "deprecationWarning");
        faults.push(FieldError::invalid(
            format!("{path}.deprecationWarning"),
            said,
            "can only be set for deprecated versions",
        ));
    }
    let schema_path = format!("{path}.schema.openAPIV3Schema");
    let schema = object::get(version, "schema.openAPIV3Schema");
    match schema {
        None => faults.push(FieldError::required(schema_path, "schemas are required")),
        Some(schema) => structural::root(schema, &schema_path, faults),
    }
    for (index, column) in object::list(version, "additionalPrinterColumns").iter().enumerate() {
        of_column(column, &format!("{path}.additionalPrinterColumns[{index}]"), faults);
    }
    scale(version, path, faults);
    selectable(version, schema, path, faults);
}

fn of_column(column: &Value, path: &str, faults: &mut Vec<FieldError>) {
    if object::text(column, "name").is_empty() {
        faults.push(FieldError::required(format!("{path}.name"), ""));
    }
    match object::text(column, "type") {
        "" => faults.push(FieldError::required(
            format!("{path}.type"),
            format!("must be one of {}", COLUMN_TYPES.join(",")),
        )),
        kind if COLUMN_TYPES.contains(&kind) => {}
        kind => faults.push(FieldError::invalid(
            format!("{path}.type"),
            kind,
            format!("must be one of {}", COLUMN_TYPES.join(",")),
        )),
    }
    match object::text(column, "jsonPath") {
        "" => faults.push(FieldError::required(format!("{path}.jsonPath"), "")),
        text => {
            if let Err(wrong) = JsonPath::parse(text) {
                faults.push(FieldError::invalid(
                    format!("{path}.jsonPath"),
                    text,
                    format!("is an invalid path: {wrong}"),
                ));
            }
        }
    }
}

fn scale(version: &Value, path: &str, faults: &mut Vec<FieldError>) {
    let Some(scale) = object::get(version, "subresources.scale") else {
        return;
    };
    let path = format!("{path}.subresources.scale");
    let rows: [(&str, &[&str], bool, &str); 3] = [
        ("specReplicasPath", &["spec"], true, "should be a json path under .spec"),
        (
            "statusReplicasPath",
            &["status"],
            true,
            "should be a json path under .status",
        ),
        (
            "labelSelectorPath",
            &["status", "spec"],
            false,
            "should be a json path under either .status or .spec",
        ),
    ];
    for (field, roots, required, words) in rows {
        let text = object::text(scale, field);
        let at = format!("{path}.{field}");
        if text.is_empty() {
            if required {
                faults.push(FieldError::required(at, ""));
            }
            continue;
        }
        match jsonpath::dotted(text) {
            None => faults.push(FieldError::invalid(at, text, "should be a valid json path")),
            Some(dotted) if roots.iter().any(|root| dotted.starts_with(&format!("{root}."))) => {}
            Some(_) => faults.push(FieldError::invalid(at, text, words)),
        }
    }
}

fn selectable(version: &Value, schema: Option<&Value>, path: &str, faults: &mut Vec<FieldError>) {
    let fields = object::list(version, "selectableFields");
    let path = format!("{path}.selectableFields");
    if fields.len() > SELECTABLE_LIMIT {
        faults.push(FieldError::too_many(path.clone(), fields.len(), SELECTABLE_LIMIT));
    }
    let mut seen = HashSet::new();
    for (index, field) in fields.iter().enumerate() {
        let text = object::text(field, "jsonPath");
        let at = format!("{path}[{index}].jsonPath");
        if text.is_empty() {
            faults.push(FieldError::required(at, ""));
            continue;
        }
        if !seen.insert(text) {
            faults.push(FieldError::duplicate(at, text));
            continue;
        }
        let Some(dotted) = jsonpath::dotted(text) else {
            faults.push(FieldError::invalid(
                at,
                text,
                "is an invalid path: must be a simple path with leading . and fields only",
            ));
            continue;
        };
        if dotted == "metadata" || dotted.starts_with("metadata.") {
            faults.push(FieldError::invalid(at, text, "must not point to fields in metadata"));
            continue;
        }
        let found = dotted.split('.').try_fold(schema.unwrap_or(&Value::Null), |at, step| {
            at.get("properties")?.get(step)
        });
        let words = match found.map(|found| object::text(found, "type")) {
            None => "is an invalid path: does not refer to a valid field",
            Some("boolean" | "integer" | "string") => continue,
            Some(_) => {
                "must point to a field of type boolean, integer or string. Enum string fields and strings with formats are allowed."
            }
        };
        faults.push(FieldError::invalid(at, text, words));
    }
}

/// Checks a change of a definition.
pub fn definition_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    let mut fields = vec!["spec.group", "spec.names.plural"];
    if is_true(old, "Established") {
        fields.extend(["spec.scope", "spec.names.kind"]);
    }
    for field in fields {
        if object::get(new, field) != object::get(old, field) {
            faults.push(FieldError::invalid(
                field,
                object::get(new, field).cloned().unwrap_or_default(),
                "field is immutable",
            ));
        }
    }
}

/// Checks a default against its own schema.
pub(super) fn default(json: &Value, path: &str, faults: &mut Vec<FieldError>) {
    let Some(default) = json.get("default").filter(|default| !default.is_null()) else {
        return;
    };
    let schema = Schema::compile(json);
    let mut found = Vec::new();
    super::check::check(&schema, default, None, "", &mut found);
    for fault in found {
        let at = match fault.path.as_str() {
            "<nil>" => format!("{path}.default"),
            inner => format!("{path}.default.{inner}"),
        };
        faults.push(FieldError { path: at, ..fault });
    }
}
