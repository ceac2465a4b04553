//! Where a listener's clients go, by what they say first and where they come from.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::Arc;

use super::PoolId;
use crate::config::{self, Asked, Starttls};
use crate::tally::Count;

/// The routes of a listener; the first that takes a client decides.
#[derive(Debug)]
pub struct Routes {
    all: Box<[Route]>,
    /// Clients that no route has taken.
    untaken: Arc<Count>,
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
    /// Those of a listener of a configuration whose pools have these ids; none, if it has no routes. What was counted `before`
    /// for what is the same still counts.
    pub(super) fn new(
        listener: &config::Listener,
        ids: &[PoolId],
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
        let untaken = before.map(|before| Arc::clone(&before.untaken)).unwrap_or_default();
        Some(Arc::new(Self { all, untaken }))
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
}

impl ReadsHello {
    /// What a listener of `config` reads: whatever its routes, or what its pools do, depend on.
    pub(super) fn new(listener: &config::Listener, config: &config::Config) -> Option<Self> {
        let postgres = listener.routes.iter().any(|route| route.starttls == Starttls::Postgres);
        let most = u16::try_from(listener.max_client_hello).unwrap_or(u16::MAX);
        listener.reads_hello(&config.pools).then_some(Self { most, postgres })
    }
}
