//! Rules of probes and of hooks: exactly one way to ask, within bounds.

use super::check::{NOT_NEGATIVE, one_of, port, port_or_name};
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;

/// Checks a probe. One that restarts the container (`once`) is believed at its first success.
pub(super) fn probe(probe: &Value, once: bool, path: Path<'_>, faults: &mut Vec<FieldError>) {
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], path, faults);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        if let Some(number) = object::integer(probe, field).filter(|number| *number < 0) {
            faults.push(FieldError::invalid(path.child(field), number, NOT_NEGATIVE));
        }
    }
    let successes = object::integer(probe, "successThreshold").unwrap_or(1);
    if once && successes > 1 {
        faults.push(FieldError::invalid(
            path.child("successThreshold"),
            successes,
            "must be 1",
        ));
    }
    if let Some(seconds) = object::integer(probe, "terminationGracePeriodSeconds").filter(|seconds| *seconds <= 0) {
        let here = path.child("terminationGracePeriodSeconds");
        faults.push(FieldError::invalid(here, seconds, "must be greater than 0"));
    }
}

/// Checks that one of the `known` handlers is given, and that one.
pub(super) fn handler(owner: &Value, known: &[&str], path: Path<'_>, faults: &mut Vec<FieldError>) {
    let mut given = known
        .iter()
        .filter_map(|field| Some((*field, object::get(owner, field)?)));
    let Some((field, first)) = given.next() else {
        faults.push(FieldError::required(path, "must specify a handler type"));
        return;
    };
    action(field, first, path.child(field), faults);
    for (field, _) in given {
        faults.push(FieldError::forbidden(
            path.child(field),
            "may not specify more than 1 handler type",
        ));
    }
}

fn action(kind: &str, action: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    match kind {
        "exec" if object::list(action, "command").is_empty() => {
            faults.push(FieldError::required(path.child("command"), ""));
        }
        "httpGet" => {
            if object::text(action, "path").is_empty() {
                faults.push(FieldError::required(path.child("path"), ""));
            }
            port_or_name(action.get("port"), path.child("port"), faults);
            one_of(
                object::text(action, "scheme"),
                &["HTTP", "HTTPS"],
                path.child("scheme"),
                faults,
            );
            headers(action, path.child("httpHeaders"), faults);
        }
        "tcpSocket" => port_or_name(action.get("port"), path.child("port"), faults),
        "grpc" => port(
            object::integer(action, "port").unwrap_or_default(),
            path.child("port"),
            faults,
        ),
        _ => {}
    }
}

fn headers(action: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    for (index, header) in object::list(action, "httpHeaders").iter().enumerate() {
        let name = object::name_of(header);
        let token = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if name.is_empty() || !name.bytes().all(token) {
            let words = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
            let here = path.index(index);
            faults.push(FieldError::invalid(here.child("name"), name, words));
        }
    }
}
