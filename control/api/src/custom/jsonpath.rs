//! The JSON paths of kubectl, as far as definitions use them: `.spec.a`, `.a[0]`, `.a[-1]`, `.a[*].b`, `..b`, `['a.b']`, and
//! `.conditions[?(@.type=="Ready")].status`.
//!
//! Finding costs at most the size of the object for each step; it never fails, a step that does not fit finds nothing.

use std::collections::HashSet;

use serde_json::Value;

use crate::object;

/// The longest path, in characters; real ones have a few dozen.
const PATH_LIMIT_CHARS: usize = 1024;

/// A path, parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    All,
    Everywhere,
    Filter {
        path: JsonPath,
        compare: Compare,
        value: Value,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Exists,
    Equal,
    NotEqual,
    Less,
    Greater,
    LessOrEqual,
    GreaterOrEqual,
}

impl JsonPath {
    /// Parses a path, with or without the braces of templates.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.chars().count() > PATH_LIMIT_CHARS {
            return Err(format!("must have at most {PATH_LIMIT_CHARS} characters"));
        }
        let text = text.trim();
        let text = text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'))
            .unwrap_or(text);
        let mut parser = Parser {
            rest: text.trim_start_matches(['$', '@']),
        };
        let mut steps = Vec::new();
        while !parser.rest.is_empty() {
            parser.step(&mut steps)?;
        }
        Ok(Self { steps })
    }

    /// The names of a path that only names fields, such as `.spec.replicas`.
    pub fn fields(&self) -> Option<Vec<&str>> {
        let names = self.steps.iter().map(|step| match step {
            Step::Field(name) => Some(name.as_str()),
            _ => None,
        });
        names.collect()
    }

    /// All values that the path leads to, in order.
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        self.steps.iter().fold(vec![value], |found, step| step.apply(&found))
    }
}

impl Step {
    fn apply<'a>(&self, found: &[&'a Value]) -> Vec<&'a Value> {
        let mut next = Vec::new();
        let mut seen = HashSet::new();
        for value in found {
            match self {
                Self::Field(name) => next.extend(value.get(name)),
                Self::Index(index) => {
                    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                    next.extend(position(*index, items.len()).and_then(|at| items.get(at)));
                }
                Self::Slice(from, to) => {
                    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                    let end = |bound: &Option<i64>, absent: usize| {
                        bound.map_or(Some(absent), |at| position(at, items.len() + 1))
                    };
                    if let (Some(from), Some(to)) = (end(from, 0), end(to, items.len())) {
                        next.extend(items.get(from..to.min(items.len())).into_iter().flatten());
                    }
                }
                Self::All => next.extend(children(value)),
                Self::Everywhere => everywhere(value, &mut seen, &mut next),
                Self::Filter {
                    path,
                    compare,
                    value: wanted,
                } => {
                    let fits = |item: &&Value| holds(path.find(item).first().copied(), *compare, wanted);
                    next.extend(children(value).filter(fits));
                }
            }
        }
        next
    }
}

fn position(index: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    usize::try_from(if index < 0 { index + length } else { index }).ok()
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(fields) => Box::new(fields.values()),
        _ => Box::new(std::iter::empty()),
    }
}

/// A value and all below it, each once: `..a..b..c` would otherwise find the same values along ever more ways.
fn everywhere<'a>(value: &'a Value, seen: &mut HashSet<*const Value>, found: &mut Vec<&'a Value>) {
    if seen.insert(std::ptr::from_ref(value)) {
        found.push(value);
        for child in children(value) {
            everywhere(child, seen, found);
        }
    }
}

fn holds(found: Option<&Value>, compare: Compare, wanted: &Value) -> bool {
    let Some(found) = found else { return false };
    let order = match (found, wanted) {
        (Value::Number(one), Value::Number(other)) => one.as_f64().partial_cmp(&other.as_f64()),
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        _ => (found == wanted).then_some(std::cmp::Ordering::Equal),
    };
    match compare {
        Compare::Exists => true,
        Compare::Equal => order.is_some_and(|order| order.is_eq()),
        Compare::NotEqual => !order.is_some_and(|order| order.is_eq()),
        Compare::Less => order.is_some_and(|order| order.is_lt()),
        Compare::Greater => order.is_some_and(|order| order.is_gt()),
        Compare::LessOrEqual => order.is_some_and(|order| order.is_le()),
        Compare::GreaterOrEqual => order.is_some_and(|order| order.is_ge()),
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn eat(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn until(&mut self, end: &str) -> Result<&'a str, String> {
        let (inside, rest) = self
            .rest
            .split_once(end)
            .ok_or_else(|| format!("unterminated, {end:?} is missing"))?;
        self.rest = rest;
        Ok(inside)
    }

    fn step(&mut self, steps: &mut Vec<Step>) -> Result<(), String> {
        if self.eat("..") {
            steps.push(Step::Everywhere);
            if !self.rest.starts_with('[') {
                steps.push(self.name()?);
            }
        } else if self.eat("[?(") {
            let inside = self.until(")]")?;
            steps.push(filter(inside)?);
        } else if self.eat("[") {
            let inside = self.until("]")?.trim();
            steps.push(bracket(inside)?);
        } else if self.eat(".") {
            if !self.rest.starts_with('[') {
                steps.push(self.name()?);
            }
        } else if steps.is_empty() {
            steps.push(self.name()?);
        } else {
            return Err(format!("unexpected {:?}", self.rest));
        }
        Ok(())
    }

    /// A field's name; a backslash takes a dot into it.
    fn name(&mut self) -> Result<Step, String> {
        let mut name = String::new();
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, char)) = chars.next() {
            match char {
                '\\' => name.extend(chars.next().map(|(_, char)| char)),
                '.' | '[' => {
                    end = at;
                    break;
                }
                ' ' | '{' | '}' => return Err(format!("unrecognized character in action: {char:?}")),
                char => name.push(char),
            }
        }
        self.rest = self.rest.get(end..).unwrap_or_default();
        match name.as_str() {
            "" => Err("a field's name is missing".to_owned()),
            "*" => Ok(Step::All),
            _ => Ok(Step::Field(name)),
        }
    }
}

