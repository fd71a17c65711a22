//! Programs that start programs, pipes between them, and signals.

use crate::bindings::coracle::process::processes::{self, Program};
use crate::bindings::coracle::process::streams::{self, End, Sink, Source};
use crate::bindings::coracle::process::terminal;
use crate::held::Held;
use crate::program::Step;

/// The longest sleep, in nanoseconds.
const SLEEP: u64 = 100_000;

pub fn step(held: &mut Held, p: &mut Step) {
    match p.below(24) {
        0..3 => pipe(held, p),
        3..6 => write(held, p),
        6..9 => read(held, p),
        9..11 => share(held, p),
        11..13 => over(held, p),
        13 => inherited(held, p),
        14..18 => spawn(held, p),
        18 => wait(held, p),
        19 | 20 => signal(held, p),
        21 => held.good += u64::from(processes::sleep(p.number().min(SLEEP))),
        22 => ask(held, p),
        _ => drop((held.sources.take(p), held.sinks.take(p))),
    }
}

fn pipe(held: &mut Held, p: &mut Step) {
    let (source, sink) = match p.flag() {
        true => streams::pipe(),
        false => streams::buffer(),
    };
    held.sources.put(source);
    held.sinks.put(sink);
}

fn write(held: &mut Held, p: &mut Step) {
    let Some(sink) = held.sinks.pick(p) else { return };
    // A pipe that is full is waited for; so not more than it holds, and not always.
    let mut bytes = p.bytes();
    if !p.seldom() {
        bytes.truncate(512);
    }
    let answer = sink.write(&bytes);
    held.good(answer);
}

fn read(held: &mut Held, p: &mut Step) {
    let Some(source) = held.sources.pick(p) else { return };
    let answer = source.try_read(p.number() as u32).map(drop);
    held.good(answer);
    if p.flag() {
        line(held, p);
    }
}

/// Waits for a line where the pipe is known to end: nobody else writes to it.
fn line(held: &mut Held, p: &mut Step) {
    let (source, sink) = streams::pipe();
    let mut bytes = p.bytes();
    // More than a pipe holds would wait for a reader, who is here.
    bytes.truncate(4096);
    let written = sink.write(&bytes).is_ok();
    drop(sink);
    let line = match p.flag() {
        true => source.read_until(p.byte(), p.number() as u32),
        false => source.read(p.number() as u32),
    };
    held.sources.put(source);
    held.good += u64::from(written && line.is_ok());
}

fn share(held: &mut Held, p: &mut Step) {
    if let Some(source) = held.sources.pick(p).map(Source::share) {
        held.good += u64::from(source.is_terminal());
        held.sources.put(source);
    }
    if let Some(sink) = held.sinks.pick(p).map(Sink::share) {
        held.good += u64::from(sink.is_terminal());
        held.sinks.put(sink);
    }
}

fn over(held: &mut Held, p: &mut Step) {
    held.free(p);
    match p.flag() {
        true => {
            if let Some(stream) = held.inputs.take(p) {
                held.sources.put(Source::over(stream));
            }
        }
        false => {
            if let Some(stream) = held.outputs.take(p) {
                held.sinks.put(Sink::over(stream));
            }
        }
    }
}

fn inherited(held: &mut Held, p: &mut Step) {
    match streams::inherited(p.below(5) as u32) {
        Some(End::Source(source)) => held.sources.put(source),
        Some(End::Sink(sink)) => held.sinks.put(sink),
        None => {}
    }
}

/// A program to start, most often this one.
fn child(p: &mut Step) -> Program {
    let name = if p.seldom() { p.text() } else { "driver".to_owned() };
    let (seed, steps) = (p.byte().to_string(), p.below(24).to_string());
    let mut args = vec![name.clone(), "all".to_owned(), "seed".to_owned(), seed, steps];
    if p.seldom() {
        args.push(p.text());
    }
    let env = (0..p.below(3)).map(|_| (p.text(), p.text())).collect();
    Program {
        name,
        args,
        env,
        directory: p.text(),
        background: p.flag(),
    }
}

fn spawn(held: &mut Held, p: &mut Step) {
    let mut ends = Vec::new();
    for _ in 0..p.below(4) {
        let number = p.below(4) as u32;
        let end = match p.flag() {
            true => held.sources.pick(p).map(|source| End::Source(source.share())),
            false => held.sinks.pick(p).map(|sink| End::Sink(sink.share())),
        };
        ends.extend(end.map(|end| (number, end)));
    }
    let answer = processes::spawn(&child(p), ends);
    if let Some(pid) = held.good(answer) {
        held.children.put(pid);
    }
}

fn wait(held: &mut Held, p: &mut Step) {
    held.good += processes::ended().len() as u64;
    // A stranger's number: nobody can wait for that.
    let stranger = u32::MAX - u32::from(p.byte());
    let answer = match held.children.take(p) {
        None => processes::wait(&[stranger]),
        Some(child) => {
            // It is ended first, so that nobody waits for long.
            let ended = processes::kill(child, 9);
            held.good(ended);
            match p.flag() {
                true => processes::wait(&[child, stranger, child]),
                false => processes::wait(&[]),
            }
        }
    };
    held.good(answer);
}

fn signal(held: &mut Held, p: &mut Step) {
    let child = held.children.pick(p).copied();
    let pid = child.unwrap_or_else(|| 2 + p.number() as u32 % 1000);
    let answer = processes::kill(pid, p.byte());
    held.good(answer);
    if p.flag() {
        processes::catch(&p.bytes()[..]);
    }
    held.good += processes::caught().len() as u64;
}

fn ask(held: &mut Held, p: &mut Step) {
    let (own, parent) = processes::ids();
    held.good += u64::from(own != parent) + processes::all().len() as u64;
    terminal::set_raw(p.flag());
    held.good += u64::from(terminal::size().is_some());
}
