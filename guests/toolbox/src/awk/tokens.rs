//! The tokens of an awk program.

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Number(f64),
    Text(String),
    Pattern(String),
    Name(String),
    /// A name with `(` right after it: a call.
    Call(String),
    Mark(&'static str),
    Line,
    End,
}

const MARKS: [&str; 44] = [
    "**=", "&&", "||", "==", "!=", "<=", ">=", ">>", "++", "--", "+=", "-=", "*=", "/=", "%=", "^=", "**", "!~", "{",
    "}", "(", ")", "[", "]", ";", ",", "+", "-", "*", "/", "%", "^", "!", "<", ">", "|", "?", ":", "~", "$", "=", "&",
    "\"", "@",
];

pub fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut all: Vec<Token> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r']);
        if let Some(after) = rest.strip_prefix("\\\n") {
            rest = after;
            continue;
        }
        let Some(c) = rest.chars().next() else {
            all.push(Token::End);
            return Ok(all);
        };
        // A slash divides after a value, and begins a pattern elsewhere.
        let after_value = match all.last() {
            Some(Token::Number(_) | Token::Text(_) | Token::Mark(")" | "]" | "$" | "++" | "--")) => true,
            Some(Token::Name(name)) => !matches!(name.as_str(), "print" | "printf" | "return" | "in" | "case"),
            _ => false,
        };
        match c {
            '\n' => {
                all.push(Token::Line);
                rest = &rest[1..];
            }
            '#' => rest = &rest[rest.find('\n').unwrap_or(rest.len())..],
            '"' => {
                let (text, length) = quoted(&rest[1..], '"')?;
                all.push(Token::Text(text));
                rest = &rest[length + 1..];
            }
            '/' if !after_value => {
                let (text, length) = quoted(&rest[1..], '/')?;
                all.push(Token::Pattern(text));
                rest = &rest[length + 1..];
            }
            '0'..='9' | '.' if c != '.' || rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let length = number_length(rest);
                all.push(Token::Number(rest[..length].parse().unwrap_or_default()));
                rest = &rest[length..];
            }
            c if c.is_ascii_alphabetic() || c == '_' => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
                all.push(match after.starts_with('(') {
                    true => Token::Call(name.to_owned()),
                    false => Token::Name(name.to_owned()),
                });
                rest = after;
            }
            c => {
                let mark = MARKS.iter().find(|mark| rest.starts_with(**mark));
                let mark = mark.ok_or_else(|| format!("unexpected '{c}'"))?;
                all.push(Token::Mark(mark));
                rest = &rest[mark.len()..];
            }
        }
    }
}

/// How long the number at the beginning is.
pub fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    end
}

/// The text up to a delimiter, and its length with it. In a pattern escapes stay for the engine.
fn quoted(text: &str, end: char) -> Result<(String, usize), String> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == end => return Ok((out, at + 1)),
            '\n' => break,
            '\\' => match chars.next() {
                Some((_, '/')) => out.push('/'),
                Some((_, next)) if end == '/' => out.extend(['\\', next]),
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, 'r')) => out.push('\r'),
                Some((_, next @ ('"' | '\\'))) => out.push(next),
                Some((_, next)) => out.extend(['\\', next]),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err("a text has no end".into())
}
