//! Redirections: which streams a command has in place of the shell's.

use super::state::Slot;
use super::tree::{HereDocument, Redirect, RedirectKind};
use super::{Flow, Shell};
use crate::sys::{self, End, Open};
use std::rc::Rc;

/// What streams were before.
pub type Kept = Vec<(u32, Option<Slot>)>;

impl Shell {
    /// Puts streams in place; nothing when one cannot be, which has been explained.
    pub fn redirect(&mut self, redirects: &[Redirect]) -> Result<Option<Kept>, Flow> {
        let mut kept = Kept::new();
        for redirect in redirects {
            match self.opened(redirect) {
                Ok(Ok(slot)) => {
                    let before = match slot {
                        Some(slot) => self.state.slots.insert(redirect.number, slot),
                        None => self.state.slots.remove(&redirect.number),
                    };
                    kept.push((redirect.number, before));
                }
                Ok(Err(what)) => {
                    self.complain(&what);
                    self.restore(kept);
                    return Ok(None);
                }
                Err(flow) => {
                    self.restore(kept);
                    return Err(flow);
                }
            }
        }
        Ok(Some(kept))
    }

    pub fn restore(&mut self, kept: Kept) {
        for (number, before) in kept.into_iter().rev() {
            match before {
                Some(slot) => drop(self.state.slots.insert(number, slot)),
                None => drop(self.state.slots.remove(&number)),
            }
        }
    }

    /// The stream of a redirection, none for `>&-`, or what to say.
    fn opened(&mut self, redirect: &Redirect) -> Result<Result<Option<Slot>, String>, Flow> {
        let (word, how) = match &redirect.kind {
            RedirectKind::Read(word) => (word, Open::Read),
            RedirectKind::Write(word) if self.state.is_on('C') => (word, Open::New),
            RedirectKind::Write(word) | RedirectKind::Clobber(word) => (word, Open::Write),
            RedirectKind::Append(word) => (word, Open::Append),
            // One position for both ways is not to be had; who opens a file so mostly reads it.
            RedirectKind::Both(word) => (word, Open::Read),
            RedirectKind::Duplicate(word) => {
                let number = self.single(word)?;
                return Ok(self.duplicate(&number));
            }
            RedirectKind::Here(document) => return Ok(Ok(Some(self.document_slot(document)?))),
        };
        let path = self.single(word)?;
        Ok(self.file(&path, how))
    }

    fn duplicate(&self, number: &str) -> Result<Option<Slot>, String> {
        if number == "-" {
            return Ok(None);
        }
        let slot = number
            .parse()
            .ok()
            .and_then(|number: u32| self.state.slots.get(&number));
        match slot {
            Some(slot) => Ok(Some(slot.clone())),
            None => Err(format!("{number}: Bad file descriptor")),
        }
    }

    fn file(&self, path: &str, how: Open) -> Result<Option<Slot>, String> {
        let absolute = self.path(path);
        let number = match absolute.as_str() {
            "/dev/null" => return Ok(Some(Slot::Null)),
            "/dev/stdin" => Some("0"),
            "/dev/stdout" | "/proc/self/fd/1" | "/proc/1/fd/1" => Some("1"),
            "/dev/stderr" | "/proc/self/fd/2" | "/proc/1/fd/2" => Some("2"),
            "/dev/tty" => Some(if how == Open::Read { "0" } else { "2" }),
            other => other.strip_prefix("/dev/fd/"),
        };
        if let Some(number) = number {
            return self.duplicate(number);
        }
        let verb = if how == Open::Read { "open" } else { "create" };
        match sys::open(&absolute, how) {
            Ok(end) => Ok(Some(Slot::Open(end))),
            Err(why) => Err(format!("cannot {verb} {path}: {why}")),
        }
    }

    fn document_slot(&mut self, document: &HereDocument) -> Result<Slot, Flow> {
        let text = match document.body.get() {
            Some((_, parts)) => self.document(parts)?,
            None => String::new(),
        };
        let (source, sink) = sys::buffer();
        if sink.write(text.as_bytes()).is_err() {
            return Err(self.fail("cannot hold a here-document", 2));
        }
        Ok(Slot::Open(End::Source(Rc::new(source))))
    }
}
