//! What processes and the machine have used, as the kernel tells it in /proc (proc(5)).

use std::collections::BTreeMap;
use std::fs;
use std::io;

use crate::sys;

/// The process and all its descendants that are alive, the process first. A descendant whose parent has ended belongs
/// to somebody else, and is missing.
#[must_use]
pub fn tree(pid: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for process in numbers("/proc") {
        if let Some(stat) = Stat::of(process) {
            children.entry(stat.parent).or_default().push(process);
        }
    }
    let mut tree = vec![pid];
    let mut next = 0;
    while let Some(parent) = tree.get(next) {
        tree.extend(children.remove(parent).unwrap_or_default());
        next += 1;
    }
    tree
}

/// The entries of a folder whose names are numbers.
fn numbers(folder: &str) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut numbers: Vec<u32> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// What is needed of /proc/PID/stat.
struct Stat {
    parent: u32,
    /// CPU time in user mode and in the kernel, in clock ticks.
    ticks: [u64; 2],
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The second field is a name in brackets, in which there may be anything; so fields are counted behind the last one.
    fn parse(stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self { parent: field(4)?.try_into().ok()?, ticks: [field(14)?, field(15)?] })
    }
}

/// Threads that are asked for their switches; of more, reading would disturb what is measured.
const MOST_THREADS: usize = 256;

/// What some processes have used since they began, all of them and their threads together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU time in user mode, in seconds. Its sum with `cpu_system` is exact ([`sys::cpu_time`]); how the two share it
    /// is as the kernel's ticks have it (`utime` and `stime` of /proc/PID/stat).
    pub cpu_user: f64,
    /// CPU time in the kernel, in seconds.
    pub cpu_system: f64,
    /// Of each thread: times that it went to sleep, and times that it was pushed off its CPU (`voluntary_ctxt_switches`
    /// and `nonvoluntary_ctxt_switches` of /proc/PID/task/TID/status).
    switches: BTreeMap<u32, [u64; 2]>,
}

impl Usage {
    /// What `pids` have used until now.
    ///
    /// # Errors
    /// `NotFound` when one of them has ended, and the operating system's.
    pub fn of(pids: &[u32]) -> io::Result<Self> {
        let mut sum = Self::default();
        for &pid in pids {
            let gone = || io::Error::new(io::ErrorKind::NotFound, format!("process {pid} has ended"));
            let total = sys::cpu_time(pid)?.as_secs_f64();
            let [user, system] = Stat::of(pid).ok_or_else(gone)?.ticks.map(|ticks| ticks as f64);
            let share = if user + system > 0.0 { user / (user + system) } else { 0.5 };
            sum.cpu_user += total * share;
            sum.cpu_system += total * (1.0 - share);
            for task in numbers(&format!("/proc/{pid}/task")).into_iter().take(MOST_THREADS + 1) {
                // A thread that ends meanwhile is no error.
                let status =
                    fs::read_to_string(format!("/proc/{pid}/task/{task}/status")).unwrap_or_default();
                let names = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"];
                sum.switches.insert(task, names.map(|name| value(&status, name).unwrap_or(0)));
            }
        }
        Ok(sum)
    }

    /// CPU time that was used since `earlier`, which has to be of the same processes. Nothing in it is negative: the sum
    /// never goes back, and the shares are cut to it.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let total = |usage: &Self| usage.cpu_user + usage.cpu_system;
        let all = (total(self) - total(earlier)).max(0.0);
        let cpu_user = (self.cpu_user - earlier.cpu_user).clamp(0.0, all);
        Self { cpu_user, cpu_system: all - cpu_user, switches: BTreeMap::new() }
    }

    /// Times that a thread went to sleep, and times that one was pushed off its CPU, since `earlier`. `None` where threads
    /// have come or gone, whose times are not all known, or where there are too many to ask.
    #[must_use]
    pub fn switches_since(&self, earlier: &Self) -> Option<[u64; 2]> {
        let few = self.switches.len() <= MOST_THREADS;
        let same = few && self.switches.keys().eq(earlier.switches.keys());
        let sum = |usage: &Self, kind: usize| usage.switches.values().map(|of_one| of_one[kind]).sum::<u64>();
        same.then(|| [0, 1].map(|kind| sum(self, kind) - sum(earlier, kind)))
    }
}

