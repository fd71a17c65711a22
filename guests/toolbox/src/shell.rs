//! `sh`: lists of commands with variables, quotes, pipes and redirections, enough for what people type at `kubectl exec`.
//!
//! The commands of a pipe run one after the other, each on what the one before it wrote: there is one program and no processes.
//! There are no functions, loops or substitutions of commands.

use crate::values::said;
use crate::{Io, Outcome};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Cursor, Write};

pub fn sh(io: &mut Io, args: &[String]) -> Outcome {
    let mut shell = Shell {
        vars: io.env.clone(),
        last: 0,
        exit: None,
    };
    shell.vars.entry("PWD".into()).or_insert_with(|| "/".into());
    match args {
        [flag, script, rest @ ..] if flag == "-c" => {
            for (index, value) in rest.iter().enumerate() {
                shell.vars.insert(index.to_string(), value.clone());
            }
            shell.run(io, script);
        }
        [path, ..] if !path.starts_with('-') => {
            let script = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
            shell.run(io, &script);
        }
        _ => shell.read(io)?,
    }
    Ok(shell.exit.unwrap_or(shell.last))
}

struct Shell {
    vars: BTreeMap<String, String>,
    last: i32,
    exit: Option<i32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `;`, `&&`, `||`, `|`, `<`, `>`, `>>`, `2>`.
    Mark(&'static str),
}

impl Shell {
    /// Reads commands line by line.
    fn read(&mut self, io: &mut Io) -> Result<(), String> {
        let prompt = crate::interactive();
        while self.exit.is_none() {
            if prompt {
                write!(io.out, "{} # ", self.vars.get("PWD").map_or("/", String::as_str)).map_err(said)?;
                io.out.flush().map_err(said)?;
            }
            let mut line = String::new();
            if io.input.read_line(&mut line).map_err(said)? == 0 {
                return Ok(());
            }
            self.run(io, &line);
        }
        Ok(())
    }

    fn run(&mut self, io: &mut Io, script: &str) {
        for line in script.lines() {
            match self.words(line) {
                Ok(tokens) => self.list(io, &tokens),
                Err(what) => {
                    io.complain("sh", what);
                    self.last = 2;
                }
            }
            if self.exit.is_some() {
                return;
            }
        }
    }

    fn list(&mut self, io: &mut Io, tokens: &[RawToken]) {
        let mut rest = tokens;
        let mut run = true;
        loop {
            let end = rest
                .iter()
                .position(|token| matches!(token, RawToken::Mark(";" | "&&" | "||")))
                .unwrap_or(rest.len());
            let (pipeline, after) = rest.split_at(end);
            if run && !pipeline.is_empty() {
                self.pipeline(io, pipeline);
                if self.exit.is_some() {
                    return;
                }
            }
            let Some((mark, after)) = after.split_first() else {
                return;
            };
            run = match mark {
                RawToken::Mark("&&") => self.last == 0,
                RawToken::Mark("||") => self.last != 0,
                _ => true,
            };
            rest = after;
        }
    }

    fn pipeline(&mut self, io: &mut Io, tokens: &[RawToken]) {
        let stages: Vec<_> = tokens.split(|token| matches!(token, RawToken::Mark("|"))).collect();
        let mut piped: Option<Vec<u8>> = None;
        for (index, stage) in stages.iter().enumerate() {
            let tokens: Vec<Token> = stage.iter().map(|token| self.expand(token)).collect();
            let mut out = Vec::new();
            let mut input: Option<Box<dyn BufRead>> = piped
                .take()
                .map(|bytes| Box::new(Cursor::new(bytes)) as Box<dyn BufRead>);
            let last = index + 1 == stages.len();
            let result = self.command(io, &tokens, &mut input, (!last).then_some(&mut out));
            self.last = result.unwrap_or_else(|what| {
                io.complain("sh", what);
                1
            });
            if !last {
                piped = Some(out);
            }
        }
        let _ = io.out.flush();
    }

    /// One command with its redirections. `piped` takes the output where another command reads it.
    fn command(
        &mut self,
        io: &mut Io,
        tokens: &[Token],
        input: &mut Option<Box<dyn BufRead>>,
        piped: Option<&mut Vec<u8>>,
    ) -> Outcome {
        let mut words = Vec::new();
        let (mut target, mut errors): (Option<std::fs::File>, Option<std::fs::File>) = (None, None);
        let mut rest = tokens.iter();
        while let Some(token) = rest.next() {
            let mark = match token {
                Token::Word(word) => {
                    words.push(word.clone());
                    continue;
                }
                Token::Mark(mark) => *mark,
            };
            let Some(Token::Word(path)) = rest.next() else {
                return Err("syntax error: a file name is needed".into());
            };
            if mark == "<" {
                *input = Some(Box::new(BufReader::new(crate::files::open(path)?)));
                continue;
            }
            let append = mark == ">>";
            let opened = std::fs::OpenOptions::new()
                .create(true)
                .write(true)
                .append(append)
                .truncate(!append)
                .open(path);
            // The one device that every script knows.
            let opened = if path == "/dev/null" {
                None
            } else {
                Some(opened.map_err(|error| format!("{path}: {error}"))?)
            };
            match (mark, opened) {
                ("2>", file) => errors = file.or(errors),
                (_, file) => target = file,
            }
            if path == "/dev/null" && mark != "2>" {
                let (mut sink, env) = (std::io::sink(), self.vars.clone());
                let mut inner = Io {
                    input: io.input,
                    out: &mut sink,
                    err: io.err,
                    env: &env,
                };
                return self.simple(&mut inner, &words);
            }
        }
        let env = self.vars.clone();
        let out: &mut dyn Write = match (&mut target, piped) {
            (Some(file), _) => file,
            (None, Some(buffer)) => buffer,
            (None, None) => io.out,
        };
        let err: &mut dyn Write = match &mut errors {
            Some(file) => file,
            None => io.err,
        };
        let input: &mut dyn BufRead = match input {
            Some(reader) => reader,
            None => io.input,
        };
        self.simple(
            &mut Io {
                input,
                out,
                err,
                env: &env,
            },
            &words,
        )
    }

