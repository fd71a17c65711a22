//! The row of the group `apiextensions.k8s.io`: kinds that users define.

use super::{Column, Kind, Strategy};
use crate::custom::{definition, validate};
use crate::object;
use serde_json::Value;

/// The kinds of `apiextensions.k8s.io/v1`.
pub fn kinds() -> Vec<Kind> {
    const TYPE: &str = "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.CustomResourceDefinition";
    let kind = Kind::new(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        TYPE,
    )
    .short(&["crd", "crds"])
    .cluster()
    .with_status()
    .with_generation()
    .printed(COLUMNS, cells)
    .with(Strategy {
        default: definition::default,
        validate: validate::definition,
        validate_update: validate::definition_update,
        prepare_create: definition::prepare_create,
        prepare_update: definition::prepare_update,
        ..Strategy::NONE
    });
    let mut kind = kind;
    kind.categories.push("api-extensions".into());
    kind.revision_required = true;
    vec![kind]
}

const COLUMNS: &[Column] = &[
    Column {
        name: "Name",
        kind: "string",
        format: "name",
        priority: 0,
    },
    Column {
        name: "Created At",
        kind: "date",
        format: "",
        priority: 0,
    },
];

fn cells(definition: &Value, _now: i64) -> Vec<Value> {
    vec![
        Value::from(object::name(definition)),
        Value::from(object::creation_timestamp(definition)),
    ]
}
