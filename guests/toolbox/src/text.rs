//! Commands that read text, from files or from standard input.

use crate::files::{self, flags, open};
use crate::shell::pattern::in_class;
use crate::values::said;
use crate::{Io, Outcome};
use std::io::{BufRead, BufReader, Write};

/// Calls `each` with every input: the files, or standard input where there is none or where `-` says so. A file that cannot be
/// opened is told and makes the code 1; the others are read all the same.
pub fn inputs(
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
pub fn lines(input: &mut dyn BufRead, mut each: impl FnMut(&str) -> Result<bool, String>) -> Result<(), String> {
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

/// All lines of all inputs.
pub fn all_lines(io: &mut Io, command: &str, paths: &[&str]) -> Result<(Vec<String>, i32), String> {
    let mut all = Vec::new();
    let code = inputs(io, command, paths, |input, _, _| {
        lines(input, |line| {
            all.push(line.to_owned());
            Ok(true)
        })
    })?;
    Ok((all, code))
}

/// Copies piece by piece, so that what is typed is shown as it comes.
fn copy(input: &mut dyn BufRead, out: &mut dyn Write) -> Result<(), String> {
    loop {
        let piece = input.fill_buf().map_err(said)?;
        if piece.is_empty() {
            return Ok(());
        }
        out.write_all(piece).and_then(|()| out.flush()).map_err(said)?;
        let count = piece.len();
        input.consume(count);
    }
}

pub fn cat(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, paths) = flags(args);
    let mut number = 0;
    inputs(io, "cat", &paths, |input, out, _| {
        if !flags.contains(['n', 'b', 'A', 'e', 'E']) {
            return copy(input, out);
        }
        lines(input, |line| {
            let end = if flags.contains(['A', 'e', 'E']) { "$" } else { "" };
            let line = if flags.contains('A') {
                line.replace('\t', "^I")
            } else {
                line.to_owned()
            };
            if flags.contains('n') || (flags.contains('b') && !line.is_empty()) {
                number += 1;
                write!(out, "{number:>6}\t").map_err(said)?;
            }
            writeln!(out, "{line}{end}").map_err(said)?;
            Ok(true)
        })
    })
}

pub fn wc(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, paths) = flags(args);
    let mut totals = [0_usize; 4];
    let show = |out: &mut dyn Write, counts: &[usize; 4], name: &str| {
        let letters = if flags.is_empty() { "lwc" } else { flags.as_str() };
        let shown: Vec<String> = ['l', 'w', 'm', 'c']
            .iter()
            .zip(counts)
            .filter(|(letter, _)| letters.contains(**letter))
            .map(|(_, count)| count.to_string())
            .collect();
        let line = match shown.as_slice() {
            [one] => one.clone(),
            several => several
                .iter()
                .map(|count| format!("{count:>7}"))
                .collect::<Vec<_>>()
                .join(" "),
        };
        let name = if name == "-" { String::new() } else { format!(" {name}") };
        writeln!(out, "{line}{name}").map_err(said)
    };
    let code = inputs(io, "wc", &paths, |input, out, path| {
        let mut counts = [0; 4];
        let mut in_word = false;
        loop {
            let piece = input.fill_buf().map_err(said)?;
            if piece.is_empty() {
                break;
            }
            for byte in piece {
                counts[0] += usize::from(*byte == b'\n');
                let blank = byte.is_ascii_whitespace();
                counts[1] += usize::from(!blank && !in_word);
                in_word = !blank;
                counts[2] += usize::from(byte & 0xc0 != 0x80);
            }
            let count = piece.len();
            counts[3] += count;
            input.consume(count);
        }
        totals.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
        show(out, &counts, path)
    })?;
    if paths.len() > 1 {
        show(io.out, &totals, "total")?;
    }
    Ok(code)
}

