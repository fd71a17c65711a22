//! Lines as a person types them, with keys to move, to take back and to have earlier ones again.

use crate::sys::{self, Source};
use std::rc::Rc;

/// How many earlier lines are kept.
const HISTORY: usize = 500;

/// The longest piece of a line that is read at once.
const PIECE_BYTES: u32 = 4096;

/// What came of reading a line.
pub enum Line {
    /// A line with its end, or the last one without.
    Text(String),
    /// The interrupt key: what was typed is forgotten.
    Interrupted,
    End,
}

/// A line of a stream that is no terminal.
pub fn plain_line(source: &Rc<Source>) -> Line {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        match source.read_until(b'\n', PIECE_BYTES) {
            Ok(piece) if !piece.is_empty() => line.extend(piece),
            _ => break,
        }
    }
    match line.is_empty() {
        true => Line::End,
        false => Line::Text(String::from_utf8_lossy(&line).into_owned()),
    }
}

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Char(char),
    Enter,
    Interrupt,
    EndOfFile,
    Back,
    Delete,
    Left,
    Right,
    Home,
    End,
    Up,
    Down,
    KillLine,
    KillRest,
    KillWord,
    Clear,
    None,
}

#[derive(Default)]
pub struct Editor {
    history: Vec<String>,
    /// Bytes that came with a line before.
    ahead: Vec<u8>,
}

impl Editor {
    /// Reads a line from a terminal; `show` writes to it.
    pub fn line(&mut self, source: &Rc<Source>, prompt: &str, show: &mut dyn FnMut(&str)) -> Line {
        sys::set_raw(true);
        let line = self.edit(source, prompt, show);
        sys::set_raw(false);
        if let Line::Text(text) = &line {
            let text = text.trim_end().to_owned();
            if !text.is_empty() && self.history.last() != Some(&text) {
                self.history.push(text);
                if self.history.len() > HISTORY {
                    self.history.remove(0);
                }
            }
        }
        line
    }

    fn byte(&mut self, source: &Rc<Source>) -> Option<u8> {
        if self.ahead.is_empty() {
            self.ahead = source.read(PIECE_BYTES).ok()?;
            self.ahead.reverse();
        }
        self.ahead.pop()
    }

    fn key(&mut self, source: &Rc<Source>) -> Option<Key> {
        let byte = self.byte(source)?;
        Some(match byte {
            b'\r' | b'\n' => Key::Enter,
            1 => Key::Home,
            2 => Key::Left,
            3 => Key::Interrupt,
            4 => Key::EndOfFile,
            5 => Key::End,
            6 => Key::Right,
            8 | 127 => Key::Back,
            11 => Key::KillRest,
            12 => Key::Clear,
            14 => Key::Down,
            16 => Key::Up,
            21 => Key::KillLine,
            23 => Key::KillWord,
            27 => self.sequence(source)?,
            b'\t' => Key::Char('\t'),
            0..32 => Key::None,
            _ => Key::Char(self.char(byte, source)?),
        })
    }

    /// The rest of a character of several bytes.
    fn char(&mut self, first: u8, source: &Rc<Source>) -> Option<char> {
        let more = match first {
            0xc0..=0xdf => 1,
            0xe0..=0xef => 2,
            0xf0..=0xf7 => 3,
            _ => 0,
        };
        let mut bytes = vec![first];
        for _ in 0..more {
            bytes.push(self.byte(source)?);
        }
        Some(String::from_utf8_lossy(&bytes).chars().next().unwrap_or('?'))
    }

    fn sequence(&mut self, source: &Rc<Source>) -> Option<Key> {
        if !matches!(self.byte(source)?, b'[' | b'O') {
            return Some(Key::None);
        }
        let mut number = 0_u32;
        loop {
            match self.byte(source)? {
                digit @ b'0'..=b'9' => number = number.saturating_mul(10).saturating_add(u32::from(digit - b'0')),
                b';' => number = 0,
                b'A' => return Some(Key::Up),
                b'B' => return Some(Key::Down),
                b'C' => return Some(Key::Right),
                b'D' => return Some(Key::Left),
                b'H' => return Some(Key::Home),
                b'F' => return Some(Key::End),
                b'~' => {
                    return Some(match number {
                        1 | 7 => Key::Home,
                        3 => Key::Delete,
                        4 | 8 => Key::End,
                        _ => Key::None,
                    });
                }
                _ => return Some(Key::None),
            }
        }
    }

