//! A client's first bytes, before it is known where they go, and what a server says before it gets them. They are few,
//! and read by plain calls.

use std::collections::VecDeque;

use super::conn::{Io, Phase};
use super::flight::{Owner, Part, Payload};
use super::ring::Ring;
use super::{StreamOf, Uring};
use crate::engine::head::{self, Gathered};
use crate::engine::{Event, Slots};
use crate::table::Key;

impl<R: Ring> Uring<R> {
    /// Reads more of a head, if that is what is wanted, until there is enough or nothing.
    pub(super) fn gather(&mut self, key: Key, io: &mut Io<R::Net>, out: &mut VecDeque<Event<StreamOf<R>>>) {
        let Phase::Heading(wanted) = io.phase else { return };
        match head::gather::<R::Net>(&io.client, &mut io.head, wanted, &mut self.works.pool, false) {
            Gathered::Enough { ended, .. } => {
                io.phase = Phase::Resting;
                out.push_back(Event::Head { key, ended });
            }
            Gathered::Waits(_) => self.await_input(key, io),
            Gathered::Starved => self.starved_heads.push(key),
            Gathered::Failed => {
                io.phase = Phase::Resting;
                out.push_back(Event::ClientLeft { key });
            }
        }
    }

    /// Takes a server's first byte, or waits for it, as long as its client has not failed.
    pub(super) fn hear(&mut self, key: Key, io: &mut Io<R::Net>, out: &mut VecDeque<Event<StreamOf<R>>>) {
        let Some(server) = &io.server else { return };
        if let Ok(result) = head::hear::<R::Net>(server) {
            io.phase = Phase::Resting;
            if result.is_err() {
                io.server = None;
            }
            return out.push_back(Event::Heard { key, result });
        }
        let id = self.works.flights.insert(Owner::Connection(key, Part::Hear), Payload::Nothing);
        self.works.ring.await_input(server, id);
        io.phase = Phase::Hearing(id);
        io.flying += 1;
        self.doubt(key, io);
        self.look_for_failure(key, io, out);
    }

    /// Buffers may have come back, which happens in a worker's turns only: those who wait for one try again.
    pub(super) fn feed_heads(
        &mut self,
        slots: &mut impl Slots<Io<R::Net>>,
        out: &mut VecDeque<Event<StreamOf<R>>>,
    ) {
        for key in std::mem::take(&mut self.starved_heads) {
            if let Some(io) = slots.io(key) {
                self.gather(key, io, out);
            }
        }
    }
}
