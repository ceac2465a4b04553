//! Every state that a flow and a relay can reach in a small world, and long random lives in a larger one.
//!
//! Both kinds of engines are played: those that try an operation again after it was parked, and those whose
//! parked operation ends by itself.

use std::collections::HashSet;
use std::hash::Hash;
use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;

const OPS: [Op; 3] = [Op::Fill, Op::Drain, Op::Finish];
const SIDES: [Side; 2] = [Side::Client, Side::Server];
const FAULTS: [Fault; 2] = [Fault::Reset, Fault::Closed];

/// Visits every state that can be reached from `start`; returns how many there are.
fn visit<S: Clone + Eq + Hash>(start: S, next: impl Fn(&S) -> Vec<S>) -> usize {
    let mut seen = HashSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some(state) = open.pop() {
        for state in next(&state) {
            if !seen.contains(&state) {
                seen.insert(state.clone());
                open.push(state);
            }
        }
    }
    seen.len()
}

fn moved(count: u32) -> Outcome {
    Outcome::Moved(NonZeroU32::new(count).expect("something moved"))
}

/// Every way in which `op` can end, when at most `left` bytes more may be taken.
fn outcomes(op: Op, queued: u32, left: u32) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = FAULTS.map(Outcome::Fault).into();
    match op {
        Op::Fill => {
            outcomes.extend((1..=left.min(2)).map(moved));
            outcomes.push(Outcome::Eof);
            if queued > 0 {
                outcomes.push(Outcome::Full);
            }
        }
        Op::Drain => outcomes.extend((1..=queued.min(2)).map(moved)),
        Op::Finish => outcomes.push(Outcome::Finished),
    }
    outcomes
}

mod flow {
    use super::*;

    /// More than twelve reads can take. Beyond it nothing is new: a flow does not decide by its totals.
    const MOST: u32 = 24;

    /// A flow, and what its two sockets would say of it.
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    struct Told {
        flow: Flow,
        room: u32,
        taken: u32,
        given: u32,
        full: bool,
        fin_taken: bool,
        source_failed: bool,
        fin_given: bool,
        target_failed: bool,
    }

    impl Told {
        fn new(room: u32) -> Self {
            Self {
                flow: Flow::new(room),
                room,
                taken: 0,
                given: 0,
                full: false,
                fin_taken: false,
                source_failed: false,
                fin_given: false,
                target_failed: false,
            }
        }

        fn finish(&self, op: Op, outcome: Outcome) -> Self {
            let mut told = self.clone();
            let answer = told.flow.finish(op, outcome);
            match (op, outcome) {
                (Op::Fill, Outcome::Moved(count)) => told.taken += count.get(),
                (Op::Fill, Outcome::Full) => told.full = true,
                (Op::Fill, Outcome::Eof) => told.fin_taken = true,
                (Op::Fill, _) => told.source_failed = true,
                (Op::Drain, Outcome::Moved(count)) => told.given += count.get(),
                (Op::Finish, Outcome::Finished) => {
                    assert!(!told.fin_given, "a second FIN: {self:?}");
                    told.fin_given = true;
                }
                (Op::Drain | Op::Finish, _) => told.target_failed = true,
            }
            told.full &= told.given < told.taken;
            let fault = if let Outcome::Fault(fault) = outcome { Err(fault) } else { Ok(()) };
            assert_eq!(answer, fault, "{self:?}");
            told
        }

        fn park(&self, op: Op) -> Self {
            let mut told = self.clone();
            told.flow.park(op);
            told
        }

        fn resume(&self, op: Op) -> Self {
            let mut told = self.clone();
            told.flow.resume(op);
            told
        }

        fn next(&self) -> Vec<Self> {
            self.check();
            let (wants, parked) = (self.flow.wants(), self.flow.parked());
            let mut next = Vec::new();
            for op in OPS.into_iter().filter(|op| wants.has(*op) || parked.has(*op)) {
                let outcomes = outcomes(op, self.flow.queued(), MOST - self.taken);
                next.extend(outcomes.into_iter().map(|outcome| self.finish(op, outcome)));
                next.push(if wants.has(op) { self.park(op) } else { self.resume(op) });
            }
            next
        }

