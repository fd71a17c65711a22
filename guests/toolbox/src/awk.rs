//! `awk`: rules, fields, arrays, functions, as one-line programs and short scripts use them.

mod actions;
mod functions;
mod parse;
mod tokens;
mod value;

use crate::expressions::{Kind, regex};
use crate::files;
use crate::values::said;
use crate::{Io, Outcome};
use parse::{Expr, Program, When, parse};
use regex_lite::Regex;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::rc::Rc;
use value::{Value, calculated, shown};

type Array = BTreeMap<String, Value>;

/// Why actions are not carried on with.
enum Flow {
    Next,
    Break,
    Continue,
    Exit,
    Return(Value),
    Failed(String),
}

impl From<String> for Flow {
    fn from(what: String) -> Self {
        Self::Failed(what)
    }
}

type Run<T> = Result<T, Flow>;

/// Where lines come from.
type Reader = Box<dyn BufRead>;

struct Machine<'a, 'b> {
    io: &'a mut Io<'b>,
    program: Rc<Program>,
    variables: BTreeMap<String, Value>,
    arrays: BTreeMap<String, Array>,
    /// The names of a function's parameters that stand for arrays of its caller.
    aliases: Vec<BTreeMap<String, String>>,
    record: String,
    fields: Vec<Value>,
    files: Vec<String>,
    reader: Option<Reader>,
    use_input: bool,
    outputs: BTreeMap<String, Box<dyn Write>>,
    inputs: BTreeMap<String, Reader>,
    patterns: BTreeMap<String, Regex>,
    code: i32,
    calls: usize,
    random: u64,
}

pub fn awk(io: &mut Io, args: &[String]) -> Outcome {
    let mut variables = BTreeMap::new();
    let (mut script, mut rest) = (None::<String>, args);
    let set = |variables: &mut BTreeMap<String, Value>, pair: &str| -> Result<(), String> {
        let (name, value) = pair.split_once('=').ok_or("-v needs name=value")?;
        let (value, _) = crate::shell::unescape(value, false);
        variables.insert(name.into(), Value::Input(String::from_utf8_lossy(&value).into()));
        Ok(())
    };
    while let Some((flag, after)) = rest.split_first() {
        let mut value = |short: &str| crate::option(&mut rest, short);
        if flag == "--" {
            rest = after;
            break;
        } else if let Some(text) = value("-F") {
            let text = if text == "t" { "\t".to_owned() } else { text };
            set(&mut variables, &format!("FS={text}"))?;
        } else if let Some(pair) = value("-v") {
            set(&mut variables, &pair)?;
        } else if let Some(path) = value("-f") {
            script = Some(script.unwrap_or_default() + &files::read_text(&path)? + "\n");
        } else {
            break;
        }
    }
    let script = match script {
        Some(script) => script,
        None => {
            let (script, after) = rest.split_first().ok_or("a program is needed")?;
            rest = after;
            script.clone()
        }
    };
    for (name, value) in [
        ("FS", " "),
        ("OFS", " "),
        ("ORS", "\n"),
        ("RS", "\n"),
        ("SUBSEP", "\u{1c}"),
        ("OFMT", "%.6g"),
        ("CONVFMT", "%.6g"),
    ] {
        variables.entry(name.into()).or_insert_with(|| Value::text(value));
    }
    let mut machine = Machine {
        program: Rc::new(parse(&script)?),
        io,
        variables,
        arrays: BTreeMap::new(),
        aliases: vec![BTreeMap::new()],
        record: String::new(),
        fields: Vec::new(),
        files: rest.iter().rev().cloned().collect(),
        reader: None,
        use_input: !rest.iter().any(|arg| !is_assignment(arg)),
        outputs: BTreeMap::new(),
        inputs: BTreeMap::new(),
        patterns: BTreeMap::new(),
        code: 0,
        calls: 0,
        random: 1,
    };
    let environment = std::env::vars().map(|(name, value)| (name, Value::Input(value.into())));
    machine.arrays.insert("ENVIRON".into(), environment.collect());
    let mut arguments = vec!["awk".to_owned()];
    arguments.extend(rest.iter().cloned());
    machine
        .variables
        .insert("ARGC".into(), Value::Number(arguments.len() as f64));
    let arguments = arguments.into_iter().enumerate();
    let arguments = arguments.map(|(index, text)| (index.to_string(), Value::Input(text.into())));
    machine.arrays.insert("ARGV".into(), arguments.collect());
    machine.all()
}

