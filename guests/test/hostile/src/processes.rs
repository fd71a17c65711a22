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

/// Keeps what it writes to itself.
pub fn buffers() {
    let mut held = Vec::new();
    loop {
        let (source, sink) = buffer();
        let written = sink.write(&vec![7; 1 << 20]);
        held.push((source, sink, written));
    }
}