/// The number behind `name:` in a file of such lines.
pub(super) fn value(lines: &str, name: &str) -> Option<u64> {
    let line = lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The memory of some processes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryNow {
    /// What nobody else shares now: `Private_Clean` and `Private_Dirty` of /proc/PID/smaps_rollup.
    pub private: u64,
    /// The most that was resident at a time, of each process (`VmHWM` of /proc/PID/status), added up: what they share
    /// is counted for each.
    pub resident_peak: u64,
}

impl MemoryNow {
    /// That of `pids`.
    ///
    /// # Errors
    /// `NotFound` when one of them has ended, and the operating system's.
    pub fn of(pids: &[u32]) -> io::Result<Self> {
        let mut sum = Self::default();
        for &pid in pids {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let gone = || io::Error::new(io::ErrorKind::NotFound, format!("process {pid} has ended"));
            let kib = |lines: &str, name: &str| value(lines, name).ok_or_else(gone);
            sum.private += 1024 * (kib(&rollup, "Private_Clean")? + kib(&rollup, "Private_Dirty")?);
            sum.resident_peak += 1024 * kib(&status, "VmHWM")?;
        }
        Ok(sum)
    }
}

/// Memory that the kernel holds for sockets and their buffers, in bytes: pages of TCP (`mem` of /proc/net/sockstat) and
/// all of its small objects (`Slab` of /proc/meminfo). It is the whole machine's, others' too, and the kernel gives back
/// late: only a difference of many connections says something.
#[must_use]
pub fn kernel_memory() -> u64 {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let pages = tcp_pages(&read("/proc/self/net/sockstat")).unwrap_or(0);
    pages * rustix::param::page_size() as u64 + 1024 * value(&read("/proc/meminfo"), "Slab").unwrap_or(0)
}

/// `TCP: inuse 5 orphan 0 tw 0 alloc 6 mem 2`.
fn tcp_pages(sockstat: &str) -> Option<u64> {
    let words = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    words.split_whitespace().skip_while(|word| *word != "mem").nth(1)?.parse().ok()
}

/// What each CPU of the machine has done since the start, whoever asked it to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Machine {
    /// By the CPU's number.
    cpus: BTreeMap<u32, Busy>,
}

/// Time that CPUs spent, in seconds, in steps of a clock tick (10 ms): the kernel looks at each tick what a CPU is
/// doing, so over less than a second it is a guess.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Busy {
    /// Doing something, interrupts included.
    pub busy: f64,
    /// Ready to do something, while the hypervisor gave the CPU to others.
    pub steal: f64,
}

impl Machine {
    /// Until now, by /proc/stat; empty where it cannot be read.
    #[must_use]
    pub fn now() -> Self {
        let ticks = rustix::param::clock_ticks_per_second();
        Self::parse(&fs::read_to_string("/proc/stat").unwrap_or_default(), ticks as f64)
    }

    fn parse(stat: &str, ticks: f64) -> Self {
        let cpu = |line: &str| {
            let (number, times) = line.strip_prefix("cpu")?.split_once(' ')?;
            let times: Vec<f64> = times.split_whitespace().filter_map(|time| time.parse().ok()).collect();
            // The time of guests is part of that of the user.
            let [user, nice, system, _idle, _io, interrupts, soft, steal, ..] = times[..] else {
                return None;
            };
            let busy = user + nice + system + interrupts + soft;
            Some((number.parse().ok()?, Busy { busy: busy / ticks, steal: steal / ticks }))
        };
        Self { cpus: stat.lines().filter_map(cpu).collect() }
    }

    /// What `cpus` did together since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self, cpus: &[u32]) -> Busy {
        let mut sum = Busy::default();
        for cpu in cpus {
            let (Some(now), Some(then)) = (self.cpus.get(cpu), earlier.cpus.get(cpu)) else { continue };
            sum.busy += (now.busy - then.busy).max(0.0);
            sum.steal += (now.steal - then.steal).max(0.0);
        }
        sum
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests read a clock beside the kernel's")]
mod tests {
    use std::process::{Child, Command};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    /// A process that is ended with the test.
    struct Running(Child);

    impl Running {
        fn shell(script: &str) -> Self {
            Self(Command::new("sh").args(["-c", script]).spawn().unwrap())
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            for pid in tree(self.0.id()).into_iter().skip(1) {
                let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            }
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }

