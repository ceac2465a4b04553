//! What operators set at run time.

use std::collections::HashMap;

use crate::config::{ServerState, given_name};

/// What an operator has set of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// Instead of the file's weight.
    pub weight: Option<u16>,
    /// Instead of the file's state.
    pub state: Option<ServerState>,
}

/// What was set at run time, by pool and server. Under the name that the file gives to several it holds for all of them.
pub type Overrides = HashMap<(String, String), Override>;

/// What was set of a server: of itself, or of all of its name.
#[must_use]
pub fn override_of(all: &Overrides, pool: &str, server: &str) -> Override {
    let of = |name: &str| all.get(&(pool.to_owned(), name.to_owned())).copied().unwrap_or_default();
    let (own, given) = (of(server), of(given_name(server)));
    Override { weight: own.weight.or(given.weight), state: own.state.or(given.state) }
}
