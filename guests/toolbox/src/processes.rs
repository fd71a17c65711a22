//! Commands about processes.

use crate::sys::{self, Given, KillError, Program, SpawnError};
use crate::values::said;
use crate::{Io, Outcome};
use std::io::Write;

/// Runs a program with this one's streams, and returns its exit code.
pub fn run(args: &[String], env: Vec<(String, String)>) -> Outcome {
    let name = args.first().ok_or("a program is needed")?;
    let pid = start(args, env)?;
    let Ok(pid) = pid else {
        return Err(format!("'{name}': No such file or directory")).or_else(|what: String| {
            eprintln!("{what}");
            Ok(127)
        });
    };
    Ok(wait(pid))
}

/// Starts a program with this one's streams; the inner error says that there is none of that name.
pub fn start(args: &[String], env: Vec<(String, String)>) -> Result<Result<u32, ()>, String> {
    let program = Program {
        name: args.first().cloned().unwrap_or_default(),
        args: args.to_vec(),
        env,
        directory: crate::files::directory(),
        background: false,
    };
    let given: Vec<(u32, Given)> = (0..3)
        .filter_map(|number| Some((number, sys::inherited(number)?)))
        .collect();
    match sys::spawn(&program, given) {
        Ok(pid) => Ok(Ok(pid)),
        Err(SpawnError::NotFound) => Ok(Err(())),
        Err(SpawnError::TooMany) => Err("Resource temporarily unavailable".into()),
        Err(SpawnError::Failed(why)) => Err(why),
    }
}

/// Waits for a child's end.
pub fn wait(pid: u32) -> i32 {
    loop {
        match sys::wait(&[pid]) {
            Ok(exit) => return exit.code as i32,
            Err(sys::WaitError::NoChild) => return 127,
            Err(sys::WaitError::Interrupted) => {}
        }
    }
}

/// `kill [-s SIGNAL | -SIGNAL] PID...`, `kill -l [NUMBER]`
pub fn kill(args: &[String], shown: &mut String) -> Result<(), String> {
    let mut rest = args;
    let mut signal = 15;
    if let Some(flag) = rest.first().and_then(|first| first.strip_prefix('-')) {
        rest = &rest[1..];
        match flag {
            "l" => {
                match rest.first().and_then(|text| text.parse::<u8>().ok()) {
                    Some(number) => *shown = format!("{}\n", sys::signal_name(number & 0x7f)),
                    None => {
                        let names: Vec<_> = sys::SIGNALS.iter().map(|(name, _)| *name).collect();
                        *shown = names.join("\n") + "\n";
                    }
                }
                return Ok(());
            }
            "-" => {}
            "s" | "n" => {
                let name = rest.first().ok_or("a signal is needed")?;
                signal = sys::signal(name).ok_or_else(|| format!("invalid signal {name}"))?;
                rest = &rest[1..];
            }
            name => signal = sys::signal(name).ok_or_else(|| format!("invalid signal {name}"))?,
        }
    }
    if rest.is_empty() {
        return Err("a process is needed".into());
    }
    for text in rest {
        let pid = text.parse().map_err(|_| format!("Illegal number: {text}"))?;
        sys::kill(pid, signal).map_err(|error| match error {
            KillError::NoProcess => "No such process".to_owned(),
            KillError::NoSignal => format!("signal {} does not exist here", sys::signal_name(signal)),
        })?;
    }
    Ok(())
}

pub fn kill_command(io: &mut Io, args: &[String]) -> Outcome {
    let mut shown = String::new();
    kill(args, &mut shown)?;
    write!(io.out, "{shown}").map_err(said)?;
    Ok(0)
}

