//! What addresses, networks, URLs and versions can be asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Result;
use crate::eval::EvalError;
use crate::network::{Cidr, Ip, Url, Version};
use crate::value::{Foreign, Key, Val};

pub(super) fn of_foreign<'a>(name: &str, value: &dyn Foreign) -> Option<Result<Val<'a>>> {
    let any = value.any();
    if let Some(ip) = any.downcast_ref::<Ip>() {
        return Some(Ok(match name {
            "family" => Val::Int(if ip.0.is_ipv4() { 4 } else { 6 }),
            "isUnspecified" => Val::Bool(ip.0.is_unspecified()),
            "isLoopback" => Val::Bool(ip.0.is_loopback()),
            "isLinkLocalMulticast" => Val::Bool(ip.is_link_local_multicast()),
            "isLinkLocalUnicast" => Val::Bool(ip.is_link_local_unicast()),
            "isGlobalUnicast" => Val::Bool(ip.is_global_unicast()),
            "string" => Val::text(ip.0.to_string()),
            _ => return None,
        }));
    }
    if let Some(cidr) = any.downcast_ref::<Cidr>() {
        return Some(Ok(match name {
            "ip" => Val::foreign(Ip(cidr.address)),
            "masked" => Val::foreign(cidr.masked()),
            "prefixLength" => Val::Int(i64::from(cidr.bits)),
            "string" => Val::text(format!("{}/{}", cidr.address, cidr.bits)),
            _ => return None,
        }));
    }
    if let Some(url) = any.downcast_ref::<Url>() {
        let text = |text: &str| Val::text(text.to_owned());
        return Some(Ok(match name {
            "getScheme" => text(&url.scheme),
            "getHost" => text(&url.host),
            "getHostname" => text(url.host_name()),
            "getPort" => text(url.port()),
            "getEscapedPath" => text(&url.escaped_path()),
            "getQuery" => {
                let mut map: BTreeMap<Key, Vec<Val<'a>>> = BTreeMap::new();
                for (key, value) in url.query_pairs() {
                    map.entry(Key::Text(key.into())).or_default().push(Val::text(value));
                }
                Val::Map(Arc::new(
                    map.into_iter()
                        .map(|(key, values)| (key, Val::List(values.into())))
                        .collect(),
                ))
            }
            _ => return None,
        }));
    }
    let version = any.downcast_ref::<Version>()?;
    let [major, minor, patch] = version.numbers;
    let number = |number: u64| Val::Int(i64::try_from(number).unwrap_or(i64::MAX));
    Some(Ok(match name {
        "major" => number(major),
        "minor" => number(minor),
        "patch" => number(patch),
        _ => return None,
    }))
}

pub(super) fn with_foreign<'a>(name: &str, value: &dyn Foreign, other: &Val<'a>) -> Option<Result<Val<'a>>> {
    let any = value.any();
    if let Some(cidr) = any.downcast_ref::<Cidr>() {
        let parsed = match other {
            Val::Foreign(other) => other
                .any()
                .downcast_ref::<Ip>()
                .map(|ip| Cidr::single(ip.0))
                .or_else(|| other.any().downcast_ref::<Cidr>().copied()),
            other if name == "containsIP" => Ip::parse(other.as_text()?).map(|ip| Cidr::single(ip.0)),
            other => Cidr::parse(other.as_text()?),
        };
        let inside = parsed
            .map(|parsed| Val::Bool(cidr.contains(parsed)))
            .ok_or_else(|| EvalError::Wrong("network address parse error during conversion from string".to_owned()));
        return matches!(name, "containsIP" | "containsCIDR").then_some(inside);
    }
    let version = any.downcast_ref::<Version>()?;
    let Val::Foreign(other) = other else { return None };
    let order = version.order(other.any().downcast_ref::<Version>()?);
    Some(Ok(match name {
        "isGreaterThan" => Val::Bool(order.is_gt()),
        "isLessThan" => Val::Bool(order.is_lt()),
        "compareTo" => Val::Int(order as i64),
        _ => return None,
    }))
}
