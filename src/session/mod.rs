//! One client connection from accept to close. Pure: no socket, no clock, no allocation.

mod cause;

pub use cause::Cause;
