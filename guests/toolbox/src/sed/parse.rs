//! From the text of a sed script to its commands.

use crate::expressions::{Kind, regex};
use regex_lite::Regex;

#[derive(Clone)]
pub enum Address {
    Line(usize),
    Last,
    Match(Option<Regex>),
    /// `first~step`
    Step(usize, usize),
    /// `+N` after the first.
    More(usize),
}

pub enum Action {
    Block(usize),
    End,
    Substitute {
        pattern: Option<Regex>,
        with: String,
        every: bool,
        nth: usize,
        print: bool,
        file: Option<String>,
    },
    Translate(Vec<char>, Vec<char>),
    Text(char, String),
    Jump(char, String),
    Label(String),
    Quit(i32),
    Read(String),
    Write(String),
    Simple(char),
}

pub struct Command {
    pub from: Option<Address>,
    pub to: Option<Address>,
    pub negated: bool,
    pub action: Action,
    /// The line in which the range that is open began.
    pub open: Option<usize>,
}

/// Reads a script.
pub fn parse(text: &str, kind: Kind) -> Result<Vec<Command>, String> {
    let mut parser = Parser {
        text: text.chars().collect(),
        at: 0,
        kind,
        commands: Vec::new(),
        blocks: Vec::new(),
    };
    parser.all()?;
    Ok(parser.commands)
}

