//! Who is let in: the rules about addresses, and the limits on what one source, and all together, may have. Pure.
//!
//! Asked once when a client is accepted and once when its connection ends; what is shared by workers are atomics.

mod rate;
mod rules;
mod sources;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

pub use rate::{Bucket, Rate};
pub use rules::Rules;
pub use sources::{Over, Place, Source, Sources};

use crate::cause::Cause;
use crate::config;
use crate::tally::ListenerTally;
use crate::tick::Tick;

/// What a listener lets in. A clone has the same counts.
#[derive(Clone, Debug)]
pub struct Admission {
    rules: Arc<Rules>,
    /// The sources of its connections; once it is there it stays, since connections have places in it.
    sources: Option<Arc<Sources>>,
    source: SourceLimits,
    ipv6_prefix: u8,
    /// All new connections together.
    rate: Option<Rate>,
    bucket: Arc<Bucket>,
    dry_run: bool,
    match_on: config::MatchOn,
}

/// What one source may have.
#[derive(Clone, Copy, Debug, Default)]
pub struct SourceLimits {
    /// Connections at a time.
    pub conns: Option<NonZeroU32>,
    /// New connections.
    pub rate: Option<Rate>,
}

impl Admission {
    /// What a listener's configuration says, with the counts of what held `before` it under the same name.
    #[must_use]
    pub fn new(listener: &config::Listener, before: Option<&Self>) -> Self {
        let limits = &listener.limits;
        let source = SourceLimits {
            conns: limits.per_source_conns,
            rate: limits.per_source_rate.map(|it| Rate::new(it.rate, it.burst)),
        };
        let is_limited = source.conns.is_some() || source.rate.is_some();
        let sources = before.and_then(|before| before.sources.clone());
        Self {
            rules: Arc::new(Rules::new(&listener.access)),
            sources: sources.or_else(|| is_limited.then(|| Arc::new(Sources::new(limits.table_size)))),
            source,
            ipv6_prefix: limits.ipv6_prefix,
            rate: limits.rate.map(Rate::evenly),
            bucket: before.map_or_else(Arc::default, |before| Arc::clone(&before.bucket)),
            dry_run: limits.dry_run,
            match_on: listener.access.match_on,
        }
    }

    /// Whose address is asked about where a proxy in front tells of another one.
    #[must_use]
    pub fn match_on(&self) -> config::MatchOn {
        self.match_on
    }

    /// Whether a client may come in, and where its connection is counted if it is; why not otherwise. `None` is a client
    /// without an address, that of a unix socket: no rule names it, and it is of no source.
    ///
    /// # Errors
    /// Why it is turned away.
    pub fn enter(
        &self,
        client: Option<IpAddr>,
        now: Tick,
        tally: &ListenerTally,
    ) -> Result<Option<Place>, Cause> {
        let Some(client) = client else { return Ok(None) };
        if !self.rules.allow(client) {
            return Err(Cause::AccessDenied);
        }
        if self.source.conns.is_none() && self.source.rate.is_none() {
            return Ok(None);
        }
        let Some(sources) = &self.sources else { return Ok(None) };
        let (place, over) = sources.take(Source::of(client, self.ipv6_prefix), self.source, now);
        if place.is_none() {
            tally.untracked.add(1);
        }
        let Some(over) = over else { return Ok(place) };
        let cause = over.cause();
        if self.dry_run {
            tally.let_off(cause);
            return Ok(place);
        }
        self.leave(place);
        Err(cause)
    }

    /// The limit by which [`Admission::enter`] would turn away a client that the rules let in; nothing is counted.
    #[must_use]
    pub fn refusal(&self, client: IpAddr, now: Tick) -> Option<Cause> {
        let sources = self.sources.as_ref().filter(|_| !self.dry_run)?;
        let over = sources.over(Source::of(client, self.ipv6_prefix), self.source, now)?;
        Some(over.cause())
    }

    /// A connection has ended, or a client was turned away: the end of what [`Admission::enter`] began.
    pub fn leave(&self, place: Option<Place>) {
        if let (Some(sources), Some(place)) = (&self.sources, place) {
            sources.give(place);
        }
    }

    /// Connections of the source of that address; `None` where they are not counted.
    #[must_use]
    pub fn connections_of(&self, client: IpAddr) -> Option<u64> {
        let sources = self.sources.as_ref()?;
        Some(sources.connections(Source::of(client, self.ipv6_prefix)))
    }

    /// Connections that are counted for their sources.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn held(&self) -> u64 {
        self.sources.as_ref().map_or(0, |sources| sources.held())
    }

    /// Takes a token of the whole listener, or says `false` when there is none.
    #[must_use]
    pub fn take_token(&self, now: Tick, tally: &ListenerTally) -> bool {
        let took = self.rate.is_none_or(|rate| self.bucket.take(rate, now));
        if !took && self.dry_run {
            tally.let_off(Cause::ListenerRate);
        }
        took || self.dry_run
    }

    /// Whether an [`Admission::take_token`] would succeed now.
    #[must_use]
    pub fn has_token(&self, now: Tick) -> bool {
        self.dry_run || self.rate.is_none_or(|rate| self.bucket.has_one(rate, now))
    }
}

/// What is odd about the rules of listeners, in words: nobody gets in, or a rule decides nothing.
#[must_use]
pub fn oddities(config: &config::Config) -> Vec<String> {
    let of_one = |listener: &config::Listener| {
        let found = odd_rules(listener).into_iter();
        found.map(|what| format!("listener {}: {what}", listener.name)).collect::<Vec<_>>()
    };
    config.listeners.iter().flat_map(of_one).collect()
}

fn odd_rules(listener: &config::Listener) -> Vec<String> {
    let rules = Rules::new(&listener.access);
    let mut found = Vec::new();
    let has_addresses = listener.bind.iter().any(|at| !at.is_unix());
    let writes = listener.access != config::AccessRules::default();
    if writes && !has_addresses {
        found.push("its clients have no address, so [access] is about nobody".to_owned());
    } else if rules.allow_nobody() {
        found.push("[access] lets nobody in: add a rule such as \"allow 10.0.0.0/8\"".to_owned());
    }
    for idle in rules.idle() {
        let config::Rule { action, network } = listener.access.rules[idle];
        let rule = format!("{} {network}", action.name());
        found.push(format!("rule {} of [access], {rule:?}, decides nothing: rules before it do", idle + 1));
    }
    found
}

#[cfg(test)]
mod tests;
