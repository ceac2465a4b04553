//! What is to be measured: who, with what, how often, on which CPUs.

use std::path::PathBuf;

use anyhow::{Context, bail};

use super::peers::{self, PEERS};
use super::subject::{Subject, engine_names};
use super::workload::{self, WORKLOADS, Work, Workload};
use crate::sys;

/// What the user asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Engines by name; empty for all, or for one of each model in a quick run.
    pub engines: Vec<String>,
    /// Others' proxies by name; empty for all.
    pub peers: Vec<String>,
    /// Workloads by name; empty for all, or for those of a quick run.
    pub workloads: Vec<String>,
    /// Rounds; `None` for as many as a run of this kind has.
    pub rounds: Option<u32>,
    /// Less of everything: under two minutes on two CPUs.
    pub quick: bool,
    /// Where some peers' programs are.
    pub programs: Vec<(String, PathBuf)>,
    /// Other builds of this program that are measured as well.
    pub builds: Vec<(String, PathBuf)>,
}

/// What is measured.
pub struct Plan {
    pub(super) subjects: Vec<Subject>,
    pub(super) workloads: Vec<&'static Workload>,
    pub(super) rounds: u32,
    /// The number of rounds was asked for: no workload has fewer.
    exactly: bool,
    /// The length of a window, and of what goes before it, in seconds.
    pub(super) window: f64,
    pub(super) warm_up: f64,
    pub(super) quick: bool,
    pub(super) cpus: Cpus,
    /// Descriptors that a process may have.
    pub(super) descriptors: u64,
}

/// Which CPU is whose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpus {
    pub(super) proxy: u32,
    pub(super) clients: u32,
    pub(super) back_end: u32,
}

/// Rounds of a full run and of a quick one.
const ROUNDS: u32 = 6;
const QUICK_ROUNDS: u32 = 3;
/// Engines of a quick run: one of each model.
const QUICK_ENGINES: [&str; 3] = ["mio", "io_uring", "threads"];
/// The name that stands for nobody.
const NONE: &str = "none";

impl Plan {
    /// Makes the plan, and raises this process's limit of descriptors to what it may have.
    ///
    /// # Errors
    /// Names that nobody has, with those that there are.
    pub fn new(options: &Options) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("where this program is")?;
        let mut subjects = vec![Subject::direct()];
        let engines = if options.quick { QUICK_ENGINES.map(str::to_owned).to_vec() } else { engine_names() };
        for name in chosen(&options.engines, &engines) {
            let subject = Subject::engine(&name, &program);
            subjects.push(subject.with_context(|| unknown("engine", &name, &engine_names()))?);
        }
        for (name, program) in &options.builds {
            subjects.push(Subject::build(name, program));
        }
        let known: Vec<String> = PEERS.iter().map(|peer| peer.name.to_owned()).collect();
        if let Some((name, _)) = options.programs.iter().find(|(name, _)| !known.contains(name)) {
            bail!(unknown("peer", name, &known));
        }
        for name in chosen(&options.peers, &known) {
            let peer = peers::named(&name).with_context(|| unknown("peer", &name, &known))?;
            let given =
                options.programs.iter().find(|(known, _)| *known == name).map(|(_, file)| file.as_path());
            subjects.push(Subject::peer(peer, given));
        }
        for (index, subject) in subjects.iter().enumerate() {
            if subjects[..index].iter().any(|other| other.info.name == subject.info.name) {
                bail!("{} is named twice: each is measured once", subject.info.name);
            }
        }
        let (_, descriptors) = sys::raise_descriptor_limit()?;
        Ok(Self {
            subjects,
            workloads: workloads(options)?,
            rounds: options.rounds.unwrap_or(if options.quick { QUICK_ROUNDS } else { ROUNDS }),
            exactly: options.rounds.is_some(),
            window: if options.quick { 0.4 } else { 0.8 },
            warm_up: if options.quick { 0.1 } else { 0.2 },
            quick: options.quick,
            cpus: Cpus::of(&sys::allowed_cpus().0),
            descriptors,
        })
    }

    /// Rounds of one workload: those that take long or hardly vary have fewer, unless a number was asked for.
    pub(super) fn rounds_of(&self, workload: &Workload) -> u32 {
        let most = match workload.work {
            _ if self.exactly => u32::MAX,
            Work::Integrity => 1,
            Work::Idle | Work::SlowReaders | Work::Rate => 3,
            _ => u32::MAX,
        };
        self.rounds.min(most)
    }
}

