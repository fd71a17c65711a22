//! Admission webhooks: what users' own servers add to a write, or refuse of it.
//!
//! [`config`] compiles the configurations once per change, [`matching`] decides which webhooks a write concerns, [`review`]
//! is the question and the answer; these are pure. [`call`] asks. This page says in which order and what a failure means.
//!
//! Nothing that could repair a broken webhook goes through one: the configurations themselves, and the reviews by which the
//! rights to change them are asked, are never sent to any.

mod call;
mod config;
pub(crate) mod convert;
mod review;

use coracle_api::status::ApiError;
use coracle_api::{kinds::Kind, patch};
use coracle_store::Snapshot;
use futures::future::join_all;
use serde_json::Value;

use crate::core::{Core, new_uid};
use crate::identity::Identity;
use crate::matching;
use crate::policy::Scene;
use call::Question;
use config::Hook;
pub(crate) use config::{GROUP, PREFIXES, Webhooks};
pub(crate) use review::Operation;

/// A write that webhooks may be asked about.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) core: &'a Core,
    pub(crate) identity: &'a Identity,
    pub(crate) kind: &'a Kind,
    /// The part of the object that is written; empty for the whole.
    pub(crate) subresource: &'a str,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: &'a str,
    pub(crate) operation: Operation,
    pub(crate) dry_run: bool,
    /// What is there. `None` when a new object is made.
    pub(crate) old: Option<&'a Value>,
}

/// Lets the mutating webhooks change an object, one after the other, and answers with their warnings. Each change goes through
/// `settle`, which is given the object before it too and brings it back into its form. When all have been asked, `between`
/// may change the object too; then a webhook that wants to see what came after it is asked once more.
///
/// # Errors
/// When a webhook refuses, or fails and that must not be ignored.
pub(crate) async fn mutate(
    asked: &Asked<'_>,
    object: &mut Value,
    settle: impl Fn(&Value, &mut Value) -> Result<(), ApiError>,
    between: impl FnOnce(&mut Value) -> Result<(), ApiError>,
) -> Result<Vec<String>, ApiError> {
    let hooks = asked.core.webhooks.current();
    if hooks.mutating.is_empty() || matching::is_exempt(asked.kind) {
        between(object)?;
        return Ok(Vec::new());
    }
    let snapshot = asked.core.store.snapshot();
    let mut warnings = Vec::new();
    // What each webhook that may be asked again has last seen.
    let mut seen: Vec<(&Hook, Value)> = Vec::new();
    for hook in &hooks.mutating {
        if !matches(hook, asked, &snapshot, Some(object))? {
            continue;
        }
        change(hook, asked, object, &settle, &mut warnings).await?;
        if hook.again {
            seen.push((hook, object.clone()));
        }
    }
    between(object)?;
    for (hook, before) in seen {
        if before != *object && matches(hook, asked, &snapshot, Some(object))? {
            change(hook, asked, object, &settle, &mut warnings).await?;
        }
    }
    Ok(warnings)
}

async fn change(
    hook: &Hook,
    asked: &Asked<'_>,
    object: &mut Value,
    settle: &impl Fn(&Value, &mut Value) -> Result<(), ApiError>,
    warnings: &mut Vec<String>,
) -> Result<(), ApiError> {
    let Some(answer) = ask(hook, asked, Some(object)).await? else {
        return Ok(());
    };
    warnings.extend(answer.warnings);
    let Some(operations) = answer.patch else { return Ok(()) };
    let failed = |error: &ApiError| {
        ApiError::internal(format!(
            "failed to apply the patch of admission webhook {:?}: {}",
            hook.name, error.message
        ))
    };
    let mut patched = patch::json(object, &operations).map_err(|error| failed(&error))?;
    settle(object, &mut patched)?;
    *object = patched;
    Ok(())
}

