//! The walk over an object: which fields there are, which are left out, and in what order they stand.

use super::Problem;
use super::scalar;
use crate::fields::{self, Field, Shape, StructRef, TypeRef};
use crate::json::{DEPTH_LIMIT, is_deeper, push_index, push_key};
use serde_json::{Map, Value};
use std::fmt;
use std::sync::OnceLock;

/// Why decoding stopped; its display is what Go would say.
#[derive(Debug)]
pub(super) enum Fault {
    /// A JSON type that the Go type does not take.
    Type {
        /// What was given: `string`, `number 1.5`, ...
        given: String,
        /// `Struct.path.to.field`; empty at the top.
        field: String,
        /// The Go type.
        wanted: String,
    },
    /// A scalar that does not parse.
    Text(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type { given, field, wanted } if field.is_empty() => {
                write!(f, "json: cannot unmarshal {given} into Go value of type {wanted}")
            }
            Self::Type { given, field, wanted } => {
                write!(
                    f,
                    "json: cannot unmarshal {given} into Go struct field {field} of type {wanted}"
                )
            }
            Self::Text(text) => f.write_str(text),
        }
    }
}

pub(super) struct Walk {
    /// The struct whose field is being read.
    owner: StructRef,
    /// The fields from the top to here, as Go's errors name them.
    stack: Vec<&'static str>,
    /// The place, as unknown fields name it.
    path: String,
    /// How many lists and objects enclose the value.
    depth: usize,
    problems: Vec<Problem>,
}

impl Walk {
    pub(super) fn new(owner: StructRef) -> Self {
        Self {
            owner,
            stack: Vec::new(),
            path: String::new(),
            depth: 0,
            problems: Vec::new(),
        }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    pub(super) fn root(&mut self, value: &mut Value) -> Result<(), Fault> {
        match value {
            Value::Object(map) => self.structure(self.owner, map),
            other => Err(self.wrong(given(other), self.owner.printed_name().to_owned())),
        }
    }

    fn wrong(&self, given: impl Into<String>, wanted: String) -> Fault {
        let field = match self.stack.is_empty() {
            true => String::new(),
            false => format!("{}.{}", self.owner.short_name(), self.stack.join(".")),
        };
        Fault::Type {
            given: given.into(),
            field,
            wanted,
        }
    }

    /// Brings an object into the form in which Go would write it. Most that come are in it: they stay as they are, and only
    /// the others are built anew.
    fn structure(&mut self, kind: StructRef, map: &mut Map<String, Value>) -> Result<(), Fault> {
        let fields = kind.fields();
        self.descend()?;
        let outer = std::mem::replace(&mut self.owner, kind);
        let (mut next, mut canonical) = (0, true);
        for (key, value) in map.iter_mut() {
            let back = push_key(&mut self.path, key);
            match find_from(fields, next, key) {
                None => {
                    self.problems.push(Problem::UnknownField(self.path.clone()));
                    canonical = false;
                }
                Some((at, field)) => {
                    self.stack.push(field.json);
                    self.value(field.kind, field.pointer, value)?;
                    self.stack.pop();
                    // What is passed over is absent, or stands before its place.
                    let passed = fields.get(next..at);
                    canonical &= passed.is_some_and(|passed| !passed.iter().any(is_written_when_absent));
                    canonical &= !is_omitted(field, value);
                    next = at + 1;
                }
            }
            self.path.truncate(back);
        }
        self.owner = outer;
        self.depth -= 1;
        let rest = fields.get(next..).unwrap_or_default();
        if !canonical || rest.iter().any(is_written_when_absent) {
            rebuild(fields, map);
        }
        Ok(())
    }

    /// Brings one value into its canonical form; what Go would hold as nil or the zero time becomes null.
    fn value(&mut self, kind: TypeRef, pointer: bool, value: &mut Value) -> Result<(), Fault> {
        if value.is_null() {
            if !pointer {
                *value = zero(kind);
            }
            return Ok(());
        }
        match kind.shape() {
            Shape::String => match value {
                Value::String(_) => Ok(()),
                other => Err(self.wrong(given(other), kind.printed_name())),
            },
            Shape::Bool => match value {
                Value::Bool(_) => Ok(()),
                other => Err(self.wrong(given(other), kind.printed_name())),
            },
            Shape::Int32 => self.integer(kind, value, |n| i32::try_from(n).is_ok()),
            Shape::Int64 => self.integer(kind, value, |_| true),
            Shape::Float64 => match value {
                Value::Number(_) => Ok(()),
                other => Err(self.wrong(given(other), kind.printed_name())),
            },
            Shape::Struct(inner) => match value {
                Value::Object(map) => self.structure(inner, map),
                other => Err(self.wrong(given(other), kind.printed_name())),
            },
            Shape::Slice(element) => match value {
                Value::Array(list) => self.list(element, list),
                other => Err(self.wrong(given(other), kind.printed_name())),
            },
            Shape::Map(of) => match value {
                Value::Object(map) => self.map(of, map),
                other => Err(self.wrong(given(other), kind.printed_name())),
            },
            Shape::Bytes => match value {
                Value::String(text) => scalar::bytes(text).map_err(Fault::Text),
                other => Err(self.wrong(given(other), kind.printed_name())),
            },
            Shape::SchemaOrBool | Shape::SchemaOrArray | Shape::SchemaOrStrings => self.schema(kind.shape(), value),
            Shape::Quantity => scalar::quantity(value).map_err(Fault::Text),
            Shape::Time => scalar::time(value).map_err(Fault::Text),
            Shape::MicroTime => scalar::micro_time(value).map_err(Fault::Text),
            Shape::Duration => scalar::duration(value).map_err(Fault::Text),
            Shape::IntOrString => scalar::int_or_string(value).map_err(Fault::Text),
            Shape::Any | Shape::RawExtension | Shape::FieldsV1 | Shape::Json => self.embedded(value),
        }
    }

    /// A value of no known type: only its depth counts.
    fn embedded(&self, value: &Value) -> Result<(), Fault> {
        match is_deeper(value, DEPTH_LIMIT.saturating_sub(self.depth)) {
            true => Err(Fault::Text("nested too deep".to_owned())),
            false => Ok(()),
        }
    }

    fn descend(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            Err(Fault::Text("nested too deep".to_owned()))
        } else {
            Ok(())
        }
    }

