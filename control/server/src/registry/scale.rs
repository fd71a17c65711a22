//! The scale subresource: a number of replicas, for kinds that have one.

use bytes::Bytes;
use coracle_api::field_error::FieldError;
use coracle_api::kinds::Kind;
use coracle_api::object;
use coracle_api::status::ApiError;
use serde_json::{Value, json};

use super::Scope;
use super::update::{Part, Patch};
use crate::decode::{Document, Expected, check_kind, normalise_lenient};
use crate::document;
use crate::query::WriteOptions;
use crate::webhook::Operation;

const SCALE: Expected<'static> = Expected {
    api_version: "autoscaling/v1",
    version: "v1",
    kind: "Scale",
    go_type: "k8s.io/api/autoscaling/v1.Scale",
    custom: None,
};

/// Where built-in kinds keep their scale.
const BUILTIN: Places<'static> = Places {
    wanted: "spec.replicas",
    have: "status.replicas",
    selector: Some("spec.selector"),
    defined: false,
};

/// Where a kind keeps its scale.
#[derive(Clone, Copy)]
struct Places<'a> {
    wanted: &'a str,
    have: &'a str,
    selector: Option<&'a str>,
    /// The kind is one that a user defined, which may lack what it should have.
    defined: bool,
}

fn places(kind: &Kind) -> Places<'_> {
    match kind.custom.as_ref().and_then(|custom| custom.scale.as_ref()) {
        None => BUILTIN,
        Some(paths) => Places {
            wanted: &paths.wanted,
            have: &paths.have,
            selector: paths.selector.as_deref(),
            defined: true,
        },
    }
}

/// Where a new scale comes from.
pub(crate) enum ScaleSource {
    Body(Document),
    Patch(Patch),
}

impl Scope<'_> {
    /// The scale of an object.
    pub(crate) async fn scale(&self, name: &str) -> Result<Value, ApiError> {
        let object = document::tree(&*self.record(name).await?)?;
        let places = places(self.kind);
        if places.defined && object::integer(&object, places.wanted).is_none() {
            return Err(ApiError::internal(format!(
                "the spec replicas field {:?} does not exist",
                format!(".{}", places.wanted)
            )));
        }
        Ok(view(&object, places))
    }

    /// Changes how many replicas are wanted.
    pub(crate) async fn rescale(
        &self,
        name: &str,
        source: ScaleSource,
        options: WriteOptions<'_>,
    ) -> Result<Value, ApiError> {
        let json: Bytes = match source {
            ScaleSource::Patch(patch) if patch.is_apply() => self.apply(name, Part::Scale, patch, options).await?.json,
            source => {
                let admitted = self.ask_about_scale(name, &source, options.dry_run).await?;
                let owner = Some((Part::Scale, options));
                let change = |object: &mut Value| self.change_scale(name, object, &source, admitted);
                self.amend_owned(name, options.dry_run, owner, change).await?
            }
        };
        Ok(view(&document::parse(&json)?, places(self.kind)))
    }

    /// Lets users' policies and webhooks change and refuse a new scale; the number of replicas that they want instead, if
    /// they want another.
    async fn ask_about_scale(&self, name: &str, source: &ScaleSource, dry_run: bool) -> Result<Option<i64>, ApiError> {
        let old = document::tree(&*self.record(name).await?)?;
        let mut new = old.clone();
        self.change_scale(name, &mut new, source, None)?;
        let requested = object::integer(&new, places(self.kind).wanted);
        let admitted = self.admit_scale(name, &old, &new, dry_run).await?;
        Ok(Some(admitted).filter(|admitted| requested != Some(*admitted)))
    }

    /// How many replicas are wanted when users' policies and webhooks have seen the scale of an object, as it is and as it
    /// will be.
    ///
    /// # Errors
    /// When one of them refuses it.
    pub(super) async fn admit_scale(
        &self,
        name: &str,
        old: &Value,
        new: &Value,
        dry_run: bool,
    ) -> Result<i64, ApiError> {
        let places = places(self.kind);
        let (old, mut new) = (view(old, places), view(new, places));
        let asked = self.asked(Operation::Update, "scale", name, Some(&old), dry_run);
        self.users_change_part(&asked, &mut new, SCALE).await?;
        self.users_refuse(&asked, Some(&new)).await?;
        wanted(name, &new)
    }

    /// Sets how many replicas of an object are wanted.
    pub(super) fn set_scale(&self, object: &mut Value, replicas: i64) {
        object::set(object, places(self.kind).wanted, json!(replicas));
    }

    /// What applying a scale means for the object that is scaled.
    pub(super) fn parent_of_scale(&self, scale: &Value) -> Result<Value, ApiError> {
        let mut scale = scale.clone();
        check_kind(&mut scale, SCALE)?;
        let mut parent = json!({"apiVersion": self.kind.api_version(), "kind": self.kind.kind});
        if let Some(metadata) = scale.get("metadata") {
            object::set(&mut parent, "metadata", metadata.clone());
        }
        if let Some(replicas) = object::get(&scale, "spec.replicas") {
            object::set(&mut parent, places(self.kind).wanted, replicas.clone());
        }
        Ok(parent)
    }

    /// Changes an object as a new scale says, but for the number that was admitted instead.
    fn change_scale(
        &self,
        name: &str,
        object: &mut Value,
        source: &ScaleSource,
        admitted: Option<i64>,
    ) -> Result<(), ApiError> {
        let places = places(self.kind);
        let old = view(object, places);
        let document = match source {
            ScaleSource::Body(document) => document.clone(),
            ScaleSource::Patch(patch) => Document {
                value: patch.apply(SCALE.go_type, &old)?,
                problems: Vec::new(),
            },
        };
        let (new, _) = normalise_lenient(document, SCALE)?;
        let version = object::resource_version(&new);
        if !version.is_empty() && version != object::resource_version(&old) {
            return Err(self.modified(name));
        }
        let replicas = admitted.map_or_else(|| wanted(name, &new), Ok)?;
        if object::integer(object, places.wanted) != Some(replicas) {
            object::set(object, places.wanted, json!(replicas));
            object::set_generation(object, object::generation(object) + 1);
        }
        Ok(())
    }
}

