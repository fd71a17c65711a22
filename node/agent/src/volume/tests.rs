use super::accounts::PodAccounts;
use super::*;
use crate::objects::Payload;
use coracle_runtime::Mount;
use serde_json::json;

type Row = (Kind, &'static str, Vec<(&'static str, &'static str)>);

struct Objects(Vec<Row>);

impl Lookup for Objects {
    fn find(&self, kind: Kind, name: &str) -> Option<Arc<Payload>> {
        let (_, _, data) = self.0.iter().find(|(k, n, _)| (*k, *n) == (kind, name))?;
        let data = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
            .collect();
        Some(Arc::new(Payload {
            data,
            revision: "1".into(),
        }))
    }
}

fn facts(pod: &Pod) -> Facts<'_> {
    crate::fields::tests::facts(pod)
}

fn pod(volumes: serde_json::Value, mounts: serde_json::Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "x"}},
        "spec": {"volumes": volumes, "containers": [{"name": "c", "volumeMounts": mounts}]}
    }))
    .unwrap()
}

fn mounted(dir: &Path, pod: &Pod) -> Vec<Mount> {
    mounts(
        dir,
        pod,
        crate::spec::container(pod, 0).unwrap(),
        &PodAccounts::default(),
        str::to_owned,
    )
    .unwrap()
}

#[test]
fn files_of_objects_appear_and_change_together() {
    let dir = tempfile::tempdir().unwrap();
    let pod = pod(
        json!([{"name": "v", "configMap": {"name": "m", "items": [{"key": "a", "path": "sub/a.txt"}]}},
               {"name": "d", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
               {"name": "e", "emptyDir": {}}]),
        json!([{"name": "v", "mountPath": "/etc/v/"}, {"name": "e", "mountPath": "/data"}, {"name": "d", "mountPath": "/d"}]),
    );
    let first = Objects(vec![(Kind::ConfigMap, "m", vec![("a", "one"), ("b", "two")])]);
    set_up(dir.path(), &facts(&pod), &first, &Book::new(), &Places::new()).unwrap();
    let mounts = mounted(dir.path(), &pod);
    assert_eq!(
        mounts
            .iter()
            .map(|m| (m.guest.as_str(), m.read_only))
            .collect::<Vec<_>>(),
        [("/etc/v", true), ("/data", false), ("/d", true), ("/etc", true)]
    );
    let read = |at: usize, path: &str| fs::read_to_string(mounts[at].host.join(path)).unwrap();
    assert_eq!(read(0, "sub/a.txt"), "one");
    assert!(!mounts[0].host.join("b").exists());
    assert_eq!(read(2, "labels"), "app=\"x\"");
    fs::write(mounts[1].host.join("kept"), "x").unwrap();
    let second = Objects(vec![(Kind::ConfigMap, "m", vec![("a", "three")])]);
    set_up(dir.path(), &facts(&pod), &second, &Book::new(), &Places::new()).unwrap();
    assert_eq!(read(0, "sub/a.txt"), "three");
    assert_eq!(read(1, "kept"), "x");
    tear_down(dir.path()).unwrap();
    assert!(!dir.path().exists());
}

#[test]
fn missing_objects_and_keys_are_said_unless_optional() {
    let dir = tempfile::tempdir().unwrap();
    let none = Objects(vec![(Kind::Secret, "s", vec![])]);
    let set_up = |volume: serde_json::Value| {
        let pod = pod(json!([volume]), json!([]));
        super::set_up(dir.path(), &facts(&pod), &none, &Book::new(), &Places::new()).map_err(|error| error.to_string())
    };
    assert_eq!(
        set_up(json!({"name": "v", "configMap": {"name": "m"}})),
        Err("MountVolume.SetUp failed for volume \"v\" : configmap \"m\" not found".into())
    );
    assert_eq!(
        set_up(json!({"name": "v", "configMap": {"name": "m", "optional": true}})),
        Ok(())
    );
    let no_key = set_up(json!({"name": "v", "secret": {"secretName": "s", "items": [{"key": "k", "path": "k"}]}}));
    assert!(no_key.unwrap_err().contains("references non-existent key: k"));
    assert!(
        set_up(json!({"name": "v", "nfs": {"server": "s", "path": "/"}}))
            .unwrap_err()
            .contains("does not have")
    );
    let outside = set_up(
        json!({"name": "v", "downwardAPI": {"items": [{"path": "../x", "fieldRef": {"fieldPath": "metadata.name"}}]}}),
    );
    assert!(outside.unwrap_err().contains("leads out"));
}

#[test]
fn a_file_as_sub_path_gets_a_directory_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let objects = Objects(vec![(Kind::ConfigMap, "m", vec![("a", "one"), ("b", "two")])]);
    let pod = pod(
        json!([{"name": "v", "configMap": {"name": "m"}}, {"name": "e", "emptyDir": {}}]),
        json!([{"name": "v", "mountPath": "/etc/app/a.conf", "subPath": "a"},
               {"name": "v", "mountPath": "/etc/app/b.conf", "subPath": "b"},
               {"name": "e", "mountPath": "/work", "subPathExpr": "x/y"}]),
    );
    set_up(dir.path(), &facts(&pod), &objects, &Book::new(), &Places::new()).unwrap();
    let mounts = mounted(dir.path(), &pod);
    assert_eq!(mounts.len(), 3);
    assert_eq!(mounts[0].guest, "/etc/app");
    assert_eq!(fs::read_to_string(mounts[0].host.join("a.conf")).unwrap(), "one");
    assert_eq!(fs::read_to_string(mounts[0].host.join("b.conf")).unwrap(), "two");
    assert!(mounts[1].host.ends_with("e/x/y") && mounts[1].host.is_dir());
}

