//! What is said on a stream between two nodes. Pure.
//!
//! The first byte says what the stream is for. A stream for a connection goes on with both addresses and gets one byte for an
//! answer; then both sides send pieces, each after its length. An end without the piece that says so is a broken connection:
//! the multiplexer alone does not tell the two apart. A stream for datagrams is a row of them; an empty one says that its
//! sender lives.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use coracle_net::{MAX_DATAGRAM_BYTES, NetError};

/// A stream for one connection.
pub(crate) const CONNECTION: u8 = 1;
/// The stream for the datagrams of one direction.
pub(crate) const DATAGRAMS: u8 = 2;
/// Two addresses as they are written.
pub(crate) const ADDRESSES_BYTES: usize = 2 * ADDRESS_BYTES;
/// An address of either family: IPv4 in its mapped form, and a port.
const ADDRESS_BYTES: usize = 16 + 2;
/// The longest piece: what a pod's pipe gives at a time, and short enough that streams take turns.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;
/// What stands before each piece and each datagram.
pub(crate) const LENGTH_BYTES: usize = 4;
/// Shorter pieces are sent together with their length: a copy of so much costs less than a frame of its own.
const COPIED_BYTES: usize = 4 * 1024;
/// Instead of a length: the sender has sent all.
const END: u32 = 0;
/// Instead of a length: the sender takes no more.
const STOP: u32 = u32::MAX;
/// The answer that a connection stands.
const STANDS: u8 = 0;

/// Why connections fail, and the byte that says so.
const FAILURES: [(u8, NetError); 9] = [
    (1, NetError::ConnectionRefused),
    (2, NetError::HostUnreachable),
    (3, NetError::Denied),
    (4, NetError::TimedOut),
    (5, NetError::NetworkUnreachable),
    (6, NetError::NetworkDown),
    (7, NetError::TooManySockets),
    (8, NetError::OutOfMemory),
    (9, NetError::ConnectionReset),
];

/// What the other side does not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the other node says what this one does not understand: {0}")]
pub(crate) struct Malformed(&'static str);

/// The answer to a connection.
pub(crate) fn answer(outcome: &Result<(), NetError>) -> u8 {
    let Err(error) = outcome else { return STANDS };
    let mut failures = FAILURES.iter();
    failures.find(|(_, known)| known == error).map_or(1, |(byte, _)| *byte)
}

/// Reads the answer to a connection.
pub(crate) fn read_answer(byte: u8) -> Result<(), NetError> {
    let mut failures = FAILURES.iter();
    match failures.find(|(known, _)| *known == byte) {
        Some((_, error)) => Err(*error),
        None if byte == STANDS => Ok(()),
        None => Err(NetError::ConnectionReset),
    }
}

/// Writes where something comes from and where it goes.
pub(crate) fn write_addresses(to: &mut impl BufMut, from: SocketAddr, target: SocketAddr) {
    for address in [from, target] {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        to.put_slice(&ip.octets());
        to.put_u16(address.port());
    }
}

/// Reads where something comes from and where it goes.
pub(crate) fn read_addresses(mut from: impl Buf) -> Result<(SocketAddr, SocketAddr), Malformed> {
    if from.remaining() < ADDRESSES_BYTES {
        return Err(Malformed("too few bytes for two addresses"));
    }
    let mut address = || {
        let ip = Ipv6Addr::from(from.get_u128());
        SocketAddr::new(
            ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), |ip: Ipv4Addr| ip.into()),
            from.get_u16(),
        )
    };
    Ok((address(), address()))
}

/// A part of what one side of a connection sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Bytes.
    Data(Bytes),
    /// There is no more.
    End,
    /// The sender takes no more.
    Stop,
}

/// Writes a piece, whose bytes are at most [`PIECE_BYTES`]: what is to be sent first, and then the rest, which is not copied
/// where it is long.
pub(crate) fn write_piece(head: &mut BytesMut, piece: Piece) -> Bytes {
    match piece {
        Piece::End => head.put_u32(END),
        Piece::Stop => head.put_u32(STOP),
        Piece::Data(bytes) => {
            head.put_u32(u32::try_from(bytes.len()).unwrap_or(STOP));
            if bytes.len() > COPIED_BYTES {
                return bytes;
            }
            head.put_slice(&bytes);
        }
    }
    Bytes::new()
}

/// Takes pieces out of what comes, however it is cut. A long piece is given in parts as they come.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    /// What has come and is not read yet.
    came: Bytes,
    /// The beginning of a length whose rest has not come.
    head: BytesMut,
    /// How much is still to come of the piece that has begun.
    left: usize,
}

impl Pieces {
    /// Adds what comes next. What came before has been read.
    pub(crate) fn add(&mut self, came: Bytes) {
        self.came = came;
    }

