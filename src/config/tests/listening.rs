//! `bind`, `v6only`, `accept_burst`: the sockets of a listener.

use super::*;

/// The least configuration with a listener of these keys more, and its own `bind` on another port.
fn with(keys: &str) -> String {
    format!("{LEAST}[listener.x]\npool = \"web\"\n{keys}\n")
}

/// The one error of a listener with these keys, whose first stands in line 10.
fn error(keys: &str) -> String {
    let mut found = errors(&with(keys));
    assert_eq!(found.len(), 1, "{keys}\n{found:#?}");
    found.remove(0)
}

#[test]
fn wrong_keys_of_sockets_are_refused_with_what_would_be_right() {
    let cases = [
        ("v6only = \"no\"", "11:10 expected true or false, found the string \"no\""),
        ("accept_burst = 0", "11:16 expected a whole number from 1 to 1024, found the number 0"),
        ("accept_burst = 1025", "11:16 expected a whole number from 1 to 1024, found the number 1025"),
        (
            "protocol = \"udp\"",
            "11:1 UDP is not supported: every listener relays TCP only / leave `protocol`",
        ),
        (
            "protocol = \"UDP\"",
            "11:1 UDP is not supported: every listener relays TCP only / leave `protocol`",
        ),
        (
            "protocol = \"tcp\"",
            "11:1 `protocol` in [listener.x] is no key: every listener relays TCP / leave it out",
        ),
        (
            "protocol = 6",
            "11:1 `protocol` in [listener.x] is no key: every listener relays TCP / leave it out",
        ),
    ];
    for (key, expected) in cases {
        let error = error(&format!("bind = [\"[::1]:1\"]\n{key}"));
        assert!(error.starts_with(expected), "{key}: {error}");
    }
}

#[test]
fn a_range_of_ports_stands_for_each_of_them() {
    let config = good(&with("bind = [\"127.0.0.1:90-92\", \"[::1]:9\"]"));
    let bound: Vec<String> = config.listeners[1].bind.iter().map(ToString::to_string).collect();
    assert_eq!(bound, ["127.0.0.1:90", "127.0.0.1:91", "127.0.0.1:92", "[::1]:9"]);
    assert_eq!(parse(&dump(&config), "dump").unwrap(), config);
    let cases = [
        ("bind = [\"[::1]:9\", \"127.0.0.1:92-90\"]", "10:20 the range of ports in \"127.0.0.1:92-90\" ends"),
        (
            "bind = [\"127.0.0.1:8079-8081\"]",
            "10:9 127.0.0.1:8080 is taken by 127.0.0.1:8080 at test:3:9 / use another port",
        ),
        (
            "bind = [\"127.0.0.1:90-92\", \"0.0.0.0:92-99\"]",
            "10:28 0.0.0.0:92 is taken by 127.0.0.1:92 at test:10:9",
        ),
    ];
    for (keys, expected) in cases {
        let error = error(keys);
        assert!(error.starts_with(expected), "{keys}: {error}");
    }
}

/// Whichever of the two stands first, and in whichever listener.
#[test]
fn all_of_both_families_and_one_of_ipv4_cannot_share_a_port() {
    let help = "with v6only = false \"[::]\" stands for all addresses of IPv4, too: leave those of IPv4 out, or write v6only = true";
    let both = "v6only = false\nbind = [\"[::]:80\", \"0.0.0.0:80\"]";
    assert_eq!(error(both), format!("11:20 0.0.0.0:80 is taken by [::]:80 at test:11:9 / {help}"));
    let turned = "v6only = false\nbind = [\"127.0.0.1:80\", \"[::]:80\"]";
    assert_eq!(error(turned), format!("11:25 [::]:80 is taken by 127.0.0.1:80 at test:11:9 / {help}"));
    let other = "v6only = false\nbind = [\"[::]:8080\"]";
    assert_eq!(error(other), format!("11:9 [::]:8080 is taken by 127.0.0.1:8080 at test:3:9 / {help}"));
    for fine in [
        "v6only = true\nbind = [\"[::]:8080\"]",
        "v6only = false\nbind = [\"[::]:80\", \"[::1]:8080\"]",
        "v6only = false\nbind = [\"[::]:0\", \"0.0.0.0:0\"]",
    ] {
        assert!(parse(&with(fine), "test").is_ok(), "{fine}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_name_without_a_file_is_listened_on_once() {
    let error = error("bind = [\"unix:@x\", \"unix:/x\", \"unix:@x\"]");
    assert_eq!(error, "10:31 unix:@x is taken by unix:@x at test:10:9 / use another name");
    let admin = errors(&format!("[admin]\nsocket = \"unix:@x\"\nhttp = \"off\"{LEAST}"));
    assert!(admin[0].starts_with("2:10 \"unix:@x\" has no file, whose permissions say"), "{admin:#?}");
}

#[test]
fn keys_of_sockets_that_say_nothing_are_told_of() {
    let odd = |keys: &str| oddities(&good(&with(keys)));
    let said = "listener x: `v6only` = false does nothing: only an address such as \"[::]:80\" can stand for IPv4, too";
    assert_eq!(odd("bind = [\"[::1]:80\", \"0.0.0.0:80\"]\nv6only = false"), [said]);
    assert_eq!(odd("bind = [\"[::]:80\"]\nv6only = false"), [""; 0]);
    let burst = "bind = [\"[::1]:80\"]\naccept_burst = 4\n";
    assert_eq!(odd(burst), [""; 0]);
    let said =
        "listener x: `accept_burst` does nothing with the engine io_uring: the kernel accepts by itself";
    assert_eq!(odd(&format!("{burst}engine = \"completion\"")), [said]);
    assert_eq!(odd("bind = [\"[::1]:80\"]\nengine = \"io_uring\""), [""; 0]);
}

#[test]
fn a_server_may_be_the_listener_of_both_families_before_it() {
    let to = |keys: &str| {
        let listener = format!("[listener.x]\nbind = [\"[::]:7\"]\n{keys}\npool = \"x\"\n");
        let pool = "[pool.x]\nserver = [{ name = \"a\", addr = \"127.0.0.1:7\" }]\n";
        oddities(&good(&(LEAST.to_owned() + &listener + pool)))
    };
    let said =
        "pool x: the server a (127.0.0.1:7) is this process itself: its connections come back by listener x";
    assert_eq!(to("v6only = false"), [said]);
    assert_eq!(to(""), [""; 0]);
}
