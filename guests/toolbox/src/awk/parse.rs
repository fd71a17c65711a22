//! From the text of an awk program to its tree.

use super::tokens::{Token, tokens};
use crate::expressions::{Kind, regex};
use regex_lite::Regex;
use std::collections::BTreeMap;
use std::rc::Rc;

#[derive(Debug)]
pub enum Expr {
    Number(f64),
    Text(Rc<str>),
    Pattern(Regex),
    Variable(String),
    Element(String, Vec<Expr>),
    Field(Box<Expr>),
    Assign(&'static str, Box<Expr>, Box<Expr>),
    If(Box<Expr>, Box<Expr>, Box<Expr>),
    Binary(&'static str, Box<Expr>, Box<Expr>),
    Unary(char, Box<Expr>),
    /// Whether before, and by how much.
    Step(bool, f64, Box<Expr>),
    In(Vec<Expr>, String),
    Call(String, Vec<Expr>),
    /// A target, and the file or program that is read.
    Getline(Option<Box<Expr>>, Option<(bool, Box<Expr>)>),
    Group(Vec<Expr>),
}

#[derive(Debug)]
pub enum Action {
    Do(Expr),
    Print(Vec<Expr>, Option<(&'static str, Expr)>),
    Printf(Vec<Expr>, Option<(&'static str, Expr)>),
    If(Expr, Box<Action>, Option<Box<Action>>),
    While(Expr, Box<Action>),
    Until(Box<Action>, Expr),
    For(Option<Box<Action>>, Option<Expr>, Option<Box<Action>>, Box<Action>),
    Each(String, String, Box<Action>),
    Block(Vec<Action>),
    Delete(String, Option<Vec<Expr>>),
    Next,
    Break,
    Continue,
    Exit(Option<Expr>),
    Return(Option<Expr>),
}

#[derive(Debug)]
pub enum When {
    Begin,
    End,
    Always,
    If(Expr),
    Range(Expr, Expr),
}

#[derive(Debug, Default)]
pub struct Program {
    pub rules: Vec<(When, Option<Action>)>,
    pub functions: BTreeMap<String, Rc<(Vec<String>, Action)>>,
}

pub fn parse(text: &str) -> Result<Program, String> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        no_in: false,
        no_greater: false,
    };
    let mut program = Program::default();
    loop {
        parser.skip_ends();
        if *parser.peek() == Token::End {
            return Ok(program);
        }
        parser.item(&mut program)?;
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    /// `in` is not an operator here: the head of `for`.
    no_in: bool,
    /// `>` is a redirection here.
    no_greater: bool,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn accept(&mut self, mark: &str) -> bool {
        let found = matches!(self.peek(), Token::Mark(next) if *next == mark);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Name(name) | Token::Call(name) if name == word);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, mark: &str) -> Result<(), String> {
        match self.accept(mark) {
            true => Ok(()),
            false => Err(format!("syntax error: '{mark}' expected, not {:?}", self.peek())),
        }
    }

    fn skip_lines(&mut self) {
        while *self.peek() == Token::Line {
            self.at += 1;
        }
    }

    fn skip_ends(&mut self) {
        while matches!(self.peek(), Token::Line | Token::Mark(";")) {
            self.at += 1;
        }
    }

    fn name(&mut self) -> Result<String, String> {
        match self.next() {
            Token::Name(name) | Token::Call(name) => Ok(name),
            other => Err(format!("syntax error: a name expected, not {other:?}")),
        }
    }

    fn item(&mut self, program: &mut Program) -> Result<(), String> {
        if self.word("function") || self.word("func") {
            let name = self.name()?;
            self.expect("(")?;
            let mut parameters = Vec::new();
            while !self.accept(")") {
                parameters.push(self.name()?);
                self.accept(",");
                self.skip_lines();
            }
            self.skip_lines();
            let body = self.block()?;
            program.functions.insert(name, Rc::new((parameters, body)));
            return Ok(());
        }
        let when = if self.word("BEGIN") {
            When::Begin
        } else if self.word("END") {
            When::End
        } else if matches!(self.peek(), Token::Mark("{")) {
            When::Always
        } else {
            let first = self.expr()?;
            match self.accept(",") {
                true => {
                    self.skip_lines();
                    When::Range(first, self.expr()?)
                }
                false => When::If(first),
            }
        };
        let action = match self.peek() {
            Token::Mark("{") => Some(self.block()?),
            _ => None,
        };
        program.rules.push((when, action));
        Ok(())
    }

    fn block(&mut self) -> Result<Action, String> {
        self.expect("{")?;
        let mut all = Vec::new();
        loop {
            self.skip_ends();
            if self.accept("}") {
                return Ok(Action::Block(all));
            }
            all.push(self.action()?);
        }
    }

    /// An action that another belongs to.
    fn inner(&mut self) -> Result<Box<Action>, String> {
        self.skip_lines();
        if self.accept(";") {
            return Ok(Box::new(Action::Block(Vec::new())));
        }
        self.action().map(Box::new)
    }

    fn action(&mut self) -> Result<Action, String> {
        if matches!(self.peek(), Token::Mark("{")) {
            return self.block();
        }
        if self.word("if") {
            self.expect("(")?;
            let condition = self.expr()?;
            self.expect(")")?;
            let then = self.inner()?;
            let at = self.at;
            self.skip_ends();
            if self.word("else") {
                return Ok(Action::If(condition, then, Some(self.inner()?)));
            }
            self.at = at;
            return Ok(Action::If(condition, then, None));
        }
        if self.word("while") {
            self.expect("(")?;
            let condition = self.expr()?;
            self.expect(")")?;
            return Ok(Action::While(condition, self.inner()?));
        }
        if self.word("do") {
            let body = self.inner()?;
            self.skip_ends();
            if !self.word("while") {
                return Err("syntax error: while expected".into());
            }
            self.expect("(")?;
            let condition = self.expr()?;
            self.expect(")")?;
            return Ok(Action::Until(body, condition));
        }
        if self.word("for") {
            return self.for_loop();
        }
        let action = self.simple()?;
        match self.peek() {
            Token::Mark(";" | "}") | Token::Line | Token::End => {}
            other => return Err(format!("syntax error at {other:?}")),
        }
        self.accept(";");
        Ok(action)
    }

    fn for_loop(&mut self) -> Result<Action, String> {
        self.expect("(")?;
        if let (Token::Name(name), Some(Token::Name(word)), Some(Token::Name(array)), Some(Token::Mark(")"))) = (
            self.peek().clone(),
            self.tokens.get(self.at + 1),
            self.tokens.get(self.at + 2).cloned(),
            self.tokens.get(self.at + 3),
        ) && word == "in"
        {
            self.at += 4;
            return Ok(Action::Each(name, array, self.inner()?));
        }
        let first = match self.peek() {
            Token::Mark(";") => None,
            _ => Some(Box::new(self.simple()?)),
        };
        self.expect(";")?;
        self.skip_lines();
        let condition = match self.peek() {
            Token::Mark(";") => None,
            _ => Some(self.expr()?),
        };
        self.expect(";")?;
        self.skip_lines();
        let step = match self.peek() {
            Token::Mark(")") => None,
            _ => Some(Box::new(self.simple()?)),
        };
        self.expect(")")?;
        Ok(Action::For(first, condition, step, self.inner()?))
    }

    fn ends(&self) -> bool {
        matches!(
            self.peek(),
            Token::Mark(";" | "}" | ">" | ">>" | "|" | ")") | Token::Line | Token::End
        )
    }

    fn simple(&mut self) -> Result<Action, String> {
        for print in ["print", "printf"] {
            if self.word(print) {
                let before = std::mem::replace(&mut self.no_greater, true);
                let mut values = if self.ends() { Vec::new() } else { self.list()? };
                self.no_greater = before;
                if let [Expr::Group(_)] = values.as_slice()
                    && let Some(Expr::Group(inner)) = values.pop()
                {
                    values = inner;
                }
                let mut to = None;
                for mark in [">>", ">", "|"] {
                    if self.accept(mark) {
                        to = Some((mark, self.concatenation()?));
                        break;
                    }
                }
                return Ok(match print {
                    "print" => Action::Print(values, to),
                    _ => Action::Printf(values, to),
                });
            }
        }
        if self.word("delete") {
            let name = self.name()?;
            let index = match self.accept("[") {
                true => {
                    let index = self.list()?;
                    self.expect("]")?;
                    Some(index)
                }
                false => None,
            };
            return Ok(Action::Delete(name, index));
        }
        for (word, action) in [
            ("next", Action::Next),
            ("break", Action::Break),
            ("continue", Action::Continue),
        ] {
            if self.word(word) {
                return Ok(action);
            }
        }
        if self.word("exit") {
            let code = if self.ends() { None } else { Some(self.expr()?) };
            return Ok(Action::Exit(code));
        }
        if self.word("return") {
            let value = if self.ends() { None } else { Some(self.expr()?) };
            return Ok(Action::Return(value));
        }
        Ok(Action::Do(self.expr()?))
    }

    fn list(&mut self) -> Result<Vec<Expr>, String> {
        let mut all = vec![self.expr()?];
        while self.accept(",") {
            self.skip_lines();
            all.push(self.expr()?);
        }
        Ok(all)
    }

    fn expr(&mut self) -> Result<Expr, String> {
        let left = self.ternary()?;
        if matches!(left, Expr::Variable(_) | Expr::Element(..) | Expr::Field(_)) {
            for mark in ["=", "+=", "-=", "*=", "/=", "%=", "^=", "**="] {
                if self.accept(mark) {
                    self.skip_lines();
                    return Ok(Expr::Assign(mark, Box::new(left), Box::new(self.expr()?)));
                }
            }
        }
        Ok(left)
    }

    fn ternary(&mut self) -> Result<Expr, String> {
        let condition = self.logic(0)?;
        if !self.accept("?") {
            return Ok(condition);
        }
        self.skip_lines();
        let yes = self.expr()?;
        self.skip_lines();
        self.expect(":")?;
        self.skip_lines();
        Ok(Expr::If(Box::new(condition), Box::new(yes), Box::new(self.expr()?)))
    }

    fn logic(&mut self, level: usize) -> Result<Expr, String> {
        let Some(mark) = ["||", "&&"].get(level) else {
            return self.membership();
        };
        let mut left = self.logic(level + 1)?;
        while self.accept(mark) {
            self.skip_lines();
            left = Expr::Binary(mark, Box::new(left), Box::new(self.logic(level + 1)?));
        }
        Ok(left)
    }

    fn membership(&mut self) -> Result<Expr, String> {
        let mut left = self.matching()?;
        while !self.no_in && self.word("in") {
            let keys = match left {
                Expr::Group(keys) => keys,
                other => vec![other],
            };
            left = Expr::In(keys, self.name()?);
        }
        Ok(left)
    }

    fn matching(&mut self) -> Result<Expr, String> {
        let mut left = self.comparison()?;
        loop {
            let mark = match self.peek() {
                Token::Mark(mark @ ("~" | "!~")) => *mark,
                _ => return Ok(left),
            };
            self.at += 1;
            left = Expr::Binary(mark, Box::new(left), Box::new(self.comparison()?));
        }
    }

    fn comparison(&mut self) -> Result<Expr, String> {
        let left = self.concatenation()?;
        let mark = match self.peek() {
            Token::Mark(mark @ ("<" | "<=" | "==" | "!=" | ">=")) => *mark,
            Token::Mark(mark @ ">") if !self.no_greater => *mark,
            Token::Mark("|") if matches!(self.tokens.get(self.at + 1), Some(Token::Name(name)) if name == "getline") => {
                self.at += 2;
                let target = self.target()?;
                return Ok(Expr::Getline(target, Some((true, Box::new(left)))));
            }
            _ => return Ok(left),
        };
        self.at += 1;
        Ok(Expr::Binary(mark, Box::new(left), Box::new(self.concatenation()?)))
    }

    fn target(&mut self) -> Result<Option<Box<Expr>>, String> {
        Ok(match self.peek() {
            Token::Name(name) if name != "in" => Some(Box::new(self.primary()?)),
            Token::Mark("$") => Some(Box::new(self.primary()?)),
            _ => None,
        })
    }

    fn concatenation(&mut self) -> Result<Expr, String> {
        let mut left = self.sum()?;
        loop {
            let more = match self.peek() {
                Token::Number(_) | Token::Text(_) | Token::Call(_) => true,
                Token::Name(name) => !matches!(name.as_str(), "in" | "getline"),
                Token::Mark(mark) => {
                    matches!(*mark, "$" | "(" | "-" | "+" | "!" | "++" | "--") && !matches!(*mark, "+" | "-")
                }
                _ => false,
            };
            if !more {
                return Ok(left);
            }
            left = Expr::Binary(" ", Box::new(left), Box::new(self.sum()?));
        }
    }

    fn sum(&mut self) -> Result<Expr, String> {
        let mut left = self.product()?;
        loop {
            let mark = match self.peek() {
                Token::Mark(mark @ ("+" | "-")) => *mark,
                _ => return Ok(left),
            };
            self.at += 1;
            left = Expr::Binary(mark, Box::new(left), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Result<Expr, String> {
        let mut left = self.unary()?;
        loop {
            let mark = match self.peek() {
                Token::Mark(mark @ ("*" | "/" | "%")) => *mark,
                _ => return Ok(left),
            };
            self.at += 1;
            left = Expr::Binary(mark, Box::new(left), Box::new(self.unary()?));
        }
    }

    fn unary(&mut self) -> Result<Expr, String> {
        for (mark, sign) in [("!", '!'), ("-", '-'), ("+", '+')] {
            if self.accept(mark) {
                return Ok(Expr::Unary(sign, Box::new(self.unary()?)));
            }
        }
        let base = self.stepped()?;
        if self.accept("^") || self.accept("**") {
            return Ok(Expr::Binary("^", Box::new(base), Box::new(self.unary()?)));
        }
        Ok(base)
    }

    fn stepped(&mut self) -> Result<Expr, String> {
        for (mark, by) in [("++", 1.0), ("--", -1.0)] {
            if self.accept(mark) {
                return Ok(Expr::Step(true, by, Box::new(self.primary()?)));
            }
        }
        let place = self.primary()?;
        if matches!(place, Expr::Variable(_) | Expr::Element(..) | Expr::Field(_)) {
            for (mark, by) in [("++", 1.0), ("--", -1.0)] {
                if self.accept(mark) {
                    return Ok(Expr::Step(false, by, Box::new(place)));
                }
            }
        }
        Ok(place)
    }

    fn primary(&mut self) -> Result<Expr, String> {
        Ok(match self.next() {
            Token::Number(number) => Expr::Number(number),
            Token::Text(text) => Expr::Text(text.into()),
            Token::Pattern(text) => Expr::Pattern(regex(&text, Kind::Extended, false)?),
            Token::Mark("$") => {
                let inner = match self.peek() {
                    Token::Mark("++" | "--" | "-") => self.unary()?,
                    _ => self.primary()?,
                };
                Expr::Field(Box::new(inner))
            }
            Token::Mark("(") => {
                let before = (std::mem::take(&mut self.no_in), std::mem::take(&mut self.no_greater));
                self.skip_lines();
                let list = self.list()?;
                self.skip_lines();
                self.expect(")")?;
                (self.no_in, self.no_greater) = before;
                Expr::Group(list)
            }
            Token::Name(name) if name == "getline" => {
                let target = self.target()?;
                let file = match self.accept("<") {
                    true => Some((false, Box::new(self.primary()?))),
                    false => None,
                };
                Expr::Getline(target, file)
            }
            Token::Name(name) if name == "length" => Expr::Call(name, Vec::new()),
            Token::Name(name) => match self.accept("[") {
                true => {
                    let index = self.list()?;
                    self.expect("]")?;
                    Expr::Element(name, index)
                }
                false => Expr::Variable(name),
            },
            Token::Call(name) => {
                self.expect("(")?;
                let before = (std::mem::take(&mut self.no_in), std::mem::take(&mut self.no_greater));
                self.skip_lines();
                let values = match self.accept(")") {
                    true => Vec::new(),
                    false => {
                        let values = self.list()?;
                        self.skip_lines();
                        self.expect(")")?;
                        values
                    }
                };
                (self.no_in, self.no_greater) = before;
                Expr::Call(name, values)
            }
            other => return Err(format!("syntax error at {other:?}")),
        })
    }
}