struct Parser {
    text: Vec<char>,
    at: usize,
    kind: Kind,
    commands: Vec<Command>,
    blocks: Vec<usize>,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek();
        self.at += usize::from(next.is_some());
        next
    }

    fn skip(&mut self, signs: &[char]) {
        while self.peek().is_some_and(|c| signs.contains(&c)) {
            self.at += 1;
        }
    }

    fn number(&mut self) -> Option<usize> {
        let begin = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        self.text[begin..self.at].iter().collect::<String>().parse().ok()
    }

    fn all(&mut self) -> Result<(), String> {
        loop {
            self.skip(&[' ', '\t', '\n', ';']);
            match self.peek() {
                None => break,
                Some('#') => while self.next().is_some_and(|c| c != '\n') {},
                Some(_) => self.command()?,
            }
        }
        match self.blocks.is_empty() {
            true => Ok(()),
            false => Err("unmatched `{'".into()),
        }
    }

    fn address(&mut self) -> Result<Option<Address>, String> {
        Ok(match self.peek() {
            Some('$') => {
                self.at += 1;
                Some(Address::Last)
            }
            Some('+') => {
                self.at += 1;
                Some(Address::More(self.number().unwrap_or(0)))
            }
            Some('/' | '\\') => {
                if self.peek() == Some('\\') {
                    self.at += 1;
                }
                let end = self.next().unwrap_or('/');
                let pattern = self.until(end, true)?;
                let ignore = self.peek() == Some('I');
                self.at += usize::from(ignore);
                Some(Address::Match(self.pattern(&pattern, ignore)?))
            }
            Some(c) if c.is_ascii_digit() => {
                let first = self.number().unwrap_or(0);
                if self.peek() == Some('~') {
                    self.at += 1;
                    Some(Address::Step(first, self.number().unwrap_or(0)))
                } else {
                    Some(Address::Line(first))
                }
            }
            _ => None,
        })
    }

    /// An empty pattern means the last one that was used.
    fn pattern(&self, text: &str, ignore_case: bool) -> Result<Option<Regex>, String> {
        match text.is_empty() {
            true => Ok(None),
            false => regex(text, self.kind, ignore_case).map(Some),
        }
    }

    /// The text up to a delimiter; one that is escaped belongs to it.
    fn until(&mut self, end: char, is_pattern: bool) -> Result<String, String> {
        let mut text = String::new();
        let mut in_bracket = false;
        while let Some(c) = self.next() {
            match c {
                '\\' => {
                    let next = self.next().ok_or("unterminated command")?;
                    if next == end {
                        text.push(next);
                    } else {
                        text.extend(['\\', next]);
                    }
                }
                c if c == end && !in_bracket => return Ok(text),
                c => {
                    if is_pattern && end != ']' {
                        match c {
                            '[' if !in_bracket => {
                                in_bracket = true;
                                text.push(c);
                                // A bracket that comes first is a sign.
                                for sign in ['^', ']'] {
                                    if self.peek() == Some(sign) {
                                        text.push(sign);
                                        self.at += 1;
                                    }
                                }
                                continue;
                            }
                            ']' => in_bracket = false,
                            _ => {}
                        }
                    }
                    text.push(c);
                }
            }
        }
        Err("unterminated command".into())
    }

    fn word(&mut self) -> String {
        self.skip(&[' ', '\t']);
        let begin = self.at;
        while self.peek().is_some_and(|c| !matches!(c, '\n' | ';' | '}')) {
            self.at += 1;
        }
        self.text[begin..self.at].iter().collect::<String>().trim().to_owned()
    }

    fn line(&mut self) -> String {
        self.skip(&[' ', '\t']);
        let mut text = String::new();
        while let Some(c) = self.next() {
            match c {
                '\n' => break,
                '\\' => match self.next() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some(other) => text.push(other),
                    None => {}
                },
                c => text.push(c),
            }
        }
        text
    }

    fn command(&mut self) -> Result<(), String> {
        let from = self.address()?;
        let mut to = None;
        self.skip(&[' ', '\t']);
        if from.is_some() && self.peek() == Some(',') {
            self.at += 1;
            self.skip(&[' ', '\t']);
            to = Some(self.address()?.ok_or("unexpected `,'")?);
        }
        self.skip(&[' ', '\t']);
        let negated = self.peek() == Some('!');
        if negated {
            self.skip(&['!', ' ', '\t']);
        }
        let letter = self.next().ok_or("missing command")?;
        let index = self.commands.len();
        let action = match letter {
            '{' => {
                self.blocks.push(index);
                Action::Block(0)
            }
            '}' => {
                let begin = self.blocks.pop().ok_or("unexpected `}'")?;
                self.commands[begin].action = Action::Block(index);
                Action::End
            }
            's' => self.substitution()?,
            'y' => {
                let end = self.next().ok_or("unterminated `y' command")?;
                let (from, to) = (self.until(end, false)?, self.until(end, false)?);
                let signs = |text: &str| {
                    text.replace("\\n", "\n")
                        .replace("\\t", "\t")
                        .chars()
                        .collect::<Vec<_>>()
                };
                let (from, to) = (signs(&from), signs(&to));
                if from.len() != to.len() {
                    return Err("strings for `y' command are different lengths".into());
                }
                Action::Translate(from, to)
            }
            'a' | 'i' | 'c' => {
                self.skip(&[' ', '\t']);
                if self.peek() == Some('\\') {
                    self.at += 1;
                    self.skip(&[' ', '\t']);
                    if self.peek() == Some('\n') {
                        self.at += 1;
                    }
                }
                Action::Text(letter, self.line())
            }
            ':' => Action::Label(self.word()),
            'b' | 't' | 'T' => Action::Jump(letter, self.word()),
            'q' | 'Q' => {
                self.skip(&[' ']);
                let code = self.number().unwrap_or(0) as i32;
                match letter {
                    'q' => Action::Quit(code),
                    _ => Action::Quit(-1 - code),
                }
            }
            'r' => Action::Read(self.word()),
            'w' => Action::Write(self.word()),
            'p' | 'P' | 'd' | 'D' | 'n' | 'N' | 'g' | 'G' | 'h' | 'H' | 'x' | '=' | 'l' => Action::Simple(letter),
            other => return Err(format!("unknown command: `{other}'")),
        };
        self.commands.push(Command {
            from,
            to,
            negated,
            action,
            open: None,
        });
        Ok(())
    }

    fn substitution(&mut self) -> Result<Action, String> {
        let end = self.next().ok_or("unterminated `s' command")?;
        let pattern = self.until(end, true)?;
        let with = self.until(end, false)?;
        let (mut every, mut nth, mut print, mut ignore, mut file) = (false, 1, false, false, None);
        loop {
            match self.peek() {
                Some('g') => every = true,
                Some('p') => print = true,
                Some('i' | 'I') => ignore = true,
                Some('w') => {
                    self.at += 1;
                    file = Some(self.word());
                    break;
                }
                Some(c) if c.is_ascii_digit() => {
                    nth = self.number().unwrap_or(1).max(1);
                    continue;
                }
                _ => break,
            }
            self.at += 1;
        }
        Ok(Action::Substitute {
            pattern: self.pattern(&pattern, ignore)?,
            with,
            every,
            nth,
            print,
            file,
        })
    }
}
