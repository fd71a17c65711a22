//! `head` and `tail`.

use crate::files;
use crate::text::{inputs, lines};
use crate::values::said;
use crate::{Io, Outcome};
use std::collections::VecDeque;
use std::io::{BufRead, Read, Write};

/// How long `tail -f` waits before it looks again: WASI tells nobody that a file has grown.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(200);

/// The options of `head` and `tail`.
struct Part {
    /// `-c` counts bytes.
    bytes: bool,
    count: usize,
    /// `+N` counts from the beginning, and `-N` of `head` from the end.
    sign: Option<char>,
    follow: bool,
    quiet: bool,
    paths: Vec<String>,
}

fn part(args: &[String]) -> Result<Part, String> {
    let mut part = Part {
        bytes: false,
        count: 10,
        sign: None,
        follow: false,
        quiet: false,
        paths: Vec::new(),
    };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let Some(flag) = arg.strip_prefix('-').filter(|flag| !flag.is_empty()) else {
            part.paths.push(arg.clone());
            continue;
        };
        let text = match flag.chars().next() {
            Some('n' | 'c') => {
                part.bytes = flag.starts_with('c');
                match &flag[1..] {
                    "" => rest.next().cloned().unwrap_or_default(),
                    text => text.to_owned(),
                }
            }
            Some('f' | 'F') => {
                part.follow = true;
                continue;
            }
            Some('q') => {
                part.quiet = true;
                continue;
            }
            Some('v') => continue,
            _ => flag.to_owned(),
        };
        part.sign = text.chars().next().filter(|sign| matches!(sign, '+' | '-'));
        let digits = text.trim_start_matches(['+', '-']);
        part.count = digits.parse().map_err(|_| format!("invalid number '{text}'"))?;
    }
    Ok(part)
}

fn title(out: &mut dyn Write, path: &str, part: &Part, first: &mut bool) -> Result<(), String> {
    if part.paths.len() > 1 && !part.quiet {
        let gap = if std::mem::take(first) { "" } else { "\n" };
        let name = if path == "-" { "standard input" } else { path };
        writeln!(out, "{gap}==> {name} <==").map_err(said)?;
    }
    Ok(())
}

pub fn head(io: &mut Io, args: &[String]) -> Outcome {
    let part = part(args)?;
    let paths: Vec<&str> = part.paths.iter().map(String::as_str).collect();
    let mut first = true;
    inputs(io, "head", &paths, |input, out, path| {
        title(out, path, &part, &mut first)?;
        if part.bytes {
            std::io::copy(&mut input.take(part.count as u64), out).map_err(said)?;
            return Ok(());
        }
        if part.sign == Some('-') {
            let mut held = VecDeque::new();
            return lines(input, |line| {
                held.push_back(line.to_owned());
                if held.len() > part.count
                    && let Some(line) = held.pop_front()
                {
                    writeln!(out, "{line}").map_err(said)?;
                }
                Ok(true)
            });
        }
        let mut line = Vec::new();
        for _ in 0..part.count {
            line.clear();
            if input.read_until(b'\n', &mut line).map_err(said)? == 0 {
                break;
            }
            out.write_all(&line).map_err(said)?;
        }
        Ok(())
    })
}

pub fn tail(io: &mut Io, args: &[String]) -> Outcome {
    let part = part(args)?;
    let paths: Vec<&str> = part.paths.iter().map(String::as_str).collect();
    let mut first = true;
    let code = inputs(io, "tail", &paths, |input, out, path| {
        title(out, path, &part, &mut first)?;
        last(input, out, &part)
    })?;
    if let (true, [path]) = (part.follow, part.paths.as_slice()) {
        let mut length = std::fs::metadata(files::path(path)).map_or(0, |found| found.len());
        loop {
            io.out.flush().map_err(said)?;
            std::thread::sleep(LOOK_AGAIN);
            let now = std::fs::metadata(files::path(path)).map_or(0, |found| found.len());
            // A shorter file is a new one.
            let from = if now < length { 0 } else { length };
            if now != from
                && let Ok(mut file) = std::fs::File::open(files::path(path))
            {
                std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(from)).map_err(said)?;
                length = from + std::io::copy(&mut file, io.out).map_err(said)?;
            }
        }
    }
    Ok(code)
}

fn last(input: &mut dyn BufRead, out: &mut dyn Write, part: &Part) -> Result<(), String> {
    if part.bytes {
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes).map_err(said)?;
        let from = match part.sign {
            Some('+') => part.count.saturating_sub(1).min(bytes.len()),
            _ => bytes.len().saturating_sub(part.count),
        };
        return out.write_all(&bytes[from..]).map_err(said);
    }
    let mut held: VecDeque<Vec<u8>> = VecDeque::new();
    let mut number = 0;
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line).map_err(said)? == 0 {
            break;
        }
        number += 1;
        if part.sign == Some('+') {
            if number >= part.count {
                out.write_all(&line).map_err(said)?;
            }
            continue;
        }
        held.push_back(line);
        if held.len() > part.count {
            held.pop_front();
        }
    }
    held.iter().try_for_each(|line| out.write_all(line).map_err(said))
}
