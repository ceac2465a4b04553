use super::*;
use crate::config::parse;

/// The only listener of a configuration with these tables.
fn listener(tables: &str) -> config::Listener {
    bound("127.0.0.1:1", tables)
}

fn bound(bind: &str, tables: &str) -> config::Listener {
    let text = format!(
        "[listener.l]\nbind = [\"{bind}\"]\npool = \"p\"\n[pool.p]\n\
         server = [{{ name = \"s\", addr = \"10.0.0.1:1\" }}]\n{tables}"
    );
    parse(&text, "test").unwrap_or_else(|report| panic!("{report}")).listeners.remove(0)
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn a_client_without_an_address_meets_no_rule_and_is_of_no_source() {
    let tables = "[listener.l.access]\ndefault = \"deny\"\n[listener.l.limits]\nper_source_conns = 1";
    let (admission, tally) = (Admission::new(&listener(tables), None), ListenerTally::default());
    for _ in 0..3 {
        assert_eq!(admission.enter(None, Tick(0), &tally), Ok(None));
    }
    assert_eq!(admission.enter(ip("192.0.2.1"), Tick(0), &tally), Err(Cause::AccessDenied));
}

#[test]
fn a_source_has_so_many_connections_at_a_time() {
    let (admission, tally) = (
        Admission::new(&listener("[listener.l.limits]\nper_source_conns = 2"), None),
        ListenerTally::default(),
    );
    let enter = |client: &str| admission.enter(ip(client), Tick(0), &tally);
    let first = enter("192.0.2.1").unwrap();
    assert!(enter("192.0.2.1").is_ok());
    for _ in 0..5 {
        assert_eq!(enter("192.0.2.1"), Err(Cause::SourceConns));
    }
    assert!(enter("192.0.2.2").is_ok());
    admission.leave(first);
    assert!(enter("192.0.2.1").is_ok());
    assert_eq!(enter("192.0.2.1"), Err(Cause::SourceConns));
}

#[test]
fn a_source_has_its_burst_and_then_its_rate_and_a_refusal_takes_no_token() {
    let tables = "[listener.l.limits]\nper_source_rate = { rate = \"10/s\", burst = 3 }";
    let (admission, tally) = (Admission::new(&listener(tables), None), ListenerTally::default());
    let let_in = |at: u64| {
        let tries = (0..9).map(|_| admission.enter(ip("192.0.2.1"), Tick(at), &tally));
        tries.filter(Result::is_ok).count()
    };
    assert_eq!([0, 0, 99, 100, 199, 200, 1_000, 1_000].map(let_in), [3, 0, 0, 1, 0, 1, 3, 0]);
    assert_eq!(admission.enter(ip("192.0.2.1"), Tick(1_000), &tally), Err(Cause::SourceRate));
}

#[test]
fn addresses_of_ipv6_count_by_their_prefix() {
    let tables = "[listener.l.limits]\nper_source_conns = 1\nipv6_prefix = 56";
    let (admission, tally) = (Admission::new(&listener(tables), None), ListenerTally::default());
    let enter = |client: &str| admission.enter(ip(client), Tick(0), &tally).is_ok();
    assert!(enter("2001:db8:0:1200::1"));
    assert!(!enter("2001:db8:0:12ff::2"));
    assert!(enter("2001:db8:0:1300::1"));
    assert!(enter("192.0.2.1"));
    assert!(!enter("::ffff:192.0.2.1"));
    assert!(enter("::1"));
}

#[test]
fn a_dry_run_counts_and_lets_in() {
    let tables = "[listener.l.limits]\nper_source_conns = 1\nrate = \"1/s\"\ndry_run = true";
    let (admission, tally) = (Admission::new(&listener(tables), None), ListenerTally::default());
    let mut places = Vec::new();
    for _ in 0..4 {
        places.push(admission.enter(ip("192.0.2.1"), Tick(0), &tally).unwrap());
        assert!(admission.has_token(Tick(0)) && admission.take_token(Tick(0), &tally));
    }
    let counts: Vec<u64> = tally.let_off.iter().map(crate::tally::Count::get).collect();
    assert_eq!(Cause::LET_OFF, [Cause::SourceConns, Cause::SourceRate, Cause::ListenerRate]);
    assert_eq!(counts, [3, 0, 3]);
    // Those that were let in over the limit count until they end.
    places.drain(..).for_each(|place| admission.leave(place));
    assert!(admission.enter(ip("192.0.2.1"), Tick(0), &tally).is_ok());
    assert_eq!(tally.let_off[0].get(), 3);
}

#[test]
fn counts_outlive_a_reload_and_limits_that_come_and_go() {
    let tally = ListenerTally::default();
    let limited = "[listener.l.limits]\nper_source_conns = 1\nrate = \"1/s\"";
    let before = Admission::new(&listener(limited), None);
    let place = before.enter(ip("192.0.2.1"), Tick(0), &tally).unwrap();
    assert!(before.take_token(Tick(0), &tally));
    let without = Admission::new(&listener(""), Some(&before));
    assert_eq!(without.enter(ip("192.0.2.1"), Tick(0), &tally), Ok(None));
    assert!(without.take_token(Tick(0), &tally));
    let again = Admission::new(&listener(limited), Some(&without));
    assert_eq!(again.enter(ip("192.0.2.1"), Tick(0), &tally), Err(Cause::SourceConns));
    assert!(!again.take_token(Tick(0), &tally));
    without.leave(place);
    assert!(again.enter(ip("192.0.2.1"), Tick(0), &tally).is_ok());
}

#[test]
fn rules_that_let_nobody_in_or_do_nothing_are_odd() {
    let cases = [
        ("127.0.0.1:1", "", ""),
        ("unix:/run/x", "", ""),
        ("127.0.0.1:1", "default = \"deny\"", "lets nobody in"),
        ("127.0.0.1:1", "default = \"deny\"\nrules = [\"allow ::1\"]", ""),
        ("127.0.0.1:1", "rules = [\"deny 0.0.0.0/0\", \"deny ::/0\"]", "lets nobody in"),
        ("unix:/run/x", "default = \"deny\"", "about nobody"),
        (
            "127.0.0.1:1",
            "rules = [\"allow 10.0.0.0/8\", \"deny 10.9.0.0/16\"]",
            "rule 2 of [access], \"deny 10.9.0.0/16\", decides nothing",
        ),
    ];
    for (bind, keys, part) in cases {
        let found = odd_rules(&bound(bind, &format!("[listener.l.access]\n{keys}")));
        assert_eq!(found.len(), usize::from(!part.is_empty()), "{keys}: {found:?}");
        assert!(found.iter().all(|said| said.contains(part)), "{keys}: {found:?}");
    }
}
