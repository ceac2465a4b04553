//! The reactor on the real kernel, turn by turn.

use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use super::*;
use crate::config;
use crate::sys::net::Stream;

/// One connection, as a table would have it.
struct One(Key, Io<Os>);

impl Slots<Io<Os>> for One {
    fn io(&mut self, key: Key) -> Option<&mut Io<Os>> {
        (key == self.0).then_some(&mut self.1)
    }

    fn keys(&self) -> Vec<Key> {
        vec![self.0]
    }
}

/// A reactor with one client.
struct Stage {
    reactor: Reactor<ByMio>,
    one: One,
    client: Option<TcpStream>,
    events: VecDeque<Event<Stream>>,
}

impl Stage {
    /// With one server, at `server`.
    fn new(server: &TcpListener) -> Self {
        let (selector, _) = ByMio::new().expect("a descriptor");
        let text = format!(
            "[listener.l]\nbind = [\"127.0.0.1:0\"]\npool = \"p\"\n\
             [pool.p]\nserver = [{{ name = \"s\", addr = \"{}\" }}]\n",
            server.local_addr().expect("bound")
        );
        let config = config::parse(&text, "test").unwrap_or_else(|report| panic!("{report}"));
        let snapshot = Arc::new(Snapshot::new(&config, 1));
        let bounds = Bounds { buffer_size: 64 * 1024, budget: 1 << 20, pipes: 0 };
        let mut reactor = Reactor::new(selector, Os, snapshot, bounds);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (socket, _) = listener.accept().expect("a client");
        socket.set_nonblocking(true).expect("an option");
        let (key, _) = Key::from_token(0);
        let io =
            reactor.open(key, Stream::Tcp(mio::net::TcpStream::from_std(socket)), None).expect("watched");
        let mut stage = Self { reactor, one: One(key, io), client: Some(client), events: VecDeque::new() };
        // What the client's socket can do at first is told now, and once.
        stage.turn(Duration::ZERO);
        stage
    }

    fn order(&mut self, order: Order) {
        self.reactor.order(self.one.0, &mut self.one.1, order, &mut self.events);
    }

    fn turn(&mut self, wait: Duration) {
        self.reactor.turn(&mut self.one, Some(wait), &mut self.events).expect("it waits");
    }

    /// Turns until there is an event, 500 times at most.
    fn event(&mut self) -> Option<Event<Stream>> {
        for _ in 0..500 {
            if !self.events.is_empty() {
                break;
            }
            self.turn(Duration::from_millis(10));
        }
        self.events.pop_front()
    }

    fn reset_by_client(&mut self) {
        let client = self.client.take().expect("it is there");
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("an option");
    }
}

#[test]
fn a_client_that_resets_just_as_its_server_is_reached_is_a_reset_to_the_server() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let mut stage = Stage::new(&listener);
    stage.order(Order::Dial { to: ServerId(0), from: None });
    let (mut server, _) = listener.accept().expect("the proxy");
    stage.reset_by_client();
    // One turn hears of both, the server first, because that came first.
    stage.turn(Duration::from_millis(100));
    assert!(matches!(stage.event(), Some(Event::Dialed { result: Ok(()), .. })));
    stage.order(Order::Relay { limited: [false; 2], awaited: false });
    stage.events.retain(|event| !matches!(event, Event::ClientLeft { .. }));
    let by_client = End::Reset { by: Side::Client, fault: Fault::Reset };
    match stage.event() {
        Some(Event::Ended { end, .. }) => assert_eq!(end, by_client),
        other => panic!("the client's reset was taken for its FIN: {other:?}"),
    }
    stage.order(Order::Reset { spare: Some(Side::Server) });
    assert!(matches!(stage.event(), Some(Event::Closed { .. })));
    drop(stage);
    server.set_read_timeout(Some(Duration::from_secs(5))).expect("an option");
    assert_eq!(server.read(&mut [0]).map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_client_that_leaves_between_two_attempts_is_noticed() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let mut stage = Stage::new(&listener);
    drop(listener);
    stage.order(Order::Dial { to: ServerId(0), from: None });
    assert!(matches!(stage.event(), Some(Event::Dialed { result: Err(Fault::Refused), .. })));
    stage.reset_by_client();
    assert!(matches!(stage.event(), Some(Event::ClientLeft { .. })));
}
