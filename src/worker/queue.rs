//! This worker's clients that wait for a server of their pool to have room. Whose turn it is among all workers is said
//! by [`crate::snapshot::Queue`].

use std::collections::BTreeMap;

use super::Worker;
use crate::engine::Engine;
use crate::session::{Input, Place};
use crate::snapshot::{PoolId, ServerId};
use crate::table::Key;
use crate::tick::Tick;

/// Clients that get their turn before other things have theirs, so that no turn is long however many places there are
/// all at once.
const TURNS: u32 = 64;

/// The rows of a worker, one for each pool for which somebody has waited.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: Vec<Row>,
    /// Somebody's turn has come, or may have.
    is_due: bool,
}

/// Who waits for one pool: the longest first; of those that began together, the one that was accepted first.
#[derive(Debug)]
struct Row {
    pool: PoolId,
    clients: BTreeMap<(Tick, u64), Key>,
}

impl Rows {
    /// Whether the next turn is to follow at once.
    pub(super) fn is_due(&self) -> bool {
        self.is_due
    }

    /// Clients that wait.
    #[cfg(feature = "sim")]
    pub(super) fn len(&self) -> usize {
        self.rows.iter().map(|row| row.clients.len()).sum()
    }

    fn row(&mut self, pool: PoolId) -> &mut Row {
        let place = self.rows.iter().position(|row| row.pool == pool).unwrap_or_else(|| {
            self.rows.push(Row { pool, clients: BTreeMap::new() });
            self.rows.len() - 1
        });
        &mut self.rows[place]
    }
}

impl Row {
    fn since(&self) -> Option<Tick> {
        self.clients.keys().next().map(|(since, _)| *since)
    }
}

/// What a worker has to know of a session to see what has become of its place in a queue, and at a server.
#[derive(Clone, Copy)]
pub(super) struct Held {
    place: Option<Place>,
    server: Option<ServerId>,
}

impl Held {
    /// Nothing: it has just begun, or is over.
    pub(super) const NOTHING: Self = Self { place: None, server: None };

    pub(super) fn by(session: &crate::session::Session) -> Self {
        Self { place: session.place(), server: session.counted_by() }
    }
}

impl<E: Engine> Worker<E> {
    /// Follows what a session, with this number, holds now and has held before: its place in a row, and whoever waits
    /// for the room that it has made.
    pub(super) fn follow(&mut self, key: Key, id: u64, before: Held, now: Held) {
        if before.place != now.place {
            if let Some(Place { pool, since, .. }) = before.place {
                if !mutant!(QueueKeepsTheGone) || now.server.is_some() {
                    self.edit(pool, |clients| {
                        clients.remove(&(since, id));
                    });
                }
                self.tell_first(pool);
            }
            if let Some(Place { pool, since, .. }) = now.place {
                self.edit(pool, |clients| {
                    clients.insert((since, id), key);
                });
                // Room may have been made while nobody knew that it waits.
                self.rows.is_due |= self.is_first(pool);
            }
        }
        if let Some(server) = before.server.filter(|server| now.server != Some(*server)) {
            let pool = self.snapshot.server(server).pool;
            if !mutant!(QueueForgetsFreedPlace) && self.snapshot.pool(pool).queue.count() > 0 {
                self.tell_first(pool);
            }
        }
    }

    /// Changes a row, and announces its first client if that is another one then.
    fn edit(&mut self, pool: PoolId, edit: impl FnOnce(&mut BTreeMap<(Tick, u64), Key>)) {
        let row = self.rows.row(pool);
        let first = row.since();
        edit(&mut row.clients);
        let now = row.since();
        if first != now {
            let crew = &self.setup.crew;
            self.snapshot.pool(pool).queue.announce(self.setup.number, crew.most(), now);
        }
    }

    fn is_first(&self, pool: PoolId) -> bool {
        self.snapshot.pool(pool).queue.first() == Some(self.setup.number)
    }

    /// Somebody may have a turn now: whoever waits longest.
    fn tell_first(&mut self, pool: PoolId) {
        match self.snapshot.pool(pool).queue.first() {
            Some(worker) if worker == self.setup.number => self.rows.is_due = true,
            Some(worker) => self.setup.crew.wake(worker),
            None => {}
        }
    }

    /// Gives those their turn who wait longest of all, as long as servers have room.
    pub(super) fn serve(&mut self) {
        if mutant!(QueueForgetsFreedPlace) && !self.rows.is_due {
            return;
        }
        self.rows.is_due = false;
        let mut left = TURNS;
        for index in 0..self.rows.rows.len() {
            let pool = self.rows.rows[index].pool;
            while let Some((place, key)) = self.rows.rows[index].clients.first_key_value()
                && self.is_first(pool)
            {
                let (place, key) = (*place, *key);
                if left == 0 {
                    self.rows.is_due = true;
                    return;
                }
                left -= 1;
                self.input(key, Input::Turn);
                self.settle();
                if self.rows.rows[index].clients.contains_key(&place) {
                    break;
                }
            }
        }
    }

    /// Those whose listener has another pool now wait for that; those whose route led to one that is gone have none.
    pub(super) fn change_rows(&mut self) {
        let all = self.rows.rows.iter().flat_map(|row| row.clients.values().map(move |key| (row.pool, *key)));
        let all: Vec<(PoolId, Key)> = all.collect();
        for (pool, key) in all {
            let is_gone = self.snapshot.pool(pool).removed;
            let own = self.table.get_mut(key).map(|conn| conn.session.pool(&self.snapshot));
            if own.is_some_and(|own| own != pool || is_gone) {
                self.input(key, Input::Turn);
            }
        }
    }
}
