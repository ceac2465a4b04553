//! One direction of a connection as counts and states.
//!
//! A flow never hears "would block": an engine that cannot do an operation now keeps it ([`Flow::park`])
//! and asks again once it can ([`Flow::resume`]). It never sees a byte either, only how many there were,
//! so the same flow serves user-space buffers, pipes, provided-buffer rings and blocking threads.

use std::num::NonZeroU32;

use super::Fault;

/// What can be done for one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Take bytes from the source.
    Fill,
    /// Give queued bytes to the target.
    Drain,
    /// Tell the target that no more bytes follow: shutdown(2) with `SHUT_WR`, a FIN.
    Finish,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// So many bytes were filled or drained.
    Moved(NonZeroU32),
    /// A fill found no room where bytes are kept, although some are queued: no more until they are gone.
    Full,
    /// A fill met the end of the source's bytes: its FIN.
    Eof,
    /// A finish is done.
    Finished,
    /// The source (of a fill) or the target (of a drain or finish) failed.
    Fault(Fault),
}

/// A set of operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpSet(u8);

impl OpSet {
    const fn bit(op: Op) -> u8 {
        match op {
            Op::Fill => 1,
            Op::Drain => 2,
            Op::Finish => 4,
        }
    }

    /// Whether `op` is in the set.
    #[must_use]
    pub const fn has(self, op: Op) -> bool {
        self.0 & Self::bit(op) != 0
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    const fn with(self, op: Op, present: bool) -> Self {
        if present { Self(self.0 | Self::bit(op)) } else { Self(self.0 & !Self::bit(op)) }
    }
}

/// What is known of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// More bytes may come.
    Open,
    /// As open, but nothing is taken until the queue is empty: a fill was answered [`Outcome::Full`].
    Stalled,
    /// It sent FIN: what is queued is all that there is.
    Ended,
    /// It failed: what is queued is delivered, but the target must not take it for the whole.
    Broken,
}

/// What is known of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// It takes bytes.
    Open,
    /// It was sent FIN.
    Finished,
    /// It failed: what is queued can never be delivered.
    Broken,
}

/// One direction of a connection.
///
/// | input | queued | output | wanted |
/// |---|---|---|---|
/// | Open | less than room | Open | Fill unless nothing may be taken now, and Drain if anything is queued |
/// | Open | room or more | Open | Drain |
/// | Stalled | some | Open | Drain |
/// | Ended, Broken | some | Open | Drain |
/// | Ended | none | Open | Finish |
/// | Broken | none | Open | nothing: the relay ends |
/// | any | any | Finished, Broken | nothing |
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    input: Input,
    output: Output,
    parked: u8,
    /// That nothing more may be taken was asked about.
    asked: bool,
    queued: u32,
    room: u32,
    /// Bytes that may still be taken, for now; below 0 where more were taken than might be.
    allowance: i32,
    moved: u64,
}

/// An allowance without an end.
const UNLIMITED: i32 = i32::MAX;

impl Flow {
    /// A direction of which nothing is known yet. It asks for no more bytes once `room` or more are
    /// queued, at least 1.
    #[must_use]
    pub fn new(room: u32) -> Self {
        debug_assert!(room > 0);
        Self {
            input: Input::Open,
            output: Output::Open,
            parked: 0,
            asked: false,
            queued: 0,
            room,
            allowance: UNLIMITED,
            moved: 0,
        }
    }

    /// Nothing is taken before it is granted.
    pub(super) fn limit(&mut self) {
        self.allowance = 0;
    }

    /// So many bytes were taken before there was a target, one or more.
    pub(super) fn preload(&mut self, bytes: NonZeroU32) {
        self.queued = bytes.get();
        self.spend(bytes);
    }

    fn spend(&mut self, bytes: NonZeroU32) {
        if self.allowance != UNLIMITED {
            let taken = i32::try_from(bytes.get()).unwrap_or(UNLIMITED);
            self.allowance = self.allowance.saturating_sub(taken);
        }
    }

    /// So many bytes more may be taken; `None`: as many as there are.
    pub(super) fn grant(&mut self, bytes: Option<u32>) {
        self.asked = false;
        // What is limited stays so, however much is granted.
        let more = |bytes: u32| self.allowance.saturating_add_unsigned(bytes).min(UNLIMITED - 1);
        self.allowance = bytes.map_or(UNLIMITED, more);
    }

