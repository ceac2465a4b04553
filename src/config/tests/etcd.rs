//! Servers that register in etcd.

use super::*;

fn pool(keys: &str) -> String {
    format!("[listener.l]\nbind = [\"127.0.0.1:1\"]\npool = \"p\"\n[pool.p]\nservers_etcd = {{ {keys} }}\n")
}

const SOME: &str = "endpoints = [\"http://10.0.0.1:2379\"], prefix = \"/s/\"";

#[test]
fn etcd_stands_instead_of_servers() {
    let config = good(&pool(SOME));
    let [ListAt::Etcd(etcd)] = &config.pools[0].lists[..] else { panic!("{config:?}") };
    assert_eq!(etcd.to_string(), "http://10.0.0.1:2379 /s/");
    assert_eq!((&etcd.user, &etcd.tls), (&None, &None));
    let all = "endpoints = [\"https://[fd00::1]:1\", \"https://etcd.example:2/\"], prefix = \"/s/\", username = \"u\", \
        password_file = \"/run/p\", ca = \"/ca\", client_cert = \"/c\", client_key = \"/k\"";
    let config = good(&pool(all));
    let [ListAt::Etcd(etcd)] = &config.pools[0].lists[..] else { panic!("{config:?}") };
    assert_eq!(etcd.to_string(), "https://[fd00::1]:1,https://etcd.example:2 /s/");
    let shown: Vec<String> = etcd.endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["https://[fd00::1]:1", "https://etcd.example:2"]);
    assert_eq!(etcd.user, Some(("u".to_owned(), "/run/p".into())));
    let client = Some(("/c".into(), "/k".into()));
    assert_eq!(etcd.tls, Some(Tls { ca: "/ca".into(), client }));
}

#[test]
fn errors_in_etcd() {
    let at = |url: &str| format!("endpoints = [\"{url}\"], prefix = \"/s/\"");
    for (keys, said) in [
        ("prefix = \"/s/\"".to_owned(), "[pool.p.servers_etcd] has no `endpoints`"),
        ("endpoints = [\"http://10.0.0.1:2379\"]".to_owned(), "has no `prefix`"),
        (SOME.replace("/s/", ""), "expected some text, found none"),
        ("endpoints = [], prefix = \"/s/\"".to_owned(), "found an empty one"),
        (at("10.0.0.1:2379"), "is not the URL of a member of etcd"),
        (at("http://10.0.0.1"), "is not the URL of a member of etcd"),
        (at("http://10.0.0.1:0"), "is not the URL of a member of etcd"),
        (at("http://10.0.0.1:1/v3"), "is not the URL of a member of etcd"),
        (at("http://u:p@10.0.0.1:1"), "is not the URL of a member of etcd"),
        (at("http://fd00::1:1"), "is not the URL of a member of etcd"),
        (at("unix:///run/etcd"), "is not the URL of a member of etcd"),
        (at("https://10.0.0.1:1"), "has no `ca`"),
        (format!("{SOME}, ca = \"/ca\""), "`ca` is for TLS, and no endpoint has it"),
        (format!("{SOME}, username = \"u\""), "has no `password_file`"),
        (format!("{SOME}, password_file = \"/p\""), "has no `username`"),
        (format!("{SOME}, username = \"u\", password_file = \"p\""), "\"p\" is not the whole path of a file"),
        (format!("{SOME}, password = \"p\""), "unknown key `password`"),
        (format!("{}, ca = \"/ca\", client_key = \"/k\"", at("https://10.0.0.1:1")), "has no `client_cert`"),
    ] {
        let found = errors(&pool(&keys));
        assert!(found.len() == 1 && found[0].contains(said), "{keys}\n{found:#?}");
    }
}
