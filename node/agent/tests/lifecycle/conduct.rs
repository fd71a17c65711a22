//! What a kubelet does that users and tools rely on, seen by real guests: variables, volumes, the order of containers, ends.

use super::{Node, container, create, is_ready, phase, pod_until};
use crate::api::Api;
use coracle_agent::LogOptions;
use serde_json::{Value, json};

const PODS: &str = super::PODS;

async fn ended(api: &Api, name: &str) -> Value {
    let over = |pod: &Value| matches!(phase(pod), "Succeeded" | "Failed");
    pod_until(api, name, "the pod to end", over).await
}

fn delete(api: &Api, name: &str, grace_seconds: u64) {
    api.change(PODS, name, |pod| {
        pod["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z".into();
        pod["metadata"]["deletionGracePeriodSeconds"] = grace_seconds.into();
    });
}

async fn gone(api: &Api, name: &str) {
    api.until("the pod to be gone", |api| api.get(PODS, name).is_none().then_some(()))
        .await;
}

/// How the container ended, as the last status said that was told of the pod.
fn last_end(api: &Api, name: &str) -> Value {
    let patches = api.patches();
    let of_pod = |patch: &&Value| patch["metadata"]["uid"] == format!("uid-{name}");
    let last = patches.iter().rfind(of_pod).unwrap();
    last["status"]["containerStatuses"][0]["state"]["terminated"].clone()
}

fn condition(pod: &Value, type_: &str) -> Value {
    let all = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|condition| condition["type"] == type_);
    found.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variables_come_from_everywhere_and_are_expanded_in_order() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    api.put(
        "/api/v1/namespaces/ns/services",
        json!({"metadata": {"name": "red-is", "namespace": "ns"},
               "spec": {"clusterIP": "10.96.0.77", "clusterIPs": ["10.96.0.77"], "type": "ClusterIP",
                        "ports": [{"name": "web", "protocol": "TCP", "port": 80, "targetPort": 8080}]}}),
    );
    api.put(
        "/api/v1/namespaces/ns/configmaps",
        json!({"metadata": {"name": "m", "namespace": "ns"}, "data": {"colour": "blue", "shape": "round"}}),
    );
    api.put(
        "/api/v1/namespaces/ns/secrets",
        json!({"metadata": {"name": "s", "namespace": "ns"}, "data": {"key": "c2VzYW1l"}}),
    );
    let node = Node::start(&api, &dir);
    create(
        &api,
        "told",
        json!({"restartPolicy": "Never", "enableServiceLinks": true, "containers": [{"name": "c", "image": "toolbox",
            "command": ["toolbox"], "args": ["sh", "-c", "env; echo said $(PLACE) $$(PLACE) $(NOBODY)"],
            "resources": {"limits": {"memory": "64Mi", "cpu": "1500m"}},
            "envFrom": [{"prefix": "M_", "configMapRef": {"name": "m"}}, {"secretRef": {"name": "none", "optional": true}}],
            "env": [
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "PLACE", "value": "$(NAME).$(RED_IS_SERVICE_PORT)"},
                {"name": "LITERAL", "value": "$$(NAME)"},
                {"name": "EARLY", "value": "$(LATE)"},
                {"name": "LATE", "value": "x"},
                {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}},
                {"name": "ABSENT", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "size", "optional": true}}}]}]}),
    );
    let pod = ended(&api, "told").await;
    let said = node.logs("told", LogOptions::default()).await.unwrap();
    assert_eq!(phase(&pod), "Succeeded", "{said}");
    let lines: Vec<&str> = said.lines().collect();
    for line in [
        "M_colour=blue",
        "M_shape=round",
        "NAME=told",
        "PLACE=told.80",
        "LITERAL=$(NAME)",
        "EARLY=$(LATE)",
        "MEMORY=64",
        "CPUS=2",
        "KEY=sesame",
        "RED_IS_SERVICE_HOST=10.96.0.77",
        "RED_IS_SERVICE_PORT=80",
        "RED_IS_SERVICE_PORT_WEB=80",
        "RED_IS_PORT_80_TCP_ADDR=10.96.0.77",
        "RED_IS_PORT_80_TCP=tcp://10.96.0.77:80",
    ] {
        assert!(lines.contains(&line), "no {line} in\n{said}");
    }
    assert!(!said.contains("ABSENT="), "{said}");
    // The shell sees what the node left of its line: a substitution, of which nobody has the command.
    assert!(said.contains("said told.80"), "{said}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_of_an_object_changes_as_a_whole_and_a_sub_path_does_not() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    let map = |text: &str| {
        api.put(
            "/api/v1/namespaces/ns/configmaps",
            json!({"metadata": {"name": "m", "namespace": "ns"}, "data": {"a": text, "b": text}}),
        );
    };
    map("old");
    create(
        &api,
        "reader",
        json!({"volumes": [{"name": "v", "configMap": {"name": "m"}}],
               "containers": [{"name": "c", "image": "toolbox", "args": ["sleep", "1000"],
                   "volumeMounts": [{"name": "v", "mountPath": "/all"}, {"name": "v", "mountPath": "/one/a", "subPath": "a"}],
                   "readinessProbe": {"periodSeconds": 1, "exec": {"command": ["sh", "-c",
                       "grep -q new /all/a && grep -q new /all/b && grep -q old /one/a && test -L /all/a && test -L /all/..data"]}}}]}),
    );
    pod_until(&api, "reader", "the pod to run", |pod| phase(pod) == "Running").await;
    map("new");
    pod_until(&api, "reader", "the new files, and the old one", is_ready).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_begin_in_order_and_a_sidecar_outlives_the_others() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    let mounts = json!([{"name": "v", "mountPath": "/log"}]);
    let run = |name: &str, text: &str| json!({"name": name, "image": "toolbox", "args": ["sh", "-c", text], "volumeMounts": mounts});
    let mut sidecar = run(
        "sidecar",
        "echo sidecar >> /log/order; trap 'echo end >> /log/order; exit 0' TERM; echo up > /log/up; sleep 1000 & wait",
    );
    sidecar["restartPolicy"] = "Always".into();
    sidecar["startupProbe"] = json!({"exec": {"command": ["cat", "/log/up"]}, "periodSeconds": 1});
    api.put(
        "/api/v1/persistentvolumes",
        json!({"metadata": {"name": "pv-1"}, "spec": {"local": {"path": "/volumes/pv-1"}}}),
    );
    api.put(
        "/api/v1/namespaces/ns/persistentvolumeclaims",
        json!({"metadata": {"name": "data", "namespace": "ns"}, "spec": {"volumeName": "pv-1"}, "status": {"phase": "Bound"}}),
    );
    create(
        &api,
        "ordered",
        json!({"restartPolicy": "Never", "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}],
               "initContainers": [run("first", "echo first >> /log/order"), sidecar, run("second", "echo second >> /log/order")],
               "containers": [run("main", "echo main >> /log/order")]}),
    );
    let pod = ended(&api, "ordered").await;
    assert_eq!(phase(&pod), "Succeeded", "{pod:#}");
    let order = std::fs::read_to_string(dir.path().join("volumes/pv-1/order")).unwrap();
    assert_eq!(order, "first\nsidecar\nsecond\nmain\nend\n");
    let init = pod["status"]["initContainerStatuses"].as_array().unwrap();
    for (status, name) in init.iter().zip(["first", "sidecar", "second"]) {
        assert_eq!(
            (&status["name"], &status["state"]["terminated"]["exitCode"]),
            (&json!(name), &json!(0))
        );
    }
    assert_eq!(condition(&pod, "Initialized")["status"], "True");
    // What was told on the way: nothing of the pod ran before its first containers were done.
    let phases: Vec<String> = api
        .patches()
        .iter()
        .filter_map(|patch| patch["status"]["phase"].as_str().map(str::to_owned))
        .collect();
    let rank = |phase: &String| {
        ["Pending", "Running", "Succeeded"]
            .iter()
            .position(|known| known == phase)
    };
    assert!(phases.iter().map(rank).is_sorted(), "{phases:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_tell_how_far_a_pod_is() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    create(
        &api,
        "starts",
        json!({"initContainers": [{"name": "i", "image": "toolbox", "args": ["sh", "-c", "exit 1"]}],
               "containers": [{"name": "c", "image": "hello"}]}),
    );
    create(&api, "runs", json!({"containers": [{"name": "c", "image": "hello"}]}));
    let pod = pod_until(&api, "starts", "a first container that failed", |pod| {
        pod["status"]["initContainerStatuses"][0]["restartCount"].as_u64() >= Some(1)
    })
    .await;
    assert_eq!(condition(&pod, "PodReadyToStartContainers")["status"], "True");
    assert_eq!(condition(&pod, "Initialized")["status"], "False");
    assert_eq!(condition(&pod, "Initialized")["reason"], "ContainersNotInitialized");
    assert_eq!(condition(&pod, "Ready")["status"], "False");
    assert_eq!(container(&pod)["state"]["waiting"]["reason"], "PodInitializing");
    let pod = pod_until(&api, "runs", "the pod to run", is_ready).await;
    for type_ in [
        "PodScheduled",
        "PodReadyToStartContainers",
        "Initialized",
        "ContainersReady",
        "Ready",
    ] {
        assert_eq!(condition(&pod, type_)["status"], "True", "{type_}: {pod:#}");
    }
    assert_eq!(pod["status"]["observedGeneration"], 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_takes_the_time_it_is_given() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    let deaf = "trap 'echo heard' TERM; echo up > /dev/up; while :; do sleep 0.1; done";
    let ready = json!({"exec": {"command": ["cat", "/dev/up"]}, "periodSeconds": 1});
    create(
        &api,
        "deaf",
        json!({"containers": [{"name": "c", "image": "toolbox", "args": ["sh", "-c", deaf], "readinessProbe": ready}]}),
    );
    create(
        &api,
        "polite",
        json!({"containers": [{"name": "c", "image": "toolbox", "readinessProbe": ready,
            "args": ["sh", "-c", "trap 'exit 5' TERM; echo up > /dev/up; sleep 1000 & wait"],
            "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}]}),
    );
    create(
        &api,
        "asked",
        json!({"containers": [{"name": "c", "image": "hello", "lifecycle": {"preStop": {"httpGet": {"path": "/bye", "port": 8080}}}}]}),
    );
    for name in ["deaf", "polite", "asked"] {
        pod_until(&api, name, "the pod to run", is_ready).await;
    }
    let started = std::time::Instant::now();
    delete(&api, "deaf", 2);
    delete(&api, "polite", 30);
    delete(&api, "asked", 30);
    for name in ["asked", "polite", "deaf"] {
        gone(&api, name).await;
    }
    assert!(started.elapsed().as_secs() >= 2);
    assert_eq!(last_end(&api, "deaf")["exitCode"], 137);
    assert_eq!(last_end(&api, "polite")["exitCode"], 5);
    assert!(
        api.deletions()
            .iter()
            .all(|deletion| deletion["gracePeriodSeconds"] == 0)
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_cut_where_it_is_too_long() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    let say = |text: &str, policy: &str| {
        json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "toolbox", "args": ["sh", "-c", text],
            "terminationMessagePolicy": policy}]})
    };
    create(&api, "file", say("seq 1 5000 > /dev/termination-log", "File"));
    create(&api, "log", say("seq 1000 1999; exit 1", "FallbackToLogsOnError"));
    create(
        &api,
        "lines",
        say(
            "i=0; while [ $i -lt 200 ]; do echo y; i=$((i+1)); done; exit 1",
            "FallbackToLogsOnError",
        ),
    );
    create(&api, "flood", say("yes > /dev/termination-log; exit 0", "File"));
    let message = |pod: &Value| {
        container(pod)["state"]["terminated"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let file = message(&ended(&api, "file").await);
    assert!(file.len() == 4096 && file.starts_with("1\n2\n"), "{} bytes", file.len());
    let log = message(&ended(&api, "log").await);
    assert!(
        log.lines().count() <= 80 && log.len() <= 2048 && log.ends_with("1999\n"),
        "{log}"
    );
    assert_eq!(message(&ended(&api, "lines").await), "y\n".repeat(80));
    // There is an end to what a container may write there.
    ended(&api, "flood").await;
    let written = dir.path().join("pods/n1/uid-flood/messages/c/termination-log");
    assert_eq!(std::fs::metadata(written).unwrap().len(), 1 << 20);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_has_its_own_patience() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    // Three failures in a row end it, and it is given one second instead of the pod's thousand.
    let text = "trap 'echo heard' TERM; while :; do sleep 0.1; done";
    create(
        &api,
        "watched",
        json!({"terminationGracePeriodSeconds": 1000, "containers": [{"name": "c", "image": "toolbox", "args": ["sh", "-c", text],
            "livenessProbe": {"exec": {"command": ["sh", "-c", "echo asked >> /dev/asked; exit 1"]}, "periodSeconds": 1,
                "failureThreshold": 3, "terminationGracePeriodSeconds": 1}}]}),
    );
    create(
        &api,
        "slow",
        json!({"containers": [{"name": "c", "image": "hello",
            "readinessProbe": {"exec": {"command": ["sleep", "1000"]}, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1}}]}),
    );
    let again = |pod: &Value| container(pod)["restartCount"].as_u64() >= Some(1);
    let pod = pod_until(&api, "watched", "a restart", again).await;
    assert_eq!(container(&pod)["lastState"]["terminated"]["exitCode"], 137);
    for (name, words) in [
        ("watched", "Unhealthy: Liveness probe failed"),
        (
            "watched",
            "Killing: Container c failed liveness probe, will be restarted",
        ),
        ("slow", "Unhealthy: Readiness probe failed: no answer within 1 s"),
    ] {
        api.until(&format!("an event of {name}: {words}"), |api| {
            let mut events = api.events().into_iter();
            events
                .any(|(pod, text)| pod == name && text.contains(words))
                .then_some(())
        })
        .await;
    }
    assert!(!is_ready(&api.get(PODS, "slow").unwrap()));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_of_the_hosts_network_has_the_hosts_names() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    let show = |more: Value| {
        let mut spec = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "toolbox",
            "args": ["sh", "-c", "cat /etc/hosts; echo --; cat /etc/resolv.conf"]}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    create(
        &api,
        "host",
        show(json!({"hostNetwork": true, "hostAliases": [{"ip": "10.9.8.7", "hostnames": ["old"]}]})),
    );
    create(
        &api,
        "own",
        show(json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.1.2.3"], "searches": ["example.org"]}})),
    );
    ended(&api, "host").await;
    let said = node.logs("host", LogOptions::default()).await.unwrap();
    assert!(
        !said.contains("# Kubernetes-managed hosts file.\n") && said.contains("10.9.8.7\told"),
        "{said}"
    );
    ended(&api, "own").await;
    let said = node.logs("own", LogOptions::default()).await.unwrap();
    assert!(said.starts_with("# Kubernetes-managed hosts file."), "{said}");
    assert!(
        said.contains("search example.org\nnameserver 10.1.2.3\n") && !said.contains("cluster.local"),
        "{said}"
    );
    node.stop().await;
}
