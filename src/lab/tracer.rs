//! System calls of processes that run already, counted by strace(1). It slows them down many times over: what it counts
//! is right, and nothing that is timed meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process};

use super::results::Count;
use super::words::last_words;

/// How often it is looked whether strace has done what it was asked to.
const LOOK: Duration = Duration::from_millis(10);
/// How often at most: 20 s, of which it needs a tenth of one.
const LOOKS: u32 = 2_000;
/// How long strace is given to let the threads go on that it has stopped to attach to them. Nothing shows when the last
/// of them is under way again.
const SETTLE: Duration = Duration::from_millis(200);

/// A strace that works here.
#[derive(Clone, Debug)]
pub struct Tracer {
    file: PathBuf,
    /// Its name and version: `strace 6.1`.
    pub name: String,
}

impl Tracer {
    /// Looks for strace on the path, and lets it attach to a process that is of no use.
    ///
    /// # Errors
    /// Why no system calls can be counted here, and what to do about it.
    pub fn found() -> Result<Self, String> {
        let path = env::var_os("PATH").unwrap_or_default();
        let file = env::split_paths(&path).map(|folder| folder.join("strace")).find(|file| file.is_file());
        let file = file.ok_or("no `strace` on the PATH: install the package strace")?;
        let said = Command::new(&file).arg("-V").stdin(Stdio::null()).output();
        let said = said.map_err(|error| format!("strace cannot be started: {error}"))?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let version = said.lines().next().and_then(|line| line.rsplit(' ').next()).unwrap_or_default();
        let tracer = Self { file, name: format!("strace {version}") };
        tracer.probe().map_err(|error| {
            let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
            let cure = match scope.trim() {
                "" | "0" => "ptrace(2) has to be allowed: run as root, or with CAP_SYS_PTRACE",
                _ => "`sysctl kernel.yama.ptrace_scope=0` allows it, as does CAP_SYS_PTRACE",
            };
            format!("strace may not attach to a process here ({error:#}); {cure}")
        })?;
        Ok(tracer)
    }

    fn probe(&self) -> anyhow::Result<()> {
        let mut child = Command::new("sleep").arg("60").spawn().context("sleep(1) cannot be started")?;
        let traced = self.attach(&[child.id()]).and_then(Attached::detach);
        child.kill().ok();
        child.wait()?;
        traced.map(drop)
    }

    /// Begins to count what these processes call, with all their threads and those that they start. It comes back when
    /// they are traced. They go on running; but a call that waits then, or when they are let go, may end with EINTR, if it is
    /// one that signal(7) lists as never restarted, such as epoll_wait(2).
    ///
    /// # Errors
    /// What strace says when it cannot attach, and the operating system's.
    pub fn attach(&self, pids: &[u32]) -> anyhow::Result<Attached> {
        let [trace, errors] = ["trace", "errors"].map(|name| memfd_create(name, MemfdFlags::CLOEXEC));
        let [trace, errors]: [OwnedFd; 2] = [trace?, errors?];
        // Raw arguments are read from registers and not from the traced process's memory: faster, and no text of others is
        // in what has to be parsed. An open file of its own has its own position.
        let mut command = Command::new(&self.file);
        command.args(["-f", "-qq", "-s", "0", "-e", "raw=all", "-o", "/proc/self/fd/1"]);
        command.args(pids.iter().flat_map(|pid| ["-p".to_string(), pid.to_string()]));
        command.stdin(Stdio::null()).stdout(trace.try_clone()?).stderr(errors.try_clone()?);
        // An interrupt from the keyboard is not for it.
        let strace = command.process_group(0).spawn().context("strace cannot be started")?;
        let mut attached = Attached { strace, trace: trace.into(), errors: errors.into() };
        for _ in 0..LOOKS {
            if let Some(status) = attached.strace.try_wait()? {
                bail!("strace ended with {status}: {}", attached.said()?);
            }
            if pids.iter().all(|pid| all_traced(*pid, attached.strace.id())) {
                thread::sleep(SETTLE);
                return Ok(attached);
            }
            thread::sleep(LOOK);
        }
        bail!("strace does not attach: {}", attached.said()?)
    }
}

/// Whether the process is there, and `tracer` traces all its threads. Those of the kernel, the workers of an io_uring, make
/// no calls and come and go: nobody waits for them.
fn all_traced(pid: u32, tracer: u32) -> bool {
    let tracer = format!("\nTracerPid:\t{tracer}\n");
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    tasks.flatten().all(|task| {
        // A thread that has ended meanwhile has no status.
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        status.is_empty() || status.starts_with("Name:\tiou-") || status.contains(&tracer)
    })
}

/// Processes that are being traced. When it is dropped they are let go.
#[derive(Debug)]
pub struct Attached {
    strace: Child,
    trace: File,
    errors: File,
}

