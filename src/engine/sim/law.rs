//! What a proxy must and must not do, checked after every call and before every sleep.

use std::collections::HashMap;

use super::hellos::Opening;
use super::kernel::{OURS, Role, World};
use super::plan::{Ending, MS, Us};
use crate::engine::Trigger;

/// How late anything may be that is due at once: listeners rest for 50 ms, looks at a spared peer are
/// 250 ms apart.
pub(super) const LATE: Us = 600 * MS;
/// What was granted and not taken, and what has grown since, may be taken at once: so much time's worth. The next comes in so
/// much.
const PACE_BURST: Us = 250 * MS;
const PACE_STEP: Us = 40 * MS;
/// How early a timer may be: its worker looks at the clock once a turn, and a turn takes time.
const EARLY: Us = 20 * MS;

/// How long servers may be passed over because there was no source port towards them.
const DRY: Us = 100 * MS + EARLY;
/// How long after both peers are gone everything must be over.
pub(super) const SETTLED: Us = 40_000 * MS;

/// What the laws know of the run.
#[derive(Debug, Default)]
pub(super) struct Laws {
    /// The first law that was broken.
    pub(super) violation: Option<String>,
    /// The run has ended: what is closed now is cleared away.
    pub(super) over: bool,
    /// Everything useful that was done so far.
    pub(super) activity: u64,
    pub(super) pairs: Vec<Pair>,
    keys: HashMap<usize, usize>,
    pub(super) dial_failed_at: Option<Us>,
    /// No source port was left: whoever comes next knows that for [`DRY`].
    pub(super) no_ports_at: Option<Us>,
    pub(super) drained_at: Option<Us>,
    pub(super) stopped: bool,
    pub(super) all_gone_at: Option<Us>,
    /// No buffer is left: who wants to read has to wait.
    no_room: bool,
    /// The same for those whose server is not known yet, and for those of them that need a larger one than the smallest.
    pub(super) no_head_room: [bool; 2],
    /// The activity at the last turn, and the turns without any since then.
    last_activity: u64,
    idle_since: Us,
    idle_turns: u32,
    idle_zero_turns: u32,
}

/// Limits of a session's life, and of how many there are.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Quiet in both directions.
    pub idle: Option<Us>,
    /// Quiet after one peer has ended.
    pub half_close: Option<Us>,
    /// One attempt to reach a server.
    pub connect: Option<Us>,
    /// All of them.
    pub connect_total: Option<Us>,
    /// Connections of the process.
    pub maxconn: u32,
}

impl Limits {
    pub(super) fn of(plan: &super::plan::Plan) -> Self {
        Self {
            idle: plan.idle,
            half_close: plan.half_close(),
            connect: plan.connect,
            connect_total: plan.connect_total,
            maxconn: plan.maxconn,
        }
    }

    /// Of each the tighter one.
    fn tighter(self, other: Self) -> Self {
        let min = |one: Option<Us>, other: Option<Us>| one.into_iter().chain(other).min();
        Self {
            idle: min(self.idle, other.idle),
            half_close: min(self.half_close, other.half_close),
            connect: min(self.connect, other.connect),
            connect_total: min(self.connect_total, other.connect_total),
            maxconn: self.maxconn.min(other.maxconn),
        }
    }

    /// Of each the looser one.
    fn looser(self, other: Self) -> Self {
        let max = |one: Option<Us>, other: Option<Us>| one.zip(other).map(|(one, other)| one.max(other));
        Self {
            idle: max(self.idle, other.idle),
            half_close: max(self.half_close, other.half_close),
            connect: max(self.connect, other.connect),
            connect_total: max(self.connect_total, other.connect_total),
            maxconn: self.maxconn.max(other.maxconn),
        }
    }
}

/// What the laws know of a socket.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) pair: Option<usize>,
    pub(super) dialed_at: Us,
    /// The program knows that it is connected.
    pub(super) proven: bool,
    /// It was told of the FIN.
    pub(super) eof: bool,
    /// It was told of a failure.
    pub(super) fault_at: Option<Us>,
    /// When the first of its unread bytes arrived.
    pub(super) fresh_at: Us,
    /// It could not be watched.
    pub(super) unwatched: bool,
    /// A splice of 0 bytes could be believed: no urgent byte was left.
    pub(super) spliced_end: bool,
    /// The program was told that it cannot be spliced from.
    pub(super) refused_splice: bool,
    /// When the program took bytes first, and last.
    taken: Option<[Us; 2]>,
    /// The most that it took at a time.
    largest: u64,
}

