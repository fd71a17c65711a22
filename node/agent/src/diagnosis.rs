//! What a pod asks the node to find out about its containers.

use k8s_openapi::api::core::v1::Pod;

/// The containers whose programs are to be profiled, separated by commas, or `*`.
const PROFILE: &str = "coracle.dev/profile";

/// Whether a profile of a container's program is wanted.
pub fn wants_profile(pod: &Pod, container: &str) -> bool {
    let named = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(PROFILE));
    named.is_some_and(|named| {
        named
            .split(',')
            .map(str::trim)
            .any(|name| name == "*" || name == container)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_named_or_all_are_meant() {
        let wants = |value: &str, container| {
            let mut pod = Pod::default();
            pod.metadata.annotations = Some([(PROFILE.to_owned(), value.to_owned())].into());
            wants_profile(&pod, container)
        };
        assert!(wants("main", "main") && wants("other, main", "main") && wants("*", "main"));
        assert!(!wants("main", "other") && !wants("", "main") && !wants_profile(&Pod::default(), "main"));
    }
}
