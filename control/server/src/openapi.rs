//! OpenAPI: what kubectl reads to explain kinds, to compute patches, and to learn that the server checks fields.
//!
//! Documents are made from the kinds and the field facts when they are first asked for, and never change after that. A
//! changed set of kinds has documents of its own, and shares those of the versions that did not change.

mod paths;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use coracle_api::custom::{Custom, publish};
use coracle_api::kinds::{Kind, Kinds};
use coracle_api::object;
use coracle_api::protobuf::encode_openapi;
use coracle_api::schema::{openapi_schema_name, openapi_schemas};
use http::header::{CACHE_CONTROL, EXPIRES, HeaderValue, LOCATION};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use crate::aggregate::remote::Remote;
use crate::body::ResponseBody;
use crate::discovery::path;
use crate::negotiate;
use crate::query::Query;
use crate::respond::{self, Answer};

/// Types that paths speak of besides the kinds themselves.
const SHARED: [&str; 5] = [
    "k8s.io/apimachinery/pkg/apis/meta/v1.ObjectMeta",
    "k8s.io/apimachinery/pkg/apis/meta/v1.DeleteOptions",
    "k8s.io/apimachinery/pkg/apis/meta/v1.Status",
    "k8s.io/apimachinery/pkg/apis/meta/v1.ListMeta",
    "k8s.io/apimachinery/pkg/apis/meta/v1.Patch",
];
/// A document under its hash never changes, so clients may keep it for a year; the date only has to be far away.
const NEVER: HeaderValue = HeaderValue::from_static("Thu, 31 Dec 2099 23:59:59 GMT");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/com.github.proto-openapi.spec.v2.v1.0+protobuf");

struct Document {
    bytes: Bytes,
    etag: String,
}

impl Document {
    fn of(bytes: Bytes) -> Self {
        let etag = respond::etag(&bytes);
        Self { bytes, etag }
    }
}

/// The documents.
pub(crate) struct OpenApi {
    kinds: Arc<Kinds>,
    /// The older documents of other servers whose kinds are shown here.
    remote: Vec<Arc<Value>>,
    version: String,
    third: BTreeMap<String, Part>,
    index: OnceLock<Document>,
    second: OnceLock<Document>,
    /// The same as protobuf.
    second_protobuf: OnceLock<Document>,
}

impl OpenApi {
    /// The documents of a set of kinds, with what `previous` has made of the same kinds.
    pub(crate) fn new(kinds: Arc<Kinds>, remotes: &[Remote], version: &str, previous: Option<&Self>) -> Self {
        let mut third = parts(&kinds, previous);
        third.extend(remotes.iter().filter_map(remote_part));
        let second = remotes.iter().filter_map(|remote| remote.documents.second.as_ref());
        Self {
            third,
            kinds,
            remote: second.map(|(_, document)| document.clone()).collect(),
            version: version.to_owned(),
            index: OnceLock::new(),
            second: OnceLock::new(),
            second_protobuf: OnceLock::new(),
        }
    }

    /// Answers an OpenAPI path; `None` when it is none.
    pub(crate) fn answer(&self, path: &str, headers: &HeaderMap, query: &Query) -> Option<Answer> {
        match path.strip_prefix("openapi/")? {
            "v2" if negotiate::openapi_as_protobuf(headers) => {
                let document = self
                    .second_protobuf
                    .get_or_init(|| Document::of(encode_openapi(&self.v2()).into()));
                Some(respond::cached(headers, PROTOBUF, &document.bytes, &document.etag))
            }
            "v2" => {
                let document = self.second.get_or_init(|| document(&self.v2()));
                Some(respond::cached(headers, JSON, &document.bytes, &document.etag))
            }
            "v3" => {
                let document = self.index.get_or_init(|| document(&self.index()));
                Some(respond::cached(headers, JSON, &document.bytes, &document.etag))
            }
            rest => {
                let name = rest.strip_prefix("v3/")?;
                Some(one(name, self.third(self.third.get(name)?), headers, query))
            }
        }
    }

