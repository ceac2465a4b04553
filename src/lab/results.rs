//! What a run of the lab found: the contract between the runner, which fills it, and the report and the comparison,
//! which read it. It is the JSON file beside the report.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::workload::{Unit, Work};

/// The version of this format; a reader refuses any other.
pub const FORMAT: u32 = 1;

/// CPUs that others keep busy, from which on a window is disturbed: it is measured again, once, and a report says so.
pub const DISTURBED: f64 = 0.15;

/// Everything that a run found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// [`FORMAT`].
    pub format: u32,
    /// Where and how it was measured.
    pub about: About,
    /// Who was measured, in the order in which they are shown.
    pub subjects: Vec<Subject>,
    /// What they were measured with, likewise.
    pub workloads: Vec<WorkloadInfo>,
    /// One for each subject and workload.
    pub cells: Vec<Cell>,
}

impl Results {
    /// The subject of this name.
    #[must_use]
    pub fn subject(&self, name: &str) -> Option<&Subject> {
        self.subjects.iter().find(|subject| subject.name == name)
    }

    /// The workload of this name.
    #[must_use]
    pub fn workload(&self, name: &str) -> Option<&WorkloadInfo> {
        self.workloads.iter().find(|info| info.name == name)
    }

    /// What was measured of a subject with a workload.
    #[must_use]
    pub fn cell(&self, subject: &str, workload: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.subject == subject && cell.workload == workload)
    }

    /// Reads the file of a run.
    ///
    /// # Errors
    /// A file that cannot be read, or that is not the results of a run in this [`FORMAT`]: what, where, and what to do.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let file = path.display();
        let text = fs::read_to_string(path).with_context(|| {
            format!(
                "cannot read {file}; `tidegate lab run` leaves results.json beside its report: name that file"
            )
        })?;
        let value: serde_json::Value = serde_json::from_str(&text)
            .with_context(|| format!("{file} is not JSON; name the results.json of a run, or run again"))?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => bail!(
                "{file} has format {format}, and this tidegate reads format {FORMAT}: \
                 use the version that wrote it{}, or run again",
                value["about"]["version"]
                    .as_str()
                    .map_or_else(String::new, |version| format!(" ({version})")),
            ),
            None => bail!("{file} is JSON, but has no \"format\": it is not the results.json of a run"),
        }
        serde_json::from_str(&text).with_context(|| {
            format!("{file} is damaged: not all that results of format {FORMAT} have is there; run again")
        })
    }
}

/// Where and how a run was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct About {
    /// `tidegate 0.1.0`.
    pub version: String,
    /// When it began: RFC 3339, UTC.
    pub date: String,
    /// How long it took, in seconds.
    pub took: f64,
    /// The kernel's release and version.
    pub kernel: String,
    /// The processor's name.
    pub processor: String,
    /// Facts of the machine and the kernel that bear on the figures: name and value.
    pub facts: Vec<(String, String)>,
    /// Rounds that were asked for.
    pub rounds: u32,
    /// The length of one measured window, in seconds.
    pub window: f64,
    /// It was run with `--quick`.
    pub quick: bool,
    /// It was interrupted: some cells have fewer rounds.
    pub interrupted: bool,
    /// Why some figures are not to be trusted here, in words.
    pub warnings: Vec<String>,
}

/// What kind of thing a subject is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// No proxy: clients and back ends alone, the ceiling of what can be seen.
    Direct,
    /// This program with one of its engines.
    Engine,
    /// Another build of this program (`--build NAME=FILE`).
    Build,
    /// Somebody else's proxy, or one of `benches/peers`.
    Peer,
}

/// Who was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Subject {
    /// Its name, unique in a run: `mio`, `haproxy`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// For an engine: `readiness`, `completion` or `blocking`.
    pub model: Option<String>,
    /// What it says of its version.
    pub version: String,
    /// The command line, as a person could type it.
    pub command: String,
    /// The configuration file's text; empty without one.
    pub configuration: String,
    /// Why it was not measured at all, and what to do about it.
    pub absent: Option<String>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkloadInfo {
    /// Its name: `pp64`.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// What is done.
    pub work: Work,
    /// Connections at a time, as far as they fitted here.
    pub connections: u32,
    /// What its costs are counted for.
    pub unit: Unit,
}

