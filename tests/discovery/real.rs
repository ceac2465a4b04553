//! dnsmasq(8), whose answers change, which falls silent, and which has more to say than fits a datagram.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tidegate::control::model::{Name, Serving, Status};

use crate::control::{File, Run, goes_on};
use crate::echo::{Echo, Load, session};
use crate::support::PATIENCE;
use crate::support::peer::End;
use crate::support::service::{Home, Place, Service, installed};

/// The port of all servers.
const PORT: u16 = 17_000;

/// Quick, so that tests are.
const DNS: &str = "ttl_min = \"100ms\"\ntimeout = \"2s\"\ntries = 1\nhold = \"1s\"";

/// A DNS server for the domain `test`.
struct Dns {
    service: Service,
}

impl Dns {
    fn start(hosts: &str, more: &[&str]) -> Option<Self> {
        if !installed(&["dnsmasq"]) {
            return None;
        }
        let home = Home::new();
        let place = home.place("127.0.0.1");
        let Place::Ip(at) = &place else { unreachable!("an IP address was asked for") };
        let file = home.write("hosts", hosts);
        let mut command = home.command("dnsmasq");
        command
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--no-resolv",
                "--no-hosts",
                "--pid-file=",
            ])
            .args([
                "--bind-interfaces",
                "--listen-address=127.0.0.1",
                "--local=/test/",
                "--local-ttl=0",
                "--user=",
            ])
            .arg(format!("--port={}", at.port()))
            .arg(format!("--addn-hosts={}", file.display()))
            .args(more);
        let service = Service::start(home, place.clone(), &mut command);
        Some(Self { service })
    }

    /// Has it answer so from now on.
    fn say(&self, hosts: &str) {
        self.service.home().write("hosts", hosts);
        self.service.signal(Signal::HUP);
    }

    /// A file with one pool `p` of this one server, which is asked for here.
    fn file(&self, server: &str) -> File {
        File::new("mio")
            .listen("l", "127.0.0.1:0", "p")
            .set("dns", format!("resolvers = [\"{}\"]\n{DNS}", self.service.place()))
            .set("pool.p", format!("balance = \"round_robin\"\nserver = [{server}]"))
    }
}

fn host(addr: SocketAddr) -> String {
    format!("{} db.test\n", addr.ip())
}

const SERVER: &str = "{ name = \"x\", addr = \"db.test:17000\" }";

/// The servers of the pool that are not on their way out.
pub(crate) fn servers(status: &Status) -> Vec<&str> {
    let all = status.pools.iter().flat_map(|pool| &pool.servers).filter(|server| !server.removed);
    all.map(|server| server.address.as_str()).collect()
}

/// The same for a resolver that will not answer.
fn impatient(file: &File) -> File {
    file.clone().set("dns", file.table("dns").replace("2s", "200ms"))
}

/// Starts it, and waits until it knows these.
fn start(file: &File, expected: &[SocketAddr]) -> Run {
    let run = Run::start(file);
    wait_for_servers(&run, expected);
    run
}

pub(crate) fn assert_none_failed(load: Load) {
    let failures = load.end();
    assert!(failures.is_empty(), "{} have failed, as {:?}", failures.len(), failures[0]);
}

pub(crate) fn wait_for_servers(run: &Run, expected: &[SocketAddr]) {
    let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    run.wait_for(&format!("{expected:?}"), |status| servers(status) == expected);
}

fn name(run: &Run) -> Name {
    run.status().names.remove(0)
}

fn wait_for_result(run: &Run, result: &str) {
    run.wait_for(result, |status| status.names[0].last_result.as_deref() == Some(result));
}

