//! One record of a log file: `<time> <stream> <F or P> <text>`, as container runtimes write it.
//!
//! Pure. `F` ends a line, `P` is a part that the next record of the stream continues.

use jiff::Timestamp;
use std::io::Write;

/// Where a guest wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Appends a record whose text is the parts together.
pub fn write(out: &mut Vec<u8>, now: Timestamp, stream: Stream, full: bool, parts: &[&[u8]]) {
    let tag = if full { 'F' } else { 'P' };
    // Writing to a vector cannot fail.
    let _ = write!(out, "{now:.9} {} {tag} ", stream.as_str());
    for part in parts {
        out.extend_from_slice(part);
    }
    out.push(b'\n');
}

/// A record that was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The time as it was written.
    pub time: &'a str,
    /// Whether the record ends a line.
    pub full: bool,
    /// The text.
    pub text: &'a [u8],
}

/// Reads a record without its newline; none for anything else, for example half a record of a process that was killed.
pub fn parse(line: &[u8]) -> Option<Record<'_>> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(fields.next()?).ok()?;
    let _stream = fields.next()?;
    let full = match fields.next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Record {
        time,
        full,
        text: fields.next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let now = Timestamp::new(1_700_000_000, 5).unwrap();
        let mut out = Vec::new();
        write(&mut out, now, Stream::Stderr, false, &[b"a b", b" c"]);
        assert_eq!(out, b"2023-11-14T22:13:20.000000005Z stderr P a b c\n");
        let record = parse(out.strip_suffix(b"\n").unwrap()).unwrap();
        assert_eq!(
            record,
            Record {
                time: "2023-11-14T22:13:20.000000005Z",
                full: false,
                text: b"a b c"
            }
        );
        assert_eq!(parse(b"2023-11-14T22:13:20Z stdout F ").unwrap().text, b"");
        assert_eq!(parse(b"2023-11-14T22:1"), None);
    }
}
