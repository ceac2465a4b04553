//! `proxy.toml` as the user writes it, checked and with every default filled in.
//!
//! The names and the defaults are those of the configuration reference. Whatever this version does not
//! do yet is refused by name; nothing is accepted in silence.

mod address;
mod admin;
mod admission;
mod balance;
mod dns;
mod dump;
mod engine;
mod etcd;
mod health;
mod known;
mod listener;
mod lists;
mod oddities;
mod pool;
mod pools;
mod proxy;
mod read;
mod recover;
mod report;
mod route;
mod sockets;
mod tables;
mod template;
#[cfg(test)]
mod tests;
mod tls;
mod value;

use std::num::{NonZeroU16, NonZeroU32};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, mem};

pub use address::Address;
pub use admin::Admin;
pub use admission::{AccessRules, Action, Limits, MatchOn, Rate, Rule};
use balance::SPREAD;
pub use balance::{AllDown, Balance, HashKey, Spread, Table};
pub use dns::{Dns, DnsName, Prefer, Resolver, Resolvers};
pub use dump::{dump, duration_text};
pub use engine::EngineKind;
pub use etcd::{Endpoint, Etcd};
pub use health::{Check, CheckClose, Initial, Kind, LONGEST_TIMEOUT, OnDown, Passive, Probe, Step};
pub use listener::{AcceptBalance, AtMaxconn, Listener, WhenNoUpstream, head_share};
pub use lists::{ListAt, ListHost, ListUrl, address_in_list, check_name};
pub use oddities::oddities;
pub use pool::{OnRemoved, Origin, Pool, Server, ServerState, Source, given_name};
pub use proxy::{AcceptProxy, ProxyTlvs, SendProxy, Untrusted};
pub use report::{Place, Problem, Report};
pub use route::{Asked, NamePattern, Route, RouteTo, Starttls};

pub use tables::LEVELS;
pub use template::{Field, Piece, Template};
pub use tls::Tls;

/// Reads and checks the file at `path` and the files that it includes. Nothing is bound or looked up.
///
/// # Errors
///
/// Every error of every file at once: what cannot be read, what is not TOML, and what is not a
/// configuration that this version can run.
pub fn load(path: &Path) -> Result<Config, Report> {
    read::load(path).0
}

/// As [`load`]; with every file and folder that it was read from, those with errors too.
pub fn load_with_files(path: &Path) -> (Result<Config, Report>, Vec<PathBuf>) {
    read::load(path)
}

/// The table `[admin]` of the file at `path` and of the files that it includes, whatever is wrong with the rest. Of its keys
/// only `socket` is sure to be right: errors of the others are not told here.
///
/// # Errors
///
/// Every error that was found, when `socket` is wrong or may stand in what cannot be read.
pub fn admin(path: &Path) -> Result<Option<Admin>, Report> {
    read::admin(path)
}

/// The word among `words` that `wrong` may have been meant to be.
pub fn nearest<'a>(wrong: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known::nearest(wrong, words)
}

/// Reads and checks a text; errors call it `name`. A text has no folder, so `include` is an error in it.
///
/// # Errors
///
/// Every error of the text at once, as [`load`].
pub fn parse(text: &str, name: &str) -> Result<Config, Report> {
    read::parse(text, name)
}

/// So many a second, from 1 to a million, as `50/s`; `None` for anything else.
#[must_use]
pub fn rate(text: &str) -> Option<u32> {
    let number = text.strip_suffix("/s")?.trim_end();
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|rate| digits && (1..=1_000_000).contains(rate))
}

/// A length of time over zero and up to a year, as `500ms`, `5s`, `10m` or `1h`.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn duration(text: &str) -> Result<Duration, String> {
    let read = value::time(text, "a duration such as \"5s\"", "write at least \"1ms\"");
    read.map_err(|fault| fault.message + &fault.help.map_or_else(String::new, |help| format!("; {help}")))
}

/// The most that `workers` may be.
pub const MOST_WORKERS: u16 = 1024;

/// The name of a value in a table of names; the first if it has several.
fn name_in<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> &'static str {
    names.iter().find(|(_, named)| named == value).map_or("", |(name, _)| name)
}

