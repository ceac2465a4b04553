//! The life of a relay, told by bytes: each byte is something that an engine, a peer or a timer does. After each
//! the relay is held against what its sockets would say.

use std::num::NonZeroU32;

use tidegate::relay::{Dir, End, Fault, Input, Op, Outcome, Output, Relay, Side};

const OPS: [Op; 3] = [Op::Fill, Op::Drain, Op::Finish];
const SIDES: [Side; 2] = [Side::Client, Side::Server];
const FAULTS: [Fault; 3] = [Fault::Reset, Fault::Closed, Fault::TimedOut];
/// Far more steps than an engine that always succeeds needs for what is left.
const STEPS_TO_THE_END: usize = 64;

/// Plays the life that `bytes` tell, then brings it to its end: that must come.
///
/// # Panics
/// When the relay does what it must not.
pub(crate) fn play(bytes: &[u8]) {
    let [room, life @ ..] = bytes else { return };
    let mut world = World::new(u32::from(*room) + 1);
    for byte in life {
        world.step(byte & 7, byte >> 3);
        world.check();
    }
    for _ in 0..STEPS_TO_THE_END {
        if world.relay.end().is_some() {
            return;
        }
        world.succeed();
        world.check();
    }
    panic!("it does not end: {world:?}");
}

/// A relay, and beside it what was done, told without looking at it.
#[derive(Debug)]
struct World {
    relay: Relay,
    room: u32,
    lanes: [Lane; 2],
    /// The peer that failed first.
    failed: Option<(Side, Fault)>,
    /// How it was ended on purpose.
    stopped: Option<End>,
    end: Option<End>,
}

/// One direction.
#[derive(Debug, Default)]
struct Lane {
    taken: u64,
    given: u64,
    /// The source's FIN was seen.
    fin_taken: bool,
    /// The target was sent FIN.
    fin_given: bool,
    /// Operations that wait in the engine, in the order of [`OPS`].
    parked: [bool; 3],
}

impl World {
    fn new(room: u32) -> Self {
        let relay = Relay::new(room);
        Self { relay, room, lanes: Default::default(), failed: None, stopped: None, end: None }
    }

    fn step(&mut self, action: u8, argument: u8) {
        let (dir, op) = (Dir::BOTH[usize::from(argument & 1)], OPS[usize::from(argument >> 1) % 3]);
        match action {
            // The engine tries what is wanted, with more or less luck.
            0..=3 => {
                if let Some((dir, op)) = self.poll() {
                    self.ends(dir, op, u32::from(argument) * [1, 1, 7, 41][usize::from(action)]);
                }
            }
            4 => {
                if let Some((dir, op)) = self.poll() {
                    self.relay.park(dir, op);
                    self.lanes[dir.index()].parked[op as usize] = true;
                }
            }
            // Something that was parked becomes possible, or, with an engine of the other kind, has ended.
            5 => self.resume(dir, op),
            6 => {
                if self.end.is_none() && self.lanes[dir.index()].parked[op as usize] {
                    self.ends(dir, op, u32::from(argument));
                }
            }
            _ if argument < 16 => {
                let (side, fault) =
                    (SIDES[usize::from(argument & 1)], FAULTS[usize::from(argument >> 1) % 3]);
                self.failed.get_or_insert((side, fault));
                self.relay.fail(side, fault);
            }
            _ if argument > 28 => {
                let why = [End::Idle, End::HalfIdle { waiting_for: Side::Server }, End::Killed]
                    [usize::from(argument) - 29];
                self.stopped.get_or_insert(why);
                self.relay.stop(why);
            }
            _ => self.resume(dir, op),
        }
    }

    /// What the relay wants now; it must be useful and not parked.
    fn poll(&mut self) -> Option<(Dir, Op)> {
        let (dir, op) = self.relay.poll()?;
        let lane = &self.lanes[dir.index()];
        let queued = lane.taken - lane.given;
        let useful = match op {
            Op::Fill => queued < u64::from(self.room) && !lane.fin_taken,
            Op::Drain => queued > 0,
            Op::Finish => queued == 0 && lane.fin_taken,
        };
        assert!(useful && !lane.fin_given, "{op:?} {dir:?} is of no use: {self:?}");
        assert!(!lane.parked[op as usize], "{op:?} {dir:?} is parked: {self:?}");
        assert!(self.end.is_none(), "{op:?} {dir:?} after the end: {self:?}");
        Some((dir, op))
    }

