//! Ports of the node that containers ask for with `hostPort`: which ones, and what pods are told where one does not listen.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use coracle_net::{Exposed, ExposedAs, ExposedPort, HostPort};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::SystemClock;
use crate::events::{self, Entry, Subject};
use crate::{proxy, spec};

const REASON: &str = "HostPortNotServed";

/// The ports of the node that a pod asks for. One of a protocol that the network does not have leads nowhere.
pub fn of(pod: &Pod) -> Vec<HostPort> {
    let ports = spec::containers(pod).flat_map(|container| container.ports.iter().flatten());
    let wanted = ports.filter_map(|port| {
        let ip: Option<IpAddr> = port.host_ip.as_deref().and_then(|ip| ip.parse().ok());
        Some(HostPort {
            ip: ip.filter(|ip| !ip.is_unspecified()),
            port: u16::try_from(port.host_port?).ok().filter(|port| *port > 0)?,
            protocol: proxy::protocol(port.protocol.as_deref())?,
            target_port: u16::try_from(port.container_port).ok()?,
        })
    });
    wanted.collect()
}

/// Tells pods by events which of their ports of the host do not listen and why, once for each reason, until the shutdown. `node`
/// is who tells.
pub async fn tell(client: Client, node: String, mut exposed: watch::Receiver<Exposed>, shutdown: CancellationToken) {
    let (recorder, writer) = events::channel(client, Arc::new(SystemClock), node);
    let telling = async {
        let mut told = BTreeMap::new();
        loop {
            let failed = exposed.borrow_and_update().failed.clone();
            for entry in news(&mut told, failed) {
                recorder.record(entry);
            }
            if exposed.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::join!(writer.run(shutdown.clone()), shutdown.run_until_cancelled(telling));
}

/// What has failed since it was told last. Pure.
fn news(told: &mut BTreeMap<ExposedPort, String>, failed: BTreeMap<ExposedPort, String>) -> Vec<Entry> {
    let fresh = failed.iter().filter(|(port, message)| told.get(port) != Some(message));
    let entries = fresh.filter_map(|(port, message)| {
        let ExposedAs::HostPort { uid, .. } = &port.exposed_as else {
            return None;
        };
        Some(Entry {
            subject: Arc::new(Subject {
                namespace: port.namespace.clone(),
                name: port.name.clone(),
                uid: uid.clone(),
            }),
            field_path: None,
            warning: true,
            reason: REASON,
            message: format!("Host port {}: {message}", port.port),
        })
    });
    let entries = entries.collect();
    *told = failed;
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_net::Protocol;
    use serde_json::json;

    #[test]
    fn a_pod_says_which_ports_it_wants() {
        let pod = json!({"metadata": {}, "spec": {"containers": [
            {"name": "a", "ports": [
                {"containerPort": 80, "hostPort": 8080, "protocol": "TCP"}, {"containerPort": 81},
                {"containerPort": 53, "hostPort": 5353, "hostIP": "127.0.0.1", "protocol": "UDP"}]},
            {"name": "b", "ports": [
                {"containerPort": 82, "hostPort": 82, "hostIP": "0.0.0.0"}, {"containerPort": 83, "hostPort": 83, "protocol": "SCTP"}]},
        ]}});
        let found = of(&serde_json::from_value(pod).unwrap());
        let port = |ip: Option<&str>, port, protocol, target_port| HostPort {
            ip: ip.map(|ip| ip.parse().unwrap()),
            port,
            protocol,
            target_port,
        };
        assert_eq!(
            found,
            [
                port(None, 8080, Protocol::Tcp, 80),
                port(Some("127.0.0.1"), 5353, Protocol::Udp, 53),
                port(None, 82, Protocol::Tcp, 82),
            ]
        );
    }

    #[test]
    fn each_failure_of_a_pods_port_is_told_once() {
        let port = |exposed_as, port| ExposedPort {
            exposed_as,
            namespace: "demo".into(),
            name: "web".into(),
            protocol: Protocol::Tcp,
            port,
            target_port: 80,
        };
        let of_pod = |number| {
            let uid = "u".to_owned();
            port(ExposedAs::HostPort { uid, ip: None }, number)
        };
        let failed = |ports: &[(ExposedPort, &str)]| -> BTreeMap<ExposedPort, String> {
            let pairs = ports
                .iter()
                .map(|(port, message)| (port.clone(), (*message).to_owned()));
            pairs.collect()
        };
        let mut told = BTreeMap::new();
        let first = failed(&[(of_pod(1), "taken"), (port(ExposedAs::NodePort, 2), "taken")]);
        let entries = news(&mut told, first.clone());
        let [entry] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!(
            (entry.subject.uid.as_str(), entry.message.as_str()),
            ("u", "Host port 1: taken")
        );
        assert!(news(&mut told, first).is_empty(), "the same again");
        assert_eq!(
            news(&mut told, failed(&[(of_pod(1), "forbidden")])).len(),
            1,
            "another reason"
        );
        assert!(news(&mut told, BTreeMap::new()).is_empty());
        assert_eq!(
            news(&mut told, failed(&[(of_pod(1), "forbidden")])).len(),
            1,
            "it went well between"
        );
    }
}
