use http::Request;
use serde_json::{Value, json};

use super::super::objects::{GatewaySpec, GrantSpec, RouteSpec, resource};
use super::*;

/// Objects of a world, each as `namespace/name` and its spec.
#[derive(Default)]
struct Scene {
    gateways: Vec<Arc<Gateway>>,
    routes: Vec<Arc<HttpRoute>>,
    grants: Vec<Arc<ReferenceGrant>>,
}

fn object<S: serde::de::DeserializeOwned + Clone>(
    kind: &str,
    at: &str,
    spec: Value,
) -> Arc<kube::api::Object<S, Value>> {
    let (namespace, name) = at.split_once('/').unwrap();
    let spec: S = serde_json::from_value(spec).unwrap();
    Arc::new(kube::api::Object::new(name, &resource("v1", kind, "plural"), spec).within(namespace))
}

impl Scene {
    fn gateway(mut self, at: &str, listeners: Value) -> Self {
        let spec = json!({"gatewayClassName": "coracle", "listeners": listeners});
        self.gateways.push(object::<GatewaySpec>("Gateway", at, spec));
        self
    }

    fn route(mut self, at: &str, spec: Value) -> Self {
        self.routes.push(object::<RouteSpec>("HTTPRoute", at, spec));
        self
    }

    fn grant(mut self, at: &str, spec: Value) -> Self {
        self.grants.push(object::<GrantSpec>("ReferenceGrant", at, spec));
        self
    }

    /// With a service `web` of port 80 in each namespace, a namespace `team` that is labelled, and port 99 taken by others.
    fn plan(&self) -> Plan {
        let labels = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        World {
            gateways: &self.gateways,
            routes: &self.routes,
            grants: &self.grants,
            namespaces: &[
                ("demo".to_owned(), labels(&[])),
                ("team".to_owned(), labels(&[("gate", "open")])),
            ]
            .into(),
            service: &|_, name, port| (name == "web").then_some(port == 80),
            certificate: &|_, name| match name {
                "good" => Ok(certificate()),
                _ => Err(format!("there is no Secret {name:?}")),
            },
            bound: &|port, _| if port == 99 { Err("taken".to_owned()) } else { Ok(()) },
        }
        .plan()
    }
}

