//! `[listener.NAME.access]` and `[listener.NAME.limits]`.

use super::*;

/// The only listener's tables.
fn with(tables: &str) -> Listener {
    good(&format!("{LEAST}\n{tables}")).listeners.remove(0)
}

#[test]
fn rules_are_read_in_their_order() {
    let rules = r#"rules = ["deny 10.9.0.0/16", "allow  10.0.0.0/8", "allow fd00::/8", "deny 192.0.2.7", "deny ::1"]"#;
    let access =
        with(&format!("[listener.web.access]\ndefault = \"deny\"\nmatch_on = \"peer\"\n{rules}")).access;
    let rule = |action, network: &str| Rule { action, network: network.parse().unwrap() };
    let expected = [
        rule(Action::Deny, "10.9.0.0/16"),
        rule(Action::Allow, "10.0.0.0/8"),
        rule(Action::Allow, "fd00::/8"),
        rule(Action::Deny, "192.0.2.7/32"),
        rule(Action::Deny, "::1/128"),
    ];
    assert_eq!((access.default, access.match_on), (Action::Deny, MatchOn::Peer));
    assert_eq!(access.rules, expected);
}

#[test]
fn wrong_rules_are_refused_with_what_would_be_right() {
    let cases = [
        ("10.0.0.0/8", "3:10 expected a rule", "say what becomes of it: \"allow 10.0.0.0/8\" or \"deny"),
        ("allow", "3:10 expected a rule", "a rule is `allow` or `deny`, and one network"),
        ("", "3:10 expected a rule", "a rule is `allow` or `deny`, and one network"),
        ("allow 10.0.0.0/8 10.9.0.0/16", "3:10 expected a rule", "and one network"),
        ("alow 10.0.0.0/8", "3:10 expected \"allow\" or \"deny\"", "did you mean \"allow 10.0.0.0/8\"?"),
        ("permit 10.0.0.0/8", "3:10 expected \"allow\" or \"deny\"", "did you mean \"allow 10.0.0.0/8\"?"),
        ("block 10.0.0.0/8", "3:10 expected \"allow\" or \"deny\"", "did you mean \"deny 10.0.0.0/8\"?"),
        ("reject 10.0.0.0/8", "3:10 expected \"allow\" or \"deny\"", "did you mean \"deny 10.0.0.0/8\"?"),
        (
            "allow 10.0.0.1/8",
            "3:10 \"10.0.0.1/8\" has bits set",
            "write \"10.0.0.0/8\" for the network, or \"10.0.0.1\"",
        ),
        ("allow fd00::1/8", "3:10 \"fd00::1/8\" has bits set", "write \"fd00::/8\" for the network"),
        ("allow 10.0.0.0/33", "3:10 \"10.0.0.0/33\" is not a network", "such as \"10.0.0.0/8\" or"),
        ("allow db.example.com", "3:10 \"db.example.com\" is not a network", "write an address"),
        ("deny all", "3:10 \"all\" is not a network", "write `default`"),
        (
            "deny ::ffff:10.0.0.0/104",
            "3:10 \"::ffff:10.0.0.0/104\" is a network of IPv4",
            "write \"10.0.0.0/8\"",
        ),
    ];
    for (rule, start, part) in cases {
        assert_errors(&[(&format!("[listener.web.access]\n\nrules = [{rule:?}]"), start, part)]);
    }
    assert_errors(&[
        ("[listener.web.access]\nrules = \"allow ::/0\"", "2:9 expected an array of rules", ""),
        ("[listener.web.access]\nrules = [1]", "2:10 expected a rule such as", "found the number 1"),
        ("[listener.web.access]\ndefault = \"reject\"", "2:11 expected \"allow\" or \"deny\"", ""),
        ("[listener.web.access]\nmatch_on = \"proxy\"", "2:12 expected \"client\" or \"peer\"", ""),
        ("[listener.web.access]\nallow = 1", "2:1 unknown key `allow`", "`rules = "),
    ]);
}

#[test]
fn limits_are_read() {
    let limits = with(
        "[listener.web.limits]\nper_source_conns = 200\nper_source_rate = { rate = \"50/s\", burst = 100 }\n\
         rate = \"9/s\"\nipv6_prefix = 56\ntable_size = 16\ndry_run = true\nupload = \"10MiB/s\"\ndownload = \"1 KiB/s\"",
    )
    .limits;
    let expected = Limits {
        per_source_conns: NonZeroU32::new(200),
        per_source_rate: Some(Rate { rate: 50, burst: 100 }),
        rate: Some(9),
        ipv6_prefix: 56,
        table_size: 16,
        dry_run: true,
        upload: NonZeroU64::new(10 << 20),
        download: NonZeroU64::new(1 << 10),
    };
    assert_eq!(limits, expected);
    let burst = with("[listener.web.limits.per_source_rate]\nrate = \"50/s\"").limits.per_source_rate;
    assert_eq!(burst, Some(Rate { rate: 50, burst: 50 }));
    let off =
        with("[listener.web.limits]\nper_source_conns = \"off\"\nper_source_rate = \"off\"\nrate = \"off\"");
    assert_eq!(off.limits, Limits::default());
}

#[test]
fn wrong_limits_are_refused_with_what_would_be_right() {
    let cases = [
        ("per_source_conns = 0", "2:20 expected \"off\" or a whole number from 1 to 1000000", ""),
        (
            "per_source_rate = \"50/s\"",
            "2:19 expected \"off\" or a table",
            "write { rate = \"50/s\", burst = 50 }",
        ),
        ("per_source_rate = 50", "2:19 expected \"off\" or a table", ""),
        (
            "per_source_rate = { burst = 5 }",
            "2:19 [listener.web.limits.per_source_rate] has no `rate`",
            "\"50/s\"",
        ),
        ("per_source_rate = { rate = \"0/s\" }", "2:28 expected a rate", "from 1 to 1000000"),
        ("rate = 5", "2:8 expected a rate such as \"50/s\"", "write \"5/s\""),
        ("rate = \"5/m\"", "2:8 expected a rate", ""),
        ("ipv6_prefix = 129", "2:15 expected a whole number from 1 to 128", ""),
        ("table_size = 1", "2:14 expected a whole number from 16 to", ""),
        ("dry_run = \"yes\"", "2:11 expected true or false", ""),
        ("upload = \"10MiB\"", "2:10 expected a rate from 1KiB/s", "ends with `/s`"),
        ("upload = \"10MB/s\"", "2:10 expected a rate from 1KiB/s", "did you mean \"10MiB/s\"?"),
        ("upload = \"10Mbit/s\"", "2:10 expected a rate from 1KiB/s", "has 8 bits: write \"1220KiB/s\""),
        ("upload = \"10Mb/s\"", "2:10 expected a rate from 1KiB/s", "write \"1220KiB/s\""),
        ("upload = \"80000Mbps\"", "2:10 expected a rate from 1KiB/s", "write \"9536MiB/s\""),
        ("upload = \"1kbit/s\"", "2:10 expected a rate from 1KiB/s", "write \"1KiB/s\""),
        ("upload = \"0KiB/s\"", "2:10 expected a rate from 1KiB/s", ""),
        ("download = 10", "2:12 expected a rate from 1KiB/s", "found the number 10"),
        ("src_conn_cur = 5", "2:1 unknown key `src_conn_cur`", "here it is `per_source_conns`"),
    ];
    for (keys, start, part) in cases {
        assert_errors(&[(&format!("[listener.web.limits]\n{keys}"), start, part)]);
    }
}
