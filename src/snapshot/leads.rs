//! The pools that a listener leads to, and what is kept for each of them.

use std::iter;
use std::sync::Arc;

use super::{Listener, Pool, PoolId};
use crate::config;
use crate::tally::PerCause;

/// Where a listener leads, with routes or without.
#[derive(Clone, Debug)]
pub struct Leads {
    /// Its own pool: where its clients go that no route leads elsewhere.
    pub own: Led,
    /// The others that its routes lead to, and behind them those of [`Led::is_former`].
    others: Box<[Led]>,
    /// Connections that have ended at pools that are no more, by [`crate::cause::Cause::index`].
    gone: Arc<PerCause>,
}

/// A pool that connections of a listener go to.
#[derive(Clone, Debug)]
pub struct Led {
    /// Its id.
    pub pool: PoolId,
    /// The pool's name; its id may become another one's.
    pub name: Arc<str>,
    /// Limits of the listener's connections to it: those of the pool, else the listener's, else those that hold for all.
    pub timeouts: config::Timeouts,
    /// The listener's connections to it that have ended, by [`crate::cause::Cause::index`].
    pub closed: Arc<PerCause>,
    /// Nobody is led there since a reload; who is there already may stay.
    pub is_former: bool,
}

impl Leads {
    /// Where a listener of `config` leads, whose pools have these ids among `pools`. What was counted `before` for a pool of the
    /// same name still counts, whether there were routes or are.
    pub(super) fn new(
        listener: &config::Listener,
        config: &config::Config,
        (ids, pools): (&[PoolId], &[Pool]),
        before: Option<&Self>,
    ) -> Self {
        let timeouts =
            |pool: usize| config.timeouts.but(&listener.timeouts).but(&config.pools[pool].timeouts);
        let name_of = |id: PoolId| &pools[usize::from(id.0)].name;
        let led = |pool: usize| {
            let (id, name) = (ids[pool], name_of(ids[pool]));
            let mut known = before.into_iter().flat_map(Self::all);
            let closed = known.find(|led| led.name == *name).map(|led| Arc::clone(&led.closed));
            Led {
                pool: id,
                name: Arc::clone(name),
                timeouts: timeouts(pool),
                closed: closed.unwrap_or_default(),
                is_former: false,
            }
        };
        let own = led(listener.pool);
        let mut others: Vec<Led> = listener.pools().filter(|pool| *pool != listener.pool).map(led).collect();
        let mut gone = before.map(|before| Arc::clone(&before.gone)).unwrap_or_default();
        for led in before.into_iter().flat_map(Self::all) {
            if iter::once(&own).chain(&others).any(|now| now.name == led.name) {
                continue;
            }
            if led.name == *name_of(led.pool) {
                // Without its table it keeps the limits that it had.
                let timeouts = ids.iter().position(|id| *id == led.pool).map_or(led.timeouts, timeouts);
                others.push(Led { timeouts, is_former: true, ..led.clone() });
            } else {
                gone = Arc::new(gone.and(&led.closed));
            }
        }
        Self { own, others: others.into(), gone }
    }

    /// All of them, its own first.
    pub fn all(&self) -> impl Iterator<Item = &Led> {
        iter::once(&self.own).chain(&self.others)
    }

    /// The pools that new connections may go to.
    pub fn pools(&self) -> impl Iterator<Item = PoolId> {
        self.all().filter(|led| !led.is_former).map(|led| led.pool)
    }

    /// Connections that have ended at each pool, and last at those that are no more.
    pub fn closed(&self) -> impl Iterator<Item = &PerCause> {
        self.all().map(|led| &*led.closed).chain([&*self.gone])
    }

    fn to(&self, pool: PoolId) -> Option<&Led> {
        self.all().find(|led| led.pool == pool)
    }
}

impl Listener {
    /// The pool of who was led nowhere by a route: none where there are routes.
    #[must_use]
    pub fn only_pool(&self) -> Option<PoolId> {
        self.routes.is_none().then_some(self.leads.own.pool)
    }

    /// Where connections to that pool are counted when they end, or those to none, by [`crate::cause::Cause::index`].
    #[must_use]
    pub fn closed(&self, pool: Option<PoolId>) -> &PerCause {
        let led = pool.or_else(|| self.only_pool()).and_then(|pool| self.leads.to(pool));
        led.map_or(&self.tally.closed, |led| &led.closed)
    }

    /// Limits of its connections to a pool.
    #[must_use]
    pub fn timeouts_to(&self, pool: PoolId) -> &config::Timeouts {
        &self.leads.to(pool).unwrap_or(&self.leads.own).timeouts
    }
}
