//! exec, attach and the proxies, with the unmodified kubectl against pods that run.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use crate::world::{World, ready};

const MANIFEST: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: texts}
data: {greeting: "hello from a file\n"}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - name: main
    image: hello
    env: [{name: GREETING, value: Hi}]
    ports: [{containerPort: 8080}]
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
    volumeMounts: [{name: texts, mountPath: /etc/texts}, {name: scratch, mountPath: /scratch}]
  volumes:
  - {name: texts, configMap: {name: texts}}
  - {name: scratch, emptyDir: {}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
"#;

async fn with_pod() -> World {
    let world = World::start().await;
    world.apply(MANIFEST).await;
    world.pod("web", ready).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing")]
async fn kubectl_exec_runs_programs_in_the_container() {
    let world = with_pod().await;
    let run = async |args: &[&str]| {
        let command: Vec<&str> = ["exec", "web", "--"].iter().chain(args).copied().collect();
        world.kubectl(&command).await
    };
    assert_eq!(run(&["cat", "/etc/texts/greeting"]).await, "hello from a file\n");
    assert!(run(&["env"]).await.contains("GREETING=Hi\n"));
    assert_eq!(run(&["ls", "/"]).await, "dev\netc\nscratch\nvar\n");
    assert!(run(&["ls", "/etc/texts"]).await.contains("greeting"));
    let script = "echo one > /scratch/f; echo two >> /scratch/f; cat /scratch/f | wc -l; test -f /nowhere || echo missing $GREETING";
    assert_eq!(run(&["sh", "-c", script]).await, "2\nmissing Hi\n");
    // The pod's own network: its loopback, and the service that leads to it.
    assert!(
        run(&["wget", "-qO-", "http://127.0.0.1:8080/"])
            .await
            .contains("Hi from web")
    );
    // The name alone is the pod itself, as in its /etc/hosts. The node learns of the service's endpoints a moment after the pod is ready.
    let reached = async {
        let ask = ["exec", "web", "--", "wget", "-qO-", "http://web.default/"];
        while !world.try_kubectl(&ask, "").await.1.contains("Hi from web") {}
    };
    tokio::time::timeout(Duration::from_secs(60), reached)
        .await
        .expect("the service answers");
    assert!(
        run(&["nslookup", "web.default.svc.cluster.local"])
            .await
            .contains("10.96.")
    );
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing")]
async fn kubectl_exec_passes_input_and_exit_codes() {
    let world = with_pod().await;
    let (good, out, err) = world
        .try_kubectl(&["exec", "-i", "web", "--", "wc", "-l"], "a\nb\nc\n")
        .await;
    assert!(good, "{err}");
    assert_eq!(out, "3\n");
    let (good, _, err) = world
        .try_kubectl(&["exec", "web", "--", "sh", "-c", "exit 42"], "")
        .await;
    assert!(!good && err.contains("command terminated with exit code 42"), "{err}");
    let (good, _, err) = world.try_kubectl(&["exec", "web", "--", "cat", "/nowhere"], "").await;
    assert!(
        !good && err.contains("cat: /nowhere: No such file or directory"),
        "{err}"
    );
    let (good, _, err) = world.try_kubectl(&["exec", "web", "--", "no-such-program"], "").await;
    assert!(!good && err.contains("executable file not found in $PATH"), "{err}");
    let (good, _, err) = world.try_kubectl(&["exec", "web", "-c", "other", "--", "ls"], "").await;
    assert!(
        !good && err.contains("container other is not valid for pod web"),
        "{err}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing")]
async fn kubectl_exec_works_over_spdy_too() {
    let world = with_pod().await;
    let mut command = world.kubectl_command(&["exec", "web", "--", "sh", "-c", "echo out; exit 3"]);
    command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false");
    let output = command.output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n");
    assert_eq!(
        output.status.code(),
        Some(3),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing")]
async fn kubectl_attach_joins_a_container() {
    let world = World::start().await;
    world
        .apply(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: echo}\nspec:\n  restartPolicy: Never\n  containers:\n  - {name: main, image: toolbox, command: [toolbox, cat], stdin: true, stdinOnce: true}\n",
        )
        .await;
    world.pod("echo", ready).await;
    let (good, out, err) = world.try_kubectl(&["attach", "-i", "echo"], "to and fro\n").await;
    assert!(good, "{err}");
    assert!(out.contains("to and fro\n"), "{out} {err}");
    // Its input ended with the one that attached.
    world.pod("echo", crate::world::ended).await;
    assert_eq!(world.log("echo", "main").await, "to and fro\n");
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing")]
async fn pods_and_services_are_reached_through_the_proxy() {
    let world = with_pod().await;
    for path in [
        "pods/web:8080",
        "pods/web",
        "services/web:http",
        "services/web:80",
        "services/http:web:80",
    ] {
        let answer = world
            .kubectl(&[
                "get",
                "--raw",
                &format!("/api/v1/namespaces/default/{path}/proxy/some?x=1"),
            ])
            .await;
        assert!(
            answer.contains("Hi from web") && answer.contains("GET /some?x=1"),
            "{path}: {answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_counts_against_the_limits_of_its_container() {
    use tokio::io::AsyncReadExt;
    let world = World::start().await;
    world
        .apply(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: small}\nspec:\n  containers:\n  - {name: main, image: toolbox, command: [toolbox, sleep, '3600'], resources: {limits: {memory: 8Mi}}}\n",
        )
        .await;
    world.pod("small", ready).await;
    let pods: Api<Pod> = world.all();
    let params = kube::api::AttachParams::default();
    let mut process = pods
        .exec("small", ["sh", "-c", "x=$(seq 1 10000000)"], &params)
        .await
        .unwrap();
    let mut said = String::new();
    process.stderr().unwrap().read_to_string(&mut said).await.unwrap();
    let status = process.take_status().unwrap().await.unwrap();
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"), "{status:?} {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_in_a_terminal_has_a_prompt_and_an_echo() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = with_pod().await;
    let pods: Api<Pod> = world.all();
    let params = kube::api::AttachParams::interactive_tty();
    let mut shell = pods.exec("web", ["sh"], &params).await.unwrap();
    let (mut keys, mut screen) = (shell.stdin().unwrap(), shell.stdout().unwrap());
    let mut shown = String::new();
    let mut until = async |wanted: &str| {
        let mut piece = [0; 1024];
        while !shown.ends_with(wanted) {
            let read = tokio::time::timeout(Duration::from_secs(60), screen.read(&mut piece)).await;
            let Ok(count) = read else {
                panic!("no {wanted:?} after {shown:?}");
            };
            let count = count.unwrap();
            assert!(count > 0, "the terminal ended with {shown:?}");
            shown.push_str(std::str::from_utf8(&piece[..count]).unwrap());
        }
    };
    until("/ # ").await;
    keys.write_all(b"echo wrong\x17$GREETING\r").await.unwrap();
    until("Hi\r\n/ # ").await;
    // An earlier line again, changed in its middle.
    keys.write_all(b"echo ac\r").await.unwrap();
    until("ac\r\n/ # ").await;
    keys.write_all(b"\x1b[A\x1b[Db\r").await.unwrap();
    until("abc\r\n/ # ").await;
    // The interrupt key is for what runs, not for the shell.
    keys.write_all(b"echo on; sleep 3600; echo never\r").await.unwrap();
    until("never\r\non\r\n").await;
    keys.write_all(b"\x03").await.unwrap();
    until("/ # ").await;
    keys.write_all(b"echo $?\r").await.unwrap();
    until("130\r\n/ # ").await;
    // The end of the input is for the one who reads.
    keys.write_all(b"echo on; cat | tr a-z A-Z\r").await.unwrap();
    until("A-Z\r\non\r\n").await;
    keys.write_all(b"typed\r\x04").await.unwrap();
    until("TYPED\r\n/ # ").await;
    keys.write_all(b"exit 5\r").await.unwrap();
    let status = shell.take_status().unwrap().await.unwrap();
    let code = status.details.unwrap().causes.unwrap()[0].message.clone();
    assert_eq!(code.as_deref(), Some("5"));
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_probes_and_hooks_run_in_the_container() {
    let world = World::start().await;
    world
        .apply(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: probed}\nspec:\n  containers:\n  - name: main\n    image: hello\n    lifecycle: {postStart: {exec: {command: [sh, -c, 'echo up > /scratch/started']}}}\n    readinessProbe: {periodSeconds: 1, exec: {command: [cat, /scratch/started]}}\n    volumeMounts: [{name: scratch, mountPath: /scratch}]\n  volumes: [{name: scratch, emptyDir: {}}]\n",
        )
        .await;
    world.pod("probed", ready).await;
    let pods: Api<Pod> = world.all();
    let params = kube::api::AttachParams::default();
    let mut remove = pods.exec("probed", ["rm", "/scratch/started"], &params).await.unwrap();
    remove.take_status().unwrap().await.unwrap();
    let said = world.event("Readiness probe failed").await;
    assert!(
        said.contains("cat: /scratch/started: No such file or directory"),
        "{said}"
    );
}
