//! Patches of all kinds on a pod: two documents with a zero byte between, the pod and the patch.
#![no_main]

use coracle_api::patch;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const POD: &str = "k8s.io/api/core/v1.Pod";

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let mut next = || serde_json::from_slice::<Value>(parts.next()?).ok();
    let (Some(object), Some(change)) = (next(), next()) else {
        return;
    };
    let _ = patch::json(&object, &change);
    let _ = patch::strategic::strategic(POD, &object, &change);
    let mut merged = object;
    patch::merge(&mut merged, &change);
    let once = merged.clone();
    patch::merge(&mut merged, &change);
    assert_eq!(merged, once, "a merge patch twice is the patch once");
});
