//! What must hold for every row, so that a new kind is tested the moment it stands in the table.

use super::*;
use crate::{defaults, fields, prepare, table, validate};
use serde_json::json;
use std::collections::HashSet;

#[test]
fn every_kind_is_found_by_its_names_and_no_name_twice() {
    let kinds = Kinds::builtin();
    let mut seen = HashSet::new();
    for kind in kinds.iter() {
        let found = kinds.find(&kind.group, &kind.version, &kind.plural);
        assert!(found.is_some_and(|found| Arc::ptr_eq(found, kind)), "{}", kind.kind);
        let found = kinds.by_kind(&kind.group, &kind.version, &kind.kind);
        assert!(found.is_some_and(|found| Arc::ptr_eq(found, kind)), "{}", kind.kind);
        let names = kind.short_names.iter().chain([&kind.plural, &kind.singular]);
        for name in names.map(|name| name.to_string()).collect::<HashSet<_>>() {
            assert!(
                seen.insert((kind.group.clone(), kind.version.clone(), name.clone())),
                "{name} names two kinds"
            );
        }
        assert!(kind.verbs.is_sorted() && kind.subresources.iter().all(|sub| sub.verbs.is_sorted()));
    }
    assert!(kinds.find("", "v2", "pods").is_none() && kinds.find("apps", "v1", "pods").is_none());
}

#[test]
fn every_kind_has_known_fields() {
    for kind in Kinds::builtin().iter().filter(|kind| !kind.is_made_on_reading()) {
        let bodies = kind
            .subresources
            .iter()
            .filter_map(|sub| sub.body.as_ref().map(|body| body.go_type));
        for go_type in bodies.chain([kind.go_type]) {
            assert!(fields::go_type(go_type).is_some(), "{go_type}");
        }
    }
}

#[test]
fn every_kind_prints_a_cell_for_each_column_even_of_nothing() {
    for kind in Kinds::builtin().iter().filter(|kind| kind.is_stored()) {
        for object in [
            json!({}),
            Value::Null,
            json!({"spec": [], "status": 3, "metadata": "x"}),
        ] {
            let columns = table::columns(kind);
            let row = table::row(kind, &object, table::IncludeObject::Object, 0);
            let count = columns.as_array().map(Vec::len);
            assert_eq!(row["cells"].as_array().map(Vec::len), count, "{}", kind.kind);
            let named = columns
                .as_array()
                .unwrap()
                .iter()
                .filter(|column| column["format"] == "name")
                .count();
            assert_eq!(named, 1, "{}", kind.kind);
        }
    }
}

#[test]
fn defaults_of_every_kind_change_nothing_the_second_time() {
    for kind in Kinds::builtin().iter() {
        let mut once = json!({"metadata": {"name": "a"}, "spec": {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}});
        defaults::apply(kind, &mut once);
        let mut twice = once.clone();
        defaults::apply(kind, &mut twice);
        assert_eq!(once, twice, "{}", kind.kind);
    }
}

#[test]
fn an_unchanged_update_of_any_kind_is_no_change_and_no_new_fault() {
    for kind in Kinds::builtin().iter().filter(|kind| kind.is_stored()) {
        let name = if kind.strategy.name == NameRule::IpAddress {
            "10.0.0.1"
        } else {
            "a"
        };
        let mut old = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": name}});
        if kind.namespaced {
            object::set_namespace(&mut old, "default");
        }
        defaults::apply(kind, &mut old);
        prepare::create(kind, &mut old);
        let mut new = old.clone();
        prepare::update(kind, &mut new, &old);
        assert_eq!(new, old, "{}", kind.kind);
        assert_eq!(
            validate::update(kind, &new, &old).len(),
            validate::create(kind, &old).len(),
            "{}",
            kind.kind
        );
    }
}

