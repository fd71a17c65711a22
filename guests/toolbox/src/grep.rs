//! `grep`.

use crate::expressions::{Kind, regex};
use crate::files;
use crate::text::lines;
use crate::values::said;
use crate::{Io, Outcome};
use regex_lite::Regex;
use std::io::{BufRead, BufReader, Write};

#[derive(Default)]
struct Wish {
    flags: String,
    patterns: Vec<String>,
    paths: Vec<String>,
    limit: Option<usize>,
    before: usize,
    after: usize,
}

impl Wish {
    fn read(args: &[String]) -> Result<Self, String> {
        let mut wish = Self::default();
        let mut given = false;
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let Some(letters) = arg.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
                wish.paths.push(arg.clone());
                continue;
            };
            if arg == "--" {
                wish.paths.extend(rest.by_ref().cloned());
                break;
            }
            if letters.starts_with('-') {
                match letters.trim_start_matches('-').split('=').next() {
                    Some("color" | "colour" | "line-buffered") => {}
                    _ => return Err(format!("unrecognized option: {arg}")),
                }
                continue;
            }
            for (at, letter) in letters.char_indices() {
                if !matches!(letter, 'e' | 'f' | 'm' | 'A' | 'B' | 'C') {
                    wish.flags.push(letter);
                    continue;
                }
                let value = match &letters[at + 1..] {
                    "" => rest.next().cloned().ok_or("an option needs an argument")?,
                    value => value.to_owned(),
                };
                let number = || value.parse::<usize>().map_err(|_| format!("invalid number '{value}'"));
                match letter {
                    'e' => wish.patterns.extend(value.lines().map(str::to_owned)),
                    'f' => {
                        let text = files::read_text(&value)?;
                        wish.patterns.extend(text.lines().map(str::to_owned));
                    }
                    'm' => wish.limit = Some(number()?),
                    'A' => wish.after = number()?,
                    'B' => wish.before = number()?,
                    _ => (wish.before, wish.after) = (number()?, number()?),
                }
                given |= matches!(letter, 'e' | 'f');
                break;
            }
        }
        if !given {
            if wish.paths.is_empty() {
                return Err("a pattern is needed".into());
            }
            let pattern = wish.paths.remove(0);
            wish.patterns.extend(pattern.split('\n').map(str::to_owned));
        }
        Ok(wish)
    }

    fn has(&self, letter: char) -> bool {
        self.flags.contains(letter)
    }
}

/// One search over all inputs.
struct Search<'a> {
    wish: &'a Wish,
    patterns: Vec<Regex>,
    names: bool,
    found: usize,
    done: bool,
}

pub fn grep(io: &mut Io, args: &[String]) -> Outcome {
    search(io, Wish::read(args)?)
}

pub fn egrep(io: &mut Io, args: &[String]) -> Outcome {
    let mut wish = Wish::read(args)?;
    wish.flags.push('E');
    search(io, wish)
}

pub fn fgrep(io: &mut Io, args: &[String]) -> Outcome {
    let mut wish = Wish::read(args)?;
    wish.flags.push('F');
    search(io, wish)
}

