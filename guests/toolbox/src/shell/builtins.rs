//! The commands that are part of the shell, because they change it or because they are wanted often.

use super::{Flow, Shell};
use crate::Io;
use std::io::Write as _;

type Builtin = fn(&mut Shell, &[String]) -> Result<i32, Flow>;

/// Those whose assignments stay and whose errors end a script.
const SPECIAL: [&str; 15] = [
    ".", ":", "break", "continue", "eval", "exec", "exit", "export", "readonly", "return", "set", "shift", "times",
    "trap", "unset",
];

pub fn is_special(name: &str) -> bool {
    SPECIAL.contains(&name)
}

pub fn find(name: &str) -> Option<Builtin> {
    Some(match name {
        ":" | "true" => |_, _| Ok(0),
        "false" => |_, _| Ok(1),
        "." | "source" => dot,
        "[" | "test" => |shell, fields| own(shell, fields, super::test),
        "bg" | "fg" => foreground,
        "break" => |shell, fields| leave(shell, fields, Flow::Break),
        "cd" => cd,
        "command" => command,
        "continue" => |shell, fields| leave(shell, fields, Flow::Continue),
        "echo" => |shell, fields| own(shell, fields, crate::values::echo),
        "eval" => |shell, fields| {
            let text = fields.get(1..).unwrap_or_default().join(" ");
            shell.status = 0;
            shell.script(&text)?;
            Ok(shell.status)
        },
        // Handled where commands run, because it keeps its redirections.
        "exec" => |_, _| Ok(0),
        "exit" => |shell, fields| Err(Flow::Exit(code(shell, fields)?)),
        "export" => Shell::export,
        "getopts" => Shell::getopts,
        "hash" => |_, _| Ok(0),
        "jobs" => |shell, _| {
            shell.look_at_jobs();
            let state = |pid: &u32| {
                if shell.finished.contains_key(pid) {
                    "Done"
                } else {
                    "Running"
                }
            };
            let jobs: Vec<_> = shell.jobs.iter().map(|pid| (*pid, state(pid))).collect();
            let lines = jobs.iter().enumerate();
            let text: String = lines
                .map(|(index, (pid, state))| format!("[{}] {state} {pid}\n", index + 1))
                .collect();
            shell.write_to(1, text.as_bytes())?;
            Ok(0)
        },
        "kill" => Shell::kill,
        "local" => Shell::local,
        "printf" => |shell, fields| own(shell, fields, super::printf),
        "pwd" => |shell, _| {
            let text = format!("{}\n", shell.state.directory);
            shell.write_to(1, text.as_bytes())?;
            Ok(0)
        },
        "read" => Shell::read,
        "readonly" => Shell::readonly,
        "return" => |shell, fields| Err(Flow::Return(code(shell, fields)?)),
        "set" => Shell::set,
        "shift" => shift,
        "times" => times,
        "trap" => Shell::trap,
        "type" => what,
        "ulimit" => |shell, _| {
            shell.write_to(1, b"unlimited\n")?;
            Ok(0)
        },
        "umask" => umask,
        "unset" => Shell::unset,
        "wait" => Shell::wait_builtin,
        _ => return None,
    })
}