/// A client and its server.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) client: usize,
    pub(super) server: Option<usize>,
    began: Us,
    /// When bytes were last delivered, or the first peer finished: what a timeout counts from.
    quiet_since: Us,
    /// When anything happened last.
    changed_at: Us,
    dial_failed: bool,
    /// An operator has asked that it end.
    asked: bool,
}

impl Laws {
    pub(super) fn fail(&mut self, what: String) {
        if !self.over {
            self.violation.get_or_insert(what);
        }
    }
}

impl World {
    /// What the program has left after a turn: whether a buffer is, for relays, for heads and for large ones, and for which
    /// listeners a client could be let in. `pipes` and so many bytes of buffers have been given to connections.
    pub fn observe(&mut self, no_room: [bool; 3], lets_in: &[bool], pipes: usize, leased: usize) {
        let [relays, heads, large] = no_room;
        (self.laws.no_room, self.laws.no_head_room) = (relays, [heads, large]);
        if leased > 0 && self.descriptors == 0 {
            self.laws.fail(format!("{leased} bytes of buffers are kept for nobody"));
        }
        let filled = self.filled_pipes();
        if pipes != filled {
            self.laws.fail(format!("connections have {pipes} pipes, but {filled} have bytes in them"));
        }
        let now = self.now;
        for (number, (backlog, lets_in)) in self.backlogs.iter_mut().zip(lets_in).enumerate() {
            if backlog.queue.is_empty() || !backlog.open || !lets_in || backlog.reported_late() {
                backlog.ignored_since = None;
            } else if now > *backlog.ignored_since.get_or_insert(now) + LATE {
                self.laws.fail(format!("listener {number} has clients waiting, and nobody tries to accept"));
            }
        }
    }

    /// Limits change: what was due by any that held in this run is not early, and late is what was so by all of them.
    pub fn change_limits(&mut self, limits: Limits) {
        self.tightest = self.tightest.tighter(limits);
        self.loosest = self.loosest.looser(limits);
    }

    /// An operator asks that the connection of a client end, which has this number.
    pub fn ask_to_end(&mut self, client: usize) {
        if let Some(pair) = self.pair(client) {
            pair.asked = true;
        }
    }

    /// The program is woken.
    pub fn wake(&mut self) {
        self.woken = true;
    }

    /// The program has ended: checks that it left nothing, and lets everything that follows pass.
    pub fn end(&mut self) {
        if self.descriptors > 0 {
            let left = self.descriptors;
            self.laws.fail(format!("{left} sockets were left open"));
        }
        self.laws.over = true;
    }

    /// A failure that the one who runs the world has found.
    pub fn fault(&mut self, what: String) {
        self.laws.fail(what);
        self.laws.over = true;
    }

    pub(super) fn is_killed(&self) -> bool {
        let hard_stop = self.laws.drained_at.zip(self.plan.hard_stop);
        self.laws.stopped || hard_stop.is_some_and(|(drained, limit)| drained + limit <= self.now + EARLY)
    }

    fn pair(&mut self, conn: usize) -> Option<&mut Pair> {
        self.conns[conn].laws.pair.map(|pair| &mut self.laws.pairs[pair])
    }

    /// The program has taken bytes: no faster than it may.
    pub(super) fn law_taken(&mut self, conn: usize, bytes: u64) {
        let (now, rate) = (self.now, self.rate(conn));
        let it = &mut self.conns[conn];
        if it.lead.opening == Opening::Unknown {
            // What it sends is thrown away.
            return;
        }
        let [first, _] = *it.laws.taken.get_or_insert([now; 2]);
        it.laws.taken = Some([first, now]);
        // What a client says first is taken in one go, as far as it is there.
        let read = it.ends[OURS].read;
        let is_head = read - bytes < it.lead.bytes.len() as u64;
        it.laws.largest = it.laws.largest.max(if is_head { read } else { bytes });
        let Some(rate) = rate else { return };
        let (most, taken) =
            (rate * (now - first + PACE_BURST) / 1_000_000 + it.laws.largest, it.ends[OURS].read);
        if taken > most {
            self.laws.fail(format!("{taken} bytes of #{conn} were taken where {most} may be"));
        }
    }

