//! The calls of the simulated kernel, as Linux answers them.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;

use super::kernel::{OURS, PEER, Role, World, bits};
use super::plan::{MS, Us};
use crate::engine::{Readiness, Report, Trigger, Want};
use crate::relay::Fault;
use crate::sys::WouldBlock;
use crate::sys::net::{Accepted, Peeked, Received, Sent};

/// The byte at `offset` of the stream that the peer of socket `conn` sends.
pub(super) fn byte(conn: usize, offset: u64) -> u8 {
    let place = offset + ((conn as u64) << 32);
    (place.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

pub(super) fn count(bytes: u64) -> NonZeroU32 {
    u32::try_from(bytes).ok().and_then(NonZeroU32::new).expect("one byte or more, and few")
}

impl World {
    pub(super) fn recv(&mut self, conn: usize, buffer: &mut [u8], short_is_drained: bool) -> Received {
        self.law_proven(conn);
        let it = &self.conns[conn];
        let end = &it.ends[OURS];
        let (read, arrived) = (end.read, end.arrived);
        if arrived == read {
            if end.fin_arrived {
                self.saw_fin(conn);
                return Received::Eof;
            }
            if let Some(fault) = self.take_error(conn) {
                return Received::Failed(fault);
            }
            let dead = self.conns[conn].ends[OURS].dead;
            return if dead { Received::Eof } else { Received::Nothing(WouldBlock::simulated()) };
        }
        // A read stops in front of an urgent byte, but not at one.
        let stop =
            it.urgent.iter().copied().filter(|at| *at > read && *at < arrived).min().unwrap_or(arrived);
        let mut most = (stop - read).min(buffer.len() as u64);
        if most > 1 && self.dice.chance(self.plan.short_read) {
            most = self.dice.between(1, most - 1);
            if short_is_drained {
                // It has come just now.
                self.report(conn, bits::READ);
            }
        }
        for (offset, place) in (read..).zip(&mut buffer[..most as usize]) {
            *place = self.byte(conn, offset);
        }
        self.conns[conn].ends[OURS].read += most;
        self.law_taken(conn, most);
        self.note(conn, "recv", most);
        self.laws.activity += 1;
        if read == 0 {
            self.heard(conn);
        }
        self.transmit(conn, PEER);
        let short = most < buffer.len() as u64;
        Received::Bytes(count(most), (short_is_drained && short).then(WouldBlock::simulated))
    }

    pub(super) fn send(&mut self, conn: usize, bytes: &[u8]) -> Sent {
        self.law_proven(conn);
        if let Some(fault) = self.take_error(conn) {
            return Sent::Failed(fault);
        }
        let end = &self.conns[conn].ends[OURS];
        if end.dead || end.fin {
            self.law_send_after_fin(conn);
            self.saw_fault(conn);
            return Sent::Failed(Fault::Closed);
        }
        let (offset, free) = (end.accepted, end.free());
        self.law_told(conn);
        self.law_content(conn, offset, bytes);
        if free == 0 {
            self.conns[conn].no_space = true;
            return Sent::Nothing(WouldBlock::simulated());
        }
        let mut most = free.min(bytes.len() as u64);
        if most > 1 && self.dice.chance(self.plan.short_write) {
            most = self.dice.between(1, most - 1);
        } else if most < bytes.len() as u64 {
            self.conns[conn].no_space = true;
        }
        self.conns[conn].ends[OURS].accepted += most;
        self.note(conn, "send", most);
        self.progressed(conn);
        self.transmit(conn, OURS);
        Sent::Bytes(count(most))
    }

    fn law_content(&mut self, conn: usize, offset: u64, bytes: &[u8]) {
        let Some(source) = self.other(conn) else {
            self.laws.fail(format!("#{conn} was sent bytes of nobody"));
            return;
        };
        let offset = self.source_offset(conn, source, offset);
        let right = (offset..).zip(bytes).all(|(offset, sent)| *sent == self.byte(source, offset));
        let known = self.conns[source].ends[OURS].read >= offset + bytes.len() as u64;
        if !right || !known {
            self.laws.fail(format!("#{conn} was sent other bytes than #{source} gave, at {offset}"));
        }
    }

    pub(super) fn finish(&mut self, conn: usize) -> Result<(), Fault> {
        self.laws.activity += 1;
        if self.conns[conn].ends[OURS].dead {
            self.saw_fault(conn);
            return Err(Fault::Reset);
        }
        self.law_fin(conn);
        self.note(conn, "finish", 0);
        self.conns[conn].ends[OURS].fin = true;
        self.transmit(conn, OURS);
        Ok(())
    }

    pub(super) fn is_short(&mut self) -> Option<Fault> {
        if self.dice.chance(self.plan.shortage) {
            self.short_until = self.now + self.dice.between(0, 150 * MS);
        }
        let out = self.descriptors >= self.plan.descriptors;
        (out || self.now < self.short_until)
            .then(|| if out || self.dice.chance(700) { Fault::NoFiles } else { Fault::NoMemory })
    }

    pub(super) fn accept(&mut self, listener: usize) -> Accepted<usize> {
        self.backlogs[listener].ignored_since = None;
        self.backlogs[listener].shortage = false;
        if self.backlogs[listener].queue.is_empty() {
            return Accepted::Nothing(WouldBlock::simulated());
        }
        if let Some(fault) = self.is_short() {
            self.backlogs[listener].shortage = true;
            self.note(listener, "accept fails", 0);
            return Accepted::Failed(fault);
        }
        let Some(conn) = self.backlogs[listener].queue.pop_front() else {
            return Accepted::Nothing(WouldBlock::simulated());
        };
        self.laws.activity += 1;
        if self.dice.chance(self.plan.aborted) {
            self.note(conn, "aborted in the backlog", 0);
            self.conns[conn].ends[OURS].closed = true;
            self.send_reset(conn, OURS);
            return Accepted::Gone;
        }
        self.note(conn, "accepted", listener as u64);
        self.descriptors += 1;
        self.conns[conn].owned = true;
        self.conns[conn].laws.proven = true;
        Accepted::Client(conn, Some(Self::peer(conn)))
    }

    pub(super) fn dial(&mut self, to: SocketAddr) -> Result<(usize, bool), Fault> {
        self.laws.activity += 1;
        let dialed = match self.is_short() {
            Some(fault) => Err(fault),
            None => self.dial_to(to),
        };
        match dialed {
            Ok((conn, connected)) => {
                self.descriptors += 1;
                let now = self.now;
                let it = &mut self.conns[conn];
                it.owned = true;
                it.laws.dialed_at = now;
                it.laws.proven = connected;
                self.summary.relayed += u64::from(connected);
                self.note(conn, "dialed", u64::from(to.port()));
            }
            Err(_) => {
                self.note(0, "dial fails", u64::from(to.port()));
                self.laws.dial_failed_at = Some(self.now);
            }
        }
        dialed
    }

    pub(super) fn dialed(&mut self, conn: usize) -> Result<bool, Fault> {
        if self.conns[conn].ends[OURS].dead || !self.conns[conn].established {
            return self.take_error(conn).map_or(Ok(false), Err);
        }
        self.proves(conn);
        Ok(true)
    }

    pub(super) fn peek(&mut self, conn: usize) -> Peeked {
        let end = &self.conns[conn].ends[OURS];
        if end.unread() > 0 {
            return Peeked::Bytes;
        }
        if end.fin_arrived {
            self.saw_fin(conn);
            return Peeked::End;
        }
        match self.take_error(conn) {
            None if !self.conns[conn].ends[OURS].dead => Peeked::Nothing(WouldBlock::simulated()),
            _ => Peeked::End,
        }
    }

    pub(super) fn failure_before_relay(&mut self, conn: usize) -> Option<Fault> {
        let end = &self.conns[conn].ends[OURS];
        if end.unread() > 0 || end.fin_arrived { None } else { self.take_error(conn) }
    }

    pub(super) fn pending_error(&mut self, conn: usize) -> Option<Fault> {
        self.take_error(conn)
    }

    pub(super) fn take_error(&mut self, conn: usize) -> Option<Fault> {
        let fault = self.conns[conn].ends[OURS].error.take()?;
        self.note(conn, "fault seen", 0);
        self.saw_fault(conn);
        Some(fault)
    }

    pub(super) fn reset_on_close(&mut self, conn: usize) {
        self.conns[conn].linger = true;
    }

    pub(super) fn is_delivering(&mut self, conn: usize) -> bool {
        let it = &self.conns[conn];
        let end = &it.ends[OURS];
        let fin_waits = end.fin && !end.fin_acked;
        it.established && !end.dead && (end.accepted > end.acked || fin_waits)
    }

    pub(super) fn close(&mut self, conn: usize) {
        // What a panic clears away obeys no law.
        self.laws.over |= std::thread::panicking();
        self.law_close(conn);
        if self.conns[conn].flying > 0 {
            self.laws.fail(format!("#{conn} is closed with operations under way"));
        }
        self.laws.activity += 1;
        self.descriptors -= 1;
        let it = &mut self.conns[conn];
        let linger = it.linger;
        it.owned = false;
        self.stale.extend(it.token.take());
        let end = &mut it.ends[OURS];
        end.closed = true;
        self.note(conn, if linger { "reset" } else { "close" }, 0);
        let it = &mut self.conns[conn];
        let end = &mut it.ends[OURS];
        if !it.established {
            end.dead = true;
        } else if end.dead {
        } else if linger || end.unread() > 0 {
            self.send_reset(conn, OURS);
        } else {
            end.fin = true;
            self.transmit(conn, OURS);
        }
    }

    pub(super) fn close_listener(&mut self, listener: usize) {
        self.backlogs[listener].open = false;
        let left = std::mem::take(&mut self.backlogs[listener].queue);
        // No more are let in than may be: the rest would take the descriptors that those need.
        let clients = self.conns.iter().filter(|conn| conn.owned && conn.role == Role::Client).count();
        let is_full = clients >= self.tightest.maxconn as usize;
        if !left.is_empty() && !is_full && !self.backlogs[listener].shortage && !self.is_killed() {
            self.laws
                .fail(format!("listener {listener} was closed over clients that it could have accepted"));
        }
        for conn in left {
            self.conns[conn].ends[OURS].closed = true;
            self.send_reset(conn, OURS);
        }
    }

    pub(super) fn watch(&mut self, conn: usize, token: usize) -> io::Result<()> {
        if self.dice.chance(self.plan.shortage) {
            self.conns[conn].laws.unwatched = true;
            self.laws.dial_failed_at = Some(self.now);
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.law_token(conn, token);
        self.conns[conn].token = Some(token);
        self.ask(conn, Some(Want::default()));
        let status = self.conns[conn].status();
        if status != 0 {
            self.report(conn, status);
        }
        Ok(())
    }

    pub(super) fn select(&mut self, wait: Option<Us>, out: &mut Vec<Readiness>) -> io::Result<Report> {
        self.calls = 0;
        self.pass_time();
        self.law_spin(wait);
        if wait != Some(0) && self.is_quiet() && self.late == 0 {
            self.law_sleep();
        }
        let until = wait.map(|wait| self.now + wait);
        while self.is_quiet() && self.laws.violation.is_none() {
            match (self.next(), until) {
                (Some(at), until) if until.is_none_or(|until| at <= until) => {
                    self.now = self.now.max(at);
                    self.happen_until_now();
                }
                (_, Some(until)) => {
                    self.now = self.now.max(until);
                    break;
                }
                (_, None) => self.laws.fail("the worker waits for ever, and nothing will wake it".into()),
            }
        }
        if self.laws.violation.is_some() {
            return Err(io::Error::other("a law is broken"));
        }
        self.take_wake();
        Ok(self.deliver(out))
    }

    fn is_quiet(&self) -> bool {
        !self.has_reports() && !self.has_listener_reports() && !self.is_woken()
    }

    fn has_reports(&self) -> bool {
        match self.trigger {
            Trigger::Edge => !self.listed.is_empty(),
            Trigger::Level | Trigger::OneShot => {
                (0..self.conns.len()).any(|conn| self.asked_status(conn) != 0)
            }
        }
    }

    /// Sockets of which there is something to tell; those that are told on an edge are told once.
    fn take_listed(&mut self) -> Vec<usize> {
        match self.trigger {
            Trigger::Edge => std::mem::take(&mut self.listed),
            Trigger::Level | Trigger::OneShot => {
                (0..self.conns.len()).filter(|conn| self.asked_status(*conn) != 0).collect()
            }
        }
    }

    /// What is told of a socket.
    fn told(&mut self, conn: usize) -> u8 {
        match self.trigger {
            Trigger::Edge => {
                let changed = self.unlist(conn);
                if self.plan.reports_all { self.conns[conn].status() } else { changed }
            }
            Trigger::Level => self.asked_status(conn),
            Trigger::OneShot => {
                let status = self.asked_status(conn);
                self.ask(conn, None);
                status
            }
        }
    }

    /// The reports of a turn, as badly as the weather wants them.
    fn deliver(&mut self, out: &mut Vec<Readiness>) -> Report {
        // A level says nothing new.
        let news = u64::from(self.trigger == Trigger::Edge);
        let listeners = self.take_listener_reports();
        let mut list = self.take_listed();
        if self.trigger == Trigger::Edge
            && !(listeners.is_empty() && list.is_empty())
            && self.dice.chance(self.plan.lost)
        {
            self.laws.activity += news;
            self.note(0, "reports lost", list.len() as u64);
            for conn in list {
                self.unlist(conn);
            }
            return Report::Lossy;
        }
        for token in listeners {
            self.laws.activity += news;
            out.push(readiness(token, bits::READ));
        }
        if self.dice.chance(self.plan.shuffled) {
            self.dice.shuffle(&mut list);
        }
        if list.len() > 1 && self.dice.chance(self.plan.delayed) {
            let now = self.dice.between(1, list.len() as u64) as usize;
            let later = list.split_off(now);
            if self.trigger == Trigger::Edge {
                self.listed = later;
            }
        }
        for conn in list {
            let bits = self.told(conn);
            let Some(token) = self.conns[conn].token else { continue };
            self.laws.activity += news;
            self.note(conn, "report", u64::from(bits));
            if bits & bits::WRITE != 0 && bits != bits::WRITE && self.dice.chance(self.plan.split) {
                out.push(readiness(token, bits & !bits::WRITE));
                out.push(readiness(token, bits::WRITE | (bits & (bits::ERROR | bits::HUP))));
            } else if bits != 0 {
                out.push(readiness(token, bits));
            }
            if bits != 0 && self.dice.chance(self.plan.doubled) {
                out.push(readiness(token, bits));
            }
        }
        if self.dice.chance(self.plan.spurious) && !self.stale.is_empty() {
            let token = self.dice.pick(&self.stale);
            // The next server of the same client has the token of the one that failed. An edge that was on its way
            // can still come; what is told only while it is the case cannot.
            if self.trigger == Trigger::Edge || self.conns.iter().all(|conn| conn.token != Some(token)) {
                out.push(readiness(token, bits::ALL));
            }
        }
        if self.dice.chance(self.plan.spurious) {
            let any = self.dice.between(0, self.conns.len() as u64 - 1) as usize;
            // A hang-up or an error is never made up where it is told only while it is the case.
            let most = if self.trigger == Trigger::Edge { bits::ALL } else { bits::READ | bits::WRITE };
            let bits = self.dice.pick(&[bits::READ, bits::WRITE, most]);
            out.extend(self.conns[any].token.map(|token| readiness(token, bits)));
        }
        if self.dice.chance(self.plan.shuffled) {
            self.dice.shuffle(out);
        }
        Report::Exact
    }

    /// The other socket of the same connection through the program.
    pub(super) fn other(&self, conn: usize) -> Option<usize> {
        let pair = &self.laws.pairs[self.conns[conn].laws.pair?];
        match self.conns[conn].role {
            Role::Client => pair.server,
            Role::Server => Some(pair.client),
        }
    }
}

/// As mio folds what epoll tells.
fn readiness(token: usize, bits: u8) -> Readiness {
    let special = bits & !(bits::READ | bits::WRITE) != 0;
    Readiness {
        token,
        read: special || bits & bits::READ != 0,
        write: special || bits & bits::WRITE != 0,
        special,
        error: bits & bits::ERROR != 0,
    }
}