/// A whole configuration: every value is present and inside its range.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[process]`
    pub process: Process,
    /// `[admin]`, if it is there
    pub admin: Option<Admin>,
    /// `[log]`
    pub log: Log,
    /// `[log.access]`
    pub access: Access,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[dns]`
    pub dns: Dns,
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
    /// `workers` of each engine in use: `None` is `"auto"`, one per allowed CPU.
    pub workers: Option<NonZeroU16>,
    /// `cpu_affinity`
    pub cpu_affinity: CpuAffinity,
    /// `engine`: of every listener that names none.
    pub engine: EngineKind,
    /// `engine_fallback`: where an engine cannot run, the default one takes its place.
    pub engine_fallback: bool,
    /// `maxconn`: client connections in the process; `None` is `"auto"`, what the descriptor limit allows.
    pub maxconn: Option<NonZeroU32>,
    /// `buffer_size` in bytes: one read at most, and the most that one direction holds unsent.
    pub buffer_size: u32,
    /// `buffer_budget` in bytes: all buffers of all workers together.
    pub buffer_budget: u64,
    /// `splice`
    pub splice: Splice,
    /// `watch`: the configuration is read again when its file changes.
    pub watch: bool,
    /// `user`: whom the process becomes once everything is bound; `None` is `""`, whoever started it.
    pub user: Option<String>,
    /// `[process.drain]`
    pub drain: Drain,
    /// `[process.uring]`
    pub uring: Uring,
}

impl Config {
    /// The least share of `buffer_budget` that a worker can do with, in bytes, and for what it is needed.
    #[must_use]
    pub fn least_share(&self) -> (u64, String) {
        least_share(&self.process, &self.listeners, &self.pools)
    }
}

/// One read fits, and one hello if any are read.
fn least_share(process: &Process, listeners: &[Listener], pools: &[Pool]) -> (u64, String) {
    let read = (process.buffer_size.into(), format!("a buffer_size of {} KiB", process.buffer_size >> 10));
    let hello =
        listeners.iter().filter(|listener| listener.reads_hello(pools)).max_by_key(|it| it.max_client_hello);
    let hello = hello.map(|Listener { name, max_client_hello, .. }| {
        let what =
            format!("hellos of up to {} KiB (max_client_hello of listener {name})", max_client_hello >> 10);
        (head_share(*max_client_hello), what)
    });
    hello.filter(|(bytes, _)| *bytes > read.0).unwrap_or(read)
}

impl Default for Process {
    fn default() -> Self {
        Self {
            workers: None,
            cpu_affinity: CpuAffinity::Off,
            engine: EngineKind::Auto,
            engine_fallback: true,
            maxconn: None,
            buffer_size: 256 << 10,
            buffer_budget: 512 << 20,
            splice: Splice::Off,
            watch: false,
            user: None,
            drain: Drain::default(),
            uring: Uring::default(),
        }
    }
}

/// `[process.uring]`: the rings of the engine `io_uring`, one a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uring {
    /// `entries`: operations that are submitted at a time; more take more system calls.
    pub entries: u32,
    /// `buffers`: of 16 KiB each, from which the kernel picks where to read to; a power of two.
    pub buffers: u16,
    /// `multishot`: accepts and reads go on until they are ended, instead of being asked for one by one.
    pub multishot: bool,
}

impl Default for Uring {
    fn default() -> Self {
        Self { entries: 4096, buffers: 1024, multishot: true }
    }
}

/// `process.splice`: whether bytes may pass from socket to socket without a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Splice {
    /// They are copied.
    Off,
    /// Those of directions that carry much at a time are spliced, where the system can.
    Auto,
}

impl Splice {
    /// Each of them with its name.
    pub const NAMES: [(&'static str, Self); 2] = [("off", Self::Off), ("auto", Self::Auto)];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].0
    }
}

/// `[process.drain]`: how the process ends after a stop signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// `grace`: connections are still accepted for so long.
    pub grace: Duration,
    /// `idle_first`: of the connections that are left, idle ones are closed before busy ones.
    pub idle_first: bool,
    /// `spread`: what is left is closed evenly over this time, each at a quiet moment.
    pub spread: Duration,
    /// `hard_stop`: so long after the signal, what is left is reset; `None` is `"off"`, never.
    pub hard_stop: Option<Duration>,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            grace: Duration::ZERO,
            idle_first: true,
            spread: Duration::from_secs(30),
            hard_stop: Some(Duration::from_mins(5)),
        }
    }
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

impl CpuAffinity {
    /// Those that are a word.
    const NAMES: [(&'static str, Self); 2] = [("off", Self::Off), ("auto", Self::Auto)];
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

impl Default for Log {
    fn default() -> Self {
        Self { level: log::LevelFilter::Info, output: LogOutput::Stderr, format: LogFormat::Logfmt }
    }
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

impl fmt::Display for LogOutput {
    /// As the user writes it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syslog(path) => write!(out, "syslog:{}", path.display()),
            Self::File(path) => path.display().fmt(out),
            word => out.write_str(name_in(&Self::NAMES, word)),
        }
    }
}

impl LogOutput {
    /// Those that are a word.
    const NAMES: [(&'static str, Self); 3] =
        [("stderr", Self::Stderr), ("stdout", Self::Stdout), ("journald", Self::Journald)];
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `ts=… level=… msg="…"`
    Logfmt,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    const NAMES: [(&'static str, Self); 2] = [("logfmt", Self::Logfmt), ("json", Self::Json)];
}

/// `[log.access]`: lines that tell of connections.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// `output`; `None` is `"off"`.
    pub output: Option<LogOutput>,
    /// `format`, with its template where it is one.
    pub format: AccessFormat,
    /// `events`: what there is a line of; at least one, none twice.
    pub events: Vec<Event>,
    /// `update_every`: how often a connection that lasts has an update; `None` is `"off"`, without updates.
    pub update_every: Option<Duration>,
    /// `skip_empty`: no line for the close of a connection that moved no byte and did not fail, nor for that of a probe
    /// ([`Record::is_probe`](crate::session::Record::is_probe)).
    pub skip_empty: bool,
    /// `sample`: the share of connections that get a line, over 0 and up to 1.
    pub sample: f64,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            output: Some(LogOutput::Stdout),
            format: AccessFormat::Json,
            events: vec![Event::Close],
            update_every: None,
            skip_empty: true,
            sample: 1.0,
        }
    }
}

/// What an access line tells of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its server was reached.
    Open,
    /// It is still there.
    Update,
    /// It has ended.
    Close,
}

impl Event {
    /// Each of them with its name.
    pub const NAMES: [(&'static str, Self); 3] =
        [("open", Self::Open), ("update", Self::Update), ("close", Self::Close)];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].0
    }
}

/// How an access line is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// One JSON object a line.
    Json,
    /// `ts=… id=… client=…`
    Logfmt,
    /// The line of HAProxy's `option tcplog`, which tells of closes only.
    HaproxyTcplog,
    /// The user's own line.
    Template(Template),
}

impl AccessFormat {
    /// Each of them with its name; the template is an empty one.
    const NAMES: [(&'static str, Self); 4] = [
        ("json", Self::Json),
        ("logfmt", Self::Logfmt),
        ("haproxy_tcplog", Self::HaproxyTcplog),
        ("template", Self::Template(Template { pieces: Vec::new() })),
    ];

    fn name(&self) -> &'static str {
        let is_alike = |format: &Self| mem::discriminant(format) == mem::discriminant(self);
        Self::NAMES.iter().find(|(_, format)| is_alike(format)).map_or("", |(name, _)| name)
    }
}

/// `[metrics]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// `per_server`: `/metrics` tells of each server; else of pools only.
    pub per_server: bool,
    /// `tcp_info`
    pub tcp_info: TcpInfo,
    /// `tcp_info_sample_every`: with `tcp_info = "sample"`, how often connections that are there are asked about; a second
    /// or more.
    pub tcp_info_sample_every: Duration,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { per_server: true, tcp_info: TcpInfo::Close, tcp_info_sample_every: Duration::from_secs(10) }
    }
}

