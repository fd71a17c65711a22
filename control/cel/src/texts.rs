//! Functions on texts. Positions are counted in characters.

use regex::{Regex, RegexBuilder};

use crate::budget::Budget;
use crate::eval::EvalError;
use crate::value::Val;

/// The largest compiled form of a pattern, in bytes.
const PATTERN_LIMIT_BYTES: usize = 1 << 20;

type Result<T, E = EvalError> = std::result::Result<T, E>;

/// Calls a function whose target is a text, or the list of texts of a join; `None` when it is none of these.
pub(crate) fn call<'a>(name: &str, values: &[Val<'a>], budget: &mut Budget) -> Option<Result<Val<'a>>> {
    let (target, rest) = values.split_first()?;
    if name == "join" {
        let parts: Option<Vec<String>> = target.items()?.map(|item| item.as_text().map(str::to_owned)).collect();
        let between = match rest {
            [] => "",
            [between] => between.as_text()?,
            _ => return None,
        };
        let parts = parts?;
        let length = parts.iter().map(String::len).sum::<usize>();
        return Some(made(
            length.saturating_add(between.len().saturating_mul(parts.len())),
            budget,
            || parts.join(between),
        ));
    }
    let text = target.as_text()?;
    let arguments: Option<Vec<&str>> = rest.iter().map(Val::as_text).collect();
    match (name, arguments.as_deref(), rest) {
        (_, Some([]), _) => plain(name, text),
        (_, Some([other]), _) => with_text(name, text, other, budget),
        ("replace", Some([from, to]), _) => Some(replace(text, from, to, usize::MAX, budget)),
        ("replace", _, [from, to, Val::Int(times)]) => {
            let times = usize::try_from(*times).unwrap_or(usize::MAX);
            Some(replace(text, from.as_text()?, to.as_text()?, times, budget))
        }
        ("split", _, [by, Val::Int(most)]) => Some(split(text, by.as_text()?, *most, budget)),
        ("charAt", _, [Val::Int(at)]) => Some(char_at(text, *at)),
        ("substring", _, [Val::Int(from)]) => Some(substring(
            text,
            *from,
            i64::try_from(text.chars().count()).unwrap_or(i64::MAX),
        )),
        ("substring", _, [Val::Int(from), Val::Int(to)]) => Some(substring(text, *from, *to)),
        ("indexOf", _, [other, Val::Int(from)]) => Some(Ok(index_of(text, other.as_text()?, *from))),
        ("lastIndexOf", _, [other, Val::Int(from)]) => Some(last_index_of(text, other.as_text()?, *from)),
        ("format", _, [list]) => {
            let values: Vec<Val<'_>> = list.items()?.collect();
            Some(list.pay_whole(budget).and_then(|()| format(text, &values)))
        }
        _ => None,
    }
}

fn plain<'a>(name: &str, text: &str) -> Option<Result<Val<'a>>> {
    Some(Ok(Val::text(match name {
        "lowerAscii" => text.to_ascii_lowercase(),
        "upperAscii" => text.to_ascii_uppercase(),
        "trim" => text.trim().to_owned(),
        "reverse" => text.chars().rev().collect(),
        "strings.quote" => format!("{text:?}"),
        _ => return None,
    })))
}

fn with_text<'a>(name: &str, text: &str, other: &str, budget: &mut Budget) -> Option<Result<Val<'a>>> {
    Some(Ok(match name {
        "contains" => {
            // Searching may look at each place of one text with the whole other one.
            if let Err(error) = budget.pay((text.len() as u64 / 10 + 1).saturating_mul(other.len() as u64 / 10 + 1)) {
                return Some(Err(error));
            }
            Val::Bool(text.contains(other))
        }
        "startsWith" => Val::Bool(text.starts_with(other)),
        "endsWith" => Val::Bool(text.ends_with(other)),
        "split" => return Some(split(text, other, -1, budget)),
        "indexOf" => index_of(text, other, 0),
        "lastIndexOf" => match text.rfind(other) {
            Some(at) => position(text, at),
            None => Val::Int(-1),
        },
        _ => return None,
    }))
}

