//! A process that is made up. It notes every change that it is told to make.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use log::LevelFilter;
use tidegate::control::model::{
    Bytes, Changed, Closing, Configuration, Connection, Effect, Filter, Histogram, Listener, Path, Phase,
    Pool, Process, Refusal, RefusalKind, Server, ServerState, SessionState, Status, Worker,
};
use tidegate::control::{Control, Cursor};

/// Connections in one answer of the real process.
const PIECE: u32 = 100;

pub(crate) struct Fake {
    pub(crate) status: Mutex<Status>,
    /// Live connections.
    pub(crate) connections: u32,
    /// How long a change takes.
    pub(crate) change_takes: Duration,
    /// Changes that were made, in words.
    pub(crate) changes: Mutex<Vec<String>>,
    /// How often the state, and a piece of the connections, was asked for.
    pub(crate) states: AtomicUsize,
    pub(crate) pieces: AtomicUsize,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            status: Mutex::new(status()),
            connections: 250,
            change_takes: Duration::ZERO,
            changes: Mutex::default(),
            states: AtomicUsize::new(0),
            pieces: AtomicUsize::new(0),
        }
    }
}

impl Fake {
    pub(crate) fn changes(&self) -> Vec<String> {
        self.changes.lock().unwrap().clone()
    }

    async fn note(&self, change: String) {
        tokio::time::sleep(self.change_takes).await;
        self.changes.lock().unwrap().push(change);
    }
}

fn bytes() -> Bytes {
    Bytes { up: 1_000, down: u64::MAX }
}

fn times() -> Histogram {
    Histogram { buckets: vec![(0.001, 3), (0.01, 2), (1.0, 0)], count: 6, sum: 2.5 }
}

fn server(name: &str, state: ServerState, removed: bool) -> Server {
    Server {
        name: name.to_owned(),
        address: "127.0.0.1:9001".to_owned(),
        state,
        file_state: (state != ServerState::Ready).then_some(ServerState::Ready),
        weight: 5,
        file_weight: Some(1),
        connections: 3,
        attempts: BTreeMap::from([("ok".to_owned(), 6), ("refused".to_owned(), 2)]),
        connect_seconds: times(),
        redispatched: 2,
        bytes: bytes(),
        removed,
    }
}

fn listener() -> Listener {
    Listener {
        name: "web".to_owned(),
        addresses: vec!["127.0.0.1:8080".to_owned()],
        pool: "web".to_owned(),
        engine: "mio".to_owned(),
        connections: 6,
        maxconn: Some(100),
        accepted: 40,
        bytes: bytes(),
        closed: BTreeMap::from([("done".to_owned(), 30), ("maxconn".to_owned(), 4)]),
        removed: false,
    }
}

/// Everything in it that may be there. A server that was removed has the name of one that has come since.
fn status() -> Status {
    let servers = vec![
        server("alpha", ServerState::Ready, false),
        server("beta", ServerState::Drain, false),
        server("alpha", ServerState::Ready, true),
    ];
    Status {
        version: "1.2.3".to_owned(),
        phase: Phase::Serving,
        ready: true,
        started_at: 1_700_000_000.25,
        uptime_s: 3_661,
        process: Process { connections: 6, maxconn: 1_000, descriptors: 50, descriptor_limit: 4_096 },
        config: Configuration {
            file: "/etc/tidegate/proxy.toml".to_owned(),
            generation: 2,
            loaded_at: 1_700_000_100.5,
            last_reload_successful: false,
            last_reload_error: Some("unknown key `colour`".to_owned()),
            confirm_within_s: Some(42),
        },
        listeners: vec![listener()],
        pools: vec![Pool { name: "web".to_owned(), balance: "p2c".to_owned(), servers }],
        workers: vec![Worker {
            number: 0,
            engine: "mio".to_owned(),
            connections: 6,
            turns: 100,
            cpu_seconds: 12.5,
            answer_seconds: times(),
        }],
        closings: vec![closing("rebalance web", Some(5))],
    }
}

fn closing(why: &str, rate: Option<u32>) -> Closing {
    Closing { id: 1, why: why.to_owned(), connections: 120, told: 7, rate }
}

