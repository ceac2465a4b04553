//! A client's first bytes, before it is known where they go, and what a server says before it gets them.

use std::collections::VecDeque;

use super::{Io, Phase, Reactor, Selector};
use crate::engine::Event;
use crate::engine::head::{self, Gathered};
use crate::engine::store::Store;
use crate::sys::Net;
use crate::table::Key;

impl<S: Selector<N>, N: Net> Reactor<S, N> {
    /// Reads more of a head, if that is what is wanted, until there is enough or nothing.
    pub(super) fn gather(&mut self, key: Key, io: &mut Io<N>, out: &mut VecDeque<Event<N::Stream>>) {
        let Io { client, transits: [up, _], phase, starved, .. } = io;
        let Phase::Heading(wanted) = *phase else { return };
        if !client.read.is_ready() {
            return;
        }
        let mut held = match std::mem::take(&mut up.store) {
            Store::Tail(lease) => Some(lease),
            Store::Empty | Store::Pipe(_) => None,
        };
        let trusts_short_reads = S::SHORT_READ_IS_DRAINED && client.plain;
        let gathered =
            head::gather::<N>(&client.stream, &mut held, wanted, &mut self.workshop.pool, trusts_short_reads);
        *starved &= matches!(gathered, Gathered::Starved);
        up.store = held.map_or(Store::Empty, Store::Tail);
        match gathered {
            Gathered::Enough { ended, drained } => {
                if let Some(proof) = drained {
                    client.read.clear(proof);
                }
                *phase = Phase::Resting;
                out.push_back(Event::Head { key, ended });
            }
            Gathered::Waits(proof) => client.read.clear(proof),
            Gathered::Starved => {
                if !std::mem::replace(starved, true) {
                    self.starved.push(key);
                }
            }
            Gathered::Failed => {
                *phase = Phase::Resting;
                out.push_back(Event::ClientLeft { key });
            }
        }
    }

    /// Takes a server's first byte, if that is what is wanted and it is there. Nobody would read what a client gets that has
    /// failed.
    pub(super) fn hear(&mut self, key: Key, io: &mut Io<N>, out: &mut VecDeque<Event<N::Stream>>) {
        let Io { client, server: Some(server), phase: Phase::Hearing, .. } = io else { return };
        if !mutant!(ResetWhileHearing) && client.take_failure::<N>().is_some() {
            io.phase = Phase::Resting;
            return out.push_back(Event::ClientLeft { key });
        }
        if !server.read.is_ready() {
            return;
        }
        match head::hear::<N>(&server.stream) {
            Ok(result) => {
                io.phase = Phase::Resting;
                if result.is_err() {
                    self.abandon(io);
                }
                out.push_back(Event::Heard { key, result });
            }
            Err(proof) => server.read.clear(proof),
        }
    }

    /// Drops bytes off the front of a head.
    pub(super) fn forget(&mut self, io: &mut Io<N>, count: usize) {
        let Store::Tail(lease) = &mut io.transits[0].store else { return };
        lease.advance(count);
        if lease.bytes().is_empty() {
            io.transits[0].clear(&mut self.workshop);
            self.feed();
        }
    }
}
