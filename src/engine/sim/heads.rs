//! What is said in front of bytes in the simulated world: PROXY headers of clients, and what peers are to be told.

use std::net::{Ipv4Addr, SocketAddr};

use super::calls::byte;
use super::hellos::{Opening, Words};
use super::kernel::{OURS, Role, World};
use super::plan::Us;
use super::script::Script;
use crate::client_hello::postgres::{REQUEST_LEN, SSL_REQUEST};
use crate::engine::head;
use crate::proxy_header::{Addresses, Told, Version, encode};
use crate::relay::Fault;

/// What is in front of the bytes of one connection.
#[derive(Debug, Default)]
pub(super) struct Lead {
    /// What the peer says first: a client's header, requests and hello, or a server's answer.
    pub(super) bytes: Vec<u8>,
    /// So many of them are not passed on.
    pub(super) own: u64,
    /// Bytes of the header.
    pub(super) header: u64,
    /// The header tells no address.
    is_local: bool,
    pub(super) opening: Opening,
    /// What a client is to be told to its requests.
    pub(super) answers: Vec<u8>,
    /// What the peer was told so far, in front of the other side's bytes.
    pub(super) told: Vec<u8>,
}

impl World {
    /// What a client says first.
    pub(super) fn draw_lead(&mut self, role: Role, conn: usize) -> Lead {
        if role == Role::Server {
            return Lead::default();
        }
        let (header, is_local) =
            if self.plan.heads.proxied { self.draw_header(conn) } else { (Vec::new(), false) };
        let words =
            self.plan.heads.hellos.map(|hellos| Words::draw(hellos, &mut self.dice)).unwrap_or_default();
        let (len, own) = (header.len() as u64, [header, words.requests.concat()].concat());
        Lead {
            own: own.len() as u64,
            header: len,
            bytes: [own, words.hello].concat(),
            is_local,
            opening: words.opening,
            answers: words.answers,
            told: Vec::new(),
        }
    }

    /// A client's header, and whether it tells no address.
    fn draw_header(&mut self, conn: usize) -> (Vec<u8>, bool) {
        let version = self.dice.pick(&Version::BOTH);
        let is_local = self.dice.chance(100);
        let told = if is_local {
            Told::LOCAL
        } else {
            let unique_id = self.dice.chance(300).then_some([7; 100].as_slice());
            Told { addresses: Addresses::between(Self::proxied(conn), far()), unique_id, ..Told::LOCAL }
        };
        (encode(version, told).as_bytes().to_vec(), is_local)
    }

    /// What a client does that says this first: it waits for answers, and may fall silent or end in the middle of it.
    pub(super) fn open(&mut self, script: Script, lead: &Lead) -> Script {
        let waits = !matches!(lead.opening, Opening::Hasty);
        let gate = |number: u64| [lead.header + number * REQUEST_LEN as u64, number];
        let gates = (1..=lead.answers.len() as u64).filter(|_| waits).map(gate).collect();
        let mut script = script.behind(lead.bytes.len() as u64, gates);
        if lead.opening != Opening::Plain && self.dice.chance(100) {
            let total = self.dice.between(0, lead.bytes.len() as u64);
            script.cut(total, self.dice.chance(500));
        }
        script
    }

