//! Which servers of a pool are chosen among as things are.

use serde::{Deserialize, Serialize};

use super::{Health, Server, ServerId};
use crate::balance::{Balancer, Client, Loads, Pick};
use crate::config::ServerState;

/// Who gets the new connections of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Serving {
    /// Its servers, as it should be.
    Servers,
    /// Its backup servers: no other takes connections.
    Backups,
    /// Those that are down or ejected, since `all_down` says so and there are no others.
    Down,
    /// Nobody.
    Nobody,
}

impl Serving {
    /// Each of them with its name.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("servers", Self::Servers),
        ("backups", Self::Backups),
        ("down", Self::Down),
        ("nobody", Self::Nobody),
    ];

    /// What serves of these servers, with `try_all` or without.
    pub(super) fn of(servers: &[&Server], try_all: bool) -> Self {
        [Self::Servers, Self::Backups, Self::Down]
            .into_iter()
            .filter(|serving| try_all || *serving != Self::Down)
            .find(|serving| servers.iter().any(|server| serving.takes(server)))
            .unwrap_or(Self::Nobody)
    }

    /// Whether that server is one of those.
    #[must_use]
    pub fn takes(self, server: &Server) -> bool {
        let is_ready = server.removed.is_none() && server.state == ServerState::Ready && server.weight > 0;
        let is_up = server.health == Health::Up;
        is_ready
            && match self {
                Self::Servers => is_up && !server.backup,
                Self::Backups => is_up && server.backup,
                Self::Down => !is_up,
                Self::Nobody => false,
            }
    }
}

/// What chooses. A clone goes on where this one is, on its own.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Among whom.
    pub serving: Serving,
    /// Among those.
    pub balancer: Balancer,
    /// Among backup servers, for a client that has failed at all others.
    pub backups: Option<Balancer>,
}

impl Choice {
    /// As [`Balancer::pick`].
    #[must_use]
    pub fn pick(&self, tried: &[ServerId], seed: u64, client: Client, loads: &impl Loads) -> Pick {
        match (self.balancer.pick(tried, seed, client, loads), &self.backups) {
            (Pick::None, Some(backups)) => backups.pick(tried, seed, client, loads),
            (pick, _) => pick,
        }
    }
}