fn bracket(inside: &str) -> Result<Step, String> {
    let quoted = |quote: char| inside.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    if inside == "*" {
        return Ok(Step::All);
    }
    if let Some(name) = quoted('\'').or_else(|| quoted('"')) {
        return Ok(Step::Field(name.to_owned()));
    }
    let number = |text: &str| -> Result<Option<i64>, String> {
        match text.trim() {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| format!("invalid array index {text}")),
        }
    };
    match inside.split_once(':') {
        Some((from, to)) => Ok(Step::Slice(number(from)?, number(to)?)),
        None => Ok(Step::Index(number(inside)?.ok_or("an array index is missing")?)),
    }
}

fn filter(inside: &str) -> Result<Step, String> {
    const OPERATORS: [(&str, Compare); 6] = [
        ("==", Compare::Equal),
        ("!=", Compare::NotEqual),
        ("<=", Compare::LessOrEqual),
        (">=", Compare::GreaterOrEqual),
        ("<", Compare::Less),
        (">", Compare::Greater),
    ];
    let found = OPERATORS
        .iter()
        .filter_map(|(text, compare)| Some((inside.find(text)?, *text, *compare)))
        .min_by_key(|(at, text, _)| (*at, usize::MAX - text.len()));
    let (path, compare, value) = match found {
        None => (inside, Compare::Exists, Value::Null),
        Some((at, text, compare)) => {
            let (path, value) = (
                inside.get(..at).unwrap_or_default(),
                inside.get(at + text.len()..).unwrap_or_default().trim(),
            );
            let unquoted = value.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
            let value = match unquoted {
                Some(text) => Value::from(text),
                None => serde_json::from_str(value).map_err(|_| format!("cannot read {value:?} in a filter"))?,
            };
            (path, compare, value)
        }
    };
    Ok(Step::Filter {
        path: JsonPath::parse(path)?,
        compare,
        value,
    })
}

/// A simple path such as `.spec.replicas` in the dotted form of [`crate::object`].
pub fn dotted(text: &str) -> Option<String> {
    let path = JsonPath::parse(text).ok()?;
    let names = path.fields()?;
    (text.starts_with('.') && !names.is_empty() && names.iter().all(|name| !name.contains('.')))
        .then(|| names.join("."))
}

/// Whether an object has something at a dotted path.
pub fn has(value: &Value, path: &str) -> bool {
    object::get(value, path).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_find_what_they_name() {
        let object = json!({
            "spec": {"a": 1, "list": [{"n": "x", "v": 1}, {"n": "y", "v": 2}], "x.y/z": "dotted"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
        });
        let cases = [
            (".spec.a", json!([1])),
            ("{.spec.a}", json!([1])),
            (".spec.list[0].n", json!(["x"])),
            (".spec.list[-1].n", json!(["y"])),
            (".spec.list[*].v", json!([1, 2])),
            (".spec.list[0:1].v", json!([1])),
            (".spec['x.y/z']", json!(["dotted"])),
            (r".spec.x\.y/z", json!(["dotted"])),
            (r#".status.conditions[?(@.type=="Ready")].status"#, json!(["True"])),
            (".status.conditions[?(@.type=='Ready')].status", json!(["True"])),
            (".spec.list[?(@.v>1)].n", json!(["y"])),
            ("..n", json!(["x", "y"])),
            (".spec.none.deep", json!([])),
        ];
        for (path, wanted) in cases {
            let found: Vec<Value> = JsonPath::parse(path)
                .unwrap()
                .find(&object)
                .into_iter()
                .cloned()
                .collect();
            assert_eq!(json!(found), wanted, "{path}");
        }
        let chain = (0..60).fold(json!(1), |inner, _| json!({ "a": inner }));
        let again = JsonPath::parse(&"..*".repeat(300)).unwrap();
        assert!(again.find(&chain).len() <= 60, "each value once, along whatever way");
        for path in [".a[", ".a[x]", ".a b", "..", ".a[?(@.b==)]"] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
        assert_eq!(dotted(".spec.replicas").as_deref(), Some("spec.replicas"));
        assert_eq!(dotted(".spec.a[0]"), None);
        assert_eq!(dotted("spec"), None);
    }
}
