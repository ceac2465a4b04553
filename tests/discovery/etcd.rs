//! Servers that register in a real etcd, which dies, forgets, falls silent and asks who is there.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use rustix::process::Signal;
use serde_json::{Value, json};
use tidegate::control::model::{List, Status};

use crate::control::{File, Run, goes_on};
use crate::echo::{Echo, Load, session};
use crate::real::{assert_none_failed, wait_for_servers};
use crate::support::PATIENCE;
use crate::support::http::Wire;
use crate::support::service::{Home, Place, Service, installed};
use crate::web::certificates;

const PREFIX: &str = "/services/p/";

/// One member, which is the whole cluster.
struct Etcd {
    service: Service,
    token: String,
}

impl Etcd {
    fn start() -> Option<Self> {
        installed(&["etcd"]).then(|| {
            let home = Home::new();
            let place = home.place("127.0.0.1");
            Self::start_at(home, &place, "", &[])
        })
    }

    /// One that knows nothing. `more` is where else it listens.
    fn start_at(home: Home, place: &Place, more: &str, options: &[String]) -> Self {
        let peers = format!("http://{}", home.place("127.0.0.1"));
        let clients = format!("http://{place}{more}");
        let mut command = home.command("etcd");
        command
            .args(["--name=m", "--data-dir=data", "--log-outputs=stderr", "--logger=zap"])
            .arg(format!("--listen-client-urls={clients}"))
            .arg(format!("--advertise-client-urls={clients}"))
            .arg(format!("--listen-peer-urls={peers}"))
            .arg(format!("--initial-advertise-peer-urls={peers}"))
            .arg(format!("--initial-cluster=m={peers}"))
            .args(options);
        Self { service: Service::start(home, place.clone(), &mut command), token: String::new() }
    }

    fn call(&self, path: &str, body: &Value) -> Value {
        let Place::Ip(at) = self.service.place() else { unreachable!("it has an IP address") };
        let body = body.to_string();
        let token = match self.token.as_str() {
            "" => String::new(),
            token => format!("Authorization: {token}\r\n"),
        };
        let head = format!("POST /v3/{path} HTTP/1.1\r\nHost: {at}\r\n{token}Connection: close");
        let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let answer = Wire::tcp(TcpStream::connect(at).unwrap()).send(request).answer();
        assert_eq!(answer.status, 200, "{path} {body}: {answer:?}");
        answer.json()
    }

    fn put(&self, name: &str, value: &str) {
        self.call("kv/put", &json!({ "key": key(name), "value": BASE64.encode(value.as_bytes()) }));
    }

    /// Registers until `ttl` seconds after the last sign of life, of which there is none.
    fn put_for(&self, name: &str, at: SocketAddr, ttl: u32) {
        let lease = &self.call("lease/grant", &json!({ "TTL": ttl }))["ID"];
        let value = BASE64.encode(at.to_string().as_bytes());
        self.call("kv/put", &json!({ "key": key(name), "value": value, "lease": lease }));
    }

    fn register(&self, name: &str, at: SocketAddr) {
        self.put(name, &at.to_string());
    }

    fn remove(&self, name: &str) {
        self.call("kv/deleterange", &json!({ "key": key(name) }));
    }

    /// A pool `p` of those that register here.
    fn file(&self) -> File {
        file(&[self.service.place()])
    }
}

fn key(name: &str) -> String {
    BASE64.encode(format!("{PREFIX}{name}").as_bytes())
}

fn file(endpoints: &[&Place]) -> File {
    let endpoints: Vec<String> = endpoints.iter().map(|at| format!("\"http://{at}\"")).collect();
    let etcd = format!("{{ endpoints = [{}], prefix = \"{PREFIX}\" }}", endpoints.join(", "));
    File::new("mio").listen("l", "127.0.0.1:0", "p").set(
        "pool.p",
        format!("balance = \"round_robin\"\nservers_poll = \"200ms\"\non_removed = \"keep\"\nservers_etcd = {etcd}"),
    )
}

fn list(run: &Run) -> List {
    run.status().lists.remove(0)
}

fn failures(run: &Run) -> u64 {
    list(run).looks["failed"]
}

fn wait_for_failures(run: &Run, count: u64) {
    run.wait_for("failures", |status| status.lists[0].looks["failed"] >= count);
}

