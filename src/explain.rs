//! Why a client gets the server that it gets, and why the others do not: the same rules and the same picker, asked without
//! taking anything.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use crate::balance::{Balancer, BySource, Client, Pick, hash_of_name};
use crate::cause::Cause;
use crate::client_hello::{Alpn, ClientHello, ServerName, protocol_list};
use crate::config::{
    self, Asked, AtMaxconn, Balance, Config, HashKey, ListAt, Listener, MatchOn, Origin, ServerState, Spread,
    Untrusted, WhenNoUpstream,
};
use crate::control::model::{
    Access, ExplainedServer, Explanation, Outcome, ProxyHeader, Question, Refusal, RefusalKind,
};
use crate::snapshot::{Health, ListenerId, Pool, PoolId, RouteTo, Server, ServerId, Serving, Snapshot};
use crate::tick::Tick;

/// Draws from which it is told how often each server is chosen where chance decides.
const DRAWS: u64 = 4096;

/// What would become of a client that came now. `reason` tells why a server is down, by its pool and its name.
///
/// # Errors
/// What was asked for is not there, or does not fit.
pub fn explain(
    config: &Config,
    snapshot: &Snapshot,
    question: &Question,
    now: Tick,
    reason: impl Fn(&str, &str) -> Option<String>,
) -> Result<Explanation, Refusal> {
    let listener = listener(config, question.listener.as_deref())?;
    let has_addresses = listener.bind.iter().any(|at| !at.is_unix());
    if has_addresses && question.source.is_none() {
        let message = format!("who comes to listener {} has an address, which may decide", listener.name);
        let refusal = Refusal::new(RefusalKind::Invalid, message);
        return Err(refusal.help("name one, such as --source 192.0.2.1"));
    }
    let id = snapshot.listener_id(&listener.name).ok_or_else(|| unknown(config, &listener.name))?;
    let known = snapshot.listener(id);
    // Where nothing is read of what clients say, names decide nothing.
    let name = name(question)?.filter(|_| known.reads_hello.is_some());
    let caller = Caller::of(question, listener, has_addresses)?;
    let (route, to) = route(known, question, caller.source, name);
    let frame = Explanation {
        listener: listener.name.clone(),
        source: caller.source,
        peer: caller.peer,
        proxy_header: caller.header,
        sni: name.map(|name| name.to_string()),
        alpn: question.alpn.clone(),
        access: access(listener, caller.judged),
        source_connections: caller.judged.and_then(|source| known.admission.connections_of(source)),
        source_connections_most: listener.limits.per_source_conns.map(std::num::NonZeroU32::get),
        route,
        pool: String::new(),
        balance: String::new(),
        serving: Serving::Nobody,
        outcome: Outcome::NoRoute,
        server: None,
        then: String::new(),
        servers: Vec::new(),
    };
    let away =
        caller.untrusted().or_else(|| turned_away(listener, snapshot, id, &frame.access, caller.judged, now));
    match to {
        RouteTo::Pool(pool) => {
            let name = name.map(|name| hash_of_name(name.as_str()));
            let client = Client { address: caller.source, name };
            Ok(in_pool(frame, (config, listener), (snapshot, pool), client, now, away, reason))
        }
        RouteTo::Close => Ok(nowhere(frame, away, "is closed")),
        RouteTo::Reject if says(question, name) => {
            Ok(nowhere(frame, away, "is told \"unrecognized_name\" and closed"))
        }
        RouteTo::Reject => {
            Ok(nowhere(frame, away, "is reset, or told \"unrecognized_name\" if it speaks TLS"))
        }
    }
}

/// Whether it begins with a hello, as far as is known.
fn says(question: &Question, name: Option<ServerName>) -> bool {
    name.is_some() || !question.alpn.is_empty() || question.starttls
}

/// Who calls.
struct Caller {
    /// Who it is taken for.
    source: Option<IpAddr>,
    /// The other end of its socket, where a header is looked for.
    peer: Option<IpAddr>,
    /// Which of them rules and limits are about.
    judged: Option<IpAddr>,
    header: ProxyHeader,
}

