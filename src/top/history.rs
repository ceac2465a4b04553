//! What was seen in the last minute, and what follows from it: rates, recent failures, recent times.

use std::collections::VecDeque;
use std::time::Duration;

use crate::control::model::{Bytes, Histogram, Listener, Server, Status, Worker};
use crate::tick::Tick;

/// How far back it goes.
const KEPT: Duration = Duration::from_mins(1);

/// The statuses of the last minute, the newest last.
#[derive(Debug, Default)]
pub(super) struct History {
    seen: VecDeque<(Tick, Status)>,
}

/// What goes through something, a second; nothing where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Flow {
    pub(super) new: Option<f64>,
    pub(super) up: Option<f64>,
    pub(super) down: Option<f64>,
}

/// A server with what it did.
pub(super) struct Served<'s> {
    pub(super) pool: &'s str,
    pub(super) server: &'s Server,
    pub(super) flow: Flow,
    /// Attempts that failed in the last minute.
    pub(super) failed: u64,
    /// 99 of 100 connects took no longer, in the last minute.
    pub(super) slowest: Option<f64>,
}

/// A worker with what it did.
pub(super) struct Worked<'s> {
    pub(super) worker: &'s Worker,
    pub(super) turns: Option<f64>,
    /// The part of the time that it was on a CPU.
    pub(super) busy: Option<f64>,
    /// 99 of 100 answers to the control thread took no longer, in the last minute.
    pub(super) slowest: Option<f64>,
}

impl History {
    /// Takes in what the process is now.
    pub(super) fn push(&mut self, at: Tick, status: Status) {
        // Another process counts from the beginning.
        if self.last().is_some_and(|last| status.uptime_s < last.uptime_s) {
            self.seen.clear();
        }
        self.seen.push_back((at, status));
        while self.seen.front().is_some_and(|(first, _)| at.since(*first) > KEPT) {
            self.seen.pop_front();
        }
    }

    pub(super) fn last(&self) -> Option<&Status> {
        self.seen.back().map(|(_, status)| status)
    }

    /// Listeners with what goes through them.
    pub(super) fn listeners(&self) -> Vec<(&Listener, Flow)> {
        let listeners = self.last().into_iter().flat_map(|status| &status.listeners);
        let flow = |listener: &Listener| {
            self.flow(|status| {
                let known = status.listeners.iter().find(|known| known.name == listener.name)?;
                Some((known.accepted, known.bytes))
            })
        };
        listeners.map(|listener| (listener, flow(listener))).collect()
    }

    /// The servers of all pools.
    pub(super) fn servers(&self) -> Vec<Served<'_>> {
        let pools = self.last().into_iter().flat_map(|status| &status.pools);
        pools.flat_map(|pool| pool.servers.iter().map(|server| self.served(&pool.name, server))).collect()
    }

    fn served<'s>(&self, pool: &'s str, server: &'s Server) -> Served<'s> {
        let oldest = self.seen.front().and_then(|(_, status)| find(status, pool, &server.name));
        let before = oldest.filter(|before| attempts(before) <= attempts(server));
        let flow = self.flow(|status| {
            let known = find(status, pool, &server.name)?;
            Some((known.attempts.get("ok").copied().unwrap_or_default(), known.bytes))
        });
        Served {
            pool,
            server,
            flow,
            failed: before.map_or(0, |before| failures(server).saturating_sub(failures(before))),
            slowest: before.and_then(|before| slowest(&before.connect_seconds, &server.connect_seconds)),
        }
    }

    /// Workers with what they did.
    pub(super) fn workers(&self) -> Vec<Worked<'_>> {
        let workers = self.last().into_iter().flat_map(|status| &status.workers);
        let worked = |worker| {
            let of = |status: &Status| -> Option<Worker> { same_worker(status, worker).cloned() };
            let before = self.seen.front().and_then(|(_, status)| of(status));
            Worked {
                worker,
                turns: self.rate(|status| of(status).map(|worker| worker.turns as f64)),
                busy: self.rate(|status| of(status).map(|worker| worker.cpu_seconds)),
                slowest: before.and_then(|before| slowest(&before.answer_seconds, &worker.answer_seconds)),
            }
        };
        workers.map(worked).collect()
    }

    /// All listeners together, as far as they are known.
    pub(super) fn total(&self) -> Flow {
        let add = |one: Option<f64>, other: Option<f64>| match (one, other) {
            (Some(one), Some(other)) => Some(one + other),
            _ => one.or(other),
        };
        let flows = self.listeners().into_iter().map(|(_, flow)| flow);
        flows.fold(Flow::default(), |sum, flow| Flow {
            new: add(sum.new, flow.new),
            up: add(sum.up, flow.up),
            down: add(sum.down, flow.down),
        })
    }

    fn flow(&self, counters: impl Fn(&Status) -> Option<(u64, Bytes)>) -> Flow {
        Flow {
            new: self.rate(|status| counters(status).map(|(new, _)| new as f64)),
            up: self.rate(|status| counters(status).map(|(_, bytes)| bytes.up as f64)),
            down: self.rate(|status| counters(status).map(|(_, bytes)| bytes.down as f64)),
        }
    }

    /// The rate of a counter between the last two statuses. One that fell began again: nothing is known then.
    fn rate(&self, counter: impl Fn(&Status) -> Option<f64>) -> Option<f64> {
        let (now, after) = self.seen.back()?;
        let (before, earlier) = self.seen.iter().rev().nth(1)?;
        let grown = counter(after)? - counter(earlier)?;
        let seconds = now.since(*before).as_secs_f64();
        (grown >= 0.0 && seconds > 0.0).then(|| grown / seconds)
    }
}

fn find<'s>(status: &'s Status, pool: &str, server: &str) -> Option<&'s Server> {
    let pool = status.pools.iter().find(|known| known.name == pool)?;
    pool.servers.iter().find(|known| known.name == server)
}

fn same_worker<'s>(status: &'s Status, worker: &Worker) -> Option<&'s Worker> {
    status.workers.iter().find(|known| known.number == worker.number)
}

fn attempts(server: &Server) -> u64 {
    server.attempts.values().sum()
}

fn failures(server: &Server) -> u64 {
    server.attempts.iter().filter(|(result, _)| *result != "ok").map(|(_, times)| times).sum()
}

/// The bound below which 99 of 100 of what was counted between two histograms lie; none without any.
fn slowest(before: &Histogram, after: &Histogram) -> Option<f64> {
    let total = after.count.checked_sub(before.count).filter(|total| *total > 0)?;
    let mut below = 0;
    for (place, (bound, count)) in after.buckets.iter().enumerate() {
        below += count.saturating_sub(before.buckets.get(place).map_or(0, |(_, count)| *count));
        if below * 100 >= total * 99 {
            return Some(*bound);
        }
    }
    Some(f64::INFINITY)
}
