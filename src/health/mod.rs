//! What checks and failed connects make of a server: whether it can be used, and how much of its share it gets. Pure: no
//! clock, no socket.
//!
//! A server that checks find dead is *down*; one to which too many connects in a row have failed is *ejected*, for a time.
//! The two are told apart everywhere, since different things end them.

mod ejection;
mod pulse;
mod ramp;

pub use ejection::{Change, Ejection, Member, judge};
pub use pulse::Pulse;
pub use ramp::{Ramp, STEPS, shares};
