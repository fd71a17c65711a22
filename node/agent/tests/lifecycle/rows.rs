//! What the specification of a pod says, row by row, seen by real guests.

use super::{Node, container, create, is_ready, phase, pod_until};
use crate::api::Api;
use coracle_agent::LogOptions;
use serde_json::{Value, json};

const PODS: &str = super::PODS;

/// A pod whose container runs a script of the toolbox and is not started again.
fn script(text: &str, more: Value) -> Value {
    let mut container = json!({"name": "c", "image": "toolbox", "args": ["sh", "-c", text]});
    merge(&mut container, &more);
    json!({"restartPolicy": "Never", "containers": [container]})
}

fn merge(into: &mut Value, more: &Value) {
    let more = more.as_object().unwrap().clone();
    into.as_object_mut().unwrap().extend(more);
}

async fn ended(api: &Api, name: &str) -> Value {
    let over = |pod: &Value| matches!(phase(pod), "Succeeded" | "Failed");
    pod_until(api, name, "the pod to end", over).await
}

fn message(pod: &Value) -> &str {
    container(pod)["state"]["terminated"]["message"]
        .as_str()
        .unwrap_or_default()
}

async fn event(api: &Api, pod: &str, words: &str) {
    let said = |api: &Api| {
        let mut events = api.events().into_iter();
        events
            .any(|(name, text)| name == pod && text.contains(words))
            .then_some(())
    };
    api.until(&format!("an event of {pod}: {words}"), said).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_hosts_are_in_files_and_in_look_ups() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    let mut spec = script(
        "cat /etc/hosts; cat /etc/resolv.conf; cat /etc/hostname; nslookup old.example; nslookup db",
        json!({}),
    );
    merge(
        &mut spec,
        &json!({"hostname": "db", "subdomain": "data", "dnsConfig": {"searches": ["example"], "options": [{"name": "ndots", "value": "2"}]},
                "hostAliases": [{"ip": "10.9.8.7", "hostnames": ["old.example"]}]}),
    );
    create(&api, "named", spec);
    let pod = ended(&api, "named").await;
    let said = node.logs("named", LogOptions::default()).await.unwrap();
    assert_eq!(phase(&pod), "Succeeded", "{said}");
    let ip = pod["status"]["podIP"].as_str().unwrap();
    for words in [
        "# Kubernetes-managed hosts file.",
        &format!("{ip}\tdb.data.ns.svc.cluster.local\tdb\n"),
        "# Entries added by HostAliases.\n10.9.8.7\told.example\n",
        "search ns.svc.cluster.local svc.cluster.local cluster.local example\nnameserver 10.96.0.10\noptions ndots:2\n",
        "\ndb\n",
        "Address 1: 10.9.8.7",
        &format!("Address 1: {ip}"),
    ] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_says_why_it_ended() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    let falls_back = json!({"terminationMessagePolicy": "FallbackToLogsOnError"});
    create(&api, "file", script("echo all done > /dev/termination-log", json!({})));
    create(
        &api,
        "elsewhere",
        script(
            "echo bad luck > /tmp/why; exit 3",
            json!({"terminationMessagePath": "/tmp/why"}),
        ),
    );
    create(
        &api,
        "log",
        script("echo first; echo last words; exit 4", falls_back.clone()),
    );
    create(&api, "well", script("echo nothing to say", falls_back));
    assert_eq!(message(&ended(&api, "file").await), "all done\n");
    let elsewhere = ended(&api, "elsewhere").await;
    assert_eq!(message(&elsewhere), "bad luck\n");
    assert_eq!(container(&elsewhere)["state"]["terminated"]["exitCode"], 3);
    assert_eq!(message(&ended(&api, "log").await), "first\nlast words\n");
    assert_eq!(message(&ended(&api, "well").await), "");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_probes_ask_the_health_service() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    node.load_probe(&dir);
    let server = |state: &str, port: u16| {
        json!({"containers": [{"name": "c", "image": "probe", "args": ["grpc", "0.0.0.0:9000", state],
            "readinessProbe": {"grpc": {"port": port, "service": "x"}, "periodSeconds": 1, "failureThreshold": 1}}]})
    };
    create(&api, "serving", server("1", 9000));
    create(&api, "not-serving", server("2", 9000));
    create(&api, "nobody", server("1", 9001));
    pod_until(&api, "serving", "readiness", is_ready).await;
    event(
        &api,
        "not-serving",
        "Readiness probe failed: service unhealthy (responded with \"NOT_SERVING\")",
    )
    .await;
    event(&api, "nobody", "Readiness probe failed: service 10.244.").await;
    assert!(!is_ready(&api.get(PODS, "not-serving").unwrap()));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_is_added_to_look_around() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    create(&api, "web", json!({"containers": [{"name": "c", "image": "hello"}]}));
    let mut pod = pod_until(&api, "web", "the pod to run", is_ready).await;
    pod["spec"]["ephemeralContainers"] = json!([{"name": "debugger", "image": "toolbox", "targetContainerName": "c",
        "args": ["sh", "-c", "wget -qO- http://127.0.0.1:8080/; exit 7"]}]);
    api.put(PODS, pod);
    let state = |pod: &Value| pod["status"]["ephemeralContainerStatuses"][0]["state"].clone();
    let pod = pod_until(&api, "web", "the debugger to end", |pod| {
        state(pod)["terminated"].is_object()
    })
    .await;
    assert_eq!(state(&pod)["terminated"]["exitCode"], 7);
    assert!(is_ready(&pod) && phase(&pod) == "Running");
    assert_eq!(container(&pod)["restartCount"], 0);
    let said = node.logs_of("web", "debugger", LogOptions::default()).await.unwrap();
    assert!(said.contains("Hello from web"), "{said}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources_change_while_a_container_runs() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    let resources = |cpu: &str, memory: &str| json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}});
    let restarts = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    create(
        &api,
        "sized",
        json!({"containers": [{"name": "c", "image": "hello", "resources": resources("100m", "64Mi")}]}),
    );
    create(
        &api,
        "restarted",
        json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "hello", "resources": resources("100m", "64Mi"), "resizePolicy": restarts}]}),
    );
    let change = async |name: &str, to: Value| {
        let mut pod = pod_until(&api, name, "the pod to run", is_ready).await;
        pod["spec"]["containers"][0]["resources"] = to;
        let generation = pod["metadata"]["generation"].as_u64().unwrap() + 1;
        pod["metadata"]["generation"] = generation.into();
        api.put(PODS, pod);
        generation
    };
    let told = |pod: &Value, what: &Value| container(pod)["resources"] == *what;
    let condition = |pod: &Value, type_: &str| {
        let all = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|condition| condition["type"] == type_)
    };

    let bigger = resources("200m", "128Mi");
    let generation = change("sized", bigger.clone()).await;
    let pod = pod_until(&api, "sized", "the new size", |pod| told(pod, &bigger)).await;
    assert_eq!(container(&pod)["restartCount"], 0);
    assert_eq!(pod["status"]["observedGeneration"], generation);
    assert_eq!(container(&pod)["allocatedResources"], bigger["requests"]);
    // More than the machine will ever have is refused, and taking that back ends the refusal.
    change("sized", resources("100000", "128Mi")).await;
    let pod = pod_until(&api, "sized", "a refusal", |pod| {
        condition(pod, "PodResizePending").is_some()
    })
    .await;
    assert_eq!(condition(&pod, "PodResizePending").unwrap()["reason"], "Infeasible");
    assert!(told(&pod, &bigger));
    change("sized", bigger.clone()).await;
    pod_until(&api, "sized", "the refusal to end", |pod| {
        condition(pod, "PodResizePending").is_none()
    })
    .await;
    // Less memory than the guest holds cannot be.
    change("sized", resources("200m", "64Ki")).await;
    let pod = pod_until(&api, "sized", "a failure", |pod| {
        condition(pod, "PodResizeInProgress").is_some()
    })
    .await;
    let why = condition(&pod, "PodResizeInProgress").unwrap();
    assert!(why["message"].as_str().unwrap().contains("is less than"), "{why}");

    change("restarted", bigger.clone()).await;
    let again = |pod: &Value| told(pod, &bigger) && container(pod)["restartCount"] == 1 && is_ready(pod);
    pod_until(&api, "restarted", "a restart with the new size", again).await;
    event(&api, "restarted", "resize requires restart").await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_replaced_starts_the_container_again() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    create(
        &api,
        "web",
        json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "hello:v1"}]}),
    );
    let mut pod = pod_until(&api, "web", "the pod to run", is_ready).await;
    pod["spec"]["containers"][0]["image"] = "hello:v2".into();
    api.put(PODS, pod);
    let again =
        |pod: &Value| container(pod)["image"] == "hello:v2" && container(pod)["restartCount"] == 1 && is_ready(pod);
    let pod = pod_until(&api, "web", "the new image", again).await;
    assert_eq!(container(&pod)["lastState"]["terminated"]["exitCode"], 143);
    event(&api, "web", "Container c definition changed, will be restarted").await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_follow_what_changes_about_the_pod() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    let item = json!({"path": "colour", "fieldRef": {"fieldPath": "metadata.annotations['colour']"}});
    create(
        &api,
        "told",
        json!({"volumes": [{"name": "d", "downwardAPI": {"items": [item]}}, {"name": "e", "emptyDir": {}}],
               "containers": [{"name": "c", "image": "hello",
                   "env": [{"name": "WHERE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['where']"}}}],
                   "volumeMounts": [{"name": "d", "mountPath": "/told"}, {"name": "e", "mountPath": "/data", "subPathExpr": "$(WHERE)/x"}],
                   "readinessProbe": {"exec": {"command": ["sh", "-c", "grep -q red /told/colour"]}, "periodSeconds": 1}}]}),
    );
    let annotate = |annotations: Value| {
        api.change(PODS, "told", |pod| pod["metadata"]["annotations"] = annotations);
    };
    // A path that leads out is refused until the annotation is a better one.
    annotate(json!({"where": "..", "colour": "blue"}));
    let refused = |pod: &Value| container(pod)["state"]["waiting"]["reason"] == "CreateContainerConfigError";
    let pod = pod_until(&api, "told", "a refusal", |pod| refused(pod) || phase(pod) == "Running").await;
    if refused(&pod) {
        event(&api, "told", "leads out of the volume").await;
    }
    annotate(json!({"where": "here", "colour": "blue"}));
    pod_until(&api, "told", "the pod to run", |pod| phase(pod) == "Running").await;
    annotate(json!({"where": "here", "colour": "red"}));
    pod_until(&api, "told", "the file to follow", is_ready).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_outlives_its_pods() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    api.put(
        "/api/v1/persistentvolumes",
        json!({"metadata": {"name": "pv-1"}, "spec": {"local": {"path": "/volumes/pv-1"}}}),
    );
    let claims = "/api/v1/namespaces/ns/persistentvolumeclaims";
    api.put(
        claims,
        json!({"metadata": {"name": "data", "namespace": "ns"}, "spec": {"volumeName": "pv-1"}, "status": {"phase": "Bound"}}),
    );
    api.put(
        claims,
        json!({"metadata": {"name": "waits", "namespace": "ns"}, "spec": {}, "status": {"phase": "Pending"}}),
    );
    let with = |claim: &str, read_only: bool, text: &str| {
        let mut spec = script(text, json!({"volumeMounts": [{"name": "v", "mountPath": "/data"}]}));
        let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": claim, "readOnly": read_only}});
        merge(&mut spec, &json!({ "volumes": [volume] }));
        spec
    };
    create(&api, "writer", with("data", false, "echo kept > /data/file"));
    assert_eq!(phase(&ended(&api, "writer").await), "Succeeded");
    api.remove(PODS, "writer");
    create(
        &api,
        "reader",
        with("data", true, "cat /data/file; echo other > /data/file"),
    );
    ended(&api, "reader").await;
    let said = node.logs("reader", LogOptions::default()).await.unwrap();
    assert!(said.starts_with("kept\n"), "{said}");
    assert_eq!(
        std::fs::read_to_string(dir.path().join("volumes/pv-1/file")).unwrap(),
        "kept\n"
    );
    create(&api, "early", with("waits", false, "true"));
    event(
        &api,
        "early",
        "FailedMount: MountVolume.SetUp failed for volume \"v\" : persistentvolumeclaim \"waits\" is not bound",
    )
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_have_their_limits_and_the_host_is_out_of_bounds() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    let with = |volume: Value, text: &str| {
        let mut spec = script(text, json!({"volumeMounts": [{"name": "v", "mountPath": "/data"}]}));
        merge(&mut spec, &json!({ "volumes": [volume] }));
        spec
    };
    let small = json!({"name": "v", "emptyDir": {"sizeLimit": "4Ki"}});
    create(
        &api,
        "greedy",
        with(
            small,
            "seq 1 5000 > /data/file || echo refused; wc -c < /data/file; rm /data/file; echo again > /data/file && echo written",
        ),
    );
    create(
        &api,
        "nosy",
        with(json!({"name": "v", "hostPath": {"path": "/"}}), "ls /data"),
    );
    create(
        &api,
        "image",
        with(json!({"name": "v", "image": {"reference": "hello"}}), "ls /data"),
    );
    ended(&api, "greedy").await;
    let said = node.logs("greedy", LogOptions::default()).await.unwrap();
    assert!(said.ends_with("refused\n4096\nwritten\n"), "{said}");
    event(&api, "greedy", "VolumeFull: Volume \"v\" is full: it may hold 4Ki").await;
    event(&api, "nosy", "start the node with --allow-host-paths").await;
    ended(&api, "image").await;
    assert_eq!(node.logs("image", LogOptions::default()).await.unwrap(), "hello.wasm\n");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_run_after_the_start_and_before_the_end() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    api.put(
        "/api/v1/persistentvolumes",
        json!({"metadata": {"name": "pv-1"}, "spec": {"local": {"path": "/volumes/pv-1"}}}),
    );
    api.put(
        "/api/v1/namespaces/ns/persistentvolumeclaims",
        json!({"metadata": {"name": "data", "namespace": "ns"}, "spec": {"volumeName": "pv-1"}, "status": {"phase": "Bound"}}),
    );
    let run = |text: &str| json!({"exec": {"command": ["sh", "-c", text]}});
    create(
        &api,
        "hooked",
        json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}],
               "containers": [{"name": "c", "image": "toolbox", "args": ["sleep", "1000"],
                   "volumeMounts": [{"name": "v", "mountPath": "/data"}],
                   "readinessProbe": {"exec": {"command": ["cat", "/data/up"]}, "periodSeconds": 1},
                   "lifecycle": {"postStart": run("echo up > /data/up"), "preStop": run("echo bye > /data/bye")}}]}),
    );
    create(
        &api,
        "unhooked",
        json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "toolbox", "args": ["sleep", "1000"],
            "lifecycle": {"postStart": run("exit 3")}}]}),
    );
    let mut pod = pod_until(&api, "hooked", "the first hook", is_ready).await;
    pod["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z".into();
    pod["metadata"]["deletionGracePeriodSeconds"] = 30.into();
    api.put(PODS, pod);
    api.until("the end", |api| api.get(PODS, "hooked").is_none().then_some(()))
        .await;
    let said = std::fs::read_to_string(dir.path().join("volumes/pv-1/bye")).unwrap();
    assert_eq!(said, "bye\n");
    event(&api, "unhooked", "FailedPostStartHook: PostStartHook failed: ").await;
    assert_eq!(phase(&ended(&api, "unhooked").await), "Failed");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_ready_when_others_agree_and_over_when_its_time_is() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    create(
        &api,
        "gated",
        json!({"readinessGates": [{"conditionType": "example.com/agreed"}], "containers": [{"name": "c", "image": "hello"}]}),
    );
    create(
        &api,
        "slow",
        json!({"containers": [{"name": "c", "image": "toolbox", "args": ["sh", "-c", "sleep 1; echo > /dev/up; sleep 1000"],
            "startupProbe": {"exec": {"command": ["cat", "/dev/up"]}, "periodSeconds": 1, "failureThreshold": 60}}]}),
    );
    create(
        &api,
        "late",
        json!({"activeDeadlineSeconds": 1, "terminationGracePeriodSeconds": 1,
               "containers": [{"name": "c", "image": "toolbox", "args": ["sleep", "1000"]}]}),
    );
    let condition = |pod: &Value, type_: &str| {
        let all = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        all.into_iter()
            .find(|condition| condition["type"] == type_)
            .unwrap_or_default()
    };
    let holds = |pod: &Value| condition(pod, "ContainersReady")["status"] == "True";
    let mut pod = pod_until(&api, "gated", "the container to be ready", holds).await;
    assert_eq!(condition(&pod, "Ready")["reason"], "ReadinessGatesNotReady");
    let agreed = json!({"type": "example.com/agreed", "status": "True"});
    pod["status"]["conditions"].as_array_mut().unwrap().push(agreed);
    api.put(PODS, pod);
    pod_until(&api, "gated", "the pod to be ready", is_ready).await;

    let unstarted = |pod: &Value| container(pod)["state"]["running"].is_object() && container(pod)["started"] == false;
    pod_until(&api, "slow", "a start under way", unstarted).await;
    pod_until(&api, "slow", "the start", |pod| {
        container(pod)["started"] == true && is_ready(pod)
    })
    .await;
    let late = ended(&api, "late").await;
    assert_eq!(
        (phase(&late), &late["status"]["reason"]),
        ("Failed", &json!("DeadlineExceeded"))
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_holds_what_it_asked_for() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    let claim = |name: &str| {
        api.put(
            "/api/v1/namespaces/ns/persistentvolumeclaims",
            json!({"metadata": {"name": name, "namespace": "ns"}, "spec": {"volumeName": "pv-1"}, "status": {"phase": "Bound"}}),
        );
    };
    api.put(
        "/api/v1/persistentvolumes",
        json!({"metadata": {"name": "pv-1"}, "spec": {"capacity": {"storage": "64Ki"}, "local": {"path": "/volumes/pv-1"}}}),
    );
    claim("data");
    let with = |text: &str| {
        let mut spec = script(text, json!({"volumeMounts": [{"name": "v", "mountPath": "/data"}]}));
        merge(
            &mut spec,
            &json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}),
        );
        spec
    };
    let length = |name: &str| std::fs::metadata(dir.path().join("volumes/pv-1").join(name)).map(|found| found.len());
    let fill = "dd if=/dev/zero of=/data/$HOSTNAME bs=1024 count=1000; echo done";
    let fill = &fill.replace("if=/dev/zero of=", "of=").replace("dd ", "yes | dd ");
    create(&api, "first", with(fill));
    ended(&api, "first").await;
    assert_eq!(length("first").unwrap(), 64 << 10);
    event(&api, "first", "VolumeFull: Volume \"v\" is full: it may hold 64Ki").await;
    node.stop().await;

    // Another node process finds what is there; a larger claim has more room.
    let node = Node::start(&api, &dir);
    create(&api, "second", with(fill));
    ended(&api, "second").await;
    assert_eq!(length("second").unwrap_or_default(), 0);
    api.change("/api/v1/persistentvolumes", "pv-1", |volume| {
        volume["spec"]["capacity"]["storage"] = "96Ki".into();
    });
    create(&api, "third", with(fill));
    ended(&api, "third").await;
    assert_eq!(length("third").unwrap(), 32 << 10);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_pod_keeps_on_the_node_is_limited_in_sum() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    let text = "yes | dd of=/a/file bs=1024 count=1000; yes | dd of=/b/file bs=1024 count=1000; wc -c < /a/file; wc -c < /b/file";
    let mut spec = script(
        text,
        json!({"resources": {"limits": {"ephemeral-storage": "64Ki"}},
               "volumeMounts": [{"name": "a", "mountPath": "/a"}, {"name": "b", "mountPath": "/b"}]}),
    );
    merge(
        &mut spec,
        &json!({"volumes": [{"name": "a", "emptyDir": {"sizeLimit": "48Ki"}}, {"name": "b", "emptyDir": {}}]}),
    );
    create(&api, "keeper", spec);
    ended(&api, "keeper").await;
    let said = node.logs("keeper", LogOptions::default()).await.unwrap();
    assert!(said.ends_with("49152\n16384\n"), "{said}");
    event(&api, "keeper", "raise limits.ephemeral-storage").await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_cannot_run_says_what_it_lacks() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    let store = coracle_images::ImageStore::open(dir.path().join("images")).unwrap();
    let text = r#"(component (import "wasi:keyvalue/store@0.2.0" (instance)))"#;
    let config = coracle_images::ImageConfig {
        entrypoint: vec!["keeps".to_owned()],
        ..Default::default()
    };
    store.load("keeps", &wat::parse_str(text).unwrap(), &config).unwrap();
    create(&api, "keeps", json!({"containers": [{"name": "c", "image": "keeps"}]}));
    let waits = |pod: &Value| container(pod)["state"]["waiting"]["reason"] == "CreateContainerError";
    let pod = pod_until(&api, "keeps", "a refusal", waits).await;
    let why = container(&pod)["state"]["waiting"]["message"].as_str().unwrap();
    for words in [
        "wasi:keyvalue/store@0.2.0",
        "wasi:cli/command",
        "build the program for one of these",
    ] {
        assert!(why.contains(words), "{why}");
    }
    event(&api, "keeps", "wasi:keyvalue/store@0.2.0").await;
    let known = node.handle.verdict("keeps", "IfNotPresent", "").await;
    assert!(matches!(known, coracle_agent::Verdict::Unfit(_)), "{known:?}");
    for (image, policy, class) in [("hello", "", ""), ("nothing", "", ""), ("keeps", "", "other")] {
        let known = node.handle.verdict(image, policy, class).await;
        assert!(!matches!(known, coracle_agent::Verdict::Unfit(_)), "{image}: {known:?}");
    }
    node.stop().await;
}
