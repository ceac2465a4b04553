//! Signals: the kernel queues one whenever something happens to a socket. fcntl(2), `F_SETSIG`.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::time::Duration;

use super::selector::{Readiness, Report, Selector, Source, Trigger};
use crate::sys::Os;
use crate::sys::sigio::{Caller, Said, Signals};

/// Signals taken at a time.
const SIGNALS: usize = 1024;

/// A thread's queue of signals as a [`Selector`].
pub struct BySigio {
    signals: Signals,
    /// By descriptor: who is watched.
    places: Vec<Place>,
    /// Sockets that are new: nobody tells what was the case before they were watched.
    fresh: Vec<usize>,
    /// Turns so far.
    turn: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    token: Option<usize>,
    /// The turn in which it was reported last, and where among the reports: one socket can have many signals.
    turn: u64,
    report: usize,
}

impl BySigio {
    /// A selector for the calling thread, and the handle that wakes it from any.
    ///
    /// # Errors
    /// The operating system's.
    pub fn new() -> io::Result<(Self, Arc<Caller>)> {
        let (signals, caller) = Signals::new()?;
        Ok((Self { signals, places: Vec::new(), fresh: Vec::new(), turn: 0 }, Arc::new(caller)))
    }

    fn place(&mut self, source: &Source<'_, Os>) -> &mut Place {
        let fd = usize::try_from(source.as_fd().as_raw_fd()).expect("an open descriptor is not negative");
        if fd >= self.places.len() {
            self.places.resize(fd + 1, Place::default());
        }
        &mut self.places[fd]
    }
}

/// Appends a report, or adds it to the one that there is of the same socket.
fn tell(place: &mut Place, turn: u64, events: libc::c_short, out: &mut Vec<Readiness>) {
    // A signal can be about a socket that had this descriptor before.
    let Some(token) = place.token else { return };
    let has = |bits| events & bits != 0;
    let special = has(libc::POLLERR | libc::POLLHUP);
    let [read, write] = [libc::POLLIN | libc::POLLPRI, libc::POLLOUT].map(|bits| special || has(bits));
    if place.turn != turn {
        (place.turn, place.report) = (turn, out.len());
        out.push(Readiness { token, read: false, write: false, special: false, error: false });
    }
    let report = &mut out[place.report];
    report.read |= read;
    report.write |= write;
    report.special |= special;
    report.error |= has(libc::POLLERR);
}

impl Selector<Os> for BySigio {
    const TRIGGER: Trigger = Trigger::Edge;
    /// A FIN is told as bytes are, so a read must find out which it was.
    const SHORT_READ_IS_DRAINED: bool = false;

    fn add(&mut self, source: Source<'_, Os>, token: usize) -> io::Result<()> {
        self.signals.watch(source.as_fd())?;
        *self.place(&source) = Place { token: Some(token), ..Place::default() };
        self.fresh.push(token);
        Ok(())
    }

    fn remove(&mut self, source: Source<'_, Os>) {
        self.place(&source).token = None;
        // The kernel forgets a socket when it is closed. A listener may live on elsewhere.
        if matches!(source, Source::Listener(_)) {
            self.signals.unwatch(source.as_fd());
        }
    }

    fn select(&mut self, wait: Option<Duration>, out: &mut Vec<Readiness>) -> io::Result<Report> {
        let mut wait = if self.fresh.is_empty() { wait } else { Some(Duration::ZERO) };
        let new = |token| Readiness { token, read: true, write: true, special: false, error: false };
        out.extend(self.fresh.drain(..).map(new));
        self.turn += 1;
        let mut lossy = Report::Exact;
        for _ in 0..SIGNALS {
            match self.signals.next(wait)? {
                Some(Said::Happened { fd, events }) => {
                    let place = usize::try_from(fd).ok().and_then(|fd| self.places.get_mut(fd));
                    if let Some(place) = place {
                        tell(place, self.turn, events, out);
                    }
                }
                Some(Said::Lost) => lossy = Report::Lossy,
                Some(Said::Called) => {}
                None => break,
            }
            wait = Some(Duration::ZERO);
        }
        Ok(lossy)
    }
}
