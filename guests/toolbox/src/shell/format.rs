//! `printf`, and the escapes that it and `echo` know.

use crate::{Io, Outcome};

/// What escapes mean. `\c` ends the output; which octal numbers there are depends on the command.
pub fn unescape(text: &str, of_echo: bool) -> (Vec<u8>, bool) {
    let mut plain = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        plain.push(match chars.next() {
            Some('a') => 0x07,
            Some('b') => 0x08,
            Some('c') => return (plain, true),
            Some('e') => 0x1b,
            Some('f') => 0x0c,
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('v') => 0x0b,
            Some('\\') => b'\\',
            Some('"') if !of_echo => b'"',
            Some(digit @ '0'..='7') if !of_echo || digit == '0' => {
                let mut value = if of_echo { 0 } else { digit as u32 - '0' as u32 };
                let mut left = if of_echo { 3 } else { 2 };
                while left > 0
                    && let Some(digit) = chars.next_if(|c| ('0'..='7').contains(c))
                {
                    value = value * 8 + (digit as u32 - '0' as u32);
                    left -= 1;
                }
                (value & 0xff) as u8
            }
            Some('x') if !of_echo => {
                let mut value = 0;
                let mut left = 2;
                while left > 0
                    && let Some(digit) = chars.next_if(char::is_ascii_hexdigit)
                {
                    value = value * 16 + digit.to_digit(16).unwrap_or_default();
                    left -= 1;
                }
                value as u8
            }
            Some(other) => {
                plain.push(b'\\');
                plain.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            None => b'\\',
        });
    }
    (plain, false)
}

/// One conversion of a format.
#[derive(Default)]
struct Conversion {
    left: bool,
    zero: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
}

impl Conversion {
    fn padded(&self, text: String, numeric: bool) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        if self.left {
            return text + &" ".repeat(missing);
        }
        if self.zero && numeric && self.precision.is_none() {
            let sign = usize::from(text.starts_with(['-', '+', ' ']));
            let (sign, digits) = text.split_at(sign);
            return format!("{sign}{}{digits}", "0".repeat(missing));
        }
        " ".repeat(missing) + &text
    }

    fn number(&self, kind: char, value: i64) -> String {
        let digits = match kind {
            'o' => format!("{value:o}"),
            'u' => (value as u64).to_string(),
            'x' => format!("{value:x}"),
            'X' => format!("{value:X}"),
            _ => value.unsigned_abs().to_string(),
        };
        let missing = self.precision.unwrap_or(1).saturating_sub(digits.len());
        let digits = "0".repeat(missing) + &digits;
        let prefix = match kind {
            'x' if self.alternate && value != 0 => "0x",
            'X' if self.alternate && value != 0 => "0X",
            'o' if self.alternate => "0",
            'd' | 'i' if value < 0 => "-",
            'd' | 'i' if self.plus => "+",
            'd' | 'i' if self.space => " ",
            _ => "",
        };
        self.padded(format!("{prefix}{digits}"), true)
    }

    fn float(&self, kind: char, value: f64) -> String {
        let precision = self.precision.unwrap_or(6);
        let text = match kind.to_ascii_lowercase() {
            'e' => exponential(value, precision),
            'g' => general(value, precision.max(1)),
            _ => format!("{value:.precision$}"),
        };
        let text = if self.plus && value >= 0.0 {
            format!("+{text}")
        } else {
            text
        };
        let text = if kind.is_ascii_uppercase() {
            text.to_uppercase()
        } else {
            text
        };
        let plain = Self {
            precision: None,
            ..*self
        };
        plain.padded(text, true)
    }
}

fn exponential(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let exponent: i32 = exponent.parse().unwrap_or_default();
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        None => text,
    }
}

/// The shorter of both ways, without zeros at the end.
pub fn general(value: f64, precision: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".into() } else { value.to_string() };
    }
    let scientific = exponential(value, precision - 1);
    let exponent: i32 = scientific
        .split_once('e')
        .and_then(|(_, exponent)| exponent.parse().ok())
        .unwrap_or_default();
    let short = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent < -4 || exponent >= precision as i32 {
        return match scientific.split_once('e') {
            Some((digits, exponent)) => format!("{}e{exponent}", short(digits)),
            None => scientific,
        };
    }
    let after = (precision as i32 - 1 - exponent).max(0) as usize;
    short(&format!("{value:.after$}"))
}

/// `printf FORMAT [ARGUMENT...]`
pub fn printf(io: &mut Io, args: &[String]) -> Outcome {
    let (bytes, wrong) = format_bytes(args)?;
    io.out.write_all(&bytes).map_err(crate::values::said)?;
    match wrong {
        Some(what) => Err(what),
        None => Ok(0),
    }
}

