//! Requests that were made up, so that every number of their pictures is known.

use std::collections::BTreeMap;

use super::steps::{Act, Deed, Life, Peers, Recording, Side};
use super::{svg, text};
use crate::config::EngineKind;
use crate::sys::calls::{Record, What};

const CLIENT: i32 = 8;
const SERVER: i32 = 9;
const EAGAIN: i64 = -11;
/// When the client sends, in µs as all times here.
const START: u64 = 1_000_000;

fn record(thread: u64, at: [u64; 2], what: What) -> Record {
    Record { at: at.map(|micros| micros * 1_000), thread, what }
}

fn call(thread: u64, name: &str, at: [u64; 2], fd: i32, result: i64) -> Record {
    record(thread, at.map(|it| START + it), What::Call { name: name.to_owned(), fd, result })
}

/// A call under way when the client sends.
fn waiting(thread: u64, name: &str, until: u64, fd: i32, result: i64) -> Record {
    record(thread, [START - 20_000, START + until], What::Call { name: name.to_owned(), fd, result })
}

fn life(engine: EngineKind, records: Vec<Record>) -> Life {
    let [client_sends, server_gets, server_sends, client_gets] =
        [0, 60, 1_060, 1_130].map(|micros| (START + micros) * 1_000);
    Life::of(&Recording {
        engine,
        records,
        sockets: BTreeMap::from([(CLIENT, Side::Client), (SERVER, Side::Server)]),
        peers: Peers { client_sends, server_gets, server_sends, client_gets },
        until: (START + 10_000) * 1_000,
    })
}

fn mio() -> Life {
    life(
        EngineKind::Mio,
        vec![
            call(1, "sendto", [0, 0], CLIENT, 100).before(),
            // The main thread sleeps through it all.
            waiting(0, "poll", 30_000, -1, 0),
            waiting(1, "epoll_wait", 30, -1, 0),
            call(1, "recvfrom", [31, 35], CLIENT, 100),
            call(1, "sendto", [36, 50], SERVER, 100),
            call(1, "epoll_wait", [70, 1_080], -1, 0),
            call(1, "recvfrom", [1_081, 1_085], SERVER, 100),
            call(1, "sendto", [1_090, 1_110], CLIENT, 100),
            call(1, "recvfrom", [1_111, 1_112], SERVER, EAGAIN),
            call(1, "epoll_wait", [1_140, 21_000], -1, 0),
            call(1, "recvfrom", [21_001, 21_002], CLIENT, 100),
        ],
    )
}

impl Record {
    /// The same before the request.
    fn before(mut self) -> Self {
        self.at = self.at.map(|at| at - 25_000_000);
        self
    }
}

fn uring() -> Life {
    let submitted = |at: u64, name: &str, fd, token| {
        let at = START + at;
        record(1, [at, at], What::Submitted { name: name.to_owned(), fd, token })
    };
    let completed = |at: u64, token| {
        let at = START + at;
        record(1, [at, at], What::Completed { name: "receive".to_owned(), token, result: 100, more: true })
    };
    life(
        EngineKind::IoUring,
        vec![
            submitted(0, "receive, again and again", CLIENT, 1).before(),
            submitted(0, "receive, again and again", SERVER, 2).before(),
            waiting(1, "io_uring_enter", 30, -1, 0),
            completed(31, 1),
            submitted(32, "send", SERVER, 3),
            call(1, "io_uring_enter", [33, 1_080], -1, 0),
            completed(1_081, 2),
            submitted(1_082, "send", CLIENT, 4),
            call(1, "io_uring_enter", [1_083, 21_000], -1, 0),
        ],
    )
}

fn threads() -> Life {
    life(
        EngineKind::Threads,
        vec![
            waiting(3, "recvfrom", 40, CLIENT, 100),
            waiting(4, "recvfrom", 1_080, SERVER, 100),
            call(3, "sendto", [41, 55], SERVER, 100),
            call(3, "recvfrom", [56, 21_000], CLIENT, 100),
            call(4, "sendto", [1_081, 1_100], CLIENT, 100),
            call(4, "recvfrom", [1_101, 22_000], SERVER, 100),
        ],
    )
}

fn acts(life: &Life) -> Vec<(usize, Act)> {
    let act = |deed: &Deed| match deed {
        Deed::Thread { thread, act, .. } => Some((*thread, *act)),
        _ => None,
    };
    life.steps.iter().filter_map(|step| act(&step.deed)).collect()
}

