//! The words of an expression.

use crate::ast::Fault;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    Name(String),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Sign(&'static str),
    End,
}

/// The signs, longer ones first.
const SIGNS: [&str; 27] = [
    "&&", "||", "==", "!=", "<=", ">=", "?.", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", "(", ")", "[", "]",
    "{", "}", ",", ".", "=", "`",
];

/// Splits a source into tokens with their places.
pub(crate) fn tokens(source: &str) -> Result<Vec<(usize, Token)>, Fault> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(rest) = source.get(at..).filter(|rest| !rest.is_empty()) {
        let byte = rest.bytes().next().unwrap_or_default();
        if byte.is_ascii_whitespace() {
            at += 1;
        } else if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else {
            let (token, length) = token(rest).map_err(|message| Fault { at, message })?;
            tokens.push((at, token));
            at += length;
        }
    }
    tokens.push((source.len(), Token::End));
    Ok(tokens)
}

fn token(rest: &str) -> Result<(Token, usize), String> {
    let byte = rest.bytes().next().unwrap_or_default();
    if let Some(found) = text(rest)? {
        return Ok(found);
    }
    let dotted = byte == b'.' && rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
    if byte.is_ascii_digit() || dotted {
        return number(rest);
    }
    if byte.is_ascii_alphabetic() || byte == b'_' {
        let length = rest
            .find(|char: char| !char.is_ascii_alphanumeric() && char != '_')
            .unwrap_or(rest.len());
        let name = rest.get(..length).unwrap_or_default();
        return Ok((Token::Name(name.to_owned()), length));
    }
    match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
        // `a ?.b` would be read wrongly: `?.` is only an operator behind a dot in this language.
        Some(&"?.") => Ok((Token::Sign("?"), 1)),
        Some(sign) => Ok((Token::Sign(sign), sign.len())),
        None => {
            let char = rest.chars().next().unwrap_or_default();
            Err(format!("Syntax error: token recognition error at: '{char}'"))
        }
    }
}

fn number(rest: &str) -> Result<(Token, usize), String> {
    let wrong = |text: &str| format!("Syntax error: invalid number: '{text}'");
    if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
        let digits = hex.find(|char: char| !char.is_ascii_hexdigit()).unwrap_or(hex.len());
        let text = hex.get(..digits).unwrap_or_default();
        let unsigned = hex.get(digits..).is_some_and(|rest| rest.starts_with(['u', 'U']));
        let value = u64::from_str_radix(text, 16).map_err(|_| wrong(text))?;
        return match unsigned {
            true => Ok((Token::Uint(value), digits + 3)),
            false => Ok((Token::Int(i64::try_from(value).map_err(|_| wrong(text))?), digits + 2)),
        };
    }
    let bytes = rest.as_bytes();
    let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let mut length = digits(0);
    let mut double = false;
    if bytes.get(length) == Some(&b'.') && digits(length + 1) > 0 {
        double = true;
        length += 1 + digits(length + 1);
    }
    if matches!(bytes.get(length), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
        let exponent = digits(length + 1 + sign);
        if exponent > 0 {
            double = true;
            length += 1 + sign + exponent;
        }
    }
    let text = rest.get(..length).unwrap_or_default();
    if double {
        return Ok((Token::Double(text.parse().map_err(|_| wrong(text))?), length));
    }
    if matches!(bytes.get(length), Some(b'u' | b'U')) {
        return Ok((Token::Uint(text.parse().map_err(|_| wrong(text))?), length + 1));
    }
    // The least integer has no positive twin; the parser puts the sign in front.
    match text.parse::<i64>() {
        Ok(value) => Ok((Token::Int(value), length)),
        Err(_) if text == "9223372036854775808" => Ok((Token::Uint(1 << 63), length)),
        Err(_) => Err(wrong(text)),
    }
}

/// A text or bytes literal, if there is one: quotes, with `r` for raw and `b` for bytes in front.
fn text(rest: &str) -> Result<Option<(Token, usize)>, String> {
    let prefix = rest
        .bytes()
        .take_while(|byte| matches!(byte, b'r' | b'R' | b'b' | b'B'))
        .count();
    let Some(body) = rest
        .get(prefix..)
        .filter(|body| prefix <= 2 && body.starts_with(['"', '\'']))
    else {
        return Ok(None);
    };
    let marks = rest.get(..prefix).unwrap_or_default().to_ascii_lowercase();
    let (raw, bytes) = (marks.contains('r'), marks.contains('b'));
    let quote = body.get(..1).unwrap_or_default();
    let triple = quote.repeat(3);
    let quote = if body.starts_with(&triple) {
        triple.as_str()
    } else {
        quote
    };
    let mut out = Vec::new();
    let mut at = quote.len();
    loop {
        let left = body
            .get(at..)
            .filter(|left| !left.is_empty())
            .ok_or("Syntax error: unterminated string literal")?;
        if left.starts_with(quote) {
            break;
        }
        if left.starts_with('\n') && quote.len() == 1 {
            return Err("Syntax error: unterminated string literal".to_owned());
        }
        if left.starts_with('\\') && !raw {
            at += escape(left, bytes, &mut out)?;
        } else {
            let char = left.chars().next().unwrap_or_default();
            out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            at += char.len_utf8();
        }
    }
    let length = prefix + at + quote.len();
    if bytes {
        return Ok(Some((Token::Bytes(out), length)));
    }
    match String::from_utf8(out) {
        Ok(text) => Ok(Some((Token::Text(text), length))),
        Err(_) => Err("Syntax error: invalid string literal".to_owned()),
    }
}

fn escape(left: &str, bytes: bool, out: &mut Vec<u8>) -> Result<usize, String> {
    let wrong = || "Syntax error: invalid escape sequence".to_owned();
    let kind = left.chars().nth(1).ok_or_else(wrong)?;
    let simple = match kind {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' | '\'' | '"' | '`' | '?' => kind as u8,
        _ => 0,
    };
    if simple != 0 {
        out.push(simple);
        return Ok(2);
    }
    let (digits, radix, skip) = match kind {
        'x' | 'X' => (2, 16, 2),
        'u' => (4, 16, 2),
        'U' => (8, 16, 2),
        '0'..='3' => (3, 8, 1),
        _ => return Err(wrong()),
    };
    let text = left.get(skip..skip + digits).ok_or_else(wrong)?;
    let code = u32::from_str_radix(text, radix).map_err(|_| wrong())?;
    if bytes && digits < 4 {
        out.push(u8::try_from(code).map_err(|_| wrong())?);
    } else {
        let char = char::from_u32(code).ok_or_else(wrong)?;
        out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(skip + digits)
}
