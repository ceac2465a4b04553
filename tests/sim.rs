//! The real worker, session, relay and reactor on a simulated kernel: a whole run follows from a seed.
//!
//! `cargo test --test sim` runs 256 seeds for each kind of selector. `TIDEGATE_SEED=0x2a cargo test --test sim edge`
//! runs one and prints what happened, `TIDEGATE_SEEDS=30000 cargo test --release --test sim edge` runs so many: more
//! than a million connections. The other kinds are `level`, `one_shot` and `lossy`, and `completion` for the ring of
//! the completion engine. With an operator who asks for everything in the middle of it they are `edge_commanded` and so on.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

mod operator;

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidegate::client_hello::ServerName;
use tidegate::config::{
    AcceptBalance, AcceptProxy, Address, AtMaxconn, Balance, Check, Config, Drain, Listener, NamePattern,
    OnDown, OnRemoved, Passive, Pool, Process, ProxyTlvs, Retry, Route, RouteTo, SendProxy, Server,
    ServerState, Starttls, Tcp, Timeouts, Untrusted,
};
use tidegate::engine::sim::{
    Dice, Edge, Hellos, KNOWN, Level, OneShot, Plan, Signal, SimListener, SimNet, SimRing, SimStream,
    Summary, Us, WaryEdge, World,
};
use tidegate::engine::uring::{Ring, Uring};
use tidegate::engine::{Bounds, Engine, Reactor, Selector};
use tidegate::logging::Recorder;
use tidegate::mutant::{self, Mutant};
use tidegate::proxy_header::Versions;
use tidegate::snapshot::{self, ListenerId, Published, Snapshot};
use tidegate::tick::Tick;
use tidegate::worker::{Census, Crew, Mailbox, Setup, Worker};

use operator::Operator;

/// Seeds of a plain `cargo test`.
const SEEDS: u64 = 256;
/// After so many of a thousand turns an operator asks for something.
const ZEAL: u64 = 50;
const COMMANDED_SEEDS: u64 = 64;
/// Nobody is asked to leave within a run: the laws are those of connections that end by themselves.
const LEAVING: Duration = Duration::from_hours(1_000);
/// More turns than any run needs.
const TURNS_MAX: u64 = 3_000_000;

/// What stands between the program and the simulated kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notice {
    /// Edges; with and without the rule that a short read proves a socket empty, as the seed wants.
    Edge,
    /// Levels.
    Level,
    /// One report for each time of asking.
    OneShot,
    /// Edges of which some are lost, as signals are.
    Lossy,
    /// A ring, and the completion engine instead of the reactor.
    Completion,
}

const NOTICES: [Notice; 5] =
    [Notice::Edge, Notice::Level, Notice::OneShot, Notice::Lossy, Notice::Completion];

/// How a run went.
struct Run {
    seed: u64,
    plan: Plan,
    summary: Summary,
    violation: Option<String>,
    words: Vec<String>,
}

fn wait(limit: Us) -> Duration {
    Duration::from_micros(limit)
}

fn ip(address: &Address) -> SocketAddr {
    match address {
        Address::Ip(address) => *address,
        other => unreachable!("{other} is not simulated"),
    }
}

fn listener(plan: &Plan, number: usize) -> Listener {
    Listener {
        name: format!("l{number}"),
        bind: vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9000 + number as u16)).into()],
        pool: 0,
        engine: None,
        backlog: None,
        accept_balance: AcceptBalance::Reuseport,
        accept_burst: 16,
        v6only: true,
        maxconn: plan.listener_maxconn.filter(|_| number == 0).and_then(NonZeroU32::new),
        when_no_upstream: tidegate::config::WhenNoUpstream::Rst,
        accept_proxy: plan.heads.proxied.then(|| AcceptProxy {
            from: vec!["0.0.0.0/0".parse().expect("all there are")],
            from_unix: false,
            versions: Versions::ALL,
            untrusted: Untrusted::Reject,
        }),
        routes: plan.heads.hellos.map(route).into_iter().collect(),
        server_speaks_first: false,
        max_client_hello: plan.heads.hellos.map_or(16 << 10, |hellos| hellos.most),
        at_maxconn: if plan.rejects { AtMaxconn::Reject } else { AtMaxconn::Wait },
        timeouts: tidegate::config::OwnTimeouts::default(),
        tcp: tcp(plan),
        access: tidegate::config::AccessRules::default(),
        // More than there are: nobody is turned away, and every place must be given back.
        limits: tidegate::config::Limits {
            per_source_conns: NonZeroU32::new(1_000_000),
            table_size: 16,
            upload: plan.rates[0].and_then(NonZeroU64::new),
            download: plan.rates[1].and_then(NonZeroU64::new),
            ..tidegate::config::Limits::default()
        },
    }
}

