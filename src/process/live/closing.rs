//! Sessions that are ended on purpose, so many a second.

use std::collections::BTreeMap;
use std::time::Duration;

use super::list::Found;
use super::{Live, State, refuse};
use crate::cause::Cause;
use crate::control::model::{Closing, Filter, Refusal, RefusalKind};
use crate::control::select::Selection;
use crate::snapshot::{Health, PoolId, Server, ServerId, Snapshot};
use crate::table::Key;
use crate::worker::Command;

/// How often the next ones are told, at most.
const BEAT: Duration = Duration::from_millis(20);

/// Those that are under way.
#[derive(Default)]
pub(super) struct Closings {
    pub(super) running: Vec<Closing>,
    begun: u64,
}

/// How sessions are ended.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    /// Because of this server, which was removed or is down: only as long as it is, and only those that it still has.
    pub(super) of: Option<ServerId>,
    pub(super) cause: Cause,
    /// At the first quiet moment, instead of at once.
    pub(super) gently: bool,
    /// So many a second; `None`: all at once.
    pub(super) rate: Option<u32>,
    /// So long after each was told, or would have been, it is reset if it had no quiet moment.
    pub(super) timeout: Option<Duration>,
}

impl Manner {
    /// What happens to connections, in words.
    fn told(&self) -> String {
        let pace = self.rate.map_or_else(|| "all at once".to_owned(), |rate| format!("{rate} a second"));
        match (self.gently, self.timeout) {
            (false, _) => format!("are closed, {pace}"),
            (true, None) => {
                format!("are asked to leave at their next quiet moment, {pace}; busy ones stay until then")
            }
            (true, Some(timeout)) => format!(
                "are asked to leave at their next quiet moment, {pace}; those without one are reset {timeout:?} later"
            ),
        }
    }
}

impl Live {
    /// Resets the connections that are meant.
    pub(super) async fn kill_those(&self, filter: &Filter, rate: Option<u32>) -> Result<Closing, Refusal> {
        let selection = self.select(filter).await?;
        let found = self.find(&selection).await;
        if found.is_empty() && filter.id.is_some() {
            let message = format!("there is no connection {:?}", filter.id.as_deref().unwrap_or_default());
            return Err(refuse(
                RefusalKind::NotFound,
                message,
                "`tidegate conns` shows those that there are",
            ));
        }
        let manner = Manner { of: None, cause: Cause::Killed, gently: false, rate, timeout: None };
        let mut state = self.state.lock().await;
        Ok(self.begin_closing(&mut state, "kill".to_owned(), targets(found), manner))
    }

    /// Closes what servers of a pool have above their share.
    pub(super) async fn rebalance_pool(&self, pool: &str, rate: Option<u32>) -> Result<Closing, Refusal> {
        let filter = Filter { pool: Some(pool.to_owned()), ..Filter::default() };
        let selection = self.select(&filter).await?;
        let found = self.find(&selection).await;
        let mut state = self.state.lock().await;
        let snapshot = self.published.current();
        let Some(id) = snapshot.pool_named(pool) else {
            let message = format!("pool {pool:?} was removed");
            return Err(refuse(
                RefusalKind::Conflict,
                message,
                "its connections end as its `on_removed` says",
            ));
        };
        let rate = Some(rate.unwrap_or_else(|| snapshot.pool(id).close_rate));
        let manner = Manner { of: None, cause: Cause::Rebalanced, gently: true, rate, timeout: None };
        let targets = surplus(&snapshot, id, found);
        Ok(self.begin_closing(&mut state, format!("rebalance {pool}"), targets, manner))
    }

    /// Ends the sessions of servers that are not to have any.
    pub(super) async fn close_servers(&self, all: Vec<(String, Manner)>) {
        let mut found = self.find(&Selection::default()).await;
        idle_first(&mut found);
        let mut state = self.state.lock().await;
        for (why, manner) in all {
            let of_server = found.iter().filter(|found| found.row.server == manner.of);
            let targets = of_server.map(|found| (found.worker, found.key)).collect();
            self.begin_closing(&mut state, why, targets, manner);
        }
    }

    /// Tells sessions to end, those first that come first.
    fn begin_closing(
        &self,
        state: &mut State,
        why: String,
        targets: Vec<(u16, Key)>,
        manner: Manner,
    ) -> Closing {
        state.closings.begun += 1;
        let connections = targets.len() as u64;
        let closing = Closing { id: state.closings.begun, why, connections, told: 0, rate: manner.rate };
        if connections > 0 {
            log::info!("{}: {connections} connections {}", closing.why, manner.told());
            state.closings.running.push(closing.clone());
            let (live, id) = (self.myself(), closing.id);
            tokio::spawn(async move { live.close_in_turn(id, targets, manner).await });
        }
        closing
    }

