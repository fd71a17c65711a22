//! NodePorts: two pods cannot have the same port of one node.

use super::{Asked, Plugin, ROOM, Refusal, Round};

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "NodePorts",
    attend: None,
    filter: Some(filter),
    score: None,
    helped_by: ROOM,
};

fn filter(round: Round<'_>) -> Asked<'_> {
    let wanted = &round.pod.host_ports;
    if wanted.is_empty() {
        return Asked::Nothing;
    }
    Asked::Each(Box::new(|view| {
        let taken = |port| view.info.host_ports.iter().any(|used| used.clashes(port));
        if wanted.iter().any(taken) {
            Err(Refusal::for_room(
                "node(s) didn't have free ports for the requested pod ports",
            ))
        } else {
            Ok(())
        }
    }))
}