fn search(io: &mut Io, mut wish: Wish) -> Outcome {
    let kind = match (wish.has('F'), wish.has('E') || wish.has('P')) {
        (true, _) => Kind::Fixed,
        (_, true) => Kind::Extended,
        _ => Kind::Basic,
    };
    let mut patterns = Vec::new();
    for pattern in &wish.patterns {
        let mut compiled = regex(pattern, kind, wish.has('i'))?;
        if wish.has('w') || wish.has('x') {
            let inner = compiled.as_str();
            let whole = match wish.has('x') {
                true => format!("^(?:{inner})$"),
                false => format!("\\b(?:{inner})\\b"),
            };
            compiled = regex_lite::RegexBuilder::new(&whole)
                .case_insensitive(wish.has('i'))
                .build()
                .map_err(|error| error.to_string())?;
        }
        patterns.push(compiled);
    }
    let deep = wish.has('r') || wish.has('R');
    if deep && wish.paths.is_empty() {
        wish.paths.push(".".into());
    }
    let mut search = Search {
        names: (wish.paths.len() > 1 || deep || wish.has('H')) && !wish.has('h'),
        wish: &wish,
        patterns,
        found: 0,
        done: false,
    };
    let mut code = 0;
    let mut paths = wish.paths.clone();
    if paths.is_empty() {
        paths.push("-".into());
    }
    paths.reverse();
    while let Some(path) = paths.pop() {
        if search.done {
            break;
        }
        if path == "-" {
            search.input(io.input, io.out, "(standard input)")?;
            continue;
        }
        if deep && files::is_directory(&files::path(&path)) {
            let mut names = files::entries(&files::path(&path))?;
            names.reverse();
            paths.extend(
                names
                    .into_iter()
                    .map(|name| format!("{}/{name}", path.trim_end_matches('/'))),
            );
            continue;
        }
        match files::open(&path) {
            Ok(file) => search.input(&mut BufReader::new(file), io.out, &path)?,
            Err(what) => {
                if !wish.has('s') {
                    io.complain("grep", what);
                }
                code = 2;
            }
        }
    }
    Ok(match (search.found, wish.has('q')) {
        (1.., true) => 0,
        _ if code != 0 => code,
        (found, _) => i32::from(found == 0),
    })
}

impl Search<'_> {
    fn matches(&self, line: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.is_match(line)) != self.wish.has('v')
    }

    fn input(&mut self, input: &mut dyn BufRead, out: &mut dyn Write, path: &str) -> Result<(), String> {
        let wish = self.wish;
        let name = |mark: char| {
            if self.names {
                format!("{path}{mark}")
            } else {
                String::new()
            }
        };
        let (mut number, mut here, mut owed, mut shown) = (0, 0, 0, 0);
        let mut before: std::collections::VecDeque<(usize, String)> = std::collections::VecDeque::new();
        let silent = wish.has('q') || wish.has('c') || wish.has('l') || wish.has('L');
        let place = |out: &mut dyn Write, number: usize, mark: char, text: &str| {
            let place = if wish.has('n') {
                format!("{number}{mark}")
            } else {
                String::new()
            };
            writeln!(out, "{}{place}{text}", name(mark)).map_err(said)
        };
        let mut done = false;
        lines(input, |line| {
            number += 1;
            if !self.matches(line) {
                if owed > 0 && !silent {
                    owed -= 1;
                    shown = number;
                    place(out, number, '-', line)?;
                } else if wish.before > 0 {
                    before.push_back((number, line.to_owned()));
                    if before.len() > wish.before {
                        before.pop_front();
                    }
                }
                return Ok(true);
            }
            here += 1;
            if !silent {
                let first = before.front().map_or(number, |(number, _)| *number);
                if wish.before + wish.after > 0 && shown > 0 && first > shown + 1 {
                    writeln!(out, "--").map_err(said)?;
                }
                for (number, line) in before.drain(..) {
                    place(out, number, '-', &line)?;
                }
                if wish.has('o') && !wish.has('v') {
                    for pattern in &self.patterns {
                        for found in pattern.find_iter(line).filter(|found| !found.is_empty()) {
                            place(out, number, ':', found.as_str())?;
                        }
                    }
                } else {
                    place(out, number, ':', line)?;
                }
                shown = number;
                owed = wish.after;
            }
            done = wish.has('q');
            Ok(!done && !wish.has('l') && wish.limit.is_none_or(|limit| here < limit))
        })?;
        self.found += here;
        self.done |= done;
        if wish.has('c') {
            writeln!(out, "{}{here}", name(':')).map_err(said)?;
        }
        if (wish.has('l') && here > 0) || (wish.has('L') && here == 0) {
            writeln!(out, "{path}").map_err(said)?;
        }
        Ok(())
    }
}
