//! Lists of servers at a web server, which tells the truth and lies.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tidegate::control::model::{List, Serving};

use crate::control::{File, Run, goes_on};
use crate::echo::{Echo, Load, session};
use crate::lists::{json, name, toml};
use crate::real::{assert_none_failed, servers, wait_for_servers};
use crate::support::PATIENCE;
use crate::support::service::{Home, Service, client, installed, run};

/// What is said to whoever asks.
#[derive(Clone)]
enum Says {
    /// This, and the end.
    All(Vec<u8>),
    /// This, and no end as long as somebody listens: the second again and again, at this interval.
    Endless(Vec<u8>, Vec<u8>, Duration),
}

/// A web server that says what it is told to.
struct Web {
    address: SocketAddr,
    says: Arc<Mutex<Says>>,
    /// The heads of requests.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Web {
    fn start(says: Says) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let web = Self {
            address: listener.local_addr().unwrap(),
            says: Arc::new(Mutex::new(says)),
            asked: Arc::default(),
        };
        let (says, asked) = (Arc::clone(&web.says), Arc::clone(&web.asked));
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (says, asked) = (Arc::clone(&says), Arc::clone(&asked));
                thread::spawn(move || answer(stream, &says, &asked));
            }
        });
        web
    }

    fn say(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// A pool `p` of the servers of its list alone.
    fn file(&self) -> File {
        self.file_of(&self.address.to_string())
    }

    fn file_of(&self, host: &str) -> File {
        let list = format!("servers_url = \"http://{host}/v1/servers?token=secret\"");
        File::new("mio")
            .listen("l", "127.0.0.1:0", "p")
            .set("pool.p", format!("balance = \"round_robin\"\nservers_poll = \"100ms\"\n{list}"))
    }
}

fn answer(mut stream: TcpStream, says: &Mutex<Says>, asked: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    asked.lock().unwrap().push(head.clone());
    let now = says.lock().unwrap().clone();
    match now {
        Says::All(bytes) => {
            let _ = stream.write_all(&bytes);
        }
        Says::Endless(first, more, every) => {
            let mut sent = stream.write_all(&first);
            while sent.is_ok() {
                sent = stream.write_all(&more);
                thread::sleep(every);
            }
        }
    }
}