impl Attached {
    /// Lets the processes go on by themselves, and tells what they called between [`Tracer::attach`] and now: calls that
    /// began and ended in between. One that a signal interrupted and the kernel restarted is one call, and the return of a
    /// handler (rt_sigreturn(2)) is none. Bytes are those that
    /// read, write, receive, send and splice calls returned, of which a peek (`MSG_PEEK`) moves none; recvmmsg(2) and
    /// sendmmsg(2) tell messages instead, and what an io_uring moves is in no result.
    ///
    /// # Errors
    /// The processes have ended, or strace has; and the operating system's.
    pub fn detach(mut self) -> anyhow::Result<BTreeMap<String, Count>> {
        let early = self.strace.try_wait()?;
        self.end();
        ensure!(early.is_none(), "the traced processes have ended, or strace has: {}", self.said()?);
        self.trace.rewind()?;
        let mut trace = Trace::default();
        for line in BufReader::new(&self.trace).lines() {
            trace.line(&line?);
        }
        Ok(trace.counts)
    }

    /// Makes strace detach and end. Killed instead, when it does not, it leaves the processes running as well: the kernel
    /// lets go of whom a tracer leaves behind.
    fn end(&mut self) {
        kill_process(Pid::from_child(&self.strace), Signal::INT).ok();
        for _ in 0..LOOKS {
            if !matches!(self.strace.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(LOOK);
        }
        self.strace.kill().ok();
        self.strace.wait().ok();
    }

    /// What strace says for people.
    fn said(&mut self) -> anyhow::Result<String> {
        let mut said = String::new();
        self.errors.rewind()?;
        self.errors.read_to_string(&mut said)?;
        Ok(last_words(&said))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if matches!(self.strace.try_wait(), Ok(None)) {
            self.end();
        }
    }
}

/// Calls whose result is a number of bytes that were moved.
const MOVING: [&str; 21] = [
    "read",
    "readv",
    "pread64",
    "preadv",
    "preadv2",
    "recv",
    "recvfrom",
    "recvmsg",
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "send",
    "sendto",
    "sendmsg",
    "splice",
    "tee",
    "vmsplice",
    "sendfile",
    "copy_file_range",
];

/// What the lines of strace tell, one after the other.
#[derive(Debug, Default)]
struct Trace {
    threads: HashMap<String, Thread>,
    counts: BTreeMap<String, Count>,
}

/// What is known of a thread.
#[derive(Debug, Default)]
struct Thread {
    /// The call that it is in.
    open: Option<String>,
    /// The call that a signal interrupted, which the kernel may restart.
    interrupted: Option<String>,
}

impl Trace {
    /// Takes a line as strace writes it with `-f -o FILE`: the thread, and behind it one of these:
    /// `recvfrom(0x5, …) = 0x64`, `recvfrom(0x5, … <unfinished ...>`, `<... recvfrom resumed>) = -1 EAGAIN (…)`,
    /// `--- SIGCHLD {…} ---`, `+++ exited with 0 +++`.
    fn line(&mut self, line: &str) {
        let Some((thread, event)) = line.split_once(' ') else { return };
        let event = event.trim_start();
        if event.starts_with("+++") {
            self.threads.remove(thread);
            return;
        }
        let state = self.threads.entry(thread.to_string()).or_default();
        let name = if let Some(resumed) = event.strip_prefix("<... ") {
            // Without a beginning it is one that was under way before.
            let name = state.open.take();
            name.filter(|name| resumed.strip_prefix(name).is_some_and(|rest| rest.starts_with(" resumed")))
        } else {
            event.split_once('(').map(|(name, _)| name.to_string()).filter(|name| is_name(name))
        };
        let Some(name) = name else { return };
        match event.rsplit_once(" = ") {
            Some((_, result)) if !event.ends_with("...>") => {
                if let Some((name, failed)) = state.ended(name, result) {
                    let count = self.counts.entry(name.clone()).or_default();
                    count.calls += 1;
                    count.failed += u64::from(failed);
                    if !failed && MOVING.contains(&name.as_str()) {
                        count.bytes += number(result).unwrap_or(0);
                    }
                }
            }
            _ => state.open = Some(name),
        }
    }
}

impl Thread {
    /// A call has ended: its name and whether it failed, if the program was told so.
    fn ended(&mut self, name: String, result: &str) -> Option<(String, bool)> {
        let error = result.strip_prefix("-1 ").or_else(|| result.strip_prefix("? "));
        let error = error.and_then(|error| error.split(' ').next()).unwrap_or_default();
        if error.starts_with("ERESTART") {
            self.interrupted = Some(name);
            return None;
        }
        let interrupted = self.interrupted.take();
        match name.as_str() {
            // It goes on under this name; without another one it is from before.
            "restart_syscall" => interrupted.map(|name| (name, !error.is_empty())),
            // What a handler of signals returns to: with this result, to the end of the call that was interrupted.
            "rt_sigreturn" if error == "EINTR" => interrupted.map(|name| (name, true)),
            "rt_sigreturn" => None,
            _ => {
                // In a handler, the interrupted call is still to come.
                self.interrupted = interrupted.filter(|interrupted| *interrupted != name);
                Some((name, !error.is_empty()))
            }
        }
    }
}

fn is_name(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// A result: `0`, `0x64`.
fn number(result: &str) -> Option<u64> {
    let word = result.split(' ').next()?;
    word.strip_prefix("0x").map_or_else(|| word.parse().ok(), |digits| u64::from_str_radix(digits, 16).ok())
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, PipeWriter, Write, pipe};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn counts(lines: &str) -> BTreeMap<String, Count> {
        let mut trace = Trace::default();
        lines.lines().for_each(|line| trace.line(line));
        trace.counts
    }

    fn expect(lines: &str, expected: &[(&str, u64, u64, u64)]) {
        let expected = expected.iter().map(|(name, calls, failed, bytes)| {
            (name.to_string(), Count { calls: *calls, failed: *failed, bytes: *bytes })
        });
        assert_eq!(counts(lines), expected.collect());
    }

    #[test]
    fn calls_are_counted_with_failures_and_bytes() {
        let lines = "\
10203 recvfrom(0x3, 0x7f3f8f1d1d00, 0x64, 0, 0, 0 <unfinished ...>
10161 futex(0x7f3f8fb4e6f8, 0x81, 0x1, 0, 0, 0) = 0
10203 <... recvfrom resumed>)           = 0x20
10203 recvfrom(0x3, 0x7f3f8f1d1d00, 0x64, 0, 0, 0) = -1 EAGAIN (Resource temporarily unavailable)
7     writev(0x3, 0x7f3f8f1d1d00, 0x2)  = 0x3000
10161 sendmmsg(0x4, 0x7f3f8ef91e00, 0x2, 0) = 0x2
10203 exit(0)                           = ?
10203 +++ exited with 0 +++
";
        expect(
            lines,
            &[
                ("exit", 1, 0, 0),
                ("futex", 1, 0, 0),
                ("recvfrom", 2, 1, 32),
                ("sendmmsg", 1, 0, 0),
                ("writev", 1, 0, 0x3000),
            ],
        );
    }