fn tcp(plan: &Plan) -> Tcp {
    Tcp { rst_on_error: !plan.hides_failures, ..Tcp::default() }
}

/// Clients that ask for another name have no server.
fn route(hellos: Hellos) -> Route {
    let name = ServerName::new(KNOWN.as_bytes()).expect("a name");
    Route {
        sni: vec![NamePattern::Exact(name)],
        alpn: Vec::new(),
        source: Vec::new(),
        starttls: if hellos.starttls { Starttls::Postgres } else { Starttls::Off },
        default: false,
        to: RouteTo::Pool(0),
    }
}

/// What the user would have written for this weather.
fn configuration(plan: &Plan) -> Config {
    let server = |number: usize| Server {
        name: format!("s{number}"),
        addr: SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 8000 + number as u16)).into(),
        weight: 1,
        maxconn: plan.server_maxconn.and_then(NonZeroU32::new),
        backup: false,
        state: ServerState::Ready,
        origin: tidegate::config::Origin::File,
    };
    let retry = Retry { tries: plan.tries, same_server_delay: wait(plan.retry_delay) };
    Config {
        admin: None,
        process: Process {
            drain: Drain { spread: LEAVING, hard_stop: plan.hard_stop.map(wait), ..Drain::default() },
            ..Process::default()
        },
        log: tidegate::config::Log::default(),
        access: tidegate::config::Access::default(),
        metrics: tidegate::config::Metrics::default(),
        timeouts: Timeouts {
            connect: plan.connect.map(wait),
            connect_total: plan.connect_total.map(wait),
            idle: plan.idle.map(wait),
            half_close: plan.half_close.map(wait),
            queue: plan.queue.map(wait),
            preread: Some(wait(plan.heads.preread)),
            ..Timeouts::default()
        },
        tcp: Tcp::default(),
        retry,
        listeners: (0..plan.listeners).map(|number| listener(plan, number)).collect(),
        dns: tidegate::config::Dns::default(),
        pools: vec![Pool {
            named: Vec::new(),
            lists: Vec::new(),
            servers_poll: Duration::from_secs(5),
            name: "p".into(),
            balance: Balance::RoundRobin,
            all_down: tidegate::config::AllDown::Reject,
            on_down: OnDown::Keep,
            on_removed: OnRemoved::Drain,
            slow_start: None,
            check: Check::Off,
            passive: Passive::default(),
            drain_timeout: None,
            close_rate: 100,
            source: tidegate::config::Source::System,
            send_proxy: plan.heads.greets.map(|version| SendProxy { version, tlvs: ProxyTlvs::default() }),
            timeouts: tidegate::config::OwnTimeouts::default(),
            tcp: tcp(plan),
            retry,
            queue_max: plan.queue_max,
            servers: (0..plan.servers.len()).map(server).collect(),
        }],
    }
}