    fn integer(&self, kind: TypeRef, value: &Value, fits: impl Fn(i64) -> bool) -> Result<(), Fault> {
        match value {
            Value::Number(number) if number.as_i64().is_some_and(fits) => Ok(()),
            Value::Number(number) => Err(self.wrong(format!("number {number}"), kind.printed_name())),
            other => Err(self.wrong(given(other), kind.printed_name())),
        }
    }

    fn list(&mut self, element: TypeRef, list: &mut [Value]) -> Result<(), Fault> {
        self.descend()?;
        for (index, value) in list.iter_mut().enumerate() {
            let back = push_index(&mut self.path, index);
            self.value(element, element.is_pointer(), value)?;
            self.path.truncate(back);
        }
        self.depth -= 1;
        Ok(())
    }

    fn map(&mut self, of: TypeRef, map: &mut Map<String, Value>) -> Result<(), Fault> {
        self.descend()?;
        for (key, value) in map.iter_mut() {
            let back = push_key(&mut self.path, key);
            self.value(of, of.is_pointer(), value)?;
            self.path.truncate(back);
        }
        self.depth -= 1;
        // Go writes maps in order of keys.
        if !map.keys().is_sorted() {
            map.sort_keys();
        }
        Ok(())
    }

    /// The three types of a JSON schema that are a schema or something else.
    fn schema(&mut self, shape: Shape, value: &mut Value) -> Result<(), Fault> {
        match (shape, value) {
            (_, Value::Object(map)) => match schema_type() {
                Some(kind) => self.structure(kind, map),
                None => Ok(()),
            },
            (Shape::SchemaOrBool, Value::Bool(_)) => Ok(()),
            (Shape::SchemaOrBool, _) => Err(Fault::Text("boolean or JSON schema expected".to_owned())),
            (Shape::SchemaOrArray, Value::Array(list)) => {
                for (index, value) in list.iter_mut().enumerate() {
                    let back = push_index(&mut self.path, index);
                    self.schema(Shape::Struct(self.owner), value)?;
                    self.path.truncate(back);
                }
                Ok(())
            }
            (Shape::SchemaOrStrings, Value::Array(list)) => match list.iter().find(|value| !value.is_string()) {
                Some(other) => Err(self.wrong(given(other), "string".to_owned())),
                None => Ok(()),
            },
            (_, other) => Err(self.wrong(given(other), "v1.JSONSchemaProps".to_owned())),
        }
    }
}

