//! Label selectors and field selectors: reading them, and deciding what they match.

use crate::kinds::Kind;
use crate::object;
use crate::status::ApiError;
use crate::validate::names;
use serde_json::Value;
use std::fmt;

/// What a label must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How the label is compared with the values.
    pub operator: Operator,
    /// The values to compare with; none for `Exists` and `DoesNotExist`.
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// The label is there with one of the values.
    In,
    /// The label is not there, or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
    /// The label is a number above the value.
    GreaterThan,
    /// The label is a number below the value.
    LessThan,
}

impl Requirement {
    /// Whether a label with this value (or none) meets the requirement.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let among = |value: &str| self.values.iter().any(|wanted| wanted == value);
        match self.operator {
            Operator::In => value.is_some_and(among),
            Operator::NotIn => !value.is_some_and(among),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.compared(value).is_some_and(|(found, bound)| found > bound),
            Operator::LessThan => self.compared(value).is_some_and(|(found, bound)| found < bound),
        }
    }

    fn compared(&self, value: Option<&str>) -> Option<(i64, i64)> {
        Some((value?.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, values, .. } = self;
        let all = values.join(",");
        match self.operator {
            Operator::In if values.len() == 1 => write!(f, "{key}={all}"),
            Operator::NotIn if values.len() == 1 => write!(f, "{key}!={all}"),
            Operator::In => write!(f, "{key} in ({all})"),
            Operator::NotIn => write!(f, "{key} notin ({all})"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{all}"),
            Operator::LessThan => write!(f, "{key}<{all}"),
        }
    }
}

/// Requirements on labels, all of which must be met. Prints in the form that it is read from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    /// Matches everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches nothing: what an absent `metav1.LabelSelector` means.
    pub fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// Reads the text form: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    ///
    /// # Errors
    /// 400 when the text is no selector.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let mut requirements = Vec::new();
        for part in split_outside_parentheses(text) {
            requirements.push(requirement(part)?);
        }
        Ok(Self {
            requirements,
            nothing: false,
        })
    }

    /// Reads a `metav1.LabelSelector` object: null matches nothing, an empty one everything.
    ///
    /// # Errors
    /// 400 when an expression has an unknown operator or the wrong number of values.
    pub fn from_object(selector: &Value) -> Result<Self, ApiError> {
        if selector.is_null() {
            return Ok(Self::nothing());
        }
        let mut requirements = Vec::new();
        for (key, value) in object::map(selector, "matchLabels").into_iter().flatten() {
            let values = vec![value.as_str().unwrap_or_default().to_owned()];
            requirements.push(Requirement {
                key: key.clone(),
                operator: Operator::In,
                values,
            });
        }
        for expression in object::list(selector, "matchExpressions") {
            requirements.push(from_expression(expression)?);
        }
        Ok(Self {
            requirements,
            nothing: false,
        })
    }

    /// Reads a plain map of labels, as in a Service's `spec.selector`. An empty or missing map matches nothing here,
    /// because a Service without a selector chooses no pods.
    pub fn from_map(labels: Option<&Value>) -> Self {
        let entries = labels.and_then(Value::as_object).into_iter().flatten();
        let requirements: Vec<Requirement> = entries
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::In,
                values: vec![value.as_str().unwrap_or_default().to_owned()],
            })
            .collect();
        let nothing = requirements.is_empty();
        Self { requirements, nothing }
    }

    /// Whether labels, looked up by key, meet all requirements.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing
            && self
                .requirements
                .iter()
                .all(|requirement| requirement.matches(get(&requirement.key)))
    }

    /// Whether an object's labels meet all requirements.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches(|key| object::label(object, key))
    }

    /// Whether it matches whatever there is.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// The single requirements.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

fn from_expression(expression: &Value) -> Result<Requirement, ApiError> {
    let key = object::text(expression, "key").to_owned();
    let values: Vec<String> = object::list(expression, "values")
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let operator = match object::text(expression, "operator") {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => {
            return Err(ApiError::bad_request(format!(
                "{other:?} is not a valid label selector operator"
            )));
        }
    };
    let wants_values = matches!(operator, Operator::In | Operator::NotIn);
    if wants_values == values.is_empty() {
        let words = if wants_values {
            "must be non-empty"
        } else {
            "must be empty"
        };
        return Err(ApiError::bad_request(format!(
            "values of the label selector requirement on {key:?} {words}"
        )));
    }
    Ok(Requirement { key, operator, values })
}