/// Runs one seed, with a bug switched on or without. An operator asks for something after `zeal` of a thousand turns.
fn run(notice: Notice, seed: u64, bug: Option<Mutant>, readable: bool, zeal: u64) -> Run {
    let mut dice = Dice::new(seed);
    let mut plan = Plan::draw(&mut dice);
    plan.limit_servers(&mut Dice::new(seed.rotate_left(16)));
    plan.limit_bandwidth(&mut Dice::new(seed.rotate_left(32)));
    plan.put_in_front(&mut Dice::new(seed.rotate_left(48)));
    plan.hide_failures(&mut Dice::new(seed.rotate_left(8)));
    if notice == Notice::Lossy {
        plan.lost = dice.pick(&[20, 100, 400]);
    }
    let config = configuration(&plan);
    let servers: Vec<SocketAddr> = config.pools[0].servers.iter().map(|server| ip(&server.addr)).collect();
    let (crew, mut mailboxes) = Crew::new(1, 1);
    #[expect(clippy::arc_with_non_send_sync, reason = "real sockets can be sent, and this is the same type")]
    let crew = Arc::new(crew);
    let told = Arc::clone(&crew);
    let signals = move |signal| match signal {
        Signal::Drain => told.drain(),
        Signal::Stop => told.stop(),
    };
    let net = SimNet::new(World::new(plan.clone(), dice, &servers, signals, readable));
    mutant::switch(bug);
    let played = catch_unwind(AssertUnwindSafe(|| {
        let at = At { crew, mailbox: mailboxes.remove(0), dice: Dice::new(seed.rotate_left(32)), zeal };
        match notice {
            Notice::Edge if plan.short_read_is_drained => {
                play(&net, net.selector::<Edge>(), &plan, &config, at);
            }
            Notice::Edge | Notice::Lossy => play(&net, net.selector::<WaryEdge>(), &plan, &config, at),
            Notice::Level => play(&net, net.selector::<Level>(), &plan, &config, at),
            Notice::OneShot => play(&net, net.selector::<OneShot>(), &plan, &config, at),
            Notice::Completion => {
                let ring = SimRing::draw(net.clone(), &mut Dice::new(!seed));
                complete(&net, ring, &plan, &config, at);
            }
        }
    }));
    mutant::switch(None);
    let panicked = played.err().map(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        format!("panicked: {}", text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?"))
    });
    net.with(|world| Run {
        seed,
        plan,
        summary: world.summary(),
        violation: world.violation().map(str::to_owned).or(panicked),
        words: world.words().to_vec(),
    })
}

/// Where a worker stands.
struct At {
    crew: Arc<Crew<SimStream>>,
    mailbox: Mailbox<SimStream>,
    /// The operator's.
    dice: Dice,
    zeal: u64,
}

/// Runs a reactor.
fn play<S: Selector<SimNet>>(net: &SimNet, selector: S, plan: &Plan, config: &Config, at: At) {
    let snapshot = Arc::new(Snapshot::new(config, plan.maxconn));
    let bounds = Bounds { buffer_size: plan.buffer_size, budget: plan.budget, pipes: plan.pipes };
    let engine = Reactor::new(selector, net.clone(), Arc::clone(&snapshot), bounds);
    let room = |engine: &Reactor<S, SimNet>| Room {
        none: engine.pool().room(plan.buffer_size) == 0,
        none_for_heads: engine.pool().head_room(None, 1) == 0,
        none_for_large_heads: engine.pool().head_room(None, 16 << 10) < 16 << 10,
        leased: engine.pool().lent().all,
        pipes: engine.pipes_out(),
        left: (0, 0),
    };
    work(net, engine, room, &snapshot, (plan, config), at);
}

/// Runs the completion engine.
fn complete(net: &SimNet, ring: SimRing, plan: &Plan, config: &Config, at: At) {
    let snapshot = Arc::new(Snapshot::new(config, plan.maxconn));
    let bounds = Bounds { buffer_size: plan.buffer_size, budget: plan.budget, pipes: 0 };
    let engine = Uring::new(ring, net.clone(), Arc::clone(&snapshot), bounds, plan.short_read_is_drained);
    let room = |engine: &Uring<SimRing>| Room {
        none: engine.ring().spare() == 0,
        none_for_heads: engine.pool().head_room(None, 1) == 0,
        none_for_large_heads: engine.pool().head_room(None, 16 << 10) < 16 << 10,
        leased: engine.pool().lent().all,
        pipes: 0,
        left: engine.ring().left(),
    };
    work(net, engine, room, &snapshot, (plan, config), at);
}

/// What an engine has, and has left.
struct Room {
    /// No buffer is left: who wants to read has to wait.
    none: bool,
    /// The same for clients whose server is not known yet.
    none_for_heads: bool,
    /// The same for those of them that have said much.
    none_for_large_heads: bool,
    leased: usize,
    pipes: usize,
    /// Buffers of a ring that are out, and operations under way.
    left: (usize, usize),
}

