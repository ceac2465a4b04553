//! What the control plane tells and is asked, as data: the same over the control socket, over HTTP and in `tidegate top`.
//!
//! Every name here is a name in JSON; they are described for programs in `docs/openapi.json`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

pub use crate::config::ServerState;
pub use crate::snapshot::Serving;

/// The whole state at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// What the process is doing.
    pub phase: Phase,
    /// Whether it takes new connections: what `/readyz` says.
    pub ready: bool,
    /// When it was started, in seconds since 1970 (UTC).
    pub started_at: f64,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Limits and what is used of them.
    pub process: Process,
    /// The configuration that is in effect.
    pub config: Configuration,
    /// Listeners, in the order of the file; those that were removed and still have connections come last.
    pub listeners: Vec<Listener>,
    /// Pools, in the order of the file; removed ones as above.
    pub pools: Vec<Pool>,
    /// Names that stand for servers, by name.
    pub names: Vec<Name>,
    /// Lists of servers that stand elsewhere, by pool.
    #[serde(default)]
    pub lists: Vec<List>,
    /// Workers, by number.
    pub workers: Vec<Worker>,
    /// Sessions that are being closed one after the other.
    pub closings: Vec<Closing>,
}

/// What the process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Serving.
    Serving,
    /// No new connections; those that are there may finish.
    Draining,
    /// Every connection ends now.
    Stopping,
}

/// Limits of the process, and what is used of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Client connections now.
    pub connections: u32,
    /// The most that there may be.
    pub maxconn: u32,
    /// File descriptors that are open.
    pub descriptors: u64,
    /// The most that may be open.
    pub descriptor_limit: u64,
    /// How often a client found the queue of a listening socket full (`ListenOverflows` of `/proc/net/netstat`): of all
    /// programs in the network namespace, since it came into being; none where the system does not tell.
    #[serde(default)]
    pub listen_overflows: Option<u64>,
    /// Likewise those, and whoever was dropped for another reason before it was accepted (`ListenDrops`).
    #[serde(default)]
    pub listen_drops: Option<u64>,
}

/// The configuration that is in effect.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Configuration {
    /// Its file.
    pub file: String,
    /// How often it was changed since the start.
    pub generation: u64,
    /// When it came into effect, in seconds since 1970 (UTC).
    pub loaded_at: f64,
    /// Whether the last attempt to reload succeeded; `true` before the first.
    pub last_reload_successful: bool,
    /// Why it did not.
    pub last_reload_error: Option<String>,
    /// It is taken back after so many seconds unless somebody confirms it.
    pub confirm_within_s: Option<u64>,
}

/// A listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Where it listens; what port 0 became.
    pub addresses: Vec<String>,
    /// The pool that its connections go to; of a listener with routes all of them, with commas between.
    pub pool: String,
    /// Its engine.
    pub engine: String,
    /// Connections now.
    pub connections: u32,
    /// The most that there may be.
    pub maxconn: Option<u32>,
    /// Connections since the start.
    pub accepted: u64,
    /// Bytes since the start, up from clients and down to them; those of connections that are there as they were when
    /// last looked at.
    pub bytes: Bytes,
    /// What the system told of its clients' paths.
    #[serde(default)]
    pub paths: Paths,
    /// Connections that have ended, by cause; those that were rejected too, and those at pools that are no more.
    pub closed: BTreeMap<String, u64>,
    /// The same by pool, those included that it has led to before a reload; under an empty name those that went to none, where
    /// it has routes or has had some.
    #[serde(default)]
    pub closed_by_pool: BTreeMap<String, BTreeMap<String, u64>>,
    /// Those among them that were there only to see that somebody listens: checks of a proxy in front.
    #[serde(default)]
    pub probes: u64,
    /// Its routes in their order, and last what no route takes; empty if it has none.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Connections that were over a limit and let in for `dry_run`, by the cause to turn them away.
    pub let_off: BTreeMap<String, u64>,
    /// Connections whose source was not counted, since the table of sources was full of others.
    pub untracked: u64,
    /// It does not listen, since nobody serves its pool (`when_no_upstream = "stop_listening"`), or since its address could not be
    /// had again when somebody did.
    pub shut: bool,
    /// Why, if it does not listen.
    #[serde(default)]
    pub reason: String,
    /// It is no longer in the configuration, and its connections have not ended.
    pub removed: bool,
}

