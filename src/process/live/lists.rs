//! Lists of servers that stand elsewhere, looked at again and again.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use super::inquiries::{Heard, Inquiries, Inquiry, Memory};
use super::sources::{FIRST_MOST, News};
use crate::config::{Config, ListAt};
use crate::control::discovery::ask::Asker;
use crate::control::discovery::watch::Watcher;
use crate::control::discovery::{List, ListOutcome, Listed, left_out};
use crate::sys::Clock;
use crate::tick::Tick;

/// A failure that has another cause than the one told before is told, too, but not more often than this.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// A pool, and where one of its lists stands.
pub(super) type Key = (String, ListAt);

/// How a list is looked at.
pub(super) struct Watch {
    of: Key,
    watcher: Watcher,
    clock: Clock,
}

/// What is known of a list.
#[derive(Clone, Default)]
pub(super) struct Known {
    pub(super) list: List,
    /// What is in it and is no server.
    pub(super) unfit: usize,
    /// The failure that was told last, and when.
    told: Option<(String, Tick)>,
}

impl Inquiry for Watch {
    type Key = Key;
    type Known = Known;
    const NEWS: fn(Heard<Self>) -> News = News::List;

    async fn ask(&mut self, known: &mut Known) -> Duration {
        let look = self.watcher.look(known.list.servers()).await;
        let before = known.list.last().map(|(outcome, _)| outcome);
        known.list.note(look, self.clock.now());
        known.unfit = self.watcher.unfit();
        known.report(&self.of, before, self.clock.now());
        // Another number on each host, at each moment, for each list.
        self.watcher.rest(RandomState::new().hash_one(&self.of))
    }

    /// It may be had in another way.
    fn is_like((pool, at): &Key, (of, other): &Key) -> bool {
        pool == of && at.is_like(other)
    }
}

impl Inquiries<Watch> {
    /// Looks at the lists of this configuration.
    pub(super) async fn adopt_lists(
        &mut self,
        file: &Config,
        memory: &Memory<Watch>,
        clock: Clock,
        asker: &Arc<Asker>,
    ) {
        let all = file.pools.iter().flat_map(|pool| pool.lists.iter().map(move |at| (pool, at)));
        let watch = |(pool, at): (&crate::config::Pool, &ListAt)| {
            let of = (pool.name.clone(), at.clone());
            (of.clone(), Watch { of, watcher: Watcher::new(at, pool.servers_poll, asker), clock })
        };
        let all = all.map(watch).collect();
        self.adopt(all, memory, FIRST_MOST).await;
        // Pools may have other servers of their own now.
        self.all().for_each(|(key, _)| self.tell_left_out(key, file));
    }

    /// The servers of a list of a pool, as far as is known.
    pub(super) fn servers(&self, pool: &str, at: &ListAt) -> &[Listed] {
        self.of(&(pool.to_owned(), at.clone())).map_or(&[], |known| known.list.servers())
    }

    /// How many of these the pool cannot have.
    pub(super) fn left_out(&self, (pool, at): &Key, file: &Config) -> usize {
        let of = file.pools.iter().find(|one| one.name == *pool);
        of.map_or(0, |of| left_out(of, self.servers(pool, at)))
    }

    /// Tells of those.
    pub(super) fn tell_left_out(&self, key: &Key, file: &Config) {
        let (left_out, (pool, at)) = (self.left_out(key, file), key);
        if left_out > 0 {
            log::warn!(
                "pool {pool}: {at}: {left_out} of {} servers are left out: their names are those of others in the pool, or \
                 no address of `source` reaches them",
                self.servers(pool, at).len()
            );
        }
    }
}

impl Known {
    /// Tells of what is not as it was: of a failure once, and of its end.
    fn report(&mut self, (pool, at): &Key, before: Option<ListOutcome>, now: Tick) {
        let Some((outcome, why)) = self.list.last() else { return };
        if outcome.is_good() {
            if before.is_some_and(|before| !before.is_good()) {
                log::info!("pool {pool}: {at} is well again");
            }
            self.told = None;
            return;
        }
        let is_told =
            self.told.as_ref().is_some_and(|(told, when)| told == why || now.since(*when) < TOLD_AGAIN);
        if !is_told {
            let then = match (self.list.servers().len(), self.list.good_at()) {
                (_, None) => "it has given no servers yet".to_owned(),
                (1, Some(_)) => "the one server of the last good list stays".to_owned(),
                (count, Some(_)) => format!("the {count} servers of the last good list stay"),
            };
            log::error!("pool {pool}: {at}: {why}; {then}");
            self.told = Some((why.to_owned(), now));
        }
    }
}
