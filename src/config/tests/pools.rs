//! `[pool.NAME]` and its servers.

use super::*;

#[test]
fn errors_in_pools() {
    let server = "server = [{ name = \"a\", addr = \"10.0.0.1:1\" }]";
    let rr = "balance = \"round_robin\"";
    let cases = [
        (rr.to_owned(), "1:1 [pool.x] has no `server`", "write [[pool.x.server]] with"),
        (format!("{server}\nbalance = \"roundrobin\""), "3:11 expected", "did you mean \"round_robin\"?"),
        (format!("{server}\nbalance = \"leastconn\""), "3:11 expected", "did you mean \"least_conn\"?"),
        (format!("{server}\n{rr}\nqueue = {{ max = -1 }}"), "4:17 expected a whole number", "the least is 0"),
        (format!("{server}\nqueue = 100"), "3:9 expected a table [pool.x.queue]", "queue = { max = 100 }"),
        (format!("{server}\ntimeout = \"5s\""), "3:1 unknown key `timeout`", "write [pool.NAME.timeouts]"),
        (
            format!("{server}\ncheck = true"),
            "3:9 expected a table [pool.x.check]",
            "known there: `kind`, `port`",
        ),
        (
            format!("{server}\n{rr}\nqueue = {{ most = 1 }}"),
            "4:11 unknown key `most` in [pool.x.queue]",
            "`max`",
        ),
        (
            format!("{server}\n{rr}\n[pool.x.retry]\ntries = 0"),
            "5:9 expected a whole number from 1 to 255",
            "",
        ),
        (
            format!("{server}\n{rr}\nlb_policy = \"x\""),
            "4:1 unknown key",
            "here it is `balance` in [pool.NAME]",
        ),
        (format!("{rr}\nserver = []"), "3:10 expected an array of servers", "found an empty one"),
        (format!("{rr}\nserver = [\"10.0.0.1:1\"]"), "3:11 expected a server: { name", "found the string"),
        (
            format!("{rr}\n[pool.x.server]\nname = \"a\""),
            "3:1 [pool.x.server] is one table",
            "[[pool.x.server]]",
        ),
    ];
    for (keys, start, part) in cases {
        assert_errors(&[(format!("[pool.x]\n{keys}").as_str(), start, part)]);
    }
}

#[test]
fn errors_in_choices() {
    let server = "server = [{ name = \"a\", addr = \"10.0.0.1:1\" }]";
    let rr = "balance = \"round_robin\"";
    let cases = [
        (format!("{server}\nall_down = \"try\""), "3:12 expected \"reject\" or \"try_all\"", ""),
        (
            "server = [{ name = \"a\", addr = \"10.0.0.1:1\", backup = true }]".to_owned(),
            "2:10 every server of the pool is a backup server",
            "remove `backup`",
        ),
        (
            "balance = \"first\"\nserver = [{ name = \"a\", addr = \"10.0.0.1:1\" }, \
             { name = \"b\", addr = \"10.0.0.1:2\" }]"
                .to_owned(),
            "2:11 with \"first\" and no `maxconn`, \"a\" is never full",
            "give it a `maxconn`",
        ),
        (
            format!("{server}\n{rr}\nhash = {{}}"),
            "4:8 `hash` says how clients are spread",
            "balance = \"source\"",
        ),
        (
            format!("{server}\nhash = {{ table = 65536 }}\nbalance = \"source\""),
            "3:18 65536 is not prime",
            "is 65537",
        ),
        (
            format!("{server}\nbalance = \"source\"\nhash = {{ table = 1 }}"),
            "4:18 expected a whole number from 2 to 5000011",
            "",
        ),
        (
            format!("{server}\nbalance = \"source\"\nhash = {{ bounded_load = 0.9 }}"),
            "4:25 expected \"off\" or a number from 1.0",
            "half as much again",
        ),
        (
            format!("{server}\nbalance = \"source\"\nhash = {{ key = \"sni\" }}"),
            "4:8 `balance` and the `key` of `hash` do not agree",
            "remove `key`",
        ),
        (
            format!("{server}\nbalance = \"source\"\nhash = {{ ipv6_prefix = 129 }}"),
            "4:24 expected a whole number from 0",
            "",
        ),
    ];
    for (keys, start, part) in cases {
        assert_errors(&[(format!("[pool.x]\n{keys}").as_str(), start, part)]);
    }
}

#[test]
fn errors_in_servers() {
    let cases = [
        ("addr = \"10.0.0.1:1\"", "3:1 [pool.x.server] has no `name`", "unique in its pool"),
        ("name = \"a\"", "3:1 [pool.x.server] has no `addr`", "write addr = \"127.0.0.1:9001\""),
        (
            "name = \"a\"\naddr = \"pg1.example.com\"",
            "5:8 \"pg1.example.com\" is not an IP address and port",
            "it has no port",
        ),
        (
            "name = \"a\"\naddr = \"10.0.0.1:1\"\ndisabled = true",
            "6:1 unknown key",
            "write state = \"maint\"",
        ),
        (
            "name = \"a\"\naddr = \"10.0.0.1:1\"\nmaxconn = \"10k\"",
            "6:11 expected a whole number",
            "a count has no unit: write 10000",
        ),
        (
            "name = \"a\"\naddr = \"srv:_pg._tcp.example\"\nweight = 2",
            "6:10 `weight` beside srv:_pg._tcp.example, whose records have a weight each",
            "remove it",
        ),
        ("name = \"a\"\naddr = \"10.0.0.1:0\"", "5:8 \"10.0.0.1:0\" has port 0", ""),
        ("name = \"a b\"\naddr = \"10.0.0.1:1\"", "4:8 \"a b\" is not a name", ""),
        (
            "name = \"a\"\naddr = \"10.0.0.1:1\"\nweight = 65536",
            "6:10 expected a whole number from 0 to 65535",
            "",
        ),
        (
            "name = \"a\"\naddr = \"10.0.0.1:1\"\nweight = -1",
            "6:10 expected a whole number",
            "found the number -1",
        ),
        ("name = \"a\"\naddr = \"10.0.0.1:1\"\nbackup = 1", "6:10 expected true or false", ""),
        (
            "name = \"a\"\naddr = \"10.0.0.1:1\"\nwieght = 1",
            "6:1 unknown key `wieght`",
            "did you mean `weight`?",
        ),
        (
            "name = \"a\"\naddress = \"10.0.0.1:1\"\naddr = \"10.0.0.1:1\"",
            "5:1 unknown key `address`",
            "`addr = ",
        ),
        (
            "name = \"a\"\naddr = \"10.0.0.1:1\"\n[[pool.x.server]]\nname = \"a\"\naddr = \"10.0.0.2:1\"",
            "7:8 the pool has two servers named \"a\"",
            "choose another one",
        ),
        (
            "name = \"${TIDEGATE_NO_SUCH}\"\naddr = \"10.0.0.1:1\"",
            "4:8 the environment has no `TIDEGATE_NO",
            "",
        ),
    ];
    for (keys, start, part) in cases {
        let text = format!("[pool.x]\nbalance = \"round_robin\"\n[[pool.x.server]]\n{keys}");
        assert_errors(&[(text.as_str(), start, part)]);
    }
}