impl Caller {
    /// Who is asked about; without a proxy in front of it, it comes by itself.
    fn of(question: &Question, listener: &Listener, has_addresses: bool) -> Result<Self, Refusal> {
        let Some(accept) = &listener.accept_proxy else {
            if question.peer.is_some() {
                let message = format!("listener {} reads no PROXY header", listener.name);
                let refusal = Refusal::new(RefusalKind::Invalid, message);
                return Err(refusal.help("its clients come by themselves: leave the peer out"));
            }
            let source = question.source;
            return Ok(Self { source, peer: None, judged: source, header: ProxyHeader::Off });
        };
        let own = question.source.filter(|_| has_addresses);
        let peer = question.peer.or(own);
        let header = match accept.untrusted {
            _ if accept.trusts(peer) => ProxyHeader::Required,
            Untrusted::Reject => ProxyHeader::Rejected,
            Untrusted::Payload => ProxyHeader::Payload,
        };
        let source = if header == ProxyHeader::Required { question.source } else { peer };
        let judged = if listener.access.match_on == MatchOn::Peer { peer } else { source };
        Ok(Self { source, peer, judged, header })
    }

    /// What becomes of it, if nobody but proxies in front is let in.
    fn untrusted(&self) -> Option<(Outcome, String)> {
        let then = "is reset: it is none of accept_proxy's `from`, and untrusted = \"reject\"";
        (self.header == ProxyHeader::Rejected).then(|| (Outcome::Untrusted, then.to_owned()))
    }
}

/// The name that it asks for.
fn name(question: &Question) -> Result<Option<ServerName>, Refusal> {
    let Some(name) = &question.sni else { return Ok(None) };
    let refused = |bad| Refusal::new(RefusalKind::Invalid, format!("no client asks for {name:?}: it {bad}"));
    ServerName::new(name.as_bytes()).map(Some).map_err(refused)
}

/// The number of the route that takes it, and where that leads.
fn route(
    listener: &crate::snapshot::Listener,
    question: &Question,
    source: Option<IpAddr>,
    server_name: Option<ServerName>,
) -> (Option<usize>, RouteTo) {
    let Some(routes) = &listener.routes else { return (None, RouteTo::Pool(listener.leads.own.pool)) };
    let list = protocol_list(question.alpn.iter().map(String::as_str));
    let reads = listener.reads_hello;
    let hello = (reads.is_some() && says(question, server_name))
        .then(|| ClientHello { server_name, alpn: Alpn::of(&list) });
    let starttls = question.starttls && reads.is_some_and(|reads| reads.postgres);
    let found = routes.find(&Asked { hello, starttls, source });
    found.map_or((None, RouteTo::Reject), |(number, to)| (Some(number.get().into()), to))
}

/// What becomes of it without a pool.
fn nowhere(frame: Explanation, away: Option<(Outcome, String)>, then: &str) -> Explanation {
    let (outcome, then) = away.unwrap_or_else(|| (Outcome::NoRoute, then.to_owned()));
    Explanation { outcome, then, ..frame }
}

