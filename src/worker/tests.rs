//! A worker whose engine is a puppet: it keeps sockets, writes down its orders, and answers as the test
//! wants.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;

use mio::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use tokio::sync::oneshot;

use super::*;
use crate::config::{self, Config};
use crate::path::Path;
use crate::relay::{End, Progress, Side};
use crate::session::{Doing, Order, Sight};
use crate::snapshot::{Conditions, Overrides, PoolId};

/// Far more orders than any test needs: a worker that turns in circles is found out.
const ORDERS_MAX: usize = 100_000;

const SHORTAGE: Event<TcpStream> = Event::AcceptFailed { listener: ListenerId(0), fault: Fault::NoFiles };

#[derive(Debug, Default)]
struct Puppet {
    orders: Vec<Order>,
    /// What it was told last of each listener.
    paused: Vec<(ListenerId, bool)>,
    listeners_closed: bool,
    /// Connects that wait when the listeners are closed.
    backlog: Vec<TcpStream>,
    /// A reset that spares a peer has to wait.
    delivering: bool,
    /// A socket cannot be watched.
    refuses: bool,
    /// It cannot wait for sockets.
    fails: bool,
    progress: Progress,
    listeners: Vec<(ListenerId, TcpListener)>,
    adopted: Option<Arc<Snapshot>>,
    /// How often the kernel was asked about paths.
    asked: std::cell::Cell<usize>,
}

impl Engine for Puppet {
    type Socket = TcpStream;
    type Listener = TcpListener;
    type Io = TcpStream;

    fn listen(&mut self, id: ListenerId, socket: TcpListener) -> io::Result<()> {
        self.listeners.push((id, socket));
        Ok(())
    }

    fn pause(&mut self, id: ListenerId, paused: bool) {
        self.paused.retain(|(other, _)| *other != id);
        self.paused.push((id, paused));
        self.paused.sort_by_key(|(id, _)| id.0);
    }

    fn unlisten(
        &mut self,
        id: ListenerId,
        which: &dyn Fn(&TcpListener) -> bool,
        _: &mut VecDeque<Event<TcpStream>>,
    ) -> Vec<TcpListener> {
        self.listeners
            .extract_if(.., |(own, socket)| *own == id && which(socket))
            .map(|(_, socket)| socket)
            .collect()
    }

    fn adopt(&mut self, snapshot: Arc<Snapshot>) {
        self.adopted = Some(snapshot);
    }

    fn paths(&self, _: &TcpStream) -> [Option<Path>; 2] {
        self.asked.set(self.asked.get() + 1);
        [Some(Path { rtt_us: 5, retransmits: 1, quiet_ms: 3, ..Path::default() }), None]
    }

    fn close_listeners(
        &mut self,
        which: &dyn Fn(ListenerId, &TcpListener) -> bool,
        _: usize,
        out: &mut VecDeque<Event<TcpStream>>,
    ) {
        if !self.listeners.is_empty() {
            self.listeners.retain(|(id, socket)| !which(*id, socket));
            return;
        }
        assert!(!std::mem::replace(&mut self.listeners_closed, true), "closed twice");
        out.extend(self.backlog.drain(..).map(|socket| accepted(0, socket)));
    }

    fn open(&mut self, _: Key, client: TcpStream, _: Option<config::Keepalive>) -> io::Result<TcpStream> {
        if self.refuses { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(client) }
    }

    fn reject(&mut self, client: TcpStream) {
        let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
    }

    fn order(&mut self, key: Key, _: &mut TcpStream, order: Order, out: &mut VecDeque<Event<TcpStream>>) {
        self.orders.push(order);
        assert!(self.orders.len() < ORDERS_MAX, "it turns in circles: {order:?}");
        match order {
            Order::ReadHead { .. }
            | Order::Hear
            | Order::Dial { .. }
            | Order::Queue
            | Order::Relay { .. }
            | Order::Grant { .. } => {}
            Order::Stop(end) => out.push_back(Event::Ended { key, end, moved: [1, 2], unsent: false }),
            Order::Reset { spare: Some(_) } if self.delivering => {}
            Order::Close | Order::Dismiss { .. } | Order::Reset { .. } => {
                out.push_back(Event::Closed { key });
            }
        }
    }