/// Runs one of the toolbox's commands in this instance.
fn own(shell: &mut Shell, fields: &[String], run: fn(&mut Io, &[String]) -> crate::Outcome) -> Result<i32, Flow> {
    let (name, rest) = match fields.split_first() {
        Some((name, rest)) => (name.as_str(), rest),
        None => return Ok(0),
    };
    let rest = match (name, rest.split_last()) {
        ("[", Some((last, rest))) if last == "]" => rest,
        ("[", _) => {
            shell.complain("[: missing ]");
            return Ok(2);
        }
        _ => rest,
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let directory = shell.state.directory.clone();
    let outcome = crate::files::in_directory(&directory, || {
        run(
            &mut Io {
                input: &mut std::io::empty(),
                out: &mut out,
                err: &mut err,
            },
            rest,
        )
    });
    if !out.is_empty() {
        match shell.write_to(1, &out) {
            Err(Flow::Failed(_)) => return Ok(1),
            flow => flow?,
        }
    }
    shell.say(&String::from_utf8_lossy(&err));
    match outcome {
        Ok(code) => Ok(code),
        Err(what) => {
            shell.complain(&format!("{name}: {what}"));
            Ok(if matches!(name, "[" | "test") { 2 } else { 1 })
        }
    }
}

/// A number that a command may be given, as an exit code.
fn code(shell: &mut Shell, fields: &[String]) -> Result<i32, Flow> {
    match fields.get(1) {
        None => Ok(shell.status),
        Some(text) => match text.parse::<i64>() {
            Ok(number) if number >= 0 => Ok((number & 0xff) as i32),
            _ => Err(shell.fail(&format!("{}: Illegal number: {text}", fields[0]), 2)),
        },
    }
}

fn leave(shell: &mut Shell, fields: &[String], flow: fn(usize) -> Flow) -> Result<i32, Flow> {
    let count = match fields.get(1) {
        None => 1,
        Some(text) => match text.parse::<usize>() {
            Ok(count) if count > 0 => count,
            _ => return Err(shell.fail(&format!("{}: Illegal number: {text}", fields[0]), 2)),
        },
    };
    shell.status = 0;
    match shell.loops {
        0 => Ok(0),
        loops => Err(flow(count.min(loops))),
    }
}

fn dot(shell: &mut Shell, fields: &[String]) -> Result<i32, Flow> {
    let Some(name) = fields.get(1) else {
        return Err(shell.fail(".: a file is needed", 2));
    };
    let path = match name.contains('/') {
        true => name.clone(),
        false => {
            let path = shell.state.get("PATH").unwrap_or_default();
            let mut candidates = path.split(':').map(|directory| format!("{directory}/{name}"));
            let found = candidates.find(|path| crate::files::exists(&shell.path(path)));
            found.unwrap_or_else(|| name.clone())
        }
    };
    let Ok(text) = std::fs::read(shell.path(&path)) else {
        return Err(shell.fail(&format!(".: cannot open {name}: No such file"), 2));
    };
    let line = shell.line;
    shell.status = 0;
    let flow = shell.script(&String::from_utf8_lossy(&text));
    shell.line = line;
    match flow {
        Err(Flow::Return(code)) => Ok(code),
        flow => flow.map(|()| shell.status),
    }
}

fn cd(shell: &mut Shell, fields: &[String]) -> Result<i32, Flow> {
    let mut rest = fields.get(1..).unwrap_or_default();
    while rest
        .first()
        .is_some_and(|flag| matches!(flag.as_str(), "-L" | "-P" | "--"))
    {
        rest = &rest[1..];
    }
    let target = match rest.first().map(String::as_str) {
        None => shell.state.get("HOME").unwrap_or("/").to_owned(),
        Some("-") => match shell.state.get("OLDPWD") {
            Some(directory) => directory.to_owned(),
            None => {
                shell.complain("cd: OLDPWD not set");
                return Ok(2);
            }
        },
        Some(path) => path.to_owned(),
    };
    let path = shell.path(&target);
    if !crate::files::is_directory(&path) {
        shell.complain(&format!("cd: can't cd to {target}"));
        return Ok(2);
    }
    if rest.first().is_some_and(|path| path == "-") {
        shell.write_to(1, format!("{path}\n").as_bytes())?;
    }
    let before = std::mem::replace(&mut shell.state.directory, path.clone());
    shell.assign("OLDPWD", &before)?;
    shell.assign("PWD", &path)?;
    Ok(0)
}

/// `command -v NAME`, `command -V NAME`; without a flag it is taken away where commands run.
fn command(shell: &mut Shell, fields: &[String]) -> Result<i32, Flow> {
    let (flag, names) = match fields.get(1..) {
        Some([flag, names @ ..]) if flag.starts_with('-') => (flag.as_str(), names),
        _ => return Ok(0),
    };
    if flag == "-p" {
        shell.status = match shell.launch(names, false) {
            Ok(pid) => shell.wait_for(pid),
            Err(code) => code,
        };
        return Ok(shell.status);
    }
    let mut code = 0;
    for name in names {
        match shell.meaning(name) {
            Some((short, long)) => {
                let text = if flag == "-v" { short } else { long };
                shell.write_to(1, format!("{text}\n").as_bytes())?;
            }
            None => {
                if flag == "-V" {
                    shell.write_to(1, format!("{name}: not found\n").as_bytes())?;
                }
                code = 127;
            }
        }
    }
    Ok(code)
}

fn what(shell: &mut Shell, fields: &[String]) -> Result<i32, Flow> {
    let mut code = 0;
    for name in fields.get(1..).unwrap_or_default() {
        let text = match shell.meaning(name) {
            Some((_, long)) => long,
            None => {
                code = 127;
                format!("{name}: not found")
            }
        };
        shell.write_to(1, format!("{text}\n").as_bytes())?;
    }
    Ok(code)
}

fn foreground(shell: &mut Shell, fields: &[String]) -> Result<i32, Flow> {
    let job = fields.get(1).map_or("%", String::as_str);
    match shell.job(job) {
        Some(pid) if fields[0] == "fg" => {
            shell.jobs.retain(|job| *job != pid);
            Ok(match shell.finished.remove(&pid) {
                Some(code) => code,
                None => shell.wait_for(pid),
            })
        }
        Some(_) => Ok(0),
        None => {
            shell.complain(&format!("{}: No such job: {job}", fields[0]));
            Ok(2)
        }
    }
}

fn shift(shell: &mut Shell, fields: &[String]) -> Result<i32, Flow> {
    let count = match fields.get(1) {
        None => 1,
        Some(text) => match text.parse::<usize>() {
            Ok(count) => count,
            Err(_) => return Err(shell.fail(&format!("shift: Illegal number: {text}"), 2)),
        },
    };
    if count > shell.state.arguments.len() {
        return Err(shell.fail("shift: can't shift that many", 2));
    }
    shell.state.arguments.drain(..count);
    Ok(0)
}

/// No clock of a process is told here, so the times are none.
fn times(shell: &mut Shell, _: &[String]) -> Result<i32, Flow> {
    shell.write_to(1, b"0m0.000000s 0m0.000000s\n0m0.000000s 0m0.000000s\n")?;
    Ok(0)
}

/// The mask is kept and shown; files here have no permissions that it could take away.
fn umask(shell: &mut Shell, fields: &[String]) -> Result<i32, Flow> {
    let Some(text) = fields.get(1) else {
        let text = format!("{:04o}\n", shell.state.mask);
        shell.write_to(1, text.as_bytes())?;
        return Ok(0);
    };
    match u32::from_str_radix(text, 8) {
        Ok(mask) => {
            shell.state.mask = mask & 0o777;
            Ok(0)
        }
        Err(_) => Err(shell.fail(&format!("umask: Illegal number: {text}"), 2)),
    }
}

/// Shows lines that were made by a closure.
pub fn lines(shell: &mut Shell, write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> Result<i32, Flow> {
    let mut text = Vec::new();
    // Memory takes every write.
    let _ = write(&mut text).and_then(|()| text.flush());
    shell.write_to(1, &text)?;
    Ok(0)
}