fn is_assignment(text: &str) -> bool {
    text.split_once('=')
        .is_some_and(|(name, _)| crate::shell::parser::is_name(name))
}

impl Machine<'_, '_> {
    fn all(&mut self) -> Outcome {
        let program = self.program.clone();
        let ended = |flow: Run<()>| match flow {
            Ok(()) | Err(Flow::Next | Flow::Break | Flow::Continue | Flow::Return(_)) => Ok(false),
            Err(Flow::Exit) => Ok(true),
            Err(Flow::Failed(what)) => Err(what),
        };
        let mut over = false;
        for (when, action) in &program.rules {
            if let (When::Begin, Some(action), false) = (when, action, over) {
                over = ended(self.act(action))?;
            }
        }
        let reads = program.rules.iter().any(|(when, _)| !matches!(when, When::Begin));
        let mut open = vec![false; program.rules.len()];
        while reads && !over {
            match self.read_main() {
                Ok(Some(line)) => self.set_record(line),
                Ok(None) => break,
                Err(what) => return Err(what),
            }
            over = ended(self.rules(&program, &mut open))?;
        }
        for (when, action) in &program.rules {
            if let (When::End, Some(action)) = (when, action) {
                if over && self.code != 0 {
                    break;
                }
                if ended(self.act(action))? {
                    break;
                }
            }
        }
        for (_, mut output) in std::mem::take(&mut self.outputs) {
            output.flush().map_err(said)?;
        }
        Ok(self.code)
    }

    fn rules(&mut self, program: &Program, open: &mut [bool]) -> Run<()> {
        for (index, (when, action)) in program.rules.iter().enumerate() {
            let applies = match when {
                When::Begin | When::End => false,
                When::Always => true,
                When::If(condition) => self.value(condition)?.holds(),
                When::Range(first, last) => {
                    let inside = open[index] || self.value(first)?.holds();
                    open[index] = inside && !self.value(last)?.holds();
                    inside
                }
            };
            if applies {
                match action {
                    Some(action) => self.act(action)?,
                    None => {
                        let line = format!("{}{}", self.record, self.get("ORS"));
                        self.io.out.write_all(line.as_bytes()).map_err(said)?;
                    }
                }
            }
        }
        Ok(())
    }

    // Input.

    fn read_main(&mut self) -> Result<Option<String>, String> {
        loop {
            let separator = self.get("RS");
            let line = match &mut self.reader {
                Some(reader) => read_record(reader, &separator)?,
                None if self.use_input && self.files.is_empty() => read_record(self.io.input, &separator)?,
                None => None,
            };
            if let Some(line) = line {
                self.count("NR");
                self.count("FNR");
                return Ok(Some(line));
            }
            self.reader = None;
            let Some(file) = self.files.pop() else {
                return Ok(None);
            };
            if is_assignment(&file) {
                if let Some((name, value)) = file.split_once('=') {
                    self.variables.insert(name.into(), Value::Input(value.into()));
                }
                continue;
            }
            self.variables.insert("FILENAME".into(), Value::text(&file));
            self.variables.insert("FNR".into(), Value::Number(0.0));
            if file == "-" {
                self.use_input = true;
                let mut text = Vec::new();
                self.io.input.read_to_end(&mut text).map_err(said)?;
                self.reader = Some(Box::new(std::io::Cursor::new(text)));
            } else {
                match files::open(&file) {
                    Ok(opened) => self.reader = Some(Box::new(BufReader::new(opened))),
                    Err(what) => {
                        self.io.complain("awk", what);
                        self.code = 2;
                    }
                }
            }
        }
    }

    fn count(&mut self, name: &str) {
        let number = self.variables.get(name).map_or(0.0, Value::number);
        self.variables.insert(name.into(), Value::Number(number + 1.0));
    }

    fn get(&self, name: &str) -> String {
        self.variables
            .get(name)
            .map(|value| self.text_of(value))
            .unwrap_or_default()
    }

    fn text_of(&self, value: &Value) -> String {
        match value {
            Value::Number(number) => match self.variables.get("CONVFMT") {
                Some(Value::Text(format) | Value::Input(format)) => shown(*number, format),
                _ => shown(*number, "%.6g"),
            },
            Value::Text(text) | Value::Input(text) => text.to_string(),
            Value::Nothing => String::new(),
        }
    }

