//! An operator who asks a simulated worker for everything that can be asked, at any moment.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tidegate::cause::Cause;
use tidegate::config::Config;
use tidegate::engine::sim::{Dice, Limits, MS, SimListener, SimNet, SimStream};
use tidegate::snapshot::{Conditions, ListenerId, Overrides, Published};
use tidegate::tick::Tick;
use tidegate::worker::{Ask, Command, Crew, Listing, Reply, Row};
use tokio::sync::oneshot::{self, Receiver};

/// Whoever looks on does nothing.
pub(crate) struct Operator {
    dice: Dice,
    /// Of a thousand turns, those after which something is asked.
    zeal: u64,
    config: Config,
    published: Arc<Published>,
    crew: Arc<Crew<SimStream>>,
    commands: Sender<Command<SimListener>>,
    /// By listener: what became of its socket.
    places: Vec<Place>,
    listing: Option<Receiver<Listing>>,
    known: Vec<Row>,
}

/// A listening socket.
enum Place {
    /// In the worker's hands.
    Open,
    /// Asked back, and under way.
    Leaving(Receiver<Vec<SimListener>>),
    /// In the operator's hands.
    Held(SimListener),
    /// Closed for good.
    Closed,
}

impl Operator {
    pub(crate) fn new(
        dice: Dice,
        zeal: u64,
        config: Config,
        published: Arc<Published>,
        crew: Arc<Crew<SimStream>>,
        commands: Sender<Command<SimListener>>,
    ) -> Self {
        let places = config.listeners.iter().map(|_| Place::Open).collect();
        Self { dice, zeal, config, published, crew, commands, places, listing: None, known: Vec::new() }
    }

    /// Whether the worker has the sockets of a listener.
    pub(crate) fn is_open(&self, listener: usize) -> bool {
        matches!(self.places[listener], Place::Open)
    }

    /// Takes what was answered, and asks for something else if it feels like it.
    pub(crate) fn act(&mut self, net: &SimNet, now: Tick) {
        self.hear();
        if self.crew.is_draining() {
            self.give_all_back();
        }
        if !self.dice.chance(self.zeal) {
            return;
        }
        let listener = self.dice.between(0, self.places.len() as u64 - 1) as usize;
        match self.dice.between(0, 15) {
            0..4 => self.list(),
            4..7 => self.end(net),
            7..12 => self.move_listener(listener),
            12 if self.dice.chance(200) => self.close(listener),
            _ => self.reload(net, now),
        }
        self.crew.attend_to(0);
        net.with(tidegate::engine::sim::World::wake);
    }

    fn hear(&mut self) {
        if let Some(listing) = self.listing.as_mut().and_then(|answer| answer.try_recv().ok()) {
            self.known = listing.rows;
            self.listing = None;
        }
        for place in &mut self.places {
            if let Place::Leaving(answer) = place
                && let Ok(mut sockets) = answer.try_recv()
            {
                *place = sockets.pop().map_or(Place::Closed, Place::Held);
            }
        }
    }

    /// Who waits at a socket that is in nobody's hands at the end has a right to be served.
    fn give_all_back(&mut self) {
        for listener in 0..self.places.len() {
            if matches!(self.places[listener], Place::Held(_)) {
                self.move_listener(listener);
                self.crew.attend_to(0);
            }
        }
    }

    fn tell<T>(&self, make: impl FnOnce(Reply<T>) -> Command<SimListener>) -> Receiver<T> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(make(reply));
        answer
    }

    fn list(&mut self) {
        let from = self.dice.between(0, 40) as u32;
        let ask = self.dice.pick(&[Ask::Nothing, Ask::Paths, Ask::Sample]);
        self.listing = Some(self.tell(|reply| Command::List { from, ask, reply }));
    }

    /// Some of those that were listed last, of which some are gone by now.
    fn end(&mut self, net: &SimNet) {
        let Self { dice, known, .. } = self;
        let meant: Vec<&Row> = known.iter().filter(|_| dice.chance(200)).collect();
        let client = |row: &Row| usize::from(row.client.expect("it has an address").port());
        net.with(|world| meant.iter().for_each(|row| world.ask_to_end(client(row))));
        let keys = meant.iter().map(|row| row.key).collect();
        let of = meant.first().and_then(|row| row.server).filter(|_| dice.chance(300));
        let cause = dice.pick(&[Cause::Killed, Cause::ServerRemoved, Cause::Rebalanced]);
        let gently = dice.chance(500);
        let _ = self.commands.send(Command::End { keys, of, cause, gently });
    }

    /// Takes its socket, or gives it back.
    fn move_listener(&mut self, listener: usize) {
        let id = ListenerId(u16::try_from(listener).expect("one or two"));
        let next = match std::mem::replace(&mut self.places[listener], Place::Closed) {
            Place::Open => Place::Leaving(self.tell(|reply| Command::Unlisten {
                id,
                which: Box::new(|_, _| true),
                reply,
            })),
            Place::Held(socket) => {
                drop(self.tell(|reply| Command::Listen { id, socket, reply }));
                Place::Open
            }
            other => other,
        };
        self.places[listener] = next;
    }

    fn close(&mut self, listener: usize) {
        if self.is_open(listener) {
            let id = ListenerId(u16::try_from(listener).expect("one or two"));
            drop(self.tell(|reply| Command::Close { which: Box::new(move |one, _| one == id), reply }));
            self.places[listener] = Place::Closed;
        }
    }

    /// Publishes other limits.
    fn reload(&mut self, net: &SimNet, now: Tick) {
        let Self { dice, config, .. } = self;
        let mut limit = |least, most| (!dice.chance(200)).then(|| dice.between(least, most) * MS);
        let (idle, half_close) = (limit(1_000, 4_000), limit(500, 3_000));
        let (connect, connect_total) = (limit(100, 500), limit(300, 2_000).or(Some(2_000 * MS)));
        let wait = |limit: Option<u64>| limit.map(Duration::from_micros);
        let timeouts = &mut config.timeouts;
        (timeouts.idle, timeouts.half_close) = (wait(idle), wait(half_close));
        (timeouts.connect, timeouts.connect_total) = (wait(connect), wait(connect_total));
        config.retry.tries = dice.between(1, 4) as u8;
        let maxconn = dice.between(2, 24) as u32;
        let half_close = half_close.or(idle);
        let limits = Limits { idle, half_close, connect, connect_total, maxconn };
        net.with(|world| world.change_limits(limits));
        let next =
            self.published.current().next(&self.config, maxconn, &Overrides::new(), &Conditions::new(), now);
        self.published.publish(Arc::new(next.expect("everything has its id already")));
    }
}
