//! The journal and syslog, whose daemons come and go, and hang.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;

use super::{end, key, lines_of, start, wait_until};
use crate::support::PATIENCE;
use crate::support::gate::{Config, Gate};
use crate::support::servers::{Refusing, Server};
use crate::support::service::{Running, client, installed, run};

/// A daemon on the socket at `path`, which takes lines only when it is asked.
fn daemon_at(path: &Path) -> UnixDatagram {
    let daemon = UnixDatagram::bind(path).unwrap();
    daemon.set_read_timeout(Some(PATIENCE)).unwrap();
    daemon
}

fn next_line(daemon: &UnixDatagram) -> String {
    let mut packet = [0; 4096];
    let size = daemon.recv(&mut packet).expect("a line");
    String::from_utf8(packet[..size].to_vec()).unwrap()
}

fn syslog(name: &str, path: &Path) -> String {
    format!("{name} = \"syslog:{}\"", path.display())
}

#[test]
fn a_syslog_daemon_may_go_away_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let [socket, access] = ["syslog", "access"].map(|name| folder.path().join(name));
    let daemon = daemon_at(&socket);
    let server = Server::echo();
    let config = Config::new("mio")
        .server(server.address())
        .access_log(&key("output", &access))
        .table("log", &syslog("output", &socket));
    let mut gate = start(folder.path(), config);
    let line = next_line(&daemon);
    assert!(line.starts_with(&format!("<30>tidegate[{}]: ts=", gate.pid())), "{line}");

    drop(daemon);
    fs::remove_file(&socket).unwrap();
    let began = Instant::now();
    gate.signal(Signal::USR1);
    for _ in 0..20 {
        gate.echo(1000);
    }
    assert!(began.elapsed() < PATIENCE / 2, "20 clients took {:?}", began.elapsed());
    assert!(gate.logs(|line| line.starts_with("tidegate: cannot write to syslog:")), "nobody was told");
    assert!(gate.logs(|line| line.contains("its lines are lost until somebody listens there")));
    wait_until("the other output has every line", || lines_of(&access).len() == 20);
    assert!(gate.runs());

    let daemon = daemon_at(&socket);
    gate.signal(Signal::USR1);
    assert!(next_line(&daemon).contains("SIGUSR1"));
    end(gate);
}

/// It is waited for a second, and what does not need it goes on.
#[test]
fn a_syslog_daemon_that_hangs_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let [socket, log] = ["syslog", "log"].map(|name| folder.path().join(name));
    let daemon = daemon_at(&socket);
    let server = Server::echo();
    let config = Config::new("mio")
        .server(server.address())
        .access_log(&syslog("output", &socket))
        .access_log("format = \"template\"\ntemplate = \"bytes {bytes_in}\"")
        .table("log", &key("output", &log));
    let gate = start(folder.path(), config);
    thread::scope(|scope| {
        // Until the queue is full, which holds what `net.unix.max_dgram_qlen` says, and for longer.
        let stuck = scope.spawn(|| gate.logs(|line| line.contains("its daemon takes no more lines")));
        let mut served = Vec::new();
        while !stuck.is_finished() {
            gate.echo(100);
            served.push(Instant::now());
        }
        assert!(stuck.join().unwrap(), "it was never stuck");
        let since =
            served.last().expect("there were clients").checked_sub(Duration::from_millis(900)).unwrap();
        let meanwhile = served.iter().filter(|at| **at > since).count();
        println!("{} clients, {meanwhile} of them while a line waited for the daemon", served.len());
        assert!(meanwhile >= 10, "clients had to wait for a log: {meanwhile}");
    });
    gate.signal(Signal::USR1);
    wait_until("a line in the log", || lines_of(&log).iter().any(|line| line.contains("SIGUSR1")));

    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            loop {
                let line = next_line(&daemon);
                if line.ends_with(": bytes 7") {
                    return line;
                }
            }
        });
        let began = Instant::now();
        while !reading.is_finished() && began.elapsed() < PATIENCE {
            gate.echo(7);
        }
        let line = reading.join().unwrap();
        assert_eq!(line, format!("<30>tidegate[{}]: bytes 7", gate.pid()));
    });
    end(gate);
}

/// A journal of its own, in a mount namespace where `/run` and `/etc/systemd` are its own: it asks neither the kernel
/// for its messages nor for its audit, as the machine's own does.
const JOURNAL: &str = "mount -t tmpfs none /run && mount -t tmpfs none /etc/systemd && mkdir /run/log && \
     printf '[Journal]\\nStorage=volatile\\nAudit=no\\nReadKMsg=no\\nRateLimitIntervalSec=0\\n' \
     > /etc/systemd/journald.conf && echo $$ > \"$0/pid\" && exec /lib/systemd/systemd-journald";

/// The real one, and the namespace that it is in.
struct Journal {
    pid: Pid,
    daemon: Option<Running>,
}

