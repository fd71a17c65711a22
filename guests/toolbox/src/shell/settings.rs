//! The commands that set: variables, options, positional parameters.

use super::builtins::lines;
use super::parser::is_name;
use super::state::{OPTIONS, Slot, Variable, quoted};
use super::{Flow, Shell};
use crate::sys::End;
use std::io::Write as _;

/// The longest line that `read` takes at once.
const LINE_BYTES: u32 = 64 * 1024;

impl Shell {
    /// `set`
    pub fn set(&mut self, fields: &[String]) -> Result<i32, Flow> {
        let mut rest = fields.get(1..).unwrap_or_default();
        if rest.is_empty() {
            let variables = self.state.variables.clone();
            return lines(self, |out| {
                for (name, variable) in &variables {
                    if let Some(value) = &variable.value {
                        writeln!(out, "{name}={}", quoted(value))?;
                    }
                }
                Ok(())
            });
        }
        while let Some((first, after)) = rest.split_first() {
            if first == "--" {
                self.state.arguments = after.to_vec();
                return Ok(0);
            }
            let on = first.starts_with('-');
            let Some(letters) = first.strip_prefix(['-', '+']).filter(|_| first.len() > 1) else {
                break;
            };
            rest = after;
            for letter in letters.chars() {
                if letter == 'o' {
                    let Some((name, after)) = rest.split_first() else {
                        return self.show_options(on);
                    };
                    rest = after;
                    self.set_named(name, on)?;
                } else if OPTIONS.iter().any(|(known, _)| *known == letter) {
                    self.state.set_option(letter, on);
                } else if !matches!(letter, 'b' | 'h' | 'v' | 'E') {
                    return Err(self.fail(&format!("set: Illegal option -{letter}"), 2));
                }
            }
        }
        if !rest.is_empty() {
            self.state.arguments = rest.to_vec();
        }
        Ok(0)
    }

    fn show_options(&mut self, table: bool) -> Result<i32, Flow> {
        let options = self.state.options.clone();
        lines(self, |out| {
            for (letter, name) in OPTIONS {
                let on = options.contains(letter);
                match table {
                    true => writeln!(out, "{name:<15} {}", if on { "on" } else { "off" })?,
                    false => writeln!(out, "set {}o {name}", if on { '-' } else { '+' })?,
                }
            }
            Ok(())
        })
    }

    /// Sets an option by its long name.
    pub fn set_named(&mut self, name: &str, on: bool) -> Result<(), Flow> {
        match OPTIONS.iter().find(|(_, known)| *known == name) {
            Some((letter, _)) => {
                self.state.set_option(*letter, on);
                Ok(())
            }
            None => Err(self.fail(&format!("set: Illegal option -o {name}"), 2)),
        }
    }

    pub fn export(&mut self, fields: &[String]) -> Result<i32, Flow> {
        self.mark(fields, |variable| &mut variable.exported)
    }

    pub fn readonly(&mut self, fields: &[String]) -> Result<i32, Flow> {
        self.mark(fields, |variable| &mut variable.readonly)
    }

    /// Gives variables an attribute, and values on the way; or shows those that have it.
    fn mark(&mut self, fields: &[String], attribute: fn(&mut Variable) -> &mut bool) -> Result<i32, Flow> {
        let (command, mut rest) = (fields[0].clone(), fields.get(1..).unwrap_or_default());
        if rest.first().is_some_and(|flag| flag == "--") {
            rest = &rest[1..];
        }
        if rest.is_empty() || rest[0] == "-p" {
            let mut variables = self.state.variables.clone();
            return lines(self, |out| {
                for (name, variable) in &mut variables {
                    if !*attribute(variable) {
                        continue;
                    }
                    match &variable.value {
                        Some(value) => writeln!(out, "{command} {name}={}", quoted(value))?,
                        None => writeln!(out, "{command} {name}")?,
                    }
                }
                Ok(())
            });
        }
        for field in rest {
            let name = match field.split_once('=') {
                Some((name, value)) => {
                    self.named(&command, name)?;
                    self.assign(name, value)?;
                    name
                }
                None => field,
            };
            self.named(&command, name)?;
            *attribute(self.state.variables.entry(name.to_owned()).or_default()) = true;
        }
        Ok(0)
    }

