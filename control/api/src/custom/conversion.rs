//! Objects of a custom kind between its versions, where the definition leaves that to a webhook.
//!
//! Pure: the question to the webhook, and what is made of its answer. What an object is, and who made it when, no
//! conversion may change; of the metadata only labels and annotations are taken from the answer.

use serde_json::{Value, json};

use crate::object;

/// What a review is called.
const REVIEW: (&str, &str) = ("apiextensions.k8s.io/v1", "ConversionReview");

/// The question to bring objects into a version, given as an `apiVersion`.
pub fn question(uid: &str, desired: &str, objects: &[Value]) -> Value {
    let (api_version, kind) = REVIEW;
    json!({
        "kind": kind, "apiVersion": api_version,
        "request": {"uid": uid, "desiredAPIVersion": desired, "objects": objects},
    })
}

/// Reads the answer: as many objects as were asked about, in the same order.
///
/// # Errors
/// When the webhook failed, or its answer is none: what is wrong with it.
pub fn converted(uid: &str, desired: &str, originals: &[Value], answer: &Value) -> Result<Vec<Value>, String> {
    let text = |path: &str| object::text(answer, path);
    if (text("apiVersion"), text("kind")) != REVIEW {
        return Err(format!(
            "the answer is a {} of {:?}, not a ConversionReview of {:?}",
            text("kind"),
            text("apiVersion"),
            REVIEW.0
        ));
    }
    if text("response.uid") != uid {
        return Err(format!("expected response.uid {uid:?}, got {:?}", text("response.uid")));
    }
    match (text("response.result.status"), text("response.result.message")) {
        ("Success", _) => {}
        ("Failure", "") => return Err("no message was given".to_owned()),
        ("Failure", message) => return Err(message.to_owned()),
        (other, _) => {
            return Err(format!(
                "response.result.status must be Success or Failure, not {other:?}"
            ));
        }
    }
    let objects = object::list(answer, "response.convertedObjects");
    if objects.len() != originals.len() {
        return Err(format!(
            "it returned {} objects, expected {}",
            objects.len(),
            originals.len()
        ));
    }
    let pairs = objects.iter().zip(originals).enumerate();
    pairs
        .map(|(index, (converted, original))| {
            settle(desired, converted, original)
                .map_err(|why| format!("it returned an invalid converted object at index {index}: {why}"))
        })
        .collect()
}

/// The converted object with the metadata that it had.
fn settle(desired: &str, converted: &Value, original: &Value) -> Result<Value, String> {
    let version = object::text(converted, "apiVersion");
    if version != desired {
        return Err(format!("invalid groupVersion, desired: {desired}, got: {version}"));
    }
    let (kind, wanted) = (object::text(converted, "kind"), object::text(original, "kind"));
    if kind != wanted {
        return Err(format!("invalid kind, expected: {wanted}, got: {kind}"));
    }
    if !converted.get("metadata").is_some_and(Value::is_object) {
        return Err("metadata is missing".to_owned());
    }
    for field in ["name", "namespace", "uid"] {
        let path = format!("metadata.{field}");
        if object::text(converted, &path) != object::text(original, &path) {
            return Err(format!("must have the same {field}"));
        }
    }
    let mut settled = converted.clone();
    object::set(
        &mut settled,
        "metadata",
        original.get("metadata").cloned().unwrap_or_default(),
    );
    for field in ["labels", "annotations"] {
        let path = format!("metadata.{field}");
        match object::get(converted, &path) {
            None | Some(Value::Null) => drop(object::remove(&mut settled, &path)),
            Some(map) => {
                let texts = map.as_object().is_some_and(|map| map.values().all(Value::is_string));
                if !texts {
                    return Err(format!("{path} must be a map of texts"));
                }
                object::set(&mut settled, &path, map.clone());
            }
        }
    }
    Ok(settled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boat(version: &str, more: Value) -> Value {
        let mut boat =
            json!({"apiVersion": version, "kind": "Boat", "metadata": {"name": "a", "uid": "1", "generation": 4}});
        for (path, value) in more.as_object().unwrap() {
            object::set(&mut boat, path, value.clone());
        }
        boat
    }

    fn answer(objects: Value) -> Value {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
            "response": {"uid": "u", "result": {"status": "Success"}, "convertedObjects": objects}})
    }

    fn read(answer: &Value) -> Result<Vec<Value>, String> {
        converted("u", "sea.io/v2", &[boat("sea.io/v1", json!({}))], answer)
    }

    #[test]
    fn only_labels_and_annotations_of_the_metadata_are_taken() {
        let changed = boat(
            "sea.io/v2",
            json!({"metadata.labels": {"a": "b"}, "metadata.generation": 9, "spec": {"new": 1}}),
        );
        let expected = boat("sea.io/v2", json!({"metadata.labels": {"a": "b"}, "spec": {"new": 1}}));
        assert_eq!(read(&answer(json!([changed]))), Ok(vec![expected]));
    }

    #[test]
    fn what_a_webhook_may_not_do() {
        let wrong = |more: Value| read(&answer(json!([boat("sea.io/v2", more)]))).unwrap_err();
        assert!(wrong(json!({"metadata.name": "b"})).ends_with("must have the same name"));
        assert!(wrong(json!({"kind": "Ship"})).contains("invalid kind, expected: Boat, got: Ship"));
        assert!(wrong(json!({"apiVersion": "sea.io/v1"})).contains("desired: sea.io/v2, got: sea.io/v1"));
        assert!(wrong(json!({"metadata.labels": {"a": 1}})).contains("metadata.labels"));
        assert!(read(&answer(json!([]))).unwrap_err().contains("0 objects, expected 1"));
        let mut failed = answer(json!([]));
        failed["response"]["result"] = json!({"status": "Failure", "message": "no wind"});
        assert_eq!(read(&failed), Err("no wind".to_owned()));
        failed["response"]["uid"] = json!("other");
        assert!(read(&failed).unwrap_err().contains("response.uid"));
        assert!(read(&json!({})).is_err());
    }
}
