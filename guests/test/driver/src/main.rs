//! `driver`: carries out a program of calls to the host, whatever it asks for.
//!
//! ```text
//! driver FAMILY bytes HEX           carries out the program that these bytes are
//! driver FAMILY seed NUMBER STEPS   carries out so many steps, made from a number
//! driver spin|hog                   works for ever; takes memory for ever
//! ```
//!
//! A family is `io`, `files`, `sockets`, `http`, `processes` or `all`. Each byte string is a program: a step takes twenty bytes,
//! which say what is called, on what, and with what. So whoever looks for a sequence of calls that the host does not stand need
//! not compile anything. The same program makes the same calls each time where the host answers the same.

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit/process",
        world: "host",
        with: { "wasi:io/streams@0.2.0": wasip2::io::streams },
    });
}

mod files;
mod held;
mod http;
mod io;
mod processes;
mod program;
mod sockets;

use held::Held;
use program::{Program, Step};
use std::{env, process};

/// Carries out one step of a family: at least one call.
type Take = fn(&mut Held, &mut Step);

const FAMILIES: [(&str, Take); 5] = [
    ("io", io::step),
    ("files", files::step),
    ("sockets", sockets::step),
    ("http", http::step),
    ("processes", processes::step),
];

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (family, mut program) = match args[..] {
        [family, "bytes", hex] => (family, Program::given(hex)),
        [family, "seed", seed, steps] => (family, Program::made(number(seed), number(steps))),
        ["spin"] => spin(),
        ["hog"] => hog(),
        _ => usage("driver FAMILY (bytes HEX | seed NUMBER STEPS)"),
    };
    let takes: Vec<Take> = FAMILIES
        .iter()
        .filter(|(name, _)| family == "all" || family == *name)
        .map(|(_, take)| *take)
        .collect();
    if takes.is_empty() {
        usage("a family is io, files, sockets, http, processes or all");
    }
    let Some(mut first) = program.step() else { return };
    let mut held = Held::new(&mut first);
    let mut steps = 0u64;
    while let Some(mut step) = program.step() {
        // What is taken up is of use to all families, so streams and timers are tried by each.
        let take = match step.below(4) {
            0 => io::step,
            _ => takes[step.below(takes.len())],
        };
        take(&mut held, &mut step);
        held.tidy();
        steps += 1;
    }
    println!("{steps} steps, {} answers that were no errors", held.good);
    if first.flag() {
        // The host has to clear up by itself.
        std::mem::forget(held);
    }
}

fn spin() -> ! {
    loop {
        std::hint::black_box(0);
    }
}

fn hog() -> ! {
    let mut held = Vec::new();
    loop {
        held.push(vec![1u8; 1 << 16]);
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| usage("a number was expected"))
}

fn usage(why: &str) -> ! {
    eprintln!("driver: {why}");
    process::exit(2)
}
