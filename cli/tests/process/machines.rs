//! Three machines with addresses of their own, as network namespaces on a bridge: what a user does with kubectl, and what is
//! lost and found again when wires are cut and machines die.

use std::{
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use tokio::process::{Child, Command};

use super::{PATIENCE, Process, share_compiled};

/// How long a node may be silent in this test: longer than two of its renewals, or it would be lost by being slow.
const GRACE: &str = "25s";

/// Namespaces that go with the value.
struct Wire {
    prefix: String,
}

impl Wire {
    /// As many machines at 192.168.77.1 and so on, all on one bridge.
    async fn between(count: usize) -> Self {
        let wire = Self {
            prefix: format!("coracle-{}", std::process::id()),
        };
        let switch = wire.name(0);
        ip(&["netns", "add", &switch]).await;
        ip(&["-n", &switch, "link", "add", "bridge", "type", "bridge"]).await;
        ip(&["-n", &switch, "link", "set", "bridge", "up"]).await;
        for number in 1..=count {
            let (machine, port) = (wire.name(number), format!("port{number}"));
            ip(&["netns", "add", &machine]).await;
            ip(&[
                "-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &machine,
            ])
            .await;
            ip(&["-n", &switch, "link", "set", &port, "master", "bridge", "up"]).await;
            ip(&["-n", &machine, "link", "set", "lo", "up"]).await;
            ip(&[
                "-n",
                &machine,
                "addr",
                "add",
                &format!("{}/24", address(number)),
                "dev",
                "eth0",
            ])
            .await;
            ip(&["-n", &machine, "link", "set", "eth0", "up"]).await;
        }
        wire
    }

    fn name(&self, number: usize) -> String {
        format!("{}-{number}", self.prefix)
    }

    /// A program on a machine.
    fn on(&self, machine: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(machine), program]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    fn coracle(&self, machine: usize, args: &[&str]) -> Process {
        // The namespace is entered by the process itself, so that a signal reaches the program and not a parent of it.
        let mut command = self.on(machine, env!("CARGO_BIN_EXE_coracle"));
        command.args(args);
        Process::of(command)
    }

    /// Cuts a machine off, or joins it again.
    async fn plug(&self, machine: usize, state: &str) {
        ip(&["-n", &self.name(0), "link", "set", &format!("port{machine}"), state]).await;
    }

    /// Lets a machine lose packets; false where this kernel cannot.
    async fn lose(&self, machine: usize, percent: &str) -> bool {
        let (switch, port) = (self.name(0), format!("port{machine}"));
        let mut command = Command::new("ip");
        command.args([
            "netns", "exec", &switch, "tc", "qdisc", "replace", "dev", &port, "root", "netem", "loss", percent,
        ]);
        let ended = command.stderr(Stdio::null()).status().await;
        ended.is_ok_and(|status| status.success())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for number in 0..=9 {
            let mut command = std::process::Command::new("ip");
            command.args(["netns", "del", &self.name(number)]).stderr(Stdio::null());
            let _ = command.status();
        }
    }
}

fn address(machine: usize) -> String {
    format!("192.168.77.{machine}")
}

async fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().await.unwrap();
    assert!(
        output.status.success(),
        "ip {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// kubectl on the first machine.
struct Kubectl<'w> {
    wire: &'w Wire,
    kubeconfig: String,
}

impl Kubectl<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.wire.on(1, "kubectl");
        command.args(["--kubeconfig", &self.kubeconfig]).args(args);
        command
    }

    async fn tried(&self, args: &[&str]) -> Output {
        let output = tokio::time::timeout(PATIENCE, self.command(args).output()).await;
        output
            .unwrap_or_else(|_| panic!("kubectl {args:?} does not end"))
            .unwrap()
    }

    async fn run(&self, args: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.tried(args).await;
        let (out, err) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        assert!(status.success(), "kubectl {args:?}: {out}{err}");
        out
    }

    async fn apply(&self, dir: &Path, manifest: &str) {
        let file = dir.join("manifest.yaml");
        std::fs::write(&file, manifest).unwrap();
        self.run(&["apply", "-f", file.to_str().unwrap()]).await;
    }

    /// The ready pods of the deployment that stay, each with its node and address. What a dead machine has last said of its
    /// containers stays as it was.
    async fn web(&self) -> Vec<[String; 3]> {
        let template = r#"{range .items[?(@.status.containerStatuses[0].ready==true)]}{.metadata.name} {.spec.nodeName} {.status.podIP} {.metadata.deletionTimestamp}{"\n"}{end}"#;
        let out = self
            .run(&["get", "pods", "-l", "app=web", "-o", &format!("jsonpath={template}")])
            .await;
        let rows = out
            .lines()
            .filter_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
                [name, node, ip, ""] => Some([name, node, ip].map(str::to_owned)),
                _ => None,
            });
        rows.collect()
    }

    async fn exec(&self, pod: &str, script: &str) -> String {
        self.run(&["exec", pod, "--", "sh", "-c", script]).await
    }
}

