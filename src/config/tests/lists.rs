//! Lists of servers that stand elsewhere.

use super::*;

fn pool(keys: &str) -> String {
    format!("[listener.l]\nbind = [\"127.0.0.1:1\"]\npool = \"p\"\n[pool.p]\n{keys}\n")
}

#[test]
fn a_list_stands_beside_servers_or_instead_of_them() {
    let config = good(&pool("servers_file = \"/run/web.json\"\nservers_poll = \"500ms\""));
    let pool_of = &config.pools[0];
    assert!(pool_of.servers.is_empty() && pool_of.named.is_empty());
    assert_eq!(pool_of.lists, [ListAt::File("/run/web.json".into())]);
    assert_eq!(pool_of.servers_poll, Duration::from_millis(500));
    let server = "server = [{ name = \"a\", addr = \"10.0.0.1:1\", backup = true }]";
    // Those of the list may be none of backup.
    good(&pool(&format!("{server}\nservers_file = \"/run/web.json\"")));
    let empty = good(&pool(&format!("{}\nservers_file = \"\"", server.replace(", backup = true", ""))));
    assert!(empty.pools[0].lists.is_empty());
}

#[test]
fn errors_in_lists() {
    for (keys, said) in [
        ("servers_file = \"\"", "[pool.p] has no `server`"),
        ("servers_file = \"web.json\"", "\"web.json\" depends on where this program is started"),
        ("servers_file = \"/run/\"", "\"/run/\" is not the path of a file"),
        (
            "servers_file = \"/run/x\"\nservers_poll = \"99ms\"",
            "a list is looked at ten times a second at most",
        ),
        (
            "servers_file = \"/run/x\"\nbalance = \"first\"\nserver = [{ name = \"a\", addr = \"10.0.0.1:1\" }]",
            "no server behind \"a\" would ever be used",
        ),
    ] {
        let found = errors(&pool(keys));
        assert!(found.len() == 1 && found[0].contains(said), "{keys}\n{found:#?}");
    }
}
