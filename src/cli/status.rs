//! The state of a running process as tables.

use std::fmt::Write as _;

use super::table::table;
use crate::control::model::{
    Closing, Configuration, Health, List, Listener, Name, Phase, Pool, Process, Server, Serving, Status,
    Worker,
};
use crate::control::words::{NONE, bytes, certificate, span};

/// Everything, for people.
pub(super) fn tables(status: &Status) -> String {
    let mut text = summary(status);
    let parts = [
        listeners(&status.listeners),
        routes(&status.listeners),
        servers(&status.pools),
        checks(&status.pools),
        degraded(&status.pools),
        queues(&status.pools),
        names(&status.names),
        lists(&status.lists),
        workers(&status.workers),
        closings(&status.closings),
    ];
    for lines in parts.iter().filter(|lines| lines.len() > 1) {
        text.push('\n');
        text += &table(lines);
    }
    text
}

fn summary(status: &Status) -> String {
    let Process { connections, maxconn, descriptors, descriptor_limit, .. } = status.process;
    let phase = match status.phase {
        Phase::Serving => "serving",
        Phase::Draining => "draining",
        Phase::Stopping => "stopping",
    };
    let ready = if status.ready { "" } else { ", not ready" };
    let mut text = format!(
        "tidegate {}: {phase}{ready}, up {}; {connections} of {maxconn} connections, {descriptors} of \
         {descriptor_limit} descriptors\n",
        status.version,
        span(status.uptime_s.saturating_mul(1000)),
    );
    let Configuration { file, generation, loaded_at, last_reload_error, confirm_within_s, .. } =
        &status.config;
    let loaded =
        jiff::Timestamp::from_second(*loaded_at as i64).map_or_else(|_| NONE.to_owned(), |at| at.to_string());
    let _ = writeln!(text, "{file}: loaded {loaded}, change {generation}");
    if let Some(error) = last_reload_error {
        let _ = writeln!(text, "the last reload failed: {error}");
    }
    if let Some(seconds) = confirm_within_s {
        let _ = writeln!(text, "taken back in {seconds} s unless `tidegate ctl confirm` comes before");
    }
    text
}