    /// Bytes a second that may be taken from a socket.
    fn rate(&self, conn: usize) -> Option<u64> {
        let pair = &self.laws.pairs[self.conns[conn].laws.pair?];
        self.plan.rates[usize::from(pair.client != conn)]
    }

    /// Whether a socket may not be read yet, because much was taken from it just now.
    fn is_paced(&self, conn: usize) -> bool {
        let seen = &self.conns[conn].laws;
        self.rate(conn)
            .zip(seen.taken)
            .is_some_and(|(rate, [_, last])| self.now <= last + PACE_STEP + seen.largest * 1_000_000 / rate)
    }

    fn changed(&mut self, conn: usize) {
        let now = self.now;
        if let Some(pair) = self.pair(conn) {
            pair.changed_at = now;
        }
    }

    /// Bytes were delivered.
    pub(super) fn progressed(&mut self, conn: usize) {
        self.laws.activity += 1;
        self.changed(conn);
        let now = self.now;
        if let Some(pair) = self.pair(conn) {
            pair.quiet_since = now;
        }
    }

    pub(super) fn saw_fin(&mut self, conn: usize) {
        if !std::mem::replace(&mut self.conns[conn].laws.eof, true) {
            self.laws.activity += 1;
            self.note(conn, "fin seen", 0);
            self.changed(conn);
            let goes_on = |other: usize| {
                let seen = &self.conns[other].laws;
                !seen.eof && seen.fault_at.is_none()
            };
            let is_first = self.other(conn).is_none_or(goes_on);
            let now = self.now;
            if let Some(pair) = self.pair(conn).filter(|_| is_first) {
                pair.quiet_since = now;
            }
            self.fails_to_serve(conn);
        }
    }

    /// A server that is not reached yet never will be.
    pub(super) fn fails_to_serve(&mut self, conn: usize) {
        let is_lost = self.conns[conn].role == Role::Server && !self.is_reached(conn);
        if let Some(pair) = self.pair(conn).filter(|_| is_lost) {
            pair.dial_failed = true;
        }
    }

    pub(super) fn saw_fault(&mut self, conn: usize) {
        if self.conns[conn].laws.fault_at.is_none() {
            self.laws.activity += 1;
            self.conns[conn].laws.fault_at = Some(self.now);
            self.changed(conn);
            self.fails_to_serve(conn);
        }
    }

    pub(super) fn proves(&mut self, conn: usize) {
        self.conns[conn].laws.proven = true;
        self.law_maxconn();
        self.summary.relayed += 1;
        self.progressed(conn);
    }

    /// All servers together have no more connections than each may have.
    fn law_maxconn(&mut self) {
        let Some(most) = self.plan.server_maxconn else { return };
        let of_servers = self.conns.iter().filter(|it| it.role == Role::Server && it.owned && it.laws.proven);
        let (count, most) = (of_servers.count(), most as usize * self.plan.servers.len());
        if count > most {
            self.laws.fail(format!("servers have {count} connections, and {most} is the most"));
        }
    }

    /// A token is never used for two connections: a late report for one would reach the other.
    pub(super) fn law_token(&mut self, conn: usize, token: usize) {
        let key = token & !1;
        match self.conns[conn].role {
            Role::Client => {
                let pair = Pair {
                    client: conn,
                    server: None,
                    began: self.now,
                    quiet_since: self.now,
                    changed_at: self.now,
                    dial_failed: false,
                    asked: false,
                };
                self.laws.pairs.push(pair);
                let number = self.laws.pairs.len() - 1;
                self.conns[conn].laws.pair = Some(number);
                if self.laws.keys.insert(key, number).is_some() {
                    self.laws.fail(format!("the token of #{conn} had been another connection's"));
                }
            }
            Role::Server => {
                let pair = self.laws.keys.get(&key).copied();
                let Some(number) = pair.filter(|pair| self.conns[self.laws.pairs[*pair].client].owned) else {
                    self.laws.fail(format!("#{conn} is watched for a client that is not there"));
                    return;
                };
                self.conns[conn].laws.pair = Some(number);
                let client = self.laws.pairs[number].client;
                self.note(conn, "serves", client as u64);
                self.laws.pairs[number].server = Some(conn);
                self.laws.pairs[number].quiet_since = self.now;
                self.laws.pairs[number].changed_at = self.now;
                self.law_serves(conn, client);
            }
        }
    }

