//! From the text of a script to its tree: the grammar of POSIX, with `local` and functions as dash has them.
//!
//! A line is read when the one before it has run, as scripts expect that change what they are made of; so the parser is asked
//! for one complete command at a time. Tokens are in `tokens.rs`, words in `words.rs`.

use super::tree::{AndOr, Command, HereDocument, Item, Kind, List, Pipeline, Redirect, RedirectKind, Word};
use std::cell::OnceCell;
use std::rc::Rc;

/// A script that is not one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyntaxError {
    /// The text ends in the middle of something.
    Incomplete,
    /// Something stands where it must not; the line, and what.
    Unexpected(usize, String),
}

pub type Parsed<T> = Result<T, SyntaxError>;

/// Words that mean something at the beginning of a command.
const RESERVED: [&str; 16] = [
    "if", "then", "elif", "else", "fi", "do", "done", "case", "esac", "while", "until", "for", "{", "}", "!", "in",
];

#[derive(Debug, Clone)]
pub enum Token {
    Word(Word),
    Operator(&'static str),
    /// Digits right before `<` or `>`.
    Number(u32),
    End,
}

pub struct Parser<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
    pub(super) line: usize,
    pub(super) ahead: Option<Token>,
    /// Documents whose text begins after the next line break.
    pub(super) documents: Vec<Rc<HereDocument>>,
}

impl<'a> Parser<'a> {
    pub fn new(text: &'a str) -> Self {
        Self::from_line(text, 1)
    }

    /// Counts lines from this one.
    pub fn from_line(text: &'a str, line: usize) -> Self {
        Self {
            text,
            at: 0,
            line,
            ahead: None,
            documents: Vec::new(),
        }
    }

    /// The commands up to the end of the line, or nothing at the end.
    pub fn next_line(&mut self) -> Parsed<Option<List>> {
        self.skip_lines()?;
        if matches!(self.peek()?, Token::End) {
            return Ok(None);
        }
        let list = self.list(true)?;
        match self.next()? {
            Token::End | Token::Operator("\n") => Ok(Some(list)),
            other => Err(self.unexpected(&other)),
        }
    }

    /// The text as the parts of a here-document.
    pub fn document(&mut self) -> Parsed<Vec<super::tree::Part>> {
        self.document_parts()
    }

    /// The rest as one list, up to a closing parenthesis.
    pub(super) fn until_closed(&mut self) -> Parsed<List> {
        let list = self.list(false)?;
        match self.next()? {
            Token::Operator(")") => Ok(list),
            Token::End => Err(SyntaxError::Incomplete),
            other => Err(self.unexpected(&other)),
        }
    }

    /// All of the text as one list.
    pub fn whole(&mut self) -> Parsed<List> {
        let list = self.list(false)?;
        match self.next()? {
            Token::End => Ok(list),
            other => Err(self.unexpected(&other)),
        }
    }

