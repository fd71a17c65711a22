//! From words to fields: parameters, substitutions, splitting, paths.

use super::arithmetic::{self, Variables};
use super::pattern;
use super::tree::{Action, Parameter, Part, Word};
use super::{Flow, Shell};

/// A field as it grows.
#[derive(Default)]
struct Field {
    text: String,
    /// The same as a pattern; what was quoted is escaped in it.
    pattern: String,
    /// Whether it has a sign that was not quoted and makes a pattern.
    is_pattern: bool,
}

/// Where expansions go.
struct Fields {
    done: Vec<Field>,
    open: Option<Field>,
    /// The separators; none where nothing is split.
    separators: Option<String>,
}

impl Fields {
    fn whole() -> Self {
        Self {
            done: Vec::new(),
            open: None,
            separators: None,
        }
    }

    fn quoted(&mut self, text: &str) {
        let field = self.open.get_or_insert_default();
        field.text += text;
        field.pattern += &pattern::escaped(text);
    }

    fn literal(&mut self, text: &str) {
        let field = self.open.get_or_insert_default();
        field.text += text;
        field.pattern += text;
        field.is_pattern |= text.contains(['*', '?', '[']);
    }

    fn end(&mut self) {
        self.done.extend(self.open.take());
    }

    /// Text that is split where separators are in it.
    fn split(&mut self, text: &str) {
        let Some(separators) = self.separators.take() else {
            if !text.is_empty() {
                self.expanded(text);
            }
            return;
        };
        let mut piece = String::new();
        // Blanks around another separator belong to it.
        let mut after_blank = false;
        for c in text.chars() {
            if !separators.contains(c) {
                piece.push(c);
                after_blank = false;
                continue;
            }
            if !piece.is_empty() {
                self.expanded(&std::mem::take(&mut piece));
            }
            let was_open = self.open.is_some();
            self.end();
            if matches!(c, ' ' | '\t' | '\n') {
                after_blank |= was_open;
            } else {
                if !was_open && !after_blank {
                    self.done.push(Field::default());
                }
                after_blank = false;
            }
        }
        if !piece.is_empty() {
            self.expanded(&piece);
        }
        self.separators = Some(separators);
    }

    /// Text of an expansion: it makes patterns, but a backslash in it is only that.
    fn expanded(&mut self, text: &str) {
        let field = self.open.get_or_insert_default();
        field.text += text;
        field.pattern += &text.replace('\\', "\\\\");
        field.is_pattern |= text.contains(['*', '?', '[']);
    }

    fn joined(mut self) -> Field {
        self.end();
        let mut all = Field::default();
        for (index, field) in self.done.into_iter().enumerate() {
            if index > 0 {
                all.text.push(' ');
                all.pattern.push(' ');
            }
            all.text += &field.text;
            all.pattern += &field.pattern;
        }
        all
    }
}

/// How the parts of a word are taken.
#[derive(Clone, Copy)]
struct Mode {
    /// Between double quotes.
    quoted: bool,
    /// Literal text is split too: it came out of an expansion.
    split_literals: bool,
}

const PLAIN: Mode = Mode {
    quoted: false,
    split_literals: false,
};
const QUOTED: Mode = Mode {
    quoted: true,
    split_literals: false,
};

