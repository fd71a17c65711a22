//! `find`, and `xargs`, which mostly comes after it.

use crate::files;
use crate::processes;
use crate::shell::pattern;
use crate::values::said;
use crate::{Io, Outcome};
use std::fs;
use std::time::{Duration, SystemTime};

enum Test {
    And(Vec<Test>),
    Or(Vec<Test>),
    Not(Box<Test>),
    Name(String, bool),
    Path(String),
    Kind(char),
    /// Bytes in a unit: more (1), less (-1) or just as many (0).
    Size(i8, u64, u64),
    /// The age in days or minutes, in seconds.
    Age(i8, u64, u64),
    Newer(SystemTime),
    Empty,
    Print(char),
    Delete,
    Prune,
    Exec(Vec<String>),
    Always(bool),
}

struct Reader<'a> {
    words: &'a [String],
    at: usize,
    acts: bool,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<&str> {
        let word = self.words.get(self.at)?;
        self.at += 1;
        Some(word)
    }

    fn is_next(&self, words: &[&str]) -> bool {
        self.words
            .get(self.at)
            .is_some_and(|word| words.contains(&word.as_str()))
    }

    fn or(&mut self) -> Result<Test, String> {
        let mut all = vec![self.and()?];
        while self.is_next(&["-o", "-or"]) {
            self.at += 1;
            all.push(self.and()?);
        }
        Ok(Test::Or(all))
    }

    fn and(&mut self) -> Result<Test, String> {
        let mut all = Vec::new();
        while self.at < self.words.len() && !self.is_next(&["-o", "-or", ")"]) {
            if self.is_next(&["-a", "-and"]) {
                self.at += 1;
            }
            all.push(self.one()?);
        }
        Ok(Test::And(all))
    }

    fn argument(&mut self, of: &str) -> Result<String, String> {
        self.next()
            .map(str::to_owned)
            .ok_or_else(|| format!("missing argument to `{of}'"))
    }

    fn one(&mut self) -> Result<Test, String> {
        let word = self.next().unwrap_or_default().to_owned();
        Ok(match word.as_str() {
            "!" | "-not" => Test::Not(Box::new(self.one()?)),
            "(" => {
                let inner = self.or()?;
                if !self.is_next(&[")"]) {
                    return Err("missing `)'".into());
                }
                self.at += 1;
                inner
            }
            "-name" => Test::Name(self.argument(&word)?, false),
            "-iname" => Test::Name(self.argument(&word)?.to_lowercase(), true),
            "-path" | "-wholename" => Test::Path(self.argument(&word)?),
            "-type" => Test::Kind(self.argument(&word)?.chars().next().unwrap_or('f')),
            "-empty" => Test::Empty,
            "-size" => {
                let text = self.argument(&word)?;
                let unit = match text.chars().last() {
                    Some('c') => 1,
                    Some('k') => 1 << 10,
                    Some('M') => 1 << 20,
                    Some('G') => 1 << 30,
                    _ => 512,
                };
                let (sign, count) = amount(text.trim_end_matches(|c: char| c.is_alphabetic()))?;
                Test::Size(sign, count, unit)
            }
            "-mtime" | "-mmin" => {
                let (sign, count) = amount(&self.argument(&word)?)?;
                Test::Age(sign, count, if word == "-mtime" { 86400 } else { 60 })
            }
            "-newer" => {
                let path = self.argument(&word)?;
                let time = fs::metadata(files::path(&path)).and_then(|found| found.modified());
                Test::Newer(time.map_err(|error| files::why(&path, &error))?)
            }
            "-print" => self.act(Test::Print('\n')),
            "-print0" => self.act(Test::Print('\0')),
            "-delete" => self.act(Test::Delete),
            "-prune" => Test::Prune,
            "-exec" => {
                let mut program = Vec::new();
                loop {
                    match self.argument(&word)?.as_str() {
                        ";" | "+" => break,
                        part => program.push(part.to_owned()),
                    }
                }
                self.act(Test::Exec(program))
            }
            "-true" => Test::Always(true),
            "-false" => Test::Always(false),
            other => return Err(format!("unrecognized: {other}")),
        })
    }

    fn act(&mut self, test: Test) -> Test {
        self.acts = true;
        test
    }
}

fn amount(text: &str) -> Result<(i8, u64), String> {
    let sign = match text.chars().next() {
        Some('+') => 1,
        Some('-') => -1,
        _ => 0,
    };
    let number = text.trim_start_matches(['+', '-']).parse();
    Ok((sign, number.map_err(|_| format!("invalid number '{text}'"))?))
}

