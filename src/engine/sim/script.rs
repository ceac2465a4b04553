//! What the simulated clients and servers do.

use super::kernel::{OURS, PEER, Role, World};
use super::plan::{Dice, MS, Plan, Us};

/// When a script begins to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    AtOnce,
    /// After it has got so many bytes, or the FIN.
    After(u64),
    AfterFin,
}

/// A bad end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rude {
    Resets,
    /// Closes both directions at once.
    Closes,
    /// Goes away without a word.
    Vanishes,
}

/// When it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Sent(u64),
    Got(u64),
    At(Us),
}

/// A peer's plan and how far it has come.
#[derive(Debug)]
pub(super) struct Script {
    /// Bytes that it means to send.
    pub(super) total: u64,
    start: Start,
    send_chunk: u64,
    read_chunk: u64,
    /// It does not read for so long, after so many bytes.
    stall: Option<(u64, Us)>,
    pauses: u64,
    /// It sends FIN only after the other's.
    waits_for_fin: bool,
    /// Bytes in front, which it sends at once.
    lead: u64,
    /// It sends no more than so many bytes before it has got so many.
    gates: Vec<[u64; 2]>,
    rude: Option<(Rude, Moment)>,
    /// When it has had enough; as long as it is not connected, how long it is ready to wait.
    pub(super) patience: Us,
    next_send: Us,
    next_read: Us,
    gone: bool,
}

impl Script {
    pub(super) fn draw(plan: &Plan, dice: &mut Dice, role: Role) -> Self {
        let total = if dice.chance(100) { 0 } else { dice.size(plan.volume) };
        let got = dice.size(plan.volume);
        let moment = match dice.between(0, 2) {
            0 => Moment::Sent(dice.between(0, total)),
            1 => Moment::Got(got),
            _ => Moment::At(dice.between(0, 1_500 * MS)),
        };
        let rude = dice.pick(&[Rude::Resets, Rude::Resets, Rude::Closes, Rude::Vanishes]);
        let chunk = |dice: &mut Dice| 1 + dice.size(plan.volume / 2);
        Self {
            total,
            start: match dice.between(0, 5) {
                0..=2 => Start::AtOnce,
                3 | 4 => Start::After(dice.size(plan.volume / 4)),
                _ if role == Role::Server => Start::AfterFin,
                _ => Start::AtOnce,
            },
            send_chunk: chunk(dice),
            read_chunk: chunk(dice),
            stall: dice
                .chance(plan.pauses * 2)
                .then(|| (dice.size(plan.volume), dice.between(0, 2_500 * MS))),
            pauses: plan.pauses,
            waits_for_fin: dice.chance(200),
            lead: 0,
            gates: Vec::new(),
            rude: dice.chance(plan.rude).then_some((rude, moment)),
            patience: plan.patience,
            next_send: 0,
            next_read: 0,
            gone: false,
        }
    }
}

impl Script {
    /// The same with so many bytes in front, and sending more than so many only when it has got so many.
    pub(super) fn behind(self, lead: u64, gates: Vec<[u64; 2]>) -> Self {
        Self { total: self.total + lead, lead, gates, ..self }
    }

    /// It ends after so many bytes, or says nothing more.
    pub(super) fn cut(&mut self, total: u64, is_silent: bool) {
        (self.total, self.waits_for_fin) = (total, is_silent);
    }

    /// It has one byte in front, which it sends when it has got so many.
    pub(super) fn waits_before_lead(&mut self, got: u64) {
        self.total += 1;
        (self.lead, self.gates) = (1, vec![[0, got]]);
    }

    /// When it looks at the time to leave rudely.
    pub(super) fn alarm(&self) -> Option<Us> {
        match self.rude {
            Some((_, Moment::At(at))) => Some(at),
            _ => None,
        }
    }
}

impl World {
    /// A peer does what it can and wants to do now.
    pub(super) fn act(&mut self, conn: usize) {
        let it = &self.conns[conn];
        if it.script.gone || !it.established {
            return;
        }
        if self.leaves_rudely(conn) {
            return;
        }
        self.read_some(conn);
        self.send_some(conn);
        self.end_well(conn);
    }