impl Shell {
    /// The fields of a command.
    pub fn fields<'a>(&mut self, words: impl IntoIterator<Item = &'a Word>) -> Result<Vec<String>, Flow> {
        let mut all = Vec::new();
        for word in words {
            if let Some(text) = word.plain()
                && !text.contains(['*', '?', '[', '~'])
            {
                all.push(text.to_owned());
                continue;
            }
            let separators = self.state.get("IFS").unwrap_or(" \t\n").to_owned();
            let mut out = Fields {
                separators: Some(separators),
                ..Fields::whole()
            };
            let parts = self.with_home(&word.parts, false);
            self.parts(&parts, PLAIN, &mut out)?;
            out.end();
            for field in out.done {
                self.add_paths(field, &mut all);
            }
        }
        Ok(all)
    }

    fn add_paths(&self, field: Field, all: &mut Vec<String>) {
        if !field.is_pattern || self.state.is_on('f') {
            all.push(field.text);
            return;
        }
        let list = |path: &str| crate::files::entries(&self.path(path)).unwrap_or_default();
        let exists = |path: &str| crate::files::exists(&self.path(path));
        let found = pattern::paths(&field.pattern, &list, &exists);
        match found.is_empty() {
            true => all.push(field.text),
            false => all.extend(found),
        }
    }

    /// One field, not split and without paths: a value, the file of a redirection.
    pub fn single(&mut self, word: &Word) -> Result<String, Flow> {
        let parts = self.with_home(&word.parts, true);
        self.text(&parts, PLAIN)
    }

    /// A pattern to match with.
    pub fn pattern(&mut self, parts: &[Part]) -> Result<String, Flow> {
        let parts = self.with_home(parts, false);
        let mut out = Fields::whole();
        self.parts(&parts, PLAIN, &mut out)?;
        Ok(out.joined().pattern)
    }

    /// Text as it stands between quotes.
    pub fn document(&mut self, parts: &[Part]) -> Result<String, Flow> {
        self.text(parts, QUOTED)
    }

    fn text(&mut self, parts: &[Part], mode: Mode) -> Result<String, Flow> {
        let mut out = Fields::whole();
        self.parts(parts, mode, &mut out)?;
        Ok(out.joined().text)
    }

    /// Puts the home directory in place of `~`; in a value after each colon too.
    fn with_home(&self, parts: &[Part], value: bool) -> Vec<Part> {
        let mut parts = parts.to_vec();
        let Some(home) = self.state.get("HOME").map(str::to_owned) else {
            return parts;
        };
        let count = parts.len();
        let mut added = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let Part::Literal(text) = part else {
                added.push(part.clone());
                continue;
            };
            let mut rest = text.as_str();
            let mut at_begin = index == 0;
            loop {
                let end = if value { rest.find(':') } else { None }.unwrap_or(rest.len());
                let piece = &rest[..end];
                let last_piece = end == rest.len();
                if at_begin
                    && let Some(after) = piece.strip_prefix('~')
                    && (after.starts_with('/') || (after.is_empty() && !(last_piece && index + 1 < count)))
                {
                    added.push(Part::Quoted(home.clone()));
                    added.push(Part::Literal(after.to_owned()));
                } else {
                    added.push(Part::Literal(piece.to_owned()));
                }
                if last_piece {
                    break;
                }
                added.push(Part::Literal(":".into()));
                rest = &rest[end + 1..];
                at_begin = true;
            }
        }
        added.retain(|part| !matches!(part, Part::Literal(text) if text.is_empty()));
        parts = added;
        parts
    }

    fn parts(&mut self, parts: &[Part], mode: Mode, out: &mut Fields) -> Result<(), Flow> {
        for part in parts {
            match part {
                Part::Literal(text) if mode.split_literals => out.split(text),
                Part::Literal(text) if mode.quoted => out.quoted(text),
                Part::Literal(text) => out.literal(text),
                Part::Quoted(text) => out.quoted(text),
                Part::Double(parts) => {
                    if parts.is_empty() {
                        out.quoted("");
                    }
                    self.parts(parts, QUOTED, out)?;
                }
                Part::Parameter(parameter) => self.parameter(parameter, mode, out)?,
                Part::Command(list) => {
                    let text = self.capture(list)?;
                    value(&text, mode, out);
                }
                Part::Arithmetic(parts) => {
                    let expression = self.text(parts, QUOTED)?;
                    let number = self.arithmetic(&expression)?;
                    value(&number.to_string(), mode, out);
                }
            }
        }
        Ok(())
    }

    /// Evaluates an expression.
    pub fn arithmetic(&mut self, expression: &str) -> Result<i64, Flow> {
        arithmetic::evaluate(expression, self).map_err(|what| self.fail(&what, 2))
    }

    /// The value of a parameter; that of `@` and `*` is a list and is not told here.
    pub fn value_of(&self, name: &str) -> Option<String> {
        Some(match name {
            "#" => self.state.arguments.len().to_string(),
            "?" => self.status.to_string(),
            "$" => self.main.to_string(),
            "!" => return self.last_background.map(|pid| pid.to_string()),
            "-" => self.state.options.chars().filter(|c| *c != 'o').collect(),
            "0" => self.state.name.clone(),
            "LINENO" => self.line.to_string(),
            digits if digits.starts_with(|c: char| c.is_ascii_digit()) => {
                let index: usize = digits.parse().ok()?;
                return self.state.arguments.get(index.checked_sub(1)?).cloned();
            }
            name => return self.state.get(name).map(str::to_owned),
        })
    }

    fn parameter(&mut self, parameter: &Parameter, mode: Mode, out: &mut Fields) -> Result<(), Flow> {
        let name = parameter.name.as_str();
        let is_list = matches!(name, "@" | "*");
        let found = match is_list {
            true if self.state.arguments.is_empty() => None,
            true => Some(self.state.arguments.join(" ")),
            false => self.value_of(name),
        };
        match &parameter.action {
            Action::Value => {
                let found = self.required(name, found)?;
                match is_list {
                    true => self.positional(name, mode, out),
                    false => value(&found, mode, out),
                }
            }
            Action::Length => {
                let found = self.required(name, found)?;
                let length = match is_list {
                    true => self.state.arguments.len(),
                    false => found.chars().count(),
                };
                value(&length.to_string(), mode, out);
            }
            Action::Instead(mark, colon, word) => {
                let there = found.as_ref().is_some_and(|found| !*colon || !found.is_empty());
                let inner = Mode {
                    split_literals: !mode.quoted,
                    ..mode
                };
                match (mark, there) {
                    ('+', true) | ('-', false) => {
                        if word.is_empty() && mode.quoted {
                            out.quoted("");
                        }
                        let word = self.with_home(word, false);
                        self.parts(&word, inner, out)?;
                    }
                    ('+', false) => {
                        if mode.quoted {
                            out.quoted("");
                        }
                    }
                    (_, true) if is_list => self.positional(name, mode, out),
                    (_, true) => value(&found.unwrap_or_default(), mode, out),
                    ('=', false) => {
                        let word = self.with_home(word, false);
                        let text = self.text(
                            &word,
                            Mode {
                                quoted: mode.quoted,
                                ..PLAIN
                            },
                        )?;
                        self.assign(name, &text)?;
                        value(&text, mode, out);
                    }
                    _ => {
                        let mut what = self.text(word, QUOTED)?;
                        if what.is_empty() {
                            what = "parameter not set".into();
                        }
                        return Err(self.fail(&format!("{name}: {what}"), 2));
                    }
                }
            }
            Action::Trim(mark, longest, word) => {
                let found = self.required(name, found)?;
                let pattern = self.pattern(word)?;
                match is_list {
                    true => {
                        let kept = self.state.arguments.clone();
                        for argument in &mut self.state.arguments {
                            *argument = trimmed(argument, &pattern, *mark, *longest);
                        }
                        self.positional(name, mode, out);
                        self.state.arguments = kept;
                    }
                    false => value(&trimmed(&found, &pattern, *mark, *longest), mode, out),
                }
            }
        }
        Ok(())
    }

    fn required(&self, name: &str, found: Option<String>) -> Result<String, Flow> {
        match found {
            None if self.state.is_on('u') && !matches!(name, "@" | "*") => {
                Err(self.fail(&format!("{name}: parameter not set"), 2))
            }
            found => Ok(found.unwrap_or_default()),
        }
    }

    /// `$@` and `$*`.
    fn positional(&self, name: &str, mode: Mode, out: &mut Fields) {
        let arguments = &self.state.arguments;
        if mode.quoted && name == "*" {
            let separator = match self.state.get("IFS") {
                None => " ".to_owned(),
                Some(separators) => separators.chars().take(1).collect(),
            };
            out.quoted(&arguments.join(&separator));
            return;
        }
        for (index, argument) in arguments.iter().enumerate() {
            if index > 0 {
                out.end();
            }
            match mode.quoted {
                true => out.quoted(argument),
                false => out.split(argument),
            }
        }
    }
}

