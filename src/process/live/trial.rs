//! A reload on trial: it is taken back unless somebody confirms it in time, or before if servers are reached less often.

use std::collections::HashSet;
use std::time::Duration;

use super::reload::kept;
use super::sources::Known;
use super::{Live, refuse};
use crate::config::Config;
use crate::control::model::{Changed, Effect, Refusal, RefusalKind};
use crate::snapshot::{Health, Override, Overrides, Server, ServerId, Snapshot};
use crate::tally::Attempt;
use crate::tick::Tick;

/// How soon a reload that could not be taken back is tried to be again.
const AGAIN: Duration = Duration::from_secs(10);

/// So many attempts to connect must have failed before a trial is taken to have failed.
const FAILURES_MIN: u64 = 5;

/// A reload that waits for its confirmation.
pub(super) struct Trial {
    /// What was in effect before.
    previous: Config,
    /// What operators have set, before it and since.
    overrides: Overrides,
    /// What was known before of names and lists: one that is had back is not asked for first.
    known: Known,
    ends: Tick,
    /// Attempts to connect at its beginning.
    before: Totals,
    /// Servers that were ejected at its beginning, which is not its fault.
    ejected: HashSet<ServerId>,
}

/// Attempts to connect, of all servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    made: u64,
    failed: u64,
}

impl Trial {
    pub(super) fn new(
        (previous, overrides, known): (Config, Overrides, Known),
        now: Tick,
        limit: Duration,
        snapshot: &Snapshot,
    ) -> Self {
        let ejected = ejected(snapshot).map(|(id, _)| id).collect();
        Self { previous, overrides, known, ends: now.after(limit), before: totals(snapshot), ejected }
    }

    pub(super) fn left(&self, now: Tick) -> Duration {
        self.ends.since(now)
    }

    /// An operator sets something of a server while the trial runs: that holds after a rollback, too.
    pub(super) fn set(&mut self, pool: &str, server: &str, change: Override) {
        let over = self.overrides.entry((pool.to_owned(), server.to_owned())).or_default();
        over.weight = change.weight.or(over.weight);
        over.state = change.state.or(over.state);
    }

    /// Why it is over now.
    fn over(&self, now: Tick, snapshot: &Snapshot) -> Option<String> {
        // One that gets no connections fails no more of them.
        if let Some((_, server)) = ejected(snapshot).find(|(id, _)| !self.ejected.contains(id)) {
            let pool = &snapshot.pool(server.pool).name;
            return Some(format!("server {pool}/{} was ejected since", server.name));
        }
        let (Totals { made, failed }, totals) = (self.before, totals(snapshot));
        let since =
            Totals { made: totals.made.saturating_sub(made), failed: totals.failed.saturating_sub(failed) };
        if is_worse(self.before, since) {
            return Some(format!("{} of {} attempts to connect have failed since", since.failed, since.made));
        }
        (self.ends <= now).then(|| "nobody has confirmed it".to_owned())
    }
}

/// Whether a tenth or more of the attempts fails, and twice as many as before.
fn is_worse(before: Totals, since: Totals) -> bool {
    since.failed >= FAILURES_MIN
        && since.failed * 10 >= since.made
        && u128::from(since.failed) * u128::from(before.made.max(1))
            >= 2 * u128::from(before.failed) * u128::from(since.made)
}

/// Servers that are ejected.
fn ejected(snapshot: &Snapshot) -> impl Iterator<Item = (ServerId, &Server)> {
    let all = (0..).map(ServerId).zip(&snapshot.servers);
    all.filter(|(_, server)| server.removed.is_none() && server.health == Health::Ejected)
}

/// Attempts to connect to all servers that there are or were. Those of a server whose id was given to another one are gone
/// from it, so that this is compared with saturation.
fn totals(snapshot: &Snapshot) -> Totals {
    let mut totals = Totals::default();
    for server in &snapshot.servers {
        for (attempt, _) in Attempt::ALL {
            let count = server.tally.attempts[attempt as usize].get();
            totals.made += count;
            totals.failed += if attempt == Attempt::Ok { 0 } else { count };
        }
    }
    totals
}

