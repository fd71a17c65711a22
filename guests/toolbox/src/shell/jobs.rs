//! Processes: programs, parts of the script in other instances, waiting, signals.

use super::builtins;
use super::state::{Slot, State};
use super::tree::{self, AndOr, Command, Kind};
use super::{Flow, Shell};
use crate::sys::{self, Program, SpawnError, WaitError};

/// The argument by which an instance knows that it is to run a part of another's script.
pub const PART: &str = "--part";

/// Between the facts that such an instance is told.
const BETWEEN: char = '\u{1f}';

const INTERRUPT: u8 = 2;

impl Shell {
    /// Starts a program by its fields; the error is an exit code, and has been explained.
    pub fn launch(&mut self, fields: &[String], background: bool) -> Result<u32, i32> {
        let Some(name) = fields.first() else {
            return Err(0);
        };
        match self.spawn(name, fields.to_vec(), background) {
            Err(SpawnError::NotFound) => self.launch_script(fields, background),
            Err(SpawnError::TooMany) => {
                self.complain("Cannot fork: Resource temporarily unavailable");
                Err(2)
            }
            Err(SpawnError::Failed(why)) => {
                self.complain(&format!("{name}: {why}"));
                Err(126)
            }
            Ok(pid) => Ok(pid),
        }
    }

    fn spawn(&mut self, name: &str, args: Vec<String>, background: bool) -> Result<u32, SpawnError> {
        let program = Program {
            name: name.to_owned(),
            args,
            env: self.state.environment(),
            directory: self.state.directory.clone(),
            background,
        };
        let given = |(number, slot): (&u32, &Slot)| match slot {
            Slot::Open(end) => Some((*number, end.give())),
            Slot::Null => None,
        };
        sys::spawn(&program, self.state.slots.iter().filter_map(given).collect())
    }

    /// A name that is no program may be that of a script.
    fn launch_script(&mut self, fields: &[String], background: bool) -> Result<u32, i32> {
        let (name, rest) = fields.split_first().ok_or(0)?;
        let candidates = match name.contains('/') {
            true => vec![name.clone()],
            false => self
                .state
                .get("PATH")
                .unwrap_or_default()
                .split(':')
                .map(|directory| format!("{}/{name}", if directory.is_empty() { "." } else { directory }))
                .collect(),
        };
        let found = candidates
            .into_iter()
            .find(|path| crate::files::exists(&self.path(path)));
        let Some(path) = found else {
            self.complain(&format!("{name}: not found"));
            return Err(127);
        };
        let text = std::fs::read(self.path(&path)).ok().filter(|text| !text.contains(&0));
        let Some(text) = text else {
            self.complain(&format!("{name}: Permission denied"));
            return Err(126);
        };
        // The first line may say who reads it: `#!/bin/sh -e`, `#!/usr/bin/env sh`.
        let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let first = String::from_utf8_lossy(first);
        let mut reader: Vec<String> = match first.strip_prefix("#!") {
            Some(line) => line.split_whitespace().map(str::to_owned).collect(),
            None => Vec::new(),
        };
        if reader.first().is_some_and(|program| program.ends_with("/env")) {
            reader.remove(0);
        }
        if reader.is_empty() {
            reader.push("sh".into());
        }
        let program = reader[0].clone();
        reader.push(path);
        reader.extend(rest.iter().cloned());
        self.spawn(&program, reader, background).map_err(|error| {
            let (why, code) = match error {
                SpawnError::NotFound => ("not found".to_owned(), 127),
                SpawnError::TooMany => ("Resource temporarily unavailable".to_owned(), 2),
                SpawnError::Failed(why) => (why, 126),
            };
            self.complain(&format!("{name}: {program}: {why}"));
            code
        })
    }

    /// Starts a command that is a program, with its own redirections, beside this shell.
    pub fn start_program(&mut self, command: &Command, background: bool) -> Result<u32, i32> {
        let Kind::Simple { assignments, words } = &command.kind else {
            return self.start_part(command, background);
        };
        let state = self.state.clone();
        self.line = command.line;
        let mut start = || {
            let fields = self.fields(words)?;
            if self.redirect(&command.redirects)?.is_none() {
                return Ok(Err(2));
            }
            self.assign_for(assignments, false, &mut Vec::new())?;
            Ok(self.launch(&fields, background))
        };
        let started = start();
        self.state = state;
        match started {
            Ok(started) => started,
            Err(Flow::Exit(code) | Flow::Return(code) | Flow::Failed(code)) => Err(code),
            Err(Flow::Break(_) | Flow::Continue(_)) => Err(0),
        }
    }

    /// Sends a command to another instance.
    pub fn start_part(&mut self, command: &Command, background: bool) -> Result<u32, i32> {
        self.start_text(&tree::command(command), background)
    }

