//! `metrics.k8s.io`: what nodes and pods use now, asked of the nodes when somebody reads it.
//!
//! Each node tells the present use of its containers in its summary; a read asks the nodes that it is about, all at once,
//! and puts together what they say. A node that does not answer in time is left out, with its pods, as if it had not been
//! measured yet: half an answer is better for an autoscaler than none, and it knows how to do without the rest.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use coracle_api::kinds::Kind;
use coracle_api::quantity::Quantity;
use coracle_api::status::ApiError;
use coracle_api::{object, table};
use futures::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};

use crate::chain::Call;
use crate::core::Core;
use crate::negotiate::View;
use crate::query::ListOptions;
use crate::registry::Scope;
use crate::respond::{self, Answer};
use crate::{document, negotiate};

/// How long a node may take to answer. Its answer is at hand; a node that needs longer is in trouble.
const NODE_PATIENCE: Duration = Duration::from_secs(5);
const SUMMARY: &str = "/stats/summary";
/// Over how long the nodes tell the use of CPU.
const WINDOW: &str = "5s";

/// Answers a read of `nodes` or `pods`.
pub(crate) async fn answer(call: &Call<'_>, scope: Scope<'_>, name: Option<&str>) -> Result<Answer, ApiError> {
    let view = negotiate::view(&call.parts.headers, call.query)?;
    let options = ListOptions::parse(call.query, false)?;
    options.fields.check(scope.kind)?;
    let measured = measured(call.core, scope, name, &options).await?;
    match name {
        Some(name) => {
            let one = measured.into_iter().next().ok_or_else(|| scope.not_found(name))?;
            Ok(respond::json(StatusCode::OK, &shown(view, scope, &[one], true)))
        }
        None => Ok(respond::json(StatusCode::OK, &shown(view, scope, &measured, false))),
    }
}

/// Measured objects in the form that is wanted: the one that was named, or a list.
pub(crate) fn shown(view: View, scope: Scope<'_>, measured: &[Value], one: bool) -> Value {
    let kind = scope.kind;
    let (api_version, metadata) = (kind.api_version(), json!({}));
    let items: Vec<&Value> = measured.iter().collect();
    match (view, items.as_slice()) {
        (View::Table(include), items) => table::table(kind, items, include, scope.core.now_micros(), metadata),
        (View::Object, [item]) if one => (*item).clone(),
        (View::Metadata, [item]) if one => table::partial(item),
        (View::Object, items) => {
            json!({"kind": kind.list_kind(), "apiVersion": api_version, "metadata": metadata, "items": items})
        }
        (View::Metadata, items) => {
            let items: Vec<Value> = items.iter().map(|item| table::partial(item)).collect();
            json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items})
        }
    }
}

/// The measured objects among those that are asked for.
async fn measured(
    core: &Core,
    scope: Scope<'_>,
    name: Option<&str>,
    options: &ListOptions,
) -> Result<Vec<Value>, ApiError> {
    let snapshot = core.store.snapshot();
    let plural = scope.kind.plural.as_ref();
    let own = document::kinds()
        .find("", "v1", plural)
        .ok_or_else(ApiError::no_such_resource)?;
    let of_name = |object: &Value| name.is_none_or(|name| object::name(object) == name);
    let asked: Vec<Value> = snapshot
        .range(&document::prefix_in(own, scope.namespace), None)
        .filter_map(|record| document::tree(record).ok())
        .filter(|object| of_name(object) && options.labels.matches_object(object))
        .filter(|object| options.fields.matches(|path| object::get(object, path)?.as_str()))
        .collect();
    let node_of = |object: &Value| match plural {
        "nodes" => object::name(object).to_owned(),
        _ => object::text(object, "spec.nodeName").to_owned(),
    };
    let nodes: BTreeSet<String> = asked.iter().map(node_of).filter(|node| !node.is_empty()).collect();
    let summaries = summaries(core, nodes).await;
    let now = core.now_micros();
    let use_of = |object: &Value| {
        let summary = summaries.get(&node_of(object))?;
        match plural {
            "nodes" => node(scope.kind, object, summary, now),
            _ => pod(scope.kind, object, summary, now),
        }
    };
    Ok(asked.iter().filter_map(use_of).collect())
}

