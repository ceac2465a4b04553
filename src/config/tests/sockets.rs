//! `timeouts`, `tcp` and `retry` of the defaults, of listeners and of pools.

use super::*;

/// One listener and one pool, whose tables are as given.
fn with(tables: &str) -> Config {
    good(&format!("{LEAST}\n{tables}"))
}

#[test]
fn a_listener_and_a_pool_have_their_own_options_over_the_defaults() {
    let config = with(
        "[listener.web.tcp]\ncongestion = \"reno\"\nkeepalive = { count = 2 }\ndscp = 0\nrst_on_error = false\n\
         [pool.web.tcp]\ncongestion = \"\"\nrcvbuf = \"64KiB\"\nmark = 0x10\nuser_timeout = \"5s\"\ninterface = \"lo\"\n\
         [pool.web.retry]\ntries = 9\n\
         [defaults.tcp]\nnodelay = false\ncongestion = \"cubic\"\nsndbuf = \"1MiB\"\nkeepalive = { idle = \"9s\", count = 8 }\n\
         [defaults.retry]\nsame_server_delay = \"2s\"",
    );
    let keepalive = |count| Some(Keepalive { idle: Duration::from_secs(9), count, ..Keepalive::default() });
    let defaults = Tcp {
        nodelay: false,
        congestion: Some("cubic".to_owned()),
        sndbuf: Some(1 << 20),
        keepalive: keepalive(8),
        ..Tcp::default()
    };
    let reno = Some("reno".to_owned());
    let listeners = Tcp {
        congestion: reno,
        keepalive: keepalive(2),
        dscp: Some(0),
        rst_on_error: false,
        ..defaults.clone()
    };
    let pools = Tcp {
        congestion: None,
        rcvbuf: Some(64 << 10),
        mark: NonZeroU32::new(16),
        user_timeout: Some(Duration::from_secs(5)),
        interface: Some("lo".to_owned()),
        ..defaults.clone()
    };
    assert_eq!((config.listeners[0].tcp.clone(), config.pools[0].tcp.clone()), (listeners, pools));
    assert_eq!(config.pools[0].retry, Retry { tries: 9, same_server_delay: Duration::from_secs(2) });
    assert_eq!(config.tcp, defaults);
}

#[test]
fn wrong_options_are_refused_with_what_would_be_right() {
    assert_errors(&[
        ("[defaults.tcp]\nrcvbuf = 65536", "2:10 expected a size from 4KiB", "write \"65536KiB\""),
        ("[defaults.tcp]\nsndbuf = \"1KiB\"", "2:10 expected a size from 4KiB to 512MiB, or \"auto\"", ""),
        ("[defaults.tcp]\ndscp = 64", "2:8 expected \"off\" or a whole number from 0 to 63", ""),
        ("[defaults.tcp]\nmark = 0", "2:8 expected \"off\" or a whole number from 1 to", ""),
        ("[defaults.tcp]\ninterface = \"a b\"", "2:13 \"a b\" is not such a name", "such as \"eth0\""),
        ("[defaults.tcp]\ncongestion = \"1234567890123456\"", "2:14", "up to 15 characters"),
        ("[defaults.tcp]\nuser_timeout = 5", "2:16 expected a duration", "write \"5s\""),
        (
            "[listener.web.tcp]\nno_delay = true",
            "2:1 unknown key `no_delay` in [listener.web.tcp]",
            "`nodelay`",
        ),
    ]);
}
