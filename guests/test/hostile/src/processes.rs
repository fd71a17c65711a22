//! Programs that start programs.

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit/process",
        world: "host",
        with: { "wasi:io/streams@0.2.0": wasip2::io::streams },
    });
}

use bindings::coracle::process::processes::{Program, ids, sleep, spawn, wait};
use bindings::coracle::process::streams::{End, Sink, Source, buffer, inherited, pipe};
use wasip2::cli::stdin::get_stdin;
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

use crate::paths;

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

/// Waits without end for half a million programs that are not there.
pub fn waits() {
    let strangers: Vec<u32> = (1..500_000).map(|number| u32::MAX - number).collect();
    loop {
        let _ = wait(&strangers);
    }
}

/// Keeps what it writes to itself until its container has nothing left, and says what files and streams are then.
pub fn poor() {
    let open = paths::open_file;
    let (one, two, three, four) = (open("one"), open("two"), open("three"), open("four"));
    one.write(b"something", 0).unwrap();
    let (input, shared) = (one.read_via_stream(0).unwrap(), over(one.read_via_stream(0).unwrap()));
    let End::Source(shared) = shared else { unreachable!() };
    let (out, sink) = (
        two.write_via_stream(0).unwrap(),
        Sink::over(three.write_via_stream(0).unwrap()),
    );
    let allowed = out.check_write().unwrap();
    let page = vec![7; allowed as usize];
    let mut piece = vec![7; 1 << 20];

    let (source, purse) = buffer();
    while !piece.is_empty() {
        if purse.write(&piece).is_err() {
            piece.truncate(piece.len() / 2);
        }
    }
    let read = |stream: &InputStream| stream.blocking_read(4096).map(|bytes| bytes.len()).map_err(kind);
    println!("read: {:?}", read(&input));
    println!("and then: {:?}", read(&input));
    println!("shared: {:?}", shared.read(4096).map(|bytes| bytes.len()));
    let write = |stream: &OutputStream| stream.write(&page).map_err(kind);
    println!("write: {:?}", write(&out));
    println!("and then: {:?}", out.check_write().map_err(kind));
    println!("sink: {:?}", sink.write(&page));
    println!("and then: {:?}", sink.write(&page));
    println!("program: {:?}", spawn(&program(&["sleep"]), Vec::new()).map(drop));
    // With memory again all goes on.
    drop((source, purse));
    println!("at a place: {:?}", four.write(&page, 0));
    println!("anew: {:?}", read(&one.read_via_stream(0).unwrap()));
}

fn kind(error: StreamError) -> String {
    match error {
        StreamError::Closed => "closed".to_owned(),
        StreamError::LastOperationFailed(error) => error.to_debug_string(),
    }
}
