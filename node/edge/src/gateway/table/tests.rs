use std::collections::HashMap;

use http::HeaderMap;
use serde_json::{Value, json};

use super::super::compile;
use super::*;

const PORT: u16 = 80;
const CAME: Came = Came {
    from: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    port: PORT,
    secure: false,
};

fn target(name: &str) -> Arc<Target> {
    Arc::new(Target {
        namespace: "demo".into(),
        service: name.into(),
        port: crate::ingress::Port::Number(80),
    })
}

/// A table of one listener for all hosts: hosts with rules.
fn table(routes: &[(&str, Value)]) -> Table {
    table_at(PORT, routes)
}

/// The same for another port.
pub fn table_at(port: u16, routes: &[(&str, Value)]) -> Table {
    let mut entries = Vec::new();
    for (host, rule) in routes {
        let rule = serde_json::from_value(rule.clone()).unwrap();
        let compiled = compile::rule(&rule, |backend| {
            (backend.name != "absent").then(|| target(&backend.name))
        })
        .unwrap();
        entries.extend(compiled.conditions.iter().map(|condition| Entry {
            hostname: Hostname::new(Some(host)),
            condition: condition.clone(),
            rule: compiled.rule.clone(),
        }));
    }
    let listener = Listener {
        hostname: Hostname::Any,
        certificate: None,
        entries,
    };
    Table::new([(port, listener)])
}

fn to(name: &str, matched: Value) -> Value {
    json!({"matches": [matched], "backendRefs": [{"name": name, "port": 80}]})
}

/// What becomes of a request: the service with path and headers, or where the client is sent.
fn asked(table: &Table, host: &'static str, request: http::request::Builder) -> Option<(String, Parts)> {
    let request = request.header("host", host).body(()).unwrap();
    let found = table.find(PORT, host, &request)?;
    let (mut parts, ()) = request.into_parts();
    let said = match found.decide(&mut parts, &HeaderValue::from_static(host), CAME) {
        Decision::Forward(target, ..) => target.service.clone(),
        Decision::Redirect(status, location) => format!("{status} {}", location.to_str().unwrap()),
        Decision::Broken => "broken".to_owned(),
    };
    Some((said, parts))
}

fn get(table: &Table, host: &'static str, uri: &str) -> Option<String> {
    asked(table, host, Request::get(uri)).map(|(said, _)| said)
}

#[test]
fn the_more_exact_match_comes_first() {
    let path = |kind: &str, value: &str| json!({"path": {"type": kind, "value": value}});
    let table = table(&[
        ("", to("all", json!({}))),
        ("*.a.com", to("wild", json!({}))),
        ("x.a.com", to("host", path("PathPrefix", "/only"))),
        ("", to("short", path("PathPrefix", "/a"))),
        ("", to("long", path("PathPrefix", "/a/b/"))),
        ("", to("exact", path("Exact", "/a/b"))),
        ("", to("post", json!({"path": {"value": "/a"}, "method": "POST"}))),
        (
            "",
            to(
                "header",
                json!({"path": {"value": "/a"}, "headers": [{"name": "X-V", "value": "2"}]}),
            ),
        ),
        (
            "",
            to(
                "query",
                json!({"path": {"value": "/a"}, "queryParams": [{"name": "q", "value": "a b"}]}),
            ),
        ),
    ]);
    for (host, uri, service) in [
        ("b.com", "/", "all"),
        ("b.com:80", "/a", "short"),
        ("b.com", "/a/", "short"),
        ("b.com", "/ab", "all"),
        ("b.com", "/a/b", "exact"),
        ("b.com", "/a/b/c", "long"),
        ("b.com", "/a?q=a%20b", "query"),
        ("b.com", "/a?q=other&q=a+b", "short"),
        ("y.x.A.com", "/a", "wild"),
        ("x.a.com", "/only/this", "host"),
        ("x.a.com", "/", "wild"),
    ] {
        assert_eq!(get(&table, host, uri).as_deref(), Some(service), "{host}{uri}");
    }
    assert_eq!(asked(&table, "b.com", Request::post("/a")).unwrap().0, "post");
    assert_eq!(
        asked(&table, "b.com", Request::get("/a").header("x-v", "2")).unwrap().0,
        "header"
    );
    assert!(table.find(81, "b.com", &Request::get("/").body(()).unwrap()).is_none());
}

