//! What is known of a name, and when it is asked for again. Pure: the time is an argument.

use std::net::IpAddr;
use std::time::Duration;

use super::Found;
use crate::config::Dns;
use crate::tick::Tick;

/// Servers that one name may stand for. Of more, the first ones count, by priority and address.
pub const MOST: usize = 256;

/// How long a name rests at most that could not be looked up.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// What came of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The name stands for these.
    Found {
        /// In any order, also more than once.
        servers: Vec<Found>,
        /// How long the records hold.
        ttl: Duration,
        /// Hosts of which addresses of a family (IPv4 if `true`) could not be looked up: those known before stay.
        unknown: Vec<(String, bool)>,
        /// Why not, if there are such.
        error: Option<String>,
        /// How many servers there are beside these, or more: they were not looked up.
        left_out: usize,
    },
    /// The name does not exist, or has no address; so says whoever was asked.
    Missing(String),
    /// Nobody could say.
    Failed(String),
}

/// How a lookup has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There are servers.
    Found,
    /// There are none.
    Missing,
    /// It is not known.
    Failed,
}

impl Outcome {
    /// Each of them with its name.
    pub const NAMES: [(&'static str, Self); 3] =
        [("found", Self::Found), ("missing", Self::Missing), ("failed", Self::Failed)];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].0
    }
}

/// A name.
#[derive(Clone, Debug, Default)]
pub struct Name {
    servers: Vec<Found>,
    /// When it was found the last time.
    found_at: Option<Tick>,
    /// Since when it is said not to be there.
    missing_since: Option<Tick>,
    /// Lookups in a row that have not found it.
    misses: u32,
    /// How the last one ended, and why if not well.
    last: Option<(Outcome, Option<String>)>,
    /// Lookups, by outcome.
    counts: [u64; 3],
    /// How many servers the last answer had too many.
    left_out: usize,
    /// When it is looked up again.
    next: Tick,
}

impl Name {
    /// Takes note of an answer that came at `now`; returns how long to wait until the next lookup.
    ///
    /// A failure takes nothing away. A name that is missing keeps its servers until `hold` is over, and loses them only
    /// by an answer that says then that it still is.
    pub fn note(&mut self, answer: Answer, rules: &Dns, now: Tick) -> Duration {
        let wait = self.take(answer, rules, now);
        self.next = now.after(wait);
        wait
    }

    fn take(&mut self, answer: Answer, rules: &Dns, now: Tick) -> Duration {
        match answer {
            // A filter in front of the resolver takes the name away like that; it is not one without servers.
            Answer::Found { servers, unknown, .. }
                if !servers.is_empty() && unknown.is_empty() && !servers.iter().any(is_server) =>
            {
                self.take(Answer::Missing("its addresses stand for nobody".to_owned()), rules, now)
            }
            Answer::Found { servers, ttl, unknown, error, left_out } => {
                self.put(servers, &unknown);
                self.left_out += left_out;
                (self.found_at, self.missing_since) = (Some(now), None);
                let outcome = if error.is_some() { Outcome::Failed } else { Outcome::Found };
                let ttl = ttl.clamp(rules.ttl_min, rules.ttl_max);
                self.end(outcome, error);
                if outcome == Outcome::Found { ttl } else { ttl.min(self.pause(rules)) }
            }
            Answer::Missing(why) => {
                let since = *self.missing_since.get_or_insert(now);
                let left = rules.hold.saturating_sub(now.since(since));
                if left.is_zero() {
                    self.servers.clear();
                }
                self.end(Outcome::Missing, Some(why));
                // Not before `ttl_min`, and to the point when the hold ends.
                let pause = self.pause(rules);
                if left.is_zero() || self.servers.is_empty() {
                    pause
                } else {
                    pause.min(left).max(rules.ttl_min)
                }
            }
            Answer::Failed(why) => {
                self.end(Outcome::Failed, Some(why));
                self.pause(rules)
            }
        }
    }

    fn end(&mut self, outcome: Outcome, why: Option<String>) {
        self.misses = if outcome == Outcome::Found { 0 } else { self.misses.saturating_add(1) };
        self.counts[outcome as usize] += 1;
        self.last = Some((outcome, why));
    }

    /// `ttl_min`, and twice as long with every further miss.
    fn pause(&self, rules: &Dns) -> Duration {
        let doubled = rules.ttl_min.saturating_mul(1 << self.misses.saturating_sub(1).min(16));
        doubled.min(RETRY_MAX).clamp(rules.ttl_min, rules.ttl_max)
    }

    fn put(&mut self, mut servers: Vec<Found>, unknown: &[(String, bool)]) {
        let stays = |old: &Found| {
            unknown.iter().any(|(host, is_v4)| *host == old.host && *is_v4 == old.addr.is_ipv4())
        };
        servers.extend(std::mem::take(&mut self.servers).into_iter().filter(stays));
        servers.retain(is_server);
        servers.sort_unstable();
        // One address may be that of several hosts: it is one server, with its best record.
        let mut seen = std::collections::HashSet::new();
        servers.retain(|found| seen.insert(found.addr));
        self.left_out = servers.len().saturating_sub(MOST);
        servers.truncate(MOST);
        self.servers = servers;
    }

    /// The servers that it stands for: by priority, then by address.
    #[must_use]
    pub fn servers(&self) -> &[Found] {
        &self.servers
    }

    /// When it was found the last time.
    #[must_use]
    pub fn found_at(&self) -> Option<Tick> {
        self.found_at
    }

    /// When it is looked up again; in the past before the first answer.
    #[must_use]
    pub fn next(&self) -> Tick {
        self.next
    }

    /// How the last lookup ended, and why if not well; none before the first.
    #[must_use]
    pub fn last(&self) -> Option<(Outcome, Option<&str>)> {
        self.last.as_ref().map(|(outcome, why)| (*outcome, why.as_deref()))
    }

    /// Lookups by outcome.
    #[must_use]
    pub fn counts(&self) -> [u64; 3] {
        self.counts
    }

    /// How many servers the last answer had too many: above [`MOST`], or of hosts that were not looked up.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }
}

fn is_server(found: &Found) -> bool {
    is_usable(found.addr.ip()) && found.addr.port() != 0
}

/// An address that means this host or nobody is a mistake, or a block list: nobody is connected to it.
fn is_usable(ip: IpAddr) -> bool {
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
}
