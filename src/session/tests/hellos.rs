//! Where a client's hello leads.

use super::*;
use crate::client_hello::UNRECOGNIZED_NAME;
use crate::client_hello::postgres::SSL_REQUEST;
use crate::client_hello::tests::{alpn, in_one_record, sni};
use crate::config::parse;
use crate::proxy_header::{Addresses, Told, Version, encode};

/// Three pools of one server each: `db`, `web` and `other`, whose ids are 0, 1 and 2.
fn life(keys: &str) -> Life {
    let pools: String = ["db", "web", "other"]
        .iter()
        .enumerate()
        .map(|(number, name)| {
            format!("[pool.{name}]\nserver = [{{ name = \"s\", addr = \"127.0.0.1:900{number}\" }}]\n")
        })
        .collect();
    let text = format!(
        "[defaults.timeouts]\npreread = \"500ms\"\n[pool.web.timeouts]\nconnect_total = \"2s\"\nhalf_close = \"3s\"\n\
         {pools}[listener.main]\nbind = [\"127.0.0.1:1\"]\n{keys}\n"
    );
    Life::new(&parse(&text, "test").unwrap_or_else(|report| panic!("{report}")))
}

const ROUTES: &str = r#"
[[listener.main.route]]
sni = ["db.example"]
starttls = "postgres"
pool = "db"
[[listener.main.route]]
sni = ["*.example"]
alpn = ["h2"]
pool = "web"
[[listener.main.route]]
sni = ["closed.example"]
action = "close"
[[listener.main.route]]
source = ["10.0.0.0/8"]
pool = "other"
"#;

fn hello(name: &str, protocols: &[&[u8]]) -> Vec<u8> {
    let mut extensions = vec![];
    if !name.is_empty() {
        extensions.push(sni(name.as_bytes()));
    }
    if !protocols.is_empty() {
        extensions.push(alpn(protocols));
    }
    in_one_record(&extensions)
}

impl Life {
    /// What the engine has gathered, and what the client is told.
    fn says(&mut self, tick: u64, head: &[u8], ended: bool) -> (usize, &'static [u8], Option<Order>) {
        let seen = self.session.inspect(head, ended, &self.snapshot).expect("it looks at what comes first");
        (seen.used, seen.say, self.at(tick, Input::Inspected(seen.verdict)))
    }
}

fn read_head(more_than: usize) -> Option<Order> {
    Some(Order::ReadHead { more_than: u16::try_from(more_than).expect("few"), max: 16 << 10 })
}

#[test]
fn a_name_and_a_protocol_lead_to_a_pool() {
    let reset = Some(Order::Reset { spare: None });
    for (hello, say, order) in [
        (hello("DB.Example", &[]), [].as_slice(), dial(0)),
        (hello("a.example", &[b"http/1.1", b"h2"]), &[], dial(1)),
        (hello("a.example", &[b"http/1.1"]), &UNRECOGNIZED_NAME, Some(Order::Dismiss { peer: Side::Client })),
        (hello("b.a.example", &[b"h2"]), &UNRECOGNIZED_NAME, Some(Order::Dismiss { peer: Side::Client })),
        (hello("", &[]), &UNRECOGNIZED_NAME, Some(Order::Dismiss { peer: Side::Client })),
        (hello("closed.example", &[]), &[], Some(Order::Dismiss { peer: Side::Client })),
        (b"GET / HTTP/1.1\r\n".to_vec(), &[], reset),
    ] {
        let mut life = life(ROUTES);
        assert_eq!((Some(life.first), life.deadline()), (read_head(0), Some(501)));
        assert_eq!(life.says(400, &hello, false), (0, say, order), "{}", hello.escape_ascii());
        if matches!(order, Some(Order::Dial { .. })) {
            assert_eq!(life.session.doing(), Doing::Connecting);
        } else {
            assert_eq!(life.record().cause, Some(Cause::NoRoute));
        }
    }
}

