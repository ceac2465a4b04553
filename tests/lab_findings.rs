//! What the lab says of a run and of two runs: verdicts, tables, comparisons, and files that cannot be read.
#![cfg(all(feature = "lab", target_os = "linux"))]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // The support of other tests reads clocks and locks.

use std::fs;

use tempfile::TempDir;
use tidegate::lab::compare::{Change, compare};
use tidegate::lab::report::findings::{Findings, Standing, copies};
use tidegate::lab::report::verdict::{Outcome, Question, Verdict, questions};
use tidegate::lab::report::{self, terminal};
use tidegate::lab::results::{Kind, Results, Round};

mod support;

use support::results::{self, cell_mut};

/// The workloads that are looked at here: those that differ in kind.
const WORKLOADS: [&str; 4] = ["pp1", "pp64", "churn", "idle"];

fn sample() -> Results {
    sample_of(6)
}

fn sample_of(rounds: u32) -> Results {
    let mut results = results::sample_of(rounds);
    results.workloads.retain(|info| WORKLOADS.contains(&&*info.name));
    results.cells.retain(|cell| WORKLOADS.contains(&&*cell.workload));
    results
}

/// Changes the CPU time of every round of a cell.
fn scale(results: &mut Results, subject: &str, workload: &str, by: impl Fn(&Round) -> f64) {
    for round in &mut cell_mut(results, subject, workload).rounds {
        let times = by(round);
        round.cpu = round.cpu.map(|part| part * times);
    }
}

/// The CPU time of one subject is so many times that of another, in every round but for a little.
fn cost(results: &mut Results, subject: &str, reference: &str, workload: &str, by: impl Fn(u32) -> f64) {
    let theirs = cell_mut(results, reference, workload).rounds.clone();
    for (round, other) in cell_mut(results, subject, workload).rounds.iter_mut().zip(theirs) {
        round.cpu = other.cpu.map(|part| part / other.units * round.units * by(round.round));
    }
}

fn question(results: &Results, title: &str) -> Question {
    let asked = questions(&Findings::of(results));
    asked.into_iter().find(|question| question.title == title).expect("it is asked")
}

fn verdict(results: &Results, title: &str, workload: &str) -> Verdict {
    let verdicts = question(results, title).verdicts;
    verdicts.into_iter().find(|verdict| verdict.workload == workload).expect("it is said")
}

const MAIN: &str = "Readiness or completion?";

/// A little up and down.
fn about(middle: f64) -> impl Fn(u32) -> f64 {
    move |round| middle * (0.99 + 0.01 * f64::from(round % 3))
}

#[test]
fn a_difference_is_said_with_its_interval_and_its_reason() {
    let mut results = sample();
    cost(&mut results, "io_uring", "mio", "pp64", about(0.62));
    // The machine was slow for a while: for both.
    for subject in ["io_uring", "mio"] {
        scale(&mut results, subject, "pp64", |round| if round.round > 3 { 2.0 } else { 1.0 });
    }
    let said = verdict(&results, MAIN, "pp64");
    assert_eq!(said.outcome, Outcome::Less);
    assert_eq!(
        said.sentence,
        "Ping-pong, 64 connections: io_uring takes 0.62 of mio's CPU per request (95\u{a0}%: 0.61 to 0.63, 6 rounds)"
    );
    assert_eq!(
        said.why.unwrap(),
        "mio makes 2.12 calls a message, io_uring 0.06: 1.00 fewer recvfrom, 1.00 fewer sendto, \
         0.12 fewer epoll_wait, 0.06 more io_uring_enter"
    );
}

#[test]
fn what_rounds_do_not_show_is_not_called_a_difference() {
    let mut results = sample();
    cost(&mut results, "io_uring", "mio", "pp64", |round| if round % 2 == 0 { 0.8 } else { 1.3 });
    let said = verdict(&results, MAIN, "pp64");
    assert_eq!(said.outcome, Outcome::Same);
    assert!(said.sentence.contains("no difference that these rounds can show between"), "{}", said.sentence);
}

#[test]
fn few_rounds_show_large_differences_only_and_two_show_none() {
    let with = |rounds, ratio| {
        let mut results = sample_of(rounds);
        cost(&mut results, "io_uring", "mio", "pp64", about(ratio));
        verdict(&results, MAIN, "pp64")
    };
    assert_eq!(with(6, 0.9).outcome, Outcome::Less);
    let small = with(4, 0.9);
    assert_eq!(small.outcome, Outcome::Same);
    assert!(
        small.sentence.contains("so few rounds show differences above a quarter only"),
        "{}",
        small.sentence
    );
    let large = with(4, 0.6);
    assert_eq!(large.outcome, Outcome::Less);
    assert!(large.sentence.ends_with("(0.59 to 0.61 in 4 rounds)"), "{}", large.sentence);
    for rounds in [1, 2] {
        let nothing = with(rounds, 0.1);
        assert_eq!(nothing.outcome, Outcome::TooFew);
        assert!(nothing.sentence.contains("too few rounds to say anything"), "{}", nothing.sentence);
    }
    assert!(question(&sample_of(1), MAIN).headline.starts_with("No answer yet"));
    assert!(question(&sample_of(0), MAIN).headline.starts_with("No answer yet"));
}

