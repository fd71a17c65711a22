//! The paths of a kind. They are entirely regular, so they are generated.

use coracle_api::kinds::{Kind, Subresource};
use coracle_api::schema::openapi_schema_name;
use serde_json::{Map, Value, json};

use crate::discovery::path;
use crate::registry::update::PATCHES;

/// What differs between the versions of OpenAPI.
pub(super) struct Form {
    references: &'static str,
    bodies_are_parameters: bool,
}

pub(super) const V3: Form = Form {
    references: "#/components/schemas/",
    bodies_are_parameters: false,
};
pub(super) const V2: Form = Form {
    references: "#/definitions/",
    bodies_are_parameters: true,
};

const WRITE_OPTIONS: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
const PATCH_OPTIONS: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force"];
const LIST_OPTIONS: &[&str] = &[
    "labelSelector",
    "fieldSelector",
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "watch",
    "timeoutSeconds",
];
const DELETE_OPTIONS: &[&str] = &["dryRun", "gracePeriodSeconds", "propagationPolicy"];

/// What an operation is about.
struct Operation<'a> {
    form: &'a Form,
    action: &'a str,
    /// Group, version and kind.
    kind: (&'a str, &'a str, &'a str),
    /// The name of the schema of its body.
    schema: String,
    query: &'a [&'a str],
    answer: String,
}

/// Adds all paths of a kind.
pub(super) fn add(paths: &mut Map<String, Value>, kind: &Kind, form: &Form) {
    if kind.go_type.is_empty() && kind.custom.is_none() {
        return; // its schema is nowhere written down
    }
    let root = format!("/{}", path(&kind.group, &kind.version));
    if kind.namespaced && kind.allows("list") {
        let all = Operation {
            answer: format!("{}List", kind.schema_name()),
            ..operation(kind, form, "list", LIST_OPTIONS)
        };
        paths.insert(format!("{root}/{}", kind.plural), json!({"get": all.write(None)}));
    }
    let (collection, scope) = match kind.namespaced {
        true => (
            format!("{root}/namespaces/{{namespace}}/{}", kind.plural),
            vec!["namespace"],
        ),
        false => (format!("{root}/{}", kind.plural), vec![]),
    };
    let mut item = path_item(form, &scope);
    if kind.allows("list") {
        let list = Operation {
            answer: format!("{}List", kind.schema_name()),
            ..operation(kind, form, "list", LIST_OPTIONS)
        };
        item.insert("get".to_owned(), list.write(None));
    }
    if kind.allows("create") {
        item.insert(
            "post".to_owned(),
            operation(kind, form, "post", WRITE_OPTIONS).write(Some(&[])),
        );
    }
    if kind.allows("deletecollection") {
        item.insert(
            "delete".to_owned(),
            operation(kind, form, "deletecollection", DELETE_OPTIONS).write(None),
        );
    }
    paths.insert(collection.clone(), Value::Object(item));
    if !kind.is_stored() && !kind.is_made_on_reading() {
        return;
    }
    let named: Vec<&str> = scope.into_iter().chain(["name"]).collect();
    let mut item = path_item(form, &named);
    for (method, verb, query) in [
        ("get", "get", &[][..]),
        ("put", "update", WRITE_OPTIONS),
        ("patch", "patch", PATCH_OPTIONS),
        ("delete", "delete", DELETE_OPTIONS),
    ] {
        if kind.allows(verb) {
            item.insert(
                method.to_owned(),
                operation(kind, form, method, query).write_method(method, patches(kind)),
            );
        }
    }
    paths.insert(format!("{collection}/{{name}}"), Value::Object(item));
    for sub in &kind.subresources {
        paths.insert(
            format!("{collection}/{{name}}/{}", sub.name),
            subresource(kind, sub, form, &named),
        );
    }
}

fn subresource(kind: &Kind, sub: &Subresource, form: &Form, named: &[&str]) -> Value {
    let mut item = path_item(form, named);
    for (method, verb) in [
        ("get", "get"),
        ("post", "create"),
        ("put", "update"),
        ("patch", "patch"),
    ] {
        if !sub.allows(verb) {
            continue;
        }
        let query = match method {
            "get" => &[][..],
            "patch" => PATCH_OPTIONS,
            _ => WRITE_OPTIONS,
        };
        let mut operation = operation(kind, form, method, query);
        if let Some(body) = &sub.body {
            operation.kind = (&body.group, &body.version, &body.kind);
            operation.schema = openapi_schema_name(body.go_type);
            operation.answer = operation.schema.clone();
        }
        let action = if matches!(sub.name.as_ref(), "portforward" | "exec" | "attach" | "proxy") {
            "connect"
        } else {
            method
        };
        operation.action = action;
        item.insert(method.to_owned(), operation.write_method(method, patches(kind)));
    }
    Value::Object(item)
}

