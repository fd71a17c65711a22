//! The functions of awk, and those of a program.

use super::parse::{Action, Expr};
use super::value::{Value, formatted};
use super::{Flow, Machine, Reader, Run, read_record};
use crate::files;
use crate::values::said;
use std::collections::BTreeMap;
use std::io::{BufReader, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

impl Machine<'_, '_> {
    pub fn getline(&mut self, target: Option<&Expr>, from: Option<&(bool, Box<Expr>)>) -> Run<Value> {
        let separator = self.get("RS");
        let line = match from {
            None => self.read_main()?,
            Some((is_program, name)) => {
                let name = self.text(name)?;
                if !self.inputs.contains_key(&name) {
                    let reader: Reader = match is_program {
                        true => Box::new(std::io::Cursor::new(crate::processes::output(&name)?)),
                        false => match files::open(&name) {
                            Ok(file) => Box::new(BufReader::new(file)),
                            Err(_) => return Ok(Value::Number(-1.0)),
                        },
                    };
                    self.inputs.insert(name.clone(), reader);
                }
                match self.inputs.get_mut(&name) {
                    Some(reader) => read_record(reader, &separator)?,
                    None => None,
                }
            }
        };
        let Some(line) = line else {
            return Ok(Value::Number(0.0));
        };
        match target {
            Some(place) => self.assign(place, Value::Input(line.into()))?,
            None => self.set_record(line),
        }
        Ok(Value::Number(1.0))
    }

    pub fn call(&mut self, name: &str, values: &[Expr]) -> Run<Value> {
        let program = self.program.clone();
        if let Some(function) = program.functions.get(name) {
            return self.call_own(&function.0, &function.1, values);
        }
        if name == "length"
            && let [Expr::Variable(array)] = values
            && self.arrays.contains_key(&self.array_name(array))
        {
            return Ok(Value::Number(self.array(array).len() as f64));
        }
        match name {
            "sub" | "gsub" => return self.substitute(name == "gsub", values),
            "split" => return self.split_call(values),
            "match" => {
                let text = self.text(argument(values, 0)?)?;
                let pattern = self.pattern(argument(values, 1)?)?;
                let (start, length) = match pattern.find(&text) {
                    Some(found) => (
                        text[..found.start()].chars().count() as f64 + 1.0,
                        found.as_str().chars().count() as f64,
                    ),
                    None => (0.0, -1.0),
                };
                self.variables.insert("RSTART".into(), Value::Number(start));
                self.variables.insert("RLENGTH".into(), Value::Number(length));
                return Ok(Value::Number(start));
            }
            _ => {}
        }
        let mut given = Vec::new();
        for value in values {
            given.push(self.value(value)?);
        }
        let texts: Vec<String> = given.iter().map(|value| self.text_of(value)).collect();
        let text = |index: usize| texts.get(index).cloned().unwrap_or_default();
        let number = |index: usize| given.get(index).map_or(0.0, Value::number);
        Ok(match name {
            "length" => {
                let text = if given.is_empty() { self.record.clone() } else { text(0) };
                Value::Number(text.chars().count() as f64)
            }
            "substr" => {
                let chars: Vec<char> = text(0).chars().collect();
                let begin = number(1).round();
                let end = match given.get(2) {
                    Some(length) => begin + length.number().round(),
                    None => f64::INFINITY,
                };
                let begin = begin.max(1.0) as usize - 1;
                let end = (end - 1.0).clamp(0.0, chars.len() as f64) as usize;
                let part = if begin < end {
                    chars[begin..end].iter().collect()
                } else {
                    String::new()
                };
                Value::text(&part)
            }
            "index" => {
                let (text, wanted) = (text(0), text(1));
                let place = text.find(&wanted).map_or(0, |at| text[..at].chars().count() + 1);
                Value::Number(place as f64)
            }
            "tolower" => Value::text(&text(0).to_lowercase()),
            "toupper" => Value::text(&text(0).to_uppercase()),
            "sprintf" => Value::text(&formatted(&given)?),
            "int" => Value::Number(number(0).trunc()),
            "sqrt" => Value::Number(number(0).sqrt()),
            "exp" => Value::Number(number(0).exp()),
            "log" => Value::Number(number(0).ln()),
            "sin" => Value::Number(number(0).sin()),
            "cos" => Value::Number(number(0).cos()),
            "atan2" => Value::Number(number(0).atan2(number(1))),
            "rand" => {
                self.random = self
                    .random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                Value::Number((self.random >> 11) as f64 / (1_u64 << 53) as f64)
            }
            "srand" => {
                let before = self.random;
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                self.random = if given.is_empty() {
                    now.as_secs()
                } else {
                    number(0) as u64
                };
                Value::Number(before as f64)
            }
            "systime" => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Value::Number(now.as_secs() as f64)
            }
            "system" => {
                self.io.out.flush().map_err(said)?;
                let args = ["sh".to_owned(), "-c".to_owned(), text(0)];
                Value::Number(f64::from(crate::processes::run(&args, std::env::vars().collect())?))
            }
            "close" => {
                let name = text(0);
                self.inputs.remove(&name);
                if let Some(mut output) = self.outputs.remove(&name) {
                    output.flush().map_err(said)?;
                }
                Value::Number(0.0)
            }
            "fflush" => {
                self.io.out.flush().map_err(said)?;
                Value::Number(0.0)
            }
            other => return Err(Flow::Failed(format!("calling undefined function {other}"))),
        })
    }

    pub fn call_own(&mut self, parameters: &[String], body: &Action, values: &[Expr]) -> Run<Value> {
        if self.calls > 150 {
            return Err(Flow::Failed("functions call each other too deeply".into()));
        }
        let mut given = Vec::new();
        let mut aliases = BTreeMap::new();
        for (index, parameter) in parameters.iter().enumerate() {
            let value = match values.get(index) {
                // A name that is no variable may be an array's, and then it is the caller's.
                Some(Expr::Variable(name)) if !self.variables.contains_key(name) => {
                    aliases.insert(parameter.clone(), self.array_name(name));
                    Value::Nothing
                }
                Some(value) => self.value(value)?,
                None => {
                    aliases.insert(parameter.clone(), format!("{parameter} of call {}", self.calls));
                    Value::Nothing
                }
            };
            given.push(value);
        }
        let mut hidden = Vec::new();
        for (parameter, value) in parameters.iter().zip(given) {
            let before = match value {
                Value::Nothing => self.variables.remove(parameter),
                value => self.variables.insert(parameter.clone(), value),
            };
            hidden.push((parameter.clone(), before));
        }
        self.aliases.push(aliases);
        self.calls += 1;
        let flow = self.act(body);
        self.calls -= 1;
        self.aliases.pop();
        for parameter in parameters {
            self.arrays.remove(&format!("{parameter} of call {}", self.calls));
        }
        for (parameter, before) in hidden.into_iter().rev() {
            match before {
                Some(value) => drop(self.variables.insert(parameter, value)),
                None => drop(self.variables.remove(&parameter)),
            }
        }
        match flow {
            Ok(()) => Ok(Value::Nothing),
            Err(Flow::Return(value)) => Ok(value),
            Err(flow) => Err(flow),
        }
    }

    pub fn substitute(&mut self, every: bool, values: &[Expr]) -> Run<Value> {
        let pattern = self.pattern(argument(values, 0)?)?;
        let with = self.text(argument(values, 1)?)?;
        let whole = Expr::Field(Box::new(Expr::Number(0.0)));
        let place = values.get(2).unwrap_or(&whole);
        let text = self.text(place)?;
        let (mut changed, mut end, mut count) = (String::new(), 0, 0);
        for found in pattern.find_iter(&text) {
            changed += &text[end..found.start()];
            let mut chars = with.chars();
            while let Some(c) = chars.next() {
                match c {
                    '&' => changed += found.as_str(),
                    '\\' => match chars.next() {
                        Some(next @ ('&' | '\\')) => changed.push(next),
                        Some(next) => changed.extend(['\\', next]),
                        None => changed.push('\\'),
                    },
                    c => changed.push(c),
                }
            }
            end = found.end();
            count += 1;
            if !every {
                break;
            }
        }
        if count > 0 {
            changed += &text[end..];
            self.assign(place, Value::text(&changed))?;
        }
        Ok(Value::Number(f64::from(count)))
    }

    pub fn split_call(&mut self, values: &[Expr]) -> Run<Value> {
        let text = self.text(argument(values, 0)?)?;
        let Expr::Variable(name) = argument(values, 1)? else {
            return Err(Flow::Failed("split needs an array".into()));
        };
        let parts = match values.get(2) {
            None => self.split(&text, &self.get("FS")),
            Some(Expr::Pattern(pattern)) if !text.is_empty() => {
                pattern.split(&text).map(|part| Value::Input(part.into())).collect()
            }
            Some(separator) => {
                let separator = self.text(separator)?;
                self.split(&text, &separator)
            }
        };
        let count = parts.len();
        let array = self.array(name);
        array.clear();
        array.extend(
            parts
                .into_iter()
                .enumerate()
                .map(|(index, part)| ((index + 1).to_string(), part)),
        );
        Ok(Value::Number(count as f64))
    }
}

fn argument(values: &[Expr], index: usize) -> Run<&Expr> {
    values
        .get(index)
        .ok_or_else(|| Flow::Failed("a function has too few arguments".into()))
}
