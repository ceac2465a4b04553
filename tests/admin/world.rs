//! What the made-up process is in these tests.

use std::collections::BTreeMap;

use tidegate::control::model::{
    Bytes, Certificate, Check, Configuration, Connection, Health, Histogram, List, Listener, Name, Paths,
    Phase, Pool, Process, Route, Server, ServerState, Serving, SessionState, Status, Worker,
};

use super::fake::{Fake, closing};

/// One with everything in it that may be there, and so many connections.
pub(crate) fn fake_of(connections: u32) -> Fake {
    Fake::new(status(), connections, connection)
}

pub(crate) fn fake() -> Fake {
    fake_of(250)
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
        origin: "file".to_owned(),
        state,
        file_state: (state != ServerState::Ready).then_some(ServerState::Ready),
        weight: 5,
        file_weight: Some(1),
        health: if removed { Health::Up } else { Health::Ejected },
        ejected_for_s: (!removed).then_some(7),
        slow_start_percent: Some(35),
        check: (!removed).then(|| Check {
            kind: "http".to_owned(),
            address: "10.0.0.1:8008".to_owned(),
            last_result: Some("failed".to_owned()),
            reason: "HTTP status 503".to_owned(),
            received: "HTTP/1.1 503\\r\\n".to_owned(),
            certificate: Some(Certificate { ends_at: 1_795_953_600, days_left: -3 }),
            results: BTreeMap::from([
                ("passed".to_owned(), 9),
                ("failed".to_owned(), 1),
                ("unable".to_owned(), 0),
            ]),
            seconds: times(),
        }),
        connections: 3,
        backup: false,
        maxconn: Some(30),
        ports_used_ratio: Some(0.25),
        attempts: BTreeMap::from([("ok".to_owned(), 6), ("refused".to_owned(), 2)]),
        connect_seconds: times(),
        redispatched: 2,
        bytes: bytes(),
        paths: Paths { rtt_seconds: times(), retransmits: 7, segments: 900 },
        removed,
    }
}

fn listener() -> Listener {
    let closed = BTreeMap::from([("done".to_owned(), 30), ("maxconn".to_owned(), 4)]);
    Listener {
        name: "web".to_owned(),
        addresses: vec!["127.0.0.1:8080".to_owned()],
        pool: "web".to_owned(),
        engine: "mio".to_owned(),
        connections: 6,
        maxconn: Some(100),
        accepted: 40,
        bytes: bytes(),
        paths: Paths { rtt_seconds: times(), retransmits: 7, segments: 900 },
        closed_by_pool: BTreeMap::from([("web".to_owned(), closed.clone())]),
        closed,
        probes: 11,
        routes: Vec::new(),
        let_off: BTreeMap::from([("source_conns".to_owned(), 3)]),
        untracked: 2,
        shut: false,
        reason: String::new(),
        removed: false,
    }
}

/// One with routes, whose connections end in one pool or in none.
fn routed() -> Listener {
    let route = |number, matches: &str, pool: Option<&str>, connections| Route {
        number,
        matches: matches.to_owned(),
        pool: pool.map(str::to_owned),
        connections,
    };
    let closed = |cause: &str, count| BTreeMap::from([(cause.to_owned(), count)]);
    Listener {
        name: "edge".to_owned(),
        pool: "web,db".to_owned(),
        closed: BTreeMap::from([("done".to_owned(), 5), ("no_route".to_owned(), 3)]),
        closed_by_pool: BTreeMap::from([
            (String::new(), closed("no_route", 3)),
            ("web".to_owned(), closed("done", 5)),
        ]),
        routes: vec![
            route(Some(1), "sni=*.example.com,...", Some("web"), 5),
            route(Some(2), "sni=old.example.com", None, 2),
            route(None, "none", None, 1),
        ],
        ..listener()
    }
}

fn process() -> Process {
    Process {
        connections: 6,
        maxconn: 1_000,
        descriptors: 50,
        descriptor_limit: 4_096,
        listen_overflows: Some(7),
        listen_drops: Some(9),
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
        process: process(),
        config: Configuration {
            file: "/etc/tidegate/proxy.toml".to_owned(),
            generation: 2,
            loaded_at: 1_700_000_100.5,
            last_reload_successful: false,
            last_reload_error: Some("unknown key `colour`".to_owned()),
            confirm_within_s: Some(42),
        },
        listeners: vec![listener(), routed()],
        pools: vec![Pool {
            name: "web".to_owned(),
            balance: "p2c".to_owned(),
            queued: 4,
            serving: Serving::Servers,
            queue_max: 1000,
            queue_seconds: times(),
            servers,
        }],
        names: vec![Name {
            name: "db.example:5432".to_owned(),
            pools: vec!["web".to_owned()],
            addresses: vec!["10.0.0.1:5432".to_owned()],
            left_out: 2,
            last_result: Some("failed".to_owned()),
            reason: "request timed out".to_owned(),
            age_s: Some(90),
            next_s: 4,
            lookups: BTreeMap::from([("found".to_owned(), 5), ("failed".to_owned(), 2)]),
        }],
        lists: vec![List {
            pool: "web".to_owned(),
            list: "servers_file /etc/tidegate/web.toml".to_owned(),
            servers: 3,
            left_out: 1,
            last_result: Some("refused".to_owned()),
            reason: "line 3, column 1: unknown field `wieght`".to_owned(),
            age_s: Some(30),
            looks: BTreeMap::from([
                ("changed".to_owned(), 1),
                ("same".to_owned(), 9),
                ("refused".to_owned(), 2),
            ]),
        }],
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

fn connection(number: u32) -> Connection {
    Connection {
        id: format!("{:016x}", (1_u64 << 32) + u64::from(number)),
        listener: "web".to_owned(),
        client: (!number.is_multiple_of(2)).then(|| "192.0.2.1:50000".parse().unwrap()),
        pool: "web".to_owned(),
        server: Some("alpha".to_owned()),
        state: SessionState::Relaying,
        age_ms: 61_000,
        idle_ms: Some(500),
        bytes: Bytes { up: 10, down: 20 },
        client_path: None,
        server_path: None,
        worker: 0,
        engine: "mio".to_owned(),
    }
}