    fn start_text(&mut self, text: &str, background: bool) -> Result<u32, i32> {
        let facts = [
            self.state.name.clone(),
            self.main.to_string(),
            self.status.to_string(),
            self.last_background.map_or(String::new(), |pid| pid.to_string()),
            self.state.options.replace('i', ""),
            self.line.to_string(),
            self.calls.to_string(),
        ];
        let facts: String = facts.join(&BETWEEN.to_string());
        let script = self.state.script();
        let mut args = vec!["sh".to_owned(), PART.to_owned(), facts, script, text.to_owned()];
        args.extend(self.state.arguments.iter().cloned());
        self.spawn("sh", args, background).map_err(|error| {
            let why = match error {
                SpawnError::Failed(why) => why,
                _ => "Resource temporarily unavailable".to_owned(),
            };
            self.complain(&format!("Cannot fork: {why}"));
            2
        })
    }

    /// Runs the part of another instance's script that the arguments tell.
    pub fn take_over(&mut self, facts: &str, rest: &[String]) -> Result<(), Flow> {
        let [script, text, arguments @ ..] = rest else {
            return Err(Flow::Exit(2));
        };
        self.script(script)?;
        let facts: Vec<&str> = facts.split(BETWEEN).collect();
        let fact = |index: usize| facts.get(index).copied().unwrap_or_default();
        self.state.name = fact(0).to_owned();
        self.main = fact(1).parse().unwrap_or(self.main);
        self.status = fact(2).parse().unwrap_or_default();
        self.last_background = fact(3).parse().ok();
        self.state.options = fact(4).to_owned();
        let line = fact(5).parse().unwrap_or(1);
        self.calls = fact(6).parse().unwrap_or_default();
        self.state.arguments = arguments.to_vec();
        let mut parser = super::Parser::from_line(text, line);
        match parser.whole() {
            Ok(list) => self.list(&list),
            Err(error) => Err(self.refuse(&error)),
        }
    }

    /// `&`
    pub fn background(&mut self, list: &AndOr) -> Result<(), Flow> {
        let before = self.state.slots.clone();
        if !self.interactive {
            // What runs behind a script does not take its input away.
            self.state.slots.insert(0, Slot::Null);
        }
        let single = match (list.first.commands.as_slice(), list.rest.is_empty()) {
            ([command], true) if !list.first.negated && self.is_program(command) => Some(command.clone()),
            _ => None,
        };
        let started = match single {
            Some(command) => self.start_program(&command, true),
            None => {
                let text = tree::and_or(list);
                self.start_text(&text, true)
            }
        };
        self.state.slots = before;
        match started {
            Ok(pid) => {
                self.jobs.push(pid);
                self.last_background = Some(pid);
                self.status = 0;
                if self.interactive {
                    self.say(&format!("[{}] {pid}\n", self.jobs.len()));
                }
            }
            Err(code) => self.status = code,
        }
        Ok(())
    }

    /// Waits for a child that runs in front of the shell. Signals wait until it has ended.
    pub fn wait_for(&mut self, pid: u32) -> i32 {
        loop {
            match sys::wait(&[pid]) {
                Ok(exit) => return exit.code as i32,
                Err(WaitError::NoChild) => return 127,
                Err(WaitError::Interrupted) => self.signals.extend(sys::caught()),
            }
        }
    }

    /// `wait [PID...]`; a signal with a trap ends it.
    pub fn wait_builtin(&mut self, fields: &[String]) -> Result<i32, Flow> {
        let mut code = 0;
        let wanted: Vec<u32> = match fields.get(1..).filter(|rest| !rest.is_empty()) {
            None => self.jobs.clone(),
            Some(rest) => {
                let mut wanted = Vec::new();
                for text in rest {
                    match self.job(text) {
                        Some(pid) => wanted.push(pid),
                        None => return Err(self.fail(&format!("wait: Illegal number: {text}"), 2)),
                    }
                }
                wanted
            }
        };
        let all = fields.len() < 2;
        for pid in wanted {
            self.jobs.retain(|job| *job != pid);
            if let Some(ended) = self.finished.remove(&pid) {
                code = ended;
                continue;
            }
            match sys::wait(&[pid]) {
                Ok(exit) => code = exit.code as i32,
                Err(WaitError::NoChild) => code = 127,
                Err(WaitError::Interrupted) => {
                    self.jobs.push(pid);
                    let caught = sys::caught();
                    let first = caught.first().copied().unwrap_or_default();
                    self.signals.extend(caught);
                    return Ok(128 + i32::from(first));
                }
            }
        }
        Ok(if all { 0 } else { code })
    }

    /// The process that a number or `%N` means.
    pub fn job(&self, text: &str) -> Option<u32> {
        match text.strip_prefix('%') {
            Some("" | "%" | "+") => self.jobs.last().copied(),
            Some(number) => self.jobs.get(number.parse::<usize>().ok()?.checked_sub(1)?).copied(),
            None => text.parse().ok(),
        }
    }

    /// Looks which children have ended.
    pub fn look_at_jobs(&mut self) {
        for exit in sys::ended() {
            self.finished.insert(exit.pid, exit.code as i32);
        }
    }