fn compared(sign: i8, found: u64, wanted: u64) -> bool {
    match sign {
        1 => found > wanted,
        -1 => found < wanted,
        _ => found == wanted,
    }
}

/// What was found, as the tests look at it.
struct Found<'a> {
    path: &'a str,
    name: &'a str,
    absolute: String,
    data: Option<fs::Metadata>,
    is_directory: bool,
}

pub fn find(io: &mut Io, args: &[String]) -> Outcome {
    let begins = |word: &String| word.starts_with('-') || word == "(" || word == "!";
    let count = args.iter().position(begins).unwrap_or(args.len());
    let (roots, mut words) = (args[..count].to_vec(), args[count..].to_vec());
    let (mut least, mut most, mut depth_first) = (0, usize::MAX, false);
    while let Some(at) = words.iter().position(|word| word == "-maxdepth" || word == "-mindepth") {
        let number = words.get(at + 1).and_then(|text| text.parse().ok());
        let number = number.ok_or("a depth is needed")?;
        match words[at] == "-maxdepth" {
            true => most = number,
            false => least = number,
        }
        words.drain(at..at + 2);
    }
    words.retain(|word| {
        let is_depth = word == "-depth";
        depth_first |= is_depth;
        !is_depth && word != "-xdev" && word != "-mount"
    });
    depth_first |= words.iter().any(|word| word == "-delete");
    let mut reader = Reader {
        words: &words,
        at: 0,
        acts: false,
    };
    let mut test = reader.or()?;
    if reader.at < words.len() {
        return Err(format!("unexpected {}", words[reader.at]));
    }
    if !reader.acts {
        test = Test::And(vec![test, Test::Print('\n')]);
    }
    let mut walk = Walk {
        test,
        least,
        most,
        depth_first,
        code: 0,
        pruned: false,
    };
    let roots = if roots.is_empty() { vec![".".to_owned()] } else { roots };
    for root in &roots {
        if !files::exists(&files::path(root)) {
            io.complain("find", format!("'{root}': No such file or directory"));
            walk.code = 1;
            continue;
        }
        walk.visit(io, root, 0)?;
    }
    Ok(walk.code)
}

struct Walk {
    test: Test,
    least: usize,
    most: usize,
    depth_first: bool,
    code: i32,
    pruned: bool,
}

impl Walk {
    fn visit(&mut self, io: &mut Io, path: &str, depth: usize) -> Result<(), String> {
        let absolute = files::path(path);
        let data = fs::symlink_metadata(&absolute).ok();
        let is_directory = match &data {
            Some(data) => data.is_dir(),
            None => files::is_directory(&absolute),
        };
        let trimmed = path.trim_end_matches('/');
        let found = Found {
            path,
            name: trimmed
                .rsplit('/')
                .next()
                .filter(|name| !name.is_empty())
                .unwrap_or("/"),
            absolute,
            data,
            is_directory,
        };
        self.pruned = false;
        if !self.depth_first && depth >= self.least {
            self.look(io, &found)?;
        }
        if is_directory && depth < self.most && !std::mem::take(&mut self.pruned) {
            for name in files::entries(&found.absolute)? {
                self.visit(
                    io,
                    &format!("{}/{name}", if path == "/" { "" } else { trimmed }),
                    depth + 1,
                )?;
            }
        }
        if self.depth_first && depth >= self.least {
            self.look(io, &found)?;
        }
        Ok(())
    }

    fn look(&mut self, io: &mut Io, found: &Found) -> Result<(), String> {
        let test = std::mem::replace(&mut self.test, Test::Always(true));
        let result = self.holds(io, &test, found);
        self.test = test;
        result.map(drop)
    }

