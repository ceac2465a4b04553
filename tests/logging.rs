//! The logs of the running program: with files that somebody renames, with daemons that come and go, and with lines
//! that somebody else's programs read.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

mod outputs;
mod support;