/// What becomes of it in its pool.
fn in_pool(
    frame: Explanation,
    (config, listener): (&Config, &Listener),
    (snapshot, id): (&Snapshot, PoolId),
    client: Client,
    now: Tick,
    away: Option<(Outcome, String)>,
    reason: impl Fn(&str, &str) -> Option<String>,
) -> Explanation {
    let pool = snapshot.pool(id);
    let of_pool =
        config.pools.iter().find(|one| one.name == *pool.name).unwrap_or(&config.pools[listener.pool]);
    let members: Vec<(ServerId, &Server)> =
        snapshot.members(id).filter(|(_, server)| server.removed.is_none()).collect();
    let origins: HashMap<&str, &Origin> =
        of_pool.servers.iter().map(|server| (&*server.name, &server.origin)).collect();
    let draws = draws(pool, snapshot, client, now);
    let pick = match pick(pool, snapshot, client, now) {
        _ if away.is_some() => Pick::None,
        // Whoever waits already comes first.
        Pick::Server(_) if pool.queue.count() > 0 => Pick::Full,
        pick => pick,
    };
    let chosen = match pick {
        Pick::Server(id) => Some(id),
        Pick::Full | Pick::None => None,
    };
    let has_address = client.address.is_some();
    let (outcome, then) = away.unwrap_or_else(|| picked(pick, listener, pool, has_address));
    let scene = Scene { pool, client, sni: frame.sni.as_deref(), now, chosen, draws: &draws };
    let servers = members.iter().map(|(id, server)| ExplainedServer {
        name: server.name.to_string(),
        address: server.addr.to_string(),
        origin: origins.get(&*server.name).map_or_else(String::new, ToString::to_string),
        chosen: chosen == Some(*id),
        draws_percent: draws.get(&id.0).map(|count| percent(*count)),
        why: scene.why(*id, server, || reason(&pool.name, &server.name)),
    });
    let mut servers: Vec<ExplainedServer> = servers.collect();
    servers.extend(unknown_names(of_pool, &members));
    servers.sort_by_key(|server| Reverse(server.chosen));
    Explanation {
        pool: pool.name.to_string(),
        balance: pool.balance.name().to_owned(),
        serving: pool.choice.serving,
        outcome,
        server: chosen.map(|id| snapshot.server(id).name.to_string()),
        then,
        servers,
        ..frame
    }
}

/// The pool's names that stand for no server, as far as is known.
fn unknown_names(pool: &config::Pool, members: &[(ServerId, &Server)]) -> Vec<ExplainedServer> {
    let known: HashSet<&str> = members.iter().map(|(_, server)| config::given_name(&server.name)).collect();
    let unknown = pool.named.iter().filter(|named| !known.contains(&*named.name)).map(|named| {
        (
            named.name.clone(),
            named.addr.to_string(),
            named.origin.to_string(),
            "a name, of which no server is known",
        )
    });
    let has_none = |at: &&ListAt| !pool.servers.iter().any(|one| one.origin == Origin::List((*at).clone()));
    let empty = pool.lists.iter().filter(has_none).map(|at| {
        (
            at.key().to_owned(),
            at.place(),
            Origin::List(at.clone()).to_string(),
            "a list, of which no server is known",
        )
    });
    let explained = |(name, address, origin, why): (String, String, String, &str)| ExplainedServer {
        name,
        address,
        origin,
        chosen: false,
        draws_percent: None,
        why: why.to_owned(),
    };
    unknown.chain(empty).map(explained).collect()
}

fn listener<'a>(config: &'a Config, name: Option<&str>) -> Result<&'a Listener, Refusal> {
    match (name, config.listeners.as_slice()) {
        (None, [only]) => Ok(only),
        (None, _) => {
            let refusal = Refusal::new(RefusalKind::Invalid, "there are several listeners");
            Err(refusal.help(format!("name one of them: {}", names(config))))
        }
        (Some(name), all) => all.iter().find(|one| one.name == name).ok_or_else(|| unknown(config, name)),
    }
}

fn unknown(config: &Config, name: &str) -> Refusal {
    let refusal = Refusal::new(RefusalKind::NotFound, format!("there is no listener {name}"));
    refusal.help(format!("there is {}", names(config)))
}

