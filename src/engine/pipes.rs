//! When to splice, and the pipes for it.

use crate::sys::Net;

/// Reads in a row that must be large before a direction is spliced.
const LARGE_IN_A_ROW: u8 = 3;
/// Splices in a row that must be small before it is copied again.
const SMALL_IN_A_ROW: u8 = 6;
/// What is large, in bytes, unless not even a full buffer is. Small is a quarter of it.
const LARGE: usize = 64 << 10;
/// How often nobody gets a new pipe after one could not be had: asking costs system calls.
const REST: u32 = 1_000;

/// A worker's pipes. Splicing gains only with large pipes, so there is a limited number of them, and a direction
/// has one only while there are bytes in it.
#[derive(Debug)]
pub(super) struct Pipes<N: Net> {
    spare: Vec<N::Pipe>,
    out: usize,
    most: usize,
    /// Requests that are still refused after one could not be met.
    resting: u32,
    /// From how many bytes on a read is large: never, where nothing is spliced.
    large: u32,
}

impl<N: Net> Pipes<N> {
    /// At most `most` pipes, none of which is made before it is needed; 0 where nothing is to be spliced. A read
    /// gives at most `buffer_size` bytes.
    pub(super) fn new(most: usize, buffer_size: usize) -> Self {
        let large = if most == 0 { usize::MAX } else { LARGE.min(buffer_size) };
        let large = u32::try_from(large).unwrap_or(u32::MAX);
        Self { spare: Vec::new(), out: 0, most, resting: 0, large }
    }

    /// An empty pipe, if one can be had.
    pub(super) fn take(&mut self, net: &N) -> Option<N::Pipe> {
        let pipe = self.spare.pop().or_else(|| self.make(net))?;
        self.out += 1;
        Some(pipe)
    }

    /// Only when none is spare: all that there are, are out.
    fn make(&mut self, net: &N) -> Option<N::Pipe> {
        if self.out == self.most {
            return None;
        }
        if self.resting > 0 {
            self.resting -= 1;
            return None;
        }
        let pipe = net.pipe();
        if pipe.is_none() {
            self.resting = REST;
        }
        pipe
    }

    /// Takes a pipe back. One with bytes in it is destroyed: the next one would get them.
    pub(super) fn give(&mut self, pipe: N::Pipe) {
        self.out -= 1;
        if N::is_empty(&pipe) || mutant!(PipeGivenBackFull) {
            self.spare.push(pipe);
        }
    }

    /// How many are given out now.
    #[cfg(feature = "sim")]
    pub(super) fn out(&self) -> usize {
        self.out
    }
}

/// Whether a direction carries so much at a time that it pays to splice. Small messages cost a fifth to a third
/// more when they are spliced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bulk {
    /// It is copied; so many reads in a row were large.
    Copied(u8),
    /// It is spliced; so many splices in a row were small.
    Spliced(u8),
    /// It is copied for good, because its source cannot be spliced from.
    Never,
}

impl Bulk {
    /// A direction of which nothing is known.
    pub(super) const NEW: Self = Self::Copied(0);

    /// So many bytes were read.
    pub(super) fn read<N: Net>(&mut self, count: u32, pipes: &Pipes<N>) {
        if let Self::Copied(large) = self {
            *large = if count >= pipes.large { *large + 1 } else { 0 };
            if *large == LARGE_IN_A_ROW {
                *self = Self::Spliced(0);
            }
        }
    }

    /// So many bytes were spliced.
    pub(super) fn spliced<N: Net>(&mut self, count: u32, pipes: &Pipes<N>) {
        if let Self::Spliced(small) = self {
            *small = if count < pipes.large / 4 { *small + 1 } else { 0 };
            if *small == SMALL_IN_A_ROW {
                *self = Self::NEW;
            }
        }
    }
}