/// A route of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its number in the file, from 1; none: it stands for what no route takes.
    pub number: Option<u16>,
    /// Whom it takes, in short: `sni=db.example.com,... alpn=h2`, with dots where the list has more. Of what no route takes
    /// `none`.
    pub matches: String,
    /// The pool that it leads to; none if it turns clients away.
    pub pool: Option<String>,
    /// Connections that it has taken since the start.
    pub connections: u64,
}

/// Bytes in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// From clients to servers.
    pub up: u64,
    /// From servers to clients.
    pub down: u64,
}

/// A pool.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// How it chooses.
    pub balance: String,
    /// Who gets its new connections.
    pub serving: Serving,
    /// Clients that wait until a server has room.
    pub queued: u32,
    /// The most that may.
    pub queue_max: u32,
    /// How long those waited that got a server.
    pub queue_seconds: Histogram,
    /// Its servers, in the order of the file; removed ones come last.
    pub servers: Vec<Server>,
}

/// A server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Who says that there is this server: `file`, `dns` and the name that it is an address of, or `servers_file` or
    /// `servers_url` or `servers_etcd` and the list that it stands in.
    pub origin: String,
    /// What it is set to.
    pub state: ServerState,
    /// What the file sets it to, when that differs.
    pub file_state: Option<ServerState>,
    /// Its share of new connections.
    pub weight: u16,
    /// What the file says, when that differs.
    pub file_weight: Option<u16>,
    /// What checks and connects have found.
    pub health: Health,
    /// It is ejected for so many seconds more.
    pub ejected_for_s: Option<u64>,
    /// The part of its share that it gets in its slow start.
    pub slow_start_percent: Option<u32>,
    /// Its check, or that of the server that it tracks.
    pub check: Option<Check>,
    /// It gets new connections only when no other server of its pool does.
    pub backup: bool,
    /// Connections now, those that are being made included.
    pub connections: u32,
    /// The most that there may be.
    pub maxconn: Option<u32>,
    /// Its connections, as a part of the source ports that there are towards it, of all source addresses; none where its
    /// clients' addresses are used, and for unix sockets.
    pub ports_used_ratio: Option<f64>,
    /// Attempts to connect since the start, by result: `ok`, `refused`, `timeout`, `unreachable`, `other`.
    pub attempts: BTreeMap<String, u64>,
    /// How long successful attempts took.
    pub connect_seconds: Histogram,
    /// Connections that went to another server after an attempt on this one had failed.
    pub redispatched: u64,
    /// Bytes since the start, as a listener's.
    pub bytes: Bytes,
    /// What the system told of the paths to it.
    #[serde(default)]
    pub paths: Paths,
    /// It is no longer in the configuration, and its connections have not ended.
    pub removed: bool,
}

/// A name that stands for servers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Name {
    /// As in the file: `pg.example.com:5432`, `srv:_pg._tcp.example.com`.
    pub name: String,
    /// The pools that have it.
    pub pools: Vec<String>,
    /// The addresses of its servers.
    pub addresses: Vec<String>,
    /// How many servers it stands for beside these: more than are used.
    pub left_out: usize,
    /// How the last lookup ended: `found`, `missing` (it is said that there is none), `failed`; none before the first.
    pub last_result: Option<String>,
    /// Why, if not well.
    pub reason: String,
    /// It was found the last time so many seconds ago.
    pub age_s: Option<u64>,
    /// It is looked up again in so many seconds.
    pub next_s: u64,
    /// Lookups since it came, by result.
    pub lookups: BTreeMap<String, u64>,
}

