//! NodePorts: two pods cannot have the same port of one node.

use super::{NodeView, Plugin, ROOM_EVENTS, Reasons};
use crate::candidate::Candidate;

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "NodePorts",
    filter: Some(filter),
    score: None,
    helped_by: ROOM_EVENTS,
};

fn filter(pod: &Candidate, view: NodeView<'_>) -> Result<(), Reasons> {
    if pod
        .host_ports
        .iter()
        .any(|wanted| view.info.host_ports.iter().any(|used| used.clashes(wanted)))
    {
        Err(vec![
            "node(s) didn't have free ports for the requested pod ports".into(),
        ])
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::scene::{filter, named_pod};
    use super::*;

    #[test]
    fn all_addresses_clash_with_each_and_protocols_do_not() {
        let port = |name: &str, port: Value| named_pod(name, json!({"containers": [{"name": "c", "ports": [port]}]}));
        let used = port(
            "used",
            json!({"containerPort": 1, "hostPort": 80, "hostIP": "127.0.0.1"}),
        );
        let fits = |wanted: Value| filter(&PLUGIN, &port("p", wanted), json!({}), std::slice::from_ref(&used)).is_ok();
        assert!(!fits(json!({"containerPort": 9, "hostPort": 80})));
        assert!(!fits(
            json!({"containerPort": 9, "hostPort": 80, "hostIP": "127.0.0.1"})
        ));
        assert!(fits(json!({"containerPort": 9, "hostPort": 80, "hostIP": "127.0.0.2"})));
        assert!(fits(json!({"containerPort": 9, "hostPort": 80, "protocol": "UDP"})));
        assert!(fits(json!({"containerPort": 80})));
    }
}
