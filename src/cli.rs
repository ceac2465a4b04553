//! The commands: what can be typed, and which room answers.

#[cfg(unix)]
mod ask;
#[cfg(unix)]
mod conns;
#[cfg(unix)]
mod ctl;
mod engines;
mod explain;
#[cfg(all(feature = "lab", target_os = "linux"))]
mod lab;
mod manual;
#[cfg(unix)]
mod status;
mod table;
#[cfg(unix)]
mod top;

use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::config::{self, Config, EngineKind};
use crate::process::{self, Source};
use crate::say::say;

/// The exit code where the process, or the configuration, does not know what was named, or the process refuses.
const REFUSED: u8 = 3;

/// Where the configuration is looked for when `-c` does not say.
const DEFAULT_FILE: &str = "/etc/tidegate/proxy.toml";

/// What `--version` says after the name; `-V` says the first line only.
const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\nengines:  mio (also called readiness), io_uring (also called completion), threads, epoll_level, poll,",
    "\n          select, sigio, aio; `tidegate engines` says which run here",
    "\nfeatures: ",
    cfg_select! { feature = "lab" => "lab", _ => "none (lab is missing: no `tidegate demo` and `tidegate lab`)" },
    "\nlicence:  ",
    env!("CARGO_PKG_LICENSE"),
);

const AFTER_HELP: &str = "\
Examples:
  tidegate demo                         see it work: three back ends and a proxy on 127.0.0.1:8080
  tidegate demo --for 10s               the same under load for ten seconds, with a summary
  tidegate check -c proxy.toml          show every error of a configuration; nothing is started
  tidegate run -c proxy.toml            run the load balancer until SIGTERM or Ctrl-C
  tidegate ctl status                   what a running process does; see `tidegate ctl --help`
  tidegate conns                        its live connections
  tidegate top                          all of that, drawn anew each second
  tidegate engines                      the ways of doing I/O, and which can be used here
  tidegate lab run --quick              what each of them costs on this machine, beside HAProxy and nginx

Exit codes:
  0  success; for `run`, a stop signal came and the sessions were let finish
  1  an error in the configuration, or the start failed (a port in use, for example)
  2  the command line is wrong
  3  `ctl`, `conns`, `diff`, `explain`: what was named is not there, or the running process refuses

Files:
  /etc/tidegate/proxy.toml              the configuration, unless -c names another
  /run/tidegate/admin.sock              where a running process is asked, unless [admin] names another

Documentation, in the source tree:
  README.md                             where to begin
  docs/balancing.md, docs/health.md, docs/queueing.md, docs/limits.md, docs/sockets.md,
  docs/sni.md, docs/discovery.md, docs/proxy-protocol.md, docs/recipes.md
                                        what each part of a configuration does
  docs/ARCHITECTURE.md, docs/TRAPS.md, docs/models.md, docs/method.md, docs/features.md
  proxy.toml                            a working example with a comment for each option";

const RUN_HELP: &str = "\
Signals:
  TERM, INT, QUIT   stop accepting and let sessions finish, for process.drain.hard_stop at most;
                    a second one stops at once
  HUP               read the configuration again, and go by it without closing what it is not about
  USR1              open the files of both logs anew

Example:
  tidegate run -c proxy.toml --workers 2
  tidegate run -c proxy.toml --engine io_uring";