    fn simple(&mut self, io: &mut Io, words: &[String]) -> Outcome {
        let set = words.iter().take_while(|word| is_assignment(word)).count();
        let (assignments, command) = words.split_at(set);
        let pairs = assignments
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let Some((name, args)) = command.split_first() else {
            self.vars.extend(pairs);
            return Ok(0);
        };
        match name.as_str() {
            "exit" => {
                let code = args
                    .first()
                    .map_or(Ok(self.last), |text| text.parse())
                    .map_err(|_| "exit: a number is needed")?;
                self.exit = Some(code);
                Ok(code)
            }
            "export" | "set" => {
                for (name, value) in args.iter().filter_map(|pair| pair.split_once('=')) {
                    self.vars.insert(name.to_owned(), value.to_owned());
                }
                Ok(0)
            }
            "unset" => {
                args.iter().for_each(|name| drop(self.vars.remove(name)));
                Ok(0)
            }
            ":" => Ok(0),
            "cd" => {
                let to = args.first().map_or("/", String::as_str);
                std::env::set_current_dir(to).map_err(|_| format!("cd: {to}: No such file or directory"))?;
                let now = std::env::current_dir()
                    .map(|path| path.display().to_string())
                    .unwrap_or_else(|_| to.to_owned());
                self.vars.insert("PWD".into(), now);
                Ok(0)
            }
            _ => {
                let mut env = io.env.clone();
                env.extend(pairs);
                let mut inner = Io {
                    input: io.input,
                    out: io.out,
                    err: io.err,
                    env: &env,
                };
                Ok(crate::run(&mut inner, command))
            }
        }
    }

    /// The tokens of a line, with the values of variables not yet in them.
    fn words(&self, line: &str) -> Result<Vec<RawToken>, String> {
        tokens(line)
    }

    fn expand(&self, token: &RawToken) -> Token {
        let parts = match token {
            RawToken::Mark(mark) => return Token::Mark(mark),
            RawToken::Word(parts) => parts,
        };
        let mut word = String::new();
        for part in parts {
            match part {
                Part::Text(text) => word.push_str(text),
                Part::Variable(name) => match name.as_str() {
                    "?" => word.push_str(&self.last.to_string()),
                    name => word.push_str(self.vars.get(name).map_or("", String::as_str)),
                },
            }
        }
        Token::Word(word)
    }
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum RawToken {
    Word(Vec<Part>),
    Mark(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(String),
}

fn tokens(line: &str) -> Result<Vec<RawToken>, String> {
    const MARKS: [&str; 8] = ["&&", "||", ">>", "2>", ";", "|", "<", ">"];
    let mut tokens = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() && !rest.starts_with('#') {
        match MARKS.iter().find(|mark| rest.starts_with(**mark)) {
            Some(mark) => {
                tokens.push(RawToken::Mark(mark));
                rest = &rest[mark.len()..];
            }
            None => {
                let (parts, after) = word(rest)?;
                tokens.push(RawToken::Word(parts));
                rest = after;
            }
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

fn word(text: &str) -> Result<(Vec<Part>, &str), String> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut quote = None;
    let mut chars = text.char_indices().peekable();
    while let Some((index, c)) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None | Some('"'), '\\') => plain.extend(chars.next().map(|(_, c)| c)),
            (None | Some('"'), '$') => {
                let name = variable(&text[index + 1..]);
                let Some((name, length)) = name else {
                    plain.push('$');
                    continue;
                };
                while chars.peek().is_some_and(|(at, _)| *at < index + 1 + length) {
                    chars.next();
                }
                parts.push(Part::Text(std::mem::take(&mut plain)));
                parts.push(Part::Variable(name));
            }
            (None, ';' | '|' | '<' | '>' | '&') => {
                parts.push(Part::Text(plain));
                return match c {
                    '&' if !text[index..].starts_with("&&") => Err("syntax error: '&' is not supported".into()),
                    _ => Ok((parts, &text[index..])),
                };
            }
            (None, c) if c.is_whitespace() => {
                parts.push(Part::Text(plain));
                return Ok((parts, &text[index..]));
            }
            (_, c) => plain.push(c),
        }
    }
    if quote.is_some() {
        return Err("syntax error: unterminated quoted string".into());
    }
    parts.push(Part::Text(plain));
    Ok((parts, ""))
}

/// The name after a dollar, and how many bytes it took.
fn variable(text: &str) -> Option<(String, usize)> {
    if let Some(inner) = text.strip_prefix('{') {
        let end = inner.find('}')?;
        return Some((inner[..end].to_owned(), end + 2));
    }
    if text.starts_with(['?', '$', '#']) {
        return Some((text[..1].to_owned(), 1));
    }
    let length = text
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
        .count();
    (length > 0).then(|| (text[..length].to_owned(), length))
}
