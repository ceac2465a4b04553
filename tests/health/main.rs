//! Servers that go down, come back and fail, seen by clients and by whoever asks the process: checks, ejection, what
//! becomes of sessions, slow start.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

#[path = "../control/mod.rs"]
#[allow(dead_code)] // The half of it is about reloads.
mod control;
#[path = "../support/mod.rs"]
mod support;

mod calm;
mod checks;
mod echo;
mod fleet;
mod passive;
mod real;
mod recipes;
mod sessions;