    #[test]
    fn what_began_before_or_ends_later_is_not_counted() {
        let lines = "\
1547  restart_syscall()                 = 0
1548  <... epoll_wait resumed>)         = 0x1
1547  getpid()                          = 0x60b
1548  epoll_wait(0x3, 0x7ffcc55e75d0, 0x400, 0xffffffff <unfinished ...>
1547  poll(0x7ffcc55e772c, 0x1, 0xffffffff <detached ...>
";
        expect(lines, &[("getpid", 1, 0, 0)]);
    }

    #[test]
    fn a_call_that_is_restarted_is_one() {
        // Restarted from the beginning, behind a handler that writes.
        let lines = "\
1547  recvfrom(0x3, 0x7ffcc55e7736, 0xa, 0, 0, 0 <unfinished ...>
1552  kill(0x60b, 0xa)                  = 0
1547  <... recvfrom resumed>)           = -1 ERESTARTSYS (Unknown error 512)
1547  --- SIGUSR1 {si_signo=SIGUSR1, si_code=SI_USER, si_pid=1552, si_uid=0} ---
1547  write(0x6, 0x563dc5187004, 0x1)   = 0x1
1547  rt_sigreturn()                    = 0x2d
1547  recvfrom(0x3, 0x7ffcc55e7736, 0xa, 0, 0, 0) = 0x3
";
        expect(lines, &[("kill", 1, 0, 0), ("recvfrom", 1, 0, 3), ("write", 1, 0, 1)]);
        // Continued where it was, by a call of its own.
        let lines = "\
1547  poll(0x7ffcc55e772c, 0x1, 0xea60) = -1 ERESTART_RESTARTBLOCK (Unknown error 516)
1547  --- SIGSTOP {si_signo=SIGSTOP, si_code=SI_USER, si_pid=1552, si_uid=0} ---
1547  --- stopped by SIGSTOP ---
1547  --- SIGCONT {si_signo=SIGCONT, si_code=SI_USER, si_pid=1552, si_uid=0} ---
1547  restart_syscall( <unfinished ...>
1552  getpid()                          = 0x610
1547  <... restart_syscall resumed>)    = 0x1
";
        expect(lines, &[("getpid", 1, 0, 0), ("poll", 1, 0, 0)]);
    }

