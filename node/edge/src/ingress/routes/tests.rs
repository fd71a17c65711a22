//! Tables of what the documentation of Ingress says, and the whole table against a search through a plain list.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn backend(service: &str) -> Value {
    json!({"service": {"name": service, "port": {"number": 80}}})
}

/// An ingress of the namespace `ns`; `second` is when it was made. Rules are (host, path type, path, service).
fn ingress(second: u8, rules: &[(&str, &str, &str, &str)], default: Option<&str>) -> Ingress {
    let rule = |(host, kind, path, service): &(&str, &str, &str, &str)| {
        let http = json!({"paths": [{"path": path, "pathType": kind, "backend": backend(service)}]});
        match *host {
            "" => json!({"http": http}),
            host => json!({"host": host, "http": http}),
        }
    };
    let value = json!({
        "metadata": {"name": format!("i{second}"), "namespace": "ns", "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")},
        "spec": {"rules": rules.iter().map(rule).collect::<Vec<_>>(), "defaultBackend": default.map(backend)},
    });
    serde_json::from_value(value).unwrap()
}

fn found<'t>(table: &'t Table, host: &str, path: &str) -> &'t str {
    table.find(host, path).map_or("", |target| target.service.as_str())
}

/// The examples of the documentation: path type, paths, request, whether the path matches, and which.
#[test]
fn paths_match_as_documented() {
    let table: &[(&str, &[&str], &str, &str)] = &[
        ("Prefix", &["/"], "/anything", "/"),
        ("Exact", &["/foo"], "/foo", "/foo"),
        ("Exact", &["/foo"], "/bar", ""),
        ("Exact", &["/foo"], "/foo/", ""),
        ("Exact", &["/foo/"], "/foo", ""),
        ("Exact", &["/foo"], "/FOO", ""),
        ("Prefix", &["/foo"], "/foo", "/foo"),
        ("Prefix", &["/foo"], "/foo/", "/foo"),
        ("Prefix", &["/foo/"], "/foo", "/foo/"),
        ("Prefix", &["/foo/"], "/foo/", "/foo/"),
        ("Prefix", &["/aaa/bb"], "/aaa/bbb", ""),
        ("Prefix", &["/aaa/bbb"], "/aaa/bbb", "/aaa/bbb"),
        ("Prefix", &["/aaa/bbb/"], "/aaa/bbb", "/aaa/bbb/"),
        ("Prefix", &["/aaa/bbb"], "/aaa/bbb/", "/aaa/bbb"),
        ("Prefix", &["/aaa/bbb"], "/aaa/bbb/ccc", "/aaa/bbb"),
        ("Prefix", &["/aaa/bbb"], "/aaa/bbbxyz", ""),
        ("Prefix", &["/", "/aaa"], "/aaa/ccc", "/aaa"),
        ("Prefix", &["/", "/aaa", "/aaa/bbb"], "/aaa/bbb", "/aaa/bbb"),
        ("Prefix", &["/", "/aaa", "/aaa/bbb"], "/ccc", "/"),
        ("Prefix", &["/aaa"], "/ccc", ""),
        ("ImplementationSpecific", &["/foo"], "/foo/bar", "/foo"),
    ];
    for (kind, paths, request, expected) in table {
        let rules: Vec<_> = paths.iter().map(|path| ("", *kind, *path, *path)).collect();
        let table = Table::new([&ingress(0, &rules, None)]);
        assert_eq!(found(&table, "any", request), *expected, "{kind} {paths:?} {request}");
    }
    let mixed = Table::new([&ingress(
        0,
        &[("", "Prefix", "/foo", "p"), ("", "Exact", "/foo", "e")],
        None,
    )]);
    assert_eq!(found(&mixed, "any", "/foo"), "e");
    assert_eq!(found(&mixed, "any", "/foo/bar"), "p");
}

#[test]
fn hosts_match_in_full_then_by_wildcard_then_any() {
    let rules = [
        ("bar.foo.com", "Prefix", "/", "full"),
        ("*.foo.com", "Prefix", "/", "wild"),
        ("deep.foo.com", "Prefix", "/deep", "deep"),
        ("", "Prefix", "/any", "any"),
    ];
    let table = Table::new([&ingress(0, &rules, None)]);
    for (host, path, expected) in [
        ("bar.foo.com", "/", "full"),
        ("BAR.foo.com:8080", "/", "full"),
        ("bar.foo.com.", "/", "full"),
        ("baz.foo.com", "/", "wild"),
        ("baz.bar.foo.com", "/", ""),
        ("foo.com", "/", ""),
        ("deep.foo.com", "/deep/er", "deep"),
        ("deep.foo.com", "/other", "wild"),
        ("other.org", "/any/thing", "any"),
        ("[::1]:80", "/any", "any"),
        ("", "/any", "any"),
        ("other.org", "/", ""),
    ] {
        assert_eq!(found(&table, host, path), expected, "{host} {path}");
    }
}