impl Cpus {
    /// The proxy has the first, clients have the last, and the back end has one of its own if there is one.
    fn of(allowed: &[u32]) -> Self {
        let first = allowed.first().copied().unwrap_or(0);
        let clients = allowed.last().copied().unwrap_or(0);
        let back_end = if allowed.len() > 2 { allowed[allowed.len() - 2] } else { clients };
        Self { proxy: first, clients, back_end }
    }

    /// All of them, each once.
    pub(super) fn all(self) -> Vec<u32> {
        let mut all = vec![self.proxy, self.clients, self.back_end];
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Those that were asked for; all if none was.
fn chosen(asked: &[String], all: &[String]) -> Vec<String> {
    match asked {
        [] => all.to_vec(),
        [none] if none == NONE => Vec::new(),
        some => some.to_vec(),
    }
}

fn workloads(options: &Options) -> anyhow::Result<Vec<&'static Workload>> {
    if options.workloads.is_empty() {
        return Ok(WORKLOADS.iter().filter(|workload| workload.quick || !options.quick).collect());
    }
    let known: Vec<String> = WORKLOADS.iter().map(|workload| workload.name.to_owned()).collect();
    let named = |name: &String| workload::named(name).with_context(|| unknown("workload", name, &known));
    let asked: Vec<&Workload> = options.workloads.iter().map(named).collect::<anyhow::Result<_>>()?;
    Ok(WORKLOADS.iter().filter(|workload| asked.iter().any(|it| it.name == workload.name)).collect())
}

fn unknown(what: &str, name: &str, known: &[String]) -> String {
    format!("there is no {what} {name:?}; there are: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(options: &Options) -> String {
        Plan::new(options).err().expect("it is wrong").to_string()
    }

    #[test]
    fn names_that_nobody_has_are_refused_with_those_that_there_are() {
        let one = |name: &str| vec![name.to_owned()];
        let engine = refusal(&Options { engines: one("epol"), ..Options::default() });
        assert!(engine.contains("\"epol\"") && engine.contains("mio+splice, io_uring, threads"), "{engine}");
        let peer = refusal(&Options { peers: one("traefik"), ..Options::default() });
        assert!(peer.contains("haproxy, nginx, envoy, node, asyncio"), "{peer}");
        let workload = refusal(&Options { workloads: one("pp2"), ..Options::default() });
        assert!(workload.contains("pp1, pp64, pp1000"), "{workload}");
        let programs = vec![("squid".to_owned(), PathBuf::from("/x"))];
        assert!(refusal(&Options { programs, ..Options::default() }).contains("\"squid\""));
    }

    #[test]
    fn nobody_is_measured_twice() {
        let engines = vec!["mio".to_owned(), "readiness".to_owned()];
        assert!(refusal(&Options { engines, ..Options::default() }).contains("mio is named twice"));
    }

    #[test]
    fn the_proxy_has_a_cpu_of_its_own_where_there_are_two() {
        for (allowed, expected) in [(&[5][..], [5, 5, 5]), (&[0, 1], [0, 1, 1]), (&[2, 3, 7, 9], [2, 9, 7])] {
            let Cpus { proxy, clients, back_end } = Cpus::of(allowed);
            assert_eq!([proxy, clients, back_end], expected);
        }
    }

    #[test]
    fn a_quick_plan_has_a_part_of_the_workloads() {
        let quick =
            Plan::new(&Options { quick: true, peers: vec![NONE.to_owned()], ..Options::default() }).unwrap();
        assert!(quick.workloads.len() < WORKLOADS.len() && quick.workloads.len() > 3);
        assert!(quick.subjects.iter().all(|subject| subject.info.kind != super::super::results::Kind::Peer));
    }
}
