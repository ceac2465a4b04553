//! One subject with one workload, once: a back end, the proxy and clients are started, a window is measured, all bytes
//! are accounted for, everything is ended.

use std::collections::BTreeMap;
use std::fs;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use super::child::{Process, in_words};
use super::load::{BackEndSays, BackEndTask, ClientsSay, ClientsTask, Role, Tally, Window};
use super::measure::{Machine, MemoryNow, kernel_memory, tree};
use super::peers::Place;
use super::plan::{Cpus, Plan};
use super::proxy;
use super::results::{Census, Count, Failure, Memory, Round};
use super::room::RESERVE;
use super::subject::{Subject, Who};
use super::tracer::Tracer;
use super::words::last_words;
use super::workload::{Unit, Work, Workload};
use super::{network, now};
use crate::sys::calls::Call;

/// How long a proxy may take until it listens.
const START: Duration = Duration::from_secs(10);
/// How long the processes of a proxy must stay the same before it is taken for ready.
const SETTLE: Duration = Duration::from_millis(40);
/// How long a process of the load may take for a step, beside its window.
const STEP: Duration = Duration::from_secs(30);
/// Connections that may be closing at a time.
const CLOSING: u32 = 1_000;
/// Bytes that go each way over each connection of [`Work::Integrity`]; in a quick run less.
const INTEGRITY: [u32; 2] = [4 << 20, 1 << 20];
/// Seconds of one point of the curve, of a look at idle connections, of slow reading, and of a census.
const POINT: f64 = 0.5;
const LOOK: f64 = 1.0;
const SLOW: f64 = 2.0;
const CENSUS: f64 = 0.25;

/// What is to be measured.
pub(super) struct Task<'p> {
    pub(super) plan: &'p Plan,
    pub(super) subject: &'p Subject,
    pub(super) workload: &'p Workload,
    pub(super) connections: u32,
    pub(super) round: u32,
    /// For a census.
    pub(super) tracer: Option<&'p Tracer>,
}

/// What was measured, and how the proxy was started.
pub(super) struct Measured {
    pub(super) round: Round,
    pub(super) census: Option<Census>,
    pub(super) line: String,
    pub(super) configuration: String,
}

/// What went wrong, and whether it was that the proxy was started and did not listen.
pub(super) struct Failed {
    pub(super) failure: Failure,
    pub(super) did_not_start: bool,
}

/// Measures once.
///
/// # Errors
/// Whatever keeps the figures from being true: the proxy, an error on a connection, a wrong byte, one too few.
pub(super) fn measure(task: &Task<'_>) -> Result<Measured, Failed> {
    let mut proxy = Proxy::default();
    measure_with(task, &mut proxy).map_err(|error| {
        let mut cause = format!("{error:#}");
        // Connections of a process that dies end before it does.
        thread::sleep(Duration::from_millis(20));
        if let Some(status) = proxy.process.as_mut().and_then(Process::ended) {
            cause = format!("{cause}; {} has ended: {}", task.subject.info.name, in_words(status));
        }
        let last_words = proxy.process.as_ref().map(|it| last_words(&it.said())).unwrap_or_default();
        let did_not_start = proxy.process.is_some() && !proxy.listens;
        Failed { failure: Failure { round: task.round, cause, last_words }, did_not_start }
    })
}

/// The proxy, from when it is started.
#[derive(Default)]
struct Proxy {
    process: Option<Process>,
    listens: bool,
    line: String,
    configuration: String,
}

fn measure_with(task: &Task<'_>, proxy: &mut Proxy) -> anyhow::Result<Measured> {
    // Everything of this cell, and nothing else, is in it.
    network::enter();
    let directory = tempfile::Builder::new().prefix("tidegate-lab-").tempdir()?;
    let (mut back_end, back_ends) = start_back_end(task, &directory)?;
    let targets = start_proxy(task, proxy, &back_ends, &directory)?;
    let pids = proxy.process.as_ref().map_or_else(|| vec![back_end.pid()], |it| tree(it.pid()));
    let memory = (MemoryNow::of(&pids)?, kernel_memory());
    let clients_task = clients_task(task, targets, &pids, back_end.pid());
    let mut clients =
        start_load("clients", &Role::Clients(clients_task), task.plan.cpus.clients, &directory)?;

    let mut measured = follow(task, proxy, &mut clients, &pids)?;
    let after = (MemoryNow::of(&pids)?, kernel_memory());
    measured.round.memory = Some(Memory {
        connections: task.connections.into(),
        private: after.0.private.cast_signed() - memory.0.private.cast_signed(),
        kernel: after.1.cast_signed() - memory.1.cast_signed(),
        peak: after.0.resident_peak,
    });
    clients.tell("go")?;
    let ClientsSay::Ended(theirs) = clients.hear(STEP)? else { bail!("the clients did not end") };
    drop(clients);
    back_end.end_input();
    let BackEndSays::Ended(its) = back_end.hear(STEP)? else { bail!("the back end did not end") };
    account(task.workload.work, &theirs, &its)?;
    ensure!(measured.round.units > 0.0, "nothing was done");
    Ok(measured)
}

