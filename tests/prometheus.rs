//! Alerts and the dashboard with a real Prometheus: it reads the metrics of a process, and each expression is
//! evaluated.
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::iter;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate::control::model::{
    Certificate, Check, Health, Histogram, List, Name, ServerState, Serving, Status,
};

mod fake;
mod support;

use fake::Fake;
use fake::served::Served;
use support::PATIENCE;
use support::gate::{Config, Gate};
use support::http::{encoded, get};
use support::service::{Home, Place, Service, client, installed, run, tls};

const TOOLS: [&str; 2] = ["prometheus", "promtool"];

/// A file that is given along with the program.
fn contrib(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib").join(file)
}

/// A process that only pretends, which is well or ill. Its counters move.
fn pretended(well: bool) -> Served {
    let status = serde_json::from_str(include_str!("support/status.json")).unwrap();
    let fake = Fake::new(status, 0, |_| unreachable!("there is none"));
    fake.world(|world| {
        world.moved = if well {
            |status, elapsed| moved(true, status, elapsed)
        } else {
            |status, elapsed| moved(false, status, elapsed)
        };
    });
    Served::new(fake)
}

/// A TLS check that has found a certificate which ends in 2100, or has ended in 2023.
fn check(well: bool) -> Check {
    let (ends_at, days_left) = if well { (4_102_444_800, 26_697) } else { (1_700_000_000, -1_109) };
    Check {
        kind: "tls".to_owned(),
        address: "10.0.0.11:443".to_owned(),
        last_result: Some("passed".to_owned()),
        reason: "TLS 1.3".to_owned(),
        received: String::new(),
        certificate: Some(Certificate { ends_at, days_left }),
        results: BTreeMap::from([("passed".to_owned(), 7)]),
        seconds: Histogram::default(),
    }
}

/// A list and a name that are followed, or are not.
fn sources(well: bool) -> (List, Name) {
    let age_s = Some(if well { 5 } else { 5_000 });
    let list = List {
        pool: "web".to_owned(),
        list: "servers_file /etc/tidegate/web.toml".to_owned(),
        servers: 3,
        left_out: 0,
        last_result: Some(if well { "same" } else { "failed" }.to_owned()),
        reason: String::new(),
        age_s,
        looks: BTreeMap::from([("changed".to_owned(), 1)]),
    };
    let name = Name {
        name: "db.example:5432".to_owned(),
        pools: vec!["web".to_owned()],
        addresses: vec!["10.0.0.1:5432".to_owned()],
        left_out: 0,
        last_result: Some(if well { "found" } else { "failed" }.to_owned()),
        reason: String::new(),
        age_s,
        next_s: 4,
        lookups: BTreeMap::from([("found".to_owned(), 1)]),
    };
    (list, name)
}

fn moved(well: bool, mut status: Status, elapsed: Duration) -> Status {
    let ms = u64::try_from(elapsed.as_millis()).unwrap();
    let (list, name) = sources(well);
    (status.lists, status.names) = (vec![list], vec![name]);
    for listener in &mut status.listeners {
        listener.accepted += ms;
        listener.bytes.up += 100 * ms;
        listener.let_off.entry("source_rate".to_owned()).or_default();
        for closed in iter::once(&mut listener.closed).chain(listener.closed_by_pool.get_mut(&listener.pool))
        {
            *closed.get_mut("done").unwrap() += ms;
            *closed.entry("connect_refused".to_owned()).or_default() += if well { 0 } else { ms };
        }
    }
    for server in status.pools.iter_mut().flat_map(|pool| &mut pool.servers) {
        *server.attempts.get_mut(if well { "ok" } else { "timeout" }).unwrap() += ms;
        let slow = server.connect_seconds.buckets.len() - 3;
        server.connect_seconds.buckets[if well { 1 } else { slow }].1 += ms;
        server.connect_seconds.count += ms;
        server.check = Some(check(well));
        if !well {
            (server.health, server.ports_used_ratio) = (Health::Down, Some(0.9));
        }
        match server.state {
            ServerState::Ready if !well => server.weight = 0,
            ServerState::Drain if well => server.connections = 0,
            _ => {}
        }
    }
    if !well {
        status.listeners.iter_mut().for_each(|listener| listener.shut = true);
        status.pools.iter_mut().for_each(|pool| pool.serving = Serving::Backups);
    }
    for worker in &mut status.workers {
        // The first stands still when the process is ill, and the others are slow.
        if well || worker.number > 0 {
            worker.turns += ms;
            worker.cpu_seconds += 0.0002 * ms as f64;
            worker.answer_seconds.sum += 0.0002 * ms as f64;
            worker.answer_seconds.count += ms;
            worker.answer_seconds.buckets[if well { 3 } else { 10 }].1 += ms;
        }
    }
    if !well {
        status.ready = false;
        status.started_at += elapsed.as_secs_f64();
        status.config.last_reload_successful = false;
        status.process.maxconn = status.process.connections;
        status.process.descriptor_limit = status.process.descriptors;
        status.process.listen_overflows = Some(ms);
    }
    status
}

