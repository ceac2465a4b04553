//! The two directions of a connection, counted. Pure: no socket, no clock, no allocation.

mod fault;

pub use fault::{Blame, Fault, Retry};