/// `metrics.tcp_info`: when the system is asked about the network on both sides of a connection (`TCP_INFO`, tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpInfo {
    /// Never.
    Off,
    /// When it has ended.
    Close,
    /// Then, and now and then before.
    Sample,
}

impl TcpInfo {
    const NAMES: [(&'static str, Self); 3] =
        [("off", Self::Off), ("close", Self::Close), ("sample", Self::Sample)];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        name_in(&Self::NAMES, &self)
    }
}

/// `[defaults.timeouts]`; `None` is `"off"`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timeouts {
    /// `connect`: one attempt to reach a server.
    pub connect: Option<Duration>,
    /// `connect_total`: all attempts for one client together.
    pub connect_total: Option<Duration>,
    /// `idle`: both directions quiet.
    pub idle: Option<Duration>,
    /// `half_close`: quiet after one side has sent its FIN.
    pub half_close: Option<Duration>,
    /// `queue`: a client waits so long, at most, for a server that has room.
    pub queue: Option<Duration>,
    /// `preread`: all that a client has to say before it is known where it goes, or who it is.
    pub preread: Option<Duration>,
    /// `max_lifetime`: from then on a connection ends at its first quiet moment.
    pub max_lifetime: Option<Duration>,
    /// `max_lifetime_jitter`: each connection's own `max_lifetime` is shorter by up to this share, 0 to 1.
    pub max_lifetime_jitter: f64,
}

impl From<Timeouts> for OwnTimeouts {
    fn from(all: Timeouts) -> Self {
        let Timeouts {
            connect,
            connect_total,
            idle,
            half_close,
            queue,
            preread,
            max_lifetime,
            max_lifetime_jitter: _,
        } = all;
        Self {
            connect: Some(connect),
            connect_total: Some(connect_total),
            idle: Some(idle),
            half_close: Some(half_close),
            queue: Some(queue),
            preread: Some(preread),
            max_lifetime: Some(max_lifetime),
        }
    }
}

impl Timeouts {
    /// The limit that holds once one side has ended: without `half_close` it is `idle`.
    #[must_use]
    pub fn half_close(&self) -> Option<Duration> {
        self.half_close.or(self.idle)
    }