/// The names of those in use, and their addresses.
fn registered(status: &Status) -> BTreeSet<String> {
    let all = status.pools.iter().flat_map(|pool| &pool.servers).filter(|server| !server.removed);
    all.map(|server| server.name.clone()).collect()
}

#[test]
fn new_connections_follow_fifty_registrations_and_removals_under_load() {
    let echoes = [(); 5].map(|()| Echo::start());
    let Some(etcd) = Etcd::start() else { return };
    etcd.register("first", echoes[0].address());
    let run = Run::start(&etcd.file());
    wait_for_servers(&run, &[echoes[0].address()]);
    let origin = run.server(&format!("first@{}", echoes[0].address())).origin;
    assert_eq!(origin, format!("servers_etcd http://{} {PREFIX}", etcd.service.place()));
    let load = Load::start(run.gate.address_of("l"), 8);
    let mut times = Vec::new();
    let mut before = format!("first@{}", echoes[0].address());
    for round in 1..=50 {
        let name = format!("n{round}");
        let at = echoes[round % echoes.len()].address();
        let began = Instant::now();
        etcd.register(&name, at);
        etcd.remove(before.split('@').next().unwrap());
        let now = format!("{name}@{at}");
        run.wait_for(&now, |status| registered(status) == BTreeSet::from([now.clone()]));
        times.push(began.elapsed());
        before = now;
    }
    assert_none_failed(load);
    times.sort();
    println!("followed after {:?} as a rule, {:?} at most", times[25], times[49]);
    assert!(echoes.iter().all(|echo| echo.served() > 0));
    assert_eq!(failures(&run), 0);
}

/// Killed, then there again at the same place without what it knew: only what it is told then changes anything.
#[test]
fn an_etcd_that_dies_changes_nothing() {
    let echoes = [Echo::start(), Echo::start()];
    let [a, b] = echoes.each_ref().map(Echo::address);
    let Some(etcd) = Etcd::start() else { return };
    etcd.register("a", a);
    let file = etcd.file();
    let run = Run::start(&file);
    wait_for_servers(&run, &[a]);
    let mut kept = run.session();
    let load = Load::start(run.gate.address_of("l"), 8);
    let place = etcd.service.place().clone();
    etcd.service.signal(Signal::KILL);
    wait_for_failures(&run, 2);
    // Nor does a reload, also with another endpoint.
    let table = file.table("pool.p").replace("endpoints = [", "endpoints = [\"http://127.0.0.1:1\", ");
    run.reload(&file.set("pool.p", table));
    wait_for_failures(&run, failures(&run) + 2);
    wait_for_servers(&run, &[a]);
    assert!(list(&run).reason.contains("refused"), "{:?}", list(&run));
    drop(etcd);
    let etcd = Etcd::start_at(Home::new(), &place, "", &[]);
    run.wait_for("nobody", |status| status.lists[0].reason.contains("nobody is registered"));
    thread::sleep(Duration::from_millis(300));
    wait_for_servers(&run, &[a]);
    let began = Instant::now();
    etcd.register("b", b);
    wait_for_servers(&run, &[b]);
    println!("followed after {:?}", began.elapsed());
    assert_none_failed(load);
    goes_on(&mut kept);
    assert!(run.gate.logs(|line| line.contains("the one server of the last good list stays")));
    assert!(run.gate.logs(|line| line.contains("is well again")));
}

/// A member that is stopped keeps its connections, and says nothing.
#[test]
fn an_etcd_that_falls_silent_changes_nothing() {
    let echoes = [Echo::start(), Echo::start()];
    let [a, b] = echoes.each_ref().map(Echo::address);
    let Some(etcd) = Etcd::start() else { return };
    etcd.register("a", a);
    let run = Run::start(&etcd.file());
    wait_for_servers(&run, &[a]);
    let load = Load::start(run.gate.address_of("l"), 4);
    etcd.service.signal(Signal::STOP);
    wait_for_failures(&run, 1);
    assert!(list(&run).reason.contains("no answer within"), "{:?}", list(&run));
    wait_for_servers(&run, &[a]);
    etcd.service.signal(Signal::CONT);
    etcd.register("b", b);
    etcd.remove("a");
    wait_for_servers(&run, &[b]);
    assert_none_failed(load);
}

