//! Events of the core group and of `events.k8s.io`: the same facts under other names.

use super::rename;
use crate::object;
use serde_json::{Value, json};

/// Names of the core group, names of `events.k8s.io`.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// A stored event under the newer names.
pub fn from_stored(event: &mut Value) {
    for (old, new) in NAMES {
        rename(event, old, new);
    }
    set_version(event, "events.k8s.io/v1");
}

/// A configuration of an event under its stored names, with nothing that it does not say.
pub fn to_configured(event: &mut Value) {
    for (old, new) in NAMES {
        rename(event, new, old);
    }
    set_version(event, "v1");
}

/// An event under its stored names. Clients of the core group insist on some fields, so these are always there.
pub fn to_stored(event: &mut Value) {
    to_configured(event);
    for (field, empty) in [
        ("involvedObject", json!({})),
        ("source", json!({})),
        ("firstTimestamp", Value::Null),
        ("lastTimestamp", Value::Null),
        ("reportingComponent", json!("")),
        ("reportingInstance", json!("")),
    ] {
        object::fields(event).entry(field).or_insert(empty);
    }
}

fn set_version(object: &mut Value, api_version: &str) {
    object::fields(object).insert("apiVersion".to_owned(), Value::from(api_version));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_keeps_what_it_says() {
        let stored = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod"}, "message": "m",
            "source": {"component": "c"}, "firstTimestamp": null, "lastTimestamp": null, "count": 2, "reportingComponent": "r",
            "reportingInstance": "i", "type": "Normal",
        });
        let mut event = stored.clone();
        from_stored(&mut event);
        assert_eq!(event["regarding"], json!({"kind": "Pod"}));
        assert_eq!((&event["note"], &event["deprecatedCount"]), (&json!("m"), &json!(2)));
        assert_eq!(event["apiVersion"], "events.k8s.io/v1");
        to_stored(&mut event);
        assert_eq!(event, stored);
    }
}