#[test]
fn new_connections_follow_a_name_under_load() {
    let servers = [Echo::start(), Echo::start()];
    let [one, other] = servers.each_ref().map(Echo::address);
    let Some(dns) = Dns::start(&host(one), &[]) else { return };
    let run = start(&dns.file(SERVER).add("pool.p", "on_removed = \"keep\""), &[one]);
    let mut kept = run.session();
    let named = run.server(&format!("x@{one}"));
    assert_eq!((named.origin.as_str(), named.connections), ("dns db.test:17000", 1));
    let load = Load::start(run.gate.address_of("l"), 8);
    for round in 0..3 {
        let began = Instant::now();
        dns.say(&host(other));
        wait_for_servers(&run, &[other]);
        println!("round {round}: followed after {:?}", began.elapsed());
        let [before, after] = servers.each_ref().map(Echo::served);
        let began = Instant::now();
        while servers[1].served() < after + 50 {
            assert!(began.elapsed() < PATIENCE, "nobody follows");
            thread::sleep(Duration::from_millis(10));
        }
        // One that was picked before may be on its way.
        let late = servers[0].served() - before;
        assert!(late <= 8, "{late} sessions went where the name does not lead any more");
        dns.say(&(host(one) + &host(other)));
        wait_for_servers(&run, &if one < other { [one, other] } else { [other, one] });
        dns.say(&host(one));
        wait_for_servers(&run, &[one]);
    }
    assert_none_failed(load);
    goes_on(&mut kept);
    assert_eq!(run.server(&format!("x@{one}")).address, one.to_string());
    assert!(run.gate.logs(|line| line.contains(&format!("server p/x@{other} has come (dns db.test:17000)"))));
}

#[test]
fn sessions_of_an_address_that_leaves_drain() {
    let servers = [Echo::start(), Echo::start()];
    let [one, other] = servers.each_ref().map(Echo::address);
    let Some(dns) = Dns::start(&host(one), &[]) else { return };
    let run = start(&dns.file(SERVER), &[one]);
    let mut client = run.session();
    dns.say(&host(other));
    assert_eq!(client.receive_to_end(), End::Fin);
    assert_eq!(run.cause(client.address()), "server_removed");
    goes_on(&mut run.session());
    assert_eq!(servers[1].served(), 1);
}

/// Where checks decide, servers that leave serve until those that come are known to be well.
#[test]
fn checked_servers_are_replaced_without_a_gap() {
    let servers = [Echo::start(), Echo::start()];
    let [one, other] = servers.each_ref().map(Echo::address);
    let Some(dns) = Dns::start(&host(one), &[]) else { return };
    let check = "interval = \"200ms\"\ntimeout = \"500ms\"";
    let file = dns.file(SERVER).add("pool.p", "on_removed = \"keep\"");
    let run = start(&file.set("pool.p.check", check), &[one]);
    let load = Load::start(run.gate.address_of("l"), 8);
    for _ in 0..5 {
        for at in [other, one] {
            dns.say(&host(at));
            wait_for_servers(&run, &[at]);
        }
    }
    assert_none_failed(load);
    assert!(!run.gate.log_lines().iter().any(|line| line.contains("has no server left")));
}

#[test]
fn a_resolver_that_falls_silent_takes_nothing_away() {
    let servers = [Echo::start(), Echo::start()];
    let [one, other] = servers.each_ref().map(Echo::address);
    let Some(dns) = Dns::start(&host(one), &[]) else { return };
    let file = impatient(&dns.file(SERVER));
    let run = start(&file, &[one]);
    let mut kept = run.session();
    let load = Load::start(run.gate.address_of("l"), 4);
    dns.service.signal(Signal::STOP);
    wait_for_result(&run, "failed");
    // Longer than `hold`, with a reload in between.
    run.reload(&file.add("pool.p", "close_rate = \"50/s\""));
    run.wait_for("failures", |status| status.names[0].lookups["failed"] >= 4);
    thread::sleep(Duration::from_secs(1));
    wait_for_servers(&run, &[one]);
    let told = name(&run);
    assert!(told.age_s >= Some(1) && !told.reason.is_empty(), "{told:?}");
    assert!(
        run.gate.logs(|line| line.contains("db.test:17000 cannot be looked up")
            && line.contains("its one server stays"))
    );
    assert_none_failed(load);
    goes_on(&mut kept);
    dns.say(&host(other));
    dns.service.signal(Signal::CONT);
    wait_for_servers(&run, &[other]);
    assert!(run.gate.logs(|line| line.contains("db.test:17000 is found again")));
}