#[test]
fn a_member_that_is_dead_is_passed_over() {
    let echoes = [Echo::start(), Echo::start()];
    let [a, b] = echoes.each_ref().map(Echo::address);
    let Some(etcd) = Etcd::start() else { return };
    etcd.register("a", a);
    let dead = etcd.service.home().place("127.0.0.1");
    let mut file = file(&[&dead, etcd.service.place()]);
    if std::path::Path::new("/etc/resolv.conf").exists() {
        let [host, port] = etcd.service.place().host_and_port();
        let table = file.table("pool.p").replace(&format!("{host}:{port}"), &format!("localhost:{port}"));
        file = file.set("pool.p", table);
    }
    let run = Run::start(&file);
    session(run.gate.address_of("l")).expect("it is known from the start");
    etcd.register("b", b);
    run.wait_for("both", |status| registered(status).len() == 2);
    assert_eq!(failures(&run), 0);
    assert!(run.gate.logs(|line| line.contains(&format!("http://{dead}: {dead}: Connection refused"))));
}

/// What a value says follows; where one says nothing, the one before it stays, or nothing if there was none, and so do the
/// others. Whose lease ends is gone.
#[test]
fn registrations_are_taken_one_by_one() {
    let echoes = [Echo::start(), Echo::start(), Echo::start()];
    let [a, b, c] = echoes.each_ref().map(Echo::address);
    let Some(etcd) = Etcd::start() else { return };
    etcd.register("a", a);
    let file = etcd.file();
    let run = Run::start(&file);
    wait_for_servers(&run, &[a]);
    etcd.put("b", &format!("{{\"addr\": \"{b}\", \"weight\": 7, \"backup\": true}}"));
    etcd.put_for("c", c, 1);
    run.wait_for("three", |status| registered(status).len() == 3);
    let of_b = run.server(&format!("b@{b}"));
    assert_eq!((of_b.weight, of_b.backup), (7, true));
    etcd.put("b", "{\"addr\": \"db.example:1\"}");
    etcd.put("dc1/d", "10.0.0.1:1");
    let both = BTreeSet::from([format!("a@{a}"), format!("b@{b}")]);
    run.wait_for("two", |status| registered(status) == both);
    run.wait_for("two that are none", |status| status.lists[0].left_out == 2);
    assert!(run.gate.logs(|line| line.contains("is no server: ") && line.contains("is a name")));
    assert!(run.gate.logs(|line| line.contains("is a name") && line.contains("what it was before stays")));
    assert!(run.gate.logs(|line| line.contains("dc1/d") && !line.contains("what it was before stays")));
    assert_eq!((run.server(&format!("b@{b}")).weight, registered(&run.status())), (7, both.clone()));
    // Also over a reload; and what is right is taken again.
    run.reload(&file.add("pool.p", "close_rate = \"50/s\""));
    run.wait_for("a look", |status| status.lists[0].left_out == 2);
    assert_eq!(registered(&run.status()), both);
    etcd.put("b", &format!("{{\"addr\": \"{b}\", \"weight\": 3}}"));
    run.wait_for("the weight", |_| run.server(&format!("b@{b}")).weight == 3);
    etcd.put("b", "\u{1}nonsense");
    run.wait_for("a sample", |status| {
        status.lists[0].left_out == 2
            && run.gate.logs(|line| line.contains("it begins with") && line.contains("x01nonsense"))
    });
    etcd.remove("b");
    run.wait_for("one", |status| registered(status) == BTreeSet::from([format!("a@{a}")]));
    assert!(run.gate.logs(|line| line.contains("dc1/d") && line.contains("is no server: ")));
    // The last one stays: whoever has to register may have died.
    etcd.remove("a");
    run.wait_for("nobody", |status| status.lists[0].last_result.as_deref() == Some("refused"));
    wait_for_servers(&run, &[a]);
    session(run.gate.address_of("l")).unwrap();
    etcd.register("b", b);
    wait_for_servers(&run, &[b]);
    let table = run.ctl(&["status"]).well();
    assert!(table.contains("servers_etcd"), "{table}");
}

