//! What every engine does with a client before there is a server, on the real kernel.

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
    /// Turns until there is an event, 500 times at most; before each, `order` is given once more.
    fn event(&mut self, order: Option<Order>) -> Event<Stream> {
        for _ in 0..500 {
            if let Some(order) = order {
                self.engine.order(self.one.0, &mut self.one.1, order, &mut self.events);
            }
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            self.engine
                .turn(&mut self.one, Some(Duration::from_millis(10)), &mut self.events)
                .expect("it waits");
        }
        panic!("nothing happens");
    }

    /// Orders the client's first bytes, which come only then.
    fn reads_ahead(&mut self, client: &mut TcpStream, text: &[u8]) {
        let order = Order::ReadHead { more_than: 0, max: 4096 };
        self.engine.order(self.one.0, &mut self.one.1, order, &mut self.events);
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
fn answers_a_client_before_a_server_is_picked<E: Engine<Socket = Stream>>(mut engine: E) {
    let (mut client, ours) = pair();
    let (key, _) = Key::from_token(0);
    let one = One(key, engine.open(key, ours, None).expect("watched"));
    let mut stage = Stage { engine, one, events: VecDeque::new() };
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

fn snapshot() -> Arc<Snapshot> {
    let text = "[listener.l]\nbind = [\"127.0.0.1:0\"]\npool = \"p\"\naccept_burst = 3\n\
                [listener.m]\nbind = [\"127.0.0.1:0\"]\npool = \"p\"\naccept_burst = 5\n\
                [pool.p]\nserver = [{ name = \"s\", addr = \"127.0.0.1:1\" }]\n";
    let config = config::parse(text, "test").unwrap_or_else(|report| panic!("{report}"));
    Arc::new(Snapshot::new(&config, 1))
}

const BOUNDS: Bounds = Bounds { buffer_size: 64 * 1024, budget: 1 << 20, pipes: 0 };

fn reacts<S: Selector<Os>, W>(selector: io::Result<(S, Arc<W>)>) {
    let (selector, _waker) = selector.expect("it can be had");
    answers_a_client_before_a_server_is_picked(Reactor::new(selector, Os, snapshot(), BOUNDS));
}

#[test]
fn a_client_is_answered_before_a_server_is_picked_by_readiness() {
    reacts(ByMio::new());
    reacts(ByEpoll::new());
    reacts(ByPoll::new());
    reacts(BySelect::new());
    reacts(ByAio::new());
    reacts(BySigio::new());
}

fn reacts_in_bursts<S: Selector<Os>, W>(selector: io::Result<(S, Arc<W>)>) {
    let (selector, _waker) = selector.expect("it can be had");
    takes_a_burst_a_turn(Reactor::new(selector, Os, snapshot(), BOUNDS));
}

#[test]
fn accept_burst_bounds_the_accepts_of_a_turn() {
    reacts_in_bursts(ByMio::new());
    reacts_in_bursts(ByEpoll::new());
    reacts_in_bursts(ByPoll::new());
    reacts_in_bursts(BySelect::new());
    reacts_in_bursts(ByAio::new());
    reacts_in_bursts(BySigio::new());
    let (engine, _waker) = Threads::new(snapshot(), BOUNDS).expect("it can be had");
    takes_a_burst_a_turn(engine);
}

#[test]
fn a_client_is_answered_before_a_server_is_picked_by_threads() {
    let (engine, _waker) = Threads::new(snapshot(), BOUNDS).expect("it can be had");
    answers_a_client_before_a_server_is_picked(engine);
}

#[test]
fn a_client_is_answered_before_a_server_is_picked_by_completion() {
    let settings = config::Process::default().uring;
    match Kernel::new(settings) {
        Ok((ring, _waker)) => {
            let engine = Uring::new(ring, Os, snapshot(), BOUNDS, settings.multishot);
            answers_a_client_before_a_server_is_picked(engine);
        }
        Err(unavailable) => println!("skipped: {unavailable}"),
    }
}
