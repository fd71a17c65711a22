//! `sed`: addresses, blocks, `s y p d D n N g G h H x a i c q b t = r w` as scripts use them.

mod parse;

use crate::expressions::Kind;
use crate::files;
use crate::values::said;
use crate::{Io, Outcome};
use parse::{Action, Address, Command, parse};
use regex_lite::{Captures, Regex};
use std::collections::VecDeque;
use std::io::Write;

pub fn sed(io: &mut Io, args: &[String]) -> Outcome {
    let (mut quiet, mut extended, mut in_place, mut separate) = (false, false, None, false);
    let (mut scripts, mut rest) = (Vec::new(), Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-n" | "--quiet" | "--silent" => quiet = true,
            "-E" | "-r" => extended = true,
            "-s" => separate = true,
            "-ne" | "-nE" | "-En" | "-nr" => {
                quiet = true;
                extended |= arg != "-ne";
                if arg == "-ne" {
                    scripts.push(args.next().cloned().ok_or("-e needs a script")?);
                }
            }
            "-e" => scripts.push(args.next().cloned().ok_or("-e needs a script")?),
            "-f" => scripts.push(files::read_text(args.next().ok_or("-f needs a file")?)?),
            "--" => rest.extend(args.by_ref().cloned()),
            flag if flag.starts_with("-i") => in_place = Some(flag[2..].to_owned()),
            flag if flag.starts_with('-') && flag.len() > 1 => return Err(format!("unrecognized option: {flag}")),
            _ => rest.push(arg.clone()),
        }
    }
    if scripts.is_empty() {
        if rest.is_empty() {
            return Err("a script is needed".into());
        }
        scripts.push(rest.remove(0));
    }
    let kind = if extended { Kind::Extended } else { Kind::Basic };
    let commands = parse(&scripts.join("\n"), kind)?;
    let mut editor = Editor::new(commands, quiet);
    let Some(suffix) = in_place else {
        let mut inputs = VecDeque::new();
        let mut code = 0;
        if rest.is_empty() {
            rest.push("-".into());
        }
        for path in &rest {
            match files::input_text(io, path) {
                Ok(text) => inputs.push_back(text),
                Err(what) => {
                    io.complain("sed", what);
                    code = 2;
                }
            }
        }
        if separate {
            for text in inputs {
                editor.line = 0;
                editor.run(text, io.out)?;
            }
        } else {
            let all: Vec<String> = inputs.into();
            editor.run(joined(&all), io.out)?;
        }
        return Ok(if editor.code != 0 { editor.code } else { code });
    };
    for path in &rest {
        let text = files::read_text(path)?;
        if !suffix.is_empty() {
            std::fs::write(files::path(&format!("{path}{suffix}")), &text).map_err(said)?;
        }
        let mut out = Vec::new();
        editor.line = 0;
        editor.quit = false;
        editor.run(text, &mut out)?;
        std::fs::write(files::path(path), out).map_err(|error| files::why(path, &error))?;
    }
    Ok(editor.code)
}

/// Texts one after the other; one without an end of its last line gets it, unless it is the last.
fn joined(texts: &[String]) -> String {
    let mut all = String::new();
    for text in texts {
        if !all.is_empty() && !all.ends_with('\n') {
            all.push('\n');
        }
        all += text;
    }
    all
}

struct Editor {
    commands: Vec<Command>,
    quiet: bool,
    hold: String,
    line: usize,
    last_pattern: Option<Regex>,
    quit: bool,
    code: i32,
    /// Files that were written already, so that they are not emptied again.
    written: Vec<String>,
}

/// What happens after a command.
enum Then {
    Next,
    Goto(usize),
    /// The cycle ends, and whether the line is shown.
    End(bool),
    /// A new cycle with what is left of the line.
    Again,
}

impl Editor {
    fn new(commands: Vec<Command>, quiet: bool) -> Self {
        Self {
            commands,
            quiet,
            hold: String::new(),
            line: 0,
            last_pattern: None,
            quit: false,
            code: 0,
            written: Vec::new(),
        }
    }

    fn run(&mut self, text: String, out: &mut dyn Write) -> Result<(), String> {
        let whole_end = text.ends_with('\n');
        let mut lines: VecDeque<&str> = text.split('\n').collect();
        if whole_end || text.is_empty() {
            lines.pop_back();
        }
        let mut kept: Option<String> = None;
        while !self.quit {
            let mut space = match kept.take() {
                Some(space) => space,
                None => match lines.pop_front() {
                    Some(line) => {
                        self.line += 1;
                        line.to_owned()
                    }
                    None => break,
                },
            };
            let mut after = String::new();
            let then = self.cycle(&mut space, &mut lines, &mut after, out)?;
            if matches!(then, Then::End(true)) && !self.quiet {
                let end = if lines.is_empty() && !whole_end { "" } else { "\n" };
                write!(out, "{space}{end}").map_err(said)?;
            }
            out.write_all(after.as_bytes()).map_err(said)?;
            if matches!(then, Then::Again) {
                kept = Some(space);
            }
        }
        Ok(())
    }