/// The type of JSON schemas in CustomResourceDefinitions.
pub(crate) fn schema_type() -> Option<StructRef> {
    static TYPE: OnceLock<Option<StructRef>> = OnceLock::new();
    const NAME: &str = "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaProps";
    *TYPE.get_or_init(|| fields::go_type(NAME))
}

/// The field with this name, searched from `start` on and then from the front: objects mostly come in Go's order.
fn find_from(fields: &'static [Field], start: usize, key: &str) -> Option<(usize, &'static Field)> {
    let (front, back) = fields.split_at(start.min(fields.len()));
    let behind = back
        .iter()
        .position(|field| field.json == key)
        .map(|at| at + front.len());
    let at = behind.or_else(|| front.iter().position(|field| field.json == key))?;
    fields.get(at).map(|field| (at, field))
}

/// Leaves out what is unknown or not written, adds what is always written, and brings all of it into Go's order.
fn rebuild(fields: &'static [Field], map: &mut Map<String, Value>) {
    let mut slots: Vec<Option<(String, Value)>> = Vec::new();
    slots.resize_with(fields.len(), || None);
    let mut next = 0;
    for (key, value) in std::mem::take(map) {
        let found = find_from(fields, next, &key);
        if let Some((at, _)) = found
            && let Some(slot) = slots.get_mut(at)
        {
            next = at + 1;
            *slot = Some((key, value));
        }
    }
    for (field, slot) in fields.iter().zip(slots) {
        match slot {
            Some((key, value)) if !is_omitted(field, &value) => {
                map.insert(key, value);
            }
            _ => {
                if let Some(zero) = written_when_absent(field) {
                    map.insert(field.json.to_owned(), zero);
                }
            }
        }
    }
}

/// What Go calls a JSON value in an error.
fn given(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// True when a canonical value is not written: Kubernetes writes empty lists and maps without `omitempty` as null.
fn is_omitted(field: &Field, value: &Value) -> bool {
    if field.pointer {
        return value.is_null();
    }
    match field.kind.shape() {
        Shape::Slice(_) => value.is_null() || value.as_array().is_some_and(Vec::is_empty),
        Shape::Map(_) => value.is_null() || value.as_object().is_some_and(Map::is_empty),
        Shape::Bytes => value.is_null() || value.as_str() == Some(""),
        Shape::String => field.omit_empty && value.as_str() == Some(""),
        Shape::Bool => field.omit_empty && *value == Value::Bool(false),
        Shape::Int32 | Shape::Int64 => field.omit_empty && value.as_i64() == Some(0),
        Shape::Float64 => field.omit_empty && value.as_f64() == Some(0.0),
        Shape::Any => field.omit_empty && value.is_null(),
        _ => field.omit_zero && *value == zero(field.kind),
    }
}

/// What Go writes for a field that holds nothing, if anything.
pub(crate) fn written_when_absent(field: &Field) -> Option<Value> {
    is_written_when_absent(field).then(|| if field.pointer { Value::Null } else { zero(field.kind) })
}

fn is_written_when_absent(field: &Field) -> bool {
    let empty = field.pointer
        || matches!(
            field.kind.shape(),
            Shape::Slice(_)
                | Shape::Map(_)
                | Shape::Bytes
                | Shape::String
                | Shape::Bool
                | Shape::Int32
                | Shape::Int64
                | Shape::Float64
                | Shape::Any
        );
    !(field.omit_zero || (empty && field.omit_empty))
}

/// An object of a type as Go writes one that nobody filled in.
pub(crate) fn blank(kind: StructRef) -> Value {
    let fields = kind.fields().iter();
    let zeros = fields.filter_map(|f| written_when_absent(f).map(|zero| (f.json.to_owned(), zero)));
    Value::Object(zeros.collect())
}

/// The canonical form of Go's zero value.
fn zero(kind: TypeRef) -> Value {
    match kind.shape() {
        Shape::String => Value::String(String::new()),
        Shape::Bool => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Float64 | Shape::IntOrString => Value::Number(0.into()),
        Shape::Quantity => Value::String("0".to_owned()),
        Shape::Duration => Value::String("0s".to_owned()),
        Shape::Struct(inner) => blank(inner),
        _ => Value::Null,
    }
}
