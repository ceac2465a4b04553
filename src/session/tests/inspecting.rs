//! What is made of a client's first bytes, before its server is picked.

use super::*;
use crate::proxy_header::{Addresses, Told, Version, Versions, encode};

const CLIENT: &str = "203.0.113.7:40001";
const FRONT: &str = "198.51.100.1:443";

/// A life of a client whose proxy in front is believed; it has half a second for its header.
fn inspected() -> Life {
    let mut config = config(&[1, 1]);
    config.timeouts.preread = Some(ms(500));
    config.listeners[0].accept_proxy = Some(config::AcceptProxy {
        from: vec!["127.0.0.0/8".parse().expect("a network")],
        from_unix: false,
        versions: Versions::ALL,
        untrusted: config::Untrusted::Reject,
    });
    let life = Life::new(&config);
    assert_eq!(life.first, Order::ReadHead { more_than: 0, max: 4096 });
    assert_eq!((life.session.doing(), life.deadline()), (Doing::Inspecting, Some(501)));
    life
}

fn header(version: Version) -> Vec<u8> {
    let [client, front] = [CLIENT, FRONT].map(|address| address.parse().expect("an address"));
    let told = Told { addresses: Addresses::between(client, front), ..Told::LOCAL };
    encode(version, told).as_bytes().to_vec()
}

/// A header with these behind its addresses, each a type and a value.
fn header_with(tlvs: &[(u8, &[u8])]) -> Vec<u8> {
    let mut header = header(Version::V2);
    for (kind, value) in tlvs {
        header.push(*kind);
        header.extend_from_slice(&u16::try_from(value.len()).expect("few").to_be_bytes());
        header.extend_from_slice(value);
    }
    let len = u16::try_from(header.len() - 16).expect("few");
    header[14..16].copy_from_slice(&len.to_be_bytes());
    header
}

impl Life {
    /// What the engine has gathered.
    fn head(&mut self, tick: u64, head: &[u8], ended: bool) -> (usize, Option<Order>) {
        let seen = self.session.inspect(head, ended, &self.snapshot).expect("it looks at what comes first");
        let Seen { used, verdict, .. } = seen;
        (used, self.at(tick, Input::Inspected(verdict)))
    }
}

#[test]
fn a_header_is_read_on_until_it_is_whole_and_tells_who_the_client_is() {
    for version in Version::BOTH {
        let (mut life, header) = (inspected(), header(version));
        for cut in 1..header.len() {
            let more = Order::ReadHead { more_than: u16::try_from(cut).unwrap(), max: 4096 };
            assert_eq!(life.head(400, &header[..cut], false), (0, Some(more)));
        }
        assert_eq!(life.deadline(), Some(501), "one for all of it");
        let whole = [header.as_slice(), b"question"].concat();
        assert_eq!(life.head(450, &whole, false), (header.len(), dial(0)));
        assert_eq!(life.session.client(), CLIENT.parse().ok());
        let [client, front] = [CLIENT, FRONT].map(|address| address.parse().expect("an address"));
        assert_eq!(life.session.addresses(|| None), Addresses::between(client, front));
        // Attempts have all of their own time.
        assert_eq!(life.deadline(), Some(450 + 5_001));
        assert_eq!(
            life.session.inspect(b"question", true, &life.snapshot),
            None,
            "what follows is not looked at"
        );
        assert_eq!(life.refused(460), dial(1));
        assert_eq!(life.at(470, Input::Dialed(Ok(()))), Some(RELAY));
        assert_eq!((life.record().client, life.record().connect_ms), (CLIENT.parse().ok(), Some(470)));
    }
}

#[test]
fn a_header_without_addresses_leaves_those_of_the_socket() {
    let mut life = inspected();
    let peer = life.session.client();
    assert_eq!(life.head(1, b"PROXY UNKNOWN\r\n", true), (15, dial(0)));
    assert_eq!(life.session.client(), peer);
    let local = FRONT.parse().expect("an address");
    let told = life.session.addresses(|| Some(local));
    assert_eq!(told, Addresses::between(peer.expect("it has one"), local));
}

/// Whatever a header says, a line of a log stays one, of that length; and where it says nothing of the kind, nothing is kept.
#[test]
fn what_a_proxy_in_front_tells_is_told_as_plain_text_that_is_not_long() {
    let told = |tlvs: &[(u8, &[u8])]| {
        let (mut life, header) = (inspected(), header_with(tlvs));
        assert_eq!(life.head(1, &header, false), (header.len(), dial(0)));
        life.record().heard.map(|heard| {
            let text = |text: &Option<Box<str>>| text.as_deref().unwrap_or("-").to_owned();
            [&heard.authority, &heard.unique_id, &heard.vpce_id].map(text)
        })
    };
    let expected = |texts: [&str; 3]| Some(texts.map(str::to_owned));
    let usual: &[(u8, &[u8])] = &[(2, b"Db.example:1"), (5, b"id-1"), (0xea, b"\x01vpce-0a1b")];
    assert_eq!(told(usual), expected(["Db.example:1", "id-1", "vpce-0a1b"]));
    assert_eq!(told(&[(2, b"a\n\"\\ =,%\xff")]), expected(["a%0A%22%5C%20%3D%2C%25%FF", "-", "-"]));
    assert_eq!(told(&[(1, b"h2"), (2, b""), (0xea, b"\x02x"), (0xea, b""), (0x77, b"x")]), None);
    let (longest, many) = ("%00".repeat(128), "a".repeat(384));
    assert_eq!(told(&[(5, &[0; 128])]), expected(["-", &longest, "-"]), "no unique id is cut");
    let cut = format!("{many}...");
    let long: &[(u8, &[u8])] = &[(2, &[b'a'; 385]), (0xea, &[&[1], [b'a'; 3000].as_slice()].concat())];
    assert_eq!(told(long), expected([&cut, "-", &cut]));
    let cut = format!("{}...", "a".repeat(382));
    assert_eq!(told(&[(2, &[&[b'a'; 382], b"\0".as_slice()].concat())]), expected([&cut, "-", "-"]));
}

