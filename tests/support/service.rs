//! Other people's programs in tests: found or skipped, servers started as an unprivileged user, clients run to
//! their end, all of them ended for sure.

use std::env;
use std::fmt::{Display, Formatter};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, geteuid, kill_process_group, waitid,
};
use tempfile::TempDir;

use super::ports::free_address;

/// How long another's program may take to start, or to do its work: it is not what is tested, and on a busy machine with a
/// slow disk a database takes its time.
const PATIENCE: Duration = Duration::from_mins(3);

/// Whether the machine has all of these programs, and what starts them. Each that it has not is printed; with
/// `TIDEGATE_REQUIRE_TOOLS=1` that is a failure.
pub(crate) fn installed(names: &[&str]) -> bool {
    let missing: Vec<_> = names.iter().chain(&["setpriv"]).filter(|name| find(name).is_none()).collect();
    for name in &missing {
        println!("skipped: {name} is not installed");
    }
    let required = env::var_os("TIDEGATE_REQUIRE_TOOLS").is_some_and(|value| value == "1");
    assert!(missing.is_empty() || !required, "not installed, and TIDEGATE_REQUIRE_TOOLS=1: {missing:?}");
    missing.is_empty()
}

/// The program's file: on the path, or where Debian has servers and the programs of each PostgreSQL.
fn find(name: &str) -> Option<PathBuf> {
    let mut folders: Vec<_> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    folders.push("/usr/sbin".into());
    folders.extend(glob::glob("/usr/lib/postgresql/*/bin").unwrap().filter_map(Result::ok));
    folders.into_iter().map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The program as a client: run by whoever runs the tests.
pub(crate) fn client(name: &str) -> Command {
    command(name, &[])
}

/// The program in a process group of its own, which gets SIGTERM should this thread end before it.
fn command(name: &str, identity: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig=TERM").args(identity).arg("--");
    command.arg(find(name).unwrap_or_else(|| panic!("{name} is not installed")));
    command.process_group(0).stdin(Stdio::null());
    command
}

/// Runs the program to its end, which must be a success, and gives what it wrote to its standard output.
pub(crate) fn run(command: &mut Command) -> String {
    run_for(PATIENCE, command)
}

/// The same with as much time as the work may take.
pub(crate) fn run_for(within: Duration, command: &mut Command) -> String {
    Running::start(command).finish(within)
}

/// A client that goes on while the test does other things.
pub(crate) struct Running {
    group: Group,
    name: String,
    output: [File; 2],
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let output = [(); 2].map(|()| tempfile::tempfile().unwrap());
        command.stdout(output[0].try_clone().unwrap()).stderr(output[1].try_clone().unwrap());
        Self { group: Group::start(command), name: format!("{command:?}"), output }
    }

    /// What it has written to its standard output so far.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&whole(&self.output[0])).into_owned()
    }

    /// Waits for its end, as [`run_for`].
    pub(crate) fn finish(self, within: Duration) -> String {
        String::from_utf8_lossy(&self.finish_bytes(within)).into_owned()
    }

    /// The same for an output that is not text.
    pub(crate) fn finish_bytes(mut self, within: Duration) -> Vec<u8> {
        let ended = self.group.wait(within);
        let [out, error] = self.output.each_ref().map(whole);
        if ended != Some(Some(0)) {
            let said = [&out, &error].map(|bytes| String::from_utf8_lossy(bytes));
            panic!(
                "{} within {within:?}: exit code {ended:?}. It said:\n{}\n{}",
                self.name, said[0], said[1]
            );
        }
        out
    }

    /// Waits for its end, which must be a failure, and gives what it wrote to its standard error.
    pub(crate) fn fail(mut self, within: Duration) -> String {
        let ended = self.group.wait(within);
        let said = String::from_utf8_lossy(&whole(&self.output[1])).into_owned();
        assert!(
            ended.flatten().is_some_and(|code| code != 0),
            "{} did not fail within {within:?}: {ended:?}. It said:\n{said}",
            self.name
        );
        said
    }
}

/// All that a file holds by now. Its position is that of the program which writes to it, and stays.
fn whole(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Where a server is reached. It is shown as the configuration has it.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Ip(SocketAddr),
    Unix(PathBuf),
}

impl Place {
    /// Reads what the configuration and the log have.
    pub(crate) fn parse(text: &str) -> Self {
        match text.strip_prefix("unix:") {
            Some(path) => Self::Unix(path.into()),
            None => Self::Ip(text.parse().expect("an address")),
        }
    }

    /// The host and the port, for a client that knows nothing else.
    pub(crate) fn host_and_port(&self) -> [String; 2] {
        match self {
            Self::Ip(address) => [address.ip().to_string(), address.port().to_string()],
            Self::Unix(path) => panic!("{} is no IP address", path.display()),
        }
    }
}

impl Display for Place {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(out),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// A folder for one server, which it may write to.
pub(crate) struct Home {
    directory: TempDir,
    identity: Vec<String>,
}

impl Home {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Some servers refuse to run as root.
        let identity = if geteuid().is_root() {
            let (user, group) = nobody();
            chown(directory.path(), Some(user), Some(group)).unwrap();
            vec![format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".to_owned()]
        } else {
            Vec::new()
        };
        Self { directory, identity }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file with this text, which the server may read.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A folder in it, which the server may write to.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        run(self.command("mkdir").arg(name));
        self.path(name)
    }

