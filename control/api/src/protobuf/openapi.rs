//! OpenAPI documents of version 2 as protobuf: the form in which some clients read `/openapi/v2`.
//!
//! The messages are those of `openapi.v2` (Google's gnostic, `OpenAPIv2.proto`), written down as tables. What a table does
//! not name is left out, but for extensions (`x-...`), which travel as text.

use super::wire::{put_bytes, put_double, put_integer};
use serde_json::{Map, Value};

/// The fields of a message, by the names that they have in JSON, and the number of its extensions; 0 when it has none.
struct Message {
    fields: &'static [(&'static str, u32, Of)],
    extensions: u32,
}

/// What a field holds.
#[derive(Clone, Copy)]
enum Of {
    Text,
    Texts,
    Truth,
    Integer,
    Double,
    /// Anything, as text.
    Any,
    Anys,
    One(&'static Message),
    Many(&'static Message),
    /// A message whose one field is repeated and named: a map.
    Named(&'static Message),
    /// The same of anything.
    NamedAnys,
    /// A message whose one field is a repeated text; one text is a list of one.
    ListOfTexts,
    /// A message whose one field is a repeated schema; one schema is a list of one.
    ListOfSchemas,
    /// A schema, or whether there may be any.
    SchemaOrTruth,
    /// A schema where there could be a file.
    SchemaItem,
    /// Parameters, here or elsewhere.
    Parameters,
    Paths,
    Responses,
}

use Of::{Any, Anys, Double, Integer, Many, Named, NamedAnys, One, Text, Texts, Truth};

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Text),
        ("info", 2, One(&INFO)),
        ("host", 3, Text),
        ("basePath", 4, Text),
        ("schemes", 5, Texts),
        ("consumes", 6, Texts),
        ("produces", 7, Texts),
        ("paths", 8, Of::Paths),
        ("definitions", 9, Named(&SCHEMA)),
        ("tags", 14, Many(&TAG)),
        ("externalDocs", 15, One(&EXTERNAL_DOCS)),
    ],
    extensions: 16,
};

static INFO: Message = Message {
    fields: &[
        ("title", 1, Text),
        ("version", 2, Text),
        ("description", 3, Text),
        ("termsOfService", 4, Text),
        ("contact", 5, One(&CONTACT)),
        ("license", 6, One(&LICENSE)),
    ],
    extensions: 7,
};

static CONTACT: Message = Message {
    fields: &[("name", 1, Text), ("url", 2, Text), ("email", 3, Text)],
    extensions: 4,
};

static LICENSE: Message = Message {
    fields: &[("name", 1, Text), ("url", 2, Text)],
    extensions: 3,
};

static TAG: Message = Message {
    fields: &[
        ("name", 1, Text),
        ("description", 2, Text),
        ("externalDocs", 3, One(&EXTERNAL_DOCS)),
    ],
    extensions: 4,
};

static EXTERNAL_DOCS: Message = Message {
    fields: &[("description", 1, Text), ("url", 2, Text)],
    extensions: 3,
};

static PATH_ITEM: Message = Message {
    fields: &[
        ("$ref", 1, Text),
        ("get", 2, One(&OPERATION)),
        ("put", 3, One(&OPERATION)),
        ("post", 4, One(&OPERATION)),
        ("delete", 5, One(&OPERATION)),
        ("options", 6, One(&OPERATION)),
        ("head", 7, One(&OPERATION)),
        ("patch", 8, One(&OPERATION)),
        ("parameters", 9, Of::Parameters),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, Texts),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("externalDocs", 4, One(&EXTERNAL_DOCS)),
        ("operationId", 5, Text),
        ("produces", 6, Texts),
        ("consumes", 7, Texts),
        ("parameters", 8, Of::Parameters),
        ("responses", 9, Of::Responses),
        ("schemes", 10, Texts),
        ("deprecated", 11, Truth),
    ],
    extensions: 13,
};

static RESPONSE: Message = Message {
    fields: &[
        ("description", 1, Text),
        ("schema", 2, Of::SchemaItem),
        ("headers", 3, Named(&HEADER)),
        ("examples", 4, NamedAnys),
    ],
    extensions: 5,
};

static REFERENCE: Message = Message {
    fields: &[("$ref", 1, Text), ("description", 2, Text)],
    extensions: 0,
};