    fn third<'a>(&self, part: &'a Part) -> &'a Document {
        part.document.get_or_init(|| {
            let kinds: Vec<&Kind> = part.rows.iter().map(|kind| kind.as_ref()).collect();
            document(&self.v3(&kinds))
        })
    }

    fn index(&self) -> Value {
        let mut paths = Map::new();
        for (name, part) in &self.third {
            let hash = self.third(part).etag.trim_matches('"');
            paths.insert(
                name.clone(),
                json!({"serverRelativeURL": format!("/openapi/v3/{name}?hash={hash}")}),
            );
        }
        json!({"paths": paths})
    }

    fn v3(&self, kinds: &[&Kind]) -> Value {
        let mut all = Map::new();
        for kind in kinds {
            paths::add(&mut all, kind, &paths::V3);
        }
        json!({
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": self.version},
            "paths": all,
            "components": {"schemas": schemas(kinds, publish::third)},
        })
    }

    /// The older form of the same: one document, references that point elsewhere.
    fn v2(&self) -> Value {
        let kinds: Vec<&Kind> = self.kinds.iter().map(|kind| kind.as_ref()).collect();
        let mut all = Map::new();
        for kind in &kinds {
            paths::add(&mut all, kind, &paths::V2);
        }
        let mut definitions = Value::Object(schemas(&kinds, publish::second));
        to_v2(&mut definitions);
        for document in &self.remote {
            for (field, known) in [("paths", &mut all), ("definitions", object::fields(&mut definitions))] {
                for (name, value) in object::map(document, field).into_iter().flatten() {
                    known.entry(name).or_insert_with(|| value.clone());
                }
            }
        }
        json!({
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": self.version},
            "paths": all,
            "definitions": definitions,
        })
    }
}

/// The kinds of one version, with their document once it was asked for.
struct Part {
    rows: Vec<Arc<Kind>>,
    document: Arc<OnceLock<Document>>,
}

fn parts(kinds: &Kinds, previous: Option<&OpenApi>) -> BTreeMap<String, Part> {
    let mut rows: BTreeMap<String, Vec<Arc<Kind>>> = BTreeMap::new();
    for kind in kinds.iter() {
        rows.entry(path(&kind.group, &kind.version))
            .or_default()
            .push(kind.clone());
    }
    let part = |(path, rows): (String, Vec<Arc<Kind>>)| {
        let known = previous.and_then(|previous| previous.third.get(&path));
        let same = |known: &&Part| {
            known.rows.len() == rows.len() && known.rows.iter().zip(&rows).all(|(one, other)| Arc::ptr_eq(one, other))
        };
        let document = known
            .filter(same)
            .map(|known| known.document.clone())
            .unwrap_or_default();
        (path, Part { rows, document })
    };
    rows.into_iter().map(part).collect()
}

/// Another server's document is shown as it is.
fn remote_part(remote: &Remote) -> Option<(String, Part)> {
    let (_, bytes) = remote.documents.third.as_ref()?;
    let document = Document::of(bytes.clone());
    let part = Part {
        rows: Vec::new(),
        document: Arc::new(OnceLock::from(document)),
    };
    Some((remote.backend.path(), part))
}

fn document(value: &Value) -> Document {
    Document::of(crate::document::bytes(value))
}

/// One version's document. Asked for under its hash, it may be kept for ever; under another hash the client is sent to
/// the right one.
fn one(name: &str, document: &Document, headers: &HeaderMap, query: &Query) -> Answer {
    let hash = document.etag.trim_matches('"');
    match query.get("hash") {
        Some(wanted) if wanted != hash => {
            let mut answer = respond::typed(StatusCode::MOVED_PERMANENTLY, JSON, ResponseBody::empty());
            if let Ok(location) = HeaderValue::from_str(&format!("/openapi/v3/{name}?hash={hash}")) {
                answer.headers_mut().insert(LOCATION, location);
            }
            answer
        }
        wanted => {
            let mut answer = respond::cached(headers, JSON, &document.bytes, &document.etag);
            if wanted.is_some() {
                answer
                    .headers_mut()
                    .insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
                answer.headers_mut().insert(EXPIRES, NEVER);
            }
            answer
        }
    }
}

