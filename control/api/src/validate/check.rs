//! The small checks that many rules share: one field, one rule, the words of Kubernetes.

use super::names;
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;
use std::net::IpAddr;

/// What is said of numbers below zero.
pub(super) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// A text field must be one of `supported`; an empty one is missing.
pub(super) fn one_of(value: &str, supported: &[&str], path: Path<'_>, faults: &mut Vec<FieldError>) {
    if value.is_empty() {
        faults.push(FieldError::required(path, ""));
    } else if !supported.contains(&value) {
        faults.push(FieldError::not_supported(path, value, supported));
    }
}

/// A text field, if set, must be one of `supported`.
pub(super) fn one_of_if_set(value: &str, supported: &[&str], path: Path<'_>, faults: &mut Vec<FieldError>) {
    if !value.is_empty() {
        one_of(value, supported, path, faults);
    }
}

/// A number field, if set, must not be below zero.
pub(super) fn not_negative(owner: &Value, field: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    if let Some(number) = object::integer(owner, field).filter(|number| *number < 0) {
        faults.push(FieldError::invalid(path.child(field), number, NOT_NEGATIVE));
    }
}

/// A number or a percentage, which must not be below zero; answers with the number in it.
pub(super) fn count_or_percent(value: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) -> Option<i64> {
    if let Some(text) = value.as_str() {
        let digits = text
            .strip_suffix('%')
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        let percent = digits.and_then(|digits| digits.parse().ok());
        if percent.is_none() {
            let words = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
            faults.push(FieldError::invalid(path, text, words));
        }
        return percent;
    }
    let count = value.as_i64()?;
    if count < 0 {
        faults.push(FieldError::invalid(path, count, NOT_NEGATIVE));
    }
    Some(count)
}

/// A share of a whole must not be more than all of it.
pub(super) fn at_most_all(value: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let percent = value
        .as_str()
        .and_then(|text| text.strip_suffix('%')?.parse::<i64>().ok());
    if percent.is_some_and(|percent| percent > 100) {
        faults.push(FieldError::invalid(
            path,
            value.clone(),
            "must not be greater than 100%",
        ));
    }
}

/// A label selector must be readable, its keys and values of their forms.
pub(super) fn label_selector(selector: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    super::metadata::labels(object::map(selector, "matchLabels"), path.child("matchLabels"), faults);
    let list = path.child("matchExpressions");
    for (index, expression) in object::list(selector, "matchExpressions").iter().enumerate() {
        let here = list.index(index);
        let values = object::list(expression, "values");
        match object::text(expression, "operator") {
            "In" | "NotIn" if values.is_empty() => faults.push(FieldError::required(
                here.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => faults.push(FieldError::forbidden(
                here.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => faults.push(FieldError::invalid(
                here.child("operator"),
                other,
                "not a valid selector operator",
            )),
        }
        let key = object::text(expression, "key");
        for fault in names::qualified_name(key) {
            faults.push(FieldError::invalid(here.child("key"), key, fault));
        }
        let at = here.child("values");
        for (index, value) in values.iter().filter_map(Value::as_str).enumerate() {
            for fault in names::label_value(value) {
                faults.push(FieldError::invalid(at.index(index), value, fault));
            }
        }
    }
}

/// A text must be set and have a form.
pub(super) fn named(text: &str, form: fn(&str) -> Vec<String>, path: Path<'_>, faults: &mut Vec<FieldError>) {
    if text.is_empty() {
        faults.push(FieldError::required(path, ""));
    } else {
        formed(text, form, path, faults);
    }
}

/// A text, if set, must have a form.
pub(super) fn formed(text: &str, form: fn(&str) -> Vec<String>, path: Path<'_>, faults: &mut Vec<FieldError>) {
    if !text.is_empty() {
        faults.extend(
            form(text)
                .into_iter()
                .map(|fault| FieldError::invalid(path, text, fault)),
        );
    }
}

/// A port number must be within range.
pub(super) fn port(number: i64, path: Path<'_>, faults: &mut Vec<FieldError>) {
    faults.extend(
        names::port_number(number)
            .into_iter()
            .map(|fault| FieldError::invalid(path, number, fault)),
    );
}

/// A port is a number within range or the name of one.
pub(super) fn port_or_name(value: Option<&Value>, path: Path<'_>, faults: &mut Vec<FieldError>) {
    match value {
        Some(Value::String(name)) => {
            let wrong = names::port_name(name).into_iter();
            faults.extend(wrong.map(|fault| FieldError::invalid(path, name.as_str(), fault)));
        }
        other => port(other.and_then(Value::as_i64).unwrap_or_default(), path, faults),
    }
}

/// A text must be an IP address.
pub(super) fn ip(text: &str, path: Path<'_>, faults: &mut Vec<FieldError>) -> Option<IpAddr> {
    let address = text.parse().ok();
    if address.is_none() {
        let words = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        faults.push(FieldError::invalid(path, text, words));
    }
    address
}

/// An address at which others are to reach something must not mean "here" or "nobody".
pub(super) fn reachable_ip(text: &str, path: Path<'_>, faults: &mut Vec<FieldError>) -> Option<IpAddr> {
    let address = ip(text, path, faults)?;
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let rules = [
        (address.is_unspecified(), format!("may not be unspecified ({text})")),
        (
            address.is_loopback(),
            "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned(),
        ),
        (
            link_local,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned(),
        ),
        (
            address.is_multicast(),
            "may not be in the multicast range (224.0.0.0/4, ff00::/8)".to_owned(),
        ),
    ];
    for (broken, words) in rules {
        if broken {
            faults.push(FieldError::invalid(path, text, words));
        }
    }
    Some(address)
}

/// Texts that must differ within a list; answers whether this one is new.
pub(super) fn unique<'a>(
    seen: &mut std::collections::HashSet<&'a str>,
    text: &'a str,
    path: Path<'_>,
    faults: &mut Vec<FieldError>,
) {
    if !text.is_empty() && !seen.insert(text) {
        faults.push(FieldError::duplicate(path, text));
    }
}

/// A path below a volume must stay below it.
pub(super) fn relative_path(text: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    if text.starts_with('/') {
        faults.push(FieldError::invalid(path, text, "must be a relative path"));
    }
    if text.split('/').any(|part| part == "..") {
        faults.push(FieldError::invalid(path, text, "must not contain '..'"));
    }
}
