//! What the system sets in ingresses and in ranges of service addresses.

use crate::object;
use serde_json::{Value, json};

/// A new ingress is not reachable yet.
pub fn create_ingress(ingress: &mut Value) {
    object::set(ingress, "status", json!({"loadBalancer": {}}));
}

/// Holds a range that is to be deleted while services have addresses in it.
pub const SERVICE_CIDR_FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

/// A new range is guarded from the start.
pub fn create_service_cidr(range: &mut Value) {
    let mut finalizers: Vec<String> = object::finalizers(range).map(str::to_owned).collect();
    if !finalizers.iter().any(|finalizer| finalizer == SERVICE_CIDR_FINALIZER) {
        finalizers.push(SERVICE_CIDR_FINALIZER.to_owned());
        let all: Vec<&str> = finalizers.iter().map(String::as_str).collect();
        object::set_finalizers(range, &all);
    }
}
