//! poll(2) and select(2), over lists that are kept from one call to the next.

use std::io;
use std::os::fd::RawFd;
use std::ptr;
use std::time::Duration;

use super::calls::{self, Call};

/// One entry of poll(2)'s list.
pub use libc::pollfd as Entry;

/// A list's result: how many entries have something to tell; none when a signal came first.
fn told(result: libc::c_int) -> io::Result<usize> {
    usize::try_from(result).or_else(|_| match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        error => Err(error),
    })
}

/// Waits until an entry has something to tell, at most `wait` (for ever if `None`), rounded up to whole
/// milliseconds. Returns how many have, which is written to their `revents`.
///
/// # Errors
/// The operating system's: more entries than descriptors are allowed, or no memory.
#[expect(
    unsafe_code,
    reason = "rustix ties each entry to a borrowed descriptor, and this list outlives many"
)]
pub fn poll(list: &mut [Entry], wait: Option<Duration>) -> io::Result<usize> {
    let millis = wait.map_or(-1, |wait| {
        let rounded_up = wait.as_nanos().div_ceil(1_000_000);
        libc::c_int::try_from(rounded_up).unwrap_or(libc::c_int::MAX)
    });
    // SAFETY: the pointer and the length are those of one exclusively borrowed slice of pollfd. A descriptor
    // in it that is not open is answered by POLLNVAL, and touches no memory.
    let poll = || told(unsafe { libc::poll(list.as_mut_ptr(), list.len() as libc::nfds_t, millis) });
    calls::made(Call::Poll, -1, poll)
}

/// A set of descriptors as select(2) wants it, of any size: the kernel takes as many bits as it is told,
/// beyond the 1,024 of the C library's `fd_set`.
#[derive(Debug, Default)]
pub struct Bits(Vec<libc::c_ulong>);

const WORD: usize = libc::c_ulong::BITS as usize;

impl Bits {
    /// Puts a descriptor in, or takes it out.
    pub fn set(&mut self, fd: RawFd, present: bool) {
        let (word, bit) = place(fd);
        if word >= self.0.len() {
            if !present {
                return;
            }
            self.0.resize(word + 1, 0);
        }
        if present {
            self.0[word] |= 1 << bit;
        } else {
            self.0[word] &= !(1 << bit);
        }
    }

    /// Whether a descriptor is in.
    #[must_use]
    pub fn has(&self, fd: RawFd) -> bool {
        let (word, bit) = place(fd);
        self.0.get(word).is_some_and(|bits| bits >> bit & 1 == 1)
    }

    /// The descriptors that are in this set or in `other`.
    pub fn either<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = RawFd> {
        let word = |bits: &Self, index: usize| bits.0.get(index).copied().unwrap_or(0);
        (0..self.0.len().max(other.0.len())).flat_map(move |index| {
            let mut left = word(self, index) | word(other, index);
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros();
                (left != 0).then(|| {
                    left &= left - 1;
                    RawFd::try_from(index * WORD + bit as usize).expect("it was a descriptor")
                })
            })
        })
    }

    /// Becomes a copy of `other`, `words` long.
    fn copy(&mut self, other: &Self, words: usize) {
        self.0.clone_from(&other.0);
        self.0.resize(words, 0);
    }
}

fn place(fd: RawFd) -> (usize, u32) {
    let fd = usize::try_from(fd).expect("an open descriptor is not negative");
    (fd / WORD, (fd % WORD) as u32)
}

/// Waits until a descriptor of `read` is readable or one of `write` is writable, at most `wait` (for ever if
/// `None`). Those that are, are put in `readable` and `writable`; what was there is forgotten. Returns how many.
///
/// # Errors
/// The operating system's.
#[expect(unsafe_code, reason = "the sets may be larger than the C library's fd_set")]
pub fn select(
    [read, write]: [&Bits; 2],
    [readable, writable]: [&mut Bits; 2],
    wait: Option<Duration>,
) -> io::Result<usize> {
    let words = read.0.len().max(write.0.len());
    readable.copy(read, words);
    writable.copy(write, words);
    let mut limit = wait.map(|wait| libc::timeval {
        tv_sec: libc::time_t::try_from(wait.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_usec: wait.subsec_nanos().div_ceil(1_000).min(999_999).into(),
    });
    let limit = limit.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
    let bits = libc::c_int::try_from(words * WORD).expect("as many as descriptors");
    let [reads, writes] = [&mut *readable, &mut *writable].map(|set| set.0.as_mut_ptr().cast());
    // SAFETY: both sets are exclusively borrowed and `words` words long, and the kernel reads and writes only
    // the first `words * WORD` bits of each (select(2), sys_select: it rounds up to whole words); the third set
    // is absent; `limit` is null or points to a timeval that outlives the call.
    let select = || told(unsafe { libc::select(bits, reads, writes, ptr::null_mut(), limit) });
    let result = calls::made(Call::Select, -1, select)?;
    if result == 0 {
        // After a signal the sets are as they were given.
        readable.0.fill(0);
        writable.0.fill(0);
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn bits_come_and_go_in_any_word() {
        let (mut some, mut others) = (Bits::default(), Bits::default());
        for fd in [0, 63, 64, 1_023, 1_024, 19_999] {
            some.set(fd, true);
        }
        others.set(7, true);
        others.set(64, true);
        others.set(100_000, false);
        some.set(1_023, false);
        assert_eq!(some.either(&others).collect::<Vec<_>>(), [0, 7, 63, 64, 1_024, 19_999]);
        assert!(some.has(1_024) && !some.has(1_023) && !some.has(500_000));
    }

    #[test]
    fn select_and_poll_tell_what_can_be_done() {
        let (mut a, b) = UnixStream::pair().expect("a pair");
        let [a_fd, b_fd] = [a.as_raw_fd(), b.as_raw_fd()];
        let mut wanted = Bits::default();
        wanted.set(b_fd, true);
        let (nothing, mut readable, mut writable) = (Bits::default(), Bits::default(), Bits::default());
        let mut ask = |read: &Bits, write: &Bits| {
            let count = select([read, write], [&mut readable, &mut writable], Some(Duration::ZERO));
            (count.expect("it can be asked"), readable.has(b_fd), writable.has(a_fd))
        };
        let mut entry = [Entry { fd: b_fd, events: libc::POLLIN, revents: 0 }];
        assert_eq!(ask(&wanted, &nothing), (0, false, false));
        assert_eq!(poll(&mut entry, Some(Duration::ZERO)).expect("it can be asked"), 0);
        a.write_all(b"x").expect("there is room");
        let mut write = Bits::default();
        write.set(a_fd, true);
        assert_eq!(ask(&wanted, &write), (2, true, true));
        assert_eq!(poll(&mut entry, None).expect("it can be asked"), 1);
        assert_eq!(entry[0].revents, libc::POLLIN);
    }
}
