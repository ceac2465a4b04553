//! A whole run: everybody takes turns, and what came of it is written down.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _, stderr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::cell::{Failed, Measured, Task, measure};
use super::facts::{self, Signs};
use super::plan::Plan;
use super::results::{About, Cell, DISTURBED, FORMAT, Kind, Results, Subject, WorkloadInfo};
use super::room::Room;
use super::subject::{self, Who};
use super::tracer::Tracer;
use super::workload::{Unit, Work, Workload};
use super::{network, now, report};
use crate::say::say;
use crate::sys::signals;

/// A proxy that did not even listen so often in a row is left out from then on.
const FAILED_STARTS: u32 = 2;
/// Workloads whose messages are counted by a tracer; the first of them in a quick run.
const CENSUS: [&str; 4] = ["pp1", "pp64", "bulk16", "churn"];

/// Measures everything, writes the report into `out` and shows its table. Ctrl-C ends it early, and keeps what there is.
///
/// Ends with success unless a cell of this program has failed.
///
/// # Errors
/// The report cannot be written.
pub fn run(plan: &Plan, out: &Path) -> anyhow::Result<ExitCode> {
    // Before the time is spent.
    std::fs::create_dir_all(out).with_context(|| format!("cannot make the directory {}", out.display()))?;
    let stop = Arc::new(AtomicBool::new(false));
    signals::tell_of_stop(&stop)?;
    let mut run = Run::new(plan, stop)?;
    run.measure_all(out);
    run.progress.end();
    let results = run.results();
    // First what cannot be lost: there may be no room for files any more.
    say(report::terminal(&results))?;
    let written = report::write(&results, out)?;
    say(format_args!("\nreport  {}\ndata    {}\n", written.report.display(), written.results.display()))?;
    let ours = |cell: &&Cell| {
        let kind = results.subjects.iter().find(|subject| subject.name == cell.subject).map(|it| it.kind);
        matches!(kind, Some(Kind::Engine | Kind::Build))
    };
    let failed = results.cells.iter().filter(ours).any(|cell| !cell.failures.is_empty());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

struct Run<'p> {
    plan: &'p Plan,
    /// What there was when it began.
    room: Room,
    stop: Arc<AtomicBool>,
    began: Instant,
    about: About,
    /// Nothing was left out.
    is_whole: bool,
    tracer: Option<Tracer>,
    lanes: Vec<Lane<'p>>,
    progress: Progress,
}

/// A subject, and what came of it.
struct Lane<'p> {
    subject: &'p subject::Subject,
    /// In the order of the plan's workloads.
    cells: Vec<Cell>,
    line: String,
    configuration: String,
    failed_starts: u32,
}

