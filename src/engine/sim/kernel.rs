//! Virtual time, the network and what happens in it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;

use super::heads::Lead;
use super::law::{Laws, Limits, SETTLED};
use super::pipe::PipeState;
use super::plan::{Dice, Ending, MS, Manner, Plan, Us};
use super::script::Script;
use super::trace::Trace;
use crate::engine::{Trigger, Want};
use crate::relay::Fault;

/// The program's end of a connection.
pub(super) const OURS: usize = 0;
/// The script's end.
pub(super) const PEER: usize = 1;

/// More calls than any turn needs.
const CALLS_MAX: u32 = 200_000;

/// What a selector may tell of a socket.
pub(super) mod bits {
    pub(crate) const READ: u8 = 1;
    pub(crate) const WRITE: u8 = 2;
    /// The peer's FIN: RDHUP.
    pub(crate) const FIN: u8 = 4;
    pub(crate) const HUP: u8 = 8;
    pub(crate) const ERROR: u8 = 16;
    pub(crate) const URGENT: u8 = 32;
    pub(crate) const ALL: u8 = READ | WRITE | FIN | HUP | ERROR;
}

/// What the process is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The first signal: no new clients.
    Drain,
    /// The second: everything ends.
    Stop,
}

/// What a run was.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Clients that reached a listener.
    pub clients: u64,
    /// Connections to servers that were made.
    pub relayed: u64,
    /// Bytes that scripts got.
    pub bytes: u64,
    /// The same for the same history.
    pub hash: u64,
    /// Virtual time, in microseconds.
    pub time: Us,
}

/// One side of a connection, in the kernel.
#[derive(Debug)]
pub(super) struct End {
    /// Bytes that its owner gave.
    pub(super) accepted: u64,
    /// Of which were put on the wire.
    pub(super) wired: u64,
    /// Of which are known to have arrived.
    pub(super) acked: u64,
    /// Its owner finished.
    pub(super) fin: bool,
    pub(super) fin_wired: bool,
    pub(super) fin_acked: bool,
    /// Bytes that came from the other side.
    pub(super) arrived: u64,
    /// Of which its owner has read.
    pub(super) read: u64,
    pub(super) fin_arrived: bool,
    /// It failed, and its owner was not told yet.
    pub(super) error: Option<Fault>,
    /// No connection any more: it was reset, or the peer is unreachable.
    pub(super) dead: bool,
    /// Its owner closed it; the kernel still delivers.
    pub(super) closed: bool,
    /// The last of what is on its way to it arrives then.
    pub(super) last_arrival: Us,
    pub(super) send_room: u64,
    pub(super) receive_room: u64,
}

impl End {
    fn new(send_room: u64, receive_room: u64) -> Self {
        Self {
            accepted: 0,
            wired: 0,
            acked: 0,
            fin: false,
            fin_wired: false,
            fin_acked: false,
            arrived: 0,
            read: 0,
            fin_arrived: false,
            error: None,
            dead: false,
            closed: false,
            last_arrival: 0,
            send_room,
            receive_room,
        }
    }

    pub(super) fn unread(&self) -> u64 {
        self.arrived - self.read
    }

    pub(super) fn free(&self) -> u64 {
        self.send_room - (self.accepted - self.acked)
    }
}

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

/// A TCP connection between the program and a script.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) role: Role,
    pub(super) ends: [End; 2],
    pub(super) script: Script,
    pub(super) lead: Lead,
    latency: Us,
    pub(super) established: bool,
    /// The program has a descriptor for it.
    pub(super) owned: bool,
    /// Operations of a ring that are under way for it.
    pub(super) flying: u32,
    /// How the program watches it.
    pub(super) token: Option<usize>,
    /// What a selector that has to be asked was asked to tell.
    pub(super) asked: Option<u8>,
    /// What a selector has to tell.
    pub(super) changed: u8,
    /// On the list of those of which a selector has to tell.
    listed: bool,
    /// The program was refused room to send, and is told when there is some.
    pub(super) no_space: bool,
    pub(super) linger: bool,
    /// Urgent bytes among those that the peer sends.
    pub(super) urgent: Vec<u64>,
    pub(super) laws: super::law::Seen,
}

