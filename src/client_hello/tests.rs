use proptest::prelude::*;

use super::postgres::{REQUEST_LEN, Requests, Step};
use super::*;

const MAX: usize = 16 << 10;

/// A length of two bytes, and what it is the length of.
fn long(bytes: &[u8]) -> Vec<u8> {
    [u16::try_from(bytes.len()).unwrap().to_be_bytes().as_slice(), bytes].concat()
}

/// A length of one byte, and what it is the length of.
fn short(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().as_slice(), &long(data)].concat()
}

pub(crate) fn sni(name: &[u8]) -> Vec<u8> {
    extension(0, &long(&[&[0], long(name).as_slice()].concat()))
}

pub(crate) fn alpn(protocols: &[&[u8]]) -> Vec<u8> {
    extension(16, &long(&protocols.iter().flat_map(|name| short(name)).collect::<Vec<_>>()))
}

/// Before the extensions: version, random, a session id, two suites, one method.
fn fixed() -> Vec<u8> {
    [&[3, 3], [7; 32].as_slice(), &short(&[9; 32]), &long(&[0x13, 1, 0x13, 2]), &short(&[0])].concat()
}

/// A handshake message.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let [_, len @ ..] = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind], len.as_slice(), body].concat()
}

/// In records of so many bytes, over and over.
fn records(message: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut sizes = sizes.iter().cycle();
    let mut rest = message;
    let mut out = Vec::new();
    while !rest.is_empty() {
        let (fragment, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        out.extend([&[22, 3, 1], long(fragment).as_slice()].concat());
        rest = after;
    }
    out
}

fn with(extensions: &[Vec<u8>]) -> Vec<u8> {
    message(1, &[fixed(), long(&extensions.concat())].concat())
}

pub(crate) fn in_one_record(extensions: &[Vec<u8>]) -> Vec<u8> {
    records(&with(extensions), &[FRAGMENT_MAX])
}

fn look(bytes: &[u8]) -> Result<First<'_>, Malformed> {
    Reader::default().look(bytes, MAX)
}

/// The name and the protocols, each as text.
type Told = (Option<String>, Vec<Vec<u8>>);

fn told(hello: ClientHello<'_>) -> Told {
    let protocols = hello.alpn.map(|protocol| protocol.copy_to(&mut [0; 255]).to_vec());
    (hello.server_name.map(|name| name.to_string()), protocols.collect())
}

fn whole(bytes: &[u8]) -> Told {
    match look(bytes) {
        Ok(First::Hello(hello)) => told(hello),
        other => panic!("{other:?}"),
    }
}

/// The same, of bytes that arrive one by one; with how many had come by then.
fn dripping(bytes: &[u8], max: usize) -> (usize, Result<Option<Told>, Malformed>) {
    let mut reader = Reader::default();
    for end in 0..=bytes.len() {
        match reader.look(&bytes[..end], max) {
            Ok(First::More) => {}
            Ok(First::NotTls) => return (end, Ok(None)),
            Ok(First::Hello(hello)) => return (end, Ok(Some(told(hello)))),
            Err(malformed) => return (end, Err(malformed)),
        }
    }
    panic!("{} bytes were not enough", bytes.len());
}

/// As a browser of today has it: a key share of X25519MLKEM768 is 1,216 bytes, and values that mean nothing stand
/// everywhere (RFC 8701).
fn modern() -> Vec<Vec<u8>> {
    let share = [&[0x11, 0xec], long(&[5; 1216]).as_slice(), &[0x3a, 0x3a], &long(&[0])].concat();
    vec![
        extension(0x2a2a, &[]),
        extension(51, &long(&share)),
        extension(0xfe0d, &[8; 250]),
        sni(b"DB.example.com"),
        alpn(&[b"\x5a\x5a", b"h2", b"http/1.1"]),
        extension(0xdada, &[0]),
    ]
}

fn modern_told() -> Told {
    (Some("db.example.com".into()), vec![b"\x5a\x5a".to_vec(), b"h2".to_vec(), b"http/1.1".to_vec()])
}

#[test]
fn a_hello_tells_a_name_and_protocols() {
    assert_eq!(whole(&in_one_record(&modern())), modern_told());
    assert_eq!(whole(&in_one_record(&[sni(b"a")])), (Some("a".into()), vec![]));
    assert_eq!(whole(&in_one_record(&[alpn(&[b"postgresql"])])), (None, vec![b"postgresql".to_vec()]));
    assert_eq!(whole(&in_one_record(&[])), (None, vec![]));
    // TLS 1.2 and older: nothing behind the methods.
    assert_eq!(whole(&records(&message(1, &fixed()), &[FRAGMENT_MAX])), (None, vec![]));
    // A type of name that is not known yet, and the host's.
    let list = [&[7], long(b"?").as_slice(), &[0], &long(b"host")].concat();
    assert_eq!(whole(&in_one_record(&[extension(0, &long(&list))])).0.as_deref(), Some("host"));
    let unknown = [&[7], long(b"?").as_slice()].concat();
    assert_eq!(whole(&in_one_record(&[extension(0, &long(&unknown))])).0, None);
}

