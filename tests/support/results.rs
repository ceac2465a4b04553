//! Results of a run that never was: every subject, every workload, figures of a likely size that drift from round to
//! round, and one of each thing that can go wrong.

use std::collections::BTreeMap;

use tidegate::lab::results::{
    About, Cell, Census, Count, FORMAT, Failure, Kind, Latency, Memory, RatePoint, Results, Round, Subject,
    WorkloadInfo,
};
use tidegate::lab::workload::{Unit, WORKLOADS, Work, Workload};

/// What a proxy said before it ended: it must stay text, wherever it is shown.
pub(crate) const LAST_WORDS: &str = "Traceback (most recent call last):\n  File \"proxy.py\", line 3\n\
    OSError: [Errno 24] Too many open files <script>document.title = 'run'</script> & <b>more</b>";

/// Name, kind, model, and CPU time in microseconds for a request of ping-pong on 64 connections.
const SUBJECTS: [(&str, Kind, Option<&str>, f64); 15] = [
    ("direct", Kind::Direct, None, 4.9),
    ("mio", Kind::Engine, Some("readiness"), 10.4),
    ("epoll_level", Kind::Engine, Some("readiness"), 10.6),
    ("poll", Kind::Engine, Some("readiness"), 11.6),
    ("select", Kind::Engine, Some("readiness"), 12.1),
    ("sigio", Kind::Engine, Some("readiness"), 15.2),
    ("aio", Kind::Engine, Some("readiness"), 11.9),
    ("io_uring", Kind::Engine, Some("completion"), 6.9),
    ("threads", Kind::Engine, Some("blocking"), 13.8),
    ("slowed", Kind::Build, None, 11.3),
    ("haproxy", Kind::Peer, None, 12.5),
    ("nginx", Kind::Peer, None, 12.6),
    ("envoy", Kind::Peer, None, 15.6),
    ("node", Kind::Peer, None, 16.4),
    ("asyncio", Kind::Peer, None, 52.7),
];

/// A run of six rounds of everything.
pub(crate) fn sample() -> Results {
    sample_of(6)
}

/// The same with so many rounds.
pub(crate) fn sample_of(rounds: u32) -> Results {
    let subjects = SUBJECTS.iter().map(|(name, kind, model, _)| subject(name, *kind, *model)).collect();
    let workloads = WORKLOADS.iter().map(info).collect();
    let cells = WORKLOADS.iter().flat_map(|workload| {
        SUBJECTS.iter().map(move |(name, kind, _, cost)| cell(name, *kind, *cost, workload, rounds))
    });
    let mut results =
        Results { format: FORMAT, about: about(rounds), subjects, workloads, cells: cells.collect() };
    spoil(&mut results);
    results
}

/// The cell of a subject and a workload, to be changed.
pub(crate) fn cell_mut<'a>(results: &'a mut Results, subject: &str, workload: &str) -> &'a mut Cell {
    let mut cells = results.cells.iter_mut();
    cells.find(|cell| cell.subject == subject && cell.workload == workload).expect("it is in the sample")
}

/// One of each thing that can go wrong.
fn spoil(results: &mut Results) {
    let failed = |round, cause: &str, words: &str| Failure {
        round,
        cause: cause.to_owned(),
        last_words: words.to_owned(),
    };
    let idle = cell_mut(results, "asyncio", "idle");
    idle.rounds.clear();
    let cause =
        "connection 1,021 of 9,000 was not answered within 10 s, and the proxy has ended with exit code 1";
    idle.failures = vec![failed(1, cause, LAST_WORDS), failed(2, cause, LAST_WORDS)];
    let churn = cell_mut(results, "nginx", "churn");
    if !churn.rounds.is_empty() {
        churn.rounds.remove(0);
    }
    churn.failures = vec![failed(1, "a reply of 1,024 bytes ended after 512", "")];
    let sigio = cell_mut(results, "sigio", "idle");
    sigio.rounds.clear();
    sigio.skipped = Some("the queue of signals is too short: raise RLIMIT_SIGPENDING to 20,000".to_owned());
    for workload in &WORKLOADS {
        let envoy = cell_mut(results, "envoy", workload.name);
        envoy.rounds.clear();
        envoy.census = None;
    }
    let envoy = results.subjects.iter_mut().find(|subject| subject.name == "envoy").unwrap();
    envoy.absent = Some("envoy is not on the path: install it, or name it with --peer envoy=FILE".to_owned());
}

