//! The control plane under load. Each prints its figures (`-- --nocapture`); the amounts are small enough for every run of
//! the tests, and variables of the environment raise them: `TIDEGATE_RELOADS` (60), `TIDEGATE_RELOAD_MS` from one to the next
//! (50), and `TIDEGATE_IDLE` (300; each takes two descriptors of this process and two of the program).

use std::env;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::control::crowd::{Busy, Echo, is_there, open};
use crate::control::knocking::Knocking;
use crate::control::listeners::process;
use crate::control::{File, Member, Run, place};
use crate::support::http;
use crate::support::peer::{End, Peer};
use crate::support::process::{anonymous_bytes, descriptors};

const MIB: u64 = 1024 * 1024;
const BUSY_THREADS: usize = 4;
const BUSY_EACH: usize = 50;
const ENGINES: [&str; 4] = ["mio", "io_uring", "threads", "poll"];

fn from_environment(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

/// The `round`-th of many configurations; every tenth is broken.
fn variant(file: &File, members: &[Member; 3], at: SocketAddr, round: u64) -> String {
    let [a, b, c] = members;
    let a = a.with(&format!("weight = {}", 1 + round % 7));
    let members =
        if (round / 2).is_multiple_of(2) { vec![a, b.clone()] } else { vec![a, b.clone(), c.clone()] };
    let engine = ENGINES[(round / 5) as usize % ENGINES.len()];
    let maxconn = 15_000 + round % 3;
    let text = file
        .clone()
        .pool("p", &members)
        .add("pool.p", "on_removed = \"keep\"")
        .listen("l", at, "p")
        .add("listener.l", format!("engine = \"{engine}\"\nmaxconn = {maxconn}"))
        .set(
            "defaults.timeouts",
            format!("idle = \"{}s\"\nhalf_close = \"{}s\"", 3_600 + round % 5, 300 + round % 4),
        )
        .set("defaults.retry", format!("tries = {}", 2 + round % 3))
        .to_string();
    if round % 10 == 9 { text + "[listener.broken" } else { text }
}

/// Idle and busy connections, and a client that connects all the time, through many reloads: nobody notices.
pub(crate) fn a_crowd_notices_nothing_of_many_reloads(engine: &str) {
    let [reloads, idle] = [from_environment("TIDEGATE_RELOADS", 60), from_environment("TIDEGATE_IDLE", 300)];
    let servers = [(); 3].map(|()| Echo::start());
    let mut names = ["a", "b", "c"].into_iter();
    let members = servers.each_ref().map(|server| Member::new(names.next().unwrap(), server.address()));
    let at = place();
    let most = idle + (BUSY_THREADS * BUSY_EACH) as u64 + 400;
    let file =
        File::new(engine).set("process", process(engine, 1)).add("process", format!("maxconn = {most}"));
    // The room for records of new connections is touched bit by bit, and would look like a leak.
    let file = file.set("log.access", "output = \"off\"");
    let run = Run::start_text(&file, &variant(&file, &members, at, 0));
    let crowd: Vec<TcpStream> = (0..idle).map(|_| open(at)).collect();
    let pause = Duration::from_millis(100);
    let busy = Busy::start(at, BUSY_THREADS, BUSY_EACH, pause);
    let knocking = Knocking::start(at, 1, Duration::from_millis(10));
    let every = Duration::from_millis(from_environment("TIDEGATE_RELOAD_MS", 50));
    let span = every * u32::try_from(reloads).unwrap();
    thread::sleep(span / 2);
    busy.enter(1);
    let memory = reload_many(&run, &file, &members, at, reloads, every);
    busy.enter(0);
    thread::sleep(span / 2);

    let [without, with] = busy.finish();
    let served = knocking.all_were_served();
    let there = crowd.iter().filter(|stream| is_there(stream)).count();
    let closed = run.listener("l").closed.into_iter();
    let ended: u64 = closed.filter(|(cause, _)| cause != "done").map(|(_, count)| count).sum();
    println!(
        "{reloads} reloads, {idle} idle connections: {there} are there; {served} new ones served, {ended} ended badly"
    );
    println!("busy without reloads: {without}\nbusy with reloads:    {with}");
    assert_eq!((there as u64, ended), (idle, 0));
    let [quiet, loud] = [without, with].map(|times| times.of_thousand(990));
    assert!(loud < 4 * quiet + 100_000, "p99 is {loud} us with reloads, {quiet} us without");
    let [first, last] = [memory[memory.len() / 2], memory[memory.len() - 1]];
    assert!(last < first + 2 * MIB, "memory grew from {first} to {last}");
}

/// The memory, ten times on the way.
fn reload_many(
    run: &Run,
    file: &File,
    members: &[Member; 3],
    at: SocketAddr,
    reloads: u64,
    every: Duration,
) -> Vec<u64> {
    let mut memory = Vec::new();
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    for round in 1..=reloads {
        let due = every * u32::try_from(round).unwrap();
        thread::sleep(due.saturating_sub(began.elapsed()));
        run.write(&variant(file, members, at, round));
        let asked = Instant::now();
        let (status, answer) = run.post("/api/v1/reload", "{}");
        longest = longest.max(asked.elapsed());
        assert_eq!(status, if round % 10 == 9 { 400 } else { 200 }, "reload {round}: {answer}");
        if round % (reloads / 10) == 0 {
            let (bytes, open) = (anonymous_bytes(run.gate.pid()), descriptors(run.gate.pid()));
            println!("after {round} reloads: {} KiB, {open} descriptors", bytes / 1_024);
            memory.push(bytes);
        }
    }
    println!("{reloads} reloads in {:.1?}, the longest took {longest:.1?}", began.elapsed());
    memory
}

/// Whoever began at the same time would be probed at the same time, and lose those probes that find a queue of the kernel full.
pub(crate) fn idle_connections_that_began_together_outlive_their_probes(engine: &str) {
    const IDLE: usize = 4_000;
    let server = Echo::start();
    let file = File::serving(engine, &[Member::new("a", server.address())])
        .set("defaults.tcp", "keepalive = { idle = \"8s\", interval = \"4s\", count = 2 }");
    let run = Run::start(&file);
    let at = run.gate.address_of("l");
    let crowd: Vec<TcpStream> = (0..IDLE).map(|_| open(at)).collect();
    // As long as two probes without an answer take, and two of the kernel's timers.
    thread::sleep(Duration::from_secs(18));
    assert_eq!(crowd.iter().filter(|stream| is_there(stream)).count(), IDLE);
}

/// Where nobody connects and the log is silent, too.
pub(crate) fn silent_reloads_leave_nothing_behind(engine: &str) {
    let server = Echo::start();
    let member = Member::new("a", server.address());
    let file = File::serving(engine, std::slice::from_ref(&member)).set("log", "level = \"off\"");
    // Its start has to be heard of.
    let run = Run::start(&file.clone().without("log"));
    let reload = |round: u64| {
        run.write(&file.clone().pool("p", &[member.with(&format!("weight = {}", 1 + round % 9))]));
        assert_eq!(run.post("/api/v1/reload", "{}").0, 200);
    };
    (0..100).for_each(reload);
    let before = anonymous_bytes(run.gate.pid());
    (0..500).for_each(reload);
    let growth = anonymous_bytes(run.gate.pid()).saturating_sub(before);
    println!("500 silent reloads: {growth} bytes of memory more");
    assert!(growth < 150 * 1024, "500 reloads left {growth} bytes behind");
}

/// 300 new connections a second, and every 200 ms a server goes or comes back.
pub(crate) fn three_hundred_clients_a_second_see_no_server_go(engine: &str) {
    let servers = [(); 3].map(|()| Echo::start());
    let members = ["a", "b", "c"].into_iter().zip(&servers);
    let members: Vec<Member> = members.map(|(name, server)| Member::new(name, server.address())).collect();
    let file = File::serving(engine, &members);
    let run = Run::start(&file);
    let began = Instant::now();
    let knocking = Knocking::start(run.gate.address_of("l"), 6, Duration::from_millis(20));
    for round in 0..50 {
        thread::sleep(Duration::from_millis(200));
        let mut there = members.clone();
        if round % 2 == 0 {
            there.remove(round / 2 % 3);
        }
        run.write(&file.clone().pool("p", &there));
        assert_eq!(run.post("/api/v1/reload", "{}").0, 200);
    }
    let span = began.elapsed();
    let served = knocking.all_were_served();
    println!(
        "{served} connections in {span:.1?} ({:.0} a second) through 50 reloads: no error",
        served as f64 / span.as_secs_f64()
    );
    run.wait_for("no connection", |status| status.process.connections == 0);
    let redone: u64 = run.status().pools[0].servers.iter().map(|server| server.redispatched).sum();
    assert_eq!(redone, 0, "nobody was sent to a server that is gone");
}

/// 500 sessions at 50 a second take ten seconds.
pub(crate) fn sessions_are_killed_at_the_rate_that_is_asked_for(engine: &str) {
    let server = Echo::start();
    let run = Run::start(&File::serving(engine, &[Member::new("x", server.address())]));
    let at = run.gate.address_of("l");
    let streams: Vec<TcpStream> = (0..500).map(|_| open(at)).collect();
    run.ctl(&["kill", "--server", "x", "--rate", "50/s"]).well();
    let ended = streams.into_iter().map(|stream| {
        let mut client = Peer::client(stream);
        assert_eq!(client.receive_to_end(), End::Reset);
        client.address()
    });
    run.assert_closed_in_turn(&ended.collect::<Vec<_>>(), 50, Duration::ZERO);
}

/// Has this thread, and those that it starts, run on one CPU if there are several.
fn stay_on(place: usize) {
    let allowed = sched_getaffinity(None).unwrap();
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    let mut one = CpuSet::new();
    one.set(cpus[place % cpus.len()]);
    sched_setaffinity(None, &one).unwrap();
}

/// Asks a thousand times a second, and holds places with requests that never end.
struct Attack {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    dripped: Arc<AtomicU64>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Attack {
    const ASKING: u64 = 20;
    const DRIPPING: usize = 96;

    fn start(at: SocketAddr, drips: bool) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (answered, dripped) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut threads = Vec::new();
        for number in 0..Self::ASKING {
            let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
            let target = ["/metrics", "/api/v1/status"][number as usize % 2];
            threads.push(thread::spawn(move || {
                stay_on(1);
                let mut due = Instant::now();
                while !over.load(Ordering::Relaxed) {
                    due = due.max(Instant::now() - Duration::from_secs(1))
                        + Duration::from_millis(Self::ASKING);
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    if http::get(at, target).is_some_and(|(status, _)| status == 200) {
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }));
        }
        let (end, drops) = (Arc::clone(&over), Arc::clone(&dripped));
        threads.extend(drips.then(|| {
            thread::spawn(move || {
                stay_on(1);
                drip(at, &end, &drops);
            })
        }));
        Self { over, answered, dripped, threads }
    }

    fn end(self) -> [u64; 2] {
        self.over.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        [self.answered, self.dripped].map(|count| count.load(Ordering::Relaxed))
    }
}

/// Sends a request byte by byte over each of many connections; who is sent away comes again.
fn drip(at: SocketAddr, over: &AtomicBool, drops: &AtomicU64) {
    let mut streams: Vec<Option<TcpStream>> = (0..Attack::DRIPPING).map(|_| None).collect();
    while !over.load(Ordering::Relaxed) {
        for stream in &mut streams {
            let taken = match stream {
                Some(stream) => stream.write_all(b"G").is_ok(),
                None => false,
            };
            drops.fetch_add(u64::from(taken), Ordering::Relaxed);
            if !taken {
                *stream = TcpStream::connect(at).ok();
            }
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Eight spans of time, every other one under attack; every other attack takes all places, so that few are answered.
pub(crate) fn attack_on_the_admin_side_slows_no_session(engine: &str) {
    stay_on(0);
    let server = Echo::start();
    let file = File::serving(engine, &[Member::new("a", server.address())]);
    let admin = file.table("admin").replace("http = \"off\"", "http = \"127.0.0.1:0\"");
    let run = Run::start(&file.set("admin", admin));
    assert!(run.gate.logs(|line| line.contains("admin: http://")));
    let lines = run.gate.log_lines();
    let mut told = lines.iter().filter_map(|line| line.split_once("admin: http://")?.1.split('"').next());
    let admin: SocketAddr = told.next().expect("it says so").parse().unwrap();
    let busy = Busy::start(run.gate.address_of("l"), 1, 8, Duration::from_millis(5));
    let span = Duration::from_secs(2);
    let (mut answered, mut dripped) = ([0, 0], 0);
    for drips in [false, true, false, true] {
        busy.enter(0);
        thread::sleep(span);
        let attack = Attack::start(admin, drips);
        busy.enter(1);
        thread::sleep(span);
        let [more, drops] = attack.end();
        answered[usize::from(drips)] += more;
        dripped += drops;
    }
    let [without, with] = busy.finish();
    let [alone, beside] = answered.map(|answers| answers / (2 * span.as_secs()));
    println!("answered in a second: {alone}, and {beside} beside {} that drip", Attack::DRIPPING);
    println!("busy without an attack: {without}\nbusy under attack:      {with}");
    assert!(alone > 50 && dripped > 100, "{alone} answers a second, {dripped} drops: that is no attack");
    let [quiet, loud] = [without, with].map(|times| times.of_thousand(990));
    assert!(loud < 4 * quiet + 50_000, "p99 is {loud} us under attack, {quiet} us without");
}