    /// Until `ready`, at most a minute, of which a busy machine may give little.
    fn wait_until(ready: impl Fn() -> bool) {
        let start = Instant::now();
        while !ready() {
            assert!(start.elapsed() < Duration::from_secs(60), "it never came");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_tree_has_the_process_and_all_its_descendants() {
        let child = Running::shell("sh -c 'sleep 60 & wait' & wait");
        wait_until(|| tree(child.0.id()).len() == 3);
        assert_eq!(tree(child.0.id())[0], child.0.id());
        assert!(tree(std::process::id()).contains(&child.0.id()));
        assert_eq!(tree(u32::MAX), [u32::MAX]);
    }

    #[test]
    fn a_name_may_have_brackets_and_spaces() {
        let stat = "42 (a) (b c) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 6 7 20 0 3 0 99 1 2 3";
        let stat = Stat::parse(stat).unwrap();
        assert_eq!((stat.parent, stat.ticks), (7, [150, 50]));
        assert!(Stat::parse("42 (a) S 7").is_none());
    }

    #[test]
    fn who_computes_uses_the_cpu_and_who_sleeps_does_not() {
        let busy = Running::shell("while :; do :; done");
        let idle = Running::shell("exec sleep 60");
        let pids = [[busy.0.id()], [idle.0.id()]];
        wait_until(|| Usage::of(&pids[0]).unwrap().cpu_user > 0.05);
        // What it takes to become `sleep` is no sleep yet.
        wait_until(|| {
            fs::read_to_string(format!("/proc/{}/stat", pids[1][0])).unwrap().contains("(sleep) S")
        });
        let before = pids.map(|pid| Usage::of(&pid).unwrap());
        wait_until(|| {
            let used = Usage::of(&pids[0]).unwrap().since(&before[0]);
            used.cpu_user + used.cpu_system > 0.3
        });
        let [busy, idle] = [0, 1].map(|which| Usage::of(&pids[which]).unwrap().since(&before[which]));
        // A tick counts for whatever it meets, which on a busy machine is often enough the kernel.
        assert!(busy.cpu_user > 0.0, "{busy:?}");
        assert!(idle.cpu_user + idle.cpu_system < 0.1, "{idle:?}");
        let both = Usage::of(&[pids[0][0], pids[1][0]]).unwrap();
        assert!(both.cpu_user >= busy.cpu_user && both.switches.len() > idle.switches.len(), "{both:?}");
    }

    #[test]
    fn what_is_used_between_two_looks_is_never_negative() {
        let usage = |cpu_user, cpu_system, threads: &[(u32, [u64; 2])]| Usage {
            cpu_user,
            cpu_system,
            switches: threads.iter().copied().collect(),
        };
        let used = usage(1.0, 0.25, &[]).since(&usage(0.5, 0.5, &[]));
        assert_eq!(used, usage(0.25, 0.0, &[]));
        let used = usage(0.5, 1.0, &[]).since(&usage(0.5, 0.5, &[]));
        assert_eq!(used, usage(0.0, 0.5, &[]));
        let before = usage(0.0, 0.0, &[(1, [4, 6]), (2, [0, 1])]);
        let after = |second| usage(0.0, 0.0, &[(1, [5, 6]), (second, [7, 1])]);
        assert_eq!(after(2).switches_since(&before), Some([8, 0]));
        assert_eq!(after(3).switches_since(&before), None, "a thread has gone, and another one come");
    }

    #[test]
    fn a_process_that_has_ended_has_no_figures() {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let gone = [child.id()];
        assert_eq!(Usage::of(&gone).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(MemoryNow::of(&gone).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn memory_that_is_written_to_is_private() {
        let me = [std::process::id()];
        let before = MemoryNow::of(&me).unwrap();
        let written = std::hint::black_box(vec![1_u8; 256 << 20]);
        let after = MemoryNow::of(&me).unwrap();
        // Other tests of this process may give some back meanwhile.
        assert!(after.private > before.private + (128 << 20), "{before:?} {after:?}");
        assert!(after.resident_peak >= after.private, "{after:?}");
        drop(written);
    }

    #[test]
    fn the_kernel_has_memory() {
        let sockstat = "sockets: used 12\nTCP: inuse 1 orphan 2 tw 3 alloc 4 mem 232\nUDP: inuse 0 mem 7\n";
        assert_eq!(tcp_pages(sockstat), Some(232));
        assert!(kernel_memory() > 1 << 20);
    }

    #[test]
    fn cpus_are_busy_or_stolen() {
        let earlier =
            "cpu  1 1 1 1 1 1 1 1 1 1\ncpu0 100 10 20 999 9 1 2 3 50 0\ncpu1 0 0 0 0 0 0 0 0 0 0\nintr 5\n";
        let later =
            "cpu  1 1 1 1 1 1 1 1 1 1\ncpu0 200 20 20 999 9 1 2 53 50 0\ncpu1 100 0 0 0 0 0 0 0 0 0\n";
        let [earlier, later] = [earlier, later].map(|stat| Machine::parse(stat, 100.0));
        assert_eq!(later.since(&earlier, &[0]), Busy { busy: 1.1, steal: 0.5 });
        assert_eq!(later.since(&earlier, &[0, 1, 7]), Busy { busy: 2.1, steal: 0.5 });
        let now = Machine::now();
        let (cpus, _) = sys::allowed_cpus();
        assert!(now.since(&Machine::default(), &cpus) == Busy::default());
        assert!(cpus.iter().all(|cpu| now.cpus.contains_key(cpu)), "{now:?}");
    }
}