    /// How many bytes may be taken now.
    #[must_use]
    pub fn allowance(&self) -> u32 {
        if self.allowance == UNLIMITED { u32::MAX } else { self.allowance.max(0).unsigned_abs() }
    }

    /// Whether bytes would be taken if any might be.
    #[must_use]
    pub fn is_dry(&self) -> bool {
        self.allowance <= 0 && self.has_use_for_bytes()
    }

    /// How many bytes more were taken than might be, once each time that nothing more may be.
    pub(super) fn ask(&mut self) -> Option<u32> {
        let asks = self.is_dry() && !self.asked;
        self.asked |= asks;
        asks.then(|| self.allowance.unsigned_abs())
    }

    fn has_use_for_bytes(&self) -> bool {
        self.output == Output::Open && self.input == Input::Open && self.queued < self.room
    }

    /// What can be started now: everything that is useful and not parked.
    #[must_use]
    pub fn wants(&self) -> OpSet {
        if self.output != Output::Open {
            return OpSet::default();
        }
        let fill = self.has_use_for_bytes() && self.allowance > 0;
        let drain = self.queued > 0;
        let finish = self.queued == 0 && self.input == Input::Ended;
        let useful = OpSet::default().with(Op::Fill, fill).with(Op::Drain, drain).with(Op::Finish, finish);
        OpSet(useful.0 & !self.parked)
    }

    /// The engine keeps this operation until it can be done: it is not offered before [`Flow::resume`] or
    /// [`Flow::finish`].
    pub fn park(&mut self, op: Op) {
        debug_assert!(self.wants().has(op), "{op:?} parked but not wanted: {self:?}");
        self.parked |= OpSet::bit(op);
    }

    /// A parked operation may be possible again. Harmless when it was not parked.
    pub fn resume(&mut self, op: Op) {
        self.parked &= !OpSet::bit(op);
    }

    /// The operations that are parked.
    #[must_use]
    pub fn parked(&self) -> OpSet {
        OpSet(self.parked)
    }

    /// An operation ended.
    ///
    /// # Errors
    /// The fault, when it ended in one; the flow has taken note of it.
    pub fn finish(&mut self, op: Op, outcome: Outcome) -> Result<(), Fault> {
        self.resume(op);
        match (op, outcome) {
            (Op::Fill, Outcome::Moved(count)) => {
                self.queued += count.get();
                self.spend(count);
            }
            (Op::Fill, Outcome::Full) => {
                debug_assert!(self.queued > 0, "full with nothing queued would never be filled again");
                self.input = Input::Stalled;
            }
            (Op::Fill, Outcome::Eof) => self.input = Input::Ended,
            (Op::Fill, Outcome::Fault(fault)) => {
                self.input = Input::Broken;
                return Err(fault);
            }
            (Op::Drain, Outcome::Moved(count)) => {
                debug_assert!(count.get() <= self.queued, "more drained than was queued");
                self.queued -= count.get();
                self.moved += u64::from(count.get());
                if self.queued == 0 && self.input == Input::Stalled {
                    self.input = Input::Open;
                }
            }
            (Op::Finish, Outcome::Finished) => self.output = Output::Finished,
            (Op::Drain | Op::Finish, Outcome::Fault(fault)) => {
                self.output = Output::Broken;
                return Err(fault);
            }
            (op, outcome) => unreachable!("{op:?} cannot end with {outcome:?}"),
        }
        Ok(())
    }

    /// The target failed elsewhere: nothing more can be delivered.
    pub(super) fn break_output(&mut self) {
        self.output = Output::Broken;
    }

    /// What is known of the source.
    #[must_use]
    pub fn input(&self) -> Input {
        self.input
    }

    /// What is known of the target.
    #[must_use]
    pub fn output(&self) -> Output {
        self.output
    }

    /// Bytes taken from the source and not yet given to the target.
    #[must_use]
    pub fn queued(&self) -> u32 {
        self.queued
    }

    /// Bytes given to the target since the beginning.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// Whether the source ended and every byte was delivered; a FIN may still be owed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.input == Input::Ended && self.queued == 0 && self.output != Output::Broken
    }

    /// Whether nothing is left that could still be delivered.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.output != Output::Open || (self.queued == 0 && self.input == Input::Broken)
    }
}
