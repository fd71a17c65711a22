//! What the parts of the control plane agree on about nodes in other processes.

/// Under what domain nodes have names in their serving certificates. No name of the API server and no name that a client
/// outside would ask for lies in it, so that such a certificate is good for talking to that node and for nothing else.
const DOMAIN: &str = "node.coracle.internal";

/// The name in the serving certificate of a node. Certificates name no addresses: a node says itself which it has.
#[must_use]
pub fn serving_name(node: &str) -> String {
    format!("{node}.{DOMAIN}")
}
