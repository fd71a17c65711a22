//! Defaults of pods and of the pod templates within workloads.

use super::{fill, fill_text, items, part};
use crate::object;
use serde_json::{Value, json};

/// Bits of a file's mode that volumes of Secrets, ConfigMaps and the like give their files: 0644.
const FILE_MODE: u32 = 420;
/// Lifetime of a service account token in a volume, in seconds.
const TOKEN_SECONDS: u32 = 3600;

/// A pod: what templates have too, and what only a pod itself gets.
pub fn pod(pod: &mut Value) {
    let spec = object::child(pod, "spec");
    fill(spec, "enableServiceLinks", true);
    for list in ["initContainers", "containers"] {
        items(spec, list).for_each(requests_from_limits);
    }
    pod_spec(spec);
}

/// The spec of a pod or of a template.
pub fn pod_spec(spec: &mut Value) {
    volumes(spec);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        items(spec, list).for_each(container);
    }
    fill_text(spec, "restartPolicy", "Always");
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill_text(spec, "dnsPolicy", "ClusterFirst");
    fill(spec, "securityContext", json!({}));
    fill_text(spec, "schedulerName", "default-scheduler");
    service_account(spec);
    if object::truth(spec, "hostNetwork") {
        for list in ["initContainers", "containers"] {
            items(spec, list).for_each(host_ports);
        }
    }
}

/// The old and the new name of the account field always agree; the new one decides.
fn service_account(spec: &mut Value) {
    let account = [
        object::text(spec, "serviceAccountName"),
        object::text(spec, "serviceAccount"),
    ];
    let chosen = account.into_iter().find(|name| !name.is_empty()).map(str::to_owned);
    if let Some(name) = chosen {
        let fields = object::fields(spec);
        fields.insert("serviceAccountName".to_owned(), Value::from(name.as_str()));
        fields.insert("serviceAccount".to_owned(), Value::from(name));
    }
}

fn container(container: &mut Value) {
    let image = object::text(container, "image");
    let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
    fill_text(container, "imagePullPolicy", policy);
    fill_text(container, "terminationMessagePath", "/dev/termination-log");
    fill_text(container, "terminationMessagePolicy", "File");
    fill(container, "resources", json!({}));
    items(container, "ports").for_each(|port| fill_text(port, "protocol", "TCP"));
    items(container, "env").for_each(environment);
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = part(container, name) {
            self::probe(probe);
        }
    }
    if let Some(lifecycle) = part(container, "lifecycle") {
        for name in ["postStart", "preStop"] {
            part(lifecycle, name)
                .and_then(|hook| part(hook, "httpGet"))
                .into_iter()
                .for_each(http_get);
        }
    }
}

/// Whether an image means "whatever is newest": its tag is `latest`, or it has neither tag nor digest.
fn is_latest(image: &str) -> bool {
    let (named, digest) = image
        .split_once('@')
        .map_or((image, None), |(named, digest)| (named, Some(digest)));
    let last = named.rsplit('/').next().unwrap_or(named);
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => digest.is_none(),
    }
}

fn environment(variable: &mut Value) {
    let source = part(variable, "valueFrom").and_then(|from| part(from, "fieldRef"));
    source
        .into_iter()
        .for_each(|field| fill_text(field, "apiVersion", "v1"));
}

fn probe(probe: &mut Value) {
    for (field, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        fill_number(probe, field, value);
    }
    part(probe, "httpGet").into_iter().for_each(http_get);
    part(probe, "grpc")
        .into_iter()
        .for_each(|grpc| fill(grpc, "service", ""));
}

/// Zero counts as unset in these fields.
fn fill_number(object: &mut Value, field: &str, value: i64) {
    if object::integer(object, field).unwrap_or_default() == 0 {
        object::fields(object).insert(field.to_owned(), Value::from(value));
    }
}

fn http_get(action: &mut Value) {
    fill_text(action, "path", "/");
    fill_text(action, "scheme", "HTTP");
}

fn host_ports(container: &mut Value) {
    for port in items(container, "ports") {
        let number = object::integer(port, "containerPort").unwrap_or_default();
        fill_number(port, "hostPort", number);
    }
}

fn requests_from_limits(container: &mut Value) {
    let Some(limits) = object::map(container, "resources.limits").cloned() else {
        return;
    };
    let requests = object::fields(object::child(object::child(container, "resources"), "requests"));
    for (resource, amount) in limits {
        requests.entry(resource).or_insert(amount);
    }
}

