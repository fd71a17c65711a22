//! Reads and writes Kubernetes' protobuf bodies by the field facts, so that no type needs code of its own.
//!
//! A body is an envelope (a magic number, then `runtime.Unknown`) around the message of one object. Bodies are hostile until
//! proven: every length is checked, nesting is bounded, unknown fields are skipped, and nothing may panic. The caller bounds
//! the size of a body; what comes out of it is at most a small multiple of that.

mod message;
mod openapi;
mod wire;
mod write;

pub use openapi::encode_openapi;

use crate::fields::{StructRef, go_type, object_type};
use crate::json;
use crate::status::ApiError;
use message::Fault;
use serde_json::{Map, Value};
use wire::{Reader, Wire};

/// What every protobuf body of Kubernetes starts with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// Decodes an enveloped object; the result carries `kind` and `apiVersion`, and still has to be normalised.
///
/// # Errors
/// 400 when the bytes are not an envelope, the kind is unknown, or the message is malformed.
pub fn decode(bytes: &[u8]) -> Result<Value, ApiError> {
    decode_as(bytes, None)
}

/// Like [`decode`]; an envelope without a kind is taken for `expected`, as typed clients may leave it out.
///
/// # Errors
/// As for [`decode`].
pub fn decode_as(bytes: &[u8], expected: Option<&str>) -> Result<Value, ApiError> {
    enveloped(bytes, expected, 0)
        .map_err(|fault| ApiError::bad_request(format!("the request body is not a valid protobuf object: {fault}")))
}

/// Encodes an object by its `kind` and `apiVersion`. Fields that its type does not have are left out; so the object should
/// be normalised.
///
/// # Errors
/// 500 when the kind is unknown or has no protobuf form, or a value does not have its field's type.
pub fn encode(object: &Value) -> Result<Vec<u8>, ApiError> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let unknown = || ApiError::internal(format!("no protobuf form of {kind:?} in version {api_version:?}"));
    let found = find(api_version, kind).ok_or_else(unknown)?;
    let map = object.as_object().ok_or_else(unknown)?;
    let mut raw = Vec::new();
    write::message(found, map, &mut raw).map_err(ApiError::internal)?;
    let mut type_meta = Vec::new();
    wire::put_bytes(&mut type_meta, 1, api_version.as_bytes());
    wire::put_bytes(&mut type_meta, 2, kind.as_bytes());
    let mut out = MAGIC.to_vec();
    wire::put_bytes(&mut out, 1, &type_meta);
    wire::put_bytes(&mut out, 2, &raw);
    wire::put_bytes(&mut out, 3, b"");
    wire::put_bytes(&mut out, 4, b"");
    Ok(out)
}

/// True when bytes claim to be an envelope.
pub(crate) fn is_enveloped(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

fn find(api_version: &str, kind: &str) -> Option<StructRef> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    object_type(group, version, kind)
}

/// The parts of `runtime.Unknown`.
#[derive(Default)]
struct Envelope<'a> {
    api_version: &'a str,
    kind: &'a str,
    raw: &'a [u8],
    encoding: &'a str,
    media_type: &'a str,
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let body = bytes.strip_prefix(&MAGIC).ok_or(Fault::NoEnvelope)?;
        let mut envelope = Self::default();
        let mut reader = Reader::new(body);
        while let Some((number, wire)) = reader.field()? {
            match (number, wire) {
                (1, Wire::Bytes(type_meta)) => envelope.read_type_meta(type_meta)?,
                (2, Wire::Bytes(raw)) => envelope.raw = raw,
                (3, Wire::Bytes(text)) => envelope.encoding = message::utf8(text)?,
                (4, Wire::Bytes(text)) => envelope.media_type = message::utf8(text)?,
                _ => {}
            }
        }
        Ok(envelope)
    }

    fn read_type_meta(&mut self, bytes: &'a [u8]) -> Result<(), Fault> {
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.field()? {
            match (number, wire) {
                (1, Wire::Bytes(text)) => self.api_version = message::utf8(text)?,
                (2, Wire::Bytes(text)) => self.kind = message::utf8(text)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads an envelope that stands `depth` levels below the top.
fn enveloped(bytes: &[u8], expected: Option<&str>, depth: usize) -> Result<Value, Fault> {
    let envelope = Envelope::read(bytes)?;
    if !envelope.encoding.is_empty() {
        return Err(Fault::Encoding(envelope.encoding.to_owned()));
    }
    if envelope.media_type == "application/json" {
        return message::embedded_json(envelope.raw, depth);
    }
    let found = match (envelope.kind, expected) {
        ("", Some(expected)) => go_type(expected),
        (kind, _) => find(envelope.api_version, kind),
    };
    let found = found.ok_or_else(|| Fault::UnknownKind(envelope.kind.to_owned(), envelope.api_version.to_owned()))?;
    let mut object = Map::new();
    for (key, value) in [("kind", envelope.kind), ("apiVersion", envelope.api_version)] {
        if !value.is_empty() {
            object.insert(key.to_owned(), Value::from(value));
        }
    }
    message::read(found, envelope.raw, depth + 1, &mut object)?;
    Ok(Value::Object(object))
}

/// How deep a decoded object may nest: as deep as a JSON body.
const DEPTH_LIMIT: usize = json::DEPTH_LIMIT;

#[cfg(test)]
mod tests;