const CHECK_HELP: &str = "\
Examples:
  tidegate check -c proxy.toml                  proxy.toml: ok: 1 listener, 1 pool, 3 servers
  tidegate check -q -c proxy.toml               says something only when there are errors
  tidegate check -c proxy.toml --dump           the configuration with every default filled in
  tidegate check -c proxy.toml --format json    {\"ok\":true,\"errors\":[]}

It looks at this machine, too: at the user, the token, the folders of log files and the options of sockets; with --dump
it does not. Whether addresses, engines and descriptors can be had, only the start tells.

Exit codes: 0 no error, 1 errors, 2 the command line is wrong.";

const ENGINES_HELP: &str = "\
An engine is chosen with `engine` in [process] or [listener.NAME], or with `run --engine`. When the load
balancer starts it tries each that is asked for; where one cannot run, mio stands in for it, unless
`engine_fallback = false`.

Examples:
  tidegate engines                              a table
  tidegate engines --json                       one JSON array with an object for each";

const COMPLETIONS_HELP: &str = "\
Examples:
  tidegate completions bash > /usr/share/bash-completion/completions/tidegate
  tidegate completions zsh > /usr/local/share/zsh/site-functions/_tidegate
  tidegate completions fish > /usr/share/fish/vendor_completions.d/tidegate.fish";

const MAN_HELP: &str = "\
Examples:
  tidegate man | man -l -                       read the page of the program
  tidegate man --out /usr/local/share/man/man1  a page for each command: tidegate-run.1 and so on";

const DEMO_HELP: &str = "\
The back ends are processes of their own, named as the servers of the configuration, and answer each GET
with their name. Kill one and watch its clients go to the others. They end with the demo.

With --for, built-in clients send requests through the proxy, one connection each; the access log is off
meanwhile, and a table of requests, errors, latency and each back end's share ends it.

Examples:
  tidegate demo
  tidegate demo --for 10s
  tidegate demo -c proxy.toml --for 500ms

Exit codes: 0 success, 1 the start or a request failed, 2 the command line is wrong.";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    long_version = LONG_VERSION,
    about = "A TCP load balancer that moves every byte",
    after_help = AFTER_HELP,
    max_term_width = 110,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the load balancer until a signal ends it
    #[command(after_help = RUN_HELP)]
    Run(Run),
    /// Check a configuration and show every error in it; nothing is bound or started
    #[command(after_help = CHECK_HELP)]
    Check(Check),
    /// Tell a running process what to do: reload, drain, kill, and more
    #[cfg(unix)]
    Ctl(ctl::Ctl),
    /// Show the live connections of a running process
    #[cfg(unix)]
    Conns(conns::Conns),
    /// Watch a running process in the terminal: rates, servers, workers, connections
    #[cfg(unix)]
    Top(top::Top),
    /// Show what a reload with another configuration would do
    #[cfg(unix)]
    Diff(ctl::Diff),
    /// Tell what becomes of a client: which rule, pool and server, and why not the others
    Explain(explain::Explain),
    /// Show the ways of doing I/O: which can be used here, and what each costs
    #[command(after_help = ENGINES_HELP)]
    Engines(Engines),
    /// Write what completes commands and options in a shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(manual::Completions),
    /// Write manual pages
    #[command(after_help = MAN_HELP)]
    Man(manual::Manual),
    /// See it work: the proxy with three small HTTP back ends on this machine
    #[command(after_help = DEMO_HELP)]
    Demo(Demo),
    /// Measure every engine and others' proxies with the same workloads, on this machine
    #[cfg(all(feature = "lab", target_os = "linux"))]
    Lab(lab::Lab),
    /// Measure every engine and others' proxies (not in this build)
    #[cfg(not(all(feature = "lab", target_os = "linux")))]
    #[command(disable_help_flag = true)]
    Lab {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        arguments: Vec<String>,
    },
    /// A process of the lab: back ends or clients
    #[cfg(all(feature = "lab", target_os = "linux"))]
    #[command(hide = true)]
    LabLoad(lab::Load),
    /// The proxy as the lab starts it
    #[cfg(all(feature = "lab", target_os = "linux"))]
    #[command(hide = true)]
    LabProxy(lab::Proxy),
    /// A process of the lab, kept on one CPU
    #[cfg(all(feature = "lab", target_os = "linux"))]
    #[command(hide = true)]
    LabStart(lab::Start),
    /// One back end of the demo, which starts it
    #[cfg(feature = "lab")]
    #[command(hide = true)]
    DemoServer(DemoServer),
}

#[derive(Debug, Args)]
struct File {
    /// The configuration
    #[arg(short, long = "config", value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    file: File,
    /// How the kernel is asked to move bytes, instead of process.engine
    #[arg(long)]
    engine: Option<EngineKind>,
    /// How many workers for each engine, instead of process.workers
    #[arg(long, value_name = "N", value_parser = workers)]
    workers: Option<NonZeroU16>,
}