/// Compiles a pattern.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(pattern).size_limit(PATTERN_LIMIT_BYTES).build();
    built.map_err(|error| format!("error parsing regexp: {error}"))
}

/// `matches`, `find` and `findAll`.
pub(crate) fn search<'a>(
    name: &str,
    text: &str,
    regex: &Regex,
    most: Option<&Val<'a>>,
    budget: &mut Budget,
) -> Option<Result<Val<'a>>> {
    let most = match most {
        None => usize::MAX,
        Some(Val::Int(most)) => usize::try_from(*most).unwrap_or(usize::MAX),
        Some(_) => return None,
    };
    Some(match name {
        "matches" => Ok(Val::Bool(regex.is_match(text))),
        "find" => Ok(Val::text(regex.find(text).map_or("", |found| found.as_str()))),
        _ => {
            let found = regex.find_iter(text).take(most);
            let paid = found.map(|found| budget.pay(1).map(|()| Val::text(found.as_str())));
            paid.collect::<Result<Vec<_>>>().map(|found| Val::List(found.into()))
        }
    })
}

/// A text of a length that is paid for before it is made.
fn made<'a>(length: usize, budget: &mut Budget, make: impl FnOnce() -> String) -> Result<Val<'a>> {
    budget.pay(length as u64 / 10 + 1)?;
    Ok(Val::text(make()))
}

fn replace<'a>(text: &str, from: &str, to: &str, times: usize, budget: &mut Budget) -> Result<Val<'a>> {
    let count = text.matches(from).take(times).count();
    let length = text.len().saturating_add(count.saturating_mul(to.len()));
    made(length, budget, || text.replacen(from, to, times))
}

fn split<'a>(text: &str, by: &str, most: i64, budget: &mut Budget) -> Result<Val<'a>> {
    budget.pay(text.matches(by).count() as u64)?;
    let part = |part: &str| Val::text(part);
    let parts: Vec<Val<'a>> = match (usize::try_from(most), by.is_empty()) {
        (Ok(0), _) => Vec::new(),
        (Ok(most), false) => text.splitn(most, by).map(part).collect(),
        (Err(_), false) => text.split(by).map(part).collect(),
        (Err(_), true) => text.chars().map(|char| part(char.encode_utf8(&mut [0; 4]))).collect(),
        (Ok(most), true) => {
            let cut = text.char_indices().nth(most - 1).map_or(text.len(), |(at, _)| at);
            let (front, back) = text.split_at_checked(cut).unwrap_or((text, ""));
            let chars = front.chars().map(|char| part(char.encode_utf8(&mut [0; 4])));
            chars.chain((!back.is_empty()).then(|| part(back))).collect()
        }
    };
    Ok(Val::List(parts.into()))
}

fn position<'a>(text: &str, at: usize) -> Val<'a> {
    let before = text.get(..at).unwrap_or_default().chars().count();
    Val::Int(i64::try_from(before).unwrap_or(i64::MAX))
}

fn index_of<'a>(text: &str, other: &str, from: i64) -> Val<'a> {
    let start = usize::try_from(from)
        .ok()
        .and_then(|from| text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(from));
    match start.and_then(|start| Some(start + text.get(start..)?.find(other)?)) {
        Some(at) => position(text, at),
        None => Val::Int(-1),
    }
}

/// The last place at which another text begins, no later than `from`.
fn last_index_of<'a>(text: &str, other: &str, from: i64) -> Result<Val<'a>> {
    let places = || text.char_indices().map(|(at, _)| at).chain([text.len()]);
    let start = usize::try_from(from).ok().and_then(|from| places().nth(from));
    let Some(start) = start else {
        return Err(EvalError::Wrong(format!("index out of range: {from}")));
    };
    let end = start.saturating_add(other.len()).min(text.len());
    let end = (end..=text.len())
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(text.len());
    let found = text
        .get(..end)
        .and_then(|before| before.rfind(other))
        .filter(|at| *at <= start);
    Ok(found.map_or(Val::Int(-1), |at| position(text, at)))
}