#[test]
fn what_follows_a_hello_does_not_matter() {
    let hello = in_one_record(&modern());
    // Early data of TLS 1.3, and things that are never right.
    for behind in [&[23, 3, 3, 0, 1, 0], [0; 6].as_slice(), &[22, 3, 3, 0, 0]] {
        assert_eq!(whole(&[&hello, behind].concat()), modern_told());
    }
    // In the hello's own record.
    let both = [with(&modern()), vec![0; 40]].concat();
    assert_eq!(whole(&records(&both, &[FRAGMENT_MAX])), modern_told());
}

#[test]
fn every_record_size_and_every_cut() {
    let message = with(&modern());
    for size in (1..=40).chain([100, 255, 256, 1000, message.len() - 1, message.len()]) {
        let bytes = records(&message, &[size]);
        assert!(bytes.len() <= MAX);
        assert_eq!(dripping(&bytes, MAX), (bytes.len(), Ok(Some(modern_told()))), "records of {size}");
    }
    let in_ten = records(&message, &[message.len().div_ceil(10)]);
    assert_eq!(in_ten.len(), message.len() + 10 * RECORD_HEADER);
    assert_eq!(whole(&in_ten), modern_told());
}

#[test]
fn protocols_are_compared_across_records() {
    let message = with(&[alpn(&[b"h2", b"postgresql"])]);
    for size in 1..20 {
        let bytes = records(&message, &[size]);
        let Ok(First::Hello(hello)) = look(&bytes) else { panic!("it is right") };
        assert!(hello.alpn.offers(b"h2") && hello.alpn.offers(b"postgresql"), "records of {size}");
        for other in [b"".as_slice(), b"h", b"H2", b"h2c", b"postgres", b"postgresql2"] {
            assert!(!hello.alpn.offers(other), "records of {size}: {other:?}");
        }
        let other = records(&message, &[size + 1]);
        assert_eq!(look(&bytes), look(&other));
    }
    let different = in_one_record(&[alpn(&[b"h2", b"postgresqL"])]);
    assert_ne!(look(&records(&message, &[3])), look(&different));
    assert_ne!(look(&records(&message, &[3])), look(&in_one_record(&[alpn(&[b"h2"])])));
}

#[test]
fn the_limit_counts_the_headers_of_records() {
    let message = with(&modern());
    for size in [1, 7, FRAGMENT_MAX] {
        let bytes = records(&message, &[size]);
        assert_eq!(dripping(&bytes, bytes.len()).1, Ok(Some(modern_told())));
        let less = bytes.len() - 1;
        let (end, refused) = dripping(&bytes, less);
        assert_eq!(refused, Err(Malformed::TooLarge(less)));
        // Not as soon as it could be known with many records, but before more than the limit was kept.
        assert!(end <= less);
        assert_eq!(Reader::default().look(&bytes, less), Err(Malformed::TooLarge(less)));
    }
    // The length alone is enough.
    assert_eq!(look(&[22, 3, 1, 0, 200, 1, 0, 0x3f, 0xf8]), Err(Malformed::TooLarge(MAX)));
    assert_eq!(look(&[22, 3, 1, 0, 200, 1, 0, 0x3f, 0xf7]), Ok(First::More));
}

#[test]
fn other_protocols_are_not_tls() {
    for bytes in [
        b"GET / HTTP/1.1\r\n".as_slice(),
        b"SSH-2.0-OpenSSH\r\n",
        b"\x10\x0c\0\x04MQTT",
        // A hello of SSL 2.
        &[0x80, 0x2e, 1, 3, 1],
        // An alert, and a version that TLS never had.
        &[21, 3, 1, 0, 2, 2, 0x28],
        &[22, 2, 0, 0, 5],
        &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f],
    ] {
        assert_eq!(look(bytes), Ok(First::NotTls), "{bytes:?}");
        let told = 1 + usize::from(bytes[0] == HANDSHAKE);
        assert_eq!(dripping(bytes, MAX), (told, Ok(None)));
    }
    for bytes in [b"".as_slice(), &[22], &[22, 3], &[22, 3, 1, 0]] {
        assert_eq!(look(bytes), Ok(First::More));
    }
}

/// An extension that has its length, and a list inside that has another one.
fn list(kind: u16, len: u16, bytes: &[u8]) -> Vec<u8> {
    extension(kind, &[len.to_be_bytes().as_slice(), bytes].concat())
}

