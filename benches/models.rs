//! What each engine costs, side by side: the table of `docs/models.md`.
//!
//! One worker of each engine on the first CPU; all clients and servers on one thread on the last. CPU is that of the
//! whole process. Rounds are interleaved and a cell is their median. `cargo bench --bench models`, on a machine that
//! does nothing else; takes some minutes. With names behind `--`, only those engines.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A benchmark reads clocks.

#[path = "models/load.rs"]
mod load;
#[path = "../tests/support/mod.rs"]
mod support;

use std::io;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use load::{Load, Work};
use rustix::process::{Pid, Signal, kill_process};
use support::gate::{Config, Gate};
use support::process::{anonymous_bytes, cpu_ticks};
use tidegate::config::{EngineKind, Uring};
use tidegate::engine::{FACTS, probe};
use tidegate::sys;

const ROUNDS: usize = 3;
const SPAN: Duration = Duration::from_millis(700);
/// How long a load may take to begin or to end.
const SETTLE: Duration = Duration::from_secs(5);
const CHURN_CLIENTS: usize = 64;
/// Few enough that the ports of closed connections do not run out.
const CHURN_CONNECTIONS: u64 = 6_000;
const IDLE_CONNECTIONS: usize = 1_000;

/// One line of the table.
struct Variant {
    name: String,
    gate: Gate,
    load: Load,
    config: Config,
    cells: [Vec<f64>; WORKLOADS.len()],
}

#[derive(Clone, Copy)]
enum Workload {
    Requests(usize),
    Streams(usize),
    Churn,
}

const WORKLOADS: [Workload; 6] = [
    Workload::Requests(1),
    Workload::Requests(64),
    Workload::Requests(1_000),
    Workload::Streams(1),
    Workload::Streams(16),
    Workload::Churn,
];

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|it| it == "--bench") || arguments.iter().any(|it| it == "--test") {
        println!("nothing is measured without --bench");
        return Ok(());
    }
    sys::raise_descriptor_limit()?;
    let wanted: Vec<&str> = arguments.iter().map(String::as_str).filter(|it| !it.starts_with('-')).collect();
    let mut variants = Vec::new();
    for kind in FACTS.map(|facts| facts.kind) {
        if let Err(why) = probe(kind, Uring::default(), 1) {
            println!("{} cannot run here: {}", kind.name(), why.cause);
        } else if wanted.is_empty() || wanted.contains(&kind.name()) {
            variants.push(Variant::start(kind, "off")?);
            if kind == EngineKind::Auto.resolved() {
                variants.push(Variant::start(kind, "auto")?);
            }
        }
    }
    // After the programs were started, which inherit it.
    let (cpus, _) = sys::allowed_cpus();
    if let Some(last) = cpus.last() {
        sys::pin_to(*last)?;
    }
    for round in 1..=ROUNDS {
        for (index, workload) in WORKLOADS.into_iter().enumerate() {
            eprintln!("round {round} of {ROUNDS}: {}", workload.name());
            for variant in &mut variants {
                let cell = variant.measure(workload)?;
                variant.cells[index].extend(cell);
            }
        }
    }
    println!("\nEach cell is the median of {ROUNDS} rounds, in brackets the least; CPU is the proxy's.\n");
    let heads = WORKLOADS.map(Workload::name).join(" | ");
    println!("| engine | {heads} | bytes an idle connection | calls a message on 1 | on 64 |");
    println!("|---{}|", "|---:".repeat(WORKLOADS.len() + 3));
    for variant in &mut variants {
        let cells: Vec<String> = variant.cells.iter_mut().map(|rounds| median(rounds)).collect();
        let calls = [variant.calls(1)?, variant.calls(64)?].map(|calls| or_dash(calls, 2));
        let idle = or_dash(variant.bytes_at_rest()?, 0);
        println!("| {} | {} | {idle} | {} |", variant.name, cells.join(" | "), calls.join(" | "));
    }
    Ok(())
}

impl Variant {
    fn start(kind: EngineKind, splice: &str) -> io::Result<Self> {
        let load = Load::new()?;
        let config = Config::new(kind.name()).access_log("output = \"off\"").server(load.address());
        let config = config.process(&format!("splice = \"{splice}\""));
        let gate = start(&config);
        let name = if splice == "off" { kind.name().to_owned() } else { format!("{} + splice", kind.name()) };
        Ok(Self { name, gate, load, config, cells: Default::default() })
    }

