//! Sockets in all their states, and names.

use crate::held::Held;
use crate::program::Step;
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress};
use wasip2::sockets::tcp::{ShutdownType, TcpSocket};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp::OutgoingDatagram;
use wasip2::sockets::udp_create_socket::create_udp_socket;

pub fn step(held: &mut Held, p: &mut Step) {
    match p.below(24) {
        0..2 => create(held, p),
        2..5 => begin(held, p),
        5..9 => go_on(held, p),
        9 | 10 => pair(held, p),
        11 | 12 => options(held, p),
        13 | 14 => ask(held, p),
        15 => shut(held, p),
        16..18 => udp(held, p),
        18..20 => datagrams(held, p),
        20 | 21 => names(held, p),
        22 => subscribe(held, p),
        _ => give_up(held, p),
    }
}

fn family(p: &mut Step) -> IpAddressFamily {
    match p.byte() % 4 {
        0..3 => IpAddressFamily::Ipv4,
        _ => IpAddressFamily::Ipv6,
    }
}

const HOSTS: [(u8, u8, u8, u8); 8] = [
    (127, 0, 0, 1),
    (0, 0, 0, 0),
    (10, 244, 0, 2),
    (10, 244, 0, 3),
    (10, 96, 0, 1),
    (255, 255, 255, 255),
    (224, 0, 0, 1),
    (169, 254, 169, 254),
];

fn address(p: &mut Step) -> IpSocketAddress {
    let port = [0, 80, 53, 1000, 1001, 1002, 6443, u16::from(p.byte())][p.below(8)];
    match p.byte() % 8 {
        0..7 => IpSocketAddress::Ipv4(Ipv4SocketAddress {
            port,
            address: HOSTS[p.below(HOSTS.len())],
        }),
        _ => IpSocketAddress::Ipv6(Ipv6SocketAddress {
            port,
            flow_info: p.number() as u32,
            address: (
                0,
                0,
                0,
                0,
                0,
                u16::from(p.flag()) * 0xffff,
                u16::from(p.flag()) * 0x7f00,
                p.below(2) as u16,
            ),
            scope_id: p.number() as u32,
        }),
    }
}

fn create(held: &mut Held, p: &mut Step) {
    if p.byte() % 4 < 3 {
        let answer = create_tcp_socket(family(p));
        if let Some(socket) = held.good(answer) {
            held.tcp.put(socket);
        }
    } else {
        let answer = create_udp_socket(family(p));
        if let Some(socket) = held.good(answer) {
            held.udp.put(socket);
        }
    }
}

fn begin(held: &mut Held, p: &mut Step) {
    let Some(socket) = held.tcp.pick(p) else { return };
    let network = instance_network();
    let answer = match p.below(3) {
        0 => socket.start_bind(&network, address(p)),
        1 => socket.start_connect(&network, address(p)),
        _ => socket.start_listen(),
    };
    held.good(answer);
}

fn go_on(held: &mut Held, p: &mut Step) {
    let Some(socket) = held.tcp.pick(p) else { return };
    match p.below(4) {
        0 => {
            let answer = socket.finish_bind();
            held.good(answer);
        }
        1 => {
            let answer = socket.finish_listen();
            held.good(answer);
        }
        2 => {
            let answer = socket.finish_connect();
            if let Some((input, output)) = held.good(answer) {
                held.inputs.put(input);
                held.outputs.put(output);
            }
        }
        _ => {
            let answer = socket.accept();
            if let Some((socket, input, output)) = held.good(answer) {
                held.tcp.put(socket);
                held.inputs.put(input);
                held.outputs.put(output);
            }
        }
    }
}

/// A connection with oneself, which chance alone would find too seldom.
fn pair(held: &mut Held, p: &mut Step) {
    let network = instance_network();
    let here = IpSocketAddress::Ipv4(Ipv4SocketAddress {
        port: 2000 + u16::from(p.byte()),
        address: (127, 0, 0, 1),
    });
    let made = (|| {
        let (listener, caller) = (
            create_tcp_socket(IpAddressFamily::Ipv4)?,
            create_tcp_socket(IpAddressFamily::Ipv4)?,
        );
        listener.start_bind(&network, here)?;
        listener.finish_bind()?;
        listener.set_listen_backlog_size(1 + p.number() / 2)?;
        listener.start_listen()?;
        listener.finish_listen()?;
        caller.start_connect(&network, here)?;
        let (input, output) = caller.finish_connect()?;
        let (accepted, other_input, other_output) = listener.accept()?;
        Ok::<_, wasip2::sockets::network::ErrorCode>((
            [listener, caller, accepted],
            [input, other_input],
            [output, other_output],
        ))
    })();
    if let Some((sockets, inputs, outputs)) = held.good(made) {
        sockets.into_iter().for_each(|socket| held.tcp.put(socket));
        inputs.into_iter().for_each(|stream| held.inputs.put(stream));
        outputs.into_iter().for_each(|stream| held.outputs.put(stream));
    }
}