/// A Prometheus that reads from these targets and knows the rules.
struct Prometheus {
    service: Service,
}

impl Prometheus {
    fn start(targets: &[SocketAddr]) -> Self {
        let home = Home::new();
        let rules = fs::read_to_string(contrib("prometheus/tidegate.rules.yml")).unwrap();
        home.write("tidegate.rules.yml", &rules);
        let targets: Vec<String> = targets.iter().map(|target| format!("\"{target}\"")).collect();
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\n\
             rule_files: [tidegate.rules.yml]\n\
             scrape_configs: [{{job_name: tidegate, static_configs: [{{targets: [{}]}}]}}]\n",
            targets.join(", ")
        );
        home.write("prometheus.yml", &config);
        let place = home.place("127.0.0.1");
        let mut command = home.command("prometheus");
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
        command.arg(format!("--web.listen-address={place}"));
        Self { service: Service::start(home, place, &mut command) }
    }

    /// What its API says, which must be a success.
    fn ask(&self, target: &str) -> Value {
        let Place::Ip(address) = self.service.place() else { panic!("it listens on an address") };
        let began = Instant::now();
        loop {
            // While it starts, it answers that it does.
            match get(*address, target) {
                Some((503, _)) | None if began.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(50));
                }
                Some((200, body)) => {
                    let mut answer: Value = serde_json::from_str(&body).unwrap();
                    assert_eq!(answer["status"], "success", "{target}: {answer}");
                    return answer["data"].take();
                }
                other => panic!("{target}: {other:?}"),
            }
        }
    }

    /// The samples that an expression yields now.
    fn samples(&self, expression: &str) -> Vec<Value> {
        let data = self.ask(&format!("/api/v1/query?query={}", encoded(expression)));
        data["result"].as_array().unwrap_or_else(|| panic!("{expression}: {data}")).clone()
    }

    /// Waits until it has read every target that answers so often.
    fn has_read(&self, times: u32) {
        let began = Instant::now();
        while self.samples(&format!("min(count_over_time(up[1m])) >= {times}")).is_empty() {
            assert!(began.elapsed() < PATIENCE, "{}", self.service.log());
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The rules as it has evaluated them: the name, the expression, and whether it yields something.
    fn rules(&self) -> Vec<(String, String, bool)> {
        let data = self.ask("/api/v1/rules");
        let groups = data["groups"].as_array().unwrap();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        rules
            .map(|rule| {
                assert_eq!(rule["health"], "ok", "{rule}");
                let says =
                    |what: &str| rule["annotations"][what].as_str().is_some_and(|text| text.len() > 20);
                assert!(rule["type"] == "recording" || says("summary") && says("description"), "{rule}");
                let expression = rule["query"].as_str().unwrap().to_owned();
                let yields = !self.samples(&expression).is_empty();
                (rule["name"].as_str().unwrap().to_owned(), expression, yields)
            })
            .collect()
    }
}

/// The names of alerts among rules that yield something, or do not.
fn alerts(rules: &[(String, String, bool)], yielding: bool) -> Vec<&str> {
    let alerts = rules.iter().filter(|(name, _, yields)| !name.contains(':') && *yields == yielding);
    alerts.map(|(name, ..)| name.as_str()).collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&fs::read_to_string(contrib("grafana/tidegate.json")).unwrap()).unwrap()
}

