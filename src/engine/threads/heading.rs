//! A client's first bytes, before it is known where they go, and what a server says before it gets them: the worker reads them itself, without waiting.

use std::collections::VecDeque;

use super::budget::Loan;
use super::{Io, Phase, Threads};
use crate::engine::{Event, head};
use crate::relay::Side;
use crate::sys::net::{self, Received, Stream};
use crate::sys::{Net, Os};
use crate::table::Key;

/// Bytes of a head's first buffer; each next one has four times as many.
const ROOM: usize = 4096;

impl Threads {
    /// Reads more of a head, if that is what is wanted, until there is enough or nothing.
    pub(super) fn gather(&mut self, key: Key, io: &mut Io, out: &mut VecDeque<Event<Stream>>) {
        let Phase::Heading { wanted, is_watched } = io.phase else { return };
        let mut piece = [0; ROOM];
        loop {
            let len = io.head.as_ref().map_or(0, |head| head.bytes.len());
            if len > usize::from(wanted.more_than) {
                return self.gathered(key, io, Event::Head { key, ended: false }, out);
            }
            if io.head.as_ref().is_none_or(|head| head.bytes.capacity() == len) {
                let room = if len == 0 { ROOM } else { 4 * len };
                match Loan::grown(room, io.head.as_mut(), &self.budget) {
                    Some(head) => io.head = Some(head),
                    None => return self.starved.push(key),
                }
            }
            let Some(head) = &mut io.head else { return };
            let room = (head.bytes.capacity() - len).min(usize::from(wanted.max) - len).min(ROOM);
            match net::recv_now(&io.client, &mut piece[..room]) {
                Received::Bytes(count, _) => head.bytes.extend_from_slice(&piece[..count.get() as usize]),
                Received::Eof => return self.gathered(key, io, Event::Head { key, ended: true }, out),
                Received::Failed(_) => return self.gathered(key, io, Event::ClientLeft { key }, out),
                Received::Nothing(_) => break,
            }
        }
        io.head.take_if(|head| head.bytes.is_empty());
        if !is_watched {
            io.phase = Phase::Heading { wanted, is_watched: true };
            self.watch_input(key, io, Side::Client, true);
            // It may have come between the look and the watch.
            self.gather(key, io, out);
        }
    }

    /// Takes a server's first byte, if that is what is wanted and it is there. Nobody would read what a client gets that has
    /// failed, which is told where sockets that nobody reads are watched.
    pub(super) fn hear(&mut self, key: Key, io: &mut Io, out: &mut VecDeque<Event<Stream>>) {
        let (Phase::Hearing { is_watched }, Some(server)) = (&io.phase, &io.server) else { return };
        if Os::pending_error(&io.client).is_some() {
            io.phase = Phase::Resting;
            return out.push_back(Event::ClientLeft { key });
        }
        let (is_watched, mut byte) = (*is_watched, [0]);
        match head::heard(net::recv_now(server, &mut byte), byte) {
            Ok(result) => {
                if is_watched {
                    self.watch_input(key, io, Side::Server, false);
                }
                io.phase = Phase::Resting;
                if result.is_err() {
                    io.server = None;
                }
                out.push_back(Event::Heard { key, result });
            }
            Err(_) if is_watched => {}
            Err(_) => {
                self.watch_input(key, io, Side::Server, true);
                io.phase = Phase::Hearing { is_watched: true };
                // It may have come between the look and the watch.
                self.hear(key, io, out);
            }
        }
    }

    fn gathered(&mut self, key: Key, io: &mut Io, event: Event<Stream>, out: &mut VecDeque<Event<Stream>>) {
        if matches!(io.phase, Phase::Heading { is_watched: true, .. }) {
            self.watch_input(key, io, Side::Client, false);
        }
        io.phase = Phase::Resting;
        io.head.take_if(|head| head.bytes.is_empty());
        out.push_back(event);
    }
}