    fn turn(
        &mut self,
        _: &mut impl Slots<TcpStream>,
        _: Option<Duration>,
        _: &mut VecDeque<Event<TcpStream>>,
    ) -> io::Result<()> {
        if self.fails { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
    }

    fn head<'a>(&self, _: &'a TcpStream) -> &'a [u8] {
        &[]
    }

    fn skip(&mut self, _: &mut TcpStream, _: usize) {}

    fn say(&mut self, _: &mut TcpStream, _: Side, _: &[u8], _: bool) -> Result<(), Fault> {
        Ok(())
    }

    fn local(&self, _: &TcpStream) -> Option<SocketAddr> {
        None
    }

    fn look(&self, _: &TcpStream) -> Option<Sight> {
        Some(Sight { progress: self.progress, ..Sight::default() })
    }
}

fn config(maxconn: Option<u32>, at_maxconn: &str) -> Config {
    let text = format!(
        "config_version = 1\n\
         [listener.first]\nbind = [\"127.0.0.1:8081\"]\npool = \"web\"\nat_maxconn = \"{at_maxconn}\"\n\
         [listener.second]\nbind = [\"127.0.0.1:8082\"]\npool = \"web\"\nat_maxconn = \"{at_maxconn}\"\n\
         [pool.web]\nbalance = \"round_robin\"\nserver = [{{ name = \"a\", addr = \"127.0.0.1:9000\" }}]\n"
    );
    let mut config = config::parse(&text, "test").unwrap_or_else(|report| panic!("{report:?}"));
    config.listeners[0].maxconn = maxconn.and_then(NonZeroU32::new);
    config
}

/// A worker, and what it says of itself.
struct Stage {
    worker: Worker<Puppet>,
    snapshot: Arc<Snapshot>,
    published: Arc<Published>,
    crew: Arc<Crew<TcpStream>>,
    commands: Sender<Command<TcpListener>>,
    /// Connections that another worker has, of the first listener.
    elsewhere: u32,
}

impl Stage {
    fn new(config: &Config, maxconn: u32) -> Self {
        let snapshot = Arc::new(Snapshot::new(config, maxconn));
        let (crew, mut mailboxes) = Crew::new(1, 1);
        let published = Arc::new(Published::new(Arc::clone(&snapshot)));
        let crew = Arc::new(crew);
        let (commands, received) = channel();
        let setup = Setup {
            number: 0,
            published: Arc::clone(&published),
            crew: Arc::clone(&crew),
            mailbox: mailboxes.remove(0),
            commands: received,
            recorder: Recorder::off(),
        };
        let mut worker = Worker::new(setup, Puppet::default());
        worker.now = Tick(0);
        Self { worker, snapshot, published, crew, commands, elsewhere: 0 }
    }

    /// What [`Worker::run`] does once its engine has waited; `true` at the end.
    fn turn(&mut self, now: u64, events: impl IntoIterator<Item = Event<TcpStream>>) -> bool {
        self.worker.now = Tick(now);
        self.worker.events.extend(events);
        self.worker.settle();
        self.worker.attend();
        self.worker.expire();
        self.worker.reopen();
        let over = self.worker.drain();
        self.check();
        over
    }

    fn check(&self) {
        let open = self.worker.table.len();
        let counted = open + self.elsewhere as usize;
        let waiting = self.worker.gate.lobby().iter().filter(|client| client.counted).count();
        let total = self.snapshot.connections.count() as usize;
        assert_eq!(total, counted + waiting, "a limit was taken or given twice");
        let of_listeners: u32 = self.snapshot.listeners.iter().map(|one| one.connections.count()).sum();
        assert_eq!(of_listeners as usize, counted);
        let of_listeners: u32 = self.snapshot.listeners.iter().map(|one| one.waiting.count()).sum();
        assert_eq!(of_listeners as usize, self.worker.gate.lobby().len());
        assert!(self.worker.events.is_empty());
        let next = self.worker.timers.next();
        assert!(next.is_none_or(|next| next > self.worker.now), "a timer is late: {next:?}");
        assert!(open > 0 || next.is_none(), "a timer outlived its connection");
    }

    /// Another worker takes a connection.
    fn take_elsewhere(&mut self) {
        assert!(self.snapshot.connections.take() && self.snapshot.listener(ListenerId(0)).connections.take());
        self.elsewhere += 1;
    }

    fn give_elsewhere(&mut self) {
        gate::give(&self.snapshot, ListenerId(0), None);
        self.elsewhere -= 1;
    }

    fn engine(&mut self) -> &mut Puppet {
        &mut self.worker.engine
    }