fn heads(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The name, and whether it is there for its last connections only.
fn named(name: &str, removed: bool) -> String {
    if removed { format!("{name} (removed)") } else { name.to_owned() }
}

fn listeners(all: &[Listener]) -> Vec<Vec<String>> {
    let names =
        ["LISTENER", "ADDRESS", "POOL", "ENGINE", ">CONNECTIONS", ">MAXCONN", ">ACCEPTED", ">UP", ">DOWN"];
    let mut lines = vec![heads(&names)];
    lines.extend(all.iter().map(|it| {
        vec![
            named(&it.name, it.removed),
            if it.shut { format!("not listening: {}", it.reason) } else { it.addresses.join(" ") },
            it.pool.clone(),
            it.engine.clone(),
            it.connections.to_string(),
            it.maxconn.map_or_else(|| NONE.to_owned(), |most| most.to_string()),
            it.accepted.to_string(),
            bytes(it.bytes.up as f64),
            bytes(it.bytes.down as f64),
        ]
    }));
    lines
}

fn routes(all: &[Listener]) -> Vec<Vec<String>> {
    let mut lines = vec![heads(&["LISTENER", ">ROUTE", "TAKES", "POOL", ">CONNECTIONS"])];
    let each = all.iter().flat_map(|it| it.routes.iter().map(move |route| (it, route)));
    lines.extend(each.map(|(it, route)| {
        vec![
            named(&it.name, it.removed),
            route.number.map_or_else(|| NONE.to_owned(), |number| number.to_string()),
            route.matches.clone(),
            route.pool.clone().unwrap_or_else(|| "turned away".to_owned()),
            route.connections.to_string(),
        ]
    }));
    lines
}

fn servers(pools: &[Pool]) -> Vec<Vec<String>> {
    let names = [
        "SERVER",
        "ADDRESS",
        "STATE",
        ">WEIGHT",
        ">CONNECTIONS",
        ">MAXCONN",
        ">CONNECTED",
        ">FAILED",
        ">CONNECT",
        ">UP",
        ">DOWN",
    ];
    let mut lines = vec![heads(&names)];
    for pool in pools {
        lines.extend(pool.servers.iter().map(|server| cells(pool, server)));
    }
    lines
}

/// Those that are not served as they should be.
fn degraded(pools: &[Pool]) -> Vec<Vec<String>> {
    let mut lines = vec![heads(&["POOL", "SERVED BY"])];
    let serving = |pool: &Pool| match pool.serving {
        Serving::Servers => None,
        Serving::Backups => Some("its backup servers"),
        Serving::Down => Some("servers that are down or ejected"),
        Serving::Nobody => Some("nobody"),
    };
    lines.extend(pools.iter().filter_map(|pool| Some(vec![pool.name.clone(), serving(pool)?.to_owned()])));
    lines
}

/// Those for which somebody waits.
fn queues(pools: &[Pool]) -> Vec<Vec<String>> {
    let mut lines = vec![heads(&["POOL", ">QUEUED", ">AT MOST"])];
    let waited_for = pools.iter().filter(|it| it.queued > 0);
    lines.extend(waited_for.map(|it| vec![it.name.clone(), it.queued.to_string(), it.queue_max.to_string()]));
    lines
}

fn cells(pool: &Pool, it: &Server) -> Vec<String> {
    let connected = it.attempts.get("ok").copied().unwrap_or(0);
    let attempts: u64 = it.attempts.values().sum();
    let took = match it.connect_seconds.count {
        0 => NONE.to_owned(),
        count => format!("{:.1} ms", it.connect_seconds.sum / count as f64 * 1000.0),
    };
    let file_state = it.file_state.map(|state| format!(" (file: {})", state.name()));
    let file_weight = it.file_weight.map(|weight| format!(" (file: {weight})"));
    vec![
        named(&format!("{}/{}", pool.name, it.name), it.removed),
        it.address.clone(),
        it.state.name().to_owned() + &file_state.unwrap_or_default() + &found(it),
        it.weight.to_string() + &file_weight.unwrap_or_default(),
        it.connections.to_string(),
        it.maxconn.map_or_else(|| NONE.to_owned(), |most| most.to_string()),
        connected.to_string(),
        (attempts - connected).to_string(),
        took,
        bytes(it.bytes.up as f64),
        bytes(it.bytes.down as f64),
    ]
}

/// What was found of a server that is not as it should be.
fn found(it: &Server) -> String {
    let role = if it.backup { ", backup" } else { "" };
    let health = match (it.health, it.ejected_for_s, it.slow_start_percent) {
        (Health::Down, ..) => ", down".to_owned(),
        (Health::Ejected, Some(seconds), _) => format!(", ejected for {seconds} s"),
        (Health::Up, _, Some(percent)) => format!(", slow start at {percent} %"),
        (Health::Ejected | Health::Up, ..) => String::new(),
    };
    role.to_owned() + &health
}

fn names(all: &[Name]) -> Vec<Vec<String>> {
    let mut lines = vec![heads(&[
        "NAME",
        "POOLS",
        ">SERVERS",
        ">LEFT OUT",
        "LAST",
        ">FOUND",
        ">AGAIN IN",
        ">FAILED",
        "REASON",
    ])];
    lines.extend(all.iter().map(|it| {
        vec![
            it.name.clone(),
            it.pools.join(" "),
            it.addresses.len().to_string(),
            it.left_out.to_string(),
            it.last_result.clone().unwrap_or_else(|| NONE.to_owned()),
            it.age_s.map_or_else(|| NONE.to_owned(), |age| format!("{} ago", span(age.saturating_mul(1000)))),
            span(it.next_s.saturating_mul(1000)),
            it.lookups
                .iter()
                .filter(|(result, _)| *result != "found")
                .map(|(_, count)| count)
                .sum::<u64>()
                .to_string(),
            it.reason.clone(),
        ]
    }));
    lines
}

fn lists(all: &[List]) -> Vec<Vec<String>> {
    let mut lines =
        vec![heads(&["POOL", "LIST", ">SERVERS", ">LEFT OUT", "LAST", ">GOOD", ">FAILED", "REASON"])];
    lines.extend(all.iter().map(|it| {
        let count = |result: &str| it.looks.get(result).copied().unwrap_or(0);
        vec![
            it.pool.clone(),
            it.list.clone(),
            it.servers.to_string(),
            it.left_out.to_string(),
            it.last_result.clone().unwrap_or_else(|| NONE.to_owned()),
            it.age_s.map_or_else(|| NONE.to_owned(), |age| format!("{} ago", span(age.saturating_mul(1000)))),
            (count("refused") + count("failed")).to_string(),
            it.reason.clone(),
        ]
    }));
    lines
}

fn checks(pools: &[Pool]) -> Vec<Vec<String>> {
    let mut lines =
        vec![heads(&["CHECK OF", "KIND", "AT", "LAST", ">MEAN", ">PASSED", ">FAILED", "REASON", "RECEIVED"])];
    let all = pools.iter().flat_map(|pool| pool.servers.iter().map(move |server| (pool, server)));
    for (pool, server, check) in all.filter_map(|(pool, it)| Some((pool, it, it.check.as_ref()?))) {
        let count = |result: &str| check.results.get(result).copied().unwrap_or(0).to_string();
        let took = match check.seconds.count {
            0 => NONE.to_owned(),
            count => format!("{:.1} ms", check.seconds.sum / count as f64 * 1000.0),
        };
        lines.push(vec![
            format!("{}/{}", pool.name, server.name),
            check.kind.clone(),
            check.address.clone(),
            check.last_result.clone().unwrap_or_else(|| NONE.to_owned()),
            took,
            count("passed"),
            count("failed"),
            match &check.certificate {
                Some(shown) => format!("{}; the certificate {}", check.reason, certificate(shown)),
                None => check.reason.clone(),
            },
            check.received.clone(),
        ]);
    }
    lines
}

fn workers(all: &[Worker]) -> Vec<Vec<String>> {
    let mut lines = vec![heads(&[">WORKER", "ENGINE", ">CONNECTIONS"])];
    lines.extend(
        all.iter().map(|it| vec![it.number.to_string(), it.engine.clone(), it.connections.to_string()]),
    );
    lines
}

fn closings(all: &[Closing]) -> Vec<Vec<String>> {
    let mut lines = vec![heads(&[">CLOSING", "WHY", ">CONNECTIONS", ">TOLD", ">A SECOND"])];
    lines.extend(all.iter().map(|it| {
        vec![
            it.id.to_string(),
            it.why.clone(),
            it.connections.to_string(),
            it.told.to_string(),
            it.rate.map_or_else(|| "all".to_owned(), |rate| rate.to_string()),
        ]
    }));
    lines
}
