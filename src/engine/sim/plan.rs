//! What a seed decides: the weather of a run, drawn once, and the dice for everything after that.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::config::head_share;
use crate::proxy_header::Version;

/// Virtual time, in microseconds since the beginning of a run.
pub type Us = u64;

/// One millisecond.
pub const MS: Us = 1_000;

/// Numbers that follow from a seed, the same on every machine.
#[derive(Debug)]
pub struct Dice(Xoshiro256PlusPlus);

impl Dice {
    /// Dice of their own for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// A number from `least` to `most`.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        debug_assert!(least <= most);
        least + self.0.next_u64() % (most - least + 1)
    }

    /// `true` that many times out of a thousand.
    pub fn chance(&mut self, permille: u64) -> bool {
        permille > 0 && self.between(0, 999) < permille
    }

    /// One of them.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.between(0, from.len() as u64 - 1) as usize]
    }

    /// A size up to `most`: as often tiny as large.
    pub fn size(&mut self, most: u64) -> u64 {
        let bits = self.between(0, u64::from(64 - most.leading_zeros()));
        self.between(0, most.min((1 << bits) - 1))
    }

    /// In any order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.between(0, last as u64) as usize);
        }
    }
}

/// How a simulated server answers a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It accepts.
    Accepts,
    /// It refuses.
    Refuses,
    /// It never answers.
    Silent,
    /// Each time anything of this, and slowly.
    Moody,
}

/// How the servers of a run answer, one as often as another.
const MANNERS: [Manner; 6] =
    [Manner::Accepts, Manner::Accepts, Manner::Accepts, Manner::Refuses, Manner::Silent, Manner::Moody];

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A drain after all peers are gone; by then nothing may be left.
    Quiet,
    /// A drain in the middle, then.
    Drain(Us),
    /// A drain then, and a second signal so much later.
    Stop(Us, Us),
}

/// The weather of a run. Chances are in permille.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Clients.
    pub clients: usize,
    /// The time in which they come.
    pub spread: Us,
    /// Listeners, 1 or 2.
    pub listeners: usize,
    /// Servers.
    pub servers: Vec<Manner>,
    /// The worker's read size.
    pub buffer_size: usize,
    /// The worker's buffers, in bytes.
    pub budget: usize,
    /// The worker's pipes; with none it does not splice.
    pub pipes: usize,
    /// Slots of a pipe.
    pub pipe_slots: usize,
    /// The most bytes in one of them.
    pub segment: u64,
    /// A socket cannot be spliced from.
    pub refused_splice: u64,
    /// Connections of the process.
    pub maxconn: u32,
    /// Connections of the first listener.
    pub listener_maxconn: Option<u32>,
    /// Clients over a limit are reset; else they wait.
    pub rejects: bool,
    /// Sockets that the program may have.
    pub descriptors: usize,
    /// Limits of a session's life, as the configuration has them.
    pub idle: Option<Us>,
    /// See [`Plan::idle`].
    pub half_close: Option<Us>,
    /// See [`Plan::idle`].
    pub connect: Option<Us>,
    /// See [`Plan::idle`].
    pub connect_total: Option<Us>,
    /// How often a server is tried.
    pub tries: u8,
    /// The wait before the same one again.
    pub retry_delay: Us,
    /// How long a drain may last.
    pub hard_stop: Option<Us>,
    /// When and how it ends.
    pub ending: Ending,
    /// A short read proves that nothing is left, as with epoll.
    pub short_read_is_drained: bool,
    /// A report tells all that is the case, as with epoll; else only what has changed.
    pub reports_all: bool,
    /// The most that a segment travels.
    pub latency: Us,
    /// The most that a peer sends.
    pub volume: u64,
    /// The most that a socket's buffers hold.
    pub window: u64,
    /// The longest that a peer waits for anything before it gives up.
    pub patience: Us,
    /// A report comes late.
    pub delayed: u64,
    /// The reports of a turn come in another order.
    pub shuffled: u64,
    /// A report comes twice.
    pub doubled: u64,
    /// A report comes as one for reading and one for writing.
    pub split: u64,
    /// Reports that nothing is behind, or that are for sockets that are gone, come with others.
    pub spurious: u64,
    /// All reports of a turn are lost, which the selector tells.
    pub lost: u64,
    /// A read gives less than there is.
    pub short_read: u64,
    /// A write takes less than it could.
    pub short_write: u64,
    /// Descriptors or memory are short for a while.
    pub shortage: u64,
    /// A client in the backlog is gone when it is accepted.
    pub aborted: u64,
    /// A peer marks an urgent byte.
    pub urgent: u64,
    /// A peer does not end well: it resets, closes too early or vanishes.
    pub rude: u64,
    /// Peers pause.
    pub pauses: u64,
    /// Connections of each server.
    pub server_maxconn: Option<u32>,
    /// Clients that may wait for a server.
    pub queue_max: u32,
    /// For how long.
    pub queue: Option<Us>,
    /// What is said in front of bytes.
    pub heads: Heads,
    /// Bytes a second that a connection may take from its client, and from its server.
    pub rates: [Option<u64>; 2],
    /// A peer sees an end where the other one has failed, and no reset.
    pub hides_failures: bool,
}

/// Headers of the PROXY protocol, and hellos.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heads {
    /// What a client says first must come within so much time.
    pub preread: Us,
    /// Clients have a header in front.
    pub proxied: bool,
    /// Servers are told who a client is.
    pub greets: Option<Version>,
    /// Clients begin with a hello, by which a route takes them, or none.
    pub hellos: Option<Hellos>,
}

