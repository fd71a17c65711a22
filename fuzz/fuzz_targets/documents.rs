//! JSON and YAML bodies, brought into the stored form: twice is once.
#![no_main]

use coracle_api::{json, normalise, yaml};
use libfuzzer_sys::fuzz_target;

const POD: &str = "k8s.io/api/core/v1.Pod";

fuzz_target!(|bytes: &[u8]| {
    let json = json::parse(bytes);
    // YAML costs more by far; what begins like JSON has been read above.
    let yaml = if bytes.first() == Some(&b'{') { None } else { yaml::parse(bytes).ok() };
    for (mut object, _) in json.into_iter().chain(yaml) {
        if normalise::normalise(POD, &mut object).is_ok() {
            let once = object.clone();
            assert!(normalise::normalise(POD, &mut object).is_ok_and(|problems| problems.is_empty()));
            assert_eq!(object, once);
        }
    }
});