static BODY: Message = Message {
    fields: &[
        ("description", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("required", 4, Truth),
        ("schema", 5, One(&SCHEMA)),
    ],
    extensions: 6,
};

/// A parameter in the path or in a header.
static PLACED: Message = Message {
    fields: &[
        ("required", 1, Truth),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 5, Text),
        ("format", 6, Text),
        ("items", 7, One(&ITEMS)),
        ("collectionFormat", 8, Text),
        ("default", 9, Any),
        ("maximum", 10, Double),
        ("exclusiveMaximum", 11, Truth),
        ("minimum", 12, Double),
        ("exclusiveMinimum", 13, Truth),
        ("maxLength", 14, Integer),
        ("minLength", 15, Integer),
        ("pattern", 16, Text),
        ("maxItems", 17, Integer),
        ("minItems", 18, Integer),
        ("uniqueItems", 19, Truth),
        ("enum", 20, Anys),
        ("multipleOf", 21, Double),
    ],
    extensions: 22,
};

/// A parameter in the query or in a form, which may be without a value.
static VALUED: Message = Message {
    fields: &[
        ("required", 1, Truth),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("allowEmptyValue", 5, Truth),
        ("type", 6, Text),
        ("format", 7, Text),
        ("items", 8, One(&ITEMS)),
        ("collectionFormat", 9, Text),
        ("default", 10, Any),
        ("maximum", 11, Double),
        ("exclusiveMaximum", 12, Truth),
        ("minimum", 13, Double),
        ("exclusiveMinimum", 14, Truth),
        ("maxLength", 15, Integer),
        ("minLength", 16, Integer),
        ("pattern", 17, Text),
        ("maxItems", 18, Integer),
        ("minItems", 19, Integer),
        ("uniqueItems", 20, Truth),
        ("enum", 21, Anys),
        ("multipleOf", 22, Double),
    ],
    extensions: 23,
};

static ITEMS: Message = Message {
    fields: &[
        ("type", 1, Text),
        ("format", 2, Text),
        ("items", 3, One(&ITEMS)),
        ("collectionFormat", 4, Text),
        ("default", 5, Any),
        ("maximum", 6, Double),
        ("exclusiveMaximum", 7, Truth),
        ("minimum", 8, Double),
        ("exclusiveMinimum", 9, Truth),
        ("maxLength", 10, Integer),
        ("minLength", 11, Integer),
        ("pattern", 12, Text),
        ("maxItems", 13, Integer),
        ("minItems", 14, Integer),
        ("uniqueItems", 15, Truth),
        ("enum", 16, Anys),
        ("multipleOf", 17, Double),
    ],
    extensions: 18,
};

static HEADER: Message = Message {
    fields: &[
        ("type", 1, Text),
        ("format", 2, Text),
        ("items", 3, One(&ITEMS)),
        ("collectionFormat", 4, Text),
        ("default", 5, Any),
        ("description", 18, Text),
    ],
    extensions: 19,
};

static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("default", 5, Any),
        ("multipleOf", 6, Double),
        ("maximum", 7, Double),
        ("exclusiveMaximum", 8, Truth),
        ("minimum", 9, Double),
        ("exclusiveMinimum", 10, Truth),
        ("maxLength", 11, Integer),
        ("minLength", 12, Integer),
        ("pattern", 13, Text),
        ("maxItems", 14, Integer),
        ("minItems", 15, Integer),
        ("uniqueItems", 16, Truth),
        ("maxProperties", 17, Integer),
        ("minProperties", 18, Integer),
        ("required", 19, Texts),
        ("enum", 20, Anys),
        ("additionalProperties", 21, Of::SchemaOrTruth),
        ("type", 22, Of::ListOfTexts),
        ("items", 23, Of::ListOfSchemas),
        ("allOf", 24, Many(&SCHEMA)),
        ("properties", 25, Named(&SCHEMA)),
        ("discriminator", 26, Text),
        ("readOnly", 27, Truth),
        ("externalDocs", 29, One(&EXTERNAL_DOCS)),
        ("example", 30, Any),
    ],
    extensions: 31,
};

/// Encodes an OpenAPI document of version 2. Values of other types than the specification gives them are left out.
pub fn encode_openapi(document: &Value) -> Vec<u8> {
    message(&DOCUMENT, document)
}

fn message(table: &Message, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(map) = value.as_object() else { return out };
    for (name, number, of) in table.fields {
        if let Some(value) = map.get(*name) {
            field(*number, *of, value, &mut out);
        }
    }
    if table.extensions > 0 {
        extensions(table.extensions, map, &mut out);
    }
    out
}