impl Journal {
    /// `None`, with a reason, where it cannot run.
    fn start(folder: &Path) -> Option<Self> {
        let missing = ["/lib/systemd/systemd-journald", "/etc/machine-id"];
        let missing = missing.iter().find(|path| !Path::new(path).exists());
        if !installed(&["unshare", "nsenter", "journalctl"]) || missing.is_some() || !geteuid().is_root() {
            println!(
                "skipped: a journal of its own takes root, systemd-journald and a machine id ({missing:?})"
            );
            return None;
        }
        let mut command = client("unshare");
        let daemon = Running::start(command.args(["-m", "sh", "-c", JOURNAL]).arg(folder));
        let pid_file = folder.join("pid");
        wait_until("the daemon has a namespace", || lines_of(&pid_file).len() == 1);
        let pid = Pid::from_raw(lines_of(&pid_file)[0].parse().unwrap()).unwrap();
        let journal = Self { pid, daemon: Some(daemon) };
        let socket = format!("/proc/{pid}/root/run/systemd/journal/socket");
        wait_until("the daemon listens", || Path::new(&socket).exists());
        Some(journal)
    }

    /// Ends the daemon, whose sockets stay where nobody listens to them any more.
    fn kill(&mut self) {
        kill_process(self.pid, Signal::KILL).unwrap();
        self.daemon = None;
    }

    /// Starts it again in the namespace of that process.
    fn restart_beside(&mut self, pid: u32) {
        let mut command = client("nsenter");
        command.args(["-m", "-t", &pid.to_string(), "/lib/systemd/systemd-journald"]);
        self.daemon = Some(Running::start(&mut command));
    }
}

fn in_namespace_of(pid: u32) -> Command {
    let mut command = client("nsenter");
    command.args(["-m", "-t", &pid.to_string()]);
    command
}

/// What the journal has of the program.
fn entries(gate: &Gate) -> Vec<Value> {
    let query = ["journalctl", "-D", "/run/log/journal", "-o", "json", "-t", "tidegate"];
    let lines = run(in_namespace_of(gate.pid()).args(query));
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn wait_for_entry(gate: &Gate, wanted: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let entries = entries(gate);
        if let Some(entry) = entries.iter().find(|entry| wanted(entry)) {
            return entry.clone();
        }
        assert!(began.elapsed() < PATIENCE, "not in the journal, which has {entries:#?}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn says(entry: &Value, part: &str) -> bool {
    entry["MESSAGE"].as_str().is_some_and(|message| message.contains(part))
}

/// The journal takes the log by its own protocol, and the access log as a syslog daemon does.
#[test]
fn the_journal_has_every_line_and_may_be_restarted() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut journal) = Journal::start(folder.path()) else { return };
    let (refusing, server) = (Refusing::new(), Server::echo());
    let config = Config::new("mio")
        .server(refusing.address())
        .server(server.address())
        .access_log("output = \"syslog:/run/systemd/journal/dev-log\"")
        .table("log", "output = \"journald\"");
    let enter = format!("exec nsenter -m -t {} \"$0\" \"$@\"", journal.pid);
    let gate = Gate::start_unheard(&enter, config, &folder.path().join("front"));
    gate.echo(123);

    let [pid, front] = [gate.pid().to_string(), folder.path().join("front").display().to_string()];
    let info = wait_for_entry(&gate, |entry| says(entry, &format!("listening on unix:{front}")));
    assert_eq!([&info["PRIORITY"], &info["_PID"], &info["_TRANSPORT"]], ["6", &pid, "journal"]);
    let warning = wait_for_entry(&gate, |entry| says(entry, "server p/s0: "));
    assert_eq!([&warning["PRIORITY"], &warning["SYSLOG_IDENTIFIER"]], ["4", "tidegate"]);
    let access = wait_for_entry(&gate, |entry| says(entry, "\"bytes_in\":123,"));
    assert_eq!([&access["PRIORITY"], &access["_PID"], &access["_TRANSPORT"]], ["6", &pid, "syslog"]);
    assert_eq!([&access["SYSLOG_FACILITY"], &access["SYSLOG_PID"]], ["3", &pid]);
    let line: Value = serde_json::from_str(access["MESSAGE"].as_str().unwrap()).unwrap();
    assert_eq!([&line["server"], &line["event"]], ["s1", "close"]);

    journal.kill();
    let began = Instant::now();
    (0..20).for_each(|_| gate.echo(7));
    assert!(began.elapsed() < PATIENCE / 2, "20 clients took {:?}", began.elapsed());
    assert!(gate.logs(|line| line.starts_with("tidegate: cannot write to syslog:")), "nobody was told");

    journal.restart_beside(gate.pid());
    let began = Instant::now();
    while !entries(&gate).iter().any(|entry| says(entry, "\"bytes_in\":456,")) {
        assert!(began.elapsed() < PATIENCE, "nothing since the restart");
        gate.echo(456);
        thread::sleep(Duration::from_millis(50));
    }
    gate.signal(Signal::USR1);
    wait_for_entry(&gate, |entry| says(entry, "SIGUSR1"));
    end(gate);
}
