//! What the interfaces of WASI 0.2 say of calls in the wrong order, with the wrong argument, or before anything is ready. The
//! standard library never makes them.

use std::fmt::Debug;

use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};
use wasip2::io::streams::StreamError;
use wasip2::random::insecure_seed::insecure_seed;
use wasip2::random::random::get_random_u64;
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress};
use wasip2::sockets::udp::{OutgoingDatagram, UdpSocket};
use wasip2::sockets::udp_create_socket::create_udp_socket;

fn said(what: &str, answer: impl Debug) {
    println!("{what}: {answer:?}");
}

/// An answer about sockets, whose errors have names.
fn told<T: Debug>(what: &str, answer: Result<T, ErrorCode>) {
    said(what, answer.map_err(|code| code.name()));
}

fn v4(text: &str) -> IpSocketAddress {
    let address: std::net::SocketAddrV4 = text.parse().unwrap();
    let [a, b, c, d] = address.ip().octets();
    IpSocketAddress::Ipv4(Ipv4SocketAddress {
        port: address.port(),
        address: (a, b, c, d),
    })
}

fn v6_loopback(port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv6(Ipv6SocketAddress {
        port,
        flow_info: 0,
        address: (0, 0, 0, 0, 0, 0, 0, 1),
        scope_id: 0,
    })
}

fn port(address: IpSocketAddress) -> u16 {
    match address {
        IpSocketAddress::Ipv4(address) => address.port,
        IpSocketAddress::Ipv6(address) => address.port,
    }
}

fn datagram(bytes: usize, to: Option<&str>) -> OutgoingDatagram {
    OutgoingDatagram {
        data: vec![7; bytes],
        remote_address: to.map(v4),
    }
}

fn bound(address: &str) -> UdpSocket {
    let socket = create_udp_socket(IpAddressFamily::Ipv4).unwrap();
    socket.start_bind(&instance_network(), v4(address)).unwrap();
    socket.finish_bind().unwrap();
    socket
}

/// A UDP socket in each of its states.
pub fn udp() {
    let network = instance_network();
    let socket = create_udp_socket(IpAddressFamily::Ipv4).unwrap();
    told("fresh, local", socket.local_address().map(port));
    told("fresh, streams", socket.stream(None).map(drop));
    told("fresh, finish", socket.finish_bind());
    told("other family", socket.start_bind(&network, v6_loopback(53)));
    told("multicast", socket.start_bind(&network, v4("224.0.0.1:53")));
    told("somebody else", socket.start_bind(&network, v4("10.9.9.9:53")));
    told("begin", socket.start_bind(&network, v4("0.0.0.0:53")));
    told("begin again", socket.start_bind(&network, v4("0.0.0.0:54")));
    told("begun, local", socket.local_address().map(port));
    told("finish", socket.finish_bind());
    told("finish again", socket.finish_bind());
    told("bound, begin", socket.start_bind(&network, v4("0.0.0.0:54")));
    told("local", socket.local_address().map(port));
    told("remote", socket.remote_address().map(port));
    let second = create_udp_socket(IpAddressFamily::Ipv4).unwrap();
    told("taken", second.start_bind(&network, v4("0.0.0.0:53")));

    said("family", socket.address_family());
    told("hops", socket.unicast_hop_limit());
    told("no hops", socket.set_unicast_hop_limit(0));
    told("seven hops", socket.set_unicast_hop_limit(7));
    told("hops", socket.unicast_hop_limit());
    told("no room to receive", socket.set_receive_buffer_size(0));
    told("room to receive", socket.set_receive_buffer_size(9000));
    told("room", socket.receive_buffer_size());
    told("no room to send", socket.set_send_buffer_size(0));
    told("room to send", socket.set_send_buffer_size(8000));
    told("room", socket.send_buffer_size());
    socket.subscribe().block();

    told("to nobody", socket.stream(Some(v4("0.0.0.0:9"))).map(drop));
    told("to no port", socket.stream(Some(v4("127.0.0.1:0"))).map(drop));
    told("to the other family", socket.stream(Some(v6_loopback(9))).map(drop));
    let (incoming, outgoing) = socket.stream(Some(v4("127.0.0.1:53"))).unwrap();
    told("remote", socket.remote_address().map(port));
    outgoing.subscribe().block();
    told("nothing there", incoming.receive(9).map(|list| list.len()));
    told("may send", outgoing.check_send());
    told("too large", outgoing.send(&[datagram(70_000, None)]));
    outgoing.check_send().unwrap();
    let list = [datagram(5, None), datagram(70_000, None), datagram(6, None)];
    told("one is too large", outgoing.send(&list));
    outgoing.check_send().unwrap();
    told("to nobody", outgoing.send(&[datagram(5, Some("0.0.0.0:9"))]));
    told("none, unasked", outgoing.send(&[]));
    incoming.subscribe().block();
    told("of none", incoming.receive(0).map(|list| list.len()));
    let lengths = |list: Vec<wasip2::sockets::udp::IncomingDatagram>| {
        list.into_iter().map(|datagram| datagram.data.len()).collect::<Vec<_>>()
    };
    told("arrived", incoming.receive(u64::MAX).map(lengths));
    drop((incoming, outgoing));
    told("streams anew", socket.stream(None).map(drop));
    told("remote", socket.remote_address().map(port));
}