    /// Only what is connected is read and written.
    pub(super) fn law_proven(&mut self, conn: usize) {
        if !self.conns[conn].laws.proven {
            self.laws.fail(format!("#{conn} is used before its connect is proven"));
        }
    }

    pub(super) fn law_send_after_fin(&mut self, conn: usize) {
        if self.conns[conn].ends[OURS].fin {
            self.laws.fail(format!("#{conn} was sent bytes after its FIN"));
        }
    }

    /// Whether everything that the other peer sent, and its end, was given to this one.
    fn is_whole(&self, conn: usize) -> bool {
        self.other(conn).is_some_and(|number| {
            let source = &self.conns[number];
            (source.laws.eof || source.laws.spliced_end)
                && self.payload_given(conn) == self.payload_arrived(number)
        })
    }

    /// A FIN says that everything came: it may be sent only when it did.
    pub(super) fn law_fin(&mut self, conn: usize) {
        if !self.is_whole(conn) && !self.is_idle_end(conn) && !self.is_asked(conn) {
            self.laws.fail(format!("#{conn} got a FIN, but not all that the other peer sent"));
        }
    }

    /// Whether a timeout is over for this pair, and nothing that came was kept back from this peer.
    fn is_idle_end(&self, conn: usize) -> bool {
        let Some(number) = self.other(conn) else { return false };
        let (source, target) = (&self.conns[number], &self.conns[conn]);
        let unharmed = source.laws.fault_at.is_none() && target.laws.fault_at.is_none();
        let given = self.payload_given(conn);
        // What comes while the timeout is acted upon comes too late.
        let too_late = given == self.payload_read(number) && self.now < source.laws.fresh_at + EARLY;
        self.is_timed_out(conn) && unharmed && (given == self.payload_arrived(number) || too_late)
    }

    fn is_asked(&self, conn: usize) -> bool {
        self.conns[conn].laws.pair.is_some_and(|pair| self.laws.pairs[pair].asked)
    }

    fn is_timed_out(&self, conn: usize) -> bool {
        let Some(pair) = self.conns[conn].laws.pair.map(|pair| &self.laws.pairs[pair]) else { return false };
        let ended = [Some(pair.client), pair.server].into_iter().flatten().any(|conn| {
            let laws = &self.conns[conn].laws;
            laws.eof || laws.fault_at.is_some()
        });
        let limit = if ended { self.tightest.half_close } else { self.tightest.idle };
        limit.is_some_and(|limit| pair.quiet_since + limit <= self.now + EARLY)
    }

    pub(super) fn law_close(&mut self, conn: usize) {
        if self.laws.over || self.is_killed() || self.is_asked(conn) {
            return;
        }
        let it = &self.conns[conn];
        if it.laws.fault_at.is_some() || it.ends[OURS].dead {
            return;
        }
        let broken = match (it.role, self.other(conn)) {
            _ if it.token.is_none() => (!it.linger && !it.laws.unwatched).then_some("was let in and dropped"),
            (Role::Server, _) if !self.is_reached(conn) => self.law_abandon(conn),
            (Role::Client, server) if server.is_none_or(|server| !self.is_reached(server)) => {
                self.law_give_up(conn)
            }
            (_, Some(other)) if it.linger => self.law_reset(conn, other),
            _ => self.law_clean(conn),
        };
        if let Some(broken) = broken {
            self.laws.fail(format!("#{conn} {broken}"));
        }
    }

