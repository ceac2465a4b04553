//! Buffers that the kernel picks from: a provided-buffer ring, io_uring_register(2).

#![expect(unsafe_code, reason = "buffers that the kernel writes to")]

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::mem;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// Bytes of one buffer.
pub(super) const BUFFER_SIZE: u32 = 16 * 1024;
/// The only group of buffers in a ring.
pub(super) const GROUP: u16 = 0;
/// The ring of entries begins on a page.
const PAGE: usize = 4096;

/// The kernel is offered so many buffers at least.
const WINDOW_MIN: usize = 64;
/// After so many looks with less than half of the window in use, it is halved.
const LOOKS: u32 = 1024;

/// The buffers of one ring. Each belongs to the kernel from [`Provided::publish`] until a completion names it, and
/// then to the engine until [`Provided::give`].
///
/// The kernel fills the buffers in the order in which it got them, so it would walk through all of them, and each
/// would be cold. It is offered only a window of them, those that were used last; when that was too small, more.
#[derive(Debug)]
pub(super) struct Provided {
    entries: Memory,
    buffers: Memory,
    count: u16,
    /// How many entries were ever written.
    tail: u16,
    /// By buffer: the one that was offered to the kernel after it.
    next: Vec<u16>,
    /// The buffer that was offered last.
    last: u16,
    /// Buffers that the kernel has.
    offered: usize,
    /// Buffers that nobody has; the one that was used last is at the end.
    idle: Vec<u16>,
    window: usize,
    /// A read found no buffer since the last look.
    short: bool,
    /// The most that was missing from the window at a time, in so many looks.
    peak: usize,
    looks: u32,
}

/// Zeroed memory that starts on a page. Never freed: the kernel may write to it until it has cleared away a
/// ring that was closed, and there is no telling when that is.
#[derive(Debug)]
struct Memory {
    start: NonNull<u8>,
}

impl Memory {
    fn new(size: usize) -> Self {
        // An allocator that is asked for a page's alignment writes the zeroes itself, and all pages are there from
        // the beginning; asked for less, it leaves them to the kernel, which gives a page when it is used.
        let layout = Layout::from_size_align(size + PAGE, 16).expect("far smaller than the address space");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let start = start.wrapping_add(start.align_offset(PAGE));
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start }
    }
}

impl Provided {
    /// `count` buffers, a power of two, all of them the kernel's. Their memory is never freed.
    pub(super) fn new(ring: &IoUring, count: u16) -> io::Result<Self> {
        let mut provided = Self {
            entries: Memory::new(usize::from(count) * size_of::<BufRingEntry>()),
            buffers: Memory::new(usize::from(count) * BUFFER_SIZE as usize),
            count,
            tail: 0,
            next: vec![0; usize::from(count)],
            last: 0,
            offered: 0,
            idle: (0..count).rev().collect(),
            window: WINDOW_MIN.min(usize::from(count)),
            short: false,
            peak: 0,
            looks: 0,
        };
        let start = provided.entries.start.as_ptr() as u64;
        // SAFETY: `start` is `count` entries of zeroed memory that starts on a page and is never freed, so it
        // outlives the ring.
        unsafe { ring.submitter().register_buf_ring_with_flags(start, count, GROUP, 0)? };
        provided.publish();
        Ok(provided)
    }

    /// Takes a buffer back.
    pub(super) fn give(&mut self, buffer: u16) {
        self.idle.push(buffer);
    }

    /// Writes the next entry.
    fn offer(&mut self, buffer: u16) {
        let place = self.tail & (self.count - 1);
        let address = self.start(buffer) as u64;
        // SAFETY: `place` is below `count`, so this is an entry of our own memory, aligned as its first one is;
        // the kernel reads it only after the tail has passed it. Its last two bytes are not written: in the
        // first entry they are the tail.
        unsafe {
            let entry = &mut *self.entries.start.as_ptr().cast::<BufRingEntry>().add(usize::from(place));
            entry.set_addr(address);
            entry.set_len(BUFFER_SIZE);
            entry.set_bid(buffer);
        }
        self.next[usize::from(self.last)] = buffer;
        self.last = buffer;
        self.tail = self.tail.wrapping_add(1);
        self.offered += 1;
    }

    /// Shows the kernel as many buffers as are in the window.
    pub(super) fn publish(&mut self) {
        self.look();
        while self.offered < self.window
            && let Some(buffer) = self.idle.pop()
        {
            self.offer(buffer);
        }
        let first: *const BufRingEntry = self.entries.start.as_ptr().cast();
        // SAFETY: the first entry is ours and live, and the tail is its last two bytes, aligned; the kernel only
        // reads them.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(first).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Whether the first entry is as it was written, before anything was read; if not, it is written again.
    pub(super) fn is_whole(&mut self) -> bool {
        // SAFETY: the first entry is ours and live, and no read is under way.
        let first = unsafe { &mut *self.entries.start.as_ptr().cast::<BufRingEntry>() };
        let is_whole = first.len() == BUFFER_SIZE;
        first.set_len(BUFFER_SIZE);
        is_whole
    }

    /// Makes the window larger when reads fell short, and smaller when it has been too large for some time.
    fn look(&mut self) {
        if mem::take(&mut self.short) {
            self.window = (self.window * 2).min(usize::from(self.count));
        }
        self.peak = self.peak.max(self.window.saturating_sub(self.offered));
        self.looks += 1;
        if self.looks == LOOKS {
            if self.peak < self.window / 2 {
                self.window = (self.window / 2).max(WINDOW_MIN.min(usize::from(self.count)));
            }
            (self.looks, self.peak) = (0, 0);
        }
    }

    /// A completion named a buffer, and those behind it, as filled.
    pub(super) fn took(&mut self, buffers: usize) {
        self.offered -= buffers;
        self.short |= self.offered == 0;
    }

    /// A read found none: the window is too small.
    pub(super) fn fell_short(&mut self) {
        self.short = true;
    }

    /// The buffer that the kernel fills after `buffer`.
    pub(super) fn next(&self, buffer: u16) -> u16 {
        self.next[usize::from(buffer)]
    }

    /// Where a buffer begins.
    pub(super) fn start(&self, buffer: u16) -> *const u8 {
        assert!(buffer < self.count, "no such buffer");
        self.buffers.start.as_ptr().wrapping_add(usize::from(buffer) * BUFFER_SIZE as usize)
    }

    /// The first `count` bytes of a buffer that a completion has named and that was not given since.
    pub(super) fn bytes(&self, buffer: u16, count: u32) -> &[u8] {
        assert!(count <= BUFFER_SIZE, "a buffer holds less");
        // SAFETY: the bytes are within the buffer, were initialised when it was allocated, and are not written
        // by the kernel before the buffer is given to it, which takes `&mut self`.
        unsafe { std::slice::from_raw_parts(self.start(buffer), count as usize) }
    }

    pub(super) fn spare(&self) -> usize {
        self.offered + self.idle.len()
    }
}
