//! The rooms that decide do not allocate: not for a connection, and not for a byte.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tidegate::config::{self, Event, LogOutput};
use tidegate::engine::{Attempt, Pace, Port, drive};
use tidegate::logging::{self, Recorder};
use tidegate::relay::{Dir, End, Fault, Op, Outcome, Progress, Relay, Side};
use tidegate::session::{Context, Input, Record, Session, Sight};
use tidegate::snapshot::{ListenerId, Snapshot};
use tidegate::sys::Clock;
use tidegate::tick::Tick;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, with a count for each thread.
struct Counting;

#[expect(unsafe_code, reason = "there is no other way to see allocations; every call is passed on as it is")]
// SAFETY: the system's allocator keeps the contract, and counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocates on this thread; reallocations are allocations here.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

fn moved(count: u32) -> Outcome {
    Outcome::Moved(NonZeroU32::new(count).expect("something moved"))
}

/// A source that sends so many chunks, and a target that takes each in two parts and then has to rest.
struct Chunks {
    left: u32,
    part: u32,
}

impl Port for Chunks {
    fn attempt(&mut self, dir: Dir, op: Op, _: u32) -> Attempt {
        match (dir, op) {
            (_, Op::Finish) => Attempt::Done(Outcome::Finished),
            (Dir::Up, Op::Fill) if self.left > 0 => {
                self.left -= 1;
                self.part = 0;
                Attempt::Done(moved(200))
            }
            (_, Op::Fill) => Attempt::Done(Outcome::Eof),
            (_, Op::Drain) => {
                self.part += 1;
                if self.part == 2 { Attempt::Parked } else { Attempt::Done(moved(100)) }
            }
        }
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(vec![0_u8; 100])), 1);
}

#[test]
fn a_relay_never_allocates() {
    let count = allocations(|| {
        let mut relay = Relay::new(1000);
        let mut chunks = Chunks { left: 1000, part: 0 };
        while drive(&mut relay, &mut chunks, 8) != Pace::Ended(End::Clean) {
            relay.resume(Dir::Up, Op::Drain);
        }
        assert_eq!(relay.flow(Dir::Up).moved(), 200_000);
    });
    assert_eq!(count, 0);
}

#[test]
fn a_session_never_allocates() {
    let text = "config_version = 1\n\
        [listener.main]\nbind = [\"127.0.0.1:8080\"]\npool = \"web\"\n\
        [pool.web]\nbalance = \"round_robin\"\n\
        server = [{ name = \"a\", addr = \"127.0.0.1:9000\" }, { name = \"b\", addr = \"127.0.0.1:9001\" }]\n";
    let config = config::parse(text, "test").unwrap_or_else(|report| panic!("{report:?}"));
    let snapshot = Snapshot::new(&config, 1000);
    let at = |now| Context { now: Tick(now), snapshot: &snapshot };
    let reset = End::Reset { by: Side::Server, fault: Fault::Reset };
    let count = allocations(|| {
        for id in 0..1000 {
            let client = Some((Ipv4Addr::LOCALHOST, 40_000).into());
            let progress = Progress { moved: [id, 1], ..Progress::default() };
            let (mut session, _) = Session::new(id, ListenerId(0), client, at(0));
            let inputs = [
                Input::Dialed(Err(Fault::Refused)),
                Input::Dialed(Err(Fault::NoFiles)),
                Input::Deadline(None),
                Input::Dialed(Ok(())),
                Input::Deadline(Some(Sight { progress, ..Sight::default() })),
                Input::Ended { end: reset, moved: [id, 2], unsent: true },
                Input::Deadline(None),
                Input::Kill(tidegate::session::Cause::Drain),
            ];
            for (input, now) in inputs.into_iter().zip((200..).step_by(200)) {
                session.handle(input, at(now));
            }
            assert_eq!(session.record(0, Tick(9_999)).bytes_in, id);
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn a_record_is_handed_over_without_an_allocation() {
    let text = "[log.access]\nevents = [\"open\", \"update\", \"close\"]\nupdate_every = \"5m\"\nsample = 0.5\n\
        [listener.main]\nbind = [\"127.0.0.1:8080\"]\npool = \"web\"\n\
        [pool.web]\nserver = [{ name = \"a\", addr = \"127.0.0.1:9000\" }]\n";
    let folder = tempfile::tempdir().unwrap();
    let mut config = config::parse(text, "test").unwrap_or_else(|report| panic!("{report:?}"));
    config.access.output = Some(LogOutput::File(folder.path().join("access")));
    let snapshot = Arc::new(Snapshot::new(&config, 1000));
    let clock = Clock::start();
    let outputs = logging::Outputs::open(&config, clock).expect("the file can be opened");
    let (logging, mut recorders) =
        logging::start(outputs, &config, &snapshot, vec!["mio"], clock).expect("it is started once");
    let cx = Context { now: Tick(0), snapshot: &snapshot };
    let sessions: Vec<Session> = (0..20_000).map(|id| Session::new(id, ListenerId(0), None, cx).0).collect();
    let count = allocations(|| {
        for session in &sessions {
            recorders[0].push(session.opened(0, Tick(5)));
            recorders[1].push(Record { event: Event::Update, ..session.opened(0, Tick(6)) });
            recorders[0].push(session.record(0, Tick(9)));
        }
        recorders.iter_mut().for_each(Recorder::flush);
    });
    assert_eq!(count, 0);
    let _ = logging.stop(Duration::from_secs(10));
    let lines = std::fs::read_to_string(folder.path().join("access")).unwrap().lines().count();
    assert!(lines > 1000, "{lines} lines: nothing was handed over");
}
