//! `proxy-sidecar`: a reverse proxy that shares a pod with an application.
//!
//! The containers of a pod have one loopback of their own: the proxy takes requests on the pod's address and
//! passes them to the application on 127.0.0.1, which nobody outside the pod can reach. On the way back it adds
//! `x-coracle-sidecar: <requests so far>` and `via`, so that a caller sees that the answer came through it.
//!
//! | environment | meaning | default |
//! |---|---|---|
//! | `LISTEN` | where clients come in | `0.0.0.0:8080` |
//! | `UPSTREAM` | where the application is | `127.0.0.1:9090` |

use std::env;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write, copy};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// WASI 0.2 has no threads, so clients are served one after the other, and a silent one may not hold up the rest.
const PATIENCE: Duration = Duration::from_secs(1);

/// The application may need longer, but not for ever.
const UPSTREAM_PATIENCE: Duration = Duration::from_secs(30);

/// The longest head of a request or response that is passed on.
const MAX_HEAD_BYTES: u64 = 64 * 1024;

fn main() -> Result<()> {
    let listen = env::var("LISTEN").unwrap_or_else(|_| "0.0.0.0:8080".into());
    let upstream = env::var("UPSTREAM").unwrap_or_else(|_| "127.0.0.1:9090".into());
    let listener = TcpListener::bind(&listen)?;
    println!("proxy-sidecar: {listen} -> {upstream}");

    let mut count = 0;
    for client in listener.incoming() {
        // A client that went away must not end the proxy.
        if let Err(error) = client.and_then(|client| serve(&client, &upstream, &mut count)) {
            eprintln!("proxy-sidecar: {error}");
        }
    }
    Ok(())
}

/// Passes one request on and its answer back, then closes both connections.
fn serve(mut client: &TcpStream, upstream: &str, count: &mut u64) -> Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut from_client = BufReader::new(client);
    let Some(request) = Head::read(&mut from_client)? else {
        return Ok(()); // a TCP probe: connected and left
    };
    *count += 1;
    println!("proxy-sidecar: #{count} {}", request.first_line);

    if request.header("transfer-encoding").is_some() {
        return refuse(client, "411 Length Required", "send the body with a content-length");
    }
    let app = match call(upstream, &request, from_client) {
        Ok(app) => app,
        Err(error) => return refuse(client, "502 Bad Gateway", &format!("{upstream}: {error}")),
    };
    let mut from_app = BufReader::new(&app);
    let response = match Head::read(&mut from_app) {
        Ok(Some(response)) => response,
        Ok(None) => return refuse(client, "502 Bad Gateway", &format!("{upstream} said nothing")),
        Err(error) => return refuse(client, "502 Bad Gateway", &format!("{upstream}: {error}")),
    };
    response.write(
        &mut client,
        &format!("x-coracle-sidecar: {count}\r\nvia: 1.1 proxy-sidecar\r\n"),
    )?;
    // Without a length the body ends when the application closes, which `connection: close` asked it to do.
    let length = response.content_length()?.unwrap_or(u64::MAX);
    copy(&mut from_app.take(length), &mut client)?;
    Ok(())
}

/// Sends the request, with its body, to the application.
fn call(upstream: &str, request: &Head, from_client: impl Read) -> Result<TcpStream> {
    let app = TcpStream::connect(upstream)?;
    app.set_read_timeout(Some(UPSTREAM_PATIENCE))?;
    request.write(&mut &app, "")?;
    copy(&mut from_client.take(request.content_length()?.unwrap_or(0)), &mut &app)?;
    Ok(app)
}

/// Answers in the application's place.
fn refuse(mut client: &TcpStream, status: &str, why: &str) -> Result<()> {
    eprintln!("proxy-sidecar: {status}: {why}");
    let body = format!("proxy-sidecar: {why}\n");
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    client.write_all(answer.as_bytes())
}

/// The first line and the headers of a request or a response.
struct Head {
    first_line: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// Reads a head; nothing when the peer closed instead of sending one.
    fn read(reader: &mut impl BufRead) -> Result<Option<Self>> {
        let mut lines = reader.take(MAX_HEAD_BYTES).lines();
        let Some(first_line) = lines.next().transpose()? else {
            return Ok(None);
        };
        let mut headers = Vec::new();
        for line in lines {
            let line = line?;
            if line.is_empty() {
                return Ok(Some(Self { first_line, headers }));
            }
            let (name, value) = line.split_once(':').ok_or(ErrorKind::InvalidData)?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Err(Error::new(
            ErrorKind::UnexpectedEof,
            "the head ends early or is too long",
        ))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    fn content_length(&self) -> Result<Option<u64>> {
        let parse = |v: &str| {
            v.parse()
                .map_err(|_| Error::new(ErrorKind::InvalidData, "bad content-length"))
        };
        self.header("content-length").map(parse).transpose()
    }

    /// Writes the head with `extra` headers, and for one request only: what concerns the old connection is left out.
    fn write(&self, to: &mut impl Write, extra: &str) -> Result<()> {
        let mut head = format!("{}\r\n", self.first_line);
        for (name, value) in &self.headers {
            if !matches!(name.as_str(), "connection" | "keep-alive" | "upgrade") {
                head += &format!("{name}: {value}\r\n");
            }
        }
        head += extra;
        head += "connection: close\r\n\r\n";
        to.write_all(head.as_bytes())
    }
}
