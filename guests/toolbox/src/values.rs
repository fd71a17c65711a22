//! Commands about values: text that is given, the environment, the time.

use crate::{Io, Outcome};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub fn said(error: std::io::Error) -> String {
    error.to_string()
}

pub fn echo(io: &mut Io, args: &[String]) -> Outcome {
    let (mut newline, mut escapes, mut rest) = (true, false, args);
    while let Some((flag, more)) = rest.split_first() {
        match flag.as_str() {
            "-n" => newline = false,
            "-e" => escapes = true,
            "-ne" | "-en" => (newline, escapes) = (false, true),
            _ => break,
        }
        rest = more;
    }
    let text = rest.join(" ");
    let text = if escapes { unescape(&text) } else { text };
    let end = if newline { "\n" } else { "" };
    write!(io.out, "{text}{end}").map_err(said)?;
    Ok(0)
}

fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => plain.push('\n'),
            Some('t') => plain.push('\t'),
            Some('r') => plain.push('\r'),
            Some('\\') => plain.push('\\'),
            Some(other) => plain.extend(['\\', other]),
            None => plain.push('\\'),
        }
    }
    plain
}

/// `%s`, `%d` and `%%`; the format is used again while there are arguments.
pub fn printf(io: &mut Io, args: &[String]) -> Outcome {
    let (format, rest) = args.split_first().ok_or("missing format")?;
    let format = unescape(format);
    let mut values = rest.iter();
    loop {
        let mut chars = format.chars();
        let mut used = false;
        while let Some(c) = chars.next() {
            let shown = match (c, if c == '%' { chars.next() } else { None }) {
                ('%', Some('%')) => "%".to_owned(),
                ('%', Some('s')) => values.next().cloned().inspect(|_| used = true).unwrap_or_default(),
                ('%', Some('d' | 'i')) => {
                    let value = values
                        .next()
                        .cloned()
                        .inspect(|_| used = true)
                        .unwrap_or_else(|| "0".into());
                    value
                        .parse::<i64>()
                        .map_err(|_| format!("{value}: invalid number"))?
                        .to_string()
                }
                ('%', Some(other)) => return Err(format!("%{other}: invalid format")),
                (c, _) => c.to_string(),
            };
            write!(io.out, "{shown}").map_err(said)?;
        }
        if values.len() == 0 || !used {
            return Ok(0);
        }
    }
}

pub fn env(io: &mut Io, args: &[String]) -> Outcome {
    if args.is_empty() {
        for (name, value) in io.env {
            writeln!(io.out, "{name}={value}").map_err(said)?;
        }
        return Ok(0);
    }
    let set = args.iter().take_while(|arg| arg.contains('=')).count();
    let (assignments, command) = args.split_at(set);
    let mut env = io.env.clone();
    env.extend(
        assignments
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .map(|(a, b)| (a.into(), b.into())),
    );
    if command.first().is_some_and(|name| crate::find(name).is_some()) {
        let mut inner = Io {
            input: io.input,
            out: io.out,
            err: io.err,
            env: &env,
        };
        return Ok(crate::run(&mut inner, command));
    }
    let mut code = 0;
    for name in command {
        match env.get(name) {
            Some(value) => writeln!(io.out, "{value}").map_err(said)?,
            None => code = 1,
        }
    }
    Ok(code)
}

pub fn hostname(io: &mut Io, _: &[String]) -> Outcome {
    writeln!(io.out, "{}", io.env.get("HOSTNAME").map_or("", String::as_str)).map_err(said)?;
    Ok(0)
}

pub fn pwd(io: &mut Io, _: &[String]) -> Outcome {
    let directory = io.env.get("PWD").cloned().unwrap_or_else(|| "/".into());
    writeln!(io.out, "{directory}").map_err(said)?;
    Ok(0)
}

pub fn basename(io: &mut Io, args: &[String]) -> Outcome {
    let path = args.first().ok_or("missing operand")?.trim_end_matches('/');
    let name = path.rsplit('/').next().unwrap_or(path);
    let name = args
        .get(1)
        .and_then(|suffix| name.strip_suffix(suffix.as_str()))
        .unwrap_or(name);
    writeln!(io.out, "{name}").map_err(said)?;
    Ok(0)
}

