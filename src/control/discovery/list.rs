//! What is known of a list of servers that stands elsewhere. Pure: the time is an argument.

use std::collections::HashSet;
use std::sync::Arc;

use super::can_reach;
use super::parse::Listed;
use crate::config::{Address, ListAt, Origin, Pool, Server};
use crate::tick::Tick;

/// What came of a look at a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is this, which may be what it was.
    Taken(Vec<Listed>),
    /// Nothing has happened to it.
    Same,
    /// What is there is no list.
    Refused(String),
    /// Nobody could say.
    Failed(String),
}

/// How a look has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is another list than before.
    Changed,
    /// It is what it was.
    Same,
    /// It is no list.
    Refused,
    /// It could not be had.
    Failed,
}

impl Outcome {
    /// Each of them with its name.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("changed", Self::Changed),
        ("same", Self::Same),
        ("refused", Self::Refused),
        ("failed", Self::Failed),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].0
    }

    /// Whether the list is known to be as it is now.
    #[must_use]
    pub fn is_good(self) -> bool {
        matches!(self, Self::Changed | Self::Same)
    }
}

/// A list: the last good one is kept, however long nothing better comes.
#[derive(Clone, Debug, Default)]
pub struct List {
    servers: Arc<[Listed]>,
    /// When it was known to be so the last time.
    good_at: Option<Tick>,
    /// How the last look has ended, and why if not well.
    last: Option<(Outcome, String)>,
    /// Looks, by outcome.
    counts: [u64; 4],
}

impl List {
    /// Takes note of a look that ended at `now`; how it has ended.
    pub fn note(&mut self, look: Look, now: Tick) -> Outcome {
        let (outcome, why) = match look {
            Look::Taken(servers) if self.good_at.is_none() || *servers != *self.servers => {
                self.servers = servers.into();
                (Outcome::Changed, String::new())
            }
            Look::Taken(_) | Look::Same => (Outcome::Same, String::new()),
            Look::Refused(why) => (Outcome::Refused, why),
            Look::Failed(why) => (Outcome::Failed, why),
        };
        if outcome.is_good() {
            self.good_at = Some(now);
        }
        self.counts[outcome as usize] += 1;
        self.last = Some((outcome, why));
        outcome
    }

    /// The servers of the last good list, in its order.
    #[must_use]
    pub fn servers(&self) -> &[Listed] {
        &self.servers
    }

    /// When the list was known to be so the last time.
    #[must_use]
    pub fn good_at(&self) -> Option<Tick> {
        self.good_at
    }

    /// How the last look has ended, and why if not well; none before the first.
    #[must_use]
    pub fn last(&self) -> Option<(Outcome, &str)> {
        self.last.as_ref().map(|(outcome, why)| (*outcome, why.as_str()))
    }

    /// Looks by outcome.
    #[must_use]
    pub fn counts(&self) -> [u64; 4] {
        self.counts
    }
}

/// The servers of a list as servers of `pool`, which has those that it has from elsewhere already; but for those that are
/// [`left_out`].
pub fn members(pool: &Pool, at: &ListAt, listed: &[Listed]) -> Vec<Server> {
    let member = |(one, name): (&Listed, String)| Server {
        name,
        addr: Address::Ip(one.addr),
        weight: one.weight,
        maxconn: one.maxconn,
        backup: one.backup,
        state: one.state,
        origin: Origin::List(at.clone()),
    };
    fitting(pool, listed).map(member).collect()
}

/// How many servers of a list cannot be servers of `pool`: their name is taken there, or their address is of a family that the
/// pool's own addresses do not reach.
#[must_use]
pub fn left_out(pool: &Pool, listed: &[Listed]) -> usize {
    listed.len() - fitting(pool, listed).count()
}

/// Those that can be, each with its name in the pool.
fn fitting<'a>(pool: &'a Pool, listed: &'a [Listed]) -> impl Iterator<Item = (&'a Listed, String)> {
    let named = pool.named.iter().map(|named| named.name.as_str());
    // Names of the file have no `@`, all others have one.
    let taken: HashSet<&str> = pool.servers.iter().map(|server| server.name.as_str()).chain(named).collect();
    let reached = listed.iter().filter(|one| can_reach(&pool.source, one.addr.ip()));
    let named = reached.map(|one| (one, format!("{}@{}", one.name, one.addr)));
    named.filter(move |(one, name)| !taken.contains(one.name.as_str()) && !taken.contains(name.as_str()))
}
