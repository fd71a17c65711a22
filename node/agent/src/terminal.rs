//! What a terminal does between a person's keys and a program: lines, echo, editing, and the keys that mean something.
//!
//! Pure. A client that asks for a terminal sends keys as they are pressed and shows what it is sent; the program reads whole
//! lines. This is the line discipline between the two, in the mode that programs expect which do not
//! read keys themselves.

/// The longest line that is edited: what Linux takes.
const MAX_LINE_BYTES: usize = 4095;

const INTERRUPT: u8 = 0x03;
const END_OF_FILE: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const KILL_LINE: u8 = 0x15;
const ERASE_WORD: u8 = 0x17;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;

/// What some keys came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// What is shown, as a program would print it: see [`shown`].
    pub echo: Vec<u8>,
    /// What the program reads.
    pub input: Vec<u8>,
    /// The input ended.
    pub end: bool,
    /// The program is to be interrupted.
    pub interrupt: bool,
}

/// The state of a terminal.
#[derive(Debug, Default)]
pub struct Terminal {
    line: Vec<u8>,
    escape: Escape,
}

/// Where in a sequence such as that of an arrow key the input is; there is nothing that it could move.
#[derive(Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Begun,
    Sequence,
}

impl Terminal {
    /// What there is of a line that has no end yet.
    pub fn take_line(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.line)
    }

    /// Takes in keys.
    pub fn type_in(&mut self, keys: &[u8]) -> Typed {
        let mut typed = Typed::default();
        for key in keys {
            self.key(*key, &mut typed);
        }
        typed
    }

    fn key(&mut self, key: u8, typed: &mut Typed) {
        match (&self.escape, key) {
            (Escape::None, ESCAPE) => self.escape = Escape::Begun,
            (Escape::None, _) => self.plain(key, typed),
            (Escape::Begun, b'[' | b'O') => self.escape = Escape::Sequence,
            (Escape::Begun, _) => self.escape = Escape::None,
            (Escape::Sequence, 0x40..=0x7e) => self.escape = Escape::None,
            (Escape::Sequence, _) => {}
        }
    }

    fn plain(&mut self, key: u8, typed: &mut Typed) {
        match key {
            b'\r' | b'\n' => {
                typed.echo.push(b'\n');
                typed.input.append(&mut self.line);
                typed.input.push(b'\n');
            }
            INTERRUPT => {
                typed.echo.extend_from_slice(b"^C\n");
                self.line.clear();
                typed.interrupt = true;
            }
            END_OF_FILE if self.line.is_empty() => typed.end = true,
            END_OF_FILE => typed.input.append(&mut self.line),
            BACKSPACE | DELETE => {
                self.erase(typed);
            }
            KILL_LINE => while self.erase(typed) {},
            ERASE_WORD => {
                while self.line.last() == Some(&b' ') {
                    self.erase(typed);
                }
                while self.line.last().is_some_and(|last| *last != b' ') {
                    self.erase(typed);
                }
            }
            b'\t' | 0x20.. if self.line.len() < MAX_LINE_BYTES => {
                self.line.push(key);
                typed.echo.push(key);
            }
            _ => {}
        }
    }

    /// Takes back one character, of however many bytes; says whether there was one.
    fn erase(&mut self, typed: &mut Typed) -> bool {
        while let Some(byte) = self.line.pop() {
            if byte & 0xc0 != 0x80 {
                typed.echo.extend_from_slice(b"\x08 \x08");
                return true;
            }
        }
        false
    }
}

/// What a program prints, as a terminal shows it: each line begins at the left.
pub fn shown(output: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(output.len() + 16);
    for byte in output {
        if *byte == b'\n' {
            shown.push(b'\r');
        }
        shown.push(*byte);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn typed(keys: &str) -> Typed {
        Terminal::default().type_in(keys.as_bytes())
    }

    #[test]
    fn a_line_is_read_when_it_is_whole() {
        let mut terminal = Terminal::default();
        assert_eq!(terminal.type_in(b"ls").input, b"");
        let typed = terminal.type_in(b" /\r");
        assert_eq!(
            (typed.input.as_slice(), typed.echo.as_slice()),
            (&b"ls /\n"[..], &b" /\n"[..])
        );
    }

    #[test]
    fn lines_can_be_edited() {
        assert_eq!(typed("lx\x7fs\r").input, b"ls\n");
        assert_eq!(typed("echo wrong\x17right\r").input, b"echo right\n");
        assert_eq!(typed("all wrong\x15ok\r").input, b"ok\n");
        assert_eq!(typed("\u{e4}\x7fa\r").input, b"a\n", "one character of two bytes");
        assert_eq!(typed("a\x1b[D\x1bOAb\r").input, b"ab\n", "arrow keys");
    }

    #[test]
    fn keys_that_mean_something() {
        assert!(typed("\x04").end);
        let half = typed("a\x04");
        assert!(!half.end && half.input == b"a");
        let stopped = typed("sleep\x03");
        assert!(stopped.interrupt && stopped.input.is_empty());
    }

    #[test]
    fn output_begins_at_the_left() {
        assert_eq!(shown(b"a\nb\n"), b"a\r\nb\r\n");
    }

    proptest! {
        #[test]
        fn keys_come_in_any_pieces(keys in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..200) {
            let whole = Terminal::default().type_in(&keys);
            let (first, second) = keys.split_at(at.min(keys.len()));
            let mut terminal = Terminal::default();
            let mut parts = terminal.type_in(first);
            let rest = terminal.type_in(second);
            parts.echo.extend(rest.echo);
            parts.input.extend(rest.input);
            prop_assert_eq!((whole.echo, whole.input), (parts.echo, parts.input));
        }
    }
}
