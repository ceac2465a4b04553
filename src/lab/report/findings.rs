//! What the rounds of a run say together: medians and their intervals for each subject and workload, and ratios
//! between subjects.

use std::collections::{BTreeMap, BTreeSet};

use crate::lab::results::{Cell, Count, Failure, Kind, RatePoint, Results, Round, Subject, WorkloadInfo};
use crate::lab::statistics::Summary;
use crate::lab::workload::{Unit, Work};

/// The fewest rounds whose whole range holds the true median with a chance of 95 %: 1 - 2 · 0.5⁶ is 97 %, and of five
/// it is 94 %.
pub const ENOUGH_ROUNDS: usize = 6;

/// From three rounds on, but fewer than [`ENOUGH_ROUNDS`], only a difference of a quarter is believed: what one and the
/// same code path was seen to differ by from itself (docs/method.md).
pub const FEW_ROUNDS_MARGIN: f64 = 1.25;

/// Above this share of its CPU the load is taken for what limited the throughput.
pub const LOAD_LIMIT: f64 = 0.95;

/// By what a workload is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// CPU time for a unit of work.
    Cpu,
    /// The median time from before connect(2) to the first byte.
    FirstByte,
    /// Private memory for a connection.
    Memory,
    /// p99 at 20,000 requests a second.
    Rate,
}

/// The rate, in requests a second, whose latency judges [`Work::Rate`]: one that every serious proxy keeps.
const JUDGED_RATE: f64 = 20_000.0;

impl Measure {
    /// By what this work is judged.
    #[must_use]
    pub fn of(work: Work) -> Self {
        match work {
            Work::Idle | Work::SlowReaders => Self::Memory,
            Work::Rate => Self::Rate,
            Work::FirstByte => Self::FirstByte,
            _ => Self::Cpu,
        }
    }

    /// Its value in a round: microseconds or bytes; `None` when it was not measured.
    #[must_use]
    pub fn value(self, round: &Round) -> Option<f64> {
        let value = match self {
            Self::Cpu => round.cpu_per_unit(),
            Self::FirstByte => round.latency?.p50,
            Self::Memory => {
                let memory = round.memory?;
                memory.private as f64 / memory.connections as f64
            }
            Self::Rate => round.curve.iter().find(|point| point.offered == JUDGED_RATE)?.latency.p99,
        };
        (value.is_finite() && value > 0.0).then_some(value)
    }

    /// Its name: `CPU per request`.
    #[must_use]
    pub fn name(self, unit: Unit) -> String {
        match self {
            Self::Cpu => format!("CPU per {}", unit.name()),
            Self::FirstByte => "time to the first byte".to_owned(),
            Self::Memory if unit == Unit::IdleConnection => "memory per idle connection".to_owned(),
            Self::Memory => "memory per connection".to_owned(),
            Self::Rate => "p99 at 20,000 requests/s".to_owned(),
        }
    }
}

/// Whether `name` is a call that copies bytes between the kernel and the program. One that nobody knows does not.
#[must_use]
pub fn copies(name: &str) -> bool {
    const COPYING: [&str; 15] = [
        "recv",
        "recvfrom",
        "recvmsg",
        "recvmmsg",
        "read",
        "readv",
        "preadv",
        "send",
        "sendto",
        "sendmsg",
        "sendmmsg",
        "write",
        "writev",
        "IORING_OP_RECV",
        "IORING_OP_SENDMSG",
    ];
    COPYING.contains(&name)
}

/// What the rounds of one subject with one workload say together. `None`: it was not measured, or cannot be here.
#[derive(Clone, Debug)]
pub struct Figures {
    /// By what the workload is judged ([`Measure`]), in microseconds or bytes.
    pub cost: Option<Summary>,
    /// CPU time for a unit, in microseconds.
    pub cpu: Option<Summary>,
    /// Units in a second.
    pub throughput: Option<Summary>,
    /// Latency in microseconds: p50, p99, p99.9.
    pub latency: Option<[Summary; 3]>,
    /// System calls.
    pub calls: Option<Calls>,
    /// Times that a thread went to sleep, for a message.
    pub wake_ups: Option<Summary>,
    /// Bytes copied in or out of the program, for a byte moved: 2 is once in and once out.
    pub copied: Option<Summary>,
    /// Bytes for a connection: private to the proxy, and the kernel's for its sockets.
    pub memory: Option<[Summary; 2]>,
    /// The most that was resident at a time, in bytes.
    pub peak: Option<Summary>,
    /// How busy clients and back ends were, as a share of a CPU.
    pub load_cpu: Option<Summary>,
    /// Rounds that succeeded.
    pub rounds: usize,
    /// Rounds that failed.
    pub failures: usize,
}

