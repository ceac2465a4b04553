//! What follows from completions.

use std::collections::VecDeque;
use std::mem;

use super::conn::{Io, Phase, Receive, Watch};
use super::flight::{Chunk, Id, Owner, Part, Payload};
use super::ring::{Answer, Completion, Ring};
use super::{StreamOf, Uring};
use crate::engine::{Event, Slots};
use crate::relay::{Dir, Fault, Input, Op, Outcome, Side};
use crate::sys::Net;
use crate::sys::calls::{self, Call};
use crate::table::Key;

use std::num::NonZeroU32;

impl<R: Ring> Uring<R> {
    /// An answer of the ring.
    pub(super) fn complete(
        &mut self,
        completion: Completion<StreamOf<R>>,
        slots: &mut impl Slots<Io<R::Net>>,
        out: &mut VecDeque<Event<StreamOf<R>>>,
    ) {
        let Err(Completion { id, more, answer }) = self.accepted(completion, out) else { return };
        let Some(flight) = self.works.flights.get_mut(id) else { return };
        let Owner::Connection(key, part) = flight.owner else {
            // An abandoned connect: its socket is closed now.
            self.works.flights.remove(id);
            return;
        };
        let payload = mem::replace(&mut flight.payload, Payload::Nothing);
        if !more {
            self.works.flights.remove(id);
        }
        let Some(io) = slots.io(key) else {
            debug_assert!(false, "a slot was freed with operations under way");
            return;
        };
        io.flying -= u32::from(!more);
        match part {
            Part::Receive(dir) => self.received(key, io, dir, &answer, more),
            Part::Send(dir) => {
                if let Payload::Parcel(parcel) = payload {
                    let lane = &mut io.lanes[dir.index()];
                    lane.send = None;
                    let outcome = match answer {
                        Answer::Done(..) if mutant!(ShortSendBelieved) => {
                            NonZeroU32::new(parcel.chunks.iter().map(Chunk::count).sum()).map(Outcome::Moved)
                        }
                        Answer::Done(count, _) => NonZeroU32::new(count).map(Outcome::Moved),
                        Answer::Failed(fault) => Some(Outcome::Fault(fault)),
                        _ => None,
                    };
                    let taken = if let Some(Outcome::Moved(count)) = outcome { count.get() } else { 0 };
                    if matches!(outcome, Some(Outcome::Fault(_))) || !matches!(io.phase, Phase::Relaying(_)) {
                        self.works.lose(parcel);
                    } else {
                        self.works.sent(lane, parcel, taken);
                    }
                    self.drained(key, io, dir, outcome);
                }
            }
            Part::Watch(side) => {
                let failed = matches!(answer, Answer::Hung(true));
                io.watches[side as usize] = if failed { Watch::Failed } else { Watch::Told };
                self.look_for_failure(key, io, out);
            }
            Part::Patience => {
                io.patience = None;
                match io.phase {
                    Phase::Queued => self.queue(key, io, out),
                    Phase::Heading(_) => self.gather(key, io, out),
                    _ => {}
                }
            }
            Part::Hear => {
                if matches!(io.phase, Phase::Hearing(own) if own == id) {
                    self.hear(key, io, out);
                }
            }
            Part::Connect => self.connected(key, io, &answer, out),
        }
        if !more {
            Self::close(key, io, out);
        }
    }

    /// Takes the answer of an accept, and says how many clients it brought; gives any other back.
    pub(super) fn accepted(
        &mut self,
        completion: Completion<StreamOf<R>>,
        out: &mut VecDeque<Event<StreamOf<R>>>,
    ) -> Result<usize, Completion<StreamOf<R>>> {
        let Some(flight) = self.works.flights.get_mut(completion.id) else { return Err(completion) };
        let Owner::Listener(place) = flight.owner else { return Err(completion) };
        // A place is given up only when no accept is under way for it.
        let Some(listening) = &mut self.listeners[place] else { return Ok(0) };
        if !completion.more {
            self.works.flights.remove(completion.id);
            listening.accept = None;
        }
        match completion.answer {
            Answer::Client(socket, peer) => {
                out.push_back(Event::Accepted { listener: listening.id, socket, peer });
                return Ok(1);
            }
            // accept(2) passes on the network errors of a connection that died in the backlog.
            Answer::Failed(Fault::Reset | Fault::Unreachable | Fault::TimedOut) => {}
            Answer::Failed(fault) => {
                listening.paused = true;
                out.push_back(Event::AcceptFailed { listener: listening.id, fault });
            }
            _ => {}
        }
        Ok(0)
    }

