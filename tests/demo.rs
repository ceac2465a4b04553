//! `tidegate demo` as a user sees it: the real proxy, back ends that are processes, and the ways it all ends.
//!
//! Each demo has a loopback address of its own (Linux has all of 127.0.0.0/8), so that tests neither meet
//! each other nor any other program.
#![cfg(all(feature = "lab", target_os = "linux"))]
#![allow(clippy::disallowed_methods, reason = "tests watch the program from outside")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// More than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

const NAMES: [&str; 3] = ["red", "green", "blue"];

/// A configuration on an address that no other test has.
struct Config {
    directory: tempfile::TempDir,
    ip: String,
}

impl Config {
    fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let [.., high, low] = std::process::id().to_be_bytes();
        let ip = format!("127.{}.{high}.{low}", 100 + NEXT.fetch_add(1, Ordering::Relaxed));
        let config = Self { directory: tempfile::tempdir().expect("a temporary directory"), ip };
        config.write(&config.ip);
        config
    }

    /// Writes the file, with the back ends at `ip`.
    fn write(&self, ip: &str) {
        let servers: String = NAMES
            .iter()
            .zip(9001..)
            .map(|(name, port)| format!("[[pool.web.server]]\nname = \"{name}\"\naddr = \"{ip}:{port}\"\n"))
            .collect();
        let text = format!(
            "[process]\nworkers = 1\n[log.access]\nformat = \"template\"\ntemplate = \"{{server}} {{cause}}\"\n\
             [listener.web]\nbind = [\"{}:8080\"]\npool = \"web\"\n[pool.web]\nbalance = \"round_robin\"\n{servers}",
            self.ip
        );
        fs::write(self.file(), text).expect("writable");
    }

    fn file(&self) -> std::path::PathBuf {
        self.directory.path().join("proxy.toml")
    }

    fn proxy(&self) -> String {
        format!("{}:8080", self.ip)
    }

    /// Where the back end of that name listens.
    fn back_end(&self, name: &str) -> String {
        let index = NAMES.iter().position(|known| *known == name).expect("a known name");
        format!("{}:{}", self.ip, 9001 + index)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(["demo", "-c"]).arg(self.file());
        command
    }

    /// Runs a demo that is expected to end by itself.
    fn run(&self, args: &[&str]) -> Output {
        self.command().args(args).output().expect("the program starts")
    }

    /// Whether nobody listens on any of the demo's addresses, at once or soon.
    fn all_gone(&self) -> bool {
        let until = Instant::now() + PATIENCE;
        let addresses = [self.proxy(), self.back_end("red"), self.back_end("green"), self.back_end("blue")];
        while addresses.iter().any(|addr| TcpStream::connect(addr).is_ok()) {
            if Instant::now() > until {
                return false;
            }
            thread::sleep(Duration::from_millis(20));
        }
        true
    }
}

/// A demo that runs until it is told to end.
struct Demo {
    process: Child,
    lines: Receiver<String>,
}

impl Demo {
    fn start(config: &Config) -> Self {
        let mut process = config.command().stdout(Stdio::piped()).spawn().expect("the program starts");
        let stdout = BufReader::new(process.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { process, lines }
    }

    /// The lines up to the first that contains `part`.
    fn read_to(&self, part: &str) -> Vec<String> {
        let mut read = Vec::new();
        while !read.last().is_some_and(|line: &String| line.contains(part)) {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => read.push(line),
                Err(error) => panic!("no line with {part:?} ({error}) in {read:#?}"),
            }
        }
        read
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("it runs");
    }