impl Figures {
    fn of(cell: &Cell, info: &WorkloadInfo) -> Self {
        let over = |value: &dyn Fn(&Round) -> Option<f64>| Summary::of(cell.rounds.iter().filter_map(value));
        let (_, messages) = info.unit.message();
        let idle = info.work == Work::Idle;
        let by_memory = Measure::of(info.work) == Measure::Memory;
        let latency = |part: fn(&Round) -> Option<f64>| over(&part);
        let percentiles = [
            latency(|round| round.latency.map(|latency| latency.p50)),
            latency(|round| round.latency.map(|latency| latency.p99)),
            latency(|round| round.latency.map(|latency| latency.p999)),
        ];
        let share = |round: &Round, bytes: i64| {
            round.memory.map(|memory| bytes as f64 / memory.connections as f64).filter(|_| by_memory)
        };
        let memory = [
            over(&|round| share(round, round.memory?.private)),
            over(&|round| share(round, round.memory?.kernel)),
        ];
        Self {
            cost: over(&|round| Measure::of(info.work).value(round)),
            cpu: over(&|round| Some(round.cpu_per_unit())),
            throughput: over(&|round| Some(round.throughput()).filter(|_| !idle)),
            latency: all(percentiles),
            calls: Calls::of(cell, info.unit),
            wake_ups: over(&|round| Some(round.switches?[0] as f64 / (round.units * messages))),
            copied: over(&|round| copied(round.calls.as_ref()?, round.bytes)).or_else(|| {
                let census = cell.census.as_ref()?;
                Summary::of(copied(&census.traced, census.bytes))
            }),
            memory: all(memory),
            peak: over(&|round| Some(round.memory?.peak as f64)),
            load_cpu: over(&|round| Some(round.load_cpu)),
            rounds: cell.rounds.len(),
            failures: cell.failures.len(),
        }
    }

    /// Whether the load was what limited the throughput.
    #[must_use]
    pub fn limited_by_load(&self) -> bool {
        self.load_cpu.is_some_and(|load| load.median > LOAD_LIMIT)
    }
}

/// All of them, or nothing.
fn all<const N: usize>(summaries: [Option<Summary>; N]) -> Option<[Summary; N]> {
    let found: Vec<Summary> = summaries.into_iter().flatten().collect();
    found.try_into().ok()
}

/// Bytes copied for a byte moved; `None` if none of the calls is known to move bytes.
fn copied(calls: &BTreeMap<String, Count>, moved: u64) -> Option<f64> {
    let known = calls.keys().any(|name| copies(name) || name == "splice");
    let copied: u64 = calls.iter().filter(|(name, _)| copies(name)).map(|(_, count)| count.bytes).sum();
    (known && moved > 0).then(|| copied as f64 / moved as f64)
}

/// System calls for a message ([`Unit::message`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Calls {
    /// Counted by a tracer, for a few messages; else by the program itself, for all.
    pub traced: bool,
    /// How many, by name: the median of the rounds.
    pub by_name: BTreeMap<String, f64>,
}

impl Calls {
    /// What the program counted; if it counts nothing, what a tracer saw.
    fn of(cell: &Cell, unit: Unit) -> Option<Self> {
        Self::counted(cell, unit).or_else(|| Self::traced(cell))
    }

    fn counted(cell: &Cell, unit: Unit) -> Option<Self> {
        let (_, messages) = unit.message();
        let rounds = cell.rounds.iter().filter(|round| round.units > 0.0);
        let counts: Vec<_> = rounds.filter_map(|round| Some((round, round.calls.as_ref()?))).collect();
        let names: BTreeSet<&String> = counts.iter().flat_map(|(_, calls)| calls.keys()).collect();
        let per_message = |name: &String| {
            let in_rounds = counts.iter().map(|(round, calls)| {
                calls.get(name).map_or(0.0, |count| count.calls as f64) / (round.units * messages)
            });
            Summary::of(in_rounds).map(|summary| (name.clone(), summary.median))
        };
        let by_name = names.into_iter().filter_map(per_message).collect();
        (!counts.is_empty()).then_some(Self { traced: false, by_name })
    }

