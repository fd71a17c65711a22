//! The schema of a custom kind, compiled once when its definition is published and then only read.
//!
//! One type serves the structural part, which shapes objects, and the parts below `allOf`, `anyOf`, `oneOf` and `not`, which
//! only check them. Compiling never fails: what a definition's validation refuses does not get here, and what slips through
//! (a stored definition of an older rule set) reads as the weakest schema, which allows everything.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Number, Value};

use super::rules::Rules;
use crate::object;

/// The largest compiled form of one pattern, in bytes: patterns come from users, and ten times what real ones need still
/// keeps a definition with hundreds of them small.
const PATTERN_LIMIT_BYTES: usize = 1 << 20;

/// The JSON types that a schema may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonType {
    /// A list.
    Array,
    /// True or false.
    Boolean,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// A map.
    Object,
    /// A text.
    String,
}

impl JsonType {
    /// The types by their names.
    pub const NAMES: [&'static str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

    /// The type of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "array" => Self::Array,
            "boolean" => Self::Boolean,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "object" => Self::Object,
            "string" => Self::String,
            _ => return None,
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Array => "array",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Object => "object",
            Self::String => "string",
        }
    }
}

/// What may stand beside the named properties.
#[derive(Debug, Clone, Default)]
pub enum Additional {
    /// Nothing is said: unknown fields are pruned.
    #[default]
    Unsaid,
    /// Anything.
    Any,
    /// Values of this schema.
    Schema(Box<Schema>),
}

/// How the items of a list are told apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ListType {
    /// They are not.
    #[default]
    Atomic,
    /// By their values.
    Set,
    /// By these fields.
    Map(Vec<String>),
}

/// A text pattern, compiled.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// As the user wrote it.
    pub text: String,
    regex: Regex,
}

impl Pattern {
    /// Compiles a pattern; the error says what is wrong with it.
    ///
    /// # Errors
    /// When it is no regular expression, or one too large.
    pub fn compile(text: &str) -> Result<Self, String> {
        let built = regex::RegexBuilder::new(text).size_limit(PATTERN_LIMIT_BYTES).build();
        match built {
            Ok(regex) => Ok(Self {
                text: text.to_owned(),
                regex,
            }),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether the pattern occurs in a text.
    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

/// A lower or upper bound.
#[derive(Debug, Clone)]
pub struct Bound {
    /// The bound as the user wrote it.
    pub text: Number,
    /// Its value.
    pub value: f64,
    /// Whether the bound itself is out of bounds.
    pub exclusive: bool,
}

/// A compiled schema.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    /// The type; nothing is said where any type may stand.
    pub kind: Option<JsonType>,
    /// Whether null may stand for a value.
    pub nullable: bool,
    /// What a missing value becomes.
    pub default: Option<Value>,
    /// The named fields.
    pub properties: BTreeMap<String, Schema>,
    /// The other fields.
    pub additional: Additional,
    /// The items of a list.
    pub items: Option<Box<Schema>>,
    /// Unknown fields stay.
    pub preserve: bool,
    /// The value is a Kubernetes object with metadata of its own.
    pub embedded: bool,
    /// A whole number or a text.
    pub int_or_string: bool,
    /// How items are told apart.
    pub list: ListType,
    /// Whether the map is written as one value.
    pub atomic_map: bool,
    /// The form of a text or the range of a number.
    pub format: String,
    /// What a text must match.
    pub pattern: Option<Pattern>,
    /// The only values allowed, if any are listed.
    pub allowed: Vec<Value>,
    /// Fields that must be there.
    pub required: Vec<String>,
    /// The least number.
    pub minimum: Option<Bound>,
    /// The greatest number.
    pub maximum: Option<Bound>,
    /// What a number must be a multiple of.
    pub multiple_of: Option<Number>,
    /// Lengths of texts, in characters.
    pub lengths: Range,
    /// Numbers of items.
    pub item_counts: Range,
    /// Numbers of fields.
    pub property_counts: Range,
    /// All must hold.
    pub all_of: Vec<Schema>,
    /// One must hold.
    pub any_of: Vec<Schema>,
    /// Exactly one must hold.
    pub one_of: Vec<Schema>,
    /// Must not hold.
    pub not: Option<Box<Schema>>,
    /// The rules written in CEL.
    pub rules: Rules,
}

/// The least and the greatest of a count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range {
    /// At least so many.
    pub least: Option<u64>,
    /// At most so many.
    pub most: Option<u64>,
}

impl Schema {
    /// Compiles the JSON form. The root of an object is compiled with [`Schema::root`].
    pub fn compile(json: &Value) -> Self {
        Self::build(json, true)
    }

