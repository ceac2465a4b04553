//! How long a server takes to answer, as a life tells.

use super::*;

const AWAITED: Order = Order::Relay { limited: [false; 2], awaited: true };

/// A life in a pool of two that chooses by time, connected at tick 10.
fn timed() -> Life {
    let mut config = config(&[1, 1]);
    config.pools[0].balance = Balance::LeastTime;
    let mut life = Life::new(&config);
    assert_eq!(life.at(10, Input::Dialed(Ok(()))), Some(AWAITED));
    life
}

fn spoke(side: Side) -> Input {
    Input::News(News::Spoke(side))
}

impl Life {
    /// How long its server, or the other one, takes to answer.
    fn answer(&self, its: bool, tick: u64) -> Option<f32> {
        let own = self.session.server().expect("it has one");
        let id = if its { own } else { ServerId(1 - own.0) };
        self.snapshot.server(id).latency.as_ref().expect("kept").answer.mean_ms(Tick(tick))
    }

    /// Whether its server counts as one that has failed.
    fn has_failed(&self, tick: u64) -> bool {
        let server = self.snapshot.server(self.session.server().expect("it has one"));
        server.latency.as_ref().expect("kept").has_failed(Tick(tick))
    }

    /// Other lives have seen that its server, or the other one, takes so long.
    fn knows(&self, its: bool, tick: u64, took: u64) {
        let own = self.session.server().expect("it has one");
        let id = if its { own } else { ServerId(1 - own.0) };
        self.snapshot.server(id).latency.as_ref().expect("kept").answer.saw(Tick(tick), ms(took));
    }
}

#[test]
fn an_answer_counts_from_the_last_bytes_of_its_question() {
    let mut life = timed();
    // It thinks, and drips.
    for tick in [2_000, 2_500, 9_000] {
        assert_eq!(life.at(tick, spoke(Side::Client)), None);
    }
    assert_eq!(life.answer(true, 9_000), None);
    assert_eq!(life.at(9_030, spoke(Side::Server)), None);
    assert_eq!((life.answer(true, 9_030), life.answer(false, 9_030)), (Some(30.0), None));
    life.ended(60_000, End::Idle, false);
    assert!(life.answer(true, 60_000).is_some_and(|ms| ms < 1.0), "the question was answered long ago");
}

#[test]
fn who_speaks_first_is_timed_from_its_connection() {
    let mut life = timed();
    life.at(45, spoke(Side::Server));
    assert_eq!(life.answer(true, 45), Some(35.0));
}

#[test]
fn what_was_not_answered_took_as_long_as_it_was_waited_for_and_is_a_failure_if_the_server_ended_it() {
    let reset = |by| End::Reset { by, fault: Fault::Reset };
    let half = |waiting_for| End::HalfIdle { waiting_for };
    for (end, waited, took) in [
        (reset(Side::Client), 400, Some(400.0)),
        (End::Idle, 5_000, Some(5_000.0)),
        (End::Idle, 3_600_000, Some(60_000.0)),
        (half(Side::Server), 700, Some(700.0)),
        (End::Drained, 400, Some(400.0)),
        (End::Clean, 3, None),
        (End::Clean, 3_000, None),
        (reset(Side::Server), 3, None),
        (half(Side::Client), 300_000, None),
    ] {
        let asked = 20;
        let ended = asked + waited;
        let mut life = timed();
        life.knows(false, ended, 20);
        life.at(asked, spoke(Side::Client));
        life.ended(ended, end, false);
        assert_eq!(life.answer(true, ended), took, "{end:?} after {waited} ms");
        assert_eq!(life.has_failed(ended), took.is_none(), "{end:?} after {waited} ms");
        assert!(!life.has_failed(ended + 1_002), "{end:?} after {waited} ms");
        assert_eq!(life.answer(false, ended), Some(20.0), "{end:?}");
    }
}

#[test]
fn a_client_that_gives_up_soon_shortens_no_mean() {
    let mut life = timed();
    life.knows(true, 22, 80);
    life.at(20, spoke(Side::Client));
    life.ended(22, End::Reset { by: Side::Client, fault: Fault::Reset }, false);
    assert_eq!(life.answer(true, 22), Some(80.0));
}

#[test]
fn where_nobody_ever_answers_or_nothing_was_asked_silence_says_nothing() {
    let mut life = timed();
    life.at(20, spoke(Side::Client));
    life.ended(9_000, End::Clean, false);
    assert_eq!(life.answer(true, 9_000), None, "no server of this pool has ever answered");
    assert!(!life.has_failed(9_000));
    let mut life = timed();
    life.knows(false, 20, 20);
    life.ended(9_000, End::Clean, false);
    assert_eq!(life.answer(true, 9_000), None, "its client has said nothing");
}