#[derive(Debug, Args)]
struct Check {
    #[command(flatten)]
    file: File,
    /// Say nothing when there is no error
    #[arg(short, long)]
    quiet: bool,
    /// How the result is written
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Write the configuration that would be in effect, every default filled in, instead of the result
    #[arg(long, conflicts_with_all = ["quiet", "format"])]
    dump: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text: one line when all is well, otherwise each error with its place and its cure
    Human,
    /// One JSON object: {"ok": true|false, "errors": […]}
    Json,
}

#[derive(Debug, Args)]
struct Engines {
    /// Write JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Demo {
    /// A configuration instead of the built-in one; the servers of its first listener must be on loopback
    #[arg(short, long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Send requests for this long (500ms, 10s, 2m, 1h), print a summary and end
    #[arg(long = "for", value_name = "DURATION", value_parser = config::duration)]
    time: Option<Duration>,
}

#[cfg(feature = "lab")]
#[derive(Debug, Args)]
struct DemoServer {
    name: String,
    addr: std::net::SocketAddr,
}

impl Cli {
    /// What the command line says. One that is wrong ends the program.
    #[must_use]
    pub fn read() -> Self {
        Self::try_parse().unwrap_or_else(|mut error| {
            if let (Some(command), Some(ContextValue::String(argument)), ErrorKind::UnknownArgument) =
                (std::env::args().nth(1), error.get(ContextKind::InvalidArg), error.kind())
                && let Some(named) = Self::command().find_subcommand(&command)
                && named.get_arguments().any(|one| one.get_id() == "config")
                && !argument.starts_with('-')
            {
                let tip = format!("a configuration stands behind `-c`: tidegate {command} -c {argument}");
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
            }
            error.exit()
        })
    }

    /// Does what the command line asks. What the user asked to see goes to the standard output, errors of a
    /// configuration to the standard error.
    ///
    /// # Errors
    /// What kept the command from starting, in words for the user.
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run(run) => run.execute(),
            Command::Check(check) => check.execute(),
            #[cfg(unix)]
            Command::Ctl(ctl) => ctl.execute(),
            #[cfg(unix)]
            Command::Conns(conns) => conns.execute(),
            #[cfg(unix)]
            Command::Top(top) => top.execute(),
            #[cfg(unix)]
            Command::Diff(diff) => diff.execute(),
            Command::Explain(explain) => explain.execute(),
            Command::Engines(Engines { json }) => engines::show(json).map(|()| ExitCode::SUCCESS),
            Command::Completions(completions) => {
                completions.execute(&Self::command()).map(|()| ExitCode::SUCCESS)
            }
            Command::Man(manual) => manual.execute(&Self::command()).map(|()| ExitCode::SUCCESS),
            Command::Demo(demo) => demo.execute(),
            #[cfg(all(feature = "lab", target_os = "linux"))]
            Command::Lab(lab) => lab.execute(),
            #[cfg(not(all(feature = "lab", target_os = "linux")))]
            Command::Lab { .. } => anyhow::bail!(
                "the lab needs Linux and the feature `lab`: there, `cargo build --release --features lab` has it"
            ),
            #[cfg(all(feature = "lab", target_os = "linux"))]
            Command::LabLoad(load) => load.execute(),
            #[cfg(all(feature = "lab", target_os = "linux"))]
            Command::LabProxy(proxy) => proxy.execute(),
            #[cfg(all(feature = "lab", target_os = "linux"))]
            Command::LabStart(start) => start.execute(),
            #[cfg(feature = "lab")]
            Command::DemoServer(server) => crate::demo::serve(&server.name, server.addr),
        }
    }
}

