//! The kinds of the Gateway API as custom kinds, with schemas in our words.
//!
//! They are made where a cluster has none of that name: who installs the published definitions has those. They hold what is
//! served here and nothing else, so that a field that would do nothing is told of by the server; those that another version of
//! Coracle made are therefore replaced at the start.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::objects::GROUP;

/// The annotation without which the API server takes no kind of this group, and what it says of those that are made here.
const APPROVAL: (&str, &str) = (
    "api-approved.kubernetes.io",
    "unapproved, Coracle's own schema of a kind of the Gateway API",
);

/// The versions in which a kind is served, the stored one first.
struct Kind {
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    namespaced: bool,
    versions: &'static [&'static str],
    spec: Value,
    status: Option<Value>,
    columns: Value,
}

/// All definitions.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    [class(), gateway(), route(), grant()]
        .into_iter()
        .filter_map(|kind| serde_json::from_value(definition(kind)).ok())
        .collect()
}

/// The definition that is there with what it says here, if it was made here.
pub fn renewed(there: CustomResourceDefinition, wanted: &CustomResourceDefinition) -> Option<CustomResourceDefinition> {
    let own = there
        .annotations()
        .get(APPROVAL.0)
        .is_some_and(|says| says == APPROVAL.1);
    own.then(|| CustomResourceDefinition {
        spec: wanted.spec.clone(),
        ..there
    })
}

fn definition(kind: Kind) -> Value {
    let mut properties = json!({
        "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}, "spec": kind.spec,
    });
    let subresources = match kind.status {
        Some(status) => {
            properties = with(properties, "status", status);
            json!({"status": {}})
        }
        None => json!({}),
    };
    let schema = json!({"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": properties}});
    let version = |(at, name): (usize, &&str)| {
        json!({
            "name": name, "served": true, "storage": at == 0, "schema": schema, "subresources": subresources,
            "additionalPrinterColumns": kind.columns,
        })
    };
    let versions: Vec<Value> = kind.versions.iter().enumerate().map(version).collect();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{GROUP}", kind.plural),
            "annotations": {APPROVAL.0: APPROVAL.1},
        },
        "spec": {
            "group": GROUP, "scope": if kind.namespaced { "Namespaced" } else { "Cluster" }, "versions": versions,
            "names": {
                "kind": kind.kind, "listKind": format!("{}List", kind.kind), "plural": kind.plural,
                "singular": kind.kind.to_lowercase(), "shortNames": kind.short, "categories": ["gateway-api"],
            },
        },
    })
}

fn text(most: u32) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": most})
}

fn one_of(values: &[&str]) -> Value {
    json!({"type": "string", "enum": values})
}

/// An object with one member more.
fn with(mut object: Value, name: &str, member: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), member);
    }
    object
}

fn with_default(schema: Value, default: Value) -> Value {
    with(schema, "default", default)
}

fn described(schema: Value, description: &str) -> Value {
    with(schema, "description", json!(description))
}

fn object(required: &[&str], properties: Value) -> Value {
    match required.is_empty() {
        true => json!({"type": "object", "properties": properties}),
        false => json!({"type": "object", "required": required, "properties": properties}),
    }
}

fn list(items: Value, most: u32) -> Value {
    json!({"type": "array", "maxItems": most, "items": items, "x-kubernetes-list-type": "atomic"})
}

fn map_by(key: &str, items: Value, most: u32) -> Value {
    json!({"type": "array", "maxItems": most, "items": items, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]})
}

fn port() -> Value {
    json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535})
}

fn hostname() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 253,
        "pattern": r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"})
}

fn conditions() -> Value {
    let condition = object(
        &["type", "status", "reason", "message", "lastTransitionTime"],
        json!({
            "type": text(316), "status": one_of(&["True", "False", "Unknown"]), "reason": text(1024),
            "message": {"type": "string", "maxLength": 32768}, "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
            "lastTransitionTime": {"type": "string", "format": "date-time"},
        }),
    );
    map_by("type", condition, 8)
}

fn column(name: &str, kind: &str, path: &str) -> Value {
    json!({"name": name, "type": kind, "jsonPath": path})
}

fn age() -> Value {
    column("Age", "date", ".metadata.creationTimestamp")
}

fn class() -> Kind {
    let immutable = json!([{"rule": "self == oldSelf", "message": "the controller of a class cannot be changed"}]);
    let controller = described(
        text(253),
        "Which controller serves gateways of this class: coracle.dev/gateway is this cluster's own.",
    );
    let controller = with(controller, "x-kubernetes-validations", immutable);
    let reference = object(
        &["group", "kind", "name"],
        json!({"group": {"type": "string", "maxLength": 253}, "kind": text(63), "name": text(253), "namespace": text(63)}),
    );
    Kind {
        kind: "GatewayClass",
        plural: "gatewayclasses",
        short: &["gc"],
        namespaced: false,
        versions: &["v1", "v1beta1"],
        spec: object(
            &["controllerName"],
            json!({"controllerName": controller, "description": {"type": "string", "maxLength": 64}, "parametersRef": reference}),
        ),
        status: Some(object(&[], json!({"conditions": conditions()}))),
        columns: json!([
            column("Controller", "string", ".spec.controllerName"),
            column(
                "Accepted",
                "string",
                ".status.conditions[?(@.type==\"Accepted\")].status"
            ),
            age(),
        ]),
    }
}

