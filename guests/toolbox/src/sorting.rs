//! `sort`.

use crate::files;
use crate::text::all_lines;
use crate::values::said;
use crate::{Io, Outcome};
use std::cmp::Ordering;
use std::io::Write;

/// One `-k`: fields from 1, the last one included.
struct Key {
    from: usize,
    to: usize,
    flags: String,
}

#[derive(Default)]
struct Sorting {
    flags: String,
    separator: Option<char>,
    keys: Vec<Key>,
    output: Option<String>,
}

impl Sorting {
    fn key<'a>(&self, line: &'a str, key: &Key) -> &'a str {
        // Without a separator blanks belong to the field after them.
        let mut places = vec![0];
        match self.separator {
            Some(separator) => places.extend(line.match_indices(separator).map(|(at, _)| at + separator.len_utf8())),
            None => {
                let mut before = ' ';
                for (at, c) in line.char_indices() {
                    if c.is_whitespace() && !before.is_whitespace() {
                        places.push(at);
                    }
                    before = c;
                }
            }
        }
        let begin = places.get(key.from - 1).copied().unwrap_or(line.len());
        let end = match places.get(key.to) {
            Some(next) => next - self.separator.map_or(0, char::len_utf8),
            None => line.len(),
        };
        &line[begin..end.max(begin)]
    }

    fn compare(&self, left: &str, right: &str) -> Ordering {
        let ordered = |left: &str, right: &str, flags: &str| {
            let order = by_flags(left, right, flags);
            if flags.contains('r') { order.reverse() } else { order }
        };
        if self.keys.is_empty() {
            return ordered(left, right, &self.flags);
        }
        let mut order = Ordering::Equal;
        for key in &self.keys {
            let flags = if key.flags.is_empty() { &self.flags } else { &key.flags };
            order = order.then_with(|| ordered(self.key(left, key), self.key(right, key), flags));
        }
        match order.is_eq() && !self.flags.contains(['u', 's']) {
            true => ordered(left, right, if self.flags.contains('r') { "r" } else { "" }),
            false => order,
        }
    }
}

fn by_flags(left: &str, right: &str, flags: &str) -> Ordering {
    let number = |text: &str| {
        let text = text.trim_start();
        let end = text
            .char_indices()
            .find(|(at, c)| !(c.is_ascii_digit() || *c == '.' || (*at == 0 && *c == '-')))
            .map_or(text.len(), |(at, _)| at);
        let factor = match text[end..].chars().next() {
            Some('K' | 'k') if flags.contains('h') => 1024.0,
            Some('M') if flags.contains('h') => 1024.0 * 1024.0,
            Some('G') if flags.contains('h') => 1024.0 * 1024.0 * 1024.0,
            _ => 1.0,
        };
        text[..end].parse::<f64>().unwrap_or(0.0) * factor
    };
    if flags.contains(['n', 'g', 'h']) {
        return number(left).total_cmp(&number(right));
    }
    if flags.contains('V') {
        return by_version(left, right);
    }
    let (left, right) = match flags.contains('b') || flags.contains('d') {
        true => (left.trim_start(), right.trim_start()),
        false => (left, right),
    };
    match flags.contains('f') {
        true => left.to_uppercase().cmp(&right.to_uppercase()),
        false => left.cmp(right),
    }
}

/// Numbers inside texts by their value.
fn by_version(left: &str, right: &str) -> Ordering {
    let parts = |text: &str| {
        let mut parts: Vec<(String, u64)> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let at = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let (word, after) = rest.split_at(at);
            let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            parts.push((word.to_owned(), after[..end].parse().unwrap_or_default()));
            rest = &after[end..];
        }
        parts
    };
    parts(left).cmp(&parts(right))
}

pub fn sort(io: &mut Io, args: &[String]) -> Outcome {
    let mut sorting = Sorting::default();
    let mut paths = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let Some(letters) = arg.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            paths.push(arg.as_str());
            continue;
        };
        for (at, letter) in letters.char_indices() {
            if !matches!(letter, 'k' | 't' | 'o') {
                sorting.flags.push(letter);
                continue;
            }
            let value = match &letters[at + 1..] {
                "" => rest.next().map(String::as_str).unwrap_or_default(),
                value => value,
            };
            match letter {
                't' => {
                    sorting.separator = if value == "\\t" {
                        Some('\t')
                    } else {
                        value.chars().next()
                    }
                }
                'o' => sorting.output = Some(value.to_owned()),
                _ => sorting.keys.push(key(value)?),
            }
            break;
        }
    }
    let (mut all, code) = all_lines(io, "sort", &paths)?;
    if sorting.flags.contains('c') {
        let sorted = all.is_sorted_by(|left, right| sorting.compare(left, right).is_le());
        return Ok(i32::from(!sorted));
    }
    all.sort_by(|left, right| sorting.compare(left, right));
    if sorting.flags.contains('u') {
        all.dedup_by(|left, right| sorting.compare(left, right).is_eq());
    }
    let mut file = sorting
        .output
        .as_deref()
        .map(|path| files::create(path, false))
        .transpose()?;
    for line in all {
        match &mut file {
            Some(file) => writeln!(file, "{line}"),
            None => writeln!(io.out, "{line}"),
        }
        .map_err(said)?;
    }
    Ok(code)
}

fn key(text: &str) -> Result<Key, String> {
    let flags: String = text.chars().filter(char::is_ascii_alphabetic).collect();
    let number = |text: &str| {
        let text = text.split('.').next().unwrap_or_default();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        digits.parse::<usize>().ok().filter(|number| *number > 0)
    };
    let (from, to) = match text.split_once(',') {
        Some((from, to)) => (number(from), number(to)),
        None => (number(text), Some(usize::MAX)),
    };
    match (from, to) {
        (Some(from), Some(to)) => Ok(Key { from, to, flags }),
        _ => Err(format!("invalid key '{text}'")),
    }
}