/// No server has a port just now, and it is tried again in a second: who leaves meanwhile is not waited for.
#[test]
fn who_has_said_everything_and_waits_for_a_port_is_told_of_if_it_leaves() {
    let (mut life, header) = (inspected(), header(Version::V2));
    let no_port = Input::Dialed(Err(Fault::NoPorts));
    assert_eq!(life.head(1, &header, false), (header.len(), dial(0)));
    assert_eq!((life.at(2, no_port), life.at(3, no_port)), (dial(1), None));
    let at = |now| Context { now: Tick(now), snapshot: &life.snapshot };
    let (mut other, _) = Session::new(8, ListenerId(0), Some((Ipv4Addr::LOCALHOST, 40_001).into()), at(4));
    let seen = other.inspect(&header, false, &life.snapshot).expect("it looks at what comes first");
    assert_eq!(other.handle(Input::Inspected(seen.verdict), at(5)), Some(Order::Queue));
    assert_eq!(other.handle(Input::ClientLeft, at(6)), Some(Order::Reset { spare: None }));
    assert_eq!(other.record(0, Tick(6)).cause, Some(Cause::ClientLeft));
}

#[test]
fn wrong_first_bytes_end_a_life_each_with_its_cause() {
    let reset = Some(Order::Reset { spare: None });
    for (head, ended, cause, order) in [
        (b"GET".as_slice(), false, Cause::BadProxyHeader, reset),
        (b"PROXY TCP4", true, Cause::BadProxyHeader, reset),
        (b"", true, Cause::ClientLeft, Some(Order::Dismiss { peer: Side::Client })),
    ] {
        let mut life = inspected();
        assert_eq!(life.head(7, head, ended), (0, order), "{head:?}");
        assert_eq!((life.record().cause, life.record().tries), (Some(cause), 0));
        // Who is closed by FIN is asked for until it has got everything.
        let again = (order != reset).then_some(9);
        assert_eq!((life.deadline(), life.session.server()), (again, None));
    }
    for (input, cause) in [
        (Input::Deadline(None), Cause::PrereadTimeout),
        (Input::ClientLeft, Cause::ClientLeft),
        (Input::Kill(Cause::AccessDenied), Cause::AccessDenied),
    ] {
        let mut life = inspected();
        assert_eq!(life.at(501, input), reset);
        assert_eq!(life.record().cause, Some(cause));
    }
}

/// Who only looks whether somebody listens, as health checks do.
#[test]
fn a_probe_is_who_names_no_client_but_itself_or_says_nothing() {
    let probes = |head: &[u8], input: Input| {
        let mut life = inspected();
        life.head(1, head, false);
        life.at(2, input);
        life.record().is_probe()
    };
    let local = encode(Version::V2, Told::LOCAL);
    assert!(probes(local.as_bytes(), Input::ClientLeft), "before its server was reached");
    assert!(probes(b"PROXY UNKNOWN\r\n", Input::ClientLeft));
    assert!(!probes(&header(Version::V2), Input::ClientLeft), "it has named a client");
    assert!(probes(b"PROXY TCP4 127.0.0.1 127.0.0.1 40000 443\r\n", Input::ClientLeft), "it names itself");
    assert!(!probes(b"PROXY TCP4 127.0.0.1 127.0.0.1 40001 443\r\n", Input::ClientLeft));
    assert!(!probes(local.as_bytes(), Input::Kill(Cause::Killed)), "it has not left by itself");
    assert!(probes(b"", Input::ClientLeft), "it is reset before its first byte");
    assert!(!probes(b"PROXY", Input::ClientLeft), "there was one");
    let mut silent = inspected();
    silent.head(1, b"", true);
    assert!(silent.record().is_probe());
    for (sent, is_probe) in [(0, true), (1, false)] {
        let mut life = inspected();
        life.head(1, local.as_bytes(), false);
        assert_eq!(life.at(2, Input::Dialed(Ok(()))), Some(RELAY));
        life.at(3, Input::Ended { end: End::Clean, moved: [sent, 9], unsent: false });
        assert_eq!(life.record().is_probe(), is_probe);
    }
}

#[test]
fn what_is_not_about_first_bytes_comes_too_early() {
    let mut life = inspected();
    for input in [Input::Turn, Input::Dialed(Ok(())), Input::Leave(Cause::Drain, Tick(3))] {
        assert_eq!(life.at(5, input), None);
    }
    assert_eq!(life.session.doing(), Doing::Inspecting);
    // Asked to leave, it goes on until it can: at its first quiet moment.
    assert_eq!(life.head(6, &header(Version::V2), false), (28, dial(0)));
}

#[test]
fn a_peer_that_is_not_believed_and_a_listener_that_reads_none_are_not_asked() {
    let mut config = config(&[1]);
    let accept = inspected().snapshot.listener(ListenerId(0)).accept_proxy.clone().expect("it is set");
    let from = vec!["10.0.0.0/8".parse().expect("a network")];
    config.listeners[0].accept_proxy = Some(config::AcceptProxy { from, ..(*accept).clone() });
    assert_eq!(Life::new(&config).first, dial(0).expect("a server"));
}