/// Asks the mutating webhooks about something that they cannot change, such as a deletion or a connection.
///
/// # Errors
/// When a webhook refuses, or fails and that must not be ignored.
pub(crate) async fn consult(asked: &Asked<'_>, object: Option<&Value>) -> Result<Vec<String>, ApiError> {
    let hooks = asked.core.webhooks.current();
    let mut warnings = Vec::new();
    if hooks.mutating.is_empty() || matching::is_exempt(asked.kind) {
        return Ok(warnings);
    }
    let snapshot = asked.core.store.snapshot();
    for hook in &hooks.mutating {
        if !matches(hook, asked, &snapshot, object)? {
            continue;
        }
        warnings.extend(
            ask(hook, asked, object)
                .await?
                .into_iter()
                .flat_map(|answer| answer.warnings),
        );
    }
    Ok(warnings)
}

/// Asks the validating webhooks, all at once, and answers with their warnings.
///
/// # Errors
/// When a webhook refuses, or fails and that must not be ignored; of several the first in order.
pub(crate) async fn validate(asked: &Asked<'_>, object: Option<&Value>) -> Result<Vec<String>, ApiError> {
    let hooks = asked.core.webhooks.current();
    if hooks.validating.is_empty() || matching::is_exempt(asked.kind) {
        return Ok(Vec::new());
    }
    let snapshot = asked.core.store.snapshot();
    let mut concerned = Vec::new();
    for hook in &hooks.validating {
        if matches(hook, asked, &snapshot, object)? {
            concerned.push(ask(hook, asked, object));
        }
    }
    let answers = join_all(concerned).await;
    let mut warnings = Vec::new();
    for answer in answers {
        warnings.extend(answer?.into_iter().flat_map(|answer| answer.warnings));
    }
    Ok(warnings)
}

/// Whether a webhook is to be asked about a write.
fn matches(hook: &Hook, asked: &Asked<'_>, snapshot: &Snapshot, object: Option<&Value>) -> Result<bool, ApiError> {
    if !hook.constraints.matches(asked, snapshot, object) {
        return Ok(false);
    }
    if hook.conditions.is_empty() {
        return Ok(true);
    }
    let held = Scene::new(asked, snapshot).holds(&hook.conditions, object, None);
    match held {
        Err(_) if hook.ignore_failure => Ok(false),
        held => held.map_err(|words| ApiError::forbidden(&asked.kind.group_resource(), asked.name, &words)),
    }
}

/// One webhook's answer; none where it failed and that is to be ignored.
async fn ask(hook: &Hook, asked: &Asked<'_>, object: Option<&Value>) -> Result<Option<review::Answer>, ApiError> {
    if asked.dry_run && !hook.dry_run {
        return Err(ApiError::bad_request(format!(
            "admission webhook {:?} does not support dry run",
            hook.name
        )));
    }
    let uid = new_uid();
    let question = review::question(asked, object, &uid);
    let question = Question {
        endpoint: &hook.endpoint,
        timeout: hook.timeout,
        authorities: &hook.authorities,
        body: &question,
        answer_bytes: call::ANSWER_BYTES,
    };
    let answered = match tokio::time::timeout(hook.timeout, call::post(asked.core, &question)).await {
        Ok(Ok(bytes)) => review::parse(&bytes, &uid).map_err(|why| why.to_string()),
        Ok(Err(error)) => Err(format!("failed to call webhook: {error}")),
        Err(_) => Err(format!(
            "failed to call webhook: Post {:?}: context deadline exceeded",
            hook.endpoint.url(hook.timeout)
        )),
    };
    match answered {
        Ok(answer) => match answer.denial(&hook.name) {
            Some(denial) => Err(denial),
            None => Ok(Some(answer)),
        },
        Err(why) if hook.ignore_failure => {
            tracing::warn!(webhook = hook.name, %why, "a failing webhook is ignored");
            Ok(None)
        }
        Err(why) => Err(ApiError::internal(format!(
            "failed calling webhook {:?}: {why}",
            hook.name
        ))),
    }
}
