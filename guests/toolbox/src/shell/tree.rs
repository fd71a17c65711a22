//! A script as a tree, and its text again: a part of a script that another instance of the shell is to run is sent as text.

use std::cell::OnceCell;
use std::fmt;
use std::rc::Rc;

/// Commands one after the other.
#[derive(Debug, Default)]
pub struct List(pub Vec<Item>);

#[derive(Debug)]
pub struct Item {
    pub command: AndOr,
    /// `&`: it is not waited for.
    pub background: bool,
}

/// `a && b || c`
#[derive(Debug)]
pub struct AndOr {
    pub first: Pipeline,
    /// Whether it follows success, and what follows.
    pub rest: Vec<(bool, Pipeline)>,
}

#[derive(Debug)]
pub struct Pipeline {
    pub negated: bool,
    pub commands: Vec<Rc<Command>>,
}

#[derive(Debug)]
pub struct Command {
    pub kind: Kind,
    pub redirects: Vec<Redirect>,
    /// Where it begins, for messages.
    pub line: usize,
}

#[derive(Debug)]
pub enum Kind {
    Simple {
        assignments: Vec<(String, Word)>,
        words: Vec<Word>,
    },
    Group(List),
    Subshell(List),
    If {
        arms: Vec<(List, List)>,
        otherwise: Option<List>,
    },
    Loop {
        until: bool,
        condition: List,
        body: List,
    },
    For {
        name: String,
        /// None: the positional parameters.
        words: Option<Vec<Word>>,
        body: List,
    },
    Case {
        word: Word,
        arms: Vec<(Vec<Word>, List)>,
    },
    Function {
        name: String,
        body: Rc<Command>,
    },
}

#[derive(Debug)]
pub struct Redirect {
    pub number: u32,
    pub kind: RedirectKind,
}

#[derive(Debug)]
pub enum RedirectKind {
    Read(Word),
    Write(Word),
    /// `>|`
    Clobber(Word),
    Append(Word),
    /// `<>`
    Both(Word),
    /// `<&` and `>&`
    Duplicate(Word),
    Here(Rc<HereDocument>),
}

#[derive(Debug)]
pub struct HereDocument {
    /// As it is written, for the text.
    pub delimiter: String,
    /// The delimiter was quoted: the text is taken as it stands.
    pub literal: bool,
    /// `<<-`: tabs at the beginning of lines are not part of it.
    pub strip: bool,
    /// Known once the line after the command has been read.
    pub body: OnceCell<(String, Vec<Part>)>,
}

/// A word, with the text that it was read from.
#[derive(Debug, Clone)]
pub struct Word {
    pub raw: String,
    pub parts: Vec<Part>,
}

#[derive(Debug, Clone)]
pub enum Part {
    /// Text that is subject to patterns and, at the beginning, to `~`.
    Literal(String),
    /// Text that means itself.
    Quoted(String),
    /// What stands between double quotes.
    Double(Vec<Part>),
    Parameter(Box<Parameter>),
    /// `$( )`, with its script.
    Command(Rc<List>),
    /// `$(( ))`
    Arithmetic(Vec<Part>),
}

#[derive(Debug, Clone)]
pub struct Parameter {
    pub name: String,
    pub action: Action,
}

#[derive(Debug, Clone)]
pub enum Action {
    Value,
    Length,
    /// `-`, `=`, `?`, `+`, whether an empty value counts as none (`:`), and the word.
    Instead(char, bool, Vec<Part>),
    /// `#` or `%`, whether the longest match is meant, and the pattern.
    Trim(char, bool, Vec<Part>),
}

impl Word {
    /// The word, where it is written without any quotes or expansions.
    pub fn plain(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }
}

/// Writes what `&` stands after, on one line, with here-documents after it.
pub fn and_or(list: &AndOr) -> String {
    let mut text = Text::default();
    text.and_or(list);
    text.finish()
}

/// Writes one command, as [`and_or`] does.
pub fn command(command: &Command) -> String {
    let mut text = Text::default();
    text.command(command);
    text.finish()
}