    fn leaves_rudely(&mut self, conn: usize) -> bool {
        let it = &self.conns[conn];
        let end = &it.ends[PEER];
        if end.dead && end.unread() == 0 {
            self.leave(conn, "peer saw a reset");
            return true;
        }
        let due = it.script.rude.filter(|(_, moment)| match moment {
            Moment::Sent(bytes) => end.accepted >= *bytes,
            Moment::Got(bytes) => end.read >= *bytes,
            Moment::At(at) => self.now >= *at,
        });
        let rude = match due {
            Some((rude, _)) => rude,
            None if self.now >= it.script.patience => Rude::Resets,
            None => return false,
        };
        match rude {
            Rude::Vanishes if !end.dead => {
                let after = self.dice.between(100 * MS, 900 * MS);
                self.vanish(conn, after);
                self.leave(conn, "peer vanishes");
            }
            Rude::Closes => {
                self.close_peer(conn);
                self.leave(conn, "peer closes early");
            }
            Rude::Resets | Rude::Vanishes => {
                if !end.dead {
                    self.send_reset(conn, PEER);
                }
                self.leave(conn, "peer resets");
            }
        }
        true
    }

    fn leave(&mut self, conn: usize, how: &'static str) {
        let it = &mut self.conns[conn];
        it.script.gone = true;
        it.ends[PEER].closed = true;
        let got = it.ends[PEER].read;
        self.note(conn, how, got);
        self.summary.bytes += got;
        self.script_ended();
    }

    /// What a kernel does when a program closes: a reset if something was not read.
    fn close_peer(&mut self, conn: usize) {
        let end = &mut self.conns[conn].ends[PEER];
        if end.dead {
            return;
        }
        if end.unread() > 0 {
            self.send_reset(conn, PEER);
        } else {
            end.fin = true;
            self.transmit(conn, PEER);
        }
    }

    fn read_some(&mut self, conn: usize) {
        let pause = self.pause(conn);
        let now = self.now;
        let it = &mut self.conns[conn];
        let (end, script) = (&mut it.ends[PEER], &mut it.script);
        if end.unread() == 0 || now < script.next_read {
            return;
        }
        let mut most = end.unread().min(script.read_chunk);
        if let Some((at, wait)) = script.stall {
            if end.read >= at {
                script.stall = None;
                script.next_read = now + wait;
                self.act_at(conn, now + wait);
                return;
            }
            most = most.min(at - end.read);
        }
        end.read += most;
        script.next_read = now + pause;
        self.act_at(conn, now + pause.max(1));
        self.transmit(conn, OURS);
    }

    fn pause(&mut self, conn: usize) -> Us {
        let often = self.conns[conn].script.pauses;
        if self.dice.chance(often) { self.dice.between(0, 200 * MS) } else { 0 }
    }

    fn send_some(&mut self, conn: usize) {
        let pause = self.pause(conn);
        let now = self.now;
        let it = &mut self.conns[conn];
        let (end, script) = (&mut it.ends[PEER], &mut it.script);
        let has_fin = end.fin_arrived && end.unread() == 0;
        let started = match script.start {
            Start::AtOnce => true,
            Start::After(bytes) => end.read >= bytes || has_fin,
            Start::AfterFin => has_fin,
        };
        let started = started || end.accepted < script.lead;
        let shut = script.gates.iter().find(|[_, got]| end.read < *got && !has_fin);
        let total = shut.map_or(script.total, |[sent, _]| script.total.min(*sent));
        let most = total.saturating_sub(end.accepted).min(script.send_chunk).min(end.free());
        if !started || end.dead || now < script.next_send || most == 0 {
            return;
        }
        end.accepted += most;
        script.next_send = now + pause;
        self.act_at(conn, now + pause.max(1));
        self.transmit(conn, PEER);
    }

    fn end_well(&mut self, conn: usize) {
        let it = &mut self.conns[conn];
        let (end, script) = (&mut it.ends[PEER], &mut it.script);
        let has_fin = end.fin_arrived && end.unread() == 0;
        if end.accepted == script.total && !end.fin && !end.dead && (has_fin || !script.waits_for_fin) {
            end.fin = true;
            self.note(conn, "peer finishes", 0);
            self.transmit(conn, PEER);
        }
        let end = &self.conns[conn].ends[PEER];
        if end.fin && has_fin {
            self.leave(conn, "peer is done");
        }
    }
}
