//! Commands about who and where one is, and small ones that fit nowhere else.

use crate::files::{self, flags};
use crate::values::said;
use crate::{Io, Outcome};
use std::io::Write;

/// `id [-u] [-g] [-n]`: there are no users here; who asks is told what scripts expect of a container.
pub fn id(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, _) = flags(args);
    let text = match (flags.contains(['u', 'g', 'G']), flags.contains('n')) {
        (true, true) => "root",
        (true, false) => "0",
        _ => "uid=0(root) gid=0(root) groups=0(root)",
    };
    writeln!(io.out, "{text}").map_err(said)?;
    Ok(0)
}

pub fn whoami(io: &mut Io, _: &[String]) -> Outcome {
    writeln!(io.out, "root").map_err(said)?;
    Ok(0)
}

/// `uname [-asnrvmo]`
pub fn uname(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, _) = flags(args);
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "localhost".into());
    let all = [
        ('s', "WASI"),
        ('n', host.as_str()),
        ('r', "0.2"),
        ('v', "coracle"),
        ('m', "wasm32"),
        ('o', "WASI"),
    ];
    let flags = if flags.is_empty() { "s".to_owned() } else { flags };
    let parts: Vec<&str> = all
        .iter()
        .filter(|(letter, _)| flags.contains('a') || flags.contains(*letter))
        .map(|(_, text)| *text)
        .collect();
    writeln!(io.out, "{}", parts.join(" ")).map_err(said)?;
    Ok(0)
}

/// `stty [size | raw | -raw | cooked | sane]`: what there is to set of a terminal, and how large its window is.
pub fn stty(io: &mut Io, args: &[String]) -> Outcome {
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stdin());
    if !terminal {
        return Err("standard input: Inappropriate ioctl for device".into());
    }
    let (columns, rows) = crate::sys::size().unwrap_or_default();
    if args.is_empty() {
        writeln!(io.out, "speed 38400 baud; rows {rows}; columns {columns};").map_err(said)?;
    }
    for arg in args {
        match arg.as_str() {
            "size" => writeln!(io.out, "{rows} {columns}").map_err(said)?,
            "raw" => crate::sys::set_raw(true),
            "-raw" | "cooked" | "sane" => crate::sys::set_raw(false),
            other => return Err(format!("{other}: there is no such setting here")),
        }
    }
    Ok(0)
}

/// A guest runs on one thread.
pub fn nproc(io: &mut Io, _: &[String]) -> Outcome {
    writeln!(io.out, "1").map_err(said)?;
    Ok(0)
}

pub fn which(io: &mut Io, args: &[String]) -> Outcome {
    let mut code = 0;
    for name in args {
        match crate::commands::COMMANDS.contains(&name.as_str()) {
            true => writeln!(io.out, "/bin/{name}").map_err(said)?,
            false => code = 1,
        }
    }
    Ok(code)
}

/// Writes a line until nobody reads any more.
pub fn yes(io: &mut Io, args: &[String]) -> Outcome {
    let line = if args.is_empty() {
        "y".to_owned()
    } else {
        args.join(" ")
    };
    let piece = format!("{line}\n").repeat(1024);
    loop {
        io.out.write_all(piece.as_bytes()).map_err(said)?;
    }
}

