//! Objects of the API that somebody mistyped, at every place where one can.
//!
//! A real sample is taken, and bytes say what is done to it: values removed, doubled, exchanged with others of the object, made
//! another type, too long, too deep. Whatever comes of it is refused with a fault, or is an object that stays as it is when it
//! passes the same way again.

use coracle_api::kinds::{Kind, Kinds, split_api_version};
use coracle_api::status::ApiError;
use coracle_api::{defaults, json, normalise, prepare, validate};
use serde_json::{Map, Value};

/// The samples, as they are in their files.
const SAMPLES: [&str; 4] = [
    include_str!("../samples/pod.json"),
    include_str!("../samples/deployment.json"),
    include_str!("../samples/cronjob.json"),
    include_str!("../samples/service.json"),
];

/// Texts that are special somewhere.
const TEXTS: [&str; 24] = [
    "",
    "a",
    "A",
    "-a",
    "a.b",
    "a/b",
    "..",
    "/",
    "/..",
    "\0",
    "ü",
    "$(X)",
    "$(",
    "0",
    "-1",
    "1e9",
    "1Ei",
    "-1m",
    "nan",
    "None",
    "127.0.0.1",
    "::1",
    "true",
    "*/0 * * * *",
];

/// The changes that are made to one object, at most.
const CHANGES: usize = 3;

/// Bytes as decisions; where they end all is zero.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn below(&mut self, count: usize) -> usize {
        let number = usize::from(self.byte()) << 8 | usize::from(self.byte());
        number.checked_rem(count).unwrap_or_default()
    }

    fn pick<'t, T>(&mut self, all: &'t [T]) -> Option<&'t T> {
        all.get(self.below(all.len()))
    }
}

/// An object that these bytes make of a sample.
pub fn object(bytes: &[u8]) -> Value {
    let mut bytes = Bytes(bytes);
    let sample = bytes.pick(&SAMPLES).copied().unwrap_or_default();
    let mut object: Value = serde_json::from_str(sample).unwrap_or_default();
    for _ in 0..1 + bytes.below(CHANGES) {
        let count = size(&object);
        let other = nth(&mut object, &mut bytes.below(count)).cloned().unwrap_or_default();
        let mut place = 1 + bytes.below(count.saturating_sub(1).max(1));
        if let Some(value) = nth(&mut object, &mut place) {
            change(value, other, &mut bytes);
        }
    }
    object
}

/// Values in a value, itself among them.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(fields) => fields.values().map(size).sum(),
        _ => 0,
    }
}

/// The value so far from the beginning.
fn nth<'v>(value: &'v mut Value, left: &mut usize) -> Option<&'v mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, left)),
        Value::Object(fields) => fields.values_mut().find_map(|field| nth(field, left)),
        _ => None,
    }
}

fn change(value: &mut Value, other: Value, bytes: &mut Bytes<'_>) {
    match bytes.byte() % 12 {
        0 => *value = Value::Null,
        1 => *value = other,
        2 => *value = number(bytes),
        3 | 4 => *value = bytes.pick(&TEXTS).map_or(Value::Null, |text| (*text).into()),
        5 => *value = Value::Bool(bytes.byte() & 1 == 1),
        6 => *value = Value::Array(vec![value.take()]),
        7 => *value = Value::Object(Map::from_iter([("name".to_owned(), value.take())])),
        8 => *value = "x".repeat(1 << (bytes.byte() % 17)).into(),
        9 => match value {
            Value::Array(items) => items.extend(items.clone()),
            Value::Object(fields) => fields.clear(),
            _ => *value = Value::Array(Vec::new()),
        },
        10 => match value {
            Value::Array(items) => drop(items.pop()),
            Value::Object(fields) => {
                let names: Vec<String> = fields.keys().cloned().collect();
                if let Some(name) = bytes.pick(&names) {
                    fields.remove(name);
                }
            }
            _ => *value = Value::Object(Map::new()),
        },
        _ => match value {
            Value::Object(fields) => {
                let name = bytes.pick(&TEXTS).map_or(String::new(), |text| (*text).to_owned());
                fields.insert(name, other);
            }
            Value::Array(items) => items.push(other),
            _ => *value = (0..bytes.below(200)).fold(other, |inner, _| Value::Array(vec![inner])),
        },
    }
}

fn number(bytes: &mut Bytes<'_>) -> Value {
    const NUMBERS: [i64; 10] = [
        -1,
        0,
        1,
        65_536,
        i32::MAX as i64,
        i32::MIN as i64,
        i64::MAX,
        i64::MIN,
        1 << 53,
        100,
    ];
    match bytes.byte() % 12 {
        10 => Value::from(1e308),
        11 => Value::from(u64::MAX),
        index => NUMBERS.get(usize::from(index)).copied().unwrap_or_default().into(),
    }
}

/// Takes an object the way of a request that creates it, up to admission: the object as it is to be stored, if it may be.
///
/// # Panics
/// When something does not hold: an object that is accepted would be another one the second time, or could not be kept as it is.
#[allow(clippy::panic, reason = "a property that fails is what whoever calls this looks for")]
pub fn check(mut object: Value) -> Option<Value> {
    let kinds = kinds();
    let (group, version) = split_api_version(object.get("apiVersion")?.as_str()?);
    let kind = kinds.by_kind(group, version, object.get("kind")?.as_str()?)?.clone();
    match settle(&kind, &mut object) {
        Ok(faults) if faults.is_empty() => {}
        Ok(_) => return None,
        Err(error) => {
            assert!((400..500).contains(&error.code), "{error:?}");
            return None;
        }
    }
    let once = object.clone();
    match settle(&kind, &mut object) {
        Ok(faults) => assert!(faults.is_empty(), "accepted once and not twice: {faults:?}\n{once}"),
        Err(error) => panic!("accepted and not read again: {error:?}\n{once}"),
    }
    assert_eq!(object, once, "what was accepted is changed the second time");
    let written = serde_json::to_vec(&object).unwrap_or_default();
    let read = json::parse(&written).map(|(read, _)| read);
    assert!(
        read.is_ok_and(|read| read == once),
        "what was accepted is not read as it was written\n{once}"
    );
    let faults = validate::update(&kind, &object, &once);
    assert!(faults.is_empty(), "an object may not stay as it is: {faults:?}\n{once}");
    Some(object)
}

fn kinds() -> &'static Kinds {
    static KINDS: std::sync::OnceLock<Kinds> = std::sync::OnceLock::new();
    KINDS.get_or_init(Kinds::builtin)
}

fn settle(kind: &Kind, object: &mut Value) -> Result<Vec<coracle_api::field_error::FieldError>, ApiError> {
    normalise::normalise(kind.go_type, object)?;
    defaults::apply(kind, object);
    prepare::create(kind, object);
    Ok(validate::create(kind, object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samples_are_accepted_as_they_are() {
        for sample in SAMPLES {
            assert!(check(serde_json::from_str(sample).unwrap()).is_some(), "{sample}");
        }
    }
}
