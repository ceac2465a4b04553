//! The program under test: started with a configuration, watched through its logs, ended for sure.

use std::fmt::{Display, Write as _};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde::Deserialize;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use super::PATIENCE;
use super::peer::{End, Peer, got};
use super::process::{catches, descriptors, descriptors_reach};

/// The name of its configuration's file.
const FILE: &str = "proxy.toml";

/// A `proxy.toml` with one listener, `l`, and one pool, `p`.
pub(crate) struct Config {
    engine: &'static str,
    fallback: bool,
    workers: u16,
    bind: String,
    process: String,
    access: String,
    listener: String,
    balance: &'static str,
    pool: String,
    servers: Vec<String>,
    tables: String,
}

impl Config {
    /// One worker, a free port of 127.0.0.1, round robin, and no server yet.
    pub(crate) fn new(engine: &'static str) -> Self {
        Self {
            engine,
            fallback: false,
            workers: 1,
            bind: "127.0.0.1:0".to_owned(),
            process: String::new(),
            access: String::new(),
            listener: String::new(),
            balance: "round_robin",
            pool: String::new(),
            servers: Vec::new(),
            tables: String::new(),
        }
    }

    /// Another engine may take the place of this one.
    pub(crate) fn with_fallback(mut self) -> Self {
        self.fallback = true;
        self
    }

    /// The engine that it asks for.
    pub(crate) fn engine(&self) -> &'static str {
        self.engine
    }

    /// Another number of workers.
    pub(crate) fn workers(mut self, workers: u16) -> Self {
        self.workers = workers;
        self
    }

    /// Another address to listen on.
    pub(crate) fn bind(mut self, address: impl Display) -> Self {
        self.bind = address.to_string();
        self
    }

    /// Another way to choose among the servers.
    pub(crate) fn balance(mut self, balance: &'static str) -> Self {
        self.balance = balance;
        self
    }

    /// One more server; they are named `s0`, `s1` and so on.
    pub(crate) fn server(self, address: impl Display) -> Self {
        self.weighted(address, 1)
    }

    /// One more server with that weight.
    pub(crate) fn weighted(mut self, address: impl Display, weight: u16) -> Self {
        let number = self.servers.len();
        self.servers.push(format!("{{ name = \"s{number}\", addr = \"{address}\", weight = {weight} }}"));
        self
    }

    /// One more server with so many connections at most.
    pub(crate) fn limited(mut self, address: impl Display, maxconn: u32) -> Self {
        let number = self.servers.len();
        self.servers.push(format!("{{ name = \"s{number}\", addr = \"{address}\", maxconn = {maxconn} }}"));
        self
    }

    /// One more line of `[process]`.
    pub(crate) fn process(mut self, line: &str) -> Self {
        self.process = self.process + line + "\n";
        self
    }

    /// One more line of `[log.access]`.
    pub(crate) fn access_log(mut self, line: &str) -> Self {
        self.access = self.access + line + "\n";
        self
    }

    /// One more line of `[listener.l]`.
    pub(crate) fn listener(mut self, line: &str) -> Self {
        self.listener = self.listener + line + "\n";
        self
    }

    /// One more line of `[pool.p]`.
    pub(crate) fn pool(mut self, line: &str) -> Self {
        self.pool = self.pool + line + "\n";
        self
    }

    /// `[defaults.timeouts]` with these lines.
    pub(crate) fn timeouts(self, lines: &str) -> Self {
        self.table("defaults.timeouts", lines)
    }

    /// `[name]` with these lines.
    pub(crate) fn table(mut self, name: &str, lines: &str) -> Self {
        writeln!(self.tables, "[{name}]\n{lines}").unwrap();
        self
    }
}

impl Display for Config {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            engine, fallback, workers, bind, process, access, listener, balance, pool, tables, ..
        } = self;
        let servers = self.servers.join(", ");
        write!(
            out,
            "config_version = 1\n\
             [process]\nworkers = {workers}\nengine = \"{engine}\"\nengine_fallback = {fallback}\n{process}\
             [log.access]\nskip_empty = false\n{access}\
             [listener.l]\nbind = [\"{bind}\"]\npool = \"p\"\n{listener}\
             [pool.p]\nbalance = \"{balance}\"\nserver = [{servers}]\n{pool}\
             {tables}"
        )
    }
}

/// The running program. Dropping it kills it.
pub(crate) struct Gate {
    child: Child,
    address: String,
    log: Lines,
    access: Lines,
    directory: TempDir,
}