#[test]
fn shares_are_as_the_weights_say_and_spread() {
    let table = table(&[(
        "",
        json!({"backendRefs": [
        {"name": "most", "port": 80, "weight": 90}, {"name": "few", "port": 80, "weight": 10}, {"name": "none", "port": 80, "weight": 0}]}),
    )]);
    let mut counts: HashMap<String, u32> = HashMap::new();
    let mut longest = 0;
    let mut run = 0;
    for _ in 0..1000 {
        let service = get(&table, "h", "/").unwrap();
        run = if service == "most" { run + 1 } else { 0 };
        longest = longest.max(run);
        *counts.entry(service).or_default() += 1;
    }
    assert!((95..=105).contains(&counts["few"]), "{counts:?}");
    assert_eq!(counts["few"] + counts["most"], 1000);
    assert!(longest < 20, "{longest} in a row");
}

#[test]
fn a_backend_that_cannot_be_used_keeps_its_share() {
    let table = table(&[
        (
            "",
            json!({"backendRefs": [{"name": "there", "port": 80}, {"name": "absent", "port": 80}]}),
        ),
        ("empty.com", json!({})),
    ]);
    let broken = (0..100).filter(|_| get(&table, "h", "/").unwrap() == "broken").count();
    assert!((45..=55).contains(&broken), "{broken}");
    assert_eq!(get(&table, "empty.com", "/").unwrap(), "broken");
}

