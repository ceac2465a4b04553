//! Servers that go up and down: what is found is told to workers by a new snapshot, one for all that was found meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep, timeout_at};

use super::closing::Manner;
use super::wards::{Event, Told, What};
use super::{Live, State};
use crate::cause::Cause;
use crate::config::OnDown;
use crate::process::room;
use crate::snapshot::{Server, Snapshot};

/// How long news may gather until the next snapshot.
const REST: Duration = Duration::from_millis(10);

impl Live {
    /// Waits for the first checks of servers that are used only after them.
    pub(super) async fn check_first(&self, state: &mut State, told: &mut UnboundedReceiver<Told>) {
        let State { wards, config, overrides, .. } = &mut *state;
        wards.adopt(config, overrides, true);
        if let Some(patience) = wards.first_checks() {
            log::info!("waiting for the first checks of servers, {patience:?} at most");
            let until = Instant::now() + patience;
            while wards.first_checks().is_some()
                && let Ok(Some(one)) = timeout_at(until, told.recv()).await
            {
                wards.note(one);
            }
        }
        if state.config != state.file {
            // Until now nobody but us knows of the servers that names stand for, and of those of lists.
            self.publish_next(state, self.published.current().connections.most()).await;
        } else {
            self.refresh(state).await;
        }
    }

    /// Hears of checks and of failed connects, for ever.
    pub(super) async fn mind_health(self: Arc<Self>, mut told: UnboundedReceiver<Told>) {
        let alarm = Arc::clone(&self.published.current().alarm);
        loop {
            let now = self.clock.now();
            let due = {
                let state = self.state.lock().await;
                state.wards.next(now).into_iter().chain(state.shut.next()).min()
            };
            let due = async move {
                match due {
                    Some(at) => sleep(at.since(now)).await,
                    None => std::future::pending().await,
                }
            };
            let first = tokio::select! {
                first = told.recv() => first,
                () = alarm.heard() => None,
                () = due => None,
            };
            let mut state = self.state.lock().await;
            let mut is_news = first.is_none();
            for one in first.into_iter().chain(std::iter::from_fn(|| told.try_recv().ok())) {
                is_news |= state.wards.note(one);
            }
            let has_ejected = is_news && self.refresh(&mut state).await;
            drop(state);
            if has_ejected {
                // A reload on trial that has brought this about is judged now: from here on it does no more harm.
                self.judge().await;
            }
            sleep(REST).await;
        }
    }

    /// Sees what has become of servers, and has everybody go by it. Whether one was ejected.
    async fn refresh(&self, state: &mut State) -> bool {
        let events = self.news(state);
        let conditions = state.wards.conditions(self.clock.now());
        if conditions != state.conditions {
            state.conditions = conditions;
            let before = self.published.current();
            let (most, now) = (before.connections.most(), self.clock.now());
            let next = before.next(&state.config, most, &state.overrides, &state.conditions, now);
            self.publish(state, Arc::new(next.expect("everything has its id already"))).await;
        }
        let has_ejected = events.iter().any(|event| matches!(event.what, What::Ejected(..)));
        self.act_on(state, events);
        self.mind_listening(state).await;
        has_ejected
    }

    /// Has everybody go by the configuration and the overrides as they are by now, with `maxconn` connections at most, and
    /// does what follows for servers that went down or were removed; workers that do not yet. Everything has an id to have.
    pub(super) async fn publish_next(&self, state: &mut State, maxconn: u32) -> Vec<u16> {
        let State { wards, config, overrides, sets, .. } = &mut *state;
        wards.adopt(config, overrides, false);
        let share = room::buffer_share(&config.process, sets.workers());
        let events = self.news(state);
        let now = self.clock.now();
        state.conditions = state.wards.conditions(now);
        let before = self.published.current();
        let next = before.next(&state.config, maxconn, &state.overrides, &state.conditions, now);
        let mut next = next.expect("ids were found before");
        next.buffer_share = Some(share);
        let next = Arc::new(next);
        let silent = self.publish(state, Arc::clone(&next)).await;
        self.act_on(state, events);
        self.end_removed(&before, &next);
        silent
    }

    /// What has become of servers of the configuration that is in effect.
    fn news(&self, state: &mut State) -> Vec<Event> {
        let snapshot = self.published.current();
        let failures = failures(&snapshot);
        state.wards.refresh(&state.config, &state.overrides, &failures, self.clock.now())
    }

    /// Tells of it, and ends sessions where that is asked for. The snapshot in effect has it already.
    fn act_on(&self, state: &State, events: Vec<Event>) {
        for Event { name: (pool, server), what } in events {
            match what {
                What::Up(reason) => log::info!("server {pool}/{server} is up: {reason}"),
                What::Down(reason) => {
                    log::warn!("server {pool}/{server} is down: {reason}");
                    self.went_down(state, &pool, &server);
                }
                What::Ejected(time, failures) => log::warn!(
                    "server {pool}/{server} is ejected for {time:?}: {failures} connects in a row have failed"
                ),
                What::Back => log::info!("server {pool}/{server} is ejected no longer"),
            }
        }
    }

    fn went_down(&self, state: &State, pool: &str, server: &str) {
        let Some(of_pool) = state.config.pools.iter().find(|one| one.name == pool) else { return };
        let snapshot = self.published.current();
        let Some(id) = snapshot.pool_named(pool) else { return };
        let found = snapshot.members(id).find(|(_, one)| one.removed.is_none() && *one.name == *server);
        if let Some((id, one)) = found
            && of_pool.on_down == OnDown::Close
            && one.connections.count() > 0
        {
            let manner = Manner {
                of: Some(id),
                cause: Cause::ServerDown,
                gently: false,
                rate: Some(of_pool.close_rate),
                timeout: None,
            };
            let (live, why) = (self.myself(), format!("server {pool}/{server} is down"));
            tokio::spawn(async move { live.close_servers(vec![(why, manner)]).await });
        }
    }
}

/// Connects that have failed in a row, by pool and server; nothing where the last one has succeeded.
fn failures(snapshot: &Snapshot) -> HashMap<(&str, &str), u32> {
    let present = snapshot.servers.iter().filter(|server| server.removed.is_none());
    let failing = present.filter(|server| server.tally.failures.get() > 0);
    let name = |server: &Server| &*snapshot.pool(server.pool).name;
    failing.map(|server| ((name(server), &*server.name), server.tally.failures.get())).collect()
}