impl Live {
    /// Looks whether a trial is over, and takes its reload back then.
    pub(super) async fn judge(&self) {
        let mut state = self.state.lock().await;
        let (now, snapshot) = (self.clock.now(), self.published.current());
        let Some(why) = state.trial.as_ref().and_then(|trial| trial.over(now, &snapshot)) else { return };
        let trial = state.trial.take().expect("it was there just now");
        log::error!("the reload is taken back: {why}");
        let result = self.take_back(&mut state, trial).await;
        state.history.error = Some(match result {
            Ok(effect) => {
                effect.lines.iter().for_each(|line| log::info!("rollback: {line}"));
                format!("taken back: {why}")
            }
            Err(refusal) => {
                log::error!("it cannot be taken back, and is tried again in {AGAIN:?}: {refusal}");
                format!("to be taken back, since {why}, but that is not possible: {refusal}")
            }
        });
    }

    /// Goes by what was in effect before. A trial that cannot be taken back is one still.
    async fn take_back(&self, state: &mut super::State, mut trial: Trial) -> Result<Effect, Refusal> {
        let overrides = kept(&trial.overrides, &trial.previous, &trial.previous);
        match self.apply(state, trial.previous.clone(), overrides, &trial.known).await {
            Ok(effect) => {
                state.wards.check_no_more_ahead();
                Ok(effect)
            }
            Err(refusal) => {
                trial.ends = trial.ends.max(self.clock.now().after(AGAIN));
                let snapshot = self.published.current();
                trial.before = totals(&snapshot);
                trial.ejected = ejected(&snapshot).map(|(id, _)| id).collect();
                state.trial = Some(trial);
                Err(refusal)
            }
        }
    }

    pub(super) async fn confirm_reload(&self) -> Result<Changed, Refusal> {
        let mut state = self.state.lock().await;
        state.trial.take().ok_or_else(none_waits)?;
        state.wards.check_no_more_ahead();
        log::info!("the reload is confirmed");
        Ok(Changed {
            what: "the reload is confirmed".to_owned(),
            next_reload: "reads the file again, as always".to_owned(),
        })
    }

    pub(super) async fn roll_back_reload(&self) -> Result<Effect, Refusal> {
        let mut state = self.state.lock().await;
        let trial = state.trial.take().ok_or_else(none_waits)?;
        log::info!("the reload is taken back, as asked");
        let effect = self.take_back(&mut state, trial).await?;
        state.history.error = Some("taken back, as asked".to_owned());
        Ok(effect)
    }
}

fn none_waits() -> Refusal {
    refuse(
        RefusalKind::Conflict,
        "no reload waits to be confirmed",
        "`tidegate ctl reload --confirm 60s` makes one that does",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_fails_when_clearly_more_attempts_fail_than_before() {
        let totals = |made, failed| Totals { made, failed };
        for (before, since, worse) in [
            (totals(1_000, 0), totals(100, 4), false),
            (totals(1_000, 0), totals(50, 5), true),
            (totals(1_000, 0), totals(51, 5), false),
            (totals(1_000, 300), totals(100, 59), false),
            (totals(1_000, 300), totals(100, 60), true),
            (totals(0, 0), totals(5, 5), true),
        ] {
            assert_eq!(is_worse(before, since), worse, "{before:?} {since:?}");
        }
    }

    #[test]
    fn a_trial_ends_in_time() {
        let config = crate::config::parse(
            "[listener.l]\nbind = [\"127.0.0.1:1\"]\npool = \"p\"\n[pool.p]\nserver = [{ name = \"a\", addr = \"127.0.0.1:2\" }]",
            "test",
        );
        let config = config.expect("it is right");
        let mut snapshot = Snapshot::new(&config, 10);
        let trial = Trial::new(
            (config, Overrides::new(), Known::default()),
            Tick(1_000),
            Duration::from_secs(60),
            &snapshot,
        );
        assert_eq!(trial.over(Tick(60_999), &snapshot), None);
        assert!(trial.over(Tick(61_001), &snapshot).is_some_and(|why| why.contains("confirmed")));
        let attempts = &snapshot.servers[0].tally.attempts;
        attempts[Attempt::Ok as usize].add(1);
        attempts[Attempt::Refused as usize].add(9);
        assert!(trial.over(Tick(1_001), &snapshot).is_some_and(|why| why.contains("9 of 10 attempts")));
        snapshot.servers[0].health = Health::Ejected;
        assert!(trial.over(Tick(1_001), &snapshot).is_some_and(|why| why.contains("server p/a was ejected")));
    }
}
