//! A rule of an HTTPRoute, made ready for requests. Pure.

use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;
use http::{HeaderValue, Method, StatusCode};

use super::filters::{Filters, HeaderChanges, Mirror, PathChange, Redirect, Rewrite, Step};
use super::objects::{BackendRef, Filter, HeaderModifier, Match, Named, PathModifier, RequestMirror, Rule, Timeouts};
use super::table::{self, Backend, Condition, Path};
use super::turns::Turns;
use crate::ingress::Target;

/// A rule with all its matches.
#[derive(Debug)]
pub struct Compiled {
    /// What is done.
    pub rule: Arc<table::Rule>,
    /// For which requests, one match each.
    pub conditions: Vec<Condition>,
}

/// Compiles a rule; `target` finds the service of a reference, or says elsewhere why there is none.
///
/// # Errors
/// What of the rule cannot be done here, or has a value that it cannot have.
pub fn rule(rule: &Rule, mut target: impl FnMut(&BackendRef) -> Option<Arc<Target>>) -> Result<Compiled, String> {
    if rule.session_persistence.is_some() {
        return Err("sessions are not supported".to_owned());
    }
    let mut conditions = rule.matches.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    if conditions.is_empty() {
        conditions.push(Condition::default());
    }
    let backend = |backend: &BackendRef| -> Result<Backend, String> {
        Ok(Backend {
            weight: backend.weight.unwrap_or(1),
            target: target(backend),
            filters: Arc::new(filters(&backend.filters, &mut target)?),
        })
    };
    let backends = rule.backend_refs.iter().map(backend).collect::<Result<_, String>>()?;
    let timeout = rule.timeouts.as_ref().map(timeout).transpose()?.flatten();
    let rule = table::Rule {
        filters: filters(&rule.filters, &mut target)?,
        backends,
        timeout,
        ..table::Rule::default()
    };
    Ok(Compiled {
        rule: Arc::new(rule),
        conditions,
    })
}

fn condition(wanted: &Match) -> Result<Condition, String> {
    let path = match &wanted.path {
        None => Path::default(),
        Some(path) => {
            let value = path.value.as_deref().unwrap_or("/");
            match path.kind.as_deref() {
                Some("Exact") => Path::Exact(value.to_owned()),
                None | Some("PathPrefix") => Path::Prefix(value.trim_end_matches('/').into()),
                Some(other) => {
                    return Err(format!(
                        "a path match of type {other:?} is not supported: use Exact or PathPrefix"
                    ));
                }
            }
        }
    };
    let exact = |what: &str, named: &Named| match named.kind.as_deref() {
        None | Some("Exact") => Ok(()),
        Some(other) => Err(format!("a {what} match of type {other:?} is not supported: use Exact")),
    };
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for named in &wanted.headers {
        exact("header", named)?;
        let (name, value) = header(named)?;
        // Of two conditions on one header the first counts.
        if !headers.iter().any(|(before, _)| *before == name) {
            headers.push((name, value));
        }
    }
    let mut query: Vec<(String, String)> = Vec::new();
    for named in &wanted.query_params {
        exact("query parameter", named)?;
        if !query.iter().any(|(before, _)| *before == named.name) {
            query.push((named.name.clone(), named.value.clone().unwrap_or_default()));
        }
    }
    let method = wanted
        .method
        .as_ref()
        .map(|method| Method::from_bytes(method.as_bytes()));
    Ok(Condition {
        path,
        method: method.transpose().map_err(|_| "a method is none of HTTP".to_owned())?,
        headers,
        query,
    })
}

fn header(named: &Named) -> Result<(HeaderName, HeaderValue), String> {
    let value = named.value.as_deref().unwrap_or_default();
    let value = HeaderValue::from_str(value).map_err(|_| format!("{value:?} is no value of a header"))?;
    Ok((header_name(&named.name)?, value))
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no name of a header"))
}