/// One subject with one workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// The subject's name.
    pub subject: String,
    /// The workload's name.
    pub workload: String,
    /// The rounds that succeeded, in the order of their numbers. Rounds of the same number in different cells were
    /// measured close to each other: compare those.
    pub rounds: Vec<Round>,
    /// The rounds that failed.
    pub failures: Vec<Failure>,
    /// Why nothing was measured, and which setting would change that.
    pub skipped: Option<String>,
    /// The system calls of a few messages, counted by a tracer that slows them down.
    pub census: Option<Census>,
}

/// A round that failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Its number, from 1; 0 is the census.
    pub round: u32,
    /// What went wrong.
    pub cause: String,
    /// The last words of the proxy on its standard error; may be empty.
    pub last_words: String,
}

/// One measured window.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Round {
    /// Its number, from 1.
    pub round: u32,
    /// How long it was, in seconds.
    pub seconds: f64,
    /// Units of work done in it ([`Unit`]).
    pub units: f64,
    /// Bytes that the clients and back ends received.
    pub bytes: u64,
    /// CPU time that the proxy took in user mode and in the kernel, in seconds; of all its processes and threads, those
    /// of the kernel that work for it (`iou-wrk`) too. Of the direct row: of the back end.
    pub cpu: [f64; 2],
    /// How busy the CPU of clients and back end was, of them; where each has a CPU, the busier one.
    pub load_cpu: f64,
    /// CPUs that others kept busy meanwhile.
    pub other_cpu: f64,
    /// The share of time that the hypervisor gave to others.
    pub steal: f64,
    /// Times that a thread of the proxy went to sleep, and times that it was pushed off its CPU; `None` where threads came
    /// and went meanwhile, or were very many.
    pub switches: Option<[u64; 2]>,
    /// How long replies took; for the greeting, from before connect(2) to its first byte.
    pub latency: Option<Latency>,
    /// System calls of the program's own counters, by name; `None` for others' proxies.
    pub calls: Option<BTreeMap<String, Count>>,
    /// Memory of the proxy.
    pub memory: Option<Memory>,
    /// For [`Work::Rate`]: a point for each rate.
    pub curve: Vec<RatePoint>,
}

impl Round {
    /// CPU time for a unit of work, in microseconds.
    #[must_use]
    pub fn cpu_per_unit(&self) -> f64 {
        (self.cpu[0] + self.cpu[1]) * 1e6 / self.units
    }

    /// Units of work in a second.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        self.units / self.seconds
    }
}

/// How long something took, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    /// How many were timed.
    pub count: u64,
    /// The median.
    pub p50: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
    /// 999 of 1,000 took no longer.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// Calls of one system call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How often it was called.
    pub calls: u64,
    /// How often it failed, EAGAIN included.
    pub failed: u64,
    /// Bytes that it moved.
    pub bytes: u64,
}

/// Memory of a proxy, in bytes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Connections that it is divided by.
    pub connections: u64,
    /// What all of them added to its private memory (`Private_Clean` and `Private_Dirty` of `smaps_rollup`, proc(5)).
    pub private: i64,
    /// What they added to the kernel's memory for sockets and their buffers, clients and back ends included: pages of
    /// `sockstat` and `Slab` of `meminfo`.
    pub kernel: i64,
    /// The most that was resident at a time (`VmHWM`).
    pub peak: u64,
}

/// Latency at one rate.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct RatePoint {
    /// Requests a second that were to be sent.
    pub offered: f64,
    /// Replies a second that came.
    pub achieved: f64,
    /// How long replies took, counted from when the request was to be sent.
    pub latency: Latency,
    /// CPU time of the proxy for a request, in microseconds.
    pub cpu: f64,
}

/// System calls of a few messages, counted by a tracer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Census {
    /// The tracer's name.
    pub tracer: String,
    /// Messages ([`Unit::message`]) that were counted.
    pub messages: f64,
    /// Bytes that clients sent and received meanwhile.
    pub bytes: u64,
    /// What the tracer saw, by name.
    pub traced: BTreeMap<String, Count>,
    /// What the program's own counters said meanwhile; `None` for others' proxies.
    pub own: Option<BTreeMap<String, Count>>,
    /// Where the two differ by more than the edges of the window explain, in words.
    pub differences: Vec<String>,
}