    fn named(&self, command: &str, name: &str) -> Result<(), Flow> {
        match is_name(name) {
            true => Ok(()),
            false => Err(self.fail(&format!("{command}: {name}: bad variable name"), 2)),
        }
    }

    /// `local`: until the function ends the variables are its own. They begin with the value they had.
    pub fn local(&mut self, fields: &[String]) -> Result<i32, Flow> {
        if self.hidden.is_empty() {
            return Err(self.fail("local: not in a function", 2));
        }
        for field in fields.get(1..).unwrap_or_default() {
            let (name, value) = match field.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (field.as_str(), None),
            };
            self.named("local", name)?;
            let before = self.state.variables.get(name).cloned();
            if let Some(hidden) = self.hidden.last_mut()
                && !hidden.iter().any(|(known, _)| known == name)
            {
                hidden.push((name.to_owned(), before));
            }
            if let Some(value) = value {
                self.assign(name, value)?;
            }
        }
        Ok(0)
    }

    pub fn unset(&mut self, fields: &[String]) -> Result<i32, Flow> {
        let mut functions = false;
        for name in fields.get(1..).unwrap_or_default() {
            match name.as_str() {
                "-f" => functions = true,
                "-v" => functions = false,
                name if functions => drop(self.state.functions.remove(name)),
                name => {
                    if let Err(what) = self.state.unset(name) {
                        return Err(self.fail(&format!("unset: {what}"), 2));
                    }
                }
            }
        }
        Ok(0)
    }

    /// `getopts OPTIONS NAME [ARGUMENT...]`
    pub fn getopts(&mut self, fields: &[String]) -> Result<i32, Flow> {
        let [_, options, name, rest @ ..] = fields else {
            return Err(self.fail("getopts: Usage: getopts optstring var [arg]", 2));
        };
        let arguments = match rest.is_empty() {
            true => self.state.arguments.clone(),
            false => rest.to_vec(),
        };
        let index = self.state.get("OPTIND").and_then(|text| text.parse::<usize>().ok());
        let mut index = index.unwrap_or(1).max(1);
        let mut at = self.state.getopts_at.max(1);
        let silent = options.starts_with(':');
        let word = arguments.get(index - 1).map(String::as_str).unwrap_or_default();
        let done = |shell: &mut Self, index: usize| {
            shell.assign("OPTIND", &index.to_string())?;
            shell.assign(name, "?")?;
            Ok(1)
        };
        if word == "--" {
            return done(self, index + 1);
        }
        if !word.starts_with('-') || word.len() < 2 {
            return done(self, index);
        }
        let letter = word[at..].chars().next().unwrap_or('?');
        at += letter.len_utf8();
        let known = options.find(letter).filter(|_| letter != ':');
        let takes = known.is_some_and(|found| options[found + letter.len_utf8()..].starts_with(':'));
        let (mut shown, mut value) = (letter.to_string(), None);
        if known.is_none() {
            shown = "?".into();
            match silent {
                true => value = Some(letter.to_string()),
                false => self.say(&format!("Illegal option -{letter}\n")),
            }
        } else if takes {
            if at < word.len() {
                value = Some(word[at..].to_owned());
            } else if let Some(next) = arguments.get(index) {
                value = Some(next.clone());
                index += 1;
            } else if silent {
                shown = ":".into();
                value = Some(letter.to_string());
            } else {
                shown = "?".into();
                self.say(&format!("No arg for -{letter} option\n"));
            }
            at = word.len();
        }
        if at >= word.len() {
            index += 1;
            at = 1;
        }
        self.assign("OPTIND", &index.to_string())?;
        // Setting the index begins a word; here it may be in the middle of one.
        self.state.getopts_at = at;
        self.assign(name, &shown)?;
        match value {
            Some(value) => self.assign("OPTARG", &value)?,
            None => self.assign("OPTARG", "")?,
        }
        Ok(0)
    }

    /// `read [-r] [-p PROMPT] NAME...`
    pub fn read(&mut self, fields: &[String]) -> Result<i32, Flow> {
        let mut raw = false;
        let mut rest = fields.get(1..).unwrap_or_default();
        while let Some((flag, after)) = rest.split_first() {
            match flag.as_str() {
                "-r" => raw = true,
                "-p" => {
                    let Some((prompt, after)) = after.split_first() else {
                        return Err(self.fail("read: No arg for -p option", 2));
                    };
                    self.say(prompt);
                    rest = after;
                    continue;
                }
                "--" => {
                    rest = after;
                    break;
                }
                flag if flag.starts_with('-') && flag.len() > 1 => {
                    return Err(self.fail(&format!("read: Illegal option {flag}"), 2));
                }
                _ => break,
            }
            rest = after;
        }
        if rest.is_empty() {
            return Err(self.fail("read: arg count", 2));
        }
        let Some((line, whole)) = self.input_line(raw) else {
            return Ok(2);
        };
        self.split_into(&line, rest)?;
        Ok(i32::from(!whole))
    }

    /// The signs of a line, each with whether it was escaped, and whether the line had an end.
    fn input_line(&mut self, raw: bool) -> Option<(Vec<(char, bool)>, bool)> {
        let mut line = Vec::new();
        loop {
            let bytes = match self.state.slots.get(&0) {
                Some(Slot::Open(End::Source(source))) => source.read_until(b'\n', LINE_BYTES).ok()?,
                _ => Vec::new(),
            };
            let text = String::from_utf8_lossy(&bytes);
            let mut chars = text.chars();
            let mut continued = false;
            while let Some(c) = chars.next() {
                match c {
                    '\n' => return Some((line, true)),
                    '\0' => {}
                    '\\' if !raw => match chars.next() {
                        Some('\n') => continued = true,
                        Some(next) => line.push((next, true)),
                        None => {}
                    },
                    c => line.push((c, false)),
                }
            }
            if !continued && bytes.len() < LINE_BYTES as usize {
                return Some((line, false));
            }
        }
    }

    fn split_into(&mut self, line: &[(char, bool)], names: &[String]) -> Result<(), Flow> {
        let separators = self.state.get("IFS").unwrap_or(" \t\n").to_owned();
        let is_separator = |(c, escaped): &(char, bool)| !escaped && separators.contains(*c);
        let is_blank = |sign: &(char, bool)| is_separator(sign) && matches!(sign.0, ' ' | '\t' | '\n');
        let text = |signs: &[(char, bool)]| signs.iter().map(|(c, _)| *c).collect::<String>();
        let skip = |signs: &[(char, bool)]| signs.iter().take_while(|sign| is_blank(sign)).count();
        let mut rest = &line[skip(line)..];
        for (index, name) in names.iter().enumerate() {
            self.named("read", name)?;
            if index + 1 == names.len() {
                let mut end = rest.len() - rest.iter().rev().take_while(|sign| is_blank(sign)).count();
                // One separator at the very end belongs to the only field before it.
                if end > 0 && is_separator(&rest[end - 1]) && rest[..end - 1].iter().all(|sign| !is_separator(sign)) {
                    end -= 1;
                }
                let value = text(&rest[..end]);
                self.assign(name, &value)?;
                break;
            }
            let end = rest.iter().position(is_separator).unwrap_or(rest.len());
            let value = text(&rest[..end]);
            self.assign(name, &value)?;
            rest = &rest[end..];
            rest = &rest[skip(rest)..];
            if rest.first().is_some_and(|sign| is_separator(sign) && !is_blank(sign)) {
                rest = &rest[1..];
                rest = &rest[skip(rest)..];
            }
        }
        Ok(())
    }
}
