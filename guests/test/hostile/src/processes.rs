//! Programs that start programs.

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit/process",
        world: "host",
        with: { "wasi:io/streams@0.2.0": wasip2::io::streams },
    });
}

use bindings::coracle::process::processes::{Program, ids, sleep, spawn, wait};
use bindings::coracle::process::streams::{End, Source, buffer, inherited, pipe};
use wasip2::cli::stdin::get_stdin;
use wasip2::io::streams::InputStream;

/// The name under which the container knows its own program.
const OWN: &str = "hostile";

fn program(args: &[&str]) -> Program {
    Program {
        name: OWN.to_owned(),
        args: std::iter::once(OWN)
            .chain(args.iter().copied())
            .map(str::to_owned)
            .collect(),
        env: Vec::new(),
        directory: "/".to_owned(),
        background: false,
    }
}

/// The stream that this program was given under a number.
fn given(number: u32) -> End {
    inherited(number).expect("a stream")
}

fn over(stream: InputStream) -> End {
    End::Source(Source::over(stream))
}

/// A stream in a stream in a stream: each program wraps its input once more and gives it to the next, and the last one reads.
/// What the host does for one read goes as deep as there were programs.
pub fn dolls(depth: u32) {
    if depth > 0 {
        let input = match ids().0 {
            1 => End::Source(pipe().0),
            _ => over(get_stdin()),
        };
        let streams = [(0, input), (1, given(1)), (2, given(2))];
        let next = program(&["dolls", &(depth - 1).to_string()]);
        if let Err(error) = spawn(&next, streams.into()) {
            println!("{depth} left, then {error:?}");
            return;
        }
    } else {
        println!("read {:?}", get_stdin().blocking_read(1).map(|bytes| bytes.len()));
    }
    // The first program stays, because all end with it.
    while ids().0 == 1 {
        sleep(1_000_000_000);
    }
}

/// Starts programs that start programs.
pub fn spawns() {
    loop {
        let _ = spawn(&program(&["spawns"]), Vec::new());
        if ids().0 == 1 {
            let _ = wait(&[]);
        }
    }
}

/// Keeps bytes that it writes to itself one by one, and says how many there were.
pub fn crumbs() {
    let (_source, sink) = buffer();
    let kept = (0_u64..).take_while(|_| sink.write(&[7]).is_ok()).count();
    println!("{kept}");
}

/// Keeps the last byte of each megabyte that it writes to itself, and says how many there were.
pub fn remains() {
    let mut held = Vec::new();
    loop {
        let (source, sink) = buffer();
        if sink.write(&vec![7; 1 << 20]).is_err() {
            break;
        }
        drop(sink);
        let mut left = (1 << 20) - 1;
        while left > 0 {
            left -= source.read(left).unwrap().len() as u32;
        }
        held.push(source);
    }
    println!("{}", held.len());
}

/// Starts programs with a megabyte of arguments, which sleep, and says how many there were.
pub fn wordy() {
    let mut wordy = program(&["sleep"]);
    wordy.args.push("x".repeat(1 << 20));
    let started = (0..40).take_while(|_| spawn(&wordy, Vec::new()).is_ok()).count();
    println!("{started}");
}

/// Keeps what it writes to itself.
pub fn buffers() {
    let mut held = Vec::new();
    loop {
        let (source, sink) = buffer();
        let written = sink.write(&vec![7; 1 << 20]);
        held.push((source, sink, written));
    }
}
