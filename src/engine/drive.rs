//! The loop that every readiness engine runs over a relay.

use crate::relay::{Dir, End, Op, Outcome, Relay};

/// What came of trying an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It ended.
    Done(Outcome),
    /// It has to wait, and whoever answered so will resume it.
    Parked,
}

/// Where a relay's operations are tried.
pub trait Port {
    /// Tries one operation, without waiting. A fill takes `most` bytes at most, where that can be told beforehand.
    fn attempt(&mut self, dir: Dir, op: Op, most: u32) -> Attempt;
}

/// How a call of [`drive`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Every wanted operation waits for something that will resume it.
    Quiet,
    /// There is more to do, but others must have their turn.
    OutOfBudget,
    /// The relay is over.
    Ended(End),
}

/// Moves bytes until nothing more can be done, the relay ends, or `fills` reads have been made.
pub fn drive(relay: &mut Relay, port: &mut impl Port, mut fills: u32) -> Pace {
    while let Some((dir, op)) = relay.poll() {
        if op == Op::Fill && fills == 0 {
            return Pace::OutOfBudget;
        }
        match port.attempt(dir, op, relay.flow(dir).allowance()) {
            Attempt::Done(outcome) => {
                relay.handle(dir, op, outcome);
                fills -= u32::from(op == Op::Fill);
            }
            Attempt::Parked => relay.park(dir, op),
        }
    }
    relay.end().map_or(Pace::Quiet, Pace::Ended)
}

#[cfg(test)]
mod tests;
