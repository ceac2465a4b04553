//! [`drive`] over peers that live in memory, with one scratch buffer as a real worker has.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;

/// Two peers in memory. A direction's bytes are counted up from 0, so that each tells its place.
#[derive(Debug, Default)]
struct Peers {
    /// How many bytes each source has sent, and how many of them were read; then comes its FIN.
    sent: [usize; 2],
    read: [usize; 2],
    got: [Vec<u8>; 2],
    fins: [u32; 2],
    /// The scratch buffer: bytes of one direction that were just read.
    scratch: Option<(Dir, Vec<u8>)>,
    tails: [VecDeque<u8>; 2],
    fills: u32,
    /// The most that each attempt in turn may move, 0 being "not now"; without limit when it is empty.
    limits: VecDeque<usize>,
}

impl Peers {
    fn with(sent: [usize; 2]) -> Self {
        Self { sent, ..Self::default() }
    }

    fn fill(&mut self, dir: Dir, limit: usize) -> Attempt {
        assert!(self.scratch.is_none(), "bytes in the scratch buffer would be overwritten");
        if !self.tails[dir.index()].is_empty() {
            return Attempt::Done(Outcome::Full);
        }
        let (read, sent) = (self.read[dir.index()], self.sent[dir.index()]);
        let until = sent.min(read.saturating_add(limit));
        self.read[dir.index()] = until;
        let bytes: Vec<u8> = (read..until).map(|place| place as u8).collect();
        let Some(count) = count(bytes.len()) else { return Attempt::Done(Outcome::Eof) };
        self.scratch = Some((dir, bytes));
        Attempt::Done(Outcome::Moved(count))
    }

    fn drain(&mut self, dir: Dir, limit: usize) -> Attempt {
        let tail = &mut self.tails[dir.index()];
        if let Some((of, bytes)) = self.scratch.take() {
            assert_eq!(of, dir, "what was read must be offered to its target before anything else");
            tail.extend(bytes);
        }
        let taken = tail.len().min(limit);
        self.got[dir.index()].extend(tail.drain(..taken));
        count(taken).map_or(Attempt::Parked, |count| Attempt::Done(Outcome::Moved(count)))
    }

    fn is_whole(&self) -> bool {
        Dir::BOTH.into_iter().all(|dir| {
            let got = &self.got[dir.index()];
            let in_order = got.iter().enumerate().all(|(place, byte)| *byte == place as u8);
            in_order && got.len() == self.sent[dir.index()]
        })
    }
}

fn count(count: usize) -> Option<NonZeroU32> {
    NonZeroU32::new(u32::try_from(count).expect("small"))
}

impl Port for Peers {
    fn attempt(&mut self, dir: Dir, op: Op, _: u32) -> Attempt {
        let limit = self.limits.pop_front().unwrap_or(usize::MAX);
        match op {
            Op::Drain => self.drain(dir, limit),
            Op::Finish => {
                self.fins[dir.index()] += 1;
                Attempt::Done(Outcome::Finished)
            }
            Op::Fill if limit == 0 => Attempt::Parked,
            Op::Fill => {
                self.fills += 1;
                self.fill(dir, limit)
            }
        }
    }
}

fn resume_all(relay: &mut Relay) {
    for dir in Dir::BOTH {
        for op in [Op::Fill, Op::Drain, Op::Finish] {
            relay.resume(dir, op);
        }
    }
}

#[test]
fn it_goes_on_to_the_end_if_nothing_waits() {
    let mut peers = Peers::with([100, 200]);
    let mut relay = Relay::new(1000);
    assert_eq!(drive(&mut relay, &mut peers, 100), Pace::Ended(End::Clean));
    assert!(peers.is_whole());
}

#[test]
fn it_is_quiet_when_everything_waits() {
    let mut peers = Peers::with([100, 200]);
    peers.limits = [0, 0].into();
    let mut relay = Relay::new(1000);
    assert_eq!(drive(&mut relay, &mut peers, 100), Pace::Quiet);
    assert_eq!(drive(&mut relay, &mut peers, 100), Pace::Quiet, "and stays so until something is resumed");
    relay.resume(Dir::Down, Op::Fill);
    assert_eq!(drive(&mut relay, &mut peers, 100), Pace::Quiet);
    assert_eq!(peers.got.each_ref().map(Vec::len), [0, 200], "only that direction went on");
}

#[test]
fn no_more_than_the_budget_is_read_and_what_was_read_is_passed_on() {
    let mut peers = Peers::with([1_000_000, 1_000_000]);
    let mut relay = Relay::new(1000);
    let mut turns = 0;
    let end = loop {
        peers.limits = std::iter::repeat_n(1000, 30).collect();
        match drive(&mut relay, &mut peers, 8) {
            Pace::OutOfBudget => turns += 1,
            Pace::Quiet => panic!("nothing waits"),
            Pace::Ended(end) => break end,
        }
        assert_eq!(peers.fills, turns * 8);
        assert!(!relay.holds_bytes(), "a budget ends before a read, not before a write");
    };
    assert_eq!(end, End::Clean);
    assert!(turns >= 250, "{turns}");
    assert!(peers.is_whole());
}

#[test]
fn without_a_budget_nothing_is_read_but_what_is_held_is_written() {
    let mut peers = Peers::with([100, 0]);
    peers.limits = [50, 20, 0, 0].into();
    let mut relay = Relay::new(1000);
    assert_eq!(drive(&mut relay, &mut peers, 3), Pace::Quiet);
    assert_eq!((peers.got[0].len(), peers.tails[0].len()), (20, 30));
    resume_all(&mut relay);
    let fills = peers.fills;
    assert_eq!(drive(&mut relay, &mut peers, 0), Pace::OutOfBudget);
    assert_eq!((peers.got[0].len(), peers.fills), (50, fills));
}

#[test]
fn the_end_of_a_stopped_relay_is_told() {
    let mut relay = Relay::new(1000);
    relay.stop(End::Idle);
    assert_eq!(drive(&mut relay, &mut Peers::with([5, 5]), 8), Pace::Ended(End::Idle));
}

proptest! {
    /// Whatever sockets take and give at a time, every byte arrives in order, in both directions.
    #[test]
    fn every_byte_arrives_in_order(
        sent in prop::array::uniform2(0_usize..3_000),
        room in 1_u32..500,
        limits in prop::collection::vec(prop_oneof![2 => Just(0), 5 => 1_usize..200], 0..800),
        fills in 0_u32..5,
    ) {
        let mut peers = Peers::with(sent);
        peers.limits = limits.into();
        let mut relay = Relay::new(room);
        let mut turns = 0;
        loop {
            // Without limits left every attempt succeeds, so it comes to an end.
            let budget = if peers.limits.is_empty() { fills + 1 } else { fills };
            match drive(&mut relay, &mut peers, budget) {
                Pace::Ended(end) => {
                    prop_assert_eq!(end, End::Clean);
                    break;
                }
                Pace::OutOfBudget if budget == 0 => drop(peers.limits.pop_front()),
                Pace::OutOfBudget => {}
                Pace::Quiet => resume_all(&mut relay),
            }
            turns += 1;
            prop_assert!(turns < 10_000, "it does not end: {relay:?}");
        }
        prop_assert!(peers.is_whole());
        prop_assert!(peers.fins.iter().all(|fins| *fins <= 1), "{:?}", peers.fins);
        prop_assert!(peers.fins != [0, 0], "the first peer that is done is told so");
    }
}