/// A size such as `512`, `4k`, `1M`.
fn size(text: &str) -> Result<usize, String> {
    let (number, factor) = match text.trim_end_matches('B').char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
        Some((at, 'M')) => (&text[..at], 1 << 20),
        Some((at, 'G')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    let number = number
        .parse::<usize>()
        .map_err(|_| format!("invalid number '{text}'"))?;
    number
        .checked_mul(factor)
        .ok_or_else(|| format!("invalid number '{text}'"))
}

/// `dd if= of= bs= count= skip= seek=`
pub fn dd(io: &mut Io, args: &[String]) -> Outcome {
    let (mut input, mut output, mut block, mut count, mut skip, mut quiet) = (None, None, 512, usize::MAX, 0, false);
    for arg in args {
        let (name, value) = arg
            .split_once('=')
            .ok_or_else(|| format!("unrecognized operand '{arg}'"))?;
        match name {
            "if" => input = Some(value),
            "of" => output = Some(value),
            "bs" | "ibs" => block = size(value)?.max(1),
            "count" => count = size(value)?,
            "skip" => skip = size(value)?,
            "status" => quiet = value == "none",
            "obs" | "conv" | "oflag" | "iflag" => {}
            other => return Err(format!("unrecognized operand '{other}={value}'")),
        }
    }
    let mut file = input.map(files::open).transpose()?;
    let mut target = output.map(|path| files::create(path, false)).transpose()?;
    // The node holds a block in memory, so a huge one is moved in parts.
    let mut piece = vec![0; block.min(1 << 20)];
    let (mut whole, mut partial, mut total) = (0_usize, 0_usize, 0_usize);
    let mut turn = 0;
    while turn < skip.saturating_add(count) {
        let mut filled = 0;
        while filled < block {
            let want = (block - filled).min(piece.len());
            let got = match &mut file {
                Some(file) => std::io::Read::read(file, &mut piece[..want]),
                None => std::io::Read::read(io.input, &mut piece[..want]),
            };
            let got = got.map_err(said)?;
            if got == 0 {
                break;
            }
            filled += got;
            if turn >= skip {
                match &mut target {
                    Some(target) => target.write_all(&piece[..got]),
                    None => io.out.write_all(&piece[..got]),
                }
                .map_err(said)?;
                total += got;
            }
            // From a pipe a block is what one read brings.
            if file.is_none() {
                break;
            }
        }
        if filled == 0 {
            break;
        }
        if turn >= skip {
            whole += usize::from(filled == block);
            partial += usize::from(filled < block);
        }
        turn += 1;
    }
    if !quiet {
        let text = format!("{whole}+{partial} records in\n{whole}+{partial} records out\n{total} bytes copied\n");
        io.err.write_all(text.as_bytes()).map_err(said)?;
    }
    Ok(0)
}

/// `expr`: numbers, comparisons, `:`, `|` and `&`.
pub fn expr(io: &mut Io, args: &[String]) -> Outcome {
    let mut words = args.iter().map(String::as_str).peekable();
    let value = alternative(&mut words)?;
    if words.peek().is_some() {
        return Err("syntax error".into());
    }
    writeln!(io.out, "{value}").map_err(said)?;
    Ok(i32::from(value.is_empty() || value == "0"))
}

fn alternative<'a, I: Iterator<Item = &'a str>>(words: &mut std::iter::Peekable<I>) -> Result<String, String> {
    binary(words, 0)
}

const LEVELS: [&[&str]; 6] = [
    &["|"],
    &["&"],
    &["=", "==", "!=", "<", "<=", ">", ">="],
    &["+", "-"],
    &["*", "/", "%"],
    &[":"],
];

fn binary<'a, I: Iterator<Item = &'a str>>(words: &mut std::iter::Peekable<I>, level: usize) -> Result<String, String> {
    let Some(operators) = LEVELS.get(level) else {
        return primary(words);
    };
    let mut left = binary(words, level + 1)?;
    while let Some(operator) = words.next_if(|word| operators.contains(word)) {
        let right = binary(words, level + 1)?;
        left = combined(operator, &left, &right)?;
    }
    Ok(left)
}

fn combined(operator: &str, left: &str, right: &str) -> Result<String, String> {
    let nothing = |text: &str| text.is_empty() || text == "0";
    let numbers = left.parse::<i64>().ok().zip(right.parse::<i64>().ok());
    let order = numbers.map_or_else(|| left.cmp(right), |(left, right)| left.cmp(&right));
    let truth = |holds: bool| i64::from(holds).to_string();
    Ok(match operator {
        "|" => if nothing(left) { right } else { left }.to_owned(),
        "&" => if nothing(left) || nothing(right) { "0" } else { left }.to_owned(),
        "=" | "==" => truth(order.is_eq()),
        "!=" => truth(order.is_ne()),
        "<" => truth(order.is_lt()),
        "<=" => truth(order.is_le()),
        ">" => truth(order.is_gt()),
        ">=" => truth(order.is_ge()),
        ":" => matched(left, right)?,
        operator => {
            let (left, right) = numbers.ok_or("non-integer argument")?;
            match operator {
                "+" => left.wrapping_add(right),
                "-" => left.wrapping_sub(right),
                "*" => left.wrapping_mul(right),
                _ if right == 0 => return Err("division by zero".into()),
                "/" => left.wrapping_div(right),
                _ => left.wrapping_rem(right),
            }
            .to_string()
        }
    })
}

fn matched(text: &str, pattern: &str) -> Result<String, String> {
    let compiled = crate::expressions::regex(&format!("^{pattern}"), crate::expressions::Kind::Basic, false)?;
    let found = compiled.captures(text);
    let groups = compiled.captures_len() > 1;
    Ok(match (found, groups) {
        (Some(found), true) => found.get(1).map_or(String::new(), |group| group.as_str().to_owned()),
        (Some(found), false) => found
            .get(0)
            .map_or(0, |whole| whole.as_str().chars().count())
            .to_string(),
        (None, true) => String::new(),
        (None, false) => "0".to_owned(),
    })
}

fn primary<'a, I: Iterator<Item = &'a str>>(words: &mut std::iter::Peekable<I>) -> Result<String, String> {
    match words.next() {
        Some("(") => {
            let value = alternative(words)?;
            match words.next() {
                Some(")") => Ok(value),
                _ => Err("syntax error".into()),
            }
        }
        Some("length") => Ok(primary(words)?.chars().count().to_string()),
        Some("substr") => {
            let text = primary(words)?;
            let mut number = || {
                primary(words)?
                    .parse::<usize>()
                    .map_err(|_| "non-integer argument".to_owned())
            };
            let (begin, length) = (number()?, number()?);
            Ok(text.chars().skip(begin.saturating_sub(1)).take(length).collect())
        }
        Some(word) => Ok(word.to_owned()),
        None => Err("syntax error".into()),
    }
}

/// `diff [-q] [-u] A B`: the lines that differ, as the plain or the unified format shows them.
pub fn diff(io: &mut Io, args: &[String]) -> Outcome {
    let (letters, paths) = flags(args);
    let [left_path, right_path] = paths.as_slice() else {
        return Err("two files are needed".into());
    };
    let (left, right) = (files::input_text(io, left_path)?, files::input_text(io, right_path)?);
    if left == right {
        return Ok(0);
    }
    if letters.contains('q') {
        writeln!(io.out, "Files {left_path} and {right_path} differ").map_err(said)?;
        return Ok(1);
    }
    let (left, right): (Vec<&str>, Vec<&str>) = (left.lines().collect(), right.lines().collect());
    let changes = crate::compare::changes(&left, &right)?;
    match letters.contains('u') {
        true => {
            writeln!(io.out, "--- {left_path}\n+++ {right_path}").map_err(said)?;
            crate::compare::unified(io.out, &left, &right, &changes).map_err(said)?;
        }
        false => crate::compare::plain(io.out, &left, &right, &changes).map_err(said)?,
    }
    Ok(1)
}

pub fn cmp(io: &mut Io, args: &[String]) -> Outcome {
    let (letters, paths) = flags(args);
    let [left, right, ..] = paths.as_slice() else {
        return Err("two files are needed".into());
    };
    let mut bytes = [Vec::new(), Vec::new()];
    for (path, bytes) in [left, right].iter().zip(&mut bytes) {
        std::io::Read::read_to_end(&mut files::open(path)?, bytes).map_err(said)?;
    }
    if bytes[0] == bytes[1] {
        return Ok(0);
    }
    let same = bytes[0].iter().zip(&bytes[1]).take_while(|(a, b)| a == b).count();
    if !letters.contains('s') {
        let line = bytes[0][..same].iter().filter(|byte| **byte == b'\n').count() + 1;
        writeln!(io.out, "{left} {right} differ: byte {}, line {line}", same + 1).map_err(said)?;
    }
    Ok(1)
}
