//! What is to be seen of a recorded request: steps in the order of time, and their totals.

use std::collections::BTreeMap;

use crate::config::EngineKind;
use crate::engine::{FACTS, Model};
use crate::sys::calls::{Record, What};

/// A call that waits and takes longer has slept: 200 µs, in nanoseconds. One that finds something at once is over in a
/// tenth of that, and nothing that is waited for here comes earlier than five times as late.
const ASLEEP: u64 = 200_000;

/// Calls that may wait, in engines whose sockets do not.
const WAITS: [&str; 7] =
    ["epoll_wait", "epoll_pwait", "poll", "pselect6", "rt_sigtimedwait", "io_getevents", "io_uring_enter"];

/// Calls that hand over what was put into an io_uring.
const ENTER: &str = "io_uring_enter";

/// Who is at the other end of a socket of the proxy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// When client and server did their parts: [`crate::sys::calls::now`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Peers {
    pub(super) client_sends: u64,
    pub(super) server_gets: u64,
    pub(super) server_sends: u64,
    pub(super) client_gets: u64,
}

impl Peers {
    /// From the request to the reply, without what the server took, in nanoseconds.
    pub(super) fn took(&self) -> u64 {
        let server = self.server_sends.saturating_sub(self.server_gets);
        self.client_gets.saturating_sub(self.client_sends).saturating_sub(server)
    }
}

/// One request, as it was recorded.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) engine: EngineKind,
    /// All that the proxy has written down since it was started.
    pub(super) records: Vec<Record>,
    /// Its sockets of this connection, by their descriptors.
    pub(super) sockets: BTreeMap<i32, Side>,
    pub(super) peers: Peers,
    /// What begins later is no longer of this request.
    pub(super) until: u64,
}

/// The life of a request, to be drawn.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) engine: EngineKind,
    pub(super) model: Model,
    /// How many threads of the proxy did something.
    pub(super) threads: usize,
    pub(super) steps: Vec<Step>,
    pub(super) totals: Totals,
    /// What the tracer says.
    pub(super) checked: String,
}

/// Something that happened at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Nanoseconds since the client sent its request.
    pub(super) at: i64,
    /// How long a call took, or slept, in nanoseconds; none where it began before the request or that does not matter.
    pub(super) took: Option<u64>,
    pub(super) deed: Deed,
}

/// What it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// The client or the server sends.
    PeerSends(Side),
    /// The client or the server has received.
    PeerGets(Side),
    /// A thread of the proxy's did something.
    Thread {
        /// Which: 0 is the first to do something.
        thread: usize,
        /// The system call or the operation.
        name: String,
        act: Act,
    },
}

/// What a thread did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// It falls asleep in a call, to which it hands so many submissions.
    Sleeps(usize),
    /// The call in which it slept returns, for what has come from this side.
    Wakes(Side),
    /// It calls, about a socket or none, and hands over so many submissions: the result, which is no bytes.
    Calls { socket: Option<Side>, handed: usize, result: i64 },
    /// A call copies bytes out of the kernel's buffers of this socket.
    Receives(Side, i64),
    /// A call copies bytes into them.
    Sends(Side, i64),
    /// An operation on a socket is put into the ring, without a call.
    Submits(Option<Side>),
    /// A completion is taken out of the ring, without a call: its result, and whether the order stands.
    Completes { socket: Option<Side>, result: i64, more: bool },
}

/// What a request takes: all that has ended between the moments when it was sent and when the proxy was at rest again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// System calls, by name.
    pub(super) calls: BTreeMap<String, u64>,
    /// Times that bytes were copied between the kernel's memory and the program's.
    pub(super) copies: u64,
    /// Times that a thread slept.
    pub(super) sleeps: u64,
    pub(super) submissions: u64,
    pub(super) completions: u64,
    /// See [`Peers::took`].
    pub(super) took: u64,
}

impl Totals {
    pub(super) fn all_calls(&self) -> u64 {
        self.calls.values().sum()
    }
}

