//! `caller`: calls a URL and prints what came back.
//!
//! ```text
//! caller http://web.demo.svc.cluster.local/            once; exits 0 when the status is 2xx, 1 otherwise
//! caller http://web.demo.svc.cluster.local/ --every 2  for ever, every two seconds
//! ```
//!
//! The host name is looked up as in every pod: `web`, `web.demo` and the full name find the same Service.

use std::env;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A server that is silent for so long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (url, every) = match args[..] {
        [url] => (url, None),
        [url, "--every", seconds] => (url, seconds.parse().map(Duration::from_secs_f64).ok()),
        _ => {
            eprintln!("usage: caller URL [--every SECONDS]");
            return ExitCode::FAILURE;
        }
    };
    loop {
        let good = report(url);
        match every {
            Some(pause) => sleep(pause),
            None if good => return ExitCode::SUCCESS,
            None => return ExitCode::FAILURE,
        }
    }
}

/// Calls once, prints the answer or the error, and says whether the status was 2xx.
fn report(url: &str) -> bool {
    let start = Instant::now();
    match get(url) {
        Ok(answer) => {
            println!("caller: {url} answered in {:?}\n{}", start.elapsed(), answer.trim_end());
            // "HTTP/1.1 200 OK": the class of the status is the tenth character.
            answer.as_bytes().get(9) == Some(&b'2')
        }
        Err(error) => {
            println!("caller: {url}: {error}");
            false
        }
    }
}

/// One GET; returns the whole answer, head and body.
fn get(url: &str) -> Result<String> {
    let bad = || {
        Error::new(
            ErrorKind::InvalidInput,
            "the URL must look like http://host[:port]/path",
        )
    };
    let rest = url.strip_prefix("http://").ok_or_else(bad)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| bad())?),
        None => (authority, 80),
    };

    let mut server = TcpStream::connect((host, port))?;
    server.set_read_timeout(Some(PATIENCE))?;
    write!(
        server,
        "GET /{path} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: caller\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
