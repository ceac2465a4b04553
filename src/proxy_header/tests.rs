use proptest::prelude::*;

use super::*;

const V1: Versions = Versions { v1: true, v2: false };
const V2: Versions = Versions { v1: false, v2: true };

fn whole(bytes: &[u8]) -> Header<'_> {
    decode(bytes, Versions::ALL).expect("it is right").expect("it is whole")
}

/// Version 2, by its 13th and 14th byte and what follows the length.
fn binary(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[version_and_command, family], &len, rest].concat()
}

/// 192.0.2.1:4660 to 198.51.100.2:443.
const INET: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 0x01, 0xbb];

fn inet(tlvs: &[u8]) -> Vec<u8> {
    binary(0x21, 0x11, &[&INET, tlvs].concat())
}

fn v4(source: &str, destination: &str) -> Addresses<'static> {
    Addresses::V4 { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

fn v6(source: &str, destination: &str) -> Addresses<'static> {
    Addresses::V6 { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

#[test]
fn the_specifications_examples_of_version_1() {
    let request = "GET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n";
    let all = format!("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n{request}");
    let header = whole(all.as_bytes());
    assert_eq!(&all[header.len..], request);
    assert_eq!(header.addresses, v4("192.168.0.1:56324", "192.168.0.11:443"));

    // The longest lines of each kind, with the lengths that 2.1 gives.
    let long = ["ffff"; 8].join(":");
    let widest = "255.255.255.255";
    for (line, len, addresses) in [
        (
            format!("PROXY TCP4 {widest} {widest} 65535 65535\r\n"),
            56,
            v4("255.255.255.255:65535", "255.255.255.255:65535"),
        ),
        (
            format!("PROXY TCP6 {long} {long} 65535 65535\r\n"),
            104,
            v6(&format!("[{long}]:65535"), &format!("[{long}]:65535")),
        ),
        ("PROXY UNKNOWN\r\n".to_string(), 15, Addresses::Unknown),
        (format!("PROXY UNKNOWN {long} {long} 65535 65535\r\n"), 107, Addresses::Unknown),
    ] {
        let header = whole(line.as_bytes());
        assert_eq!((header.len, header.addresses), (len, addresses), "{line}");
        assert_eq!((header.version, header.command), (Version::V1, Command::Proxy));
        assert_eq!(line.len(), len);
    }
}

#[test]
fn version_1_as_others_write_it() {
    for (line, addresses) in [
        // Whatever follows UNKNOWN is ignored, a CR or LF as well, as far as CRLF.
        ("PROXY UNKNOWN anything \r at \n all\r\n", Addresses::Unknown),
        ("PROXY UNKNOWN \r\n", Addresses::Unknown),
        ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", v4("0.0.0.0:0", "0.0.0.0:0")),
        ("PROXY TCP6 ::1 2001:DB8::A 1 2\r\n", v6("[::1]:1", "[2001:db8::a]:2")),
        ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", v6("[::ffff:192.0.2.1]:1", "[::1]:2")),
    ] {
        assert_eq!(whole(line.as_bytes()).addresses, addresses, "{line:?}");
    }
}

#[test]
fn version_2_by_hand() {
    let mut source = [0; 108];
    source[..9].copy_from_slice(b"/run/sock");
    let destination = [0; 108];
    let unix = [source, destination].concat();
    let udp = v4("192.0.2.1:4660", "198.51.100.2:443");
    for (bytes, command, addresses) in [
        (inet(&[]), Command::Proxy, udp),
        // Valid, but not a stream's.
        (binary(0x21, 0x12, &INET), Command::Proxy, Addresses::Unknown),
        (
            binary(0x21, 0x31, &unix),
            Command::Proxy,
            Addresses::Unix { source: &source, destination: &destination },
        ),
        (binary(0x21, 0x32, &unix), Command::Proxy, Addresses::Unknown),
        // Not specified: bytes that are no TLVs are passed over.
        (binary(0x21, 0x00, &[]), Command::Proxy, Addresses::Unknown),
        (binary(0x21, 0x00, &[9; 40]), Command::Proxy, Addresses::Unknown),
        (binary(0x21, 0x10, &[1, 2, 3]), Command::Proxy, Addresses::Unknown),
        (binary(0x21, 0x01, &[]), Command::Proxy, Addresses::Unknown),
        // Of LOCAL nothing counts but the length: not the family, not the body.
        (binary(0x20, 0x00, &[]), Command::Local, Addresses::Unknown),
        (binary(0x20, 0x11, &INET), Command::Local, Addresses::Unknown),
        (binary(0x20, 0xff, &[3; 300]), Command::Local, Addresses::Unknown),
    ] {
        let header = whole(&bytes);
        assert_eq!((header.len, header.command, header.addresses), (bytes.len(), command, addresses));
        assert_eq!(header.tlvs, Tlvs::NONE);
    }
    let longest = binary(0x21, 0x11, &[INET.as_slice(), &[4, 0x0f, 0xe1], &[0; 4065]].concat());
    assert_eq!(longest.len(), LEN_MAX);
    assert_eq!(whole(&longest).len, LEN_MAX);
}

#[test]
fn tlvs_are_told() {
    let tlvs: &[&[u8]] = &[
        &[4, 0, 2, 9, 9],
        &[2, 0, 11],
        b"example.com",
        &[1, 0, 2],
        b"h2",
        // SSL, a custom type, and one that nobody has: passed over.
        &[0x20, 0, 5, 1, 0, 0, 0, 0],
        &[0xea, 0, 1, 7],
        &[0xea, 0, 0],
        &[0xea, 0, 8, 1],
        b"vpce-0a",
        &[0x77, 0, 0],
        &[5, 0, 3],
        b"abc",
        &[2, 0, 1],
        b"x",
    ];
    let bytes = inet(&tlvs.concat());
    let tlvs = whole(&bytes).tlvs;
    assert_eq!(tlvs.authority(), Some(b"example.com".as_slice()));
    assert_eq!(tlvs.alpn(), Some(b"h2".as_slice()));
    assert_eq!(tlvs.unique_id(), Some(b"abc".as_slice()));
    assert_eq!(tlvs.vpce_id(), Some(b"vpce-0a".as_slice()), "others of AWS are passed over");
    assert_eq!(tlvs.get(0xea), Some([7].as_slice()));
    assert_eq!(tlvs.get(0x30), None);
    assert_eq!(tlvs.map(|tlv| tlv.kind).collect::<Vec<_>>(), [4, 2, 1, 0x20, 0xea, 0xea, 0xea, 0x77, 5, 2]);

    // A sender that knows no address has TLVs all the same.
    let bytes = binary(0x21, 0x00, &[5, 0, 1, 65]);
    assert_eq!(whole(&bytes).tlvs.unique_id(), Some(b"A".as_slice()));
}

#[test]
fn a_checksum_holds_wherever_it_stands() {
    // RFC 3720, B.4: of 32 bytes of zeros.
    assert_eq!(v2::checksum(&[0; 32], 28), 0x8a91_36aa);
    for (before, after) in [(0, 0), (5, 0), (0, 9), (300, 300)] {
        let noop = |len: u16| [[4].as_slice(), &len.to_be_bytes(), &vec![1; usize::from(len)]].concat();
        let mut bytes = inet(&[noop(before), vec![3, 0, 4, 0, 0, 0, 0], noop(after)].concat());
        let at = 28 + 3 + usize::from(before) + 3;
        let sum = v2::checksum(&bytes, at);
        bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
        whole(&bytes);
        // No byte may be another: not all are read, but all are summed. Only its own type takes a checksum away.
        for changed in (16..bytes.len()).filter(|byte| *byte != at - 3) {
            bytes[changed] ^= 0x10;
            assert!(decode(&bytes, V2).is_err(), "byte {changed}");
            bytes[changed] ^= 0x10;
        }
    }
}

#[test]
fn malformed_headers_are_refused_each_with_its_cause() {
    let long = "x".repeat(107);
    let text = |text: &str| text.as_bytes().to_vec();
    let cases = [
        (text("GET / HTTP/1.1\r\n\r\n"), Malformed::NoHeader),
        (text("proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n"), Malformed::NoHeader),
        (text("\r\n\r\n\0\r\nQUIX\n"), Malformed::NoHeader),
        (text("\x16\x03\x01"), Malformed::NoHeader),
        (text(&format!("PROXY UNKNOWN {long}")), Malformed::LineTooLong),
        (text("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n"), Malformed::LineEnd),
        (text("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r "), Malformed::LineEnd),
        (text("PROXY UNKNOWN\n"), Malformed::LineEnd),
        (text("PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n"), Malformed::Protocol),
        (text("PROXY UNKNOWNS\r\n"), Malformed::Protocol),
        (text("PROXY \r\n"), Malformed::Protocol),
        (text("PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n"), Malformed::Protocol),
        (text("PROXY TCP4\r\n"), Malformed::Fields),
        (text("PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n"), Malformed::Fields),
        (text("PROXY TCP4 1.1.1.1  2.2.2.2 1 2\r\n"), Malformed::Fields),
        (text("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n"), Malformed::Fields),
        (text("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n"), Malformed::Fields),
        (text("PROXY TCP4 192.0.2.999 2.2.2.2 1 2\r\n"), Malformed::SourceAddress),
        (text("PROXY TCP4 192.0.2.01 2.2.2.2 1 2\r\n"), Malformed::SourceAddress),
        (text("PROXY TCP4 ::1 ::1 1 2\r\n"), Malformed::SourceAddress),
        (text("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n"), Malformed::SourceAddress),
        (text("PROXY TCP6 1:2:3 ::1 1 2\r\n"), Malformed::SourceAddress),
        (text("PROXY TCP4 1.1.1.1 2.2.2 1 2\r\n"), Malformed::DestinationAddress),
        (text("PROXY TCP6 ::1 2.2.2.2 1 2\r\n"), Malformed::DestinationAddress),
        (text("PROXY TCP4 1.1.1.1 2.2.2.2 70000 2\r\n"), Malformed::SourcePort),
        (text("PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n"), Malformed::SourcePort),
        (text("PROXY TCP4 1.1.1.1 2.2.2.2 080 2\r\n"), Malformed::SourcePort),
        (text("PROXY TCP4 1.1.1.1 2.2.2.2 1 00\r\n"), Malformed::DestinationPort),
        (text("PROXY TCP4 1.1.1.1 2.2.2.2 1 -1\r\n"), Malformed::DestinationPort),
        (binary(0x11, 0x11, &INET), Malformed::WrongVersion(1)),
        (binary(0x22, 0x11, &INET), Malformed::UnknownCommand(2)),
        (binary(0x21, 0x41, &INET), Malformed::UnknownFamily(4)),
        (binary(0x21, 0x13, &INET), Malformed::UnknownTransport(3)),
        (binary(0x21, 0x11, &[0; 4081]), Malformed::TooLong(4097)),
        (binary(0x20, 0x00, &[0; 4081]), Malformed::TooLong(4097)),
        (binary(0x21, 0x11, &INET[..11]), Malformed::AddressesCut { have: 11, need: 12 }),
        (binary(0x21, 0x21, &[0; 35]), Malformed::AddressesCut { have: 35, need: 36 }),
        (binary(0x21, 0x31, &[0; 215]), Malformed::AddressesCut { have: 215, need: 216 }),
        (inet(&[2, 0, 4, 1, 2, 3]), Malformed::TlvCut(2)),
        (inet(&[4, 0, 0, 9, 0]), Malformed::TlvCut(9)),
        (inet(&[3, 0, 3, 1, 2, 3]), Malformed::ChecksumLength(3)),
        (inet(&[3, 0, 4, 1, 2, 3, 4]), Malformed::ChecksumWrong),
        (binary(0x21, 0x00, &[3, 0, 4, 1, 2, 3, 4]), Malformed::ChecksumWrong),
        (inet(&[3, 0, 4, 1, 2, 3, 4, 3, 0, 4, 1, 2, 3, 4]), Malformed::ChecksumTwice),
        (inet(&[&[5, 0, 129], [0; 129].as_slice()].concat()), Malformed::UniqueIdTooLong(129)),
    ];
    let mut texts = std::collections::BTreeSet::new();
    for (bytes, expected) in cases {
        let shown = bytes.escape_ascii().to_string();
        let found = decode(&bytes, Versions::ALL);
        assert_eq!(found, Err(expected), "{shown}");
        texts.insert(expected.to_string());
        // What is wrong stays wrong, and is never taken for right while it arrives.
        for cut in 0..bytes.len() {
            assert!(!matches!(decode(&bytes[..cut], Versions::ALL), Ok(Some(_))), "{shown} cut at {cut}");
        }
    }
    assert_eq!(texts.len(), 23, "{texts:#?}");
}

#[test]
fn wrong_headers_are_known_early() {
    for (bytes, expected) in [
        (b"G".as_slice(), Malformed::NoHeader),
        (b"\r\n\r\nG", Malformed::NoHeader),
        (b"PROXYX", Malformed::NoHeader),
        (b"\r\n\r\n\0\r\nQUIT\n\x31", Malformed::WrongVersion(3)),
        (b"\r\n\r\n\0\r\nQUIT\n\x2f", Malformed::UnknownCommand(15)),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x51", Malformed::UnknownFamily(5)),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", Malformed::TooLong(65_551)),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\0", Malformed::AddressesCut { have: 0, need: 12 }),
    ] {
        assert_eq!(decode(bytes, Versions::ALL), Err(expected));
    }
}

#[test]
fn only_versions_that_are_allowed() {
    let (line, bytes) = (b"PROXY UNKNOWN\r\n".as_slice(), inet(&[]));
    assert!(matches!(decode(line, V1), Ok(Some(_))));
    assert!(matches!(decode(&bytes, V2), Ok(Some(_))));
    for (bytes, allowed, version) in [(line, V2, Version::V1), (&bytes, V1, Version::V2)] {
        let refused = Malformed::VersionNotAllowed(version);
        assert_eq!(decode(bytes, allowed), Err(refused));
        assert_eq!(decode(&bytes[..3], allowed), Ok(None));
        let text = format!("the header is of version {}, which `versions` does not allow", version.number());
        assert_eq!(refused.to_string(), text);
    }
}

#[test]
fn addresses_of_two_kinds_become_one() {
    for (source, destination, expected) in [
        ("192.0.2.1:1", "192.0.2.2:2", v4("192.0.2.1:1", "192.0.2.2:2")),
        ("[::ffff:192.0.2.1]:1", "192.0.2.2:2", v4("192.0.2.1:1", "192.0.2.2:2")),
        ("[fe80::1%3]:1", "[::1]:2", v6("[fe80::1]:1", "[::1]:2")),
        ("192.0.2.1:1", "[::1]:2", v6("[::ffff:192.0.2.1]:1", "[::1]:2")),
    ] {
        let addresses = Addresses::between(source.parse().unwrap(), destination.parse().unwrap());
        assert_eq!(addresses, expected, "{source} {destination}");
    }
}

#[test]
fn what_does_not_fit_is_left_out_and_the_header_stays_right() {
    let long = [b'a'; 400];
    let told = Told {
        addresses: v6("[::1]:1", "[::2]:2"),
        authority: Some(&long),
        alpn: Some(&long),
        unique_id: Some(&long),
        crc32c: true,
    };
    let encoded = encode(Version::V2, told);
    let tlvs = whole(encoded.as_bytes()).tlvs;
    assert_eq!(tlvs.unique_id(), Some(&long[..128]));
    assert_eq!((tlvs.authority(), tlvs.alpn()), (None, None), "{} bytes", encoded.as_bytes().len());
    let alpn = encode(Version::V2, Told { unique_id: None, ..told });
    assert_eq!(whole(alpn.as_bytes()).tlvs.authority(), Some(long.as_slice()));
}

fn addresses() -> impl Strategy<Value = Addresses<'static>> {
    let v4 = any::<(SocketAddrV4, SocketAddrV4)>();
    let v6 = any::<([u16; 8], u16, [u16; 8], u16)>();
    prop_oneof![
        Just(Addresses::Unknown),
        v4.prop_map(|(source, destination)| Addresses::V4 { source, destination }),
        v6.prop_map(|(source, source_port, destination, destination_port)| Addresses::V6 {
            source: SocketAddrV6::new(source.into(), source_port, 0, 0),
            destination: SocketAddrV6::new(destination.into(), destination_port, 0, 0),
        }),
        Just(Addresses::Unix { source: &[b's'; 108], destination: &[b'd'; 108] }),
    ]
}

