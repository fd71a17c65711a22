//! What a shell knows: variables, functions, open streams, options. A subshell works on a copy of it.

use super::tree::{self, Command};
use crate::sys::End;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

#[derive(Debug, Clone, Default)]
pub struct Variable {
    /// None: it has attributes, but no value.
    pub value: Option<String>,
    pub exported: bool,
    pub readonly: bool,
}

/// A file descriptor.
#[derive(Clone)]
pub enum Slot {
    Open(End),
    /// `/dev/null`
    Null,
}

#[derive(Clone)]
pub struct State {
    pub variables: BTreeMap<String, Variable>,
    pub functions: BTreeMap<String, Rc<Command>>,
    /// `$0`
    pub name: String,
    pub arguments: Vec<String>,
    /// The options that are on, by their letters; `o` stands for pipefail.
    pub options: String,
    pub slots: BTreeMap<u32, Slot>,
    pub directory: String,
    /// What is done at a signal; at the exit under 0. Empty: the signal is ignored.
    pub traps: BTreeMap<u8, String>,
    pub mask: u32,
    /// Where `getopts` is in its present word, in bytes.
    pub getopts_at: usize,
}

/// The letters of options with their long names.
pub const OPTIONS: [(char, &str); 10] = [
    ('a', "allexport"),
    ('C', "noclobber"),
    ('e', "errexit"),
    ('f', "noglob"),
    ('i', "interactive"),
    ('m', "monitor"),
    ('n', "noexec"),
    ('o', "pipefail"),
    ('u', "nounset"),
    ('x', "xtrace"),
];

impl State {
    pub fn is_on(&self, option: char) -> bool {
        self.options.contains(option)
    }

    pub fn set_option(&mut self, option: char, on: bool) {
        self.options.retain(|c| c != option);
        if on {
            self.options.push(option);
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name)?.value.as_deref()
    }

    /// Sets a variable; says why not where it must not be.
    pub fn set(&mut self, name: &str, value: impl Into<String>) -> Result<(), String> {
        let export = self.is_on('a');
        let variable = self.variables.entry(name.to_owned()).or_default();
        if variable.readonly {
            return Err(format!("{name}: is read only"));
        }
        variable.value = Some(value.into());
        variable.exported |= export;
        if name == "OPTIND" {
            self.getopts_at = 0;
        }
        Ok(())
    }

    pub fn unset(&mut self, name: &str) -> Result<(), String> {
        match self.variables.get(name) {
            Some(variable) if variable.readonly => Err(format!("{name}: is read only")),
            _ => {
                self.variables.remove(name);
                Ok(())
            }
        }
    }

    /// The environment of the programs it starts.
    pub fn environment(&self) -> Vec<(String, String)> {
        let exported = |(name, variable): (&String, &Variable)| {
            let value = variable.exported.then_some(variable.value.as_ref())??;
            Some((name.clone(), value.clone()))
        };
        self.variables.iter().filter_map(exported).collect()
    }

    /// A script that makes another shell know what this one does; the exported variables it has from its environment.
    pub fn script(&self) -> String {
        let mut script = String::new();
        for (name, variable) in &self.variables {
            if let (Some(value), false) = (&variable.value, variable.exported) {
                let _ = writeln!(script, "{name}={}", quoted(value));
            }
            if variable.readonly {
                let _ = writeln!(script, "readonly {name}");
            }
        }
        for (name, body) in &self.functions {
            let _ = writeln!(script, "{name}() {}", tree::command(body));
        }
        for (signal, action) in &self.traps {
            if action.is_empty() {
                let _ = writeln!(script, "trap '' {signal}");
            }
        }
        script
    }
}

/// A text as a word that means it.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