#[test]
fn readiness_is_a_wait_and_calls() {
    let life = mio();
    let expected = [
        Act::Sleeps(0),
        Act::Wakes(Side::Client),
        Act::Receives(Side::Client, 100),
        Act::Sends(Side::Server, 100),
        Act::Sleeps(0),
        Act::Wakes(Side::Server),
        Act::Receives(Side::Server, 100),
        Act::Sends(Side::Client, 100),
        Act::Calls { socket: Some(Side::Server), handed: 0, result: EAGAIN },
        Act::Sleeps(0),
    ];
    assert_eq!(acts(&life), expected.map(|act| (0, act)));
    let totals = &life.totals;
    assert_eq!((totals.all_calls(), totals.copies, totals.sleeps), (7, 4, 2));
    assert_eq!((totals.submissions, totals.completions, totals.took), (0, 0, 130_000));
    let counts = [("epoll_wait", 2), ("recvfrom", 3), ("sendto", 2)];
    assert_eq!(totals.calls, counts.map(|(name, count)| (name.to_owned(), count)).into());
    let times: Vec<i64> = life.steps.iter().map(|step| step.at).collect();
    assert!(times.is_sorted() && times[0] < 0 && times[1] == 0, "{times:?}");
}

#[test]
fn completion_goes_through_the_ring() {
    let life = uring();
    let completes = |side| Act::Completes { socket: Some(side), result: 100, more: true };
    let expected = [
        Act::Sleeps(0),
        Act::Wakes(Side::Client),
        completes(Side::Client),
        Act::Submits(Some(Side::Server)),
        Act::Sleeps(1),
        Act::Wakes(Side::Server),
        completes(Side::Server),
        Act::Submits(Some(Side::Client)),
        Act::Sleeps(1),
    ];
    assert_eq!(acts(&life), expected.map(|act| (0, act)));
    let totals = &life.totals;
    assert_eq!((totals.all_calls(), totals.copies, totals.sleeps), (2, 4, 2));
    assert_eq!((totals.submissions, totals.completions), (2, 2));
}

#[test]
fn each_direction_has_a_thread_that_sleeps_in_its_read() {
    let life = threads();
    assert_eq!(life.threads, 2);
    let of = |thread| acts(&life).into_iter().filter(move |(its, _)| *its == thread).map(|(_, act)| act);
    let expected = |from, to| [Act::Sleeps(0), Act::Receives(from, 100), Act::Sends(to, 100), Act::Sleeps(0)];
    assert!(of(0).eq(expected(Side::Client, Side::Server)), "{life:?}");
    assert!(of(1).eq(expected(Side::Server, Side::Client)), "{life:?}");
    assert_eq!((life.totals.all_calls(), life.totals.copies, life.totals.sleeps), (4, 4, 2));
}

#[test]
fn the_text_shows_every_step_in_a_terminal() {
    let mut lives = [mio(), uring(), threads()];
    lives[0].checked = "compared".to_owned();
    let text = text::page(&lives);
    assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
    for part in [
        "mio  Readiness: ",
        "── epoll_wait returns ──",
        "recvfrom 100 B ══",
        "recvfrom: EAGAIN ─",
        "┅ receive: 100 B ┅",
        "┤ io_uring_enter: hands over 1, sleeps ├",
        "thread 2",
        "mio: compared",
        "mio: epoll_wait 2, recvfrom 3, sendto 2",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    let row = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line[name.len()..].split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("system calls"), ["7", "2", "4"]);
    assert_eq!(row("times that a thread slept"), ["2", "2", "2"]);
}

#[test]
fn the_picture_has_what_the_text_has_and_no_markup_of_others() {
    let mut lives = [mio(), uring()];
    lives[0].checked = "<script>&".to_owned();
    let picture = svg::picture(&lives);
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"), "{picture}");
    assert!(picture.contains("<title>One request in mio and in io_uring</title>"), "{picture}");
    assert!(picture.contains("&lt;script&gt;&amp;") && !picture.contains("<script"), "{picture}");
    assert_eq!(picture.matches("class=\"copies\"").count(), 4 + 1, "and one in the legend");
    assert_eq!(picture.matches("class=\"ring\"").count(), 4 + 1, "and one in the legend");
    assert!(picture.contains("recvfrom: EAGAIN"), "{picture}");
}