/// Runs a worker from its first turn to its last, and looks at what it leaves.
fn work<E: Engine<Socket = SimStream, Listener = SimListener>>(
    net: &SimNet,
    mut engine: E,
    room: impl Fn(&E) -> Room,
    snapshot: &Arc<Snapshot>,
    (plan, config): (&Plan, &Config),
    At { crew, mailbox, dice, zeal }: At,
) {
    for number in 0..plan.listeners {
        let id = ListenerId(u16::try_from(number).expect("one or two"));
        engine.listen(id, net.listener(number)).expect("listeners are always watched");
    }
    let published = Arc::new(Published::new(Arc::clone(snapshot)));
    let (asks, commands) = std::sync::mpsc::channel();
    let mut operator =
        Operator::new(dice, zeal, config.clone(), Arc::clone(&published), Arc::clone(&crew), asks);
    let ours = Arc::clone(&published);
    let setup = Setup { number: 0, published: ours, crew, mailbox, commands, recorder: Recorder::off() };
    let mut worker = Worker::new(setup, engine);
    for turn in 0.. {
        let result = worker.turn(|| Tick(net.with(|world| world.now()) / 1_000));
        let Room { none, none_for_heads, none_for_large_heads, pipes, leased, .. } = room(worker.engine());
        let snapshot = published.current();
        let lets_in: Vec<bool> = (0..)
            .zip(&snapshot.listeners)
            .map(|(number, listener)| {
                operator.is_open(number) && snapshot.connections.has_room() && listener.connections.has_room()
            })
            .collect();
        net.with(|world| {
            world.observe([none, none_for_heads, none_for_large_heads], &lets_in, pipes, leased);
        });
        let has_room = |server: &snapshot::Server| {
            server.removed.is_none() && server.state == ServerState::Ready && server.connections.has_room()
        };
        let Census { queued, is_due, .. } = worker.census();
        if queued > 0 && !is_due && snapshot.servers.iter().any(has_room) {
            net.with(|world| world.fault("clients wait although a server has room".into()));
        }
        match result {
            Ok(true) if turn < TURNS_MAX => {
                operator.act(net, Tick(net.with(|world| world.now()) / 1_000));
            }
            Ok(true) => return net.with(|world| world.fault("there is no end to it".into())),
            Ok(false) => break,
            Err(error) => return net.with(|world| world.fault(error.to_string())),
        }
    }
    let nothing = Census { slots: 0, timers: 0, waiting: 0, queued: 0, is_due: false };
    let Room { leased, left, .. } = room(worker.engine());
    let snapshot = published.current();
    let servers: u32 = snapshot.servers.iter().map(|server| server.connections.count()).sum();
    let listeners: u32 = snapshot.listeners.iter().map(|listener| listener.connections.count()).sum();
    let sources: u64 = snapshot.listeners.iter().map(|listener| listener.admission.held()).sum();
    let queued: u32 = snapshot.pools.iter().map(|pool| pool.queue.count()).sum();
    let counted = servers + listeners + queued + snapshot.connections.count() + sources as u32;
    net.with(|world| {
        if left != (0, 0) {
            world.fault(format!("left: {} buffers of the ring, {} operations", left.0, left.1));
        }
        if worker.census() != nothing || leased != 0 || counted != 0 {
            world.fault(format!("left: {:?}, {leased} bytes leased, {counted} counted", worker.census()));
        }
    });
    // A connect that was given up may be under way to the last; its socket goes with the engine.
    drop(worker);
    net.with(World::end);
}

/// Panics inside a run are its result, not the test's.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    thread_local!(static QUIET: Cell<bool> = const { Cell::new(false) });
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                print(panic);
            }
        }));
    });
    QUIET.set(true);
    let result = work();
    QUIET.set(false);
    result
}