pub fn uniq(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, paths) = flags(args);
    let show = |out: &mut dyn Write, count: usize, line: &str| {
        if (flags.contains('d') && count < 2) || (flags.contains('u') && count > 1) {
            return Ok(());
        }
        match flags.contains('c') {
            true => writeln!(out, "{count:>7} {line}"),
            false => writeln!(out, "{line}"),
        }
        .map_err(said)
    };
    let same = |left: &str, right: &str| match flags.contains('i') {
        true => left.to_lowercase() == right.to_lowercase(),
        false => left == right,
    };
    let mut run: Option<(usize, String)> = None;
    let code = inputs(io, "uniq", &paths, |input, out, _| {
        lines(input, |line| {
            match &mut run {
                Some((count, last)) if same(last, line) => *count += 1,
                _ => {
                    if let Some((count, last)) = run.replace((1, line.to_owned())) {
                        show(out, count, &last)?;
                    }
                }
            }
            Ok(true)
        })
    })?;
    if let Some((count, line)) = run {
        show(io.out, count, &line)?;
    }
    Ok(code)
}

/// Ranges such as `1,3-5,7-`, counted from 1.
fn ranges(text: &str) -> Result<Vec<(usize, usize)>, String> {
    let number = |text: &str, other: usize| match text {
        "" => Ok(other),
        text => text.parse::<usize>().map_err(|_| format!("invalid list '{text}'")),
    };
    text.split(',')
        .map(|part| match part.split_once('-') {
            Some((from, to)) => Ok((number(from, 1)?, number(to, usize::MAX)?)),
            None => number(part, 0).map(|one| (one, one)),
        })
        .collect()
}

/// `cut -d C -f LIST`, `cut -c LIST`, `cut -b LIST`; `-s` leaves out lines without the separator.
pub fn cut(io: &mut Io, args: &[String]) -> Outcome {
    let (mut separator, mut fields, mut chars, mut only, mut paths) = ('\t', None, None, false, Vec::new());
    let mut joint = None;
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let mut value = |short: &str| match arg.strip_prefix(short) {
            Some("") => rest.next().cloned(),
            Some(value) => Some(value.to_owned()),
            None => None,
        };
        if let Some(text) = value("--output-delimiter=") {
            joint = Some(text);
        } else if let Some(text) = value("-d") {
            separator = text.chars().next().ok_or("a separator is needed")?;
        } else if let Some(text) = value("-f") {
            fields = Some(ranges(&text)?);
        } else if let Some(text) = value("-c").or_else(|| value("-b")) {
            chars = Some(ranges(&text)?);
        } else if arg == "-s" {
            only = true;
        } else {
            paths.push(arg.as_str());
        }
    }
    let within =
        |ranges: &[(usize, usize)], place: usize| ranges.iter().any(|(from, to)| (*from..=*to).contains(&place));
    let joint = joint.unwrap_or_else(|| separator.to_string());
    inputs(io, "cut", &paths, |input, out, _| {
        lines(input, |line| {
            if let Some(chars) = &chars {
                let chosen = line.chars().enumerate().filter(|(index, _)| within(chars, index + 1));
                let text: String = chosen.map(|(_, c)| c).collect();
                writeln!(out, "{text}").map_err(said)?;
                return Ok(true);
            }
            let fields = fields.as_deref().ok_or("a list of fields or characters is needed")?;
            if !line.contains(separator) {
                if !only {
                    writeln!(out, "{line}").map_err(said)?;
                }
                return Ok(true);
            }
            let parts = line.split(separator).enumerate();
            let chosen: Vec<&str> = parts
                .filter(|(index, _)| within(fields, index + 1))
                .map(|(_, part)| part)
                .collect();
            writeln!(out, "{}", chosen.join(&joint)).map_err(said)?;
            Ok(true)
        })
    })
}

/// `tee [-a] FILE...`
pub fn tee(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, paths) = flags(args);
    let mut targets = Vec::new();
    for path in paths {
        targets.push(files::create(path, flags.contains('a'))?);
    }
    loop {
        let piece = io.input.fill_buf().map_err(said)?;
        if piece.is_empty() {
            return Ok(0);
        }
        for target in &mut targets {
            target.write_all(piece).map_err(said)?;
        }
        io.out.write_all(piece).and_then(|()| io.out.flush()).map_err(said)?;
        let count = piece.len();
        io.input.consume(count);
    }
}

