//! A DNS server some of whose names are slow or silent, and whose answers have more in them than belongs there.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tidegate::control::model::Name;

use crate::control::{File, Run};
use crate::real::{servers, wait_for_servers};

const A: u16 = 1;
const CNAME: u16 = 5;
const SRV: u16 = 33;

const NXDOMAIN: u8 = 3;

/// A record: whose it is, its type, its data.
type Record = (&'static str, u16, Vec<u8>);

/// What is said of a name and a type.
#[derive(Default)]
struct Reply {
    after: Duration,
    code: u8,
    records: Vec<Record>,
}

/// Answers questions as `says` has it; with nothing, those for which it has none. Goes on as long as the tests run.
fn serve(says: impl Fn(&str, u16) -> Option<Reply> + Send + 'static) -> SocketAddr {
    let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let at = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let question = buffer[..length].to_vec();
            let (name, end) = name_in(&question);
            let kind = u16::from_be_bytes([question[end], question[end + 1]]);
            let Some(reply) = says(&name, kind) else { continue };
            let said = message(&question[..end + 4], &reply);
            let socket = Arc::clone(&socket);
            let send = move || {
                thread::sleep(reply.after);
                let _ = socket.send_to(&said, from);
            };
            if reply.after.is_zero() {
                send();
            } else {
                thread::spawn(send);
            }
        }
    });
    at
}

/// The name that is asked for, and where it ends.
fn name_in(question: &[u8]) -> (String, usize) {
    let (mut at, mut labels) = (12, Vec::new());
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8(question[at + 1..end].to_vec()).unwrap());
        at = end;
    }
    (labels.join("."), at + 1)
}

fn wire(name: &str) -> Vec<u8> {
    let labels =
        name.split('.').flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat());
    labels.chain([0]).collect()
}

fn message(question: &[u8], reply: &Reply) -> Vec<u8> {
    let mut said = question.to_vec();
    said[2..4].copy_from_slice(&[0x81, 0x80 | reply.code]);
    let count = u8::try_from(reply.records.len()).unwrap();
    said[6..12].copy_from_slice(&[0, count, 0, 0, 0, 0]);
    for (owner, kind, data) in &reply.records {
        // Where the question has it, it need not stand again: a datagram is short.
        let pointer = [0xc0, 12];
        said.extend(if name_in(question).0 == *owner { pointer.to_vec() } else { wire(owner) });
        said.extend(kind.to_be_bytes());
        said.extend([0, 1, 0, 0, 0, 0]);
        said.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        said.extend(data);
    }
    said
}

fn a(owner: &'static str, ip: [u8; 4]) -> Record {
    (owner, A, ip.to_vec())
}

/// A pool `p` of that name at port 17000.
fn file(resolver: SocketAddr, more: &str, name: &str) -> File {
    let dns = format!("resolvers = [\"{resolver}\"]\nttl_min = \"100ms\"\n{more}");
    let server = format!("server = [{{ name = \"x\", addr = \"{name}\" }}]");
    File::new("mio").listen("l", "127.0.0.1:0", "p").set("dns", dns).set("pool.p", server)
}

/// However many names cannot be looked up: new connections follow another one within its time.
#[test]
fn names_that_nobody_answers_delay_no_other() {
    let last = Arc::new(AtomicU8::new(1));
    let now = Arc::clone(&last);
    let resolver = serve(move |name, kind| {
        let records =
            if kind == A { vec![a("good.test", [127, 1, 1, now.load(Ordering::Relaxed)])] } else { vec![] };
        (name == "good.test").then_some(Reply { records, ..Reply::default() })
    });
    let dead: Vec<String> =
        (0..60).map(|at| format!("{{ name = \"d{at}\", addr = \"d{at}.dead.test:1\" }}")).collect();
    let began = Instant::now();
    let file = file(resolver, "", "good.test:17000").set("pool.q", format!("server = [{}]", dead.join(", ")));
    let run = Run::start(&file.listen("m", "127.0.0.1:0", "q"));
    let at = |last: u8| SocketAddr::from(([127, 1, 1, last], 17_000));
    wait_for_servers(&run, &[at(1)]);
    println!("there after {:?}", began.elapsed());
    let mut slowest = Duration::ZERO;
    for turn in 2..=20 {
        // Over some rounds of those that are dead.
        thread::sleep(Duration::from_millis(400));
        let began = Instant::now();
        last.store(turn, Ordering::Relaxed);
        wait_for_servers(&run, &[at(turn)]);
        slowest = slowest.max(began.elapsed());
    }
    println!("followed after {slowest:?} at most");
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    // These wait for each other, and each has its turn.
    let has_failed = |name: &Name| name.lookups["failed"] > 0 && name.reason.contains("no answer");
    run.wait_for("the dead", |status| {
        status.names.iter().all(|name| has_failed(name) == name.name.contains("dead"))
    });
    let names = run.status().names;
    assert_eq!(names.iter().find(|name| !name.name.contains("dead")).unwrap().lookups["failed"], 0);
}

