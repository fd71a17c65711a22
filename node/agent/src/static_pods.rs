//! Static pods: they run because the node was told so, without the API, and the API shows them by mirrors.
//!
//! Whoever starts the agent gives it a list that may change, and the list is the truth. A pod's uid is the digest of its entry,
//! so an entry that changes makes another pod. The mirror carries that uid in an annotation: one that somebody deletes comes
//! back, and one whose pod is no more goes.

use k8s_openapi::api::core::v1::{Pod, PodStatus, Toleration};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Marks a mirror; the value is the uid of the pod that runs.
const MIRROR: &str = "kubernetes.io/config.mirror";
const HASH: &str = "kubernetes.io/config.hash";
const SOURCE: &str = "kubernetes.io/config.source";

/// The pod that runs on a node for an entry of the list.
pub fn pod_of(entry: &Pod, node: &str) -> Pod {
    let mut pod = entry.clone();
    pod.status = None;
    let metadata = &mut pod.metadata;
    let name = metadata.name.as_deref().unwrap_or("static");
    metadata.name = Some(format!("{name}-{node}"));
    metadata.namespace.get_or_insert_with(|| "default".to_owned());
    metadata.generation = Some(1);
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    spec.service_account_name = None;
    // No taint drives away what the node itself wants.
    spec.tolerations.get_or_insert_default().push(Toleration {
        effect: Some("NoExecute".to_owned()),
        operator: Some("Exists".to_owned()),
        ..Toleration::default()
    });
    let uid = digest(&pod);
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(HASH.to_owned(), uid.clone());
    let source = annotations.entry(SOURCE.to_owned());
    source.or_insert_with(|| "file".to_owned());
    pod.metadata.uid = Some(uid);
    pod
}

/// Half of a digest is as long as other uids are.
fn digest(pod: &Pod) -> String {
    // Plain fields with text keys always serialise.
    let text = serde_json::to_vec(pod).unwrap_or_default();
    let digest = Sha256::digest(text);
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// What the API is shown of a static pod.
pub fn mirror_of(pod: &Pod) -> Pod {
    let mut mirror = pod.clone();
    let uid = mirror.metadata.uid.take().unwrap_or_default();
    mirror.metadata.generation = None;
    let annotations: &mut BTreeMap<_, _> = mirror.metadata.annotations.get_or_insert_default();
    annotations.insert(MIRROR.to_owned(), uid);
    mirror.status = None::<PodStatus>;
    mirror
}

/// The uid of the pod that a mirror shows; none for any other pod.
pub fn mirrored(pod: &Pod) -> Option<&str> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(MIRROR).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn another_entry_is_another_pod() {
        let entry = |image: &str| -> Pod {
            serde_json::from_value(
                json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "image": image}]}}),
            )
            .unwrap()
        };
        let pod = pod_of(&entry("hello"), "n1");
        assert_eq!(pod.metadata.name.as_deref(), Some("web-n1"));
        assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(pod_of(&entry("hello"), "n1"), pod);
        assert_ne!(pod_of(&entry("web"), "n1").metadata.uid, pod.metadata.uid);
        let mirror = mirror_of(&pod);
        assert_eq!((mirrored(&mirror), mirrored(&pod)), (pod.metadata.uid.as_deref(), None));
        assert_eq!(mirror.metadata.uid, None);
    }
}