    /// A parser for a script inside this one, at the same place, and back.
    pub(super) fn inner<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        let documents = std::mem::take(&mut self.documents);
        let ahead = self.ahead.take();
        let result = parse(self);
        self.documents = documents;
        self.ahead = ahead;
        result
    }

    fn list(&mut self, one_line: bool) -> Parsed<List> {
        let mut items = Vec::new();
        loop {
            if !one_line {
                self.skip_lines()?;
            }
            if self.ends_list()? {
                return Ok(List(items));
            }
            let command = self.and_or()?;
            let mut item = Item {
                command,
                background: false,
            };
            let more = match self.peek()? {
                Token::Operator("&") => {
                    item.background = true;
                    true
                }
                Token::Operator(";") => true,
                Token::Operator("\n") => !one_line,
                _ => {
                    items.push(item);
                    return Ok(List(items));
                }
            };
            items.push(item);
            if !more {
                return Ok(List(items));
            }
            self.next()?;
        }
    }

    fn ends_list(&mut self) -> Parsed<bool> {
        Ok(match self.peek()? {
            Token::End | Token::Operator(")" | ";;" | "\n") => true,
            Token::Word(word) => matches!(
                word.plain(),
                Some("then" | "elif" | "else" | "fi" | "do" | "done" | "esac" | "}")
            ),
            _ => false,
        })
    }

    fn and_or(&mut self) -> Parsed<AndOr> {
        let first = self.pipeline()?;
        let mut rest = Vec::new();
        loop {
            let and = match self.peek()? {
                Token::Operator("&&") => true,
                Token::Operator("||") => false,
                _ => return Ok(AndOr { first, rest }),
            };
            self.next()?;
            self.skip_lines()?;
            rest.push((and, self.pipeline()?));
        }
    }

    fn pipeline(&mut self) -> Parsed<Pipeline> {
        let mut negated = false;
        while self.is_reserved("!")? {
            self.next()?;
            negated = !negated;
        }
        let mut commands = vec![Rc::new(self.command()?)];
        while matches!(self.peek()?, Token::Operator("|")) {
            self.next()?;
            self.skip_lines()?;
            commands.push(Rc::new(self.command()?));
        }
        Ok(Pipeline { negated, commands })
    }

    fn command(&mut self) -> Parsed<Command> {
        let line = self.line;
        let token = self.peek()?.clone();
        let kind = match &token {
            Token::Operator("(") => {
                self.next()?;
                Kind::Subshell(self.until_closed()?)
            }
            Token::Word(word) => match word.plain() {
                Some("{") => {
                    self.next()?;
                    let list = self.body()?;
                    self.expect("}")?;
                    Kind::Group(list)
                }
                Some("if") => self.conditional()?,
                Some(word @ ("while" | "until")) => {
                    let until = word == "until";
                    self.next()?;
                    let condition = self.body()?;
                    let body = self.do_group()?;
                    Kind::Loop { until, condition, body }
                }
                Some("for") => self.for_loop()?,
                Some("case") => self.case()?,
                Some(name) if RESERVED.contains(&name) && !matches!(name, "in" | "!") => {
                    return Err(self.unexpected(&token));
                }
                _ => return self.simple(line),
            },
            Token::Number(_) | Token::Operator("<" | ">" | "<<" | "<<-" | ">>" | "<&" | ">&" | "<>" | ">|") => {
                return self.simple(line);
            }
            Token::End => return Err(SyntaxError::Incomplete),
            Token::Operator(_) => return Err(self.unexpected(&token)),
        };
        let mut redirects = Vec::new();
        while let Some(redirect) = self.redirect()? {
            redirects.push(redirect);
        }
        Ok(Command { kind, redirects, line })
    }

    fn conditional(&mut self) -> Parsed<Kind> {
        let mut arms = Vec::new();
        loop {
            self.next()?; // if, elif
            let condition = self.body()?;
            self.expect("then")?;
            arms.push((condition, self.body()?));
            if self.is_reserved("elif")? {
                continue;
            }
            let otherwise = match self.is_reserved("else")? {
                true => {
                    self.next()?;
                    Some(self.body()?)
                }
                false => None,
            };
            self.expect("fi")?;
            return Ok(Kind::If { arms, otherwise });
        }
    }

    fn for_loop(&mut self) -> Parsed<Kind> {
        self.next()?;
        let name = self.word()?;
        let Some(name) = name.plain().filter(|name| is_name(name)).map(str::to_owned) else {
            return Err(SyntaxError::Unexpected(self.line, "Bad for loop variable".into()));
        };
        self.skip_lines()?;
        let mut words = None;
        if self.is_reserved("in")? {
            self.next()?;
            let mut list = Vec::new();
            while let Token::Word(_) = self.peek()? {
                list.push(self.word()?);
            }
            words = Some(list);
            match self.next()? {
                Token::Operator(";" | "\n") => {}
                other => return Err(self.unexpected(&other)),
            }
        } else if matches!(self.peek()?, Token::Operator(";")) {
            self.next()?;
        }
        self.skip_lines()?;
        let body = self.do_group()?;
        Ok(Kind::For { name, words, body })
    }

    fn do_group(&mut self) -> Parsed<List> {
        self.expect("do")?;
        let body = self.body()?;
        self.expect("done")?;
        Ok(body)
    }

    fn case(&mut self) -> Parsed<Kind> {
        self.next()?;
        let word = self.word()?;
        self.skip_lines()?;
        self.expect("in")?;
        let mut arms = Vec::new();
        loop {
            self.skip_lines()?;
            if self.is_reserved("esac")? {
                self.next()?;
                return Ok(Kind::Case { word, arms });
            }
            if matches!(self.peek()?, Token::Operator("(")) {
                self.next()?;
            }
            let mut patterns = vec![self.word()?];
            loop {
                match self.next()? {
                    Token::Operator("|") => patterns.push(self.word()?),
                    Token::Operator(")") => break,
                    other => return Err(self.unexpected(&other)),
                }
            }
            let body = self.list(false)?;
            arms.push((patterns, body));
            match self.peek()? {
                Token::Operator(";;") => {
                    self.next()?;
                }
                _ => {
                    self.expect("esac")?;
                    return Ok(Kind::Case { word, arms });
                }
            }
        }
    }

    fn simple(&mut self, line: usize) -> Parsed<Command> {
        let mut assignments = Vec::new();
        let mut words: Vec<Word> = Vec::new();
        let mut redirects = Vec::new();
        loop {
            if let Some(redirect) = self.redirect()? {
                redirects.push(redirect);
                continue;
            }
            let Token::Word(word) = self.peek()?.clone() else {
                break;
            };
            self.next()?;
            if words.is_empty()
                && let Some(assignment) = super::words::assignment(&word)
            {
                assignments.push(assignment);
                continue;
            }
            let first = words.is_empty();
            words.push(word);
            if first && assignments.is_empty() && redirects.is_empty() && self.is_definition()? {
                return self.function(words.remove(0), line);
            }
        }
        if words.is_empty() && assignments.is_empty() && redirects.is_empty() {
            let token = self.peek()?.clone();
            return Err(self.unexpected(&token));
        }
        let kind = Kind::Simple { assignments, words };
        Ok(Command { kind, redirects, line })
    }

    fn is_definition(&mut self) -> Parsed<bool> {
        Ok(matches!(self.peek()?, Token::Operator("(")))
    }

    fn function(&mut self, name: Word, line: usize) -> Parsed<Command> {
        self.next()?;
        match self.next()? {
            Token::Operator(")") => {}
            other => return Err(self.unexpected(&other)),
        }
        let Some(name) = name.plain().filter(|name| is_name(&name.replace(['-', '.'], "_"))) else {
            return Err(SyntaxError::Unexpected(line, "Bad function name".into()));
        };
        self.skip_lines()?;
        let body = Rc::new(self.command()?);
        let name = name.to_owned();
        Ok(Command {
            kind: Kind::Function { name, body },
            redirects: Vec::new(),
            line,
        })
    }

    fn redirect(&mut self) -> Parsed<Option<Redirect>> {
        let number = match self.peek()? {
            Token::Number(number) => Some(*number),
            Token::Operator("<" | ">" | "<<" | "<<-" | ">>" | "<&" | ">&" | "<>" | ">|") => None,
            _ => return Ok(None),
        };
        if number.is_some() {
            self.next()?;
        }
        let Token::Operator(mark) = self.next()? else {
            return Err(SyntaxError::Unexpected(self.line, "redirection unexpected".into()));
        };
        let word = self.word()?;
        let kind = match mark {
            "<" => RedirectKind::Read(word),
            ">" => RedirectKind::Write(word),
            ">|" => RedirectKind::Clobber(word),
            ">>" => RedirectKind::Append(word),
            "<>" => RedirectKind::Both(word),
            "<&" | ">&" => RedirectKind::Duplicate(word),
            _ => {
                let document = Rc::new(HereDocument {
                    literal: word.raw.contains(['\'', '"', '\\']),
                    delimiter: word.raw,
                    strip: mark == "<<-",
                    body: OnceCell::new(),
                });
                self.documents.push(document.clone());
                RedirectKind::Here(document)
            }
        };
        let number = number.unwrap_or(u32::from(!mark.starts_with('<')));
        Ok(Some(Redirect { number, kind }))
    }

    /// Commands that must be there.
    fn body(&mut self) -> Parsed<List> {
        let list = self.list(false)?;
        if list.0.is_empty() {
            let token = self.peek()?.clone();
            return Err(self.unexpected(&token));
        }
        Ok(list)
    }

    fn expect(&mut self, word: &str) -> Parsed<()> {
        if self.is_reserved(word)? {
            self.next()?;
            return Ok(());
        }
        let token = self.peek()?.clone();
        Err(self.unexpected(&token))
    }

    fn is_reserved(&mut self, wanted: &str) -> Parsed<bool> {
        Ok(matches!(self.peek()?, Token::Word(word) if word.plain() == Some(wanted)))
    }

    fn word(&mut self) -> Parsed<Word> {
        match self.next()? {
            Token::Word(word) => Ok(word),
            other => Err(self.unexpected(&other)),
        }
    }

    fn skip_lines(&mut self) -> Parsed<()> {
        while matches!(self.peek()?, Token::Operator("\n")) {
            self.next()?;
        }
        Ok(())
    }

    fn unexpected(&self, token: &Token) -> SyntaxError {
        let what = match token {
            Token::End => return SyntaxError::Incomplete,
            Token::Word(word) if word.plain().is_some_and(|word| RESERVED.contains(&word)) => {
                format!("\"{}\" unexpected", word.raw)
            }
            Token::Word(_) => "word unexpected".into(),
            Token::Operator("\n") => "newline unexpected".into(),
            Token::Operator(operator) => format!("\"{operator}\" unexpected"),
            Token::Number(_) => "redirection unexpected".into(),
        };
        SyntaxError::Unexpected(self.line, format!("Syntax error: {what}"))
    }
}

/// A word without its quotes, as the delimiter of a here-document is compared.
pub fn unquoted(word: &str) -> String {
    let mut plain = String::new();
    let mut chars = word.chars();
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None | Some('"'), '\\') => plain.extend(chars.next()),
            _ => plain.push(c),
        }
    }
    plain
}

/// Whether a word means something to the grammar.
pub fn is_reserved_word(word: &str) -> bool {
    RESERVED.contains(&word)
}

/// Whether a text can name a variable.
pub fn is_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