#[test]
fn a_volume_that_lies_elsewhere_outlives_the_pod() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("pod");
    let pod = pod(
        json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "i", "image": {"reference": "x"}}]),
        json!([{"name": "v", "mountPath": "/data", "subPath": "a"}, {"name": "i", "mountPath": "/image"}]),
    );
    let places = Places::from([
        ("v".to_owned(), Place::Made(dir.path().join("volumes/pv"))),
        ("i".to_owned(), Place::Module("x.wasm".to_owned(), b"wasm"[..].into())),
    ]);
    for _ in 0..2 {
        super::set_up(&own, &facts(&pod), &Objects(vec![]), &Book::new(), &places).unwrap();
    }
    let mounts = mounted(&own, &pod);
    assert_eq!((mounts[0].read_only, mounts[1].read_only), (false, true));
    assert_eq!(fs::read(mounts[1].host.join("x.wasm")).unwrap(), b"wasm");
    fs::write(mounts[0].host.join("f"), "kept").unwrap();
    tear_down(&own).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("volumes/pv/a/f")).unwrap(), "kept");
    let gone = Places::from([("v".to_owned(), Place::Existing(dir.path().join("none")))]);
    assert!(super::set_up(&own, &facts(&pod), &Objects(vec![]), &Book::new(), &gone).is_err());
}

#[test]
fn references_are_found_once() {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"namespace": "ns"},
        "spec": {"volumes": [{"name": "p", "projected": {"sources": [{"secret": {"name": "s"}}, {"configMap": {"name": "m"}}]}}],
            "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "m"}}]}],
            "containers": [{"name": "c", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s2", "key": "k"}}}]}]}
    }))
    .unwrap();
    let found: Vec<_> = references(&pod).into_iter().map(|r| (r.kind, r.name)).collect();
    assert_eq!(
        found,
        [
            (Kind::ConfigMap, "m".to_owned()),
            (Kind::Secret, "s2".to_owned()),
            (Kind::Secret, "s".to_owned())
        ]
    );
}

#[test]
fn the_nodes_own_files_join_single_files_of_the_pod() {
    let dir = tempfile::tempdir().unwrap();
    let objects = Objects(vec![(Kind::ConfigMap, "m", vec![("hosts", "mine"), ("more", "x")])]);
    let pod = pod(
        json!([{"name": "v", "configMap": {"name": "m"}}]),
        json!([{"name": "v", "mountPath": "/etc/hosts", "subPath": "hosts"}]),
    );
    set_up(dir.path(), &facts(&pod), &objects, &Book::new(), &Places::new()).unwrap();
    let own = Files::from([
        ("hosts".into(), b"node's".to_vec()),
        ("resolv.conf".into(), b"r".to_vec()),
    ]);
    set_up_etc(dir.path(), &own).unwrap();
    let mounts = mounted(dir.path(), &pod);
    assert_eq!(mounts.len(), 1);
    let read = |name: &str| fs::read_to_string(mounts[0].host.join(name)).unwrap();
    assert_eq!((read("hosts").as_str(), read("resolv.conf").as_str()), ("mine", "r"));
}

#[cfg(unix)]
#[test]
fn a_guests_links_lead_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let pod = pod(
        json!([{"name": "e", "emptyDir": {}}]),
        json!([{"name": "e", "mountPath": "/work", "subPath": "link/new"}]),
    );
    set_up(dir.path(), &facts(&pod), &Objects(vec![]), &Book::new(), &Places::new()).unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink("../../outside", dir.path().join("volumes/e/link")).unwrap();
    let container = crate::spec::container(&pod, 0).unwrap();
    let error = mounts(dir.path(), &pod, container, &PodAccounts::default(), str::to_owned).unwrap_err();
    assert!(error.to_string().contains("leads out"), "{error}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}
