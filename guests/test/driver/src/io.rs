//! Streams, polling, clocks, randomness, and what a program is told of itself.

use crate::held::Held;
use crate::program::Step;
use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::io::poll::poll;
use wasip2::io::streams::StreamError;
use wasip2::{cli, random};

/// The longest that a program waits for something at once, in nanoseconds.
const PATIENCE: u64 = 200_000;

pub fn step(held: &mut Held, p: &mut Step) {
    match p.below(20) {
        0..4 => read(held, p),
        4..8 => write(held, p),
        8 => splice(held, p),
        9 => ask_stream(held, p),
        10 | 11 => wait(held, p),
        12 => timer(held, p),
        13 => clocks(held),
        14 => randomness(held, p),
        15 => oneself(held, p),
        16 => errors(held, p),
        _ => give_up(held, p),
    }
}

fn failed(held: &mut Held, error: StreamError) {
    if let StreamError::LastOperationFailed(error) = error {
        held.errors.put(error);
    }
}

fn read(held: &mut Held, p: &mut Step) {
    let Some(stream) = held.inputs.pick(p) else {
        if p.flag() {
            held.inputs.put(cli::stdin::get_stdin());
        }
        return;
    };
    let (how, length) = (p.below(4), p.number());
    let ready = how > 1 && stream.subscribe().ready();
    let answer = match how {
        0 => stream.read(length).map(drop),
        1 => stream.skip(length).map(drop),
        // What is ready answers at once, also where one may wait.
        2 if ready => stream.blocking_read(length).map(drop),
        3 if ready => stream.blocking_skip(length).map(drop),
        _ => Ok(()),
    };
    match answer {
        Ok(()) => held.good += 1,
        Err(error) => failed(held, error),
    }
}

fn write(held: &mut Held, p: &mut Step) {
    let Some(stream) = held.outputs.pick(p) else {
        held.outputs.put(match p.flag() {
            true => cli::stdout::get_stdout(),
            false => cli::stderr::get_stderr(),
        });
        return;
    };
    let (how, bytes) = (p.below(8), p.bytes());
    let room = stream.check_write();
    let room = match room {
        Ok(room) => room,
        Err(error) => return failed(held, error),
    };
    let some = &bytes[..bytes.len().min(room as usize)];
    let answer = match how {
        0..3 => stream.write(some),
        3 => stream.write_zeroes(p.number().min(room)),
        4 => stream.flush(),
        // More than was allowed: the host ends whoever does that.
        5 if p.deadly() => stream.write(&bytes),
        6 if p.deadly() => stream.write_zeroes(p.number()),
        7 if room > 4096 => stream.blocking_write_and_flush(&some[..some.len().min(4096)]),
        _ => Ok(()),
    };
    match answer {
        Ok(()) => held.good += 1,
        Err(error) => failed(held, error),
    }
}

fn splice(held: &mut Held, p: &mut Step) {
    let (Some(output), Some(input)) = (held.outputs.pick(p), held.inputs.pick(p)) else {
        return;
    };
    match output.splice(input, p.number()) {
        Ok(_) => held.good += 1,
        Err(error) => failed(held, error),
    }
}

fn ask_stream(held: &mut Held, p: &mut Step) {
    let pollable = match p.flag() {
        true => held.inputs.pick(p).map(|stream| stream.subscribe()),
        false => held.outputs.pick(p).map(|stream| stream.subscribe()),
    };
    if let Some(pollable) = pollable {
        held.pollables.put(pollable);
    }
}

fn timer(held: &mut Held, p: &mut Step) {
    held.pollables.put(match p.flag() {
        true => monotonic_clock::subscribe_duration(p.number()),
        false => monotonic_clock::subscribe_instant(p.number()),
    });
}

/// Waits for some of what can be waited for, the same thing twice or a thousand times among it, and never for long.
fn wait(held: &mut Held, p: &mut Step) {
    if p.deadly() {
        // Nothing to wait for: the host ends whoever waits for nothing.
        poll(&[]);
    }
    let end = monotonic_clock::subscribe_duration(PATIENCE);
    let mut list = vec![&end];
    for _ in 0..p.below(8) {
        let Some(pollable) = held.pollables.pick(p) else { break };
        let times = match p.seldom() {
            true if p.deadly() => 10_000,
            true => p.below(500),
            false => 1,
        };
        list.extend(std::iter::repeat_n(pollable, times));
    }
    held.good += u64::from(!poll(&list).is_empty());
}

fn clocks(held: &mut Held) {
    let (now, wall) = (monotonic_clock::now(), wall_clock::now());
    held.good += u64::from(now >= monotonic_clock::resolution() || wall.seconds > wall_clock::resolution().seconds);
}

fn randomness(held: &mut Held, p: &mut Step) {
    // A megabyte is the most; beyond it a program is ended.
    let length = if p.deadly() { p.number() } else { p.size() as u64 };
    let bytes = match p.flag() {
        true => random::random::get_random_bytes(length),
        false => random::insecure::get_insecure_random_bytes(length),
    };
    held.good += u64::from(bytes.len() as u64 == length || random::insecure_seed::insecure_seed().0 == 0);
}

fn oneself(held: &mut Held, p: &mut Step) {
    held.good += match p.below(4) {
        0 => cli::environment::get_environment().len(),
        1 => cli::environment::get_arguments().len(),
        2 => cli::environment::initial_cwd().map_or(0, |directory| directory.len()),
        _ => {
            let (input, output) = (
                cli::terminal_stdin::get_terminal_stdin(),
                cli::terminal_stdout::get_terminal_stdout(),
            );
            usize::from(input.is_some() || output.is_some() || cli::terminal_stderr::get_terminal_stderr().is_some())
        }
    } as u64;
}

fn errors(held: &mut Held, p: &mut Step) {
    let Some(error) = held.errors.pick(p) else { return };
    let words = error.to_debug_string();
    let known = wasip2::filesystem::types::filesystem_error_code(error).is_some()
        || wasip2::http::types::http_error_code(error).is_some();
    held.good += u64::from(known || words.is_empty());
}

/// Gives up something that others do not depend on; seldom something that they may depend on.
fn give_up(held: &mut Held, p: &mut Step) {
    let what = p.below(8);
    if what > 3 {
        held.free(p);
    }
    match what {
        0..3 => drop(held.pollables.take(p)),
        3 => drop(held.errors.take(p)),
        4 => drop(held.inputs.take(p)),
        5 => drop(held.outputs.take(p)),
        6 => drop((held.sources.take(p), held.sinks.take(p))),
        _ => drop((held.listings.take(p), held.arriving.take(p), held.leaving.take(p))),
    }
}