#[test]
fn selectable_fields_read_with_their_defaults() {
    let kinds = Kinds::builtin();
    let pods = kinds.find("", "v1", "pods").unwrap();
    let pod = json!({
        "metadata": {"name": "p", "namespace": "n"}, "spec": {"nodeName": "a"},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]},
    });
    let fields: HashMap<&str, Cow<'_, str>> = pods.fields(&pod).collect();
    let wanted = [
        ("metadata.name", "p"),
        ("metadata.namespace", "n"),
        ("spec.nodeName", "a"),
        ("status.phase", "Running"),
        ("spec.hostNetwork", "false"),
        ("status.podIPs", "10.0.0.1"),
        ("status.podIP", ""),
    ];
    for (label, value) in wanted {
        assert_eq!(fields.get(label).map(AsRef::as_ref), Some(value), "{label}");
    }
    let events = kinds.find("", "v1", "events").unwrap();
    let event = json!({"source": {"component": "kubelet"}});
    let values: HashMap<&str, Cow<'_, str>> = events.fields(&event).collect();
    assert_eq!(
        (values["source"].as_ref(), values["reportingComponent"].as_ref()),
        ("kubelet", "kubelet")
    );
}

/// Where Kubernetes' own samples are: `testdata/HEAD` of the Go package `k8s.io/api`, every kind with every field set.
const SAMPLES: &str = "CORACLE_K8S_TESTDATA";

/// Objects in versions that are generally available and that no path serves by itself. This list may only shrink.
const UNSERVED: [&str; 4] = [
    // What Kubernetes stores for itself, or only sends to webhooks and nodes.
    "core.v1.PodStatusResult",
    "core.v1.RangeAllocation",
    "core.v1.SerializedReference",
    "admission.k8s.io.v1.AdmissionReview",
];

#[test]
fn every_sample_of_kubernetes_has_a_row_and_survives_it() {
    let Some(directory) = std::env::var_os(SAMPLES) else {
        println!("skipped: {SAMPLES} does not name testdata/HEAD of the Go package k8s.io/api");
        return;
    };
    let kinds = Kinds::builtin();
    let bodies: HashSet<&str> = kinds
        .iter()
        .flat_map(|kind| &kind.subresources)
        .filter_map(|sub| Some(sub.body.as_ref()?.kind.as_ref()))
        .collect();
    let mut seen = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let label = path.file_stem().unwrap().to_string_lossy().into_owned();
        let mut parts = label.rsplitn(3, '.');
        let (Some(_), Some(version)) = (parts.next(), parts.next()) else {
            continue;
        };
        let stable = !version.contains("alpha") && !version.contains("beta");
        if !stable || path.extension().is_none_or(|extension| extension != "json") || label.contains("after_roundtrip")
        {
            continue;
        }
        let (sample, _) = crate::json::parse(&std::fs::read(&path).unwrap()).unwrap();
        let (group, version) = split_api_version(object::text(&sample, "apiVersion"));
        let name = object::text(&sample, "kind");
        if sample.get("metadata").is_none() || bodies.contains(name) || UNSERVED.contains(&label.as_str()) {
            continue;
        }
        let found = kinds.by_kind(group, version, name);
        if found.is_none() && (name.ends_with("Options") || matches!(name, "Status" | "APIGroup" | "APIGroupDiscovery"))
        {
            continue;
        }
        survives(found.unwrap_or_else(|| panic!("{label} has no row")), &sample);
        seen += 1;
    }
    assert!(seen > 55, "only {seen} samples");
}

fn survives(kind: &Kind, sample: &Value) {
    let mut once = sample.clone();
    defaults::apply(kind, &mut once);
    let mut twice = once.clone();
    defaults::apply(kind, &mut twice);
    assert_eq!(once, twice, "{}", kind.kind);
    // Anything may be wrong with a sample, but saying so must not fail.
    validate::create(kind, &once);
    validate::update(kind, &once, sample);
    if kind.is_stored() {
        let row = table::row(kind, sample, table::IncludeObject::None, 0);
        assert!(!row["cells"][0].is_null(), "{}", kind.kind);
    }
    if let Some(conversion) = kind.conversion {
        let mut back = sample.clone();
        (conversion.to_stored)(&mut back);
        let kinds = Kinds::builtin();
        let stored = kinds.stored(kinds.by_kind(&kind.group, &kind.version, &kind.kind).unwrap());
        assert_eq!(back["apiVersion"], stored.api_version());
        let unknown = crate::normalise::normalise(stored.go_type, &mut back).unwrap();
        assert_eq!(unknown, [], "{}", kind.kind);
        (conversion.from_stored)(&mut back);
        crate::normalise::normalise(kind.go_type, &mut back).unwrap();
        assert_eq!(back, *sample, "{}", kind.kind);
    }
}