    fn set_record(&mut self, line: String) {
        self.fields = self.split(&line, &self.get("FS"));
        self.record = line;
        self.variables
            .insert("NF".into(), Value::Number(self.fields.len() as f64));
    }

    fn split(&self, text: &str, separator: &str) -> Vec<Value> {
        let input = |text: &str| Value::Input(text.into());
        if text.is_empty() {
            return Vec::new();
        }
        match separator {
            " " => text.split_ascii_whitespace().map(input).collect(),
            "" => text.chars().map(|c| input(c.encode_utf8(&mut [0; 4]))).collect(),
            one if one.chars().count() == 1 && one != "\\" => text.split(one).map(input).collect(),
            pattern => match regex(pattern, Kind::Extended, false) {
                Ok(pattern) => pattern.split(text).map(input).collect(),
                Err(_) => text.split(pattern).map(input).collect(),
            },
        }
    }

    fn rebuild(&mut self) {
        let fields: Vec<String> = self.fields.iter().map(|field| self.text_of(field)).collect();
        self.record = fields.join(&self.get("OFS"));
        self.variables
            .insert("NF".into(), Value::Number(self.fields.len() as f64));
    }

    // Variables.

    fn array_name(&self, name: &str) -> String {
        let alias = self.aliases.last().and_then(|aliases| aliases.get(name));
        alias.cloned().unwrap_or_else(|| name.to_owned())
    }

    fn array(&mut self, name: &str) -> &mut Array {
        let name = self.array_name(name);
        self.arrays.entry(name).or_default()
    }

    fn key(&mut self, keys: &[Expr]) -> Run<String> {
        let mut parts = Vec::new();
        for key in keys {
            parts.push(self.text(key)?);
        }
        Ok(parts.join(&self.get("SUBSEP")))
    }

    fn assign(&mut self, place: &Expr, value: Value) -> Run<()> {
        match place {
            Expr::Variable(name) => {
                let count = (name == "NF").then(|| value.number().max(0.0) as usize);
                self.variables.insert(name.clone(), value);
                if let Some(count) = count {
                    self.fields.resize(count, Value::Nothing);
                    self.rebuild();
                }
            }
            Expr::Element(name, keys) => {
                let key = self.key(keys)?;
                self.array(name).insert(key, value);
            }
            Expr::Field(index) => {
                let index = self.value(index)?.number().max(0.0) as usize;
                let text = self.text_of(&value);
                match index {
                    0 => self.set_record(text),
                    index => {
                        if self.fields.len() < index {
                            self.fields.resize(index, Value::Nothing);
                        }
                        self.fields[index - 1] = Value::Input(text.into());
                        self.rebuild();
                    }
                }
            }
            Expr::Group(list) if list.len() == 1 => self.assign(&list[0], value)?,
            _ => return Err(Flow::Failed("assignment to a value".into())),
        }
        Ok(())
    }

    // Expressions.

    fn text(&mut self, expr: &Expr) -> Run<String> {
        let value = self.value(expr)?;
        Ok(self.text_of(&value))
    }