/// One line of the access log, in JSON.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Access {
    pub(crate) ts: String,
    pub(crate) id: String,
    pub(crate) listener: String,
    pub(crate) client: String,
    pub(crate) sni: Option<String>,
    pub(crate) alpn: Option<String>,
    pub(crate) authority: Option<String>,
    pub(crate) unique_id: Option<String>,
    pub(crate) vpce_id: Option<String>,
    pub(crate) route: Option<u16>,
    pub(crate) pool: Option<String>,
    pub(crate) server: Option<String>,
    pub(crate) server_addr: Option<String>,
    pub(crate) tries: u32,
    pub(crate) queue_ms: u64,
    pub(crate) connect_ms: Option<u64>,
    pub(crate) duration_ms: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) cause: String,
    pub(crate) closer: String,
    pub(crate) hap_ts: String,
    pub(crate) idle_client_ms: Option<u32>,
    pub(crate) idle_server_ms: Option<u32>,
    pub(crate) rtt_client_us: Option<u32>,
    pub(crate) rtt_server_us: Option<u32>,
    pub(crate) retrans_client: Option<u32>,
    pub(crate) retrans_server: Option<u32>,
    pub(crate) verdict: Option<String>,
    pub(crate) engine: String,
    pub(crate) worker: u16,
}

impl Gate {
    /// Starts the program and waits until it listens.
    pub(crate) fn start(config: &impl Display) -> Self {
        Self::start_under("true", config)
    }

    /// The same in a shell that has run `preparation` before, such as `ulimit -n 256`.
    pub(crate) fn start_under(preparation: &str, config: &impl Display) -> Self {
        let (mut child, log, access, directory) = spawn(preparation, config);
        let Some(address) = log.find(PATIENCE, |line| listening(line, "")) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!(
                "the program does not listen. It said:\n{}\nwith this configuration:\n{config}",
                log.text()
            );
        };
        Self { child, address, log, access, directory }
    }

    /// The same where its log goes elsewhere: that it has begun is known by the unix socket at `path`, on which it
    /// listens, and by its hearing signals.
    pub(crate) fn start_unheard(preparation: &str, config: Config, path: &Path) -> Self {
        let address = format!("unix:{}", path.display());
        let (mut child, log, access, directory) = spawn(preparation, &config.bind(&address));
        let began = Instant::now();
        while !path.exists() || !catches(child.id(), Signal::USR1) {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "{ended:?}, it said:\n{}", log.text());
            thread::sleep(Duration::from_millis(5));
        }
        Self { child, address, log, access, directory }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address.parse().expect("it listens on an IP address")
    }

    /// Where that listener of several listens.
    pub(crate) fn address_of(&self, listener: &str) -> SocketAddr {
        let name = format!("listener {listener}: ");
        let address = self.log.find(PATIENCE, |line| listening(line, &name));
        address.expect("it says so").parse().expect("an IP address")
    }

    /// Where it listens, in the words of its configuration.
    pub(crate) fn place(&self) -> &str {
        &self.address
    }

    /// The file of its configuration.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join(FILE)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A client's connection to it.
    pub(crate) fn connect(&self) -> Peer {
        if let Some(name) = self.address.strip_prefix("unix:@") {
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name).expect("a short name");
            return Peer::unix_client(
                UnixStream::connect_addr(&address).expect("the listener takes connections"),
            );
        }
        if let Some(path) = self.address.strip_prefix("unix:") {
            return Peer::unix_client(UnixStream::connect(path).expect("the listener takes connections"));
        }
        Peer::client(
            TcpStream::connect_timeout(&self.address(), PATIENCE).expect("the listener takes connections"),
        )
    }

    /// A client that the program has let in, while nobody else comes and goes: who resets before that has no address any more.
    pub(crate) fn let_in(&self) -> Peer {
        let before = descriptors(self.pid());
        let client = self.connect();
        descriptors_reach(self.pid(), before + 1);
        client
    }

    /// A client that must be reset without getting a byte; gives its address. A reset that comes at once can
    /// meet the client in its connect, a later one in its read.
    pub(crate) fn resets_a_client(&self) -> SocketAddr {
        let target = self.address();
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(target.ip(), 0).into()).unwrap();
        let client = socket.local_addr().unwrap().as_socket().unwrap();
        match socket.connect(&target.into()) {
            Ok(()) => {
                let mut peer = Peer::client(socket.into());
                peer.receive_to_end();
                assert_eq!(peer.leave(), got(0, End::Reset));
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        client
    }

    /// Sends `bytes` bytes over a new connection to a server that echoes, and waits for all of them.
    pub(crate) fn echo(&self, bytes: u64) {
        self.echo_from(0, bytes);
    }

    /// The same with bytes that begin at `start` of the client's stream.
    pub(crate) fn echo_from(&self, start: u64, bytes: u64) {
        let mut client = self.connect();
        client.expect_echo_from(start);
        client.exchange(bytes, 64 * 1024);
        assert_eq!(client.leave(), got(bytes, End::Fin));
    }

    /// The access line of the connection of that client: an address, or `"unix"` for the first of those.
    pub(crate) fn access(&self, client: impl Display) -> Access {
        let client = client.to_string();
        let of_client = |line: &str| {
            let access: Access = serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("not an access line ({error}): {line}"));
            (access.client == client).then_some(access)
        };
        self.access.find(PATIENCE, of_client).unwrap_or_else(|| panic!("no access line of {client}"))
    }

    /// The access lines that there are.
    pub(crate) fn accesses(&self) -> Vec<Access> {
        self.access.all().iter().map(|line| serde_json::from_str(line).expect("an access line")).collect()
    }

    /// Waits for the access lines of so many connections.
    pub(crate) fn first_accesses(&self, count: usize) -> Vec<Access> {
        let began = Instant::now();
        while self.access.all().len() < count {
            assert!(began.elapsed() < PATIENCE, "fewer than {count} connections were logged");
            thread::sleep(Duration::from_millis(5));
        }
        let lines = self.access.all();
        lines.iter().map(|line| serde_json::from_str(line).expect("an access line")).collect()
    }

    /// Ends it as an administrator would: the access lines of all connections that it has carried.
    pub(crate) fn stop(mut self) -> Vec<Access> {
        self.signal(Signal::TERM);
        let status = self.wait_exit(PATIENCE).expect("it ends when no connection is left");
        assert!(status.success(), "{status}");
        self.access.find(PATIENCE, |_| None::<()>);
        self.access.all().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Lines in its own log so far.
    pub(crate) fn log_lines(&self) -> Vec<String> {
        self.log.all()
    }

    /// Waits until its own log has a line for which `wanted` holds, and says whether it came.
    pub(crate) fn logs(&self, wanted: impl Fn(&str) -> bool) -> bool {
        self.log.find(PATIENCE, |line| wanted(line).then_some(())).is_some()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the program runs");
    }

    /// Sets its soft limit of open descriptors and gives the one before.
    pub(crate) fn limit_descriptors(&self, soft: u64) -> u64 {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let limit = Rlimit { current: Some(soft), maximum };
        let before = prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, limit);
        before.expect("the limit can be set").current.expect("there is a limit")
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end; `None` when it still runs after that time.
    pub(crate) fn wait_exit(&mut self, within: Duration) -> Option<ExitStatus> {
        wait_exit(&mut self.child, within)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let access = self.access.all();
            let last = access[access.len().saturating_sub(10)..].join("\n");
            eprintln!("--- the program's log:\n{}\n--- the end of its access log:\n{last}", self.log.text());
        }
    }
}

