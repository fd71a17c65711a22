//! What a delete means for an object: gone at once, or marked and waiting for its node or its finalizers.
//!
//! Pure: the object, the options and the time decide.

use coracle_api::kinds::{Kind, Propagation};
use coracle_api::status::ApiError;
use coracle_api::{object, time};
use serde_json::{Value, json};

use crate::query::Query;

/// The finalizer that has dependents let go of first.
pub(crate) const ORPHAN: &str = "orphan";
/// The finalizer that has dependents deleted first.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";

/// What a client says about a delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_seconds: Option<i64>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// Reads the options from a body (null when there is none) and the query, which is asked for what the body lacks.
    pub(crate) fn parse(body: &Value, query: &Query) -> Result<Self, ApiError> {
        let text = |path: &str| match object::text(body, path) {
            "" => None,
            text => Some(text.to_owned()),
        };
        let orphan = match object::get(body, "orphanDependents") {
            Some(value) => value.as_bool(),
            None => query.tristate("orphanDependents")?,
        };
        let propagation = match text("propagationPolicy").or_else(|| query.get("propagationPolicy").map(str::to_owned))
        {
            None => orphan.map(|orphan| {
                if orphan {
                    Propagation::Orphan
                } else {
                    Propagation::Background
                }
            }),
            Some(_) if orphan.is_some() => {
                return Err(ApiError::unprocessable(
                    "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: orphanDependents and deletionPropagation cannot be both set",
                ));
            }
            Some(policy) => Some(parse_policy(&policy)?),
        };
        let dry_run = match object::list(body, "dryRun") {
            [] => query.all("dryRun").any(|value| value == "All"),
            values if values.iter().all(|value| value == "All") => true,
            _ => {
                return Err(ApiError::bad_request(
                    "invalid value of dryRun: supported values: \"All\"",
                ));
            }
        };
        Ok(Self {
            grace_seconds: match object::integer(body, "gracePeriodSeconds") {
                Some(seconds) => Some(seconds),
                None => query.number("gracePeriodSeconds")?,
            },
            uid: text("preconditions.uid"),
            resource_version: text("preconditions.resourceVersion"),
            propagation,
            dry_run,
        })
    }
}