    fn value(&mut self, expr: &Expr) -> Run<Value> {
        Ok(match expr {
            Expr::Number(number) => Value::Number(*number),
            Expr::Text(text) => Value::Text(text.clone()),
            Expr::Pattern(pattern) => Value::Number(f64::from(pattern.is_match(&self.record))),
            Expr::Variable(name) => self.variables.get(name).cloned().unwrap_or(Value::Nothing),
            Expr::Element(name, keys) => {
                let key = self.key(keys)?;
                self.array(name).entry(key).or_insert(Value::Nothing).clone()
            }
            Expr::Field(index) => match self.value(index)?.number() as usize {
                0 => Value::Input(self.record.as_str().into()),
                index => self.fields.get(index - 1).cloned().unwrap_or(Value::Nothing),
            },
            Expr::Assign(mark, place, value) => {
                let right = self.value(value)?;
                let value = match &mark[..mark.len() - 1] {
                    "" => right,
                    operator => {
                        let left = self.value(place)?.number();
                        Value::Number(calculated(operator, left, right.number())?)
                    }
                };
                self.assign(place, value.clone())?;
                value
            }
            Expr::If(condition, yes, no) => match self.value(condition)?.holds() {
                true => self.value(yes)?,
                false => self.value(no)?,
            },
            Expr::Binary(mark, left, right) => self.binary(mark, left, right)?,
            Expr::Unary(sign, inner) => {
                let value = self.value(inner)?;
                Value::Number(match sign {
                    '!' => f64::from(!value.holds()),
                    '-' => -value.number(),
                    _ => value.number(),
                })
            }
            Expr::Step(before, by, place) => {
                let old = self.value(place)?.number();
                self.assign(place, Value::Number(old + by))?;
                Value::Number(if *before { old + by } else { old })
            }
            Expr::In(keys, name) => {
                let key = self.key(keys)?;
                Value::Number(f64::from(self.array(name).contains_key(&key)))
            }
            Expr::Group(list) => match list.as_slice() {
                [one] => self.value(one)?,
                _ => Value::text(&self.key(list)?),
            },
            Expr::Call(name, values) => self.call(name, values)?,
            Expr::Getline(target, from) => self.getline(target.as_deref(), from.as_ref())?,
        })
    }

    fn binary(&mut self, mark: &str, left: &Expr, right: &Expr) -> Run<Value> {
        let truth = |holds: bool| Ok(Value::Number(f64::from(holds)));
        match mark {
            "&&" => return truth(self.value(left)?.holds() && self.value(right)?.holds()),
            "||" => return truth(self.value(left)?.holds() || self.value(right)?.holds()),
            " " => {
                let text = self.text(left)? + &self.text(right)?;
                return Ok(Value::text(&text));
            }
            "~" | "!~" => {
                let text = self.text(left)?;
                let pattern = self.pattern(right)?;
                return truth(pattern.is_match(&text) == (mark == "~"));
            }
            _ => {}
        }
        let (left, right) = (self.value(left)?, self.value(right)?);
        if !matches!(mark, "<" | "<=" | "==" | "!=" | ">=" | ">") {
            return Ok(Value::Number(calculated(mark, left.number(), right.number())?));
        }
        let order = match (left.as_number(), right.as_number()) {
            (Some(left), Some(right)) => left.partial_cmp(&right),
            _ => Some(self.text_of(&left).cmp(&self.text_of(&right))),
        };
        truth(match mark {
            "<" => order.is_some_and(|order| order.is_lt()),
            "<=" => order.is_some_and(|order| order.is_le()),
            "==" => order.is_some_and(|order| order.is_eq()),
            "!=" => order.is_none_or(|order| order.is_ne()),
            ">=" => order.is_some_and(|order| order.is_ge()),
            _ => order.is_some_and(|order| order.is_gt()),
        })
    }

    fn pattern(&mut self, expr: &Expr) -> Run<Regex> {
        if let Expr::Pattern(pattern) = expr {
            return Ok(pattern.clone());
        }
        let text = self.text(expr)?;
        if let Some(known) = self.patterns.get(&text) {
            return Ok(known.clone());
        }
        let pattern = regex(&text, Kind::Extended, false)?;
        self.patterns.insert(text, pattern.clone());
        Ok(pattern)
    }
}

/// The next record: a line, a paragraph where the separator is empty, or what another sign ends.
fn read_record(reader: &mut dyn BufRead, separator: &str) -> Result<Option<String>, String> {
    if separator.is_empty() {
        let mut lines = String::new();
        loop {
            let mut line = String::new();
            let count = reader.read_line(&mut line).map_err(said)?;
            if count == 0 || (line == "\n" && !lines.is_empty()) {
                let lines = lines.trim_end_matches('\n');
                return Ok((!lines.is_empty()).then(|| lines.to_owned()));
            }
            if line != "\n" {
                lines += &line;
            }
        }
    }
    let end = separator.as_bytes().first().copied().unwrap_or(b'\n');
    let mut record = Vec::new();
    if reader.read_until(end, &mut record).map_err(said)? == 0 {
        return Ok(None);
    }
    if record.last() == Some(&end) {
        record.pop();
    }
    let text = String::from_utf8_lossy(&record).into_owned();
    // The end of the file is no part of the last record.
    Ok(match end != b'\n' && text == "\n" {
        true => None,
        false => Some(text),
    })
}