/// A listening socket.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pub(super) queue: VecDeque<usize>,
    pub(super) open: bool,
    token: Option<usize>,
    /// A selector that has to be asked was asked to tell.
    asked: bool,
    changed: bool,
    /// Reports on their way.
    late: usize,
    /// When the program could have accepted and has not tried yet.
    pub(super) ignored_since: Option<Us>,
    pub(super) shortage: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    ClientComes(usize),
    Connects(usize),
    Refuses(usize),
    Arrives { conn: usize, to: usize, upto: u64, fin: bool },
    Acked { conn: usize, to: usize, upto: u64, fin: bool },
    Reset { conn: usize, to: usize },
    Vanishes(usize),
    Acts(usize),
    Reports(usize),
    ReportsListener(usize),
    Noise,
    Drains,
    Stops,
}

/// A world: a network, its peers, and the kernel below the program.
pub struct World {
    pub(super) plan: Plan,
    pub(super) dice: Dice,
    pub(super) now: Us,
    heap: BinaryHeap<Reverse<(Us, u64, Happening)>>,
    sequence: u64,
    pub(super) conns: Vec<Conn>,
    pub(super) backlogs: Vec<Backlog>,
    pub(super) pipes: Vec<PipeState>,
    servers: HashMap<SocketAddr, Manner>,
    signals: Box<dyn Fn(Signal)>,
    pub(super) trace: Trace,
    pub(super) laws: Laws,
    /// The limits that held in this run, each at its tightest and at its loosest.
    pub(super) tightest: Limits,
    pub(super) loosest: Limits,
    /// The selector's.
    pub(super) trigger: Trigger,
    /// Sockets of which a selector has to tell, in order.
    pub(super) listed: Vec<usize>,
    /// Reports that are on their way.
    pub(super) late: usize,
    /// Calls in this turn.
    pub(super) calls: u32,
    pub(super) woken: bool,
    /// Tokens of sockets that are gone.
    pub(super) stale: Vec<usize>,
    pub(super) descriptors: usize,
    /// Descriptors or memory are short until then.
    pub(super) short_until: Us,
    scripts_alive: usize,
    clients_to_come: usize,
    pub(super) summary: Summary,
}

impl World {
    /// A world in which the program's servers have these addresses. `signals` is called when the process
    /// is signalled; `readable`: its trace is kept in words.
    #[must_use]
    pub fn new(
        plan: Plan,
        dice: Dice,
        servers: &[SocketAddr],
        signals: impl Fn(Signal) + 'static,
        readable: bool,
    ) -> Self {
        let mut world = Self {
            backlogs: (0..plan.listeners).map(|_| Backlog { open: true, ..Backlog::default() }).collect(),
            servers: servers.iter().copied().zip(plan.servers.iter().copied()).collect(),
            clients_to_come: plan.clients,
            tightest: Limits::of(&plan),
            loosest: Limits::of(&plan),
            plan,
            dice,
            now: 0,
            heap: BinaryHeap::new(),
            sequence: 0,
            conns: Vec::new(),
            pipes: Vec::new(),
            signals: Box::new(signals),
            trace: Trace::new(readable),
            laws: Laws::default(),
            trigger: Trigger::Edge,
            listed: Vec::new(),
            late: 0,
            calls: 0,
            woken: false,
            stale: Vec::new(),
            descriptors: 0,
            short_until: 0,
            scripts_alive: 0,
            summary: Summary::default(),
        };
        for _ in 0..world.plan.clients {
            let at = world.dice.between(0, world.plan.spread);
            let conn = world.connection(Role::Client);
            world.at(at, Happening::ClientComes(conn));
        }
        for _ in 0..30 {
            let at = world.dice.between(0, world.plan.spread + 1_000 * MS);
            world.at(at, Happening::Noise);
        }
        match world.plan.ending {
            Ending::Quiet => {}
            Ending::Drain(at) => world.at(at, Happening::Drains),
            Ending::Stop(at, more) => {
                world.at(at, Happening::Drains);
                world.at(at + more, Happening::Stops);
            }
        }
        world
    }

    /// The time, in microseconds.
    #[must_use]
    pub fn now(&self) -> Us {
        self.now
    }

    /// The first law that was broken.
    #[must_use]
    pub fn violation(&self) -> Option<&str> {
        self.laws.violation.as_deref()
    }

