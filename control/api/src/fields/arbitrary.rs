//! Objects of any type, filled by chance, for properties that must hold for all of them.

use super::{Shape, StructRef, TypeRef};
use serde_json::{Map, Value, json};

/// How deep filled objects nest before fields stay empty; types contain themselves.
const DEPTH: usize = 9;

/// An object of this type; the same seed gives the same object.
pub(crate) fn object(kind: StructRef, seed: u64) -> Value {
    let mut chance = Chance(seed | 1);
    let mut value = chance.structure(kind, 0);
    let api_version = match kind.group() {
        Some("") | None => kind.version().to_owned(),
        Some(group) => format!("{group}/{}", kind.version()),
    };
    value["kind"] = kind.short_name().into();
    value["apiVersion"] = api_version.into();
    value
}

/// Gives the elements of a list that is merged by key the keys that valid objects have.
fn distinguish(value: &mut Value, merge_key: &str) {
    let Value::Array(list) = value else { return };
    if merge_key.is_empty() {
        list.dedup();
    }
    for (at, element) in list.iter_mut().enumerate().filter(|_| !merge_key.is_empty()) {
        let number = matches!(merge_key, "port" | "containerPort");
        element[merge_key] = if number {
            json!(80 + at)
        } else {
            json!(format!("k{at}"))
        };
    }
}

struct Chance(u64);

impl Chance {
    /// xorshift: good enough to spread over the fields.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }

    fn structure(&mut self, kind: StructRef, depth: usize) -> Value {
        let fill = 1 + self.below(2);
        let mut map = Map::new();
        for field in kind.fields() {
            // Objects inside objects carry no kind in protobuf.
            let type_meta = kind.is_object() && matches!(field.json, "kind" | "apiVersion");
            if !type_meta && depth < DEPTH && self.below(4) < fill {
                let mut value = self.value(field.kind, depth + 1);
                if field.patch_strategy.merge {
                    distinguish(&mut value, field.merge_key);
                }
                map.insert(field.json.to_owned(), value);
            }
        }
        Value::Object(map)
    }

    fn value(&mut self, kind: TypeRef, depth: usize) -> Value {
        match kind.shape() {
            Shape::String => self.pick(&["", "a", "b \u{e9}\n"]).into(),
            Shape::Bool => self.pick(&[true, false]).into(),
            Shape::Int32 => self.pick(&[0, 1, -1, i32::MAX, i32::MIN]).into(),
            Shape::Int64 => self.pick(&[0, 1, -1, i64::MAX, i64::MIN]).into(),
            Shape::Float64 => self.pick(&[0.0, -1.5]).into(),
            Shape::Bytes => self.pick(&["", "YQ==", "AAECAw=="]).into(),
            Shape::Any => Value::Null,
            Shape::RawExtension | Shape::FieldsV1 | Shape::Json => {
                self.pick(&[json!({}), json!({"f:a": [1, "x", null]})])
            }
            Shape::Quantity => self.pick(&["0", "1500m", "0.5Gi", "1e3", "-1"]).into(),
            Shape::Time => self.pick(&[
                Value::Null,
                "2026-01-02T03:04:05+01:00".into(),
                "1969-12-31T23:59:58Z".into(),
            ]),
            Shape::MicroTime => self.pick(&[Value::Null, "2026-01-02T03:04:05.000007Z".into()]),
            Shape::Duration => self.pick(&["0s", "90m", "1.5s"]).into(),
            Shape::IntOrString => self.pick(&[json!(0), json!(-3), json!(""), json!("25%")]),
            Shape::SchemaOrBool => self.pick(&[json!(true), json!(false), json!({"type": "string"})]),
            Shape::SchemaOrArray => self.pick(&[json!([{"type": "string"}, {}]), json!({"type": "string"})]),
            Shape::SchemaOrStrings => self.pick(&[json!(["a"]), json!({"type": "string"})]),
            Shape::Struct(inner) => self.structure(inner, depth),
            Shape::Slice(element) => (0..self.below(3)).map(|_| self.value(element, depth)).collect(),
            Shape::Map(of) => {
                let keys = ["b", "a", "x.y/z"].into_iter().take(self.below(4) as usize);
                Value::Object(keys.map(|key| (key.to_owned(), self.value(of, depth))).collect())
            }
        }
    }
}
