use super::*;
use crate::fields::tests::facts;
use coracle_net::ServicePort;
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::json;

struct Objects;

impl Lookup for Objects {
    fn find(&self, kind: Kind, name: &str) -> Option<Arc<Payload>> {
        let data: &[(&str, &[u8])] = match (kind, name) {
            (Kind::ConfigMap, "m") => &[("A", b"from map"), ("bin", b"\xff\xfe")],
            (Kind::Secret, "s") => &[("pw", b"secret")],
            _ => return None,
        };
        let data = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.to_vec()))
            .collect();
        Some(Arc::new(Payload {
            data,
            revision: String::new(),
        }))
    }
}

fn pod(container: serde_json::Value, links: bool) -> Pod {
    let mut container = container;
    container["name"] = "c".into();
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {"enableServiceLinks": links, "containers": [container]}
    }))
    .unwrap()
}

fn image() -> ImageConfig {
    ImageConfig {
        entrypoint: vec!["app".into(), "-v".into()],
        cmd: vec!["serve".into()],
        env: vec!["VERSION=v1".into(), "B=image".into()],
        ..ImageConfig::default()
    }
}

fn launched(container: serde_json::Value) -> Result<Launch, EnvError> {
    launched_with(container, &[], true)
}

fn launched_with(container: serde_json::Value, services: &[Service], links: bool) -> Result<Launch, EnvError> {
    let pod = pod(container, links);
    let container = crate::spec::container(&pod, 0).unwrap();
    launch(&facts(&pod), container, &image(), services, &Objects)
}

fn value<'a>(launch: &'a Launch, name: &str) -> Option<&'a str> {
    launch
        .env
        .iter()
        .find(|(found, _)| found == name)
        .map(|(_, value)| value.as_str())
}

#[test]
fn command_and_args_against_the_image() {
    for (container, expected) in [
        (json!({}), vec!["app", "-v", "serve"]),
        (json!({"args": ["x"]}), vec!["app", "-v", "x"]),
        (json!({"command": ["other"]}), vec!["other"]),
        (json!({"command": ["other"], "args": ["x"]}), vec!["other", "x"]),
        (
            json!({"args": ["$(VERSION)", "$$(VERSION)", "$(NONE)"]}),
            vec!["app", "-v", "v1", "$(VERSION)", "$(NONE)"],
        ),
    ] {
        assert_eq!(launched(container.clone()).unwrap().args, expected, "{container}");
    }
}

#[test]
fn sources_and_their_order() {
    let launch = launched(json!({
        "envFrom": [{"configMapRef": {"name": "m"}}, {"prefix": "P_", "secretRef": {"name": "s"}},
                    {"configMapRef": {"name": "none", "optional": true}}],
        "env": [
            {"name": "B", "value": "pod"},
            {"name": "C", "value": "$(B)-$(D)"},
            {"name": "D", "value": "later"},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pw"}}},
            {"name": "NO", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "none", "optional": true}}},
            {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Gi"}}},
        ]
    }))
    .unwrap();
    for (name, expected) in [
        ("A", Some("from map")),
        ("bin", None),
        ("P_pw", Some("secret")),
        ("VERSION", Some("v1")),
        ("B", Some("pod")),
        ("C", Some("pod-$(D)")),
        ("POD", Some("p")),
        ("PW", Some("secret")),
        ("NO", None),
        ("MEM", Some("8")),
        ("HOSTNAME", Some("p")),
    ] {
        assert_eq!(value(&launch, name), expected, "{name}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let error = |container| launched(container).unwrap_err().to_string();
    assert_eq!(
        error(json!({"envFrom": [{"configMapRef": {"name": "none"}}]})),
        "configmap \"none\" not found"
    );
    assert_eq!(
        error(json!({"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]})),
        "couldn't find key k in secret ns/s"
    );
    let field = json!({"env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]});
    assert_eq!(error(field), "unsupported fieldPath: spec.x");
}

#[test]
fn services_of_the_namespace_and_the_api_server() {
    let service = |namespace: &str, name: &str| Service {
        namespace: namespace.into(),
        name: name.into(),
        cluster_ips: vec![[10, 96, 0, 9].into()],
        ports: vec![ServicePort {
            name: "http".into(),
            port: 80,
            ..ServicePort::default()
        }],
        ..Service::default()
    };
    let services = [
        service("ns", "my-web"),
        service("other", "far"),
        service("default", "kubernetes"),
    ];
    let launch = launched_with(json!({}), &services, true).unwrap();
    for (name, expected) in [
        ("MY_WEB_SERVICE_HOST", Some("10.96.0.9")),
        ("MY_WEB_SERVICE_PORT", Some("80")),
        ("MY_WEB_SERVICE_PORT_HTTP", Some("80")),
        ("MY_WEB_PORT", Some("tcp://10.96.0.9:80")),
        ("MY_WEB_PORT_80_TCP_ADDR", Some("10.96.0.9")),
        ("FAR_SERVICE_HOST", None),
        ("KUBERNETES_SERVICE_HOST", Some("10.96.0.9")),
    ] {
        assert_eq!(value(&launch, name), expected, "{name}");
    }
    let without = launched_with(json!({}), &services, false).unwrap();
    assert_eq!(value(&without, "MY_WEB_SERVICE_HOST"), None);
    assert!(value(&without, "KUBERNETES_SERVICE_HOST").is_some());
}

#[test]
fn expansion_as_kubernetes_documents_it() {
    let env: Env = [("A".to_owned(), "1".to_owned()), ("E".to_owned(), String::new())].into();
    for (text, expected) in [
        ("$(A)", "1"),
        ("x$(A)y$(A)", "x1y1"),
        ("$(E)", ""),
        ("$(B)", "$(B)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("$", "$"),
        ("$$", "$"),
        ("ä$(A)ö", "ä1ö"),
    ] {
        assert_eq!(expand(text, &[&env]), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn text_without_dollars_is_kept(text in "[^$]{0,40}") {
        prop_assert_eq!(expand(&text, &[&Env::new()]), text);
    }

    #[test]
    fn doubling_dollars_is_undone(text in "\\PC{0,40}") {
        prop_assert_eq!(expand(&text.replace('$', "$$"), &[&Env::new()]), text);
    }
}