/// What `printf` would write, for other commands.
pub fn format_text(args: &[String]) -> Result<String, String> {
    let (bytes, _) = format_bytes(args)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What is to be written, and what was no number. The format is used again while there are arguments.
fn format_bytes(args: &[String]) -> Result<(Vec<u8>, Option<String>), String> {
    let mut args = args;
    if args.first().is_some_and(|first| first == "--") {
        args = &args[1..];
    }
    let (format, rest) = args.split_first().ok_or("usage: printf format [arg ...]")?;
    let mut printer = Printer {
        values: rest.iter(),
        used: false,
        out: Vec::new(),
        wrong: None,
        ended: false,
    };
    loop {
        printer.used = false;
        printer.once(format)?;
        if printer.ended || !printer.used || printer.values.len() == 0 {
            break;
        }
    }
    Ok((printer.out, printer.wrong))
}

struct Printer<'a> {
    values: std::slice::Iter<'a, String>,
    used: bool,
    out: Vec<u8>,
    /// What was no number.
    wrong: Option<String>,
    ended: bool,
}

impl Printer<'_> {
    fn put(&mut self, text: String) {
        self.out.extend(text.into_bytes());
    }

    fn next(&mut self) -> String {
        self.used = true;
        self.values.next().cloned().unwrap_or_default()
    }

    fn number(&mut self) -> i64 {
        let text = self.next();
        if let Some(quoted) = text.strip_prefix(['\'', '"']) {
            return quoted.chars().next().map_or(0, |c| i64::from(c as u32));
        }
        let trimmed = text.trim();
        match super::arithmetic::parse_number(trimmed) {
            Some(number) => number,
            None if trimmed.is_empty() => 0,
            None => {
                let digits = trimmed
                    .find(|c: char| !c.is_ascii_digit() && c != '-')
                    .unwrap_or(trimmed.len());
                let partly = digits > 0;
                let what = if partly {
                    "not completely converted"
                } else {
                    "expected numeric value"
                };
                self.wrong = Some(format!("{text}: {what}"));
                trimmed[..digits].parse().unwrap_or_default()
            }
        }
    }

    fn once(&mut self, format: &str) -> Result<(), String> {
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            let (text, ended) = unescape(&rest[..at], false);
            self.out.extend(text);
            if ended {
                self.ended = true;
                return Ok(());
            }
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                self.out.push(b'%');
                rest = after;
                continue;
            }
            rest = self.conversion(rest)?;
            if self.ended {
                return Ok(());
            }
        }
        let (text, ended) = unescape(rest, false);
        self.out.extend(text);
        self.ended = ended;
        Ok(())
    }

    fn conversion<'t>(&mut self, text: &'t str) -> Result<&'t str, String> {
        let mut conversion = Conversion::default();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            match c {
                '-' => conversion.left = true,
                '0' => conversion.zero = true,
                '+' => conversion.plus = true,
                ' ' => conversion.space = true,
                '#' => conversion.alternate = true,
                _ => break,
            }
            rest = &rest[1..];
        }
        let width = self.size(&mut rest);
        conversion.left |= width.is_some_and(|width| width < 0);
        conversion.width = width.unwrap_or(0).unsigned_abs() as usize;
        if let Some(after) = rest.strip_prefix('.') {
            rest = after;
            conversion.precision = Some(self.size(&mut rest).unwrap_or(0).max(0) as usize);
        }
        let kind = rest.chars().next().ok_or("missing format character")?;
        match kind {
            'b' => {
                let (bytes, ended) = unescape(&self.next(), true);
                self.ended = ended;
                if conversion.width == 0 && conversion.precision.is_none() {
                    self.out.extend(bytes);
                } else {
                    self.put(conversion.padded(String::from_utf8_lossy(&bytes).into_owned(), false));
                }
            }
            's' => {
                let mut value = self.next();
                if let Some(precision) = conversion.precision {
                    value = value.chars().take(precision).collect();
                }
                self.put(conversion.padded(value, false));
            }
            'c' => {
                let value: String = self.next().chars().take(1).collect();
                self.put(conversion.padded(value, false));
            }
            'd' | 'i' | 'o' | 'u' | 'x' | 'X' => {
                let value = self.number();
                self.put(conversion.number(kind, value));
            }
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                let text = self.next();
                let value = match text.trim() {
                    "" => 0.0,
                    number => number.parse().unwrap_or_else(|_| {
                        self.wrong = Some(format!("{text}: expected numeric value"));
                        0.0
                    }),
                };
                self.put(conversion.float(kind, value));
            }
            other => return Err(format!("%{other}: invalid directive")),
        }
        Ok(&rest[kind.len_utf8()..])
    }

    fn size(&mut self, rest: &mut &str) -> Option<i64> {
        if let Some(after) = rest.strip_prefix('*') {
            *rest = after;
            return Some(self.number());
        }
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number = rest[..end].parse().ok();
        *rest = &rest[end..];
        number
    }
}
