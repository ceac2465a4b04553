//! Where a listener's clients go, by what they say first and where they come from.

use std::sync::Arc;

use super::{Listener, PoolId};
use crate::config::{self, Asked, Starttls};

/// The routes of a listener; the first that takes a client decides.
#[derive(Debug)]
pub struct Routes {
    all: Box<[(config::Route, RouteTo)]>,
    /// Limits of connections to the pools that are not the listener's own.
    timeouts: Box<[(PoolId, config::Timeouts)]>,
}

/// What becomes of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteTo {
    /// One of this pool's servers.
    Pool(PoolId),
    /// It is told that there is nobody of that name.
    Reject,
    /// It is closed.
    Close,
}

/// What is read of the hellos of a listener's clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadsHello {
    /// The most bytes that one may have.
    pub most: u16,
    /// Clients of PostgreSQL may ask for TLS before it.
    pub postgres: bool,
}

impl Routes {
    /// Those of a listener of `config`, whose pools have these ids; none, if it has no routes.
    pub(super) fn new(
        listener: &config::Listener,
        config: &config::Config,
        ids: &[PoolId],
    ) -> Option<Arc<Self>> {
        let all = listener.routes.iter().map(|route| {
            let to = match route.to {
                config::RouteTo::Pool(pool) => RouteTo::Pool(ids[pool]),
                config::RouteTo::Reject => RouteTo::Reject,
                config::RouteTo::Close => RouteTo::Close,
            };
            (route.clone(), to)
        });
        let timeouts = listener.pools().filter(|pool| *pool != listener.pool).map(|pool| {
            let own = &config.pools[pool].timeouts;
            (ids[pool], config.timeouts.but(&listener.timeouts).but(own))
        });
        let (all, timeouts): (Box<_>, Box<_>) = (all.collect(), timeouts.collect());
        (!all.is_empty()).then(|| Arc::new(Self { all, timeouts }))
    }

    /// What becomes of this client, and the number of the route that decides, from 1; `None`: no route takes it.
    #[must_use]
    pub fn find(&self, asked: &Asked<'_>) -> Option<(usize, RouteTo)> {
        let place = self.all.iter().position(|(route, _)| route.takes(asked))?;
        Some((place + 1, self.all[place].1))
    }
}

impl ReadsHello {
    /// What a listener of `config` reads: whatever its routes, or what its pools do, depend on.
    pub(super) fn new(listener: &config::Listener, config: &config::Config) -> Option<Self> {
        let postgres = listener.routes.iter().any(|route| route.starttls == Starttls::Postgres);
        let most = u16::try_from(listener.max_client_hello).unwrap_or(u16::MAX);
        listener.reads_hello(&config.pools).then_some(Self { most, postgres })
    }
}

impl Listener {
    /// Limits of its connections to a pool: those of the pool, else its own, else those that hold for all.
    #[must_use]
    pub fn timeouts_to(&self, pool: PoolId) -> &config::Timeouts {
        match &self.routes {
            Some(routes) if pool != self.pool => {
                let of_pool = routes.timeouts.iter().find(|(other, _)| *other == pool);
                of_pool.map_or(&self.timeouts, |(_, timeouts)| timeouts)
            }
            _ => &self.timeouts,
        }
    }

    /// The pools that its connections may go to.
    pub fn pools(&self) -> impl Iterator<Item = PoolId> + '_ {
        let others = self.routes.iter().flat_map(|routes| &routes.timeouts).map(|(pool, _)| *pool);
        std::iter::once(self.pool).chain(others)
    }
}
