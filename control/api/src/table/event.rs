//! Rows of events.

use super::{text, wide};
use crate::kinds::Column;
use crate::{object, time};
use serde_json::Value;

/// Columns of events. The name comes last and only in wide output: what happened matters more.
pub const COLUMNS: &[Column] = &[
    text("Last Seen"),
    text("Type"),
    text("Reason"),
    text("Object"),
    wide("Subobject"),
    wide("Source"),
    text("Message"),
    wide("First Seen"),
    Column {
        name: "Count",
        kind: "integer",
        format: "",
        priority: 1,
    },
    Column {
        name: "Name",
        kind: "string",
        format: "name",
        priority: 1,
    },
];

/// Cells of an event.
pub fn cells(event: &Value, now: i64) -> Vec<Value> {
    let since = |path: &str| {
        object::get(event, path)
            .and_then(Value::as_str)
            .map(|at| time::age_of(now, at))
    };
    let first = since("firstTimestamp")
        .or_else(|| since("eventTime"))
        .unwrap_or_else(|| "<unknown>".to_owned());
    let last = since("series.lastObservedTime")
        .or_else(|| since("lastTimestamp"))
        .unwrap_or_else(|| first.clone());
    let count = object::integer(event, "series.count").or_else(|| object::integer(event, "count"));
    vec![
        Value::from(last),
        Value::from(object::text(event, "type")),
        Value::from(object::text(event, "reason")),
        Value::from(target(event)),
        Value::from(object::text(event, "involvedObject.fieldPath")),
        Value::from(source(event)),
        Value::from(object::text(event, "message").trim()),
        Value::from(first),
        Value::from(count.unwrap_or_default().max(1)),
        Value::from(object::name(event)),
    ]
}

/// Cells of an event of `events.k8s.io`: the same facts under other names.
pub fn newer(event: &Value, now: i64) -> Vec<Value> {
    let mut stored = event.clone();
    crate::convert::event::to_stored(&mut stored);
    cells(&stored, now)
}

fn target(event: &Value) -> String {
    let kind = object::text(event, "involvedObject.kind").to_lowercase();
    match object::text(event, "involvedObject.name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(event: &Value) -> String {
    let either = |old: &str, new: &str| match object::text(event, old) {
        "" => object::text(event, new).to_owned(),
        text => text.to_owned(),
    };
    let component = either("source.component", "reportingComponent");
    let instance = either("source.host", "reportingInstance");
    if instance.is_empty() {
        component
    } else {
        format!("{component}, {instance}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_prints_when_what_and_why() {
        let event = json!({
            "metadata": {"name": "web.1"}, "type": "Normal", "reason": "Started", "message": " Started container a\n",
            "involvedObject": {"kind": "Pod", "name": "web", "fieldPath": "spec.containers{a}"},
            "source": {"component": "kubelet", "host": "n"},
            "firstTimestamp": "1970-01-01T00:00:00Z", "lastTimestamp": "1970-01-01T00:01:00Z", "count": 3,
        });
        let wanted = json!([
            "30s",
            "Normal",
            "Started",
            "pod/web",
            "spec.containers{a}",
            "kubelet, n",
            "Started container a",
            "90s",
            3,
            "web.1"
        ]);
        assert_eq!(Value::from(cells(&event, 90_000_000)), wanted);
        let new = json!({"eventTime": "1970-01-01T00:00:00.5Z", "firstTimestamp": null, "reportingComponent": "c", "series": {"count": 5, "lastObservedTime": "1970-01-01T00:00:02Z"}});
        let row = cells(&new, 3_000_000);
        assert_eq!(
            (&row[0], &row[5], &row[7], &row[8]),
            (&json!("1s"), &json!("c"), &json!("2s"), &json!(5))
        );
    }
}
