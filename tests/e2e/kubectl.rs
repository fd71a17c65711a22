//! The unmodified kubectl, with the commands that people type first.

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::world::World;

macro_rules! with_kubectl {
    ($(async fn $name:ident($world:ident) $body:block)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        #[cfg_attr(not(has_kubectl), ignore = "kubectl is missing; `. .ci/install` brings it, or your system's package kubernetes-client")]
        async fn $name() {
            let $world = World::start().await;
            $body
        }
    )*};
}
pub(crate) use with_kubectl;

with_kubectl! {
    async fn create_look_scale_and_delete(world) {
        world.kubectl(&["create", "deployment", "hello", "--image=hello"]).await;
        world.kubectl(&["wait", "--for=condition=Available", "deployment/hello", "--timeout=60s"]).await;
        let wide = world.kubectl(&["get", "pods", "-o", "wide"]).await;
        let (head, row) = wide.split_once('\n').unwrap();
        for column in ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES"] {
            assert!(head.contains(column), "{wide}");
        }
        for cell in ["hello-", "1/1", "Running", "coracle-1", "10.244."] {
            assert!(row.contains(cell), "{wide}");
        }
        world.kubectl(&["scale", "deployment/hello", "--replicas=3"]).await;
        world.kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"]).await;
        world.kubectl(&["expose", "deployment/hello", "--port=80", "--target-port=8080"]).await;
        let all = world.kubectl(&["get", "all", "-A"]).await;
        for part in ["deployment.apps/hello   3/3", "replicaset.apps/hello-", "service/hello", "service/kubernetes"] {
            assert!(all.contains(part), "{all}");
        }
        // Events are written beside the work that they tell of.
        world.event("Started container hello").await;
        let described = world.kubectl(&["describe", "pod", "-l", "app=hello"]).await;
        for part in ["Controlled By:  ReplicaSet/hello-", "Node:", "Ready:          True", "Scheduled", "Pulled", "Created", "Started"] {
            assert!(described.contains(part), "no {part:?} in {described}");
        }
        let nodes = world.kubectl(&["get", "nodes"]).await;
        assert!(nodes.contains("coracle-1   Ready"), "{nodes}");
        world.kubectl(&["describe", "node", "coracle-1"]).await;
        let events = world.kubectl(&["get", "events"]).await;
        for reason in ["ScalingReplicaSet", "SuccessfulCreate", "Scheduled", "Started"] {
            assert!(events.contains(reason), "{events}");
        }
        world.kubectl(&["delete", "deployment/hello", "service/hello"]).await;
        world.kubectl(&["wait", "--for=delete", "pod", "-l", "app=hello", "--timeout=60s"]).await;
        let (_, out, err) = world.try_kubectl(&["get", "pods"], "").await;
        assert_eq!((out.as_str(), err.as_str()), ("", "No resources found in default namespace.\n"));
    }

    async fn apply_the_examples_roll_and_undo(world) {
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/");
        world.kubectl(&["apply", "-f", examples]).await;
        for (namespace, name) in [("default", "hello"), ("default", "configured"), ("default", "rolling"), ("demo", "web")] {
            let deployment = format!("deployment/{name}");
            world.kubectl(&["rollout", "status", &deployment, "-n", namespace, "--timeout=80s"]).await;
        }
        let again = world.kubectl(&["apply", "-f", examples]).await;
        assert!(again.lines().all(|line| line.ends_with("unchanged")), "{again}");

        let image = "-o=jsonpath={.spec.template.spec.containers[0].image}";
        world.kubectl(&["set", "image", "deployment/rolling", "hello=hello:v2"]).await;
        world.kubectl(&["rollout", "status", "deployment/rolling", "--timeout=80s"]).await;
        assert_eq!(world.kubectl(&["get", "deployment/rolling", image]).await, "hello:v2");
        let history = world.kubectl(&["rollout", "history", "deployment/rolling"]).await;
        assert!(history.contains("\n2 "), "{history}");
        world.kubectl(&["rollout", "undo", "deployment/rolling"]).await;
        world.kubectl(&["rollout", "status", "deployment/rolling", "--timeout=80s"]).await;
        assert_eq!(world.kubectl(&["get", "deployment/rolling", image]).await, "hello:v1");
        world.kubectl(&["delete", "-f", examples]).await;
    }

    async fn a_policy_refuses_and_says_why(world) {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/policies.yaml");
        world.kubectl(&["apply", "-f", file]).await;
        let create = ["create", "deployment", "hello", "--image=hello", "-n", "limited"];
        let (done, _, err) = world.try_kubectl(&[&create[..], &["--replicas=5"]].concat(), "").await;
        assert!(!done);
        assert_eq!(
            err,
            "error: failed to create deployment: deployments.apps \"hello\" is forbidden: ValidatingAdmissionPolicy 'few-replicas' with binding 'few-replicas' denied request: at most 3 replicas here, not 5\n"
        );
        world.kubectl(&[&create[..], &["--replicas=2"]].concat()).await;
        // Scaling is another door, which this policy does not guard.
        world.kubectl(&["scale", "deployment/hello", "--replicas=4", "-n", "limited"]).await;
        let warn = "{\"spec\": {\"validationActions\": [\"Warn\"]}}";
        world.kubectl(&["patch", "validatingadmissionpolicybinding/few-replicas", "--type=merge", "-p", warn]).await;
        let label = ["label", "deployment/hello", "seen=yes", "-n", "limited"];
        let (done, _, err) = world.try_kubectl(&label, "").await;
        assert!(done && err.starts_with("Warning: Validation failed for ValidatingAdmissionPolicy 'few-replicas'"), "{err}");
        let policies = world.kubectl(&["get", "validatingadmissionpolicies,mutatingadmissionpolicies"]).await;
        assert!(policies.contains("few-replicas") && policies.contains("created-by"), "{policies}");
    }

    async fn logs_follow_and_ports_forward(world) {
        world.kubectl(&["run", "hello", "--image=hello"]).await;
        world.kubectl(&["wait", "--for=condition=Ready", "pod/hello", "--timeout=60s"]).await;
        let mut logs = world.kubectl_command(&["logs", "-f", "hello"]).spawn().unwrap();
        let mut logged = BufReader::new(logs.stdout.take().unwrap()).lines();
        assert_eq!(logged.next_line().await.unwrap().unwrap(), "hello: listening on 0.0.0.0:8080");

        let mut forward = world.kubectl_command(&["port-forward", "pod/hello", ":8080"]).spawn().unwrap();
        let mut lines = BufReader::new(forward.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().unwrap();
        let port = line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split(' ').next());
        for _ in 0..3 {
            let stream = tokio::net::TcpStream::connect(format!("127.0.0.1:{}", port.unwrap())).await.unwrap();
            let answer = crate::world::http(stream).await;
            assert!(answer.contains("Hello from hello"), "{answer}");
            assert_eq!(logged.next_line().await.unwrap().unwrap(), "hello: GET / HTTP/1.1");
        }
        assert_eq!(world.kubectl(&["logs", "hello", "--tail=1"]).await, "hello: GET / HTTP/1.1\n");
        // The followed log ends with its container.
        world.kubectl(&["delete", "pod", "hello", "--grace-period=1"]).await;
        assert_eq!(logged.next_line().await.unwrap(), None);
        assert!(logs.wait().await.unwrap().success());
    }

    async fn patch_label_and_explain(world) {
        world.kubectl(&["create", "configmap", "settings", "--from-literal=a=1"]).await;
        world.kubectl(&["patch", "configmap", "settings", "-p", r#"{"data":{"b":"2"}}"#]).await;
        world.kubectl(&["patch", "configmap", "settings", "--type=json", "-p", r#"[{"op":"replace","path":"/data/a","value":"3"}]"#]).await;
        world.kubectl(&["patch", "configmap", "settings", "--type=merge", "-p", r#"{"data":{"c":"4"}}"#]).await;
        world.kubectl(&["label", "configmap", "settings", "tier=back"]).await;
        world.kubectl(&["annotate", "configmap", "settings", "note=kept"]).await;
        let found = world.kubectl(&["get", "configmap", "-l", "tier=back", "-o", "jsonpath={.items[0].data}"]).await;
        assert_eq!(found, r#"{"a":"3","b":"2","c":"4"}"#);
        let read = world.kubectl(&["get", "configmap", "settings", "-o", "yaml"]).await;
        let (good, out, err) = world.try_kubectl(&["replace", "-f", "-"], &read.replace("note: kept", "note: changed")).await;
        assert!(good, "{out}{err}");
        let (good, _, err) = world.try_kubectl(&["replace", "-f", "-"], &read).await;
        assert!(!good && err.contains("the object has been modified"), "{err}");

        let explained = world.kubectl(&["explain", "pod.spec.containers.image"]).await;
        assert!(explained.contains("FIELD: image <string>"), "{explained}");
        assert!(explained.contains("Container image name. More info:"), "{explained}");
        let explained = world.kubectl(&["explain", "pod"]).await;
        assert!(explained.contains("KIND:       Pod") && explained.contains("spec\t<PodSpec>"), "{explained}");
        assert!(explained.contains("Pod is a collection of containers that can run on a host."), "{explained}");
        let services = world.kubectl(&["get", "apiservices"]).await;
        let row = services.lines().find(|line| line.starts_with("v1.apps ")).unwrap_or_default();
        assert_eq!(row.split_whitespace().take(3).collect::<Vec<_>>(), ["v1.apps", "Local", "True"], "{services}");
        let resources = world.kubectl(&["api-resources"]).await;
        for name in ["pods", "deployments", "endpointslices", "leases"] {
            assert!(resources.contains(name), "{resources}");
        }
        let may = world.kubectl(&["auth", "can-i", "create", "pods"]).await;
        assert_eq!(may, "yes\n");
    }

    async fn mistakes_are_named(world) {
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: hello, imagee: x}]}\n";
        let (good, _, err) = world.try_kubectl(&["apply", "-f", "-"], pod).await;
        assert!(!good && err.contains(r#"unknown field "spec.containers[0].imagee""#), "{err}");
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: 7}]}\n";
        let (good, _, err) = world.try_kubectl(&["create", "-f", "-"], pod).await;
        assert!(!good && err.contains("image"), "{err}");
        let (good, _, err) = world.try_kubectl(&["get", "pod", "nobody"], "").await;
        assert!(!good);
        assert_eq!(err, "Error from server (NotFound): pods \"nobody\" not found\n");
        let (good, _, err) = world.try_kubectl(&["scale", "deployment/nobody", "--replicas=1"], "").await;
        assert!(!good && err.contains("not found"), "{err}");
        let (good, _, err) = world.try_kubectl(&["get", "pods", "--as=ann"], "").await;
        assert!(!good && err.contains("forbidden") || err.contains("impersonat"), "{err}");
    }
}