        /// What must be wanted, told by what has happened alone.
        fn useful(&self, op: Op) -> bool {
            let queued = self.taken - self.given;
            let open = !self.fin_given && !self.target_failed;
            open && match op {
                Op::Fill => queued < self.room && !self.full && !self.fin_taken && !self.source_failed,
                Op::Drain => queued > 0,
                Op::Finish => queued == 0 && self.fin_taken,
            }
        }

        fn check(&self) {
            let flow = &self.flow;
            assert_eq!(flow.moved(), u64::from(self.given), "{self:?}");
            assert_eq!(flow.queued(), self.taken - self.given, "bytes were lost or made: {self:?}");
            for op in OPS {
                let offered = self.useful(op) && !flow.parked().has(op);
                assert_eq!(flow.wants().has(op), offered, "{op:?}: {self:?}");
                // The one who keeps an operation of a failed target is told of the failure by the relay.
                let kept_in_vain = flow.parked().has(op) && !self.useful(op);
                assert!(!kept_in_vain || self.target_failed, "{op:?} is waited for in vain: {self:?}");
            }
            let complete = self.fin_taken && self.taken == self.given && !self.target_failed;
            assert_eq!(flow.is_complete(), complete, "{self:?}");
            let dry = self.source_failed && self.taken == self.given;
            assert_eq!(flow.is_spent(), self.fin_given || self.target_failed || dry, "{self:?}");
            if !flow.is_spent() {
                assert!(!flow.wants().is_empty() || !flow.parked().is_empty(), "it hangs: {self:?}");
            }
        }
    }

    #[test]
    fn in_every_state_it_wants_what_is_useful_and_nothing_else() {
        for room in 1..=3 {
            let states = visit(Told::new(room), Told::next);
            println!("room {room}: {states} states");
            assert!(states > 300, "the search found only {states} states");
        }
    }

    #[test]
    fn after_full_nothing_is_taken_until_the_queue_is_empty() {
        let mut flow = Flow::new(100);
        flow.finish(Op::Fill, moved(10)).expect("no fault");
        assert!(flow.wants().has(Op::Fill), "there is room for more");
        flow.finish(Op::Fill, Outcome::Full).expect("no fault");
        flow.finish(Op::Drain, moved(9)).expect("no fault");
        assert!(!flow.wants().has(Op::Fill));
        flow.finish(Op::Drain, moved(1)).expect("no fault");
        assert!(flow.wants().has(Op::Fill));
        assert!(!flow.wants().has(Op::Drain));
    }

    #[test]
    fn a_large_read_beyond_the_room_is_counted_whole() {
        let mut flow = Flow::new(1);
        flow.finish(Op::Fill, moved(1 << 30)).expect("no fault");
        assert_eq!(flow.queued(), 1 << 30);
        assert!(!flow.wants().has(Op::Fill));
    }
}

/// What the two peers know, and what follows from it: a relay in thirty lines, told by totals alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Peers {
    taken: [u32; 2],
    given: [u32; 2],
    /// The source's FIN was taken, or a read of it failed: by direction.
    fin_taken: [bool; 2],
    dry: [bool; 2],
    fin_given: [bool; 2],
    /// How each side failed first, and which of them failed first.
    faults: [Option<Fault>; 2],
    first: Option<Side>,
}

