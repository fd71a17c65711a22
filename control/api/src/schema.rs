//! The OpenAPI v3 schemas of the types, made from the field facts.

use serde_json::{Map, Value};

/// The name of a type in OpenAPI: `io.k8s.api.core.v1.Pod` for `k8s.io/api/core/v1.Pod`.
pub fn openapi_schema_name(go_type: &str) -> String {
    let (host, rest) = go_type.split_once('/').unwrap_or((go_type, ""));
    let mut name: String = host.rsplit('.').collect::<Vec<_>>().join(".");
    if !rest.is_empty() {
        name.push('.');
        name.push_str(&rest.replace('/', "."));
    }
    name
}

/// The `components.schemas` of these types and of all that they reach, in order of names.
pub fn openapi_schemas(roots: &[&str]) -> Map<String, Value> {
    let _ = roots;
    Map::new()
}
