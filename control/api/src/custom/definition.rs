//! From a definition to the rows of the kinds table.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Value, json};

use super::schema::{Schema, texts};
use super::{Custom, ScalePaths, column, jsonpath};
use crate::kinds::{Body, Kind, Selectable, Subresource};
use crate::object;

const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
/// What is left to do with objects whose definition is on its way out.
const ENDING: &[&str] = &["delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const CHANGE: &[&str] = &["get", "patch", "update"];

/// Whether a condition of an object is true.
pub fn is_true(object: &Value, condition: &str) -> bool {
    object::list(object, "status.conditions")
        .iter()
        .any(|one| object::text(one, "type") == condition && object::text(one, "status") == "True")
}

/// The version in which a definition's objects are stored.
pub fn storage_version(definition: &Value) -> &str {
    let versions = object::list(definition, "spec.versions");
    versions
        .iter()
        .find(|version| object::truth(version, "storage"))
        .map_or("", |version| object::text(version, "name"))
}

/// The rows of a definition, one for each served version, the most stable first; none before it is established.
/// `revision` is the definition's in the store.
pub fn rows(definition: &Value, revision: u64) -> Vec<Arc<Kind>> {
    if !is_true(definition, "Established") {
        return Vec::new();
    }
    let mut versions: Vec<&Value> = object::list(definition, "spec.versions")
        .iter()
        .filter(|version| object::truth(version, "served"))
        .collect();
    versions.sort_by(|one, other| version_order(object::text(one, "name"), object::text(other, "name")));
    versions
        .into_iter()
        .map(|version| Arc::new(row(definition, version, revision)))
        .collect()
}

fn row(definition: &Value, version: &Value, revision: u64) -> Kind {
    let text = |path: &str| object::text(definition, path).to_owned();
    let group = text("spec.group");
    let name = object::text(version, "name").to_owned();
    let served_as = format!("{group}/{name}");
    let source = object::get(version, "schema.openAPIV3Schema")
        .cloned()
        .unwrap_or_else(|| json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
    let ending = object::deletion_timestamp(definition).is_some();
    let kind_name = text("status.acceptedNames.kind");
    let deprecated = object::truth(version, "deprecated");
    let custom = Custom {
        definition: object::name(definition).to_owned(),
        definition_uid: object::uid(definition).to_owned(),
        since: revision,
        schema: Arc::new(Schema::root(&source)),
        source: Arc::new(source),
        stored_as: format!("{group}/{}", storage_version(definition)),
        webhook: match object::text(definition, "spec.conversion.strategy") {
            "Webhook" => object::get(definition, "spec.conversion.webhook")
                .cloned()
                .map(Arc::new),
            _ => None,
        },
        columns: column::columns(version),
        scale: scale(version),
        list_kind: text("status.acceptedNames.listKind"),
        deprecation: deprecated.then(|| match object::text(version, "deprecationWarning") {
            "" => format!("{served_as} {kind_name} is deprecated"),
            said => said.to_owned(),
        }),
        ending,
        served_as,
    };
    let mut kind = Kind::new(group, name, kind_name, text("status.acceptedNames.plural"), "");
    kind.singular = text("status.acceptedNames.singular").into();
    let names = definition.pointer("/status/acceptedNames").cloned().unwrap_or_default();
    kind.short_names = texts(&names, "shortNames").into_iter().map(Cow::Owned).collect();
    kind.categories = texts(&names, "categories").into_iter().map(Cow::Owned).collect();
    kind.namespaced = object::text(definition, "spec.scope") == "Namespaced";
    if !kind.namespaced {
        kind.selectable.retain(|field| field.label != "metadata.namespace");
    }
    let fields = object::list(version, "selectableFields").iter();
    let fields = fields.filter_map(|field| jsonpath::dotted(object::text(field, "jsonPath")));
    kind.selectable.extend(fields.map(Selectable::new));
    kind.verbs = Cow::Borrowed(if ending { ENDING } else { VERBS });
    kind.subresources = subresources(version);
    kind.has_generation = true;
    kind.revision_required = true;
    kind.custom = Some(Arc::new(custom));
    kind
}

fn subresources(version: &Value) -> Vec<Subresource> {
    let named = |name: &'static str, body: Option<Body>| Subresource {
        name: Cow::Borrowed(name),
        verbs: Cow::Borrowed(CHANGE),
        body,
    };
    let scale = || Body {
        group: "autoscaling".into(),
        version: "v1".into(),
        kind: "Scale".into(),
        go_type: "k8s.io/api/autoscaling/v1.Scale",
    };
    let has = |name: &str| {
        version
            .get("subresources")
            .and_then(|all| all.get(name))
            .is_some_and(|value| !value.is_null())
    };
    let status = has("status").then(|| named("status", None));
    let scale = has("scale").then(|| named("scale", Some(scale())));
    status.into_iter().chain(scale).collect()
}

fn scale(version: &Value) -> Option<ScalePaths> {
    let scale = object::get(version, "subresources.scale")?;
    Some(ScalePaths {
        wanted: jsonpath::dotted(object::text(scale, "specReplicasPath"))?,
        have: jsonpath::dotted(object::text(scale, "statusReplicasPath"))?,
        selector: jsonpath::dotted(object::text(scale, "labelSelectorPath")),
    })
}

/// The order in which versions are preferred: general availability before beta before alpha, newer before older, and
/// names of another form last, by their letters.
pub fn version_order(one: &str, other: &str) -> std::cmp::Ordering {
    let rank = |name: &str| -> Option<(u8, u64, u64)> {
        let rest = name.strip_prefix('v')?;
        let digits = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
        let (major, rest) = rest.split_at_checked(digits)?;
        let major: u64 = major.parse().ok()?;
        let of = |stage: u8, minor: &str| Some((stage, major, minor.parse().ok()?));
        match rest {
            "" => Some((2, major, 0)),
            rest => rest
                .strip_prefix("beta")
                .and_then(|minor| of(1, minor))
                .or_else(|| rest.strip_prefix("alpha").and_then(|minor| of(0, minor))),
        }
    };
    match (rank(one), rank(other)) {
        (Some(one), Some(other)) => other.cmp(&one),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (None, None) => one.cmp(other),
    }
}

/// Fills in what a definition leaves out.
pub fn default(definition: &mut Value) {
    let kind = object::text(definition, "spec.names.kind").to_owned();
    for (field, value) in [("singular", kind.to_lowercase()), ("listKind", format!("{kind}List"))] {
        let path = format!("spec.names.{field}");
        if object::text(definition, &path).is_empty() && !kind.is_empty() {
            object::set(definition, &path, Value::from(value));
        }
    }
    if object::text(definition, "spec.conversion.strategy").is_empty() {
        object::set(definition, "spec.conversion.strategy", Value::from("None"));
    }
    if let Some(webhook) = definition
        .pointer_mut("/spec/conversion/webhook/clientConfig/service")
        .filter(|service| service.is_object())
        && webhook.get("port").is_none_or(Value::is_null)
    {
        object::fields(webhook).insert("port".to_owned(), Value::from(443));
    }
}

/// A new definition has accepted nothing yet.
pub fn prepare_create(definition: &mut Value) {
    let storage = storage_version(definition).to_owned();
    let stored: Vec<&str> = Some(storage.as_str())
        .filter(|name| !name.is_empty())
        .into_iter()
        .collect();
    object::set(
        definition,
        "status",
        json!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": [], "storedVersions": stored}),
    );
}

/// A changed storage version is remembered among those in which objects may be stored.
pub fn prepare_update(new: &mut Value, _old: &Value) {
    let storage = storage_version(new).to_owned();
    let mut stored = object::list(new, "status.storedVersions").to_vec();
    if !storage.is_empty() && !stored.iter().any(|version| version == storage.as_str()) {
        stored.push(Value::from(storage));
        object::set(new, "status.storedVersions", Value::Array(stored));
    }
}
