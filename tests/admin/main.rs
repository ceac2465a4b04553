//! The control socket and HTTP, asked as clients do, over a process that is made up: what is answered, what is refused,
//! and that a refusal changes nothing.

#![cfg(unix)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

mod binding;
mod contract;
mod ctl;
#[path = "../fake/mod.rs"]
mod fake;
mod floods;
mod metrics;
mod refusals;
#[path = "../support/mod.rs"]
mod support;
mod world;
