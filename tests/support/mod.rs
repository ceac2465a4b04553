//! What the tests that run the real program share: the program itself, the peers it stands between, and
//! what the kernel tells of it.

// Each test file uses its own part of this.
#![allow(dead_code)]

use std::time::Duration;

pub(crate) mod dns;
pub(crate) mod gate;
pub(crate) mod http;
pub(crate) mod link;
pub(crate) mod peer;
pub(crate) mod ports;
pub(crate) mod process;
#[cfg(all(feature = "lab", target_os = "linux"))]
pub(crate) mod results;
pub(crate) mod servers;
pub(crate) mod service;
pub(crate) mod stage;

/// How long anything may take that must happen: far more than it needs, so that only a real hang counts.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
