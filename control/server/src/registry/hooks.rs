//! Where the registry asks what users add to its rules, policies and webhooks, in words that fit its verbs.

use coracle_api::status::ApiError;
use coracle_api::{defaults, object};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Scope;
use crate::decode::{self, Document, Expected};
use crate::policy;
use crate::query::Query;
use crate::webhook::{self, Asked, Operation};

/// What a request's client is to be warned of and what is to be known of the request, collected wherever it is found out.
#[derive(Default)]
pub(crate) struct Warnings {
    warnings: Mutex<Vec<String>>,
    /// For the audit log: texts under names.
    annotations: Mutex<Vec<(String, String)>>,
}

impl Warnings {
    fn add(&self, warnings: Vec<String>) {
        if !warnings.is_empty() {
            self.warnings.lock().extend(warnings);
        }
    }

    /// Adds what is to be known of the request.
    pub(crate) fn annotate(&self, key: String, text: String) {
        self.annotations.lock().push((key, text));
    }

    /// All that is to be known; nothing is left.
    pub(crate) fn take_annotations(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.annotations.lock())
    }

    /// All of them; none are left.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.warnings.lock())
    }
}

impl<'a> Scope<'a> {
    /// The question that a write to this place is.
    pub(crate) fn asked<'b>(
        &'b self,
        operation: Operation,
        subresource: &'b str,
        name: &'b str,
        old: Option<&'b Value>,
        dry_run: bool,
    ) -> Asked<'b> {
        let own = (self.kind.kind == "Namespace" && self.kind.group.is_empty()).then_some(name);
        Asked {
            core: self.core,
            identity: self.identity,
            kind: self.kind,
            shown: self.shown,
            seen: self.kind,
            said: self.warnings,
            subresource,
            namespace: own.or(self.namespace),
            name,
            operation,
            dry_run,
            old,
        }
    }

    /// Lets policies, then webhooks change an object that is about to be written. What they may not change stays. `rules` are
    /// those of the cluster, which have been asked before: they are asked again if something was changed.
    pub(crate) async fn users_change(
        &self,
        asked: &Asked<'_>,
        value: &mut Value,
        rules: impl FnOnce(&mut Value) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        let api_version = self.kind.api_version();
        let expected = decode::expected(self.kind, &api_version);
        let settle = |before: &Value, changed: &mut Value| {
            reform(expected, before, changed)?;
            defaults::apply(self.kind, changed);
            Ok(())
        };
        self.users_change_to(asked, value, settle, rules).await
    }

    /// The same for a part of an object that is of a kind of its own, such as a scale.
    pub(crate) async fn users_change_part(
        &self,
        asked: &Asked<'_>,
        part: &mut Value,
        expected: Expected<'_>,
    ) -> Result<(), ApiError> {
        let settle = |before: &Value, changed: &mut Value| reform(expected, before, changed);
        self.users_change_to(asked, part, settle, |_| Ok(())).await
    }

    async fn users_change_to(
        &self,
        asked: &Asked<'_>,
        value: &mut Value,
        settle: impl Fn(&Value, &mut Value) -> Result<(), ApiError>,
        rules: impl FnOnce(&mut Value) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        if self.core.webhooks.is_empty() && self.core.admission_policies.is_empty() {
            return Ok(());
        }
        let before = value.clone();
        let seen = policy::mutate(asked, value, &settle, None).await?;
        let mut round = webhook::mutate(asked, value, &settle).await?;
        self.warnings.add(std::mem::take(&mut round.warnings));
        if *value != before {
            rules(value)?;
        }
        policy::mutate(asked, value, &settle, Some(&seen)).await?;
        self.warnings
            .add(webhook::mutate_again(asked, value, &settle, round).await?);
        Ok(())
    }

    /// Lets policies, then webhooks refuse what is about to happen. `value` is the new state, where there is one.
    pub(crate) async fn users_refuse(&self, asked: &Asked<'_>, value: Option<&Value>) -> Result<(), ApiError> {
        self.warnings.add(policy::validate(asked, value).await?);
        self.warnings.add(webhook::validate(asked, value).await?);
        Ok(())
    }

    /// Lets policies and webhooks of both kinds refuse a deletion.
    pub(crate) async fn users_refuse_deletion(&self, name: &str, old: &Value, dry_run: bool) -> Result<(), ApiError> {
        let asked = self.asked(Operation::Delete, "", name, Some(old), dry_run);
        self.warnings.add(webhook::consult(&asked, None).await?);
        self.users_refuse(&asked, None).await
    }

    /// Lets policies and webhooks of both kinds refuse a connection to a part of an object.
    pub(crate) async fn users_connect(&self, subresource: &str, name: &str, query: &Query) -> Result<(), ApiError> {
        if self.core.webhooks.is_empty() && self.core.admission_policies.is_empty() {
            return Ok(());
        }
        let body = self.kind.subresource(subresource).and_then(|part| part.body.as_ref());
        let kind = body.map_or("", |body| body.kind.as_ref());
        let mut options = json!({"kind": kind, "apiVersion": "v1"});
        for flag in ["stdin", "stdout", "stderr", "tty"] {
            if query.flag(flag).unwrap_or(false) {
                object::set(&mut options, flag, Value::Bool(true));
            }
        }
        if let Some(container) = query.get("container") {
            object::set(&mut options, "container", container.into());
        }
        let command: Vec<&str> = query.all("command").collect();
        if !command.is_empty() {
            object::set(&mut options, "command", json!(command));
        }
        let asked = self.asked(Operation::Connect, subresource, name, None, false);
        self.warnings.add(webhook::consult(&asked, Some(&options)).await?);
        self.users_refuse(&asked, Some(&options)).await
    }
}

/// Brings an object that a policy or webhook changed into the form that its kind has.
fn reform(expected: Expected<'_>, before: &Value, patched: &mut Value) -> Result<(), ApiError> {
    let document = Document {
        value: patched.take(),
        problems: Vec::new(),
    };
    let (mut value, _) = decode::normalise_lenient(document, expected)?;
    // Who owns what is the server's own record.
    for field in [
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "metadata.creationTimestamp",
        "metadata.managedFields",
    ] {
        match object::get(before, field) {
            Some(kept) => object::set(&mut value, field, kept.clone()),
            None => {
                object::remove(&mut value, field);
            }
        }
    }
    *patched = value;
    Ok(())
}