/// A list of servers that stands elsewhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct List {
    /// The pool that has it.
    pub pool: String,
    /// Where it stands, as [`Server::origin`].
    pub list: String,
    /// The servers of the last good list.
    pub servers: usize,
    /// How many of them the pool cannot have: their name is that of another one, or no `source` reaches them; in etcd also
    /// those of which nothing right is said.
    pub left_out: usize,
    /// How the last look has ended: `changed`, `same`, `refused` (what is there is no list), `failed` (nobody could say); none
    /// before the first.
    pub last_result: Option<String>,
    /// Why, if not well.
    pub reason: String,
    /// The list was known to be so the last time so many seconds ago.
    pub age_s: Option<u64>,
    /// Looks since it came, by result.
    pub looks: BTreeMap<String, u64>,
}

/// What the system told of the network, of connections since the start (`metrics.tcp_info`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Paths {
    /// Round-trip times, one of each connection at its end and of each sample.
    pub rtt_seconds: Histogram,
    /// Segments that were sent again.
    pub retransmits: u64,
    /// Segments with data that were sent, again or for the first time.
    pub segments: u64,
}

/// Whether a server can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It can, as far as is known.
    Up,
    /// Checks have failed.
    Down,
    /// Too many connects in a row have failed: it is left out for a while.
    Ejected,
}

impl Health {
    /// Each of them with its name.
    pub const NAMES: [(&'static str, Self); 3] =
        [("up", Self::Up), ("down", Self::Down), ("ejected", Self::Ejected)];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].0
    }
}

/// The check of a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Check {
    /// `tcp`, `http` and so on.
    pub kind: String,
    /// Where it asks.
    pub address: String,
    /// How the last one ended; none before the first.
    pub last_result: Option<String>,
    /// Why, in words.
    pub reason: String,
    /// The last bytes that came from the server then, at most 64, with escapes.
    pub received: String,
    /// The server's certificate, where the check is TLS; as it was seen last.
    pub certificate: Option<Certificate>,
    /// Checks since the first, by result: `passed`, `failed`, and `unable` for want of something here.
    pub results: BTreeMap<String, u64>,
    /// How long they took.
    pub seconds: Histogram,
}

/// How long a server's certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// When it ends (`notAfter`; RFC 5280, section 4.1.2.5), in seconds since 1970.
    pub ends_at: u64,
    /// Whole days until then, rounded down; negative once it has ended.
    pub days_left: i64,
}

/// Counts of times, by upper bound.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// The upper bound of each bucket in seconds, and how many were in it (not in those below).
    pub buckets: Vec<(f64, u64)>,
    /// How many there were in all; those above the last bound included.
    pub count: u64,
    /// Their sum in seconds.
    pub sum: f64,
}

/// A worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Worker {
    /// Its number.
    pub number: u16,
    /// Its engine.
    pub engine: String,
    /// Connections now.
    pub connections: u32,
    /// Turns of its loop since the start.
    pub turns: u64,
    /// Time that its thread had on a CPU, in seconds; 0 where the system does not tell.
    pub cpu_seconds: f64,
    /// How long it took to answer when it was asked, once a second: how long its turns are.
    pub answer_seconds: Histogram,
}

/// Connections that are closed one after the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Closing {
    /// Its number.
    pub id: u64,
    /// What for, in words: `kill`, `rebalance`, `server pg/db3 was removed`.
    pub why: String,
    /// Those that it is about.
    pub connections: u64,
    /// How many were told to end.
    pub told: u64,
    /// How many a second; none: all at once.
    pub rate: Option<u32>,
}

