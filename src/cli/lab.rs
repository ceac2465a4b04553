//! `tidegate lab`: the same workloads over every engine and over others' proxies.

use std::io::{Write as _, stderr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::config::{self, EngineKind};
use crate::lab::results::Results;
use crate::lab::{self, Options, Plan};
use crate::say::say;

const HELP: &str = "\
Examples:
  tidegate lab run --quick              a first answer in two minutes, in lab-report/report.html
  tidegate lab run                      everything: about half an hour on a machine that does nothing else
  tidegate lab run --engines mio,io_uring --peers haproxy --workloads pp64,bulk16 --rounds 10
  tidegate lab trace                    one request, call by call, in two engines side by side

docs/method.md, in the source tree, says what is measured, how, and what is not claimed.";

const RUN_HELP: &str = "\
All take turns, in rounds. Each measurement has a back end, a proxy and clients of its own, each a process on
its own CPU as far as there are CPUs; every byte is accounted for. Ctrl-C ends a run early and keeps what was
measured. All traffic stays on 127.0.0.0/8.

Examples:
  tidegate lab run --quick
  tidegate lab run --engines mio,io_uring,threads --peers none --workloads pp1,pp64,pp1000
  tidegate lab run --peer envoy=./envoy --rounds 10 --out today
  tidegate lab run --engines mio --build before=./tidegate-before --peers none    a change, before and after

Exit codes: 0 success, 1 the start or a cell of an engine failed, 2 the command line is wrong.";

const COMPARE_HELP: &str = "\
Each cost after the change is told as a multiple of the one before, with its uncertainty, and where both runs
measured the same reference (HAProxy, say) also relative to that: what changed for both is the machine's drift.
Calls for a message are told where they differ, by name.

Example:
  tidegate lab compare before/results.json after/results.json";

const TRACE_HELP: &str = "\
A proxy with one worker is started for each engine, with one client and one server on 127.0.0.1. When the
connection has been used for a while, one request of 100 bytes and its reply are recorded, and everything that
the proxy did for them is shown in the order of time. With strace installed, one more request is traced, and
it is said whether the kernel saw the same system calls.

Examples:
  tidegate lab trace                                  mio and io_uring
  tidegate lab trace --engine threads                 one alone
  tidegate lab trace --engine epoll_level --engine aio --svg request.svg

Exit codes: 0 success, 1 an engine cannot run here or a request failed, 2 the command line is wrong.";

/// `tidegate lab …`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct Lab {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure, and write a report
    #[command(after_help = RUN_HELP)]
    Run(Run),
    /// Show what happens to one request: who calls whom, who sleeps, where bytes are copied
    #[command(after_help = TRACE_HELP)]
    Trace(Trace),
    /// Say what changed from one run to another
    #[command(after_help = COMPARE_HELP)]
    Compare(Compare),
}

#[derive(Debug, Args)]
struct Trace {
    /// The engine; may be given twice [default: mio and io_uring, or threads where io_uring cannot run]
    #[arg(long = "engine", value_name = "ENGINE")]
    engines: Vec<EngineKind>,
    /// Draw a picture into this file as well
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Compare {
    /// The results.json of the run before
    before: PathBuf,
    /// The results.json of the run after
    after: PathBuf,
}

#[derive(Debug, Args)]
struct Run {
    /// Engines to measure, with commas between; `mio+splice` is mio with splice = "auto" [default: all;
    /// mio, io_uring and threads with --quick]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    engines: Vec<String>,
    /// Others' proxies: haproxy, nginx, envoy, node, asyncio, or none [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    peers: Vec<String>,
    /// Workloads [default: all; five with --quick]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    workloads: Vec<String>,
    /// How often everybody is measured [default: 6, or 3 with --quick]
    #[arg(long, value_name = "N")]
    rounds: Option<NonZeroU32>,
    /// The directory for report.html and results.json
    #[arg(long, value_name = "DIR", default_value = "lab-report")]
    out: PathBuf,
    /// Fewer and shorter measurements: under two minutes on two CPUs
    #[arg(long)]
    quick: bool,
    /// Where the program of one of the peers is; may be given for each
    #[arg(long = "peer", value_name = "NAME=FILE", value_parser = named_file)]
    programs: Vec<(String, PathBuf)>,
    /// Measure another build of tidegate as well, with its default engine, under a name of your choice
    #[arg(long = "build", value_name = "NAME=FILE", value_parser = named_file)]
    builds: Vec<(String, PathBuf)>,
}

impl Lab {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run(run) => run.execute(),
            Command::Trace(trace) => trace.execute(),
            Command::Compare(Compare { before, after }) => {
                let comparison = lab::compare::compare(&Results::read(&before)?, &Results::read(&after)?);
                say(comparison)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

impl Trace {
    fn execute(self) -> anyhow::Result<ExitCode> {
        if self.engines.len() > lab::trace::MOST {
            let _ = writeln!(stderr(), "tidegate: a picture has room for {} engines", lab::trace::MOST);
            return Ok(ExitCode::from(2));
        }
        lab::trace::trace(&self.engines, self.svg.as_deref())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Run {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let plan = match Plan::new(&Options {
            engines: self.engines,
            peers: self.peers,
            workloads: self.workloads,
            rounds: self.rounds.map(NonZeroU32::get),
            quick: self.quick,
            programs: self.programs,
            builds: self.builds,
        }) {
            Ok(plan) => plan,
            Err(error) => {
                let _ = writeln!(stderr(), "tidegate: {error:#}");
                return Ok(ExitCode::from(2));
            }
        };
        lab::run(&plan, &self.out)
    }
}

/// The proxy, with its system calls counted or written down.
#[derive(Debug, Args)]
pub(super) struct Proxy {
    #[arg(short, long)]
    config: PathBuf,
    #[arg(long)]
    record: bool,
}

impl Proxy {
    pub(super) fn execute(&self) -> anyhow::Result<ExitCode> {
        match config::load(&self.config) {
            Ok(config) => lab::serve_counted(&config, self.record).map(|()| ExitCode::SUCCESS),
            Err(report) => Ok(super::refuse(&report)),
        }
    }
}

/// A part that only the lab starts.
#[derive(Debug, Args)]
pub(super) struct Load {
    task: String,
}

impl Load {
    pub(super) fn execute(&self) -> anyhow::Result<ExitCode> {
        lab::serve(&self.task)
    }
}

/// A process of the lab's, kept on one CPU.
#[derive(Debug, Args)]
pub(super) struct Start {
    cpu: u32,
    program: PathBuf,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Start {
    pub(super) fn execute(&self) -> anyhow::Result<ExitCode> {
        match lab::exec_here(self.cpu, &self.program, &self.arguments)? {}
    }
}

/// It is a file's name, too.
fn is_name(text: &str) -> bool {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_+.".contains(letter);
    text.starts_with(|letter: char| letter.is_ascii_alphanumeric()) && text.chars().all(allowed)
}

fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if is_name(name) && !file.is_empty() => Ok((name.to_owned(), file.into())),
        _ => Err("a name of letters, digits, -, _, + and ., and a file, such as haproxy=/usr/sbin/haproxy"
            .to_owned()),
    }
}