    async fn close_in_turn(&self, id: u64, targets: Vec<(u16, Key)>, manner: Manner) {
        let reset = async {
            if let (true, Some(timeout)) = (manner.gently, manner.timeout) {
                tokio::time::sleep(timeout).await;
                self.tell_in_turn(None, &targets, Manner { gently: false, ..manner }).await;
            }
        };
        tokio::join!(self.tell_in_turn(Some(id), &targets, manner), reset);
        self.state.lock().await.closings.running.retain(|closing| closing.id != id);
    }

    /// Tells sessions to end at the rate that is set, and how many were told to whoever asks for the state of `counted`.
    async fn tell_in_turn(&self, counted: Option<u64>, targets: &[(u16, Key)], manner: Manner) {
        let began = self.clock.now();
        let mut told = 0;
        while told < targets.len() && self.has_reason(manner) {
            let due = match manner.rate {
                None => targets.len(),
                Some(rate) => {
                    let ms = self.clock.now().since(began).as_millis();
                    // The first one at once, the next after its share of a second.
                    usize::try_from(1 + ms * u128::from(rate) / 1_000)
                        .unwrap_or(usize::MAX)
                        .min(targets.len())
                }
            };
            if due > told {
                self.end(&targets[told..due], manner).await;
                told = due;
                let mut state = self.state.lock().await;
                let mut running = state.closings.running.iter_mut();
                if let Some(closing) = running.find(|closing| Some(closing.id) == counted) {
                    closing.told = told as u64;
                }
            }
            if told < targets.len() {
                let gap = Duration::from_secs(1) / manner.rate.unwrap_or(u32::MAX);
                tokio::time::sleep(gap.max(BEAT)).await;
            }
        }
    }

    /// A server that is back keeps who was not told to leave.
    fn has_reason(&self, manner: Manner) -> bool {
        let snapshot = self.published.current();
        manner.of.is_none_or(|server| {
            let server = snapshot.server(server);
            server.removed.is_some() || (manner.cause == Cause::ServerDown && server.health == Health::Down)
        })
    }

    /// Tells some sessions to end; those that are gone already are nobody's any more.
    async fn end(&self, targets: &[(u16, Key)], manner: Manner) {
        let Manner { of, cause, gently, .. } = manner;
        let mut by_worker: BTreeMap<u16, Vec<Key>> = BTreeMap::new();
        for (worker, key) in targets {
            by_worker.entry(*worker).or_default().push(*key);
        }
        let state = self.state.lock().await;
        for (worker, keys) in by_worker {
            // In small pieces, so that no turn of a worker is long for it.
            for keys in keys.chunks(64) {
                let command = Command::End { keys: keys.to_vec(), of, cause, gently };
                self.tell(&state.hands[usize::from(worker)], worker, command);
            }
        }
    }
}

fn targets(found: Vec<Found>) -> Vec<(u16, Key)> {
    found.into_iter().map(|found| (found.worker, found.key)).collect()
}

/// Those come first that are idle for the longest time, and last those that are being made.
fn idle_first(found: &mut [Found]) {
    found.sort_by_key(|found| std::cmp::Reverse(found.connection.idle_ms));
}

/// The connections that a pool's servers have above their shares, those first that are idle for the longest time.
fn surplus(snapshot: &Snapshot, pool: PoolId, found: Vec<Found>) -> Vec<(u16, Key)> {
    let mut of_server: BTreeMap<u32, Vec<Found>> = BTreeMap::new();
    let mut total = 0_u64;
    for found in found {
        if let Some(server) = found.row.server {
            total += 1;
            of_server.entry(server.0).or_default().push(found);
        }
    }
    let serving = snapshot.pool(pool).choice.serving;
    let weight_of = |server: &Server| if serving.takes(server) { u64::from(server.weight) } else { 0 };
    let weights: u64 = snapshot.members(pool).map(|(_, server)| weight_of(server)).sum();
    if weights == 0 {
        return Vec::new();
    }
    let mut leaving = Vec::new();
    for (id, mut own) in of_server {
        let share = (total * weight_of(snapshot.server(ServerId(id)))).div_ceil(weights);
        idle_first(&mut own);
        let above = own.len().saturating_sub(usize::try_from(share).unwrap_or(usize::MAX));
        leaving.extend(own.into_iter().take(above));
    }
    idle_first(&mut leaving);
    targets(leaving)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_happens() {
        let at_once = Manner { of: None, cause: Cause::Killed, gently: false, rate: None, timeout: None };
        assert_eq!(at_once.told(), "are closed, all at once");
        let drain =
            Manner { gently: true, rate: Some(100), timeout: Some(Duration::from_secs(30)), ..at_once };
        assert!(
            drain.told().ends_with("100 a second; those without one are reset 30s later"),
            "{}",
            drain.told()
        );
        let for_ever = Manner { timeout: None, ..drain };
        assert!(for_ever.told().ends_with("100 a second; busy ones stay until then"), "{}", for_ever.told());
    }
}