#[test]
fn who_failed_or_is_not_there_wins_nothing() {
    let results = sample();
    assert!(
        question(&results, "Against Envoy")
            .headline
            .starts_with("No answer: Envoy was not measured (envoy is")
    );
    let churn = verdict(&results, "Against nginx", "churn");
    assert!(churn.sentence.ends_with("in 5 rounds); nginx failed in 1 more round"), "{}", churn.sentence);

    let mut results = sample();
    let failure = cell_mut(&mut results, "asyncio", "idle").failures[0].clone();
    // The cheapest engine fails a round: another one is the best.
    cell_mut(&mut results, "io_uring", "pp64").failures.push(failure.clone());
    assert_ne!(verdict(&results, "Against HAProxy", "pp64").subject, "io_uring");
    // It fails all of them.
    let cell = cell_mut(&mut results, "io_uring", "pp64");
    cell.rounds.clear();
    let said = verdict(&results, MAIN, "pp64");
    assert_eq!(
        (said.outcome, &*said.sentence),
        (Outcome::Failed, "Ping-pong, 64 connections: io_uring failed")
    );
    let headline = question(&results, MAIN).headline;
    assert!(headline.contains("one of the two failed on 1"), "{headline}");

    let mut results = sample();
    results.subjects.retain(|subject| subject.model.as_deref() != Some("completion"));
    assert_eq!(question(&results, MAIN).headline, "This run has no engine of each, so it gives no answer.");
}

#[test]
fn another_build_is_compared_with_its_engine_and_its_extra_calls_are_named() {
    let mut results = sample();
    cost(&mut results, "slowed", "mio", "pp64", about(1.1));
    let said = verdict(&results, "The build slowed against mio", "pp64");
    assert_eq!(said.outcome, Outcome::More);
    assert_eq!(said.why.unwrap(), "slowed makes 1.00 more getsockopt a message");

    let build = results.subjects.iter_mut().find(|subject| subject.kind == Kind::Build).unwrap();
    build.name = "io_uring_next".to_owned();
    for cell in results.cells.iter_mut().filter(|cell| cell.subject == "slowed") {
        cell.subject = "io_uring_next".to_owned();
    }
    // Whatever its name, it runs the default engine.
    let said = verdict(&results, "The build io_uring_next against mio", "pp64");
    assert!(said.why.unwrap().contains("1.00 more getsockopt"));
}

#[test]
fn figures_are_per_message_and_what_is_unknown_is_absent() {
    let mut results = sample();
    let rounds = &mut cell_mut(&mut results, "mio", "pp64").rounds;
    for round in rounds.iter_mut() {
        (round.units, round.switches, round.bytes) = (1_000.0, Some([500, 0]), 200_000);
        let calls = round.calls.as_mut().unwrap();
        calls.get_mut("recvfrom").unwrap().bytes = 200_000;
        calls.get_mut("sendto").unwrap().bytes = 200_000;
        calls.get_mut("epoll_wait").unwrap().calls = 3_000;
    }
    let findings = Findings::of(&results);
    let mio = findings.figures("mio", "pp64").unwrap();
    assert_eq!(mio.wake_ups.unwrap().median, 0.25);
    assert_eq!(mio.copied.unwrap().median, 2.0);
    assert_eq!(mio.calls.as_ref().unwrap().by_name["epoll_wait"], 1.5);
    let peer = findings.figures("haproxy", "pp64").unwrap();
    assert!(peer.copied.is_some() && peer.calls.as_ref().unwrap().traced, "both are the tracer's");
    assert!(findings.figures("haproxy", "pp1").unwrap().calls.is_none());
    assert!(copies("sendmsg") && !copies("splice") && !copies("io_uring_enter") && !copies("unheard of"));
    assert!(
        matches!(findings.standing("envoy", "pp64"), Standing::Skipped(why) if why.contains("install it"))
    );
    assert!(matches!(findings.standing("asyncio", "idle"), Standing::Failed(_)));
    assert!(matches!(findings.standing("nobody", "idle"), Standing::Skipped(_)));
}

