use std::time::Duration;

use super::*;
use crate::config::{Dns, parse};
use crate::tick::Tick;

fn rules() -> Dns {
    let (ttl_min, ttl_max, hold) = (ms(1_000), ms(60_000), ms(30_000));
    Dns { ttl_min, ttl_max, hold, ..Dns::default() }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn host(addr: &str) -> Found {
    Found { priority: 0, addr: addr.parse().unwrap(), weight: None, host: "h".to_owned() }
}

fn found(addrs: &[&str], ttl: u64) -> Answer {
    let servers = addrs.iter().map(|addr| host(addr)).collect();
    Answer::Found { servers, ttl: ms(ttl), unknown: Vec::new(), error: None, left_out: 0 }
}

fn two_found() -> Answer {
    found(&["10.0.0.1:1", "10.0.0.2:1"], 5_000)
}

fn one_found() -> Answer {
    found(&["10.0.0.2:1"], 5_000)
}

fn failed() -> Answer {
    Answer::Failed("request timed out".to_owned())
}

fn missing() -> Answer {
    Answer::Missing("NXDOMAIN".to_owned())
}

fn addresses(name: &Name) -> Vec<String> {
    name.servers().iter().map(|found| found.addr.to_string()).collect()
}

#[test]
fn an_answer_holds_for_its_time_within_limits() {
    for (ttl, wait) in [(0, 1_000), (999, 1_000), (5_000, 5_000), (60_000, 60_000), (86_400_000, 60_000)] {
        let mut name = Name::default();
        assert_eq!(name.note(found(&["10.0.0.1:1"], ttl), &rules(), Tick(0)), ms(wait), "{ttl}");
    }
}

#[test]
fn a_name_is_what_its_last_answers_and_their_times_make_of_it() {
    let two = ["10.0.0.1:1", "10.0.0.2:1"];
    // Answers, each with its time; then servers, and how long to wait.
    type Row = (Vec<(u64, fn() -> Answer)>, usize, u64);
    let rows: [Row; 12] = [
        (vec![(0, failed)], 0, 1_000),
        (vec![(0, missing)], 0, 1_000),
        (vec![(0, failed), (1_000, failed), (3_000, failed)], 0, 4_000),
        (vec![(0, two_found)], 2, 5_000),
        (vec![(0, two_found), (5_000, one_found)], 1, 5_000),
        // A failure takes nothing away, however long.
        (vec![(0, two_found), (5_000, failed), (300_000, failed), (9_000_000, failed)], 2, 4_000),
        // Who is missing stays for `hold`, and is asked for at its end.
        (vec![(0, two_found), (5_000, missing)], 2, 1_000),
        (vec![(0, two_found), (5_000, missing), (34_500, missing)], 2, 1_000),
        (vec![(0, two_found), (5_000, missing), (35_000, missing)], 0, 2_000),
        // Only an answer takes away, and one that finds it begins anew.
        (vec![(0, two_found), (5_000, missing), (35_000, failed)], 2, 2_000),
        (vec![(0, two_found), (5_000, missing), (20_000, two_found), (36_000, missing)], 2, 1_000),
        (vec![(0, two_found), (5_000, missing), (35_000, missing), (40_000, two_found)], 2, 5_000),
    ];
    for (number, (answers, servers, wait)) in rows.into_iter().enumerate() {
        let mut name = Name::default();
        let mut last = Duration::ZERO;
        for (at, answer) in answers {
            last = name.note(answer(), &rules(), Tick(at));
        }
        assert_eq!((name.servers().len(), last), (servers, ms(wait)), "row {number}");
        assert!(addresses(&name).iter().all(|addr| two.contains(&addr.as_str())));
    }
}

#[test]
fn without_hold_a_name_that_is_missing_loses_its_servers_at_once() {
    let rules = Dns { hold: Duration::ZERO, ..rules() };
    let mut name = Name::default();
    name.note(found(&["10.0.0.1:1"], 1), &rules, Tick(0));
    name.note(missing(), &rules, Tick(1_000));
    assert!(name.servers().is_empty());
    assert_eq!(name.last().map(|(outcome, _)| outcome), Some(Outcome::Missing));
    assert_eq!((name.found_at(), name.counts()), (Some(Tick(0)), [1, 1, 0]));
}

#[test]
fn the_pause_after_failures_grows_and_has_an_end() {
    let mut name = Name::default();
    let waits: Vec<u64> = (0..200_u64)
        .map(|at| u64::try_from(name.note(failed(), &rules(), Tick(at * 1_000)).as_millis()).unwrap())
        .collect();
    assert_eq!(waits[..6], [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
    assert_eq!(waits[199], 10_000);
    let slow = Dns { ttl_min: ms(20_000), ..rules() };
    assert_eq!(Name::default().note(failed(), &slow, Tick(0)), ms(20_000));
}

#[test]
fn a_family_that_could_not_be_looked_up_keeps_its_addresses() {
    let mut name = Name::default();
    name.note(found(&["10.0.0.1:1", "[fd00::1]:1"], 60_000), &rules(), Tick(0));
    let half = Answer::Found {
        servers: vec![host("10.0.0.2:1")],
        ttl: ms(60_000),
        unknown: vec![("h".to_owned(), false)],
        error: Some("timed out".to_owned()),
        left_out: 3,
    };
    assert_eq!(name.note(half, &rules(), Tick(1)), ms(1_000), "it is asked again soon");
    assert_eq!(name.left_out(), 3);
    assert_eq!(addresses(&name), ["10.0.0.2:1", "[fd00::1]:1"]);
}

#[test]
fn addresses_are_sorted_and_those_that_nobody_can_have_are_left_out() {
    let mut name = Name::default();
    let odd = ["0.0.0.0:1", "[::]:1", "224.0.0.1:1", "255.255.255.255:1", "[ff02::1]:1", "10.0.0.9:0"];
    let all: Vec<&str> = ["10.0.0.2:1", "10.0.0.1:1", "10.0.0.2:1"].into_iter().chain(odd).collect();
    name.note(found(&all, 1), &rules(), Tick(0));
    assert_eq!(addresses(&name), ["10.0.0.1:1", "10.0.0.2:1"]);
    assert_eq!(name.left_out(), 0);
}

/// A filter in front of a resolver answers like that.
#[test]
fn addresses_of_nobody_alone_are_a_name_that_is_missing() {
    let mut name = Name::default();
    name.note(found(&["10.0.0.1:1"], 60_000), &rules(), Tick(0));
    name.note(found(&["0.0.0.0:1", "[::]:1"], 60_000), &rules(), Tick(1));
    assert_eq!(addresses(&name), ["10.0.0.1:1"], "for as long as it is held");
    assert_eq!(name.last().map(|(outcome, _)| outcome), Some(Outcome::Missing));
}

#[test]
fn an_answer_is_bounded() {
    let all: Vec<String> = (0..1_000).map(|n| format!("10.0.{}.{}:1", n / 250, n % 250)).collect();
    let mut name = Name::default();
    name.note(found(&all.iter().map(String::as_str).collect::<Vec<_>>(), 1), &rules(), Tick(0));
    assert_eq!((name.servers().len(), name.left_out()), (MOST, 1_000 - MOST));
    assert_eq!(addresses(&name)[0], "10.0.0.0:1");
}

const FILE: &str = "[listener.l]\nbind = [\"127.0.0.1:1\"]\npool = \"p\"\n[pool.p]\n\
    server = [{ name = \"x\", addr = \"db.example:5432\", weight = 7 }, { name = \"fixed\", addr = \"10.9.9.9:1\" }, \
    { name = \"s\", addr = \"srv:_db._tcp.example\" }]\n";

/// The servers in effect: name, weight, backup, origin.
fn servers(text: &str, found: impl Fn(&DnsName) -> &'static [Found]) -> Vec<(String, u16, bool, String)> {
    let file = parse(text, "test").unwrap_or_else(|report| panic!("{report}"));
    let all = in_effect(&file, found, |_, _| &[]).pools.remove(0).servers;
    all.into_iter().map(|one| (one.name, one.weight, one.backup, one.origin.to_string())).collect()
}

fn some(name: &DnsName) -> &'static [Found] {
    let record = |priority, weight, addr: &str| Found { priority, weight: Some(weight), ..host(addr) };
    Vec::leak(match name {
        DnsName::Host(..) => vec![host("10.0.0.1:5432"), host("[fd00::1]:5432")],
        DnsName::Service(_) => vec![record(10, 3, "10.0.0.5:1"), record(20, 65_535, "10.0.0.6:2")],
    })
}

#[test]
fn names_become_servers_behind_those_of_the_file() {
    let row = |name: &str, weight, backup, origin: &str| (name.to_owned(), weight, backup, origin.to_owned());
    let (host, service) = ("dns db.example:5432", "dns srv:_db._tcp.example");
    let expected = [
        row("fixed", 1, false, "file"),
        row("x@10.0.0.1:5432", 7, false, host),
        row("x@[fd00::1]:5432", 7, false, host),
        row("s@10.0.0.5:1", 3, false, service),
        row("s@10.0.0.6:2", 65_535, true, service),
    ];
    assert_eq!(servers(FILE, some), expected);
    assert_eq!(servers(FILE, |_| &[]).len(), 1);
    // Addresses that none of the pool's own can reach are not servers.
    let source = FILE.replace("[pool.p]", "[pool.p]\nsource = [\"192.0.2.1\"]");
    assert!(servers(&source, some).iter().all(|(name, ..)| !name.contains("fd00")));
    let backup = FILE.replace("srv:_db._tcp.example\"", "srv:_db._tcp.example\", backup = true");
    assert_eq!(servers(&backup, some).iter().filter(|(_, _, backup, _)| *backup).count(), 2);
}

#[test]
fn what_comes_and_goes_is_told() {
    let file = parse(FILE, "test").unwrap();
    let (none, all) = (in_effect(&file, |_| &[], |_, _| &[]), in_effect(&file, some, |_, _| &[]));
    assert!(changes(&all, &all).is_empty());
    assert!(
        changes(&none, &all).contains(&"server p/x@10.0.0.1:5432 has come (dns db.example:5432)".to_owned())
    );
    assert_eq!(changes(&all, &none).len(), 4);
    assert!(changes(&all, &none).iter().all(|line| line.contains(" has gone (dns ")));
}

#[test]
fn who_leaves_stays_until_those_that_come_are_known_to_be_well() {
    const CHECKED: &str = "[pool.p.check]\nkind = \"tcp\"\n";
    let lists: [&[Found]; 2] = [&[host("10.0.0.1:5432")], &[host("10.0.0.2:5432"), host("10.0.0.3:5432")]];
    let names = |config: &Config| -> Vec<String> {
        config.pools[0]
            .servers
            .iter()
            .map(|one| one.name.clone())
            .filter(|name| name.starts_with("x@"))
            .collect()
    };
    for (text, both) in [(FILE.to_owned(), None), (FILE.to_owned() + CHECKED, Some(3))] {
        let file = parse(&text, "test").unwrap();
        let of = |list: &'static [Found]| {
            move |name: &DnsName| if matches!(name, DnsName::Host(..)) { list } else { &[] }
        };
        let [one, others] = lists.map(|list| in_effect(&file, of(Vec::leak(list.to_vec())), |_, _| &[]));
        let union = with_leaving(&one, &others, false);
        assert_eq!(union.as_ref().map(|union| names(union).len()), both);
        // Nobody is new to a reload meanwhile, but those are not checked yet.
        let again = union.as_ref().unwrap_or(&one);
        assert_eq!(with_leaving(again, &others, true).as_ref().map(|union| names(union).len()), both);
        // Who only leaves, leaves.
        assert!(with_leaving(&others, &in_effect(&file, |_| &[], |_, _| &[]), false).is_none());
    }
}
