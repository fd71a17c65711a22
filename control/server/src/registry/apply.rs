//! Server-side apply: a configuration becomes part of an object, or a new object.

use coracle_api::apply::{Application, last_applied};
use coracle_api::status::ApiError;
use coracle_api::{defaults, object};
use serde_json::Value;

use super::ownership::rules;
use super::update::{Part, Patch};
use super::{RETRIES, Scope, Written};
use crate::decode::{self, Document};
use crate::query::WriteOptions;

/// A configuration that is being applied.
pub(crate) struct Configuration {
    value: Value,
    warnings: Vec<String>,
}

/// What an apply makes of an object.
pub(super) struct Applied {
    pub(super) value: Value,
    pub(super) owners: Vec<Value>,
    pub(super) warnings: Vec<String>,
}

impl Scope<'_> {
    /// Applies a configuration to an object, or creates it from the configuration.
    pub(crate) async fn apply(
        &self,
        name: &str,
        part: Part,
        patch: Patch,
        options: WriteOptions<'_>,
    ) -> Result<Written, ApiError> {
        let configuration = self.configuration(name, part, patch, options)?;
        let mut lost = None;
        for _ in 0..=RETRIES {
            let exists = self.core.store.snapshot().get(self.key(name).as_str()).is_some();
            let outcome = match (exists, part) {
                (true, _) => self.apply_to(name, part, &configuration, options).await,
                (false, Part::Main) => self.create_from(name, &configuration, options).await,
                (false, _) => return Err(self.not_found(name)),
            };
            match outcome {
                // Somebody created or removed it in between.
                Err(error) if matches!((exists, error.reason), (true, "NotFound") | (false, "AlreadyExists")) => {
                    lost = Some(error);
                }
                outcome => return outcome,
            }
        }
        Err(lost.unwrap_or_else(|| self.modified(name)))
    }

    async fn create_from(
        &self,
        name: &str,
        configuration: &Configuration,
        options: WriteOptions<'_>,
    ) -> Result<Written, ApiError> {
        let uid = object::uid(&configuration.value);
        if !uid.is_empty() {
            let words =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(ApiError::conflict(&self.kind.group_resource(), name, &words));
        }
        let blank = rules(self.kind).blank();
        let applied = self.applied(configuration, Part::Main, &blank, Vec::new(), options)?;
        self.create_owned(applied.value, Some(applied.owners), options, applied.warnings)
            .await
    }

    /// The object with the configuration applied, in the stored form but for defaults.
    pub(super) fn applied(
        &self,
        configuration: &Configuration,
        part: Part,
        live: &Value,
        owners: Vec<Value>,
        options: WriteOptions<'_>,
    ) -> Result<Applied, ApiError> {
        let with_status = matches!(part, Part::Status | Part::Approval) || !self.kind.has_status();
        let (api_version, now) = (self.kind.api_version(), self.now());
        let writer = Self::writer(options, &api_version, part.subresource(), &now);
        let config = &configuration.value;
        let application = Application::new(rules(self.kind), live, owners, config, writer, with_status);
        let mut application = application.map_err(|faults| self.untyped(config, &faults.to_string()))?;
        let document = Document {
            value: std::mem::take(&mut application.merged),
            problems: Vec::new(),
        };
        let (mut value, _) = decode::normalise_lenient(document, decode::expected(self.kind, &api_version))?;
        let forced = options.force.unwrap_or(false);
        let owners = application
            .settle(live, &value, with_status, forced)
            .map_err(|conflicts| conflicts.to_error())?;
        if options.manager == last_applied::KUBECTL && part == Part::Main {
            last_applied::renew(&mut value, config);
        }
        if part == Part::Main {
            defaults::apply(self.kind, &mut value);
        }
        Ok(Applied {
            value,
            owners,
            warnings: configuration.warnings.clone(),
        })
    }

    /// Reads a configuration and leaves out what this door does not lead to.
    fn configuration(
        &self,
        name: &str,
        part: Part,
        patch: Patch,
        options: WriteOptions<'_>,
    ) -> Result<Configuration, ApiError> {
        let (mut value, problems) = patch.into_configuration();
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let warnings = match options.validation {
            coracle_api::normalise::Strictness::Strict if !said.is_empty() => {
                let words = said.join(", ");
                return Err(ApiError::bad_request(format!("error strict decoding YAML: {words}")));
            }
            coracle_api::normalise::Strictness::Warn => said,
            _ => Vec::new(),
        };
        for field in ["kind", "apiVersion"] {
            if object::text(&value, field).is_empty() {
                return Err(ApiError::bad_request(format!(
                    "Object '{field}' is missing in the applied configuration"
                )));
            }
        }
        if part == Part::Scale {
            value = self.parent_of_scale(&value)?;
        }
        let api_version = self.shown.api_version();
        decode::check_kind(&mut value, decode::expected(self.shown, &api_version))?;
        if let Some(conversion) = self.shown.conversion {
            (conversion.to_configured)(&mut value);
        }
        if object::get(&value, "metadata.managedFields").is_some_and(|list| !list.is_null()) {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        decode::settle_namespace(&mut value, self.namespace.filter(|_| self.kind.namespaced))?;
        match object::name(&value) {
            "" => object::set_name(&mut value, name),
            own if own == name => {}
            own => {
                return Err(ApiError::bad_request(format!(
                    "the name of the object ({own}) does not match the name on the URL ({name})"
                )));
            }
        }
        self.restrict(part, &mut value);
        Ok(Configuration { value, warnings })
    }

    fn restrict(&self, part: Part, value: &mut Value) {
        let Some(fields) = value.as_object_mut() else { return };
        match part {
            Part::Main | Part::Scale if self.kind.has_status() => {
                fields.shift_remove("status");
            }
            Part::Main | Part::Scale => {}
            Part::Status | Part::Approval => {
                fields.retain(|field, _| matches!(field.as_str(), "apiVersion" | "kind" | "metadata" | "status"))
            }
            Part::Finalize | Part::EphemeralContainers | Part::Resize => fields.retain(|field, _| field != "status"),
        }
        if part != Part::Main
            && let Some(metadata) = value.pointer_mut("/metadata").and_then(Value::as_object_mut)
        {
            metadata.retain(|field, _| matches!(field.as_str(), "name" | "namespace" | "uid" | "resourceVersion"));
        }
    }

    /// Kubernetes' answer to a configuration that does not fit its type: an internal error without a reason.
    fn untyped(&self, config: &Value, faults: &str) -> ApiError {
        let (group, version) = (&self.kind.group, &self.kind.version);
        let message = format!(
            "failed to create typed patch object ({}/{}; {group}/{version}, Kind={}): {faults}",
            object::namespace(config),
            object::name(config),
            self.kind.kind
        );
        ApiError::unknown(message)
    }
}
