//! Header blocks: names and values, compressed with one context per direction for the whole session.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use thiserror::Error;

/// How large a header block may become. Clients send three short headers.
const BLOCK_BYTES: usize = 64 * 1024;

/// Names and values.
pub(crate) type Headers = Vec<(String, String)>;

/// What can be wrong with a header block.
#[derive(Debug, Error)]
pub(crate) enum HeaderError {
    #[error("header block cannot be decompressed: {0}")]
    Inflate(#[from] flate2::DecompressError),
    #[error("header block cannot be compressed: {0}")]
    Deflate(#[from] flate2::CompressError),
    #[error("header block is larger than {BLOCK_BYTES} bytes")]
    TooLarge,
    #[error("header block ends early")]
    Truncated,
}

/// The dictionary's words, each of which it holds behind its length in four bytes.
const WORDS: &[&str] = &[
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];

/// The rest of the dictionary (SPDY draft 3, section 2.6.10.1).
const TAIL: &str = concat!(
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505",
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized",
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable",
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT",
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,",
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.",
);

fn dictionary() -> Vec<u8> {
    let mut dictionary = Vec::with_capacity(1500);
    for word in WORDS {
        dictionary.extend_from_slice(&length(word.len()));
        dictionary.extend_from_slice(word.as_bytes());
    }
    dictionary.extend_from_slice(TAIL.as_bytes());
    dictionary
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

/// Reads the header blocks of one direction.
pub(crate) struct Inflater {
    context: Decompress,
}

impl Inflater {
    pub(crate) fn new() -> Self {
        Self {
            context: Decompress::new(true),
        }
    }

    /// The headers of the next block. Blocks must come in the order in which they were sent.
    pub(crate) fn headers(&mut self, block: &[u8]) -> Result<Headers, HeaderError> {
        read(&self.inflate(block)?).ok_or(HeaderError::Truncated)
    }

    fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, HeaderError> {
        let mut out = Vec::with_capacity(1024);
        loop {
            if out.len() >= BLOCK_BYTES {
                return Err(HeaderError::TooLarge);
            }
            out.reserve(1024);
            let (read, written) = (self.context.total_in(), out.len());
            let status = match self.context.decompress_vec(block, &mut out, FlushDecompress::Sync) {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.context.set_dictionary(&dictionary())?;
                    Status::Ok
                }
                status => status?,
            };
            let used = usize::try_from(self.context.total_in() - read).unwrap_or(block.len());
            block = block.get(used..).unwrap_or_default();
            let idle = used == 0 && out.len() == written;
            let full = out.len() == out.capacity();
            if status == Status::StreamEnd || (block.is_empty() && !full) || (idle && status == Status::BufError) {
                return Ok(out);
            }
        }
    }
}

/// Writes the header blocks of one direction.
pub(crate) struct Deflater {
    context: Compress,
}

impl Deflater {
    pub(crate) fn new() -> Result<Self, HeaderError> {
        let mut context = Compress::new(Compression::default(), true);
        context.set_dictionary(&dictionary())?;
        Ok(Self { context })
    }

    /// The next block.
    pub(crate) fn block(&mut self, headers: &[(&str, &str)]) -> Result<Vec<u8>, HeaderError> {
        let mut plain = length(headers.len()).to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&length(text.len()));
            plain.extend_from_slice(text.as_bytes());
        }
        let mut out = Vec::with_capacity(plain.len() + 64);
        let mut rest = plain.as_slice();
        loop {
            out.reserve(256);
            let before = self.context.total_in();
            self.context.compress_vec(rest, &mut out, FlushCompress::Sync)?;
            let used = usize::try_from(self.context.total_in() - before).unwrap_or(rest.len());
            rest = rest.get(used..).unwrap_or_default();
            // Room that is left means that everything was flushed.
            if rest.is_empty() && out.len() < out.capacity() {
                return Ok(out);
            }
        }
    }
}

fn read(mut plain: &[u8]) -> Option<Headers> {
    let count = take_length(&mut plain)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = take_text(&mut plain)?;
        let value = take_text(&mut plain)?;
        headers.push((name, value));
    }
    Some(headers)
}

fn take_length(plain: &mut &[u8]) -> Option<usize> {
    let (head, rest) = plain.split_first_chunk::<4>()?;
    *plain = rest;
    usize::try_from(u32::from_be_bytes(*head)).ok()
}

fn take_text(plain: &mut &[u8]) -> Option<String> {
    let length = take_length(plain)?;
    let (head, rest) = plain.split_at_checked(length)?;
    *plain = rest;
    Some(String::from_utf8_lossy(head).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn adler(bytes: &[u8]) -> u32 {
        let (a, b) = bytes.iter().fold((1_u32, 0_u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65_521;
            (a, (a + b) % 65_521)
        });
        (b << 16) | a
    }

    #[test]
    fn the_dictionary_is_the_one_that_clients_have() {
        let dictionary = dictionary();
        assert_eq!(dictionary.len(), 1423);
        // Every SPDY/3 header stream names its dictionary by this checksum.
        assert_eq!(adler(&dictionary), 0xe3c6_a7c2);
    }

    proptest! {
        #[test]
        fn blocks_are_read_as_they_were_written(
            blocks in prop::collection::vec(prop::collection::vec(("[a-z]{1,20}", ".{0,200}"), 0..6), 1..6)
        ) {
            let mut deflater = Deflater::new().unwrap();
            let mut inflater = Inflater::new();
            for block in blocks {
                let borrowed: Vec<(&str, &str)> = block.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                let written = deflater.block(&borrowed).unwrap();
                prop_assert_eq!(inflater.headers(&written).unwrap(), block);
            }
        }

        #[test]
        fn garbage_is_an_error(block in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Inflater::new().headers(&block);
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut deflater = Deflater::new().unwrap();
        let long = "a".repeat(BLOCK_BYTES * 4);
        let block = deflater.block(&[("x", &long)]).unwrap();
        assert!(matches!(Inflater::new().headers(&block), Err(HeaderError::TooLarge)));
    }
}
