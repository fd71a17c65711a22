//! Mutating policies: what is changed in an object on its way.

use coracle_api::apply;
use coracle_api::policy::Mutation;
use coracle_api::status::{ApiError, Cause};
use coracle_api::{object, patch};
use coracle_store::Snapshot;
use serde_json::Value;

use super::config::{Binding, Policy};
use super::scene::Scene;
use crate::matching;
use crate::sight::Sight;
use crate::webhook::Asked;

/// What each policy that may be asked again has last seen, by name.
#[derive(Default)]
pub(crate) struct Seen(Vec<(String, Value)>);

/// A policy that could not do its work.
struct Failure {
    message: String,
    reason: &'static str,
}

/// Lets the mutating policies change an object, one after the other. Each change goes through `settle`, which is given the
/// object before it too and brings it back into its form. In the second round, for which `earlier` is what the first
/// answered, only those are asked that want to be and have not seen what the object is now.
///
/// # Errors
/// When a policy fails and that must not be ignored, or makes what cannot be an object of the kind.
pub(crate) async fn mutate(
    asked: &Asked<'_>,
    object: &mut Value,
    settle: impl Fn(&Value, &mut Value) -> Result<(), ApiError>,
    earlier: Option<&Seen>,
) -> Result<Seen, ApiError> {
    let current = asked.core.admission_policies.current();
    let mut seen = Seen::default();
    if current.mutating.is_empty() || matching::is_exempt(asked.kind) {
        return Ok(seen);
    }
    let snapshot = asked.core.store.snapshot();
    let mut failures = Vec::new();
    for policy in &current.mutating {
        let due = earlier.is_none_or(|earlier| {
            let before = earlier.0.iter().find(|(name, _)| *name == policy.name);
            before.is_some_and(|(_, before)| before != object)
        });
        if due {
            change(policy, asked, &snapshot, object, &settle, &mut failures).await?;
            if policy.again {
                seen.0.push((policy.name.clone(), object.clone()));
            }
        }
    }
    match failures.first() {
        None => Ok(seen),
        Some(first) => {
            let mut error = ApiError::forbidden(&asked.kind.group_resource(), asked.name, "");
            error.message.clone_from(&first.message);
            error.reason = first.reason;
            let causes = failures.into_iter().map(|failure| Cause::new("", failure.message));
            Err(causes.fold(error, ApiError::with_cause))
        }
    }
}

async fn change(
    policy: &Policy,
    asked: &Asked<'_>,
    snapshot: &Snapshot,
    object: &mut Value,
    settle: &impl Fn(&Value, &mut Value) -> Result<(), ApiError>,
    failures: &mut Vec<Failure>,
) -> Result<(), ApiError> {
    let mut fail = |binding: Option<&Binding>, reason: &'static str, words: String| {
        if policy.fail {
            let message = match binding {
                Some(binding) => format!(
                    "policy '{}' with binding '{}' denied request: {words}",
                    policy.name, binding.name
                ),
                None => format!("policy {:?} denied request: {words}", policy.name),
            };
            failures.push(Failure { message, reason });
        }
    };
    let Some((kind, bound)) = policy.concerns(asked, snapshot, Some(object)).await else {
        return Ok(());
    };
    let mut sight = Sight::of(asked, kind.clone(), Some(object)).await?;
    for (binding, params) in bound {
        let params = match params {
            Ok(params) => params,
            Err(words) => {
                let what = if binding.is_some() { "binding" } else { "policy" };
                fail(binding, "Forbidden", format!("failed to configure {what}: {words}"));
                continue;
            }
        };
        for params in params {
            let held = {
                let here = sight.asked(asked);
                let scene = Scene::new(&here, snapshot);
                scene.holds(&policy.programs.conditions, sight.object(Some(object)), params.as_ref())
            };
            match held {
                Ok(true) => {}
                Ok(false) => continue,
                Err(words) => {
                    fail(binding, "Invalid", words);
                    continue;
                }
            }
            for mutation in &policy.programs.mutations {
                match changed(policy, &sight, snapshot, mutation, asked, object, params.as_ref()) {
                    Ok(next) => {
                        let mut next = sight.home(asked, next).await?;
                        settle(object, &mut next)?;
                        *object = next;
                        sight = Sight::of(asked, kind.clone(), Some(object)).await?;
                    }
                    Err(words) => fail(binding, "Invalid", words),
                }
            }
        }
    }
    Ok(())
}

/// The object as a mutation wants it, in the version that the policy sees.
fn changed(
    policy: &Policy,
    sight: &Sight,
    snapshot: &Snapshot,
    mutation: &Mutation,
    asked: &Asked<'_>,
    object: &Value,
    params: Option<&Value>,
) -> Result<Value, String> {
    let here = sight.asked(asked);
    let object = sight.object(Some(object)).unwrap_or(object);
    let scene = Scene::new(&here, snapshot);
    let mut run = scene.run(&policy.programs, Some(object), params);
    match mutation {
        Mutation::Apply(program) => {
            let mut configuration = run.json(program)?;
            for field in ["apiVersion", "kind"] {
                object::set(&mut configuration, field, object::text(object, field).into());
            }
            apply::overlay(here.rules(), object, &configuration)
                .map_err(|error| format!("error applying patch: {error}"))
        }
        Mutation::Patch(program) => {
            let operations = run.json(program)?;
            let patched = patch::json::json_where_tested(object, &operations);
            patched
                .map(|patched| patched.unwrap_or_else(|| object.clone()))
                .map_err(|error| format!("JSONPath: {}", error.message))
        }
    }
}
