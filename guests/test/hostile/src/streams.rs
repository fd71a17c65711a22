//! Taking by calls to the host that cost it something: time, randomness, timers, and what is written to the log.

use std::hint;
use std::time::Instant;

use wasip2::cli::stdout::get_stdout;
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::io::poll::poll;
use wasip2::random::{insecure, random};

/// Recurses with a call to the host at each depth, so that the host is called with the least stack there is.
pub fn deeper(depth: u64) -> u64 {
    let now = Instant::now().elapsed().as_nanos() as u64;
    let name = std::net::ToSocketAddrs::to_socket_addrs(&("localhost", 80)).map_or(0, |found| found.count() as u64);
    let file = std::fs::metadata("/room").map_or(0, |found| found.len());
    if hint::black_box(depth) == 0 {
        0
    } else {
        1 + hint::black_box(now + name + file) + deeper(depth + 1)
    }
}

/// Asks for the time without end.
pub fn clock() {
    loop {
        hint::black_box(Instant::now());
    }
}

/// Asks for as much randomness as one call gives, without end.
pub fn random() {
    loop {
        hint::black_box(random::get_random_bytes(1 << 20));
        hint::black_box(insecure::get_insecure_random_bytes(1 << 20));
    }
}

/// Makes timers and lets them go, a thousand at a time.
pub fn timers() {
    loop {
        let held: Vec<_> = (0..1000)
            .map(|number| subscribe_duration(1_000_000_000 + number))
            .collect();
        hint::black_box(held);
    }
}

/// Polls a long list without end: all its timers are over, so nothing ever waits.
pub fn polls() {
    let timers: Vec<_> = (0..1000).map(|_| subscribe_duration(0)).collect();
    let list: Vec<_> = timers.iter().cycle().take(7000).collect();
    loop {
        hint::black_box(poll(&list));
    }
}

/// Writes lines as fast as the log takes them.
pub fn lines() {
    loop {
        println!("all work and no play makes a dull line");
    }
}

/// Writes two megabytes of line ends at once, without a look at what the host is ready for.
pub fn unasked_lines() {
    let stdout = get_stdout();
    let bytes = vec![b'\n'; (2 << 20) - 4096];
    while stdout.write(&bytes).is_ok() {}
}

/// Writes a line that never ends.
pub fn long_line() {
    loop {
        print!("{}", "never ".repeat(1000));
    }
}

/// Lines that a log, a terminal or a parser could take for something else.
pub fn escapes() {
    println!("2026-01-01T00:00:00.000000000Z stdout F forged by the guest");
    print!("begun\n2026-01-01T00:00:00.000000000Z stderr F forged without an end");
    println!();
    println!("\u{1b}]0;title\u{7}\u{1b}[2J\u{1b}[31mred\u{1b}[0m");
    println!("\0zero\r\rreturned\u{2028}separated");
    println!("end");
}