    fn traced(cell: &Cell) -> Option<Self> {
        let census = cell.census.as_ref().filter(|census| census.messages > 0.0)?;
        let by_name =
            census.traced.iter().map(|(name, count)| (name.clone(), count.calls as f64 / census.messages));
        Some(Self { traced: true, by_name: by_name.collect() })
    }

    /// All of them together.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.by_name.values().sum()
    }

    /// By what each name's count here is above that of `other`, the largest differences first; none below 0.02.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<(String, f64)> {
        let names: BTreeSet<&String> = self.by_name.keys().chain(other.by_name.keys()).collect();
        let of = |calls: &Self, name| calls.by_name.get(name).copied().unwrap_or(0.0);
        let mut differences: Vec<_> = names
            .into_iter()
            .map(|name| (name.clone(), of(self, name) - of(other, name)))
            .filter(|(_, difference)| difference.abs() > 0.02)
            .collect();
        differences.sort_by(|(_, one), (_, other)| other.abs().total_cmp(&one.abs()));
        differences
    }
}

/// What there is to show of a subject with a workload.
#[derive(Clone, Debug)]
pub enum Standing<'a> {
    /// At least one round succeeded.
    Measured(Box<Figures>),
    /// None did; the first failure.
    Failed(&'a Failure),
    /// None was tried, and why.
    Skipped(&'a str),
}

/// The results and what follows from them.
#[derive(Clone, Debug)]
pub struct Findings<'a> {
    /// From what all is derived.
    pub results: &'a Results,
    /// By subject and workload.
    standings: BTreeMap<&'a str, BTreeMap<&'a str, Standing<'a>>>,
}

impl<'a> Findings<'a> {
    /// Derives the figures.
    #[must_use]
    pub fn of(results: &'a Results) -> Self {
        let of_subject = |subject: &'a Subject| {
            let workloads = results.workloads.iter();
            workloads.map(|info| (&*info.name, standing(results, subject, info))).collect()
        };
        let standings =
            results.subjects.iter().map(|subject| (&*subject.name, of_subject(subject))).collect();
        Self { results, standings }
    }

    /// What there is to show of a subject with a workload.
    #[must_use]
    pub fn standing(&self, subject: &str, workload: &str) -> &Standing<'a> {
        let found = self.standings.get(subject).and_then(|workloads| workloads.get(workload));
        found.unwrap_or(&Standing::Skipped("it is not part of this run"))
    }

    /// The figures of a subject with a workload, if any round succeeded.
    #[must_use]
    pub fn figures(&self, subject: &str, workload: &str) -> Option<&Figures> {
        match self.standing(subject, workload) {
            Standing::Measured(figures) => Some(figures),
            _ => None,
        }
    }

    /// Whether it was measured with any workload.
    #[must_use]
    pub fn has_figures(&self, subject: &str) -> bool {
        self.results.workloads.iter().any(|info| self.figures(subject, &info.name).is_some())
    }

    /// With whom all are compared: HAProxy, or else `mio`, whichever was measured.
    #[must_use]
    pub fn reference(&self) -> Option<&'a Subject> {
        let measured = |name| self.results.subject(name).filter(|subject| self.has_figures(&subject.name));
        measured("haproxy").or_else(|| measured("mio"))
    }

    /// How many times the reference's cost is that of the subject, round by round, so that what slowed the machine for
    /// a while weighs on both. `None` without a round that both have.
    #[must_use]
    pub fn ratio(&self, info: &WorkloadInfo, subject: &str, reference: &str) -> Option<Summary> {
        let [ours, theirs] = [subject, reference].map(|name| self.results.cell(name, &info.name));
        let (ours, theirs, measure) = (ours?, theirs?, Measure::of(info.work));
        let pairs = ours.rounds.iter().filter_map(|round| {
            let other = theirs.rounds.iter().find(|other| other.round == round.round)?;
            Some(measure.value(round)? / measure.value(other)?)
        });
        Summary::of(pairs)
    }

    /// The system calls of two subjects, both counted in the same way where that can be.
    #[must_use]
    pub fn calls(&self, info: &WorkloadInfo, one: &str, other: &str) -> Option<[Calls; 2]> {
        let cells = [self.results.cell(one, &info.name)?, self.results.cell(other, &info.name)?];
        let both = |calls: &dyn Fn(&Cell) -> Option<Calls>| Some([calls(cells[0])?, calls(cells[1])?]);
        both(&|cell| Calls::counted(cell, info.unit))
            .or_else(|| both(&Calls::traced))
            .or_else(|| both(&|cell| Calls::of(cell, info.unit)))
    }

    /// The subjects of a kind.
    pub fn subjects(&self, kind: Kind) -> impl Iterator<Item = &'a Subject> + use<'a> {
        self.results.subjects.iter().filter(move |subject| subject.kind == kind)
    }
}