#[test]
fn a_name_that_is_gone_is_held_for_a_while() {
    let server = Echo::start();
    let at = server.address();
    let Some(dns) = Dns::start(&host(at), &[]) else { return };
    let run = start(&dns.file(SERVER), &[at]);
    session(run.gate.address_of("l")).unwrap();
    let began = Instant::now();
    dns.say("");
    wait_for_result(&run, "missing");
    assert_eq!(name(&run).reason, "the name does not exist (NXDOMAIN)");
    while session(run.gate.address_of("l")).is_ok() {
        assert!(began.elapsed() < PATIENCE, "it is held for ever");
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "it was held for {:?}", began.elapsed());
    wait_for_servers(&run, &[]);
    let client = run.gate.resets_a_client();
    assert_eq!(run.gate.access(client).cause, "no_server");
    dns.say(&host(at));
    wait_for_servers(&run, &[at]);
    session(run.gate.address_of("l")).expect("it is back");
}

/// Neither a name that does not exist nor a resolver that is not there keeps the process from starting.
#[test]
fn a_name_never_blocks_the_start() {
    let server = Echo::start();
    let Some(dns) = Dns::start("", &[]) else { return };
    let run = Run::start(&dns.file(SERVER));
    let client = run.gate.resets_a_client();
    assert_eq!(run.gate.access(client).cause, "no_server");
    let status = run.status();
    assert_eq!((status.pools[0].serving, status.names[0].age_s), (Serving::Nobody, None));
    assert!(run.gate.logs(|line| line.contains("db.test:17000 has no servers: the name does not exist")));
    dns.say(&host(server.address()));
    wait_for_servers(&run, &[server.address()]);
    session(run.gate.address_of("l")).expect("it is found");

    dns.service.signal(Signal::STOP);
    let began = Instant::now();
    let run = Run::start(&impatient(&dns.file(SERVER)));
    assert!(began.elapsed() < PATIENCE / 2);
    run.gate.resets_a_client();
    dns.service.signal(Signal::CONT);
    wait_for_servers(&run, &[server.address()]);
}

/// A port that refuses as long as nobody is found, and when nobody is left.
#[test]
fn a_listener_listens_while_its_name_has_servers() {
    let server = Echo::start();
    let at = crate::control::place();
    let Some(dns) = Dns::start("", &[]) else { return };
    let file = dns.file(SERVER).listen("l", at, "p");
    let run = start(&file.add("listener.l", "when_no_upstream = \"stop_listening\""), &[]);
    let wait_until = |is_open: bool| {
        run.wait_for("the port", |_| std::net::TcpStream::connect(at).is_ok() == is_open);
    };
    wait_until(false);
    dns.say(&host(server.address()));
    wait_until(true);
    session(at).expect("it is found");
    dns.say("");
    wait_until(false);
}

/// An answer that does not fit a datagram comes by TCP; one that is too long is cut.
#[test]
fn long_answers_are_whole_up_to_a_limit() {
    let hosts = |count: u32| -> String {
        (0..count).map(|n| format!("127.1.{}.{} db.test\n", n / 200, n % 200 + 1)).collect()
    };
    let Some(dns) = Dns::start(&hosts(150), &["--edns-packet-max=512"]) else { return };
    let run = Run::start(&dns.file(SERVER));
    run.wait_for("all of them", |status| servers(status).len() == 150);
    // Another one: the process that answers by TCP would keep to what it knew when the connection began.
    let Some(dns) = Dns::start(&hosts(300), &[]) else { return };
    let run = Run::start(&dns.file(SERVER));
    run.wait_for("as many as may be", |status| servers(status).len() == 256);
    assert!(run.gate.logs(|line| line.contains("db.test:17000 stands for 300 servers, and 256 are used")));
    // By TCP alone.
    let file = dns.file(SERVER);
    let tcp = file.table("dns").replace("[\"", "[\"tcp://");
    let run = Run::start(&file.set("dns", tcp));
    run.wait_for("as many as may be", |status| servers(status).len() == 256);
}