/// How hellos are read.
#[derive(Clone, Copy, Debug)]
pub struct Hellos {
    /// Bytes of one, at most.
    pub most: u32,
    /// Clients may ask for TLS before it, as those of PostgreSQL do.
    pub starttls: bool,
}

impl Plan {
    /// The limit once one side has ended: without one of its own it is that of idleness.
    pub(super) fn half_close(&self) -> Option<Us> {
        self.half_close.or(self.idle)
    }

    /// The weather of a seed.
    #[must_use]
    pub fn draw(dice: &mut Dice) -> Self {
        let often = |dice: &mut Dice| dice.pick(&[0, 0, 20, 100, 400]);
        let maybe = |dice: &mut Dice, least: Us, most: Us| {
            if dice.chance(250) { None } else { Some(dice.between(least / MS, most / MS) * MS) }
        };
        let clients = dice.between(20, 60) as usize;
        let mut servers = vec![Manner::Accepts];
        servers.extend((0..dice.between(0, 3)).map(|_| dice.pick(&MANNERS)));
        let maxconn = if dice.chance(500) { 1_000 } else { dice.between(2, 24) as u32 };
        let is_tight = dice.chance(300);
        let first_end = dice.between(100, 3_000) * MS;
        Self {
            clients,
            spread: dice.pick(&[0, 50, 1_000, 4_000]) * MS,
            listeners: dice.between(1, 2) as usize,
            servers,
            buffer_size: dice.pick(&[16, 16, 64, 256, 1_024, 4_096]),
            budget: 4_096 * dice.pick(&[1, 1, 1, 2, 3, 8, 1_000]),
            pipes: dice.pick(&[0, 1, 3, 64]),
            pipe_slots: dice.pick(&[1, 2, 16]),
            segment: dice.pick(&[1, 50, 1_000, 70_000]),
            refused_splice: dice.pick(&[0, 0, 0, 20, 400]),
            maxconn,
            listener_maxconn: dice.chance(300).then(|| dice.between(1, 10) as u32),
            rejects: dice.chance(500),
            descriptors: if is_tight { dice.between(8, 40) as usize } else { 10_000 },
            idle: maybe(dice, 1_000 * MS, 4_000 * MS),
            half_close: maybe(dice, 500 * MS, 3_000 * MS),
            connect: maybe(dice, 100 * MS, 500 * MS),
            // Without it, clients that got all descriptors would wait for each other's for ever; the process
            // does not start with less than two for each client.
            connect_total: maybe(dice, 300 * MS, 2_000 * MS).or_else(|| is_tight.then_some(2_000 * MS)),
            tries: dice.between(1, 4) as u8,
            retry_delay: dice.between(1, 100) * MS,
            hard_stop: maybe(dice, 100 * MS, 2_000 * MS),
            ending: match dice.between(0, 4) {
                0..=2 => Ending::Quiet,
                3 => Ending::Drain(first_end),
                _ => Ending::Stop(first_end, dice.between(0, 500) * MS),
            },
            short_read_is_drained: dice.chance(500),
            reports_all: dice.chance(700),
            latency: dice.pick(&[0, 100, 5 * MS, 40 * MS]),
            volume: dice.pick(&[100, 3_000, 20_000, 100_000]),
            window: dice.pick(&[64, 1_000, 10_000, 70_000]),
            patience: dice.between(4_000, 12_000) * MS,
            delayed: often(dice),
            shuffled: often(dice),
            doubled: often(dice),
            split: often(dice),
            spurious: often(dice),
            lost: 0,
            short_read: often(dice),
            short_write: often(dice),
            shortage: dice.pick(&[0, 0, 10, 50]),
            aborted: dice.pick(&[0, 0, 20, 100]),
            urgent: dice.pick(&[0, 0, 100, 500]),
            rude: dice.pick(&[0, 100, 300, 700]),
            pauses: dice.pick(&[0, 50, 300]),
            server_maxconn: None,
            queue_max: 0,
            queue: None,
            heads: Heads::default(),
            rates: [None; 2],
            hides_failures: false,
        }
    }

    /// Headers and hellos in front of bytes, in some runs.
    pub fn put_in_front(&mut self, dice: &mut Dice) {
        self.heads.proxied = dice.chance(250);
        self.heads.preread = dice.between(300, 3_000) * MS;
        self.heads.greets = dice.chance(250).then(|| dice.pick(&Version::BOTH));
        let hellos = |dice: &mut Dice| Hellos {
            most: dice.pick(&[1 << 10, 4 << 10, 16 << 10]),
            starttls: dice.chance(700),
        };
        self.heads.hellos = dice.chance(300).then(|| hellos(dice));
        if let Some(hellos) = self.heads.hellos {
            self.budget = self.budget.max(head_share(hellos.most) as usize);
        }
    }

    /// Servers with a limit, in some runs.
    pub fn limit_servers(&mut self, dice: &mut Dice) {
        self.server_maxconn = dice.chance(250).then(|| dice.between(1, 6) as u32);
        self.queue_max = dice.pick(&[0, 2, 1_000, 1_000]);
        self.queue = dice.chance(750).then(|| dice.between(100, 3_000) * MS);
    }

    /// Failures of which the other peer is not to learn, in some runs.
    pub fn hide_failures(&mut self, dice: &mut Dice) {
        self.hides_failures = dice.chance(150);
    }

    /// Connections whose bandwidth is limited, in some runs.
    pub fn limit_bandwidth(&mut self, dice: &mut Dice) {
        // At the least of them the most that a peer sends takes two seconds.
        self.rates = [(); 2].map(|()| dice.chance(150).then(|| dice.pick(&[50_000, 1_000_000])));
    }
}
