//! `tidegate lab trace` as a user runs it, in every engine that runs here.
#![cfg(all(feature = "lab", target_os = "linux"))]
#![allow(clippy::disallowed_methods)] // Tests may read clocks.

use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tidegate::config::{EngineKind, Uring};
use tidegate::engine::{FACTS, probe};

/// How long one picture may take.
const PATIENCE: Duration = Duration::from_secs(10);

fn trace(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["lab", "trace"]).args(arguments).output().expect("the program starts")
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text)).concat()
}

/// How often each of these is in a picture of the engine.
fn expected(engine: EngineKind) -> &'static [(&'static str, usize)] {
    const READ_AND_WRITTEN: [(&str, usize); 2] = [(" recvfrom 100 B ", 2), (" sendto 100 B ", 2)];
    const fn with(wait: &'static str) -> [(&'static str, usize); 3] {
        [READ_AND_WRITTEN[0], READ_AND_WRITTEN[1], (wait, 2)]
    }
    const MIO: [(&str, usize); 3] = with(" epoll_wait returns ");
    const EPOLL_LEVEL: [(&str, usize); 3] = with(" epoll_pwait returns ");
    const POLL: [(&str, usize); 3] = with(" poll returns ");
    const SELECT: [(&str, usize); 3] = with(" pselect6 returns ");
    const SIGIO: [(&str, usize); 3] = with(" rt_sigtimedwait returns ");
    const AIO: [(&str, usize); 3] = with(" io_getevents returns ");
    match engine {
        EngineKind::IoUring => &[(" io_uring_enter returns ", 2), ("┅ receive: 100 B ┅", 2), ("┅ send ┅", 2)],
        EngineKind::Threads => &READ_AND_WRITTEN,
        EngineKind::EpollLevel => &EPOLL_LEVEL,
        EngineKind::Poll => &POLL,
        EngineKind::Select => &SELECT,
        EngineKind::Sigio => &SIGIO,
        EngineKind::Aio => &AIO,
        EngineKind::Mio | EngineKind::Auto => &MIO,
    }
}

#[test]
fn every_engine_that_runs_here_shows_its_wait_and_its_transfers() {
    for engine in FACTS.map(|facts| facts.kind) {
        let name = engine.name();
        let begun = Instant::now();
        let mut output = trace(&["--engine", name]);
        let mut said = said(&output);
        if let Err(why) = probe(engine, Uring::default(), 1) {
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains(&why.cause) && said.contains(&why.remedy), "{said}");
            println!("skipped: {name}: {}", why.cause);
            continue;
        }
        let checked = |said: &str| {
            said.contains("saw the same system calls") || said.contains("not compared with strace")
        };
        let is_shown = |said: &str| {
            checked(said) && expected(engine).iter().all(|(part, count)| said.matches(part).count() == *count)
        };
        // Who is kept from the CPU for longer than the server takes does not have to wait for it: not three times.
        for _ in 0..2 {
            if !is_shown(&said) {
                output = trace(&["--engine", name]);
                said = self::said(&output);
            }
        }
        assert!(output.status.success() && begun.elapsed() < 3 * PATIENCE, "{:?}: {said}", begun.elapsed());
        for (part, count) in expected(engine) {
            assert_eq!(said.matches(part).count(), *count, "{name}: {part:?} in\n{said}");
        }
        assert!(said.lines().all(|line| line.chars().count() <= 110), "{said}");
        assert!(checked(&said), "{said}");
    }
}

#[test]
fn a_picture_is_well_formed_and_runs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("request.svg");
    let output = trace(&["--engine", "mio", "--engine", "threads", "--svg", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    let picture = fs::read_to_string(&file).unwrap();
    assert!(picture.starts_with("<svg ") && !picture.contains("<script"), "{picture}");
    assert!(picture.contains("<title>One request in mio and in threads</title>"), "{picture}");
    assert_well_formed(&picture);
}

/// Elements are closed in order, attributes are quoted, and nothing stands for markup that is none.
fn assert_well_formed(xml: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = xml.trim_end();
    while let Some((text, tag)) = rest.split_once('<') {
        assert!(!text.contains('>') && (!open.is_empty() || text.is_empty()), "{text:?}");
        let entities = text.split('&').skip(1);
        entities
            .for_each(|it| assert!(["lt;", "gt;", "amp;", "quot;"].iter().any(|name| it.starts_with(name))));
        let (tag, after) = tag.split_once('>').expect("a tag ends");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else {
            assert!(tag.matches('"').count() % 2 == 0, "{tag}");
            open.push(tag.split(' ').next().unwrap());
        }
        rest = after;
    }
    assert!(open.is_empty() && rest.is_empty(), "{open:?} {rest:?}");
}

#[test]
fn what_is_no_engine_is_refused_with_those_that_are() {
    let output = trace(&["--engine", "epoll"]);
    assert_eq!(output.status.code(), Some(2));
    for facts in FACTS {
        assert!(said(&output).contains(facts.kind.name()), "{}", said(&output));
    }
    let three = trace(&["--engine", "mio", "--engine", "poll", "--engine", "aio"]);
    assert_eq!(three.status.code(), Some(2), "{}", said(&three));
}
