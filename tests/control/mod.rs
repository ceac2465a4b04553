//! The program, started with a control socket and a configuration that is written anew while it runs; and clients that
//! would notice.

pub(crate) mod confirming;
pub(crate) mod crowd;
pub(crate) mod ending;
pub(crate) mod knocking;
pub(crate) mod listeners;
pub(crate) mod refusing;
pub(crate) mod servers;
pub(crate) mod settings;
pub(crate) mod show;

use std::fmt::{Display, Formatter};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tempfile::TempDir;
use tidegate::control::model::{Connection, Listener, Server, Status};

use crate::support::PATIENCE;
use crate::support::gate::Gate;
use crate::support::http::Wire;
use crate::support::peer::Peer;

/// The exit code of `tidegate ctl` when the process does not know what was named, or refuses.
pub(crate) const REFUSED: Option<i32> = Some(3);

/// A `proxy.toml` whose tables can be changed.
#[derive(Clone)]
pub(crate) struct File {
    folder: Arc<TempDir>,
    tables: Vec<(String, String)>,
}

impl File {
    /// One worker of that engine, a control socket, and an access log with every line.
    pub(crate) fn new(engine: &str) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let socket = folder.path().join("admin.sock");
        let admin = format!("socket = \"{}\"\nhttp = \"off\"", socket.display());
        let process = format!("engine = \"{engine}\"\nengine_fallback = false\nworkers = 1");
        Self { folder, tables: Vec::new() }
            .set("process", process)
            .set("admin", admin)
            .set("log.access", "skip_empty = false")
    }

    /// One with the listener `l` on any port and the pool `p` of these servers.
    pub(crate) fn serving(engine: &str, members: &[Member]) -> Self {
        Self::new(engine).listen("l", "127.0.0.1:0", "p").pool("p", members)
    }

    /// The table `[name]` with these lines, in place of those that it had.
    pub(crate) fn set(mut self, name: &str, lines: impl Into<String>) -> Self {
        let lines = lines.into();
        match self.tables.iter_mut().find(|(own, _)| own == name) {
            Some((_, own)) => *own = lines,
            None => self.tables.push((name.to_owned(), lines)),
        }
        self
    }

    /// One more line in the table `[name]`, which is made if it is not there.
    pub(crate) fn add(self, name: &str, line: impl Display) -> Self {
        let lines = self.table(name);
        self.set(name, format!("{lines}\n{line}"))
    }

    /// The lines of the table `[name]`.
    pub(crate) fn table(&self, name: &str) -> String {
        let own = self.tables.iter().find(|(own, _)| own == name);
        own.map(|(_, lines)| lines.clone()).unwrap_or_default()
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.tables.retain(|(own, _)| own != name);
        self
    }

    pub(crate) fn listen(self, name: &str, at: impl Display, pool: &str) -> Self {
        self.set(&format!("listener.{name}"), format!("bind = [\"{at}\"]\npool = \"{pool}\""))
    }

    /// A pool that asks its servers in turn.
    pub(crate) fn pool(self, name: &str, members: &[Member]) -> Self {
        let members: Vec<String> = members.iter().map(Member::to_string).collect();
        let members = members.join(", ");
        self.set(&format!("pool.{name}"), format!("balance = \"round_robin\"\nserver = [{members}]"))
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }
}

impl Display for File {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        writeln!(out, "config_version = 1")?;
        self.tables.iter().try_for_each(|(name, lines)| writeln!(out, "[{name}]\n{lines}"))
    }
}

/// A server as a pool has it.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    name: String,
    address: SocketAddr,
    more: String,
}

impl Member {
    pub(crate) fn new(name: &str, address: SocketAddr) -> Self {
        Self { name: name.to_owned(), address, more: String::new() }
    }

    /// The same with one more key.
    pub(crate) fn with(&self, key: &str) -> Self {
        Self { more: format!("{}, {key}", self.more), ..self.clone() }
    }
}

impl Display for Member {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        write!(out, "{{ name = \"{}\", addr = \"{}\"{} }}", self.name, self.address, self.more)
    }
}