fn about(rounds: u32) -> About {
    let fact = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    About {
        version: "tidegate 0.1.0".to_owned(),
        date: "2026-11-27T05:00:00Z".to_owned(),
        took: 1_234.0,
        kernel: "Linux 6.18.2 #1 SMP PREEMPT_DYNAMIC".to_owned(),
        processor: "AMD EPYC 9354 32-Core Processor, 2 CPUs".to_owned(),
        facts: vec![
            fact("hypervisor", "KVM"),
            fact("congestion control", "reno"),
            fact("open files", "20,000"),
        ],
        rounds,
        window: 1.0,
        warnings: vec!["steal was up to 4 % of the time: the hypervisor gave CPU time to others".to_owned()],
        ..About::default()
    }
}

fn subject(name: &str, kind: Kind, model: Option<&str>) -> Subject {
    let configuration = match kind {
        Kind::Direct => String::new(),
        _ => {
            format!("# {name}\nlisten = \"127.0.0.1:7000\"\nserver = \"127.0.0.1:7001\" # <one> & \"only\"\n")
        }
    };
    Subject {
        name: name.to_owned(),
        kind,
        model: model.map(str::to_owned),
        version: if kind == Kind::Peer { "2.6.12".to_owned() } else { "0.1.0".to_owned() },
        command: format!("{name} --config {name}.conf"),
        configuration,
        absent: None,
    }
}

fn info(workload: &Workload) -> WorkloadInfo {
    WorkloadInfo {
        name: workload.name.to_owned(),
        title: workload.title.to_owned(),
        work: workload.work,
        connections: workload.connections,
        unit: workload.unit,
    }
}

fn cell(name: &str, kind: Kind, cost: f64, workload: &Workload, rounds: u32) -> Cell {
    let rounds: Vec<Round> = (1..=rounds).map(|number| round(name, kind, cost, workload, number)).collect();
    let census = (workload.name == "pp64" && kind != Kind::Direct).then(|| census(name, kind));
    Cell {
        subject: name.to_owned(),
        workload: workload.name.to_owned(),
        rounds,
        failures: Vec::new(),
        skipped: None,
        census,
    }
}

/// Between 0 and 1, and always the same for the same words.
fn chance(words: &str) -> f64 {
    let mixed = words.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    f64::from(u32::try_from(mixed >> 40).unwrap()) / f64::from(1 << 24)
}

fn round(name: &str, kind: Kind, cost: f64, workload: &Workload, number: u32) -> Round {
    // The machine drifts for all; each subject has its own luck on top.
    let drift = 1.0 + 0.2 * chance(&format!("{number}"));
    let luck = 0.97 + 0.06 * chance(&format!("{name}{}{number}", workload.name));
    let character = 0.8 + 0.4 * chance(&format!("{name}{}", workload.name));
    let size = match workload.unit {
        Unit::Gigabyte => 30_000.0,
        Unit::Request => 1.0,
        Unit::Connection => 5.5,
        Unit::IdleConnection => 0.02,
    };
    let busy = if workload.name == "pp1" { 0.4 } else { 1.0 };
    let character = match (workload.name, name) {
        ("pp64", _) => 1.0,
        ("pp1", "io_uring") => 1.4,
        ("bulk1" | "bulk16", "io_uring") => 2.0,
        _ => character,
    };
    let cpu = cost * size * drift * luck * character;
    let seconds = 1.0;
    let units = match workload.work {
        Work::Idle => f64::from(workload.connections),
        Work::FirstByte => 4_000.0,
        _ => seconds * 1e6 / cpu * busy,
    };
    let total = cpu * units / 1e6;
    let asked = Latency {
        count: units as u64,
        p50: 61.0 + cpu,
        p99: 180.0 + 9.0 * cpu,
        p999: 900.0 + 40.0 * cpu,
        max: 9_000.0,
    };
    let bytes = if workload.unit == Unit::Gigabyte { units * 1e9 } else { units * 200.0 } as u64;
    Round {
        round: number,
        seconds,
        units,
        bytes,
        cpu: [total * 0.1, total * 0.9],
        load_cpu: if kind == Kind::Direct || workload.unit == Unit::Gigabyte { 0.99 } else { 0.71 },
        other_cpu: 0.02,
        steal: 0.04,
        switches: Some([(units * 0.3) as u64, 3]),
        latency: matches!(workload.unit, Unit::Request | Unit::Connection).then_some(asked),
        calls: matches!(kind, Kind::Engine | Kind::Build).then(|| calls(name, units, workload)),
        memory: (workload.work == Work::Idle).then(|| memory(cost)),
        curve: if workload.work == Work::Rate { curve(cpu) } else { Vec::new() },
    }
}