/// What is told of them, and counted for their routes: which one took how many, and last none.
#[test]
fn names_protocols_and_routes_are_told_and_counted() {
    let says = |keys: &str, head: &[u8]| {
        let mut life = life(keys);
        life.says(1, head, false);
        let heard = life.record().heard;
        let text = |text: &Option<Box<str>>| text.as_deref().unwrap_or("-").to_owned();
        let told = heard.map(|heard| {
            let number = heard.route.map(std::num::NonZero::get);
            (text(&heard.sni), text(&heard.alpn), number, heard.pool.map(|pool| pool.0))
        });
        let routes = life.snapshot.listener(ListenerId(0)).routes.clone();
        let counts = routes.map(|routes| {
            let taken = routes.numbered().map(|(_, route)| route.taken.get());
            taken.chain([routes.untaken()]).collect::<Vec<_>>()
        });
        (told, counts.unwrap_or_default())
    };
    let told = |sni: &str, alpn: &str, route, pool| Some((sni.to_owned(), alpn.to_owned(), route, pool));
    for (head, heard, counts) in [
        (hello("DB.Example", &[]), told("db.example", "-", Some(1), Some(0)), [1, 0, 0, 0, 0]),
        (hello("a.example", &[b"h2", b"x"]), told("a.example", "h2,x", Some(2), Some(1)), [0, 1, 0, 0, 0]),
        (hello("closed.example", &[]), told("closed.example", "-", Some(3), None), [0, 0, 1, 0, 0]),
        (hello("other.test", &[b"h3"]), told("other.test", "h3", None, None), [0, 0, 0, 0, 1]),
        (b"GET /".to_vec(), None, [0, 0, 0, 0, 1]),
        // It has not come as far as to be led anywhere.
        (b"\x16\x03\x01\x00\x00".to_vec(), None, [0, 0, 0, 0, 0]),
    ] {
        assert_eq!(says(ROUTES, &head), (heard, counts.to_vec()), "{}", head.escape_ascii());
    }
}

/// Whatever a client offers, a line of a log stays one, of that length.
#[test]
fn protocols_are_told_as_plain_text_that_is_not_long() {
    let told = |protocols: &[&[u8]]| {
        let mut life = life(ROUTES);
        life.says(1, &hello("a.example", protocols), false);
        life.record().heard.and_then(|heard| heard.alpn.clone()).expect("it offers some").into_string()
    };
    assert_eq!(told(&[b"h2", b"\x0a\"\\ =,%\xff"]), "h2,%0A%22%5C%20%3D%2C%25%FF");
    let longest = [b'a'; 255];
    assert_eq!(told(&[&longest]).len(), 255);
    assert_eq!(told(&[&longest, b"h2"]), format!("{},...", "a".repeat(255)));
    assert_eq!(told(&[&[b' '; 255]]), ",...");
    let many: Vec<&[u8]> = vec![b"h2"; 100];
    assert_eq!(told(&many), format!("{}...", "h2,".repeat(85)));
}

#[test]
fn a_hello_is_read_on_byte_by_byte() {
    let (mut life, hello) = (life(ROUTES), hello("a.example", &[b"h2"]));
    for cut in 1..hello.len() {
        assert_eq!(life.says(3, &hello[..cut], false), (0, [].as_slice(), read_head(cut)));
    }
    assert_eq!(life.says(4, &hello, false), (0, [].as_slice(), dial(1)));
    // The limits are those of that pool.
    assert_eq!(life.deadline(), Some(4 + 2_001));
    assert_eq!(life.at(9, Input::Dialed(Ok(()))), Some(RELAY));
    assert_eq!(life.session.inspect(&hello, false, &life.snapshot), None);
}

#[test]
fn routes_by_address_alone_wait_for_nothing() {
    let by_source = |source: &str| {
        life(&format!(
            "[[listener.main.route]]\nsource = [\"{source}\"]\npool = \"web\"\n\
             [[listener.main.route]]\nsource = [\"192.0.2.0/24\"]\npool = \"db\"\n"
        ))
    };
    let taken = by_source("127.0.0.0/8");
    assert_eq!((Some(taken.first), taken.deadline()), (dial(1), Some(2_001)));
    let refused = by_source("10.0.0.0/8");
    assert_eq!((refused.first, refused.record().cause), (Order::Reset { spare: None }, Some(Cause::NoRoute)));
}

#[test]
fn a_wrong_hello_ends_a_life_with_its_cause() {
    let reset = Some(Order::Reset { spare: None });
    let mut large = hello("a.example", &[]);
    large[6] = 1;
    for (head, ended, cause, order) in [
        (b"\x16\x03\x01\x00\x00".as_slice(), false, Cause::BadClientHello, reset),
        (b"\x16\x03", true, Cause::BadClientHello, reset),
        (&large, false, Cause::HelloTooLarge, reset),
        (b"", true, Cause::ClientLeft, Some(Order::Dismiss { peer: Side::Client })),
    ] {
        let mut life = life(ROUTES);
        assert_eq!(life.says(7, head, ended), (0, [].as_slice(), order), "{}", head.escape_ascii());
        // Who is closed by FIN is asked for until it has got everything.
        let again = (order != reset).then_some(9);
        assert_eq!((life.record().cause, life.deadline()), (Some(cause), again));
    }
    let mut life = life(ROUTES);
    assert_eq!(life.at(501, Input::Deadline(None)), reset);
    assert_eq!(life.record().cause, Some(Cause::PrereadTimeout));
}

