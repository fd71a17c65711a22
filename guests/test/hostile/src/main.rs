//! `hostile`: a guest that tries to get out of its pod, or to take what belongs to others. Each verb is one way.
//!
//! A line that begins with `out:` says that something was reached which must not be; the tests look for it. Verbs that take
//! never end by themselves: somebody has to end them.

mod files;
mod http;
mod network;
mod paths;
mod processes;
mod streams;

use std::time::Duration;
use std::{env, hint, thread};

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        // Ways out.
        ["paths", target] => paths::try_all(target),
        ["flip", target] => paths::flip(target),
        ["chase", rest] => paths::chase(rest),
        ["places"] => paths::places(),
        ["reach", ..] => network::reach(&args[1..]),
        ["environment", ..] => environment(&args[1..]),
        ["call", method, path, body] => http::call(method, path, body),
        // Things that belong to others.
        ["spin"] => loop {
            hint::black_box(0);
        },
        ["memory"] => memory(),
        ["deep-calls"] => println!("{}", streams::deeper(1)),
        ["clock"] => streams::clock(),
        ["random"] => streams::random(),
        ["timers"] => streams::timers(),
        ["polls"] => streams::polls(),
        ["lines"] => streams::lines(),
        ["unasked-lines"] => streams::unasked_lines(),
        ["long-line"] => streams::long_line(),
        ["escapes"] => streams::escapes(),
        ["sockets"] => network::sockets(),
        ["listeners"] => network::listeners(),
        ["datagrams", address] => network::datagrams(address),
        ["names"] => network::names(),
        ["knock", address] => network::knock(address),
        ["answers"] => network::answers(),
        ["methods"] => http::methods(),
        ["fields"] => http::fields(),
        ["bodies"] => http::bodies(),
        ["kept-answers", authority] => http::kept_answers(authority),
        ["messages", count] => http::messages(count.parse().unwrap()),
        ["requests", authority] => http::requests(authority),
        ["requests-held", authority, count, few] => {
            http::requests_held(authority, count.parse().unwrap(), few.parse().unwrap());
        }
        ["api-flood"] => http::api_flood(),
        ["dolls", depth] => processes::dolls(depth.parse().unwrap()),
        ["spawns"] => processes::spawns(),
        ["buffers"] => processes::buffers(),
        ["crumbs"] => processes::crumbs(),
        ["remains"] => processes::remains(),
        ["wordy"] => processes::wordy(),
        ["waits"] => processes::waits(),
        ["poor"] => processes::poor(),
        ["sleep", ..] => thread::sleep(Duration::from_secs(3600)),
        ["names-on-disk"] => files::names(),
        ["fill"] => files::fill(),
        ["open"] => files::open(),
        ["churn"] => files::churn(),
        ["nest"] => files::nest(),
        ["listings"] => files::listings(),
        _ => panic!("unknown: {args:?}"),
    }
}

/// Looks for values that only the host's environment has.
fn environment(values: &[&str]) {
    for (name, value) in env::vars() {
        if values.contains(&value.as_str()) {
            println!("out: {name}");
        }
    }
    println!("looked");
}

/// Takes linear memory until it is stopped.
fn memory() {
    let mut held = Vec::new();
    loop {
        held.push(vec![1u8; 1 << 20]);
        hint::black_box(&held);
    }
}