impl Life {
    pub(super) fn of(recording: &Recording) -> Self {
        let Recording { engine, records, peers, until, .. } = recording;
        let model = FACTS.iter().find(|it| it.kind == *engine).map_or(Model::Readiness, |it| it.model);
        let mut order: Vec<&Record> = records
            .iter()
            // Who slept all the time has done nothing.
            .filter(|it| {
                it.at[1] >= peers.client_sends
                    && it.at[0] <= *until
                    && (it.at[0] >= peers.client_sends || it.at[1] <= *until)
            })
            .collect();
        order.sort_by_key(|it| it.at[0]);
        let mut drawing = Drawing {
            recording,
            model,
            threads: Vec::new(),
            queued: BTreeMap::new(),
            steps: Vec::new(),
            totals: Totals::default(),
        };
        for (index, record) in order.iter().enumerate() {
            drawing.add(record, &order[index + 1..]);
        }
        drawing.add_peers();
        let Drawing { threads, mut steps, mut totals, .. } = drawing;
        steps.sort_by_key(|step| step.at);
        totals.took = peers.took();
        Self { engine: *engine, model, threads: threads.len(), steps, totals, checked: String::new() }
    }
}

/// Steps, while they are made of records.
struct Drawing<'r> {
    recording: &'r Recording,
    model: Model,
    /// Those that were met, by their numbers in the records.
    threads: Vec<u64>,
    /// What each has put into its ring and not handed over yet.
    queued: BTreeMap<usize, usize>,
    steps: Vec<Step>,
    totals: Totals,
}

impl Drawing<'_> {
    fn add_peers(&mut self) {
        let Peers { client_sends, server_gets, server_sends, client_gets } = self.recording.peers;
        for (at, deed) in [
            (client_sends, Deed::PeerSends(Side::Client)),
            (server_gets, Deed::PeerGets(Side::Server)),
            (server_sends, Deed::PeerSends(Side::Server)),
            (client_gets, Deed::PeerGets(Side::Client)),
        ] {
            self.step(at, None, deed);
        }
    }

    /// Adds the steps of a record. `later` are those that begin after it.
    fn add(&mut self, record: &Record, later: &[&Record]) {
        let thread = self.threads.iter().position(|it| *it == record.thread).unwrap_or_else(|| {
            self.threads.push(record.thread);
            self.threads.len() - 1
        });
        let [began, ended] = record.at;
        match &record.what {
            What::Call { name, fd, result } => self.call(record, thread, name, (*fd, *result), later),
            What::Submitted { name, fd, .. } => {
                *self.queued.entry(thread).or_default() += 1;
                self.totals.submissions += 1;
                self.totals.copies += u64::from(name == "send");
                let socket = self.recording.sockets.get(fd).copied();
                self.act(began, ended - began, thread, name, Act::Submits(socket));
            }
            What::Completed { name, token, result, more } => {
                self.totals.completions += 1;
                self.totals.copies += u64::from(name == "receive" && *result > 0);
                let act =
                    Act::Completes { socket: self.socket_of(*token), result: (*result).into(), more: *more };
                self.act(began, ended - began, thread, name, act);
            }
        }
    }

    fn call(&mut self, record: &Record, thread: usize, name: &str, fd: (i32, i64), later: &[&Record]) {
        let ((fd, result), [began, ended]) = (fd, record.at);
        let socket = self.recording.sockets.get(&fd).copied();
        let handed = if name == ENTER { self.queued.remove(&thread).unwrap_or(0) } else { 0 };
        let may_wait = self.model == Model::Blocking || WAITS.contains(&name);
        let slept = may_wait && ended - began >= ASLEEP;
        if slept {
            self.act_untimed(began, thread, name, Act::Sleeps(handed));
        }
        if ended > self.recording.until {
            return;
        }
        *self.totals.calls.entry(name.to_owned()).or_default() += 1;
        self.totals.sleeps += u64::from(slept);
        let moves = result > 0 && (name == "recvfrom" || name == "sendto");
        self.totals.copies += u64::from(moves);
        let act = match socket {
            Some(side) if moves && name == "recvfrom" => Act::Receives(side, result),
            Some(side) if moves => Act::Sends(side, result),
            None if slept => Act::Wakes(self.woken_by(record.thread, later)),
            socket => Act::Calls { socket, handed, result },
        };
        let at = if slept { ended } else { began };
        if began < self.recording.peers.client_sends {
            self.act_untimed(at, thread, name, act);
        } else {
            self.act(at, ended - began, thread, name, act);
        }
    }

    /// Where what has ended a wait came from: from where the thread receives next.
    fn woken_by(&self, thread: u64, later: &[&Record]) -> Side {
        let received = later.iter().filter(|it| it.thread == thread).find_map(|it| match &it.what {
            What::Call { name, fd, result } if name == "recvfrom" && *result > 0 => {
                self.recording.sockets.get(fd).copied()
            }
            What::Completed { token, .. } => self.socket_of(*token),
            _ => None,
        });
        received.unwrap_or(Side::Client)
    }

    /// The socket of an operation, which may have been submitted long before.
    fn socket_of(&self, token: u64) -> Option<Side> {
        self.recording.records.iter().rev().find_map(|it| match &it.what {
            What::Submitted { fd, token: submitted, .. } if *submitted == token => {
                self.recording.sockets.get(fd).copied()
            }
            _ => None,
        })
    }

    fn act(&mut self, at: u64, took: u64, thread: usize, name: &str, act: Act) {
        self.step(at, Some(took), Deed::Thread { thread, name: name.to_owned(), act });
    }

    fn act_untimed(&mut self, at: u64, thread: usize, name: &str, act: Act) {
        self.step(at, None, Deed::Thread { thread, name: name.to_owned(), act });
    }

    fn step(&mut self, at: u64, took: Option<u64>, deed: Deed) {
        let at = at.cast_signed() - self.recording.peers.client_sends.cast_signed();
        self.steps.push(Step { at, took, deed });
    }
}