#[test]
fn the_terminal_has_everything_in_110_columns() {
    for rounds in [6, 1, 0] {
        let text = terminal(&sample_of(rounds));
        let widest = text.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(widest.chars().count() <= 110, "{widest}");
    }
    let text = terminal(&sample());
    for said in [
        "pp64: ping-pong",
        "FAILED: connection 1,021",
        "| OSError: [Errno 24]",
        "not measured: the queue of",
        MAIN,
    ] {
        assert!(text.contains(said), "{said}\n{text}");
    }
}

fn change<'a>(changes: &'a [Change], subject: &str, workload: &str) -> &'a Change {
    let found = changes.iter().find(|change| change.subject == subject && change.workload == workload);
    found.expect("it is compared")
}

#[test]
fn a_drift_of_the_machine_is_no_change_and_an_extra_call_is_named() {
    let [before, mut after] = [sample(), sample()];
    for cell in &mut after.cells {
        for round in &mut cell.rounds {
            round.cpu = round.cpu.map(|part| part * 1.3);
        }
    }
    // And one subject has become slower by itself, by one call.
    scale(&mut after, "mio", "pp64", |_| 1.5);
    for round in &mut cell_mut(&mut after, "mio", "pp64").rounds {
        let calls = round.calls.as_mut().unwrap();
        let extra = calls["recvfrom"];
        calls.insert("ioctl".to_owned(), extra);
    }
    let comparison = compare(&before, &after);
    assert!(comparison.warnings.is_empty(), "{:?}", comparison.warnings);
    let drifted = change(&comparison.changes, "poll", "pp64");
    assert_eq!((drifted.outcome(), drifted.absolute.median), (Outcome::Same, 1.3));
    let (reference, relative) = drifted.relative.as_ref().unwrap();
    assert_eq!((&**reference, (relative.median * 1e6).round()), ("haproxy", 1e6));
    let slower = change(&comparison.changes, "mio", "pp64");
    assert_eq!(slower.outcome(), Outcome::More);
    let calls: Vec<_> = slower.calls.iter().map(|(name, counts)| (&**name, counts.map(f64::round))).collect();
    assert_eq!(calls, [("ioctl", [0.0, 1.0])]);
    let text = comparison.to_string();
    assert!(
        text.starts_with("Differences in cost:\n  pp64, mio: costs more: CPU per request 1.95 of before"),
        "{text}"
    );
    assert!(text.contains("1.00 more ioctl a message: 0.00 before, 1.00 after"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
}

#[test]
fn runs_that_are_hard_to_compare_are_said_to_be() {
    let [before, mut after] = [sample(), sample()];
    after.about.kernel = "Linux 6.19".to_owned();
    after.about.facts[1].1 = "cubic".to_owned();
    after.about.interrupted = true;
    after.subjects.iter_mut().find(|subject| subject.name == "haproxy").unwrap().version = "3.0".to_owned();
    after.workloads.retain(|info| info.name != "idle");
    cell_mut(&mut after, "mio", "pp1").rounds.clear();
    let comparison = compare(&before, &after);
    let warned = comparison.warnings.join("\n");
    for what in [
        "the kernel differs",
        "congestion control differs: reno before, cubic after",
        "version of haproxy",
        "the run after was interrupted",
    ] {
        assert!(warned.contains(what), "{what}: {warned}");
    }
    assert_eq!(comparison.missing, ["mio with pp1 has figures before only", "idle was measured before only"]);
    after.cells.clear();
    let nothing = compare(&before, &after).to_string();
    assert!(nothing.contains("have no subject and workload in common"), "{nothing}");
}

#[test]
fn a_file_that_cannot_be_read_says_what_and_what_to_do() {
    let directory = TempDir::new().unwrap();
    let error = |name: &str, text: Option<&str>| {
        let file = directory.path().join(name);
        if let Some(text) = text {
            fs::write(&file, text).unwrap();
        }
        let error = Results::read(&file).expect_err("it is not a run");
        format!("{error:#}")
    };
    let assert_says = |error: String, parts: &[&str]| {
        assert!(parts.iter().all(|part| error.contains(part)), "{parts:?}: {error}");
    };
    assert_says(error("none.json", None), &["cannot read", "none.json", "name that file", "No such file"]);
    assert_says(
        error("report.html", Some("<!DOCTYPE html>")),
        &["is not JSON", "results.json", "line 1 column 1"],
    );
    assert_says(error("other.json", Some("{\"a\": 1}")), &["has no \"format\""]);
    let newer = "{\"format\": 7, \"about\": {\"version\": \"tidegate 9.0\"}}";
    assert_says(
        error("newer.json", Some(newer)),
        &["format 7", "reads format 1", "(tidegate 9.0)", "run again"],
    );
    assert_says(error("cut.json", Some("{\"format\": 1}")), &["is damaged", "missing field `about`"]);
    let blocked = report::write(&sample_of(0), &directory.path().join("cut.json")).unwrap_err();
    assert_says(format!("{blocked:#}"), &["cannot make", "cut.json"]);
}
