//! What clients say first, and what servers are told first.

use std::fmt::Write as _;

use super::Worker;
use crate::config::SendProxy;
use crate::engine::Engine;
use crate::proxy_header::{self, Told};
use crate::relay::{Fault, Side};
use crate::session::{Input, Verdict};
use crate::table::Key;

/// Bytes of a head that are shown in a log line.
const SHOWN: usize = 16;

impl<E: Engine> Worker<E> {
    /// A client's first bytes have come.
    pub(super) fn inspect(&mut self, key: Key, ended: bool) {
        let Some(conn) = self.table.get_mut(key) else { return };
        let head = self.engine.head(&conn.io);
        let Some((used, verdict)) = conn.session.inspect(head, ended) else { return };
        if let Verdict::Wrong(flaw) = verdict
            && self.snapshot.refusals.may_speak(self.now)
        {
            let listener = &self.snapshot.listener(conn.session.listener()).name;
            let peer = conn.session.client().map_or_else(|| "unix".to_owned(), |peer| peer.to_string());
            let begin = begin_of(head);
            log::warn!("listener {listener}: bad PROXY header of {peer}: {flaw}; it begins with {begin}");
        }
        self.engine.skip(&mut conn.io, used);
        // What was used tells who the client is.
        if used == 0 || self.admit_late(key) {
            self.input(key, Input::Inspected(verdict));
        }
    }

    /// Holds a client of whom a proxy in front has told against the rules and limits; ends it where they do not let it in.
    pub(super) fn admit_late(&mut self, key: Key) -> bool {
        let Some(conn) = self.table.get_mut(key) else { return false };
        if !std::mem::take(&mut conn.is_to_be_told) {
            return true;
        }
        let listener = self.snapshot.listener(conn.session.listener());
        let address = conn.session.client().map(|client| client.ip());
        match listener.admission.enter(address, self.now, &listener.tally) {
            Ok(place) => conn.place = place,
            Err(cause) => {
                let (listener, client) = (conn.session.listener(), conn.session.client());
                self.tell_refusal(listener, client, cause);
                self.input(key, Input::Kill(cause));
                return false;
            }
        }
        true
    }

    /// Tells a server that was reached who the client is, if it is to be told.
    pub(super) fn greet(&mut self, key: Key) -> Result<(), Fault> {
        let Some(conn) = self.table.get_mut(key) else { return Ok(()) };
        let Some(server) = conn.session.server() else { return Ok(()) };
        let pool = self.snapshot.pool(self.snapshot.server(server).pool);
        let Some(SendProxy { version, tlvs }) = pool.send_proxy else { return Ok(()) };
        let id = format_id(conn.session.id());
        let told = Told {
            addresses: conn.session.addresses(|| self.engine.local(&conn.io)),
            unique_id: tlvs.unique_id.then_some(&id),
            crc32c: tlvs.crc32c,
            ..Told::LOCAL
        };
        let header = proxy_header::encode(version, told);
        if mutant!(PrefaceTwice) {
            self.engine.say(&mut conn.io, Side::Server, header.as_bytes())?;
        }
        self.engine.say(&mut conn.io, Side::Server, header.as_bytes())
    }
}

/// A connection's number as access lines have it.
fn format_id(id: u64) -> [u8; 16] {
    std::array::from_fn(|place| b"0123456789abcdef"[(id >> (60 - 4 * place) & 0xf) as usize])
}

/// The first bytes of a head, in hexadecimal.
fn begin_of(head: &[u8]) -> String {
    head.iter().take(SHOWN).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
