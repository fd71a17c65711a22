//! Field selectors: `status.phase!=Running,spec.nodeName=a`.

use crate::kinds::Kind;
use crate::status::ApiError;
use std::fmt;

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

    /// The same under other labels: pairs of a label here and one there. A label without a pair stays.
    #[must_use]
    pub fn renamed(&self, labels: &[(&str, &str)]) -> Self {
        let rename = |path: &String| {
            let found = labels.iter().find(|(here, _)| here == path);
            found.map_or_else(|| path.clone(), |(_, there)| (*there).to_owned())
        };
        let requirements = self.requirements.iter();
        Self {
            requirements: requirements
                .map(|(path, operator, value)| (rename(path), *operator, value.clone()))
                .collect(),
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