/// Hears the clients until their window is over.
fn follow(
    task: &Task<'_>,
    proxy: &mut Proxy,
    clients: &mut Process,
    pids: &[u32],
) -> anyhow::Result<Measured> {
    let cpus = task.plan.cpus.all();
    let ClientsSay::Begin = hear_or_fail(clients)? else { bail!("the clients did not begin") };
    let now = proxy.process.as_ref().map_or_else(|| pids.to_vec(), |process| tree(process.pid()));
    ensure!(
        now == pids,
        "its processes have changed since it listens: nobody would know whose costs were measured"
    );
    let (machine, calls) = (Machine::now(), proxy.calls(&task.subject.who, counts(task))?);
    let traced = task.tracer.map(|tracer| tracer.attach(pids)).transpose()?;
    if traced.is_some() {
        clients.tell("go")?;
    }
    let ClientsSay::End(window) = hear_or_fail(clients)? else {
        bail!("the clients have no window");
    };
    let traced = traced.map(super::tracer::Attached::detach).transpose()?;
    let busy = Machine::now().since(&machine, &cpus);
    let calls = calls
        .zip(proxy.calls(&task.subject.who, counts(task))?)
        .map(|(before, after)| difference(&before, &after));
    let load: f64 = window.load_cpu.iter().sum();
    let mut round = round(task, *window);
    let ours = if matches!(task.subject.who, Who::Direct) { 0.0 } else { round.cpu[0] + round.cpu[1] };
    round.other_cpu = ((busy.busy - ours - load) / round.seconds).max(0.0);
    round.steal = busy.steal / round.seconds / cpus.len() as f64;
    round.calls = calls;
    let census = traced.zip(task.tracer).map(|(traced, tracer)| census(task, &round, traced, tracer));
    let (line, configuration) = (proxy.line.clone(), proxy.configuration.clone());
    Ok(Measured { round, census, line, configuration })
}

/// What clients say next; what they met, if they have failed.
fn hear_or_fail(clients: &mut Process) -> anyhow::Result<ClientsSay> {
    match clients.hear(STEP)? {
        ClientsSay::Ended(Tally { error: Some(error), errors, .. }) => {
            bail!(
                "{error}{}",
                if errors > 1 { format!(" (and {} more errors)", errors - 1) } else { String::new() }
            )
        }
        said => Ok(said),
    }
}

/// Every byte that was sent has arrived, and nothing went wrong on any connection.
fn account(work: Work, clients: &Tally, back_end: &Tally) -> anyhow::Result<()> {
    for tally in [clients, back_end] {
        if let Some(error) = &tally.error {
            bail!("{error} ({} errors)", tally.errors);
        }
    }
    let ways = [
        ("to the back end", clients.sent, back_end.received),
        ("to the clients", back_end.sent, clients.received),
    ];
    for (way, sent, received) in ways {
        // Slow readers leave before they have read everything.
        let whole = work == Work::SlowReaders && way == "to the clients" || sent == received;
        ensure!(whole, "{sent} bytes were sent {way}, and {received} arrived");
    }
    Ok(())
}

fn round(task: &Task<'_>, window: Window) -> Round {
    let units = match task.workload.unit {
        Unit::Gigabyte => window.units as f64 / 1e9,
        Unit::IdleConnection => window.units as f64 * window.seconds,
        Unit::Request | Unit::Connection => window.units as f64,
    };
    let [clients, back_end] = window.load_cpu;
    let Cpus { clients: first, back_end: second, .. } = task.plan.cpus;
    let load_cpu = if first == second { clients + back_end } else { clients.max(back_end) };
    Round {
        round: task.round,
        seconds: window.seconds,
        units,
        bytes: window.bytes,
        cpu: window.cpu,
        load_cpu: load_cpu / window.seconds,
        switches: window.switches,
        latency: window.latency,
        curve: window.curve,
        ..Round::default()
    }
}