/// Sends a datagram and says what became of it.
pub fn send(address: &str) {
    let socket = bound("0.0.0.0:0");
    let (_incoming, outgoing) = socket.stream(None).unwrap();
    outgoing.check_send().unwrap();
    told(address, outgoing.send(&[datagram(5, Some(address))]));
}

/// Asks for the streams of a socket while it has them.
pub fn streams_twice() {
    let socket = bound("0.0.0.0:0");
    let _held = socket.stream(None).unwrap();
    told("twice", socket.stream(None).map(drop));
}

/// Sends more than it was allowed.
pub fn send_unasked() {
    let socket = bound("0.0.0.0:0");
    let (_incoming, outgoing) = socket.stream(None).unwrap();
    let allowed = outgoing.check_send().unwrap() as usize;
    let list: Vec<_> = (0..=allowed).map(|_| datagram(1, Some("127.0.0.1:9"))).collect();
    told("unasked", outgoing.send(&list));
}

/// Looks names up, as programs do that wait for answers.
pub fn names(names: &[&str]) {
    for name in names {
        let lookup = resolve_addresses(&instance_network(), name).unwrap();
        lookup.subscribe().block();
        let mut count = 0;
        let end = loop {
            match lookup.resolve_next_address() {
                Ok(Some(_)) => count += 1,
                end => break end.map(drop),
            }
        };
        said(name, (count, end.map_err(|code| code.name())));
    }
}

fn volume() -> Descriptor {
    get_directories().into_iter().next().expect("a volume").0
}

fn open(name: &str) -> Descriptor {
    let how = DescriptorFlags::READ | DescriptorFlags::WRITE;
    volume()
        .open_at(PathFlags::empty(), name, OpenFlags::CREATE, how)
        .unwrap()
}

fn kind_of(error: StreamError) -> &'static str {
    match error {
        StreamError::Closed => "closed",
        StreamError::LastOperationFailed(_) => "failed",
    }
}

/// A file's streams, asked before they are ready.
pub fn file_streams() {
    let file = open("file");
    let out = file.write_via_stream(0).unwrap();
    let allowed = out.check_write().unwrap();
    said("may write", allowed > 5);
    said("nothing", out.write(b"").map_err(kind_of));
    said("five bytes", out.write(b"hello").map_err(kind_of));
    while out.check_write().unwrap() == 0 {
        out.subscribe().block();
    }
    said("written", file.read(9, 0).map(|(bytes, end)| (bytes.len(), end)));

    let input = file.read_via_stream(0).unwrap();
    said("none", input.read(0).map(|bytes| bytes.len()).map_err(kind_of));
    let first = input.read(2).map_err(kind_of);
    said("at once", first.as_ref().map(Vec::len));
    let mut text = first.unwrap_or_default();
    let end = loop {
        match input.read(2) {
            Ok(bytes) => text.extend(bytes),
            Err(error) => break kind_of(error),
        }
        input.subscribe().block();
    };
    said("read", (String::from_utf8_lossy(&text), end));
    said("after the end", input.read(2).map(|bytes| bytes.len()).map_err(kind_of));
}

/// Writes to a file's stream twice, having asked once.
pub fn file_write_unasked() {
    let out = open("file").write_via_stream(0).unwrap();
    out.check_write().unwrap();
    said("too much", out.write(&vec![7; 1 << 20]).map_err(kind_of));
}

/// What is in the volume, and of which kind.
pub fn kinds() {
    let listing = volume().read_directory().unwrap();
    let mut found = Vec::new();
    while let Some(entry) = listing.read_directory_entry().unwrap() {
        found.push(format!("{}: {:?}", entry.name, entry.type_));
    }
    found.sort();
    found.iter().for_each(|line| println!("{line}"));
}

/// Everything that a program learns of time and chance.
pub fn chance() {
    let wall = wall_clock::now();
    println!("{:?} {:?}", wall, wall_clock::resolution());
    println!("{} {}", monotonic_clock::now(), monotonic_clock::resolution());
    println!("{:x} {:?}", get_random_u64(), insecure_seed());
}
