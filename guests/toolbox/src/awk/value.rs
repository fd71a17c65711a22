//! The values of awk, which are numbers or texts as they are used.

use super::tokens::number_length;
use crate::shell::general;
use std::rc::Rc;

/// A value: a number, a text, or a text that came from outside and counts as a number where it looks like one.
#[derive(Debug, Clone)]
pub enum Value {
    Number(f64),
    Text(Rc<str>),
    Input(Rc<str>),
    Nothing,
}

impl Value {
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    pub fn number(&self) -> f64 {
        match self {
            Self::Number(number) => *number,
            Self::Text(text) | Self::Input(text) => leading_number(text),
            Self::Nothing => 0.0,
        }
    }

    /// Its number, where it is one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Input(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
            Self::Nothing => Some(0.0),
            Self::Text(_) => None,
        }
    }

    pub fn holds(&self) -> bool {
        match self {
            Self::Number(number) => *number != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Input(text) => self.as_number().map_or(!text.is_empty(), |number| number != 0.0),
            Self::Nothing => false,
        }
    }
}

pub fn leading_number(text: &str) -> f64 {
    let text = text.trim_start();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    digits[..number_length(digits)].parse::<f64>().unwrap_or_default() * sign
}

/// A number as a text: whole ones without a point.
pub fn shown(number: f64, format: &str) -> String {
    if number == number.trunc() && number.abs() < 1e16 {
        return format!("{}", number as i64);
    }
    match format {
        "%.6g" => general(number, 6),
        format => formatted(&[Value::text(format), Value::Number(number)]).unwrap_or_default(),
    }
}

pub fn formatted(values: &[Value]) -> Result<String, String> {
    let args: Vec<String> = values
        .iter()
        .map(|value| match value {
            Value::Number(number) => number.to_string(),
            Value::Text(text) | Value::Input(text) => text.to_string(),
            Value::Nothing => String::new(),
        })
        .collect();
    crate::shell::format_text(&args)
}

pub fn calculated(operator: &str, left: f64, right: f64) -> Result<f64, String> {
    Ok(match operator {
        "+" => left + right,
        "-" => left - right,
        "*" => left * right,
        "/" | "%" if right == 0.0 => return Err("division by zero".into()),
        "/" => left / right,
        "%" => left % right,
        _ => left.powf(right),
    })
}