/// Every expression of the dashboard with what it is for, and with what Grafana puts in place of its variables.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| (&panel["title"], &target["expr"]))
    });
    let annotations = dashboard["annotations"]["list"].as_array().unwrap();
    let annotations = annotations.iter().map(|it| (&it["name"], &it["expr"]));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let filled = |expression: String| {
        let variables = ["$__rate_interval", "$__interval", "$job", "$instance", "$listener", "$pool"];
        let values = ["1m", "1m", ".*", ".*", ".*", ".*"];
        let filled =
            variables.iter().zip(values).fold(expression, |text, (name, value)| text.replace(name, value));
        assert!(!filled.contains('$'), "{filled}");
        filled
    };
    targets.chain(annotations).map(|(what, expression)| (text(what), filled(text(expression)))).collect()
}

/// Names of metrics in an expression.
fn names(expression: &str) -> BTreeSet<String> {
    let of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    let words = expression.split(|letter| !of_name(letter));
    words.filter(|word| word.starts_with("tidegate_")).map(str::to_owned).collect()
}

/// Evaluates everything against a process that is well and busy: no alert fires but those of a busy machine, for which the
/// process cannot help, and every panel shows something but those of failures.
fn assert_all_is_evaluated(target: SocketAddr, of_the_machine: &[&str]) {
    let prometheus = Prometheus::start(&[target]);
    prometheus.has_read(8);
    let began = Instant::now();
    let rules = loop {
        let rules = prometheus.rules();
        let fire: Vec<&str> =
            alerts(&rules, true).into_iter().filter(|name| !of_the_machine.contains(name)).collect();
        if fire.is_empty() {
            break rules;
        }
        // A read that came to nothing, or a count that stood still, is soon followed by one that is well.
        assert!(began.elapsed() < PATIENCE, "alerts of a process that is well: {fire:?}");
        thread::sleep(Duration::from_millis(500));
    };
    for name in of_the_machine {
        let (_, expression, _) =
            rules.iter().find(|(rule, ..)| rule == name).expect("it is one of the rules");
        // One answer of a few is late on a busy machine; half of them are not, and would be if the measure were wrong.
        let half = expression.replace("histogram_quantile(0.99,", "histogram_quantile(0.5,");
        if *name != "TidegateAcceptQueueOverflows" {
            assert_ne!(half, *expression);
            assert_eq!(prometheus.samples(&half), [Value::Null; 0], "{half}");
        }
        let (measure, _) = half.rsplit_once(" > ").expect("it has a limit");
        assert!(!prometheus.samples(measure).is_empty(), "{measure} yields nothing");
    }
    assert!(alerts(&rules, false).len() >= 15);
    let known = prometheus.ask("/api/v1/label/__name__/values");
    let known: BTreeSet<&str> = known.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let expressions = expressions(&dashboard());
    let of_rules = rules.iter().map(|(_, expression, _)| expression);
    for expression in of_rules.chain(expressions.iter().map(|(_, expression)| expression)) {
        for name in names(expression) {
            assert!(known.contains(name.as_str()), "there is no metric {name}: {expression}");
        }
    }
    for (what, expression) in &expressions {
        let shows = !prometheus.samples(expression).is_empty();
        let of_events = expression.ends_with("> 0");
        assert!(shows || of_events, "{what} shows nothing: {expression}");
    }
}

#[test]
fn rules_are_rules_and_fire_when_they_should() {
    if !installed(&TOOLS) {
        return;
    }
    let said = run(client("promtool").args(["check", "rules"]).arg(contrib("prometheus/tidegate.rules.yml")));
    assert!(said.contains("SUCCESS: 24 rules found"), "{said}");
    run(client("promtool").args(["test", "rules"]).arg(contrib("prometheus/tidegate.rules.test.yml")));
}

