//! What every engine does with a client before there is a server, and when its server has gone, on the real kernel.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use super::uring::{Kernel, Uring};
use super::*;
use crate::config::Tcp;
use crate::sys::Os;
use crate::sys::net::{self, Binding, Listener, Stream};

/// One connection, as a table would have it.
struct One<Io>(Key, Io);

impl<Io> Slots<Io> for One<Io> {
    fn io(&mut self, key: Key) -> Option<&mut Io> {
        (key == self.0).then_some(&mut self.1)
    }

    fn keys(&self) -> Vec<Key> {
        vec![self.0]
    }
}

/// Two sockets: the client's, and ours.
fn pair() -> (TcpStream, Stream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    client.set_read_timeout(Some(Duration::from_secs(5))).expect("an option");
    let (ours, _) = listener.accept().expect("a client");
    ours.set_nonblocking(true).expect("an option");
    (client, Stream::Tcp(mio::net::TcpStream::from_std(ours)))
}

/// An engine with one client.
struct Stage<E: Engine> {
    engine: E,
    one: One<E::Io>,
    events: VecDeque<Event<Stream>>,
}

impl<E: Engine<Socket = Stream>> Stage<E> {
    /// With that client of ours.
    fn new(mut engine: E, client: Stream) -> Self {
        let (key, _) = Key::from_token(0);
        let one = One(key, engine.open(key, client, None).expect("watched"));
        Self { engine, one, events: VecDeque::new() }
    }

    fn order(&mut self, order: Order) {
        self.engine.order(self.one.0, &mut self.one.1, order, &mut self.events);
    }

    fn dials(&mut self, server: u32) {
        self.order(Order::Dial { to: ServerId(server), from: None });
    }

    fn turn(&mut self) {
        self.engine.turn(&mut self.one, Some(Duration::from_millis(10)), &mut self.events).expect("it waits");
    }

    /// Turns until there is an event, 2,000 times at most; before each, `order` is given once more.
    fn event(&mut self, order: Option<Order>) -> Event<Stream> {
        for _ in 0..2_000 {
            if let Some(order) = order {
                self.order(order);
            }
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            self.turn();
        }
        panic!("nothing happens");
    }

    /// Orders the client's first bytes, which come only then.
    fn reads_ahead(&mut self, client: &mut TcpStream, text: &[u8]) {
        self.order(Order::ReadHead { more_than: 0, max: 4096 });
        client.write_all(text).expect("it is sent");
        let event = self.event(None);
        assert!(matches!(event, Event::Head { ended: false, .. }), "{event:?}");
        assert_eq!(self.engine.head(&self.one.1), text);
    }

    fn says(&mut self, bytes: &[u8]) {
        self.engine.say(&mut self.one.1, Side::Client, bytes, false).expect("it is there");
    }
}

/// A client asks for TLS as PostgreSQL's do, and is answered with a byte; what it says then is answered with an alert and
/// FIN, though it has said more meanwhile.
fn answers_a_client_before_a_server_is_picked<E: Engine<Socket = Stream>>(engine: E) {
    let (mut client, ours) = pair();
    let mut stage = Stage::new(engine, ours);
    stage.reads_ahead(&mut client, b"with TLS");
    stage.engine.skip(&mut stage.one.1, 8);
    stage.says(b"S");
    let mut answer = [0];
    client.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer, *b"S");
    stage.reads_ahead(&mut client, b"hello");
    client.write_all(b"early data").expect("it is sent");
    stage.says(b"no name");
    // It must get that first.
    let event = stage.event(Some(Order::Dismiss { peer: Side::Client }));
    assert!(matches!(event, Event::Closed { .. }), "{event:?}");
    drop(stage);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("a FIN, not a reset");
    assert_eq!(rest, b"no name");
}

#[test]
fn a_client_is_answered_before_a_server_is_picked_by_readiness() {
    let snapshot = || snapshot(&[&server()]);
    answers_a_client_before_a_server_is_picked(readiness(ByMio::new(), snapshot()));
    answers_a_client_before_a_server_is_picked(readiness(ByEpoll::new(), snapshot()));
    answers_a_client_before_a_server_is_picked(readiness(ByPoll::new(), snapshot()));
    answers_a_client_before_a_server_is_picked(readiness(BySelect::new(), snapshot()));
    answers_a_client_before_a_server_is_picked(readiness(ByAio::new(), snapshot()));
    answers_a_client_before_a_server_is_picked(readiness(BySigio::new(), snapshot()));
}

#[test]
fn a_client_is_answered_before_a_server_is_picked_by_threads() {
    answers_a_client_before_a_server_is_picked(threads(snapshot(&[&server()])));
}

#[test]
fn a_client_is_answered_before_a_server_is_picked_by_completion() {
    if let Some(engine) = completion(snapshot(&[&server()])) {
        answers_a_client_before_a_server_is_picked(engine);
    }
}