fn names(config: &Config) -> String {
    config.listeners.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Which rule decides about that address.
fn access(listener: &Listener, source: Option<IpAddr>) -> Access {
    let rules = &listener.access.rules;
    let source = source.map(|source| source.to_canonical());
    let decides = source.and_then(|source| rules.iter().position(|rule| rule.network.contains(&source)));
    let action = decides.map_or(listener.access.default, |place| rules[place].action);
    Access {
        // A client of a unix socket has no address, and meets no rule.
        allowed: source.is_none() || action == config::Action::Allow,
        rule: decides.map(|place| format!("{} {}", rules[place].action.name(), rules[place].network)),
        number: decides.map(|place| place + 1),
    }
}

/// What becomes of a client that no server is picked for, if so.
fn turned_away(
    listener: &Listener,
    snapshot: &Snapshot,
    id: ListenerId,
    access: &Access,
    source: Option<IpAddr>,
    now: Tick,
) -> Option<(Outcome, String)> {
    if !access.allowed {
        return Some((Outcome::Denied, "is reset: [access] does not let it in".to_owned()));
    }
    let known = snapshot.listener(id);
    let full = match () {
        () if !snapshot.connections.has_room() => Some("process.maxconn"),
        () if !known.connections.has_room() => Some("the listener's maxconn"),
        () if !known.admission.has_token(now) => Some("the listener's rate"),
        () => None,
    };
    match (full, listener.at_maxconn) {
        (Some(full), AtMaxconn::Wait) => {
            Some((Outcome::Waits, format!("waits to be accepted: {full} is reached")))
        }
        (Some(full), AtMaxconn::Reject) => Some((Outcome::Limited, format!("is reset: {full} is reached"))),
        (None, _) => {
            let limit = source.and_then(|source| known.admission.refusal(source, now))?;
            let name = if limit == Cause::SourceConns { "per_source_conns" } else { "per_source_rate" };
            Some((Outcome::Limited, format!("is reset: its source is at {name}")))
        }
    }
}

/// The pick that would be made, on a copy of what it would change.
fn pick(pool: &Pool, snapshot: &Snapshot, client: Client, now: Tick) -> Pick {
    pool.choice.clone().pick(&[], now.0, client, &snapshot.loads(now))
}

/// How often each server is drawn, by its id, where chance decides.
fn draws(pool: &Pool, snapshot: &Snapshot, client: Client, now: Tick) -> BTreeMap<u32, u64> {
    let mut draws = BTreeMap::new();
    if by_chance(&pool.choice.balancer) {
        let loads = snapshot.loads(now);
        for seed in 0..DRAWS {
            // Without room anywhere, every draw ends the same.
            let Pick::Server(id) = pool.choice.pick(&[], seed, client, &loads) else { break };
            *draws.entry(id.0).or_default() += 1;
        }
    }
    draws
}

fn by_chance(balancer: &Balancer) -> bool {
    matches!(balancer, Balancer::TwoChoices(_) | Balancer::LeastTime(_) | Balancer::Random(_))
}

fn percent(draws: u64) -> u32 {
    u32::try_from((draws * 100 + DRAWS / 2) / DRAWS).unwrap_or(100)
}

/// What becomes of a client by a pick.
fn picked(pick: Pick, listener: &Listener, pool: &Pool, has_address: bool) -> (Outcome, String) {
    let ends = match listener.when_no_upstream {
        WhenNoUpstream::Rst | WhenNoUpstream::StopListening => "is reset",
        WhenNoUpstream::Close => "is closed",
    };
    let others = pool.queue.count();
    match pick {
        Pick::Server(_) => (Outcome::Server, "is connected to it; if that fails, to another one".to_owned()),
        Pick::Full if others < pool.queue.most() => {
            let then = format!("waits for a server that has room, behind {others} others");
            (Outcome::Queued, then + ", for as long as the timeout `queue` says")
        }
        Pick::Full => (Outcome::QueueFull, format!("{ends}: every server is full, and so is the queue")),
        Pick::None if has_address && listener.when_no_upstream == WhenNoUpstream::StopListening => {
            let then = "meets a port that refuses: nobody serves its pool (when_no_upstream)";
            (Outcome::NoServer, then.to_owned())
        }
        Pick::None => (Outcome::NoServer, format!("{ends}: no server takes connections (when_no_upstream)")),
    }
}

/// What a pick saw.
struct Scene<'a> {
    pool: &'a Pool,
    client: Client,
    /// The name that it asks for.
    sni: Option<&'a str>,
    now: Tick,
    chosen: Option<ServerId>,
    draws: &'a BTreeMap<u32, u64>,
}