impl<'p> Run<'p> {
    fn new(plan: &'p Plan, stop: Arc<AtomicBool>) -> anyhow::Result<Self> {
        let no_network = network::enter();
        let room = Room::now(plan.descriptors);
        let lane = |subject: &'p subject::Subject| Lane {
            subject,
            cells: plan.workloads.iter().map(|workload| cell(subject, workload, &room)).collect(),
            line: String::new(),
            configuration: String::new(),
            failed_starts: 0,
        };
        let (tracer, no_tracer) = match Tracer::found() {
            Ok(tracer) => (Some(tracer), None),
            Err(why) => (None, Some(why)),
        };
        let mut warnings = Signs::now(&plan.cpus.all()).warnings();
        warnings.extend(no_network);
        warnings
            .extend(no_tracer.map(|why| format!("system calls of others' proxies are not counted: {why}")));
        let lanes: Vec<Lane<'_>> = plan.subjects.iter().map(lane).collect();
        let progress = Progress::new(plan, &lanes, tracer.is_some());
        let about = About {
            version: format!("tidegate {}", env!("CARGO_PKG_VERSION")),
            date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            kernel: facts::kernel(),
            processor: facts::processor(),
            facts: facts::facts(),
            rounds: plan.rounds,
            window: plan.window,
            quick: plan.quick,
            warnings,
            ..About::default()
        };
        let run = Self { plan, room, stop, began: now(), about, is_whole: false, tracer, lanes, progress };
        say_to_user(&run.preface());
        Ok(run)
    }

    /// What is left out, and why; said before any time is spent.
    fn preface(&self) -> String {
        let mut text = String::new();
        for warning in &self.about.warnings {
            let _ = writeln!(text, "note: {warning}");
        }
        for lane in &self.lanes {
            if let Some(why) = &lane.subject.info.absent {
                let _ = writeln!(text, "left out: {}: {why}", lane.subject.info.name);
            }
        }
        for workload in &self.plan.workloads {
            match self.room.connections(workload) {
                Err(why) => drop(writeln!(text, "left out: {why}")),
                Ok(fewer) if fewer < workload.connections => {
                    let _ = writeln!(text, "{}: {fewer} connections fit here", workload.name);
                }
                Ok(_) => {}
            }
        }
        text
    }

    /// All rounds and the census. What there is is written after each round, in case that nothing comes behind it.
    fn measure_all(&mut self, out: &Path) {
        for round in 1..=self.plan.rounds {
            for (index, workload) in self.plan.workloads.iter().enumerate() {
                if round > self.plan.rounds_of(workload) {
                    continue;
                }
                for lane in shuffled(self.lanes.len(), u64::from(round) << 8 | index as u64) {
                    if self.stop.load(Ordering::Relaxed) {
                        return;
                    }
                    self.measure_one(lane, index, round);
                }
            }
            if let Err(error) = report::write(&self.results(), out) {
                say_to_user(&format!("\nnote: {error:#}; the run goes on\n"));
            }
        }
        self.take_census();
        self.is_whole = !self.stop.load(Ordering::Relaxed);
    }

    fn measure_one(&mut self, lane: usize, index: usize, round: u32) {
        let workload = self.plan.workloads[index];
        let subject = self.lanes[lane].subject;
        let Some(connections) = self.lanes[lane].connections(index, self.plan.workloads[index], &self.room)
        else {
            return;
        };
        self.progress
            .show(&format!("round {round} of {}: {} {}", self.plan.rounds, workload.name, subject.info.name));
        let task = Task { plan: self.plan, subject, workload, connections, round, tracer: None };
        let mut result = measure(&task);
        let disturbed = |measured: &Measured| measured.round.other_cpu > DISTURBED;
        if result.as_ref().is_ok_and(disturbed) && !self.plan.quick && !self.stop.load(Ordering::Relaxed) {
            result = quieter(result, measure(&task));
        }
        self.progress.did(seconds_of(self.plan, workload));
        // What an interrupt has cut off says nothing.
        if !self.stop.load(Ordering::Relaxed) {
            self.lanes[lane].add(index, result);
        }
    }

    /// Counts the system calls of a few messages, when all windows are over.
    fn take_census(&mut self) {
        let Some(tracer) = &self.tracer else { return };
        for (index, workload) in self.plan.workloads.iter().enumerate() {
            if !censused(self.plan, workload) {
                continue;
            }
            for lane in &mut self.lanes {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                if matches!(lane.subject.who, Who::Direct) {
                    continue;
                }
                let Some(connections) = lane.connections(index, self.plan.workloads[index], &self.room)
                else {
                    continue;
                };
                self.progress
                    .show(&format!("counting system calls: {} {}", workload.name, lane.subject.info.name));
                let tracer = Some(tracer);
                let task =
                    Task { plan: self.plan, subject: lane.subject, workload, connections, round: 0, tracer };
                match measure(&task) {
                    Ok(measured) => lane.cells[index].census = measured.census,
                    Err(failed) => lane.cells[index].failures.push(failed.failure),
                }
                self.progress.did(CENSUS_SECONDS);
            }
        }
    }

    /// What is known by now.
    fn results(&self) -> Results {
        let about = About {
            took: self.began.elapsed().as_secs_f64(),
            interrupted: !self.is_whole,
            ..self.about.clone()
        };
        let workload = |workload: &&Workload| WorkloadInfo {
            name: workload.name.to_owned(),
            title: workload.title.to_owned(),
            work: workload.work,
            connections: self.room.connections(workload).unwrap_or(0),
            unit: workload.unit,
        };
        let subject = |lane: &Lane<'_>| Subject {
            command: lane.line.clone(),
            configuration: lane.configuration.clone(),
            ..lane.subject.info.clone()
        };
        Results {
            format: FORMAT,
            about,
            subjects: self.lanes.iter().map(subject).collect(),
            workloads: self.plan.workloads.iter().map(workload).collect(),
            cells: self.lanes.iter().flat_map(|lane| lane.cells.clone()).collect(),
        }
    }
}

/// The quieter of two measurements; what failed has failed.
fn quieter(first: Result<Measured, Failed>, second: Result<Measured, Failed>) -> Result<Measured, Failed> {
    let (first, second) = (first?, second?);
    Ok(if second.round.other_cpu < first.round.other_cpu { second } else { first })
}