/// The sentence under an engine's name.
pub(super) fn explained(model: Model) -> &'static str {
    match model {
        Model::Readiness => {
            "Readiness: the kernel says that a call would not block; the program makes the call, which copies the bytes."
        }
        Model::Completion => {
            "Completion: the program says what is to be done, by a ring that it shares with the kernel; the kernel does it \
             and says so."
        }
        Model::Blocking => {
            "Blocking: the program makes the call and sleeps in it until there are bytes; each direction has a thread."
        }
    }
}

/// What an error's number is called, or a count.
pub(super) fn result_in_words(result: i64) -> String {
    match -result {
        11 => "EAGAIN".to_owned(),
        4 => "EINTR".to_owned(),
        104 => "ECONNRESET".to_owned(),
        105 => "ENOBUFS".to_owned(),
        errno if errno > 0 => format!("error {errno}"),
        _ => result.to_string(),
    }
}

impl Deed {
    /// What stands at it.
    pub(super) fn label(&self) -> String {
        let Self::Thread { name, act, .. } = self else { return String::new() };
        match act {
            Act::Sleeps(0) => format!("{name}: sleeps"),
            Act::Sleeps(handed) => format!("{name}: hands over {handed}, sleeps"),
            Act::Wakes(_) => format!("{name} returns"),
            Act::Calls { result: 0, handed: 0, .. } => name.clone(),
            Act::Calls { result: 0, handed, .. } => format!("{name}: hands over {handed}"),
            Act::Calls { result, .. } => format!("{name}: {}", result_in_words(*result)),
            Act::Receives(_, bytes) | Act::Sends(_, bytes) => format!("{name} {bytes} B"),
            Act::Submits(_) => name.clone(),
            Act::Completes { result, .. } if *result > 0 => format!("{name}: {result} B"),
            Act::Completes { result, .. } => format!("{name}: {}", result_in_words(*result)),
        }
    }
}

/// A row of the comparison: its name, and a life's value.
type Compared = (&'static str, fn(&Life) -> String);

impl Life {
    /// What lives are compared in.
    pub(super) const COMPARED: [Compared; 6] = [
        ("system calls", |life| life.totals.all_calls().to_string()),
        ("copies between the kernel and the program", |life| life.totals.copies.to_string()),
        ("times that a thread slept", |life| life.totals.sleeps.to_string()),
        ("submissions through the ring, without a call", |life| life.totals.submissions.to_string()),
        ("completions through the ring, without a call", |life| life.totals.completions.to_string()),
        ("µs from the request to the reply, less the server's", |life| {
            format!("{:.0}", life.totals.took as f64 / 1e3)
        }),
    ];
}
