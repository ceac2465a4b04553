//! A process that only pretends: it serves the page and an API whose numbers move, and notes what it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};
use tidegate::control::model::{
    Bytes, Connection, Histogram, Path, Pool, Server as Upstream, ServerState, SessionState, Status,
};
use tidegate::control::page::asset;

use crate::support::http::{Request, Response, Server};

/// What the page is allowed to do: as little as the real process allows.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The token that it accepts.
pub(crate) const TOKEN: &str = "open-sesame-open-sesame";

/// New connections a second of the first listener, and of each server.
pub(crate) const NEW: u64 = 40;
/// Bytes a second up of the first listener; eight times as many go down.
pub(crate) const UP: u64 = 1 << 20;

/// What it pretends, which a test may change at any time.
pub(crate) struct World {
    /// What the next status begins from.
    pub(crate) status: Status,
    pub(crate) connections: Vec<Connection>,
    pub(crate) writes: bool,
    /// It tells its state only to who has the token.
    pub(crate) locked: bool,
    /// It does not answer.
    pub(crate) silent: bool,
    /// What it was told: the path, and the body.
    pub(crate) told: Vec<(String, Value)>,
    /// How often connections were asked for, and the last query.
    pub(crate) asked: String,
    began: Instant,
}

/// The process.
pub(crate) struct Pretence {
    world: Arc<Mutex<World>>,
    server: Server,
}

impl Pretence {
    pub(crate) fn start() -> Self {
        let status = serde_json::from_str(include_str!("../support/status.json")).expect("it is a status");
        let world = World {
            status,
            connections: (0..24).map(connection).collect(),
            writes: true,
            locked: false,
            silent: false,
            told: Vec::new(),
            asked: String::new(),
            began: Instant::now(),
        };
        let world = Arc::new(Mutex::new(world));
        let shared = Arc::clone(&world);
        let server = Server::start(move |request| shared.lock().unwrap().answer(request));
        Self { world, server }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Changes or reads the world.
    pub(crate) fn world<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        work(&mut self.world.lock().unwrap())
    }
}

impl World {
    fn answer(&mut self, request: &Request) -> Option<Response> {
        if self.silent {
            return None;
        }
        if let Some((kind, body)) = asset(request.path()) {
            return Some(Response::new(200, kind, body).with("content-security-policy", POLICY));
        }
        if self.locked && !knows_the_token(request) {
            let message = match request.header("authorization") {
                Some(_) => "the token is not the right one",
                None => "this needs the token",
            };
            return Some(refuse(401, "unauthorized", message, None));
        }
        Some(match (request.method.as_str(), request.path()) {
            ("GET", "/api/v1/status") => {
                let writes = if self.writes { "on" } else { "off" };
                let body = serde_json::to_vec(&self.status_now()).unwrap();
                Response::new(200, "application/json", body).with("tidegate-writes", writes)
            }
            ("GET", "/api/v1/connections") => self.list(request),
            ("PUT", path) if path.starts_with("/api/v1/pools/") => self.put(request),
            _ => refuse(404, "not_found", "there is nothing here", None),
        })
    }

    /// The status after the time that has gone by.
    fn status_now(&self) -> Status {
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap();
        let mut status = self.status.clone();
        status.uptime_s += ms / 1000;
        for (place, listener) in (0..).zip(&mut status.listeners) {
            let pace = if listener.removed { 0 } else { 1 + place };
            listener.accepted += NEW * pace * ms / 1000;
            listener.bytes = moved(listener.bytes, pace * ms);
            listener.connections = wave(listener.connections, ms, place);
        }
        status.process.connections = status.listeners.iter().map(|listener| listener.connections).sum();
        for (place, server) in (0..).zip(status.pools.iter_mut().flat_map(|pool| &mut pool.servers)) {
            if server.state == ServerState::Ready && !server.removed {
                serve(server, ms, place);
            }
        }
        for (place, worker) in (1..).zip(&mut status.workers) {
            worker.turns += 1000 * ms / 1000;
            let part = 0.1 * place as f64;
            worker.cpu_seconds += part * ms as f64 / 1000.0;
            count_into(&mut worker.answer_seconds, 2, ms);
        }
        status
    }

