//! Where a listener's clients go, by what they say first and where they come from.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::Arc;

use super::{Listener, Pool, PoolId};
use crate::config::{self, Asked, Starttls};
use crate::tally::{Count, PerCause};

/// The routes of a listener; the first that takes a client decides.
#[derive(Debug)]
pub struct Routes {
    all: Box<[Route]>,
    /// Limits of connections to the pools that are not the listener's own.
    timeouts: Box<[(PoolId, config::Timeouts)]>,
    /// Clients that no route has taken.
    untaken: Arc<Count>,
    /// Connections that have ended, for each pool that they go to, or went to before a reload.
    closed: Box<[Ends]>,
}

/// One of them.
#[derive(Debug)]
pub struct Route {
    takes: config::Route,
    /// Whom it takes, in short.
    pub matches: String,
    /// Where it leads.
    pub to: RouteTo,
    /// Clients that it has taken: the same count as long as it takes the same ones to the same place, whatever its number.
    pub taken: Arc<Count>,
}

/// Connections of a listener to a pool that have ended.
#[derive(Clone, Debug)]
pub struct Ends {
    id: PoolId,
    /// The pool's name; its id may become another one's.
    pub pool: Arc<str>,
    /// By [`crate::cause::Cause::index`].
    pub closed: Arc<PerCause>,
}

/// What becomes of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// Those of a listener of `config`, whose pools have these ids among `pools`; none, if it has no routes. What was counted
    /// `before` for what is the same still counts.
    pub(super) fn new(
        listener: &config::Listener,
        config: &config::Config,
        (ids, pools): (&[PoolId], &[Pool]),
        before: Option<&Self>,
    ) -> Option<Arc<Self>> {
        if listener.routes.is_empty() {
            return None;
        }
        let mut known: HashMap<(&str, RouteTo), Vec<&Route>> = HashMap::new();
        for route in before.iter().flat_map(|before| &before.all) {
            known.entry((&route.matches, route.to)).or_default().push(route);
        }
        let all = listener.routes.iter().map(|takes| {
            let to = match takes.to {
                config::RouteTo::Pool(pool) => RouteTo::Pool(ids[pool]),
                config::RouteTo::Reject => RouteTo::Reject,
                config::RouteTo::Close => RouteTo::Close,
            };
            let matches = takes.to_string();
            let alike = known.get(&(matches.as_str(), to)).into_iter().flatten();
            let own = alike.copied().find(|own| own.takes.takes_as(takes));
            let taken = own.map(|own| Arc::clone(&own.taken)).unwrap_or_default();
            Route { takes: takes.clone(), matches, to, taken }
        });
        let all = all.collect();
        let timeouts = listener.pools().filter(|pool| *pool != listener.pool).map(|pool| {
            let own = &config.pools[pool].timeouts;
            (ids[pool], config.timeouts.but(&listener.timeouts).but(own))
        });
        let timeouts = timeouts.collect();
        let untaken = before.map(|before| Arc::clone(&before.untaken)).unwrap_or_default();
        // Connections may go on to where no route leads any more.
        let is_there = |ends: &&Ends| pools[usize::from(ends.id.0)].name == ends.pool;
        let before = before.iter().flat_map(|before| &before.closed).filter(is_there);
        let mut closed: Vec<Ends> = before.cloned().collect();
        for id in listener.pools().map(|pool| ids[pool]) {
            if !closed.iter().any(|ends| ends.id == id) {
                let pool = Arc::clone(&pools[usize::from(id.0)].name);
                closed.push(Ends { id, pool, closed: Arc::default() });
            }
        }
        Some(Arc::new(Self { all, timeouts, untaken, closed: closed.into() }))
    }

    /// The number of the route that decides about this client, from 1, and what becomes of it; `None`: no route takes it.
    #[must_use]
    pub fn find(&self, asked: &Asked<'_>) -> Option<(NonZeroU16, RouteTo)> {
        let (number, route) = self.numbered().find(|(_, route)| route.takes.takes(asked))?;
        Some((number, route.to))
    }

    /// All of them with their numbers, from 1.
    pub fn numbered(&self) -> impl Iterator<Item = (NonZeroU16, &Route)> {
        (1..).filter_map(NonZeroU16::new).zip(&self.all)
    }

    /// The route with this number has taken a client; or none has.
    pub fn count(&self, number: Option<NonZeroU16>) {
        let route = number.and_then(|number| self.all.get(usize::from(number.get()) - 1));
        route.map_or(&*self.untaken, |route| &*route.taken).add(1);
    }

    /// Clients that no route has taken.
    #[must_use]
    pub fn untaken(&self) -> u64 {
        self.untaken.get()
    }

    /// Connections that have ended, by pool.
    #[must_use]
    pub fn closed(&self) -> &[Ends] {
        &self.closed
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
    /// Where connections to that pool are counted when they end, by [`crate::cause::Cause::index`]. Those of a listener with routes
    /// are counted for each pool, and here for those that have none.
    #[must_use]
    pub fn closed(&self, pool: Option<PoolId>) -> &PerCause {
        let mut of_pools = self.routes.iter().flat_map(|routes| &routes.closed);
        of_pools.find(|ends| Some(ends.id) == pool).map_or(&self.tally.closed, |ends| &ends.closed)
    }

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
