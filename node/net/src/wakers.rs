//! Tasks that wait for one thing.
//!
//! A list and not a single place: several pollables of a guest, and tasks of the host, may wait for the same socket.
//! Wake them only after the lock that guards the list has been released.

use std::task::{Context, Waker};

/// The waiting tasks; the usual one needs no allocation.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    first: Option<Waker>,
    rest: Vec<Waker>,
}

impl Wakers {
    /// Adds the task of `cx` unless it already waits here, so the list is never longer than there are tasks.
    pub(crate) fn add(&mut self, cx: &Context<'_>) {
        let waker = cx.waker();
        match &self.first {
            None => self.first = Some(waker.clone()),
            Some(first) if first.will_wake(waker) => {}
            Some(_) if self.rest.iter().any(|other| other.will_wake(waker)) => {}
            Some(_) => self.rest.push(waker.clone()),
        }
    }

    /// Takes all, leaving none; wake them after unlocking.
    pub(crate) fn take(&mut self) -> Wakers {
        std::mem::take(self)
    }

    pub(crate) fn wake(self) {
        self.first.into_iter().chain(self.rest).for_each(Waker::wake);
    }
}