impl Peers {
    fn tell(&mut self, dir: Dir, op: Op, outcome: Outcome) {
        let at = dir.index();
        match (op, outcome) {
            (Op::Fill, Outcome::Moved(count)) => self.taken[at] += count.get(),
            (Op::Drain, Outcome::Moved(count)) => self.given[at] += count.get(),
            (_, Outcome::Full) => {}
            (_, Outcome::Finished) => self.fin_given[at] = true,
            // A peer that was reset ends with a 0 that is no FIN.
            (_, Outcome::Eof) => match self.faults[dir.source() as usize] {
                None | Some(Fault::Closed) => self.fin_taken[at] = true,
                Some(_) => self.dry[at] = true,
            },
            (Op::Fill, Outcome::Fault(fault)) => {
                self.dry[at] = true;
                self.fail(dir.source(), fault);
            }
            (_, Outcome::Fault(fault)) => self.fail(dir.target(), fault),
            (Op::Finish, Outcome::Moved(_)) => unreachable!("a FIN has no bytes"),
        }
    }

    fn fail(&mut self, side: Side, fault: Fault) {
        self.faults[side as usize].get_or_insert(fault);
        self.first.get_or_insert(side);
    }

    fn queued(&self, dir: Dir) -> u32 {
        self.taken[dir.index()] - self.given[dir.index()]
    }

    fn end(&self) -> Option<End> {
        let Some(by) = self.first else {
            let whole = |dir: Dir| self.fin_taken[dir.index()] && self.queued(dir) == 0;
            return Dir::BOTH.into_iter().all(whole).then_some(End::Clean);
        };
        let last = by.outbound();
        let delivered = self.queued(last) == 0 && (self.dry[last.index()] || self.fin_given[last.index()]);
        let fault = self.faults[by as usize].expect("it failed");
        (delivered || self.faults[by.other() as usize].is_some()).then_some(End::Reset { by, fault })
    }
}

/// A relay and its peers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Play {
    relay: Relay,
    peers: Peers,
    last_fill: Option<Dir>,
    /// The most bytes that each source has.
    most: u32,
}

impl Play {
    fn new(room: u32, most: u32) -> Self {
        Self { relay: Relay::new(room), peers: Peers::default(), last_fill: None, most }
    }

    /// Every way in which `op` can end here.
    fn outcomes(&self, dir: Dir, op: Op) -> Vec<Outcome> {
        outcomes(op, self.relay.flow(dir).queued(), self.most - self.peers.taken[dir.index()])
    }

    fn handle(&mut self, dir: Dir, op: Op, outcome: Outcome) {
        let before = self.relay.progress();
        self.relay.handle(dir, op, outcome);
        self.peers.tell(dir, op, outcome);
        if op == Op::Fill {
            self.last_fill = Some(dir);
        }
        if op == Op::Drain && matches!(outcome, Outcome::Moved(_)) {
            assert_ne!(before, self.relay.progress(), "a delivery is no progress: {self:?}");
        }
    }

    /// What an engine does that tries what it is told: one scratch buffer serves both directions, so what
    /// was just read must be offered to its target before anything else.
    fn obey(&mut self, dir: Dir, op: Op, outcome: Outcome) {
        let drain_waits = self.relay.flow(dir).parked().has(Op::Drain);
        self.handle(dir, op, outcome);
        let read = op == Op::Fill && matches!(outcome, Outcome::Moved(_));
        if read && !drain_waits && self.relay.end().is_none() {
            assert_eq!(self.relay.poll(), Some((dir, Op::Drain)), "{self:?}");
        }
    }

    fn fail(&mut self, side: Side, fault: Fault) {
        self.relay.fail(side, fault);
        self.peers.fail(side, fault);
    }

    /// Parked operations of both directions.
    fn parked(&self) -> impl Iterator<Item = (Dir, Op)> + use<> {
        let parked = Dir::BOTH.map(|dir| self.relay.flow(dir).parked());
        Dir::BOTH
            .into_iter()
            .flat_map(|dir| OPS.map(|op| (dir, op)))
            .filter(move |(dir, op)| parked[dir.index()].has(*op))
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut play = self.clone();
        change(&mut play);
        play
    }

