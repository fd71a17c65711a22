//! Patterns: `*`, `?`, `[...]`, with `\` before what means itself; and the paths that match one.

/// Whether all of a text matches.
pub fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    matches_chars(&pattern, &text)
}

pub fn matches_chars(pattern: &[char], text: &[char]) -> bool {
    // Where to try again after the last star: its place in the pattern, and in the text.
    let mut retry: Option<(usize, usize)> = None;
    let (mut p, mut t) = (0, 0);
    loop {
        let step = match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(_) if t < text.len() => one(&pattern[p..], text[t]),
            None if t == text.len() => return true,
            _ => None,
        };
        match (step, retry) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((after, from))) if from < text.len() => {
                retry = Some((after, from + 1));
                p = after;
                t = from + 1;
            }
            _ => return false,
        }
    }
}

/// Whether the first element of a pattern matches a character, and how long the element is.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['\\', escaped, ..] => (*escaped == c).then_some(2),
        ['[', rest @ ..] => match bracket(rest, c) {
            Some((matched, length)) => matched.then_some(length + 1),
            None => (c == '[').then_some(1),
        },
        [plain, ..] => (*plain == c).then_some(1),
        [] => None,
    }
}

/// Whether a bracket expression matches, and its length after `[`; nothing where it has no end.
fn bracket(pattern: &[char], c: char) -> Option<(bool, usize)> {
    let negated = matches!(pattern.first(), Some('!' | '^'));
    let mut at = usize::from(negated);
    let begin = at;
    let mut matched = false;
    loop {
        let mut low = *pattern.get(at)?;
        if low == ']' && at > begin {
            return Some((matched != negated, at + 1));
        }
        if low == '['
            && pattern.get(at + 1) == Some(&':')
            && let Some(length) = pattern[at + 2..].iter().position(|c| *c == ':')
            && pattern.get(at + 3 + length) == Some(&']')
        {
            let class: String = pattern[at + 2..at + 2 + length].iter().collect();
            matched |= in_class(&class, c);
            at += length + 4;
            continue;
        }
        if low == '\\' {
            at += 1;
            low = *pattern.get(at)?;
        }
        at += 1;
        if pattern.get(at) == Some(&'-') && pattern.get(at + 1).is_some_and(|c| *c != ']') {
            let mut high = *pattern.get(at + 1)?;
            at += 2;
            if high == '\\' {
                high = *pattern.get(at)?;
                at += 1;
            }
            matched |= (low..=high).contains(&c);
        } else {
            matched |= low == c;
        }
    }
}

/// The classes of characters that POSIX names.
pub fn in_class(class: &str, c: char) -> bool {
    match class {
        "alpha" => c.is_alphabetic(),
        "digit" => c.is_ascii_digit(),
        "alnum" => c.is_alphanumeric(),
        "upper" => c.is_uppercase(),
        "lower" => c.is_lowercase(),
        "space" => c.is_whitespace(),
        "blank" => matches!(c, ' ' | '\t'),
        "punct" => c.is_ascii_punctuation(),
        "cntrl" => c.is_control(),
        "xdigit" => c.is_ascii_hexdigit(),
        "print" => !c.is_control(),
        "graph" => !c.is_control() && !c.is_whitespace(),
        _ => false,
    }
}

/// Text as a pattern that matches only it.
pub fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '-' | '!' | '^') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// A pattern without its escapes.
fn plain(pattern: &str) -> String {
    let mut text = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        text.push(match c {
            '\\' => chars.next().unwrap_or('\\'),
            c => c,
        });
    }
    text
}

fn is_pattern(pattern: &str) -> bool {
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// The paths that match, sorted; `list` gives the names in a directory, and `exists` says whether there is a path.
pub fn paths(pattern: &str, list: &dyn Fn(&str) -> Vec<String>, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let parts: Vec<&str> = pattern.split('/').collect();
    let mut found = vec![String::new()];
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        let mut next = Vec::new();
        for base in found {
            if part.is_empty() || !is_pattern(part) {
                let path = format!("{base}{}", plain(part));
                if !last || part.is_empty() || exists(&path) {
                    next.push(if last { path } else { path + "/" });
                }
                continue;
            }
            let directory = if base.is_empty() { "." } else { &base };
            let hidden = part.starts_with('.') || part.starts_with("\\.");
            for name in list(directory) {
                if (!name.starts_with('.') || hidden) && matches(part, &name) {
                    let path = format!("{base}{name}");
                    match last {
                        true => next.push(path),
                        false if exists(&format!("{path}/.")) => next.push(path + "/"),
                        false => {}
                    }
                }
            }
        }
        found = next;
    }
    found.sort_unstable();
    found
}
