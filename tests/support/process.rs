//! What the kernel tells of a process, and of a connection's send queue.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::PATIENCE;

/// Descriptors that the process has open.
pub(crate) fn descriptors(pid: u32) -> usize {
    descriptor_numbers(pid).len()
}

/// The lowest descriptor number that is free: a limit of so many leaves the process none to open.
pub(crate) fn lowest_free_descriptor(pid: u32) -> u64 {
    let numbers = descriptor_numbers(pid);
    (0..).find(|number| !numbers.contains(number)).expect("there is an end")
}

fn descriptor_numbers(pid: u32) -> Vec<u64> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("the process runs")
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect()
}

/// Ends of pipes that the process has open, its outputs among them.
pub(crate) fn pipe_ends(pid: u32) -> usize {
    let is_pipe = |number: &u64| {
        let link = fs::read_link(format!("/proc/{pid}/fd/{number}"));
        link.is_ok_and(|target| target.to_string_lossy().starts_with("pipe:"))
    };
    descriptor_numbers(pid).iter().filter(|number| is_pipe(number)).count()
}

/// Whether the process has a handler for that signal.
pub(crate) fn catches(pid: u32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("status has it");
    u64::from_str_radix(caught.trim(), 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
}

/// Waits until the process has at most `most` descriptors, and says how many it has then.
pub(crate) fn descriptors_settle(pid: u32, most: usize) -> usize {
    let began = Instant::now();
    while descriptors(pid) > most && began.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(20));
    }
    descriptors(pid)
}

/// Waits until the process has at least so many descriptors.
pub(crate) fn descriptors_reach(pid: u32, least: usize) {
    let began = Instant::now();
    while descriptors(pid) < least {
        assert!(began.elapsed() < PATIENCE, "there are {} descriptors, and not {least}", descriptors(pid));
        thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes of memory that the process has written and that are no file's. Pages of the program's file are left out:
/// as long as no other test runs the same program they count as private, and just after it was linked as dirty.
pub(crate) fn anonymous_bytes(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the process runs");
    let line = rollup.lines().find(|line| line.starts_with("Anonymous:")).expect("smaps_rollup has it");
    let kibibytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kibibytes * 1024
}

/// The descriptors that each selector (epoll) of the process watches, by the selector's own number.
pub(crate) fn watched(pid: u32) -> BTreeMap<u64, Vec<u64>> {
    let is_selector = |number: &u64| {
        let link = fs::read_link(format!("/proc/{pid}/fd/{number}"));
        link.is_ok_and(|target| target.to_string_lossy() == "anon_inode:[eventpoll]")
    };
    let selectors = descriptor_numbers(pid).into_iter().filter(is_selector);
    selectors
        .map(|number| {
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).expect("it is open");
            let targets = info.lines().filter_map(|line| line.strip_prefix("tfd:"));
            let targets = targets.map(|line| line.split_whitespace().next().unwrap().parse().unwrap());
            (number, targets.collect())
        })
        // The control plane has one, too, and nothing but wakers in it.
        .filter(|(_, targets): &(u64, Vec<u64>)| targets.iter().any(|number| is_socket(pid, *number)))
        .collect()
}

fn is_socket(pid: u32, number: u64) -> bool {
    let link = fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap_or_default();
    let link = link.to_string_lossy();
    let Some(inode) = link.strip_prefix("socket:[").and_then(|link| link.strip_suffix(']')) else {
        return false;
    };
    // The control plane is woken by a pair of its own when a child has ended.
    let pairs = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    !pairs
        .lines()
        .any(|line| line.split_whitespace().nth(6) == Some(inode) && line.split_whitespace().nth(7).is_none())
}

/// CPU time that the process used while `span` went by, user and system, in clock ticks of 10 ms.
pub(crate) fn cpu_ticks_over(pid: u32, span: Duration) -> u64 {
    let before = cpu_ticks(pid);
    thread::sleep(span);
    cpu_ticks(pid) - before
}

/// Asserts that the process uses at most so many clock ticks of CPU while `span` goes by. What it had to do before may go on
/// for a while on a busy machine, and one of ten spans is enough; who spins does so in each.
pub(crate) fn assert_rests(pid: u32, span: Duration, most: u64, when: &str) {
    let mut used = 0;
    let rests = (0..10).any(|_| {
        used = cpu_ticks_over(pid, span);
        used <= most
    });
    assert!(rests, "{used} clock ticks of CPU in {span:?} {when}");
}

/// CPU time that the process has used so far, in clock ticks of 10 ms.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The second field is the program's name in parentheses; it may hold blanks. What follows it is plain.
    let after_name = &stat[stat.rfind(')').expect("a name") + 1..];
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next().unwrap().parse().unwrap();
    let system: u64 = fields.next().unwrap().parse().unwrap();
    user + system
}

/// The soft limit of open descriptors.
pub(crate) fn soft_descriptor_limit(pid: u32) -> u64 {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("the process runs");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("limits has it");
    line["Max open files".len()..].split_whitespace().next().unwrap().parse().unwrap()
}

/// Bytes in the send queue of the connection from `local` to `remote` that the other kernel has not
/// acknowledged; `None` when there is no such connection. IPv4 only.
pub(crate) fn unacknowledged(local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let (local, remote) = (in_kernel_form(local), in_kernel_form(remote));
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let found = fields.next()? == local && fields.next()? == remote;
        let queues = fields.nth(1)?;
        found.then(|| u64::from_str_radix(queues.split(':').next().unwrap(), 16).unwrap())
    })
}

/// `127.0.0.1:8080` is `0100007F:1F90` in `/proc/net/tcp`: the address as a number of the machine's own order.
fn in_kernel_form(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else { panic!("{address} is not IPv4") };
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}
