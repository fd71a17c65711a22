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

use std::sync::Arc;

use coracle_api::apply::Rules;
use coracle_api::status::ApiError;
use coracle_api::{kinds::Kind, patch};
use coracle_store::Snapshot;
use futures::future::join_all;
use serde_json::Value;

use crate::core::{Core, new_uid};
use crate::identity::Identity;
use crate::matching;
use crate::policy::Scene;
use crate::registry::hooks::Warnings;
use crate::registry::ownership;
use crate::sight::Sight;
use call::Question;
pub(crate) use config::{GROUP, PREFIXES, Webhooks};
use config::{Hook, Hooks};
pub(crate) use review::Operation;

/// A write that webhooks may be asked about.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) core: &'a Core,
    pub(crate) identity: &'a Identity,
    /// The kind in whose form the objects are.
    pub(crate) kind: &'a Arc<Kind>,
    /// The kind that the request is about: the same, or another version of it.
    pub(crate) shown: &'a Arc<Kind>,
    /// The kind in the version that the rule names by which this is asked.
    pub(crate) seen: &'a Arc<Kind>,
    /// The part of the object that is written; empty for the whole.
    /// Takes what is to be known of the request.
    pub(crate) said: &'a Warnings,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: &'a str,
    pub(crate) operation: Operation,
    pub(crate) dry_run: bool,
    /// What is there. `None` when a new object is made.
    pub(crate) old: Option<&'a Value>,
}

impl Asked<'_> {
    /// How the fields of what is seen are merged.
    pub(crate) fn rules(&self) -> Rules<'_> {
        let part = self.kind.subresource(self.subresource);
        match part.and_then(|part| part.body.as_ref()) {
            Some(body) => Rules::of_type(body.go_type),
            None => ownership::rules(self.seen),
        }
    }
}

/// A round of questions to the mutating webhooks.
#[derive(Default)]
pub(crate) struct Round {
    hooks: Arc<Hooks>,
    /// What each webhook that may be asked again has last seen, by its place.
    seen: Vec<(usize, Value)>,
    pub(crate) warnings: Vec<String>,
}

/// Lets the mutating webhooks change an object, one after the other. Each change goes through `settle`, which is given the
/// object before it too and brings it back into its form.
///
/// # Errors
/// When a webhook refuses, or fails and that must not be ignored.
pub(crate) async fn mutate(
    asked: &Asked<'_>,
    object: &mut Value,
    settle: impl Fn(&Value, &mut Value) -> Result<(), ApiError>,
) -> Result<Round, ApiError> {
    let mut round = Round {
        hooks: asked.core.webhooks.current(),
        ..Round::default()
    };
    if round.hooks.mutating.is_empty() || matching::is_exempt(asked.kind) {
        return Ok(round);
    }
    let snapshot = asked.core.store.snapshot();
    let hooks = round.hooks.clone();
    for (place, hook) in hooks.mutating.iter().enumerate() {
        let Some(sight) = sight(hook, asked, &snapshot, Some(object)).await? else {
            continue;
        };
        change(hook, &sight, asked, object, &settle, &mut round.warnings).await?;
        if hook.again {
            round.seen.push((place, object.clone()));
        }
    }
    Ok(round)
}

/// Asks those webhooks of a round once more that want to see what came after them, and answers with their warnings.
///
/// # Errors
/// As for [`mutate`].
pub(crate) async fn mutate_again(
    asked: &Asked<'_>,
    object: &mut Value,
    settle: impl Fn(&Value, &mut Value) -> Result<(), ApiError>,
    round: Round,
) -> Result<Vec<String>, ApiError> {
    let mut warnings = Vec::new();
    for (place, before) in round.seen {
        let Some(hook) = round.hooks.mutating.get(place).filter(|_| before != *object) else {
            continue;
        };
        let snapshot = asked.core.store.snapshot();
        if let Some(sight) = sight(hook, asked, &snapshot, Some(object)).await? {
            change(hook, &sight, asked, object, &settle, &mut warnings).await?;
        }
    }
    Ok(warnings)
}

async fn change(
    hook: &Hook,
    sight: &Sight,
    asked: &Asked<'_>,
    object: &mut Value,
    settle: &impl Fn(&Value, &mut Value) -> Result<(), ApiError>,
    warnings: &mut Vec<String>,
) -> Result<(), ApiError> {
    let Some(answer) = ask(hook, &sight.asked(asked), sight.object(Some(object))).await? else {
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
    let seen = sight.object(Some(object)).unwrap_or(&Value::Null);
    let patched = patch::json(seen, &operations).map_err(|error| failed(&error))?;
    let mut patched = sight.home(asked, patched).await?;
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
        let Some(sight) = sight(hook, asked, &snapshot, object).await? else {
            continue;
        };
        let answer = ask(hook, &sight.asked(asked), sight.object(object)).await?;
        warnings.extend(answer.into_iter().flat_map(|answer| answer.warnings));
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
        if let Some(sight) = sight(hook, asked, &snapshot, object).await? {
            concerned.push((hook, sight));
        }
    }
    let questions = concerned
        .iter()
        .map(|(hook, sight)| async move { ask(hook, &sight.asked(asked), sight.object(object)).await });
    let answers = join_all(questions).await;
    let mut warnings = Vec::new();
    for answer in answers {
        warnings.extend(answer?.into_iter().flat_map(|answer| answer.warnings));
    }
    Ok(warnings)
}

/// What a webhook is to be shown of a write, if it is to be asked.
async fn sight(
    hook: &Hook,
    asked: &Asked<'_>,
    snapshot: &Snapshot,
    object: Option<&Value>,
) -> Result<Option<Sight>, ApiError> {
    let Some(kind) = hook.constraints.matches(asked, snapshot, object) else {
        return Ok(None);
    };
    let sight = Sight::of(asked, kind, object).await?;
    if hook.conditions.is_empty() {
        return Ok(Some(sight));
    }
    let held = Scene::new(&sight.asked(asked), snapshot).holds(&hook.conditions, sight.object(object), None);
    match held {
        Ok(true) => Ok(Some(sight)),
        Ok(false) => Ok(None),
        Err(_) if hook.ignore_failure => Ok(None),
        Err(words) => Err(ApiError::forbidden(&asked.kind.group_resource(), asked.name, &words)),
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
        Ok(mut answer) => {
            for (key, text) in answer.annotations.drain(..) {
                asked.said.annotate(format!("{}/{key}", hook.name), text);
            }
            match answer.denial(&hook.name) {
                Some(denial) => Err(denial),
                None => Ok(Some(answer)),
            }
        }
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