fn census(task: &Task<'_>, round: &Round, traced: BTreeMap<String, Count>, tracer: &Tracer) -> Census {
    let messages = round.units * task.workload.unit.message().1;
    let own = round.calls.clone();
    let differences = own.as_ref().map(|own| differences(own, &traced, messages)).unwrap_or_default();
    Census { tracer: tracer.name.clone(), messages, bytes: round.bytes, traced, own, differences }
}

/// Calls of which the program counted another number than the tracer saw. A few are of the window's edges.
fn differences(
    own: &BTreeMap<String, Count>,
    traced: &BTreeMap<String, Count>,
    messages: f64,
) -> Vec<String> {
    let calls = |counts: &BTreeMap<String, Count>, name: &str| {
        counts.get(name).map_or(0, |count: &Count| count.calls)
    };
    let edge = (messages / 500.0).max(8.0);
    // Others, such as those for memory and threads, it does not count.
    let counted = Call::NAMES.iter().filter(|(call, _)| call.is_system_call());
    counted
        .map(|(_, name)| (name, calls(own, name), calls(traced, name)))
        .filter(|(_, own, traced)| own.abs_diff(*traced) as f64 > edge)
        .map(|(name, own, traced)| format!("{name}: {own} by its own count, {traced} by the tracer's"))
        .collect()
}

fn difference(before: &BTreeMap<String, Count>, after: &BTreeMap<String, Count>) -> BTreeMap<String, Count> {
    let since = |name: &String, after: &Count| {
        let before = before.get(name).copied().unwrap_or_default();
        Count {
            calls: after.calls - before.calls,
            failed: after.failed - before.failed,
            bytes: after.bytes - before.bytes,
        }
    };
    let all = after.iter().map(|(name, count)| (name.clone(), since(name, count)));
    all.filter(|(_, count)| count.calls > 0 || count.bytes > 0).collect()
}

fn start_load(name: &str, role: &Role, cpu: u32, directory: &TempDir) -> anyhow::Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("lab-load").arg(serde_json::to_string(role)?);
    Process::start(name, &command, cpu, directory.path())
}

fn start_back_end(task: &Task<'_>, directory: &TempDir) -> anyhow::Result<(Process, Vec<SocketAddr>)> {
    let role = Role::BackEnd(BackEndTask { work: task.workload.work, reply: task.workload.reply });
    let mut back_end = start_load("back end", &role, task.plan.cpus.back_end, directory)?;
    let BackEndSays::Listening(addresses) = back_end.hear(STEP)? else {
        bail!("the back end does not listen")
    };
    Ok((back_end, addresses))
}

/// Starts the proxy, and returns where clients are to connect to.
fn start_proxy(
    task: &Task<'_>,
    proxy: &mut Proxy,
    back_ends: &[SocketAddr],
    directory: &TempDir,
) -> anyhow::Result<Vec<SocketAddr>> {
    let listen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    // Where connections come and go, some are still being closed when others are there.
    let spare = match task.workload.work {
        Work::Churn | Work::FirstByte => CLOSING.min(spare_connections(task)),
        _ => 0,
    };
    let place = Place {
        listen,
        back_ends: back_ends.to_vec(),
        connections: task.connections + spare,
        descriptors: task.plan.descriptors,
    };
    let Some(prepared) = task.subject.prepare(directory.path(), &place, counts(task))? else {
        return Ok(back_ends.to_vec());
    };
    (proxy.line, proxy.configuration) = (prepared.line, prepared.configuration);
    let process =
        Process::start(&task.subject.info.name, &prepared.command, task.plan.cpus.proxy, directory.path())?;
    let process = proxy.process.insert(process);
    let end = now() + START;
    // Looked up, and not tried: the proxy is to see no connection but those of the load.
    while !listens(listen) {
        if process.ended().is_some() {
            bail!("it ended before it listened");
        }
        ensure!(now() < end, "it does not listen on {listen} after {START:?}");
        thread::sleep(Duration::from_millis(5));
    }
    proxy.listens = true;
    // Some listen first, and start their workers then.
    if matches!(task.subject.who, Who::Peer(_)) {
        let mut pids = tree(process.pid());
        loop {
            thread::sleep(SETTLE);
            let then = mem::replace(&mut pids, tree(process.pid()));
            if then == pids {
                break;
            }
        }
    }
    Ok(vec![listen])
}

