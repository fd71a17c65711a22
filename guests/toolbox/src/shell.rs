//! `sh`: the shell of POSIX, as dash has it.
//!
//! Programs are processes of the container; nothing here copies a running instance, as `fork` does. So a subshell in the
//! foreground works on a copy of the shell's state, and what must run beside the shell (a part of a pipeline, `&`) is sent to
//! another instance: as text, with the state as a script before it.

mod arithmetic;
mod builtins;
mod edit;
mod expand;
mod format;
mod jobs;
pub mod parser;
pub mod pattern;
mod redirect;
mod run;
mod settings;
mod state;
mod test;
mod tokens;
mod tree;
mod words;

use crate::sys::{self, End};
use parser::{Parser, SyntaxError};
use state::{Slot, State, Variable};
use std::collections::BTreeMap;
use std::rc::Rc;

pub use format::{format_text, general, printf, unescape};
pub use test::test;

/// Why commands are not carried on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Out of this many loops.
    Break(usize),
    /// To the next turn of the loop that is this many out.
    Continue(usize),
    /// Out of a function or a script that was read in.
    Return(i32),
    /// The shell ends.
    Exit(i32),
    /// As `Exit`, for an error: a person at the prompt goes on.
    Failed(i32),
}

pub struct Shell {
    pub state: State,
    /// `$?`
    pub status: i32,
    /// `$$`
    main: u32,
    /// `$!`
    last_background: Option<u32>,
    /// Children in the background that nobody has waited for.
    jobs: Vec<u32>,
    /// What such children ended with.
    finished: BTreeMap<u32, i32>,
    /// Variables that `local` has hidden, by function.
    hidden: Vec<Vec<(String, Option<Variable>)>>,
    /// Above zero: a failure is being looked for, and ends nothing.
    tested: u32,
    loops: usize,
    /// How many functions and scripts `return` could leave.
    calls: usize,
    line: usize,
    interactive: bool,
    /// A person is at the prompt of this instance, who may interrupt what runs.
    attended: bool,
    /// Signals that came and whose traps have not run.
    signals: Vec<u8>,
    in_trap: bool,
    /// The exit code of the last substitution of a command, for assignments.
    substituted: Option<i32>,
}

/// The highest number of a stream that is looked for at the start.
const LAST_NUMBER: u32 = 9;

/// How deep functions may call each other; beyond it the stack would end.
const MAX_CALLS: usize = 200;

impl Shell {
    fn new(name: &str) -> Self {
        let mut variables = BTreeMap::new();
        for (name, value) in std::env::vars() {
            let variable = Variable {
                value: Some(value),
                exported: true,
                readonly: false,
            };
            variables.insert(name, variable);
        }
        let directory = crate::files::directory();
        let mut slots: BTreeMap<_, _> = (0..3).map(|number| (number, Slot::Null)).collect();
        slots.extend((0..=LAST_NUMBER).filter_map(|number| Some((number, Slot::Open(End::inherited(number)?)))));
        let (pid, parent) = sys::ids();
        let mut state = State {
            variables,
            functions: BTreeMap::new(),
            name: name.to_owned(),
            arguments: Vec::new(),
            options: String::new(),
            slots,
            directory: directory.clone(),
            traps: BTreeMap::new(),
            mask: 0o022,
            getopts_at: 0,
        };
        for (name, value) in [
            ("PWD", directory),
            ("IFS", " \t\n".into()),
            ("OPTIND", "1".into()),
            ("PPID", parent.to_string()),
            ("PS1", "$PWD # ".into()),
            ("PS2", "> ".into()),
            ("PS4", "+ ".into()),
        ] {
            let exported = state.variables.get(name).is_some_and(|variable| variable.exported);
            state.variables.insert(
                name.into(),
                Variable {
                    value: Some(value),
                    exported,
                    readonly: false,
                },
            );
        }
        Self {
            state,
            status: 0,
            main: pid,
            last_background: None,
            jobs: Vec::new(),
            finished: BTreeMap::new(),
            hidden: Vec::new(),
            tested: 0,
            loops: 0,
            calls: 0,
            line: 1,
            interactive: false,
            attended: false,
            signals: Vec::new(),
            in_trap: false,
            substituted: None,
        }
    }

    /// A path as the system has it.
    pub fn path(&self, path: &str) -> String {
        sys::absolute(&self.state.directory, path)
    }

    /// Says something on standard error.
    pub fn say(&self, text: &str) {
        if let Some(Slot::Open(End::Sink(sink))) = self.state.slots.get(&2) {
            // Where nobody reads there is nobody to tell.
            let _ = sink.write(text.as_bytes());
        }
    }

    /// Says on standard error what went wrong, and where.
    pub fn complain(&self, what: &str) {
        match self.interactive {
            true => self.say(&format!("{}: {what}\n", self.state.name)),
            false => self.say(&format!("{}: {}: {what}\n", self.state.name, self.line)),
        }
    }

    /// Complains, and ends what runs.
    pub fn fail(&self, what: &str, code: i32) -> Flow {
        self.complain(what);
        Flow::Failed(code)
    }

    fn assign(&mut self, name: &str, value: &str) -> Result<(), Flow> {
        self.state.set(name, value).map_err(|what| self.fail(&what, 2))
    }

    /// Runs a script.
    fn script(&mut self, text: &str) -> Result<(), Flow> {
        let mut parser = Parser::new(text);
        loop {
            match parser.next_line() {
                Ok(None) => return Ok(()),
                Ok(Some(list)) => self.list(&list)?,
                Err(error) => return Err(self.refuse(&error)),
            }
        }
    }

