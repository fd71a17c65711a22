//! Replace and patch: one path for both, since a patch is a replacement that is computed from what is there.
//!
//! A write that changes nothing is not committed: no revision, no event. Whose the fields are afterwards is computed from
//! what the write changed, see [`ownership`](super::ownership).

use std::sync::Arc;

use bytes::Bytes;
use coracle_api::field_error::FieldError;
use coracle_api::normalise::{Problem, Strictness, strict_error};
use coracle_api::status::ApiError;
use coracle_api::{defaults, json, object, patch, prepare, time, validate, yaml};
use coracle_store::{Expect, Key, Record};
use serde_json::Value;

use super::apply::Configuration;
use super::ownership::{self, List, Owners};
use super::{Lost, RETRIES, Scope, Written, deletion};
use crate::admission::Request;
use crate::allocate::Reservation;
use crate::decode::{self, Document};
use crate::query::WriteOptions;
use crate::webhook::Operation;
use crate::{admission, document};

/// Which part of an object a write may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Main,
    Status,
    /// A namespace's finalizers.
    Finalize,
    /// How many replicas are wanted.
    Scale,
    /// The decision on a request for a certificate.
    Approval,
    /// A pod's containers for debugging.
    EphemeralContainers,
    /// The resources of a pod's containers.
    Resize,
}

impl Part {
    /// Whether the part is something that a user wants, and not what the system reports or decides.
    pub(crate) fn is_wanted(self) -> bool {
        matches!(self, Self::Main | Self::EphemeralContainers | Self::Resize)
    }

    /// The part that is written through a subresource.
    pub(crate) fn of_subresource(name: &str) -> Option<Self> {
        let parts = [
            Self::Status,
            Self::Finalize,
            Self::Approval,
            Self::EphemeralContainers,
            Self::Resize,
        ];
        parts.into_iter().find(|part| part.subresource() == name)
    }

    /// The subresource through which the part is written, as it stands in `managedFields`.
    pub(super) fn subresource(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Finalize => "finalize",
            Self::Scale => "scale",
            Self::Approval => "approval",
            Self::EphemeralContainers => "ephemeralcontainers",
            Self::Resize => "resize",
        }
    }
}

