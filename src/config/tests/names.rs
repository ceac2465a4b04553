//! Servers that have a name instead of an address, and how names are looked up.

use super::*;

#[test]
fn names_stand_beside_servers() {
    let text = "[dns]\nresolvers = [\"10.0.0.53:53\", \"tcp://[fd00::53]:5353\", \"udp://10.0.0.54:53\"]\nprefer = \"ipv6\"\n\
        [listener.l]\nbind = [\"127.0.0.1:1\"]\npool = \"p\"\n\
        [pool.p]\nserver = [{ name = \"x\", addr = \"db.example:5432\", weight = 5 }, { name = \"s\", addr = \"srv:_db._tcp.example\" }]\n";
    let config = good(text);
    let Resolvers::Listed(all) = &config.dns.resolvers else { panic!("{:?}", config.dns) };
    let shown: Vec<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.0.0.53:53", "tcp://[fd00::53]:5353", "10.0.0.54:53"]);
    let pool = &config.pools[0];
    assert!(pool.servers.is_empty());
    let named: Vec<String> =
        pool.named.iter().map(|one| format!("{} {} {}", one.name, one.addr, one.weight)).collect();
    assert_eq!(named, ["x db.example:5432 5", "s srv:_db._tcp.example 1"]);
}

#[test]
fn errors_in_dns() {
    assert_errors(&[
        ("[dns]\nresolvers = \"10.0.0.53\"", "2:13 expected \"system\"", ""),
        ("[dns]\nresolvers = []", "2:13 expected \"system\" or an array of addresses", "found an empty one"),
        (
            "[dns]\nresolvers = [\"10.0.0.53\"]",
            "2:14 \"10.0.0.53\" is not the address of a resolver",
            "write \"10.0.0.53:53\"",
        ),
        (
            "[dns]\nresolvers = [\"dns.example:53\"]",
            "2:14 \"dns.example:53\" is not the address",
            "tcp://10.0.0.53:53",
        ),
        (
            "[dns]\nttl_min = \"50ms\"",
            "2:11 a name is asked for ten times a second at most",
            "\"100ms\" or more",
        ),
        (
            "[dns]\nttl_min = \"10m\"",
            "2:11 ttl_min is 10m, longer than ttl_max, which is 5m",
            "raise the other",
        ),
        ("[dns]\ntries = 0", "2:9 expected a whole number from 1 to 10", ""),
        ("[dns]\nprefer = \"v4\"", "2:10 expected \"any\", \"ipv4\" or \"ipv6\"", ""),
        ("[dns]\nhold = \"off\"", "2:8 ", ""),
    ]);
}

#[test]
fn what_needs_one_server_is_not_content_with_a_name() {
    let pool = |rest: &str, name: &str| {
        format!(
            "[listener.l]\nbind = [\"127.0.0.1:1\"]\npool = \"p\"\n[pool.p]\n{rest}\nserver = [{{ name = \"a\", addr = \"10.0.0.1:1\" }}, {{ name = \"x\", addr = \"db.example:1\"{name} }}]\n"
        )
    };
    let tracks =
        "[pool.q]\nserver = [{ name = \"a\", addr = \"10.0.0.1:1\" }]\n[pool.q.check]\ntrack = \"p/x\"\n";
    let found = errors(&(pool("", "") + tracks));
    assert!(
        found.len() == 1 && found[0].contains("\"p/x\" is a name, which may stand for several servers"),
        "{found:?}"
    );
    let found = errors(&pool("balance = \"first\"", ", maxconn = 5"));
    assert!(found.len() == 1 && found[0].contains("and no `maxconn`, \"a\" is never full"), "{found:?}");
    let found = errors(&pool("balance = \"first\"", "").replace("10.0.0.1:1\"", "10.0.0.1:1\", maxconn = 5"));
    assert!(found.len() == 1 && found[0].contains("and no `maxconn`, \"x\" is never full"), "{found:?}");
    // The last one needs no limit only if it is one.
    good(&pool("balance = \"first\"", ", backup = true"));
    let found = errors(&pool("", ", backup = true").replace("10.0.0.1:1\"", "10.0.0.1:1\", backup = true"));
    assert!(
        found.len() == 1 && found[0].contains("every server of the pool is a backup server"),
        "{found:?}"
    );
}
