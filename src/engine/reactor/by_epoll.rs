//! epoll(7) without `EPOLLET`: a level-triggered selector, to be compared with the edge-triggered one.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use super::selector::{Readiness, Report, Selector, Source, Trigger, Want};
use crate::sys::calls::{self, Call};
use crate::sys::{Bell, Os};
use crate::table::Key;

/// Reports taken from the kernel at a time.
const EVENTS: usize = 1024;

/// An epoll instance as a [`Selector`].
pub struct ByEpoll {
    epoll: OwnedFd,
    events: Vec<Event>,
    bell: Arc<Bell>,
}

impl ByEpoll {
    /// A new selector, and the handle that wakes it from any thread.
    ///
    /// # Errors
    /// The operating system's: usually no free descriptor.
    pub fn new() -> io::Result<(Self, Arc<Bell>)> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let bell = Arc::new(Bell::new()?);
        epoll::add(&epoll, &*bell, EventData::new_u64(bell_token()), EventFlags::IN)?;
        Ok((Self { epoll, events: Vec::with_capacity(EVENTS), bell: Arc::clone(&bell) }, bell))
    }
}

fn bell_token() -> u64 {
    Key::reserved(u32::MAX).token(false) as u64
}

/// Hang-ups and errors come unasked. A FIN is not asked for: it makes a socket readable, which is enough.
fn flags(want: Want) -> EventFlags {
    let read = if want.read { EventFlags::IN } else { EventFlags::empty() };
    let write = if want.write { EventFlags::OUT } else { EventFlags::empty() };
    read | write
}

impl Selector<Os> for ByEpoll {
    const TRIGGER: Trigger = Trigger::Level;
    /// Whatever was left, a FIN or bytes behind an urgent one, is reported in the next turn.
    const SHORT_READ_IS_DRAINED: bool = true;

    fn add(&mut self, source: Source<'_, Os>, token: usize) -> io::Result<()> {
        let add = || epoll::add(&self.epoll, source, EventData::new_u64(token as u64), EventFlags::empty());
        Ok(calls::made(Call::EpollCtl, -1, add)?)
    }

    fn set(&mut self, source: Source<'_, Os>, token: usize, want: Option<Want>) -> io::Result<()> {
        let data = EventData::new_u64(token as u64);
        let done = match want {
            None => calls::made(Call::EpollCtl, -1, || epoll::delete(&self.epoll, source)),
            Some(want) => match calls::made(Call::EpollCtl, -1, || {
                epoll::modify(&self.epoll, &source, data, flags(want))
            }) {
                // It had left.
                Err(Errno::NOENT) => {
                    calls::made(Call::EpollCtl, -1, || epoll::add(&self.epoll, &source, data, flags(want)))
                }
                done => done,
            },
        };
        Ok(done?)
    }

    fn remove(&mut self, source: Source<'_, Os>) {
        // A socket is forgotten when its last descriptor is closed, and ours are never duplicated. A listener may live
        // on elsewhere; one that nobody asks for has left already.
        if matches!(source, Source::Listener(_)) {
            let _ = calls::made(Call::EpollCtl, -1, || epoll::delete(&self.epoll, source));
        }
    }

    fn select(&mut self, wait: Option<Duration>, out: &mut Vec<Readiness>) -> io::Result<Report> {
        let wait = wait.map(|wait| Timespec {
            tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        });
        self.events.clear();
        let told = rustix::buffer::spare_capacity(&mut self.events);
        match calls::made(Call::EpollPwait, -1, || epoll::wait(&self.epoll, told, wait.as_ref())) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let (flags, token) = (event.flags, event.data.u64());
            if token == bell_token() {
                self.bell.silence();
            }
            let special = flags.intersects(EventFlags::ERR | EventFlags::HUP);
            out.push(Readiness {
                token: token as usize,
                read: special || flags.contains(EventFlags::IN),
                write: special || flags.contains(EventFlags::OUT),
                special,
                error: flags.contains(EventFlags::ERR),
            });
        }
        Ok(Report::Exact)
    }
}
