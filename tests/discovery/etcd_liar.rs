//! An etcd that lies: whatever it says, nothing is lost by it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use data_encoding::BASE64;
use tidegate::control::model::Status;

use crate::control::{File, Run};
use crate::echo::{Echo, session};
use crate::real::wait_for_servers;

/// What it says: of the whole prefix, and when it is to watch.
#[derive(Clone)]
struct Tale {
    whole: Vec<u8>,
    /// How long it takes to say that.
    whole_after: Duration,
    watch: Vec<u8>,
    then: Then,
}

/// What a watch does that has said all.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Ends,
    /// It stays, with nothing more to say.
    Stays,
    /// It says again and again that a registration is as it was.
    Repeats,
}

/// Between two lines of a watch that repeats.
const BEAT: Duration = Duration::from_millis(20);

/// Answers every request as the tale has it; connections that are there when it becomes another one end.
struct Liar {
    at: SocketAddr,
    tale: Arc<Mutex<(Tale, Vec<TcpStream>)>>,
}

impl Liar {
    fn start(tale: Tale) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let liar = Self { at, tale: Arc::new(Mutex::new((tale, Vec::new()))) };
        let tale = Arc::clone(&liar.tale);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut now = tale.lock().unwrap();
                now.1.push(stream.try_clone().unwrap());
                let told = now.0.clone();
                thread::spawn(move || answer(&stream, &told));
            }
        });
        liar
    }

    fn tell(&self, tale: Tale) {
        let mut now = self.tale.lock().unwrap();
        now.0 = tale;
        for stream in now.1.drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    fn file(&self, more: &str) -> File {
        let etcd = format!("{{ endpoints = [\"http://{}\"], prefix = \"/s/\" }}", self.at);
        File::new("mio").listen("l", "127.0.0.1:0", "p").set(
            "pool.p",
            format!("servers_poll = \"100ms\"\non_removed = \"keep\"\nservers_etcd = {etcd}\n{more}"),
        )
    }
}

fn answer(mut stream: &TcpStream, tale: &Tale) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut path, mut length) = (String::new(), 0);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
        if path.is_empty() {
            path = line.clone();
        }
        if let Some(said) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = said.trim().parse().unwrap();
        }
        line.clear();
    }
    let _ = reader.by_ref().take(length).read_to_end(&mut Vec::new());
    let is_watch = path.contains("/watch");
    if is_watch {
        let _ = stream.write_all(&tale.watch);
        match tale.then {
            Then::Ends => {}
            Then::Stays => drop(reader.read_to_end(&mut Vec::new())),
            Then::Repeats => {
                let last = tale.watch.split_inclusive(|byte| *byte == b'\n').next_back().unwrap();
                while stream.write_all(last).is_ok() {
                    thread::sleep(BEAT);
                }
            }
        }
    } else {
        thread::sleep(tale.whole_after);
        let _ = stream.write_all(&tale.whole);
    }
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

