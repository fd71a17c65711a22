//! Between a tree and what the store keeps: keys, headers, and bytes with a gap for the revision.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use coracle_api::kinds::{Kind, Kinds};
use coracle_api::object;
use coracle_api::status::ApiError;
use coracle_store::{Body, Header, Key, Record};
use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The built-in kinds, made once.
pub(crate) fn kinds() -> &'static Arc<Kinds> {
    static KINDS: OnceLock<Arc<Kinds>> = OnceLock::new();
    KINDS.get_or_init(|| Arc::new(Kinds::builtin()))
}

/// The store's key of an object.
pub(crate) fn key(kind: &Kind, namespace: Option<&str>, name: &str) -> Key {
    Key::from(format!("{}{}/{name}", prefix(kind), namespace.unwrap_or_default()))
}

/// What the keys of all objects of a kind begin with.
pub(crate) fn prefix(kind: &Kind) -> String {
    format!("{}/", kind.group_resource())
}

/// What the keys of a kind's objects in one namespace begin with; all of them without a namespace.
pub(crate) fn prefix_in(kind: &Kind, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("{}{namespace}/", prefix(kind)),
        None => prefix(kind),
    }
}

/// The namespace and name in a key; an empty namespace for cluster-wide objects.
pub(crate) fn place(key: &str) -> (&str, &str) {
    let rest = key.split_once('/').map_or("", |(_, rest)| rest);
    rest.split_once('/').unwrap_or(("", rest))
}

/// Reads a stored object.
pub(crate) fn tree(record: &Record) -> Result<Value, ApiError> {
    parse(&record.json)
}

/// Reads stored bytes.
pub(crate) fn parse(json: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(json).map_err(unreadable)
}

/// Reads a stored object without the owners of its fields, and gives their list as the text that it is. It is a large part of
/// an object, and most of those who change one never look inside.
pub(crate) fn apart(json: &Bytes) -> Result<(Value, Option<Bytes>), ApiError> {
    let mut owners = None;
    let mut reader = serde_json::Deserializer::from_slice(json);
    let object = Apart {
        path: OWNERS,
        found: &mut owners,
    };
    let tree = object
        .deserialize(&mut reader)
        .and_then(|tree| reader.end().map(|()| tree));
    Ok((
        tree.map_err(unreadable)?,
        owners.map(|text| json.slice_ref(text.get().as_bytes())),
    ))
}

const OWNERS: &[&str] = &["metadata", "managedFields"];

/// Reads an object but for the member at a path, whose text it leaves in `found`.
struct Apart<'p, 'de> {
    path: &'static [&'static str],
    found: &'p mut Option<&'de RawValue>,
}

impl<'de> DeserializeSeed<'de> for Apart<'_, 'de> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Apart<'_, 'de> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = match self.path {
                [last] if name == *last => {
                    *self.found = Some(members.next_value()?);
                    continue;
                }
                [first, path @ ..] if !path.is_empty() && name == *first => members.next_value_seed(Apart {
                    path,
                    found: &mut *self.found,
                })?,
                _ => members.next_value()?,
            };
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

/// The `PartialObjectMetadata` of a stored object. Its metadata is copied as it stands: nothing is built to be taken apart again.
pub(crate) fn partial(json: &[u8]) -> Result<Vec<u8>, ApiError> {
    #[derive(serde::Deserialize)]
    struct Outline<'a> {
        #[serde(borrow)]
        metadata: &'a RawValue,
    }
    const HEAD: &[u8] = br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#;
    let outline: Outline<'_> = serde_json::from_slice(json).map_err(unreadable)?;
    Ok([HEAD, outline.metadata.get().as_bytes(), b"}"].concat())
}

fn unreadable(error: serde_json::Error) -> ApiError {
    ApiError::internal(format!("stored object cannot be read: {error}"))
}

/// Writes an object's canonical bytes, with an empty `metadata.resourceVersion` where the store puts the revision. `owners`
/// is the list of the owners of its fields as text, where the object is without.
pub(crate) fn body(value: &Value, owners: Option<&[u8]>) -> Result<Body, ApiError> {
    let failed = |error: serde_json::Error| ApiError::internal(format!("object cannot be written: {error}"));
    let top = value
        .as_object()
        .ok_or_else(|| ApiError::internal("object is no JSON object".to_owned()))?;
    let mut json = Vec::with_capacity(2048);
    let mut revision_at = None;
    json.push(b'{');
    for (name, member) in top {
        separate(&mut json, name).map_err(failed)?;
        match member.as_object() {
            Some(metadata) if name == "metadata" => {
                json.push(b'{');
                for (name, member) in metadata.iter().filter(|(name, _)| *name != "resourceVersion") {
                    separate(&mut json, name).map_err(failed)?;
                    serde_json::to_writer(&mut json, member).map_err(failed)?;
                }
                if let Some(owners) = owners {
                    separate(&mut json, "managedFields").map_err(failed)?;
                    json.extend_from_slice(owners);
                }
                separate(&mut json, "resourceVersion").map_err(failed)?;
                json.extend_from_slice(b"\"\"");
                revision_at = Some(json.len() - 1);
                json.push(b'}');
            }
            _ => serde_json::to_writer(&mut json, member).map_err(failed)?,
        }
    }
    json.push(b'}');
    let revision_at = revision_at.ok_or_else(|| ApiError::internal("object has no metadata".to_owned()))?;
    Ok(Body { json, revision_at })
}