fn memory(cost: f64) -> Memory {
    let connections = 9_000;
    Memory {
        connections,
        private: (cost * 300.0) as i64 * connections as i64,
        kernel: 12_200 * connections as i64,
        peak: (cost * 3e6) as u64,
    }
}

/// A queue in front of something that is busy: latency grows without end towards what it can do.
fn curve(cpu: f64) -> Vec<RatePoint> {
    let capacity = 1e6 / cpu;
    let rates = [5_000.0, 10_000.0, 20_000.0, 40_000.0, 60_000.0, 80_000.0];
    rates
        .map(|offered: f64| {
            let wait = 1.0 / (1.0 - (offered / capacity).min(0.999));
            let latency = Latency {
                count: offered as u64,
                p50: 60.0 + cpu * wait,
                p99: 120.0 + 6.0 * cpu * wait,
                p999: 400.0 + 20.0 * cpu * wait,
                max: 1e5,
            };
            RatePoint { offered, achieved: offered.min(capacity), latency, cpu }
        })
        .to_vec()
}

/// Calls for a message, by engine.
fn per_message(name: &str) -> &'static [(&'static str, f64)] {
    match name {
        "mio" | "epoll_level" => &[("epoll_wait", 0.12), ("recvfrom", 1.0), ("sendto", 1.0)],
        "slowed" => &[("epoll_wait", 0.12), ("recvfrom", 1.0), ("sendto", 1.0), ("getsockopt", 1.0)],
        "poll" => &[("poll", 0.12), ("recvfrom", 1.0), ("sendto", 1.0)],
        "select" => &[("select", 0.12), ("recvfrom", 1.0), ("sendto", 1.0)],
        "sigio" => &[("rt_sigtimedwait", 1.1), ("recvfrom", 2.0), ("sendto", 1.0)],
        "aio" => &[("io_getevents", 0.12), ("io_submit", 0.12), ("recvfrom", 1.0), ("sendto", 1.0)],
        "io_uring" => &[("io_uring_enter", 0.06)],
        "threads" => &[("recvfrom", 1.0), ("sendto", 1.0), ("futex", 0.01)],
        "haproxy" => &[("epoll_wait", 0.6), ("recvfrom", 1.5), ("sendto", 1.0)],
        "nginx" => &[("epoll_wait", 0.1), ("recvfrom", 1.0), ("writev", 1.0)],
        "node" => &[("epoll_pwait", 2.0), ("read", 1.0), ("write", 1.0)],
        _ => &[("epoll_wait", 1.0), ("mmap", 1.0), ("recvfrom", 1.0), ("mremap", 1.0), ("sendto", 1.0)],
    }
}

fn counts(name: &str, messages: f64) -> BTreeMap<String, Count> {
    let count = |(call, share): &(&str, f64)| {
        let calls = (share * messages).round() as u64;
        let moves = ["recvfrom", "sendto", "read", "write", "writev"].contains(call);
        let bytes = if moves { calls.min(messages as u64) * 100 } else { 0 };
        ((*call).to_owned(), Count { calls, failed: calls.saturating_sub(messages as u64), bytes })
    };
    per_message(name).iter().map(count).collect()
}

fn calls(name: &str, units: f64, workload: &Workload) -> BTreeMap<String, Count> {
    let (_, messages) = workload.unit.message();
    if workload.unit != Unit::Gigabyte {
        return counts(name, units * messages);
    }
    let mut counts = counts(name, units * messages * 4.0);
    for count in counts.values_mut().filter(|count| count.bytes > 0) {
        count.bytes = (units * 1e9) as u64;
    }
    counts
}

fn census(name: &str, kind: Kind) -> Census {
    let traced = counts(name, 2_000.0);
    let own = matches!(kind, Kind::Engine | Kind::Build).then(|| traced.clone());
    let differs = name == "sigio";
    let differences =
        if differs { vec!["recvfrom: 4,000 traced, 3,990 counted".to_owned()] } else { Vec::new() };
    Census { tracer: "strace 6.1".to_owned(), messages: 2_000.0, bytes: 200_000, traced, own, differences }
}