    /// The next piece; none while it has not come.
    pub(crate) fn next(&mut self) -> Result<Option<Piece>, Malformed> {
        if self.left == 0 {
            let missing = (LENGTH_BYTES - self.head.len()).min(self.came.len());
            self.head.extend_from_slice(&self.came.split_to(missing));
            if self.head.len() < LENGTH_BYTES {
                return Ok(None);
            }
            match self.head.get_u32() {
                END => return Ok(Some(Piece::End)),
                STOP => return Ok(Some(Piece::Stop)),
                length => self.left = usize::try_from(length).unwrap_or(usize::MAX),
            }
            if self.left > PIECE_BYTES {
                return Err(Malformed("a piece that is too long"));
            }
        }
        let count = self.came.len().min(self.left);
        if count == 0 {
            return Ok(None);
        }
        self.left -= count;
        Ok(Some(Piece::Data(self.came.split_to(count))))
    }
}

/// A datagram on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) data: Bytes,
}

/// Writes a datagram, or the sign of life.
pub(crate) fn write_datagram(to: &mut BytesMut, datagram: Option<&Datagram>) {
    let Some(datagram) = datagram else { return to.put_u32(0) };
    let length = ADDRESSES_BYTES + datagram.data.len();
    to.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    write_addresses(to, datagram.from, datagram.to);
    to.put_slice(&datagram.data);
}

/// How much of a datagram follows its length.
pub(crate) fn datagram_bytes(length: u32) -> Result<usize, Malformed> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    match length {
        0 => Ok(0),
        _ if (ADDRESSES_BYTES..=ADDRESSES_BYTES + MAX_DATAGRAM_BYTES).contains(&length) => Ok(length),
        _ => Err(Malformed("a datagram of a length that none has")),
    }
}

/// Reads a datagram without its length.
pub(crate) fn read_datagram(mut from: Bytes) -> Result<Datagram, Malformed> {
    let (source, target) = read_addresses(&mut from)?;
    Ok(Datagram {
        from: source,
        to: target,
        data: from,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn folded(address: SocketAddr) -> SocketAddr {
        SocketAddr::new(address.ip().to_canonical(), address.port())
    }

    #[test]
    fn every_answer_is_read_as_it_was_given() {
        for (_, error) in FAILURES {
            assert_eq!(read_answer(answer(&Err(error))), Err(error));
        }
        assert_eq!(read_answer(answer(&Ok(()))), Ok(()));
        assert_eq!(
            read_answer(answer(&Err(NetError::NameNotFound))),
            Err(NetError::ConnectionRefused)
        );
        assert_eq!(read_answer(200), Err(NetError::ConnectionReset));
    }

    #[test]
    fn lengths_that_nobody_sends_are_refused() {
        let mut pieces = Pieces::default();
        let long = u32::try_from(PIECE_BYTES).unwrap() + 1;
        pieces.add(Bytes::copy_from_slice(&long.to_be_bytes()));
        assert!(pieces.next().is_err());
        assert!(datagram_bytes(5).is_err());
        assert!(datagram_bytes(70_000).is_err());
        assert_eq!(datagram_bytes(0), Ok(0));
    }

    proptest! {
        #[test]
        fn addresses_are_read_as_they_were_written(from: SocketAddr, to: SocketAddr) {
            let mut bytes = BytesMut::new();
            write_addresses(&mut bytes, from, to);
            prop_assert_eq!(bytes.len(), ADDRESSES_BYTES);
            prop_assert_eq!(read_addresses(bytes), Ok((folded(from), folded(to))));
        }

        #[test]
        fn pieces_are_read_however_they_come(
            lengths in prop::collection::vec(prop_oneof![1..200usize, COPIED_BYTES - 1..COPIED_BYTES + 3], 0..6),
            cut in prop_oneof![1usize..40, 1000..20_000usize],
        ) {
            let data: Vec<Vec<u8>> = (1..).zip(&lengths).map(|(byte, length)| vec![byte; *length]).collect();
            let mut written = BytesMut::new();
            for bytes in &data {
                let rest = write_piece(&mut written, Piece::Data(Bytes::from(bytes.clone())));
                written.extend_from_slice(&rest);
            }
            prop_assert!(write_piece(&mut written, Piece::End).is_empty());
            let (mut pieces, mut read, mut ended) = (Pieces::default(), Vec::new(), false);
            for part in written.chunks(cut) {
                pieces.add(Bytes::copy_from_slice(part));
                while let Some(piece) = pieces.next().unwrap() {
                    match piece {
                        Piece::Data(bytes) => read.extend_from_slice(&bytes),
                        other => { prop_assert_eq!(other, Piece::End); ended = true; }
                    }
                }
            }
            prop_assert_eq!(read, data.concat());
            prop_assert!(ended && pieces.came.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), cut in 1usize..40) {
            let mut pieces = Pieces::default();
            for part in bytes.chunks(cut) {
                pieces.add(Bytes::copy_from_slice(part));
                while let Ok(Some(_)) = pieces.next() {}
            }
            let _ = read_datagram(Bytes::from(bytes));
        }

        #[test]
        fn datagrams_are_read_as_they_were_written(from: SocketAddr, to: SocketAddr, data in prop::collection::vec(any::<u8>(), 0..100)) {
            let datagram = Datagram { from: folded(from), to: folded(to), data: data.into() };
            let mut written = BytesMut::new();
            write_datagram(&mut written, Some(&datagram));
            prop_assert_eq!(datagram_bytes(written.get_u32()), Ok(written.len()));
            prop_assert_eq!(read_datagram(written.freeze()), Ok(datagram));
        }
    }
}