fn filters(filters: &[Filter], target: &mut impl FnMut(&BackendRef) -> Option<Arc<Target>>) -> Result<Filters, String> {
    let mut all = Filters::default();
    for filter in filters {
        let lacks = || format!("a filter of type {:?} lacks its part", filter.kind);
        match filter.kind.as_str() {
            "RequestHeaderModifier" => {
                let told = filter.request_header_modifier.as_ref().ok_or_else(lacks)?;
                all.request.push(Step::Headers(changes(told)?));
            }
            "ResponseHeaderModifier" => {
                all.response = changes(filter.response_header_modifier.as_ref().ok_or_else(lacks)?)?;
            }
            "RequestRedirect" => {
                let told = filter.request_redirect.as_ref().ok_or_else(lacks)?;
                let status = StatusCode::from_u16(told.status_code.unwrap_or(302));
                all.redirect = Some(Redirect {
                    status: status.map_err(|_| "a redirect has a status that is none".to_owned())?,
                    scheme: told.scheme.clone(),
                    hostname: told.hostname.clone(),
                    port: told.port,
                    path: told.path.as_ref().map(path_change).transpose()?,
                });
            }
            "URLRewrite" => {
                let told = filter.url_rewrite.as_ref().ok_or_else(lacks)?;
                let hostname = told.hostname.as_deref().map(HeaderValue::from_str).transpose();
                all.request.push(Step::Rewrite(Rewrite {
                    hostname: hostname.map_err(|_| "a rewrite has a hostname that is none".to_owned())?,
                    path: told.path.as_ref().map(path_change).transpose()?,
                }));
            }
            "RequestMirror" => {
                let told = filter.request_mirror.as_ref().ok_or_else(lacks)?;
                let (share, of) = share(told)?;
                // One that cannot be found is told of elsewhere, and does not hinder the rest.
                all.request.extend(target(&told.backend_ref).map(|target| {
                    Step::Mirror(Mirror {
                        target,
                        share,
                        of,
                        turns: Turns::default(),
                    })
                }));
            }
            other => return Err(format!("a filter of type {other:?} is not supported")),
        }
    }
    Ok(all)
}

/// Of how many requests a mirror gets copies, in parts of what.
fn share(mirror: &RequestMirror) -> Result<(u32, u32), String> {
    let (share, of) = match (mirror.percent, &mirror.fraction) {
        (None, None) => (1, 1),
        (Some(percent), None) => (percent, 100),
        (None, Some(fraction)) => (fraction.numerator, fraction.denominator.unwrap_or(100)),
        (Some(_), Some(_)) => return Err("a mirror has both a percent and a fraction".to_owned()),
    };
    let usable = of > 0 && share <= of;
    usable
        .then_some((share, of))
        .ok_or_else(|| format!("a mirror cannot have {share} of {of} requests"))
}

fn changes(modifier: &HeaderModifier) -> Result<HeaderChanges, String> {
    Ok(HeaderChanges {
        set: modifier.set.iter().map(header).collect::<Result<_, _>>()?,
        add: modifier.add.iter().map(header).collect::<Result<_, _>>()?,
        remove: modifier
            .remove
            .iter()
            .map(|name| header_name(name))
            .collect::<Result<_, _>>()?,
    })
}

fn path_change(change: &PathModifier) -> Result<PathChange, String> {
    let (text, path) = match (
        change.kind.as_str(),
        &change.replace_full_path,
        &change.replace_prefix_match,
    ) {
        ("ReplaceFullPath", Some(path), _) => (path, PathChange::Whole(path.clone())),
        ("ReplacePrefixMatch", _, Some(path)) => (path, PathChange::Prefix(path.clone())),
        (kind, ..) => {
            return Err(format!(
                "a path modifier of type {kind:?} is not supported, or lacks its path"
            ));
        }
    };
    let usable = text.is_empty() || http::uri::PathAndQuery::try_from(text.as_str()).is_ok() && text.starts_with('/');
    usable.then_some(path).ok_or_else(|| format!("{text:?} is no path"))
}