#[test]
fn a_process_that_is_well_fires_nothing_and_fills_the_dashboard() {
    if !installed(&TOOLS) {
        return;
    }
    let target = pretended(true);
    assert_all_is_evaluated(target.http, &[]);
}

#[test]
fn the_program_itself_fires_nothing_and_fills_the_dashboard() {
    if !installed(&TOOLS) || !installed(&["openssl"]) {
        return;
    }
    let home = Home::new();
    let Place::Ip(http) = home.place("127.0.0.1") else { panic!("it is an address") };
    // Some metrics are those of TLS checks. Nobody is sent to this pool.
    let shown = tls(100);
    let servers = [(); 2].map(|()| support::servers::Server::echo());
    let config = Config::new("mio").workers(2).server(servers[0].address()).server(servers[1].address());
    let config = config.table("admin", &format!("socket = \"off\"\nhttp = \"{http}\""));
    let config =
        config.table("pool.tls", &format!("server = [{{ name = \"s0\", addr = \"{}\" }}]", shown.place()));
    // Others are those of a name and a list; nobody is sent here, either.
    let list = home.write("list", "[{\"name\": \"b\", \"addr\": \"127.0.0.1:1\"}]");
    let resolver = support::dns::start(Ipv4Addr::LOCALHOST);
    let config = config.table("dns", &format!("resolvers = [\"{resolver}\"]")).table(
        "pool.found",
        &format!(
            "server = [{{ name = \"a\", addr = \"db.test:1\" }}]\nservers_file = \"{}\"",
            list.display()
        ),
    );
    let routed = "bind = [\"127.0.0.1:0\"]\nroute = [{ sni = [\"a.test\"], pool = \"p\" }]";
    let config = config.table("listener.routed", routed);
    let gate = Gate::start(&config.table("pool.tls.check", "kind = \"tls\""));
    let busy = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            while busy.load(Ordering::Relaxed) {
                gate.echo(10_000);
            }
        });
        // Also when something is wrong, which would be waited for otherwise.
        // Queues are counted for all programs, other tests among them.
        let of_the_machine = ["TidegateWorkerSlow", "TidegateConnectSlow", "TidegateAcceptQueueOverflows"];
        let evaluated = catch_unwind(|| assert_all_is_evaluated(http, &of_the_machine));
        busy.store(false, Ordering::Relaxed);
        if let Err(panic) = evaluated {
            resume_unwind(panic);
        }
    });
}

#[test]
fn a_process_that_is_ill_in_every_way_fires_every_alert() {
    if !installed(&TOOLS) {
        return;
    }
    let ill = pretended(false);
    // Nobody listens there any more.
    let gone = pretended(true).http;
    let prometheus = Prometheus::start(&[ill.http, gone]);
    // Metrics are given out again for a second, so two reads see one start: three restarts take eight reads at least.
    prometheus.has_read(12);
    let rules = prometheus.rules();
    assert_eq!(alerts(&rules, false), [""; 0], "alerts that do not fire");
    let failures = expressions(&dashboard());
    let failures = failures
        .iter()
        .filter(|(what, _)| ["Ends that were no plain end", "Attempts that failed"].contains(&what.as_str()));
    assert!(failures.clone().count() >= 2);
    for (what, expression) in failures.filter(|(_, expression)| !expression.contains("redispatches")) {
        assert!(!prometheus.samples(expression).is_empty(), "{what} shows nothing: {expression}");
    }
}

/// Every panel says what it shows, and none lies over another.
#[test]
fn the_dashboard_is_laid_out_and_explains_itself() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: the id is taken");
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{title} is too wide");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{title} lies over another");
            }
        }
        if panel["type"] != "row" {
            assert!(
                panel["description"].as_str().is_some_and(|text| text.len() > 10),
                "{title}: no description"
            );
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
    assert!(ids.len() > 25, "{ids:?}");
}