    fn cycle(
        &mut self,
        space: &mut String,
        lines: &mut VecDeque<&str>,
        after: &mut String,
        out: &mut dyn Write,
    ) -> Result<Then, String> {
        let mut at = 0;
        let mut replaced = false;
        while at < self.commands.len() {
            if !self.applies(at, space, lines.is_empty()) {
                at = match self.commands[at].action {
                    Action::Block(end) => end + 1,
                    _ => at + 1,
                };
                continue;
            }
            match self.act(at, space, lines, after, out, &mut replaced)? {
                Then::Next => at += 1,
                Then::Goto(place) => at = place,
                then => return Ok(then),
            }
        }
        Ok(Then::End(true))
    }

    fn applies(&mut self, at: usize, space: &str, last: bool) -> bool {
        let (from, to, open) = {
            let command = &self.commands[at];
            (command.from.clone(), command.to.clone(), command.open)
        };
        let line = self.line;
        let holds = match (from, to) {
            (None, _) => true,
            (Some(from), None) => self.meets(&from, space, last),
            (Some(from), Some(to)) => match open {
                Some(begin) => {
                    let ends = match &to {
                        Address::Line(number) => line >= *number,
                        Address::More(count) => line >= begin + count,
                        to => self.meets(to, space, last),
                    };
                    if ends {
                        self.commands[at].open = None;
                    }
                    // A range whose end lies behind has only its first line.
                    !matches!(to, Address::Line(number) if line > number)
                }
                None => {
                    let begins = self.meets(&from, space, last);
                    let one = match to {
                        Address::Line(number) => number <= line,
                        Address::More(0) => true,
                        _ => false,
                    };
                    if begins && !one {
                        self.commands[at].open = Some(line);
                    }
                    begins
                }
            },
        };
        holds != self.commands[at].negated
    }

    fn meets(&mut self, address: &Address, space: &str, last: bool) -> bool {
        match address {
            Address::Line(number) => *number == self.line,
            Address::Last => last,
            Address::Step(first, 0) => self.line == *first,
            Address::Step(first, step) => self.line >= *first && (self.line - first).is_multiple_of(*step),
            Address::More(_) => false,
            Address::Match(pattern) => match self.used(pattern) {
                Some(pattern) => pattern.is_match(space),
                None => false,
            },
        }
    }

    fn used(&mut self, pattern: &Option<Regex>) -> Option<Regex> {
        if let Some(pattern) = pattern {
            self.last_pattern = Some(pattern.clone());
        }
        self.last_pattern.clone()
    }

    fn label(&self, name: &str) -> Result<usize, String> {
        if name.is_empty() {
            return Ok(self.commands.len());
        }
        let is_it = |command: &Command| matches!(&command.action, Action::Label(label) if label == name);
        let place = self.commands.iter().position(is_it);
        place.ok_or_else(|| format!("can't find label for jump to `{name}'"))
    }

