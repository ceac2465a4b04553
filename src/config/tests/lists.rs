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
    let both = good(&pool("servers_url = \"http://db.example/pg?x=1\"\nservers_file = \"/run/web.json\""));
    let told: Vec<String> = both.pools[0].lists.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["servers_file /run/web.json", "servers_url http://db.example:80/pg"]);
    let url = &both.pools[0].lists[1];
    assert_eq!([url.place(), url.value()], ["http://db.example:80/pg", "http://db.example:80/pg?x=1"]);
    for (url, written) in [
        ("http://10.0.0.5:8080", "http://10.0.0.5:8080/"),
        ("http://[fd00::5]:1/a", "http://[fd00::5]:1/a"),
        ("http://h.example:8080?a=b", "http://h.example:8080/?a=b"),
        ("http://h/%7e#x", "http://h:80/%7e"),
    ] {
        let config = good(&pool(&format!("servers_url = \"{url}\"")));
        assert_eq!(config.pools[0].lists[0].value(), written);
        let table = good(&pool(&format!("servers_url = {{ url = \"{url}\" }}")));
        assert_eq!(table.pools[0].lists, config.pools[0].lists);
    }
    let keys = "ca = \"/ca\", client_cert = \"/c\", client_key = \"/k\"";
    let config = good(&pool(&format!("servers_url = {{ url = \"https://h.example/x?t=1\", {keys} }}")));
    let [list] = &config.pools[0].lists[..] else { panic!("{config:?}") };
    assert_eq!([list.value(), list.place()], ["https://h.example:443/x?t=1", "https://h.example:443/x"]);
    let ListAt::Url(url) = list else { panic!("{list:?}") };
    let client = Some(("/c".into(), "/k".into()));
    assert_eq!(url.tls, Some(Tls { ca: "/ca".into(), client }));
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
        (
            "servers_url = \"https://h/x\"",
            "`servers_url` with https needs to know whose certificates to trust",
        ),
        ("servers_url = { url = \"https://h/x\" }", "[pool.p.servers_url] has no `ca`"),
        ("servers_url = { ca = \"/ca\" }", "[pool.p.servers_url] has no `url`"),
        ("servers_url = { url = \"\" }", "expected a URL, found none"),
        ("servers_url = { url = \"http://h/x\", ca = \"/ca\" }", "`ca` is for TLS, and the URL has none"),
        ("servers_url = { url = \"https://h/x\", ca = \"ca\" }", "\"ca\" is not the whole path of a file"),
        ("servers_url = { url = \"http://h/x\", user = \"u\" }", "unknown key `user`"),
        ("servers_url = \"h:80/x\"", "`servers_url` is no URL"),
        (
            "servers_url = \"ftp://h/x\"",
            "`servers_url` does not begin with \"http://\" or \"https://\" and a host",
        ),
        ("servers_url = \"http://u:p@h/x\"", "`servers_url` has a user's name"),
        ("servers_url = \"http://h:0/x\"", "`servers_url` has port 0"),
        ("servers_url = \"http://h:/x\"", "has no port from 1 to 65535"),
        ("servers_url = \"http://h:99999/x\"", "has no port from 1 to 65535"),
        ("servers_url = \"http://h:8o/x\"", "has no port from 1 to 65535"),
        ("servers_url = \"http://1.2.3/x\"", "`servers_url` has no host"),
        ("servers_url = \"http://h /x\"", "`servers_url` is no URL"),
        ("servers_file = \"/run/\"", "\"/run/\" is not the path of a file"),
        (
            "servers_file = \"/run/x\"\nservers_poll = \"99ms\"",
            "a list is looked at ten times a second at most",
        ),
        (
            "servers_file = \"/run/x\"\nbalance = \"first\"\nserver = [{ name = \"a\", addr = \"10.0.0.1:1\" }]",
            "and no `maxconn`, \"a\" is never full",
        ),
    ] {
        let found = errors(&pool(keys));
        assert!(found.len() == 1 && found[0].contains(said), "{keys}\n{found:#?}");
    }
}