    /// The orders since the last call.
    fn orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.engine().orders)
    }

    fn key(&self) -> Key {
        self.worker.table.keys()[0]
    }
}

/// Two ends of a connection: the one that a worker accepts, and its client's.
fn pair() -> (TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let client = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let (socket, _) = listener.accept().expect("a client");
    socket.set_nonblocking(true).expect("an option");
    (TcpStream::from_std(socket), client)
}

fn accepted(listener: u16, socket: TcpStream) -> Event<TcpStream> {
    let peer = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000)));
    Event::Accepted { listener: ListenerId(listener), socket, peer }
}

/// A client that nobody looks at.
fn client(listener: u16) -> Event<TcpStream> {
    accepted(listener, pair().0)
}

fn assert_reset(mut client: &std::net::TcpStream) {
    client.set_read_timeout(Some(Duration::from_secs(5))).expect("an option");
    let error = client.read(&mut [0]).expect_err("no FIN");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

const NO_SPARE: Order = Order::Reset { spare: None };

#[test]
fn a_connection_goes_its_way_and_leaves_nothing_behind() {
    let mut stage = Stage::new(&config(None, "wait"), 10);
    stage.turn(1, [client(0)]);
    let key = stage.key();
    stage.turn(2, [Event::Dialed { key, result: Ok(()) }]);
    stage.turn(3, [Event::Ended { key, end: End::Clean, moved: [5, 6], unsent: false }]);
    let to = crate::snapshot::ServerId(0);
    assert_eq!(
        stage.orders(),
        [Order::Dial { to, from: None }, Order::Relay { limited: [false; 2], awaited: false }, Order::Close]
    );
    assert!(stage.worker.table.is_empty());
    stage.turn(4, [Event::Closed { key }, Event::Dialed { key, result: Ok(()) }]);
    assert_eq!(stage.orders(), [], "a late event finds nobody");
}

#[test]
fn a_socket_that_cannot_be_watched_gives_its_place_back() {
    let mut stage = Stage::new(&config(None, "wait"), 1);
    stage.engine().refuses = true;
    stage.turn(1, [client(0)]);
    stage.engine().refuses = false;
    stage.turn(2, [client(0)]);
    assert_eq!(stage.worker.table.len(), 1);
}

#[test]
fn at_the_limit_a_client_waits_until_another_has_left() {
    let mut stage = Stage::new(&config(None, "wait"), 1);
    stage.turn(1, [client(0), client(0), client(1)]);
    assert_eq!((stage.worker.table.len(), stage.worker.gate.lobby().len()), (1, 2));
    assert_eq!(stage.engine().paused, [(ListenerId(0), true), (ListenerId(1), true)]);
    stage.engine().paused.clear();
    let first = stage.key();
    // The one who has waited longest is let in at once; the other still waits, and its listener rests.
    stage.turn(2, [Event::ClientLeft { key: first }]);
    assert_eq!((stage.worker.table.len(), stage.worker.gate.lobby().len()), (1, 1));
    assert_eq!(stage.engine().paused, [(ListenerId(0), true), (ListenerId(1), true)]);
    let second = stage.key();
    assert_ne!(first, second);
    stage.engine().paused.clear();
    stage.turn(3, [Event::ClientLeft { key: second }]);
    assert_eq!((stage.worker.table.len(), stage.worker.gate.lobby().len()), (1, 0));
    assert_eq!(stage.engine().paused, [(ListenerId(0), true), (ListenerId(1), true)]);
    let third = stage.key();
    stage.turn(4, [Event::ClientLeft { key: third }]);
    stage.turn(60, []);
    assert_eq!(stage.engine().paused, [(ListenerId(0), false), (ListenerId(1), false)]);
}

#[test]
fn room_that_another_worker_made_is_found_within_fifty_milliseconds() {
    let mut stage = Stage::new(&config(None, "wait"), 1);
    stage.take_elsewhere();
    stage.turn(0, [client(0)]);
    assert_eq!((stage.worker.gate.lobby().len(), stage.worker.gate.retry()), (1, Some(Tick(51))));
    stage.turn(51, []);
    assert_eq!((stage.worker.gate.lobby().len(), stage.worker.gate.retry()), (1, Some(Tick(102))));
    stage.give_elsewhere();
    stage.turn(102, []);
    assert_eq!((stage.worker.table.len(), stage.worker.gate.lobby().len()), (1, 0));
}

#[test]
fn a_listener_has_a_limit_of_its_own() {
    let mut stage = Stage::new(&config(Some(1), "wait"), 10);
    stage.turn(1, [client(0), client(0), client(1)]);
    assert_eq!((stage.worker.table.len(), stage.worker.gate.lobby().len()), (2, 1));
    assert_eq!(stage.engine().paused, [(ListenerId(0), true), (ListenerId(1), false)]);
}

#[test]
fn at_the_limit_a_client_is_reset_if_that_is_wanted() {
    let mut stage = Stage::new(&config(Some(1), "reject"), 10);
    let (socket, rejected) = pair();
    stage.turn(1, [client(0), accepted(0, socket)]);
    assert_eq!((stage.worker.table.len(), stage.worker.gate.lobby().len()), (1, 0));
    assert_reset(&rejected);
    assert_eq!(stage.engine().paused, []);
}

#[test]
fn after_a_shortage_of_descriptors_listeners_go_on_by_time() {
    let mut stage = Stage::new(&config(None, "wait"), 10);
    stage.turn(100, [SHORTAGE]);
    assert_eq!(stage.worker.gate.retry(), Some(Tick(151)));
    stage.turn(120, [SHORTAGE]);
    assert_eq!(stage.worker.gate.retry(), Some(Tick(151)), "not put off");
    stage.turn(150, []);
    assert_eq!(stage.engine().paused, []);
    stage.turn(151, []);
    assert_eq!(stage.engine().paused, [(ListenerId(0), false), (ListenerId(1), false)]);
    assert_eq!(stage.worker.gate.retry(), None);
}

#[test]
fn a_peer_that_never_takes_its_last_bytes_is_given_up_after_half_close() {
    let mut config = config(None, "wait");
    config.timeouts.half_close = Some(Duration::from_secs(1));
    let mut stage = Stage::new(&config, 10);
    stage.engine().delivering = true;
    stage.turn(1, [client(0)]);
    let key = stage.key();
    let end = End::Reset { by: Side::Server, fault: Fault::Reset };
    let ended = Event::Ended { key, end, moved: [0; 2], unsent: false };
    stage.turn(2, [Event::Dialed { key, result: Ok(()) }, ended]);
    while let Some(next) = stage.worker.timers.next() {
        assert!(next < Tick(1_300), "{next:?}");
        stage.turn(next.0, []);
    }
    assert!(stage.worker.table.is_empty());
    assert_eq!(stage.orders().last(), Some(&NO_SPARE));
}

#[test]
fn a_timer_is_moved_lazily_but_never_late() {
    let mut stage = Stage::new(&config(None, "wait"), 10);
    stage.turn(0, [client(0)]);
    let key = stage.key();
    assert_eq!(stage.worker.timers.next(), Some(Tick(5_001)), "connect");
    stage.turn(1, [Event::Dialed { key, result: Ok(()) }]);
    assert_eq!(stage.worker.timers.next(), Some(Tick(5_001)), "the relay's first look is later");
    stage.turn(5_001, []);
    assert!(stage.worker.timers.next() > Some(Tick(60_000)), "now it is where it belongs");
    // The server resets: the first look at the client is due in a moment.
    stage.engine().delivering = true;
    let end = End::Reset { by: Side::Server, fault: Fault::Reset };
    stage.turn(6_000, [Event::Ended { key, end, moved: [0; 2], unsent: false }]);
    assert_eq!(stage.worker.timers.next(), Some(Tick(6_002)));
}

#[test]
fn a_drain_lets_connections_finish() {
    let mut stage = Stage::new(&config(None, "wait"), 10);
    let late = pair().0;
    stage.engine().backlog.push(late);
    assert!(!stage.turn(1, [client(0)]));
    stage.worker.setup.crew.drain();
    assert!(!stage.turn(2, []));
    assert!(stage.engine().listeners_closed);
    assert_eq!(stage.worker.table.len(), 2, "who was in the backlog is served");
    let keys = stage.worker.table.keys();
    assert!(!stage.turn(3, [Event::ClientLeft { key: keys[0] }]));
    assert!(stage.turn(4, [Event::ClientLeft { key: keys[1] }]));
}

#[test]
fn a_drain_serves_those_who_were_waiting() {
    let mut stage = Stage::new(&config(None, "wait"), 1);
    stage.take_elsewhere();
    stage.turn(0, [client(0)]);
    stage.worker.setup.crew.drain();
    assert!(!stage.turn(1, []), "one waits");
    stage.give_elsewhere();
    assert!(!stage.turn(51, []));
    let key = stage.key();
    assert!(stage.turn(52, [Event::ClientLeft { key }]));
}

#[test]
fn a_drain_ends_at_the_hard_stop() {
    let mut config = config(None, "wait");
    config.process.drain.hard_stop = Some(Duration::from_secs(2));
    let mut stage = Stage::new(&config, 10);
    stage.turn(1, [client(0)]);
    let key = stage.key();
    stage.turn(2, [Event::Dialed { key, result: Ok(()) }]);
    stage.worker.setup.crew.drain();
    assert!(!stage.turn(10, []));
    assert!(!stage.turn(2_010, []));
    assert!(stage.turn(2_011, []));
    assert_eq!(stage.orders()[2..], [Order::Stop(End::Killed), NO_SPARE]);
}

#[test]
fn a_stop_ends_all_at_once_and_resets_who_was_waiting() {
    let mut stage = Stage::new(&config(None, "wait"), 3);
    stage.engine().delivering = true;
    let (socket, waiting) = pair();
    stage.turn(1, [client(0), client(0), client(0), accepted(0, socket)]);
    let keys = stage.worker.table.keys();
    let end = End::Reset { by: Side::Client, fault: Fault::Reset };
    let ended = Event::Ended { key: keys[1], end, moved: [0; 2], unsent: false };
    stage.turn(2, keys[..2].iter().map(|key| Event::Dialed { key: *key, result: Ok(()) }).chain([ended]));
    stage.worker.setup.crew.stop();
    assert!(stage.turn(3, []));
    assert_reset(&waiting);
}

#[test]
fn a_worker_that_is_lost_keeps_nobody_from_ending() {
    let snapshot = Arc::new(Snapshot::new(&config(None, "wait"), 10));
    let (crew, mailboxes) = Crew::new(1, 2);
    let crew = Arc::new(crew);
    let mut workers = (0..).zip(mailboxes).map(|(number, mailbox)| {
        let published = Arc::new(Published::new(Arc::clone(&snapshot)));
        let (crew, commands, recorder) = (Arc::clone(&crew), channel().1, Recorder::off());
        Worker::new(Setup { number, published, crew, mailbox, commands, recorder }, Puppet::default())
    });
    let mut lost = workers.next().expect("two");
    let mut other = workers.next().expect("two");
    lost.engine.fails = true;
    assert!(lost.run(Clock::start()).is_err());
    crew.stop();
    assert!(!other.turn(|| Tick(1)).expect("it waits"), "it waits for what the lost one may hand over");
}

#[test]
fn a_worker_with_nothing_to_do_ends_at_once() {
    let mut stage = Stage::new(&config(None, "wait"), 10);
    assert!(!stage.turn(1, []));
    stage.worker.setup.crew.drain();
    assert!(stage.turn(2, []));
}

/// The `step`-th of an endless row of numbers without order.
fn mixed(seed: u64, step: u64) -> u64 {
    let mut mixed = seed.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 27)
}

