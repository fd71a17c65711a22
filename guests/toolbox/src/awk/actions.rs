//! What the actions of awk do.

use super::parse::{Action, Expr};
use super::value::{Value, formatted, shown};
use super::{Flow, Machine, Run};
use crate::files;
use crate::values::said;
use std::io::Write;

impl Machine<'_, '_> {
    pub fn act(&mut self, action: &Action) -> Run<()> {
        match action {
            Action::Do(expr) => drop(self.value(expr)?),
            Action::Print(values, to) => {
                let mut parts = Vec::new();
                let format = self.get("OFMT");
                for value in values {
                    parts.push(match self.value(value)? {
                        Value::Number(number) => shown(number, &format),
                        value => self.text_of(&value),
                    });
                }
                if values.is_empty() {
                    parts.push(self.record.clone());
                }
                let text = parts.join(&self.get("OFS")) + &self.get("ORS");
                self.write(&text, to.as_ref())?;
            }
            Action::Printf(values, to) => {
                let mut given = Vec::new();
                for value in values {
                    given.push(self.value(value)?);
                }
                let text = formatted(&given)?;
                self.write(&text, to.as_ref())?;
            }
            Action::If(condition, then, otherwise) => {
                if self.value(condition)?.holds() {
                    self.act(then)?;
                } else if let Some(otherwise) = otherwise {
                    self.act(otherwise)?;
                }
            }
            Action::While(condition, body) => while self.value(condition)?.holds() && self.turn(body)? {},
            Action::Until(body, condition) => while self.turn(body)? && self.value(condition)?.holds() {},
            Action::For(first, condition, step, body) => {
                if let Some(first) = first {
                    self.act(first)?;
                }
                loop {
                    if let Some(condition) = condition
                        && !self.value(condition)?.holds()
                    {
                        break;
                    }
                    if !self.turn(body)? {
                        break;
                    }
                    if let Some(step) = step {
                        self.act(step)?;
                    }
                }
            }
            Action::Each(name, array, body) => {
                let mut keys: Vec<String> = self.array(array).keys().cloned().collect();
                // No order is promised; that of numbers is what people hope for.
                keys.sort_by(|left, right| match (left.parse::<f64>(), right.parse::<f64>()) {
                    (Ok(left), Ok(right)) => left.total_cmp(&right),
                    _ => left.cmp(right),
                });
                for key in keys {
                    self.variables.insert(name.clone(), Value::Input(key.into()));
                    if !self.turn(body)? {
                        break;
                    }
                }
            }
            Action::Block(all) => {
                for action in all {
                    self.act(action)?;
                }
            }
            Action::Delete(name, None) => self.array(name).clear(),
            Action::Delete(name, Some(keys)) => {
                let key = self.key(keys)?;
                self.array(name).remove(&key);
            }
            Action::Next => return Err(Flow::Next),
            Action::Break => return Err(Flow::Break),
            Action::Continue => return Err(Flow::Continue),
            Action::Exit(code) => {
                if let Some(code) = code {
                    self.code = self.value(code)?.number() as i32;
                }
                return Err(Flow::Exit);
            }
            Action::Return(value) => {
                let value = match value {
                    Some(value) => self.value(value)?,
                    None => Value::Nothing,
                };
                return Err(Flow::Return(value));
            }
        }
        Ok(())
    }

    /// One turn of a loop; false when it was the last.
    fn turn(&mut self, body: &Action) -> Run<bool> {
        match self.act(body) {
            Ok(()) | Err(Flow::Continue) => Ok(true),
            Err(Flow::Break) => Ok(false),
            Err(flow) => Err(flow),
        }
    }

    fn write(&mut self, text: &str, to: Option<&(&'static str, Expr)>) -> Run<()> {
        let Some((mark, name)) = to else {
            return Ok(self.io.out.write_all(text.as_bytes()).map_err(said)?);
        };
        let name = self.text(name)?;
        match (name.as_str(), *mark) {
            ("/dev/stdout" | "-", ">" | ">>") => return Ok(self.io.out.write_all(text.as_bytes()).map_err(said)?),
            ("/dev/stderr", _) => return Ok(self.io.err.write_all(text.as_bytes()).map_err(said)?),
            ("cat 1>&2" | "cat >&2", "|") => return Ok(self.io.err.write_all(text.as_bytes()).map_err(said)?),
            _ => {}
        }
        if !self.outputs.contains_key(&name) {
            let output: Box<dyn Write> = if *mark == "|" {
                self.io.out.flush().map_err(said)?;
                Box::new(crate::processes::Piped::start(&name)?)
            } else {
                let mut options = std::fs::OpenOptions::new();
                options
                    .create(true)
                    .append(*mark == ">>")
                    .write(true)
                    .truncate(*mark == ">");
                let file = options
                    .open(files::path(&name))
                    .map_err(|error| files::why(&name, &error))?;
                Box::new(std::io::BufWriter::new(file))
            };
            self.outputs.insert(name.clone(), output);
        }
        if let Some(output) = self.outputs.get_mut(&name) {
            output.write_all(text.as_bytes()).map_err(said)?;
        }
        Ok(())
    }
}
