//! `proxy.toml` as the user writes it, checked and with every default filled in.
//!
//! The names and the defaults are those of the configuration reference. Whatever this version does not
//! do yet is refused by name; nothing is accepted in silence.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::time::Duration;

/// A whole configuration: every value is present and inside its range.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[process]`
    pub process: Process,
    /// `[log]`
    pub log: Log,
    /// `[log.access]`
    pub access: Access,
    /// `[defaults.timeouts]`
    pub timeouts: Timeouts,
    /// `[defaults.tcp]`
    pub tcp: Tcp,
    /// `[defaults.retry]`
    pub retry: Retry,
    /// `[listener.NAME]`, in the order of the file
    pub listeners: Vec<Listener>,
    /// `[pool.NAME]`, in the order of the file
    pub pools: Vec<Pool>,
}

/// `[process]`: what holds for the whole process.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// `workers`: `None` is `"auto"`, one per allowed CPU.
    pub workers: Option<NonZeroU16>,
    /// `cpu_affinity`
    pub cpu_affinity: CpuAffinity,
    /// `engine`
    pub engine: EngineKind,
    /// `maxconn`: client connections in the process; `None` is `"auto"`, what the descriptor limit allows.
    pub maxconn: Option<NonZeroU32>,
    /// `buffer_size` in bytes: one read at most, and the most that one direction holds unsent.
    pub buffer_size: u32,
    /// `buffer_budget` in bytes: all buffers of all workers together.
    pub buffer_budget: u64,
    /// `drain.hard_stop`: how long sessions may go on after a stop signal; `None` is `"off"`, for ever.
    pub hard_stop: Option<Duration>,
}

/// `process.cpu_affinity`: where workers run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuAffinity {
    /// The scheduler decides.
    Off,
    /// Worker `i` runs on the `i`-th CPU that this process is allowed to use.
    Auto,
    /// Worker `i` runs on the `i`-th CPU of this list, over and over.
    Cpus(Vec<u32>),
}

/// How the kernel is asked to move bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// `mio` until measurements say otherwise.
    Auto,
    /// Readiness: epoll, kqueue or IOCP, edge-triggered.
    Mio,
}

/// `[log]`: the program's own messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `level`: messages below it are not written.
    pub level: log::LevelFilter,
    /// `output`
    pub output: LogOutput,
    /// `format`: how a line is written.
    pub format: LogFormat,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
    /// The systemd journal, over its native socket.
    Journald,
    /// A syslog daemon's datagram socket, such as `/dev/log`.
    Syslog(PathBuf),
    /// A file, appended to.
    File(PathBuf),
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `ts=… level=… msg="…"`
    Logfmt,
    /// One JSON object a line.
    Json,
}

/// `[log.access]`: one line for each closed connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// `output`; `None` is `"off"`.
    pub output: Option<LogOutput>,
    /// `format`, with its template where it is one.
    pub format: AccessFormat,
    /// `skip_empty`: no line for a connection that moved no byte and did not fail.
    pub skip_empty: bool,
    /// `sample`: the share of connections that get a line, over 0 and up to 1.
    pub sample: f64,
}

/// How an access line is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// One JSON object a line.
    Json,
    /// `ts=… id=… client=…`
    Logfmt,
    /// The user's own line, with `{field}` for each field; the names are those of [`crate::logging::FIELDS`].
    Template(String),
}

/// `[defaults.timeouts]`; `None` is `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// `connect`: one attempt to reach a server.
    pub connect: Option<Duration>,
    /// `connect_total`: all attempts for one client together.
    pub connect_total: Option<Duration>,
    /// `idle`: both directions quiet.
    pub idle: Option<Duration>,
    /// `half_close`: quiet after one side has sent its FIN.
    pub half_close: Option<Duration>,
}

/// `[defaults.tcp]`: options of both sockets of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// `nodelay`: send small segments at once (RFC 896 off).
    pub nodelay: bool,
    /// `keepalive`; `None` is `"off"`.
    pub keepalive: Option<Keepalive>,
}

/// `keepalive = { idle = …, interval = …, count = … }` (tcp(7)); whole seconds, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Unanswered probes until the peer counts as gone, 1 to 127.
    pub count: u8,
}

/// `[defaults.retry]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// `tries`: attempts in all, each on another server while there is one; 1 to 255.
    pub tries: u8,
    /// `same_server_delay`: the wait before a server is tried again because no other is left.
    pub same_server_delay: Duration,
}

/// `[listener.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// NAME
    pub name: String,
    /// `bind`: at least one address.
    pub bind: Vec<SocketAddr>,
    /// `pool`: an index into [`Config::pools`].
    pub pool: usize,
    /// `backlog`; `None` is `"auto"`, the system's somaxconn.
    pub backlog: Option<NonZeroU32>,
    /// `maxconn`: its connections at a time; `None` is `"off"`.
    pub maxconn: Option<NonZeroU32>,
    /// `at_maxconn`
    pub at_maxconn: AtMaxconn,
}

/// `at_maxconn`: what a client meets when a limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtMaxconn {
    /// It waits in the kernel's backlog.
    Wait,
    /// It is reset.
    Reject,
}

/// `[pool.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// NAME
    pub name: String,
    /// `balance`
    pub balance: Balance,
    /// `[[pool.NAME.server]]`: at least one.
    pub servers: Vec<Server>,
}

/// `balance`: how a pool chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Each in its turn, as often as its weight says.
    RoundRobin,
}

/// `[[pool.NAME.server]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `name`, unique in its pool
    pub name: String,
    /// `addr`
    pub addr: SocketAddr,
    /// `weight`: 0 takes no new connections.
    pub weight: u16,
}