/// Hosts of a service are asked together; one that is silent takes nothing from those that have answered.
#[test]
fn slow_and_silent_hosts_of_a_service_keep_no_other_from_serving() {
    const SLOW: usize = 45;
    let last = Arc::new(AtomicU8::new(1));
    let now = Arc::clone(&last);
    let names: Vec<&'static str> =
        (0..SLOW).map(|at| &*Box::leak(format!("h{at}.t").into_boxed_str())).collect();
    let resolver = serve(move |name, kind| {
        let srv = |host: &str| ("_db._tcp.t", SRV, [&[0, 1, 0, 1, 66, 104][..], &wire(host)].concat());
        let hosts = || names.iter().copied().chain(["silent.t"]);
        let (after, records) = match names.iter().position(|host| *host == name) {
            Some(0) => (300, vec![a(names[0], [127, 1, 2, now.load(Ordering::Relaxed)])]),
            Some(at) => (300, vec![a(names[at], [127, 1, 3, u8::try_from(at).unwrap()])]),
            None if kind == SRV => (0, hosts().map(srv).collect()),
            None => return None,
        };
        Some(Reply { after: Duration::from_millis(after), code: 0, records })
    });
    let run = Run::start(&file(resolver, "", "srv:_db._tcp.t"));
    let began = Instant::now();
    run.wait_for("all that answer", |status| servers(status).len() == SLOW);
    println!("there after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    for turn in 2..=4 {
        let began = Instant::now();
        last.store(turn, Ordering::Relaxed);
        let at = format!("127.1.2.{turn}:17000");
        run.wait_for(&at, |status| servers(status).contains(&at.as_str()));
        println!("followed after {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        assert_eq!(servers(&run.status()).len(), SLOW);
    }
}

/// What is said of another name than that which was asked for, or its aliases, is no server.
#[test]
fn records_of_other_names_are_no_servers() {
    let alias = |owner, to: &str| (owner, CNAME, wire(to));
    let says: Arc<Mutex<Vec<Record>>> = Arc::default();
    let code = Arc::new(AtomicU8::new(0));
    let (said, said_code) = (Arc::clone(&says), Arc::clone(&code));
    let resolver = serve(move |_, _| {
        let (code, records) = (said_code.load(Ordering::Relaxed), said.lock().unwrap().clone());
        Some(Reply { code, records, ..Reply::default() })
    });
    let at = |last: u8| SocketAddr::from(([127, 1, 4, last], 17_000));
    let tell = |records: &[Record]| *says.lock().unwrap() = records.to_vec();
    tell(&[a("db.test", [127, 1, 4, 1]), a("evil.test", [127, 1, 4, 66])]);
    let run = Run::start(&file(resolver, "prefer = \"ipv4\"\nhold = \"0s\"", "db.test:17000"));
    wait_for_servers(&run, &[at(1)]);
    // In any order, in any case, and with others' aliases between.
    tell(&[
        a("evil.test", [127, 1, 4, 66]),
        alias("evil.test", "db.test"),
        alias("DB.test", "b.test"),
        alias("b.test", "c.test"),
        a("c.TEST", [127, 1, 4, 2]),
    ]);
    wait_for_servers(&run, &[at(2)]);
    // Aliases that lead back have an end.
    tell(&[alias("db.test", "b.test"), alias("b.test", "db.test"), a("db.test", [127, 1, 4, 3])]);
    wait_for_servers(&run, &[at(3)]);
    code.store(NXDOMAIN, Ordering::Relaxed);
    run.wait_for("no name", |status| status.names[0].last_result.as_deref() == Some("missing"));
    assert!(run.status().names[0].reason.contains("NXDOMAIN"));
    wait_for_servers(&run, &[]);
    code.store(0, Ordering::Relaxed);
    tell(&[a("db.test", [127, 1, 4, 4]), a("evil.test", [127, 1, 4, 66])]);
    wait_for_servers(&run, &[at(4)]);
    // And where nothing belongs to it, there is none.
    tell(&[a("evil.test", [127, 1, 4, 66])]);
    wait_for_servers(&run, &[]);
    assert!(run.status().names[0].reason.contains("there is no A"), "{:?}", run.status().names);
}