/// Whoever waits for a server learns that its client has failed, whenever that was.
fn knows_of_a_reset_when_a_server_is_heard<E: Engine<Socket = Stream>>(engine: impl Fn(Arc<Snapshot>) -> E) {
    let (hole, _backlog) = hole();
    let silent = server();
    let snapshot = snapshot(&[&hole, &silent]);
    for resets_at in 0..3 {
        let (mut client, ours) = pair();
        let mut stage = Stage::new(engine(Arc::clone(&snapshot)), ours);
        stage.reads_ahead(&mut client, b"hello");
        let mut client = Some(client);
        let mut resets = |stage: &mut Stage<E>, at| {
            if at == resets_at {
                reset(client.take().expect("it is there"));
                // As long as it has said something and has no server, nothing is told.
                (0..3).for_each(|_| stage.turn());
                assert!(stage.events.is_empty(), "{:?}", stage.events);
            }
        };
        stage.dials(0);
        stage.turn();
        resets(&mut stage, 0);
        stage.dials(1);
        let event = stage.event(None);
        assert!(matches!(event, Event::Dialed { result: Ok(()), .. }), "{event:?}");
        resets(&mut stage, 1);
        stage.order(Order::Hear);
        if resets_at == 2 {
            stage.turn();
            reset(client.take().expect("it is there"));
        }
        let event = stage.event(None);
        assert!(matches!(event, Event::ClientLeft { .. }), "reset at {resets_at}: {event:?}");
    }
}

#[test]
fn a_reset_is_known_when_a_server_is_heard_by_readiness() {
    knows_of_a_reset_when_a_server_is_heard(|snapshot| readiness(ByMio::new(), snapshot));
    knows_of_a_reset_when_a_server_is_heard(|snapshot| readiness(ByEpoll::new(), snapshot));
    knows_of_a_reset_when_a_server_is_heard(|snapshot| readiness(ByPoll::new(), snapshot));
    knows_of_a_reset_when_a_server_is_heard(|snapshot| readiness(BySelect::new(), snapshot));
    knows_of_a_reset_when_a_server_is_heard(|snapshot| readiness(ByAio::new(), snapshot));
    knows_of_a_reset_when_a_server_is_heard(|snapshot| readiness(BySigio::new(), snapshot));
}

#[test]
fn a_reset_is_known_when_a_server_is_heard_by_threads() {
    knows_of_a_reset_when_a_server_is_heard(threads);
}

#[test]
fn a_reset_is_known_when_a_server_is_heard_by_completion() {
    if completion(snapshot(&[&server()])).is_some() {
        knows_of_a_reset_when_a_server_is_heard(|snapshot| completion(snapshot).expect("another one"));
    }
}

/// Whoever is given up while its server is dialed is gone at once, although the dial would go on for a minute: its thread may
/// not have come to it yet.
#[test]
fn a_dial_that_is_given_up_at_once_ends_by_threads() {
    let (hole, _backlog) = hole();
    let snapshot = snapshot(&[&hole]);
    for _ in 0..10 {
        let (_client, ours) = pair();
        let mut stage = Stage::new(threads(Arc::clone(&snapshot)), ours);
        stage.dials(0);
        stage.order(Order::Reset { spare: None });
        let event = stage.event(None);
        assert!(matches!(event, Event::Closed { .. }), "{event:?}");
    }
}

/// A client that is to see an end sees one, although it sends something while the last read of it is being ended.
#[test]
fn late_bytes_of_a_dismissed_client_are_no_reset_by_completion() {
    let server = server();
    let Some(engine) = completion(snapshot(&[&server])) else { return };
    let (mut client, ours) = pair();
    let mut stage = Stage::new(engine, ours);
    stage.dials(0);
    let event = stage.event(None);
    assert!(matches!(event, Event::Dialed { result: Ok(()), .. }), "{event:?}");
    stage.order(Order::Relay { limited: [false; 2], awaited: false });
    stage.turn();
    reset(server.accept().expect("it was reached").0);
    let event = stage.event(None);
    assert!(matches!(event, Event::Ended { end: End::Reset { by: Side::Server, .. }, .. }), "{event:?}");
    stage.order(Order::Dismiss { peer: Side::Client });
    assert!(stage.events.is_empty(), "its read has not ended: {:?}", stage.events);
    client.write_all(b"late").expect("it is sent");
    let event = stage.event(None);
    assert!(matches!(event, Event::Closed { .. }), "{event:?}");
    drop(stage);
    assert_eq!(client.read(&mut [0]).expect("a FIN, not a reset"), 0);
}

/// Nobody is connected.
struct Nobody;

impl<Io> Slots<Io> for Nobody {
    fn io(&mut self, _: Key) -> Option<&mut Io> {
        None
    }

    fn keys(&self) -> Vec<Key> {
        Vec::new()
    }
}