/// All processes of the container.
pub fn ps(io: &mut Io, _: &[String]) -> Outcome {
    writeln!(io.out, "{:>5} {:>5} {:>8} COMMAND", "PID", "PPID", "TIME").map_err(said)?;
    for process in sys::all() {
        let seconds = process.nanoseconds / 1_000_000_000;
        // A part of a shell's script has all of the script as arguments.
        let args = match process.args.iter().position(|arg| arg == "--part") {
            Some(at) => &process.args[..at],
            None => &process.args[..],
        };
        let time = format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let command = args.join(" ").replace('\n', " ");
        writeln!(io.out, "{:>5} {:>5} {time:>8} {command}", process.pid, process.parent).map_err(said)?;
    }
    Ok(0)
}

/// What a command of the shell writes.
pub fn output(command: &str) -> Result<Vec<u8>, String> {
    let (source, sink) = sys::pipe();
    let pid = shell(command, vec![(1, Given::Sink(sink)), (0, no_input())])?;
    let mut text = Vec::new();
    loop {
        match source.read(u32::MAX) {
            Ok(piece) if piece.is_empty() => break,
            Ok(piece) => text.extend(piece),
            Err(_) => break,
        }
    }
    wait(pid);
    Ok(text)
}

fn no_input() -> Given {
    let (source, _) = sys::pipe();
    Given::Source(source)
}

/// Starts a command of the shell with some streams, and this program's for the others.
fn shell(command: &str, streams: Vec<(u32, Given)>) -> Result<u32, String> {
    let program = Program {
        name: "sh".into(),
        args: vec!["sh".into(), "-c".into(), command.into()],
        env: std::env::vars().collect(),
        directory: crate::files::directory(),
        background: false,
    };
    let mut given = streams;
    for number in 0..3 {
        if !given.iter().any(|(known, _)| *known == number) {
            given.extend(sys::inherited(number).map(|end| (number, end)));
        }
    }
    sys::spawn(&program, given).map_err(|_| "cannot start the shell".to_owned())
}

/// A command of the shell that reads what is written here. Dropping it waits for the command's end.
pub struct Piped {
    sink: Option<sys::Sink>,
    pid: u32,
}

impl Piped {
    pub fn start(command: &str) -> Result<Self, String> {
        let (source, sink) = sys::pipe();
        let pid = shell(command, vec![(0, Given::Source(source))])?;
        let sink = Some(sink);
        Ok(Self { sink, pid })
    }
}

impl Write for Piped {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &self.sink {
            Some(sink) if sink.write(bytes).is_ok() => Ok(bytes.len()),
            _ => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        self.sink = None;
        wait(self.pid);
    }
}

/// `timeout [-s SIGNAL] [-k SECONDS] SECONDS PROGRAM [ARGUMENT...]`
pub fn timeout(_: &mut Io, args: &[String]) -> Outcome {
    let (mut signal, mut rest) = (15, args);
    while let [flag, value, after @ ..] = rest
        && flag.starts_with('-')
    {
        match flag.as_str() {
            "-s" => signal = sys::signal(value).ok_or_else(|| format!("invalid signal {value}"))?,
            "-k" => {}
            other => return Err(format!("unrecognized option: {other}")),
        }
        rest = after;
    }
    let (limit, program) = rest.split_first().ok_or("a time is needed")?;
    let limit = crate::values::duration(limit)?;
    let Ok(pid) = start(program, std::env::vars().collect())? else {
        eprintln!(
            "timeout: {}: No such file or directory",
            program.first().map_or("", String::as_str)
        );
        return Ok(127);
    };
    // Another process tells when the time is over: two children are waited for at once.
    let clock = ["sleep".to_owned(), format!("{}", limit.as_secs_f64())];
    let clock = start(&clock, Vec::new())?.map_err(|()| "there is no clock")?;
    let first = loop {
        match sys::wait(&[pid, clock]) {
            Ok(exit) => break exit,
            Err(sys::WaitError::NoChild) => return Ok(127),
            Err(sys::WaitError::Interrupted) => {}
        }
    };
    let other = if first.pid == pid { clock } else { pid };
    // It may have ended by now.
    let _ = sys::kill(other, if first.pid == pid { 9 } else { signal });
    let code = wait(other);
    Ok(match first.pid == pid {
        true => first.code as i32,
        false if signal == 9 => code,
        false => 124,
    })
}