/// The shorter of both, as one request is usually one attempt; zero means none.
fn timeout(timeouts: &Timeouts) -> Result<Option<Duration>, String> {
    let told = [&timeouts.request, &timeouts.backend_request];
    let told = told.into_iter().flatten().map(|text| duration(text));
    let told = told.collect::<Result<Vec<Duration>, String>>()?;
    Ok(told.into_iter().filter(|time| !time.is_zero()).min())
}

/// A duration as the Gateway API writes it: numbers with `h`, `m`, `s` or `ms`, such as `1h30m`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 500ms, 10s or 1h30m");
    let mut rest = text;
    let mut all = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = rest.split_at(digits);
        // More than the five digits that the specification allows would only be more than a day.
        let number: u32 = number
            .parse()
            .ok()
            .filter(|number| *number <= 99_999)
            .ok_or_else(wrong)?;
        let (one, length) = match unit {
            _ if unit.starts_with("ms") => (Duration::from_millis(1), 2),
            _ if unit.starts_with('s') => (Duration::from_secs(1), 1),
            _ if unit.starts_with('m') => (Duration::from_secs(60), 1),
            _ if unit.starts_with('h') => (Duration::from_secs(3600), 1),
            _ => return Err(wrong()),
        };
        all = all.saturating_add(one.saturating_mul(number));
        rest = unit.get(length..).unwrap_or_default();
    }
    if text.is_empty() { Err(wrong()) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn compiled(rule: serde_json::Value) -> Result<Compiled, String> {
        super::rule(&serde_json::from_value(rule).unwrap(), |_| None)
    }

    #[test]
    fn durations_are_those_of_the_gateway_api() {
        for (text, millis) in [
            ("0s", 0),
            ("500ms", 500),
            ("10s", 10_000),
            ("1h30m", 5_400_000),
            ("1m1s1ms", 61_001),
        ] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for text in ["", "10", "s", "1.5s", "-1s", "1d", "123456s", "1s "] {
            duration(text).unwrap_err();
        }
        let rule = compiled(json!({"timeouts": {"request": "10s", "backendRequest": "2s"}})).unwrap();
        assert_eq!(rule.rule.timeout, Some(Duration::from_secs(2)));
        let rule = compiled(json!({"timeouts": {"request": "0s"}})).unwrap();
        assert_eq!(rule.rule.timeout, None);
    }

    #[test]
    fn what_is_not_done_here_is_said() {
        let mirror = |mirror| json!({"filters": [{"type": "RequestMirror", "requestMirror": mirror}]});
        for (rule, says) in [
            (
                json!({"matches": [{"path": {"type": "RegularExpression", "value": "a.*"}}]}),
                "use Exact or PathPrefix",
            ),
            (
                json!({"matches": [{"headers": [{"type": "RegularExpression", "name": "a", "value": "b"}]}]}),
                "header match",
            ),
            (
                json!({"filters": [{"type": "ExtensionRef"}]}),
                "\"ExtensionRef\" is not supported",
            ),
            (json!({"filters": [{"type": "URLRewrite"}]}), "lacks its part"),
            (json!({"filters": [{"type": "RequestMirror"}]}), "lacks its part"),
            (
                mirror(json!({"percent": 5, "fraction": {"numerator": 5}})),
                "both a percent and a fraction",
            ),
            (mirror(json!({"percent": 101})), "101 of 100"),
            (
                mirror(json!({"fraction": {"numerator": 3, "denominator": 2}})),
                "3 of 2",
            ),
            (
                mirror(json!({"fraction": {"numerator": 0, "denominator": 0}})),
                "0 of 0",
            ),
            (
                json!({"backendRefs": [{"name": "a", "filters": [{"type": "RequestMirror"}]}]}),
                "lacks its part",
            ),
            (json!({"sessionPersistence": {"type": "Cookie"}}), "sessions"),
            (json!({"timeouts": {"request": "soon"}}), "no duration"),
            (
                json!({"filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["a b"]}}]}),
                "no name of a header",
            ),
            (
                json!({"filters": [{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "no slash"}}}]}),
                "no path",
            ),
        ] {
            let error = compiled(rule).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