#[test]
fn etcd_may_ask_for_a_password() {
    let echoes = [Echo::start(), Echo::start()];
    let [a, b] = echoes.each_ref().map(Echo::address);
    let Some(mut etcd) = Etcd::start() else { return };
    etcd.register("a", a);
    etcd.call("auth/user/add", &json!({ "name": "root", "password": "secret" }));
    etcd.call("auth/role/add", &json!({ "name": "root" }));
    etcd.call("auth/user/grant", &json!({ "user": "root", "role": "root" }));
    etcd.call("auth/enable", &json!({}));
    let password = etcd.service.home().write("password", "wrong\n");
    let user = format!("username = \"root\", password_file = \"{}\", prefix", password.display());
    let file = etcd.file();
    let pool = file.table("pool.p");
    let run = Run::start(&file.set("pool.p", pool.replace("prefix", &user)));
    run.wait_for("a refusal", |status| status.lists[0].reason.contains("authentication failed"));
    etcd.service.home().write("password", "secret\n");
    wait_for_servers(&run, &[a]);
    let answer = etcd.call("auth/authenticate", &json!({ "name": "root", "password": "secret" }));
    etcd.token = answer["token"].as_str().unwrap().to_owned();
    etcd.register("b", b);
    etcd.remove("a");
    wait_for_servers(&run, &[b]);
    let run = Run::start(&etcd.file());
    run.wait_for("a refusal", |status| status.lists[0].reason.contains("user name is empty"));
}

/// Each side has to prove who it is.
#[test]
fn etcd_may_have_tls() {
    if !installed(&["etcd", "openssl"]) {
        return;
    }
    let echo = Echo::start();
    let home = Home::new();
    certificates(&home, "127.0.0.1");
    let [place, secure] = [(); 2].map(|()| home.place("127.0.0.1"));
    let option = |key: &str, file: &str| format!("--{key}={}", home.path(file).display());
    let options = [
        option("cert-file", "own.pem"),
        option("key-file", "own.key"),
        option("trusted-ca-file", "ca.pem"),
        "--client-cert-auth".to_owned(),
    ];
    let paths = ["ca.pem", "own.pem", "own.key"].map(|name| home.path(name).display().to_string());
    let etcd = Etcd::start_at(home, &place, &format!(",https://{secure}"), &options);
    etcd.register("a", echo.address());
    let with = |keys: &str| {
        let file = file(&[&secure]);
        let table = file.table("pool.p").replace("http://", "https://");
        file.set("pool.p", table.replace("prefix =", &format!("{keys}, prefix =")))
    };
    let [ca, certificate, key] = &paths;
    let client = format!("client_cert = \"{certificate}\", client_key = \"{key}\"");
    let run = Run::start(&with(&format!("ca = \"{ca}\", {client}")));
    wait_for_servers(&run, &[echo.address()]);
    session(run.gate.address_of("l")).unwrap();
    // Whom nobody here trusts is not believed; who does not say who he is gets nothing.
    let other = Home::new();
    certificates(&other, "127.0.0.1");
    let ca_of_others = other.path("ca.pem");
    for (keys, said) in [
        (format!("ca = \"{}\", {client}", ca_of_others.display()), "invalid peer certificate"),
        (format!("ca = \"{ca}\""), "https://"),
        (format!("ca = \"{ca}x\""), "cannot use"),
    ] {
        let run = Run::start(&with(&keys));
        run.wait_for(said, |status| status.lists[0].last_result.as_deref() == Some("failed"));
        assert!(list(&run).reason.contains(said), "{:?}", list(&run));
        run.gate.resets_a_client();
    }
}

/// What is read for each connection may be something whose reading has no end: that is told, and the process ends all the same.
#[test]
fn files_that_cannot_be_read_to_their_end_are_told_of() {
    let echo = Echo::start();
    let home = Home::new();
    let fifo = home.path("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
    let (at, fifo) = (echo.address(), fifo.display());
    let etcd = |endpoint: &str, keys: &str| {
        format!("servers_etcd = {{ endpoints = [\"{endpoint}://{at}\"], prefix = \"/s/\", {keys} }}")
    };
    for source in [
        etcd("http", &format!("username = \"u\", password_file = \"{fifo}\"")),
        etcd("https", &format!("ca = \"{fifo}\"")),
        format!("servers_url = {{ url = \"https://{at}/\", ca = \"{fifo}\" }}"),
    ] {
        let pool = format!("servers_poll = \"200ms\"\n{source}");
        let mut run = Run::start(&File::new("mio").listen("l", "127.0.0.1:0", "p").set("pool.p", pool));
        run.wait_for(&source, |status| status.lists[0].reason.contains("it is a FIFO"));
        wait_for_failures(&run, 2);
        run.gate.signal(Signal::TERM);
        assert!(run.gate.wait_exit(PATIENCE).is_some_and(|status| status.success()), "{source}: it stays");
    }
}
