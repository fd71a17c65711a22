//! Regular expressions as POSIX writes them, for an engine that reads the extended kind.

use regex_lite::{Regex, RegexBuilder};

/// Compiles an expression: extended, basic, or a text that means itself.
pub fn regex(pattern: &str, kind: Kind, ignore_case: bool) -> Result<Regex, String> {
    let pattern = match kind {
        Kind::Fixed => regex_lite::escape(pattern),
        Kind::Extended => classes(pattern),
        Kind::Basic => extended(pattern),
    };
    RegexBuilder::new(&pattern)
        .case_insensitive(ignore_case)
        .build()
        .map_err(|error| format!("bad regex '{pattern}': {error}"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Basic,
    Extended,
    Fixed,
}

/// The signs `\<` and `\>` that GNU has, and brackets.
fn classes(pattern: &str) -> String {
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('<' | '>') => out += "\\b",
                Some(other) => escape(other, &mut out),
                None => out += "\\\\",
            },
            '[' => bracket(&mut chars, &mut out),
            c => out.push(c),
        }
    }
    out
}

fn escape(c: char, out: &mut String) {
    match c {
        // Letters that the engine knows too, and signs that it lets be escaped.
        'w' | 'W' | 's' | 'S' | 'b' | 'B' | 'd' | 'D' | 'n' | 't' | 'r' => out.extend(['\\', c]),
        c if c.is_alphanumeric() => out.push(c),
        c => *out += &regex_lite::escape(c.encode_utf8(&mut [0; 4])),
    }
}

/// Basic expressions have their signs the other way round: `\(` groups and `(` is a sign.
fn extended(pattern: &str) -> String {
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    // Where `*` and `^` mean themselves or the beginning.
    let mut begin = true;
    while let Some(c) = chars.next() {
        let was_begin = std::mem::replace(&mut begin, false);
        match c {
            '\\' => match chars.next() {
                Some(sign @ ('(' | '|')) => {
                    out.push(sign);
                    begin = true;
                }
                Some(sign @ (')' | '{' | '}' | '+' | '?')) => out.push(sign),
                Some('<' | '>') => out += "\\b",
                Some(other) => escape(other, &mut out),
                None => out += "\\\\",
            },
            '[' => bracket(&mut chars, &mut out),
            '(' | ')' | '{' | '}' | '+' | '?' | '|' => out.extend(['\\', c]),
            '*' if was_begin => out += "\\*",
            '^' if was_begin => {
                out.push('^');
                begin = true;
            }
            '^' => out += "\\^",
            '$' => {
                let rest: String = chars.clone().take(2).collect();
                let at_end = rest.is_empty() || rest == "\\)" || rest == "\\|";
                out += if at_end { "$" } else { "\\$" };
            }
            c => out.push(c),
        }
    }
    out
}

/// What stands in brackets, after the first of them: a backslash is a sign there.
fn bracket(chars: &mut std::iter::Peekable<std::str::Chars>, out: &mut String) {
    out.push('[');
    if chars.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    let mut first = true;
    while let Some(c) = chars.next() {
        match c {
            ']' if !first => {
                out.push(']');
                return;
            }
            '[' if chars.peek() == Some(&':') => {
                out.push('[');
                for c in chars.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            '\\' => match chars.peek() {
                // As awk and most programs of today have it.
                Some('n' | 't' | 'r' | '\\' | ']' | '/' | '-' | '.') => {
                    let next = chars.next().unwrap_or('\\');
                    match next {
                        'n' | 't' | 'r' | '\\' | ']' | '-' => out.extend(['\\', next]),
                        other => out.push(other),
                    }
                }
                _ => *out += "\\\\",
            },
            ']' | '[' | '&' | '~' => out.extend(['\\', c]),
            c => out.push(c),
        }
        first = false;
    }
}