fn number_of(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    Some(parsed.unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// Prints a run that went wrong, or that somebody wants to see.
fn show(run: &Run) {
    println!("{:#?}", run.plan);
    for line in &run.words {
        println!("{line}");
    }
    println!("seed {:#x}: {:?}", run.seed, run.summary);
    println!("seed {:#x}: {}", run.seed, run.violation.as_deref().unwrap_or("no law was broken"));
}

/// Runs many seeds on all processors; returns the sums, and the broken ones.
fn run_all(notice: Notice, seeds: u64, zeal: u64) -> (Summary, Vec<(u64, String)>) {
    let next = AtomicU64::new(0);
    let work = || {
        let (mut sum, mut broken) = (Summary::default(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return (sum, broken);
            }
            let run = quietly(|| run(notice, seed, None, false, zeal));
            sum.clients += run.summary.clients;
            sum.relayed += run.summary.relayed;
            sum.bytes += run.summary.bytes;
            sum.time += run.summary.time;
            broken.extend(run.violation.map(|violation| (seed, violation)));
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("runs do not panic")).fold(
            (Summary::default(), Vec::new()),
            |(mut sum, mut broken), (more, violations)| {
                sum.clients += more.clients;
                sum.relayed += more.relayed;
                sum.bytes += more.bytes;
                sum.time += more.time;
                broken.extend(violations);
                broken.sort();
                (sum, broken)
            },
        )
    })
}

fn no_seed_breaks_a_law(notice: Notice, zeal: u64) {
    if let Some(seed) = number_of("TIDEGATE_SEED") {
        let run = run(notice, seed, None, true, zeal);
        show(&run);
        assert_eq!(run.violation, None, "seed {seed:#x}");
        return;
    }
    let seeds = number_of("TIDEGATE_SEEDS").unwrap_or(if zeal == 0 { SEEDS } else { COMMANDED_SEEDS });
    let began = Instant::now();
    let (sum, broken) = run_all(notice, seeds, zeal);
    println!(
        "{notice:?}: {} connections ({} relayed, {} bytes) in {seeds} seeds: {} violations, {:.1} s for {:.0} s of \
         virtual time",
        sum.clients,
        sum.relayed,
        sum.bytes,
        broken.len(),
        began.elapsed().as_secs_f64(),
        sum.time as f64 / 1e6,
    );
    for (seed, violation) in broken.iter().take(20) {
        println!("TIDEGATE_SEED={seed:#x}: {violation}");
    }
    assert!(broken.is_empty(), "{} of {seeds} seeds broke a law", broken.len());
}

/// Each kind, without and with an operator.
macro_rules! no_seed_breaks_a_law {
    ($($alone:ident, $commanded:ident: $notice:expr;)*) => {
        $(
            #[test]
            fn $alone() {
                no_seed_breaks_a_law($notice, 0);
            }

            #[test]
            fn $commanded() {
                no_seed_breaks_a_law($notice, ZEAL);
            }
        )*
    };
}

no_seed_breaks_a_law! {
    no_seed_breaks_a_law_by_edge, no_seed_breaks_a_law_by_edge_commanded: Notice::Edge;
    no_seed_breaks_a_law_by_level, no_seed_breaks_a_law_by_level_commanded: Notice::Level;
    no_seed_breaks_a_law_by_one_shot, no_seed_breaks_a_law_by_one_shot_commanded: Notice::OneShot;
    no_seed_breaks_a_law_by_lossy, no_seed_breaks_a_law_by_lossy_commanded: Notice::Lossy;
    no_seed_breaks_a_law_by_completion, no_seed_breaks_a_law_by_completion_commanded: Notice::Completion;
}

#[test]
fn the_same_seed_is_the_same_run() {
    for notice in NOTICES {
        let mut hashes: Vec<u64> = (0..16)
            .map(|seed| {
                let first = run(notice, seed, None, false, ZEAL).summary.hash;
                let again = run(notice, seed, None, true, ZEAL).summary.hash;
                assert_eq!(first, again, "{notice:?}, seed {seed:#x}");
                first
            })
            .collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 16, "{notice:?}: different seeds are different runs");
    }
}

/// Where a bug shows: in every kind of selector, but for those that only one kind can have.
fn where_it_shows(bug: Mutant) -> Notice {
    match bug {
        Mutant::LossBelieved => Notice::Lossy,
        Mutant::LevelOfTheStarved | Mutant::ParkedNotAskedFor | Mutant::HungUpStays => Notice::Level,
        Mutant::NotArmedAgain => Notice::OneShot,
        Mutant::ShortSendBelieved
        | Mutant::GivenBackUnderWay
        | Mutant::RingNeverFeeds
        | Mutant::EndedReadForgotten
        | Mutant::SleepsOverSilentSend
        | Mutant::StalledNotWatched
        | Mutant::ClosedUnderWay
        | Mutant::BundleByNumber => Notice::Completion,
        _ => Notice::Edge,
    }
}

#[test]
fn every_mutant_is_caught() {
    let mut escaped = Vec::new();
    for bug in Mutant::ALL {
        let notice = where_it_shows(bug);
        let caught = (0..SEEDS).find_map(|seed| {
            let run = quietly(|| run(notice, seed, Some(bug), false, 0));
            run.violation.map(|violation| (seed, violation))
        });
        match caught {
            Some((seed, violation)) => println!("{bug:?}: {notice:?}, seed {seed:#x}: {violation}"),
            None => escaped.push(bug),
        }
    }
    assert!(escaped.is_empty(), "not caught within {SEEDS} seeds: {escaped:?}");
}
