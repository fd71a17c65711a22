//! `componentstatuses`: whether the parts of the control plane work that this server knows of. Nothing is stored.
//!
//! Kubernetes keeps the kind for those who still ask, and says so: its answers come with a warning.

use coracle_api::object;
use coracle_api::status::ApiError;
use http::StatusCode;
use serde_json::{Value, json};

use crate::chain::Call;
use crate::negotiate;
use crate::query::ListOptions;
use crate::registry::Scope;
use crate::respond::{self, Answer};
use crate::usage::shown;

/// The store is always asked: without it there is no answer.
const STORE: &str = "store";

/// Answers a read of one part or of all.
pub(crate) fn answer(call: &Call<'_>, scope: Scope<'_>, name: Option<&str>) -> Result<Answer, ApiError> {
    let view = negotiate::view(&call.parts.headers, call.query)?;
    let options = ListOptions::parse(call.query, false)?;
    options.fields.check(scope.kind)?;
    let components = call.core.health.components();
    let mut all: Vec<Value> = std::iter::once((STORE.to_owned(), true))
        .chain(components)
        .map(|(name, works)| component(&name, works))
        .collect();
    all.sort_by(|one, other| object::name(one).cmp(object::name(other)));
    all.retain(|one| {
        name.is_none_or(|name| object::name(one) == name)
            && options.labels.matches_object(one)
            && options.fields.matches(|path| object::get(one, path)?.as_str())
    });
    if let (Some(name), []) = (name, all.as_slice()) {
        return Err(scope.not_found(name));
    }
    Ok(respond::json(StatusCode::OK, &shown(view, scope, &all, name.is_some())))
}

fn component(name: &str, works: bool) -> Value {
    let condition = match works {
        true => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        false => json!({"type": "Healthy", "status": "False", "error": "it does not run"}),
    };
    json!({
        "kind": "ComponentStatus", "apiVersion": "v1",
        "metadata": {"name": name, "creationTimestamp": null}, "conditions": [condition],
    })
}