fn gateway() -> Kind {
    let kind = object(
        &["kind"],
        json!({"group": with_default(json!({"type": "string"}), json!(GROUP)), "kind": text(63)}),
    );
    let selector = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let from = with_default(one_of(&["All", "Selector", "Same", "None"]), json!("Same"));
    let allowed = object(
        &[],
        json!({
            "namespaces": with_default(object(&[], json!({"from": from, "selector": selector})), json!({"from": "Same"})),
            "kinds": list(kind.clone(), 8),
        }),
    );
    let secret = object(
        &["name"],
        json!({
            "group": with_default(json!({"type": "string"}), json!("")), "kind": with_default(text(63), json!("Secret")),
            "name": text(253), "namespace": text(63),
        }),
    );
    let tls = object(
        &[],
        json!({"mode": with_default(one_of(&["Terminate", "Passthrough"]), json!("Terminate")), "certificateRefs": list(secret, 64)}),
    );
    let listener = object(
        &["name", "port", "protocol"],
        json!({
            "name": text(253), "hostname": described(hostname(), "Only requests for this host; none means all."),
            "port": described(port(), "Where it listens, at the address that the status shows."),
            "protocol": described(text(255), "HTTP or HTTPS."), "tls": tls,
            "allowedRoutes": with_default(allowed, json!({"namespaces": {"from": "Same"}})),
        }),
    );
    let listeners = with(map_by("name", listener, 64), "minItems", json!(1));
    let address = object(&["value"], json!({"type": {"type": "string"}, "value": text(253)}));
    let listener_status = object(
        &["name", "attachedRoutes", "conditions"],
        json!({
            "name": text(253), "attachedRoutes": {"type": "integer", "format": "int32"}, "supportedKinds": list(kind, 8),
            "conditions": conditions(),
        }),
    );
    Kind {
        kind: "Gateway",
        plural: "gateways",
        short: &["gtw"],
        namespaced: true,
        versions: &["v1", "v1beta1"],
        spec: object(
            &["gatewayClassName", "listeners"],
            json!({"gatewayClassName": text(253), "listeners": listeners, "addresses": list(address.clone(), 16)}),
        ),
        status: Some(object(
            &[],
            json!({"addresses": list(address, 16), "conditions": conditions(), "listeners": map_by("name", listener_status, 64)}),
        )),
        columns: json!([
            column("Class", "string", ".spec.gatewayClassName"),
            column("Address", "string", ".status.addresses[*].value"),
            column(
                "Programmed",
                "string",
                ".status.conditions[?(@.type==\"Programmed\")].status"
            ),
            age(),
        ]),
    }
}

fn parent() -> Value {
    object(
        &["name"],
        json!({
            "group": with_default(json!({"type": "string"}), json!(GROUP)), "kind": with_default(text(63), json!("Gateway")),
            "namespace": text(63), "name": text(253), "sectionName": text(253), "port": port(),
        }),
    )
}

/// A value that is matched, of a header or a query parameter.
fn named_match() -> Value {
    let kind = with_default(one_of(&["Exact", "RegularExpression"]), json!("Exact"));
    map_by(
        "name",
        object(
            &["name", "value"],
            json!({"type": kind, "name": text(256), "value": text(4096)}),
        ),
        16,
    )
}

fn filter() -> Value {
    let header = || {
        map_by(
            "name",
            object(&["name", "value"], json!({"name": text(256), "value": text(4096)})),
            16,
        )
    };
    let modifier = || {
        object(
            &[],
            json!({"set": header(), "add": header(), "remove": list(json!({"type": "string"}), 16)}),
        )
    };
    let path = || {
        object(
            &["type"],
            json!({
                "type": one_of(&["ReplaceFullPath", "ReplacePrefixMatch"]), "replaceFullPath": {"type": "string", "maxLength": 1024},
                "replacePrefixMatch": {"type": "string", "maxLength": 1024},
            }),
        )
    };
    let status = json!({"type": "integer", "enum": [301, 302, 303, 307, 308], "default": 302});
    let redirect = object(
        &[],
        json!({"scheme": one_of(&["http", "https"]), "hostname": hostname(), "path": path(), "port": port(), "statusCode": status}),
    );
    let kinds = [
        "RequestHeaderModifier",
        "ResponseHeaderModifier",
        "RequestRedirect",
        "URLRewrite",
        "RequestMirror",
    ];
    object(
        &["type"],
        json!({
            "type": one_of(&kinds), "requestHeaderModifier": modifier(), "responseHeaderModifier": modifier(),
            "requestRedirect": redirect, "urlRewrite": object(&[], json!({"hostname": hostname(), "path": path()})),
            "requestMirror": mirror(),
        }),
    )
}

