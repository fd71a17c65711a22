//! Which fields a configuration states.

use super::SYSTEM_METADATA;
use super::path::Element;
use super::rules::{Form, Rules, set_element};
use super::set::Set;
use serde_json::{Map, Value};
use std::fmt;

/// What is wrong with a configuration: fields that the type does not have, elements without keys, elements given twice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults(Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => f.write_str(one),
            many => {
                f.write_str("errors:")?;
                many.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
            }
        }
    }
}

/// How many faults are told. A configuration that is wrong everywhere is not helped by more.
const FAULTS_LIMIT: usize = 50;

/// The fields that a configuration states, without those that nobody owns.
///
/// # Errors
/// What is wrong with it.
pub fn extract(rules: Rules<'_>, config: &Value) -> Result<Set, Faults> {
    let mut set = Set::default();
    let mut walk = Walk {
        path: String::new(),
        faults: Vec::new(),
    };
    walk.fields(rules, config, &mut set);
    if !walk.faults.is_empty() {
        return Err(Faults(walk.faults));
    }
    set.forget("f:apiVersion");
    set.forget("f:kind");
    let system = |step: &Element| step.field_name().is_some_and(|name| SYSTEM_METADATA.contains(&name));
    set.keep("f:metadata", |step| !system(step));
    Ok(set)
}

struct Walk {
    path: String,
    faults: Vec<String>,
}

impl Walk {
    fn fault(&mut self, words: &str) {
        if self.faults.len() < FAULTS_LIMIT {
            self.faults.push(format!("{}: {words}", self.path));
        }
    }

    /// Goes into a value and adds to the set of its container what it states.
    fn step(&mut self, rules: Rules<'_>, element: Element, value: &Value, named: bool, set: &mut Set) {
        use fmt::Write;
        let length = self.path.len();
        // Writing to a string cannot fail.
        let _ = write!(self.path, "{element}");
        let mut below = Set::default();
        let leaf = self.value(rules, value, &mut below);
        self.path.truncate(length);
        let bare = value.is_null() || value.as_object().is_some_and(Map::is_empty);
        if leaf || bare || !named {
            set.insert(element.clone());
        }
        set.insert_below(element, below);
    }

    /// True when the value is owned as one.
    fn value(&mut self, rules: Rules<'_>, value: &Value, set: &mut Set) -> bool {
        match (rules.form(value), value) {
            (Form::Leaf, _) => return true,
            (_, Value::Null) => {}
            (Form::Fields, Value::Object(_)) => self.fields(rules, value, set),
            (Form::Map(inner), Value::Object(map)) => {
                for (name, value) in map {
                    self.step(inner, Element::field(name), value, false, set);
                }
            }
            (Form::Fields | Form::Map(_), other) => self.fault(&format!("expected map, got {other}")),
            (Form::Set, Value::Array(list)) => self.elements(Rules::UNKNOWN, list, set_element, set),
            (Form::Keyed(keys, inner), Value::Array(list)) => {
                self.elements(inner, list, |item| inner.keyed(keys, item), set);
            }
            (Form::Set | Form::Keyed(..), other) => self.fault(&format!("expected list, got {other}")),
        }
        false
    }

    fn fields(&mut self, rules: Rules<'_>, value: &Value, set: &mut Set) {
        for (name, value) in value.as_object().into_iter().flatten() {
            match rules.field(name) {
                Some((inner, named)) => self.step(inner, Element::field(name), value, named, set),
                None => {
                    let length = self.path.len();
                    self.path.push('.');
                    self.path.push_str(name);
                    self.fault("field not declared in schema");
                    self.path.truncate(length);
                }
            }
        }
    }

    fn elements(
        &mut self,
        inner: Rules<'_>,
        list: &[Value],
        step: impl Fn(&Value) -> Result<Element, String>,
        set: &mut Set,
    ) {
        for (index, item) in list.iter().enumerate() {
            match step(item) {
                Ok(element) if set.get(element.as_str()).is_some() => {
                    self.fault(&format!("duplicate entries for key {element}"));
                }
                Ok(element) => self.step(inner, element, item, false, set),
                Err(words) => self.fault(&format!("element {index}: {words}")),
            }
        }
    }
}
