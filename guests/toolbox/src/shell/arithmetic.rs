//! `$(( ))`: the arithmetic of C on 64-bit numbers, with variables by name.

use super::parser::is_name;

/// Reads and sets variables.
pub trait Variables {
    fn number(&mut self, name: &str) -> Result<i64, String>;
    fn set_number(&mut self, name: &str, value: i64) -> Result<(), String>;
}

/// The value of an expression; an empty one is 0.
pub fn evaluate(text: &str, variables: &mut dyn Variables) -> Result<i64, String> {
    let mut evaluation = Evaluation {
        text,
        at: 0,
        idle: 0,
        variables,
    };
    evaluation.blanks();
    if evaluation.rest().is_empty() {
        return Ok(0);
    }
    let value = evaluation.comma()?;
    match evaluation.rest().is_empty() {
        true => Ok(value),
        false => Err(evaluation.error("expecting EOF")),
    }
}

/// A number as C writes it.
pub fn parse_number(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        i64::from_str_radix(hex, 16).ok()?
    } else if digits.len() > 1 && digits.starts_with('0') {
        i64::from_str_radix(digits, 8).ok()?
    } else {
        digits.parse::<i64>().ok()?
    };
    Some(value.wrapping_mul(sign))
}

/// The binary operators by their strength, the longer before those that they begin with.
const LEVELS: [&[&str]; 10] = [
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<=", ">=", "<", ">"],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

const ASSIGNMENTS: [&str; 11] = ["<<=", ">>=", "*=", "/=", "%=", "+=", "-=", "&=", "^=", "|=", "="];

struct Evaluation<'a> {
    text: &'a str,
    at: usize,
    /// Above zero what is read has no effect: the side of `&&`, `||` or `?:` that is not taken.
    idle: u32,
    variables: &'a mut dyn Variables,
}

impl<'a> Evaluation<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn error(&self, what: &str) -> String {
        format!("arithmetic expression: {what}: \"{}\"", self.text)
    }

    fn skip(&mut self, mark: &str) {
        self.at += mark.len();
        self.blanks();
    }

    fn accept(&mut self, mark: &str) -> bool {
        let found = self.rest().starts_with(mark);
        if found {
            self.skip(mark);
        }
        found
    }

    fn comma(&mut self) -> Result<i64, String> {
        let mut value = self.assignment()?;
        while self.accept(",") {
            value = self.assignment()?;
        }
        Ok(value)
    }

    fn name(&self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let name = &rest[..end.unwrap_or(rest.len())];
        if is_name(name) { name } else { "" }
    }

    fn assignment(&mut self) -> Result<i64, String> {
        let (begin, name) = (self.at, self.name());
        if !name.is_empty() {
            self.skip(name);
            let rest = self.rest();
            let mark = ASSIGNMENTS.iter().find(|mark| rest.starts_with(**mark));
            if let Some(mark) = mark
                && !rest.starts_with("==")
            {
                self.skip(mark);
                let right = self.assignment()?;
                let value = match &mark[..mark.len() - 1] {
                    "" => right,
                    operator => {
                        let left = self.read(name)?;
                        self.apply(operator, left, right)?
                    }
                };
                if self.idle == 0 {
                    self.variables.set_number(name, value)?;
                }
                return Ok(value);
            }
            self.at = begin;
        }
        self.condition()
    }

    fn read(&mut self, name: &str) -> Result<i64, String> {
        match self.idle {
            0 => self.variables.number(name),
            _ => Ok(0),
        }
    }

    /// Reads a side that counts only if `taken`.
    fn side(&mut self, taken: bool, read: impl FnOnce(&mut Self) -> Result<i64, String>) -> Result<i64, String> {
        self.idle += u32::from(!taken);
        let value = read(self);
        self.idle -= u32::from(!taken);
        value
    }

    fn condition(&mut self) -> Result<i64, String> {
        let condition = self.binary(0)?;
        if !self.accept("?") {
            return Ok(condition);
        }
        let yes = self.side(condition != 0, Self::comma)?;
        if !self.accept(":") {
            return Err(self.error("expecting ':'"));
        }
        let no = self.side(condition == 0, Self::condition)?;
        Ok(if condition != 0 { yes } else { no })
    }

    fn binary(&mut self, level: usize) -> Result<i64, String> {
        let Some(operators) = LEVELS.get(level) else {
            return self.unary();
        };
        let mut left = self.binary(level + 1)?;
        while let Some(operator) = self.operator(operators) {
            self.skip(operator);
            left = match operator {
                "&&" => i64::from(self.side(left != 0, |side| side.binary(level + 1))? != 0 && left != 0),
                "||" => i64::from(self.side(left == 0, |side| side.binary(level + 1))? != 0 || left != 0),
                _ => {
                    let right = self.binary(level + 1)?;
                    self.apply(operator, left, right)?
                }
            };
        }
        Ok(left)
    }

    /// The operator of a level that comes next, unless it is the beginning of another.
    fn operator(&self, operators: &'static [&'static str]) -> Option<&'static str> {
        let rest = self.rest();
        let found = operators.iter().find(|operator| rest.starts_with(**operator))?;
        let after = &rest[found.len()..];
        let longer = match *found {
            "|" | "&" => after.starts_with(*found) || after.starts_with('='),
            "<" | ">" => after.starts_with(*found),
            "==" | "!=" | "<=" | ">=" | "||" | "&&" => false,
            _ => after.starts_with('='),
        };
        (!longer).then_some(found)
    }

    fn apply(&self, operator: &str, left: i64, right: i64) -> Result<i64, String> {
        Ok(match operator {
            "+" => left.wrapping_add(right),
            "-" => left.wrapping_sub(right),
            "*" => left.wrapping_mul(right),
            "/" | "%" if right == 0 && self.idle > 0 => 0,
            "/" | "%" if right == 0 => return Err(self.error("division by zero")),
            "/" => left.wrapping_div(right),
            "%" => left.wrapping_rem(right),
            "<<" => left.wrapping_shl(right as u32),
            ">>" => left.wrapping_shr(right as u32),
            "&" => left & right,
            "^" => left ^ right,
            "|" => left | right,
            "==" => i64::from(left == right),
            "!=" => i64::from(left != right),
            "<" => i64::from(left < right),
            ">" => i64::from(left > right),
            "<=" => i64::from(left <= right),
            _ => i64::from(left >= right),
        })
    }

    fn unary(&mut self) -> Result<i64, String> {
        if self.accept("!") {
            return Ok(i64::from(self.unary()? == 0));
        }
        if self.accept("~") {
            return Ok(!self.unary()?);
        }
        if self.accept("-") {
            return Ok(self.unary()?.wrapping_neg());
        }
        if self.accept("+") {
            return self.unary();
        }
        if self.accept("(") {
            let value = self.comma()?;
            return match self.accept(")") {
                true => Ok(value),
                false => Err(self.error("expecting ')'")),
            };
        }
        let name = self.name();
        if !name.is_empty() {
            self.skip(name);
            return self.read(name);
        }
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let value = parse_number(&rest[..end]).ok_or_else(|| self.error("expecting primary"))?;
        let number = &rest[..end];
        self.skip(number);
        Ok(value)
    }
}
