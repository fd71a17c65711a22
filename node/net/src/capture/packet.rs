//! Packets as a wire would carry them: IP, TCP and UDP headers with their checksums (RFC 791, 8200, 9293, 768). Pure.

use std::net::{IpAddr, SocketAddr};

use bytes::BufMut;

/// Bits of a TCP header.
pub(super) mod flags {
    pub(in super::super) const FIN: u8 = 0x01;
    pub(in super::super) const SYN: u8 = 0x02;
    pub(in super::super) const RST: u8 = 0x04;
    pub(in super::super) const PSH: u8 = 0x08;
    pub(in super::super) const ACK: u8 = 0x10;
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const TCP_HEADER: u16 = 20;
const UDP_HEADER: u16 = 8;
/// What is shown as the window, which nothing here is bounded by.
const WINDOW: u16 = u16::MAX;
const HOP_LIMIT: u8 = 64;

/// A TCP segment.
pub(super) struct Segment<'a> {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
    pub(super) flags: u8,
    pub(super) data: &'a [u8],
}

/// The packet of a segment.
pub(super) fn tcp(segment: &Segment<'_>) -> Vec<u8> {
    let mut header = Vec::with_capacity(TCP_HEADER.into());
    header.put_u16(segment.from.port());
    header.put_u16(segment.to.port());
    header.put_u32(segment.sequence);
    header.put_u32(segment.acknowledged);
    header.put_u8(5 << 4);
    header.put_u8(segment.flags);
    header.put_u16(WINDOW);
    let checksum = checksum(
        segment.from.ip(),
        segment.to.ip(),
        TCP,
        &[&header, &[0; 4], segment.data],
    );
    header.put_u16(checksum);
    header.put_u16(0);
    ip(segment.from.ip(), segment.to.ip(), TCP, &header, segment.data)
}

/// The packet of a datagram.
pub(super) fn udp(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX).saturating_add(UDP_HEADER);
    let mut header = Vec::with_capacity(UDP_HEADER.into());
    header.put_u16(from.port());
    header.put_u16(to.port());
    header.put_u16(length);
    // Zero would mean that there is none.
    let checksum = match checksum(from.ip(), to.ip(), UDP, &[&header, &[0; 2], data]) {
        0 => u16::MAX,
        sum => sum,
    };
    header.put_u16(checksum);
    ip(from.ip(), to.ip(), UDP, &header, data)
}

fn ip(from: IpAddr, to: IpAddr, protocol: u8, header: &[u8], data: &[u8]) -> Vec<u8> {
    let payload = header.len() + data.len();
    let mut packet = Vec::with_capacity(payload + 40);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            packet.put_slice(&[0x45, 0]);
            packet.put_u16(u16::try_from(payload + 20).unwrap_or(u16::MAX));
            // No number, and never fragmented.
            packet.put_slice(&[0, 0, 0x40, 0, HOP_LIMIT, protocol]);
            let mut whole = packet.clone();
            whole.put_u16(0);
            whole.put_slice(&from.octets());
            whole.put_slice(&to.octets());
            packet.put_u16(folded(sum(0, &whole)));
            packet.put_slice(&from.octets());
            packet.put_slice(&to.octets());
        }
        (from, to) => {
            packet.put_u32(0x6000_0000);
            packet.put_u16(u16::try_from(payload).unwrap_or(u16::MAX));
            packet.put_slice(&[protocol, HOP_LIMIT]);
            packet.put_slice(&octets(from));
            packet.put_slice(&octets(to));
        }
    }
    packet.put_slice(header);
    packet.put_slice(data);
    packet
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The checksum of TCP and UDP, over parts of which all but the last are of even length.
fn checksum(from: IpAddr, to: IpAddr, protocol: u8, parts: &[&[u8]]) -> u16 {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let addresses = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => sum(sum(0, &from.octets()), &to.octets()),
        (from, to) => sum(sum(0, &octets(from)), &octets(to)),
    };
    let start = addresses + u64::from(protocol) + u64::try_from(length).unwrap_or_default();
    folded(parts.iter().fold(start, |all, part| sum(all, part)))
}

fn sum(start: u64, bytes: &[u8]) -> u64 {
    let pairs = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u64::from(u16::from_be_bytes([high, low])),
        [high] => u64::from(u16::from_be_bytes([high, 0])),
        _ => 0,
    });
    start + pairs.sum::<u64>()
}

fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a receiver computes over header and data with the checksum in place: zero where it is right.
    fn verified(packet: &[u8], v4: bool) -> u16 {
        let (start, from, to) = if v4 { (20, 12..16, 16..20) } else { (40, 8..24, 24..40) };
        let (protocol, length) = (if v4 { packet[9] } else { packet[6] }, packet.len() - start);
        let all = sum(sum(sum(0, &packet[from]), &packet[to]), &packet[start..]);
        folded(all + u64::from(protocol) + length as u64)
    }

    #[test]
    fn receivers_find_the_checksums_right() {
        for (from, to, v4) in [
            ("10.244.0.3:4000", "10.96.0.20:80", true),
            ("[fd00::3]:4000", "[fd00::20]:80", false),
        ] {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            for data in [&b""[..], b"odd", b"even"] {
                let segment = Segment {
                    from,
                    to,
                    sequence: 7,
                    acknowledged: 9,
                    flags: flags::ACK,
                    data,
                };
                let packet = tcp(&segment);
                assert_eq!(verified(&packet, v4), 0);
                assert!(packet.ends_with(data));
                assert_eq!(verified(&udp(from, to, data), v4), 0);
                if v4 {
                    assert_eq!(folded(sum(0, &packet[..20])), 0, "the IP header's own");
                    assert_eq!(usize::from(u16::from_be_bytes([packet[2], packet[3]])), packet.len());
                }
            }
        }
    }
}
