//! The variables that expressions may use, and what is known of them.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use coracle_cel::{Kind, Names, Object};

use super::authorizer::AUTHORIZER;
use super::library::{LIBRARIES, WITH_RIGHTS};

/// What is known of the variable `request`.
pub static REQUEST: LazyLock<Kind> = LazyLock::new(request);
/// What is known of the variable `namespaceObject`.
pub static NAMESPACE: LazyLock<Kind> = LazyLock::new(namespace);

fn object<const N: usize>(name: &str, fields: [(&str, Kind); N]) -> Kind {
    let fields: BTreeMap<String, Kind> = fields.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect();
    Kind::Object(Arc::new(Object {
        name: format!("kubernetes.{name}"),
        fields,
        open: false,
    }))
}

fn texts<const N: usize>(name: &str, fields: [&str; N]) -> Kind {
    object(name, fields.map(|field| (field, Kind::Text)))
}

fn request() -> Kind {
    let kind = texts("GroupVersionKind", ["group", "version", "kind"]);
    let resource = texts("GroupVersionResource", ["group", "version", "resource"]);
    let list = Kind::list(Kind::Text);
    let user = object(
        "UserInfo",
        [
            ("username", Kind::Text),
            ("uid", Kind::Text),
            ("groups", list.clone()),
            ("extra", Kind::Map(Arc::new(list))),
        ],
    );
    object(
        "AdmissionRequest",
        [
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", Kind::Text),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", Kind::Text),
            ("name", Kind::Text),
            ("namespace", Kind::Text),
            ("operation", Kind::Text),
            ("userInfo", user),
            ("dryRun", Kind::Bool),
            ("options", Kind::Dyn),
        ],
    )
}

fn namespace() -> Kind {
    let map = Kind::Map(Arc::new(Kind::Text));
    let metadata = object(
        "NamespaceMetadata",
        [
            ("name", Kind::Text),
            ("generateName", Kind::Text),
            ("namespace", Kind::Text),
            ("labels", map.clone()),
            ("annotations", map),
            ("uid", Kind::Text),
            ("creationTimestamp", Kind::Time),
            ("deletionGracePeriodSeconds", Kind::Int),
            ("deletionTimestamp", Kind::Time),
            ("generation", Kind::Int),
            ("resourceVersion", Kind::Text),
            ("finalizers", Kind::list(Kind::Text)),
        ],
    );
    let condition = object(
        "NamespaceCondition",
        [
            ("status", Kind::Text),
            ("type", Kind::Text),
            ("lastTransitionTime", Kind::Time),
            ("message", Kind::Text),
            ("reason", Kind::Text),
        ],
    );
    let status = object(
        "NamespaceStatus",
        [("conditions", Kind::list(condition)), ("phase", Kind::Text)],
    );
    let spec = object("NamespaceSpec", [("finalizers", Kind::list(Kind::Text))]);
    object(
        "Namespace",
        [("metadata", metadata), ("spec", spec), ("status", status)],
    )
}

/// What every expression may use. `params` are known to a policy that says of which kind they are.
fn common(with_params: bool) -> Names {
    let names = Names::new([
        ("object", Kind::Dyn),
        ("oldObject", Kind::Dyn),
        ("request", REQUEST.clone()),
        ("namespaceObject", NAMESPACE.clone()),
    ]);
    match with_params {
        true => names.with("params", Kind::Dyn),
        false => names,
    }
}

/// What messages and annotations may use: everything but rights, which are never told.
pub(super) fn plain(with_params: bool) -> Names {
    common(with_params).using(LIBRARIES)
}

/// What conditions and validations may use.
pub(super) fn with_rights(with_params: bool) -> Names {
    common(with_params)
        .with("authorizer", Kind::Foreign(AUTHORIZER))
        .using(WITH_RIGHTS)
}

/// What the match conditions of a webhook may use.
pub fn webhook_names() -> Names {
    with_rights(false)
}