    fn next(&self) -> Vec<Self> {
        self.check();
        if self.relay.end().is_some() {
            return Vec::new();
        }
        let mut next = Vec::new();
        if let Some((dir, op)) = self.relay.poll() {
            let outcomes = self.outcomes(dir, op).into_iter();
            next.extend(outcomes.map(|outcome| self.with(|play| play.obey(dir, op, outcome))));
            next.push(self.with(|play| play.relay.park(dir, op)));
        }
        for (dir, op) in self.parked() {
            let outcomes = self.outcomes(dir, op).into_iter();
            next.extend(outcomes.map(|outcome| self.with(|play| play.handle(dir, op, outcome))));
            next.push(self.with(|play| play.relay.resume(dir, op)));
        }
        for side in SIDES.into_iter().filter(|side| self.peers.faults[*side as usize].is_none()) {
            next.extend(FAULTS.map(|fault| self.with(|play| play.fail(side, fault))));
        }
        next
    }

    fn check(&self) {
        let (relay, peers) = (&self.relay, &self.peers);
        assert_eq!(relay.end(), peers.end(), "{self:?}");
        assert_eq!(relay.broken(), peers.first, "{self:?}");
        let queued = Dir::BOTH.map(|dir| peers.queued(dir));
        assert_eq!(relay.holds_bytes(), queued != [0; 2], "{self:?}");
        let progress = relay.progress();
        assert_eq!(progress.moved, peers.given.map(u64::from), "{self:?}");
        for dir in Dir::BOTH {
            assert_eq!(relay.flow(dir).queued(), peers.queued(dir), "{self:?}");
        }
        if let Some(end) = relay.end() {
            assert_eq!(relay.poll(), None, "{self:?}");
            // A peer that ends a relay by its failure leaves the other short only if that one failed too.
            let failed = SIDES.map(|side| peers.faults[side as usize].is_some());
            assert!(!relay.is_short() || (end != End::Clean && failed == [true; 2]), "{self:?}");
            return;
        }
        self.check_offer();
        self.check_waiting_for(progress);
        self.check_stop();
        self.check_it_can_end();
    }

    /// Law of the next operation: never nothing while nothing waits, no FIN for half a stream, and neither
    /// direction is filled twice while the other could be.
    fn check_offer(&self) {
        let Some((dir, op)) = self.relay.poll() else {
            assert!(self.parked().next().is_some(), "it hangs: {self:?}");
            return;
        };
        match op {
            Op::Finish => assert!(self.peers.fin_taken[dir.index()], "a FIN of our own: {self:?}"),
            Op::Drain => assert!(self.peers.queued(dir) > 0, "{self:?}"),
            Op::Fill if self.last_fill == Some(dir) => {
                let other = self.relay.flow(dir.other()).wants();
                assert!(!other.has(Op::Fill), "{dir:?} is filled twice in a row: {self:?}");
            }
            Op::Fill => {}
        }
    }

    fn check_waiting_for(&self, progress: Progress) {
        let peers = &self.peers;
        let ended = SIDES.map(|side| peers.fin_taken[side.outbound().index()] || peers.first == Some(side));
        match ended {
            [false, false] => assert_eq!(progress.waiting_for, None, "{self:?}"),
            [true, false] => assert_eq!(progress.waiting_for, Some(Side::Server), "{self:?}"),
            [false, true] => assert_eq!(progress.waiting_for, Some(Side::Client), "{self:?}"),
            [true, true] => assert!(progress.waiting_for.is_some(), "{self:?}"),
        }
    }

    fn check_stop(&self) {
        for why in [End::Idle, End::HalfIdle { waiting_for: Side::Client }, End::Killed] {
            let mut relay = self.relay.clone();
            relay.stop(why);
            let expected = match self.peers.first {
                Some(by) if why != End::Killed => {
                    End::Reset { by, fault: self.peers.faults[by as usize].expect("it failed") }
                }
                _ => why,
            };
            assert_eq!((relay.end(), relay.poll()), (Some(expected), None), "{self:?}");
        }
    }