/// Every field that names where a volume's files come from.
pub(crate) const VOLUME_SOURCES: &[&str] = &[
    "emptyDir",
    "configMap",
    "secret",
    "projected",
    "downwardAPI",
    "hostPath",
    "persistentVolumeClaim",
    "ephemeral",
    "csi",
    "image",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "azureDisk",
    "vsphereVolume",
    "quobyte",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
];

fn volumes(spec: &mut Value) {
    for volume in items(spec, "volumes") {
        if !VOLUME_SOURCES
            .iter()
            .any(|source| object::get(volume, source).is_some())
        {
            fill(volume, "emptyDir", json!({}));
        }
        for source in ["secret", "configMap", "projected", "downwardAPI"] {
            part(volume, source)
                .into_iter()
                .for_each(|files| fill(files, "defaultMode", FILE_MODE));
        }
        part(volume, "downwardAPI").into_iter().for_each(field_items);
        part(volume, "hostPath")
            .into_iter()
            .for_each(|path| fill(path, "type", ""));
        part(volume, "projected").into_iter().for_each(projected);
    }
}

fn projected(projected: &mut Value) {
    for source in items(projected, "sources") {
        part(source, "downwardAPI").into_iter().for_each(field_items);
        part(source, "serviceAccountToken")
            .into_iter()
            .for_each(|token| fill(token, "expirationSeconds", TOKEN_SECONDS));
    }
}

fn field_items(source: &mut Value) {
    for item in items(source, "items") {
        part(item, "fieldRef")
            .into_iter()
            .for_each(|field| fill_text(field, "apiVersion", "v1"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minimal_pod_becomes_a_full_one() {
        let mut pod = json!({"spec": {"containers": [{"name": "a", "image": "hello"}]}});
        super::pod(&mut pod);
        let wanted = json!({
            "containers": [{
                "name": "a", "image": "hello", "imagePullPolicy": "Always", "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File", "resources": {},
            }],
            "enableServiceLinks": true, "restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst", "securityContext": {}, "schedulerName": "default-scheduler",
        });
        assert_eq!(pod["spec"], wanted);
        let once = pod.clone();
        super::pod(&mut pod);
        assert_eq!(pod, once);
    }

    #[test]
    fn the_pull_policy_follows_the_tag() {
        let cases = [
            ("hello", true),
            ("hello:latest", true),
            ("hello:1", false),
            ("localhost:5000/a/hello", true),
            ("localhost:5000/hello:v1", false),
            ("hello@sha256:00", false),
            ("hello:latest@sha256:00", true),
        ];
        for (image, latest) in cases {
            assert_eq!(is_latest(image), latest, "{image}");
        }
    }

    #[test]
    fn limits_become_requests_in_pods_only() {
        let spec = json!({"containers": [{"resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}}}]});
        let mut pod = json!({"spec": spec});
        super::pod(&mut pod);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"]["requests"],
            json!({"cpu": "100m", "memory": "1Gi"})
        );
        let mut template = spec;
        pod_spec(&mut template);
        assert_eq!(
            template["containers"][0]["resources"]["requests"],
            json!({"cpu": "100m"})
        );
        assert!(template.get("enableServiceLinks").is_none());
    }

    #[test]
    fn volumes_probes_and_environment_are_completed() {
        let mut spec = json!({
            "serviceAccount": "old",
            "volumes": [
                {"name": "a"}, {"name": "b", "configMap": {"name": "x"}}, {"name": "c", "secret": {"secretName": "x"}},
                {"name": "d", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}, {"downwardAPI": {"items": [{"path": "p", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}},
            ],
            "containers": [{
                "ports": [{"containerPort": 80}],
                "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 1},
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            }],
        });
        pod_spec(&mut spec);
        assert_eq!(spec["serviceAccountName"], "old");
        assert_eq!(spec["volumes"][0]["emptyDir"], json!({}));
        assert_eq!(spec["volumes"][1]["configMap"]["defaultMode"], 420);
        assert_eq!(
            spec["volumes"][3]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"],
            3600
        );
        assert_eq!(
            spec["volumes"][3]["projected"]["sources"][1]["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"],
            "v1"
        );
        let container = &spec["containers"][0];
        assert_eq!(container["ports"][0]["protocol"], "TCP");
        assert_eq!(
            container["readinessProbe"],
            json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "periodSeconds": 1, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3})
        );
        assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
    }
}