#[test]
fn a_thousand_random_turns_lose_no_place_and_no_timer() {
    let mut config = config(Some(5), "wait");
    config.timeouts.half_close = Some(Duration::from_millis(300));
    config.timeouts.idle = Some(Duration::from_millis(700));
    let (socket, _other_end) = pair();
    // All clients share one connection here; nobody reads from it.
    let socket = std::net::TcpStream::from(socket);
    for seed in 0..20 {
        let mut stage = Stage::new(&config, 8);
        let mut now = 0;
        for step in 0..1_000 {
            let random = mixed(seed, step);
            now += random % 40;
            stage.engine().delivering = random & 0x700 != 0;
            stage.engine().progress.moved[0] += u64::from(random & 0x800 != 0);
            let keys = stage.worker.table.keys();
            let mut events = Vec::new();
            if random & 0x3000 == 0 {
                let socket = TcpStream::from_std(socket.try_clone().expect("a descriptor"));
                events.push(accepted(u16::from(random & 0x4000 == 0), socket));
            }
            if !keys.is_empty() {
                let key = keys[(random >> 20) as usize % keys.len()];
                let by = if random & 0x8000 == 0 { Side::Client } else { Side::Server };
                let end = End::Reset { by, fault: Fault::Reset };
                events.extend(match random >> 32 & 15 {
                    0 => Some(Event::ClientLeft { key }),
                    1..4 => Some(Event::Dialed { key, result: Err(Fault::Refused) }),
                    4..6 => Some(Event::Dialed { key, result: Ok(()) }),
                    6 => Some(Event::Ended { key, end, moved: [1, 1], unsent: true }),
                    7 => Some(Event::Ended { key, end: End::Clean, moved: [1, 1], unsent: false }),
                    _ => None,
                });
            }
            stage.turn(now, events);
            let (open, waiting) = (stage.worker.table.len(), stage.worker.gate.lobby().len());
            assert!(open <= 8 && (waiting == 0 || stage.worker.gate.retry().is_some()), "seed {seed}");
        }
        assert!(stage.worker.accepted > 50, "{} clients were served", stage.worker.accepted);
        stage.worker.setup.crew.stop();
        assert!(stage.turn(now + 1, []), "seed {seed}");
    }
}

