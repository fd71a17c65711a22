use super::*;
use crate::fields::arbitrary;
use crate::normalise::normalise;
use proptest::prelude::*;
use serde_json::json;
use std::path::Path;

/// Where Kubernetes' own samples are: `testdata/HEAD` of the Go package `k8s.io/api`, every kind with every field set.
const SAMPLES: &str = "CORACLE_K8S_TESTDATA";

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut type_meta = Vec::new();
    wire::put_bytes(&mut type_meta, 1, api_version.as_bytes());
    wire::put_bytes(&mut type_meta, 2, kind.as_bytes());
    let mut out = MAGIC.to_vec();
    wire::put_bytes(&mut out, 1, &type_meta);
    wire::put_bytes(&mut out, 2, raw);
    out
}

#[test]
fn a_delete_body_is_read_under_any_group() {
    // gracePeriodSeconds 0 (a pointer), propagationPolicy, an unknown field, and dryRun twice.
    let raw = [
        &[0x08, 0x00][..],
        &[0x22, 3, b'F', b'o', b'o'],
        &[0x98, 0x06, 1],
        &[0x2a, 1, b'A', 0x2a, 1, b'B'],
    ]
    .concat();
    let object = decode(&envelope("apps/v1", "DeleteOptions", &raw)).unwrap();
    assert_eq!(
        object,
        json!({"kind": "DeleteOptions", "apiVersion": "apps/v1", "gracePeriodSeconds": 0, "propagationPolicy": "Foo", "dryRun": ["A", "B"]})
    );
}

#[test]
fn packed_numbers_and_maps_without_values_are_read() {
    // securityContext{supplementalGroups: 4} packed, in spec.
    let packed = [0x22, 3, 1, 0x80, 0x01];
    let mut spec = Vec::new();
    wire::put_bytes(&mut spec, 14, &packed);
    let mut metadata = Vec::new();
    wire::put_bytes(&mut metadata, 11, &[0x0a, 1, b'k']);
    let mut pod = Vec::new();
    wire::put_bytes(&mut pod, 1, &metadata);
    wire::put_bytes(&mut pod, 2, &spec);
    let object = decode(&envelope("v1", "Pod", &pod)).unwrap();
    assert_eq!(object["spec"]["securityContext"]["supplementalGroups"], json!([1, 128]));
    assert_eq!(object["metadata"]["labels"], json!({"k": ""}));
}

#[test]
fn an_envelope_without_a_kind_is_what_is_expected() {
    let bytes = envelope("", "", &[]);
    assert!(decode(&bytes).is_err());
    assert_eq!(decode_as(&bytes, Some("k8s.io/api/core/v1.Pod")).unwrap(), json!({}));
}

#[test]
fn refusals_are_bad_requests_that_say_why() {
    let nested = (0..2 * DEPTH_LIMIT).fold(Vec::new(), |inner, _| {
        // JSONSchemaProps.not
        let mut outer = Vec::new();
        wire::put_bytes(&mut outer, 26, &inner);
        outer
    });
    // CustomResourceDefinition.spec.versions[0].schema.openAPIV3Schema
    let nested = [1, 4, 7, 2].into_iter().fold(nested, |inner, number| {
        let mut outer = Vec::new();
        wire::put_bytes(&mut outer, number, &inner);
        outer
    });
    let crd = envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", &nested);
    for (bytes, words) in [
        (b"{}".to_vec(), "magic number"),
        (
            envelope("v1", "Boat", &[]),
            r#"no kind "Boat" is registered for version "v1""#,
        ),
        (envelope("v1", "Pod", &[0x0a, 5]), "ends in the middle"),
        (
            envelope("v1", "Pod", &[0x08, 1]),
            r#"field "metadata" has the wrong wire type"#,
        ),
        (envelope("v1", "Pod", &[0x0a, 3, 0x0a, 1, 0xff]), "not UTF-8"),
        (crd, "nested too deep"),
    ] {
        let error = decode(&bytes).unwrap_err();
        assert_eq!(error.code, 400);
        assert!(error.message.contains(words), "{}", error.message);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_is_written_is_read_back(index in 0usize..10_000, seed: u64) {
        let kinds: Vec<_> = crate::fields::structs().filter(|s| s.is_object() && has_numbers(*s)).collect();
        let kind = kinds[index % kinds.len()];
        let mut object = arbitrary::object(kind, seed);
        normalise(kind.name(), &mut object).unwrap();
        let Ok(bytes) = encode(&object) else { return Err(TestCaseError::reject("no group")) };
        let mut back = decode(&bytes).unwrap();
        normalise(kind.name(), &mut back).unwrap();
        prop_assert_eq!(back, object);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _ = decode(&bytes);
        let _ = decode(&envelope("v1", "Pod", &bytes));
    }

    #[test]
    fn broken_messages_are_read_or_refused(seed: u64, at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let kind = go_type("k8s.io/api/core/v1.Pod").unwrap();
        let mut object = arbitrary::object(kind, seed);
        normalise(kind.name(), &mut object).unwrap();
        let mut bytes = encode(&object).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        let _ = decode(&bytes);
    }
}

fn has_numbers(kind: StructRef) -> bool {
    kind.declared_fields().iter().all(|f| f.inline || f.number != 0)
}

#[test]
fn samples_of_kubernetes_read_as_their_json() {
    let Some(directory) = std::env::var_os(SAMPLES) else {
        println!("skipped: {SAMPLES} does not name testdata/HEAD of the Go package k8s.io/api");
        return;
    };
    let mut count = 0;
    for entry in std::fs::read_dir(Path::new(&directory)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // A watch event carries no apiVersion, and nobody sends one.
        if name.ends_with(".pb") && !name.contains("after_roundtrip") && !name.contains("WatchEvent") {
            one_sample(&path);
            count += 1;
        }
    }
    assert!(count > 100, "only {count} samples");
}

fn one_sample(path: &Path) {
    let label = path.display();
    let bytes = std::fs::read(path).unwrap();
    let (json, _) = crate::json::parse(&std::fs::read(path.with_extension("json")).unwrap()).unwrap();
    let (yaml, _) = crate::yaml::parse(&std::fs::read(path.with_extension("yaml")).unwrap()).unwrap();
    assert_eq!(json, yaml, "{label}");
    let text = |key: &str| {
        json[key]
            .as_str()
            .unwrap_or_else(|| panic!("{label}: no {key}"))
            .to_owned()
    };
    let kind = find(&text("apiVersion"), &text("kind")).unwrap_or_else(|| panic!("{label}: no type"));
    let mut canonical = json.clone();
    assert_eq!(
        normalise(kind.name(), &mut canonical).unwrap_or_else(|e| panic!("{label}: {e}")),
        []
    );
    // The samples fill every field, so what normalising writes is all that they hold, in the same order.
    assert_eq!(
        canonical.to_string(),
        json.to_string(),
        "{label}: normalising changed it"
    );
    let mut decoded = decode(&bytes).unwrap_or_else(|e| panic!("{label}: {e}"));
    assert_eq!(normalise(kind.name(), &mut decoded).unwrap(), []);
    assert_eq!(decoded.to_string(), canonical.to_string(), "{label}: decoded differs");
    let again = decode(&encode(&canonical).unwrap_or_else(|e| panic!("{label}: {e}"))).unwrap();
    let mut again = again;
    normalise(kind.name(), &mut again).unwrap();
    assert_eq!(again, canonical, "{label}: encoded differs");
}