    fn edit(&mut self, source: &Rc<Source>, prompt: &str, show: &mut dyn FnMut(&str)) -> Line {
        show(prompt);
        let mut typed = Typed::default();
        // Which earlier line is shown, and what had been typed before that.
        let mut place = self.history.len();
        let mut own = Vec::new();
        loop {
            let Some(key) = self.key(source) else {
                return match typed.text.is_empty() {
                    true => Line::End,
                    false => Line::Text(typed.text.iter().collect()),
                };
            };
            let before = (typed.text.len(), typed.at);
            match key {
                Key::Enter => {
                    show("\n");
                    return Line::Text(typed.text.iter().chain(&['\n']).collect());
                }
                Key::Interrupt => {
                    show("^C\n");
                    return Line::Interrupted;
                }
                Key::EndOfFile if typed.text.is_empty() => {
                    show("\n");
                    return Line::End;
                }
                Key::Char(c) if typed.at == typed.text.len() => {
                    typed.insert(c);
                    show(c.encode_utf8(&mut [0; 4]));
                    continue;
                }
                Key::Up | Key::Down => {
                    let next = match key {
                        Key::Up => place.checked_sub(1),
                        _ => Some(place + 1).filter(|next| *next <= self.history.len()),
                    };
                    let Some(next) = next else {
                        continue;
                    };
                    if place == self.history.len() {
                        own = typed.text.clone();
                    }
                    place = next;
                    typed.text = match self.history.get(place) {
                        Some(line) => line.chars().collect(),
                        None => own.clone(),
                    };
                    typed.at = typed.text.len();
                }
                Key::Clear => show("\x1b[H\x1b[2J"),
                key => typed.apply(key),
            }
            show(&typed.redrawn(prompt, before, key == Key::Clear));
        }
    }
}

/// A line and the place in it.
#[derive(Default)]
struct Typed {
    text: Vec<char>,
    at: usize,
}

impl Typed {
    fn insert(&mut self, c: char) {
        self.text.insert(self.at, c);
        self.at += 1;
    }

    fn apply(&mut self, key: Key) {
        match key {
            Key::Char(c) => self.insert(c),
            Key::Back if self.at > 0 => {
                self.at -= 1;
                self.text.remove(self.at);
            }
            Key::Delete | Key::EndOfFile if self.at < self.text.len() => drop(self.text.remove(self.at)),
            Key::Left => self.at = self.at.saturating_sub(1),
            Key::Right => self.at = (self.at + 1).min(self.text.len()),
            Key::Home => self.at = 0,
            Key::End => self.at = self.text.len(),
            Key::KillLine => {
                self.text.drain(..self.at);
                self.at = 0;
            }
            Key::KillRest => self.text.truncate(self.at),
            Key::KillWord => {
                let before = &self.text[..self.at];
                let word = before.iter().rposition(|c| *c != ' ').map_or(0, |end| end + 1);
                let begin = before[..word].iter().rposition(|c| *c == ' ').map_or(0, |end| end + 1);
                self.text.drain(begin..self.at);
                self.at = begin;
            }
            _ => {}
        }
    }

    /// What makes the screen show the line as it is now: the prompt's last line and the text again, and the cursor in place.
    fn redrawn(&self, prompt: &str, (_, was_at): (usize, usize), cleared: bool) -> String {
        let prompt = prompt.rsplit('\n').next().unwrap_or(prompt);
        let columns = sys::size().map_or(80, |(columns, _)| usize::from(columns).max(1));
        let width = prompt.chars().count();
        // Where the cursor is: as many lines up as the text before it has filled.
        let up = if cleared { 0 } else { (width + was_at) / columns };
        let mut drawn = String::from("\r");
        if up > 0 {
            drawn += &format!("\x1b[{up}A");
        }
        drawn += "\x1b[J";
        drawn += prompt;
        drawn.extend(&self.text);
        let (end, place) = (width + self.text.len(), width + self.at);
        if end > 0 && end % columns == 0 {
            // The terminal waits with the line break until there is more.
            drawn += " \r";
        }
        let back = end / columns - place / columns;
        if back > 0 {
            drawn += &format!("\x1b[{back}A");
        }
        drawn += "\r";
        if place % columns > 0 {
            drawn += &format!("\x1b[{}C", place % columns);
        }
        drawn
    }
}
