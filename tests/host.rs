//! The program and the system that it runs on: what it tells its supervisor, the sockets that it is given, whom it
//! becomes, and the files in `contrib`.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

mod support;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

use support::PATIENCE;
use support::gate::{Config, Gate, refusal};
use support::peer::Peer;
use support::servers::Server;
use support::service::{Running, client, installed};

/// Listens where the program reports to, as systemd does.
struct Supervisor {
    socket: UnixDatagram,
    /// What NOTIFY_SOCKET is.
    address: String,
    _directory: TempDir,
}

impl Supervisor {
    /// At a path.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        // As that of systemd: services of every user report to it.
        for open in [directory.path(), &path] {
            fs::set_permissions(open, Permissions::from_mode(0o777)).unwrap();
        }
        Self::listening(socket, path.display().to_string(), directory)
    }

    /// At a name that is no file's.
    fn without_a_file() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let name = directory.path().display().to_string();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        Self::listening(UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}"), directory)
    }

    fn listening(socket: UnixDatagram, address: String, directory: TempDir) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, address, _directory: directory }
    }

    /// What a shell runs to have the program report here; `more` are variables, too.
    fn exporting(&self, more: &str) -> String {
        format!("export NOTIFY_SOCKET={} {more}", self.address)
    }

    /// The next report, as its lines.
    fn report(&self) -> Vec<String> {
        let mut room = [0; 4096];
        let length = self.socket.recv(&mut room).expect("it reports");
        let text = str::from_utf8(&room[..length]).unwrap();
        assert!(text.ends_with('\n'), "{text:?}");
        text.lines().map(str::to_owned).collect()
    }

    /// Waits for a report with that line.
    fn expect(&self, line: &str) -> Vec<String> {
        let began = Instant::now();
        loop {
            let report = self.report();
            if report.iter().any(|reported| reported == line) {
                return report;
            }
            assert!(began.elapsed() < PATIENCE, "{line} was not reported");
        }
    }

    /// Reports that come while `span` goes by.
    fn reports_over(&self, span: Duration) -> Vec<String> {
        thread::sleep(span);
        self.socket.set_nonblocking(true).unwrap();
        let mut reports = Vec::new();
        let mut room = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut room) {
            reports.extend(str::from_utf8(&room[..length]).unwrap().lines().map(str::to_owned));
        }
        self.socket.set_nonblocking(false).unwrap();
        reports
    }
}

/// The time of `CLOCK_MONOTONIC`.
fn monotonic_micros() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000 + u64::try_from(now.tv_nsec).unwrap() / 1_000
}

#[test]
fn the_supervisor_is_told_of_the_start_a_reload_and_the_end() {
    let server = Server::echo();
    for supervisor in [Supervisor::new(), Supervisor::without_a_file()] {
        let config = Config::new("mio").workers(2).server(server.address());
        let gate = Gate::start_under(&supervisor.exporting(""), &config);
        assert_eq!(supervisor.report(), ["READY=1", "STATUS=serving: 1 listeners, 2 workers"]);
        let client = gate.connect();

        let before = monotonic_micros();
        gate.signal(Signal::HUP);
        let report = supervisor.report();
        assert_eq!(report[0], "RELOADING=1");
        let micros: u64 = report[1].strip_prefix("MONOTONIC_USEC=").expect("a time").parse().unwrap();
        assert!((before..=monotonic_micros()).contains(&micros), "{before} {micros}");
        assert_eq!(supervisor.report()[0], "READY=1", "the reload is over");

        gate.signal(Signal::TERM);
        assert_eq!(supervisor.report(), ["STOPPING=1", "STATUS=draining: 1 connections may finish"]);
        // Longer than the next report takes.
        assert_eq!(supervisor.expect("STATUS=draining: 1 connections left").len(), 1);
        drop(client);
    }
}

#[test]
fn a_supervisor_that_cannot_be_reached_hinders_nothing() {
    let server = Server::echo();
    let nowhere = "export NOTIFY_SOCKET=/nonexistent/notify WATCHDOG_USEC=100000";
    let gate = Gate::start_under(nowhere, &Config::new("mio").server(server.address()));
    gate.echo(1_000);
    assert!(
        gate.logs(|line| line.contains("level=warn") && line.contains("cannot report to the supervisor"))
    );
    gate.stop();
}

