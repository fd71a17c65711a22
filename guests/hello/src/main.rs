//! `hello`: an HTTP server in nothing but Rust's standard library.
//!
//! It answers every path with who it is, so that you see which pod a Service picked.
//!
//! | environment | meaning | default |
//! |---|---|---|
//! | `PORT` | where it listens | 8080 |
//! | `GREETING` | the first word of the answer | `Hello` |
//! | `VERSION` | shown in the answer when it is set; the image tags `v1` and `v2` set it | |
//! | `HOSTNAME` | the pod's name, set by the node | |

use std::env;
use std::io::{BufRead, BufReader, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// WASI 0.2 has no threads, so clients are served one after the other, and a silent one may not hold up the rest.
const PATIENCE: Duration = Duration::from_secs(1);

fn main() -> Result<()> {
    let port = env::var("PORT").unwrap_or_else(|_| "8080".into());
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    println!("hello: listening on {}", listener.local_addr()?);

    for client in listener.incoming() {
        // A client that went away must not end the server.
        if let Err(error) = client.and_then(|client| serve(&client)) {
            eprintln!("hello: {error}");
        }
    }
    Ok(())
}

/// Answers one request and closes the connection.
fn serve(mut client: &TcpStream) -> Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(client);
    let mut request = String::new();
    if reader.read_line(&mut request)? == 0 {
        return Ok(()); // a TCP probe: connected and left
    }
    // The headers say nothing that we need. They end with an empty line.
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }

    let request = request.trim_end();
    println!("hello: {request}");

    let greeting = env::var("GREETING").unwrap_or_else(|_| "Hello".into());
    let host = env::var("HOSTNAME").unwrap_or_else(|_| "an unnamed pod".into());
    let version = env::var("VERSION")
        .map(|v| format!(", version {v}"))
        .unwrap_or_default();
    let body = format!("{greeting} from {host}{version}\nyou asked: {request}\n");
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    client.write_all(answer.as_bytes())
}