/// Weights and priorities of SRV records; those with a higher priority are backup servers.
#[test]
fn services_have_weights_and_backups() {
    let servers: [Echo; 3] = std::array::from_fn(|_| Echo::start());
    let [a, b, c] = servers.each_ref().map(Echo::address);
    let hosts = format!("{} a.test\n{} b.test\n{} c.test\n", a.ip(), b.ip(), c.ip());
    let srv = |host: &str, priority: u16, weight: u16| {
        format!("--srv-host=_db._tcp.test,{host}.test,{PORT},{priority},{weight}")
    };
    let records = [srv("a", 10, 3), srv("b", 10, 1), srv("c", 20, 5)];
    let Some(dns) = Dns::start(&hosts, &records.each_ref().map(String::as_str)) else { return };
    let run = Run::start(&dns.file("{ name = \"x\", addr = \"srv:_db._tcp.test\" }"));
    run.wait_for("three", |status| self::servers(status).len() == 3);
    for _ in 0..40 {
        session(run.gate.address_of("l")).unwrap();
    }
    assert_eq!(servers.each_ref().map(Echo::served), [30, 10, 0]);
    let shown = [a, b, c].map(|at| run.server(&format!("x@{at}")));
    assert_eq!(shown.map(|server| (server.weight, server.backup)), [(3, false), (1, false), (5, true)]);
    for at in [a, b] {
        run.ctl(&["drain", &format!("p/x@{at}")]).well();
    }
    session(run.gate.address_of("l")).unwrap();
    assert_eq!((servers[2].served(), run.status().pools[0].serving), (1, Serving::Backups));
}

/// A resolver that refuses to say anything of IPv6 has said enough of IPv4, of every host.
#[test]
fn hosts_of_a_service_are_found_where_one_family_is_refused() {
    let servers = [Echo::start(), Echo::start()];
    let [a, b] = servers.each_ref().map(Echo::address);
    // Of names outside of its own domain it knows what stands in the file, and has nobody to ask for more.
    let hosts = format!("{} a.elsewhere\n{} b.elsewhere\n", a.ip(), b.ip());
    let srv = |host: &str| format!("--srv-host=_db._tcp.test,{host}.elsewhere,{PORT},10,1");
    let records = [srv("a"), srv("b")];
    let Some(dns) = Dns::start(&hosts, &records.each_ref().map(String::as_str)) else { return };
    let run = Run::start(&dns.file("{ name = \"x\", addr = \"srv:_db._tcp.test\" }"));
    run.wait_for("both", |status| self::servers(status).len() == 2);
    let name = &run.status().names[0];
    assert!(name.lookups["failed"] > 0 && name.reason.contains("efused"), "{name:?}");
}

/// What is set of a name holds for all its servers, also for those that come later, and yields to what is set of one.
#[test]
fn what_is_set_of_a_name_holds_for_all_of_it() {
    let servers = [Echo::start(), Echo::start()];
    let mut at = servers.each_ref().map(Echo::address);
    at.sort_unstable();
    let Some(dns) = Dns::start(&host(at[0]), &[]) else { return };
    let file = dns.file(SERVER);
    let run = start(&file, &at[..1]);
    assert!(run.ctl(&["weight", "p/x", "7"]).well().contains("server p/x: weight 1 -> 7"));
    dns.say(&(host(at[0]) + &host(at[1])));
    wait_for_servers(&run, &at);
    let weights = || at.map(|at| run.server(&format!("x@{at}")).weight);
    assert_eq!(weights(), [7, 7]);
    run.ctl(&["weight", &format!("p/x@{}", at[1]), "1"]).well();
    assert_eq!(weights(), [7, 1]);
    run.reload(&file.add("pool.p", "close_rate = \"50/s\""));
    assert_eq!(weights(), [7, 1]);
    let session = run.session();
    assert_eq!(run.get("/api/v1/connections?server=p/x").1.lines().count(), 1);
    drop(session);
    let refused = run.ctl(&["weight", "p/y", "1"]).refused();
    assert!(refused.contains("there is no server \"y\""), "{refused}");
    let table = run.ctl(&["status"]).well();
    assert!(table.contains("db.test:17000") && table.contains("found"), "{table}");
}

#[test]
fn both_families_are_used_or_the_preferred_one() {
    let [v4, v6]: [SocketAddr; 2] = ["127.0.0.1:17000", "[::1]:17000"].map(|at| at.parse().unwrap());
    let Some(dns) = Dns::start("::1 db.test\n127.0.0.1 db.test\n::1 only.test\n", &[]) else { return };
    let file = dns.file(SERVER);
    let run = start(&file, &[v4, v6]);
    run.ctl(&["weight", &format!("p/x@{v6}"), "3"]).well();
    assert_eq!(run.server("x@[::1]:17000").weight, 3);
    run.reload(&file.clone().add("dns", "prefer = \"ipv6\""));
    wait_for_servers(&run, &[v6]);
    assert_eq!(run.server("x@[::1]:17000").weight, 3, "what was set stays");
    run.reload(&file.clone().add("dns", "prefer = \"ipv4\""));
    wait_for_servers(&run, &[v4]);
    let only = file.table("pool.p").replace("db.test", "only.test");
    run.reload(&file.add("dns", "prefer = \"ipv4\"").set("pool.p", only));
    wait_for_servers(&run, &[v6]);
}