#[test]
fn a_connection_at_rest_fits_a_few_cache_lines() {
    let size = size_of::<Conn<<crate::engine::Reactor<crate::engine::ByMio> as Engine>::Io>>();
    println!("a connection has {size} bytes in the table");
    assert!(size <= 552, "{size}");
}

#[test]
fn a_table_agrees_with_a_list_of_what_lives() {
    let mut table = Table::new(50);
    let (mut living, mut dead): (Vec<(Key, u64)>, Vec<Key>) = (Vec::new(), Vec::new());
    for step in 0..20_000 {
        let random = mixed(1, step);
        if random & 1 == 0 {
            let key = table.vacant();
            assert_eq!(key.is_some(), living.len() < 50);
            let Some(key) = key else { continue };
            assert!(!dead.contains(&key), "{key:?} is used twice");
            table.insert(key, step);
            living.push((key, step));
        } else if !living.is_empty() {
            let (key, value) = living.swap_remove((random >> 1) as usize % living.len());
            assert_eq!(table.remove(key), Some(value));
            dead.push(key);
            dead.drain(..dead.len().saturating_sub(500));
        }
        assert_eq!(table.len(), living.len());
        for (key, value) in &mut living {
            assert_eq!(table.get_mut(*key), Some(value));
        }
        if let Some(late) = dead.get((random >> 9) as usize % dead.len().max(1)) {
            assert_eq!(table.get_mut(*late), None);
            assert_eq!(table.remove(*late), None);
        }
    }
    let mut keys: Vec<Key> = living.into_iter().map(|(key, _)| key).collect();
    keys.sort();
    assert_eq!(table.keys(), keys);
}

