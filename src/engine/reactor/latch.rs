//! Whether a socket can be read (or written), as far as is known.

use crate::sys::WouldBlock;

/// Starts ready. Only a proof that the kernel has nothing (or takes nothing) clears it, and only an event
/// raises it again: so a wake-up cannot be lost.
#[derive(Debug)]
pub(super) struct Latch {
    ready: bool,
}

impl Latch {
    pub(super) fn new() -> Self {
        Self { ready: true }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    /// The kernel said so, and every later change raises an event.
    pub(super) fn clear(&mut self, _proof: WouldBlock) {
        self.ready = false;
    }

    /// An event: an attempt may do something now.
    pub(super) fn raise(&mut self) {
        self.ready = true;
    }
}