    fn holds(&mut self, io: &mut Io, test: &Test, found: &Found) -> Result<bool, String> {
        let size = found.data.as_ref().map_or(0, fs::Metadata::len);
        let changed = found.data.as_ref().and_then(|data| data.modified().ok());
        Ok(match test {
            Test::And(all) => {
                for test in all {
                    if !self.holds(io, test, found)? {
                        return Ok(false);
                    }
                }
                true
            }
            Test::Or(all) => {
                for test in all {
                    if self.holds(io, test, found)? {
                        return Ok(true);
                    }
                }
                false
            }
            Test::Not(test) => !self.holds(io, test, found)?,
            Test::Name(wanted, false) => pattern::matches(wanted, found.name),
            Test::Name(wanted, true) => pattern::matches(wanted, &found.name.to_lowercase()),
            Test::Path(wanted) => pattern::matches(wanted, found.path),
            Test::Kind('d') => found.is_directory,
            Test::Kind('l') => found.data.as_ref().is_some_and(fs::Metadata::is_symlink),
            Test::Kind(_) => found.data.as_ref().is_some_and(fs::Metadata::is_file),
            Test::Size(sign, count, unit) => compared(*sign, size.div_ceil(*unit), *count),
            Test::Age(sign, count, unit) => {
                let age = changed.and_then(|changed| SystemTime::now().duration_since(changed).ok());
                compared(*sign, age.map_or(0, |age: Duration| age.as_secs()) / unit, *count)
            }
            Test::Newer(than) => changed.is_some_and(|changed| changed > *than),
            Test::Empty if found.is_directory => files::entries(&found.absolute)?.is_empty(),
            Test::Empty => size == 0,
            Test::Print(end) => {
                write!(io.out, "{}{end}", found.path).map_err(said)?;
                true
            }
            Test::Delete => {
                let removed = match found.is_directory {
                    true => fs::remove_dir(&found.absolute),
                    false => fs::remove_file(&found.absolute),
                };
                if let Err(error) = removed {
                    io.complain("find", files::why(found.path, &error));
                    self.code = 1;
                }
                true
            }
            Test::Prune => {
                self.pruned = true;
                true
            }
            Test::Exec(program) => {
                io.out.flush().map_err(said)?;
                let args: Vec<String> = program.iter().map(|part| part.replace("{}", found.path)).collect();
                processes::run(&args, std::env::vars().collect())? == 0
            }
            Test::Always(holds) => *holds,
        })
    }
}

/// `xargs [-0rt] [-n COUNT] [-I TEXT] [-L LINES] [-P COUNT] [PROGRAM [ARGUMENT...]]`
pub fn xargs(io: &mut Io, args: &[String]) -> Outcome {
    let (mut zero, mut show, mut skip_empty, mut most, mut replace, mut by_line) =
        (false, false, false, usize::MAX, None, false);
    let mut rest = args;
    while let Some((flag, after)) = rest.split_first() {
        let mut value = |short: &str| crate::option(&mut rest, short);
        let number = |text: String| text.parse::<usize>().map_err(|_| format!("invalid number '{text}'"));
        if let Some(text) = value("-n") {
            most = number(text)?.max(1);
        } else if let Some(text) = value("-I") {
            replace = Some(text);
        } else if let Some(text) = value("-L") {
            (most, by_line) = (number(text)?.max(1), true);
        } else if value("-P").is_some() {
            // One after the other gives the same result.
        } else {
            match flag.as_str() {
                "-0" | "--null" => zero = true,
                "-t" => show = true,
                "-r" | "--no-run-if-empty" => skip_empty = true,
                "-i" => replace = Some("{}".into()),
                flag if flag.starts_with('-') && flag.len() > 1 => return Err(format!("unrecognized option: {flag}")),
                _ => break,
            }
            rest = after;
        }
    }
    let mut text = Vec::new();
    io.input.read_to_end(&mut text).map_err(said)?;
    let text = String::from_utf8_lossy(&text);
    let items = match (zero, replace.is_some() || by_line) {
        (true, _) => text
            .split('\0')
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect(),
        (_, true) => text
            .lines()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect(),
        _ => words(&text)?,
    };
    let program = if rest.is_empty() {
        vec!["echo".to_owned()]
    } else {
        rest.to_vec()
    };
    let mut calls = Vec::new();
    if let Some(text) = &replace {
        for item in &items {
            calls.push(program.iter().map(|part| part.replace(text.as_str(), item)).collect());
        }
    } else if items.is_empty() && !skip_empty {
        calls.push(program);
    } else {
        for items in items.chunks(most.min(1000)) {
            let items = items.iter().flat_map(|item| match by_line {
                true => item.split_whitespace().map(str::to_owned).collect(),
                false => vec![item.clone()],
            });
            calls.push(program.iter().cloned().chain(items).collect::<Vec<_>>());
        }
    }
    io.out.flush().map_err(said)?;
    let mut code = 0;
    for call in calls {
        if show {
            writeln!(io.err, "{}", call.join(" ")).map_err(said)?;
        }
        match processes::run(&call, std::env::vars().collect())? {
            0 => {}
            255 => return Ok(124),
            127 => return Ok(127),
            126 => return Ok(126),
            _ => code = 123,
        }
    }
    Ok(code)
}

/// Words with quotes, as `xargs` takes its input apart.
fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut all, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, c) if c.is_whitespace() => all.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("unmatched quote".into());
    }
    all.extend(word);
    Ok(all)
}