#[test]
fn the_watchdog_of_another_process_is_left_alone() {
    let server = Server::echo();
    let supervisor = Supervisor::new();
    let of_another = supervisor.exporting("WATCHDOG_USEC=200000 WATCHDOG_PID=1");
    let gate = Gate::start_under(&of_another, &Config::new("mio").server(server.address()));
    supervisor.expect("READY=1");
    assert_eq!(supervisor.reports_over(Duration::from_secs(1)), [""; 0]);
    gate.stop();
}

/// strace keeps one of two workers from coming back out of its wait.
#[test]
fn the_watchdog_hears_nothing_while_a_worker_is_stuck() {
    if !installed(&["strace"]) {
        return;
    }
    let server = Server::echo();
    let supervisor = Supervisor::new();
    let config = Config::new("mio").workers(2).server(server.address());
    let gate = Gate::start_under(&supervisor.exporting("WATCHDOG_USEC=2000000 WATCHDOG_PID=$$"), &config);
    supervisor.expect("READY=1");
    let began = Instant::now();
    for _ in 0..3 {
        supervisor.expect("WATCHDOG=1");
    }
    assert!(began.elapsed() > Duration::from_secs(2), "it is patted every second, not all the time");

    let stuck = thread_of(&gate, "worker-1").to_string();
    let delay = "inject=all:delay_enter=60000000";
    let strace = Running::start(client("strace").args(["-qq", "-o", "/dev/null", "-e", delay, "-p", &stuck]));
    assert!(gate.logs(|line| line.contains("level=error") && line.contains("workers [1] do not turn")));
    supervisor.reports_over(Duration::ZERO);
    assert_eq!(supervisor.reports_over(Duration::from_secs(3)), [""; 0]);
    drop(strace);
    supervisor.expect("WATCHDOG=1");
    gate.echo(1_000);
    gate.stop();
}