/// Three sockets of two listeners with eight clients each: a turn takes no more of a listener than its burst, from both of its
/// sockets together, and no more of all than the larger burst; and in the end everybody.
fn takes_a_burst_a_turn<E: Engine<Socket = Stream, Listener = Listener>>(mut engine: E) {
    let [l, m] = [ListenerId(0), ListenerId(1)];
    let mut clients = Vec::new();
    for id in [l, l, m] {
        let with = Binding { v6only: true, tcp: &Tcp::default() };
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into();
        let listener = net::listen(&at, 128, false, with).expect("a port");
        let at = listener.address().ok().and_then(|at| at.ip()).expect("bound");
        clients.extend((0..8).map(|_| TcpStream::connect(at).expect("it is in the backlog")));
        engine.listen(id, listener).expect("it is watched");
    }
    let (mut taken, mut events) = ([0, 0], VecDeque::new());
    for _ in 0..500 {
        engine.turn(&mut Nobody, Some(Duration::from_millis(10)), &mut events).expect("it waits");
        let mut now = [0, 0];
        for event in events.drain(..) {
            let Event::Accepted { listener, .. } = event else { panic!("{event:?}") };
            now[usize::from(listener.0)] += 1;
        }
        assert!(now[0] <= 3 && now[1] <= 5 && now[0] + now[1] <= 5, "{now:?} in one turn");
        taken = [taken[0] + now[0], taken[1] + now[1]];
        if taken == [16, 8] {
            return;
        }
    }
    panic!("only {taken:?} were taken");
}

#[test]
fn accept_burst_bounds_the_accepts_of_a_turn() {
    takes_a_burst_a_turn(readiness(ByMio::new(), bursts()));
    takes_a_burst_a_turn(readiness(ByEpoll::new(), bursts()));
    takes_a_burst_a_turn(readiness(ByPoll::new(), bursts()));
    takes_a_burst_a_turn(readiness(BySelect::new(), bursts()));
    takes_a_burst_a_turn(readiness(ByAio::new(), bursts()));
    takes_a_burst_a_turn(readiness(BySigio::new(), bursts()));
    takes_a_burst_a_turn(threads(bursts()));
}

/// Two listeners with bursts of their own.
fn bursts() -> Arc<Snapshot> {
    let text = "[listener.l]\nbind = [\"127.0.0.1:0\"]\npool = \"p\"\naccept_burst = 3\n\
                [listener.m]\nbind = [\"127.0.0.1:0\"]\npool = \"p\"\naccept_burst = 5\n\
                [pool.p]\nserver = [{ name = \"s\", addr = \"127.0.0.1:1\" }]\n";
    let config = config::parse(text, "test").unwrap_or_else(|report| panic!("{report}"));
    Arc::new(Snapshot::new(&config, 1))
}

/// One that only listens.
fn server() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port")
}

/// A port that never answers, because its backlog is full: with what fills it.
fn hole() -> (TcpListener, Vec<TcpStream>) {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    socket.listen(0).expect("it listens");
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().expect("bound");
    let connects = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
    let backlog = std::iter::from_fn(connects).collect();
    (listener, backlog)
}

fn reset(peer: TcpStream) {
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("an option");
    drop(peer);
}

/// One listener, and these servers.
fn snapshot(servers: &[&TcpListener]) -> Arc<Snapshot> {
    let server = |(number, server): (usize, &&TcpListener)| {
        format!("{{ name = \"s{number}\", addr = \"{}\" }}", server.local_addr().expect("bound"))
    };
    let servers: Vec<String> = servers.iter().enumerate().map(server).collect();
    let text = format!(
        "[defaults.timeouts]\nconnect = \"1m\"\n[listener.l]\nbind = [\"127.0.0.1:0\"]\npool = \"p\"\n\
         [pool.p]\nserver = [{}]\n",
        servers.join(", ")
    );
    let config = config::parse(&text, "test").unwrap_or_else(|report| panic!("{report}"));
    Arc::new(Snapshot::new(&config, 1))
}

const BOUNDS: Bounds = Bounds { buffer_size: 64 * 1024, budget: 1 << 20, pipes: 0 };

fn readiness<S: Selector<Os>, W>(selector: io::Result<(S, Arc<W>)>, snapshot: Arc<Snapshot>) -> Reactor<S> {
    let (selector, _waker) = selector.expect("it can be had");
    Reactor::new(selector, Os, snapshot, BOUNDS)
}

fn threads(snapshot: Arc<Snapshot>) -> Threads {
    Threads::new(snapshot, BOUNDS).expect("it can be had").0
}

/// `None`, and a line, where there is no such engine.
fn completion(snapshot: Arc<Snapshot>) -> Option<Uring> {
    let settings = config::Process::default().uring;
    match Kernel::new(settings) {
        Ok((ring, _waker)) => Some(Uring::new(ring, Os, snapshot, BOUNDS, settings.multishot)),
        Err(unavailable) => {
            println!("skipped: {unavailable}");
            None
        }
    }
}