fn certificate() -> Arc<CertifiedKey> {
    let made = rcgen::generate_simple_self_signed(vec!["a.com".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = rustls::crypto::ring::default_provider();
    Arc::new(CertifiedKey::from_der(vec![made.cert.der().clone()], key.into(), &provider).unwrap())
}

fn says(conditions: &[Condition], kind: &str) -> String {
    let condition = conditions.iter().find(|condition| condition.kind == kind).unwrap();
    format!("{} {}", condition.holds, condition.reason)
}

/// What is said of a route with regard to its first parent: accepted, and resolved.
fn of_route(plan: &Plan, at: usize) -> [String; 2] {
    ["Accepted", "ResolvedRefs"].map(|kind| says(&plan.routes[at][0].conditions, kind))
}

fn to_web() -> Value {
    json!([{"backendRefs": [{"name": "web", "port": 80}]}])
}

fn leads(plan: &Plan, port: u16, host: &str) -> bool {
    plan.table
        .find(port, host, &Request::get("/").body(()).unwrap())
        .is_some()
}

#[test]
fn a_route_is_attached_to_the_listeners_that_it_means() {
    let plan = Scene::default()
        .gateway("demo/g", json!([
            {"name": "all", "port": 80, "protocol": "HTTP"}, {"name": "a", "port": 81, "protocol": "HTTP", "hostname": "*.a.com"}]))
        .route("demo/both", json!({"parentRefs": [{"name": "g"}], "hostnames": ["x.a.com"], "rules": to_web()}))
        .route("demo/one", json!({"parentRefs": [{"name": "g", "sectionName": "a"}], "hostnames": ["b.com"], "rules": to_web()}))
        .route("demo/port", json!({"parentRefs": [{"name": "g", "port": 80}], "hostnames": ["p.com"], "rules": to_web()}))
        .route("demo/none", json!({"parentRefs": [{"name": "g", "sectionName": "other"}], "rules": to_web()}))
        .route("demo/elsewhere", json!({"parentRefs": [{"name": "unknown"}], "rules": to_web()}))
        .plan();
    let (conditions, listeners) = &plan.gateways[0];
    assert_eq!(says(conditions, "Accepted"), "true Accepted");
    assert_eq!(says(conditions, "Programmed"), "true Programmed");
    assert_eq!([listeners[0].attached, listeners[1].attached], [2, 1]);
    assert_eq!(of_route(&plan, 0), ["true Accepted", "true ResolvedRefs"]);
    assert_eq!(of_route(&plan, 1)[0], "false NoMatchingListenerHostname");
    assert_eq!(of_route(&plan, 2)[0], "true Accepted");
    assert_eq!(of_route(&plan, 3)[0], "false NoMatchingParent");
    assert!(plan.routes[4].is_empty(), "that gateway is nobody's here");
    assert!(leads(&plan, 80, "x.a.com") && leads(&plan, 81, "x.a.com") && leads(&plan, 80, "p.com"));
    assert!(!leads(&plan, 81, "p.com") && !leads(&plan, 80, "b.com"));
}

#[test]
fn listeners_choose_the_namespaces_of_their_routes() {
    let allowed = |namespaces: Value| json!([{"name": "l", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": namespaces}}]);
    let spec = json!({"parentRefs": [{"name": "g", "namespace": "demo"}], "rules": to_web()});
    for (namespaces, demo, team) in [
        (json!({}), true, false),
        (json!({"from": "All"}), true, true),
        (json!({"from": "None"}), false, false),
        (
            json!({"from": "Selector", "selector": {"matchLabels": {"gate": "open"}}}),
            false,
            true,
        ),
        (json!({"from": "Selector"}), false, false),
    ] {
        let scene = Scene::default().gateway("demo/g", allowed(namespaces.clone()));
        let plan = scene.route("demo/r", spec.clone()).route("team/r", spec.clone()).plan();
        let outcome = |holds| {
            if holds {
                "true Accepted"
            } else {
                "false NotAllowedByListeners"
            }
        };
        assert_eq!(
            [of_route(&plan, 0)[0].as_str(), of_route(&plan, 1)[0].as_str()],
            [outcome(demo), outcome(team)],
            "{namespaces}"
        );
    }
}

#[test]
fn references_across_namespaces_need_a_grant() {
    let spec = json!({"parentRefs": [{"name": "g"}], "rules": [{"backendRefs": [{"name": "web", "namespace": "team", "port": 80}]}]});
    let scene = || {
        let secret = json!({"certificateRefs": [{"name": "good", "namespace": "team"}]});
        let listeners = json!([{"name": "h", "port": 80, "protocol": "HTTP"}, {"name": "s", "port": 443, "protocol": "HTTPS", "tls": secret}]);
        Scene::default()
            .gateway("demo/g", listeners)
            .route("demo/r", spec.clone())
    };
    let without = scene().plan();
    assert_eq!(of_route(&without, 0), ["true Accepted", "false RefNotPermitted"]);
    assert_eq!(
        says(&without.gateways[0].1[1].conditions, "ResolvedRefs"),
        "false RefNotPermitted"
    );
    assert_eq!(
        says(&without.gateways[0].1[1].conditions, "Programmed"),
        "false Invalid"
    );
    assert!(leads(&without, 80, "h"), "its requests get a 500, not a 404");
    let with = scene()
        .grant("team/g", json!({"from": [
            {"group": GROUP, "kind": "HTTPRoute", "namespace": "demo"}, {"group": GROUP, "kind": "Gateway", "namespace": "demo"}],
            "to": [{"group": "", "kind": "Service", "name": "web"}, {"group": "", "kind": "Secret"}]}))
        .plan();
    assert_eq!(of_route(&with, 0)[1], "true ResolvedRefs");
    assert_eq!(
        says(&with.gateways[0].1[1].conditions, "ResolvedRefs"),
        "true ResolvedRefs"
    );
    assert!(with.table.certificate(443, Some("any.com")).is_some());
    // One in another namespace says nothing here.
    let elsewhere = scene()
        .grant("demo/g", json!({"from": [{"group": GROUP, "kind": "HTTPRoute", "namespace": "demo"}], "to": [{"group": "", "kind": "Service"}]}))
        .plan();
    assert_eq!(of_route(&elsewhere, 0)[1], "false RefNotPermitted");
}

#[test]
fn what_cannot_be_served_is_said_of_the_listener() {
    let listener = |name: &str, port: u16, more: Value| {
        let mut listener = json!({"name": name, "port": port, "protocol": "HTTP"});
        for (key, value) in more.as_object().unwrap() {
            listener[key] = value.clone();
        }
        listener
    };
    let plan = Scene::default()
        .gateway(
            "demo/g",
            json!([
                listener("good", 80, json!({})),
                listener("taken", 99, json!({})),
                listener("tcp", 81, json!({"protocol": "TCP"})),
                listener("again", 80, json!({})),
                listener("mixed", 80, json!({"protocol": "HTTPS", "hostname": "a.com"})),
                listener("bare", 443, json!({"protocol": "HTTPS"})),
                listener(
                    "gone",
                    444,
                    json!({"protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "absent"}]}})
                ),
                listener("kinds", 82, json!({"allowedRoutes": {"kinds": [{"kind": "TCPRoute"}]}})),
            ]),
        )
        .gateway("demo/bad", json!([listener("taken", 99, json!({"hostname": "b.com"}))]))
        .plan();
    let (conditions, listeners) = &plan.gateways[0];
    assert_eq!(says(conditions, "Accepted"), "true ListenersNotValid");
    for (at, kind, said) in [
        (0, "Programmed", "true Programmed"),
        (0, "Conflicted", "false NoConflicts"),
        (1, "Accepted", "false PortUnavailable"),
        (2, "Accepted", "false UnsupportedProtocol"),
        (3, "Conflicted", "true HostnameConflict"),
        (4, "Conflicted", "true ProtocolConflict"),
        (5, "ResolvedRefs", "false InvalidCertificateRef"),
        (6, "ResolvedRefs", "false InvalidCertificateRef"),
        (6, "Programmed", "false Invalid"),
        (7, "ResolvedRefs", "false InvalidRouteKinds"),
    ] {
        assert_eq!(says(&listeners[at].conditions, kind), said, "{}", listeners[at].name);
    }
    assert!(!listeners[7].takes_http);
    assert_eq!(says(&plan.gateways[1].0, "Accepted"), "false ListenersNotValid");
    assert_eq!(says(&plan.gateways[1].0, "Programmed"), "false Invalid");
}

#[test]
fn what_a_route_refers_to_is_looked_for() {
    let listeners = json!([{"name": "h", "port": 80, "protocol": "HTTP"}]);
    for (backend, said) in [
        (json!({"name": "web", "port": 80}), "true ResolvedRefs"),
        (json!({"name": "web", "port": 81}), "false BackendNotFound"),
        (json!({"name": "web"}), "false BackendNotFound"),
        (json!({"name": "absent", "port": 80}), "false BackendNotFound"),
        (
            json!({"name": "web", "kind": "Bucket", "group": "x.io", "port": 80}),
            "false InvalidKind",
        ),
    ] {
        let route = json!({"parentRefs": [{"name": "g"}], "rules": [{"backendRefs": [backend]}]});
        let plan = Scene::default()
            .gateway("demo/g", listeners.clone())
            .route("demo/r", route)
            .plan();
        assert_eq!(of_route(&plan, 0), ["true Accepted", said], "{backend}");
    }
    let route = json!({"parentRefs": [{"name": "g"}], "rules": [{"matches": [{"path": {"type": "RegularExpression", "value": "/a"}}]}]});
    let plan = Scene::default()
        .gateway("demo/g", listeners)
        .route("demo/r", route)
        .plan();
    assert_eq!(of_route(&plan, 0)[0], "false UnsupportedValue");
    assert!(!leads(&plan, 80, "h"));
}

#[test]
fn a_mirror_that_cannot_be_used_is_told_of_and_the_rest_is_served() {
    let listeners = json!([{"name": "h", "port": 80, "protocol": "HTTP"}]);
    let grant = json!({"from": [{"group": GROUP, "kind": "HTTPRoute", "namespace": "demo"}], "to": [{"group": "", "kind": "Service"}]});
    for (mirror, granted, said) in [
        (json!({"name": "web", "port": 80}), false, "true ResolvedRefs"),
        (
            json!({"name": "web", "port": 80, "namespace": "team"}),
            true,
            "true ResolvedRefs",
        ),
        (
            json!({"name": "web", "port": 80, "namespace": "team"}),
            false,
            "false RefNotPermitted",
        ),
        (json!({"name": "web", "port": 81}), false, "false BackendNotFound"),
        (json!({"name": "web"}), false, "false BackendNotFound"),
        (json!({"name": "absent", "port": 80}), false, "false BackendNotFound"),
        (
            json!({"name": "web", "kind": "Bucket", "group": "x.io", "port": 80}),
            false,
            "false InvalidKind",
        ),
    ] {
        let filters = json!([{"type": "RequestMirror", "requestMirror": {"backendRef": mirror}}]);
        let mut scene = Scene::default().gateway("demo/g", listeners.clone());
        if granted {
            scene = scene.grant("team/g", grant.clone());
        }
        // In the rule, and in the backend.
        for rule in [
            json!({"filters": filters, "backendRefs": [{"name": "web", "port": 80}]}),
            json!({"backendRefs": [{"name": "web", "port": 80, "filters": filters}]}),
        ] {
            scene.routes.clear();
            scene = scene.route("demo/r", json!({"parentRefs": [{"name": "g"}], "rules": [rule]}));
            let plan = scene.plan();
            assert_eq!(of_route(&plan, 0), ["true Accepted", said], "{mirror}");
            let request = Request::get("/").body(()).unwrap();
            let found = plan.table.find(80, "h", &request).unwrap();
            let came = crate::ingress::Came {
                from: std::net::Ipv4Addr::LOCALHOST.into(),
                port: 80,
                secure: false,
            };
            let (mut parts, ()) = request.into_parts();
            let decision = found.decide(&mut parts, &http::HeaderValue::from_static("h"), came);
            let table::Decision::Forward(target, _, copies) = decision else {
                panic!("{mirror}: {decision:?}")
            };
            assert_eq!((target.namespace.as_str(), target.service.as_str()), ("demo", "web"));
            let usable = said == "true ResolvedRefs";
            assert_eq!(copies.len(), usize::from(usable), "{mirror}");
        }
    }
}
