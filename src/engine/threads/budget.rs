//! Memory of a worker's connections, which their threads take and give back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{Message, Post};

/// Bytes of buffers that a worker's connections may have together.
#[derive(Debug)]
pub(super) struct Budget {
    out: AtomicUsize,
    most: AtomicUsize,
    /// The worker waits until something is given back.
    is_awaited: AtomicBool,
    post: Post,
}

impl Budget {
    pub(super) fn new(bytes: usize, post: Post) -> Self {
        let (out, most) = (AtomicUsize::new(0), AtomicUsize::new(bytes));
        Self { out, most, is_awaited: AtomicBool::new(false), post }
    }

    /// Sets another limit; what is out already stays out.
    pub(super) fn set(&self, bytes: usize) {
        self.most.store(bytes, Ordering::SeqCst);
        self.tell();
    }

    fn take(&self, bytes: usize) -> bool {
        let most = self.most.load(Ordering::SeqCst);
        let take = |out: usize| out.checked_add(bytes).filter(|out| *out <= most);
        self.out.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    }

    /// The same for the worker, which is told when to try again. Whoever gives back between the two attempts finds that
    /// it is awaited, or is found by the second.
    fn take_or_await(&self, bytes: usize) -> bool {
        if self.take(bytes) {
            return true;
        }
        self.is_awaited.store(true, Ordering::SeqCst);
        self.take(bytes)
    }

    fn give(&self, bytes: usize) {
        self.out.fetch_sub(bytes, Ordering::SeqCst);
        self.tell();
    }

    fn tell(&self) {
        if self.is_awaited.load(Ordering::SeqCst) && self.is_awaited.swap(false, Ordering::SeqCst) {
            self.post.send(Message::Room);
        }
    }
}

/// A buffer that counts until it is dropped.
#[derive(Debug)]
pub(super) struct Loan {
    pub(super) bytes: Vec<u8>,
    budget: Arc<Budget>,
}

impl Loan {
    /// One of so many zeros; `None`: it would be too much.
    pub(super) fn zeros(size: usize, budget: &Arc<Budget>) -> Option<Self> {
        budget.take(size).then(|| Self { bytes: vec![0; size], budget: Arc::clone(budget) })
    }

    /// One with room for so many bytes, which takes those of another over; `None`: it would be too much, and
    /// [`Message::Room`] tells when to try again.
    pub(super) fn grown(size: usize, held: Option<&mut Self>, budget: &Arc<Budget>) -> Option<Self> {
        if !budget.take_or_await(size) {
            return None;
        }
        let mut bytes = Vec::with_capacity(size);
        if let Some(held) = held {
            bytes.extend_from_slice(&held.bytes);
        }
        Some(Self { bytes, budget: Arc::clone(budget) })
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.budget.give(self.bytes.capacity());
    }
}