/// A live connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// Its number, in hexadecimal, as in the access log.
    pub id: String,
    /// The listener that accepted it.
    pub listener: String,
    /// The client; none for a client of a unix socket.
    pub client: Option<SocketAddr>,
    /// The pool.
    pub pool: String,
    /// The server that it is relayed to, or that is being tried.
    pub server: Option<String>,
    /// What it is doing.
    pub state: SessionState,
    /// Since it was accepted.
    pub age_ms: u64,
    /// Since the last byte, as far as is known.
    pub idle_ms: Option<u64>,
    /// Bytes so far.
    pub bytes: Bytes,
    /// The client's side of the network; only when asked for, and where the system tells.
    pub client_path: Option<Path>,
    /// The server's side.
    pub server_path: Option<Path>,
    /// The worker that carries it.
    pub worker: u16,
    /// Its engine.
    pub engine: String,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// What its client says first is waited for.
    Inspecting,
    /// It waits for a server that has room.
    Queued,
    /// A server is being reached.
    Connecting,
    /// Bytes are moved.
    Relaying,
    /// One side has finished, the other goes on.
    HalfClosed,
    /// It has ended, and its sockets are not closed yet.
    Closing,
}

impl SessionState {
    /// Its name, for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inspecting => "inspecting",
            Self::Queued => "queued",
            Self::Connecting => "connecting",
            Self::Relaying => "relaying",
            Self::HalfClosed => "half-closed",
            Self::Closing => "closing",
        }
    }
}

/// What `TCP_INFO` says of a path (tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// The smoothed round-trip time in microseconds.
    pub rtt_us: u32,
    /// Segments that were sent again.
    pub retransmits: u32,
}

/// Which connections are meant: all that fit every condition that is given. Its names are the same wherever it is asked,
/// and [`super::select::Selection`] reads what stands behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// The one with this number, in hexadecimal as in the access log
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Of this listener
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// Of this pool
    #[arg(long, value_name = "NAME")]
    pub pool: Option<String>,
    /// Of this server: POOL/SERVER, or SERVER in whichever pool
    #[arg(long, value_name = "SERVER")]
    pub server: Option<String>,
    /// From this address or network: 10.1.2.3, 10.0.0.0/8, fd00::/8
    #[arg(long, value_name = "NETWORK")]
    pub source: Option<String>,
    /// Older than this: 10m, 1h
    #[arg(long, value_name = "DURATION")]
    pub older_than: Option<String>,
    /// Without a byte for longer than this
    #[arg(long, value_name = "DURATION")]
    pub idle_for: Option<String>,
}

/// What a change has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// In one sentence: `server web/alpha: weight 1 -> 5`.
    pub what: String,
    /// What the next reload does with it, as the end of a sentence that begins so: `keeps it`.
    pub next_reload: String,
}

/// What a reload does, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// Line by line: `listener pg: 0 of 4213 connections affected`, `server pg/db3 removed: 212 drain`.
    pub lines: Vec<String>,
    /// Nothing differs.
    pub unchanged: bool,
}

/// Why something that was asked for is not done. Nothing was changed then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}{}", help.as_ref().map(|help| format!("\n  = help: {help}")).unwrap_or_default())]
pub struct Refusal {
    /// Of which kind.
    pub kind: RefusalKind,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Refusal {
    /// One without help.
    #[must_use]
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: None }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// The request makes no sense.
    Invalid,
    /// It has to be asked with the token.
    Unauthorized,
    /// Whoever asks may not.
    Forbidden,
    /// There is no such listener, pool, server or connection.
    NotFound,
    /// It is known, and it cannot be done now.
    Conflict,
    /// The request is larger than what is read.
    TooLarge,
    /// The request took too long to arrive.
    Slow,
    /// There is too much to do at the moment; it may be asked again.
    Busy,
}