/// An address of loopback that nobody else has: no client's port is as low.
pub(crate) fn place() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from((Ipv4Addr::new(127, 64 | (high & 0x3f), low, number), 17_000))
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl Said {
    /// What it said when it succeeded.
    pub(crate) fn well(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// What it complained of when it was refused.
    pub(crate) fn refused(self) -> String {
        assert_eq!(self.code, REFUSED, "{self:?}");
        self.error
    }
}

/// The running program.
pub(crate) struct Run {
    pub(crate) gate: Gate,
    socket: PathBuf,
    /// Where that is.
    _folder: Arc<TempDir>,
}

impl Run {
    pub(crate) fn start(file: &File) -> Self {
        Self::start_text(file, file)
    }

    /// The same with another text, whose control socket is that of `file`.
    pub(crate) fn start_text(file: &File, text: &impl Display) -> Self {
        Self { gate: Gate::start(text), socket: file.socket(), _folder: Arc::clone(&file.folder) }
    }

    /// Writes its configuration anew, and nothing more.
    pub(crate) fn write(&self, file: &impl Display) {
        fs::write(self.gate.file(), file.to_string()).unwrap();
    }

    /// Has it go by that configuration: what it says has changed.
    pub(crate) fn reload(&self, file: &File) -> String {
        self.write(file);
        self.ctl(&["reload"]).well()
    }

    /// `tidegate ctl`.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Said {
        self.command("ctl", arguments)
    }

    /// `tidegate diff`.
    pub(crate) fn diff(&self, file: &File) -> Said {
        let path = self.gate.file().with_extension("new");
        fs::write(&path, file.to_string()).unwrap();
        self.command("diff", &["-c", path.to_str().unwrap()])
    }

    /// A command with its answers, asked over the control socket.
    pub(crate) fn command(&self, verb: &str, arguments: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.arg(verb).args(arguments).arg("--socket").arg(&self.socket);
        let output = command.output().expect("it can be started");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { code: output.status.code(), out: text(&output.stdout), error: text(&output.stderr) }
    }

    pub(crate) fn status(&self) -> Status {
        serde_json::from_str(&self.ctl(&["status", "--json"]).well()).expect("the state in JSON")
    }

    pub(crate) fn connections(&self) -> Vec<Connection> {
        let said = self.command("conns", &["--json"]).well();
        said.lines().map(|line| serde_json::from_str(line).expect("a connection in JSON")).collect()
    }

    /// The server of that name and address in the pool `p`, if it is told of.
    pub(crate) fn find_server(&self, name: &str, address: SocketAddr) -> Option<Server> {
        let servers = self.status().pools.into_iter().filter(|pool| pool.name == "p");
        let mut servers = servers.flat_map(|pool| pool.servers);
        servers.find(|server| server.name == name && server.address == address.to_string())
    }

    /// The server of that name in the pool `p`.
    pub(crate) fn server(&self, name: &str) -> Server {
        let servers = self.status().pools.into_iter().filter(|pool| pool.name == "p");
        let server = servers.flat_map(|pool| pool.servers).find(|server| server.name == name);
        server.unwrap_or_else(|| panic!("there is no server p/{name}"))
    }

    pub(crate) fn listener(&self, name: &str) -> Listener {
        let mut listeners = self.status().listeners.into_iter();
        listeners.find(|listener| listener.name == name).unwrap_or_else(|| panic!("no listener {name}"))
    }

    /// Waits until what it says of itself is so.
    pub(crate) fn wait_for(&self, what: &str, is_so: impl Fn(&Status) -> bool) {
        let began = Instant::now();
        while !is_so(&self.status()) {
            assert!(began.elapsed() < PATIENCE, "{what} does not come: {:#?}", self.status());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A session with a server that echoes, over the listener `l`: one byte was there and back.
    pub(crate) fn session(&self) -> Peer {
        self.session_at(self.gate.address_of("l"))
    }

    pub(crate) fn session_at(&self, at: SocketAddr) -> Peer {
        let stream = TcpStream::connect_timeout(&at, PATIENCE).expect("the listener takes connections");
        Peer::client(stream).echoed()
    }

    pub(crate) fn sessions(&self, count: usize) -> Vec<Peer> {
        (0..count).map(|_| self.session()).collect()
    }

    /// The server that a session leads to.
    pub(crate) fn server_of(&self, client: &Peer) -> String {
        let address = client.address();
        let mut all = self.connections().into_iter();
        let own = all.find(|one| one.client == Some(address)).expect("it is one of the connections");
        own.server.expect("it has a server")
    }

    /// What the access log says of how a session ended.
    pub(crate) fn cause(&self, address: SocketAddr) -> String {
        self.gate.access(address).cause
    }

    /// Asserts that these were closed one after the other, so many a second, from that moment after it was told of in the log:
    /// none long before its turn, by the program's own clocks, and the last not much later than a busy machine makes it.
    pub(crate) fn assert_closed_in_turn(&self, clients: &[SocketAddr], a_second: usize, after: Duration) {
        let (told, pace) = (format!("{} connections are ", clients.len()), format!(", {a_second} a second"));
        let is_told = |line: &str| line.contains(&told) && line.contains(&pace);
        assert!(self.gate.logs(is_told), "nothing was told");
        let log = self.gate.log_lines();
        let line = log.iter().find(|line| is_told(line)).expect("it was there");
        let time = |ts: &str| ts.parse::<Timestamp>().unwrap_or_else(|error| panic!("{ts:?}: {error}"));
        let begun = time(line.split(['=', ' ']).nth(1).unwrap());
        let mut ends: Vec<Duration> = clients
            .iter()
            .map(|client| time(&self.gate.access(client).ts).duration_since(begun))
            .map(|end| end.try_into().unwrap_or_default())
            .collect();
        ends.sort_unstable();
        // A thread that is held up between two looks at clocks, or in the turn that it began before, tells of a time that is off.
        const OFF: Duration = Duration::from_millis(300);
        for (place, end) in (0..).zip(&ends) {
            let turn = after + Duration::from_secs(place) / u32::try_from(a_second).unwrap();
            assert!(*end + OFF >= turn && *end < turn + PATIENCE, "number {place} after {end:?}: {ends:?}");
        }
    }

    /// What the control socket answers to GET: the status, and the body.
    pub(crate) fn get(&self, target: &str) -> (u16, String) {
        let answer = self.wire().get(target);
        (answer.status, answer.body)
    }

    /// The same for POST with a body in JSON.
    pub(crate) fn post(&self, target: &str, body: &str) -> (u16, String) {
        let answer = self.wire().json("POST", target, body);
        (answer.status, answer.body)
    }

    fn wire(&self) -> Wire {
        Wire::unix(UnixStream::connect(&self.socket).unwrap())
    }
}

/// A session is where it was: a byte goes there and back.
pub(crate) fn goes_on(client: &mut Peer) {
    client.send(1);
    client.receive(1);
}