/// A reload that puts a name in place of an address has its servers at once.
#[test]
fn a_reload_brings_names_without_a_gap() {
    let server = Echo::start();
    let at = server.address();
    let Some(dns) = Dns::start(&host(at), &[]) else { return };
    let by_name = dns.file(SERVER).add("pool.p", "on_removed = \"keep\"");
    let by_address = by_name.table("pool.p").replace("db.test:17000", &at.to_string());
    let by_address = by_name.clone().set("pool.p", by_address);
    let run = Run::start(&by_address);
    let load = Load::start(run.gate.address_of("l"), 8);
    for _ in 0..5 {
        let said = run.reload(&by_name);
        assert!(said.contains("server p/x added: db.test:17000"), "{said}");
        assert!(run.diff(&by_address).out.contains("server p/x removed (db.test:17000)"));
        run.reload(&by_address);
    }
    assert_none_failed(load);
}

/// Also where the new name is not looked up again for minutes: the servers of the old one leave once the others are checked.
#[test]
fn a_checked_name_gives_way_to_another_one_in_a_reload() {
    let echoes = [Echo::start(), Echo::start()];
    let [one, other] = echoes.each_ref().map(Echo::address);
    let Some(dns) = Dns::start(&format!("{}{} new.test\n", host(one), other.ip()), &[]) else { return };
    let file = dns.file(SERVER).add("pool.p", "on_removed = \"keep\"");
    let rare = file.table("dns").replace("ttl_min = \"100ms\"", "ttl_min = \"5m\"");
    let file = file.set("dns", rare).set("pool.p.check", "interval = \"200ms\"\ntimeout = \"500ms\"");
    let new = file.clone().set("pool.p", file.table("pool.p").replace("db.test", "new.test"));
    let run = start(&file, &[one]);
    let load = Load::start(run.gate.address_of("l"), 4);
    for (file, at) in [(&new, other), (&file, one)] {
        run.reload(file);
        wait_for_servers(&run, &[at]);
    }
    assert_none_failed(load);
}

/// What resolv.conf and hosts say.
#[test]
fn the_system_knows_this_host() {
    if !std::path::Path::new("/etc/resolv.conf").exists() {
        println!("skipped: there is no resolv.conf");
        return;
    }
    let server = crate::support::servers::Server::echo();
    let port = server.address().port();
    let file = File::new("mio").listen("l", "127.0.0.1:0", "p");
    let file = file.set("dns", "prefer = \"ipv4\"");
    let run = Run::start(
        &file.set("pool.p", format!("server = [{{ name = \"x\", addr = \"localhost:{port}\" }}]")),
    );
    wait_for_servers(&run, &[server.address()]);
    goes_on(&mut run.session());
}

/// Of a service with many hosts those that are not looked up are told of.
#[test]
fn hosts_of_a_service_above_the_limit_are_told_of() {
    let hosts: String = (1..=70).map(|n| format!("127.1.0.{n} h{n}.test\n")).collect();
    let records: Vec<String> =
        (1..=70).map(|n| format!("--srv-host=_db._tcp.test,h{n}.test,{PORT},10,{}", 100 - n)).collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let Some(dns) = Dns::start(&hosts, &records) else { return };
    let run = Run::start(&dns.file("{ name = \"x\", addr = \"srv:_db._tcp.test\" }"));
    run.wait_for("the heaviest", |status| servers(status).len() == 64);
    assert!(servers(&run.status()).contains(&"127.1.0.1:17000"));
    assert!(!servers(&run.status()).contains(&"127.1.0.65:17000"));
    assert_eq!(name(&run).left_out, 6);
    assert!(run.gate.logs(|line| line.contains("srv:_db._tcp.test stands for 70 servers, and 64 are used")));
    let table = run.ctl(&["status"]).well();
    assert!(table.contains("LEFT OUT"), "{table}");
}
