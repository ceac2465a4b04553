//! What things cost, told by valgrind and strace.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::service::installed;

/// How far a count of instructions may be from the one that is committed.
const TOLERANCE: f64 = 0.05;
/// Tells this program, started by itself under valgrind, how many rounds to do.
const ROUNDS: &str = "TIDEGATE_GUARD_ROUNDS";

/// Holds the instructions of a round of `subject` against `committed`. `test` is the name of the test that calls
/// this: it is run again under valgrind, once with some rounds and once with twice as many, so that everything
/// around the rounds cancels out.
pub(crate) fn assert_instructions(test: &str, committed: u64, subject: impl Fn(u64)) {
    if let Ok(rounds) = std::env::var(ROUNDS) {
        subject(rounds.parse().expect("a number"));
        return;
    }
    subject(3);
    if cfg!(debug_assertions) {
        println!("skipped: instructions are those of `cargo test --release --test guards`");
        return;
    }
    if !installed(&["valgrind"]) {
        return;
    }
    const SOME: u64 = 2_000;
    let [once, twice] = [SOME, 2 * SOME].map(|rounds| instructions(test, rounds));
    let each = (twice - once) as f64 / SOME as f64;
    println!("{test}: {each:.1} ({committed} committed)");
    let off = (each - committed as f64).abs() / committed as f64;
    assert!(
        off <= TOLERANCE,
        "{test}: {each:.1} instructions, but {committed} are committed. If that is meant, commit the new number"
    );
}

/// Instructions of a whole run of `test` with so many rounds.
fn instructions(test: &str, rounds: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().expect("this program has a file"))
        .args(["--exact", test, "--test-threads=1"])
        .env(ROUNDS, rounds.to_string())
        .output()
        .expect("valgrind can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stdout));
    let collected =
        said.lines().find_map(|line| line.split_once("Collected : ")).expect("callgrind's last words");
    collected.1.trim().parse().expect("a number")
}

/// A file in which strace writes all system calls of a process.
pub(crate) struct Trace {
    directory: TempDir,
}

impl Trace {
    /// `None` where there is no strace.
    pub(crate) fn new() -> Option<Self> {
        installed(&["strace"]).then(|| Self { directory: tempfile::tempdir().unwrap() })
    }

    fn file(&self) -> String {
        self.directory.path().join("trace").to_str().expect("temporary names are plain").to_string()
    }

    /// What a shell has to run before the program: it puts the program under strace, as the same process (`-D`),
    /// and never comes back.
    pub(crate) fn preparation(&self) -> String {
        format!("exec strace -D -f -qq -o '{}' \"$0\" \"$@\"", self.file())
    }

    /// The calls of all workers while `act` runs.
    pub(crate) fn during(&self, act: impl FnOnce()) -> Calls {
        let before = self.settled().len();
        act();
        let trace = self.settled();
        Calls::of_workers(&trace, before)
    }

    /// The trace when nothing was added to it for a moment.
    fn settled(&self) -> String {
        let mut length = 0;
        loop {
            thread::sleep(Duration::from_millis(200));
            let trace = fs::read_to_string(self.file()).expect("strace writes its file");
            if trace.len() == length {
                return trace;
            }
            length = trace.len();
        }
    }
}

/// System calls, each as its name and how it failed, if it did.
pub(crate) struct Calls(Vec<(String, Option<String>)>);

impl Calls {
    /// Those behind the first `from` bytes of a trace, of those threads that wait for sockets.
    fn of_workers(trace: &str, from: usize) -> Self {
        let workers: Vec<&str> = trace
            .lines()
            .filter(|line| line.contains("epoll_wait(") || line.contains("epoll_pwait"))
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        let ours = trace[from..]
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(thread, _)| workers.contains(thread));
        // A call that another thread interrupts has two lines, and its result is in the second.
        let ends = ours.map(|(_, call)| call.trim_start()).filter(|call| !call.ends_with("<unfinished ...>"));
        // A debug build asks of each descriptor that it is handed whether it is open.
        let checks = if cfg!(debug_assertions) { "fcntl" } else { "" };
        Self(ends.filter_map(call).filter(|(name, _)| name != checks).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn count(&self, name: &str) -> usize {
        self.0.iter().filter(|(called, _)| called == name).count()
    }

    pub(crate) fn failed_with(&self, error: &str) -> usize {
        self.0.iter().filter(|(_, failed)| failed.as_deref() == Some(error)).count()
    }

    /// How many of each there are, for one of `count`.
    pub(crate) fn summary(&self, count: f64) -> String {
        let mut each: BTreeMap<String, f64> = BTreeMap::new();
        for (name, error) in &self.0 {
            let name = error.as_ref().map_or_else(|| name.clone(), |error| format!("{name} ({error})"));
            *each.entry(name).or_default() += 1.0 / count;
        }
        each.iter().map(|(name, count)| format!("{name} {count:.2}")).collect::<Vec<_>>().join(", ")
    }
}

/// The name and the error of a call, from its line: `recvfrom(5, 0x…, …) = -1 EAGAIN (…)`.
fn call(line: &str) -> Option<(String, Option<String>)> {
    let start = line.strip_prefix("<... ").unwrap_or(line);
    let name = &start[..start.find(['(', ' '])?];
    let (_, result) = line.rsplit_once(" = ")?;
    let error = result.strip_prefix("-1 ").and_then(|error| error.split(' ').next());
    Some((name.to_string(), error.map(str::to_string)))
}

#[test]
fn lines_of_strace_are_understood() {
    let trace = "7 epoll_wait(3, [], 1024, -1) = 1\n8 futex(0x1, FUTEX_WAIT) = 0\n7 recvfrom(5, \"a = b\", 9, 0, NULL, NULL) = 5\n\
                 7 recvfrom(5, 0x1, 9, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)\n7 sendto(6, <unfinished ...>\n\
                 8 write(1, \"x\", 1) = 1\n7 <... sendto resumed>\"x\", 1) = 1\n7 epoll_wait(3,  <unfinished ...>\n";
    let calls = Calls::of_workers(trace, 0);
    assert_eq!(
        (calls.len(), calls.count("recvfrom"), calls.count("sendto"), calls.count("write")),
        (4, 2, 1, 0)
    );
    assert_eq!(calls.failed_with("EAGAIN"), 1);
    assert_eq!(calls.summary(2.0), "epoll_wait 0.50, recvfrom 0.50, recvfrom (EAGAIN) 0.50, sendto 0.50");
}