#[test]
fn clients_are_sent_elsewhere() {
    let redirect = |redirect: Value| {
        json!({"matches": [{"path": {"value": "/old"}}],
        "filters": [{"type": "RequestRedirect", "requestRedirect": redirect}]})
    };
    let table = table(&[
        ("a.com", redirect(json!({"scheme": "https", "statusCode": 301}))),
        (
            "b.com",
            redirect(
                json!({"hostname": "c.com", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"}}),
            ),
        ),
        (
            "d.com",
            redirect(json!({"port": 8080, "path": {"type": "ReplaceFullPath", "replaceFullPath": "/x"}})),
        ),
        (
            "e.com",
            redirect(json!({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}})),
        ),
    ]);
    for (host, uri, says) in [
        ("a.com", "/old?q=1", "301 Moved Permanently https://a.com/old?q=1"),
        ("b.com", "/old/er", "302 Found http://c.com/new/er"),
        ("d.com", "/old/er", "302 Found http://d.com:8080/x"),
        ("e.com", "/old", "302 Found http://e.com/"),
        ("e.com", "/old/er", "302 Found http://e.com/er"),
    ] {
        assert_eq!(get(&table, host, uri).as_deref(), Some(says), "{host}{uri}");
    }
}

#[test]
fn requests_are_changed_for_the_backend() {
    let table = table(&[(
        "",
        json!({
            "matches": [{"path": {"value": "/v1"}}],
            "filters": [
                {"type": "RequestHeaderModifier", "requestHeaderModifier": {
                    "set": [{"name": "X-Set", "value": "new"}], "add": [{"name": "x-add", "value": "two"}], "remove": ["x-gone"]}},
                {"type": "URLRewrite", "urlRewrite": {"hostname": "inner.test", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v2"}}},
            ],
            "backendRefs": [{"name": "web", "port": 80, "filters": [
                {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-backend", "value": "web"}]}}]}],
        }),
    )]);
    let request = Request::get("/v1/x?q=1")
        .header("x-set", "old")
        .header("x-add", "one")
        .header("x-gone", "1");
    let (service, parts) = asked(&table, "outer.test", request).unwrap();
    assert_eq!((service.as_str(), parts.uri.to_string().as_str()), ("web", "/v2/x?q=1"));
    let all = |headers: &HeaderMap, name: &str| -> Vec<String> {
        headers
            .get_all(name)
            .iter()
            .map(|value| value.to_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(all(&parts.headers, "x-set"), ["new"]);
    assert_eq!(all(&parts.headers, "x-add"), ["one", "two"]);
    assert_eq!(all(&parts.headers, "x-backend"), ["web"]);
    assert_eq!(all(&parts.headers, "host"), ["inner.test"]);
    assert!(all(&parts.headers, "x-gone").is_empty());
}

/// The mirrors that get copies of a request, with the path and a header as they see them.
fn mirrored(table: &Table, host: &'static str) -> (Option<String>, Vec<String>) {
    let request = Request::get("/v1/x?q=1").header("host", host).body(()).unwrap();
    let found = table.find(PORT, host, &request).unwrap();
    let (mut parts, ()) = request.into_parts();
    let Decision::Forward(target, _, copies) = found.decide(&mut parts, &HeaderValue::from_static(host), CAME) else {
        return (None, vec![]);
    };
    let copies = copies.iter().map(|copy| {
        let steps = copy.head.headers.get_all("x-step").iter();
        let steps: Vec<&str> = steps.map(|value| value.to_str().unwrap()).collect();
        format!("{} {} {}", copy.target.service, copy.head.uri, steps.join("+"))
    });
    (Some(target.service.clone()), copies.collect())
}

#[test]
fn a_mirror_gets_what_the_filters_before_it_have_made() {
    let adds = |value: &str| json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {"add": [{"name": "x-step", "value": value}]}});
    let mirror =
        |name: &str| json!({"type": "RequestMirror", "requestMirror": {"backendRef": {"name": name, "port": 80}}});
    let rewrite = json!({"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v2"}}});
    let rule = |filters: Value, backend: Value| {
        json!({
            "matches": [{"path": {"value": "/v1"}}], "filters": filters,
            "backendRefs": [{"name": "web", "port": 80, "filters": backend}],
        })
    };
    let sends = json!([mirror("first"), {"type": "RequestRedirect", "requestRedirect": {"hostname": "b.com"}}]);
    let table = table(&[
        (
            "order.com",
            rule(
                json!([
                    mirror("first"),
                    adds("rule"),
                    mirror("second"),
                    rewrite,
                    mirror("third")
                ]),
                json!([mirror("fourth"), adds("backend"), mirror("fifth")]),
            ),
        ),
        (
            "absent.com",
            rule(json!([mirror("absent"), mirror("first")]), json!([])),
        ),
        ("sends.com", rule(sends, json!([]))),
        ("none.com", rule(json!([adds("rule")]), json!([]))),
    ]);
    let (service, copies) = mirrored(&table, "order.com");
    assert_eq!(service.as_deref(), Some("web"));
    assert_eq!(
        copies,
        [
            "first /v1/x?q=1 ",
            "second /v1/x?q=1 rule",
            "third /v2/x?q=1 rule",
            "fourth /v2/x?q=1 rule",
            "fifth /v2/x?q=1 rule+backend",
        ]
    );
    let (service, copies) = mirrored(&table, "absent.com");
    assert_eq!(
        service.as_deref(),
        Some("web"),
        "a mirror that is not there changes nothing"
    );
    assert_eq!(copies, ["first /v1/x?q=1 "]);
    assert_eq!(mirrored(&table, "sends.com"), (None, vec![]), "no service gets it");
    assert!(mirrored(&table, "none.com").1.is_empty());
}

#[test]
fn mirrors_get_their_share_of_each_backends_requests() {
    for (share, of_each) in [
        (json!({}), 500..=500),
        (json!({"percent": 100}), 500..=500),
        (json!({"percent": 50}), 248..=252),
        (json!({"fraction": {"numerator": 1, "denominator": 3}}), 164..=169),
        (json!({"fraction": {"numerator": 5}}), 23..=27),
        (json!({"percent": 0}), 0..=0),
    ] {
        let mut mirror = share.clone();
        mirror["backendRef"] = json!({"name": "mirror", "port": 80});
        let table = table(&[(
            "",
            json!({
                "filters": [{"type": "RequestMirror", "requestMirror": mirror}],
                "backendRefs": [{"name": "one", "port": 80}, {"name": "other", "port": 80}],
            }),
        )]);
        let mut counts: HashMap<String, usize> = HashMap::new();
        for _ in 0..1000 {
            let (service, copies) = mirrored(&table, "h");
            *counts.entry(service.unwrap()).or_default() += copies.len();
        }
        for service in ["one", "other"] {
            assert!(of_each.contains(&counts[service]), "{share}: {counts:?}");
        }
    }
}