#[test]
fn what_is_malformed_has_a_cause() {
    use Malformed::*;
    let body = |body: &[u8]| records(&message(1, body), &[FRAGMENT_MAX]);
    let extended = |extensions: &[Vec<u8>]| in_one_record(extensions);
    let start = [&[3, 3], [7; 32].as_slice()].concat();
    let length = |field, len| Length { field, len };
    let (name, protocols) = ("server_name", "the protocols of ALPN");
    let hello = in_one_record(&modern());
    let interrupted = |header: &[u8]| [&records(&hello[5..], &[100])[..105], header].concat();
    for (bytes, cause) in [
        (interrupted(&[21, 3, 1, 0, 2]), OtherRecord(21)),
        (interrupted(&[22, 2, 1, 0, 2]), RecordVersion(2)),
        (interrupted(&[22, 3, 1, 0, 0]), EmptyRecord),
        (vec![22, 3, 1, 0, 0], EmptyRecord),
        (vec![22, 3, 1, 0x40, 1], RecordTooLong(16385)),
        (records(&message(2, &fixed()), &[FRAGMENT_MAX]), NotAHello(2)),
        (vec![22, 3, 1, 0, 9, 0], NotAHello(0)),
        (body(&[]), Cut("version and random")),
        (body(&start[..33]), Cut("version and random")),
        (body(&start), Cut("the session id")),
        (body(&[&start, [3, 1, 1].as_slice()].concat()), Cut("the session id")),
        (body(&[&start, short(&[0; 33]).as_slice()].concat()), length("a session id", 33)),
        (body(&[&start, [0, 0].as_slice()].concat()), Cut("the cipher suites")),
        (body(&[&start, [0, 0, 0].as_slice()].concat()), length("cipher suites", 0)),
        (body(&[&start, [0, 0, 3, 1, 2, 3].as_slice()].concat()), length("cipher suites", 3)),
        (body(&[&start, [0, 0, 2, 1, 2].as_slice()].concat()), Cut("the compression methods")),
        (body(&[&start, [0, 0, 2, 1, 2, 0].as_slice()].concat()), length("compression methods", 0)),
        (body(&[fixed(), vec![0]].concat()), Cut("the extensions")),
        (body(&[fixed(), vec![0, 5, 0]].concat()), Cut("the extensions")),
        (body(&[fixed(), vec![0, 0, 0]].concat()), Trailing("the extensions")),
        (body(&[fixed(), long(&[0, 7, 0])].concat()), Cut("an extension")),
        (body(&[fixed(), long(&[0, 7, 0, 1])].concat()), Cut("an extension")),
        (extended(&[sni(b"a"), sni(b"a")]), ExtensionTwice(0)),
        (extended(&[extension(0xffff, &[]), sni(b"a"), extension(0xffff, &[1])]), ExtensionTwice(0xffff)),
        (extended(&[extension(0x3f, &[]), extension(0x7f, &[]), extension(0x3f, &[])]), ExtensionTwice(0x3f)),
        // Empty: only a server says that.
        (extended(&[extension(0, &[])]), Cut(name)),
        (extended(&[list(0, 0, &[])]), length(name, 0)),
        (extended(&[list(0, 5, &[0, 0, 1, b'a'])]), Cut(name)),
        (extended(&[list(0, 3, &[0, 0, 1, b'a'])]), Trailing(name)),
        (extended(&[list(0, 4, &[0, 0, 2, b'a'])]), Cut(name)),
        (extended(&[list(0, 1, &[0])]), Cut(name)),
        (extended(&[list(0, 8, &[0, 0, 1, b'a', 0, 0, 1, b'b'])]), NameTwice),
        (extended(&[extension(16, &[])]), Cut(protocols)),
        (extended(&[list(16, 0, &[])]), length(protocols, 0)),
        (extended(&[list(16, 1, &[0])]), length("a protocol", 0)),
        (extended(&[list(16, 2, &[2, b'h'])]), Cut(protocols)),
        (extended(&[list(16, 2, &[1, b'h', 0])]), Trailing(protocols)),
    ] {
        assert_eq!(look(&bytes), Err(cause), "{cause}");
        assert_eq!(dripping(&bytes, MAX).1, Err(cause));
    }
}