/// The parts between commas that are not within parentheses; blank parts at the end count as none.
fn split_outside_parentheses(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let parts = text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    let blank = text.trim().is_empty();
    parts.filter(move |_| !blank)
}

fn requirement(part: &str) -> Result<Requirement, ApiError> {
    let part = part.trim();
    let refuse = |why: String| ApiError::bad_request(format!("unable to parse requirement: {why}"));
    let (key, operator, values) = split_requirement(part)
        .ok_or_else(|| refuse(format!("found {part:?}, expected a label selector requirement")))?;
    if let Some(fault) = names::qualified_name(&key).first() {
        return Err(refuse(format!("<nil>: Invalid value: {key:?}: {fault}")));
    }
    let numbers = matches!(operator, Operator::GreaterThan | Operator::LessThan);
    for value in &values {
        if numbers && value.parse::<i64>().is_err() {
            return Err(refuse(format!(
                "values[0][{key}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
            )));
        }
        if let Some(fault) = names::label_value(value).first() {
            return Err(refuse(format!("values[0][{key}]: Invalid value: {value:?}: {fault}")));
        }
    }
    Ok(Requirement { key, operator, values })
}

fn split_requirement(part: &str) -> Option<(String, Operator, Vec<String>)> {
    if let Some(key) = part.strip_prefix('!') {
        return Some((key.trim().to_owned(), Operator::DoesNotExist, Vec::new()));
    }
    let end = part
        .find(|c: char| c.is_whitespace() || "=!<>(".contains(c))
        .unwrap_or(part.len());
    let (key, rest) = part.split_at(end);
    let rest = rest.trim();
    let one = |operator, value: &str| Some((key.to_owned(), operator, vec![value.trim().to_owned()]));
    if rest.is_empty() {
        return Some((key.to_owned(), Operator::Exists, Vec::new()));
    }
    if let Some(value) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
        return one(Operator::In, value);
    }
    if let Some(value) = rest.strip_prefix("!=") {
        return one(Operator::NotIn, value);
    }
    if let Some(value) = rest.strip_prefix('>') {
        return one(Operator::GreaterThan, value);
    }
    if let Some(value) = rest.strip_prefix('<') {
        return one(Operator::LessThan, value);
    }
    let (operator, set) = match rest.strip_prefix("notin") {
        Some(set) => (Operator::NotIn, set),
        None => (Operator::In, rest.strip_prefix("in")?),
    };
    let inside = set.trim().strip_prefix('(')?.strip_suffix(')')?;
    let values = inside.split(',').map(|value| value.trim().to_owned()).collect();
    Some((key.to_owned(), operator, values))
}

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldOperator {
    /// The field has the value.
    Equal,
    /// The field has another value.
    NotEqual,
}

/// Requirements on fields, all of which must be met: `status.phase!=Running,spec.nodeName=a`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    requirements: Vec<(String, FieldOperator, String)>,
}

