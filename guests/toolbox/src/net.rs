//! Commands about the network: the pod's own.

mod fetch;
mod http;

use crate::files;
use crate::values::said;
use crate::{Io, Outcome};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

pub use fetch::{curl, wget};

/// Bytes that `nc` moves at once.
const PIECE_BYTES: usize = 16 * 1024;

/// How long `nc` waits between two looks at its connection and its input.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

fn addresses(name: &str) -> Result<Vec<IpAddr>, String> {
    let found = (name, 0)
        .to_socket_addrs()
        .map_err(|_| format!("can't resolve '{name}'"))?;
    let mut addresses: Vec<_> = found.map(|address| address.ip()).collect();
    addresses.dedup();
    Ok(addresses)
}

/// The name server that the pod is told.
fn server() -> Option<String> {
    let text = files::read_text("/etc/resolv.conf").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("nameserver "))?;
    Some(line.trim().to_owned())
}

pub fn nslookup(io: &mut Io, args: &[String]) -> Outcome {
    let name = args
        .iter()
        .find(|arg| !arg.starts_with('-'))
        .ok_or("a name is needed")?;
    if let Some(server) = server() {
        writeln!(io.out, "Server:    {server}\n").map_err(said)?;
    }
    let found = addresses(name)?;
    writeln!(io.out, "Name:      {name}").map_err(said)?;
    for (index, address) in found.iter().enumerate() {
        writeln!(io.out, "Address {}: {address}", index + 1).map_err(said)?;
    }
    Ok(0)
}

/// `dig [+short] NAME`: the addresses, as the system's resolver finds them.
pub fn dig(io: &mut Io, args: &[String]) -> Outcome {
    let short = args.iter().any(|arg| arg == "+short");
    let name = args
        .iter()
        .find(|arg| !arg.starts_with(['+', '-', '@']) && !matches!(arg.as_str(), "A" | "AAAA" | "ANY" | "IN"))
        .ok_or("a name is needed")?;
    let found = addresses(name).unwrap_or_default();
    if !short {
        let status = if found.is_empty() { "NXDOMAIN" } else { "NOERROR" };
        writeln!(io.out, ";; status: {status}\n\n;; ANSWER SECTION:").map_err(said)?;
    }
    for address in &found {
        match short {
            true => writeln!(io.out, "{address}"),
            false => {
                let kind = if address.is_ipv4() { "A" } else { "AAAA" };
                writeln!(io.out, "{}.\tIN\t{kind}\t{address}", name.trim_end_matches('.'))
            }
        }
        .map_err(said)?;
    }
    if let (false, Some(server)) = (short, server()) {
        writeln!(io.out, "\n;; SERVER: {server}").map_err(said)?;
    }
    Ok(0)
}

/// `nc [-z] [-v] [-u] [-w SECONDS] HOST PORT`, `nc -l [-p] PORT`
pub fn nc(io: &mut Io, args: &[String]) -> Outcome {
    let (mut letters, mut rest, mut limit) = (String::new(), Vec::new(), None);
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.strip_prefix('-') {
            Some("w") => limit = words.next().and_then(|text| text.parse::<u64>().ok()),
            Some("p") => rest.extend(words.next().map(String::as_str)),
            Some(flags) => {
                letters += flags;
                if flags.ends_with('p') {
                    rest.extend(words.next().map(String::as_str));
                }
            }
            None => rest.push(word),
        }
    }
    let port = |text: &str| text.parse::<u16>().map_err(|_| format!("bad port '{text}'"));
    let has = |letter: char| letters.contains(letter);
    if has('l') {
        let port = port(rest.last().ok_or("a port is needed")?)?;
        let listener = TcpListener::bind(("0.0.0.0", port)).map_err(said)?;
        let (stream, _) = listener.accept().map_err(said)?;
        return talk(io, stream, limit.map(Duration::from_secs));
    }
    let [host, number] = rest.as_slice() else {
        return Err("a host and a port are needed".into());
    };
    let number = port(number)?;
    if has('u') {
        let socket = UdpSocket::bind("0.0.0.0:0").map_err(said)?;
        let mut text = Vec::new();
        io.input.read_to_end(&mut text).map_err(said)?;
        socket.send_to(&text, (*host, number)).map_err(said)?;
        return Ok(0);
    }
    let stream = match TcpStream::connect((*host, number)) {
        Ok(stream) => stream,
        Err(error) => {
            if has('v') || !has('z') {
                io.complain("nc", format!("{host} ({number}): {error}"));
            }
            return Ok(1);
        }
    };
    if has('v') {
        writeln!(io.err, "{host} ({number}) open").map_err(said)?;
    }
    match has('z') {
        true => Ok(0),
        false => talk(io, stream, limit.map(Duration::from_secs)),
    }
}

/// Sends the input and shows what comes back, until both sides have ended: who only listens may have said its last before it
/// has heard anything. Both are looked at in turn: there is one thread.
fn talk(io: &mut Io, mut stream: TcpStream, limit: Option<Duration>) -> Outcome {
    let input = match crate::sys::End::inherited(0) {
        Some(crate::sys::End::Source(source)) => Some(source),
        _ => None,
    };
    stream.set_nonblocking(true).map_err(said)?;
    let (mut open, mut heard_all, mut idle) = (input.is_some(), false, Duration::ZERO);
    if !open {
        stream.shutdown(std::net::Shutdown::Write).map_err(said)?;
    }
    let mut piece = vec![0; PIECE_BYTES];
    while open || !heard_all {
        let mut moved = false;
        match stream.read(&mut piece) {
            Ok(0) => heard_all = true,
            Ok(count) => {
                io.out
                    .write_all(&piece[..count])
                    .and_then(|()| io.out.flush())
                    .map_err(said)?;
                moved = true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.to_string()),
        }
        if let (true, Some(input)) = (open, &input) {
            match input.try_read(PIECE_BYTES as u32) {
                Ok(Some(text)) if text.is_empty() => {
                    open = false;
                    stream.shutdown(std::net::Shutdown::Write).map_err(said)?;
                    moved = true;
                }
                Ok(Some(text)) => {
                    stream
                        .set_nonblocking(false)
                        .and_then(|()| stream.write_all(&text))
                        .map_err(said)?;
                    stream.set_nonblocking(true).map_err(said)?;
                    moved = true;
                }
                Ok(None) => {}
                Err(_) => open = false,
            }
        }
        if moved {
            idle = Duration::ZERO;
            continue;
        }
        std::thread::sleep(LOOK_AGAIN);
        idle += LOOK_AGAIN;
        if limit.is_some_and(|limit| idle >= limit) {
            return Ok(0);
        }
    }
    Ok(0)
}