/// The schemas of kinds, of their lists, and of all that they reach.
fn schemas(kinds: &[&Kind], publish: fn(&Kind, &Custom) -> Value) -> Map<String, Value> {
    let bodies = kinds
        .iter()
        .flat_map(|kind| &kind.subresources)
        .filter_map(|sub| Some(sub.body.as_ref()?.go_type));
    let mut roots: Vec<&str> = kinds
        .iter()
        .map(|kind| kind.go_type)
        .chain(bodies)
        .chain(SHARED)
        .collect();
    roots.retain(|root| !root.is_empty());
    roots.sort_unstable();
    roots.dedup();
    let mut schemas = openapi_schemas(&roots);
    for kind in kinds {
        match &kind.custom {
            Some(custom) => {
                schemas.insert(kind.schema_name(), publish(kind, custom));
            }
            None => mark(&mut schemas, kind),
        }
        if kind.allows("list") && (kind.custom.is_some() || !kind.go_type.is_empty()) {
            let (name, list) = list_schema(kind);
            schemas.insert(name, list);
        }
    }
    schemas
}

/// Says of a schema which kind it is of. kubectl finds a kind's schema by this mark.
fn mark(schemas: &mut Map<String, Value>, kind: &Kind) {
    let name = openapi_schema_name(kind.go_type);
    if let Some(schema) = schemas.get_mut(&name).and_then(Value::as_object_mut) {
        let gvk = json!([{"group": kind.group, "version": kind.version, "kind": kind.kind}]);
        schema.entry("x-kubernetes-group-version-kind").or_insert(gvk);
    }
}

fn list_schema(kind: &Kind) -> (String, Value) {
    let name = kind.schema_name();
    let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let metadata = openapi_schema_name("k8s.io/apimachinery/pkg/apis/meta/v1.ListMeta");
    let schema = json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"allOf": [reference(&metadata)], "default": {}},
            "items": {"type": "array", "items": {"allOf": [reference(&name)], "default": {}}},
        },
        "x-kubernetes-group-version-kind": [{"group": kind.group, "version": kind.version, "kind": kind.list_kind()}],
    });
    (format!("{name}List"), schema)
}

/// References move, and what the older form does not know goes.
fn to_v2(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(all) = fields.shift_remove("allOf")
                && let Some(Value::Object(inner)) = all.as_array().and_then(|list| list.first())
            {
                fields.extend(inner.clone());
            }
            if fields.contains_key("oneOf") {
                fields.shift_remove("oneOf");
            }
            if let Some(Value::String(reference)) = fields.get_mut("$ref") {
                *reference = reference.replace("#/components/schemas/", "#/definitions/");
            }
            fields.values_mut().for_each(to_v2);
        }
        Value::Array(items) => items.iter_mut().for_each(to_v2),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::kinds;

    fn openapi() -> OpenApi {
        OpenApi::new(kinds().clone(), &[], "v1.36.0", None)
    }

    fn get(openapi: &OpenApi, path: &str, query: &str) -> Answer {
        openapi
            .answer(path, &HeaderMap::new(), &Query::parse(Some(query)))
            .unwrap()
    }

    #[test]
    fn a_hash_is_permanent() {
        let openapi = openapi();
        let hash = openapi
            .third(&openapi.third["apis/apps/v1"])
            .etag
            .trim_matches('"')
            .to_owned();
        let right = get(&openapi, "openapi/v3/apis/apps/v1", &format!("hash={hash}"));
        assert_eq!(right.status(), StatusCode::OK);
        assert_eq!(right.headers()[CACHE_CONTROL], "public, immutable");
        let wrong = get(&openapi, "openapi/v3/apis/apps/v1", "hash=1");
        assert_eq!(wrong.status(), StatusCode::MOVED_PERMANENTLY);
        assert!(wrong.headers()[LOCATION].to_str().unwrap().ends_with(&hash));
        assert!(
            openapi
                .answer("openapi/v3/apis/none/v1", &HeaderMap::new(), &Query::default())
                .is_none()
        );
    }

    #[test]
    fn a_patch_says_what_it_checks() {
        let openapi = openapi();
        let document: Value = serde_json::from_slice(&openapi.third(&openapi.third["apis/apps/v1"]).bytes).unwrap();
        let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(
            patch["x-kubernetes-group-version-kind"],
            json!({"group": "apps", "version": "v1", "kind": "Deployment"})
        );
        let parameters = patch["parameters"].as_array().unwrap();
        assert!(
            parameters
                .iter()
                .any(|parameter| parameter["name"] == "fieldValidation")
        );
        assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_object());
    }
}