fn connection(number: u32, with_paths: bool) -> Connection {
    let path = with_paths.then_some(Path { rtt_us: 1_500, retransmits: 1 });
    Connection {
        id: format!("{number:016x}"),
        listener: "web".to_owned(),
        client: (!number.is_multiple_of(2)).then(|| "192.0.2.1:50000".parse().unwrap()),
        pool: "web".to_owned(),
        server: Some("alpha".to_owned()),
        state: SessionState::Relaying,
        age_ms: 61_000,
        idle_ms: Some(500),
        bytes: Bytes { up: 10, down: 20 },
        client_path: path,
        server_path: path,
        worker: 0,
        engine: "mio".to_owned(),
    }
}

fn known(pool: &str, server: &str) -> Result<(), Refusal> {
    if pool != "web" {
        return Err(Refusal::new(RefusalKind::NotFound, format!("there is no pool {pool:?}")));
    }
    if server != "alpha" {
        return Err(Refusal::new(RefusalKind::NotFound, format!("pool web has no server {server:?}")));
    }
    Ok(())
}

fn changed(what: String) -> Changed {
    Changed { what, next_reload: "keeps it".to_owned() }
}

impl Control for Fake {
    async fn status(&self) -> Status {
        self.states.fetch_add(1, Ordering::Relaxed);
        self.status.lock().unwrap().clone()
    }

    async fn connections(
        &self,
        filter: &Filter,
        after: Option<Cursor>,
        with_paths: bool,
    ) -> Result<(Vec<Connection>, Option<Cursor>), Refusal> {
        self.pieces.fetch_add(1, Ordering::Relaxed);
        if let Some((pool, server)) = filter.server.as_deref().and_then(|server| server.split_once('/')) {
            known(pool, server)?;
        }
        let start = after.unwrap_or_default().slot;
        let end = start.saturating_add(PIECE).min(self.connections);
        let found = (start..end).map(|number| connection(number, with_paths)).collect();
        Ok((found, (end < self.connections).then_some(Cursor { worker: 0, slot: end })))
    }

    async fn set_state(&self, pool: &str, server: &str, state: ServerState) -> Result<Changed, Refusal> {
        known(pool, server)?;
        self.note(format!("state {pool}/{server} {state:?}")).await;
        Ok(changed(format!("server {pool}/{server}: state ready -> {state:?}")))
    }

    async fn set_weight(&self, pool: &str, server: &str, weight: u16) -> Result<Changed, Refusal> {
        known(pool, server)?;
        self.note(format!("weight {pool}/{server} {weight}")).await;
        Ok(changed(format!("server {pool}/{server}: weight 1 -> {weight}")))
    }

    async fn kill(&self, filter: Filter, rate: Option<u32>) -> Result<Closing, Refusal> {
        let filter = serde_json::to_string(&filter).unwrap();
        self.note(format!("kill {filter} {rate:?}")).await;
        Ok(closing("kill", rate))
    }

    async fn rebalance(&self, pool: &str, rate: Option<u32>) -> Result<Closing, Refusal> {
        known(pool, "alpha")?;
        self.note(format!("rebalance {pool} {rate:?}")).await;
        Ok(closing("rebalance", rate))
    }

    async fn reload(&self, confirm: Option<Duration>) -> Result<Effect, Refusal> {
        self.note(format!("reload {confirm:?}")).await;
        Ok(Effect { lines: vec!["listener web: 0 of 6 connections affected".to_owned()], unchanged: false })
    }

    async fn confirm(&self) -> Result<Changed, Refusal> {
        if self.status.lock().unwrap().config.confirm_within_s.is_none() {
            return Err(Refusal::new(RefusalKind::Conflict, "no reload waits for a confirmation"));
        }
        self.note("confirm".to_owned()).await;
        Ok(changed("the configuration is kept".to_owned()))
    }

    async fn roll_back(&self) -> Result<Effect, Refusal> {
        self.note("roll back".to_owned()).await;
        Ok(Effect { lines: Vec::new(), unchanged: true })
    }

    async fn diff(&self, text: &str) -> Result<Effect, Refusal> {
        match tidegate::config::parse(text, "diff") {
            Ok(config) => {
                let lines = config.listeners.iter().map(|it| format!("listener {}: as it was", it.name));
                Ok(Effect { lines: lines.collect(), unchanged: false })
            }
            Err(report) => Err(Refusal::new(RefusalKind::Invalid, report.to_string())),
        }
    }

    async fn set_log_level(&self, level: LevelFilter) -> Changed {
        self.note(format!("log level {level}")).await;
        changed(format!("log level: info -> {level}"))
    }

    async fn dump(&self) -> String {
        "config_version = 1\n".to_owned()
    }
}
