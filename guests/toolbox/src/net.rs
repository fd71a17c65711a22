//! Commands about the network: the pod's own.

use crate::files::flags;
use crate::values::said;
use crate::{Io, Outcome};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};

pub fn nslookup(io: &mut Io, args: &[String]) -> Outcome {
    let name = args.first().ok_or("a name is needed")?;
    let found = (name.as_str(), 0)
        .to_socket_addrs()
        .map_err(|_| format!("can't resolve '{name}'"))?;
    let mut addresses: Vec<_> = found.map(|address| address.ip()).collect();
    addresses.dedup();
    writeln!(io.out, "Name:      {name}").map_err(said)?;
    for (index, address) in addresses.iter().enumerate() {
        writeln!(io.out, "Address {}: {address}", index + 1).map_err(said)?;
    }
    Ok(0)
}

/// `wget [-q] [-O FILE] URL`: an HTTP request. Without `-O` the answer goes to a file that is named as the URL ends.
pub fn wget(io: &mut Io, args: &[String]) -> Outcome {
    let mut target = None;
    let mut url = None;
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "-O" | "-qO" => target = rest.next().cloned(),
            "-O-" | "-qO-" => target = Some("-".to_owned()),
            flag if flag.starts_with('-') => {
                flags(std::slice::from_ref(arg));
            }
            other => url = Some(other.to_owned()),
        }
    }
    let url = url.ok_or("a URL is needed")?;
    let bare = url.strip_prefix("http://").unwrap_or(&url);
    if bare.starts_with("https://") {
        return Err("https is not supported".into());
    }
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) => (name, port.parse::<u16>().map_err(|_| format!("bad port '{port}'"))?),
        None => (host, 80),
    };
    let mut stream =
        TcpStream::connect((name, port)).map_err(|error| format!("can't connect to {name}:{port}: {error}"))?;
    write!(
        stream,
        "GET /{path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: toolbox\r\nConnection: close\r\n\r\n"
    )
    .map_err(said)?;
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    answer.read_line(&mut line).map_err(said)?;
    let status = line
        .split_whitespace()
        .nth(1)
        .and_then(|code| code.parse::<u16>().ok())
        .unwrap_or(0);
    let said_status = line.trim_end().to_owned();
    while answer.read_line(&mut line).map_err(said)? > 2 && !line.ends_with("\r\n\r\n") {}
    if !(200..300).contains(&status) {
        return Err(format!("server returned error: {said_status}"));
    }
    let mut body = Vec::new();
    answer.read_to_end(&mut body).map_err(said)?;
    match target.as_deref() {
        Some("-") => io.out.write_all(&body).map_err(said)?,
        other => {
            let name = path
                .rsplit('/')
                .next()
                .filter(|name| !name.is_empty())
                .unwrap_or("index.html");
            std::fs::write(other.unwrap_or(name), body).map_err(said)?;
        }
    }
    Ok(0)
}
