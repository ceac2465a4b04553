//! What every engine does with a client before there is a server, on the real kernel.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use super::uring::{Kernel, Uring};
use super::*;
use crate::sys::Os;
use crate::sys::net::Stream;

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

fn snapshot() -> Arc<Snapshot> {
    let text = "[listener.l]\nbind = [\"127.0.0.1:0\"]\npool = \"p\"\n\
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