#[test]
fn names_of_hosts() {
    let longest = [[b'a'; 63].as_slice(); 4].join(&b'.')[..NAME_MAX].to_vec();
    let dotted = [&longest, b".".as_slice()].concat();
    for (written, name) in [
        (b"EXAMPLE.com".as_slice(), "example.com"),
        (b"example.com.", "example.com"),
        (b"_srv.a-b.xn--p1ai", "_srv.a-b.xn--p1ai"),
        (b"localhost", "localhost"),
        (b"10.0.0.1.example", "10.0.0.1.example"),
        (b"10", "10"),
        (&longest, str::from_utf8(&longest).unwrap()),
        (&dotted, str::from_utf8(&longest).unwrap()),
    ] {
        assert_eq!(ServerName::new(written).unwrap().as_str(), name);
        assert_eq!(whole(&in_one_record(&[sni(written)])).0.as_deref(), Some(name));
    }
    let long_label = [b'b'; 64];
    for (written, why) in [
        (b"".as_slice(), BadName::Empty),
        (b".", BadName::Empty),
        (b"a..b", BadName::Label(0)),
        (b".a", BadName::Label(0)),
        (b"a..", BadName::Label(0)),
        (&long_label, BadName::Label(64)),
        (&[b'a'; 254], BadName::Long(254)),
        (&[b'a'; 255], BadName::Long(255)),
        (&[b'a'; 4000], BadName::Long(4000)),
        (b"a b", BadName::Byte(b' ')),
        (b"*.example.com", BadName::Byte(b'*')),
        (b"a\0", BadName::Byte(0)),
        ("bücher.example".as_bytes(), BadName::Byte(0xc3)),
        (b"192.0.2.1", BadName::Address),
        (b"192.0.2.1.", BadName::Address),
        (b"2001:db8::1", BadName::Byte(b':')),
        (b"a:443", BadName::Byte(b':')),
    ] {
        assert_eq!(ServerName::new(written), Err(why), "{}", written.escape_ascii());
        let bytes = in_one_record(&[sni(written)]);
        if written.is_empty() {
            assert_eq!(look(&bytes), Err(Malformed::Length { field: "the host name", len: 0 }));
        } else {
            // Its client may still be taken by whoever takes those without a name.
            assert_eq!(whole(&bytes).0, None, "{}", written.escape_ascii());
        }
    }
}

#[test]
fn the_alert_is_a_record() {
    let [kind, major, minor, high, low, level, description] = UNRECOGNIZED_NAME;
    assert_eq!((kind, [major, minor], [high, low]), (21, [3, 1], [0, 2]));
    assert_eq!((level, description), (2, 112));
}

#[test]
fn postgres_asks_before_its_hello() {
    let ssl = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    let gss = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
    for (request, answer) in [(ssl, Step::AnswerYes), (gss, Step::AnswerNo)] {
        let mut requests = Requests::default();
        for end in 0..REQUEST_LEN {
            assert_eq!(requests.look(&request[..end]), Ok(Step::More));
        }
        assert_eq!(requests.look(&request), Ok(answer));
        let early = [request.as_slice(), &[22]].concat();
        assert_eq!(Requests::default().look(&early), Err(Malformed::BeforeAnswer));
    }
    // Kerberos, then TLS; Kerberos once only.
    let mut requests = Requests::default();
    assert_eq!(requests.look(&gss), Ok(Step::AnswerNo));
    assert_eq!(requests.look(&gss), Ok(Step::NoRequest));
    assert_eq!(requests.look(&ssl), Ok(Step::AnswerYes));
    // A hello at once; a start in the clear; a request to cancel.
    for bytes in [
        [22, 3, 1, 0, 200, 1, 0, 0].as_slice(),
        &[0, 0, 0, 84, 0, 3, 0, 0],
        &[0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e],
        &[22],
    ] {
        assert_eq!(Requests::default().look(bytes), Ok(Step::NoRequest), "{bytes:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// However a hello is cut into records and segments, it tells the same.
    #[test]
    fn records_and_segments_change_nothing(
        sizes in prop::collection::vec(1_usize..600, 1..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let bytes = records(&with(&modern()), &sizes);
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        ends.sort_unstable();
        let mut reader = Reader::default();
        for end in ends {
            prop_assert_eq!(reader.look(&bytes[..end], MAX), Ok(First::More));
        }
        match reader.look(&bytes, MAX) {
            Ok(First::Hello(hello)) => prop_assert_eq!(told(hello), modern_told()),
            other => prop_assert!(false, "{other:?}"),
        }
    }

    /// A byte that is another one is a hello, an error or something else, never a panic; and what bytes say does not
    /// depend on how they arrive.
    #[test]
    fn damage_is_judged_the_same_however_it_arrives(
        sizes in prop::collection::vec(1_usize..600, 1..8),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        max in 512_usize..4096,
    ) {
        let mut bytes = records(&with(&modern()), &sizes);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let mut reader = Reader::default();
        let mut dripped = Ok(First::More);
        for end in 0..=bytes.len() {
            dripped = reader.look(&bytes[..end], max);
            if dripped != Ok(First::More) {
                break;
            }
        }
        prop_assert_eq!(Reader::default().look(&bytes, max), dripped);
    }
}