/// The address in a line of the log that says where a listener listens; `name` stands before that.
fn listening(line: &str, name: &str) -> Option<String> {
    let (_, rest) = line.split_once(&format!("{name}listening on "))?;
    rest.split(['"', ' ', ',']).next().map(str::to_owned)
}

/// Runs the program with a configuration that it must refuse: its exit status and what it said.
pub(crate) fn refusal(preparation: &str, config: &Config) -> (Option<ExitStatus>, String) {
    let (mut child, log, _access, _directory) = spawn(preparation, config);
    let status = wait_exit(&mut child, PATIENCE);
    let _ = child.kill();
    let _ = child.wait();
    log.find(PATIENCE, |_| None::<()>);
    (status, log.text())
}

fn spawn(preparation: &str, config: &impl Display) -> (Child, Lines, Lines, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE);
    std::fs::write(&file, config.to_string()).unwrap();
    let mut child = Command::new("sh")
        .args([
            "-c",
            &format!("{preparation} && exec \"$0\" \"$@\""),
            env!("CARGO_BIN_EXE_tidegate"),
            "run",
            "-c",
        ])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let log = Lines::follow(child.stderr.take().unwrap());
    let access = Lines::follow(child.stdout.take().unwrap());
    (child, log, access, directory)
}

fn wait_exit(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let began = Instant::now();
    loop {
        let status = child.try_wait().unwrap();
        if status.is_some() || began.elapsed() > within {
            return status;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// What a program writes, line by line, as it comes.
#[derive(Clone, Default)]
struct Lines(Arc<(Mutex<Written>, Condvar)>);

#[derive(Default)]
struct Written {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn follow(source: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let ours = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                ours.change(|written| written.lines.push(line));
            }
            ours.change(|written| written.ended = true);
        });
        lines
    }

    fn change(&self, change: impl FnOnce(&mut Written)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    /// The first line that `wanted` makes something of, waiting for it until the program ends.
    fn find<T>(&self, within: Duration, wanted: impl Fn(&str) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + within;
        let mut seen = 0;
        let mut written = self.0.0.lock().unwrap();
        loop {
            if let Some(found) = written.lines[seen..].iter().find_map(|line| wanted(line)) {
                return Some(found);
            }
            seen = written.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if written.ended || left.is_zero() {
                return None;
            }
            written = self.0.1.wait_timeout(written, left).unwrap().0;
        }
    }

    fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }

    fn text(&self) -> String {
        self.all().join("\n")
    }
}
