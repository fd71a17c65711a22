//! Delete: carries out what [`deletion`](super::deletion) decides.

use std::sync::Arc;

use bytes::Bytes;
use coracle_api::object;
use coracle_api::status::{self, ApiError};
use coracle_store::{Expect, Record};
use serde_json::Value;

use super::deletion::{Decision, DeleteOptions, decide};
use super::ownership::List;
use super::{Lost, RETRIES, Scope};
use crate::query::ListOptions;
use crate::{admission, document};

/// What a delete came to.
pub(crate) enum Deleted {
    /// The object is gone; this says so.
    Gone(Value),
    /// The object as it waits for its end.
    Pending(Bytes),
}

impl Scope<'_> {
    /// Deletes one object.
    pub(crate) async fn delete(&self, name: &str, options: &DeleteOptions) -> Result<Deleted, ApiError> {
        for _ in 0..=RETRIES {
            let record = self.record(name).await?;
            match self.try_delete(&record, name, options).await {
                Ok(deleted) => return Ok(deleted),
                Err(Lost::Race { .. }) => {}
                Err(Lost::Failed(error)) => return Err(error),
            }
        }
        Err(self.modified(name))
    }

    async fn try_delete(&self, record: &Arc<Record>, name: &str, options: &DeleteOptions) -> Result<Deleted, Lost> {
        let object = document::tree(record).map_err(Lost::Failed)?;
        self.check(&object, name, options).map_err(Lost::Failed)?;
        if admission::is(self.kind, "", "Namespace") {
            admission::namespace::may_delete(record).map_err(Lost::Failed)?;
        }
        let snapshot = self.core.store.snapshot();
        admission::validate_delete(&self.request(&snapshot, name, Some(&object)), &object).map_err(Lost::Failed)?;
        self.users_refuse_deletion(name, &object, options.dry_run)
            .await
            .map_err(Lost::Failed)?;
        let gone = || status::deleted(&self.kind.group_resource(), name, object::uid(&object));
        let expect = Expect::Revision(record.revision);
        match decide(self.kind, &object, options, self.core.now_micros()) {
            Decision::Wait => Ok(Deleted::Pending(record.json.clone())),
            Decision::Remove if options.dry_run => Ok(Deleted::Gone(gone())),
            Decision::Mark(next) if options.dry_run => Ok(Deleted::Pending(document::bytes(&next))),
            Decision::Remove => {
                self.remove(&record.key, &object, &List::NONE, expect).await?;
                Ok(Deleted::Gone(gone()))
            }
            Decision::Mark(next) => {
                let written = self.put(&record.key, &next, &List::NONE, expect, None).await?;
                Ok(Deleted::Pending(written.json.clone()))
            }
        }
    }

    fn check(&self, object: &Value, name: &str, options: &DeleteOptions) -> Result<(), ApiError> {
        let resource = self.kind.group_resource();
        let uid = object::uid(object);
        if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != uid) {
            let message = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}");
            return Err(ApiError::conflict(&resource, name, &message));
        }
        let version = object::resource_version(object);
        if let Some(wanted) = options.resource_version.as_deref().filter(|wanted| *wanted != version) {
            let message = format!(
                "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {version}"
            );
            return Err(ApiError::conflict(&resource, name, &message));
        }
        Ok(())
    }

    /// Deletes what a list would show, one by one, and answers with what it found. Objects that others delete meanwhile
    /// are no error.
    pub(crate) async fn delete_collection(
        &self,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<Vec<Arc<Record>>, ApiError> {
        let page = self.page(list).await?;
        for record in &page.records {
            let (namespace, name) = document::place(record.key.as_str());
            let scope = Scope {
                namespace: (!namespace.is_empty()).then_some(namespace),
                ..*self
            };
            match scope.delete(name, options).await {
                Ok(_) => {}
                Err(error) if error.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(page.records)
    }
}