/// strace keeps one of two workers from coming back out of its wait: others are still served, and nobody waits for ever.
#[test]
fn a_reload_is_refused_while_a_worker_is_stuck() {
    if !installed(&["strace"]) {
        return;
    }
    let server = Server::echo();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let config = || {
        let config = Config::new("mio").workers(2).server(server.address());
        config.table("admin", &format!("socket = \"{}\"\nhttp = \"off\"", socket.display()))
    };
    let gate = Gate::start(&config());
    let ctl = |arguments: &[&str]| {
        let mut ctl = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let said = ctl.arg("ctl").args(arguments).arg("--socket").arg(&socket).output().unwrap();
        let text = [said.stdout, said.stderr].concat();
        (said.status.code(), String::from_utf8(text).unwrap())
    };
    let stuck = thread_of(&gate, "worker-1").to_string();
    let delay = "inject=all:delay_enter=60000000";
    let strace = Running::start(client("strace").args(["-qq", "-o", "/dev/null", "-e", delay, "-p", &stuck]));
    let traced = || fs::read_to_string(format!("/proc/{}/task/{stuck}/status", gate.pid())).unwrap();
    let began = Instant::now();
    while traced().contains("TracerPid:\t0\n") {
        assert!(began.elapsed() < PATIENCE, "strace does not come");
        thread::sleep(Duration::from_millis(5));
    }
    fs::write(gate.file(), config().listener("maxconn = 5").to_string()).unwrap();
    let (code, said) = ctl(&["reload"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("worker 1 (mio) has not answered for 5s") && said.contains("stuck"), "{said}");
    let (code, said) = ctl(&["weight", "p/s0", "7"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("weight 1 -> 7; but worker 1 (mio) has not answered"), "{said}");
    let (code, said) = ctl(&["status", "--json"]);
    assert!(code == Some(0) && said.contains("\"generation\": 0"), "{said}");
    drop(strace);
    let (code, said) = ctl(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    gate.echo(1_000);
}

/// The number of a thread, by its name.
fn thread_of(gate: &Gate, name: &str) -> u32 {
    let found = threads(gate).into_iter().find(|(_, found)| found == name);
    found.unwrap_or_else(|| panic!("there is no thread {name}")).0
}

/// All threads, by number and name.
fn threads(gate: &Gate) -> Vec<(u32, String)> {
    let tasks = fs::read_dir(format!("/proc/{}/task", gate.pid())).unwrap();
    let task = |entry: fs::DirEntry| {
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, name.trim().to_owned()))
    };
    tasks.filter_map(|entry| task(entry.unwrap())).collect()
}

/// Has the program started with those sockets.
fn handing_over(sockets: &str) -> String {
    let launcher = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/hand_over.py");
    format!("export SOCKETS='{sockets}' && exec python3 '{}' \"$0\" \"$@\"", launcher.display())
}

/// A listener that takes the sockets of that name.
fn on(name: &str, engine: &'static str) -> Config {
    Config::new(engine).with_fallback().bind(format_args!("fd:{name}"))
}

#[test]
fn a_socket_that_is_handed_over_serves_through_every_worker() {
    if !installed(&["python3"]) {
        return;
    }
    for engine in ["mio", "io_uring", "threads", "epoll_level"] {
        let server = Server::echo();
        let config = on("web", engine).workers(2).server(server.address());
        let gate = Gate::start_under(&handing_over("web=tcp"), &config);
        gate.echo(1 << 20);
        let mut clients: Vec<Peer> = (0..8).map(|_| gate.connect()).collect();
        for client in &mut clients {
            client.expect_echo();
            client.send(1_000);
            client.receive(1_000);
        }
        drop(clients);
        let workers: BTreeSet<u16> = gate.stop().iter().map(|access| access.worker).collect();
        assert_eq!(workers, BTreeSet::from([0, 1]), "{engine}");
    }
}

#[test]
fn all_sockets_of_a_name_are_taken_and_a_path_stays_with_who_made_it() {
    if !installed(&["python3"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.sock");
    let server = Server::echo();
    let sockets = format!("all=tcp all=unix:{} all=tcp", path.display());
    let gate = Gate::start_under(&handing_over(&sockets), &on("all", "mio").server(server.address()));
    let three =
        || gate.log_lines().iter().filter(|line| line.contains("listener l: listening on ")).count() == 3;
    let began = Instant::now();
    while !three() {
        assert!(began.elapsed() < PATIENCE, "{:#?}", gate.log_lines());
        thread::sleep(Duration::from_millis(5));
    }
    assert!(gate.log_lines().iter().any(|line| line.contains(&format!("unix:{}", path.display()))));
    let mut by_path = Peer::unix_client(std::os::unix::net::UnixStream::connect(&path).unwrap());
    by_path.expect_echo();
    by_path.exchange(100_000, 10_000);
    by_path.leave();
    gate.echo(1_000);
    gate.stop();
    assert!(path.exists(), "it is systemd's to remove");
}

#[test]
fn a_socket_that_nobody_uses_is_told() {
    if !installed(&["python3"]) {
        return;
    }
    let server = Server::echo();
    let sockets = "web=tcp idle=tcp idle=tcp";
    let gate = Gate::start_under(&handing_over(sockets), &on("web", "mio").server(server.address()));
    assert!(gate.logs(|line| line.contains("level=warn") && line.contains("write bind = [\\\"fd:idle\\\"]")));
    let told = gate.log_lines().iter().filter(|line| line.contains("no listener uses it")).count();
    assert_eq!(told, 1, "{:#?}", gate.log_lines());
    gate.echo(1_000);
}

/// A listener that a reload removes and another brings back has its socket again; meanwhile clients wait, and nobody
/// accepts them.
#[test]
fn a_socket_that_is_handed_over_can_be_had_again() {
    if !installed(&["python3"]) {
        return;
    }
    for engine in ["mio", "io_uring", "threads", "epoll_level", "poll", "select", "sigio", "aio"] {
        let server = Server::echo();
        let without = || Config::new(engine).server(server.address());
        let with = || without().table("listener.web", "bind = [\"fd:web\"]\npool = \"p\"");
        let gate = Gate::start_under(&handing_over("web=tcp"), &with());
        let at = gate.address_of("web");
        let connect = || {
            let mut client = Peer::client(TcpStream::connect(at).unwrap());
            client.expect_echo();
            client.send(10);
            client
        };
        let mut old = connect();
        old.receive(10);
        let mut reloads = 0;
        let mut reload = |config: Config| {
            fs::write(gate.file(), config.to_string()).unwrap();
            gate.signal(Signal::HUP);
            reloads += 1;
            let began = Instant::now();
            while gate.log_lines().iter().filter(|line| line.contains("SIGHUP: reloaded")).count() < reloads {
                assert!(began.elapsed() < PATIENCE, "{engine}: {:#?}", gate.log_lines());
                thread::sleep(Duration::from_millis(5));
            }
        };
        for _ in 0..3 {
            reload(without());
            let mut waiting: Vec<Peer> = (0..2).map(|_| connect()).collect();
            for client in &mut waiting {
                assert!(client.hears_nothing_for(Duration::from_millis(100)), "{engine}: it was accepted");
            }
            old.send(1);
            old.receive(1);
            reload(with());
            waiting.iter_mut().for_each(|client| client.receive(10));
        }
        let mut new = connect();
        new.receive(10);
        assert!(!gate.log_lines().iter().any(|line| line.contains("cannot watch")), "{engine}");
    }
}

#[test]
fn what_cannot_be_listened_on_is_refused_with_what_to_do() {
    if !installed(&["python3"]) {
        return;
    }
    let none = "no socket of this name was handed over\n  = help: ";
    for (sockets, parts) in [
        ("", vec![none, "systemd-socket-activate --fdname=web"]),
        ("b=tcp a=tcp b=udp", vec![none, "there are: a, b; the name is FileDescriptorName="]),
        ("web=udp", vec!["it is no stream socket", "ListenStream= and Accept=no"]),
        ("web=quiet", vec!["it does not listen"]),
        ("web=file", vec!["it is no socket"]),
    ] {
        let (status, said) = refusal(&handing_over(sockets), &on("web", "mio").server("127.0.0.1:1"));
        assert_eq!(status.expect("it ends").code(), Some(1), "{said}");
        let beginning = "tidegate: listener l: cannot listen on fd:web: ";
        assert!(said.starts_with(beginning), "{sockets}: {said}");
        for part in parts {
            assert!(said.contains(part), "{sockets}: {part:?} is not in {said}");
        }
    }
}

/// It opens the sockets, and starts the program when the first client comes.
#[test]
fn systemd_socket_activate_starts_it_with_the_first_client() {
    if !installed(&["systemd-socket-activate"]) {
        return;
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::echo();
    let activate = format!("exec systemd-socket-activate --fdname=web -l {free} \"$0\" \"$@\"");
    let first = thread::spawn(move || {
        let began = Instant::now();
        loop {
            match TcpStream::connect(free) {
                Ok(client) => return client,
                Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
            }
            thread::sleep(Duration::from_millis(10));
        }
    });
    let gate = Gate::start_under(&activate, &on("web", "mio").server(server.address()));
    assert_eq!(gate.address(), free);
    let mut first = Peer::client(first.join().unwrap());
    first.expect_echo();
    first.exchange(100_000, 10_000);
    first.leave();
    gate.stop();
}

/// A user that every system has, and its number.
const NOBODY: (&str, u32) = ("nobody", 65_534);

/// Only CAP_NET_BIND_SERVICE, as it stands in proc_pid_status(5).
const BIND_ONLY: &str = "0000000000000400";

/// Whether the tests run as root, which alone may become others.
fn are_root() -> bool {
    if !geteuid().is_root() {
        println!("skipped: only root may become another user");
    }
    geteuid().is_root()
}

/// The lines of all threads' status that begin with those words, each different one once.
fn statuses(gate: &Gate, words: &[&str]) -> BTreeSet<String> {
    let ours = |line: &&str| words.iter().any(|word| line.starts_with(word));
    let mut lines = BTreeSet::new();
    for (number, _) in threads(gate) {
        let status = fs::read_to_string(format!("/proc/{}/task/{number}/status", gate.pid())).unwrap();
        lines.extend(
            status.lines().filter(ours).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")),
        );
    }
    lines
}

#[test]
fn every_thread_is_the_user_and_may_bind_low_ports_only() {
    if !are_root() {
        return;
    }
    let (name, number) = NOBODY;
    for engine in ["mio", "io_uring", "threads"] {
        let server = Server::echo();
        let config = Config::new(engine).with_fallback().workers(2).process(&format!("user = \"{name}\""));
        let supervisor = Supervisor::new();
        let gate = Gate::start_under(
            &supervisor.exporting("WATCHDOG_USEC=1000000"),
            &config.bind("127.83.19.7:987").server(server.address()),
        );
        supervisor.expect("WATCHDOG=1");
        let mut client = gate.connect();
        client.expect_echo();
        client.send(1_000);
        client.receive(1_000);
        let names: BTreeSet<String> = threads(&gate).into_iter().map(|(_, name)| name).collect();
        for name in ["tidegate", "tidegate-log", "worker-0", "worker-1", "signals", "watchdog"] {
            assert!(names.contains(name), "{name} is not among {names:?}");
        }
        assert_eq!(names.contains("relay"), engine == "threads", "{names:?}");
        let statuses = statuses(&gate, &["Uid", "Gid", "Groups", "Cap", "NoNewPrivs"]);
        let ids = |what| format!("{what}: {number} {number} {number} {number}");
        let sets = ["Inh", "Prm", "Eff", "Bnd", "Amb"].map(|set| format!("Cap{set}: {BIND_ONLY}"));
        let expected = [ids("Uid"), ids("Gid"), format!("Groups: {number}"), "NoNewPrivs: 1".to_owned()];
        assert_eq!(statuses, expected.into_iter().chain(sets).collect(), "{engine}");
        drop(client);
        assert!(!gate.log_lines().iter().any(|line| line.contains("running as root")));
        gate.stop();
    }
}

/// What only root can open is open by then.
#[test]
fn logs_are_opened_before_the_user_is_another() {
    if !are_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let access = directory.path().join("access.log");
    let server = Server::echo();
    let config = Config::new("mio").process(&format!("user = \"{}\"", NOBODY.0));
    let config = config.access_log(&format!("output = \"{}\"", access.display())).server(server.address());
    let gate = Gate::start(&config);
    gate.echo(1_000);
    gate.stop();
    assert_eq!(fs::read_to_string(&access).unwrap().lines().count(), 1);
}

/// The user may be asked by itself, and leaves nothing behind where it may write the folder.
#[test]
fn files_of_sockets_belong_to_the_user_and_go_with_it() {
    if !are_root() || !installed(&["setpriv"]) {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    chown(home.path(), Some(NOBODY.1), Some(NOBODY.1)).unwrap();
    let (made, clients) = (home.path().join("made"), home.path().join("clients"));
    let admin = made.join("admin.sock");
    let keys = format!("socket = \"{}\"\nhttp = \"off\"", admin.display());
    let config = Config::new("mio").process(&format!("user = \"{}\"", NOBODY.0)).table("admin", &keys);
    let server = Server::echo();
    let bind = format!("unix:{}", clients.display());
    let gate = Gate::start(&config.bind(bind).server(server.address()));
    for path in [&made, &admin, &clients] {
        let file = fs::metadata(path).unwrap();
        assert_eq!((file.uid(), file.gid()), (NOBODY.1, NOBODY.1), "{}", path.display());
    }
    assert_eq!(fs::metadata(&admin).unwrap().mode() & 0o777, 0o600);
    let program = [env!("CARGO_BIN_EXE_tidegate"), "ctl", "status", "--socket"];
    let asked = Command::new("sh").arg("-c").arg(as_nobody()).args(program).arg(&admin).output().unwrap();
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(asked.status.success(), "{said}");
    assert!(!gate.log_lines().iter().any(|line| line.contains("does not become")));
    gate.stop();
    assert!(!admin.exists() && !clients.exists(), "they stay behind");
}

#[test]
fn root_is_warned_when_it_stays_root() {
    if !are_root() {
        return;
    }
    let gate = Gate::start(&Config::new("mio").server("127.0.0.1:1"));
    assert!(gate.logs(|line| line.contains("level=warn") && line.contains("running as root: process.user")));
}

#[test]
fn an_unknown_user_is_refused_before_anything_is_bound() {
    let config = Config::new("mio").process("user = \"no-such-user\"").server("127.0.0.1:1");
    let (status, said) = refusal("true", &config);
    assert_eq!(status.expect("it ends").code(), Some(1));
    assert!(
        said.starts_with("tidegate: process.user = \"no-such-user\": there is no such user here"),
        "{said}"
    );
    assert!(said.contains("  = help: `useradd --system"), "{said}");
}

/// Runs the program as nobody, who may read what root has written for it.
fn as_nobody() -> String {
    let capability = "+dac_read_search";
    format!(
        "exec setpriv --reuid=nobody --regid=nogroup --clear-groups --inh-caps={capability} \
         --ambient-caps={capability} \"$0\" \"$@\""
    )
}

#[test]
fn who_is_not_root_may_stay_who_it_is_but_become_nobody_else() {
    if !are_root() || !installed(&["setpriv"]) {
        return;
    }
    let config = |user: &str| {
        let server = "127.0.0.1:1";
        Config::new("mio").process(&format!("user = \"{user}\"")).server(server)
    };
    let (status, said) = refusal(&as_nobody(), &config("root"));
    assert_eq!(status.expect("it ends").code(), Some(1));
    for part in
        ["this process runs as the user number 65534", "only root may", "User=root in the systemd unit"]
    {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    let gate = Gate::start_under(&as_nobody(), &config(NOBODY.0));
    let statuses = statuses(&gate, &["CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs"]);
    let none = ["Inh", "Prm", "Eff", "Amb"].map(|set| format!("Cap{set}: 0000000000000000"));
    assert_eq!(statuses, none.into_iter().chain(["NoNewPrivs: 1".to_owned()]).collect());
}

/// The version of systemd, from its first line: `systemd 252 (252.38-1~deb12u1)`.
fn systemd_version() -> u32 {
    let output = Command::new("systemd-analyze").arg("--version").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.split([' ', '.', '~', '\n'])
        .nth(1)
        .and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("{said}"))
}

/// The unit as it is, or for an old systemd as its comment says; with this program in place of the installed one.
fn unit() -> String {
    let unit = include_str!("../contrib/tidegate.service");
    let unit = unit.replace("/usr/bin/tidegate", env!("CARGO_BIN_EXE_tidegate"));
    if systemd_version() >= 253 {
        return unit;
    }
    let (old, new) = ("#   Type=notify\n#   ExecReload=", "\nType=notify-reload\n");
    assert!(unit.contains(old) && unit.contains(new));
    unit.replace(new, "\n").replace("#   Type=notify\n#   ", "Type=notify\n")
}

#[test]
fn systemd_likes_the_units() {
    if !installed(&["systemd-analyze", "systemd-sysusers"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = directory.path().join(name);
        fs::write(&file, text).unwrap();
        file
    };
    let service = write("tidegate.service", &unit());
    let socket = write("tidegate.socket", include_str!("../contrib/tidegate.socket"));
    let verify = |files: &[&Path]| {
        let output =
            Command::new("systemd-analyze").args(["verify", "--man=no"]).args(files).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(verify(&[&service, &socket]), (true, String::new()));
    let wrong = write("wrong.service", &unit().replace("KillMode=mixed", "KillMode=blended"));
    let (_, said) = verify(&[&wrong]);
    assert!(said.contains("blended"), "it finds mistakes: {said}");
    let users = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/tidegate.sysusers.conf");
    let output = Command::new("systemd-sysusers").arg("--dry-run").arg(users).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