#[test]
fn the_oldest_is_heard_and_defaults_come_last() {
    let old = ingress(1, &[("a.com", "Prefix", "/", "old")], None);
    let young = ingress(
        2,
        &[("a.com", "Prefix", "/", "young"), ("a.com", "Exact", "/x", "x")],
        Some("second"),
    );
    let middle = ingress(1, &[("b.com", "Prefix", "/b", "b")], Some("first"));
    let table = Table::new([&young, &old, &middle]);
    assert_eq!(found(&table, "a.com", "/"), "old");
    assert_eq!(found(&table, "a.com", "/x"), "x");
    assert_eq!(found(&table, "b.com", "/b"), "b");
    assert_eq!(found(&table, "b.com", "/"), "first");
    assert_eq!(found(&table, "c.com", "/"), "first");
    assert_eq!(found(&Table::default(), "a.com", "/"), "");
}

#[test]
fn ports_have_numbers_or_names() {
    let of = |port: Value| {
        let backend: IngressBackend = serde_json::from_value(json!({"service": {"name": "s", "port": port}})).unwrap();
        target("ns", &backend).map(|target| target.port.clone())
    };
    assert_eq!(of(json!({"number": 80})), Some(Port::Number(80)));
    assert_eq!(of(json!({"name": "http"})), Some(Port::Name("http".into())));
    assert_eq!(of(json!({})), None);
}

type Rule = (&'static str, &'static str, &'static str, String);

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let host = prop_oneof![Just("a.x.com"), Just("b.x.com"), Just("*.x.com"), Just("")];
    let path = prop_oneof![Just("/"), Just("/p"), Just("/p/"), Just("/p/q"), Just("/pq")];
    let kind = prop_oneof![Just("Exact"), Just("Prefix")];
    proptest::collection::vec((host, kind, path), 0..12).prop_map(|rules| {
        let named = |(number, (host, kind, path)): (usize, (&'static str, &'static str, &'static str))| {
            (host, kind, path, format!("s{number}"))
        };
        rules.into_iter().enumerate().map(named).collect()
    })
}

/// The best of all rules: how well the host fits, then how well the path does, then who came first.
fn by_search(rules: &[Rule], host: &str, path: &str) -> String {
    let elements = |path: &str| {
        path.split('/')
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let fits = |rule: &&Rule| {
        let of_host = match rule.0 {
            "" => 1,
            full if full == host => 3,
            wild if wild
                .strip_prefix('*')
                .is_some_and(|rest| host.split_once('.').is_some_and(|(_, tail)| tail == &rest[1..])) =>
            {
                2
            }
            _ => return None,
        };
        let of_path = match rule.1 {
            "Exact" if rule.2 == path => usize::MAX,
            "Prefix" if elements(path).starts_with(&elements(rule.2)) => elements(rule.2).len(),
            _ => return None,
        };
        Some((of_host, of_path))
    };
    let mut best: Option<((i32, usize), &Rule)> = None;
    for rule in rules {
        if let Some(rank) = fits(&rule)
            && best.is_none_or(|(before, _)| rank > before)
        {
            best = Some((rank, rule));
        }
    }
    best.map(|(_, rule)| rule.3.clone()).unwrap_or_default()
}

proptest! {
    #[test]
    fn the_table_finds_what_a_search_finds(rules in rules()) {
        let told: Vec<_> = rules.iter().map(|(host, kind, path, service)| (*host, *kind, *path, service.as_str())).collect();
        let table = Table::new([&ingress(0, &told, None)]);
        for host in ["a.x.com", "b.x.com", "c.x.com", "y.org"] {
            for path in ["/", "/p", "/p/", "/p/q", "/p/q/r", "/pq", "/z"] {
                prop_assert_eq!(found(&table, host, path), by_search(&rules, host, path), "{} {}", host, path);
            }
        }
    }
}