    /// Compiles the schema of whole objects.
    pub fn root(json: &Value) -> Self {
        let mut schema = Self::compile(json);
        schema.embedded = true;
        schema
    }

    fn build(json: &Value, structural: bool) -> Self {
        let flag = |name: &str| json.get(name).and_then(Value::as_bool).unwrap_or_default();
        let count = |name: &str| json.get(name).and_then(Value::as_u64);
        let nested = |name: &str| {
            object::list(json, name)
                .iter()
                .map(|one| Self::build(one, false))
                .collect()
        };
        let mut schema = Self {
            kind: JsonType::parse(object::text(json, "type")),
            nullable: flag("nullable"),
            default: json.get("default").filter(|value| !value.is_null()).cloned(),
            properties: properties(json, structural),
            additional: additional(json, structural),
            items: json
                .get("items")
                .filter(|items| items.is_object())
                .map(|items| Box::new(Self::build(items, structural))),
            preserve: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            list: list_type(json),
            atomic_map: object::text(json, "x-kubernetes-map-type") == "atomic",
            format: object::text(json, "format").to_owned(),
            pattern: Some(object::text(json, "pattern"))
                .filter(|text| !text.is_empty())
                .and_then(|text| Pattern::compile(text).ok()),
            allowed: object::list(json, "enum").to_vec(),
            required: texts(json, "required"),
            minimum: bound(json, "minimum", "exclusiveMinimum"),
            maximum: bound(json, "maximum", "exclusiveMaximum"),
            multiple_of: json.get("multipleOf").and_then(Value::as_number).cloned(),
            lengths: Range {
                least: count("minLength"),
                most: count("maxLength"),
            },
            item_counts: Range {
                least: count("minItems"),
                most: count("maxItems"),
            },
            property_counts: Range {
                least: count("minProperties"),
                most: count("maxProperties"),
            },
            all_of: nested("allOf"),
            any_of: nested("anyOf"),
            one_of: nested("oneOf"),
            not: json
                .get("not")
                .filter(|not| not.is_object())
                .map(|not| Box::new(Self::build(not, false))),
            rules: Rules::default(),
        };
        if structural {
            schema.rules = Rules::compile(json, &schema);
        }
        schema
    }

    /// The schema of a field, named or not.
    pub fn field(&self, name: &str) -> Option<&Schema> {
        match (self.properties.get(name), &self.additional) {
            (Some(schema), _) => Some(schema),
            (None, Additional::Schema(schema)) => Some(schema),
            (None, _) => None,
        }
    }

    /// Whether a field without a schema stays.
    pub fn keeps_unknown(&self) -> bool {
        self.preserve || matches!(self.additional, Additional::Any)
    }
}

fn properties(json: &Value, structural: bool) -> BTreeMap<String, Schema> {
    let named = json.get("properties").and_then(Value::as_object).into_iter().flatten();
    named
        .map(|(name, schema)| (name.clone(), Schema::build(schema, structural)))
        .collect()
}

fn additional(json: &Value, structural: bool) -> Additional {
    match json.get("additionalProperties") {
        Some(Value::Bool(true)) => Additional::Any,
        Some(schema @ Value::Object(_)) => Additional::Schema(Box::new(Schema::build(schema, structural))),
        _ => Additional::Unsaid,
    }
}

fn list_type(json: &Value) -> ListType {
    match object::text(json, "x-kubernetes-list-type") {
        "set" => ListType::Set,
        "map" => ListType::Map(texts(json, "x-kubernetes-list-map-keys")),
        _ => ListType::Atomic,
    }
}

fn bound(json: &Value, name: &str, exclusive: &str) -> Option<Bound> {
    let text = json.get(name)?.as_number()?.clone();
    Some(Bound {
        value: text.as_f64()?,
        text,
        exclusive: json.get(exclusive).and_then(Value::as_bool).unwrap_or_default(),
    })
}

/// The texts of a list.
pub(super) fn texts(json: &Value, field: &str) -> Vec<String> {
    let items = json.get(field).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}