fn http(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The head of an answer that goes on until the connection ends.
fn open(body: impl AsRef<[u8]>) -> Vec<u8> {
    [b"HTTP/1.1 200 OK\r\n\r\n", body.as_ref()].concat()
}

fn whole(key: &str, value: &str) -> String {
    let [key, value] = [key, value].map(|text| BASE64.encode(text.as_bytes()));
    format!(
        "{{\"header\":{{\"revision\":\"7\"}},\"kvs\":[{{\"key\":\"{key}\",\"value\":\"{value}\"}}],\"count\":\"1\"}}"
    )
}

const CREATED: &str = "{\"result\":{\"header\":{\"revision\":\"7\"},\"created\":true}}\n";

fn truth(at: SocketAddr) -> Tale {
    Tale {
        whole: http(whole("/s/x", &at.to_string())),
        whole_after: Duration::ZERO,
        watch: open(CREATED),
        then: Then::Stays,
    }
}

/// Lies about the whole, and about what happens.
fn lies(at: SocketAddr) -> Vec<(&'static str, Tale)> {
    let plain = truth(at);
    let of_whole = |what, whole: Vec<u8>| (what, Tale { whole, ..plain.clone() });
    let of_watch =
        |what, watch: String| (what, Tale { watch: open(watch), then: Then::Ends, ..plain.clone() });
    let then = |line: &str| format!("{CREATED}{line}\n");
    let event = |events: &str| {
        then(&format!("{{\"result\":{{\"header\":{{\"revision\":\"8\"}},\"events\":[{events}]}}}}"))
    };
    let right = whole("/s/x", &at.to_string());
    vec![
        of_whole("an end", Vec::new()),
        of_whole("nothing of this protocol", vec![0xff; 1000]),
        of_whole(
            "a head without end",
            [b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".repeat(200_000)].concat(),
        ),
        of_whole("a page", http("<html>hello</html>")),
        of_whole("nothing", http("")),
        of_whole("something else's JSON", http("{}")),
        of_whole("an error", b"HTTP/1.1 500 Oh\r\nContent-Length: 12\r\n\r\n{\"error\":\"x\"".to_vec()),
        of_whole("another place", b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".to_vec()),
        of_whole("a part", http(&right).split_at(80).0.to_vec()),
        of_whole("what has no end", open(vec![b' '; 5 << 20])),
        of_whole("another prefix", http(whole("/t/x", "10.0.0.1:1"))),
        of_whole("no base64", http(right.replace("\"key\":\"", "\"key\":\"*"))),
        of_whole("more than is taken", http(right.replace("\"count\"", "\"more\":true,\"count\""))),
        of_watch("no watch", String::new()),
        of_watch("a watch that ends", CREATED.to_owned()),
        of_watch("a watch without lines", format!("{CREATED}{}", " ".repeat(5 << 20))),
        of_watch("noise", then("\u{1}\u{2}")),
        of_watch("an error of the watch", then("{\"error\":{\"message\":\"no leader\"}}")),
        of_watch(
            "compaction",
            then("{\"result\":{\"header\":{},\"canceled\":true,\"compact_revision\":\"4\"}}"),
        ),
        of_watch("half an event", event("{\"type\":\"PUT\"}")),
        of_watch("an event of another prefix", event("{\"kv\":{\"key\":\"L3QveA==\"}}")),
    ]
}

fn failures(status: &Status) -> u64 {
    status.lists[0].looks["failed"]
}

#[test]
fn lies_of_etcd_take_nothing_away() {
    let echo = Echo::start();
    let at = echo.address();
    let liar = Liar::start(truth(at));
    let run = Run::start(&liar.file(""));
    wait_for_servers(&run, &[at]);
    for (what, tale) in lies(at) {
        let before = failures(&run.status());
        liar.tell(tale);
        run.wait_for(what, |status| failures(status) >= before + 2);
        session(run.gate.address_of("l")).unwrap_or_else(|error| panic!("{what}: {error}"));
        let sample = match what {
            "a page" => "it begins with \"<html>hello</html>\"",
            "something else's JSON" => "it begins with \"{}\"",
            "another prefix" => "it begins with \"/t/x\"",
            "no base64" => "it begins with \"*",
            "noise" => "it begins with \"\\x01\\x02\"",
            _ => "",
        };
        // A watch that is begun again is well for a moment.
        run.wait_for(what, |status| status.lists[0].reason.contains(sample));
        println!("{what}: {}", run.status().lists[0].reason);
        wait_for_servers(&run, &[at]);
        liar.tell(truth(at));
        run.wait_for("the truth", |status| status.lists[0].last_result.as_deref() == Some("same"));
    }
}

/// The whole tells what the watch does not.
#[test]
fn a_watch_that_is_dead_is_noticed() {
    let echoes = [Echo::start(), Echo::start()];
    let [a, b] = echoes.each_ref().map(Echo::address);
    let liar = Liar::start(truth(a));
    let run = Run::start(&liar.file(""));
    wait_for_servers(&run, &[a]);
    // The watch that is there stays.
    liar.tale.lock().unwrap().0 = truth(b);
    wait_for_servers(&run, &[b]);
    assert!(run.gate.logs(|line| line.contains("its watch does not tell what has changed 1s ago")));
}

/// Registrars that say again and again what they have said do not keep the list from being confirmed.
#[test]
fn a_watch_that_repeats_itself_hinders_no_confirmation() {
    let echo = Echo::start();
    let at = echo.address();
    let same = whole("/s/x", &at.to_string());
    let pair = same.split_once("\"kvs\":[").unwrap().1.split_once("],").unwrap().0;
    let event =
        format!("{{\"result\":{{\"header\":{{\"revision\":\"8\"}},\"events\":[{{\"kv\":{pair}}}]}}}}\n");
    let busy = Tale {
        whole_after: 10 * BEAT,
        watch: open(CREATED.to_owned() + &event),
        then: Then::Repeats,
        ..truth(at)
    };
    let liar = Liar::start(busy);
    let run = Run::start(&liar.file(""));
    wait_for_servers(&run, &[at]);
    run.wait_for("confirmations", |status| status.lists[0].looks["same"] >= 3);
    assert_eq!(failures(&run.status()), 0);
}
