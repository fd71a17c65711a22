//! Addresses of the host and of other pods' insides, tried from a pod and by what a pod can make the node do.

use std::net::UdpSocket;

use coracle::manifest;
use coracle_isolation::world::{pod_ip, ready};

use crate::canary::Port;

#[tokio::test(flavor = "multi_thread")]
async fn no_address_leads_to_the_host_or_into_another_pod() {
    let _alone = crate::alone().await;
    let (world, host) = (crate::world().await, Port::open().await);
    let port = host.address.port();
    // A server that only its own pod may reach.
    world
        .apply(
            "apiVersion: v1
kind: Pod
metadata: {name: private}
spec:
  containers:
  - {name: main, image: toolbox, command: [sh, -c, 'echo listening; nc -l -k -p 7100 -s 127.0.0.1']}
  - {name: web, image: web}
",
        )
        .await;
    world.says("private", "main", "listening").await;
    let private = pod_ip(&world.pod("private", ready).await);
    let api = world.cluster.access().server.trim_start_matches("https://").to_owned();
    let api_port = api.rsplit(':').next().unwrap().to_owned();
    let dns = world.cluster.dns();
    // The address by which this machine is known outside, where it has one.
    let outside = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    let mut addresses = vec![
        host.address.to_string(),
        format!("127.0.0.2:{port}"),
        format!("0.0.0.0:{port}"),
        format!("[::1]:{port}"),
        format!("[::]:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("localhost:{port}"),
        format!("10.244.0.1:{port}"),
        format!("255.255.255.255:{port}"),
        format!("224.0.0.1:{port}"),
        format!("{private}:7100"),
        "169.254.169.254:80".to_owned(),
        api.clone(),
        format!("localhost:{api_port}"),
        dns.to_string(),
    ];
    addresses.extend(outside.ok().map(|outside| format!("{}:{port}", outside.ip())));
    let args: Vec<&str> = ["reach"]
        .into_iter()
        .chain(addresses.iter().map(String::as_str))
        .collect();
    let said = world.output("reaches", "hostile", &args).await;
    assert!(said.ends_with("tried\n") && !said.contains("out:"), "{said}");
    host.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_hooks_and_endpoints_lead_nowhere_else() {
    let _alone = crate::alone().await;
    let (world, host) = (crate::world().await, Port::open().await);
    let port = host.address.port();
    world
        .apply(&format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: probes}}
spec:
  containers:
  - name: main
    image: hostile
    args: [answers]
    readinessProbe: {{httpGet: {{host: 127.0.0.1, port: {port}}}, periodSeconds: 1}}
    livenessProbe: {{tcpSocket: {{host: 127.0.0.1, port: {port}}}, periodSeconds: 1, failureThreshold: 1000}}
---
apiVersion: v1
kind: Pod
metadata: {{name: hooks}}
spec:
  containers:
  - name: main
    image: hostile
    args: [answers]
    lifecycle: {{postStart: {{httpGet: {{host: 127.0.0.1, port: {port}}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: outward}}
spec: {{type: NodePort, ports: [{{name: p, port: 80, targetPort: {port}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: outward, labels: {{kubernetes.io/service-name: outward}}}}
addressType: IPv4
ports: [{{name: p, port: {port}}}]
endpoints: [{{addresses: ['10.0.0.1'], conditions: {{ready: true}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: named}}
spec: {{type: ExternalName, externalName: localhost}}
"
        ))
        .await;
    world.event("Readiness probe failed").await;
    world.event("PostStartHook").await;
    let said = world
        .output("asks", "hostile", &["reach", "outward:80", &format!("named:{port}")])
        .await;
    assert!(said.ends_with("tried\n") && !said.contains("out:"), "{said}");
    // An address of a loopback is not even taken for an endpoint.
    let inward = manifest::parse(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: inward, labels: {kubernetes.io/service-name: outward}}
addressType: IPv4
endpoints: [{addresses: ['127.0.0.1']}]
",
    );
    let refused = manifest::apply(&world.client(), &inward.unwrap()).await.unwrap_err();
    assert!(format!("{refused:#}").contains("loopback"), "{refused:#}");
    host.is_untouched().await;
}
