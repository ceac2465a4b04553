//! The open loop: requests at the times of a [`Schedule`], latency counted from those times. A connection has one
//! request at a time.

use std::num::NonZeroU64;
use std::time::Duration;

use rustix::thread::set_current_timer_slack;

use super::{Clients, PATIENCE, latency};
use crate::lab::load::schedule::Schedule;
use crate::lab::load::{ClientsSay, Window};
use crate::lab::measure::Usage;
use crate::lab::results::RatePoint;
use crate::lab::{now, say_line};

/// Requests a second, rising.
const RATES: [f64; 8] = [1e3, 5e3, 1e4, 2e4, 3e4, 4e4, 6e4, 8e4];
/// The part of a point's time that is not measured, at its beginning.
const WARM_UP: f64 = 0.25;
/// Requests that may wait for a connection: more, and the rate is beyond what the proxy can do.
const MOST_QUEUED: usize = 10_000;
/// A point below this share of its rate is the last one.
const SATURATED: f64 = 0.95;

impl Clients {
    /// All rates, one after the other, until one is too much. Work and costs of the window are those of all its points
    /// together, with what goes before and behind them.
    pub(super) fn measure_rates(&mut self) -> anyhow::Result<Window> {
        // By default a sleep may take 50 µs longer, which would be in each latency.
        set_current_timer_slack(NonZeroU64::new(1))?;
        say_line(&ClientsSay::Begin)?;
        let (began, before) = (now(), self.usage()?);
        self.at_rest = (0..self.clients.len()).collect();
        let (mut curve, mut units) = (Vec::new(), 0);
        for rate in RATES {
            self.units = 0;
            let point = self.measure_rate(rate)?;
            let rested = self.until(PATIENCE, |it| it.awaited == 0)?;
            units += self.units;
            curve.push(point);
            if point.achieved < SATURATED * rate || !rested {
                break;
            }
        }
        let window = Window::between(&before, &self.usage()?, began.elapsed().as_secs_f64());
        Ok(Window { units, bytes: self.bytes, curve, ..window })
    }

    /// Has those who are due ask, as far as there are connections that are at rest: the others wait, as they would for a
    /// connection of a pool, and their latency counts from when they were due.
    pub(super) fn ask_from_queue(&mut self) {
        while !self.queue.is_empty()
            && let Some(index) = self.at_rest.pop_front()
            && let Some(due) = self.queue.pop_front()
        {
            self.ask(index, due);
        }
    }

    /// One point.
    fn measure_rate(&mut self, rate: f64) -> anyhow::Result<RatePoint> {
        let start = self.now();
        let mut schedule = Schedule::new(rate, start);
        let measured_from = start + (self.task.window * WARM_UP * 1e9) as u64;
        let end = start + (self.task.window * 1e9) as u64;
        let mut before = None;
        while self.now() < end && self.queue.len() < MOST_QUEUED && self.tally.error.is_none() {
            let at = self.now();
            if before.is_none() && at >= measured_from {
                self.latency.reset();
                before = Some((now(), Usage::of(&self.task.proxy)?, self.units));
            }
            while schedule.due() <= at {
                self.queue.push_back(schedule.due());
                schedule.advance();
            }
            self.ask_from_queue();
            let wait = Duration::from_nanos(schedule.due().min(end).saturating_sub(self.now()));
            for ready in self.epoll.wait_exactly(wait)? {
                self.serve_one(ready);
            }
        }
        let Some((began, before, units)) = before else {
            return Ok(RatePoint { offered: rate, ..RatePoint::default() });
        };
        let used = Usage::of(&self.task.proxy)?.since(&before);
        let replies = (self.units - units) as f64;
        let achieved = replies / began.elapsed().as_secs_f64();
        // Who still waits has waited so long at least.
        let at = self.now();
        let awaited = self.clients.iter().flatten().flat_map(|client| &client.since);
        for since in awaited.chain(&self.queue) {
            self.latency.saturating_record(at.saturating_sub(*since));
        }
        self.queue.clear();
        let cpu = (used.cpu_user + used.cpu_system) * 1e6 / replies.max(1.0);
        Ok(RatePoint { offered: rate, achieved, latency: latency(&self.latency), cpu })
    }
}