    /// Tells a person which jobs have ended.
    pub fn report_jobs(&mut self) {
        self.look_at_jobs();
        let finished = std::mem::take(&mut self.finished);
        let mut kept = Vec::new();
        for (index, pid) in self.jobs.clone().into_iter().enumerate() {
            match finished.get(&pid) {
                Some(0) => self.say(&format!("[{}] Done {pid}\n", index + 1)),
                Some(code) => self.say(&format!("[{}] Done({code}) {pid}\n", index + 1)),
                None => kept.push(pid),
            }
        }
        self.jobs = kept;
    }

    /// Says which signals are to be told.
    pub fn catch_signals(&self) {
        let mut wanted: Vec<u8> = self.state.traps.keys().copied().filter(|number| *number != 0).collect();
        if self.attended {
            wanted.push(INTERRUPT);
        }
        sys::catch(&wanted);
    }

    /// Runs the traps of the signals that have come.
    pub fn run_traps(&mut self) -> Result<(), Flow> {
        if (self.state.traps.keys().all(|number| *number == 0) && !self.attended) || self.in_trap {
            return Ok(());
        }
        self.signals.extend(sys::caught());
        if self.attended && self.signals.contains(&INTERRUPT) && !self.state.traps.contains_key(&INTERRUPT) {
            self.signals.clear();
            return Err(Flow::Failed(128 + i32::from(INTERRUPT)));
        }
        for number in std::mem::take(&mut self.signals) {
            let Some(action) = self.state.traps.get(&number).cloned() else {
                continue;
            };
            let status = self.status;
            self.in_trap = true;
            let flow = self.script(&action);
            self.in_trap = false;
            flow?;
            self.status = status;
        }
        Ok(())
    }

    /// `trap [ACTION SIGNAL...]`
    pub fn trap(&mut self, fields: &[String]) -> Result<i32, Flow> {
        let mut rest = fields.get(1..).unwrap_or_default();
        if rest.first().is_some_and(|first| first == "--") {
            rest = &rest[1..];
        }
        if rest.is_empty() {
            let mut shown = String::new();
            for (number, action) in &self.state.traps {
                let name = if *number == 0 {
                    "EXIT".into()
                } else {
                    sys::signal_name(*number)
                };
                shown += &format!("trap -- {} {name}\n", super::state::quoted(action));
            }
            self.write_to(1, shown.as_bytes())?;
            return Ok(0);
        }
        // A number first, or one word alone, means that the default holds again.
        let reset = rest.len() == 1 || rest[0] == "-" || rest[0].parse::<u8>().is_ok();
        let names = match reset && rest[0] != "-" {
            true => rest,
            false => &rest[1..],
        };
        let mut code = 0;
        for name in names {
            let number = match name.as_str() {
                "EXIT" => Some(0),
                name => sys::signal(name),
            };
            let Some(number) = number else {
                self.complain(&format!("trap: {name}: bad trap"));
                code = 1;
                continue;
            };
            match reset {
                true => drop(self.state.traps.remove(&number)),
                false => drop(self.state.traps.insert(number, rest[0].clone())),
            }
        }
        self.catch_signals();
        Ok(code)
    }

    /// `kill [-SIGNAL] PID...`
    pub fn kill(&mut self, fields: &[String]) -> Result<i32, Flow> {
        let rest: Vec<String> = fields
            .iter()
            .skip(1)
            .map(|text| match text.starts_with('%') {
                true => self.job(text).map_or_else(|| text.clone(), |pid| pid.to_string()),
                false => text.clone(),
            })
            .collect();
        let mut shown = String::new();
        let result = crate::processes::kill(&rest, &mut shown);
        self.write_to(1, shown.as_bytes())?;
        Ok(match result {
            Ok(()) => 0,
            Err(what) => {
                self.complain(&format!("kill: {what}"));
                1
            }
        })
    }

    /// What a name means to the shell, for `type` and `command -v`.
    pub fn meaning(&self, name: &str) -> Option<(String, String)> {
        if super::parser::is_reserved_word(name) {
            return Some((name.into(), format!("{name} is a shell keyword")));
        }
        if self.state.functions.contains_key(name) {
            return Some((name.into(), format!("{name} is a shell function")));
        }
        if builtins::find(name).is_some() || name == "exec" {
            let special = if builtins::is_special(name) { "special " } else { "" };
            return Some((name.into(), format!("{name} is a {special}shell builtin")));
        }
        let path = self.place_of(name)?;
        Some((path.clone(), format!("{name} is {path}")))
    }

    /// Where a program lies, as far as the system has a place for it.
    pub fn place_of(&self, name: &str) -> Option<String> {
        if name.contains('/') {
            return crate::files::exists(&self.path(name)).then(|| name.to_owned());
        }
        let state: &State = &self.state;
        let on_path = state
            .get("PATH")
            .unwrap_or_default()
            .split(':')
            .map(|directory| format!("{directory}/{name}"));
        let mut on_path = on_path.filter(|path| crate::files::exists(&self.path(path)));
        on_path.next().or_else(|| {
            crate::commands::COMMANDS
                .contains(&name)
                .then(|| format!("/bin/{name}"))
        })
    }
}
