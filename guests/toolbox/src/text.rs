//! Commands that read text, from files or from standard input.

use crate::files::{flags, open};
use crate::values::said;
use crate::{Io, Outcome};
use std::io::{BufRead, BufReader, Write};

/// Calls `each` with every input: the files, or standard input where there is none or where `-` says so. A file that cannot be
/// opened is told and makes the code 1; the others are read all the same.
fn inputs(
    io: &mut Io,
    command: &str,
    paths: &[&str],
    mut each: impl FnMut(&mut dyn BufRead, &mut dyn Write, &str) -> Result<(), String>,
) -> Outcome {
    let paths = if paths.is_empty() { &["-"][..] } else { paths };
    let mut code = 0;
    for path in paths {
        if *path == "-" {
            each(io.input, io.out, path)?;
            continue;
        }
        match open(path) {
            Ok(file) => each(&mut BufReader::new(file), io.out, path)?,
            Err(what) => {
                io.complain(command, what);
                code = 1;
            }
        }
    }
    Ok(code)
}

/// The lines of an input, without their ends.
fn lines(input: &mut dyn BufRead, mut each: impl FnMut(&str) -> Result<bool, String>) -> Result<(), String> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line).map_err(said)? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        if !each(text.strip_suffix('\n').unwrap_or(&text))? {
            return Ok(());
        }
    }
}

pub fn cat(io: &mut Io, args: &[String]) -> Outcome {
    let (_, paths) = flags(args);
    inputs(io, "cat", &paths, |input, out, _| {
        // Piece by piece, so that what is typed is shown as it comes.
        loop {
            let piece = input.fill_buf().map_err(said)?;
            if piece.is_empty() {
                return Ok(());
            }
            out.write_all(piece).and_then(|()| out.flush()).map_err(said)?;
            let count = piece.len();
            input.consume(count);
        }
    })
}

/// The number of `-n N`, `-nN` or `-N`, and the paths.
fn count(args: &[String], letter: &str) -> Result<(usize, Vec<String>), String> {
    let (mut count, mut paths) = (10, Vec::new());
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let text = match arg.strip_prefix('-') {
            Some(flag) if flag == letter => rest.next().cloned().unwrap_or_default(),
            Some(flag) if !flag.is_empty() => flag.trim_start_matches(letter).to_owned(),
            _ => {
                paths.push(arg.clone());
                continue;
            }
        };
        count = text.parse().map_err(|_| format!("invalid number '{text}'"))?;
    }
    Ok((count, paths))
}

pub fn head(io: &mut Io, args: &[String]) -> Outcome {
    let (limit, paths) = count(args, "n")?;
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    inputs(io, "head", &paths, |input, out, _| {
        let mut left = limit;
        if left == 0 {
            return Ok(());
        }
        lines(input, |line| {
            writeln!(out, "{line}").map_err(said)?;
            left -= 1;
            Ok(left > 0)
        })
    })
}

pub fn tail(io: &mut Io, args: &[String]) -> Outcome {
    let (limit, paths) = count(args, "n")?;
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    inputs(io, "tail", &paths, |input, out, _| {
        let mut last = std::collections::VecDeque::new();
        lines(input, |line| {
            last.push_back(line.to_owned());
            if last.len() > limit {
                last.pop_front();
            }
            Ok(true)
        })?;
        last.iter().try_for_each(|line| writeln!(out, "{line}").map_err(said))
    })
}

pub fn wc(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, paths) = flags(args);
    inputs(io, "wc", &paths, |input, out, path| {
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes).map_err(said)?;
        let words = String::from_utf8_lossy(&bytes).split_whitespace().count();
        let counts = [
            ('l', bytes.iter().filter(|byte| **byte == b'\n').count()),
            ('w', words),
            ('c', bytes.len()),
        ];
        let shown: Vec<String> = counts
            .iter()
            .filter(|(letter, _)| flags.is_empty() || flags.contains(*letter))
            .map(|(_, count)| count.to_string())
            .collect();
        let name = if path == "-" { String::new() } else { format!(" {path}") };
        writeln!(out, "{}{name}", shown.join(" ")).map_err(said)
    })
}

pub fn grep(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, rest) = flags(args);
    let (pattern, paths) = rest.split_first().ok_or("a pattern is needed")?;
    let has = |letter: char| flags.contains(letter);
    let fold = |text: &str| if has('i') { text.to_lowercase() } else { text.to_owned() };
    let pattern: Vec<char> = fold(pattern).chars().collect();
    let several = paths.len() > 1;
    let mut found = 0;
    let code = inputs(io, "grep", paths, |input, out, path| {
        let (mut number, mut here) = (0, 0);
        lines(input, |line| {
            number += 1;
            let text: Vec<char> = fold(line).chars().collect();
            let holds = if has('F') {
                fold(line).contains(&pattern.iter().collect::<String>())
            } else {
                matches(&pattern, &text)
            };
            if holds == has('v') {
                return Ok(true);
            }
            here += 1;
            if !has('q') && !has('c') {
                let name = if several { format!("{path}:") } else { String::new() };
                let place = if has('n') { format!("{number}:") } else { String::new() };
                writeln!(out, "{name}{place}{line}").map_err(said)?;
            }
            Ok(!has('q'))
        })?;
        if has('c') {
            writeln!(out, "{here}").map_err(said)?;
        }
        found += here;
        Ok(())
    })?;
    Ok(if code != 0 { 2 } else { i32::from(found == 0) })
}

