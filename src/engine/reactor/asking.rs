//! What a selector is asked to report where it has to be asked: with a level trigger, or a one-shot one.

use std::collections::VecDeque;

use super::selector::{Readiness, Selector, Source, Trigger, Want};
use super::wire::Socket;
use super::{Io, Phase, Reactor};
use crate::engine::{Event, Slots};
use crate::relay::{End, Fault, Op, Side};
use crate::sys::Net;
use crate::table::Key;

impl<N: Net> Io<N> {
    fn socket(&mut self, side: Side) -> Option<&mut Socket<N::Stream>> {
        match side {
            Side::Client => Some(&mut self.client),
            Side::Server => self.server.as_mut(),
        }
    }

    /// What is parked behind the latches of one socket. An operation that waits for a buffer is not: its latch
    /// is ready, and a report of what is known already would come for ever.
    fn want(&self, side: Side) -> Want {
        let socket = match side {
            Side::Client => &self.client,
            Side::Server => match &self.server {
                Some(server) => server,
                None => return Want::default(),
            },
        };
        match &self.phase {
            Phase::Heading(_) | Phase::Queued => {
                Want { read: side == Side::Client && !socket.read.is_ready(), write: false }
            }
            Phase::Hearing => Want { read: side == Side::Server && !socket.read.is_ready(), write: false },
            Phase::Dialing => Want { read: false, write: side == Side::Server },
            Phase::Relaying(relay) => {
                let parked = |dir, op| relay.flow(dir).parked().has(op);
                let read = parked(side.outbound(), Op::Fill);
                let write = parked(side.other().outbound(), Op::Drain);
                Want {
                    read: read && (!socket.read.is_ready() || mutant!(LevelOfTheStarved)),
                    write: write && !socket.write.is_ready() && !mutant!(ParkedNotAskedFor),
                }
            }
            Phase::Resting => Want::default(),
        }
    }
}

impl<S: Selector<N>, N: Net> Reactor<S, N> {
    /// Asks for reports of what is parked. Nothing to do where every change is reported anyhow.
    pub(super) fn ask(&mut self, key: Key, io: &mut Io<N>, out: &mut VecDeque<Event<N::Stream>>) {
        if S::TRIGGER == Trigger::Edge {
            return;
        }
        for side in [Side::Client, Side::Server] {
            let want = io.want(side);
            let Some(socket) = io.socket(side) else { continue };
            // What stays hung up and wants nothing more would be reported for ever.
            let wanted = (!want.is_empty() || socket.plain || mutant!(HungUpStays)).then_some(want);
            if is_asked::<S, N>(socket.asked, wanted) {
                continue;
            }
            let token = key.token(side == Side::Server);
            match self.selector.set(Source::Stream(&mut socket.stream), token, wanted) {
                Ok(()) => socket.asked = wanted,
                Err(_) => self.deaf(key, io, side, out),
            }
        }
    }

    /// The selector cannot report what is wanted: better an end than to wait for ever.
    fn deaf(&mut self, key: Key, io: &mut Io<N>, side: Side, out: &mut VecDeque<Event<N::Stream>>) {
        match &mut io.phase {
            // Its turn comes all the same.
            Phase::Resting | Phase::Queued => io.phase = Phase::Resting,
            Phase::Heading(_) => {
                io.phase = Phase::Resting;
                out.push_back(Event::ClientLeft { key });
            }
            Phase::Hearing => {
                io.phase = Phase::Resting;
                self.abandon(io);
                out.push_back(Event::Heard { key, result: Err(Fault::NoMemory) });
            }
            Phase::Dialing => {
                io.phase = Phase::Resting;
                self.abandon(io);
                out.push_back(Event::Dialed { key, result: Err(Fault::NoMemory) });
            }
            Phase::Relaying(relay) => {
                relay.stop(End::Reset { by: side, fault: Fault::NoMemory });
                self.pump(key, io, out);
            }
        }
    }

    /// The same for listeners: those that rest, and those that are tried in this turn, are not asked for.
    pub(super) fn ask_listeners(&mut self, out: &mut VecDeque<Event<N::Stream>>) {
        if S::TRIGGER == Trigger::Edge {
            return;
        }
        for (number, listening) in (0..).zip(&mut self.listeners) {
            let Some(listening) = listening else { continue };
            let waits = !listening.paused && !listening.waiting.is_ready();
            let wanted = waits.then_some(Want { read: true, write: false });
            if is_asked::<S, N>(listening.asked, wanted) {
                continue;
            }
            let token = Key::reserved(number).token(false);
            match self.selector.set(Source::Listener(&mut listening.socket), token, wanted) {
                Ok(()) => listening.asked = wanted,
                Err(_) => {
                    // The worker says when to try again.
                    listening.waiting.raise();
                    listening.paused = true;
                    out.push_back(Event::AcceptFailed { listener: listening.id, fault: Fault::NoMemory });
                }
            }
        }
    }

    /// Reports were lost: whatever could have been reported is.
    pub(super) fn suspect_all(&mut self, slots: &impl Slots<Io<N>>, reports: &mut Vec<Readiness>) {
        let all = |token| Readiness { token, read: true, write: true, special: true, error: true };
        for listening in self.listeners.iter_mut().flatten() {
            listening.waiting.raise();
        }
        for key in slots.keys() {
            reports.extend([false, true].map(|side| all(key.token(side))));
        }
    }
}

/// Whether nothing has to be said. Of a one-shot selector more may have been asked than is wanted: what it
/// reports of that is harmless, and comes once.
fn is_asked<S: Selector<N>, N: Net>(asked: Option<Want>, wanted: Option<Want>) -> bool {
    let enough = match (asked, wanted) {
        (Some(asked), Some(wanted)) => asked.covers(wanted),
        (_, None) => true,
        (None, Some(_)) => false,
    };
    asked == wanted || (S::TRIGGER == Trigger::OneShot && (enough || mutant!(NotArmedAgain)))
}