/// Sends a command, and has the worker take a turn.
fn command<T>(stage: &mut Stage, now: u64, make: impl FnOnce(Reply<T>) -> Command<TcpListener>) -> T {
    let (reply, mut answer) = oneshot::channel();
    stage.commands.send(make(reply)).expect("the worker is there");
    stage.crew.attend_to(0);
    stage.turn(now, []);
    answer.try_recv().expect("it was answered in the same turn")
}

#[test]
fn a_listening_socket_comes_and_goes_at_run_time() {
    let mut stage = Stage::new(&config(None, "wait"), 10);
    let socket = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
    for (turn, id) in [(1, 0), (2, 1), (3, 1)] {
        let id = ListenerId(id);
        command(&mut stage, turn, |reply| Command::Listen { id, socket: socket(), reply })
            .expect("it is watched");
    }
    let moved = stage.engine().listeners[1].1.local_addr().expect("bound");
    let given = command(&mut stage, 4, |reply| {
        let which: Which<TcpListener> =
            Box::new(move |_, socket| socket.local_addr().is_ok_and(|at| at == moved));
        Command::Unlisten { id: ListenerId(1), which, reply }
    });
    assert_eq!(given.iter().map(|one| one.local_addr().expect("open")).collect::<Vec<_>>(), [moved]);
    // Nobody waits for the answer any more.
    let unlisten = |reply| Command::Unlisten { id: ListenerId(0), which: Box::new(|_, _| true), reply };
    stage.commands.send(unlisten(oneshot::channel().0)).expect("the worker is there");
    command(&mut stage, 5, |reply| Command::Report { reply });
    assert_eq!(stage.engine().listeners.len(), 2, "it goes on listening");
    command(&mut stage, 6, |reply| Command::Close { which: Box::new(|id, _| id == ListenerId(0)), reply });
    assert_eq!(stage.engine().listeners.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [ListenerId(1)]);
}

