//! The only room that talks to the operating system.

pub mod clock;