/// `tr [-cds] SET [SET]`; sets may have ranges, escapes and classes.
pub fn tr(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, sets) = match args.first().filter(|flag| flag.starts_with('-') && flag.len() > 1) {
        Some(flag) => (flag.as_str(), &args[1..]),
        None => ("", args),
    };
    let has = |letters: [char; 2]| flags.contains(letters);
    let from = set(sets.first().ok_or("a set is needed")?);
    let to = sets.get(1).map(|text| set(text)).unwrap_or_default();
    let (delete, squeeze, other) = (has(['d', 'd']), has(['s', 's']), has(['c', 'C']));
    let squeezed = if to.is_empty() || (delete && sets.len() < 2) {
        &from
    } else {
        &to
    };
    let mut before = None;
    loop {
        let mut line = Vec::new();
        if io.input.read_until(b'\n', &mut line).map_err(said)? == 0 {
            return Ok(0);
        }
        let mut changed = String::new();
        for c in String::from_utf8_lossy(&line).chars() {
            let place = match other {
                false => from.iter().position(|known| *known == c),
                true if from.contains(&c) => None,
                // All others are changed to the last of the second set.
                true => Some(usize::MAX),
            };
            let c = match place {
                None => c,
                Some(_) if delete => continue,
                Some(_) if to.is_empty() => c,
                Some(place) => to.get(place).or(to.last()).copied().unwrap_or(c),
            };
            let in_squeezed = squeezed.contains(&c) || (other && to.is_empty() && !from.contains(&c));
            if squeeze && before == Some(c) && in_squeezed {
                continue;
            }
            before = Some(c);
            changed.push(c);
        }
        io.out.write_all(changed.as_bytes()).map_err(said)?;
    }
}

fn set(text: &str) -> Vec<char> {
    let mut all = Vec::new();
    let (plain, _) = crate::shell::unescape(text, false);
    let chars: Vec<char> = String::from_utf8_lossy(&plain).chars().collect();
    let mut index = 0;
    while let Some(first) = chars.get(index) {
        if let ['[', ':', rest @ ..] = &chars[index..]
            && let Some(length) = rest.iter().position(|c| *c == ':')
            && rest.get(length + 1) == Some(&']')
        {
            let class: String = rest[..length].iter().collect();
            all.extend((0..128_u8).map(char::from).filter(|c| in_class(&class, *c)));
            index += length + 4;
            continue;
        }
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

pub fn rev(io: &mut Io, args: &[String]) -> Outcome {
    let (_, paths) = flags(args);
    inputs(io, "rev", &paths, |input, out, _| {
        lines(input, |line| {
            writeln!(out, "{}", line.chars().rev().collect::<String>()).map_err(said)?;
            Ok(true)
        })
    })
}

pub fn tac(io: &mut Io, args: &[String]) -> Outcome {
    let (_, paths) = flags(args);
    let (all, code) = all_lines(io, "tac", &paths)?;
    all.iter()
        .rev()
        .try_for_each(|line| writeln!(io.out, "{line}").map_err(said))?;
    Ok(code)
}

pub fn nl(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, paths) = flags(args);
    let mut number = 0;
    inputs(io, "nl", &paths, |input, out, _| {
        lines(input, |line| {
            if line.is_empty() && !flags.contains('a') {
                writeln!(out).map_err(said)?;
                return Ok(true);
            }
            number += 1;
            writeln!(out, "{number:>6}\t{line}").map_err(said)?;
            Ok(true)
        })
    })
}

/// `paste [-s] [-d C] FILE...`
pub fn paste(io: &mut Io, args: &[String]) -> Outcome {
    let (mut serial, mut separator, mut paths) = (false, "\t".to_owned(), Vec::new());
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "-s" => serial = true,
            "-d" => separator = rest.next().cloned().unwrap_or_default(),
            flag if flag.starts_with("-sd") => (serial, separator) = (true, flag[3..].to_owned()),
            flag if flag.starts_with("-d") => separator = flag[2..].to_owned(),
            path => paths.push(path),
        }
    }
    if paths.is_empty() {
        paths.push("-");
    }
    let mut columns = Vec::new();
    for path in paths {
        columns.push(all_lines(io, "paste", &[path])?.0);
    }
    if serial {
        return columns
            .iter()
            .try_for_each(|lines| writeln!(io.out, "{}", lines.join(&separator)).map_err(said))
            .map(|()| 0);
    }
    let rows = columns.iter().map(Vec::len).max().unwrap_or(0);
    for row in 0..rows {
        let line: Vec<&str> = columns
            .iter()
            .map(|column| column.get(row).map_or("", String::as_str))
            .collect();
        writeln!(io.out, "{}", line.join(&separator)).map_err(said)?;
    }
    Ok(0)
}