    fn received(
        &mut self,
        key: Key,
        io: &mut Io<R::Net>,
        dir: Dir,
        answer: &Answer<StreamOf<R>>,
        more: bool,
    ) {
        let lane = &mut io.lanes[dir.index()];
        if !more {
            lane.receive = Receive::Off;
        }
        let Phase::Relaying(relay) = &mut io.phase else {
            if let Answer::Done(count, Some(buffer)) = *answer {
                self.works.discard(buffer, count);
                io.late[dir.source() as usize] |= count > 0;
            }
            return;
        };
        match *answer {
            Answer::Done(count, buffer) => match (NonZeroU32::new(count), buffer) {
                (Some(moved), Some(buffer)) => {
                    lane.brought(count, self.works.ring.buffer_size());
                    self.works.append(lane, buffer, count);
                    relay.handle(dir, Op::Fill, Outcome::Moved(moved));
                }
                (_, buffer) => {
                    if let Some(buffer) = buffer {
                        self.works.discard(buffer, 0);
                    }
                    relay.handle(dir, Op::Fill, Outcome::Eof);
                }
            },
            Answer::Failed(fault) => relay.handle(dir, Op::Fill, Outcome::Fault(fault)),
            Answer::NoBuffers => {
                lane.receive = Receive::Starved;
                self.starved.push_back((key, dir));
            }
            Answer::Nothing | Answer::Client(..) | Answer::Hung(_) => {}
        }
        if lane.receive == Receive::Off && !mutant!(EndedReadForgotten) {
            relay.resume(dir, Op::Fill);
        }
        self.soil(key, io);
    }

    /// A send has ended; without an outcome it took nothing.
    fn drained(&mut self, key: Key, io: &mut Io<R::Net>, dir: Dir, outcome: Option<Outcome>) {
        if let Some(Outcome::Moved(count)) = outcome {
            calls::happened(Call::RingSend, -1, count.get().into());
        }
        let Phase::Relaying(relay) = &mut io.phase else { return };
        match outcome {
            Some(outcome) => relay.handle(dir, Op::Drain, outcome),
            None => relay.resume(dir, Op::Drain),
        }
        self.soil(key, io);
    }

    /// Sends that did not answer have sent everything.
    pub(super) fn believe(
        &mut self,
        mut silent: Vec<Id>,
        slots: &mut impl Slots<Io<R::Net>>,
        out: &mut VecDeque<Event<StreamOf<R>>>,
    ) {
        for id in silent.drain(..) {
            let Some(flight) = self.works.flights.remove(id) else { continue };
            let (Owner::Connection(key, Part::Send(dir)), Payload::Parcel(parcel)) =
                (flight.owner, flight.payload)
            else {
                continue;
            };
            let Some(io) = slots.io(key) else { continue };
            io.flying -= 1;
            let lane = &mut io.lanes[dir.index()];
            lane.send = None;
            let count = parcel.chunks.iter().map(Chunk::count).sum();
            self.works.sent(lane, parcel, count);
            self.drained(key, io, dir, NonZeroU32::new(count).map(Outcome::Moved));
            Self::close(key, io, out);
        }
        if self.works.silent.is_empty() {
            self.works.silent = silent;
        }
    }

    /// Whether something is to be done as soon as a silent send is known to have ended.
    pub(super) fn something_follows(&self, slots: &mut impl Slots<Io<R::Net>>) -> bool {
        if mutant!(SleepsOverSilentSend) {
            return false;
        }
        let waits_for_memory = !self.starved.is_empty() || !self.starved_heads.is_empty();
        self.works.silent.iter().any(|id| {
            let Some((key, dir)) = self.works.flights.sender(*id) else { return false };
            let Some(io) = slots.io(key) else { return false };
            let lane = &io.lanes[dir.index()];
            match &io.phase {
                Phase::Relaying(relay) => {
                    !lane.queue.is_empty()
                        || !matches!(lane.receive, Receive::On(_))
                        || relay.flow(dir).input() != Input::Open
                        || relay.broken().is_some()
                }
                _ => true,
            }
        }) || (!self.works.silent.is_empty() && waits_for_memory)
    }