/// The patch types that are understood.
pub(crate) const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// A patch as it came.
pub(crate) struct Patch {
    kind: PatchKind,
    document: Value,
    problems: Vec<Problem>,
    text: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl Patch {
    /// Reads a patch. The content type alone decides what it is.
    pub(crate) fn parse(content_type: &str, text: Bytes) -> Result<Self, ApiError> {
        let kind = match content_type {
            "application/json-patch+json" => PatchKind::Json,
            "application/merge-patch+json" => PatchKind::Merge,
            "application/strategic-merge-patch+json" => PatchKind::Strategic,
            "application/apply-patch+yaml" => PatchKind::Apply,
            _ => return Err(ApiError::unsupported_media(PATCHES)),
        };
        let (document, problems) = match kind {
            PatchKind::Apply => yaml::parse(&text)?,
            _ => json::parse(&text)?,
        };
        if kind != PatchKind::Json && !document.is_object() {
            return Err(ApiError::bad_request("the patch must be a JSON object"));
        }
        Ok(Self {
            kind,
            document,
            problems,
            text,
        })
    }

    /// Whether this is a configuration to apply.
    pub(crate) fn is_apply(&self) -> bool {
        self.kind == PatchKind::Apply
    }

    /// The configuration to apply, with what was strange about it.
    pub(super) fn into_configuration(self) -> (Value, Vec<Problem>) {
        (self.document, self.problems)
    }

    /// Whether the patch may look at the owners of fields.
    fn sees_owners(&self) -> bool {
        match self.kind {
            PatchKind::Json => true,
            _ => match self.document.get("metadata") {
                None => false,
                Some(metadata) => metadata.get("managedFields").is_some() || !metadata.is_object(),
            },
        }
    }

    /// The document with the patch applied.
    pub(crate) fn apply(&self, go_type: &str, document: &Value) -> Result<Value, ApiError> {
        match self.kind {
            PatchKind::Json => patch::json(document, &self.document),
            PatchKind::Merge => {
                let mut patched = document.clone();
                patch::merge(&mut patched, &self.document);
                Ok(patched)
            }
            PatchKind::Strategic if go_type.is_empty() => {
                Err(ApiError::unsupported_media(PATCHES.get(..2).unwrap_or_default()))
            }
            PatchKind::Strategic => patch::strategic::strategic(go_type, document, &self.document),
            PatchKind::Apply => Err(ApiError::internal("an apply is no change of a document")),
        }
    }
}

/// Where a new state comes from.
enum Source<'a> {
    Body(Document),
    Patch(Patch),
    Apply(&'a Configuration),
}

/// A state on its way to the store.
struct Next {
    value: Value,
    owners: Owners,
    warnings: Vec<String>,
}

impl Scope<'_> {
    /// Replaces an object, or creates it where the kind allows that.
    pub(crate) async fn replace(
        &self,
        name: &str,
        part: Part,
        document: Document,
        options: WriteOptions<'_>,
    ) -> Result<Written, ApiError> {
        let named = object::name(&document.value);
        if !named.is_empty() && named != name {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({named}) does not match the name on the URL ({name})"
            )));
        }
        let exists = self.core.store.snapshot().get(self.key(name).as_str()).is_some();
        if !exists && part == Part::Main && self.kind.create_on_update && object::uid(&document.value).is_empty() {
            let mut document = document;
            object::set_name(&mut document.value, name);
            object::remove(&mut document.value, "metadata.resourceVersion");
            return self.create(document, options).await;
        }
        if self.kind.revision_required && object::resource_version(&document.value).is_empty() {
            let fault = FieldError::invalid_bare("metadata.resourceVersion", "0x0", "must be specified for an update");
            return Err(self.invalid(name, vec![fault]));
        }
        self.change(name, part, &Source::Body(document), options).await
    }

    /// Patches an object.
    pub(crate) async fn patch(
        &self,
        name: &str,
        part: Part,
        patch: Patch,
        options: WriteOptions<'_>,
    ) -> Result<Written, ApiError> {
        self.change(name, part, &Source::Patch(patch), options).await
    }

    /// Applies a configuration to an object that is there.
    pub(super) async fn apply_to(
        &self,
        name: &str,
        part: Part,
        configuration: &Configuration,
        options: WriteOptions<'_>,
    ) -> Result<Written, ApiError> {
        self.change(name, part, &Source::Apply(configuration), options).await
    }

    /// Changes an object by a function of its present state, without anybody owning the change. For the server's own
    /// subresources.
    pub(crate) async fn amend(
        &self,
        name: &str,
        dry_run: bool,
        amend: impl Fn(&mut Value) -> Result<(), ApiError>,
    ) -> Result<Bytes, ApiError> {
        self.amend_owned(name, dry_run, None, amend).await
    }

    /// The same, with who owns the change, and through which part.
    pub(crate) async fn amend_owned(
        &self,
        name: &str,
        dry_run: bool,
        owner: Option<(Part, WriteOptions<'_>)>,
        amend: impl Fn(&mut Value) -> Result<(), ApiError>,
    ) -> Result<Bytes, ApiError> {
        for _ in 0..=RETRIES {
            let record = self.record(name).await?;
            let (old, owners) = ownership::apart(&record)?;
            let owners = Owners::Before(owners);
            let mut new = old.clone();
            amend(&mut new)?;
            let owners = match owner {
                Some((part, options)) => self.next_owners(owners, &old, &new, part.subresource(), options)?,
                None => owners,
            };
            let faults = validate::update_status(self.kind, &new, &old);
            if !faults.is_empty() {
                return Err(self.invalid(name, faults));
            }
            match self.finish(&record, &old, new, owners, None, dry_run).await {
                Ok(json) => return Ok(json),
                Err(Lost::Race { .. }) => {}
                Err(Lost::Failed(error)) => return Err(error),
            }
        }
        Err(self.modified(name))
    }

    async fn change(
        &self,
        name: &str,
        part: Part,
        source: &Source<'_>,
        options: WriteOptions<'_>,
    ) -> Result<Written, ApiError> {
        for _ in 0..=RETRIES {
            let record = self.record(name).await?;
            let (old, owners) = ownership::apart(&record)?;
            let mut next = self.next_state(name, part, source, &old, owners, options)?;
            let mut warnings = std::mem::take(&mut next.warnings);
            match self.write(&record, part, next, &old, options, &mut warnings).await {
                Ok(json) => {
                    return Ok(Written {
                        json,
                        created: false,
                        warnings,
                    });
                }
                Err(Lost::Race { .. }) => {}
                Err(Lost::Failed(error)) => return Err(error),
            }
        }
        Err(self.modified(name))
    }

    /// The state that the request asks for, in the stored form.
    fn next_state(
        &self,
        name: &str,
        part: Part,
        source: &Source<'_>,
        old: &Value,
        owners: List,
        options: WriteOptions<'_>,
    ) -> Result<Next, ApiError> {
        let api_version = self.shown.api_version();
        let expected = decode::expected(self.shown, &api_version);
        let (mut document, owners) = match source {
            Source::Apply(configuration) => {
                let applied = self.applied(configuration, part, old, owners.entries()?, options)?;
                self.check_preconditions(name, &applied.value, old)?;
                return Ok(Next {
                    value: applied.value,
                    owners: Owners::Settled(List::Entries(applied.owners)),
                    warnings: applied.warnings,
                });
            }
            Source::Body(document) => (document.clone(), owners),
            Source::Patch(patch) => {
                let value = match patch.sees_owners() {
                    false if self.is_stored_form() => patch.apply(self.kind.go_type, old)?,
                    sees_owners => {
                        let mut whole = old.clone();
                        self.show(&mut whole);
                        if sees_owners {
                            ownership::attach(&mut whole, owners.clone().entries()?);
                        }
                        patch.apply(self.shown.go_type, &whole)?
                    }
                };
                let problems = Vec::new();
                (Document { value, problems }, owners)
            }
        };
        let owners = Owners::requested(&mut document.value, owners)?;
        let (mut new, problems) = decode::normalise_lenient(document, expected)?;
        decode::settle_namespace(&mut new, self.namespace.filter(|_| self.kind.namespaced))?;
        if object::name(&new).is_empty() {
            object::set_name(&mut new, name);
        }
        self.check_preconditions(name, &new, old)?;
        let warnings = match options.validation {
            Strictness::Ignore => Vec::new(),
            Strictness::Warn => problems.iter().map(ToString::to_string).collect(),
            Strictness::Strict => {
                self.refuse_problems(source, &problems)?;
                Vec::new()
            }
        };
        self.bring_home(&mut new, Some(old))?;
        if part.is_wanted() || self.kind.custom.is_some() {
            defaults::apply(self.kind, &mut new);
        }
        Ok(Next {
            value: new,
            owners,
            warnings,
        })
    }

    fn refuse_problems(&self, source: &Source<'_>, problems: &[Problem]) -> Result<(), ApiError> {
        let Some(error) = strict_error(&self.kind.kind, &self.kind.version, problems) else {
            return Ok(());
        };
        let Source::Patch(patch) = source else {
            return Err(error);
        };
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let detail = format!("strict decoding error: {}", said.join(", "));
        let text = String::from_utf8_lossy(&patch.text).into_owned();
        Err(ApiError::invalid(
            "",
            "",
            "",
            vec![FieldError::invalid("patch", text, detail)],
        ))
    }

    fn check_preconditions(&self, name: &str, new: &Value, old: &Value) -> Result<(), ApiError> {
        if object::name(new) != object::name(old) {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({name})",
                object::name(new)
            )));
        }
        let wanted = object::resource_version(new);
        if !wanted.is_empty() && wanted != "0" && wanted != object::resource_version(old) {
            return Err(self.modified(name));
        }
        let (uid, known) = (object::uid(new), object::uid(old));
        if !uid.is_empty() && uid != known {
            let message = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {known}");
            return Err(ApiError::conflict(&self.kind.group_resource(), name, &message));
        }
        Ok(())
    }

    /// Prepares, validates and commits a state.
    async fn write(
        &self,
        record: &Arc<Record>,
        part: Part,
        next: Next,
        old: &Value,
        options: WriteOptions<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Bytes, Lost> {
        let Next {
            value: mut new,
            mut owners,
            ..
        } = next;
        let dry_run = options.dry_run;
        carry_over(&mut new, old);
        if part == Part::Main {
            // Before the server adds its own: nobody owns what it hands out.
            owners = self.next_owners(owners, old, &new, "", options).map_err(Lost::Failed)?;
        }
        let name = document::place(record.key.as_str()).1;
        let snapshot = self.core.store.snapshot();
        if part == Part::Scale {
            let admitted = self.admit_scale(name, old, &new, dry_run).await;
            self.set_scale(&mut new, admitted.map_err(Lost::Failed)?);
        }
        match part {
            Part::Main | Part::Scale => {
                prepare::update(self.kind, &mut new, old);
                let request = self.request(&snapshot, name, Some(old));
                admission::mutate(&request, &mut new, warnings).map_err(Lost::Failed)?;
            }
            Part::Status => prepare::update_status(self.kind, &mut new, old),
            Part::Finalize => prepare::finalize(&mut new, old),
            Part::EphemeralContainers => prepare::pod_parts::ephemeral_containers(&mut new, old),
            Part::Resize => prepare::pod_parts::resize(&mut new, old),
            Part::Approval => {
                prepare::certificates::approve(&mut new, old);
                prepare::certificates::stamp(&mut new, &time::format_seconds(self.core.now_micros()));
            }
        }
        if part != Part::Main {
            let next = self.next_owners(owners, old, &new, part.subresource(), options);
            owners = next.map_err(Lost::Failed)?;
        }
        let asked = self.asked(Operation::Update, part.subresource(), name, Some(old), dry_run);
        // Of a scale they have been asked already: they see it, not what is scaled.
        if part != Part::Scale {
            let rules = |new: &mut Value| match part {
                Part::Main => admission::mutate(&self.request(&snapshot, name, Some(old)), new, warnings),
                _ => Ok(()),
            };
            self.users_change(&asked, &mut new, rules).await.map_err(Lost::Failed)?;
        }
        let invalid = |faults| Lost::Failed(self.invalid(name, faults));
        let reservation = match self.is_service() && part == Part::Main {
            true => {
                let pools = &self.core.addresses;
                let assigned = pools.assign(record.key.as_str(), &mut new, Some(old), &snapshot);
                Some(assigned.map_err(invalid)?)
            }
            false => None,
        };
        let faults = match part {
            Part::Main | Part::Scale => validate::update(self.kind, &new, old),
            Part::EphemeralContainers => {
                validate::update_part(self.kind, &new, old, validate::pod_parts::ephemeral_containers)
            }
            Part::Resize => validate::update_part(self.kind, &new, old, validate::pod_parts::resize),
            Part::Status | Part::Finalize | Part::Approval => validate::update_status(self.kind, &new, old),
        };
        if !faults.is_empty() {
            return Err(invalid(faults));
        }
        let request = Request {
            part,
            ..self.request(&snapshot, name, Some(old))
        };
        admission::validate(&request, &new, warnings).map_err(Lost::Failed)?;
        admission::image::validate(&request, &new).await.map_err(Lost::Failed)?;
        admission::certificate::sign(&request, &mut new);
        if part != Part::Scale {
            self.users_refuse(&asked, Some(&new)).await.map_err(Lost::Failed)?;
        }
        let range = reservation.as_ref().and_then(Reservation::needs);
        let json = self.finish(record, old, new, owners, range, dry_run).await?;
        if let Some(reservation) = reservation
            && !dry_run
        {
            reservation.keep();
        }
        Ok(json)
    }

    /// Commits what changed, or removes the object when this was the last thing that held it. `also` must hold then.
    async fn finish(
        &self,
        record: &Arc<Record>,
        old: &Value,
        mut new: Value,
        owners: Owners,
        also: Option<(Key, Expect)>,
        dry_run: bool,
    ) -> Result<Bytes, Lost> {
        object::set_resource_version(&mut new, object::resource_version(old));
        let same = new == *old;
        let owners = match owners {
            // Who changes nothing owns nothing new.
            Owners::Before(_) if same => return Ok(record.json.clone()),
            Owners::Settled(list) if same && is_stored(&list, record).map_err(Lost::Failed)? => {
                return Ok(record.json.clone());
            }
            Owners::Before(list) | Owners::Settled(list) => list,
        };
        if dry_run {
            return Ok(document::bytes(&owners.joined(&new).map_err(Lost::Failed)?));
        }
        let expect = Expect::Revision(record.revision);
        let written = if deletion::is_finished(self.kind, &new) {
            self.remove(&record.key, &new, &owners, expect).await?
        } else {
            self.put(&record.key, &new, &owners, expect, also).await?
        };
        Ok(written.json.clone())
    }
}

