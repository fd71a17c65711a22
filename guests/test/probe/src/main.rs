//! `probe`: what the tests of the sandbox need a guest to do, one verb each.

mod churn;
mod greedy;
#[cfg(target_env = "p2")]
mod rules;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;
use std::{env, fs, hint, process, thread};

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["exit", code] => process::exit(code.parse().unwrap()),
        ["panic"] => panic!("as told"),
        ["overflow"] => println!("{}", deeper(1)),
        ["hog"] => hog(),
        ["spin"] => loop {
            hint::black_box(0);
        },
        ["sleep"] => thread::sleep(Duration::from_secs(3600)),
        ["env"] => println!("{:?}", env::vars().collect::<Vec<_>>()),
        ["lines", count] => (0..count.parse().unwrap()).for_each(|n: u32| println!("line {n}")),
        ["read", path] => println!("{:?}", fs::read_to_string(path).map_err(|e| e.kind())),
        ["write", path, text] => println!("{:?}", fs::write(path, text).map_err(|e| e.kind())),
        ["list", path] => println!("{:?}", list(path)),
        ["resolve", name] => println!("{:?}", resolve(name)),
        ["connect", ..] => args[1..]
            .iter()
            .for_each(|address| println!("{address}: {}", connect(address))),
        ["bind", ..] => bind(&args[1..]),
        ["sockets"] => sockets(),
        ["open", path] => greedy::open(path),
        ["fill", path] => greedy::fill(path),
        ["extend", path, length] => greedy::extend(path, length.parse().unwrap()),
        ["room", dir] => greedy::room(dir),
        ["names", dir] => greedy::names(dir),
        ["make", dir, count] => greedy::make(dir, count.parse().unwrap()),
        ["entries", dir] => greedy::entries(dir),
        ["transfer", from, to] => greedy::transfer(from, to),
        ["copy", path, mebibytes] => greedy::copy(path, mebibytes.parse::<usize>().unwrap() * 16, 64 << 10),
        ["copy", path, pieces, bytes] => greedy::copy(path, pieces.parse().unwrap(), bytes.parse().unwrap()),
        #[cfg(target_env = "p2")]
        ["headers"] => greedy::headers(),
        #[cfg(target_env = "p2")]
        ["header", bytes] => greedy::header(bytes.parse().unwrap()),
        ["echo", address] => echo(address),
        ["stream", address, mebibytes] => stream(address, mebibytes.parse().unwrap()),
        ["sink", address] => sink(address),
        ["churn-serve", address] => churn::serve(address),
        ["churn", name, services, per_second] => {
            churn::churn(name, services.parse().unwrap(), per_second.parse().unwrap());
        }
        ["ask", address, count] => ask(address, count.parse().unwrap()),
        ["grpc", address, state] => grpc(address, state.parse().unwrap()),
        ["udp-echo", address] => udp_echo(address),
        ["udp-ask", address] => udp_ask(address),
        #[cfg(target_env = "p2")]
        ["fetch", scheme, authority, path] => println!("{}", fetch(scheme, authority, path, None)),
        #[cfg(target_env = "p2")]
        ["api", authority, path] => println!("{}", api(authority, path)),
        #[cfg(target_env = "p2")]
        ["rules", ..] => rules(&args[1..]),
        _ => panic!("unknown: {args:?}"),
    }
}

#[cfg(target_env = "p2")]
fn rules(args: &[&str]) {
    match args {
        ["udp"] => rules::udp(),
        ["udp-send", address] => rules::send(address),
        ["udp-streams-twice"] => rules::streams_twice(),
        ["udp-send-unasked"] => rules::send_unasked(),
        ["names", names @ ..] => rules::names(names),
        ["file-streams"] => rules::file_streams(),
        ["file-write-unasked"] => rules::file_write_unasked(),
        ["kinds"] => rules::kinds(),
        ["chance"] => rules::chance(),
        _ => panic!("unknown: {args:?}"),
    }
}

fn deeper(n: u64) -> u64 {
    if hint::black_box(n) == 0 { 0 } else { 1 + deeper(n + 1) }
}

/// Takes memory until it is stopped.
fn hog() {
    let mut held = Vec::new();
    loop {
        held.push(vec![1u8; 1 << 20]);
        println!("{} MiB", held.len());
    }
}

fn list(path: &str) -> Result<Vec<String>, ErrorKind> {
    let entries = fs::read_dir(path).map_err(|e| e.kind())?;
    Ok(entries
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect())
}

fn resolve(name: &str) -> Result<Vec<SocketAddr>, String> {
    Ok((name, 0).to_socket_addrs().map_err(|e| e.to_string())?.collect())
}

fn connect(address: &str) -> String {
    TcpStream::connect(address).map_or_else(|e| format!("{:?}", e.kind()), |_| "reached".into())
}

/// Binds all at once and says how each went.
fn bind(addresses: &[&str]) {
    let mut held = Vec::new();
    for address in addresses {
        match TcpListener::bind(address) {
            Ok(listener) => {
                println!("{address}: bound");
                held.push(listener);
            }
            Err(e) => println!("{address}: {:?}", e.kind()),
        }
    }
}