    #[test]
    fn a_call_that_a_handler_ended_has_failed() {
        let lines = "\
1547  recvfrom(0x3, 0x7ffcc55e7736, 0xa, 0, 0, 0) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)
1547  --- SIGUSR2 {si_signo=SIGUSR2, si_code=SI_USER, si_pid=1552, si_uid=0} ---
1547  write(0x6, 0x563dc5187004, 0x1)   = 0x1
1547  rt_sigreturn()                    = -1 EINTR (Interrupted system call)
";
        expect(lines, &[("recvfrom", 1, 1, 0), ("write", 1, 0, 1)]);
    }

    #[test]
    fn other_lines_are_passed_over() {
        expect(
            "\n42\n42 strange\n42 (a) = 1\nstrace: Process 42 attached\n42 <... read resumed>) = 5\n",
            &[],
        );
    }

    /// Tells this test, run again as a process of its own, to be the one that is traced.
    const CHILD: &str = "TIDEGATE_TEST_TRACED";
    const THIS: &str = "lab::tracer::tests::what_a_process_calls_is_counted_to_the_last_one";
    const MESSAGES: u64 = 200;

    #[test]
    fn what_a_process_calls_is_counted_to_the_last_one() {
        if env::var_os(CHILD).is_some() {
            return pass_messages_on();
        }
        let tracer = match Tracer::found() {
            Ok(tracer) => tracer,
            Err(absent) => {
                println!("skipped: {absent}");
                let required = env::var_os("TIDEGATE_REQUIRE_TOOLS").is_some_and(|value| value == "1");
                assert!(!required, "TIDEGATE_REQUIRE_TOOLS=1: {absent}");
                return;
            }
        };
        assert!(tracer.name.starts_with("strace ") && tracer.name.len() > 8, "{tracer:?}");

        let (reader, mut to) = pipe().unwrap();
        let (mut from, writer) = pipe().unwrap();
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", THIS, "--test-threads=1", "--nocapture"])
            .env(CHILD, "1")
            .stdin(reader)
            .stdout(Stdio::null())
            .stderr(writer)
            .spawn()
            .unwrap();
        // Both its threads have to be there before.
        (0..10).for_each(|_| exchange(&mut to, &mut from));
        for _ in 0..3 {
            let attached = tracer.attach(&[child.id()]).unwrap();
            (0..MESSAGES).for_each(|_| exchange(&mut to, &mut from));
            // The threads come to rest in their reads.
            thread::sleep(Duration::from_millis(100));
            let counts = attached.detach().unwrap();
            let of = |name: &str| counts.get(name).copied().unwrap_or_default();
            let moved = Count { calls: 2 * MESSAGES, failed: 0, bytes: 16 * MESSAGES };
            assert_eq!((of("read"), of("write")), (moved, moved), "{counts:?}");
            let tries = Count { calls: MESSAGES, failed: MESSAGES, bytes: 0 };
            assert_eq!(of("recvfrom"), tries, "{counts:?}");
            assert!(all_traced(child.id(), 0), "it is let go");
            exchange(&mut to, &mut from);
        }
        drop(tracer.attach(&[child.id()]).unwrap());
        exchange(&mut to, &mut from);
        drop(to);
        assert!(child.wait().unwrap().success(), "it ended as it does untraced");
        assert!(tracer.attach(&[child.id()]).is_err(), "who is gone cannot be traced");
    }

    #[test]
    fn who_ends_while_traced_is_an_error() {
        let Ok(tracer) = Tracer::found() else { return };
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let attached = tracer.attach(&[child.id()]).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        thread::sleep(Duration::from_millis(200));
        let error = attached.detach().unwrap_err().to_string();
        assert!(error.contains("have ended"), "{error}");
    }

    fn exchange(to: &mut PipeWriter, from: &mut PipeReader) {
        to.write_all(b"8 bytes.").unwrap();
        let mut got = [0; 8];
        from.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"8 bytes.");
    }

    /// For each message: two reads, two writes and a receive that fails, by two threads.
    fn pass_messages_on() {
        let (mut inner, mut to_inner) = pipe().unwrap();
        let (nobody, _other) = UnixStream::pair().unwrap();
        nobody.set_nonblocking(true).unwrap();
        let second = thread::spawn(move || {
            let mut message = [0; 8];
            while inner.read(&mut message).unwrap() == 8 {
                rustix::net::recv(&nobody, &mut [0; 8][..], rustix::net::RecvFlags::empty()).unwrap_err();
                rustix::io::write(std::io::stderr(), &message).unwrap();
            }
        });
        let mut message = [0; 8];
        while rustix::io::read(std::io::stdin(), &mut message).unwrap() == 8 {
            to_inner.write_all(&message).unwrap();
        }
        drop(to_inner);
        second.join().unwrap();
    }
}