    fn act(
        &mut self,
        at: usize,
        space: &mut String,
        lines: &mut VecDeque<&str>,
        after: &mut String,
        out: &mut dyn Write,
        replaced: &mut bool,
    ) -> Result<Then, String> {
        let letter = match &self.commands[at].action {
            Action::Block(_) | Action::End | Action::Label(_) => return Ok(Then::Next),
            Action::Substitute {
                pattern,
                with,
                every,
                nth,
                print,
                file,
            } => {
                let (pattern, with, every, nth, print, file) =
                    (pattern.clone(), with.clone(), *every, *nth, *print, file.clone());
                let pattern = self.used(&pattern).ok_or("no previous regular expression")?;
                if let Some(changed) = substitute(&pattern, space, &with, every, nth) {
                    *space = changed;
                    *replaced = true;
                    if print {
                        writeln!(out, "{space}").map_err(said)?;
                    }
                    if let Some(file) = file {
                        self.write(&file, space, out)?;
                    }
                }
                return Ok(Then::Next);
            }
            Action::Translate(from, to) => {
                let other = |c: char| from.iter().position(|known| *known == c).map_or(c, |place| to[place]);
                *space = space.chars().map(other).collect();
                return Ok(Then::Next);
            }
            Action::Text('a', text) => {
                *after += &format!("{text}\n");
                return Ok(Then::Next);
            }
            Action::Text('i', text) => {
                writeln!(out, "{text}").map_err(said)?;
                return Ok(Then::Next);
            }
            Action::Text(_, text) => {
                if self.commands[at].open.is_none() || self.commands[at].negated {
                    writeln!(out, "{text}").map_err(said)?;
                }
                return Ok(Then::End(false));
            }
            Action::Jump(letter, name) => {
                let goes = match letter {
                    't' => std::mem::take(replaced),
                    'T' => !std::mem::take(replaced),
                    _ => true,
                };
                return Ok(if goes {
                    Then::Goto(self.label(name)?)
                } else {
                    Then::Next
                });
            }
            Action::Quit(code) => {
                let silent = *code < 0;
                self.code = if silent { -1 - code } else { *code };
                self.quit = true;
                return Ok(Then::End(!silent));
            }
            Action::Read(file) => {
                // A file that is not there is as good as an empty one.
                let text = files::read_text(file).unwrap_or_default();
                *after += &text;
                return Ok(Then::Next);
            }
            Action::Write(file) => {
                let file = file.clone();
                self.write(&file, space, out)?;
                return Ok(Then::Next);
            }
            Action::Simple(letter) => *letter,
        };
        match letter {
            'p' => writeln!(out, "{space}").map_err(said)?,
            'P' => writeln!(out, "{}", space.split('\n').next().unwrap_or_default()).map_err(said)?,
            '=' => writeln!(out, "{}", self.line).map_err(said)?,
            'l' => writeln!(out, "{}$", space.escape_default()).map_err(said)?,
            'd' => return Ok(Then::End(false)),
            'D' => match space.split_once('\n') {
                Some((_, rest)) => {
                    *space = rest.to_owned();
                    return Ok(Then::Again);
                }
                None => return Ok(Then::End(false)),
            },
            'n' => {
                let Some(next) = lines.pop_front() else {
                    self.quit = true;
                    return Ok(Then::End(true));
                };
                if !self.quiet {
                    writeln!(out, "{space}").map_err(said)?;
                }
                out.write_all(std::mem::take(after).as_bytes()).map_err(said)?;
                self.line += 1;
                *space = next.to_owned();
            }
            'N' => {
                let Some(next) = lines.pop_front() else {
                    self.quit = true;
                    return Ok(Then::End(true));
                };
                self.line += 1;
                *space += &format!("\n{next}");
            }
            'g' => *space = self.hold.clone(),
            'G' => *space += &format!("\n{}", self.hold),
            'h' => self.hold = space.clone(),
            'H' => self.hold += &format!("\n{space}"),
            _ => std::mem::swap(space, &mut self.hold),
        }
        Ok(Then::Next)
    }

    fn write(&mut self, file: &str, space: &str, out: &mut dyn Write) -> Result<(), String> {
        if file == "/dev/stdout" {
            return writeln!(out, "{space}").map_err(said);
        }
        let mut options = std::fs::OpenOptions::new();
        match self.written.iter().any(|known| known == file) {
            true => options.append(true),
            false => options.create(true).write(true).truncate(true),
        };
        self.written.push(file.to_owned());
        let mut opened = options
            .open(files::path(file))
            .map_err(|error| files::why(file, &error))?;
        writeln!(opened, "{space}").map_err(said)
    }
}

/// The text with what the pattern finds replaced, from the n-th on; nothing where it finds nothing.
fn substitute(pattern: &Regex, text: &str, with: &str, every: bool, nth: usize) -> Option<String> {
    let mut changed = String::new();
    let (mut end, mut count, mut any) = (0, 0, false);
    for found in pattern.captures_iter(text) {
        let whole = found.get(0)?;
        count += 1;
        if count < nth {
            continue;
        }
        changed += &text[end..whole.start()];
        replacement(&found, with, &mut changed);
        end = whole.end();
        any = true;
        if !every {
            break;
        }
    }
    changed += &text[end..];
    any.then_some(changed)
}

fn replacement(found: &Captures, with: &str, out: &mut String) {
    let mut chars = with.chars();
    // `\U` and `\L` change what follows, up to `\E`.
    let mut case = 'E';
    let put = |text: &str, case: char, out: &mut String| match case {
        'U' => *out += &text.to_uppercase(),
        'L' => *out += &text.to_lowercase(),
        _ => *out += text,
    };
    while let Some(c) = chars.next() {
        match c {
            '&' => put(found.get(0).map_or("", |found| found.as_str()), case, out),
            '\\' => match chars.next() {
                Some(digit @ '0'..='9') => {
                    let group = digit as usize - '0' as usize;
                    put(found.get(group).map_or("", |found| found.as_str()), case, out);
                }
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(change @ ('U' | 'L' | 'E')) => case = change,
                Some(other) => out.push(other),
                None => {}
            },
            c => put(c.encode_utf8(&mut [0; 4]), case, out),
        }
    }
}
