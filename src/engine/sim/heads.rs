//! Headers of the PROXY protocol in the simulated world: clients' own, and those that servers are to be told.

use std::net::{Ipv4Addr, SocketAddr};

use super::calls::byte;
use super::kernel::{OURS, Role, World};
use super::plan::Us;
use crate::proxy_header::{Addresses, Told, Version, encode};
use crate::relay::Fault;

/// What is in front of the bytes of one connection.
#[derive(Debug, Default)]
pub(super) struct Lead {
    /// A client's header; for a server: what it was told. Neither is passed on.
    pub(super) bytes: Vec<u8>,
    /// The client's header tells no address.
    is_local: bool,
}

impl World {
    /// What a client says first.
    pub(super) fn draw_lead(&mut self, role: Role, conn: usize) -> Lead {
        if role == Role::Server || self.plan.heads.preread.is_none() {
            return Lead::default();
        }
        let version = self.dice.pick(&Version::BOTH);
        let is_local = self.dice.chance(100);
        let told = if is_local {
            Told::LOCAL
        } else {
            let unique_id = self.dice.chance(300).then_some([7; 100].as_slice());
            Told { addresses: Addresses::between(Self::proxied(conn), far()), unique_id, ..Told::LOCAL }
        };
        Lead { bytes: encode(version, told).as_bytes().to_vec(), is_local }
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
        let header = if self.header_len(conn) > offset { Some(&self.conns[conn].lead.bytes) } else { None };
        header.map_or_else(|| byte(conn, offset), |bytes| bytes[offset as usize])
    }

    /// Bytes in front of a client's own.
    fn header_len(&self, conn: usize) -> u64 {
        let it = &self.conns[conn];
        if it.role == Role::Client { it.lead.bytes.len() as u64 } else { 0 }
    }

    /// Bytes that a server was told in front of its client's.
    fn greeting_len(&self, conn: usize) -> u64 {
        let it = &self.conns[conn];
        if it.role == Role::Server { it.lead.bytes.len() as u64 } else { 0 }
    }

    /// Bytes of a socket's peer that were taken and are to be passed on.
    pub(super) fn payload_read(&self, conn: usize) -> u64 {
        self.conns[conn].ends[OURS].read.saturating_sub(self.header_len(conn))
    }

    /// Bytes of a socket's peer that have arrived and are to be passed on.
    pub(super) fn payload_arrived(&self, conn: usize) -> u64 {
        self.conns[conn].ends[OURS].arrived.saturating_sub(self.header_len(conn))
    }

    /// Bytes of its other side that a socket's peer was given.
    pub(super) fn payload_given(&self, conn: usize) -> u64 {
        self.conns[conn].ends[OURS].accepted - self.greeting_len(conn)
    }

    /// Where the byte at `offset` of what `conn` is sent stands in what the peer of `source` sends.
    pub(super) fn source_offset(&self, conn: usize, source: usize, offset: u64) -> u64 {
        offset - self.greeting_len(conn) + self.header_len(source)
    }

    /// A server is told something first: what it is to be told, and nothing twice.
    pub(super) fn send_first(&mut self, conn: usize, bytes: &[u8]) -> Result<(), Fault> {
        self.law_proven(conn);
        if self.conns[conn].ends[OURS].dead {
            // It was not reached after all.
            self.conns[conn].laws.proven = false;
            if let Some(fault) = self.take_error(conn) {
                return Err(fault);
            }
            self.saw_fault(conn);
            return Err(Fault::Closed);
        }
        let expected = self.plan.heads.greets.zip(self.other(conn)).map(|(version, client)| {
            let ends = if self.header_len(client) == 0 || self.conns[client].lead.is_local {
                [Self::peer(client), Self::front()]
            } else {
                [Self::proxied(client), far()]
            };
            encode(version, Told { addresses: Addresses::between(ends[0], ends[1]), ..Told::LOCAL })
        });
        if expected.is_none_or(|expected| expected.as_bytes() != bytes) {
            self.laws.fail(format!("#{conn} was told {}", bytes.escape_ascii()));
        }
        let it = &mut self.conns[conn];
        if it.ends[OURS].accepted > 0 {
            self.laws.fail(format!("#{conn} was told something behind other bytes, or twice"));
            return Ok(());
        }
        it.lead.bytes = bytes.to_vec();
        it.ends[OURS].accepted = bytes.len() as u64;
        // The smallest buffer of a real socket has room for it.
        let room = &mut it.ends[OURS].send_room;
        *room = (*room).max(bytes.len() as u64);
        self.note(conn, "told", bytes.len() as u64);
        self.laws.activity += 1;
        self.transmit(conn, OURS);
        Ok(())
    }

    /// Whether a client's header has not been read to its end.
    pub(super) fn is_heading(&self, conn: usize) -> bool {
        self.conns[conn].ends[OURS].read < self.header_len(conn)
    }

    /// What could be done about a client whose header is not read to its end, which began then.
    pub(super) fn head_left_to_do(&self, conn: usize, began: Us) -> Option<String> {
        if !self.is_heading(conn) {
            return None;
        }
        let (it, end) = (&self.conns[conn], &self.conns[conn].ends[OURS]);
        let ends = (end.fin_arrived && !it.laws.eof) || end.error.is_some();
        if (end.unread() > 0 || ends) && !self.laws.no_head_room {
            return Some(format!("#{conn} has something of its header to read, and nobody reads"));
        }
        let over = self.plan.heads.preread.is_some_and(|limit| self.now > began + limit + super::law::LATE);
        over.then(|| format!("the header of #{conn} is waited for too long"))
    }
}

/// Where a client that a header is about had connected to.
fn far() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(198, 51, 100, 1), 443))
}