fn cell(subject: &subject::Subject, workload: &Workload, room: &Room) -> Cell {
    Cell {
        subject: subject.info.name.clone(),
        workload: workload.name.to_owned(),
        rounds: Vec::new(),
        failures: Vec::new(),
        skipped: subject.info.absent.clone().or_else(|| room.connections(workload).err()),
        census: None,
    }
}

impl Lane<'_> {
    /// Connections for a workload; `None` when nothing is to be measured.
    fn connections(&mut self, index: usize, workload: &Workload, room: &Room) -> Option<u32> {
        let cell = &mut self.cells[index];
        if self.failed_starts >= FAILED_STARTS && cell.skipped.is_none() && cell.rounds.is_empty() {
            cell.skipped = Some(format!("it did not start, {FAILED_STARTS} times"));
        }
        if cell.skipped.is_some() || self.failed_starts >= FAILED_STARTS {
            return None;
        }
        // What does not fit was skipped from the beginning.
        let fit = room.connections(workload).ok()?;
        Some(fit.min(self.subject.most_connections()))
    }

    fn add(&mut self, index: usize, result: Result<Measured, Failed>) {
        match result {
            Ok(measured) => {
                (self.line, self.configuration) = (measured.line, measured.configuration);
                self.failed_starts = 0;
                self.cells[index].rounds.push(measured.round);
            }
            Err(Failed { failure, did_not_start }) => {
                self.failed_starts += u32::from(did_not_start);
                self.cells[index].failures.push(failure);
            }
        }
    }
}

/// The numbers below `count` in an order of their own for each `seed`, so that nobody always comes behind the same one.
fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last, (random.next_u64() % (last as u64 + 1)) as usize);
    }
    order
}

fn censused(plan: &Plan, workload: &Workload) -> bool {
    let names = if plan.quick { &CENSUS[..1] } else { &CENSUS[..] };
    names.contains(&workload.name)
}

/// What a census takes, in seconds, about.
const CENSUS_SECONDS: f64 = 1.2;

/// What one measurement takes, in seconds, about: the first guess, which the run itself corrects.
fn seconds_of(plan: &Plan, workload: &Workload) -> f64 {
    let work = match workload.work {
        Work::Integrity => 0.8,
        Work::Rate => 4.0,
        Work::Idle => 4.0,
        Work::SlowReaders => 2.3,
        _ => plan.window + plan.warm_up,
    };
    work + 0.3 + if workload.unit == Unit::Request { f64::from(workload.connections) / 3e3 } else { 0.0 }
}

/// What is done, and the time that is left.
struct Progress {
    began: Instant,
    done: f64,
    all: f64,
    on_terminal: bool,
}

impl Progress {
    fn new(plan: &Plan, lanes: &[Lane<'_>], with_census: bool) -> Self {
        let mut all = 0.0;
        for (index, workload) in plan.workloads.iter().enumerate() {
            let lanes = lanes.iter().filter(|lane| lane.cells[index].skipped.is_none()).count() as f64;
            all += lanes * f64::from(plan.rounds_of(workload)) * seconds_of(plan, workload);
            if with_census && censused(plan, workload) {
                all += lanes * CENSUS_SECONDS;
            }
        }
        Self { began: now(), done: 0.0, all, on_terminal: stderr().is_terminal() }
    }

    /// Says what is done now.
    fn show(&self, what: &str) {
        let elapsed = self.began.elapsed().as_secs_f64();
        // The guess is believed less and less.
        let pace = (elapsed + 10.0) / (self.done + 10.0);
        let left = Duration::from_secs_f64(((self.all - self.done) * pace).max(0.0));
        let share = (100.0 * self.done / self.all.max(f64::MIN_POSITIVE)).min(99.0);
        let left = match left.as_secs() {
            seconds @ 0..60 => format!("{seconds} s"),
            seconds => format!("{} min", seconds.div_ceil(60)),
        };
        let line = format!("{share:3.0} %  about {left} left  {what}");
        say_to_user(&if self.on_terminal { format!("\r\x1b[K{line}") } else { format!("{line}\n") });
    }

    fn did(&mut self, seconds: f64) {
        self.done += seconds;
    }

    fn end(&self) {
        if self.on_terminal {
            say_to_user("\r\x1b[K");
        }
    }
}

/// Beside the results, on the standard error. With that gone there is nobody who waits for it.
fn say_to_user(text: &str) {
    let _ = stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_everybody_in_another_order() {
        let orders: Vec<Vec<usize>> = (0..20).map(|seed| shuffled(8, seed)).collect();
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..8).collect::<Vec<_>>());
        }
        assert!(orders.windows(2).all(|two| two[0] != two[1]));
        assert_eq!(shuffled(8, 3), orders[3]);
    }
}