fn field(number: u32, of: Of, value: &Value, out: &mut Vec<u8>) {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    match of {
        Of::Text => text(number, value, out),
        Of::Texts => list.iter().for_each(|item| text(number, item, out)),
        Of::Truth => truth(number, value, out),
        Of::Integer => {
            if let Some(value) = value.as_i64() {
                put_integer(out, number, value as u64);
            }
        }
        Of::Double => {
            if let Some(value) = value.as_f64() {
                put_double(out, number, value);
            }
        }
        Of::Any => put_bytes(out, number, &anything(value)),
        Of::Anys => list.iter().for_each(|item| put_bytes(out, number, &anything(item))),
        Of::One(table) => put_bytes(out, number, &message(table, value)),
        Of::Many(table) => list
            .iter()
            .for_each(|item| put_bytes(out, number, &message(table, item))),
        Of::Named(table) => put_bytes(out, number, &entries(1, value, |value| message(table, value))),
        Of::NamedAnys => put_bytes(out, number, &entries(1, value, anything)),
        Of::ListOfTexts => put_bytes(out, number, &inner(|inner| each(value, |item| text(1, item, inner)))),
        Of::ListOfSchemas => {
            let schemas = inner(|inner| each(value, |item| put_bytes(inner, 1, &message(&SCHEMA, item))));
            put_bytes(out, number, &schemas);
        }
        Of::SchemaOrTruth => {
            let chosen = inner(|inner| match value {
                Value::Bool(_) => truth(2, value, inner),
                schema => put_bytes(inner, 1, &message(&SCHEMA, schema)),
            });
            put_bytes(out, number, &chosen);
        }
        Of::SchemaItem => {
            let schema = message(&SCHEMA, value);
            put_bytes(out, number, &inner(|inner| put_bytes(inner, 1, &schema)));
        }
        Of::Parameters => list.iter().for_each(|item| put_bytes(out, number, &parameter(item))),
        Of::Paths => {
            let mut paths = entries(2, value, |item| message(&PATH_ITEM, item));
            value
                .as_object()
                .into_iter()
                .for_each(|map| extensions(1, map, &mut paths));
            put_bytes(out, number, &paths);
        }
        Of::Responses => {
            let mut responses = entries(1, value, |item| here_or_there(&RESPONSE, item));
            value
                .as_object()
                .into_iter()
                .for_each(|map| extensions(2, map, &mut responses));
            put_bytes(out, number, &responses);
        }
    }
}

/// The bytes of a message that is written by hand.
fn inner(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// A list's items, or the one value.
fn each(value: &Value, of: impl FnMut(&Value)) {
    match value {
        Value::Array(list) => list.iter().for_each(of),
        one => std::iter::once(one).for_each(of),
    }
}

fn text(number: u32, value: &Value, out: &mut Vec<u8>) {
    if let Some(text) = value.as_str() {
        put_bytes(out, number, text.as_bytes());
    }
}

fn truth(number: u32, value: &Value, out: &mut Vec<u8>) {
    if let Some(value) = value.as_bool() {
        put_integer(out, number, u64::from(value));
    }
}

/// The message `Any`: its text is YAML, which JSON is.
fn anything(value: &Value) -> Vec<u8> {
    inner(|out| put_bytes(out, 2, value.to_string().as_bytes()))
}

/// A map as repeated fields of name and value, without its extensions.
fn entries(number: u32, value: &Value, of: impl Fn(&Value) -> Vec<u8>) -> Vec<u8> {
    let named = value.as_object().into_iter().flatten();
    inner(|out| {
        for (name, value) in named.filter(|(name, _)| !name.starts_with("x-")) {
            entry(number, name, &of(value), out);
        }
    })
}

fn extensions(number: u32, map: &Map<String, Value>, out: &mut Vec<u8>) {
    for (name, value) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
        entry(number, name, &anything(value), out);
    }
}

fn entry(number: u32, name: &str, value: &[u8], out: &mut Vec<u8>) {
    let entry = inner(|entry| {
        put_bytes(entry, 1, name.as_bytes());
        put_bytes(entry, 2, value);
    });
    put_bytes(out, number, &entry);
}

/// A message that may be a reference instead: the first or the second of two.
fn here_or_there(table: &Message, value: &Value) -> Vec<u8> {
    inner(|out| match value.get("$ref") {
        Some(_) => put_bytes(out, 2, &message(&REFERENCE, value)),
        None => put_bytes(out, 1, &message(table, value)),
    })
}

fn parameter(value: &Value) -> Vec<u8> {
    let (number, table) = match value.get("in").and_then(Value::as_str) {
        _ if value.get("$ref").is_some() => return here_or_there(&REFERENCE, value),
        Some("body") => {
            let body = inner(|out| put_bytes(out, 1, &message(&BODY, value)));
            return inner(|out| put_bytes(out, 1, &body));
        }
        Some("header") => (1, &PLACED),
        Some("formData") => (2, &VALUED),
        Some("path") => (4, &PLACED),
        _ => (3, &VALUED),
    };
    let other = inner(|out| put_bytes(out, number, &message(table, value)));
    let other = inner(|out| put_bytes(out, 2, &other));
    inner(|out| put_bytes(out, 1, &other))
}

#[cfg(test)]
mod tests;