fn char_at<'a>(text: &str, at: i64) -> Result<Val<'a>> {
    let length = text.chars().count();
    match usize::try_from(at) {
        Ok(at) if at == length => Ok(Val::text("")),
        Ok(index) if index < length => Ok(Val::text(text.chars().nth(index).map(String::from).unwrap_or_default())),
        _ => Err(EvalError::Wrong(format!("index out of range: {at}"))),
    }
}

fn substring<'a>(text: &str, from: i64, to: i64) -> Result<Val<'a>> {
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if from < 0 || to > length || from > to {
        return Err(EvalError::Wrong(format!(
            "invalid substring range. start: {from}, end: {to}"
        )));
    }
    let (from, count) = (
        usize::try_from(from).unwrap_or_default(),
        usize::try_from(to - from).unwrap_or_default(),
    );
    Ok(Val::text(text.chars().skip(from).take(count).collect::<String>()))
}

/// `'%s is %d'.format([...])`.
fn format<'a>(text: &str, values: &[Val<'_>]) -> Result<Val<'a>> {
    let wrong = |words: String| EvalError::Wrong(words);
    let mut out = String::new();
    let mut values = values.iter();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '%' {
            out.push(char);
            continue;
        }
        let mut precision = None;
        let mut verb = chars.next();
        if verb == Some('.') {
            let mut digits = String::new();
            verb = chars.find(|char| {
                let digit = char.is_ascii_digit();
                if digit {
                    digits.push(*char);
                }
                !digit
            });
            precision = digits.parse::<usize>().ok().map(|digits| digits.min(64));
        }
        if verb == Some('%') {
            out.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| wrong("index out of range".to_owned()))?;
        out.push_str(&formatted(verb, precision, value)?);
    }
    Ok(Val::text(out))
}

fn formatted(verb: Option<char>, precision: Option<usize>, value: &Val<'_>) -> Result<String> {
    let wrong = |words: &str| {
        EvalError::Wrong(format!(
            "error during formatting: {words}, was given {}",
            value.type_name()
        ))
    };
    let number = match value {
        Val::Int(number) => Some(i128::from(*number)),
        Val::Uint(number) => Some(i128::from(*number)),
        _ => None,
    };
    let double = match value {
        Val::Double(number) => Some(*number),
        _ => number.map(|number| number as f64),
    };
    match verb {
        Some('s') => Ok(value.to_string()),
        Some('d') => number
            .map(|number| number.to_string())
            .or_else(|| matches!(value, Val::Double(_)).then(|| value.to_string()))
            .ok_or_else(|| wrong("integer clause can only be used on integers")),
        Some('f') => double
            .map(|double| format!("{double:.*}", precision.unwrap_or(6)))
            .ok_or_else(|| wrong("fixed-point clause can only be used on doubles")),
        Some('e') => double
            .map(|double| format!("{double:.*e}", precision.unwrap_or(6)))
            .ok_or_else(|| wrong("scientific clause can only be used on doubles")),
        Some('b') => match value {
            Val::Bool(truth) => Ok(u8::from(*truth).to_string()),
            _ => number
                .map(|number| format!("{number:b}"))
                .ok_or_else(|| wrong("only integers and bools can be formatted as binary")),
        },
        Some('o') => number
            .map(|number| format!("{number:o}"))
            .ok_or_else(|| wrong("octal clause can only be used on integers")),
        Some(verb @ ('x' | 'X')) => {
            let made = match (number, value) {
                (Some(number), _) => format!("{number:x}"),
                (None, Val::Bytes(bytes)) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                (None, value) => value
                    .as_text()
                    .ok_or_else(|| wrong("hex clause can only be used on integers, byte buffers, and strings"))?
                    .bytes()
                    .map(|byte| format!("{byte:02x}"))
                    .collect(),
            };
            Ok(if verb == 'X' { made.to_uppercase() } else { made })
        }
        other => Err(EvalError::Wrong(format!(
            "could not parse formatting clause: unrecognized formatting clause \"{}\"",
            other.map(String::from).unwrap_or_default()
        ))),
    }
}
