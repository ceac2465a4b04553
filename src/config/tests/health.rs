//! `[pool.NAME.check]`, `[pool.NAME.passive]`, `on_down` and `slow_start`.

use super::*;
use crate::config::Kind;

const SERVER: &str = "[pool.x]\nserver = [{ name = \"a\", addr = \"10.0.0.1:1\" }]\n";

fn pool(keys: &str) -> Pool {
    let read = good(&format!("{keys}{LEAST}"));
    read.pools.into_iter().find(|pool| pool.name == "x").expect("it is there")
}

fn probe(keys: &str) -> Probe {
    match pool(&format!("{SERVER}[pool.x.check]\n{keys}\n")).check {
        Check::Own(probe) => probe,
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_tables_nothing_is_checked_and_connects_are_watched() {
    let pool = pool(SERVER);
    assert_eq!((pool.check, pool.passive), (Check::Off, Passive::default()));
    assert_eq!((pool.on_down, pool.slow_start), (OnDown::Keep, None));
}

#[test]
fn a_check_has_the_defaults_of_the_reference() {
    assert_eq!(probe(""), Probe::default());
    let http = Kind::Http { path: "/".to_owned(), status: vec![200..=200] };
    assert_eq!(probe("kind = \"http\"").kind, http);
    assert_eq!(pool(&format!("{SERVER}[pool.x.check]\nkind = \"off\"\n")).check, Check::Off);
    // What the reference shows as a default may be written with any kind.
    assert_eq!(probe("track = \"\"\nargv = []\nsni = \"\""), Probe::default());
}

#[test]
fn every_key_of_a_check_is_read() {
    let keys = "kind = \"http\"\nport = 8008\npath = \"/primary\"\nstatus = [\"200\", \"300-399\"]\n\
        interval = \"4s\"\nfast_interval = \"500ms\"\ndown_interval = \"3s\"\ntimeout = \"1s\"\nfall = 5\nrise = 4\n\
        jitter = 0.25\ninitial = \"up\"\nclose = \"rst\"";
    let expected = Probe {
        kind: Kind::Http { path: "/primary".to_owned(), status: vec![200..=200, 300..=399] },
        port: NonZeroU16::new(8008),
        interval: Duration::from_secs(4),
        fast_interval: Duration::from_millis(500),
        down_interval: Duration::from_secs(3),
        timeout: Duration::from_secs(1),
        fall: 5,
        rise: 4,
        jitter: 250,
        initial: Initial::Up,
        close: CheckClose::Rst,
    };
    assert_eq!(probe(keys), expected);
    assert_eq!(probe("interval = \"7s\"").down_interval, Duration::from_secs(7));
}

#[test]
fn steps_are_read_as_text_and_as_bytes() {
    let steps = "steps = [{ send_hex = \"101000044d51\" }, { expect_hex = \"20020000\" }, { send = \"QUIT\\r\\n\" }, { expect = \"+OK\" }]";
    let expected = Kind::SendExpect(vec![
        Step::Send(vec![0x10, 0x10, 0, 4, 0x4d, 0x51]),
        Step::Expect(vec![0x20, 2, 0, 0]),
        Step::Send(b"QUIT\r\n".to_vec()),
        Step::Expect(b"+OK".to_vec()),
    ]);
    assert_eq!(probe(&format!("kind = \"send_expect\"\n{steps}")).kind, expected);
}

#[test]
fn errors_in_checks() {
    let steps = |step: &str| format!("kind = \"send_expect\"\nsteps = [{step}]");
    let cases = [
        ("kind = \"ldap\"".to_owned(), "4:8 expected \"tcp\"", ""),
        ("kind = \"send_expect\"".to_owned(), "3:1 [pool.x.check] has no `steps`", "write steps = ["),
        (
            steps("{ send_hex = \"0d0g\" }"),
            "5:23 'g' at column 4 is no hexadecimal digit",
            "two digits a byte",
        ),
        (
            steps("{ send_hex = \"0d0\" }"),
            "5:23 3 hexadecimal digits are no whole number",
            "two digits a byte",
        ),
        (steps("{ send = \"\" }"), "5:19 a step has at least one byte", ""),
        (steps("{ send = \"a\", expect = \"b\" }"), "5:10 expected a step", "one key a step"),
        (steps("{ expct = \"a\" }"), "5:12 unknown key `expct`", "did you mean `expect`?"),
        (steps("\"PING\""), "5:10 expected a step", "found the string"),
        ("path = \"/x\"".to_owned(), "4:8 `path` means nothing with kind = \"tcp\"", "kind = \"http\""),
        ("steps = [{ send = \"a\" }]".to_owned(), "4:9 `steps` means nothing", "kind = \"send_expect\""),
        ("kind = \"http\"\npath = \"x y\"".to_owned(), "5:8 \"x y\" is no path", "%20"),
        (
            "kind = \"http\"\nstatus = [200]".to_owned(),
            "5:11 expected a status code",
            "write \"200\", in quotes",
        ),
        ("kind = \"http\"\nstatus = [\"99\"]".to_owned(), "5:11 expected a status code", ""),
        ("kind = \"http\"\nstatus = [\"300-200\"]".to_owned(), "5:11 expected a status code", ""),
        ("kind = \"exec\"\nargv = []".to_owned(), "3:1 [pool.x.check] has no program", "write argv = ["),
        ("kind = \"exec\"".to_owned(), "3:1 [pool.x.check] has no program in `argv`", "write argv = ["),
        ("kind = \"exec\"\nargv = [\"check\"]".to_owned(), "5:8 \"check\" is no whole path", "no shell"),
        ("kind = \"tls\"\nsni = \"a b\"".to_owned(), "5:7 \"a b\" is no host name", ""),
        ("timeout = \"2m\"".to_owned(), "4:11 a check that takes 120s", "the longest is \"1m\""),
        ("fall = 0".to_owned(), "4:8 expected a whole number from 1 to 255", "the least is 1"),
        ("fall = 256".to_owned(), "4:8 expected a whole number from 1 to 255", "the most is 255"),
        ("jitter = 2".to_owned(), "4:10 expected a number from 0 to 1", ""),
        ("inter = \"1s\"".to_owned(), "4:1 unknown key", "here it is `interval` in [pool.NAME.check]"),
        ("method = \"HEAD\"".to_owned(), "4:1 unknown key", "it cannot be set"),
        ("kind = \"https\"".to_owned(), "4:8 expected \"tcp\"", "\"tls\" checks the handshake"),
        ("kind = \"http\"\nstatus = 200".to_owned(), "5:10 expected an array", "write status = [\"200\"]"),
        (
            "kind = \"exec\"\nargv = \"/no/prog --x\"".to_owned(),
            "5:8 expected an array of a program",
            "write argv = [\"/no/prog\", \"--x\"]",
        ),
    ];
    for (keys, start, part) in cases {
        assert_errors(&[(format!("{SERVER}[pool.x.check]\n{keys}").as_str(), start, part)]);
    }
    let unix = SERVER.replace("10.0.0.1:1", "unix:/x") + "[pool.x.check]\nport = 1";
    assert_errors(&[(
        unix.as_str(),
        "3:1 `port` = 1 for a, whose address unix:/x has no port",
        "leave `port` out",
    )]);
}

#[test]
fn errors_in_passive() {
    let cases = [
        ("max_ejected = 50", "4:15 expected a percentage", "write \"50%\""),
        ("max_ejected = \"0%\"", "4:15 expected a percentage from \"1%\" to \"100%\"", ""),
        (
            "eject = \"6m\"",
            "3:1 `eject_max` in [pool.x.passive] is shorter than `eject`",
            "doubles each time",
        ),
        ("max_fails = -1", "4:13 expected a whole number from 0", ""),
    ];
    for (keys, start, part) in cases {
        assert_errors(&[(format!("{SERVER}[pool.x.passive]\n{keys}").as_str(), start, part)]);
    }
}

#[test]
fn a_pool_tracks_a_server_of_another_one_that_is_checked() {
    let track = |of: &str, server: &str| {
        format!(
            "[pool.{of}]\nserver = [{{ name = \"a\", addr = \"10.0.0.1:1\" }}]\n[pool.{of}.check]\n{server}\n"
        )
    };
    let both = track("x", "track = \"y/a\"") + &track("y", "");
    let read = good(&format!("{both}{LEAST}"));
    let place = read.pools.iter().position(|pool| pool.name == "y").expect("it is there");
    assert_eq!(pool(&both).check, Check::Track { pool: place, server: 0 });
    assert_eq!(parse(&dump(&read), "dump").expect("a dump"), read);
    let cases = [
        (
            track("x", "track = \"y/b\"") + &track("y", ""),
            "4:9 there is no server \"y/b\"",
            "the servers of pool y are: a",
        ),
        (track("x", "track = \"y\""), "4:9 \"y\" is no server", "write track = \"pool/server\""),
        (track("x", "track = \"x/a\""), "3:1 pools track each other in a circle: x -> x", ""),
        (
            track("x", "track = \"y/a\"") + &track("y", "track = \"z/a\"") + &track("z", "track = \"x/a\""),
            "3:1 pools track each other in a circle: x -> y -> z -> x",
            "one of them needs a check of its own",
        ),
        (
            track("x", "track = \"y/a\"") + &track("y", "kind = \"off\""),
            "3:1 the servers of pool \"y\" are not",
            "",
        ),
        (
            track("x", "track = \"y/a\"\nfall = 2") + &track("y", ""),
            "3:1 [pool.x.check] has `track` and",
            "leave",
        ),
    ];
    for (text, start, part) in cases {
        assert_errors(&[(text.as_str(), start, part)]);
    }
}
