//! Ways to other machines, and taking of sockets, names and other people's servers.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

/// Tries addresses that must not be reached, by TCP and UDP, and to listen where others are.
pub fn reach(addresses: &[&str]) {
    for address in addresses {
        match TcpStream::connect(address) {
            Ok(_) => println!("out: reached {address}"),
            Err(e) => println!("{address}: {:?}", e.kind()),
        }
        let Ok(at) = address.parse::<SocketAddr>() else {
            continue;
        };
        let own = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        if let Ok(socket) = UdpSocket::bind(own) {
            // Whoever listens there says whether it was heard.
            let _ = socket.send_to(b"touched", at);
        }
        let foreign = match at.ip() {
            IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_unspecified(),
            IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unspecified() && ip.to_ipv4_mapped().is_none(),
        };
        if foreign && TcpListener::bind((at.ip(), 0)).is_ok() {
            println!("out: listens at {}", at.ip());
        }
    }
    println!("tried");
}

/// Holds as many sockets as it may, and tries on.
pub fn sockets() {
    let mut held = Vec::new();
    loop {
        if let Ok(socket) = UdpSocket::bind("0.0.0.0:0") {
            held.push(socket);
        }
    }
}

/// Listens on as many ports as it may, and connects to itself on all of them.
pub fn listeners() {
    let mut held = Vec::new();
    loop {
        if let Ok(listener) = TcpListener::bind("127.0.0.1:0") {
            let client = listener.local_addr().and_then(TcpStream::connect);
            held.push((listener, client));
        }
    }
}

/// Sends datagrams as fast as it can: to a name server what is no question, too.
pub fn datagrams(address: &str) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x0akubernetes\x07default\x03svc\x07cluster\x05local\x00\x00\x01\x00\x01";
    let garbage = [0x5a; 1400];
    loop {
        let _ = socket.send_to(question, address);
        let _ = socket.send_to(&garbage, address);
    }
}

/// Looks up names that are not there, and some that no name may be.
pub fn names() {
    let long = "l".repeat(1 << 20);
    for number in 0_u64.. {
        let _ = (format!("name-{number}.nowhere.example"), 80).to_socket_addrs();
        if number % 64 == 0 {
            let _ = (long.as_str(), 80).to_socket_addrs();
        }
    }
}

/// Connects to somebody's server as often as it may, and says nothing or half a word.
pub fn knock(address: &str) {
    let mut held = Vec::new();
    loop {
        if let Ok(mut stream) = TcpStream::connect(address) {
            let _ = stream.write_all(b"GET / HT");
            held.push(stream);
        }
        if held.len() > 500 {
            held.clear();
        }
    }
}

/// Answers everybody, a probe for instance, with a head that never ends, or a body that does not.
pub fn answers() {
    let listener = TcpListener::bind("0.0.0.0:8080").unwrap();
    println!("listening");
    for (number, client) in listener.incoming().enumerate() {
        let Ok(mut client) = client else { continue };
        let mut head = [0; 512];
        let _ = client.read(&mut head);
        let piece = match number % 3 {
            0 => "HTTP/1.1 200 OK\r\n".to_owned() + &"x-filler: y\r\n".repeat(5000),
            1 => "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_owned(),
            _ => "HTTP/1.1 500 \u{1b}[31mred\r\n\r\n".to_owned() + &"\u{1b}[2J".repeat(20_000),
        };
        while client.write_all(piece.as_bytes()).is_ok() && number % 3 != 1 {}
    }
}
