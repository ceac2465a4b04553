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
    /// It counts among those of heads.
    is_head: bool,
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

/// Bytes of buffers that are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lent {
    /// All of them.
    pub all: usize,
    /// Those of heads.
    pub heads: usize,
}

/// A worker's buffers. Nothing is allocated until a target is slow.
#[derive(Debug)]
pub struct Pool {
    free: [Vec<BytesMut>; CLASSES],
    out: usize,
    /// Bytes of those that are given out for heads.
    heads: usize,
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
        Self { free: std::array::from_fn(|_| Vec::new()), out: 0, heads: 0, spare: 0, limit, highest: limit }
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
        largest(left).min(most)
    }

    /// The same for bytes that go behind the `held` ones of a client whose server is not reached yet. All such heads
    /// together may have half of the limit, or one buffer: those who wait for a server must not keep those from moving
    /// who have one.
    #[must_use]
    pub fn head_room(&self, held: Option<&Lease>, most: usize) -> usize {
        let (len, own) = held.map_or((0, 0), |lease| (lease.bytes.len(), size(lease.class)));
        let left = self.limit.saturating_sub(self.out);
        let left = left.min((self.limit / 2).max(CLASS_MIN).saturating_sub(self.heads));
        // It gives its own buffer back for the next larger one.
        largest(left + own).max(own).saturating_sub(len).min(most)
    }

    /// A buffer with the `held` bytes and `more` behind them, which were read within [`Pool::head_room`].
    #[must_use]
    pub fn keep_head(&mut self, held: Option<Lease>, more: &[u8]) -> Lease {
        let mut lease = match held {
            Some(mut held) if held.bytes.capacity() - held.bytes.len() >= more.len() => {
                held.bytes.put_slice(more);
                return held;
            }
            Some(held) => {
                let whole = [held.bytes(), more].concat();
                self.give(held);
                self.keep(&whole)
            }
            None => self.keep(more),
        };
        lease.is_head = true;
        self.heads += size(lease.class);
        lease
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
        Lease { bytes: buffer, class, is_head: false }
    }

    /// Takes a buffer back.
    pub fn give(&mut self, lease: Lease) {
        let Lease { mut bytes, class, is_head } = lease;
        self.out -= size(class);
        if is_head {
            self.heads -= size(class);
        }
        bytes.clear();
        // `advance` moved the start of the buffer: what is before it must be won back.
        let most = SPARE_MAX.min(self.limit.saturating_sub(self.out));
        if self.spare + size(class) <= most && bytes.try_reclaim(size(class)) {
            self.spare += size(class);
            self.free[class].push(bytes);
        }
    }

    /// Bytes of the buffers that are given out now.
    #[must_use]
    pub fn lent(&self) -> Lent {
        Lent { all: self.out, heads: self.heads }
    }
}

/// The smallest class that holds `len` bytes.
fn class(len: usize) -> usize {
    (0..CLASSES).find(|class| size(*class) >= len).unwrap_or(CLASSES - 1)
}

/// The largest size that is not above `limit`; 0 where there is none.
fn largest(limit: usize) -> usize {
    (0..CLASSES).map(size).take_while(|size| *size <= limit).last().unwrap_or(0)
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
        assert_eq!(pool.lent().all, 4096);
        let large = pool.keep(&[2; 4097]);
        assert_eq!(pool.lent().all, 4096 + 16 * 1024);
        assert_eq!((small.bytes().len(), large.bytes()[4096]), (4096, 2));
        pool.give(small);
        pool.give(large);
        assert_eq!(pool.lent().all, 0);
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
    fn a_head_grows_from_buffer_to_buffer_and_is_counted_once() {
        let mut pool = Pool::new(64 << 10);
        let (mut head, mut bytes) = (None, Vec::new());
        while bytes.len() < 10_000 {
            let piece = vec![bytes.len() as u8; pool.head_room(head.as_ref(), 700)];
            bytes.extend_from_slice(&piece);
            head = Some(pool.keep_head(head.take(), &piece));
        }
        let mut head = head.expect("it has grown");
        assert_eq!((head.bytes(), pool.lent().all, pool.heads), (&*bytes, 16 << 10, 16 << 10));
        // What is taken off its front is room that is won back only by copying.
        head.advance(9_000);
        let more = [7; 16_000];
        assert_eq!(pool.head_room(Some(&head), 16_000), (16 << 10) - (bytes.len() - 9_000));
        let head = pool.keep_head(Some(head), &more[..10_000]);
        assert_eq!((head.bytes().len(), pool.lent().all), (bytes.len() - 9_000 + 10_000, 16 << 10));
        pool.give(head);
        assert_eq!((pool.lent().all, pool.heads), (0, 0));
    }

    #[test]
    fn heads_have_half_of_the_limit() {
        let mut pool = Pool::new(16 << 10);
        let heads = [(); 2].map(|()| pool.keep_head(None, b"GET"));
        assert_eq!((pool.head_room(None, 100), pool.room(100)), (0, 100));
        assert_eq!(pool.head_room(Some(&heads[0]), 5_000), 4_096 - 3, "its own buffer is its own");
        heads.into_iter().for_each(|head| pool.give(head));
        assert_eq!(pool.head_room(None, 100), 100);
        let mut tiny = Pool::new(4 << 10);
        assert_eq!(tiny.head_room(None, 100), 100);
        let all = tiny.keep(b"relayed");
        assert_eq!(tiny.head_room(None, 100), 0);
        tiny.give(all);
    }

    #[test]
    fn hello_fits_the_share_that_is_required_for_it() {
        for hello in [1_000, 4_096, 4_097, 16_384, 16_385, 32_768] {
            let mut pool = Pool::new(usize::try_from(crate::config::head_share(hello)).unwrap());
            let mut head = None;
            while let room @ 1.. = pool.head_room(head.as_ref(), 700) {
                head = Some(pool.keep_head(head.take(), &vec![7; room]));
            }
            let len = head.as_ref().map_or(0, |head| head.bytes().len());
            assert!(len >= hello as usize, "{hello}: {len}");
            assert!(hello <= 4_096 || pool.room(700) == 700, "bytes of others move all the same");
        }
    }

    #[test]
    fn spare_buffers_and_those_given_out_stay_within_the_limit() {
        let mut pool = Pool::new(64 << 10);
        let small: Vec<Lease> = (0..16).map(|_| pool.keep(b"x")).collect();
        small.into_iter().for_each(|lease| pool.give(lease));
        assert_eq!((pool.spare, pool.free[0].len()), (64 << 10, 16));
        let large = pool.keep(&[1; 5000]);
        assert_eq!((pool.lent().all, pool.spare), (16 << 10, 0));
        pool.give(large);
        let mut pool = Pool::new(64 << 20);
        let leases: Vec<Lease> = (0..20).map(|_| pool.keep(&vec![1; 1 << 20])).collect();
        leases.into_iter().for_each(|lease| pool.give(lease));
        assert_eq!(pool.spare, SPARE_MAX);
    }
}