    /// The client that a header is about.
    fn proxied(conn: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(203, 0, 113, 7), conn as u16))
    }

    /// The address that the kernel tells of a client.
    pub(super) fn peer(conn: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), conn as u16))
    }

    /// Where clients connect to.
    pub(super) fn front() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(198, 51, 100, 2), 9000))
    }

    /// The byte at `offset` of what the peer of a socket sends.
    pub(super) fn byte(&self, conn: usize, offset: u64) -> u8 {
        let first = self.conns[conn].lead.bytes.get(offset as usize);
        first.copied().unwrap_or_else(|| byte(conn, offset))
    }

    /// Bytes of a socket's peer that were taken and are to be passed on.
    pub(super) fn payload_read(&self, conn: usize) -> u64 {
        self.conns[conn].ends[OURS].read.saturating_sub(self.conns[conn].lead.own)
    }

    /// Bytes of a socket's peer that have arrived and are to be passed on.
    pub(super) fn payload_arrived(&self, conn: usize) -> u64 {
        self.conns[conn].ends[OURS].arrived.saturating_sub(self.conns[conn].lead.own)
    }

    /// Bytes of its other side that a socket's peer was given.
    pub(super) fn payload_given(&self, conn: usize) -> u64 {
        self.conns[conn].ends[OURS].accepted - self.conns[conn].lead.told.len() as u64
    }

    /// Where the byte at `offset` of what `conn` is sent stands in what the peer of `source` sends.
    pub(super) fn source_offset(&self, conn: usize, source: usize, offset: u64) -> u64 {
        offset - self.conns[conn].lead.told.len() as u64 + self.conns[source].lead.own
    }

    /// What a server is to be told in front of its client's bytes.
    pub(super) fn expected(&self, server: usize) -> Vec<u8> {
        let Some(client) = self.other(server) else { return Vec::new() };
        let lead = &self.conns[client].lead;
        let header = self.plan.heads.greets.map(|version| {
            let ends = if lead.header == 0 || lead.is_local {
                [Self::peer(client), Self::front()]
            } else {
                [Self::proxied(client), far()]
            };
            encode(version, Told { addresses: Addresses::between(ends[0], ends[1]), ..Told::LOCAL })
        });
        let request: &[u8] = if lead.told.contains(&b'S') { &SSL_REQUEST } else { &[] };
        [header.as_ref().map_or(&[][..], |header| header.as_bytes()), request].concat()
    }

    /// A server is sent bytes of its client's: it was told everything before, and has answered.
    pub(super) fn law_told(&mut self, conn: usize) {
        let it = &self.conns[conn];
        let is_first = it.role == Role::Server && it.ends[OURS].accepted == it.lead.told.len() as u64;
        if is_first && (self.expected(conn) != it.lead.told || !self.is_reached(conn)) {
            self.laws.fail(format!("#{conn} was sent bytes before it was told everything, or has answered"));
        }
    }

    /// A peer is told something first: what it is to be told, and nothing twice.
    pub(super) fn send_first(&mut self, conn: usize, bytes: &[u8]) -> Result<(), Fault> {
        self.law_proven(conn);
        let role = self.conns[conn].role;
        if self.conns[conn].ends[OURS].dead {
            // A server was not reached after all.
            self.conns[conn].laws.proven = role == Role::Client;
            if let Some(fault) = self.take_error(conn) {
                return Err(fault);
            }
            self.saw_fault(conn);
            return Err(Fault::Closed);
        }
        if role == Role::Client {
            self.law_answer(conn, bytes);
        } else if !self.expected(conn).starts_with(&[&self.conns[conn].lead.told, bytes].concat()) {
            self.laws.fail(format!("#{conn} was told {}", bytes.escape_ascii()));
        }
        let it = &mut self.conns[conn];
        if it.ends[OURS].accepted > it.lead.told.len() as u64 {
            self.laws.fail(format!("#{conn} was told something behind other bytes"));
            return Ok(());
        }
        it.lead.told.extend_from_slice(bytes);
        it.ends[OURS].accepted += bytes.len() as u64;
        // The smallest buffer of a real socket has room for it.
        let room = &mut it.ends[OURS].send_room;
        *room = (*room).max(it.lead.told.len() as u64);
        self.note(conn, "told", bytes.len() as u64);
        self.laws.activity += 1;
        self.transmit(conn, OURS);
        Ok(())
    }

    /// Whether what a client says first has not been read to its end.
    pub(super) fn is_heading(&self, conn: usize) -> bool {
        let it = &self.conns[conn];
        it.role == Role::Client && it.ends[OURS].read < it.lead.bytes.len() as u64
    }

    /// What could be done about a client whose first words are not read to their end, which began then. Once its end is known
    /// it has no more to say.
    pub(super) fn head_left_to_do(&self, conn: usize, began: Us) -> Option<String> {
        let (it, end) = (&self.conns[conn], &self.conns[conn].ends[OURS]);
        if !self.is_heading(conn) || it.laws.eof {
            return None;
        }
        let grows = end.read >= head::PIECE as u64;
        let has_more = end.unread() > 0 || end.fin_arrived || end.error.is_some();
        if has_more && !self.laws.no_head_room[usize::from(grows)] {
            return Some(format!("#{conn} has more to say first, and nobody reads"));
        }
        (self.now > began + self.plan.heads.preread + super::law::LATE)
            .then(|| format!("what #{conn} says first is waited for too long"))
    }
}

/// Where a client that a header is about had connected to.
fn far() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(198, 51, 100, 1), 443))
}