    fn list(&mut self, request: &Request) -> Response {
        self.asked.clone_from(&request.target);
        if let Some(source) = request.parameter("source").filter(|source| source.contains('x')) {
            let message = format!("source: {source} is no address or network");
            return refuse(400, "invalid", &message, Some("write 10.0.0.0/8"));
        }
        let limit = request.parameter("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
        let listener = request.parameter("listener");
        let idle_ms = request
            .parameter("idle_for")
            .map_or(0, |text| tidegate::config::duration(&text).unwrap().as_millis() as u64);
        let paths = request.parameter("paths").is_some();
        let fits = self.connections.iter().filter(|connection| {
            listener.as_ref().is_none_or(|listener| *listener == connection.listener)
                && connection.idle_ms.is_some_and(|idle| idle >= idle_ms)
        });
        let lines = fits.take(limit).map(|connection| {
            let mut connection = connection.clone();
            if paths {
                connection.client_path = Some(Path { rtt_us: 18_400, retransmits: 3 });
                connection.server_path = Some(Path { rtt_us: 240, retransmits: 0 });
            }
            serde_json::to_string(&connection).unwrap() + "\n"
        });
        Response::new(200, "application/x-ndjson", lines.collect::<String>())
    }

    fn put(&mut self, request: &Request) -> Response {
        if !knows_the_token(request) {
            return refuse(401, "unauthorized", "the token is not the right one", None);
        }
        let parts: Vec<_> = request.path().split('/').collect();
        let (pool, server, what) = (parts[4], parts[6], parts[7]);
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let Some(found) = find(&mut self.status.pools, pool, server) else {
            return refuse(
                404,
                "not_found",
                &format!("there is no server {pool}/{server}"),
                Some("reload the page"),
            );
        };
        match what {
            "state" => found.state = serde_json::from_value(body["state"].clone()).unwrap(),
            _ => found.weight = serde_json::from_value(body["weight"].clone()).unwrap(),
        }
        self.told.push((request.path().to_owned(), body.clone()));
        let done = json!({
            "what": format!("server {pool}/{server}: {what} is {}", body[what]),
            "next_reload": "keeps it",
        });
        Response::new(200, "application/json", done.to_string())
    }
}

pub(crate) fn find<'p>(pools: &'p mut [Pool], pool: &str, server: &str) -> Option<&'p mut Upstream> {
    let pool = pools.iter_mut().find(|known| known.name == pool)?;
    pool.servers.iter_mut().find(|known| known.name == server)
}

fn knows_the_token(request: &Request) -> bool {
    request.header("authorization") == Some(&format!("Bearer {TOKEN}"))
}

fn refuse(status: u16, kind: &str, message: &str, help: Option<&str>) -> Response {
    Response::new(
        status,
        "application/json",
        json!({"kind": kind, "message": message, "help": help}).to_string(),
    )
}

fn moved(before: Bytes, ms: u64) -> Bytes {
    Bytes { up: before.up + UP * ms / 1000, down: before.down + 8 * UP * ms / 1000 }
}

/// A count that goes up and down.
fn wave(count: u32, ms: u64, place: u64) -> u32 {
    let swing = (ms as f64 / 3000.0 + place as f64).sin();
    (f64::from(count) * (1.0 + 0.2 * swing)).round() as u32
}

fn serve(server: &mut Upstream, ms: u64, place: u64) {
    *server.attempts.get_mut("ok").unwrap() += NEW * ms / 1000;
    *server.attempts.get_mut("refused").unwrap() += ms / 4000;
    server.bytes = moved(server.bytes, ms);
    server.connections = wave(server.connections, ms, place);
    count_into(&mut server.connect_seconds, 1, NEW * ms / 1000);
}

fn count_into(histogram: &mut Histogram, bucket: usize, times: u64) {
    histogram.buckets[bucket].1 += times;
    histogram.count += times;
}

/// Connections of many kinds.
pub(crate) fn connection(number: u64) -> Connection {
    let web = !number.is_multiple_of(3);
    let state = match number % 8 {
        0 => SessionState::Connecting,
        1 => SessionState::HalfClosed,
        _ => SessionState::Relaying,
    };
    Connection {
        id: format!("{:x}", 0x1a2b_0000_0000 + number),
        listener: if web { "web" } else { "pg" }.to_owned(),
        client: (number % 5 != 4)
            .then(|| format!("10.20.{}.{}:{}", number % 7, number % 250 + 1, 40_000 + number))
            .map(|text| text.parse().unwrap()),
        pool: if web { "web" } else { "pg" }.to_owned(),
        server: (state != SessionState::Connecting).then(|| if web { "beta" } else { "pg1" }.to_owned()),
        state,
        age_ms: 1_000 + number * number * 50_000,
        idle_ms: Some(number * 7_000),
        bytes: Bytes { up: number * 1234, down: number * number * 1_234_567 },
        client_path: None,
        server_path: None,
        worker: u16::try_from(number % 4).unwrap(),
        engine: if web { "mio" } else { "io_uring" }.to_owned(),
    }
}