/// The number of replicas that a scale wants.
fn wanted(name: &str, scale: &Value) -> Result<i64, ApiError> {
    let replicas = object::integer(scale, "spec.replicas").unwrap_or_default();
    if replicas < 0 {
        let fault = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
        return Err(ApiError::invalid("Scale", "autoscaling", name, vec![fault]));
    }
    Ok(replicas)
}

fn view(object: &Value, places: Places<'_>) -> Value {
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.get("metadata").and_then(|metadata| metadata.get(field)) {
            object::set(&mut metadata, field, value.clone());
        }
    }
    let wanted = object::integer(object, places.wanted).unwrap_or_default();
    let have = object::integer(object, places.have).unwrap_or_default();
    let selector = places
        .selector
        .and_then(|path| object::get(object, path))
        .map(selector_text)
        .unwrap_or_default();
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {}, "status": {"replicas": have, "selector": selector},
    });
    if wanted != 0 {
        object::set(&mut scale, "spec.replicas", json!(wanted));
    }
    scale
}

/// A selector object in its text form: `a=b,c in (d,e)`.
fn selector_text(selector: &Value) -> String {
    if let Some(text) = selector.as_str() {
        return text.to_owned();
    }
    let labels = object::map(selector, "matchLabels").into_iter().flatten();
    let mut parts: Vec<String> = labels
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    parts.sort();
    for expression in object::list(selector, "matchExpressions") {
        let key = object::text(expression, "key");
        let mut values: Vec<&str> = object::list(expression, "values")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        values.sort_unstable();
        let values = values.join(",");
        parts.push(match object::text(expression, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_shows_what_is_wanted_and_what_is() {
        let scale = view(
            &json!({
                "metadata": {"name": "web", "namespace": "a", "labels": {"x": "y"}},
                "spec": {"replicas": 3, "selector": {"matchLabels": {"b": "1", "a": "2"}, "matchExpressions": [{"key": "t", "operator": "In", "values": ["y", "x"]}]}},
                "status": {"replicas": 2},
            }),
            BUILTIN,
        );
        assert_eq!(scale["spec"]["replicas"], 3);
        assert_eq!(
            scale["status"],
            json!({"replicas": 2, "selector": "a=2,b=1,t in (x,y)"})
        );
        assert_eq!(scale["metadata"], json!({"name": "web", "namespace": "a"}));
    }
}
