//! The connection table: a slab whose keys are never used twice.

use slab::Slab;

/// Half of a token's bits hold the index; one of the rest the side, the others the generation.
const HALF: u32 = usize::BITS / 2;
/// Indexes below this one are connections'; this one is the engine's own, for listeners and wakers.
const INDEX_MAX: u32 = (1_u64 << HALF).wrapping_sub(1) as u32;
const GENERATION_MASK: u32 = INDEX_MAX >> 1;

/// A connection: where it is in the table, and which of those that have been there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// As a number that a selector can carry, with a bit to spare for the side.
    #[must_use]
    pub fn token(self, side_bit: bool) -> usize {
        ((self.index as usize) << HALF) | ((self.generation as usize) << 1) | usize::from(side_bit)
    }

    /// The key and the spare bit of a token.
    #[must_use]
    pub fn from_token(token: usize) -> (Self, bool) {
        let generation = (token >> 1) as u32 & GENERATION_MASK;
        (Self { index: (token >> HALF) as u32, generation }, token & 1 == 1)
    }

    /// The `number`-th key that no table gives out: for what an engine watches beside connections.
    #[must_use]
    pub fn reserved(number: u32) -> Self {
        Self { index: INDEX_MAX, generation: number & GENERATION_MASK }
    }

    /// Which reserved key this is; `None` for a connection's.
    #[must_use]
    pub fn reserved_number(self) -> Option<u32> {
        (self.index == INDEX_MAX).then_some(self.generation)
    }
}

/// Values in slots, each under a key that is never used again: a late event for a connection that is gone
/// cannot reach the next one in its slot.
#[derive(Debug)]
pub struct Table<T> {
    slots: Slab<T>,
    /// How many values each slot has had; outlives them.
    generations: Vec<u32>,
    limit: usize,
}

impl<T> Table<T> {
    /// An empty table of at most `limit` values.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let limit = limit.min(INDEX_MAX as usize);
        Self { slots: Slab::new(), generations: Vec::new(), limit }
    }

    /// The key that the next value will get, or `None` at the limit.
    #[must_use]
    pub fn vacant(&self) -> Option<Key> {
        if self.slots.len() >= self.limit {
            return None;
        }
        let index = self.slots.vacant_key();
        let generation = self.generations.get(index).copied().unwrap_or(0);
        Some(Key { index: u32::try_from(index).expect("below the limit"), generation })
    }

    /// Puts a value in the slot that [`Table::vacant`] named.
    pub fn insert(&mut self, key: Key, value: T) {
        let index = self.slots.insert(value);
        debug_assert_eq!(Some(key.index), u32::try_from(index).ok(), "something was inserted in between");
        if index == self.generations.len() {
            self.generations.push(0);
        }
    }

    /// The value of a key, unless it is gone.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        if self.generations.get(key.index as usize) != Some(&key.generation) {
            return None;
        }
        self.slots.get_mut(key.index as usize)
    }

    /// Takes a value out; its key is void from now on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        if !mutant!(FreedInBatch) {
            self.get_mut(key)?;
        }
        let generation = &mut self.generations[key.index as usize];
        if !mutant!(GenerationDropped) {
            *generation = generation.wrapping_add(1) & GENERATION_MASK;
        }
        self.slots.try_remove(key.index as usize)
    }

    /// Lets it have so many values. A limit that falls changes nothing here: who was counted under the old one has a
    /// right to a place.
    pub fn raise_limit(&mut self, limit: usize) {
        self.limit = self.limit.max(limit.min(INDEX_MAX as usize));
    }

    /// The keys of values from the slot `from` on, after a look at `most` slots; and the slot to go on from, if there
    /// is any.
    #[must_use]
    pub fn keys_from(&self, from: u32, most: usize) -> (Vec<Key>, Option<u32>) {
        let end = (from as usize).saturating_add(most).min(self.generations.len());
        let key = |index: usize| Key { index: index as u32, generation: self.generations[index] };
        let keys = (from as usize..end).filter(|index| self.slots.contains(*index)).map(key).collect();
        (keys, (end < self.generations.len()).then_some(end as u32))
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The keys of all values.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        self.slots
            .iter()
            .map(|(index, _)| Key { index: index as u32, generation: self.generations[index] })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_dies_with_its_value_although_the_slot_lives_on() {
        let mut table = Table::new(4);
        let first = table.vacant().expect("room");
        table.insert(first, "first");
        assert_eq!(table.remove(first), Some("first"));
        let second = table.vacant().expect("room");
        table.insert(second, "second");
        assert_eq!(first.index, second.index);
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get_mut(second), Some(&mut "second"));
    }

    #[test]
    fn no_room_beyond_the_limit() {
        let mut table = Table::new(1);
        let key = table.vacant().expect("room");
        table.insert(key, ());
        assert_eq!(table.vacant(), None);
        table.remove(key);
        assert!(table.vacant().is_some());
    }

    #[test]
    fn tokens_carry_key_and_side() {
        for key in [
            Key { index: 0, generation: 0 },
            Key { index: 7, generation: GENERATION_MASK },
            Key { index: INDEX_MAX - 1, generation: 1 },
        ] {
            for side in [false, true] {
                assert_eq!(Key::from_token(key.token(side)), (key, side));
            }
            assert_eq!(key.reserved_number(), None);
        }
        let (key, _) = Key::from_token(Key::reserved(5).token(false));
        assert_eq!(key.reserved_number(), Some(5));
    }

    #[test]
    fn the_generation_wraps_within_its_bits() {
        let mut table = Table::new(1);
        table.generations.push(GENERATION_MASK);
        let key = table.vacant().expect("room");
        table.insert(key, ());
        table.remove(key);
        assert_eq!(table.vacant().map(|key| key.generation), Some(0));
    }
}
