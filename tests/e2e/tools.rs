//! The toolbox's commands about the network, from inside a pod.

use crate::world::{World, ready};

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - {name: main, image: hello, readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  containers: [{name: main, image: toolbox, command: [toolbox, sleep, '3600'], volumeMounts: [{name: tmp, mountPath: /tmp}]}]
  volumes: [{name: tmp, emptyDir: {}}]
";

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing; `. .ci/install` brings it")]
async fn the_toolbox_speaks_http_https_tcp_and_dns_from_a_pod() {
    let world = World::start().await;
    world.apply(PODS).await;
    for pod in ["web", "client"] {
        world.pod(pod, ready).await;
    }
    let run = async |script: &str| world.kubectl(&["exec", "client", "--", "sh", "-c", script]).await;

    // The node learns of the service's endpoints a moment after the pod is ready.
    let said = run("until curl -fsS http://shop/there; do sleep 0.1; done").await;
    assert!(said.contains("Hello from web") && said.contains("/there"), "{said}");
    let said = run("curl -s -o /dev/null -w '%{http_code} %{size_download}\\n' -X POST -d a=b http://shop.default.svc.cluster.local/").await;
    assert!(said.starts_with("200 ") && !said.contains(" 0\n"), "{said}");
    let said = run("curl -sS http://nowhere.default/ ; echo $?; curl -sS http://shop:81/; echo $?").await;
    assert_eq!(said, "6\n7\n");

    // The host speaks TLS, and trusts the cluster's authority.
    let token = "$(cat /var/run/secrets/kubernetes.io/serviceaccount/token)";
    let said = run("wget -qO- https://kubernetes.default.svc/version").await;
    assert!(said.contains("\"gitVersion\""), "{said}");
    let said = run(&format!(
        "curl -s -H \"Authorization: Bearer {token}\" https://kubernetes.default.svc/api/v1/namespaces/default/pods"
    ))
    .await;
    assert!(
        said.contains("\"code\":403") && said.contains("system:serviceaccount:default:default"),
        "{said}"
    );

    let said = run("printf 'GET / HTTP/1.0\\r\\nhost: shop\\r\\n\\r\\n' | nc shop 80").await;
    assert!(said.starts_with("HTTP/1.") && said.contains("Hello from web"), "{said}");
    let said = run("nc -z shop 80 && echo open; nc -z -w 2 shop 81 || echo closed").await;
    assert_eq!(said, "open\nclosed\n");
    let said = run(
        "nc -l -p 7000 >/tmp/heard & until echo sent | nc 127.0.0.1 7000; do sleep 0.1; done; wait; cat /tmp/heard",
    )
    .await;
    assert_eq!(said, "sent\n");

    let address = run("dig +short shop.default.svc.cluster.local").await;
    assert!(address.starts_with("10.96."), "{address}");
    let said = run("dig shop").await;
    assert!(
        said.contains("status: NOERROR") && said.contains(address.trim()),
        "{said}"
    );
    let said = run("dig nowhere.default.svc.cluster.local").await;
    assert!(said.contains("status: NXDOMAIN"), "{said}");
}