    fn refuse(&mut self, error: &SyntaxError) -> Flow {
        match error {
            SyntaxError::Incomplete => self.fail("Syntax error: end of file unexpected", 2),
            SyntaxError::Unexpected(line, what) => {
                self.line = *line;
                self.fail(what, 2)
            }
        }
    }

    /// Runs what comes in on standard input, as it comes.
    fn input(&mut self) -> Result<(), Flow> {
        let mut editor = edit::Editor::default();
        let mut text = String::new();
        let mut line = 1;
        loop {
            let more = self.read_line(&mut editor, !text.is_empty());
            let at_end = match more {
                edit::Line::Text(more) => {
                    text += &more;
                    false
                }
                edit::Line::Interrupted => {
                    text.clear();
                    self.status = 130;
                    continue;
                }
                edit::Line::End => true,
            };
            let mut parser = Parser::from_line(&text, line);
            let parsed = parser.next_line();
            if !at_end && (matches!(parsed, Err(SyntaxError::Incomplete)) || parser.waits_for_document()) {
                continue;
            }
            let flow = match parsed {
                Ok(Some(list)) => self.list(&list),
                Ok(None) => Ok(()),
                Err(error) => Err(self.refuse(&error)),
            };
            line += text.matches('\n').count();
            text.clear();
            match flow {
                Err(Flow::Failed(code)) if self.interactive => self.status = code,
                Err(flow) => return Err(flow),
                Ok(()) => {}
            }
            if at_end {
                return Ok(());
            }
        }
    }

    fn read_line(&mut self, editor: &mut edit::Editor, continued: bool) -> edit::Line {
        let Some(Slot::Open(End::Source(source))) = self.state.slots.get(&0).cloned() else {
            return edit::Line::End;
        };
        if !self.interactive {
            return edit::plain_line(&source);
        }
        self.report_jobs();
        if let Some((columns, rows)) = sys::size() {
            for (name, value) in [("COLUMNS", columns), ("LINES", rows)] {
                // Who made them read-only wants them so.
                let _ = self.state.set(name, value.to_string());
            }
        }
        let prompt = if continued { "PS2" } else { "PS1" };
        let prompt = self.state.get(prompt).unwrap_or_default().to_owned();
        let prompt = match Parser::new(&prompt).document() {
            Ok(parts) => self.document(&parts).unwrap_or(prompt),
            Err(_) => prompt,
        };
        editor.line(&source, &prompt, &mut |text| self.say(text))
    }

    /// Runs the trap for the exit, and says what the code is.
    fn finish(&mut self, flow: Result<(), Flow>) -> i32 {
        let mut code = match flow {
            Ok(()) => self.status,
            Err(Flow::Return(code) | Flow::Exit(code) | Flow::Failed(code)) => code,
            Err(Flow::Break(_) | Flow::Continue(_)) => self.status,
        };
        if let Some(action) = self.state.traps.remove(&0)
            && !action.is_empty()
        {
            self.status = code;
            self.tested = 0;
            match self.script(&action) {
                Ok(()) | Err(Flow::Break(_) | Flow::Continue(_)) => {}
                Err(Flow::Return(other) | Flow::Exit(other) | Flow::Failed(other)) => code = other,
            }
        }
        code
    }
}

/// The shell as a program: `sh [-options] [-c SCRIPT [NAME [ARGUMENT...]] | FILE [ARGUMENT...]]`.
pub fn main(args: &[String]) -> i32 {
    let name = args.first().map_or("sh", String::as_str);
    let mut shell = Shell::new(name);
    let mut rest = args.get(1..).unwrap_or_default();
    if let [flag, state, inner @ ..] = rest
        && flag == jobs::PART
    {
        let flow = shell.take_over(state, inner);
        return shell.finish(flow);
    }
    let (mut from_text, mut from_input) = (false, false);
    while let Some((first, after)) = rest.split_first() {
        let on = first.starts_with('-');
        if first == "--" || first == "-" {
            rest = after;
            break;
        }
        let Some(letters) = first.strip_prefix(['-', '+']).filter(|letters| !letters.is_empty()) else {
            break;
        };
        rest = after;
        for letter in letters.chars() {
            match letter {
                'c' => from_text = true,
                's' => from_input = true,
                'l' => {}
                'o' => {
                    let Some((option, after)) = rest.split_first() else {
                        break;
                    };
                    rest = after;
                    if shell.set_named(option, on).is_err() {
                        return 2;
                    }
                }
                letter if state::OPTIONS.iter().any(|(known, _)| *known == letter) => {
                    shell.state.set_option(letter, on);
                }
                letter => {
                    shell.complain(&format!("Illegal option -{letter}"));
                    return 2;
                }
            }
        }
    }
    let flow = if from_text {
        let Some((text, after)) = rest.split_first() else {
            shell.complain("-c requires an argument");
            return 2;
        };
        if let Some((name, after)) = after.split_first() {
            shell.state.name = name.clone();
            shell.state.arguments = after.to_vec();
        }
        shell.script(text)
    } else if let (Some((file, after)), false) = (rest.split_first(), from_input) {
        shell.state.name = file.clone();
        shell.state.arguments = after.to_vec();
        match std::fs::read(shell.path(file)) {
            Ok(text) => shell.script(&String::from_utf8_lossy(&text)),
            Err(_) => {
                shell.say(&format!("{name}: 0: cannot open {file}: No such file\n"));
                return 2;
            }
        }
    } else {
        shell.state.arguments = rest.to_vec();
        shell.interactive =
            shell.state.is_on('i') || matches!(shell.state.slots.get(&0), Some(Slot::Open(end)) if end.is_terminal());
        if shell.interactive {
            shell.attended = true;
            // A person's interrupt key is for what runs in front of the shell.
            shell.catch_signals();
        }
        shell.input()
    };
    let code = shell.finish(flow);
    drop(Rc::new(shell));
    code
}
