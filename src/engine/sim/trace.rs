//! What happened in a run: always as a number, and in words when somebody wants to read it.

use super::plan::Us;

/// The trace of a run.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    words: Option<Vec<String>>,
}

impl Trace {
    /// `readable`: the words are kept.
    pub(super) fn new(readable: bool) -> Self {
        Self { hash: 0xCBF2_9CE4_8422_2325, words: readable.then(Vec::new) }
    }

    /// Something happened to socket `whom`; `number` says how much or what.
    pub(super) fn note(&mut self, now: Us, whom: usize, what: &'static str, number: u64) {
        let name = what.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
        for part in [now, whom as u64, name, number] {
            self.hash = (self.hash ^ part).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(17);
        }
        if let Some(words) = &mut self.words {
            words.push(format!("{:>12.3} ms  #{whom:<4} {what}: {number}", now as f64 / 1e3));
        }
    }

    /// The same for the same history.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// The words, if they were kept.
    pub(super) fn words(&self) -> &[String] {
        self.words.as_deref().unwrap_or_default()
    }
}
