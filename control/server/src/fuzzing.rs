//! Doors for the fuzz targets, open only to them.

use crate::stream::spdy::frame::Decoder;

/// Reads a SPDY connection that comes in these pieces, to its end or to the first thing that is wrong with it.
pub fn spdy<'a>(pieces: impl Iterator<Item = &'a [u8]>) {
    let mut decoder = Decoder::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}