fn value(text: &str, mode: Mode, out: &mut Fields) {
    match mode.quoted {
        true => out.quoted(text),
        false => out.split(text),
    }
}

/// A value without its shortest or longest beginning or end that matches.
fn trimmed(text: &str, pattern: &str, mark: char, longest: bool) -> String {
    let chars: Vec<char> = text.chars().collect();
    let pattern: Vec<char> = pattern.chars().collect();
    let count = chars.len();
    // How much is cut off, from little to much.
    let mut lengths: Vec<usize> = (0..=count).collect();
    if longest {
        lengths.reverse();
    }
    for length in lengths {
        let (cut, kept) = match mark {
            '#' => chars.split_at(length),
            _ => {
                let (kept, cut) = chars.split_at(count - length);
                (cut, kept)
            }
        };
        if pattern::matches_chars(&pattern, cut) {
            return kept.iter().collect();
        }
    }
    text.to_owned()
}

impl Variables for Shell {
    fn number(&mut self, name: &str) -> Result<i64, String> {
        let Some(value) = self.value_of(name) else {
            return match self.state.is_on('u') {
                true => Err(format!("{name}: parameter not set")),
                false => Ok(0),
            };
        };
        let value = value.trim();
        if value.is_empty() {
            return Ok(0);
        }
        arithmetic::parse_number(value).ok_or_else(|| format!("Illegal number: {value}"))
    }

    fn set_number(&mut self, name: &str, value: i64) -> Result<(), String> {
        self.state.set(name, value.to_string())
    }
}
