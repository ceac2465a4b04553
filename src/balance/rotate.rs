//! Smooth weighted round robin as a table that is walked by one shared cursor.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Cursor, Pick, ServerId, around, first_of};

/// The longest table. Weights whose cycle is longer are scaled to it, which shifts the share of a server
/// by less than one connection in this many.
const TABLE_MAX: u64 = 16_384;

/// Walks a table in which each server stands as often as its weight says, evenly spread.
///
/// The order is that of earliest deadline first: the `k`-th turn of a server of weight `w` is due at
/// `(k + ½) / w` of the cycle. For equal weights this is plain round robin, in the order of the file.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct Rotate {
    cursor: Cursor,
    table: Box<[ServerId]>,
}

impl Rotate {
    /// A table over servers with their weights. A weight of 0 is left out.
    #[must_use]
    pub fn new(servers: &[(ServerId, u16)]) -> Self {
        let weights: Vec<u16> = servers.iter().map(|(_, weight)| *weight).collect();
        let table = cycle(&weights).into_iter().map(|index| servers[index].0).collect();
        Self { cursor: Cursor::default(), table }
    }

    /// Goes on where `other` is, so that a reload gives nobody two turns.
    #[must_use]
    pub fn after(self, other: &Self) -> Self {
        Self { cursor: other.cursor.clone(), ..self }
    }

    /// The next server that is not in `tried` and has room.
    #[must_use]
    pub fn pick(&self, tried: &[ServerId], has_room: impl Fn(ServerId) -> bool) -> Pick {
        let start = self.cursor.turn(self.table.len());
        first_of(around(&self.table, start).copied(), tried, has_room)
    }
}

/// Whose turn it is, one after the other: indices of weights.
pub(super) fn cycle(weights: &[u16]) -> Vec<usize> {
    let turns = turns(weights);
    // Deadlines (2k+1) / 2w, compared as fractions of one common denominator would overflow nothing:
    // 2k+1 < 2^18 and w < 2^17, so the cross products fit easily.
    let mut due: BinaryHeap<Reverse<Due>> = turns
        .iter()
        .enumerate()
        .filter(|(_, turns)| **turns > 0)
        .map(|(index, turns)| Reverse(Due { odd: 1, turns: *turns, index }))
        .collect();
    let length: u64 = turns.iter().sum();
    let mut cycle = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    for _ in 0..length {
        let Some(Reverse(next)) = due.pop() else { break };
        cycle.push(next.index);
        due.push(Reverse(Due { odd: next.odd + 2, ..next }));
    }
    cycle
}

/// How often each server stands in the table: the weights in lowest terms, scaled down when the cycle
/// would be too long; a positive weight stands at least once.
fn turns(weights: &[u16]) -> Vec<u64> {
    let divisor = weights.iter().fold(0, |a, b| gcd(a, u64::from(*b))).max(1);
    let lowest: Vec<u64> = weights.iter().map(|weight| u64::from(*weight) / divisor).collect();
    let sum: u64 = lowest.iter().sum();
    if sum <= TABLE_MAX {
        return lowest;
    }
    lowest.iter().map(|weight| if *weight == 0 { 0 } else { (weight * TABLE_MAX / sum).max(1) }).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The next turn of a server: due at `odd / (2 * turns)` of the cycle.
#[derive(PartialEq, Eq)]
struct Due {
    odd: u64,
    turns: u64,
    index: usize,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.odd * other.turns).cmp(&(other.odd * self.turns)).then(self.index.cmp(&other.index))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(weights: &[u16], picks: usize) -> Vec<u32> {
        let servers: Vec<_> = (10..).map(ServerId).zip(weights.iter().copied()).collect();
        let rotate = Rotate::new(&servers);
        (0..picks)
            .filter_map(|_| match rotate.pick(&[], |_| true) {
                Pick::Server(server) => Some(server.0 - 10),
                Pick::Full | Pick::None => None,
            })
            .collect()
    }

    #[test]
    fn equal_weights_take_turns_in_the_order_of_the_file() {
        assert_eq!(order(&[7, 7, 7], 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn a_heavy_server_is_spread_over_the_cycle() {
        assert_eq!(order(&[4, 2, 1], 7), [0, 1, 0, 2, 0, 1, 0]);
    }

    #[test]
    fn weight_zero_takes_nothing() {
        assert_eq!(order(&[1, 0, 1], 4), [0, 2, 0, 2]);
        assert_eq!(order(&[0, 0], 4), [] as [u32; 0]);
    }

    #[test]
    fn a_tried_server_is_passed_over_and_none_is_left_when_all_are_tried() {
        let rotate = Rotate::new(&[(ServerId(0), 100), (ServerId(1), 1)]);
        assert_eq!(rotate.pick(&[ServerId(0)], |_| true), Pick::Server(ServerId(1)));
        assert_eq!(rotate.pick(&[], |server| server.0 == 1), Pick::Server(ServerId(1)));
        assert_eq!(rotate.pick(&[], |_| false), Pick::Full);
        assert_eq!(rotate.pick(&[ServerId(1)], |server| server.0 == 1), Pick::Full);
        assert_eq!(rotate.pick(&[ServerId(0), ServerId(1)], |_| true), Pick::None);
    }

    #[test]
    fn extreme_weights_keep_their_shares_within_one_table_entry() {
        let picks = order(&[65_535, 1, 32_768], 16_384);
        let share = |server| picks.iter().filter(|picked| **picked == server).count();
        assert_eq!(share(1), 1);
        assert!((10_920..=10_923).contains(&share(0)), "{}", share(0));
    }
}
