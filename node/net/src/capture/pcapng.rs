//! Captures as files: the blocks of pcapng (draft-ietf-opsawg-pcapng), as far as one interface of IP packets needs them. Pure.

use std::time::UNIX_EPOCH;

use bytes::BufMut;

use super::Packet;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
/// Packets that begin with their IP header.
const LINKTYPE_RAW: u16 = 101;

/// The beginning of a file: its section and its interface, by a name that Wireshark shows.
pub fn header(interface: &str) -> Vec<u8> {
    let mut file = Vec::new();
    block(&mut file, SECTION, |body| {
        body.put_u32_le(0x1a2b_3c4d);
        body.put_u16_le(1);
        body.put_u16_le(0);
        // Its length is not known.
        body.put_i64_le(-1);
    });
    block(&mut file, INTERFACE, |body| {
        body.put_u16_le(LINKTYPE_RAW);
        body.put_u16_le(0);
        // No packet is cut short.
        body.put_u32_le(0);
        option(body, 2, interface.as_bytes());
        // Times are in nanoseconds.
        option(body, 9, &[9]);
        option(body, 0, &[]);
    });
    file
}

/// A packet.
pub fn packet(packet: &Packet) -> Vec<u8> {
    let since = packet.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    let length = u32::try_from(packet.data.len()).unwrap_or(u32::MAX);
    let mut file = Vec::new();
    block(&mut file, ENHANCED_PACKET, |body| {
        body.put_u32_le(0);
        body.put_u32_le(u32::try_from(nanos >> 32).unwrap_or_default());
        body.put_u32_le(u32::try_from(nanos & 0xffff_ffff).unwrap_or_default());
        body.put_u32_le(length);
        body.put_u32_le(length);
        padded(body, &packet.data);
    });
    file
}

fn block(file: &mut Vec<u8>, kind: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    fill(&mut body);
    let length = u32::try_from(body.len()).unwrap_or_default().saturating_add(12);
    file.put_u32_le(kind);
    file.put_u32_le(length);
    file.put_slice(&body);
    file.put_u32_le(length);
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.put_u16_le(code);
    body.put_u16_le(u16::try_from(value.len()).unwrap_or_default());
    padded(body, value);
}

fn padded(body: &mut Vec<u8>, data: &[u8]) {
    body.put_slice(data);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn blocks_are_as_the_draft_has_them() {
        let mut file = header("demo/web");
        let packet = Packet {
            at: UNIX_EPOCH + Duration::new(5, 7),
            data: vec![0x45, 1, 2].into(),
        };
        file.extend(super::packet(&packet));
        let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        let mut at = 0;
        let mut kinds = Vec::new();
        while at < file.len() {
            let length = word(at + 4) as usize;
            assert_eq!(length % 4, 0);
            assert_eq!(word(at + length - 4) as usize, length, "a block ends with its length");
            kinds.push((word(at), at));
            at += length;
        }
        assert_eq!(
            kinds.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
            [SECTION, INTERFACE, ENHANCED_PACKET]
        );
        let at = kinds[2].1;
        let nanos = u64::from(word(at + 12)) << 32 | u64::from(word(at + 16));
        assert_eq!(nanos, 5_000_000_007);
        assert_eq!((word(at + 20), &file[at + 28..at + 31]), (3, &[0x45, 1, 2][..]));
    }
}
