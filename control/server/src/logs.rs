//! Logs of containers, streamed from the node that runs them.

use coracle_api::field_error::FieldError;
use coracle_api::object;
use coracle_api::status::ApiError;
use http::StatusCode;
use http::header::HeaderValue;
use serde_json::Value;

use crate::body::ResponseBody;
use crate::chain::Call;
use crate::dial::{ContainerTarget, LogOptions};
use crate::document;
use crate::query::Query;
use crate::registry::Scope;
use crate::respond::{self, Answer};

/// Answers `pods/NAME/log`.
pub(crate) async fn answer(call: &Call<'_>, scope: Scope<'_>, name: &str) -> Result<Answer, ApiError> {
    let pod = document::tree(&*scope.record(name).await?)?;
    let options = options(call.query)?;
    let container = choose(&pod, call.query.get("container"))?;
    let node = object::text(&pod, "spec.nodeName");
    if node.is_empty() {
        // Nothing runs and nothing ran: an empty log, as in Kubernetes.
        return Ok(respond::text(StatusCode::OK, ""));
    }
    check_started(&pod, &container, options.previous)?;
    let target = ContainerTarget {
        namespace: object::namespace(&pod).to_owned(),
        pod: name.to_owned(),
        uid: object::uid(&pod).to_owned(),
        container,
    };
    let lines = call.core.nodes.logs(node, &target, &options).await?;
    // A log that is followed would keep the server from shutting down.
    let lines = futures::StreamExt::take_until(lines, call.core.closing.clone().cancelled_owned());
    Ok(respond::typed(
        StatusCode::OK,
        HeaderValue::from_static("text/plain"),
        ResponseBody::stream(lines),
    ))
}

fn options(query: &Query) -> Result<LogOptions, ApiError> {
    let mut faults = Vec::new();
    let number = |name: &str| query.number::<i64>(name);
    let since_seconds = number("sinceSeconds")?;
    let since_micros = match query.get("sinceTime") {
        None => None,
        Some(text) => Some(
            coracle_api::time::parse(text)
                .ok_or_else(|| ApiError::bad_request(format!("invalid value {text:?} of query parameter sinceTime")))?,
        ),
    };
    let (tail, limit) = (number("tailLines")?, number("limitBytes")?);
    if since_seconds.is_some() && since_micros.is_some() {
        faults.push(FieldError::forbidden(
            "",
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ));
    }
    for (name, value, least) in [
        ("sinceSeconds", since_seconds, 1),
        ("tailLines", tail, 0),
        ("limitBytes", limit, 1),
    ] {
        if let Some(value) = value.filter(|value| *value < least) {
            faults.push(FieldError::invalid(
                name,
                value,
                format!("must be greater than or equal to {least}"),
            ));
        }
    }
    if let Some(stream) = query.get("stream").filter(|stream| *stream != "All") {
        faults.push(FieldError::not_supported("stream", stream, &["All"]));
    }
    if !faults.is_empty() {
        return Err(ApiError::invalid("PodLogOptions", "", "", faults));
    }
    Ok(LogOptions {
        follow: query.flag("follow")?,
        previous: query.flag("previous")?,
        since_seconds,
        since_micros,
        timestamps: query.flag("timestamps")?,
        tail_lines: tail.and_then(|tail| u64::try_from(tail).ok()),
        limit_bytes: limit.and_then(|limit| u64::try_from(limit).ok()),
    })
}

fn names<'a>(pod: &'a Value, path: &str) -> Vec<&'a str> {
    object::list(pod, path)
        .iter()
        .map(|container| object::text(container, "name"))
        .collect()
}

/// The container that is meant: the one that is named, or the only one.
pub(crate) fn choose(pod: &Value, wanted: Option<&str>) -> Result<String, ApiError> {
    let name = object::name(pod);
    let containers = names(pod, "spec.containers");
    let initial = names(pod, "spec.initContainers");
    let added = names(pod, "spec.ephemeralContainers");
    let all = [&containers, &initial, &added];
    match (wanted, containers.as_slice()) {
        (Some(wanted), _) if all.iter().any(|names| names.contains(&wanted)) => Ok(wanted.to_owned()),
        (Some(wanted), _) => Err(ApiError::bad_request(format!(
            "container {wanted} is not valid for pod {name}"
        ))),
        (None, [only]) => Ok((*only).to_owned()),
        (None, several) => {
            let mut message = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                several.join(" ")
            );
            if !initial.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", initial.join(" ")));
            }
            if !added.is_empty() {
                message.push_str(&format!(" or one of the ephemeral containers: [{}]", added.join(" ")));
            }
            Err(ApiError::bad_request(message))
        }
    }
}

/// 400 for a container that has not run yet.
fn check_started(pod: &Value, container: &str, previous: bool) -> Result<(), ApiError> {
    let name = object::name(pod);
    let statuses = [
        "status.containerStatuses",
        "status.initContainerStatuses",
        "status.ephemeralContainerStatuses",
    ];
    let status = statuses
        .iter()
        .flat_map(|path| object::list(pod, path))
        .find(|status| object::text(status, "name") == container);
    let waiting = |reason: &str| {
        Err(ApiError::bad_request(format!(
            "container {container:?} in pod {name:?} is waiting to start: {reason}"
        )))
    };
    let Some(status) = status else {
        return waiting("ContainerCreating");
    };
    if previous {
        return match object::get(status, "lastState.terminated") {
            Some(_) => Ok(()),
            None => Err(ApiError::bad_request(format!(
                "previous terminated container {container:?} in pod {name:?} not found"
            ))),
        };
    }
    let ran = object::get(status, "state.running").is_some()
        || object::get(status, "state.terminated").is_some()
        || object::get(status, "lastState.terminated").is_some();
    if ran {
        return Ok(());
    }
    match object::text(status, "state.waiting.reason") {
        "" => waiting("ContainerCreating"),
        "ErrImagePull" => waiting("image can't be pulled"),
        "ImagePullBackOff" => waiting("trying and failing to pull image"),
        reason => waiting(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_container_is_chosen() {
        let one = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}});
        assert_eq!(choose(&one, None).unwrap(), "a");
        let two = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(choose(&two, Some("i")).unwrap(), "i");
        let error = choose(&two, None).unwrap_err();
        assert_eq!(
            error.message,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
        assert_eq!(
            choose(&two, Some("x")).unwrap_err().message,
            "container x is not valid for pod p"
        );
    }

    #[test]
    fn a_container_that_waits_has_no_log() {
        let pod = |state: Value| json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [{"name": "a", "state": state}]}});
        let text = |pod: &Value| check_started(pod, "a", false).err().map(|error| error.message);
        assert_eq!(
            text(&pod(json!({"waiting": {"reason": "ContainerCreating"}}))).as_deref(),
            Some("container \"a\" in pod \"p\" is waiting to start: ContainerCreating")
        );
        assert_eq!(text(&pod(json!({"running": {}}))), None);
        assert!(check_started(&pod(json!({"running": {}})), "a", true).is_err());
    }

    #[test]
    fn options_are_checked() {
        let parse = |text| options(&Query::parse(Some(text)));
        let all = parse("follow=true&tailLines=5&sinceTime=2026-01-01T00:00:00Z&timestamps=true").unwrap();
        assert!(all.follow && all.timestamps);
        assert_eq!(all.tail_lines, Some(5));
        assert!(parse("tailLines=-1").is_err());
        assert!(parse("sinceSeconds=0").is_err());
        assert!(parse("sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z").is_err());
    }
}