fn mirror() -> Value {
    let number = |least: u32| json!({"type": "integer", "format": "int32", "minimum": least});
    let ruled = |schema, rule: &str, message: &str| {
        with(
            schema,
            "x-kubernetes-validations",
            json!([{"rule": rule, "message": message}]),
        )
    };
    let fraction = object(
        &["numerator"],
        json!({"numerator": number(0), "denominator": with_default(number(1), json!(100))}),
    );
    let fraction = ruled(
        fraction,
        "self.numerator <= self.denominator",
        "numerator must not exceed denominator",
    );
    let all = object(
        &["backendRef"],
        json!({
            "backendRef": object(&["name"], service()), "fraction": fraction,
            "percent": {"type": "integer", "format": "int32", "minimum": 0, "maximum": 100},
        }),
    );
    ruled(
        all,
        "!(has(self.percent) && has(self.fraction))",
        "only one of percent and fraction may be given",
    )
}

/// The members of a reference to a service.
fn service() -> Value {
    json!({
        "group": with_default(json!({"type": "string"}), json!("")), "kind": with_default(text(63), json!("Service")),
        "namespace": text(63), "name": text(253), "port": port(),
    })
}

fn route() -> Kind {
    let path = object(
        &[],
        json!({
            "type": with_default(one_of(&["Exact", "PathPrefix", "RegularExpression"]), json!("PathPrefix")),
            "value": with_default(json!({"type": "string", "maxLength": 1024, "pattern": "^/"}), json!("/")),
        }),
    );
    let methods = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    let condition = object(
        &[],
        json!({
            "path": with_default(path, json!({"type": "PathPrefix", "value": "/"})), "headers": named_match(), "queryParams": named_match(),
            "method": one_of(&methods),
        }),
    );
    let weight = json!({"type": "integer", "format": "int32", "minimum": 0, "maximum": 1_000_000, "default": 1});
    let backend = with(service(), "filters", list(filter(), 16));
    let backend = object(&["name"], with(backend, "weight", weight));
    let duration = || json!({"type": "string", "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$"});
    let rule = object(
        &[],
        json!({
            "name": text(253), "matches": with_default(list(condition, 64), json!([{"path": {"type": "PathPrefix", "value": "/"}}])),
            "filters": list(filter(), 16), "backendRefs": list(backend, 16),
            "timeouts": object(&[], json!({"request": duration(), "backendRequest": duration()})),
        }),
    );
    let parent_status = object(
        &["parentRef", "controllerName"],
        json!({"parentRef": parent(), "controllerName": text(253), "conditions": conditions()}),
    );
    Kind {
        kind: "HTTPRoute",
        plural: "httproutes",
        short: &[],
        namespaced: true,
        versions: &["v1", "v1beta1"],
        spec: object(
            &[],
            json!({
                "parentRefs": list(parent(), 32), "hostnames": list(hostname(), 16),
                "rules": with_default(list(rule, 16), json!([{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}])),
            }),
        ),
        status: Some(object(&["parents"], json!({"parents": list(parent_status, 32)}))),
        columns: json!([column("Hostnames", "string", ".spec.hostnames"), age()]),
    }
}

fn grant() -> Kind {
    let group = || json!({"type": "string", "maxLength": 253});
    let from = json!({"group": group(), "kind": text(63), "namespace": text(63)});
    let to = json!({"group": group(), "kind": text(63), "name": text(253)});
    Kind {
        kind: "ReferenceGrant",
        plural: "referencegrants",
        short: &["refgrant"],
        namespaced: true,
        versions: &["v1beta1", "v1"],
        spec: object(
            &["from", "to"],
            json!({
                "from": list(object(&["group", "kind", "namespace"], from), 16),
                "to": list(object(&["group", "kind"], to), 16),
            }),
        ),
        status: None,
        columns: json!([age()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_here_is_renewed_and_nothing_else() {
        let all = definitions();
        assert_eq!(all.len(), 4, "each is a definition");
        for wanted in all {
            let mut there = wanted.clone();
            there.metadata.resource_version = Some("7".to_owned());
            there.spec.versions.clear();
            let renewed = renewed(there.clone(), &wanted).unwrap();
            assert_eq!((&renewed.spec, &renewed.metadata), (&wanted.spec, &there.metadata));
            there
                .annotations_mut()
                .insert(APPROVAL.0.to_owned(), "https://example.com".to_owned());
            assert!(super::renewed(there, &wanted).is_none());
        }
    }
}