/// Which client is asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The listener that it comes to; needed where there are several
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// Its address, by the PROXY header where one is read; a client of a unix socket has none
    #[arg(long, value_name = "IP")]
    pub source: Option<IpAddr>,
    /// The address of the proxy in front that sends that header (accept_proxy) [default: the client's own]
    #[arg(long, value_name = "IP")]
    #[serde(default)]
    pub peer: Option<IpAddr>,
    /// The name that it asks for in its TLS hello (server_name)
    #[arg(long, value_name = "NAME")]
    #[serde(default)]
    pub sni: Option<String>,
    /// A protocol that it offers there (ALPN); may be given more than once
    #[arg(long, value_name = "PROTOCOL")]
    #[serde(default)]
    pub alpn: Vec<String>,
    /// It asks for TLS before its hello, as PostgreSQL's clients do (SSLRequest)
    #[arg(long, value_name = "postgres", num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    #[arg(action = clap::ArgAction::Set, value_parser = starttls, hide_default_value = true)]
    #[serde(default)]
    pub starttls: bool,
}

/// Whether it does, in the words of a route's key `starttls`.
fn starttls(text: &str) -> Result<bool, String> {
    match text {
        "postgres" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err("only \"postgres\" is known, which may be left out".to_owned()),
    }
}

/// What would become of a client that came now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The listener that it comes to.
    pub listener: String,
    /// Its address; that of its socket, unless a header from there is believed.
    pub source: Option<IpAddr>,
    /// The address of its socket, where PROXY headers are read.
    pub peer: Option<IpAddr>,
    /// What becomes of its PROXY header.
    pub proxy_header: ProxyHeader,
    /// The name that it asks for.
    pub sni: Option<String>,
    /// Protocols that it offers.
    pub alpn: Vec<String>,
    /// Whether it is let in.
    pub access: Access,
    /// Connections that its source has, where they are counted.
    pub source_connections: Option<u64>,
    /// The most that a source may have.
    pub source_connections_most: Option<u32>,
    /// Which route of the listener takes it, from 1; none if it has no routes, or none does.
    pub route: Option<usize>,
    /// Where it is to go; empty if its route leads to no pool.
    pub pool: String,
    /// How that chooses.
    pub balance: String,
    /// Who serves there.
    pub serving: Serving,
    /// What becomes of it.
    pub outcome: Outcome,
    /// The server that it gets.
    pub server: Option<String>,
    /// What happens then, in words.
    pub then: String,
    /// All servers of the pool; the one that it gets comes first.
    pub servers: Vec<ExplainedServer>,
}

/// What becomes of a PROXY header of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyHeader {
    /// The listener looks for none.
    Off,
    /// It has to send one first, and is who that says.
    Required,
    /// Its socket's address is none of `accept_proxy.from`: it is passed on as if it were the client's words
    /// (`untrusted = "payload"`).
    Payload,
    /// The same, and the client is reset (`untrusted = "reject"`).
    Rejected,
}

/// What rules about addresses say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// It is let in.
    pub allowed: bool,
    /// The rule that decides; none if that is the default.
    pub rule: Option<String>,
    /// Which one in the list that is, from 1.
    pub number: Option<usize>,
}

/// What becomes of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It gets a server.
    Server,
    /// No rule lets it in.
    Denied,
    /// It is none of those who may send a PROXY header, and nobody else is let in.
    Untrusted,
    /// No route takes it, or the one that does leads nowhere.
    NoRoute,
    /// A limit turns it away.
    Limited,
    /// It is not accepted yet: it waits until the listener or the process has room.
    Waits,
    /// Every server is full, and it waits.
    Queued,
    /// Every server is full, and so is the queue.
    QueueFull,
    /// No server takes connections.
    NoServer,
}

/// A server, as one that may be chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedServer {
    /// Its name.
    pub name: String,
    /// Where it listens; or the name that it is to be an address of.
    pub address: String,
    /// Who says that there is this server, as [`Server::origin`].
    pub origin: String,
    /// It is the one.
    pub chosen: bool,
    /// Where chance decides: how often it is the one, of a hundred.
    pub draws_percent: Option<u32>,
    /// Why, or why not.
    pub why: String,
}