fn standing<'a>(results: &'a Results, subject: &'a Subject, info: &WorkloadInfo) -> Standing<'a> {
    let cell = results.cell(&subject.name, &info.name);
    if let Some(cell) = cell.filter(|cell| !cell.rounds.is_empty()) {
        return Standing::Measured(Box::new(Figures::of(cell, info)));
    }
    if let Some(failure) = cell.and_then(|cell| cell.failures.first()) {
        return Standing::Failed(failure);
    }
    let skipped = cell.and_then(|cell| cell.skipped.as_deref());
    let unreached =
        if results.about.interrupted { "the run was interrupted before" } else { "no round was run" };
    Standing::Skipped(skipped.or(subject.absent.as_deref()).unwrap_or(unreached))
}

/// Whether a ratio shows a difference that may be called one.
#[must_use]
pub fn is_shown(ratio: &Summary) -> bool {
    let large = !(1.0 / FEW_ROUNDS_MARGIN..=FEW_ROUNDS_MARGIN).contains(&ratio.median);
    ratio.differs_from(1.0) && (ratio.rounds >= ENOUGH_ROUNDS || large)
}

/// How far a summary can be trusted: `95 %: 0.58 to 0.66, 6 rounds`. Fewer rounds than [`ENOUGH_ROUNDS`] have a range
/// and no such interval.
#[must_use]
pub fn trust(summary: &Summary, show: impl Fn(f64) -> String) -> String {
    let rounds = super::words::counted(summary.rounds, "round");
    let [low, high] = summary.interval.map(show);
    match summary.rounds {
        0 | 1 => rounds,
        few if few < ENOUGH_ROUNDS => format!("{low} to {high} in {rounds}"),
        _ => format!("95\u{a0}%: {low} to {high}, {rounds}"),
    }
}

/// Latency at one rate, over the rounds: medians.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateFigures {
    /// Requests a second that were to be sent.
    pub offered: f64,
    /// Replies a second that came.
    pub achieved: f64,
    /// p50, p99 and p99.9 in microseconds.
    pub latency: [f64; 3],
    /// CPU time of the proxy for a request, in microseconds.
    pub cpu: f64,
}

impl Findings<'_> {
    /// Latency at each rate, from the lowest; empty where no rate was measured.
    #[must_use]
    pub fn curve(&self, subject: &str, workload: &str) -> Vec<RateFigures> {
        let rounds = self.results.cell(subject, workload).map_or(&[][..], |cell| &cell.rounds);
        let points = || rounds.iter().flat_map(|round| &round.curve);
        let mut rates: Vec<f64> = points().map(|point| point.offered).collect();
        rates.sort_by(f64::total_cmp);
        rates.dedup();
        let at = |rate: f64| {
            let median = |value: fn(&RatePoint) -> f64| {
                Summary::of(points().filter(|point| point.offered == rate).map(value)).map(|it| it.median)
            };
            Some(RateFigures {
                offered: rate,
                achieved: median(|point| point.achieved)?,
                latency: [
                    median(|point| point.latency.p50)?,
                    median(|point| point.latency.p99)?,
                    median(|point| point.latency.p999)?,
                ],
                cpu: median(|point| point.cpu)?,
            })
        };
        rates.into_iter().filter_map(at).collect()
    }
}