#[derive(Default)]
struct Text {
    line: String,
    bodies: String,
}

impl Text {
    fn finish(self) -> String {
        format!("{}\n{}", self.line, self.bodies)
    }

    fn put(&mut self, text: impl fmt::Display) {
        self.line += &text.to_string();
    }

    fn list(&mut self, list: &List) {
        for item in &list.0 {
            self.and_or(&item.command);
            self.put(if item.background { " & " } else { "; " });
        }
    }

    fn and_or(&mut self, list: &AndOr) {
        self.pipeline(&list.first);
        for (and, pipeline) in &list.rest {
            self.put(if *and { " && " } else { " || " });
            self.pipeline(pipeline);
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline) {
        if pipeline.negated {
            self.put("! ");
        }
        for (index, command) in pipeline.commands.iter().enumerate() {
            if index > 0 {
                self.put(" | ");
            }
            self.command(command);
        }
    }

    fn words<'a>(&mut self, words: impl IntoIterator<Item = &'a Word>) {
        for word in words {
            self.put(format_args!("{} ", word.raw));
        }
    }

    fn command(&mut self, command: &Command) {
        match &command.kind {
            Kind::Simple { assignments, words } => {
                for (name, value) in assignments {
                    self.put(format_args!("{name}={} ", value.raw));
                }
                self.words(words);
            }
            Kind::Group(list) => self.between("{ ", list, "}"),
            Kind::Subshell(list) => self.between("( ", list, ")"),
            Kind::If { arms, otherwise } => {
                for (index, (condition, body)) in arms.iter().enumerate() {
                    self.between(if index == 0 { "if " } else { "elif " }, condition, "");
                    self.between("then ", body, "");
                }
                if let Some(list) = otherwise {
                    self.between("else ", list, "");
                }
                self.put("fi");
            }
            Kind::Loop { until, condition, body } => {
                self.between(if *until { "until " } else { "while " }, condition, "");
                self.between("do ", body, "done");
            }
            Kind::For { name, words, body } => {
                self.put(format_args!("for {name}"));
                if let Some(words) = words {
                    self.put(" in ");
                    self.words(words);
                }
                self.put("; ");
                self.between("do ", body, "done");
            }
            Kind::Case { word, arms } => {
                self.put(format_args!("case {} in ", word.raw));
                for (patterns, body) in arms {
                    let patterns: Vec<_> = patterns.iter().map(|pattern| pattern.raw.as_str()).collect();
                    self.put(format_args!("({}) ", patterns.join("|")));
                    self.between("", body, ";; ");
                }
                self.put("esac");
            }
            Kind::Function { name, body } => {
                self.put(format_args!("{name}() "));
                self.command(body);
            }
        }
        for redirect in &command.redirects {
            self.redirect(redirect);
        }
    }

    fn between(&mut self, before: &str, list: &List, after: &str) {
        self.put(before);
        self.list(list);
        self.put(after);
    }

    fn redirect(&mut self, redirect: &Redirect) {
        let (mark, word) = match &redirect.kind {
            RedirectKind::Read(word) => ("<", word),
            RedirectKind::Write(word) => (">", word),
            RedirectKind::Clobber(word) => (">|", word),
            RedirectKind::Append(word) => (">>", word),
            RedirectKind::Both(word) => ("<>", word),
            RedirectKind::Duplicate(word) => (">&", word),
            RedirectKind::Here(document) => return self.here(redirect.number, document),
        };
        self.put(format_args!(" {}{mark} {}", redirect.number, word.raw));
    }

    fn here(&mut self, number: u32, document: &HereDocument) {
        // The tabs are gone already, so they are not taken away again.
        self.put(format_args!(" {number}<<{}", document.delimiter));
        let body = document.body.get().map_or("", |(text, _)| text);
        let end = crate::shell::parser::unquoted(&document.delimiter);
        self.bodies += &format!("{body}{end}\n");
    }
}