    fn connected(
        &mut self,
        key: Key,
        io: &mut Io<R::Net>,
        answer: &Answer<StreamOf<R>>,
        out: &mut VecDeque<Event<StreamOf<R>>>,
    ) {
        if !matches!(io.phase, Phase::Dialing(_)) {
            return;
        }
        io.phase = Phase::Resting;
        let proven = match (answer, &io.server) {
            (Answer::Failed(fault), _) => Err(*fault),
            (_, Some(server)) => R::Net::dialed(server),
            (_, None) => return,
        };
        // A connect that has ended and has no peer has failed, whatever it says.
        let result = proven.and_then(|connected| if connected { Ok(()) } else { Err(Fault::Reset) });
        if result.is_err() {
            io.server = None;
        }
        out.push_back(Event::Dialed { key, result });
    }

    /// Asks for the error of a socket that is known to have failed. Before there is a server, a client that has
    /// left nothing needs none. Later a read that is under way tells it, behind the last byte; where there is
    /// none, because the target is slow or a FIN came before, the end comes within `half_close`.
    pub(super) fn look_for_failure(
        &mut self,
        key: Key,
        io: &mut Io<R::Net>,
        out: &mut VecDeque<Event<StreamOf<R>>>,
    ) {
        for side in [Side::Client, Side::Server] {
            if io.watches[side as usize] != Watch::Failed {
                continue;
            }
            let is_before = matches!(io.phase, Phase::Dialing(_))
                || (matches!(io.phase, Phase::Resting) && io.server.is_none());
            let failure = match io.phase {
                // Nobody would read the answer to what it has sent.
                Phase::Queued | Phase::Hearing(_) if side == Side::Client => {
                    R::Net::pending_error(&io.client)
                }
                _ if is_before && side == Side::Client && io.head.is_none() => {
                    R::Net::failure_before_relay(&io.client)
                }
                _ => None,
            };
            if failure.is_some() {
                io.watches[side as usize] = Watch::Told;
                self.abandon(io);
                out.push_back(Event::ClientLeft { key });
                continue;
            }
            let reads = matches!(io.lanes[side.outbound().index()].receive, Receive::On(_));
            if reads || !matches!(io.phase, Phase::Relaying(_)) {
                continue;
            }
            io.watches[side as usize] = Watch::Told;
            let fault = io.stream(side).and_then(R::Net::pending_error);
            if let (Some(fault), Phase::Relaying(relay)) = (fault, &mut io.phase)
                && relay.broken().is_none()
            {
                relay.fail(side, fault);
                self.soil(key, io);
            }
        }
    }

    /// Buffers came back: as many of those who wait go on.
    pub(super) fn feed(&mut self, slots: &mut impl Slots<Io<R::Net>>) {
        let mut left = if mutant!(RingNeverFeeds) { 0 } else { self.works.ring.spare() };
        while left > 0
            && let Some((key, dir)) = self.starved.pop_front()
        {
            let Some(io) = slots.io(key) else { continue };
            let lane = &mut io.lanes[dir.index()];
            if let (Receive::Starved, Phase::Relaying(relay)) = (lane.receive, &mut io.phase) {
                left -= 1;
                lane.receive = Receive::Off;
                relay.resume(dir, Op::Fill);
                self.soil(key, io);
            }
        }
    }

    /// Watches sockets that nobody has read for a whole turn: most are gone by then.
    pub(super) fn watch_doubtful(&mut self, slots: &mut impl Slots<Io<R::Net>>) {
        let since_this_turn = mem::take(&mut self.doubtful[0]);
        for key in mem::replace(&mut self.doubtful[1], since_this_turn) {
            let Some(io) = slots.io(key) else { continue };
            io.doubtful = false;
            let sides: &[Side] = match io.phase {
                Phase::Queued | Phase::Dialing(_) | Phase::Hearing(_) => &[Side::Client],
                Phase::Relaying(_) => &[Side::Client, Side::Server],
                Phase::Resting | Phase::Heading(_) | Phase::Closing { .. } => &[],
            };
            for side in sides.iter().filter(|_| !mutant!(StalledNotWatched)) {
                let reads = matches!(io.lanes[side.outbound().index()].receive, Receive::On(_));
                if reads || io.watches[*side as usize] != Watch::No {
                    continue;
                }
                let owner = Owner::Connection(key, Part::Watch(*side));
                let id = self.works.flights.insert(owner, Payload::Nothing);
                let Some(stream) = io.stream(*side) else { continue };
                self.works.ring.watch(stream, id);
                io.watches[*side as usize] = Watch::Yes(id);
                io.flying += 1;
            }
        }
    }
}
