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
    Table::new([(PORT, listener)])
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
        Decision::Forward(target, _) => target.service.clone(),
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