    fn end(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < until, "it does not end");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends `request` and reads until the other side closes.
fn exchange(addr: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    stream.write_all(request).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer and its end");
    String::from_utf8(answer).expect("text")
}

/// The body of the answer to a GET.
fn get(addr: &str) -> String {
    let answer = exchange(addr, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    body.to_owned()
}

/// The number in the row of the summary that begins with `name`.
fn row(table: &str, name: &str) -> f64 {
    let line =
        table.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {table}"));
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn under_load_each_back_end_has_its_share_and_the_summary_adds_up() {
    let config = Config::new();
    let output = config.run(&["--for", "1s"]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    let (before, table) = out.split_once("\nrequests ").expect("a summary");
    assert!(before.contains(&format!("curl http://{}/", config.proxy())), "{before}");
    assert!(before.contains("the access log is off"), "{before}");
    let table = format!("requests {table}");
    let requests = row(&table, "requests ");
    assert!(requests >= 3.0, "{table}");
    assert_eq!(row(&table, "errors"), 0.0, "{table}");
    // A second of load, give or take a busy machine.
    let rate = row(&table, "requests/s");
    assert!(rate <= requests && rate >= requests / 10.0, "{table}");
    assert!(
        row(&table, "latency p50") > 0.0 && row(&table, "latency p50") <= row(&table, "latency max"),
        "{table}"
    );
    let shares = NAMES.map(|name| row(&table, &format!("answered by {name}")));
    assert_eq!(shares.iter().sum::<f64>(), requests, "{table}");
    // One worker turns strictly; the demo's own first connection and the last requests may shift it.
    assert!(shares.iter().all(|share| (share - requests / 3.0).abs() <= 8.0), "{table}");
    assert!(!NAMES.iter().any(|name| out.contains(&format!("{name} done"))), "an access line: {out}");
    assert!(config.all_gone());
}

#[test]
fn a_killed_back_end_leaves_its_clients_to_the_others() {
    let config = Config::new();
    let mut demo = Demo::start(&config);
    let welcome = demo.read_to("Ctrl-C ends it");
    let kill =
        welcome.iter().find_map(|line| line.trim().strip_prefix("kill ")).expect("a line to kill with");
    assert!(kill.contains("ends green: its clients go to the others at once"), "{kill}");
    let victim = kill
        .split_whitespace()
        .next()
        .and_then(|pid| pid.parse().ok())
        .and_then(Pid::from_raw)
        .expect("a pid");

    let mut answers: Vec<_> = (0..3).map(|_| get(&config.proxy())).collect();
    answers.sort_unstable();
    assert_eq!(answers, ["blue\n", "green\n", "red\n"]);
    for _ in 0..3 {
        demo.read_to(" done");
    }

    kill_process(victim, Signal::TERM).expect("it runs");
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect(config.back_end("green")).is_ok() {
        assert!(Instant::now() < until, "it does not end");
        thread::sleep(Duration::from_millis(10));
    }
    let answers: Vec<_> = (0..12).map(|_| get(&config.proxy())).collect();
    assert!(answers.iter().all(|answer| answer != "green\n"), "{answers:?}");
    for name in ["red\n", "blue\n"] {
        assert!(answers.iter().filter(|answer| *answer == name).count() >= 4, "{answers:?}");
    }

    demo.signal(Signal::INT);
    assert_eq!(demo.end().code(), Some(0));
    assert!(config.all_gone());
}

#[test]
fn back_ends_end_even_when_the_demo_is_killed() {
    let config = Config::new();
    let mut demo = Demo::start(&config);
    demo.read_to("Ctrl-C ends it");
    assert_eq!(get(&config.back_end("blue")), "blue\n");
    demo.signal(Signal::KILL);
    demo.end();
    assert!(config.all_gone());
}

#[test]
fn a_port_in_use_names_the_back_end_its_address_and_the_cure() {
    let config = Config::new();
    let _holder = TcpListener::bind(config.back_end("green")).expect("free");
    let output = config.run(&["--for", "1s"]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    for part in ["back end green", config.back_end("green").as_str(), "in use", "ss -ltnp", "-c FILE"] {
        assert!(err.contains(part), "{part:?} is missing in {err}");
    }
    assert_eq!(output.stdout, b"", "the proxy was announced all the same");
    assert!(TcpStream::connect(config.back_end("red")).is_err(), "the first back end was left behind");
}

#[test]
fn the_proxy_s_port_in_use_is_an_error_too() {
    let config = Config::new();
    let _holder = TcpListener::bind(config.proxy()).expect("free");
    let output = config.run(&["--for", "1s"]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains(&config.proxy()), "{err}");
    assert!(TcpStream::connect(config.back_end("red")).is_err(), "the back ends were left behind");
}

#[test]
fn servers_elsewhere_are_refused() {
    let config = Config::new();
    config.write("192.0.2.1");
    let output = config.run(&["--for", "1s"]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("192.0.2.1:9001") && err.contains("loopback"), "{err}");
}

#[test]
fn a_back_end_answers_several_requests_on_a_connection_and_survives_junk() {
    let config = Config::new();
    let mut demo = Demo::start(&config);
    demo.read_to("Ctrl-C ends it");
    let red = config.back_end("red");

    let both = exchange(&red, b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert_eq!(both.matches("\r\n\r\nred\n").count(), 2, "{both}");
    assert_eq!(both.matches("Connection: close").count(), 1, "{both}");

    let endless = [&b"GET / HTTP/1.1\r\nEndless: "[..], &[b'x'; 30_000]].concat();
    for junk in [&b"\x16\x03\x01\x02\x00\x01\r\n\r\n"[..], &endless, b"\r\n\r\n"] {
        let answer = exchange(&red, junk);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    let posted = exchange(&red, b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello");
    assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
    drop(TcpStream::connect(&red).expect("it listens"));
    assert_eq!(get(&red), "red\n");

    demo.signal(Signal::TERM);
    assert_eq!(demo.end().code(), Some(0));
}
