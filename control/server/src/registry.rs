//! One registry for all kinds: objects are trees on their way in and bytes at rest.
//!
//! A [`Scope`] is a kind in a place. Its verbs are in the modules below, one each; here is what they share: looking up,
//! committing, and turning what the store says into what clients understand.

pub(crate) mod apply;
pub(crate) mod create;
pub(crate) mod custom;
pub(crate) mod delete;
pub(crate) mod deletion;
mod eviction;
pub(crate) mod hooks;
pub(crate) mod list;
pub(crate) mod ownership;
pub(crate) mod pods;
pub(crate) mod scale;
pub(crate) mod token;
pub(crate) mod update;
pub(crate) mod watch;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use coracle_api::kinds::Kind;
use coracle_api::status::ApiError;
use coracle_api::{defaults, normalise, object};
use coracle_store::{Change, CommitError, Expect, Key, Record, Snapshot, Transaction};
use serde_json::Value;

use crate::admission::{Request, quota};
use crate::core::Core;
use crate::decode;
use crate::identity::Identity;
use crate::query::ListOptions;
use crate::webhook::convert::convert;
use crate::{aggregate, authz, document, served, webhook};
use ownership::List;

/// How often a write is tried again when somebody else was faster, where the client did not say which version it means.
/// Kubernetes goes on until the request's time is over. Each time that one loses another wins, so this many writers of the
/// same object at the same time all get through; with one writer a second try is rare.
pub(crate) const RETRIES: usize = 100;

/// A kind in a place.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) core: &'a Core,
    /// The kind in whose form objects are stored.
    pub(crate) kind: &'a Arc<Kind>,
    /// The kind that was asked for: the same, or another version of it.
    pub(crate) shown: &'a Arc<Kind>,
    /// `None` for cluster-wide kinds and for requests across all namespaces.
    pub(crate) namespace: Option<&'a str>,
    /// Who asks; that it may ask has been decided before.
    pub(crate) identity: &'a Identity,
    /// Takes what the client is to be warned of.
    pub(crate) warnings: &'a hooks::Warnings,
}

/// What a write came to.
#[derive(Debug)]
pub(crate) struct Written {
    /// The object as it is now, or would be.
    pub(crate) json: Bytes,
    pub(crate) created: bool,
    pub(crate) warnings: Vec<String>,
}

/// Why a commit did not happen.
pub(crate) enum Lost {
    /// Somebody else was faster.
    Race {
        key: Key,
    },
    Failed(ApiError),
}

impl<'a> Scope<'a> {
    pub(crate) fn key(&self, name: &str) -> Key {
        document::key(self.kind, self.namespace, name)
    }

    /// The stored object of a name; 404 when there is none.
    pub(crate) async fn record(&self, name: &str) -> Result<Arc<Record>, ApiError> {
        let found = self.core.store.snapshot().get(self.key(name).as_str()).cloned();
        match found {
            Some(record) => self.present(record).await,
            None => Err(self.not_found(name)),
        }
    }

    /// A stored record in the version that is asked for; for all but custom kinds the record itself.
    async fn present(&self, record: Arc<Record>) -> Result<Arc<Record>, ApiError> {
        match self.kind.custom {
            None => Ok(record),
            Some(_) => custom::present_one(self.core, self.kind, record).await,
        }
    }

    /// Whether stored bytes are what the client wants to see.
    pub(crate) fn is_stored_form(&self) -> bool {
        self.shown.conversion.is_none()
    }

    /// Reads stored bytes as an object of the kind that was asked for.
    pub(crate) fn read(&self, json: &[u8]) -> Result<Value, ApiError> {
        let mut value = document::parse(json)?;
        self.show(&mut value);
        Ok(value)
    }

    /// Turns a stored object into one of the kind that was asked for.
    pub(crate) fn show(&self, value: &mut Value) {
        if let Some(conversion) = self.shown.conversion {
            (conversion.from_stored)(value);
        }
    }