/// Opens listeners until the host refuses one.
fn sockets() {
    let mut held = Vec::new();
    loop {
        match TcpListener::bind("127.0.0.1:0") {
            Ok(listener) => held.push(listener),
            Err(e) => {
                println!("{} sockets, then {e}", held.len());
                return;
            }
        }
    }
}

/// Sends everything back, to one client after the other.
fn echo(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    println!("listening");
    for client in listener.incoming() {
        let client = client.unwrap();
        let _ = std::io::copy(&mut &client, &mut &client);
    }
}

/// Sends so many mebibytes and says what came back of them.
fn stream(address: &str, mebibytes: usize) {
    let mut peer = TcpStream::connect(address).unwrap();
    let block = vec![7u8; 64 << 10];
    for _ in 0..mebibytes * 16 {
        peer.write_all(&block).unwrap();
    }
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    println!("{answer}");
}

/// Counts what one client sends, and tells it.
fn sink(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    println!("listening");
    let (mut client, _) = listener.accept().unwrap();
    let (mut block, mut total) = (vec![0u8; 64 << 10], 0);
    loop {
        match client.read(&mut block).unwrap() {
            0 => break,
            n => total += n,
        }
    }
    write!(client, "{total} bytes").unwrap();
}

/// Sends a small request and waits for as much in answer, so many times over one connection.
fn ask(address: &str, count: usize) {
    let mut peer = TcpStream::connect(address).unwrap();
    let (request, mut answer) = ([7u8; 64], [0u8; 64]);
    for _ in 0..count {
        peer.write_all(&request).unwrap();
        peer.read_exact(&mut answer).unwrap();
    }
}

/// A gRPC server whose answer to every call is a health message with this state.
fn grpc(address: &str, state: u8) {
    let listener = TcpListener::bind(address).unwrap();
    println!("listening");
    for client in listener.incoming() {
        // A client that goes away ends its own connection only.
        let _ = answer_calls(client.unwrap(), state);
    }
}

fn answer_calls(mut client: TcpStream, state: u8) -> std::io::Result<()> {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    let mut preface = [0; 24];
    client.read_exact(&mut preface)?;
    client.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    loop {
        let mut head = [0; 9];
        client.read_exact(&mut head)?;
        let [high, middle, low, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
        client.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes(stream);
        match (kind, flags & 1) {
            (SETTINGS, 0) => client.write_all(&frame(SETTINGS, 1, 0, &[]))?,
            (PING, 0) => client.write_all(&frame(PING, 1, 0, &payload))?,
            // The end of a call's request.
            (HEADERS | DATA, 1) => {
                let mut headers = vec![0x88, 0x0f, 0x10, 16];
                headers.extend(b"application/grpc");
                let mut trailers = vec![0x00, 11];
                trailers.extend(b"grpc-status\x010");
                let answer = [
                    frame(HEADERS, 4, stream, &headers),
                    frame(DATA, 0, stream, &[0, 0, 0, 0, 2, 8, state]),
                    frame(HEADERS, 5, stream, &trailers),
                ];
                client.write_all(&answer.concat())?;
            }
            _ => {}
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn udp_echo(address: &str) {
    let socket = UdpSocket::bind(address).unwrap();
    println!("listening");
    let mut datagram = [0; 1500];
    loop {
        let (n, from) = socket.recv_from(&mut datagram).unwrap();
        socket.send_to(&datagram[..n], from).unwrap();
    }
}

fn udp_ask(address: &str) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(address).unwrap();
    socket.send(b"ping").unwrap();
    let mut datagram = [0; 1500];
    let n = socket.recv(&mut datagram).unwrap();
    println!("{}", String::from_utf8_lossy(&datagram[..n]));
}

/// A request to the API as the pod's service account.
#[cfg(target_env = "p2")]
fn api(authority: &str, path: &str) -> String {
    let token = fs::read_to_string("/var/run/secrets/kubernetes.io/serviceaccount/token").unwrap();
    fetch("https", authority, path, Some(&format!("Bearer {token}")))
}

/// One request through `wasi:http`: the status and the body, or the error.
#[cfg(target_env = "p2")]
fn fetch(scheme: &str, authority: &str, path: &str, authorization: Option<&str>) -> String {
    use wasip2::http::outgoing_handler::handle;
    use wasip2::http::types::{Fields, OutgoingRequest, Scheme};

    let fields = Fields::new();
    if let Some(value) = authorization {
        fields.set("authorization", &[value.as_bytes().to_vec()]).unwrap();
    }
    let request = OutgoingRequest::new(fields);
    request
        .set_scheme(Some(&if scheme == "https" { Scheme::Https } else { Scheme::Http }))
        .unwrap();
    request.set_authority(Some(authority)).unwrap();
    request.set_path_with_query(Some(path)).unwrap();
    let answer = match handle(request, None) {
        Ok(answer) => answer,
        Err(error) => return format!("{error:?}"),
    };
    answer.subscribe().block();
    let response = match answer.get().unwrap().unwrap() {
        Ok(response) => response,
        Err(error) => return format!("{error:?}"),
    };
    let status = response.status();
    let body = response.consume().unwrap();
    let stream = body.stream().unwrap();
    let mut bytes = Vec::new();
    while let Ok(part) = stream.blocking_read(4096) {
        bytes.extend(part);
    }
    format!("{status} {}", String::from_utf8_lossy(&bytes))
}