    /// Where the server of this home may listen: a free port of the host, or a socket in here if the host is `unix`.
    pub(crate) fn place(&self, host: &str) -> Place {
        match host {
            "unix" => Place::Unix(self.path("socket")),
            _ => Place::Ip(free_address(host)),
        }
    }

    /// A program run as the server: in this folder and as its user.
    pub(crate) fn command(&self, name: &str) -> Command {
        let identity: Vec<_> = self.identity.iter().map(String::as_str).collect();
        let mut command = command(name, &identity);
        command.current_dir(self.directory.path()).env("HOME", self.directory.path());
        command
    }

    /// The name of the user that servers run as.
    pub(crate) fn user(&self) -> String {
        run(self.command("id").arg("-un")).trim().to_owned()
    }
}

/// The user and the group of `nobody`.
fn nobody() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("nobody:")).expect("there is a nobody");
    let mut numbers = line.split(':').skip(2).map(|field| field.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// A server that listens. Dropping it ends it.
pub(crate) struct Service {
    group: Group,
    home: Home,
    place: Place,
}

impl Service {
    /// Starts it and waits until it listens there.
    pub(crate) fn start(home: Home, place: Place, command: &mut Command) -> Self {
        let log = File::create(home.path("log")).unwrap();
        let group = Group::start(command.stdout(log.try_clone().unwrap()).stderr(log));
        let mut service = Self { group, home, place };
        let began = Instant::now();
        while !is_listening(&service.place) {
            let ended = service.group.wait(Duration::from_millis(10)).is_some();
            assert!(!ended && began.elapsed() < PATIENCE, "{command:?} does not listen at {}", service.place);
        }
        service
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process_group(self.group.id(), signal).expect("it runs");
    }

    /// What it has written so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.home.path("log")).unwrap_or_default()).into_owned()
    }
}

/// A TLS server with a certificate of its own for `db.example.com`, which ends so many days from now; 0: it ends at once.
pub(crate) fn tls(days: u32) -> Service {
    let home = Home::new();
    let place = home.place("127.0.0.1");
    let openssl = |arguments: &str| run(home.command("openssl").args(arguments.split(' ')));
    openssl("req -new -newkey rsa:2048 -nodes -keyout key -out request -subj /CN=db.example.com");
    // Extensions make it one of version 3: others are not taken.
    home.write("extensions", "basicConstraints = CA:FALSE");
    openssl(&format!("x509 -req -in request -signkey key -extfile extensions -out cert -days {days}"));
    let [_, port] = place.host_and_port();
    let mut command = home.command("openssl");
    command.args(["s_server", "-key", "key", "-cert", "cert", "-accept", &format!("127.0.0.1:{port}")]);
    let named =
        ["-servername", "db.example.com", "-servername_fatal", "-cert2", "cert", "-key2", "key", "-quiet"];
    Service::start(home, place, command.args(named))
}

impl Drop for Service {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the server at {}:\n{}", self.place, self.log());
        }
    }
}

/// Asks the kernel: a connection would be one that the server must deal with.
fn is_listening(place: &Place) -> bool {
    match place {
        Place::Ip(address) => {
            let table = if address.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
            let port = format!(":{:04X}", address.port());
            has_row(table, |fields| fields[1].ends_with(&port) && fields[3] == "0A")
        }
        Place::Unix(path) => {
            let path = path.to_str().expect("temporary names are plain");
            // This flag is `__SO_ACCEPTCON`.
            has_row("/proc/net/unix", |fields| fields[3] == "00010000" && fields.last() == Some(&path))
        }
    }
}

fn has_row(table: &str, wanted: impl Fn(&[&str]) -> bool) -> bool {
    let table = fs::read_to_string(table).unwrap();
    table.lines().skip(1).any(|line| wanted(&line.split_whitespace().collect::<Vec<_>>()))
}

/// Two files hold the same bytes.
pub(crate) fn assert_same_bytes(one: &Path, other: &Path) {
    run_for(Duration::from_mins(2), client("cmp").args([one, other]));
}

/// A program and all that it started, while they stay in its process group. Dropping it ends them.
struct Group {
    leader: Child,
}

impl Group {
    fn start(command: &mut Command) -> Self {
        let leader = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { leader }
    }

    /// Waits for the leader's end: `None` when it still runs after that time, else its exit code, which is `None`
    /// after a signal. The leader is left a zombie, so that its number stays that of the group.
    fn wait(&mut self, within: Duration) -> Option<Option<i32>> {
        let began = Instant::now();
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        loop {
            let status = waitid(WaitId::Pid(self.id()), options).expect("it is our child");
            if status.is_some() || began.elapsed() > within {
                return status.map(|status: WaitIdStatus| status.exit_status());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn id(&self) -> Pid {
        Pid::from_child(&self.leader)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(self.id(), Signal::TERM);
        // Who was stopped hears of it only then.
        let _ = kill_process_group(self.id(), Signal::CONT);
        self.wait(Duration::from_secs(5));
        let _ = kill_process_group(self.id(), Signal::KILL);
        let _ = self.leader.wait();
    }
}
