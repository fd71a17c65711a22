//! Connections that come and go without end, each byte of which is known to both sides.
//!
//! A client sends a number and as many bytes as it says, made from the number; the server answers with others that are made
//! from it. So a byte that is lost, doubled or of another connection is seen by whoever reads it.

use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

/// How often a client says how far it is.
const REPORT: Duration = Duration::from_secs(10);

/// Answers one client after the other.
pub fn serve(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    println!("listening");
    for client in listener.incoming() {
        if let Err(why) = client.map_err(|e| e.to_string()).and_then(answer) {
            give_up(&why);
        }
    }
}

fn answer(mut client: TcpStream) -> Result<(), String> {
    let mut head = [0; 12];
    client.read_exact(&mut head).map_err(|e| format!("no head: {e}"))?;
    let seed = u64::from_le_bytes(head[..8].try_into().unwrap());
    let length = u32::from_le_bytes(head[8..].try_into().unwrap()) as usize;
    expect(&mut client, seed, length)?;
    client
        .write_all(&bytes(!seed, length))
        .map_err(|e| format!("cannot answer: {e}"))?;
    end(&mut client)
}

/// Connects to services `NAME-0` to `NAME-N`, chosen at random, so many times a second.
pub fn churn(name: &str, services: u64, per_second: f64) {
    let mut seed = RandomState::new().hash_one(0);
    let pause = Duration::from_secs_f64(1.0 / per_second);
    // Clients that begin together do not go on together.
    thread::sleep(pause.mul_f64((seed % 1000) as f64 / 1000.0));
    let (mut connections, mut moved, mut next) = (0u64, 0u64, Instant::now());
    let mut report = next + REPORT;
    loop {
        seed = step(seed);
        let service = format!("{name}-{}:80", seed % services);
        // Mostly small, and some that do not fit into what a connection holds.
        let length = match seed >> 60 {
            0 => 300_000,
            _ => (seed >> 40) as usize % 20_000,
        };
        if let Err(why) = ask(&service, seed, length) {
            give_up(&format!("{service}: {why}"));
        }
        connections += 1;
        moved += 2 * length as u64;
        next += pause;
        thread::sleep(next.saturating_duration_since(Instant::now()));
        if Instant::now() >= report {
            println!("{connections} connections {moved} bytes");
            report += REPORT;
        }
    }
}

fn ask(service: &str, seed: u64, length: usize) -> Result<(), String> {
    let mut peer = TcpStream::connect(service).map_err(|e| format!("cannot connect: {e}"))?;
    let mut request = seed.to_le_bytes().to_vec();
    request.extend((length as u32).to_le_bytes());
    request.extend(bytes(seed, length));
    peer.write_all(&request).map_err(|e| format!("cannot ask: {e}"))?;
    expect(&mut peer, !seed, length)?;
    drop(peer.shutdown(std::net::Shutdown::Write));
    end(&mut peer)
}

fn expect(from: &mut TcpStream, seed: u64, length: usize) -> Result<(), String> {
    let mut came = vec![0; length];
    from.read_exact(&mut came).map_err(|e| format!("not all came: {e}"))?;
    match came == bytes(seed, length) {
        true => Ok(()),
        false => Err("WRONG BYTES".into()),
    }
}

/// Nothing may come any more.
fn end(from: &mut TcpStream) -> Result<(), String> {
    match from.read(&mut [0; 1]) {
        Ok(0) => Ok(()),
        Ok(_) => Err("WRONG BYTES after the last".into()),
        Err(e) => Err(format!("no end: {e}")),
    }
}

fn bytes(mut seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        seed = step(seed);
        bytes.extend(seed.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The next of a row of numbers that looks random: an xorshift.
fn step(mut seed: u64) -> u64 {
    seed |= u64::from(seed == 0);
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^ seed << 17
}

fn give_up(why: &str) {
    println!("{why}");
    process::exit(1);
}