#[test]
fn another_snapshot_is_gone_by_from_the_next_turn_on_and_its_limits_hold_for_who_is_there() {
    let mut config = config(None, "wait");
    let mut stage = Stage::new(&config, 10);
    stage.turn(1, [client(0)]);
    let key = stage.key();
    stage.turn(2, [Event::Dialed { key, result: Ok(()) }]);
    config.timeouts.idle = Some(Duration::from_millis(500));
    let next = Arc::new(
        stage.snapshot.next(&config, 10, &Overrides::new(), &Conditions::new(), Tick(3)).expect("few names"),
    );
    stage.published.publish(Arc::clone(&next));
    stage.crew.attend();
    stage.turn(1_000, []);
    assert!(stage.engine().adopted.as_ref().is_some_and(|adopted| Arc::ptr_eq(adopted, &next)));
    assert_eq!(next.connections.count(), 1, "the counts are the same");
    stage.turn(1_002, []);
    assert_eq!(stage.orders().last(), Some(&Order::Close), "it was idle for longer than that already");
}

#[test]
fn connections_are_told_of_in_pieces() {
    let mut stage = Stage::new(&config(None, "wait"), 1_000);
    for turn in 0..30 {
        stage.turn(turn, (0..10).map(|_| client(0)));
    }
    let keys = stage.worker.table.keys();
    let dialed = keys.iter().map(|key| Event::Dialed { key: *key, result: Ok(()) });
    stage.turn(40, dialed.collect::<Vec<_>>());
    stage.turn(41, [Event::Ended { key: keys[7], end: End::Clean, moved: [5, 6], unsent: false }]);
    stage.turn(42, [Event::Closed { key: keys[7] }]);
    stage.engine().progress = Progress { moved: [70, 80], waiting_for: Some(Side::Server) };
    let list = |stage: &mut Stage, from, with_paths| {
        let ask = if with_paths { Ask::Paths } else { Ask::Nothing };
        command(stage, 50, |reply| Command::List { from, ask, reply })
    };
    let (mut seen, mut from, mut pieces) = (Vec::new(), Some(0), 0);
    while let Some(slot) = from {
        let listing = list(&mut stage, slot, false);
        assert!(listing.rows.len() <= 256);
        (from, pieces) = (listing.next, pieces + 1);
        seen.extend(listing.rows);
    }
    assert_eq!((seen.len(), pieces), (299, 2));
    let row = &seen[0];
    assert_eq!((row.key, row.doing, row.half_closed, row.moved), (keys[0], Doing::Relaying, true, [70, 80]));
    assert_eq!((row.began, row.quiet_since, row.paths), (Tick(0), Some(Tick(50)), [None; 2]));
    let tally = &stage.snapshot.listener(ListenerId(0)).tally;
    assert_eq!(
        tally.bytes[1].get(),
        6 + 299 * 80,
        "bytes of who is still there are counted on this occasion"
    );
    let listing = list(&mut stage, 0, true);
    assert_eq!((listing.rows.len(), listing.next), (31, Some(32)), "with the kernel asked, fewer at a time");
    assert_eq!(listing.rows[0].quiet_since, Some(Tick(47)), "the kernel knows it exactly");
}

#[test]
fn connections_end_when_they_are_asked_to_and_say_why() {
    let mut stage = Stage::new(&config(None, "wait"), 10);
    stage.turn(1, [client(0), client(0), client(0)]);
    let keys = stage.worker.table.keys();
    stage
        .turn(2, keys[..2].iter().map(|key| Event::Dialed { key: *key, result: Ok(()) }).collect::<Vec<_>>());
    stage.orders();
    let end = |stage: &mut Stage, keys: &[Key], cause, gently| {
        let keys = keys.to_vec();
        stage.commands.send(Command::End { keys, of: None, cause, gently }).expect("the worker is there");
        stage.crew.attend_to(0);
        stage.turn(3, []);
    };
    end(&mut stage, &keys[..1], Cause::Killed, false);
    end(&mut stage, &keys[2..], Cause::Killed, false);
    assert_eq!(stage.orders(), [Order::Stop(End::Killed), NO_SPARE, NO_SPARE]);
    end(&mut stage, &keys, Cause::ServerRemoved, true);
    assert_eq!(stage.orders(), [], "two are gone, and the other one is not quiet yet");
    stage.turn(1_000, []);
    assert_eq!(stage.orders(), [Order::Stop(End::Drained), Order::Close]);
    let closed = stage.snapshot.listener(ListenerId(0)).closed(Some(PoolId(0)));
    assert_eq!((closed[Cause::Killed.index()].get(), closed[Cause::ServerRemoved.index()].get()), (2, 1));
}

