//! What clients say first, and what servers are told first.

use std::fmt::{self, Write as _};

use super::Worker;
use crate::client_hello::postgres::SSL_REQUEST;
use crate::client_hello::{Alpn, ClientHello, First, Protocol, Reader};
use crate::config::SendProxy;
use crate::engine::Engine;
use crate::proxy_header::{self, Told};
use crate::relay::{Fault, Side};
use crate::session::{Doing, Input, Order, Seen, Session, Verdict};
use crate::snapshot::Listener;
use crate::table::Key;
use crate::tick::Tick;

/// Bytes of a head that are shown in a log line.
const SHOWN: usize = 16;

impl<E: Engine> Worker<E> {
    /// A client's first bytes have come.
    pub(super) fn inspect(&mut self, key: Key, ended: bool) {
        let Some(conn) = self.table.get_mut(key) else { return };
        let head = self.engine.head(&conn.io);
        let Some(Seen { used, say, verdict }) = conn.session.inspect(head, ended, &self.snapshot) else {
            return;
        };
        if let Verdict::Wrong(flaw) = verdict {
            // A hello that is wrong may stand behind a header that is right.
            let listener = self.snapshot.listener(conn.session.listener());
            warn_of(
                listener,
                &conn.session,
                self.now,
                &head[used.min(head.len())..],
                &format_args!("sent a {flaw}"),
            );
        }
        self.engine.skip(&mut conn.io, if mutant!(RequestPassedOn) { 0 } else { used });
        let is_too_early = conn.session.awaits_header() || matches!(verdict, Verdict::Wrong(_));
        if is_too_early || self.admit_late(key) {
            if let Some(conn) = self.table.get_mut(key).filter(|_| !say.is_empty() && !mutant!(ClientNotTold))
            {
                // A client that has gone is found by what is done next.
                let _ = self.engine.say(&mut conn.io, Side::Client, say, false);
            }
            self.input(key, Input::Inspected(verdict));
        }
    }

    /// The time for a client's first bytes is over. One that has said nothing is no more than an access line.
    pub(super) fn tell_late(&mut self, key: Key) {
        let Some(conn) = self.table.get_mut(key) else { return };
        let head = self.engine.head(&conn.io);
        if !head.is_empty() {
            let what = if conn.session.awaits_header() { "PROXY header" } else { "TLS hello" };
            let listener = self.snapshot.listener(conn.session.listener());
            let late = format_args!("has not sent its whole {what} within `preread`");
            warn_of(listener, &conn.session, self.now, head, &late);
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

    /// A server was reached, or was not.
    pub(super) fn dialed(&mut self, key: Key, result: Result<(), Fault>) {
        // Nobody is told anything for a session that has ended meanwhile.
        let connects = self.table.get_mut(key).is_some_and(|conn| conn.session.doing() == Doing::Connecting);
        match result.and_then(|()| if connects { self.greet(key) } else { Ok(false) }) {
            Ok(true) => {
                if let Some(conn) = self.table.get_mut(key) {
                    self.engine.order(key, &mut conn.io, Order::Hear, &mut self.events);
                }
            }
            other => {
                let result = other.map(drop);
                self.tell_failure(key, result);
                self.input(key, Input::Dialed(result));
            }
        }
    }

    /// A server has answered to a request for TLS.
    pub(super) fn heard(&mut self, key: Key, result: Result<(), Fault>) {
        self.tell_failure(key, result);
        self.input(key, Input::Dialed(result));
    }

    /// Tells a server that was reached who the client is, if it is to be told, and asks for TLS if the client has. Whether
    /// there will be an answer.
    fn greet(&mut self, key: Key) -> Result<bool, Fault> {
        self.tell(key)?;
        let Some(conn) =
            self.table.get_mut(key).filter(|conn| conn.session.starttls() && !mutant!(ServerNotAsked))
        else {
            return Ok(false);
        };
        // What the client has sent must not come before the answer.
        self.engine.say(&mut conn.io, Side::Server, &SSL_REQUEST, false).map(|()| true)
    }

    /// Tells a server that was reached who the client is, if it is to be told.
    fn tell(&mut self, key: Key) -> Result<(), Fault> {
        let Some(conn) = self.table.get_mut(key) else { return Ok(()) };
        let Some(server) = conn.session.server() else { return Ok(()) };
        let pool = self.snapshot.pool(self.snapshot.server(server).pool);
        let Some(SendProxy { version, tlvs }) = pool.send_proxy else { return Ok(()) };
        let head = self.engine.head(&conn.io);
        let hello = self.snapshot.listener(conn.session.listener()).reads_hello.and_then(|_| hello(head));
        let name = hello.and_then(|hello| hello.server_name).filter(|_| tlvs.authority);
        let mut room = [0; 255];
        let protocol = hello.and_then(|hello| only(hello.alpn)).filter(|_| tlvs.alpn);
        let id = format_id(conn.session.id());
        let told = Told {
            addresses: conn.session.addresses(|| self.engine.local(&conn.io)),
            authority: name.as_ref().map(|name| name.as_str().as_bytes()),
            alpn: protocol.map(|protocol| protocol.copy_to(&mut room)),
            unique_id: tlvs.unique_id.then_some(&id),
            crc32c: tlvs.crc32c,
        };
        let header = proxy_header::encode(version, told);
        let follows = conn.session.starttls() || !head.is_empty();
        if mutant!(PrefaceTwice) {
            self.engine.say(&mut conn.io, Side::Server, header.as_bytes(), follows)?;
        }
        self.engine.say(&mut conn.io, Side::Server, header.as_bytes(), follows)
    }
}

/// A line about a client's first bytes, with their beginning: once a second for each listener at most.
fn warn_of(listener: &Listener, session: &Session, now: Tick, head: &[u8], what: &fmt::Arguments<'_>) {
    if listener.refusals.may_speak(now) {
        let peer = session.client().map_or_else(|| "unix".to_owned(), |peer| peer.to_string());
        log::warn!("listener {}: {peer} {what}; it begins with {}", listener.name, begin_of(head));
    }
}

/// A client's hello, which its head begins with.
fn hello(head: &[u8]) -> Option<ClientHello<'_>> {
    match Reader::default().look(head, head.len() + 1) {
        Ok(First::Hello(hello)) => Some(hello),
        _ => None,
    }
}

/// The protocol that a client offers, if it is only one: of several it is not known which the server will choose.
fn only(mut offered: Alpn<'_>) -> Option<Protocol<'_>> {
    offered.next().filter(|_| offered.next().is_none())
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