#[test]
fn who_asks_for_tls_first_is_answered_and_its_server_is_asked_too() {
    let mut life = life(ROUTES);
    assert_eq!(life.says(1, &SSL_REQUEST[..5], false), (0, [].as_slice(), read_head(5)));
    let mut kerberos = SSL_REQUEST;
    kerberos[7] = 0x30;
    assert_eq!(life.says(2, &kerberos, false), (8, b"N".as_slice(), read_head(0)));
    assert_eq!(life.says(3, &SSL_REQUEST, false), (8, b"S".as_slice(), read_head(0)));
    assert!(!life.session.starttls(), "it is not known yet whether it goes on");
    assert_eq!(life.says(4, &hello("db.example", &[]), false), (0, [].as_slice(), dial(0)));
    assert!(life.session.starttls());
    let mut plain = self::life(ROUTES);
    assert_eq!(plain.says(4, &hello("db.example", &[]), false), (0, [].as_slice(), dial(0)));
    assert!(!plain.session.starttls());
    // Routes for which nobody may ask first do not take it.
    let mut other = self::life(ROUTES);
    assert_eq!(other.says(3, &SSL_REQUEST, false), (8, b"S".as_slice(), read_head(0)));
    let refused = (0, UNRECOGNIZED_NAME.as_slice(), Some(Order::Dismiss { peer: Side::Client }));
    assert_eq!(other.says(4, &hello("a.example", &[b"h2"]), false), refused);
    for wrong in [b"GET".as_slice(), &[SSL_REQUEST.as_slice(), b"x"].concat()] {
        let mut life = self::life(ROUTES);
        if wrong == b"GET" {
            assert_eq!(life.says(3, &SSL_REQUEST, false), (8, b"S".as_slice(), read_head(0)));
        }
        let (_, say, order) = life.says(4, wrong, false);
        assert_eq!((say, order), ([].as_slice(), Some(Order::Reset { spare: None })));
        assert_eq!(life.record().cause, Some(Cause::BadClientHello));
    }
}

#[test]
fn a_hello_may_stand_behind_a_header_whose_address_a_route_goes_by() {
    let accept = "accept_proxy = { from = [\"127.0.0.0/8\"] }";
    let ends = ["10.1.2.3:4", "192.0.2.1:443"].map(|address| address.parse().expect("an address"));
    let told =
        Told { addresses: Addresses::between(ends[0], ends[1]), authority: Some(b"a.test"), ..Told::LOCAL };
    let header = encode(Version::V2, told).as_bytes().to_vec();
    let hello = hello("nobody.test", &[]);
    // What the header tells decides nothing, and is kept beside what the client says.
    let names = |life: &Life| {
        let heard = life.record().heard.expect("there is something to tell");
        [&heard.sni, &heard.authority].map(|text| text.as_deref().unwrap_or("-").to_owned())
    };
    // All at once, and one after the other.
    let mut life = life(&format!("{accept}\n{ROUTES}"));
    assert_eq!(life.first, Order::ReadHead { more_than: 0, max: 4096 });
    let whole = [header.as_slice(), &hello].concat();
    assert_eq!(life.says(1, &whole, false), (header.len(), [].as_slice(), dial(2)));
    assert_eq!(names(&life), ["nobody.test", "a.test"]);
    let mut life = self::life(&format!("{accept}\n{ROUTES}"));
    assert!(life.session.awaits_header());
    assert_eq!(life.says(1, &header, false), (header.len(), [].as_slice(), read_head(0)));
    assert!(!life.session.awaits_header());
    assert_eq!(life.says(2, &hello[..20], false), (0, [].as_slice(), read_head(20)));
    assert_eq!(names(&life), ["-", "a.test"], "also of one that gets no further");
    assert_eq!(life.says(2, &hello, false), (0, [].as_slice(), dial(2)));
    assert_eq!(names(&life), ["nobody.test", "a.test"]);
}

#[test]
fn a_reload_takes_back_what_was_asked_for() {
    let text = "[listener.main]\nbind = [\"127.0.0.1:1\"]\npool = \"other\"\n\
        [pool.other]\nserver = [{ name = \"s\", addr = \"127.0.0.1:9002\" }]";
    let config = parse(text, "test").unwrap_or_else(|report| panic!("{report}"));
    for asks in [false, true] {
        let mut life = life(ROUTES);
        if asks {
            assert_eq!(life.says(1, &SSL_REQUEST, false), (8, b"S".as_slice(), read_head(0)));
        }
        let (overrides, conditions) = (crate::snapshot::Overrides::new(), crate::snapshot::Conditions::new());
        let next = life.snapshot.next(&config, 1000, &overrides, &conditions, Tick(1));
        life.snapshot = next.expect("few names");
        assert_eq!(life.says(2, b"\x16", false), (0, [].as_slice(), dial(2)));
        assert_eq!(life.session.starttls(), asks, "who was answered goes on with TLS");
    }
}
