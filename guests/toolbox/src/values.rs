//! Commands about values: text that is given, the environment, the time.

use crate::{Io, Outcome};
use std::time::Duration;

pub fn said(error: std::io::Error) -> String {
    error.to_string()
}

/// As dash has it: escapes are always meant. `-e` is taken for those who write it.
pub fn echo(io: &mut Io, args: &[String]) -> Outcome {
    let (mut newline, mut rest) = (true, args);
    while let Some((flag, more)) = rest.split_first() {
        match flag.as_str() {
            "-n" | "-ne" | "-en" => newline = false,
            "-e" => {}
            _ => break,
        }
        rest = more;
    }
    let (mut text, ended) = crate::shell::unescape(&rest.join(" "), true);
    if newline && !ended {
        text.push(b'\n');
    }
    io.out.write_all(&text).map_err(said)?;
    Ok(0)
}

/// `env [-i] [-u NAME] [NAME=VALUE...] [PROGRAM [ARGUMENT...]]`
pub fn env(io: &mut Io, args: &[String]) -> Outcome {
    let mut env: std::collections::BTreeMap<String, String> = std::env::vars().collect();
    let mut rest = args;
    while let Some((first, more)) = rest.split_first() {
        match first.as_str() {
            "-i" | "-" => env.clear(),
            "-u" => {
                env.remove(more.first().ok_or("-u needs a name")?);
                rest = &more[1..];
                continue;
            }
            pair => match pair.split_once('=') {
                Some((name, value)) => drop(env.insert(name.to_owned(), value.to_owned())),
                None => break,
            },
        }
        rest = more;
    }
    if rest.is_empty() {
        for (name, value) in &env {
            writeln!(io.out, "{name}={value}").map_err(said)?;
        }
        return Ok(0);
    }
    io.out.flush().map_err(said)?;
    crate::processes::run(rest, env.into_iter().collect())
}

pub fn printenv(io: &mut Io, args: &[String]) -> Outcome {
    if args.is_empty() {
        return env(io, args);
    }
    let mut code = 0;
    for name in args {
        match std::env::var(name) {
            Ok(value) => writeln!(io.out, "{value}").map_err(said)?,
            Err(_) => code = 1,
        }
    }
    Ok(code)
}

pub fn hostname(io: &mut Io, _: &[String]) -> Outcome {
    let name = std::env::var("HOSTNAME").ok().or_else(|| {
        let text = std::fs::read_to_string("/etc/hostname").ok()?;
        Some(text.trim().to_owned())
    });
    writeln!(io.out, "{}", name.unwrap_or_default()).map_err(said)?;
    Ok(0)
}

pub fn pwd(io: &mut Io, _: &[String]) -> Outcome {
    writeln!(io.out, "{}", crate::files::directory()).map_err(said)?;
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

/// `seq [-s TEXT] [-w] [FIRST [STEP]] LAST`
pub fn seq(io: &mut Io, args: &[String]) -> Outcome {
    let (mut separator, mut wide, mut rest) = ("\n", false, args);
    loop {
        match rest {
            [flag, text, more @ ..] if flag == "-s" => (separator, rest) = (text, more),
            [flag, more @ ..] if flag == "-w" => (wide, rest) = (true, more),
            [flag, more @ ..] if flag.starts_with("-s") => (separator, rest) = (&flag[2..], more),
            _ => break,
        }
    }
    let number = |text: &String| text.parse::<f64>().map_err(|_| format!("invalid number '{text}'"));
    let (first, step, last) = match rest {
        [last] => (1.0, 1.0, number(last)?),
        [first, last] => (number(first)?, 1.0, number(last)?),
        [first, step, last] => (number(first)?, number(step)?, number(last)?),
        _ => return Err("one to three numbers are needed".into()),
    };
    let digits = |text: &String| text.split_once('.').map_or(0, |(_, after)| after.len());
    let places = rest.iter().map(digits).max().unwrap_or(0);
    let width = match wide {
        true => format!("{first:.places$}").len().max(format!("{last:.places$}").len()),
        false => 0,
    };
    if step == 0.0 {
        return Err("the step is zero".into());
    }
    let count = ((last - first) / step + 1e-9).floor();
    let mut turn = 0.0;
    while turn <= count {
        let value = first + turn * step;
        let mark = if turn > 0.0 { separator } else { "" };
        write!(io.out, "{mark}{value:0width$.places$}").map_err(said)?;
        turn += 1.0;
    }
    if count >= 0.0 {
        writeln!(io.out).map_err(said)?;
    }
    Ok(0)
}

/// A time such as `1.5`, `10s`, `2m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, factor) = match text.chars().last() {
        Some('s') => (&text[..text.len() - 1], 1.0),
        Some('m') => (&text[..text.len() - 1], 60.0),
        Some('h') => (&text[..text.len() - 1], 3600.0),
        Some('d') => (&text[..text.len() - 1], 86400.0),
        _ => (text, 1.0),
    };
    if matches!(text, "infinity" | "inf") {
        return Ok(Duration::MAX);
    }
    let seconds = number.parse::<f64>().ok().filter(|seconds| *seconds >= 0.0);
    let seconds = seconds.ok_or_else(|| format!("invalid time interval '{text}'"))?;
    Ok(Duration::try_from_secs_f64(seconds * factor).unwrap_or(Duration::MAX))
}

pub fn sleep(io: &mut Io, args: &[String]) -> Outcome {
    let _ = io.out.flush();
    if args.is_empty() {
        return Err("missing operand".into());
    }
    for arg in args {
        std::thread::sleep(duration(arg)?);
    }
    Ok(0)
}
