//! Frames: cut out of a stream of bytes, and written into one. Pure.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::headers::{Deflater, HeaderError, Headers, Inflater};

/// How long a frame may be. Clients send 32 KiB at a time.
const FRAME_BYTES: usize = 1024 * 1024;
const VERSION: u16 = 3;
const FIN: u8 = 1;

/// A frame, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The other side opens a stream.
    Open { stream: u32, headers: Headers, fin: bool },
    /// Bytes of a stream; with `fin` the last ones.
    Data { stream: u32, bytes: Bytes, fin: bool },
    /// A stream ended at once, both ways.
    Reset { stream: u32 },
    /// To be sent back as it is.
    Ping { id: u32 },
    /// The other side opens no more streams.
    GoAway,
    /// Something that needs no answer.
    Other,
}

/// Why a connection cannot go on.
#[derive(Debug, Error)]
pub(crate) enum FrameError {
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("SPDY version {0} is not spoken")]
    Version(u16),
    #[error("a frame of type {0} ends early")]
    Short(u16),
    #[error(transparent)]
    Headers(#[from] HeaderError),
}

/// Cuts frames.
pub(crate) struct Decoder {
    buffer: BytesMut,
    inflater: Inflater,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            inflater: Inflater::new(),
        }
    }

    /// Takes in bytes as they come.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if it is there.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((head, _)) = self.buffer.split_first_chunk::<8>() else {
            return Ok(None);
        };
        let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let second = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let flags = (second >> 24) as u8;
        let length = (second & 0x00ff_ffff) as usize;
        if length > FRAME_BYTES {
            return Err(FrameError::TooLong(length));
        }
        if self.buffer.len() < 8 + length {
            return Ok(None);
        }
        self.buffer.advance(8);
        let body = self.buffer.split_to(length).freeze();
        let fin = flags & FIN != 0;
        if first & 0x8000_0000 == 0 {
            return Ok(Some(Frame::Data {
                stream: first,
                bytes: body,
                fin,
            }));
        }
        let version = (first >> 16) as u16 & 0x7fff;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        self.control(first as u16, body, fin).map(Some)
    }

    fn control(&mut self, kind: u16, mut body: Bytes, fin: bool) -> Result<Frame, FrameError> {
        let mut number = || body.try_get_u32().map_err(|_| FrameError::Short(kind));
        match kind {
            1 => {
                let stream = number()? & 0x7fff_ffff;
                number()?;
                let block = body.get(2..).ok_or(FrameError::Short(kind))?;
                Ok(Frame::Open {
                    stream,
                    headers: self.inflater.headers(block)?,
                    fin,
                })
            }
            // Headers that nobody asked for must be inflated all the same: the context spans them.
            2 | 8 => {
                number()?;
                self.inflater.headers(&body)?;
                Ok(Frame::Other)
            }
            3 => Ok(Frame::Reset {
                stream: number()? & 0x7fff_ffff,
            }),
            6 => Ok(Frame::Ping { id: number()? }),
            7 => Ok(Frame::GoAway),
            _ => Ok(Frame::Other),
        }
    }
}

/// Writes frames.
pub(crate) struct Encoder {
    deflater: Deflater,
}

impl Encoder {
    pub(crate) fn new() -> Result<Self, FrameError> {
        Ok(Self {
            deflater: Deflater::new()?,
        })
    }

    /// Accepts a stream.
    pub(crate) fn reply(&mut self, stream: u32) -> Result<Bytes, FrameError> {
        let block = self.deflater.block(&[])?;
        let mut body = BytesMut::with_capacity(4 + block.len());
        body.put_u32(stream);
        body.put_slice(&block);
        Ok(control(2, &body))
    }

    /// Opens a stream; only a client does.
    #[cfg(test)]
    pub(crate) fn open(&mut self, stream: u32, headers: &[(&str, &str)]) -> Bytes {
        let block = self.deflater.block(headers).unwrap();
        let mut body = BytesMut::new();
        body.put_u32(stream);
        body.put_u32(0);
        body.put_u16(0);
        body.put_slice(&block);
        control(1, &body)
    }
}

/// Bytes of a stream.
pub(crate) fn data(stream: u32, bytes: &[u8], fin: bool) -> Bytes {
    let mut frame = BytesMut::with_capacity(8 + bytes.len());
    frame.put_u32(stream & 0x7fff_ffff);
    frame.put_u32((u32::from(fin) << 24) | (bytes.len() as u32 & 0x00ff_ffff));
    frame.put_slice(bytes);
    frame.freeze()
}

/// The answer to a ping.
pub(crate) fn ping(id: u32) -> Bytes {
    control(6, &id.to_be_bytes())
}

fn control(kind: u16, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(8 + body.len());
    frame.put_u16(0x8000 | VERSION);
    frame.put_u16(kind);
    frame.put_u32(body.len() as u32 & 0x00ff_ffff);
    frame.put_slice(body);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_are_cut_wherever_the_bytes_are() {
        let mut encoder = Encoder::new().unwrap();
        let mut wire = Vec::new();
        wire.extend_from_slice(&encoder.open(1, &[("streamtype", "error"), ("port", "80")]));
        wire.extend_from_slice(&data(1, b"hello", true));
        wire.extend_from_slice(&encoder.open(3, &[("streamtype", "data")]));
        wire.extend_from_slice(&ping(7));
        let mut decoder = Decoder::new();
        let mut frames = Vec::new();
        for byte in wire {
            decoder.push(&[byte]);
            frames.extend(decoder.next().unwrap());
        }
        let text = |texts: &[(&str, &str)]| {
            texts
                .iter()
                .map(|(a, b)| ((*a).into(), (*b).into()))
                .collect::<Headers>()
        };
        assert_eq!(
            frames,
            [
                Frame::Open {
                    stream: 1,
                    headers: text(&[("streamtype", "error"), ("port", "80")]),
                    fin: false
                },
                Frame::Data {
                    stream: 1,
                    bytes: Bytes::from_static(b"hello"),
                    fin: true
                },
                Frame::Open {
                    stream: 3,
                    headers: text(&[("streamtype", "data")]),
                    fin: false
                },
                Frame::Ping { id: 7 },
            ]
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut decoder = Decoder::new();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next() {}
        }
    }
}