    /// A running attempt is given its time.
    fn law_abandon(&self, conn: usize) -> Option<&'static str> {
        let it = &self.conns[conn];
        let pair = &self.laws.pairs[it.laws.pair?];
        let over =
            |limit: Option<Us>, since: Us| limit.is_some_and(|limit| since + limit <= self.now + EARLY);
        let client_left = self.conns[pair.client].laws.fault_at.is_some();
        let has_answered = it.laws.eof || it.ends[OURS].read > 0;
        let fair = it.laws.unwatched
            || client_left
            || has_answered
            || over(self.tightest.connect, it.laws.dialed_at)
            || over(self.tightest.connect_total, pair.began);
        (!fair).then_some("was given up before its time")
    }

    /// A client is turned away only when no server could be had.
    fn law_give_up(&self, conn: usize) -> Option<&'static str> {
        let it = &self.conns[conn];
        let pair = &self.laws.pairs[it.laws.pair?];
        let over = |limit: Option<Us>| limit.is_some_and(|limit| pair.began + limit <= self.now + EARLY);
        let failed = pair.dial_failed || self.laws.dial_failed_at.is_some_and(|at| at >= pair.began);
        let passed_over = self.laws.no_ports_at.is_some_and(|at| at + DRY >= pair.began);
        let waits = self.plan.server_maxconn.is_some();
        let has_left = it.laws.eof && self.payload_arrived(conn) == 0;
        let turned_away = waits
            && (over(self.plan.queue) || has_left || (self.plan.queue_max as usize) < self.plan.clients);
        let head_late = self.is_heading(conn) && (over(Some(self.plan.heads.preread)) || it.laws.eof);
        let is_unknown = it.lead.opening == Opening::Unknown && !self.is_heading(conn);
        let fair = failed
            || self.is_refused(conn)
            || passed_over
            || turned_away
            || head_late
            || over(self.tightest.connect)
            || over(self.tightest.connect_total);
        match (it.linger, fair) {
            _ if self.is_alerted(conn) => None,
            _ if is_unknown => Some("asked for a name that nobody has, and was not told so"),
            (false, _) if self.said_nothing(conn) => None,
            (false, _) => Some("got a FIN although no server was reached"),
            (true, false) => Some("was reset although no attempt had failed"),
            (true, true) => None,
        }
    }

    /// A peer is reset because the other failed, and only after it has got what the other sent before; or
    /// because a timeout is over with bytes left.
    fn law_reset(&self, conn: usize, other: usize) -> Option<&'static str> {
        let (it, source) = (&self.conns[conn], &self.conns[other]);
        if self.is_timed_out(conn) {
            return None;
        }
        if source.laws.fault_at.is_none() {
            return Some("was reset without a reason");
        }
        let end = &it.ends[OURS];
        if self.payload_given(conn) < self.payload_arrived(other) {
            return Some("was reset before it was sent all that the failed peer had sent");
        }
        if end.acked < end.accepted {
            return Some("was reset before it got what was on its way");
        }
        self.plan.hides_failures.then_some("was reset although it was to see an end")
    }

    fn law_clean(&self, conn: usize) -> Option<&'static str> {
        let it = &self.conns[conn];
        let is_hidden = self.is_hidden(conn);
        // What comes while they are thrown away comes too late.
        let too_late = is_hidden && self.now < it.ends[OURS].last_arrival + EARLY;
        if it.ends[OURS].unread() > 0 && !self.is_timed_out(conn) && !too_late {
            return Some("was closed with bytes unread");
        }
        // Who is let in while the process stops is to leave at the next quiet moment.
        let leaves = self.laws.drained_at.is_some();
        let whole = it.ends[OURS].fin || self.is_whole(conn) || self.is_idle_end(conn) || leaves || is_hidden;
        (!whole).then_some("was closed as if it had got everything")
    }

    /// Whether the other peer has failed, and this one is not to learn of it once it has got all that there was, or was given
    /// its time for that.
    fn is_hidden(&self, conn: usize) -> bool {
        let end = &self.conns[conn].ends[OURS];
        let failed = self.other(conn).filter(|other| self.conns[*other].laws.fault_at.is_some());
        let has_all =
            |other| self.payload_given(conn) == self.payload_arrived(other) && end.acked == end.accepted;
        self.plan.hides_failures && failed.is_some_and(|other| has_all(other) || self.is_timed_out(conn))
    }

    /// A turn that does nothing is followed by a wait.
    pub(super) fn law_spin(&mut self, wait: Option<Us>) {
        if self.laws.activity != self.laws.last_activity {
            self.laws.last_activity = self.laws.activity;
            (self.laws.idle_turns, self.laws.idle_zero_turns, self.laws.idle_since) = (0, 0, self.now);
            return;
        }
        self.laws.idle_turns += 1;
        self.laws.idle_zero_turns += u32::from(wait == Some(0));
        if self.laws.idle_zero_turns > 16 {
            // A listener that lacks descriptors is tried every 50 ms.
            if self.now < self.laws.idle_since + 16 * 25 * MS {
                self.laws.fail("the worker turns in circles".into());
            }
            (self.laws.idle_turns, self.laws.idle_zero_turns, self.laws.idle_since) = (0, 0, self.now);
        }
        if self.laws.idle_turns > 400 {
            if self.now < self.laws.idle_since + 400 * MS {
                self.laws.fail("the worker wakes too often for nothing".into());
            }
            (self.laws.idle_turns, self.laws.idle_zero_turns, self.laws.idle_since) = (0, 0, self.now);
        }
    }

    /// Who sleeps has nothing to do: every report was delivered, so whatever can be done was forgotten.
    pub(super) fn law_sleep(&mut self) {
        let broken = (0..self.laws.pairs.len()).find_map(|pair| self.forgotten(pair));
        if let Some(broken) = broken {
            self.laws.fail(broken);
        }
    }

    fn forgotten(&self, number: usize) -> Option<String> {
        let pair = &self.laws.pairs[number];
        let client = &self.conns[pair.client];
        if !client.owned || client.laws.pair != Some(number) || pair.asked {
            return None;
        }
        if let Some(left) = self.head_left_to_do(pair.client, pair.began) {
            return Some(left);
        }
        let server = pair.server.filter(|server| self.conns[*server].owned)?;
        let both = [pair.client, server];
        if !self.conns[server].laws.proven {
            let it = &self.conns[server];
            let known = it.laws.fault_at.is_some() || it.laws.unwatched;
            let over = it.established || it.ends[OURS].error.is_some();
            return (over && !known)
                .then(|| format!("the connect of #{server} has ended, and nobody looked"));
        }
        if !self.is_reached(server) {
            return self.answer_left_to_do(pair.client, server);
        }
        let fault_at = both.iter().filter_map(|conn| self.conns[*conn].laws.fault_at).min();
        if fault_at.is_none()
            && let Some(failed) = both.iter().find(|conn| self.has_failed_unseen(**conn))
        {
            return Some(format!("#{failed} has failed, and nobody looked"));
        }
        let [up, down] = [[pair.client, server], [server, pair.client]];
        self.left_to_do(up).or_else(|| self.left_to_do(down)).or_else(|| self.overdue(number, fault_at))
    }

    /// Whether a socket has failed, and the program should know. Where both ways are shut, a hang-up is
    /// the case for ever: only an edge can tell that an error follows, and what it may still cost is known to
    /// nobody but the peer.
    fn has_failed_unseen(&self, conn: usize) -> bool {
        let end = &self.conns[conn].ends[OURS];
        end.error.is_some() && (self.trigger == Trigger::Edge || !(end.fin && end.fin_arrived))
    }

    /// What could be done in one direction.
    fn left_to_do(&self, [source, target]: [usize; 2]) -> Option<String> {
        let (from, to) = (&self.conns[source], &self.conns[target]);
        let (input, output) = (&from.ends[OURS], &to.ends[OURS]);
        if output.fin || output.dead || to.laws.fault_at.is_some() || self.is_timed_out(source) {
            return None;
        }
        let broken = from.laws.fault_at.is_some();
        let held = self.payload_read(source) - self.payload_given(target);
        let ends = (input.fin_arrived && !from.laws.eof) || (input.error.is_some() && !broken);
        if held > 0 {
            return (!to.no_space)
                .then(|| format!("{held} bytes for #{target} are kept although it takes them"));
        }
        if input.unread() > 0 || ends {
            return (!self.laws.no_room && !self.is_paced(source))
                .then(|| format!("#{source} has something to read, and nobody reads"));
        }
        (from.laws.eof && !broken).then(|| format!("#{target} has got everything but the FIN"))
    }

    /// What should be over by now.
    fn overdue(&self, number: usize, fault_at: Option<Us>) -> Option<String> {
        let pair = &self.laws.pairs[number];
        let late = |limit: Us| self.now > pair.changed_at + limit + limit / 4 + LATE;
        if let (Some(_), Some(limit)) = (fault_at, self.loosest.half_close)
            && late(2 * limit)
        {
            return Some(format!("#{} or its server has failed long ago", pair.client));
        }
        let limits = self.loosest.idle.zip(self.loosest.half_close);
        (fault_at.is_none() && limits.is_some_and(|(idle, half)| late(idle.max(half))))
            .then(|| format!("#{} and its server are idle for too long", pair.client))
    }

    /// At the drain of a quiet run both peers of every connection are gone for long.
    pub(super) fn law_quiet(&mut self) {
        let open = self.descriptors;
        if self.plan.ending == Ending::Quiet && open > 0 {
            self.laws.fail(format!("{open} sockets are open long after all peers are gone"));
        }
    }
}
