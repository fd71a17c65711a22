//! What a pod is: containers in order, configuration, restarts, limits, probes, logs, an end.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api,
    api::{DeleteParams, LogParams, PostParams},
};

use crate::world::{World, end, ended, main_status, phase, ready, waits};

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_lies_beside_the_log_of_a_pod_that_asks_for_it() {
    let world = World::start().await;
    world
        .apply(
            "apiVersion: v1
kind: Pod
metadata: {name: slow, annotations: {coracle.dev/profile: main}}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: worker, args: ['20000000']}
  - {name: other, image: worker, args: ['20000000']}
",
        )
        .await;
    let pod = world.pod("slow", ended).await;
    let uid = pod.metadata.uid.unwrap();
    let dir = world.cluster.data().join(&format!("logs/coracle-1/default_slow_{uid}"));
    let profile = std::fs::read_to_string(dir.join("main/0.profile.json")).unwrap();
    assert!(
        profile.contains("\"product\":\"Coracle\"") && profile.contains("\"stackTable\""),
        "{profile}"
    );
    assert!(!dir.join("other/0.profile.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_dump_lies_beside_the_log_of_a_program_that_trapped() {
    let world = World::start().await;
    world.load_probe();
    world
        .apply(
            "apiVersion: v1
kind: Pod
metadata: {name: fails, annotations: {coracle.dev/core-dump: 'traps, exits'}}
spec:
  restartPolicy: Never
  containers:
  - {name: traps, image: probe, args: [unknown, a word that it remembers]}
  - {name: exits, image: probe, args: [exit, '3']}
  - {name: unasked, image: probe, args: [panic]}
",
        )
        .await;
    let pod = world.pod("fails", ended).await;
    let uid = pod.metadata.uid.unwrap();
    let dir = world
        .cluster
        .data()
        .join(&format!("logs/coracle-1/default_fails_{uid}"));
    let dump = std::fs::read(dir.join("traps/0.core.wasm")).unwrap();
    for held in ["corestack", "a word that it remembers"] {
        assert!(
            dump.windows(held.len()).any(|window| window == held.as_bytes()),
            "{held}"
        );
    }
    assert!(!dir.join("exits/0.core.wasm").exists() && !dir.join("unasked/0.core.wasm").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_reaches_the_guest() {
    let world = World::start().await;
    world.load_probe();
    world
        .apply(
            "apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue, file.txt: from a map}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {password: hunter2}
---
apiVersion: v1
kind: Pod
metadata: {name: configured, labels: {tier: back}}
spec:
  restartPolicy: Never
  initContainers:
  - {name: first, image: probe, args: [write, /shared/note, left by the first], volumeMounts: [{name: shared, mountPath: /shared}]}
  containers:
  - name: main
    image: probe
    args: [env]
    env:
    - {name: PLAIN, value: 'one $(COLOUR)'}
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: AFTER, value: 'two $(COLOUR)'}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: hidden, key: password}}}
    - {name: WHO, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    envFrom: [{prefix: MAP_, configMapRef: {name: settings}}]
  - {name: note, image: probe, args: [read, /shared/note], volumeMounts: [{name: shared, mountPath: /shared}]}
  - {name: map, image: probe, args: [read, /etc/settings/file.txt], volumeMounts: [{name: settings, mountPath: /etc/settings}]}
  - {name: secret, image: probe, args: [read, /etc/hidden/password], volumeMounts: [{name: hidden, mountPath: /etc/hidden}]}
  - {name: readonly, image: probe, args: [write, /etc/settings/file.txt, changed], volumeMounts: [{name: settings, mountPath: /etc/settings}]}
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: settings, configMap: {name: settings}}
  - {name: hidden, secret: {secretName: hidden}}
",
        )
        .await;
    let pod = world.pod("configured", ended).await;
    assert_eq!(phase(&pod), "Succeeded");
    let env = world.log("configured", "main").await;
    for pair in [
        r#"("PLAIN", "one $(COLOUR)")"#,
        r#"("COLOUR", "blue")"#,
        r#"("AFTER", "two blue")"#,
        r#"("PASSWORD", "hunter2")"#,
        r#"("WHO", "configured")"#,
        r#"("MAP_colour", "blue")"#,
        r#"("HOSTNAME", "configured")"#,
    ] {
        assert!(env.contains(pair), "no {pair} in {env}");
    }
    assert_eq!(world.log("configured", "note").await, "Ok(\"left by the first\")\n");
    assert_eq!(world.log("configured", "map").await, "Ok(\"from a map\")\n");
    assert_eq!(world.log("configured", "secret").await, "Ok(\"hunter2\")\n");
    let refused = world.log("configured", "readonly").await;
    assert!(refused.starts_with("Err("), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_restart_as_the_policy_says() {
    let world = World::start().await;
    world.load_probe();
    // Only WASI 0.1 tells the host more than that a program failed.
    world.load("module", coracle_fixtures::preview1("probe").unwrap());
    world.run("once", "module", &["exit", "3"], "").await;
    world
        .apply(
            "apiVersion: v1
kind: Pod
metadata: {name: again}
spec:
  restartPolicy: OnFailure
  containers: [{name: main, image: module, args: [exit, '7']}]
---
apiVersion: v1
kind: Pod
metadata: {name: stuck}
spec:
  initContainers: [{name: first, image: probe, args: [exit, '1']}]
  containers: [{name: main, image: probe, args: [sleep]}]
",
        )
        .await;
    let once = world.pod("once", ended).await;
    assert_eq!(phase(&once), "Failed");
    assert_eq!(end(&once), Some(("Error".to_owned(), 3)));

    let again = world
        .pod("again", |pod| {
            main_status(pod).is_some_and(|status| status.restart_count >= 1)
                && waits(pod).is_some_and(|(reason, _)| reason == "CrashLoopBackOff")
        })
        .await;
    assert_eq!(phase(&again), "Running");
    let last = main_status(&again).unwrap().last_state.clone().unwrap();
    assert_eq!(last.terminated.unwrap().exit_code, 7);
    world.event("Back-off restarting failed container").await;

    // A pod whose first container fails never starts the others.
    let stuck = world
        .pod("stuck", |pod| {
            let init = pod.status.as_ref().and_then(|s| s.init_container_statuses.as_ref());
            init.is_some_and(|init| init[0].restart_count >= 1)
        })
        .await;
    assert_eq!(phase(&stuck), "Pending");
    assert_eq!(waits(&stuck).unwrap().0, "PodInitializing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_over_its_memory_limit_is_killed_and_its_neighbour_is_not() {
    let world = World::start().await;
    world.load_probe();
    world.run("neighbour", "hello", &["hello"], "").await;
    world
        .run("hog", "probe", &["hog"], "resources: {limits: {memory: 32Mi}}")
        .await;
    let hog = world.pod("hog", ended).await;
    assert_eq!(end(&hog), Some(("OOMKilled".to_owned(), 137)));
    let said = world.log("hog", "main").await;
    let reached: u32 = said
        .lines()
        .filter_map(|line| line.strip_suffix(" MiB")?.parse().ok())
        .max()
        .unwrap();
    assert!((16..32).contains(&reached), "{reached} MiB of 32");
    world.pod("neighbour", ready).await;
    let answer = world.http("neighbour", 8080).await;
    assert!(answer.contains("Hello from neighbour"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_neither_stops_the_cluster_nor_outlives_its_pod() {
    let world = World::start().await;
    world.load_probe();
    for n in 0..4 {
        world.run(&format!("spin-{n}"), "probe", &["spin"], "").await;
    }
    for n in 0..4 {
        world.pod(&format!("spin-{n}"), |pod| phase(pod) == "Running").await;
    }
    // Another pod still starts, runs and ends beside them, and the API answers.
    let said = world.output("after", "caller", &["http://missing/"]).await;
    assert!(said.contains("caller:"), "{said}");
    for n in 0..4 {
        let now = DeleteParams::default().grace_period(1);
        world.all::<Pod>().delete(&format!("spin-{n}"), &now).await.unwrap();
    }
    for n in 0..4 {
        world.gone::<Pod>(&world.all(), &format!("spin-{n}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_liveness_probe_restarts_and_readiness_follows_the_probe() {
    let world = World::start().await;
    world.load_probe();
    // Nothing listens on these ports.
    world
        .run(
            "dead",
            "probe",
            &["sleep"],
            "livenessProbe: {tcpSocket: {port: 9}, periodSeconds: 1, failureThreshold: 1}",
        )
        .await;
    world
        .run(
            "waiting",
            "hello",
            &["hello"],
            "readinessProbe: {httpGet: {port: 81}, periodSeconds: 1}",
        )
        .await;
    world
        .run(
            "fine",
            "hello",
            &["hello"],
            "readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}",
        )
        .await;
    world.pod("fine", ready).await;
    world.event("Readiness probe failed").await;
    let waiting = world.pod("waiting", |pod| phase(pod) == "Running").await;
    assert!(!ready(&waiting));
    // restartPolicy is Never, so the pod ends where another would restart.
    world.event("Liveness probe failed").await;
    let dead = world.pod("dead", ended).await;
    assert_eq!(end(&dead).unwrap().1, 143, "ended when it was asked to");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_kept_cut_and_followed() {
    let world = World::start().await;
    world.load_probe();
    let all = world.output("talks", "probe", &["lines", "500"]).await;
    assert_eq!(all.lines().count(), 500);
    let pods = world.all::<Pod>();
    let tail = LogParams {
        tail_lines: Some(3),
        ..LogParams::default()
    };
    assert_eq!(
        pods.logs("talks", &tail).await.unwrap(),
        "line 497\nline 498\nline 499\n"
    );
    let timed = LogParams {
        tail_lines: Some(1),
        timestamps: true,
        ..LogParams::default()
    };
    let timed = pods.logs("talks", &timed).await.unwrap();
    let (time, line) = timed.split_once(' ').unwrap();
    assert!(time.ends_with('Z') && time.contains('T'), "{timed}");
    assert_eq!(line, "line 499\n");

    world
        .apply(
            "apiVersion: v1
kind: Pod
metadata: {name: again}
spec:
  containers: [{name: main, image: probe, args: [lines, '2']}]
",
        )
        .await;
    world
        .pod("again", |pod| {
            main_status(pod).is_some_and(|status| status.restart_count >= 1)
        })
        .await;
    let previous = LogParams {
        previous: true,
        ..LogParams::default()
    };
    assert_eq!(pods.logs("again", &previous).await.unwrap(), "line 0\nline 1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_is_graceful_and_forced_deletion_is_not() {
    let world = World::start().await;
    world.load_probe();
    let pods = world.all::<Pod>();
    for name in ["gently", "at-once"] {
        world.run(name, "probe", &["sleep"], "").await;
        world.pod(name, |pod| phase(pod) == "Running").await;
    }
    let gently = DeleteParams::default().grace_period(2);
    let deleted = pods.delete("gently", &gently).await.unwrap().left().unwrap();
    assert!(deleted.metadata.deletion_timestamp.is_some());
    assert_eq!(deleted.metadata.deletion_grace_period_seconds, Some(2));
    pods.delete("at-once", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    assert!(pods.get_opt("at-once").await.unwrap().is_none());
    world.gone(&pods, "gently").await;
    world.event("Stopping container main").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_with_all_that_it_holds() {
    let world = World::start().await;
    world
        .apply(
            "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: boats, singular: boat, kind: Boat}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
",
        )
        .await;
    world
        .kubectl(&[
            "wait",
            "--for=condition=Established",
            "crd/boats.example.com",
            "--timeout=60s",
        ])
        .await;
    let namespaces: Api<Namespace> = Api::all(world.client());
    world
        .apply(
            "apiVersion: v1
kind: Namespace
metadata: {name: passing}
---
apiVersion: v1
kind: Pod
metadata: {name: hello, namespace: passing}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: hello}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: passing}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: hello}]}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, namespace: passing}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: passing}, spec: {selector: {app: web}, ports: [{port: 80}]}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: passing}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
{apiVersion: example.com/v1, kind: Boat, metadata: {name: small, namespace: passing}}
",
        )
        .await;
    let pods: Api<Pod> = Api::namespaced(world.client(), "passing");
    world.until(&pods, "hello", ready).await;
    let account: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(world.client(), "passing");
    account.get("default").await.unwrap();
    namespaces.delete("passing", &DeleteParams::default()).await.unwrap();
    world.gone(&namespaces, "passing").await;
    let left = world
        .try_kubectl(
            &["get", "all,configmaps,serviceaccounts,pvc,boats", "-n", "passing"],
            "",
        )
        .await;
    assert!(
        left.0 && left.1.is_empty() && left.2.contains("No resources found"),
        "{left:?}"
    );
    let late: Pod = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "late"}, "spec": {"containers": [{"name": "main", "image": "hello"}]},
    }))
    .unwrap();
    let refused = pods.create(&PostParams::default(), &late).await.unwrap_err();
    assert!(
        refused.to_string().contains("namespaces \"passing\" not found"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_class_says_how_a_pod_is_metered_and_requests_of_ports_are_kept_apart() {
    let world = World::start().await;
    world.load_probe();
    world
        .apply(
            "apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: other}
handler: runc
---
apiVersion: v1
kind: Pod
metadata: {name: counted}
spec:
  runtimeClassName: coracle-fuel
  containers: [{name: main, image: probe, args: [spin], resources: {limits: {cpu: 50m}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: foreign}
spec:
  runtimeClassName: other
  containers: [{name: main, image: probe, args: [sleep]}]
",
        )
        .await;
    world.pod("counted", |pod| phase(pod) == "Running").await;
    world
        .pod("foreign", |pod| {
            waits(pod).is_some_and(|(_, message)| message.contains("no runtime for \"runc\""))
        })
        .await;
    // Both name their node themselves, so that the scheduler does not keep them apart.
    for name in ["first", "second"] {
        world
            .apply(&format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  nodeName: coracle-1\n  containers: [{{name: main, image: probe, args: [sleep], ports: [{{containerPort: 80, hostPort: 8080}}]}}]\n"
            ))
            .await;
        let wanted = if name == "first" { "Running" } else { "Failed" };
        world.pod(name, |pod| phase(pod) == wanted).await;
    }
    let second = world.all::<Pod>().get("second").await.unwrap();
    assert_eq!(second.status.unwrap().reason.as_deref(), Some("NodePorts"));
    // What was throttled is counted where dashboards look for it.
    let throttled = async || {
        let request = http::Request::get("/api/v1/nodes/coracle-1/proxy/metrics/cadvisor");
        let metrics = world
            .client()
            .request_text(request.body(Vec::new()).unwrap())
            .await
            .unwrap();
        let mut lines = metrics.lines().filter(|line| line.contains("pod=\"counted\""));
        let line = lines.find(|line| line.starts_with("container_cpu_cfs_throttled_periods_total{container=\"main\""));
        line.and_then(|line| line.split(' ').nth(1)?.parse::<f64>().ok())
            .unwrap_or_default()
    };
    let wait = async {
        while throttled().await == 0.0 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), wait)
        .await
        .expect("nothing was throttled");
}