pub fn dirname(io: &mut Io, args: &[String]) -> Outcome {
    let path = args.first().ok_or("missing operand")?.trim_end_matches('/');
    let parent = match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((parent, _)) => parent,
        None => ".",
    };
    writeln!(io.out, "{parent}").map_err(said)?;
    Ok(0)
}

pub fn seq(io: &mut Io, args: &[String]) -> Outcome {
    let number = |text: &String| text.parse::<i64>().map_err(|_| format!("{text}: invalid number"));
    let (first, step, last) = match args {
        [last] => (1, 1, number(last)?),
        [first, last] => (number(first)?, 1, number(last)?),
        [first, step, last] => (number(first)?, number(step)?, number(last)?),
        _ => return Err("one to three numbers are needed".into()),
    };
    let mut value = first;
    while step != 0 && if step > 0 { value <= last } else { value >= last } {
        writeln!(io.out, "{value}").map_err(said)?;
        value += step;
    }
    Ok(0)
}

pub fn sleep(io: &mut Io, args: &[String]) -> Outcome {
    let _ = io.out.flush();
    for arg in args {
        let (number, unit) = match arg.strip_suffix(['s', 'm', 'h', 'd']) {
            Some(number) => (number, arg.chars().last().unwrap_or('s')),
            None => (arg.as_str(), 's'),
        };
        let factor = match unit {
            'm' => 60.0,
            'h' => 3600.0,
            'd' => 86400.0,
            _ => 1.0,
        };
        let seconds = number.parse::<f64>().ok().filter(|seconds| *seconds >= 0.0);
        let seconds = seconds.ok_or_else(|| format!("invalid number '{arg}'"))?;
        std::thread::sleep(Duration::try_from_secs_f64(seconds * factor).unwrap_or(Duration::MAX));
    }
    Ok(0)
}

/// The time in UTC, or with `+%s` in seconds since 1970.
pub fn date(io: &mut Io, args: &[String]) -> Outcome {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    if args.first().is_some_and(|format| format == "+%s") {
        writeln!(io.out, "{seconds}").map_err(said)?;
        return Ok(0);
    }
    let (days, rest) = (seconds / 86400, seconds % 86400);
    // The civil calendar from a day number, in years that begin in March.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    writeln!(
        io.out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
    )
    .map_err(said)?;
    Ok(0)
}

pub fn test(_: &mut Io, args: &[String]) -> Outcome {
    let args = match args.split_last() {
        Some((last, rest)) if last == "]" => rest,
        _ => args,
    };
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<i64>().map_err(|_| format!("{text}: integer expected"));
    let holds = match words.as_slice() {
        [] => false,
        ["!", rest @ ..] => {
            let rest: Vec<String> = rest.iter().map(|word| (*word).to_owned()).collect();
            return test_code(&rest).map(|code| i32::from(code == 0));
        }
        ["-n", text] => !text.is_empty(),
        ["-z", text] => text.is_empty(),
        ["-e", path] => std::path::Path::new(path).exists(),
        ["-f", path] => std::path::Path::new(path).is_file(),
        ["-d", path] => std::path::Path::new(path).is_dir() || !crate::files::under(path).is_empty(),
        ["-s", path] => std::fs::metadata(path).is_ok_and(|found| found.len() > 0),
        [one] => !one.is_empty(),
        [a, "=" | "==", b] => a == b,
        [a, "!=", b] => a != b,
        [a, "-eq", b] => number(a)? == number(b)?,
        [a, "-ne", b] => number(a)? != number(b)?,
        [a, "-lt", b] => number(a)? < number(b)?,
        [a, "-le", b] => number(a)? <= number(b)?,
        [a, "-gt", b] => number(a)? > number(b)?,
        [a, "-ge", b] => number(a)? >= number(b)?,
        _ => return Err("unknown expression".into()),
    };
    Ok(i32::from(!holds))
}

fn test_code(args: &[String]) -> Outcome {
    let env = std::collections::BTreeMap::new();
    let mut nothing = std::io::empty();
    let (mut out, mut err) = (std::io::sink(), std::io::sink());
    test(
        &mut Io {
            input: &mut nothing,
            out: &mut out,
            err: &mut err,
            env: &env,
        },
        args,
    )
}
