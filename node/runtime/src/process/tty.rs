//! A terminal as the two sides of it see it: the program that sets it, and the node that has the keys and the window.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// Columns and rows.
pub type Size = (u16, u16);

/// The state of one terminal.
#[derive(Debug, Default)]
pub struct Tty {
    raw: AtomicBool,
    size: Mutex<Option<Size>>,
}

impl Tty {
    /// Whether keys go to the program as they are pressed, without echo.
    pub fn is_raw(&self) -> bool {
        self.raw.load(Ordering::Acquire)
    }

    /// Chooses between keys and lines.
    pub fn set_raw(&self, raw: bool) {
        self.raw.store(raw, Ordering::Release);
    }

    /// How large the window is, once its owner has said it.
    pub fn size(&self) -> Option<Size> {
        *self.size.lock()
    }

    /// The window has another size.
    pub fn resize(&self, size: Size) {
        *self.size.lock() = Some(size);
    }
}
