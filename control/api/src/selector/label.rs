//! Label selectors: `app=web,tier in (a,b),!old`.

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