/// Connections that the descriptors leave beside those of the workload.
fn spare_connections(task: &Task<'_>) -> u32 {
    let fit = task.plan.descriptors.saturating_sub(RESERVE) / 2;
    u32::try_from(fit).unwrap_or(u32::MAX).saturating_sub(task.connections)
}

/// Whether somebody listens on this address of the loopback (/proc/net/tcp, proc(5)).
fn listens(at: SocketAddr) -> bool {
    let table = fs::read_to_string("/proc/self/net/tcp").unwrap_or_default();
    let port = format!(":{:04X}", at.port());
    table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, _, state) = (fields.next(), fields.next(), fields.next());
        state == Some("0A") && local.is_some_and(|local| local.ends_with(&port))
    })
}

/// Whether the program is to count its calls: not where its memory is measured, of which the counts of a thread are a part.
fn counts(task: &Task<'_>) -> bool {
    task.workload.work != Work::Idle
}

fn clients_task(task: &Task<'_>, targets: Vec<SocketAddr>, pids: &[u32], back_end: u32) -> ClientsTask {
    let Task { plan, workload, .. } = task;
    let window = match workload.work {
        _ if task.tracer.is_some() => CENSUS,
        Work::Rate => POINT,
        Work::Idle => LOOK,
        Work::SlowReaders => SLOW,
        _ => plan.window,
    };
    let size = match workload.work {
        Work::Integrity => INTEGRITY[usize::from(plan.quick)],
        Work::FirstByte => super::workload::MESSAGE,
        _ => workload.reply,
    };
    ClientsTask {
        work: workload.work,
        connections: task.connections,
        size,
        targets,
        warm_up: plan.warm_up,
        window,
        proxy: pids.to_vec(),
        back_end,
        rests: task.tracer.is_some(),
    }
}

impl Proxy {
    /// The program's own counters, if it is ours.
    fn calls(&mut self, who: &Who, counts: bool) -> anyhow::Result<Option<BTreeMap<String, Count>>> {
        match (&mut self.process, who) {
            (Some(process), Who::Tidegate { .. }) if counts => {
                process.tell(proxy::CALLS)?;
                process.hear(STEP).map(Some).context("its counters")
            }
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_is_missing_or_an_error_of_either_side_fails_the_cell() {
        let tally = |sent, received| Tally { sent, received, ..Tally::default() };
        let check = |work, clients: &Tally, back_end: &Tally| {
            account(work, clients, back_end).map_err(|it| it.to_string())
        };
        assert_eq!(check(Work::PingPong, &tally(100, 50), &tally(50, 100)), Ok(()));
        let lost = check(Work::Up, &tally(100, 0), &tally(0, 99)).unwrap_err();
        assert_eq!(lost, "100 bytes were sent to the back end, and 99 arrived");
        assert!(check(Work::Duplex, &tally(100, 51), &tally(50, 100)).is_err());
        assert_eq!(check(Work::SlowReaders, &tally(8, 10), &tally(1_000, 8)), Ok(()));
        let wrong = Tally { errors: 2, error: Some("changed".to_owned()), ..Tally::default() };
        assert_eq!(check(Work::Up, &tally(0, 0), &wrong).unwrap_err(), "changed (2 errors)");
    }

    #[test]
    fn a_listener_is_found_without_a_connection() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        assert!(listens(at));
        drop(listener);
        assert!(!listens(at));
    }

    #[test]
    fn counts_that_differ_by_more_than_the_edges_are_told() {
        let counts = |pairs: &[(&str, u64)]| {
            let count = |calls| Count { calls, ..Count::default() };
            pairs.iter().map(|(name, calls)| ((*name).to_owned(), count(*calls))).collect::<BTreeMap<_, _>>()
        };
        let own = counts(&[("recvfrom", 1_000), ("sendto", 1_000), ("epoll_wait", 1_003)]);
        let traced = counts(&[
            ("recvfrom", 1_000),
            ("sendto", 1_000),
            ("epoll_wait", 1_000),
            ("poll", 1_000),
            ("mmap", 1_000),
        ]);
        assert_eq!(differences(&own, &traced, 1_000.0), ["poll: 0 by its own count, 1000 by the tracer's"]);
        assert_eq!(
            difference(&counts(&[("a", 1), ("b", 2)]), &counts(&[("a", 1), ("b", 5), ("c", 4)])),
            counts(&[("b", 3), ("c", 4)])
        );
    }
}