    /// What was.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary { hash: self.trace.hash(), time: self.now, ..self.summary.clone() }
    }

    /// The trace in words, if they were kept.
    #[must_use]
    pub fn words(&self) -> &[String] {
        self.trace.words()
    }

    pub(super) fn connection(&mut self, role: Role) -> usize {
        let window = self.plan.window;
        let room = |dice: &mut Dice| 16 + dice.size(window);
        let ours = End::new(room(&mut self.dice), room(&mut self.dice));
        let peer = End::new(room(&mut self.dice), room(&mut self.dice));
        let latency = self.dice.between(0, self.plan.latency);
        let script = Script::draw(&self.plan, &mut self.dice, role);
        let lead = self.draw_lead(role, self.conns.len());
        let script = self.open(script, &lead);
        let mut urgent = Vec::new();
        if self.dice.chance(self.plan.urgent) && script.total > 0 {
            urgent.extend((0..6).map(|_| self.dice.between(0, script.total - 1)));
        }
        self.conns.push(Conn {
            role,
            ends: [ours, peer],
            script,
            lead,
            latency,
            established: false,
            owned: false,
            flying: 0,
            token: None,
            asked: None,
            changed: 0,
            listed: false,
            no_space: false,
            linger: false,
            urgent,
            laws: super::law::Seen::default(),
        });
        self.conns.len() - 1
    }

    fn at(&mut self, at: Us, happening: Happening) {
        self.sequence += 1;
        self.heap.push(Reverse((at.max(self.now), self.sequence, happening)));
    }

    pub(super) fn note(&mut self, whom: usize, what: &'static str, number: u64) {
        if !self.laws.over && self.laws.violation.is_none() {
            self.trace.note(self.now, whom, what, number);
        }
    }

    /// A call takes time, and the network does not stand still.
    ///
    /// # Panics
    /// When the program calls without end: nothing else would stop it.
    pub(super) fn pass_time(&mut self) {
        self.calls += 1;
        assert!(self.calls < CALLS_MAX, "there is no end to this turn");
        self.now += if self.dice.chance(20) { self.dice.between(1, 300) } else { 1 };
        self.happen_until_now();
    }

    pub(super) fn happen_until_now(&mut self) {
        while let Some(Reverse((at, _, happening))) = self.heap.peek().copied()
            && at <= self.now
        {
            self.heap.pop();
            self.happen(happening);
        }
    }

    /// When something happens next.
    pub(super) fn next(&self) -> Option<Us> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Whether the process was signalled since the last time.
    pub(super) fn take_wake(&mut self) -> bool {
        std::mem::take(&mut self.woken)
    }

    pub(super) fn is_woken(&self) -> bool {
        self.woken
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::ClientComes(conn) => self.client_comes(conn),
            Happening::Connects(conn) => self.connects(conn),
            Happening::Refuses(conn) => self.fail(conn, OURS, Fault::Refused),
            Happening::Arrives { conn, to, upto, fin } => self.arrives(conn, to, upto, fin),
            Happening::Acked { conn, to, upto, fin } => self.acked(conn, to, upto, fin),
            Happening::Reset { conn, to } => self.reset_arrives(conn, to),
            Happening::Vanishes(conn) => self.fail(conn, OURS, Fault::TimedOut),
            Happening::Acts(conn) => self.act(conn),
            Happening::Reports(conn) => {
                self.late -= 1;
                self.listed.push(conn);
            }
            Happening::ReportsListener(listener) => {
                self.late -= 1;
                self.backlogs[listener].late -= 1;
                self.backlogs[listener].changed = true;
            }
            Happening::Noise => {
                let any = self.dice.between(0, self.conns.len() as u64 - 1) as usize;
                let bits = self.dice.pick(&[bits::READ, bits::WRITE, bits::ALL]);
                self.report(any, bits);
            }
            Happening::Drains => {
                if self.plan.ending == Ending::Quiet {
                    if self.scripts_alive > 0
                        || self.laws.all_gone_at.is_some_and(|at| self.now < at + SETTLED)
                    {
                        return;
                    }
                    self.law_quiet();
                }
                self.note(0, "signal", 1);
                self.laws.drained_at.get_or_insert(self.now);
                (self.signals)(Signal::Drain);
                self.woken = true;
            }
            Happening::Stops => {
                self.note(0, "signal", 2);
                self.laws.stopped = true;
                (self.signals)(Signal::Stop);
                self.woken = true;
            }
        }
    }

    fn client_comes(&mut self, conn: usize) {
        let listener = conn % self.backlogs.len();
        self.clients_to_come -= 1;
        if !self.backlogs[listener].open {
            self.note(conn, "client finds no listener", listener as u64);
            self.quiet_at_last();
            return;
        }
        self.note(conn, "client comes", listener as u64);
        self.summary.clients += 1;
        self.establish(conn);
        self.backlogs[listener].queue.push_back(conn);
        if self.trigger != Trigger::Edge {
            return;
        }
        if self.dice.chance(self.plan.delayed) {
            self.late += 1;
            self.backlogs[listener].late += 1;
            let at = self.now + self.dice.between(0, 5 * MS);
            self.at(at, Happening::ReportsListener(listener));
        } else {
            self.backlogs[listener].changed = true;
        }
    }

    fn establish(&mut self, conn: usize) {
        self.conns[conn].established = true;
        self.conns[conn].script.patience += self.now;
        let patience = self.conns[conn].script.patience;
        self.scripts_alive += 1;
        self.at(self.now, Happening::Acts(conn));
        if let Some(at) = self.conns[conn].script.alarm() {
            self.at(at, Happening::Acts(conn));
        }
        self.at(patience, Happening::Acts(conn));
    }

    /// A script is over; after the last one the run ends.
    pub(super) fn script_ended(&mut self) {
        self.scripts_alive -= 1;
        self.quiet_at_last();
    }

    fn quiet_at_last(&mut self) {
        if self.scripts_alive == 0 && self.clients_to_come == 0 && self.plan.ending == Ending::Quiet {
            self.laws.all_gone_at = Some(self.now);
            self.at(self.now + SETTLED, Happening::Drains);
        }
    }

    /// The program begins to connect.
    pub(super) fn dial_to(&mut self, to: SocketAddr) -> Result<(usize, bool), Fault> {
        let manner = match self.servers[&to] {
            Manner::Moody => {
                self.dice.pick(&[Manner::Accepts, Manner::Accepts, Manner::Refuses, Manner::Silent])
            }
            manner => manner,
        };
        if manner == Manner::Refuses && self.dice.chance(300) {
            let fault = self.dice.pick(&[Fault::Refused, Fault::Unreachable, Fault::NoPorts]);
            if fault == Fault::NoPorts {
                self.laws.no_ports_at = Some(self.now);
            }
            return Err(fault);
        }
        let conn = self.connection(Role::Server);
        let slow = if self.dice.chance(100) { self.dice.between(0, 300 * MS) } else { 0 };
        let at = self.now + 2 * self.conns[conn].latency + slow;
        match manner {
            Manner::Accepts if at == self.now && self.dice.chance(500) => {
                self.connects(conn);
                return Ok((conn, true));
            }
            Manner::Accepts | Manner::Moody => self.at(at, Happening::Connects(conn)),
            Manner::Refuses => self.at(at, Happening::Refuses(conn)),
            Manner::Silent => self.at(self.now + 5_000 * MS, Happening::Vanishes(conn)),
        }
        Ok((conn, false))
    }

    fn connects(&mut self, conn: usize) {
        if self.conns[conn].ends[OURS].closed {
            return;
        }
        self.note(conn, "connected", 0);
        self.establish(conn);
        self.report(conn, bits::WRITE);
    }

    /// An end fails; nothing more comes or goes.
    pub(super) fn fail(&mut self, conn: usize, to: usize, fault: Fault) {
        let end = &mut self.conns[conn].ends[to];
        if end.dead {
            return;
        }
        end.dead = true;
        end.error = Some(fault);
        self.note(conn, if to == OURS { "fails" } else { "fails the peer" }, 0);
        if to == OURS {
            self.report(conn, bits::ALL);
        } else {
            self.at(self.now, Happening::Acts(conn));
        }
    }

    fn reset_arrives(&mut self, conn: usize, to: usize) {
        let end = &self.conns[conn].ends[to];
        // In TIME_WAIT nothing is left that could be reset.
        if end.fin_acked && end.fin_arrived {
            return;
        }
        // In CLOSE_WAIT the error is EPIPE: what the peer had to say was whole.
        let fault = if end.fin_arrived && !end.fin { Fault::Closed } else { Fault::Reset };
        self.fail(conn, to, fault);
    }

    /// Sends RST behind what is on its way already; what waits for room is destroyed.
    pub(super) fn send_reset(&mut self, conn: usize, from: usize) {
        let to = 1 - from;
        self.conns[conn].ends[from].dead = true;
        let at = self.arrival(conn, to);
        self.at(at, Happening::Reset { conn, to });
    }

    /// The program will be told that the peer cannot be reached any more.
    pub(super) fn vanish(&mut self, conn: usize, after: Us) {
        self.conns[conn].ends[PEER].dead = true;
        self.at(self.now + after, Happening::Vanishes(conn));
    }

    pub(super) fn act_at(&mut self, conn: usize, at: Us) {
        self.at(at, Happening::Acts(conn));
    }

    /// When what is sent now arrives: never before what was sent earlier.
    fn arrival(&mut self, conn: usize, to: usize) -> Us {
        let latency = self.conns[conn].latency;
        let jitter = self.dice.between(0, latency / 4);
        let end = &mut self.conns[conn].ends[to];
        end.last_arrival = end.last_arrival.max(self.now + latency + jitter);
        end.last_arrival
    }

    /// Puts on the wire what the window allows, in segments of any size, the FIN with the last or alone.
    pub(super) fn transmit(&mut self, conn: usize, from: usize) {
        let to = 1 - from;
        loop {
            let Conn { ends, established, .. } = &self.conns[conn];
            let (sender, receiver) = (&ends[from], &ends[to]);
            if sender.dead || !established || sender.fin_wired {
                return;
            }
            let window = receiver.read + receiver.receive_room;
            let ready = sender.accepted.min(window) - sender.wired;
            let fin_due = sender.fin && sender.wired + ready == sender.accepted;
            if ready == 0 && !fin_due {
                return;
            }
            let upto = sender.wired
                + if ready > 1 && self.dice.chance(200) { self.dice.between(1, ready) } else { ready };
            let whole = fin_due && upto == self.conns[conn].ends[from].accepted;
            let fin = whole && (ready == 0 || self.dice.chance(500));
            let sender = &mut self.conns[conn].ends[from];
            (sender.wired, sender.fin_wired) = (upto, fin);
            let at = self.arrival(conn, to);
            self.at(at, Happening::Arrives { conn, to, upto, fin });
        }
    }

    fn arrives(&mut self, conn: usize, to: usize, upto: u64, fin: bool) {
        let end = &mut self.conns[conn].ends[to];
        if end.dead {
            return;
        }
        if end.closed && upto > end.arrived {
            // Nobody will read that.
            self.send_reset(conn, to);
            return;
        }
        let was_empty = end.unread() == 0;
        end.arrived = upto;
        end.fin_arrived |= fin;
        if to == OURS && was_empty {
            self.conns[conn].laws.fresh_at = self.now;
        }
        let at = self.arrival(conn, 1 - to);
        self.at(at, Happening::Acked { conn, to: 1 - to, upto, fin });
        if to == OURS {
            let more = if fin { bits::FIN } else { 0 };
            let urgent = self.conns[conn].urgent_waits();
            self.report(conn, bits::READ | more | if urgent { bits::URGENT } else { 0 });
        } else {
            self.at(self.now, Happening::Acts(conn));
        }
    }

    fn acked(&mut self, conn: usize, to: usize, upto: u64, fin: bool) {
        let end = &mut self.conns[conn].ends[to];
        if end.dead {
            return;
        }
        end.acked = end.acked.max(upto);
        end.fin_acked |= fin;
        let has_space = end.free() * 3 >= end.send_room;
        if to == PEER {
            self.at(self.now, Happening::Acts(conn));
        } else if self.conns[conn].no_space && has_space {
            self.conns[conn].no_space = false;
            self.report(conn, bits::WRITE);
        }
    }

    /// An edge: a selector will tell, sooner or later.
    pub(super) fn report(&mut self, conn: usize, bits: u8) {
        let it = &mut self.conns[conn];
        if it.token.is_none() || self.trigger != Trigger::Edge {
            return;
        }
        it.changed |= bits;
        if std::mem::replace(&mut it.listed, true) {
            return;
        }
        if self.dice.chance(self.plan.delayed) {
            self.late += 1;
            let at = self.now + self.dice.between(0, 5 * MS);
            self.at(at, Happening::Reports(conn));
        } else {
            self.listed.push(conn);
        }
    }

    /// Takes a socket off the list; returns what has changed.
    pub(super) fn unlist(&mut self, conn: usize) -> u8 {
        let it = &mut self.conns[conn];
        it.listed = false;
        std::mem::take(&mut it.changed)
    }

    /// What a selector that has to be asked has to tell of a socket.
    pub(super) fn asked_status(&self, conn: usize) -> u8 {
        let it = &self.conns[conn];
        match (it.token, it.asked) {
            (Some(_), Some(asked)) => it.status() & (asked | bits::HUP | bits::ERROR),
            _ => 0,
        }
    }

    /// Listeners of which a selector has to tell.
    fn told_listeners(&self) -> impl Iterator<Item = usize> {
        let edge = self.trigger == Trigger::Edge;
        let tells = move |backlog: &Backlog| {
            backlog.open && if edge { backlog.changed } else { backlog.asked && !backlog.queue.is_empty() }
        };
        self.backlogs.iter().enumerate().filter(move |(_, backlog)| tells(backlog)).map(|(number, _)| number)
    }

    /// Tokens of those listeners, which are told now.
    pub(super) fn take_listener_reports(&mut self) -> Vec<usize> {
        let numbers: Vec<usize> = self.told_listeners().collect();
        let once = self.trigger == Trigger::OneShot;
        let take = |number: usize| {
            let backlog = &mut self.backlogs[number];
            backlog.changed = false;
            backlog.asked &= !once;
            backlog.token
        };
        numbers.into_iter().filter_map(take).collect()
    }

    pub(super) fn has_listener_reports(&self) -> bool {
        self.told_listeners().next().is_some()
    }

    /// A selector is asked to tell of a socket, or not to.
    pub(super) fn ask(&mut self, conn: usize, want: Option<Want>) {
        self.conns[conn].asked = want.map(asked_bits);
    }

    /// The same for a listener.
    pub(super) fn ask_listener(&mut self, listener: usize, want: Option<Want>) {
        self.backlogs[listener].asked = want.is_some_and(|want| want.read);
    }

    pub(super) fn watch_listener(&mut self, listener: usize, token: usize) {
        let edge = self.trigger == Trigger::Edge;
        let backlog = &mut self.backlogs[listener];
        backlog.token = Some(token);
        // Whoever begins to watch is told of what waits already.
        backlog.changed |= edge && !backlog.queue.is_empty();
    }

    pub(super) fn unwatch_listener(&mut self, listener: usize) {
        let backlog = &mut self.backlogs[listener];
        (backlog.token, backlog.asked, backlog.changed) = (None, false, false);
    }
}

fn asked_bits(want: Want) -> u8 {
    (if want.read { bits::READ } else { 0 }) | if want.write { bits::WRITE } else { 0 }
}

impl Backlog {
    /// Whether the program cannot know yet.
    pub(super) fn reported_late(&self) -> bool {
        self.late > 0 || self.changed
    }
}

impl Conn {
    /// What is the case now, as poll(2) tells.
    pub(super) fn status(&self) -> u8 {
        let end = &self.ends[OURS];
        if end.dead {
            return bits::ALL & !if end.error.is_none() { bits::ERROR } else { 0 };
        }
        if !self.established {
            return 0;
        }
        let mut status = 0;
        if end.unread() > 0 {
            status |= bits::READ;
        }
        if end.fin_arrived {
            status |= bits::READ | bits::FIN | if end.fin { bits::HUP } else { 0 };
        }
        if end.fin || (!self.no_space && end.free() * 3 >= end.send_room) {
            status |= bits::WRITE;
        }
        status | if self.urgent_waits() { bits::URGENT } else { 0 }
    }

    /// An urgent byte came and was not read yet.
    fn urgent_waits(&self) -> bool {
        let end = &self.ends[OURS];
        self.urgent.iter().any(|at| (end.read..end.arrived).contains(at))
    }
}
