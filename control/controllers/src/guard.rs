//! Checks on the live server what a plan took from a cache and could not undo.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    api::{GetParams, ListParams},
    core::{ObjectList, Request},
};

use crate::{
    graph::Graph,
    plan::{Guard, Target},
    resource::Resource,
    store::Metadata,
    writer::{WriteError, Writer, Written},
};

/// Objects a page when a namespace is searched.
const PAGE_LIMIT: u32 = 500;

/// Whether the guard holds on the server now.
///
/// # Errors
/// When the server does not say.
pub async fn holds(guard: &Guard, writer: &Writer, graph: &Graph) -> Result<bool, WriteError> {
    match guard {
        Guard::Absent(target, uid) => Ok(read(writer, target)
            .await?
            .is_none_or(|found| !uid.is_empty() && found.metadata.uid != *uid)),
        Guard::Alive(target, uid) => Ok(read(writer, target)
            .await?
            .is_some_and(|found| found.metadata.uid == *uid && found.metadata.deletion_timestamp.is_none())),
        Guard::Empty(namespace) => {
            for resource in graph.resources().iter().filter(|r| r.namespaced) {
                if !none_match(writer, resource, namespace, 1, |_| true).await? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Guard::Unreferenced {
            uid,
            namespace,
            blocking,
        } => {
            let refers = |meta: &ObjectMeta| {
                let owners = meta.owner_references.iter().flatten();
                owners
                    .into_iter()
                    .any(|o| o.uid == *uid && (!blocking || o.block_owner_deletion == Some(true)))
            };
            for resource in graph
                .resources()
                .iter()
                .filter(|r| namespace.is_empty() || r.namespaced)
            {
                if !none_match(writer, resource, namespace, PAGE_LIMIT, refers).await? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

async fn read(writer: &Writer, target: &Target) -> Result<Option<Written>, WriteError> {
    let place = Request::new(target.resource.path(&target.key.namespace));
    let request = place
        .get(&target.key.name, &GetParams::default())
        .map_err(kube::Error::BuildRequest)?;
    match writer
        .client()
        .request::<Written>(request)
        .await
        .map_err(WriteError::from)
    {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn none_match(
    writer: &Writer,
    resource: &Resource,
    namespace: &str,
    page_limit: u32,
    matches: impl Fn(&ObjectMeta) -> bool,
) -> Result<bool, WriteError> {
    let place = Request::new(resource.path(namespace));
    let mut params = ListParams::default().limit(page_limit);
    loop {
        let request = place.list(&params).map_err(kube::Error::BuildRequest)?;
        let page: ObjectList<Metadata> = writer.client().request(request).await?;
        if page.items.iter().any(|object| matches(&object.metadata)) {
            return Ok(false);
        }
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(true);
        }
    }
}