fn value(max: usize) -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..=max))
}

proptest! {
    /// What is written is what is read, whatever follows; and no part of it is ever taken for a header.
    #[test]
    fn written_and_read(
        is_v2: bool, addresses in addresses(),
        (authority, alpn, unique_id) in (value(60), value(30), value(128)), crc32c: bool,
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let version = if is_v2 { Version::V2 } else { Version::V1 };
        let told = Told {
            addresses,
            authority: authority.as_deref(),
            alpn: alpn.as_deref(),
            unique_id: unique_id.as_deref(),
            crc32c,
        };
        let encoded = encode(version, told);
        let len = encoded.as_bytes().len();
        let all = [encoded.as_bytes(), &payload].concat();
        for cut in 0..len {
            prop_assert_eq!(decode(&all[..cut], Versions::ALL), Ok(None));
        }
        for end in len..all.len() {
            prop_assert_eq!(decode(&all[..end], Versions::ALL).map(|header| header.map(|header| header.len)), Ok(Some(len)));
        }
        let header = whole(&all);
        prop_assert_eq!(header.version, version);
        let is_told = is_v2 && addresses != Addresses::Unknown;
        let tell = |value: Option<&[u8]>| value.filter(|_| is_told).map(<[u8]>::to_vec);
        prop_assert_eq!(header.command, if is_told || !is_v2 { Command::Proxy } else { Command::Local });
        prop_assert_eq!(tell(header.tlvs.authority()), authority.filter(|_| is_told));
        prop_assert_eq!(tell(header.tlvs.alpn()), alpn.filter(|_| is_told));
        prop_assert_eq!(tell(header.tlvs.unique_id()), unique_id.filter(|_| is_told));
        prop_assert_eq!(header.tlvs.get(3).is_some(), crc32c && is_told);
        let has_address = is_v2 || addresses.ends().is_some();
        prop_assert_eq!(header.addresses, if has_address { addresses } else { Addresses::Unknown });
    }

    /// Bytes from the network never panic, and a header is never longer than what is there.
    #[test]
    fn anything_may_come(
        start in prop::sample::select(vec![b"".as_slice(), b"PROXY TCP4 ", b"PROXY TCP6 ", v2::SIGNATURE]),
        command in 0x1f_u8..0x23, family in 0_u8..0x34, rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut bytes = [start, &[command, family], &rest].concat();
        if bytes.len() > 16 && start == v2::SIGNATURE {
            bytes[14] &= 1;
        }
        if let Ok(Some(header)) = decode(&bytes, Versions::ALL) {
            prop_assert!(header.len <= bytes.len() && header.len <= LEN_MAX);
        }
    }
}
