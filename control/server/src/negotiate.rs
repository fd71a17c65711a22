//! Which form of an answer a client wants: the object itself, a table, or its metadata alone.

use coracle_api::status::ApiError;
use coracle_api::table::IncludeObject;
use http::HeaderMap;

use crate::query::Query;

/// The form of an answer that carries objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// As stored.
    Object,
    /// A `meta.k8s.io/v1` Table.
    Table(IncludeObject),
    /// `PartialObjectMetadata`, or its list.
    Metadata,
}

/// What the server can write, for error messages.
const WRITES: &[&str] = &["application/json"];

/// One entry of an Accept header.
struct Accepted<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

fn accepted(header: &str) -> Vec<Accepted<'_>> {
    let mut entries: Vec<(f32, Accepted<'_>)> = header
        .split(',')
        .filter_map(|entry| {
            let mut parts = entry.split(';').map(str::trim);
            let media = parts.next().filter(|media| !media.is_empty())?;
            let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
            let weight = parameters
                .iter()
                .find(|(key, _)| *key == "q")
                .and_then(|(_, q)| q.parse().ok())
                .unwrap_or(1.0);
            Some((weight, Accepted { media, parameters }))
        })
        .filter(|(weight, _)| *weight > 0.0)
        .collect();
    entries.sort_by(|a, b| b.0.total_cmp(&a.0));
    entries.into_iter().map(|(_, entry)| entry).collect()
}

impl Accepted<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| *value)
    }

    fn is_json(&self) -> bool {
        matches!(self.media, "application/json" | "application/*" | "*/*")
    }
}

fn header(headers: &HeaderMap) -> String {
    let values: Vec<&str> = headers
        .get_all(http::header::ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .collect();
    values.join(",")
}

/// Whether the one thing that a client takes is what most do: JSON. Spares these the work of reading a list.
fn is_plain_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(http::header::ACCEPT).iter();
    values.next().is_some_and(|value| value == "application/json") && values.next().is_none()
}

/// Chooses the form of an answer that carries objects. 406 when the client takes nothing that can be written.
pub(crate) fn view(headers: &HeaderMap, query: &Query) -> Result<View, ApiError> {
    if is_plain_json(headers) {
        return Ok(View::Object);
    }
    let header = header(headers);
    let entries = accepted(&header);
    if entries.is_empty() {
        return Ok(View::Object);
    }
    for entry in entries.iter().filter(|entry| entry.is_json()) {
        let meta = entry.parameter("g").is_none_or(|group| group == "meta.k8s.io")
            && matches!(entry.parameter("v"), None | Some("v1" | "v1beta1"));
        match entry.parameter("as") {
            None => return Ok(View::Object),
            Some("Table") if meta => return Ok(View::Table(include(query)?)),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") if meta => return Ok(View::Metadata),
            Some(_) => {}
        }
    }
    Err(ApiError::not_acceptable(WRITES))
}

/// Whether a client takes protobuf and no JSON in any form.
pub(crate) fn only_protobuf(headers: &HeaderMap) -> bool {
    if is_plain_json(headers) {
        return false;
    }
    let header = header(headers);
    let entries = accepted(&header);
    entries
        .iter()
        .any(|entry| entry.media == "application/vnd.kubernetes.protobuf" && entry.parameter("as").is_none())
        && !entries.iter().any(Accepted::is_json)
}

/// Whether a client wants an OpenAPI document of version 2 as protobuf. Clients still spell the type as it was first.
pub(crate) fn openapi_as_protobuf(headers: &HeaderMap) -> bool {
    let header = header(headers);
    let entries = accepted(&header);
    let wanted = |media: &str| {
        matches!(
            media,
            "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
                | "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
        )
    };
    let first = entries.iter().find(|entry| entry.is_json() || wanted(entry.media));
    first.is_some_and(|entry| wanted(entry.media))
}

/// For answers that are no stored objects: only plain JSON will do.
pub(crate) fn plain(headers: &HeaderMap) -> Result<(), ApiError> {
    let header = header(headers);
    let entries = accepted(&header);
    let fits = |entry: &Accepted<'_>| entry.is_json() && entry.parameter("as").is_none();
    if entries.is_empty() || entries.iter().any(fits) {
        Ok(())
    } else {
        Err(ApiError::not_acceptable(WRITES))
    }
}

/// The version of the aggregated discovery that is wanted, when it is wanted.
pub(crate) fn aggregated_discovery(headers: &HeaderMap) -> Option<&'static str> {
    let header = header(headers);
    for entry in accepted(&header) {
        if !entry.is_json() {
            continue;
        }
        let wants = entry.parameter("as") == Some("APIGroupDiscoveryList")
            && entry.parameter("g") == Some("apidiscovery.k8s.io");
        match entry.parameter("v") {
            Some("v2") if wants => return Some("v2"),
            Some("v2beta1") if wants => return Some("v2beta1"),
            _ if entry.parameter("as").is_none() => return None,
            _ => {}
        }
    }
    None
}

fn include(query: &Query) -> Result<IncludeObject, ApiError> {
    let text = query.get("includeObject").unwrap_or_default();
    IncludeObject::parse(text)
        .ok_or_else(|| ApiError::bad_request(format!("unrecognized includeObject value: {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(accept: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::ACCEPT, accept.parse().unwrap());
        headers
    }

    #[test]
    fn forms() {
        let choose = |accept: &str| view(&headers(accept), &Query::default());
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(choose(kubectl).unwrap(), View::Table(IncludeObject::Metadata));
        assert_eq!(
            choose("application/vnd.kubernetes.protobuf,application/json").unwrap(),
            View::Object
        );
        assert_eq!(choose("*/*").unwrap(), View::Object);
        assert_eq!(
            choose("application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json").unwrap(),
            View::Metadata
        );
        assert_eq!(choose("text/html").err().map(|e| e.code), Some(406));
        assert_eq!(
            choose("application/json;as=Table;q=0.1, application/json").unwrap(),
            View::Object
        );
    }

    #[test]
    fn openapi_is_json_unless_protobuf_is_wanted_first() {
        let old = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
        for (accept, wanted) in [
            (old.to_owned(), true),
            (old.replace('@', "."), true),
            (format!("{old},application/json"), true),
            (format!("application/json, {old}"), false),
            ("*/*".to_owned(), false),
        ] {
            assert_eq!(openapi_as_protobuf(&headers(&accept)), wanted, "{accept}");
        }
    }

    #[test]
    fn no_table_of_a_review() {
        assert!(plain(&headers("application/json;as=Table;v=v1;g=meta.k8s.io")).is_err());
        assert!(
            plain(&headers(
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
            ))
            .is_ok()
        );
    }

    #[test]
    fn discovery_versions() {
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(aggregated_discovery(&headers(v2)), Some("v2"));
        assert_eq!(aggregated_discovery(&headers("application/json")), None);
        assert_eq!(
            aggregated_discovery(&headers(
                "application/json;v=v2beta1;g=apidiscovery.k8s.io;as=APIGroupDiscoveryList"
            )),
            Some("v2beta1")
        );
    }
}