#[test]
fn a_drain_asks_the_kernel_about_a_crowd_in_small_pieces() {
    let mut config = config(None, "wait");
    config.process.drain.spread = Duration::from_secs(10);
    let mut stage = crowd(&config, 100);
    stage.worker.setup.crew.drain();
    let told = |stage: &mut Stage| {
        let table = &mut stage.worker.table;
        let due = table.keys().into_iter().filter_map(|key| table.get_mut(key)?.session.deadline());
        due.filter(|at| *at <= Tick(10_050)).count()
    };
    for asked in [32, 64, 96, 100] {
        assert_eq!(told(&mut stage), 0, "the order is not known yet");
        assert!(!stage.turn(50, []));
        assert_eq!(stage.engine().asked.get(), asked);
        let waits = stage.worker.wait(Tick(50)).is_none_or(|wait| !wait.is_zero());
        assert_eq!(waits, asked == 100, "it must not sleep before");
    }
    assert_eq!(told(&mut stage), 100);
}

/// A stage with so many relays, at the time 40.
fn crowd(config: &Config, count: usize) -> Stage {
    let mut stage = Stage::new(config, 1_000);
    // All clients share one connection here; nobody reads from it.
    let (socket, _other_end) = pair();
    let socket = std::net::TcpStream::from(socket);
    let client = || accepted(0, TcpStream::from_std(socket.try_clone().expect("a descriptor")));
    stage.turn(30, (0..count).map(|_| client()).collect::<Vec<_>>());
    let dialed = stage.worker.table.keys().into_iter().map(|key| Event::Dialed { key, result: Ok(()) });
    stage.turn(40, dialed.collect::<Vec<_>>());
    stage.orders();
    stage
}

#[test]
fn what_is_asked_for_at_once_is_done_in_small_pieces_with_sockets_in_between() {
    let mut stage = crowd(&config(None, "wait"), 300);
    for keys in stage.worker.table.keys().chunks(64) {
        let end = Command::End { keys: keys.to_vec(), of: None, cause: Cause::Killed, gently: false };
        stage.commands.send(end).expect("the worker is there");
    }
    let (reply, mut answer) = oneshot::channel();
    stage.commands.send(Command::Report { reply }).expect("the worker is there");
    stage.crew.attend_to(0);
    for left in [236, 172, 108, 44] {
        stage.turn(41, []);
        assert_eq!(stage.worker.table.len(), left);
        assert_eq!(stage.worker.wait(Tick(41)), Some(Duration::ZERO), "it must not sleep");
        assert!(answer.try_recv().is_err(), "one after the other");
    }
    stage.turn(41, []);
    assert!(stage.worker.table.is_empty() && answer.try_recv().is_ok());
    assert_eq!(stage.worker.wait(Tick(41)), None, "nothing is left to do");
}

#[test]
fn new_limits_of_time_are_held_against_a_crowd_in_small_pieces() {
    let mut config = config(None, "wait");
    let mut stage = crowd(&config, 600);
    config.timeouts.idle = Some(Duration::from_millis(500));
    let next = stage
        .snapshot
        .next(&config, 1_000, &Overrides::new(), &Conditions::new(), Tick(41))
        .expect("few names");
    stage.published.publish(Arc::new(next));
    stage.crew.attend();
    let soon = |stage: &mut Stage| {
        let table = &mut stage.worker.table;
        let armed = table.keys().into_iter().filter_map(|key| table.get_mut(key)?.armed);
        armed.filter(|at| *at < Tick(1_100)).count()
    };
    for arranged in [256, 512, 600] {
        stage.turn(1_000, []);
        assert_eq!(soon(&mut stage), arranged);
        let waits = stage.worker.wait(Tick(1_000)).is_some_and(|wait| !wait.is_zero());
        assert_eq!(waits, arranged == 600);
    }
    stage.turn(1_040, []);
    assert_eq!(stage.worker.table.len(), 600 - 39 * 8, "eight in a millisecond");
    stage.turn(1_100, []);
    assert!(stage.worker.table.is_empty(), "all were idle for longer than that already");
}