    /// Turns an object of the kind that was asked for, normalised, into the stored form. It meets its own kind's defaults
    /// and rules first; `old` is what it replaces, in the stored form.
    pub(crate) fn bring_home(&self, value: &mut Value, old: Option<&Value>) -> Result<(), ApiError> {
        let Some(conversion) = self.shown.conversion else {
            return Ok(());
        };
        decode::settle_namespace(value, self.namespace.filter(|_| self.kind.namespaced))?;
        defaults::apply(self.shown, value);
        let mut faults = Vec::new();
        if let Some(old) = old {
            let mut old = old.clone();
            (conversion.from_stored)(&mut old);
            (self.shown.strategy.validate_update)(value, &old, &mut faults);
        }
        (self.shown.strategy.validate)(value, &mut faults);
        if !faults.is_empty() {
            return Err(self.invalid(object::name(value), faults));
        }
        (conversion.to_stored)(value);
        // What the other version kept aside may have been written by anybody.
        normalise::normalise(self.kind.go_type, value)?;
        Ok(())
    }

    /// The options of a list in terms of stored objects; 400 for fields by which the kind cannot be selected.
    pub(crate) fn selection<'o>(&self, options: &'o ListOptions) -> Result<Cow<'o, ListOptions>, ApiError> {
        options.fields.check(self.shown)?;
        Ok(match self.shown.conversion {
            Some(conversion) => {
                let mut options = options.clone();
                options.fields = options.fields.renamed(conversion.labels);
                Cow::Owned(options)
            }
            None => Cow::Borrowed(options),
        })
    }

    pub(crate) fn not_found(&self, name: &str) -> ApiError {
        ApiError::not_found(&self.kind.group_resource(), name)
    }

    pub(crate) fn modified(&self, name: &str) -> ApiError {
        ApiError::modified(&self.kind.group_resource(), name)
    }

    pub(crate) fn invalid(&self, name: &str, faults: Vec<coracle_api::field_error::FieldError>) -> ApiError {
        ApiError::invalid(&self.kind.kind, &self.kind.group, name, faults)
    }

    /// Whether this is the service kind, whose addresses are handed out.
    pub(crate) fn is_service(&self) -> bool {
        self.kind.group.is_empty() && self.kind.kind == "Service"
    }

    /// What admission is asked about a write of this kind here.
    pub(crate) fn request<'b>(&'b self, snapshot: &'b Snapshot, name: &'b str, old: Option<&'b Value>) -> Request<'b> {
        Request {
            scope: *self,
            snapshot,
            name,
            part: update::Part::Main,
            old,
        }
    }

    /// Writes an object, whose owners come apart. `also` are further conditions.
    pub(crate) async fn put(
        &self,
        key: &Key,
        value: &Value,
        owners: &List,
        expect: Expect,
        also: impl IntoIterator<Item = (Key, Expect)>,
    ) -> Result<Arc<Record>, Lost> {
        let body = self.body(value, owners).await?;
        let header = document::header(self.kind, value);
        let change = Change::Put {
            key: key.clone(),
            body,
            header,
        };
        let written = self.commit(key, expect, also, change).await?;
        self.present(written).await.map_err(Lost::Failed)
    }

    /// Removes an object whose last state was `value`, with these owners.
    pub(crate) async fn remove(
        &self,
        key: &Key,
        value: &Value,
        owners: &List,
        expect: Expect,
    ) -> Result<Arc<Record>, Lost> {
        let body = self.body(value, owners).await?;
        let removed = self
            .commit(key, expect, None, Change::Delete { key: key.clone(), body })
            .await?;
        if self.is_service() {
            self.core.addresses.release(key.as_str());
        }
        Ok(removed)
    }

    /// The bytes to store, in the version in which the kind is stored.
    async fn body(&self, value: &Value, owners: &List) -> Result<coracle_store::Body, Lost> {
        let stored = match &self.kind.custom {
            Some(custom) if custom.stored_as != custom.served_as => {
                let mut stored = [owners.joined(value).map_err(Lost::Failed)?];
                let converted = convert(self.core, self.kind, custom, &custom.stored_as, &mut stored).await;
                converted.map_err(Lost::Failed)?;
                let [mut stored] = stored;
                custom.store(&mut stored);
                document::body(&stored, None)
            }
            _ => document::body(value, owners.text().as_deref()),
        };
        stored.map_err(Lost::Failed)
    }

    async fn commit(
        &self,
        key: &Key,
        expect: Expect,
        also: impl IntoIterator<Item = (Key, Expect)>,
        change: Change,
    ) -> Result<Arc<Record>, Lost> {
        let expect: Vec<_> = std::iter::once((key.clone(), expect)).chain(also).collect();
        let transaction = Transaction {
            expect,
            changes: vec![change],
        };
        let namespace = document::place(key.as_str()).0;
        if quota::counts(self.kind) && quota::applies(&self.core.store.snapshot(), namespace) {
            return self.commit_charged(key, transaction).await;
        }
        self.commit_as_it_is(transaction).await
    }

    /// Commits a write together with what it takes of the namespace's quotas. Writers of one namespace take turns: they
    /// would all write the same quotas, and all but one would lose each time.
    async fn commit_charged(&self, key: &Key, transaction: Transaction) -> Result<Arc<Record>, Lost> {
        let (namespace, name) = document::place(key.as_str());
        let scope = Scope {
            namespace: Some(namespace),
            ..*self
        };
        let _turn = self.core.turns.of(namespace).lock().await;
        for _ in 0..=RETRIES {
            let snapshot = self.core.store.snapshot();
            let mut charged = transaction.clone();
            let old = snapshot
                .get(key.as_str())
                .map(|record| document::tree(record))
                .transpose();
            let old = old.map_err(Lost::Failed)?;
            let new = match transaction.changes.first() {
                Some(Change::Put { body, .. }) => Some(document::parse(&body.json).map_err(Lost::Failed)?),
                _ => None,
            };
            let charges = quota::charges(&scope, &snapshot, name, old.as_ref(), new.as_ref()).map_err(Lost::Failed)?;
            let keys: Vec<Key> = charges.iter().map(|charge| charge.key.clone()).collect();
            for charge in charges {
                charged.expect.push((charge.key, charge.expect));
                charged.changes.push(charge.change);
            }
            match self.commit_as_it_is(charged).await {
                Err(Lost::Race { key }) if keys.contains(&key) => {}
                other => return other,
            }
        }
        Err(Lost::Failed(self.modified(name)))
    }

    async fn commit_as_it_is(&self, transaction: Transaction) -> Result<Arc<Record>, Lost> {
        let committed = self.core.store.commit(transaction).await;
        let committed = match committed {
            Ok(committed) => committed,
            Err(CommitError::Precondition { key, .. }) => return Err(Lost::Race { key }),
            Err(CommitError::Closed) => {
                return Err(Lost::Failed(ApiError::service_unavailable(
                    "the server is shutting down",
                )));
            }
            Err(error) => return Err(Lost::Failed(ApiError::internal(error.to_string()))),
        };
        if self.kind.group == authz::GROUP {
            self.core.policies.refresh(&self.core.store.snapshot());
        }
        if self.kind.group == webhook::GROUP {
            self.core.webhooks.refresh(&self.core.store.snapshot());
            self.core.admission_policies.refresh(&self.core.store.snapshot());
        }
        if self.kind.group == aggregate::GROUP {
            self.core.refresh_aggregation();
        }
        if served::defines(self.kind) {
            self.core.serving.refresh(&self.core.store.snapshot());
        }
        let record = committed.records.into_iter().next();
        record.ok_or_else(|| Lost::Failed(ApiError::internal("the store returned no record")))
    }
}