    /// The operation ends, in a way that `luck` chooses.
    fn ends(&mut self, dir: Dir, op: Op, luck: u32) {
        let lane = &mut self.lanes[dir.index()];
        let queued = u32::try_from(lane.taken - lane.given).expect("a room or two");
        lane.parked[op as usize] = false;
        let fault = FAULTS[luck as usize % 3];
        let moved = |most: u32| NonZeroU32::new(luck.min(most)).map(Outcome::Moved);
        let outcome = match op {
            Op::Fill if luck == 1 => Outcome::Eof,
            Op::Fill if luck == 2 && queued > 0 => Outcome::Full,
            // What is in flight when a flow fills up still comes, up to a room more.
            Op::Fill => moved(self.room).unwrap_or(Outcome::Fault(fault)),
            Op::Drain => moved(queued).unwrap_or(Outcome::Fault(fault)),
            Op::Finish if luck > 2 => Outcome::Finished,
            Op::Finish => Outcome::Fault(fault),
        };
        self.done(dir, op, outcome);
    }

    fn done(&mut self, dir: Dir, op: Op, outcome: Outcome) {
        let lane = &mut self.lanes[dir.index()];
        // A 0 that is read after a reset is no FIN; after EPIPE it is one.
        let was_reset =
            self.failed.is_some_and(|(side, fault)| side == dir.source() && fault != Fault::Closed);
        match (op, outcome) {
            (Op::Fill, Outcome::Moved(count)) => lane.taken += u64::from(count.get()),
            (_, Outcome::Moved(count)) => lane.given += u64::from(count.get()),
            (_, Outcome::Eof) => lane.fin_taken |= !was_reset,
            (_, Outcome::Finished) => {
                assert!(!lane.fin_given, "a second FIN: {self:?}");
                assert!(lane.fin_taken && lane.given == lane.taken, "an early FIN: {self:?}");
                lane.fin_given = true;
            }
            (_, Outcome::Full) => {}
            (_, Outcome::Fault(fault)) => {
                let side = if op == Op::Fill { dir.source() } else { dir.target() };
                self.failed.get_or_insert((side, fault));
            }
        }
        self.relay.handle(dir, op, outcome);
    }

    fn resume(&mut self, dir: Dir, op: Op) {
        self.lanes[dir.index()].parked[op as usize] = false;
        self.relay.resume(dir, op);
    }

    /// Both peers finish, and take everything.
    fn succeed(&mut self) {
        for dir in Dir::BOTH {
            OPS.into_iter().for_each(|op| self.resume(dir, op));
        }
        let Some((dir, op)) = self.poll() else { panic!("nothing is wanted before the end: {self:?}") };
        let lane = &self.lanes[dir.index()];
        let outcome = match op {
            Op::Fill => Outcome::Eof,
            Op::Drain => Outcome::Moved(
                u32::try_from(lane.taken - lane.given)
                    .ok()
                    .and_then(NonZeroU32::new)
                    .expect("checked by poll"),
            ),
            Op::Finish => Outcome::Finished,
        };
        self.done(dir, op, outcome);
    }

    fn check(&mut self) {
        for dir in Dir::BOTH {
            let (lane, flow) = (&self.lanes[dir.index()], self.relay.flow(dir));
            assert_eq!(flow.moved(), lane.given, "{self:?}");
            assert_eq!(
                u64::from(flow.queued()),
                lane.taken - lane.given,
                "bytes were lost or made: {self:?}"
            );
            for op in OPS {
                assert_eq!(flow.parked().has(op), lane.parked[op as usize], "{op:?} {dir:?}: {self:?}");
            }
        }
        let progress = self.relay.progress();
        assert_eq!(progress.moved, [self.lanes[0].given, self.lanes[1].given], "{self:?}");
        assert_eq!(
            self.relay.holds_bytes(),
            self.lanes.iter().any(|lane| lane.taken > lane.given),
            "{self:?}"
        );
        assert_eq!(self.relay.broken(), self.failed.map(|(side, _)| side), "{self:?}");

        let end = self.relay.end();
        if self.end.is_some() {
            assert_eq!(end, self.end, "the end changed: {self:?}");
            return;
        }
        self.end = end;
        match end {
            None => self.check_living(),
            Some(end) => self.check_end(end),
        }
    }

    /// A life that goes on has something to do, or to wait for.
    fn check_living(&mut self) {
        assert_eq!(self.stopped, None, "{self:?}");
        let waits = self.lanes.iter().any(|lane| lane.parked.contains(&true));
        assert!(waits || self.poll().is_some(), "nothing will ever happen: {self:?}");
    }

    fn check_end(&self, end: End) {
        let whole = |dir: Dir| {
            let lane = &self.lanes[dir.index()];
            lane.fin_taken && lane.given == lane.taken
        };
        let right = match (end, self.failed, self.stopped) {
            (End::Killed, _, Some(End::Killed)) => true,
            (End::Reset { by, fault }, Some(first), stopped) => {
                let flow = self.relay.flow(by.outbound());
                let delivered = flow.queued() == 0 && flow.input() != Input::Open;
                first == (by, fault) && (stopped.is_some() || delivered || flow.output() != Output::Open)
            }
            (End::Clean, None, None) => whole(Dir::Up) && whole(Dir::Down),
            (end, None, stopped) => stopped == Some(end),
            _ => false,
        };
        assert!(right, "no reason for {end:?}: {self:?}");
    }
}