/// What the nodes tell, by their names.
async fn summaries(core: &Core, nodes: BTreeSet<String>) -> HashMap<String, Value> {
    let ask = |node: String| async move {
        let answered = tokio::time::timeout(NODE_PATIENCE, core.nodes.get(&node, SUMMARY)).await;
        let answered = match answered {
            Ok(Ok(answered)) if answered.status == 200 => answered,
            Ok(Ok(answered)) => {
                tracing::debug!(node, status = answered.status, "a node does not tell what its pods use");
                return None;
            }
            Ok(Err(error)) => {
                tracing::debug!(node, %error, "a node does not tell what its pods use");
                return None;
            }
            Err(_) => {
                tracing::warn!(node, "a node does not answer in time");
                return None;
            }
        };
        let summary = serde_json::from_slice(&answered.body).ok()?;
        Some((node, summary))
    };
    join_all(nodes.into_iter().map(ask))
        .await
        .into_iter()
        .flatten()
        .collect()
}

fn node(kind: &Kind, node: &Value, summary: &Value, now: i64) -> Option<Value> {
    let told = summary.get("node")?;
    let mut measured = head(kind, node, told, now)?;
    object::set(&mut measured, "usage", usage(told)?);
    Some(measured)
}

fn pod(kind: &Kind, pod: &Value, summary: &Value, now: i64) -> Option<Value> {
    let is_it = |told: &&Value| object::text(told, "podRef.uid") == object::uid(pod);
    let told = object::list(summary, "pods").iter().find(is_it)?;
    let mut measured = head(kind, pod, told, now)?;
    let container = |told: &Value| Some(json!({"name": object::name_of(told), "usage": usage(told)?}));
    let containers: Option<Vec<Value>> = object::list(told, "containers").iter().map(container).collect();
    object::set(&mut measured, "containers", Value::Array(containers?));
    Some(measured)
}

/// What is said of every measured object: whose use it is, and when it was.
fn head(kind: &Kind, object: &Value, told: &Value, now: i64) -> Option<Value> {
    let mut metadata = json!({
        "name": object::name(object), "creationTimestamp": coracle_api::time::format_seconds(now),
    });
    if kind.namespaced {
        object::set(&mut metadata, "namespace", json!(object::namespace(object)));
    }
    if let Some(labels) = object::get(object, "metadata.labels") {
        object::set(&mut metadata, "labels", labels.clone());
    }
    let at = object::get(told, "cpu.time")?;
    Some(json!({
        "kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata, "timestamp": at, "window": WINDOW,
    }))
}

fn usage(told: &Value) -> Option<Value> {
    let cpu = object::integer(told, "cpu.usageNanoCores")?;
    let memory = object::integer(told, "memory.workingSetBytes")?;
    let cpu = Quantity::parse(&format!("{cpu}n")).ok()?;
    let memory = Quantity::parse(&format!("{}Ki", memory.max(0).div_euclid(1024))).ok()?;
    Some(json!({"cpu": cpu.to_string(), "memory": memory.to_string()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_told_by_its_uid_with_all_its_containers() {
        let told = |name: &str, uid: &str| {
            json!({"podRef": {"name": name, "uid": uid}, "cpu": {"time": "2026-01-01T00:00:00Z"}, "containers": [{
                "name": "main", "cpu": {"usageNanoCores": 1_500_000}, "memory": {"workingSetBytes": 2048},
            }]})
        };
        let summary = json!({"pods": [told("web", "older"), told("web", "u")]});
        let kind = document::kinds().find("metrics.k8s.io", "v1beta1", "pods").unwrap();
        let object = json!({"metadata": {"name": "web", "namespace": "n", "uid": "u", "labels": {"a": "b"}}});
        let measured = pod(kind, &object, &summary, 0).unwrap();
        assert_eq!(
            measured["containers"][0]["usage"],
            json!({"cpu": "1500u", "memory": "2Ki"})
        );
        assert_eq!(measured["metadata"]["labels"], json!({"a": "b"}));
        let stranger = json!({"metadata": {"name": "web", "namespace": "n", "uid": "v"}});
        assert_eq!(pod(kind, &stranger, &summary, 0), None);
    }
}
