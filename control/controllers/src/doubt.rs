//! Creations of which nobody told what became: the answer was lost on its way, or the server could not say.
//!
//! Whoever makes such an object again may make it twice, unless the cache has seen the first one or it is known that there
//! is none. So before the key decides again, the cache has to have seen all that the server has of the kind in the namespace.

use std::sync::Arc;

use kube::{
    api::ListParams,
    core::{ObjectList, Request},
};

use crate::{
    informer::{METADATA_LIST, accept},
    plan::Action,
    resource::Resource,
    store::Metadata,
    writer::{WriteError, Writer},
};

/// Objects a page when a namespace is looked through.
const PAGE_LIMIT: u32 = 500;

/// Where an object may have been made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// The kind.
    pub resource: Resource,
    /// The namespace, or empty.
    pub namespace: Arc<str>,
}

impl Doubt {
    /// The doubt that a creation leaves whose outcome is unknown.
    #[must_use]
    pub fn of(action: &Action) -> Self {
        Self {
            resource: action.target.resource.clone(),
            namespace: action.target.key.namespace.clone(),
        }
    }

    /// The revision that a cache must have reached to know of the object, if it was made.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn revision(&self, writer: &Writer) -> Result<u64, WriteError> {
        let place = Request::new(self.resource.path(&self.namespace));
        let mut params = ListParams::default().limit(PAGE_LIMIT);
        let mut newest = 0;
        loop {
            let mut request = place.list(&params).map_err(kube::Error::BuildRequest)?;
            accept(request.headers_mut(), METADATA_LIST);
            let page: ObjectList<Metadata> = writer.client().request(request).await?;
            let revisions = page
                .items
                .iter()
                .filter_map(|object| object.metadata.resource_version.as_ref()?.parse().ok());
            newest = revisions.fold(newest, u64::max);
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                return Ok(newest);
            }
        }
    }
}