fn options(held: &mut Held, p: &mut Step) {
    let Some(socket) = held.tcp.pick(p) else { return };
    let answer = match p.below(8) {
        0 => socket.set_listen_backlog_size(p.number()),
        1 => socket.set_keep_alive_enabled(p.flag()),
        2 => socket.set_keep_alive_idle_time(p.number()),
        3 => socket.set_keep_alive_interval(p.number()),
        4 => socket.set_keep_alive_count(p.number() as u32),
        5 => socket.set_hop_limit(p.byte()),
        6 => socket.set_receive_buffer_size(p.number()),
        _ => socket.set_send_buffer_size(p.number()),
    };
    held.good(answer);
}

fn ask(held: &mut Held, p: &mut Step) {
    let Some(socket) = held.tcp.pick(p) else { return };
    let answer = match p.below(10) {
        0 => socket.local_address().map(drop),
        1 => socket.remote_address().map(drop),
        2 => socket.set_hop_limit(1 + u8::from(socket.is_listening()) + socket.address_family() as u8),
        3 => socket.keep_alive_enabled().map(drop),
        4 => socket.keep_alive_idle_time().map(drop),
        5 => socket.keep_alive_interval().map(drop),
        6 => socket.keep_alive_count().map(drop),
        7 => socket.hop_limit().map(drop),
        8 => socket.receive_buffer_size().map(drop),
        _ => socket.send_buffer_size().map(drop),
    };
    held.good(answer);
}

fn shut(held: &mut Held, p: &mut Step) {
    let how = [ShutdownType::Receive, ShutdownType::Send, ShutdownType::Both][p.below(3)];
    let answer = held.tcp.pick(p).map(|socket: &TcpSocket| socket.shutdown(how));
    if let Some(answer) = answer {
        held.good(answer);
    }
}

fn udp(held: &mut Held, p: &mut Step) {
    let Some(socket) = held.udp.pick(p) else { return };
    let answer = match p.below(10) {
        0 | 1 => socket.start_bind(&instance_network(), address(p)),
        2 => socket.finish_bind(),
        // A second pair of streams ends the program while it holds the first.
        3 | 4 => {
            held.free_streams(p);
            let Some(socket) = held.udp.pick(p) else { return };
            let peer = p.flag().then(|| address(p));
            let streams = socket.stream(peer);
            return if let Some((arriving, leaving)) = held.good(streams) {
                held.arriving.put(arriving);
                held.leaving.put(leaving);
            };
        }
        5 => socket.local_address().map(drop),
        6 => socket.remote_address().map(drop),
        7 => socket.set_unicast_hop_limit(p.byte()),
        8 => socket.set_receive_buffer_size(p.number()),
        _ => socket
            .set_send_buffer_size(p.number())
            .and(socket.unicast_hop_limit())
            .map(drop),
    };
    held.good(answer);
}

fn datagrams(held: &mut Held, p: &mut Step) {
    if let Some(arriving) = held.arriving.pick(p) {
        let answer = arriving.receive(p.number());
        held.good(answer);
    }
    let Some(leaving) = held.leaving.pick(p) else { return };
    let allowed = leaving.check_send().unwrap_or_default();
    let count = if p.deadly() {
        64
    } else {
        p.below(4).min(allowed as usize)
    };
    let list: Vec<_> = (0..count)
        .map(|_| OutgoingDatagram {
            data: p.bytes(),
            remote_address: p.flag().then(|| address(p)),
        })
        .collect();
    let answer = leaving.send(&list);
    held.good(answer);
}

fn names(held: &mut Held, p: &mut Step) {
    if let Some(lookup) = held.lookups.pick(p) {
        let answer = lookup.resolve_next_address();
        held.good(answer);
    }
    let answer = resolve_addresses(&instance_network(), &p.text());
    if let Some(lookup) = held.good(answer) {
        held.lookups.put(lookup);
    }
}

fn subscribe(held: &mut Held, p: &mut Step) {
    let pollable = match p.below(5) {
        0 => held.tcp.pick(p).map(|socket| socket.subscribe()),
        1 => held.udp.pick(p).map(|socket| socket.subscribe()),
        2 => held.arriving.pick(p).map(|stream| stream.subscribe()),
        3 => held.leaving.pick(p).map(|stream| stream.subscribe()),
        _ => held.lookups.pick(p).map(|lookup| lookup.subscribe()),
    };
    if let Some(pollable) = pollable {
        held.pollables.put(pollable);
    }
}

fn give_up(held: &mut Held, p: &mut Step) {
    match p.below(8) {
        0 => {
            held.free_streams(p);
            drop((held.tcp.take(p), held.udp.take(p)));
        }
        _ => {
            held.free(p);
            drop(held.lookups.take(p));
        }
    }
}
