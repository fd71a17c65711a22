//! `test` and `[`.

use crate::files;
use crate::{Io, Outcome};

/// Whether an expression holds: 0 or 1.
pub fn test(_: &mut Io, args: &[String]) -> Outcome {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    holds(&words).map(|holds| i32::from(!holds))
}

/// With up to four words their number says what is meant; with more there is a grammar.
fn holds(words: &[&str]) -> Result<bool, String> {
    match words {
        [] => Ok(false),
        [one] => Ok(!one.is_empty()),
        ["!", one] => Ok(one.is_empty()),
        [operator, operand] if is_unary(operator) => unary(operator, operand),
        [left, operator, right] if is_binary(operator) => binary(left, operator, right),
        ["!", rest @ ..] if words.len() <= 4 => Ok(!holds(rest)?),
        ["(", one, ")"] => holds(&[one]),
        _ => {
            let mut grammar = Grammar { words, at: 0 };
            let holds = grammar.or()?;
            match grammar.peek() {
                None => Ok(holds),
                Some(word) => Err(format!("{word}: unexpected operator")),
            }
        }
    }
}

struct Grammar<'a> {
    words: &'a [&'a str],
    at: usize,
}

impl<'a> Grammar<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn accept(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        self.at += usize::from(found);
        found
    }

    fn or(&mut self) -> Result<bool, String> {
        let mut holds = self.and()?;
        while self.accept("-o") {
            holds |= self.and()?;
        }
        Ok(holds)
    }

    fn and(&mut self) -> Result<bool, String> {
        let mut holds = self.not()?;
        while self.accept("-a") {
            holds &= self.not()?;
        }
        Ok(holds)
    }

    fn not(&mut self) -> Result<bool, String> {
        if self.accept("!") {
            return Ok(!self.not()?);
        }
        if self.accept("(") {
            let holds = self.or()?;
            return match self.accept(")") {
                true => Ok(holds),
                false => Err("closing paren expected".into()),
            };
        }
        let rest = &self.words[self.at..];
        match rest {
            [left, operator, right, ..] if is_binary(operator) => {
                self.at += 3;
                binary(left, operator, right)
            }
            [operator, operand, ..] if is_unary(operator) => {
                self.at += 2;
                unary(operator, operand)
            }
            [one, ..] => {
                self.at += 1;
                Ok(!one.is_empty())
            }
            [] => Err("argument expected".into()),
        }
    }
}

fn is_unary(word: &str) -> bool {
    matches!(word.as_bytes(), [b'-', letter] if b"bcdefghkLnprsStuwxz".contains(letter))
}

fn is_binary(word: &str) -> bool {
    matches!(
        word,
        "=" | "==" | "!=" | "<" | ">" | "-eq" | "-ne" | "-lt" | "-le" | "-gt" | "-ge" | "-nt" | "-ot" | "-ef"
    )
}

fn unary(operator: &str, operand: &str) -> Result<bool, String> {
    let path = files::path(operand);
    let found = std::fs::metadata(&path).ok();
    Ok(match operator {
        "-n" => !operand.is_empty(),
        "-z" => operand.is_empty(),
        "-e" | "-r" | "-w" | "-x" => files::exists(&path),
        "-f" => found.is_some_and(|found| found.is_file()),
        "-d" => files::is_directory(&path),
        "-s" => found.is_some_and(|found| found.len() > 0),
        "-h" | "-L" => std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink()),
        "-t" => {
            let number = operand.parse().map_err(|_| format!("Illegal number: {operand}"))?;
            crate::sys::End::inherited(number).is_some_and(|end| end.is_terminal())
        }
        // Nothing of that kind exists here.
        _ => false,
    })
}

fn binary(left: &str, operator: &str, right: &str) -> Result<bool, String> {
    let number = |text: &str| {
        let trimmed = text.trim();
        trimmed.parse::<i64>().map_err(|_| format!("Illegal number: {text}"))
    };
    let age = |path: &str| {
        std::fs::metadata(files::path(path))
            .and_then(|found| found.modified())
            .ok()
    };
    Ok(match operator {
        "=" | "==" => left == right,
        "!=" => left != right,
        "<" => left < right,
        ">" => left > right,
        "-eq" => number(left)? == number(right)?,
        "-ne" => number(left)? != number(right)?,
        "-lt" => number(left)? < number(right)?,
        "-le" => number(left)? <= number(right)?,
        "-gt" => number(left)? > number(right)?,
        "-ge" => number(left)? >= number(right)?,
        "-nt" => age(left) > age(right),
        "-ot" => age(left) < age(right),
        _ => files::path(left) == files::path(right),
    })
}