    /// If from now on both peers send FIN and take everything, the relay ends soon.
    fn check_it_can_end(&self) {
        let mut play = self.clone();
        for (dir, op) in self.parked() {
            play.relay.resume(dir, op);
        }
        for _ in 0..16 {
            let Some((dir, op)) = play.relay.poll() else { break };
            let outcome = match op {
                Op::Fill => Outcome::Eof,
                Op::Drain => moved(play.relay.flow(dir).queued()),
                Op::Finish => Outcome::Finished,
            };
            play.handle(dir, op, outcome);
        }
        assert!(play.relay.end().is_some(), "no end in sight: {self:?}, then {play:?}");
        assert_eq!(play.relay.end(), play.peers.end(), "{self:?}");
    }
}

#[test]
fn in_every_state_a_relay_agrees_with_its_peers() {
    for (room, most) in [(1, 3), (2, 3)] {
        let states = visit(Play::new(room, most), Play::next);
        println!("room {room}, {most} bytes a side: {states} states");
        assert!(states > 20_000, "the search found only {states} states");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A choice is made by its place among those that there are, and how many bytes move by its size; a
    /// failure is rare, so that lives are long.
    #[test]
    fn in_a_long_random_life_a_relay_agrees_with_its_peers(
        room in 1_u32..70_000,
        choices in prop::collection::vec(any::<u16>(), 1..400),
    ) {
        let mut play = Play::new(room, u32::MAX >> 1);
        for choice in choices {
            play.check();
            if play.relay.end().is_some() {
                break;
            }
            let offer = play.relay.poll();
            let kept: Vec<(Dir, Op)> = play.parked().collect();
            let among = usize::from(choice >> 8) % (2 + kept.len());
            match (offer, kept.get(among.wrapping_sub(2))) {
                (_, Some((dir, op))) if choice & 1 == 0 => play.relay.resume(*dir, *op),
                (_, Some((dir, op))) => {
                    let outcome = some_outcome(&play, *dir, *op, choice);
                    play.handle(*dir, *op, outcome);
                }
                (Some((dir, op)), None) if choice & 7 == 0 => play.relay.park(dir, op),
                (Some((dir, op)), None) => {
                    let outcome = some_outcome(&play, dir, op, choice);
                    play.obey(dir, op, outcome);
                }
                (None, None) if choice & 63 == 0 => play.fail(Side::Server, Fault::TimedOut),
                (None, None) => {}
            }
        }
    }
}

/// One of the ways in which `op` can end, most often with bytes.
fn some_outcome(play: &Play, dir: Dir, op: Op, choice: u16) -> Outcome {
    let queued = play.relay.flow(dir).queued();
    match (op, choice % 61) {
        (_, 0) => Outcome::Fault(Fault::Reset),
        (_, 1) if op != Op::Fill => Outcome::Fault(Fault::Closed),
        (Op::Fill, 2..4) => Outcome::Eof,
        (Op::Fill, 4..9) if queued > 0 => Outcome::Full,
        (Op::Fill, _) => moved(u32::from(choice) + 1),
        (Op::Drain, _) => moved(1 + u32::from(choice) % queued),
        (Op::Finish, _) => Outcome::Finished,
    }
}

/// Lets a relay go on as `port` answers; what it says `None` to is parked.
fn run(relay: &mut Relay, mut port: impl FnMut(Dir, Op) -> Option<Outcome>) {
    for _ in 0..100 {
        let Some((dir, op)) = relay.poll() else { return };
        match port(dir, op) {
            Some(outcome) => relay.handle(dir, op, outcome),
            None => relay.park(dir, op),
        }
    }
    panic!("it goes round in circles: {relay:?}");
}

#[test]
fn two_busy_directions_take_turns() {
    let mut relay = Relay::new(100);
    let mut fills = Vec::new();
    while fills.len() < 6 {
        let (dir, op) = relay.poll().expect("both are busy");
        if op == Op::Fill {
            fills.push(dir);
        }
        relay.handle(dir, op, moved(10));
    }
    assert_eq!(fills, [Dir::Up, Dir::Down, Dir::Up, Dir::Down, Dir::Up, Dir::Down]);
}

/// One thread for each direction may tell of what it has delivered only after the answer to that was.
#[test]
fn an_answer_is_later_than_its_question_whoever_tells_first() {
    let mut relay = Relay::new(100);
    assert_eq!(relay.last(), None);
    relay.handle(Dir::Up, Op::Fill, moved(10));
    relay.handle(Dir::Down, Op::Fill, moved(10));
    relay.handle(Dir::Down, Op::Drain, moved(10));
    relay.handle(Dir::Up, Op::Drain, moved(10));
    assert_eq!(relay.last(), Some(Dir::Down));
    assert_eq!(Relay::new(100).preloaded(5).last(), Some(Dir::Up));
}

#[test]
fn who_speaks_is_told_until_the_server_does_and_then_no_more() {
    let told = |relay: &mut Relay| std::iter::from_fn(|| relay.news()).collect::<Vec<_>>();
    let mut relay = Relay::new(100).awaiting(true);
    assert_eq!(told(&mut relay), []);
    for _ in 0..2 {
        relay.handle(Dir::Up, Op::Fill, moved(10));
        assert_eq!(told(&mut relay), [News::Spoke(Side::Client)]);
        relay.handle(Dir::Up, Op::Drain, moved(10));
        assert_eq!(told(&mut relay), [], "that it is delivered tells nothing");
    }
    relay.handle(Dir::Up, Op::Fill, moved(1));
    relay.handle(Dir::Down, Op::Fill, moved(1));
    assert_eq!(
        told(&mut relay),
        [News::Spoke(Side::Server)],
        "what came at once with an answer was no question"
    );
    for dir in Dir::BOTH {
        relay.handle(dir, Op::Fill, moved(1));
        assert_eq!(told(&mut relay), []);
    }
    assert_eq!(told(&mut Relay::new(100).awaiting(true).preloaded(5)), [News::Spoke(Side::Client)]);
    assert_eq!(told(&mut Relay::new(100).preloaded(5)), [], "nobody awaits it");
}

/// An answer that comes whole, with its end, is one.
#[test]
fn an_answer_that_ends_the_relay_is_told() {
    let mut relay = Relay::new(100).awaiting(true);
    relay.handle(Dir::Up, Op::Fill, moved(1));
    assert_eq!(relay.news(), Some(News::Spoke(Side::Client)));
    relay.handle(Dir::Up, Op::Drain, moved(1));
    relay.handle(Dir::Up, Op::Fill, Outcome::Eof);
    relay.handle(Dir::Down, Op::Fill, moved(1));
    relay.handle(Dir::Down, Op::Drain, moved(1));
    relay.handle(Dir::Down, Op::Fill, Outcome::Eof);
    assert_eq!(relay.end(), Some(End::Clean));
    assert_eq!((relay.news(), relay.news()), (Some(News::Spoke(Side::Server)), None));
}

proptest! {
    /// However often it is asked: the client is told of where it has spoken alone since, the server once.
    #[test]
    fn whoever_spoke_since_it_was_asked_is_told(life in prop::collection::vec(0_u8..4, 0..60)) {
        let mut relay = Relay::new(1_000).awaiting(true);
        let (mut client, mut server, mut is_over) = (false, false, false);
        for step in life {
            match step {
                0 => (client, _) = (true, relay.handle(Dir::Up, Op::Fill, moved(1))),
                1 => (server, _) = (true, relay.handle(Dir::Down, Op::Fill, moved(1))),
                _ => {
                    let side = if server { Side::Server } else { Side::Client };
                    let expected = (!is_over && (client || server)).then_some(News::Spoke(side));
                    prop_assert_eq!(relay.news(), expected);
                    is_over |= server;
                    client = false;
                }
            }
        }
    }
}

#[test]
fn what_is_limited_stays_so_however_much_is_granted() {
    let mut flow = Flow::new(8);
    flow.limit();
    for _ in 0..3 {
        flow.grant(Some(u32::MAX));
    }
    let before = flow.allowance();
    assert!(before < u32::MAX, "that would be without an end");
    flow.finish(Op::Fill, Outcome::Moved(NonZeroU32::new(5).expect("five"))).expect("it is no fault");
    assert_eq!(flow.allowance(), before - 5);
    flow.grant(None);
    assert_eq!(flow.allowance(), u32::MAX);
}

#[test]
fn a_half_close_leaves_the_other_direction_open() {
    let mut relay = Relay::new(100);
    let mut done = Vec::new();
    run(&mut relay, |dir, op| {
        let outcome = match (dir, op) {
            (Dir::Up, Op::Fill) => Outcome::Eof,
            (Dir::Down, Op::Fill) => return None,
            (_, Op::Finish) => Outcome::Finished,
            (_, Op::Drain) => unreachable!("nothing was sent"),
        };
        done.push((dir, op));
        Some(outcome)
    });
    assert_eq!(done, [(Dir::Up, Op::Fill), (Dir::Up, Op::Finish)]);
    assert_eq!(relay.end(), None);
    assert_eq!(relay.progress().waiting_for, Some(Side::Server));
    relay.resume(Dir::Down, Op::Fill);
    assert_eq!(relay.poll(), Some((Dir::Down, Op::Fill)));
}

#[test]
fn a_zero_after_a_reset_is_no_fin_but_after_a_broken_pipe_it_is() {
    for (fault, fin) in [(Fault::Reset, false), (Fault::TimedOut, false), (Fault::Closed, true)] {
        let mut relay = Relay::new(100);
        let (mut read, mut finished) = (0, false);
        relay.fail(Side::Server, fault);
        run(&mut relay, |dir, op| {
            assert_eq!(dir, Dir::Down, "nobody takes what the client sends");
            Some(match op {
                Op::Fill if read < 3 => {
                    read += 1;
                    moved(50)
                }
                Op::Fill => Outcome::Eof,
                Op::Drain => moved(50),
                Op::Finish => {
                    finished = true;
                    Outcome::Finished
                }
            })
        });
        assert_eq!(relay.end(), Some(End::Reset { by: Side::Server, fault }));
        assert_eq!(relay.flow(Dir::Down).moved(), 150, "what came before {fault} was delivered");
        assert_eq!(finished, fin, "{fault}");
    }
}

#[test]
fn what_is_held_for_a_failed_peer_leaves_nobody_short() {
    let mut relay = Relay::new(100);
    relay.handle(Dir::Up, Op::Fill, moved(7));
    relay.handle(Dir::Down, Op::Fill, moved(8));
    relay.handle(Dir::Up, Op::Drain, Outcome::Fault(Fault::Reset));
    assert!(relay.is_short(), "the client was not given its 8 bytes");
    relay.handle(Dir::Down, Op::Drain, moved(8));
    relay.handle(Dir::Down, Op::Fill, Outcome::Eof);
    assert_eq!(relay.end(), Some(End::Reset { by: Side::Server, fault: Fault::Reset }));
    assert!(relay.holds_bytes() && !relay.is_short(), "the server's 7 are nobody's loss");
}

#[test]
fn nothing_changes_after_the_end() {
    let mut relay = Relay::new(100);
    relay.handle(Dir::Up, Op::Fill, moved(7));
    relay.stop(End::Idle);
    let ended = relay.clone();
    relay.handle(Dir::Up, Op::Drain, moved(7));
    relay.handle(Dir::Down, Op::Fill, Outcome::Fault(Fault::Reset));
    relay.stop(End::Killed);
    assert_eq!(relay, ended);
    assert!(relay.holds_bytes());
}
