//! `accept_proxy`, `send_proxy` and `proxy_tlvs`.

use super::*;
use crate::proxy_header::{Version, Versions};

fn accepting(value: &str) -> AcceptProxy {
    let text = LEAST.replacen("pool = ", &format!("accept_proxy = {value}\npool = "), 1);
    good(&text).listeners.remove(0).accept_proxy.expect("it is set")
}

#[test]
fn accept_proxy_is_read() {
    let least = accepting("{ from = [\"10.0.0.0/16\"] }");
    assert_eq!((least.versions, least.untrusted, least.from_unix), (Versions::ALL, Untrusted::Reject, false));
    let all =
        accepting("{ from = [\"unix\", \"192.0.2.1\", \"::/0\"], versions = [2], untrusted = \"payload\" }");
    assert_eq!((all.versions, all.untrusted), (Versions { v1: false, v2: true }, Untrusted::Payload));
    for (accept, peer, is_trusted) in [
        (&least, Some("10.0.255.1"), true),
        (&least, Some("::ffff:10.0.0.1"), true),
        (&least, Some("10.1.0.0"), false),
        (&least, Some("::1"), false),
        (&least, None, false),
        (&all, Some("192.0.2.1"), true),
        (&all, Some("192.0.2.2"), false),
        (&all, Some("2001:db8::1"), true),
        (&all, None, true),
    ] {
        let peer = peer.map(|peer| peer.parse().unwrap());
        assert_eq!(accept.trusts(peer), is_trusted, "{accept:?} {peer:?}");
    }
    assert_eq!(good(LEAST).listeners[0].accept_proxy, None);
}

#[test]
fn errors_in_accept_proxy() {
    for (value, start, part) in [
        ("{}", "[listener.x.accept_proxy] has no `from`", "any client could say"),
        ("{ versions = [1] }", "[listener.x.accept_proxy] has no `from`", "from = [\"10.0.0.0/16\"]"),
        ("{ from = [] }", "expected an array of networks", "found an empty one"),
        ("{ from = \"10.0.0.0/8\" }", "expected an array of networks", "write it in brackets"),
        ("{ from = [\"10.0.0.1/8\"] }", "\"10.0.0.1/8\" has bits set", "for the network"),
        ("{ from = [\"any\"] }", "\"any\" is not a network", ""),
        ("{ from = [\"::/0\"], versions = [3] }", "expected a whole number from 1 to 2", ""),
        ("{ from = [\"::/0\"], versions = [] }", "expected an array of versions", "found an empty one"),
        ("{ from = [\"::/0\"], untrusted = \"accept\" }", "expected \"reject\" or \"payload\"", ""),
        ("{ from = [\"::/0\"], trusted = 1 }", "unknown key `trusted` in [listener.x.accept_proxy]", ""),
        ("true", "expected a table [listener.x.accept_proxy]", "found true"),
    ] {
        let text = format!("[listener.x]\nbind = [\"127.0.0.1:1\"]\npool = \"web\"\naccept_proxy = {value}");
        let errors = errors(&text);
        let found = errors.iter().any(|error| error.contains(start) && error.contains(part));
        assert!(found, "{value}: {errors:#?}");
    }
}

#[test]
fn send_proxy_is_read() {
    let send = |keys: &str| {
        good(&LEAST.replacen("[pool.web]", &format!("[pool.web]\n{keys}"), 1)).pools[0].send_proxy
    };
    assert_eq!(send(""), None);
    assert_eq!(send("send_proxy = \"off\"\nproxy_tlvs = []"), None);
    let none = ProxyTlvs::default();
    assert_eq!(send("send_proxy = \"v1\""), Some(SendProxy { version: Version::V1, tlvs: none }));
    let tlvs = ProxyTlvs { unique_id: true, crc32c: true, ..none };
    let v2 = "proxy_tlvs = [\"crc32c\", \"unique_id\"]\nsend_proxy = \"v2\"";
    assert_eq!(send(v2), Some(SendProxy { version: Version::V2, tlvs }));
}

#[test]
fn errors_in_send_proxy() {
    let server = "[pool.x]\nserver = [{ name = \"a\", addr = \"10.0.0.1:1\" }]";
    for (keys, start, part) in [
        ("send_proxy = 2", "3:14 expected \"off\", \"v1\" or \"v2\"", ""),
        ("proxy_tlvs = [\"crc32c\"]", "3:14 `proxy_tlvs` are fields of version 2", "\"v2\""),
        (
            "proxy_tlvs = [\"unique_id\"]\nsend_proxy = \"v1\"",
            "3:14 `proxy_tlvs` are fields",
            "write send_proxy = \"v2\"",
        ),
        ("send_proxy = \"v2\"\nproxy_tlvs = [\"ssl\"]", "4:15 \"ssl\" tells of TLS that is", "leave it out"),
        ("send_proxy = \"v2\"\nproxy_tlvs = [\"crc32\"]", "4:15 expected \"authority\"", "mean \"crc32c\"?"),
        ("send_proxy = \"v2\"\nproxy_tlvs = \"crc32c\"", "4:14 expected an array of TLVs", "in brackets"),
    ] {
        assert_errors(&[(&format!("{server}\n{keys}"), start, part)]);
    }
}
