//! Says in the status of LoadBalancer services at which address of the host they are: once all their ports listen, and no
//! longer when one of them does not.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use coracle_net::{Exposed, ExposedAs, ExposedPort, Fabric, Service, Snapshot};
use k8s_openapi::api::core::v1::{self as core, ObjectReference};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::report::Report;

/// Pause before a status that could not be written is written again: the API is in the same process or on the way back.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps the statuses until the network or the listeners end.
pub async fn run(client: Client, fabric: Fabric, mut exposed: watch::Receiver<Exposed>, ip: IpAddr) {
    let report = Report::new(client.clone());
    let mut changes = fabric.changes();
    let mut told = BTreeMap::new();
    loop {
        changes.borrow_and_update();
        let now = exposed.borrow_and_update().clone();
        let mut whole = true;
        for change in decide(&fabric.snapshot(), &now, ip) {
            whole &= write(&client, &report, &change).await;
        }
        tell_failures(&client, &report, &mut told, &now.failed).await;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            changed = exposed.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if !whole => {}
        }
    }
}

/// A status that is not as it should be.
#[derive(Debug, PartialEq)]
struct Change {
    namespace: String,
    name: String,
    /// The entries that it should have.
    ingress: Vec<Value>,
}

/// Which statuses to write. Pure.
fn decide(snapshot: &Snapshot, exposed: &Exposed, ip: IpAddr) -> Vec<Change> {
    let change = |service: &Service| {
        let shown = &service.balancer.as_ref()?.shown;
        let at_host = exposed.open.iter().filter(|port| is_of(port, service)).count();
        let whole = !service.ports.is_empty() && at_host == service.ports.len();
        let as_wanted = if whole { shown[..] == [ip] } else { shown.is_empty() };
        let port = |port: &coracle_net::ServicePort| json!({"port": port.port, "protocol": port.protocol.name()});
        let entry = || json!({"ip": ip, "ipMode": "VIP", "ports": service.ports.iter().map(port).collect::<Vec<_>>()});
        (!as_wanted).then(|| Change {
            namespace: service.namespace.clone(),
            name: service.name.clone(),
            ingress: if whole { vec![entry()] } else { Vec::new() },
        })
    };
    snapshot.services.iter().filter_map(change).collect()
}

fn is_of(port: &ExposedPort, service: &Service) -> bool {
    port.exposed_as == ExposedAs::Balancer && port.namespace == service.namespace && port.name == service.name
}

/// Writes a status; false where that has to be tried again.
async fn write(client: &Client, report: &Report, change: &Change) -> bool {
    let api: Api<core::Service> = Api::namespaced(client.clone(), &change.namespace);
    let patch = json!({"status": {"loadBalancer": {"ingress": change.ingress}}});
    match api
        .patch_status(&change.name, &PatchParams::default(), &Patch::Merge(patch))
        .await
    {
        Ok(service) if !change.ingress.is_empty() => {
            let note = "Ensured load balancer".to_owned();
            report
                .tell(&reference(&service), true, "EnsuredLoadBalancer", note)
                .await;
            true
        }
        Ok(_) => true,
        // It is gone: the next snapshot lacks it.
        Err(kube::Error::Api(status)) if status.code == 404 => true,
        Err(error) => {
            tracing::warn!(namespace = %change.namespace, service = %change.name, %error, "a load balancer's status is not written");
            false
        }
    }
}

/// Tells once for each reason why a port does not listen.
async fn tell_failures(
    client: &Client,
    report: &Report,
    told: &mut BTreeMap<ExposedPort, String>,
    failed: &BTreeMap<ExposedPort, String>,
) {
    told.retain(|port, message| failed.get(port) == Some(message));
    for (port, message) in failed {
        if told.contains_key(port) {
            continue;
        }
        told.insert(port.clone(), message.clone());
        let (reason, note) = match port.exposed_as {
            ExposedAs::Balancer => (
                "SyncLoadBalancerFailed",
                format!("Error syncing load balancer: {message}"),
            ),
            ExposedAs::NodePort => ("NodePortNotServed", format!("Node port {}: {message}", port.port)),
            // The pod's node tells.
            ExposedAs::HostPort { .. } => continue,
        };
        let api: Api<core::Service> = Api::namespaced(client.clone(), &port.namespace);
        let Ok(service) = api.get(&port.name).await else {
            continue;
        };
        report.tell(&reference(&service), false, reason, note).await;
    }
}

fn reference(service: &core::Service) -> ObjectReference {
    kube::Resource::object_ref(service, &())
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_net::{Balancer, Protocol, ServicePort};

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn web(shown: &[IpAddr]) -> Service {
        let port = |name: &str, port| ServicePort {
            name: name.into(),
            port,
            ..ServicePort::default()
        };
        Service {
            namespace: "demo".into(),
            name: "web".into(),
            ports: vec![port("http", 80), port("https", 443)],
            balancer: Some(Balancer {
                shown: shown.to_vec(),
                ..Balancer::default()
            }),
            ..Service::default()
        }
    }

    fn open(ports: &[u16]) -> Exposed {
        let port = |port: &u16| ExposedPort {
            exposed_as: ExposedAs::Balancer,
            namespace: "demo".into(),
            name: "web".into(),
            protocol: Protocol::Tcp,
            port: *port,
            target_port: *port,
        };
        Exposed {
            open: ports.iter().map(port).collect(),
            ..Exposed::default()
        }
    }

    fn decided(service: Service, exposed: &Exposed) -> Vec<Change> {
        let services = vec![service];
        decide(&Snapshot { services }, exposed, IP)
    }

    #[test]
    fn an_address_is_shown_while_all_ports_listen() {
        assert_eq!(decided(web(&[]), &open(&[80])), []);
        let changes = decided(web(&[]), &open(&[80, 443]));
        assert_eq!(changes[0].ingress[0]["ip"], "127.0.0.1");
        assert_eq!(
            changes[0].ingress[0]["ports"][1],
            json!({"port": 443, "protocol": "TCP"})
        );
        assert_eq!(decided(web(&[IP]), &open(&[80, 443])), []);
        let changes = decided(web(&[IP]), &open(&[443]));
        assert_eq!(changes[0].ingress, Vec::<Value>::new());
    }

    #[test]
    fn others_are_left_alone() {
        let mut plain = web(&[]);
        plain.balancer = None;
        assert_eq!(decided(plain, &open(&[80, 443])), []);
    }
}