fn ok(body: &str) -> Says {
    Says::All(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

fn list(run: &Run) -> List {
    run.status().lists.remove(0)
}

fn wait_for_result(run: &Run, result: &str) {
    let count = list(run).looks[result];
    run.wait_for(result, |status| status.lists[0].looks[result] > count);
}

#[test]
fn new_connections_follow_a_list_at_a_web_server_under_load() {
    let echoes = [Echo::start(), Echo::start(), Echo::start()];
    let [a, b, c] = echoes.each_ref().map(Echo::address);
    let web = Web::start(ok(&json(&[a])));
    let run = Run::start(&web.file().add("pool.p", "on_removed = \"keep\""));
    wait_for_servers(&run, &[a]);
    let mut kept = run.session();
    assert_eq!(run.server(&name(a)).origin, format!("servers_url http://{}/v1/servers", web.address));
    let load = Load::start(run.gate.address_of("l"), 4);
    let turns: [&[SocketAddr]; 4] = [&[b, c], &[c], &[a, b, c], &[b]];
    for round in 0..12 {
        let all = turns[round % 4];
        web.say(ok(&if round % 2 == 0 { toml(all) } else { json(all) }));
        wait_for_servers(&run, all);
    }
    let after = echoes[1].served();
    let began = Instant::now();
    while echoes[1].served() < after + 50 {
        assert!(began.elapsed() < PATIENCE, "nobody follows");
        thread::sleep(Duration::from_millis(10));
    }
    assert_none_failed(load);
    goes_on(&mut kept);
    let asked = web.asked.lock().unwrap()[0].to_lowercase();
    assert!(asked.starts_with("get /v1/servers?token=secret http/1.1\r\n"), "{asked}");
    assert!(asked.contains(&format!("\r\nhost: {}\r\n", web.address)), "{asked}");
    let told = run.ctl(&["status"]).well() + &run.gate.log_lines().join("\n");
    assert!(told.contains("/v1/servers") && !told.contains("secret"), "{told}");
}

/// What is said instead of the truth, how such a look ends, and what is told of it.
fn lies(web: &Web, at: SocketAddr) -> Vec<(&'static str, Says, &'static str, &'static str)> {
    let all = |text: &str| Says::All(text.as_bytes().to_vec());
    let (tick, none) = (Duration::from_millis(20), Duration::ZERO);
    let whole = json(&[at]);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let kib = [b' '; 1024];
    vec![
        ("an error", all("HTTP/1.1 500 Oh no\r\nContent-Length: 2\r\n\r\n[]"), "failed", "it answers 500"),
        (
            "a redirection",
            all(&format!(
                "HTTP/1.1 302 Found\r\nLocation: http://{}/x\r\nContent-Length: 0\r\n\r\n",
                web.address
            )),
            "failed",
            "redirections are not followed",
        ),
        ("not modified, unasked", all("HTTP/1.1 304 Not Modified\r\n\r\n"), "failed", "it answers 304"),
        ("no list", ok("<html>\u{1b}[31m"), "refused", "it begins with \"<html>\\x1b[31m\""),
        ("no servers", ok("[]"), "refused", "it has no servers"),
        ("wrong JSON", ok(&whole[..whole.len() - 4]), "refused", "line 1, column "),
        (
            "bytes",
            Says::All(
                [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n".as_slice(), &[0xff, 0, 1, 2]].concat(),
            ),
            "refused",
            "this byte is not UTF-8",
        ),
        ("half of it", all(&format!("HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n{whole}")), "failed", ""),
        ("half of a chunk", all(&format!("{chunked}400\r\n{whole}")), "failed", ""),
        (
            "no length",
            all(&format!("HTTP/1.1 200 OK\r\n\r\n{}", toml(&[at]))),
            "failed",
            "does not say how long it is",
        ),
        ("no HTTP", all("SSH-2.0-OpenSSH_9.6\r\n"), "failed", ""),
        ("nothing", all(""), "failed", ""),
        ("silence", Says::Endless(Vec::new(), Vec::new(), tick), "failed", "no whole answer within 1s"),
        (
            "a head without an end",
            Says::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"X-More: and more\r\n".to_vec(), none),
            "failed",
            "",
        ),
        (
            "a body that trickles",
            Says::Endless(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n".to_vec(), b" ".to_vec(), tick),
            "failed",
            "no whole answer within 1s",
        ),
        (
            "a body without an end",
            Says::Endless(chunked.into(), [b"400\r\n", &kib[..], b"\r\n"].concat(), none),
            "refused",
            "it is longer than 1048576 bytes",
        ),
    ]
}

/// Whatever a web server does: who serves goes on.
#[test]
fn answers_that_lie_take_nothing_away() {
    let echo = Echo::start();
    let at = echo.address();
    let truth = ok(&json(&[at]));
    let web = Web::start(truth.clone());
    let run = Run::start(&web.file());
    wait_for_servers(&run, &[at]);
    let load = Load::start(run.gate.address_of("l"), 2);
    for (what, lie, result, said) in lies(&web, at) {
        web.say(lie);
        wait_for_result(&run, result);
        // Two may be told of before: one that was under way.
        run.wait_for(what, |status| status.lists[0].reason.contains(said));
        println!("{what}: {}", list(&run).reason);
        session(run.gate.address_of("l")).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(servers(&run.status()), [at.to_string()], "{what}");
        web.say(truth.clone());
        wait_for_result(&run, "same");
    }
    assert_none_failed(load);
    assert_eq!(list(&run).looks["changed"], 1);
    assert!(run.gate.log_lines().iter().all(|line| !line.contains('\u{1b}')));
}

/// However many web servers are silent: who has a list at another one follows it.
#[test]
fn silent_web_servers_delay_no_other() {
    let echoes = [Echo::start(), Echo::start()];
    let at = echoes.each_ref().map(Echo::address);
    let web = Web::start(ok(&json(&[at[0]])));
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut file =
        web.file().set("pool.p", format!("servers_poll = \"1s\"\nservers_url = \"http://{}/\"", web.address));
    for pool in 0..40 {
        let url = format!("servers_url = \"http://{}/{pool}\"", silent.local_addr().unwrap());
        file = file.set(&format!("pool.q{pool}"), url).listen(
            &format!("l{pool}"),
            "127.0.0.1:0",
            &format!("q{pool}"),
        );
    }
    let run = Run::start(&file);
    wait_for_servers(&run, &at[..1]);
    let mut slowest = Duration::ZERO;
    for turn in 1..=6 {
        let began = Instant::now();
        web.say(ok(&json(&[at[turn % 2]])));
        wait_for_servers(&run, &[at[turn % 2]]);
        slowest = slowest.max(began.elapsed());
    }
    println!("followed after {slowest:?} at most");
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
}

/// A server that says what it calls a list is asked whether that is still so.
#[test]
fn a_list_that_has_not_changed_is_not_sent() {
    let echoes = [Echo::start(), Echo::start()];
    let [a, b] = echoes.each_ref().map(Echo::address);
    let tagged = |tag: &str, body: &str| {
        Says::All(
            format!("HTTP/1.1 200 OK\r\nETag: \"{tag}\"\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                .into_bytes(),
        )
    };
    let web = Web::start(tagged("one", &json(&[a])));
    let run = Run::start(&web.file());
    wait_for_servers(&run, &[a]);
    web.say(Says::All(b"HTTP/1.1 304 Not Modified\r\nETag: \"one\"\r\n\r\n".to_vec()));
    wait_for_result(&run, "same");
    wait_for_result(&run, "same");
    assert!(
        web.asked.lock().unwrap().last().unwrap().to_lowercase().contains("\r\nif-none-match: \"one\"\r\n")
    );
    web.say(tagged("two", &json(&[b])));
    wait_for_servers(&run, &[b]);
    // What is no list has no name by which it could stay.
    web.say(tagged("three", "[]"));
    wait_for_result(&run, "refused");
    let count = web.asked();
    run.wait_for("the next question", |_| web.asked() > count + 1);
    assert!(!web.asked.lock().unwrap().last().unwrap().to_lowercase().contains("if-none-match"));
    session(run.gate.address_of("l")).expect("the last good list stays");
}

/// Neither does a web server that is not there keep the process from starting; one with a name is looked up.
#[test]
fn a_web_server_never_blocks_the_start() {
    let echo = Echo::start();
    let web = Web::start(Says::Endless(Vec::new(), Vec::new(), Duration::from_millis(20)));
    let port = web.address.port();
    let run = Run::start(&web.file_of(&format!("localhost:{port}")).set("dns", "prefer = \"ipv4\""));
    run.gate.resets_a_client();
    assert_eq!((run.status().pools[0].serving, list(&run).age_s), (Serving::Nobody, None));
    web.say(ok(&json(&[echo.address()])));
    wait_for_servers(&run, &[echo.address()]);
    session(run.gate.address_of("l")).expect("it is found");
}

/// Each side has to prove who it is.
#[test]
fn a_web_server_may_have_tls() {
    if !installed(&["openssl"]) {
        return;
    }
    let echoes = [Echo::start(), Echo::start()];
    let [a, b] = echoes.each_ref().map(Echo::address);
    let (home, other) = (Home::new(), Home::new());
    certificates(&home, "127.0.0.1");
    certificates(&other, "127.0.0.1");
    let paths = ["ca.pem", "own.pem", "own.key"].map(|name| home.path(name).display().to_string());
    let place = home.place("127.0.0.1");
    let say = |home: &Home, servers: &[SocketAddr]| {
        let body = json(servers);
        // What it sends is the file, whole.
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        home.write("new", &text);
        std::fs::rename(home.path("new"), home.path("servers")).unwrap();
    };
    say(&home, &[a]);
    let [_, port] = place.host_and_port();
    let mut command = home.command("openssl");
    command.args(["s_server", "-HTTP", "-cert", "own.pem", "-key", "own.key", "-CAfile", "ca.pem"]);
    command.args(["-Verify", "1", "-verify_return_error", "-accept", &format!("127.0.0.1:{port}")]);
    let service = Service::start(home, place, &mut command);
    let with = |host: &str, keys: &str| {
        let list = format!("servers_url = {{ url = \"https://{host}:{port}/servers\", {keys} }}");
        File::new("mio")
            .listen("l", "127.0.0.1:0", "p")
            .set("pool.p", format!("servers_poll = \"200ms\"\n{list}"))
    };
    let [ca, certificate, key] = &paths;
    let own = format!("client_cert = \"{certificate}\", client_key = \"{key}\"");
    let run = Run::start(&with("127.0.0.1", &format!("ca = \"{ca}\", {own}")));
    wait_for_servers(&run, &[a]);
    assert_eq!(run.server(&name(a)).origin, format!("servers_url https://127.0.0.1:{port}/servers"));
    say(service.home(), &[b]);
    wait_for_servers(&run, &[b]);
    session(run.gate.address_of("l")).unwrap();
    // Whom nobody here trusts is not believed, nor who is somebody else; who does not say who he is gets nothing.
    let ca_of_others = other.path("ca.pem");
    let mut bad = vec![
        ("127.0.0.1", format!("ca = \"{}\", {own}", ca_of_others.display()), "invalid peer certificate"),
        ("127.0.0.1", format!("ca = \"{ca}\""), "ertificate"),
        ("127.0.0.1", format!("ca = \"{ca}x\""), "cannot use"),
        ("127.0.0.1", format!("ca = \"{key}\""), "cannot use"),
    ];
    if std::path::Path::new("/etc/resolv.conf").exists() {
        bad.push(("localhost", format!("ca = \"{ca}\", {own}"), "not valid for name \"localhost\""));
    }
    for (host, keys, said) in bad {
        let run = Run::start(&with(host, &keys).set("dns", "prefer = \"ipv4\""));
        run.wait_for(said, |status| status.lists[0].last_result.as_deref() == Some("failed"));
        assert!(list(&run).reason.contains(said), "{:?}", list(&run));
        run.gate.resets_a_client();
    }
}

/// One authority, and a certificate for both sides.
pub(crate) fn certificates(home: &Home, host: &str) {
    let path = |name: &str| home.path(name).display().to_string();
    let new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let openssl = || client("openssl");
    run(openssl().args(["req", "-x509", "-subj", "/CN=authority", "-days", "2"]).args(new).args([
        "-keyout",
        &path("ca.key"),
        "-out",
        &path("ca.pem"),
    ]));
    run(openssl().args(["req", "-subj", "/CN=member"]).args(new).args([
        "-addext",
        &format!("subjectAltName=IP:{host}"),
        "-keyout",
        &path("own.key"),
        "-out",
        &path("own.csr"),
    ]));
    run(openssl()
        .args(["x509", "-req", "-copy_extensions", "copy", "-days", "2", "-CAcreateserial"])
        .args(["-in", &path("own.csr"), "-CA", &path("ca.pem"), "-CAkey", &path("ca.key")])
        .args(["-out", &path("own.pem")]));
    // The server runs as somebody else.
    run(client("chmod").args(["a+r", &path("own.key"), &path("own.pem"), &path("ca.pem")]));
}