impl FieldSelector {
    /// Reads the text form; `\` takes the meaning from a comma, an equals sign or a backslash in a value.
    ///
    /// # Errors
    /// 400 when the text is no selector.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let mut requirements = Vec::new();
        for part in split_unescaped(text) {
            if part.is_empty() {
                continue;
            }
            let understood = field_requirement(&part);
            let words = || ApiError::bad_request(format!("invalid selector: '{text}'; can't understand '{part}'"));
            requirements.push(understood.ok_or_else(words)?);
        }
        Ok(Self { requirements })
    }

    /// The single requirements: path, comparison, value.
    pub fn requirements(&self) -> &[(String, FieldOperator, String)] {
        &self.requirements
    }

    /// Whether it matches whatever there is.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The value that `field` must have, when the selector fixes one. A named watch is served from this.
    pub fn requires(&self, field: &str) -> Option<&str> {
        let fixed = self
            .requirements
            .iter()
            .find(|(path, operator, _)| path == field && *operator == FieldOperator::Equal);
        fixed.map(|(_, _, value)| value.as_str())
    }

    /// Refuses fields by which objects of this kind cannot be selected.
    ///
    /// # Errors
    /// 400 with the first such field.
    pub fn check(&self, kind: &Kind) -> Result<(), ApiError> {
        let unknown = self.requirements.iter().find(|(path, _, _)| !kind.is_selectable(path));
        match unknown {
            Some((path, _, _)) => Err(ApiError::bad_request(format!("field label not supported: {path}"))),
            None => Ok(()),
        }
    }

    /// Whether fields, looked up by path, meet all requirements. A field without a value counts as empty.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|(path, operator, value)| {
            let same = get(path).unwrap_or_default() == value;
            same == (*operator == FieldOperator::Equal)
        })
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (path, operator, value)) in self.requirements.iter().enumerate() {
            let sign = if *operator == FieldOperator::Equal { "=" } else { "!=" };
            let escaped = value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{}{path}{sign}{escaped}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

fn split_unescaped(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == ',' && !escaped {
            parts.push(String::new());
            continue;
        }
        escaped = c == '\\' && !escaped;
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

fn field_requirement(part: &str) -> Option<(String, FieldOperator, String)> {
    let at = part.find(['=', '!'])?;
    let (path, rest) = part.split_at(at);
    let (operator, raw) = if let Some(value) = rest.strip_prefix("!=") {
        (FieldOperator::NotEqual, value)
    } else if let Some(value) = rest.strip_prefix("==") {
        (FieldOperator::Equal, value)
    } else {
        (FieldOperator::Equal, rest.strip_prefix('=')?)
    };
    Some((path.trim().to_owned(), operator, unescape(raw)?))
}

fn unescape(raw: &str) -> Option<String> {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(|next| matches!(next, '\\' | ',' | '='))?),
            '=' => return None,
            plain => out.push(plain),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn label<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<&'a str> {
        move |key| pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    #[test]
    fn label_selectors_match_as_in_kubernetes() {
        let labels = [("app", "web"), ("tier", "a"), ("n", "5")];
        let cases = [
            ("", true),
            (" ", true),
            ("app=web", true),
            ("app==web", true),
            ("app = web", true),
            ("app!=web", false),
            ("none!=x", true),
            ("app in (web, api)", true),
            ("app in(api)", false),
            ("app notin (api)", true),
            ("none notin (x)", true),
            ("app,tier", true),
            ("!app", false),
            ("!none", true),
            ("app=web,tier in (b,c)", false),
            ("app in (web,api),tier=a", true),
            ("n>4", true),
            ("n<5", false),
            ("app=", false),
        ];
        for (text, matches) in cases {
            assert_eq!(
                LabelSelector::parse(text).unwrap().matches(label(&labels)),
                matches,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_selector_is_a_bad_request() {
        for text in [
            "a b", "=x", "a in x", "a in (x", ",", "a=b,", "a=b c", "a>x", "-a", "a=b=c",
        ] {
            assert_eq!(LabelSelector::parse(text).map_err(|e| e.code), Err(400), "{text}");
        }
        for text in ["metadata.name", "a=b=c", "a=\\x", "x y"] {
            assert_eq!(FieldSelector::parse(text).map_err(|e| e.code), Err(400), "{text}");
        }
    }

    #[test]
    fn selector_objects_match_nothing_when_absent_and_all_when_empty() {
        assert!(!LabelSelector::from_object(&Value::Null).unwrap().matches(label(&[])));
        assert!(LabelSelector::from_object(&json!({})).unwrap().is_everything());
        let both = json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["b"]}]});
        let selector = LabelSelector::from_object(&both).unwrap();
        assert!(selector.matches(label(&[("app", "web")])));
        assert!(!selector.matches(label(&[("app", "web"), ("tier", "b")])));
        assert_eq!(selector.to_string(), "app=web,tier!=b");
        assert!(LabelSelector::from_object(&json!({"matchExpressions": [{"key": "a", "operator": "In"}]})).is_err());
    }

    #[test]
    fn field_selectors_compare_and_unescape() {
        let fields = [("spec.nodeName", "a,b"), ("status.phase", "Running")];
        for (text, matches) in [
            ("", true),
            ("status.phase=Running", true),
            ("status.phase!=Running", false),
            (r"spec.nodeName=a\,b", true),
            ("x=", true),
        ] {
            let selector = FieldSelector::parse(text).unwrap();
            assert_eq!(selector.matches(label(&fields)), matches, "{text}");
            assert_eq!(FieldSelector::parse(&selector.to_string()).unwrap(), selector);
        }
    }

    proptest! {
        #[test]
        fn a_printed_selector_reads_back(text in "[a-c!=() in,<>1]{0,20}") {
            if let Ok(selector) = LabelSelector::parse(&text) {
                prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
            }
        }
    }
}