/// The patch types that a kind takes: strategic ones need facts that only built-in kinds have.
fn patches(kind: &Kind) -> &'static [&'static str] {
    const CUSTOM: &[&str] = &[
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/apply-patch+yaml",
    ];
    if kind.custom.is_some() { CUSTOM } else { PATCHES }
}

fn operation<'a>(kind: &'a Kind, form: &'a Form, action: &'a str, query: &'a [&'a str]) -> Operation<'a> {
    Operation {
        form,
        action,
        kind: (&kind.group, &kind.version, &kind.kind),
        schema: kind.schema_name(),
        query,
        answer: kind.schema_name(),
    }
}

impl Operation<'_> {
    fn write_method(&self, method: &str, patches: &[&str]) -> Value {
        match method {
            "patch" => self.write(Some(patches)),
            "put" | "post" => self.write(Some(&[])),
            _ => self.write(None),
        }
    }

    /// The operation; `body` are the content types of its body, none named means JSON.
    fn write(&self, body: Option<&[&str]>) -> Value {
        let (group, version, kind) = self.kind;
        let reference = |schema: &str| json!({"$ref": format!("{}{schema}", self.form.references)});
        let mut parameters: Vec<Value> = self.query.iter().map(|name| self.parameter(name)).collect();
        let mut written = Map::new();
        let types: &[&str] = match body {
            Some([]) => &["application/json", "application/yaml"],
            Some(types) => types,
            None => &[],
        };
        let patch = openapi_schema_name("k8s.io/apimachinery/pkg/apis/meta/v1.Patch");
        let schema = match self.action {
            "patch" => json!({"$ref": format!("{}{patch}", self.form.references)}),
            _ => reference(&self.schema),
        };
        if body.is_some() && self.form.bodies_are_parameters {
            parameters.push(json!({"name": "body", "in": "body", "required": true, "schema": schema}));
            written.insert("consumes".to_owned(), json!(types));
        } else if body.is_some() {
            let content: Map<String, Value> = types
                .iter()
                .map(|media| ((*media).to_owned(), json!({"schema": schema})))
                .collect();
            written.insert("requestBody".to_owned(), json!({"content": content, "required": true}));
        }
        let answer = reference(&self.answer);
        let answer = match self.form.bodies_are_parameters {
            true => json!({"description": "OK", "schema": answer}),
            false => json!({"description": "OK", "content": {"application/json": {"schema": answer}}}),
        };
        written.insert("parameters".to_owned(), Value::Array(parameters));
        written.insert("responses".to_owned(), json!({"200": answer}));
        written.insert("x-kubernetes-action".to_owned(), json!(self.action));
        written.insert(
            "x-kubernetes-group-version-kind".to_owned(),
            json!({"group": group, "version": version, "kind": kind}),
        );
        Value::Object(written)
    }

    fn parameter(&self, name: &str) -> Value {
        parameter(self.form, name, "query")
    }
}

fn path_item(form: &Form, names: &[&str]) -> Map<String, Value> {
    let parameters: Vec<Value> = names.iter().map(|name| parameter(form, name, "path")).collect();
    let mut item = Map::new();
    if !parameters.is_empty() {
        item.insert("parameters".to_owned(), Value::Array(parameters));
    }
    item
}

fn parameter(form: &Form, name: &str, place: &str) -> Value {
    let kind = match name {
        "limit" | "timeoutSeconds" | "gracePeriodSeconds" => "integer",
        "watch" | "force" => "boolean",
        _ => "string",
    };
    let mut parameter = match form.bodies_are_parameters {
        true => json!({"name": name, "in": place, "type": kind, "uniqueItems": true}),
        false => json!({"name": name, "in": place, "schema": {"type": kind, "uniqueItems": true}}),
    };
    if place == "path"
        && let Some(fields) = parameter.as_object_mut()
    {
        fields.insert("required".to_owned(), true.into());
    }
    parameter
}