fn separate(json: &mut Vec<u8>, name: &str) -> Result<(), serde_json::Error> {
    if json.last() != Some(&b'{') {
        json.push(b',');
    }
    serde_json::to_writer(&mut *json, name)?;
    json.push(b':');
    Ok(())
}

/// A tree's plain bytes.
pub(crate) fn bytes(value: &Value) -> Bytes {
    // A tree of strings, numbers and maps always serialises.
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// What selectors, owners and deletion look at, taken out of an object once.
pub(crate) fn header(kind: &Kind, value: &Value) -> Header {
    Header {
        uid: object::uid(value).to_owned(),
        labels: object::labels(value)
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        fields: kind
            .selectable
            .iter()
            .map(|field| (field.label.clone(), field.value(value).into_owned()))
            .collect(),
        owners: value
            .pointer("/metadata/ownerReferences")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|owner| owner.get("uid")?.as_str().map(str::to_owned))
            .collect(),
        deleting: object::deletion_timestamp(value).is_some(),
    }
}

/// A kind of which nothing is known.
fn plain_kind() -> &'static Kind {
    static KIND: OnceLock<Kind> = OnceLock::new();
    KIND.get_or_init(|| Kind::new("", "", "", "", ""))
}

/// The header of stored bytes, for [`coracle_store::Store::open`].
pub fn header_of(key: &str, json: &[u8]) -> Header {
    let resource = key.split_once('/').map_or(key, |(resource, _)| resource);
    let kind = kinds()
        .iter()
        .find(|kind| kind.conversion.is_none() && kind.group_resource().to_string() == resource);
    match (kind, serde_json::from_slice::<Value>(json)) {
        (Some(kind), Ok(value)) => header(kind, &value),
        // An object of a custom kind, whose definition is not known yet: what every object has.
        (None, Ok(value)) => header(plain_kind(), &value),
        (_, Err(_)) => Header::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_gap_is_where_the_revision_belongs() {
        let value = json!({"kind": "Pod", "metadata": {"name": "a", "resourceVersion": "7", "labels": {"x": "\""}}, "spec": {"metadata": {"resourceVersion": "1"}}});
        let body = body(&value, None).unwrap();
        let mut json = body.json.clone();
        json.splice(body.revision_at..body.revision_at, *b"42");
        let back: Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(back["metadata"]["resourceVersion"], "42");
        assert_eq!(back["metadata"]["labels"]["x"], "\"");
        assert_eq!(back["spec"], value["spec"]);
    }

    #[test]
    fn an_object_without_metadata_is_refused() {
        assert!(body(&json!({"kind": "Pod"}), None).is_err());
        assert!(body(&json!(3), None).is_err());
    }

    #[test]
    fn owners_are_taken_out_as_text_and_put_back() {
        let value = json!({"kind": "Pod", "metadata": {"name": "a", "managedFields": [{"manager": "x"}], "uid": "u"},
            "spec": {"metadata": {"managedFields": 1}}, "managedFields": 2});
        let stored = bytes(&value);
        let (tree, owners) = apart(&stored).unwrap();
        assert_eq!(owners.as_deref(), Some(br#"[{"manager":"x"}]"#.as_slice()));
        let mut without = value.clone();
        object::remove(&mut without, "metadata.managedFields");
        assert_eq!(tree, without);
        let back: Value = serde_json::from_slice(&body(&tree, owners.as_deref()).unwrap().json).unwrap();
        assert_eq!(back["metadata"]["managedFields"], value["metadata"]["managedFields"]);
        let (same, none) = apart(&bytes(&without)).unwrap();
        assert_eq!((same, none), (without, None));
        assert!(apart(&Bytes::from_static(b"{} {}")).is_err());
        assert!(apart(&Bytes::from_static(b"[]")).is_err());
    }

    #[test]
    fn partial_objects_are_the_same_from_bytes_and_from_trees() {
        let value = json!({"kind": "Pod", "metadata": {"name": "a", "labels": {"x": "\"}"}}, "spec": {"metadata": {}}});
        let tree = coracle_api::table::partial(&value);
        assert_eq!(partial(&bytes(&value)).unwrap(), bytes(&tree));
        assert!(partial(b"{}").is_err());
    }

    #[test]
    fn places() {
        assert_eq!(place("pods/default/a"), ("default", "a"));
        assert_eq!(place("nodes//n1"), ("", "n1"));
    }
}