fn parse_policy(policy: &str) -> Result<Propagation, ApiError> {
    match policy {
        "Orphan" => Ok(Propagation::Orphan),
        "Background" => Ok(Propagation::Background),
        "Foreground" => Ok(Propagation::Foreground),
        other => Err(ApiError::unprocessable(format!(
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: {other:?}: supported values: \"Background\", \"Foreground\", \"Orphan\""
        ))),
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decision {
    /// Remove it now.
    Remove,
    /// Store this state; somebody finishes the deletion later.
    Mark(Value),
    /// It is on its way out already.
    Wait,
}

/// Decides what a delete does to an object.
pub(crate) fn decide(kind: &Kind, object: &Value, options: &DeleteOptions, now_micros: i64) -> Decision {
    let mut next = object.clone();
    if crate::served::defines(kind) {
        crate::keeper::hold(&mut next);
    }
    set_finalizers(kind, &mut next, options.propagation);
    let grace = grace_seconds(kind, object, options);
    let marked = object::deletion_timestamp(object).is_some();
    let before = object::deletion_grace_period_seconds(object);
    if grace > 0 {
        match (marked, before) {
            // A deletion that runs can only become shorter.
            (true, before) if grace >= before.unwrap_or_default() => {}
            (true, before) => {
                let end = object::deletion_timestamp(object)
                    .and_then(time::parse)
                    .unwrap_or(now_micros);
                let earlier = end - (before.unwrap_or_default() - grace) * time::SECOND;
                mark(kind, &mut next, earlier, grace);
            }
            (false, _) => mark(kind, &mut next, now_micros + grace * time::SECOND, grace),
        }
    } else if holds(kind, &next) {
        if !marked {
            mark(kind, &mut next, now_micros, 0);
        } else if before != Some(0) {
            object::set_deletion_grace_period_seconds(&mut next, 0);
        }
    } else {
        return Decision::Remove;
    }
    if next == *object {
        Decision::Wait
    } else {
        Decision::Mark(next)
    }
}

/// Whether a marked object has nothing left that it waits for.
pub(crate) fn is_finished(kind: &Kind, object: &Value) -> bool {
    let stopping = kind.graceful && object::deletion_grace_period_seconds(object).unwrap_or_default() > 0;
    object::deletion_timestamp(object).is_some() && !stopping && !holds(kind, object)
}

/// Whether a finalizer keeps the object.
fn holds(kind: &Kind, object: &Value) -> bool {
    let namespace = kind.group.is_empty() && kind.kind == "Namespace";
    object::finalizers(object).next().is_some() || (namespace && !object::list(object, "spec.finalizers").is_empty())
}

fn mark(kind: &Kind, object: &mut Value, at_micros: i64, grace_seconds: i64) {
    if object::deletion_timestamp(object).is_none() {
        if kind.has_generation {
            object::set_generation(object, object::generation(object) + 1);
        }
        if kind.group.is_empty() && kind.kind == "Namespace" {
            object::set(object, "status.phase", json!("Terminating"));
        }
    }
    object::set_deletion_timestamp(object, &time::format_seconds(at_micros));
    object::set_deletion_grace_period_seconds(object, grace_seconds);
}

/// How long the object's node may take to stop it, in seconds.
fn grace_seconds(kind: &Kind, object: &Value, options: &DeleteOptions) -> i64 {
    if !kind.graceful {
        return 0;
    }
    let unscheduled = object::text(object, "spec.nodeName").is_empty();
    let ended = matches!(object::text(object, "status.phase"), "Succeeded" | "Failed");
    if unscheduled || ended {
        return 0;
    }
    let own = object::integer(object, "spec.terminationGracePeriodSeconds");
    match options.grace_seconds.or(own).unwrap_or_default() {
        ..0 => 1,
        seconds => seconds,
    }
}

fn set_finalizers(kind: &Kind, object: &mut Value, propagation: Option<Propagation>) {
    let present: Vec<String> = object::finalizers(object).map(str::to_owned).collect();
    let has = |name: &str| present.iter().any(|finalizer| finalizer == name);
    let propagation = match propagation {
        Some(propagation) => propagation,
        None if has(ORPHAN) => Propagation::Orphan,
        None if has(FOREGROUND) => Propagation::Foreground,
        None => kind.propagation,
    };
    let wanted = match propagation {
        Propagation::Orphan => Some(ORPHAN),
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Background => None,
    };
    let mut finalizers: Vec<&str> = present
        .iter()
        .map(String::as_str)
        .filter(|finalizer| (*finalizer != ORPHAN && *finalizer != FOREGROUND) || Some(*finalizer) == wanted)
        .collect();
    if let Some(wanted) = wanted.filter(|wanted| !finalizers.contains(wanted)) {
        finalizers.push(wanted);
    }
    if finalizers != present {
        object::set_finalizers(object, &finalizers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::kinds;

    const NOW: i64 = 1_000_000 * time::SECOND;

    fn kind(group: &str, plural: &str) -> &'static Kind {
        kinds().find(group, "v1", plural).unwrap()
    }

    fn pod(extra: Value) -> Value {
        let mut pod =
            json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}});
        for (name, value) in extra.as_object().unwrap() {
            object::set(&mut pod, name, value.clone());
        }
        pod
    }

    fn options(grace: Option<i64>, propagation: Option<Propagation>) -> DeleteOptions {
        DeleteOptions {
            grace_seconds: grace,
            propagation,
            ..DeleteOptions::default()
        }
    }

    #[test]
    fn a_running_pod_gets_its_time() {
        let Decision::Mark(next) = decide(kind("", "pods"), &pod(json!({})), &options(None, None), NOW) else {
            panic!()
        };
        assert_eq!(object::deletion_grace_period_seconds(&next), Some(30));
        assert_eq!(
            object::deletion_timestamp(&next),
            Some(time::format_seconds(NOW + 30 * time::SECOND).as_str())
        );
        assert!(!is_finished(kind("", "pods"), &next));
        // Again with the same or a longer time: nothing.
        assert_eq!(
            decide(kind("", "pods"), &next, &options(Some(60), None), NOW),
            Decision::Wait
        );
        // Shorter: earlier.
        let Decision::Mark(sooner) = decide(kind("", "pods"), &next, &options(Some(5), None), NOW) else {
            panic!()
        };
        assert_eq!(
            object::deletion_timestamp(&sooner),
            Some(time::format_seconds(NOW + 5 * time::SECOND).as_str())
        );
        // Zero: gone.
        assert_eq!(
            decide(kind("", "pods"), &next, &options(Some(0), None), NOW),
            Decision::Remove
        );
    }

    #[test]
    fn pods_that_do_not_run_go_at_once() {
        for extra in [json!({"spec.nodeName": ""}), json!({"status.phase": "Failed"})] {
            assert_eq!(
                decide(kind("", "pods"), &pod(extra), &options(None, None), NOW),
                Decision::Remove
            );
        }
        let Decision::Mark(next) = decide(kind("", "pods"), &pod(json!({})), &options(Some(-1), None), NOW) else {
            panic!()
        };
        assert_eq!(object::deletion_grace_period_seconds(&next), Some(1));
    }

    #[test]
    fn propagation_leaves_finalizers() {
        let map = json!({"metadata": {"name": "a", "finalizers": ["x/y", "foregroundDeletion"]}});
        let kind = kind("", "configmaps");
        let finalizers = |propagation| match decide(kind, &map, &options(None, propagation), NOW) {
            Decision::Mark(next) => object::finalizers(&next).map(str::to_owned).collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        assert_eq!(finalizers(Some(Propagation::Orphan)), ["x/y", "orphan"]);
        assert_eq!(finalizers(Some(Propagation::Background)), ["x/y"]);
        assert_eq!(finalizers(None), ["x/y", "foregroundDeletion"]);
        let plain = json!({"metadata": {"name": "a"}});
        assert_eq!(decide(kind, &plain, &options(None, None), NOW), Decision::Remove);
    }

    #[test]
    fn the_last_finalizer_ends_it() {
        let kind = kind("", "configmaps");
        let mut map = json!({"metadata": {"name": "a", "finalizers": ["x/y"]}});
        let Decision::Mark(next) = decide(kind, &map, &options(None, None), NOW) else {
            panic!()
        };
        assert!(!is_finished(kind, &next));
        map = next;
        object::set_finalizers(&mut map, &[]);
        assert!(is_finished(kind, &map));
    }

    #[test]
    fn a_namespace_terminates_until_it_is_finalized() {
        let kind = kind("", "namespaces");
        let namespace =
            json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        let Decision::Mark(mut next) = decide(kind, &namespace, &options(None, None), NOW) else {
            panic!()
        };
        assert_eq!(next["status"]["phase"], "Terminating");
        assert!(!is_finished(kind, &next));
        next["spec"]["finalizers"] = json!([]);
        assert!(is_finished(kind, &next));
    }

    #[test]
    fn options_come_from_body_or_query() {
        let query = Query::parse(Some("gracePeriodSeconds=3&propagationPolicy=Foreground"));
        let parsed = DeleteOptions::parse(&Value::Null, &query).unwrap();
        assert_eq!(
            parsed,
            DeleteOptions {
                grace_seconds: Some(3),
                propagation: Some(Propagation::Foreground),
                ..DeleteOptions::default()
            }
        );
        let body = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "u"}, "orphanDependents": true});
        let parsed = DeleteOptions::parse(&body, &Query::default()).unwrap();
        assert_eq!(
            (parsed.grace_seconds, parsed.propagation),
            (Some(0), Some(Propagation::Orphan))
        );
        assert!(DeleteOptions::parse(&json!({"propagationPolicy": "Sideways"}), &Query::default()).is_err());
    }
}
