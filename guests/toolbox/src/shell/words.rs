//! The parts of a word: quotes, parameters, substitutions.

use super::parser::{Parsed, Parser, SyntaxError, is_name};
use super::tree::{Action, Parameter, Part, Word};
use std::rc::Rc;

/// Where a text stands, which says what ends it and what quotes mean in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Up to a blank or an operator.
    Word,
    /// Up to `"`.
    Double,
    /// A here-document, to its end.
    Document,
    /// Up to `}`; whether double quotes are around it.
    Brace(bool),
    /// Up to `))`.
    Arithmetic,
}

impl Place {
    /// Whether text means itself here.
    fn quoted(self) -> bool {
        matches!(
            self,
            Self::Double | Self::Document | Self::Brace(true) | Self::Arithmetic
        )
    }
}

impl Parser<'_> {
    pub(super) fn word_parts(&mut self) -> Parsed<Vec<Part>> {
        self.parts(Place::Word)
    }

    /// The parts of a here-document.
    pub(super) fn document_parts(&mut self) -> Parsed<Vec<Part>> {
        self.parts(Place::Document)
    }

    fn parts(&mut self, place: Place) -> Parsed<Vec<Part>> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut depth = 0_u32;
        loop {
            let rest = self.rest();
            let Some(c) = rest.chars().next() else {
                break match place {
                    Place::Word | Place::Document => {}
                    _ => return Err(SyntaxError::Incomplete),
                };
            };
            match (place, c) {
                (Place::Word, ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')') => break,
                (Place::Double, '"') | (Place::Brace(_), '}') => break,
                (Place::Arithmetic, '(') => depth += 1,
                (Place::Arithmetic, ')') if depth > 0 => depth -= 1,
                (Place::Arithmetic, ')') => break,
                (_, '\\') => {
                    self.escape(place, &mut literal, &mut parts)?;
                    continue;
                }
                (Place::Word | Place::Brace(false), '\'') => {
                    let end = rest[1..].find('\'').ok_or(SyntaxError::Incomplete)?;
                    flush(place, &mut literal, &mut parts);
                    parts.push(Part::Quoted(rest[1..=end].to_owned()));
                    self.skip(end + 2);
                    continue;
                }
                (Place::Word | Place::Brace(_), '"') => {
                    flush(place, &mut literal, &mut parts);
                    self.at += 1;
                    parts.push(Part::Double(self.parts(Place::Double)?));
                    self.at += 1;
                    continue;
                }
                (_, '`') => {
                    flush(place, &mut literal, &mut parts);
                    parts.push(self.backquoted(place)?);
                    continue;
                }
                (_, '$') => {
                    if let Some(part) = self.dollar(place)? {
                        flush(place, &mut literal, &mut parts);
                        parts.push(part);
                        continue;
                    }
                }
                _ => {}
            }
            literal.push(c);
            self.skip(c.len_utf8());
        }
        flush(place, &mut literal, &mut parts);
        Ok(parts)
    }

    /// Goes over text, and counts its lines.
    fn skip(&mut self, bytes: usize) {
        let end = self.at + bytes;
        self.line += self.text[self.at..end].matches('\n').count();
        self.at = end;
    }

    fn escape(&mut self, place: Place, literal: &mut String, parts: &mut Vec<Part>) -> Parsed<()> {
        let Some(next) = self.rest()[1..].chars().next() else {
            // At the very end it means itself.
            literal.push('\\');
            self.at += 1;
            return Ok(());
        };
        if next == '\n' {
            self.skip(2);
            return Ok(());
        }
        let escapes = match place {
            Place::Word | Place::Brace(false) => true,
            Place::Double => matches!(next, '$' | '`' | '"' | '\\'),
            Place::Brace(true) => matches!(next, '$' | '`' | '"' | '\\' | '}'),
            Place::Document | Place::Arithmetic => matches!(next, '$' | '`' | '\\'),
        };
        if !escapes {
            literal.push('\\');
            self.at += 1;
            return Ok(());
        }
        flush(place, literal, parts);
        parts.push(Part::Quoted(next.to_string()));
        self.skip(1 + next.len_utf8());
        Ok(())
    }

    /// `` ` ` ``: a script in which some characters are escaped once more.
    fn backquoted(&mut self, place: Place) -> Parsed<Part> {
        let mut script = String::new();
        let line = self.line;
        self.at += 1;
        loop {
            let mut chars = self.rest().chars();
            match chars.next().ok_or(SyntaxError::Incomplete)? {
                '`' => {
                    self.at += 1;
                    break;
                }
                '\\' => {
                    let next = chars.next().ok_or(SyntaxError::Incomplete)?;
                    let inner = matches!(next, '$' | '`' | '\\') || (next == '"' && place == Place::Double);
                    if !inner {
                        script.push('\\');
                    }
                    script.push(next);
                    self.skip(1 + next.len_utf8());
                }
                c => {
                    script.push(c);
                    self.skip(c.len_utf8());
                }
            }
        }
        let list = Parser::from_line(&script, line).whole()?;
        Ok(Part::Command(Rc::new(list)))
    }

    /// What follows `$`; nothing where it means itself.
    fn dollar(&mut self, place: Place) -> Parsed<Option<Part>> {
        let after = &self.rest()[1..];
        if after.starts_with("((") {
            let (at, line) = (self.at, self.line);
            self.at += 3;
            // It may as well be a substitution that begins with a subshell.
            if let Ok(parts) = self.parts(Place::Arithmetic)
                && self.rest().starts_with("))")
            {
                self.at += 2;
                return Ok(Some(Part::Arithmetic(parts)));
            }
            (self.at, self.line) = (at, line);
        }
        if after.starts_with('(') {
            self.at += 2;
            let list = self.inner(|parser| parser.until_closed())?;
            return Ok(Some(Part::Command(Rc::new(list))));
        }
        if after.starts_with('{') {
            self.at += 2;
            return Ok(Some(Part::Parameter(Box::new(self.braced(place.quoted())?))));
        }
        let length = match after.chars().next() {
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!' | '0'..='9') => 1,
            Some(c) if c.is_ascii_alphabetic() || c == '_' => name_length(after),
            _ => return Ok(None),
        };
        let name = after[..length].to_owned();
        self.at += 1 + length;
        let action = Action::Value;
        Ok(Some(Part::Parameter(Box::new(Parameter { name, action }))))
    }

    fn braced(&mut self, quoted: bool) -> Parsed<Parameter> {
        let rest = self.rest();
        let special = rest.starts_with(['@', '*', '#', '?', '-', '$', '!']);
        // `${#x}` is a length, but `${#}` and `${#-x}` are about `$#`.
        if let Some(after) = rest.strip_prefix('#')
            && let length = parameter_length(after)
            && length > 0
            && after[length..].starts_with('}')
        {
            let name = after[..length].to_owned();
            self.at += length + 2;
            let action = Action::Length;
            return Ok(Parameter { name, action });
        }
        let length = if special { 1 } else { parameter_length(rest) };
        if length == 0 {
            return Err(self.bad_substitution());
        }
        let name = rest[..length].to_owned();
        self.at += length;
        let rest = self.rest();
        let colon = rest.starts_with(':');
        let mut chars = rest[usize::from(colon)..].chars();
        let action = match chars.next() {
            Some('}') if !colon => {
                self.at += 1;
                return Ok(Parameter {
                    name,
                    action: Action::Value,
                });
            }
            Some(mark @ ('-' | '=' | '?' | '+')) => {
                self.at += 1 + usize::from(colon);
                Action::Instead(mark, colon, self.parts(Place::Brace(quoted))?)
            }
            Some(mark @ ('#' | '%')) if !colon => {
                let longest = chars.next() == Some(mark);
                self.at += 1 + usize::from(longest);
                // A pattern's quotes count, whatever is around the braces.
                Action::Trim(mark, longest, self.parts(Place::Brace(false))?)
            }
            None => return Err(SyntaxError::Incomplete),
            _ => return Err(self.bad_substitution()),
        };
        self.at += 1;
        Ok(Parameter { name, action })
    }

    fn bad_substitution(&self) -> SyntaxError {
        SyntaxError::Unexpected(self.line, "Bad substitution".into())
    }
}

fn flush(place: Place, literal: &mut String, parts: &mut Vec<Part>) {
    if literal.is_empty() {
        return;
    }
    let text = std::mem::take(literal);
    parts.push(match place.quoted() {
        true => Part::Quoted(text),
        false => Part::Literal(text),
    });
}

fn name_length(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(text.len())
}

/// How long the name at the beginning is: a variable's, digits, or one special sign.
fn parameter_length(text: &str) -> usize {
    match text.chars().next() {
        Some('0'..='9') => text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()),
        Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
        Some(c) if c.is_ascii_alphabetic() || c == '_' => name_length(text),
        _ => 0,
    }
}

/// Takes a word of the form `name=value` apart.
pub fn assignment(word: &Word) -> Option<(String, Word)> {
    let Some(Part::Literal(first)) = word.parts.first() else {
        return None;
    };
    let (name, value) = first.split_once('=')?;
    if !is_name(name) {
        return None;
    }
    let mut parts = word.parts.clone();
    match value.is_empty() {
        true => drop(parts.remove(0)),
        false => parts[0] = Part::Literal(value.to_owned()),
    }
    let raw = word.raw[name.len() + 1..].to_owned();
    Some((name.to_owned(), Word { raw, parts }))
}
