//! What the system sets in volumes and claims.

use crate::object;
use serde_json::{Value, json};

/// A new volume waits to be available.
pub fn create_persistent_volume(volume: &mut Value) {
    object::set(volume, "status", json!({"phase": "Pending"}));
}

/// A new claim waits for its volume.
pub fn create_claim(claim: &mut Value) {
    object::set(claim, "status", json!({"phase": "Pending"}));
}
