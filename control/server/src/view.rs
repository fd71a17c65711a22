//! Answers that carry objects, in the form that was negotiated. Stored bytes go out untouched wherever that form allows.

use std::sync::Arc;

use bytes::Bytes;
use coracle_api::status::ApiError;
use coracle_api::table;
use coracle_store::Record;
use futures::Stream;
use http::StatusCode;
use http::header::HeaderValue;
use serde_json::{Map, Value, json};

use crate::body::{BodyError, ResponseBody};
use crate::document;
use crate::negotiate::View;
use crate::query::Query;
use crate::registry::list::Page;
use crate::registry::{Scope, Written};
use crate::respond::{self, Answer};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// One object.
pub(crate) fn object(
    scope: Scope<'_>,
    view: View,
    query: &Query,
    status: StatusCode,
    json: Bytes,
) -> Result<Answer, ApiError> {
    let shown = match view {
        View::Object if scope.is_stored_form() && !query.flag("pretty")? => return Ok(respond::bytes(status, json)),
        View::Object => scope.read(&json)?,
        View::Metadata if scope.is_stored_form() && !query.flag("pretty")? => {
            return Ok(respond::bytes(status, document::partial(&json)?.into()));
        }
        View::Metadata => table::partial(&scope.read(&json)?),
        View::Table(include) => {
            let value = scope.read(&json)?;
            let version = coracle_api::object::resource_version(&value);
            let metadata = json!({"resourceVersion": version});
            table::table(scope.shown, &[&value], include, scope.core.now_micros(), metadata)
        }
    };
    tree(query, status, &shown)
}

/// The scale of an object.
pub(crate) fn scale(scope: Scope<'_>, view: View, query: &Query, scale: Value) -> Result<Answer, ApiError> {
    let shown = match view {
        View::Object => scale,
        View::Metadata => table::partial(&scale),
        View::Table(include) => table::scale(&scale, include, scope.core.now_micros()),
    };
    tree(query, StatusCode::OK, &shown)
}

/// What a write came to, with its warnings.
pub(crate) fn written(scope: Scope<'_>, view: View, query: &Query, written: Written) -> Result<Answer, ApiError> {
    let status = if written.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let mut answer = object(scope, view, query, status, written.json)?;
    respond::warn(&mut answer, &written.warnings);
    Ok(answer)
}

/// A page of a list.
pub(crate) fn list(scope: Scope<'_>, view: View, query: &Query, page: Page) -> Result<Answer, ApiError> {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".to_owned(), page.revision.to_string().into());
    if let Some(next) = page.next {
        metadata.insert("continue".to_owned(), next.into());
    }
    if let Some(remaining) = page.remaining {
        metadata.insert("remainingItemCount".to_owned(), remaining.into());
    }
    let metadata = Value::Object(metadata);
    let trees =
        || -> Result<Vec<Value>, ApiError> { page.records.iter().map(|record| scope.read(&record.json)).collect() };
    let shown = match view {
        View::Object if scope.is_stored_form() && !query.flag("pretty")? => {
            return Ok(stored_list(scope, &metadata, page.records));
        }
        View::Object => json!({
            "kind": scope.shown.list_kind(), "apiVersion": scope.shown.api_version(), "metadata": metadata, "items": trees()?,
        }),
        View::Metadata if scope.is_stored_form() && !query.flag("pretty")? => {
            let items = page.records.iter().map(|record| document::partial(&record.json));
            let items = items.collect::<Result<Vec<_>, _>>()?.join(&b',');
            let head = list_head("PartialObjectMetadataList", "meta.k8s.io/v1", &metadata);
            return Ok(respond::bytes(
                StatusCode::OK,
                [head.as_bytes(), &items, b"]}"].concat().into(),
            ));
        }
        View::Metadata => {
            let items: Vec<Value> = trees()?.iter().map(table::partial).collect();
            json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items})
        }
        View::Table(include) => {
            let trees = trees()?;
            let items: Vec<&Value> = trees.iter().collect();
            table::table(scope.shown, &items, include, scope.core.now_micros(), metadata)
        }
    };
    tree(query, StatusCode::OK, &shown)
}

/// What a collection's deletion deleted.
pub(crate) fn deleted_collection(scope: Scope<'_>, records: Vec<Arc<Record>>) -> Result<Answer, ApiError> {
    let metadata = json!({"resourceVersion": scope.core.store.snapshot().revision().to_string()});
    if scope.is_stored_form() {
        return Ok(stored_list(scope, &metadata, records));
    }
    let items = records
        .iter()
        .map(|record| scope.read(&record.json))
        .collect::<Result<Vec<_>, _>>()?;
    let kind = scope.shown;
    let list =
        json!({"kind": kind.list_kind(), "apiVersion": kind.api_version(), "metadata": metadata, "items": items});
    Ok(respond::json(StatusCode::OK, &list))
}

fn stored_list(scope: Scope<'_>, metadata: &Value, records: Vec<Arc<Record>>) -> Answer {
    let head = list_head(&scope.kind.list_kind(), &scope.kind.api_version(), metadata);
    let body = ResponseBody::list(head.into(), records, Bytes::from_static(b"]}"));
    respond::typed(StatusCode::OK, JSON, body)
}

/// A list up to its first item.
fn list_head(kind: &str, api_version: &str, metadata: &Value) -> String {
    let (kind, api_version) = (Value::from(kind), Value::from(api_version));
    format!("{{\"kind\":{kind},\"apiVersion\":{api_version},\"metadata\":{metadata},\"items\":[")
}

/// A watch.
pub(crate) fn stream(frames: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static) -> Answer {
    respond::typed(StatusCode::OK, JSON, ResponseBody::stream(frames))
}

fn tree(query: &Query, status: StatusCode, value: &Value) -> Result<Answer, ApiError> {
    if query.flag("pretty")? {
        let text = serde_json::to_vec_pretty(value).unwrap_or_default();
        return Ok(respond::bytes(status, text.into()));
    }
    Ok(respond::json(status, value))
}
