//! Server-side apply as people use it: kubectl with `--server-side`, and kube-rs.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::world::World;

const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {tier: front, extra: label}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: hello, ports: [{containerPort: 8080}]}
";

impl World {
    /// Applies on the server; what kubectl says on success.
    async fn serverside(&self, manifest: &str, flags: &[&str]) -> String {
        let (good, out, err) = self.try_serverside(manifest, flags).await;
        assert!(good, "{out}{err}");
        assert!(!err.contains("conflict"), "{err}");
        out
    }

    async fn try_serverside(&self, manifest: &str, flags: &[&str]) -> (bool, String, String) {
        let mut args = vec!["apply", "--server-side", "-f", "-"];
        args.extend(flags);
        self.try_kubectl(&args, manifest).await
    }

    /// The managers of an object with their operations and subresources.
    async fn managers(&self, object: &str) -> String {
        let path = "jsonpath={range .metadata.managedFields[*]}{.manager}/{.operation}/{.subresource} {end}";
        self.kubectl(&["get", object, "-o", path]).await
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing; `. .ci/install` brings it")]
async fn kubectl_applies_on_the_server() {
    let world = World::start().await;
    let applied = "deployment.apps/web serverside-applied\n";
    assert_eq!(world.serverside(DEPLOYMENT, &[]).await, applied);
    world
        .kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])
        .await;
    assert_eq!(world.serverside(DEPLOYMENT, &[]).await, applied);
    let managers = world.managers("deployment/web").await;
    assert!(managers.contains("kubectl/Apply/"), "{managers}");
    assert!(managers.contains("/Update/status"), "{managers}");

    // A field that is no longer there goes; what the server filled in stays.
    let less = DEPLOYMENT.replace(", extra: label", "");
    world.serverside(&less, &[]).await;
    let labels = world
        .kubectl(&["get", "deployment/web", "-o=jsonpath={.metadata.labels}"])
        .await;
    assert_eq!(labels, r#"{"tier":"front"}"#);

    // What somebody else changed is a conflict, until one insists.
    world.kubectl(&["scale", "deployment/web", "--replicas=2"]).await;
    let (good, _, err) = world.try_serverside(&less, &[]).await;
    assert!(!good);
    assert!(
        err.starts_with(
            "error: Apply failed with 1 conflict: conflict with \"kubectl\" with subresource \"scale\" using apps/v1: .spec.replicas\n"
        ),
        "{err}"
    );
    world.serverside(&less, &["--force-conflicts"]).await;
    let replicas = &["get", "deployment/web", "-o=jsonpath={.spec.replicas}"];
    assert_eq!(world.kubectl(replicas).await, "1");
    // Who does not say how many leaves that to others.
    let open = less.replace("  replicas: 1\n", "");
    world.kubectl(&["scale", "deployment/web", "--replicas=2"]).await;
    world.serverside(&open, &[]).await;
    assert_eq!(world.kubectl(replicas).await, "2");

    let (good, _, err) = world
        .try_serverside(
            &less.replace("  replicas: 1\n", "  replicass: 1\n"),
            &["--validate=false"],
        )
        .await;
    assert!(
        !good && err.contains(".spec.replicass: field not declared in schema"),
        "{err}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing; `. .ci/install` brings it")]
async fn kubectl_changes_over_from_applying_by_itself() {
    let world = World::start().await;
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: '1', b: '2'}\n";
    let (good, out, err) = world.try_kubectl(&["apply", "-f", "-"], map).await;
    assert!(good, "{out}{err}");
    let managers = world.managers("configmap/settings").await;
    assert_eq!(managers, "kubectl-client-side-apply/Update/ ");
    // Changed and without `b`: no conflict with one's former self, and `b` goes.
    let next = map.replace("a: '1', b: '2'", "a: '7'");
    world.serverside(&next, &[]).await;
    // The same again writes nothing.
    let version = &["get", "configmap/settings", "-o=jsonpath={.metadata.resourceVersion}"];
    let before = world.kubectl(version).await;
    world.serverside(&next, &[]).await;
    assert_eq!(world.kubectl(version).await, before);
    let data = world
        .kubectl(&["get", "configmap/settings", "-o=jsonpath={.data}"])
        .await;
    assert_eq!(data, r#"{"a":"7"}"#);
    let managers = world.managers("configmap/settings").await;
    assert!(managers.contains("kubectl/Apply/"), "{managers}");
    // And back.
    let (good, out, err) = world.try_kubectl(&["apply", "-f", "-"], map).await;
    assert!(good && err.is_empty(), "{out}{err}");
    let data = world
        .kubectl(&["get", "configmap/settings", "-o=jsonpath={.data}"])
        .await;
    assert_eq!(data, r#"{"a":"1","b":"2"}"#);
    // Owners are shown to who asks for them.
    let shown = world
        .kubectl(&["get", "configmap/settings", "-o", "yaml", "--show-managed-fields"])
        .await;
    assert!(shown.contains("fieldsType: FieldsV1"), "{shown}");
    let hidden = world.kubectl(&["get", "configmap/settings", "-o", "yaml"]).await;
    assert!(!hidden.contains("managedFields"), "{hidden}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_library_applies() {
    let world = World::start().await;
    let maps: Api<ConfigMap> = world.all();
    let config = |value: &str| {
        let data = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": value}});
        Patch::Apply(data)
    };
    let mine = PatchParams::apply("mine");
    let made = maps.patch("m", &mine, &config("1")).await.unwrap();
    let again = maps.patch("m", &mine, &config("1")).await.unwrap();
    assert_eq!(made, again);
    let theirs = PatchParams::apply("theirs");
    let error = maps.patch("m", &theirs, &config("2")).await.unwrap_err();
    let kube::Error::Api(status) = error else {
        panic!("{error}")
    };
    assert_eq!(
        (status.code, status.message.as_str()),
        (409, "Apply failed with 1 conflict: conflict with \"mine\": .data.k")
    );
    let forced = maps.patch("m", &theirs.force(), &config("2")).await.unwrap();
    assert_eq!(forced.data.unwrap()["k"], "2");
    let owners = forced.metadata.managed_fields.unwrap();
    assert_eq!(owners.len(), 1);
    assert_eq!(owners[0].manager.as_deref(), Some("theirs"));
}
