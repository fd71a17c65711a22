//! What a pod asks the node to find out about its containers.

use k8s_openapi::api::core::v1::Pod;

/// The containers whose programs are to be profiled, separated by commas, or `*`.
const PROFILE: &str = "coracle.dev/profile";

/// The containers of whose programs a core dump is to be left when they fail; likewise.
const CORE_DUMP: &str = "coracle.dev/core-dump";

/// A number from which the containers' clocks and randomness come, so that a run can be repeated.
const SEED: &str = "coracle.dev/seed";

/// What stands at [`SEED`] is no number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the annotation {SEED} is {0:?}, which is no whole number from 0 to 18446744073709551615")]
pub struct NoSeed(String);

/// The number from which the pod's clocks and randomness come, if they are to come from one.
///
/// # Errors
/// When the annotation is there and no number.
pub fn seed(pod: &Pod) -> Result<Option<u64>, NoSeed> {
    let annotations = pod.metadata.annotations.as_ref();
    let Some(text) = annotations.and_then(|annotations| annotations.get(SEED)) else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| NoSeed(text.clone()))
}

/// Whether a profile of a container's program is wanted.
pub fn wants_profile(pod: &Pod, container: &str) -> bool {
    names(pod, PROFILE, container)
}

/// Whether a core dump of a container's program is wanted.
pub fn wants_core_dump(pod: &Pod, container: &str) -> bool {
    names(pod, CORE_DUMP, container)
}

/// Whether an annotation means a container.
fn names(pod: &Pod, annotation: &str, container: &str) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    let named = annotations.and_then(|annotations| annotations.get(annotation));
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
    fn a_seed_is_a_number_or_said_to_be_none() {
        let seed = |value: &str| {
            let mut pod = Pod::default();
            pod.metadata.annotations = Some([(SEED.to_owned(), value.to_owned())].into());
            super::seed(&pod)
        };
        assert_eq!(seed("7"), Ok(Some(7)));
        assert_eq!(super::seed(&Pod::default()), Ok(None));
        let error = seed("-7").unwrap_err().to_string();
        assert!(
            error.contains("coracle.dev/seed") && error.contains("\"-7\""),
            "{error}"
        );
    }

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
