//! What the system sets in ingresses.

use crate::object;
use serde_json::{Value, json};

/// A new ingress is not reachable yet.
pub fn create_ingress(ingress: &mut Value) {
    object::set(ingress, "status", json!({"loadBalancer": {}}));
}
