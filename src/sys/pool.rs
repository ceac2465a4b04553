//! Buffers for bytes that a target has not taken yet, within a budget.

use bytes::{Buf, BufMut, BytesMut};

/// Sizes of buffers: 4 KiB, and each four times the one before.
const CLASS_MIN: usize = 4 * 1024;
const CLASSES: usize = 7;
/// Bytes of buffers that are kept for the next one who needs them, as far as the limit allows.
const SPARE_MAX: usize = 4 << 20;

/// A buffer that belongs to one direction of one connection until it is given back to its pool.
#[derive(Debug)]
pub struct Lease {
    bytes: BytesMut,
    class: usize,
}

impl Lease {
    /// What it holds.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Drops `count` bytes from the front.
    pub fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

/// A worker's buffers. Nothing is allocated until a target is slow.
#[derive(Debug)]
pub struct Pool {
    free: [Vec<BytesMut>; CLASSES],
    out: usize,
    /// Bytes of the free ones.
    spare: usize,
    limit: usize,
    /// The highest limit that there ever was: bytes that were read under it may still come.
    highest: usize,
}

impl Pool {
    /// A pool that gives out at most `limit` bytes at a time.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { free: std::array::from_fn(|_| Vec::new()), out: 0, spare: 0, limit, highest: limit }
    }

    /// Sets another limit; what is out already stays out.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.highest = self.highest.max(limit);
    }

    /// The most that may be read now so that what a target does not take is sure to find a buffer, at
    /// most `most`. Zero when not even the smallest buffer is left.
    #[must_use]
    pub fn room(&self, most: usize) -> usize {
        let left = self.limit.saturating_sub(self.out);
        if size(class(most)) <= left {
            return most;
        }
        (0..CLASSES).map(size).take_while(|size| *size <= left).last().unwrap_or(0).min(most)
    }

    /// A buffer that holds a copy of `bytes`, which were read within [`Pool::room`].
    #[must_use]
    pub fn keep(&mut self, bytes: &[u8]) -> Lease {
        let class = class(bytes.len());
        self.out += size(class);
        debug_assert!(self.out <= self.highest, "more was read than there was room for");
        let mut buffer = match self.free[class].pop() {
            Some(spare) => {
                self.spare -= size(class);
                spare
            }
            None => {
                if self.out + self.spare > self.limit {
                    self.free.iter_mut().for_each(Vec::clear);
                    self.spare = 0;
                }
                BytesMut::with_capacity(size(class))
            }
        };
        buffer.put_slice(bytes);
        Lease { bytes: buffer, class }
    }

    /// Takes a buffer back.
    pub fn give(&mut self, lease: Lease) {
        let Lease { mut bytes, class } = lease;
        self.out -= size(class);
        bytes.clear();
        // `advance` moved the start of the buffer: what is before it must be won back.
        let most = SPARE_MAX.min(self.limit.saturating_sub(self.out));
        if self.spare + size(class) <= most && bytes.try_reclaim(size(class)) {
            self.spare += size(class);
            self.free[class].push(bytes);
        }
    }

    /// Bytes of all buffers that are given out now.
    #[must_use]
    pub fn out(&self) -> usize {
        self.out
    }
}

/// The smallest class that holds `len` bytes.
fn class(len: usize) -> usize {
    (0..CLASSES).find(|class| size(*class) >= len).unwrap_or(CLASSES - 1)
}

const fn size(class: usize) -> usize {
    CLASS_MIN << (2 * class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_fitting_size_is_given_and_counted() {
        let mut pool = Pool::new(1 << 20);
        let small = pool.keep(&[1; 4096]);
        assert_eq!(pool.out(), 4096);
        let large = pool.keep(&[2; 4097]);
        assert_eq!(pool.out(), 4096 + 16 * 1024);
        assert_eq!((small.bytes().len(), large.bytes()[4096]), (4096, 2));
        pool.give(small);
        pool.give(large);
        assert_eq!(pool.out(), 0);
    }

    #[test]
    fn a_buffer_that_was_advanced_comes_back_whole() {
        let mut pool = Pool::new(1 << 20);
        let mut lease = pool.keep(&[7; 4096]);
        lease.advance(4000);
        assert_eq!(lease.bytes(), &[7; 96]);
        pool.give(lease);
        assert_eq!(pool.free[0].len(), 1);
        assert!(pool.free[0][0].capacity() >= 4096, "capacity melted: {}", pool.free[0][0].capacity());
        let again = pool.keep(&[8; 4096]);
        assert_eq!(again.bytes(), &[8; 4096]);
        pool.give(again);
    }

    #[test]
    fn room_shrinks_with_the_budget_and_ends_at_zero() {
        let mut pool = Pool::new(24 * 1024);
        assert_eq!(pool.room(256 * 1024), 16 * 1024);
        assert_eq!(pool.room(5000), 5000);
        let lease = pool.keep(&[0; 16 * 1024]);
        assert_eq!(pool.room(256 * 1024), 4096);
        let small = [pool.keep(&[0; 1]), pool.keep(&[0; 1])];
        assert_eq!(pool.room(256 * 1024), 0);
        pool.give(lease);
        assert_eq!(pool.room(256 * 1024), 16 * 1024);
        small.into_iter().for_each(|lease| pool.give(lease));
    }

    #[test]
    fn spare_buffers_and_those_given_out_stay_within_the_limit() {
        let mut pool = Pool::new(64 << 10);
        let small: Vec<Lease> = (0..16).map(|_| pool.keep(b"x")).collect();
        small.into_iter().for_each(|lease| pool.give(lease));
        assert_eq!((pool.spare, pool.free[0].len()), (64 << 10, 16));
        let large = pool.keep(&[1; 5000]);
        assert_eq!((pool.out(), pool.spare), (16 << 10, 0));
        pool.give(large);
        let mut pool = Pool::new(64 << 20);
        let leases: Vec<Lease> = (0..20).map(|_| pool.keep(&vec![1; 1 << 20])).collect();
        leases.into_iter().for_each(|lease| pool.give(lease));
        assert_eq!(pool.spare, SPARE_MAX);
    }
}
