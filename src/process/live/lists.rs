//! Lists of servers that stand elsewhere, looked at again and again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};

use super::sources::{FIRST_MOST, News};
use crate::balance;
use crate::config::{Config, ListAt};
use crate::control::discovery::ask::Asker;
use crate::control::discovery::watch::{Means, Watcher};
use crate::control::discovery::{List, ListOutcome, Listed, Look, members};
use crate::sys::Clock;
use crate::tick::Tick;

/// A failure that has another cause than the one told before is told, too, but not more often than this.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// A pool, and where one of its lists stands.
type Key = (String, ListAt);

/// All lists of the configuration, and who looks at them.
pub(super) struct Lists {
    known: BTreeMap<Key, Known>,
    told: UnboundedSender<News>,
    /// Watches that were begun so far: the next one's number.
    begun: u64,
}

/// A list that is looked at.
pub(super) struct Known {
    number: u64,
    task: AbortHandle,
    pub(super) list: List,
    /// Servers of it that the pool cannot have.
    pub(super) left_out: usize,
    /// What is in it and is no server.
    pub(super) unfit: usize,
    /// The failure that was told last, and when.
    told: Option<(String, Tick)>,
}

/// A look has ended.
pub(super) struct Looked {
    number: u64,
    key: Key,
    look: Look,
    unfit: usize,
    at: Tick,
}

impl Lists {
    /// None yet; `told` hears of every look.
    pub(super) fn new(told: UnboundedSender<News>) -> Self {
        Self { known: BTreeMap::new(), told, begun: 0 }
    }

    /// Looks at the lists of this configuration, and at no others. What is known stays known; lists that are new are waited
    /// for, but not for long.
    pub(super) async fn adopt(&mut self, file: &Config, clock: Clock, asker: &Arc<Asker>) {
        let mut before = std::mem::take(&mut self.known);
        before.values().for_each(|known| known.task.abort());
        let all = file.pools.iter().flat_map(|pool| {
            pool.lists.iter().map(|at| ((pool.name.clone(), at.clone()), pool.servers_poll))
        });
        let all: BTreeMap<Key, Duration> = all.collect();
        let means = Means::new(Arc::clone(asker));
        let new = all.iter().filter(|(key, _)| !before.contains_key(*key));
        let new = new.map(|(key, poll)| (key.clone(), Watcher::new(&key.1, *poll, &means)));
        let mut first = first_looks(new.collect()).await;
        for (key, poll) in all {
            self.begun += 1;
            let (watcher, look) = match first.remove(&key) {
                Some((watcher, look)) => (watcher, Some(look)),
                None => (Watcher::new(&key.1, poll, &means), None),
            };
            let unfit = watcher.unfit();
            let wait = if look.is_some() { watcher.rest(random(self.begun, clock)) } else { Duration::ZERO };
            let watch = watch(watcher, wait, self.begun, key.clone(), clock, self.told.clone());
            let task = tokio::spawn(watch).abort_handle();
            let (list, told) =
                old_of(&key, &mut before).map(|known| (known.list, known.told)).unwrap_or_default();
            let mut known = Known { number: self.begun, task, list, left_out: 0, unfit: 0, told };
            // The pool may have other servers of its own now.
            known.count_left_out(&key, file);
            self.known.insert(key.clone(), known);
            if let Some(look) = look {
                self.note(Looked { number: self.begun, key, look, unfit, at: clock.now() }, file);
            }
        }
    }

    /// Takes note of a look; whether there is another list than before.
    pub(super) fn note(&mut self, looked: Looked, file: &Config) -> bool {
        let Looked { number, key, look, unfit, at } = looked;
        // One that was given up may have had its last word on the way.
        let Some(known) = self.known.get_mut(&key).filter(|known| known.number == number) else {
            return false;
        };
        let before = known.list.last().map(|(outcome, _)| outcome);
        let outcome = known.list.note(look, at);
        known.unfit = unfit;
        known.report(&key, before, at);
        if outcome == ListOutcome::Changed {
            known.count_left_out(&key, file);
        }
        outcome == ListOutcome::Changed
    }

    /// The servers of a list of a pool, as far as is known.
    pub(super) fn of(&self, pool: &str, at: &ListAt) -> &[Listed] {
        self.known.get(&(pool.to_owned(), at.clone())).map_or(&[], |known| known.list.servers())
    }

    /// Each list.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Key, &Known)> {
        self.known.iter()
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
                (count, Some(_)) => format!("the {count} servers of the last good list stay"),
            };
            log::error!("pool {pool}: {at}: {why}; {then}");
            self.told = Some((why.to_owned(), now));
        }
    }

    /// Tells of servers that the pool cannot have.
    fn count_left_out(&mut self, (pool, at): &Key, file: &Config) {
        let Some(of) = file.pools.iter().find(|one| one.name == *pool) else { return };
        self.left_out = members(of, at, self.list.servers()).1;
        if self.left_out > 0 {
            log::warn!(
                "pool {pool}: {at}: {} of {} servers are left out: their names are those of others in the pool, or no \
                 address of `source` reaches them",
                self.left_out,
                self.list.servers().len()
            );
        }
    }
}

/// What is known of the list before it was there, or was had in another way.
fn old_of((pool, at): &Key, before: &mut BTreeMap<Key, Known>) -> Option<Known> {
    let old = before.keys().find(|(of, old)| of == pool && old.is_like(at))?.clone();
    before.remove(&old)
}

/// The looks that end in time.
async fn first_looks(watchers: Vec<(Key, Watcher)>) -> BTreeMap<Key, (Watcher, Look)> {
    let until = Instant::now() + FIRST_MOST;
    let mut under_way = JoinSet::new();
    for (key, mut watcher) in watchers {
        under_way.spawn(async move {
            let look = watcher.look().await;
            (key, (watcher, look))
        });
    }
    let mut looks = BTreeMap::new();
    while let Ok(Some(Ok((key, look)))) = timeout_at(until, under_way.join_next()).await {
        looks.insert(key, look);
    }
    looks
}

/// Looks at a list again and again, for the first time after `wait`.
async fn watch(
    mut watcher: Watcher,
    mut wait: Duration,
    number: u64,
    key: Key,
    clock: Clock,
    told: UnboundedSender<News>,
) {
    loop {
        sleep(wait).await;
        let look = watcher.look().await;
        wait = watcher.rest(random(number, clock));
        let looked = Looked { number, key: key.clone(), look, unfit: watcher.unfit(), at: clock.now() };
        if told.send(News::List(looked)).is_err() {
            return;
        }
    }
}

/// Another number on each host, at each moment, for each watch.
fn random(number: u64, clock: Clock) -> u64 {
    balance::random(clock.wall_ms().unsigned_abs() ^ (number << 48))
}