    /// What one unit of the work costs; `None` when the engine does not carry so many connections.
    fn measure(&mut self, workload: Workload) -> io::Result<Option<f64>> {
        let (work, clients) = match workload {
            Workload::Requests(clients) => (Work::PingPong, clients),
            Workload::Streams(clients) => (Work::Stream, clients),
            Workload::Churn => (Work::Churn, CHURN_CLIENTS),
        };
        self.load.begin(work, clients, self.gate.address())?;
        let warm = |it: &load::Counts| it.answers >= 4 * clients as u64 || it.bytes >= 64 << 20;
        let is_warm = self.load.until(SETTLE, warm)?;
        let (before, ticks) = (self.load.counts, cpu_ticks(self.gate.pid()));
        match workload {
            Workload::Churn => {
                self.load.until(SETTLE, |it| it.answers >= before.answers + CHURN_CONNECTIONS)?;
            }
            _ => {
                self.load.until(SPAN, |_| false)?;
            }
        }
        let (after, ticks) = (self.load.counts, cpu_ticks(self.gate.pid()) - ticks);
        self.load.end(SETTLE)?;
        thread::sleep(Duration::from_millis(50));
        let cpu_us = ticks as f64 * 10_000.0;
        let unit = match workload {
            Workload::Streams(_) => cpu_us / 1e6 / ((after.bytes - before.bytes) as f64 / 1e9),
            _ => cpu_us / (after.answers - before.answers) as f64,
        };
        Ok((is_warm && after.errors == 0 && ticks > 0 && unit.is_finite()).then_some(unit))
    }

    /// System calls for one message that passes through, counted by the kernel, which does not slow them down.
    fn calls(&mut self, clients: usize) -> io::Result<Option<f64>> {
        self.load.begin(Work::Rest, clients, self.gate.address())?;
        self.load.until(SETTLE, |it| it.answers == clients as u64)?;
        let perf = count_calls(self.gate.pid());
        // It counts from before the first message until after the last.
        thread::sleep(SPAN);
        let before = self.load.counts.answers;
        self.load.wake()?;
        self.load.until(SPAN, |_| false)?;
        self.load.rest()?;
        let answers = self.load.counts.answers - before;
        let Some(perf) = perf else { return self.load.end(SETTLE).map(|()| None) };
        kill_process(Pid::from_child(&perf), Signal::INT)?;
        let said = perf.wait_with_output()?;
        self.load.end(SETTLE)?;
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        let count = said.lines().find_map(|line| line.split(',').next()?.parse::<f64>().ok());
        // A request is one message, and its answer another.
        Ok(count.map(|count| count / (2 * answers) as f64))
    }

    /// Memory that each connection adds to a process that has seen traffic before.
    fn bytes_at_rest(&mut self) -> io::Result<Option<f64>> {
        let gate = start(&self.config);
        for work in [Work::Stream, Work::PingPong] {
            self.load.begin(work, 1, gate.address())?;
            self.load.until(SPAN, |_| false)?;
            self.load.end(SETTLE)?;
        }
        thread::sleep(SPAN);
        let before = anonymous_bytes(gate.pid());
        self.load.begin(Work::Rest, IDLE_CONNECTIONS, gate.address())?;
        let all = self.load.until(SETTLE, |it| it.answers == IDLE_CONNECTIONS as u64)?;
        thread::sleep(SPAN);
        let after = anonymous_bytes(gate.pid());
        self.load.end(SETTLE)?;
        Ok(all.then(|| after.saturating_sub(before) as f64 / IDLE_CONNECTIONS as f64))
    }
}

/// The program on the first CPU.
fn start(config: &Config) -> Gate {
    let (cpus, _) = sys::allowed_cpus();
    Gate::start_under(&format!("taskset -cp {} $$ >/dev/null", cpus.first().unwrap_or(&0)), config)
}

/// Counts the system calls of a process until it is interrupted, if there is perf and it may.
fn count_calls(pid: u32) -> Option<Child> {
    let mut perf = Command::new("perf");
    perf.args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", &pid.to_string()]);
    perf.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    perf.spawn().inspect_err(|error| eprintln!("system calls are not counted: perf: {error}")).ok()
}

impl Workload {
    fn name(self) -> String {
        match self {
            Self::Requests(1) => "us a request on 1 connection".to_owned(),
            Self::Requests(count) => format!("on {count}"),
            Self::Streams(1) => "s a GB in 1 stream".to_owned(),
            Self::Streams(count) => format!("in {count}"),
            Self::Churn => "us a churned connection".to_owned(),
        }
    }
}

/// The median of all rounds and the least; a dash when one of them failed.
fn median(rounds: &mut [f64]) -> String {
    if rounds.len() < ROUNDS {
        return "–".to_owned();
    }
    rounds.sort_by(f64::total_cmp);
    let median = rounds[rounds.len() / 2];
    let digits = if median < 2.0 { 3 } else { 1 };
    format!("{median:.digits$} ({:.digits$})", rounds[0])
}

fn or_dash(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}
