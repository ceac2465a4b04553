//! Servers that have a name: looked up at real DNS servers on loopback, and at one that lies.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

#[path = "../control/mod.rs"]
#[allow(dead_code)] // The half of it is about reloads.
mod control;
#[path = "../health/echo.rs"]
mod echo;
#[path = "../support/mod.rs"]
mod support;

mod etcd;
mod etcd_liar;
mod liar;
mod lists;
mod real;
mod web;
mod zone;