impl Run {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let source = Source { file: self.file.config, engine: self.engine, workers: self.workers };
        let (config, files) = source.read();
        let config = match config {
            Ok(config) => config,
            Err(report) => return Ok(refuse(&report)),
        };
        process::run(config, Some((source, files)))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Check {
    /// The configuration, if it has no error, and, but for a mere dump, nothing would hinder a start with it.
    fn checked(&self) -> Result<Config, config::Report> {
        let config = config::load(&self.file.config)?;
        let file = self.file.config.display().to_string();
        let errors = if self.dump { Vec::new() } else { process::hindrances(&config, &file) };
        if errors.is_empty() { Ok(config) } else { Err(config::Report { errors }) }
    }

    fn execute(self) -> anyhow::Result<ExitCode> {
        let config = match self.checked() {
            Ok(config) => config,
            Err(report) if self.format == Format::Json => {
                Verdict::of(&report.errors).tell()?;
                return Ok(ExitCode::FAILURE);
            }
            Err(report) => return Ok(refuse(&report)),
        };
        let warnings = process::oddities(&config);
        if self.format == Format::Human || self.dump {
            use std::io::Write;
            for warning in &warnings {
                // As with errors: whoever is not there to hear does not change the verdict.
                let _ = writeln!(std::io::stderr(), "warning: {warning}");
            }
        }
        if self.dump {
            say(config::dump(&config))?;
        } else if !self.quiet {
            match self.format {
                Format::Human => say(format_args!("{}\n", all_well(&self.file.config, &config)))?,
                Format::Json => Verdict { warnings: &warnings, ..Verdict::of(&[]) }.tell()?,
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The result of a check for programs.
#[derive(Serialize)]
struct Verdict<'r> {
    ok: bool,
    errors: &'r [config::Problem],
    /// What is no error and odd.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'r [String],
}

impl<'r> Verdict<'r> {
    fn of(errors: &'r [config::Problem]) -> Self {
        Self { ok: errors.is_empty(), errors, warnings: &[] }
    }

    fn tell(&self) -> anyhow::Result<()> {
        Ok(say(format_args!("{}\n", serde_json::to_string(self)?))?)
    }
}

#[cfg(feature = "lab")]
impl Demo {
    fn execute(self) -> anyhow::Result<ExitCode> {
        use crate::demo;
        match self.config.map_or_else(demo::built_in, |file| config::load(&file)) {
            Ok(config) => demo::run(config, self.time),
            Err(report) => Ok(refuse(&report)),
        }
    }
}

#[cfg(not(feature = "lab"))]
impl Demo {
    fn execute(self) -> anyhow::Result<ExitCode> {
        anyhow::bail!(
            "built without the feature `lab`, which has the demo: rebuild with `cargo build --release --features lab`"
        )
    }
}

/// Shows the errors of a configuration.
fn refuse(report: &config::Report) -> ExitCode {
    use std::io::Write;
    // With standard error gone there is nobody left to tell; the exit code still does.
    let _ = writeln!(std::io::stderr(), "{report}");
    ExitCode::FAILURE
}

/// Says what is wrong with the command line where that takes more than its grammar.
fn misused(what: &str) -> ExitCode {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "tidegate: {what}");
    ExitCode::from(2)
}

fn all_well(file: &Path, config: &Config) -> String {
    let servers = config.pools.iter().map(|pool| pool.servers.len() + pool.named.len()).sum();
    let lists = match config.pools.iter().map(|pool| pool.lists.len()).sum() {
        0 => String::new(),
        lists => format!(", {} of servers", count(lists, "list")),
    };
    format!(
        "{}: ok: {}, {}, {}{lists}",
        file.display(),
        count(config.listeners.len(), "listener"),
        count(config.pools.len(), "pool"),
        count(servers, "server")
    )
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn workers(text: &str) -> Result<NonZeroU16, String> {
    let number = text.parse().ok().filter(|number: &NonZeroU16| number.get() <= config::MOST_WORKERS);
    number.ok_or_else(|| format!("a whole number from 1 to {}", config::MOST_WORKERS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_version_names_every_engine() {
        for (name, _) in EngineKind::NAMES.into_iter().filter(|(_, kind)| *kind != EngineKind::Auto) {
            assert!(LONG_VERSION.contains(name), "{name}");
        }
    }

    #[test]
    fn one_thing_or_many() {
        assert_eq!([count(0, "pool"), count(1, "pool"), count(2, "pool")], ["0 pools", "1 pool", "2 pools"]);
    }
}