    /// These, but for what `own` sets.
    #[must_use]
    pub fn but(self, own: &OwnTimeouts) -> Self {
        Self {
            connect: own.connect.unwrap_or(self.connect),
            connect_total: own.connect_total.unwrap_or(self.connect_total),
            idle: own.idle.unwrap_or(self.idle),
            half_close: own.half_close.unwrap_or(self.half_close),
            queue: own.queue.unwrap_or(self.queue),
            preread: own.preread.unwrap_or(self.preread),
            max_lifetime: own.max_lifetime.unwrap_or(self.max_lifetime),
            max_lifetime_jitter: self.max_lifetime_jitter,
        }
    }
}

/// `[listener.NAME.timeouts]` or `[pool.NAME.timeouts]`: what is set there, instead of `[defaults.timeouts]`. Where both
/// set one, the pool's holds. A listener sets `idle`, `half_close`, `preread` and `max_lifetime`, a pool all but the last two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnTimeouts {
    /// `connect`
    pub connect: Option<Option<Duration>>,
    /// `connect_total`
    pub connect_total: Option<Option<Duration>>,
    /// `idle`
    pub idle: Option<Option<Duration>>,
    /// `half_close`
    pub half_close: Option<Option<Duration>>,
    /// `queue`
    pub queue: Option<Option<Duration>>,
    /// `preread`
    pub preread: Option<Option<Duration>>,
    /// `max_lifetime`
    pub max_lifetime: Option<Option<Duration>>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Some(Duration::from_secs(5)),
            connect_total: Some(Duration::from_secs(10)),
            idle: Some(Duration::from_hours(1)),
            half_close: Some(Duration::from_mins(5)),
            queue: Some(Duration::from_secs(10)),
            preread: Some(Duration::from_secs(5)),
            max_lifetime: None,
            max_lifetime_jitter: 0.1,
        }
    }
}

/// `[defaults.tcp]`, `[listener.NAME.tcp]` and `[pool.NAME.tcp]`: options of the sockets towards clients and towards
/// servers. Where the system has one under another name, it is refused elsewhere than on Linux.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tcp {
    /// `nodelay`: send small segments at once (RFC 896 off).
    pub nodelay: bool,
    /// `keepalive`; `None` is `"off"`.
    pub keepalive: Option<Keepalive>,
    /// `dead_peer`: a peer that owes acknowledgements and has sent none for so long is given up; `None` is
    /// `"off"`.
    pub dead_peer: Option<Duration>,
    /// `user_timeout`: bytes that are not acknowledged for so long end the connection (`TCP_USER_TIMEOUT`, tcp(7)), those
    /// for a live peer that does not read too; `None` is `"off"`.
    pub user_timeout: Option<Duration>,
    /// `rst_on_error`: a peer is reset when the other one has failed, so that it does not take a part for the whole; else it
    /// gets FIN behind the last byte.
    pub rst_on_error: bool,
    /// `congestion`: the name of a congestion control algorithm; `None` is `""`, the system's.
    pub congestion: Option<String>,
    /// `rcvbuf` in bytes (`SO_RCVBUF`, socket(7)); `None` is `"auto"`, as the kernel tunes it.
    pub rcvbuf: Option<u32>,
    /// `sndbuf`, likewise.
    pub sndbuf: Option<u32>,
    /// `dscp`: the class that packets are marked with (RFC 2474), 0 to 63; `None` is `"off"`.
    pub dscp: Option<u8>,
    /// `mark` of the packets on this host (`SO_MARK`, socket(7)), from 1; `None` is `"off"`.
    pub mark: Option<NonZeroU32>,
    /// `interface`: the only device that is used; `None` is `""`, any.
    pub interface: Option<String>,
}

impl Default for Tcp {
    fn default() -> Self {
        // Where the system does not tell, there is none.
        let dead_peer = cfg!(target_os = "linux").then_some(Duration::from_mins(1));
        Self {
            nodelay: true,
            keepalive: Some(Keepalive::default()),
            dead_peer,
            user_timeout: None,
            rst_on_error: true,
            congestion: None,
            rcvbuf: None,
            sndbuf: None,
            dscp: None,
            mark: None,
            interface: None,
        }
    }
}

/// `keepalive = { idle = …, interval = …, count = … }` (tcp(7)); whole seconds, 1 to 32767.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Unanswered probes until the peer counts as gone, 1 to 127.
    pub count: u8,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { idle: Duration::from_mins(1), interval: Duration::from_secs(10), count: 6 }
    }
}

/// `[defaults.retry]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// `tries`: attempts in all, each on another server while there is one; 1 to 255.
    pub tries: u8,
    /// `same_server_delay`: the wait before a server is tried again because no other is left.
    pub same_server_delay: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { tries: 3, same_server_delay: Duration::from_secs(1) }
    }
}