/// Basic expressions: literals, `.`, `*`, `^`, `$` and a backslash before any of them.
fn matches(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        ['^', rest @ ..] => at(rest, text),
        _ => (0..=text.len()).any(|start| at(pattern, &text[start..])),
    }
}

fn at(pattern: &[char], text: &[char]) -> bool {
    let (one, literal, rest) = match pattern {
        [] => return true,
        ['$'] => return text.is_empty(),
        ['\\', c, rest @ ..] => (*c, true, rest),
        [c, rest @ ..] => (*c, *c != '.', rest),
    };
    let fits = |c: &char| !literal || *c == one;
    match rest {
        ['*', rest @ ..] => {
            let most = text.iter().take_while(|c| fits(c)).count();
            (0..=most).rev().any(|count| at(rest, &text[count..]))
        }
        _ => text.first().is_some_and(fits) && at(rest, &text[1..]),
    }
}

pub fn sort(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, paths) = flags(args);
    let mut all = Vec::new();
    let code = inputs(io, "sort", &paths, |input, _, _| {
        lines(input, |line| {
            all.push(line.to_owned());
            Ok(true)
        })
    })?;
    if flags.contains('n') {
        let number = |line: &String| {
            line.trim()
                .split_whitespace()
                .next()
                .and_then(|word| word.parse::<i64>().ok())
                .unwrap_or(0)
        };
        all.sort_by_key(number);
    } else {
        all.sort();
    }
    if flags.contains('r') {
        all.reverse();
    }
    if flags.contains('u') {
        all.dedup();
    }
    all.iter()
        .try_for_each(|line| writeln!(io.out, "{line}").map_err(said))?;
    Ok(code)
}

pub fn uniq(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, paths) = flags(args);
    let mut runs: Vec<(usize, String)> = Vec::new();
    let code = inputs(io, "uniq", &paths, |input, _, _| {
        lines(input, |line| {
            match runs.last_mut() {
                Some((count, last)) if last == line => *count += 1,
                _ => runs.push((1, line.to_owned())),
            }
            Ok(true)
        })
    })?;
    for (count, line) in runs {
        match flags.contains('c') {
            true => writeln!(io.out, "{count:>7} {line}").map_err(said)?,
            false => writeln!(io.out, "{line}").map_err(said)?,
        }
    }
    Ok(code)
}

/// `cut -d C -f N[,N...]`.
pub fn cut(io: &mut Io, args: &[String]) -> Outcome {
    let (mut separator, mut fields, mut paths) = ('\t', Vec::new(), Vec::new());
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let mut value = |short: &str| match arg.strip_prefix(short) {
            Some("") => rest.next().cloned(),
            Some(value) => Some(value.to_owned()),
            None => None,
        };
        if let Some(text) = value("-d") {
            separator = text.chars().next().ok_or("a separator is needed")?;
        } else if let Some(text) = value("-f") {
            fields = text
                .split(',')
                .map(|field| field.parse::<usize>().map_err(|_| format!("bad field '{field}'")))
                .collect::<Result<_, _>>()?;
        } else {
            paths.push(arg.as_str());
        }
    }
    inputs(io, "cut", &paths, |input, out, _| {
        lines(input, |line| {
            let parts: Vec<&str> = line.split(separator).collect();
            let chosen: Vec<&str> = fields
                .iter()
                .filter_map(|field| parts.get(field.checked_sub(1)?).copied())
                .collect();
            writeln!(out, "{}", chosen.join(&separator.to_string())).map_err(said)?;
            Ok(true)
        })
    })
}

pub fn tee(io: &mut Io, args: &[String]) -> Outcome {
    let mut bytes = Vec::new();
    io.input.read_to_end(&mut bytes).map_err(said)?;
    for path in args {
        std::fs::write(path, &bytes).map_err(|error| format!("{path}: {error}"))?;
    }
    io.out.write_all(&bytes).map_err(said)?;
    Ok(0)
}

/// `tr SET SET`, `tr -d SET`; sets may have ranges.
pub fn tr(io: &mut Io, args: &[String]) -> Outcome {
    let (delete, sets) = match args {
        [flag, sets @ ..] if flag == "-d" => (true, sets),
        sets => (false, sets),
    };
    let from = set(sets.first().ok_or("a set is needed")?);
    let to = sets.get(1).map(|text| set(text)).unwrap_or_default();
    let mut text = String::new();
    io.input.read_to_string(&mut text).map_err(said)?;
    let change = |c: char| match from.iter().position(|other| *other == c) {
        None => Some(c),
        Some(_) if delete => None,
        Some(place) => to.get(place).or(to.last()).copied(),
    };
    let changed: String = text.chars().filter_map(change).collect();
    io.out.write_all(changed.as_bytes()).map_err(said)?;
    Ok(0)
}

fn set(text: &str) -> Vec<char> {
    let text = text.replace("\\n", "\n").replace("\\t", "\t");
    let chars: Vec<char> = text.chars().collect();
    let mut all = Vec::new();
    let mut index = 0;
    while let Some(first) = chars.get(index) {
        match (chars.get(index + 1), chars.get(index + 2)) {
            (Some('-'), Some(last)) => {
                all.extend(*first..=*last);
                index += 3;
            }
            _ => {
                all.push(*first);
                index += 1;
            }
        }
    }
    all
}