fn node<'p>(pods: &'p [[String; 3]], node: &str) -> &'p [String; 3] {
    let found = pods.iter().find(|[_, on, _]| on == node);
    found.unwrap_or_else(|| panic!("no pod on {node}: {pods:?}"))
}

/// Asks over HTTP from a machine itself.
async fn ask(wire: &Wire, machine: usize, host: &str, port: &str) -> String {
    let script = format!(r#"exec 3<>/dev/tcp/{host}/{port} && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && cat <&3"#);
    let output = wire.on(machine, "bash").args(["-c", &script]).output();
    let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: hello}]
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: web}}}
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
"#;

const ONLY_FRIENDS: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: friend}}}]}]
"#;

/// One pod a machine with a port of it, and one that wants a port which a service has.
const AGENTS: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      containers: [{name: agent, image: hello, ports: [{containerPort: 8080, hostPort: 8088}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: late}
spec:
  nodeName: worker-2
  containers: [{name: late, image: hello, ports: [{containerPort: 8080, hostPort: 30080}]}]
"#;

/// Ports of machines that lead to the pods there: for programs of any machine, and for pods of any.
async fn host_ports(wire: &Wire, kubectl: &Kubectl<'_>, dir: &Path) {
    kubectl.apply(dir, AGENTS).await;
    kubectl
        .run(&["rollout", "status", "daemonset/agent", "--timeout=80s"])
        .await;
    let template = r#"{range .items[*]}{.metadata.name} {.status.hostIP}{"\n"}{end}"#;
    let out = kubectl
        .run(&["get", "pods", "-l", "app=agent", "-o", &format!("jsonpath={template}")])
        .await;
    let agents: Vec<(&str, &str)> = out.lines().filter_map(|line| line.split_once(' ')).collect();
    assert_eq!(agents.len(), 3, "{out}");
    for (agent, machine) in &agents {
        for from in 1..=3 {
            let got = ask(wire, from, machine, "8088").await;
            assert!(
                got.contains(&format!("Hello from {agent}")),
                "machine {from} to {machine}: {got}"
            );
        }
        for (from, _) in &agents {
            // Each machine learns of the others' pods by a watch of its own.
            let script = format!("until wget -T 5 -qO- http://{machine}:8088/; do sleep 0.2; done");
            let got = kubectl.exec(from, &script).await;
            assert!(
                got.contains(&format!("Hello from {agent}")),
                "{from} to {machine}: {got}"
            );
        }
    }
    let loopback = ask(wire, 1, "127.0.0.1", "8088").await;
    let first = agents.iter().find(|(_, machine)| *machine == address(1)).unwrap();
    assert!(loopback.contains(&format!("Hello from {}", first.0)), "{loopback}");

    // The service keeps its port, the pod runs and is told.
    kubectl
        .run(&["wait", "--for=condition=Ready", "pod/late", "--timeout=60s"])
        .await;
    let told = async {
        loop {
            let selected = "--field-selector=involvedObject.name=late,reason=HostPortNotServed";
            let told = kubectl
                .run(&["get", "events", selected, "-o", "jsonpath={.items[*].message}"])
                .await;
            if !told.is_empty() {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let told = tokio::time::timeout(PATIENCE, told).await.expect("the pod is not told");
    assert_eq!(
        told,
        "Host port 30080: port 30080 leads to the service default/web already"
    );

    // The port ends with the pod.
    kubectl.run(&["delete", "daemonset/agent", "pod/late", "--now"]).await;
    let closed = async {
        while !ask(wire, 3, &address(2), "8088").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed)
        .await
        .expect("the port stays open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(
    not(has_machines),
    ignore = "needs kubectl, iproute2 and a user who may make network namespaces (root); CORACLE_REQUIRE_NAMESPACES=1 demands them"
)]
async fn three_machines() {
    let wire = Wire::between(3).await;
    let root = tempfile::tempdir().unwrap();
    let dir = |name: &str| {
        let path = root.path().join(name);
        share_compiled(&path);
        path.to_str().unwrap().to_owned()
    };
    let up_dir = dir("up");
    let mut up = wire.coracle(
        1,
        &[
            "up",
            "--data-dir",
            &up_dir,
            "--no-merge",
            "--ingress",
            "off",
            "--listen",
            "192.168.77.1:6443",
            "--node-monitor-grace-period",
            GRACE,
        ],
    );
    up.says("ready").await;
    let kubectl = Kubectl {
        wire: &wire,
        kubeconfig: format!("{up_dir}/kubeconfig"),
    };
    let mut create = wire.on(1, env!("CARGO_BIN_EXE_coracle"));
    create.args(["token", "create", "--data-dir", &up_dir, "--print-join-command"]);
    let output = create.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let command = String::from_utf8(output.stdout).unwrap();
    let join: Vec<&str> = command.split_whitespace().skip(1).collect();
    assert_eq!(join[2], "https://192.168.77.1:6443");
    let start = async |machine: usize, data: &str, args: &[&str]| {
        let name = format!("worker-{machine}");
        let mut all = args.to_vec();
        all.extend(["--data-dir", data, "--node-name", &name]);
        let mut process = wire.coracle(machine, &all);
        process.says("ready").await;
        kubectl
            .run(&[
                "wait",
                "--for=condition=Ready",
                &format!("node/{name}"),
                "--timeout=60s",
            ])
            .await;
        process
    };
    let _second = start(2, &dir("second"), &join).await;
    let mut third = start(3, &dir("third"), &join).await;
    let wide = kubectl.run(&["get", "nodes", "-o", "wide"]).await;
    for machine in 1..=3 {
        assert!(wide.contains(&address(machine)), "{wide}");
    }

    kubectl.apply(root.path(), WEB).await;
    kubectl
        .run(&["rollout", "status", "deployment/web", "--timeout=80s"])
        .await;
    let pods = kubectl.web().await;
    let ([one, _, _], [two, _, at_two], [three, _, _]) = (
        node(&pods, "coracle-1"),
        node(&pods, "worker-2"),
        node(&pods, "worker-3"),
    );

    // What kubectl asks of nodes.
    for pod in [one, two, three] {
        let log = kubectl.run(&["logs", pod]).await;
        assert!(log.contains("hello: listening on"), "{log}");
        assert_eq!(kubectl.exec(pod, "echo $((6 * 7))").await, "42\n");
        let proxied = kubectl
            .run(&[
                "get",
                "--raw",
                &format!("/api/v1/namespaces/default/pods/{pod}:8080/proxy/"),
            ])
            .await;
        assert!(proxied.contains(&format!("Hello from {pod}")), "{proxied}");
    }
    let failing = kubectl.tried(&["exec", two, "--", "sh", "-c", "exit 3"]).await;
    assert_eq!(failing.status.code(), Some(3));
    let mut forward: Child = kubectl.command(&["port-forward", two, "18080:8080"]).spawn().unwrap();
    let mut said = tokio::io::BufReader::new(forward.stdout.take().unwrap());
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut said, &mut line)
        .await
        .unwrap();
    let forwarded = ask(&wire, 1, "127.0.0.1", "18080").await;
    assert!(forwarded.contains(&format!("Hello from {two}")), "{line}: {forwarded}");
    forward.kill().await.unwrap();

    // Every pod reaches every other by its address, and all by the name of their service.
    let wget = |url: &str| format!("until wget -T 5 -qO- http://{url}/; do sleep 0.2; done");
    for [from, ..] in &pods {
        for [name, _, ip] in &pods {
            let got = kubectl.exec(from, &wget(&format!("{ip}:8080"))).await;
            assert!(got.contains(&format!("Hello from {name}")), "{from} to {name}: {got}");
        }
        let got = kubectl.exec(from, &wget("web.default.svc.cluster.local")).await;
        assert!(got.contains("Hello from web-"), "{got}");
    }
    for machine in [2, 3] {
        let got = ask(&wire, machine, &address(machine), "30080").await;
        assert!(got.contains("Hello from web-"), "node port of {machine}: {got}");
    }

    host_ports(&wire, &kubectl, root.path()).await;

    // A policy knows the sender on another machine.
    kubectl.apply(root.path(), ONLY_FRIENDS).await;
    for (app, welcome) in [("friend", true), ("stranger", false)] {
        let overrides = r#"{"spec": {"nodeName": "worker-3"}}"#;
        let label = format!("-l=app={app}");
        kubectl
            .run(&["run", app, "--image=hello", &label, "--overrides", overrides])
            .await;
        kubectl
            .run(&["wait", "--for=condition=Ready", &format!("pod/{app}"), "--timeout=60s"])
            .await;
        let script = match welcome {
            true => wget(&format!("{at_two}:8080")),
            // The policy reaches the node by a watch of its own.
            false => format!("while wget -T 5 -qO- http://{at_two}:8080/; do sleep 0.2; done; echo refused"),
        };
        let got = kubectl.exec(app, &script).await;
        assert!(
            got.contains(if welcome { "Hello from" } else { "refused" }),
            "{app}: {got}"
        );
    }
    kubectl
        .run(&[
            "delete",
            "networkpolicy/web",
            "pod/friend",
            "pod/stranger",
            "--wait=false",
        ])
        .await;

    // Packets may be lost, wires be cut and joined again.
    if wire.lose(2, "10%").await {
        let got = kubectl.exec(one, &wget(&format!("{at_two}:8080"))).await;
        assert!(got.contains(&format!("Hello from {two}")), "{got}");
        wire.lose(2, "0%").await;
    } else {
        eprintln!("packet loss is not tried: this kernel has no netem");
    }
    wire.plug(2, "down").await;
    let cut = kubectl
        .exec(one, &format!("wget -T 2 -qO- http://{at_two}:8080/ || echo cut off"))
        .await;
    assert_eq!(cut, "cut off\n");
    wire.plug(2, "up").await;
    let got = kubectl.exec(one, &wget(&format!("{at_two}:8080"))).await;
    assert!(got.contains(&format!("Hello from {two}")), "{got}");

    // A machine that dies is noticed, its pods come up on others, and another takes its place under its name.
    third.end("KILL").await;
    kubectl
        .run(&[
            "wait",
            "--for=condition=Ready=Unknown",
            "node/worker-3",
            "--timeout=80s",
        ])
        .await;
    let replaced = async {
        loop {
            let pods = kubectl.web().await;
            if pods.len() == 3 && pods.iter().all(|[_, on, _]| on != "worker-3") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    tokio::time::timeout(PATIENCE, replaced)
        .await
        .expect("the pods of a dead machine are not replaced");
    let _third = start(3, &dir("replacement"), &join).await;
    kubectl.run(&["scale", "deployment/web", "--replicas=6"]).await;
    kubectl
        .run(&["rollout", "status", "deployment/web", "--timeout=80s"])
        .await;
    let pods = kubectl.web().await;
    let [new, _, at_new] = node(&pods, "worker-3");
    let got = kubectl.exec(two, &wget(&format!("{at_new}:8080"))).await;
    assert!(got.contains(&format!("Hello from {new}")), "{got}");
}