impl Scene<'_> {
    /// Why a server was chosen, or was not.
    fn why(&self, id: ServerId, server: &Server, reason: impl Fn() -> Option<String>) -> String {
        if let Some(why) = self.cannot(server, reason) {
            return why;
        }
        let connections = server.connections.count();
        if server.connections.below().is_none() {
            return format!("full: {connections} of {} connections", server.connections.most());
        }
        let is_chosen = self.chosen == Some(id);
        let has = format!("{connections} connections, weight {}", server.weight);
        match &self.pool.choice.balancer {
            _ if self.chosen.is_none() => has,
            Balancer::RoundRobin(_) if is_chosen => "it is its turn".to_owned(),
            Balancer::RoundRobin(_) => "its turn comes later".to_owned(),
            Balancer::LeastConnections(_) if is_chosen => format!("the fewest for its weight: {has}"),
            Balancer::LeastConnections(_) => format!("as many for its weight, or more: {has}"),
            Balancer::First(_) if is_chosen => format!("the first that has room: {has}"),
            Balancer::First(_) => "one before it has room".to_owned(),
            Balancer::BySource(table) => self.by_source(table, id, is_chosen),
            Balancer::Random(_) => self.drawn(id, is_chosen, &has),
            Balancer::TwoChoices(_) | Balancer::LeastTime(_) => {
                let latency = server.latency.as_ref();
                if latency.is_some_and(|latency| latency.has_failed(self.now)) {
                    return self.drawn(id, is_chosen, &format!("{has}, has failed a client just now"));
                }
                let means = latency.map_or([None; 2], |latency| latency.means_ms(self.now));
                let shown = [", reached in", ", answers in"].into_iter().zip(means);
                let times: String =
                    shown.filter_map(|(what, ms)| Some(format!("{what} {:.1} ms", ms?))).collect();
                self.drawn(id, is_chosen, &format!("{has}{times}"))
            }
        }
    }

    /// Why a server gets no new connection at all, if so.
    fn cannot(&self, server: &Server, reason: impl Fn() -> Option<String>) -> Option<String> {
        if self.pool.choice.serving.takes(server) {
            return None;
        }
        Some(match (server.state, server.health) {
            (ServerState::Drain, _) => "it drains".to_owned(),
            (ServerState::Maint, _) => "it is in maintenance".to_owned(),
            (ServerState::Ready, _) if server.weight == 0 => "its weight is 0".to_owned(),
            (ServerState::Ready, Health::Down) => {
                reason().map_or_else(|| "down".to_owned(), |reason| format!("down: {reason}"))
            }
            (ServerState::Ready, Health::Ejected) => {
                "ejected: too many connects in a row have failed".to_owned()
            }
            (ServerState::Ready, Health::Up) => "a backup server, and others take connections".to_owned(),
        })
    }

    fn drawn(&self, id: ServerId, is_chosen: bool, has: &str) -> String {
        let share = percent(self.draws.get(&id.0).copied().unwrap_or(0));
        match (is_chosen, share) {
            (true, _) => format!("drawn this time; it wins {share} % of draws: {has}"),
            (false, 0) => format!("whoever it is drawn with wins: {has}"),
            (false, _) => format!("it wins {share} % of draws, not this one: {has}"),
        }
    }

    fn by_source(&self, table: &BySource, id: ServerId, is_chosen: bool) -> String {
        let by_name = matches!(self.pool.balance, Balance::Source(Spread { key: HashKey::Sni, .. }));
        let address = self.client.address.map(|address| address.to_string());
        let Some(source) = self.sni.filter(|_| by_name).map(str::to_owned).or(address) else {
            return "a client without an address may go anywhere".to_owned();
        };
        match (table.home(self.client) == Some(id), is_chosen) {
            (true, true) => format!("{source} belongs to it"),
            (true, false) => {
                format!("{source} belongs to it, but it has as many connections as bounded_load lets it have")
            }
            (false, true) => format!("the next one for {source} after the server that it belongs to"),
            (false, false) => format!("{source} belongs to another one"),
        }
    }
}

#[cfg(test)]
mod tests;
