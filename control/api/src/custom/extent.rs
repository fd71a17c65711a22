//! How large the values of a schema can be: by its own limits, or else by what fits into a request.

use coracle_cel::Extent;
use serde_json::Value;

use super::schema::{Additional, JsonType, Schema};
use crate::status::BODY_LIMIT_BYTES;

/// What a request can hold.
const REQUEST_BYTES: u64 = BODY_LIMIT_BYTES as u64;
/// The longest texts of formats that have one.
const FORMATS: [(&str, u64); 3] = [("date", 10), ("date-time", 35), ("duration", 32)];

/// The extent of values of a schema.
pub(super) fn of(schema: &Schema) -> Extent {
    if schema.int_or_string || schema.kind.is_none() {
        return Extent::of(schema.lengths.most.unwrap_or(REQUEST_BYTES));
    }
    match schema.kind {
        Some(JsonType::String) => Extent::of(longest(schema)),
        Some(JsonType::Array) => {
            let item = schema.items.as_deref();
            let fit = REQUEST_BYTES / (item.map_or(1, least) + 1);
            let most = schema.item_counts.most.unwrap_or(fit);
            Extent::list(most, item.map(of).unwrap_or_default())
        }
        Some(JsonType::Object) => match &schema.additional {
            Additional::Schema(value) => {
                // Each entry has a key with its quotes, a colon and a comma besides.
                let fit = REQUEST_BYTES / (least(value) + 5);
                Extent::list(schema.property_counts.most.unwrap_or(fit), of(value))
            }
            Additional::Any => Extent::of(schema.property_counts.most.unwrap_or(REQUEST_BYTES / 5)),
            Additional::Unsaid => Extent {
                fields: schema
                    .properties
                    .iter()
                    .map(|(name, inner)| (name.clone(), of(inner)))
                    .collect(),
                ..Extent::default()
            },
        },
        _ => Extent::default(),
    }
}

fn longest(schema: &Schema) -> u64 {
    let listed = schema.allowed.iter().filter_map(Value::as_str);
    let listed = listed.map(|text| text.len() as u64).max();
    let format = FORMATS
        .iter()
        .find(|(name, _)| *name == schema.format)
        .map(|(_, most)| *most);
    let said = [schema.lengths.most, listed, format].into_iter().flatten().min();
    said.unwrap_or(REQUEST_BYTES)
}

/// The fewest bytes that a value takes in JSON.
fn least(schema: &Schema) -> u64 {
    match schema.kind {
        Some(JsonType::String) => 2 + schema.lengths.least.unwrap_or(0),
        Some(JsonType::Boolean) => 4,
        Some(JsonType::Array) => 2,
        Some(JsonType::Object) => {
            let needed = schema.required.iter().filter_map(|name| {
                let inner = schema.properties.get(name).filter(|inner| inner.default.is_none())?;
                Some(name.len() as u64 + 4 + least(inner))
            });
            2 + needed.sum::<u64>()
        }
        _ => 1,
    }
}

/// How much an estimate is above its limit, in the words of Kubernetes.
pub(super) fn excess(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        factor if factor > 100.0 => "more than 100x".to_owned(),
        factor if factor < 1.5 => format!("{factor:.6}x"),
        factor => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custom::rules::validate;
    use crate::field_error::FieldError;
    use serde_json::json;

    fn faults(list: Value) -> Vec<String> {
        let schema =
            json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"list": list}}}});
        let mut faults: Vec<FieldError> = Vec::new();
        validate(&schema, "schema", &mut faults);
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_rule_that_may_cost_too_much_is_refused() {
        let unique = json!([{"rule": "self.all(x, self.exists_one(y, x == y))"}]);
        let unbounded = json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-validations": unique});
        let found = faults(unbounded.clone());
        assert_eq!(
            found[0],
            "schema.properties[spec].properties[list].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
        );
        assert!(
            found[1].contains("estimated rule cost total for entire OpenAPIv3 schema"),
            "{found:?}"
        );
        let mut bounded = unbounded;
        bounded["maxItems"] = json!(100);
        bounded["items"]["maxLength"] = json!(63);
        assert_eq!(faults(bounded), Vec::<String>::new());
    }

    #[test]
    fn ordinary_rules_need_no_limits() {
        for rule in [
            "self.size() > 0",
            "self.all(x, x.startsWith('a'))",
            "self.all(x, x.size() < 10)",
            "self == oldSelf",
            "!('x' in self)",
        ] {
            let rules = json!([{ "rule": rule }]);
            let list = json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-validations": rules});
            assert_eq!(faults(list), Vec::<String>::new(), "{rule}");
        }
    }

    #[test]
    fn rules_of_items_count_for_each_item() {
        let rules = json!([{"rule": "self.matches('^[a-z]+$')"}]);
        let items = json!({"type": "string", "x-kubernetes-validations": rules});
        assert_eq!(faults(json!({"type": "array", "items": items.clone()})).len(), 2);
        let items = json!({"type": "string", "maxLength": 253, "x-kubernetes-validations": rules});
        assert!(faults(json!({"type": "array", "maxItems": 1000, "items": items})).is_empty());
    }
}