/// Whether these are the owners that an object has.
fn is_stored(list: &List, record: &Record) -> Result<bool, ApiError> {
    let (_, stored) = ownership::apart(record)?;
    Ok(list.clone().entries()? == stored.entries()?)
}

/// What no client may change: identity, birth and death stay as they are.
fn carry_over(new: &mut Value, old: &Value) {
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let path = format!("metadata.{field}");
        match object::get(old, &path) {
            Some(value) => object::set(new, &path, value.clone()),
            None => {
                object::remove(new, &path);
            }
        }
    }
    object::remove(new, "metadata.selfLink");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_content_type_decides_what_a_patch_is() {
        let body = Bytes::from_static(b"{\"spec\":{\"replicas\":3}}");
        let patch = Patch::parse("application/merge-patch+json", body.clone()).unwrap();
        let patched = patch
            .apply("", &json!({"spec": {"replicas": 1, "paused": true}}))
            .unwrap();
        assert_eq!(patched, json!({"spec": {"replicas": 3, "paused": true}}));
        let error = Patch::parse("application/cbor", body).err().unwrap();
        assert_eq!(error.code, 415);
        assert!(
            error.message.contains("application/strategic-merge-patch+json"),
            "{}",
            error.message
        );
        assert!(Patch::parse("application/merge-patch+json", Bytes::from_static(b"[]")).is_err());
    }

    #[test]
    fn identity_is_carried_over() {
        let old = json!({"metadata": {"name": "a", "uid": "1", "creationTimestamp": "t"}});
        let mut new = json!({"metadata": {"uid": "2", "deletionTimestamp": "x", "selfLink": "/"}});
        carry_over(&mut new, &old);
        assert_eq!(new, old);
    }
}
