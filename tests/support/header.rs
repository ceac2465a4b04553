//! Bytes from the network as a header of the PROXY protocol: what must hold whatever they are.

use tidegate::proxy_header::{Addresses, Command, Header, LEN_MAX, Told, Version, Versions, decode, encode};

/// Reads `bytes` as they may arrive, piece by piece; says whether they begin with a header.
///
/// # Panics
/// When an answer changes once it is given, or a header that is written again says something else.
pub(crate) fn check(bytes: &[u8]) -> bool {
    let mut answer = None;
    for end in 0..=bytes.len().min(LEN_MAX + 1) {
        let now = decode(&bytes[..end], Versions::ALL).transpose();
        match (&answer, &now) {
            (None, _) => answer = now,
            (Some(Ok(before)), Some(Ok(now))) => assert_eq!(before, now),
            (Some(Err(_)), Some(Err(_))) => {}
            (before, now) => panic!("{before:?} became {now:?} with {end} bytes"),
        }
    }
    let Some(Ok(header)) = answer else { return false };
    assert!(header.len <= bytes.len() && header.len <= LEN_MAX);
    for version in Version::BOTH {
        write_again(&header, version);
    }
    true
}

fn write_again(header: &Header<'_>, version: Version) {
    let tlvs = header.tlvs;
    let told = Told {
        addresses: header.addresses,
        authority: tlvs.authority(),
        alpn: tlvs.alpn(),
        unique_id: tlvs.unique_id(),
        crc32c: true,
    };
    let written = encode(version, told);
    let read = decode(written.as_bytes(), Versions::ALL).expect("ours are right").expect("ours are whole");
    assert_eq!(read.len, written.as_bytes().len());
    if version == Version::V2 {
        assert_eq!(read.command == Command::Proxy, header.addresses != Addresses::Unknown);
        assert_eq!(read.addresses, header.addresses);
        assert_eq!(read.tlvs.unique_id(), tlvs.unique_id().filter(|_| read.command == Command::Proxy));
    } else {
        assert_eq!(read.addresses.ends(), header.addresses.ends());
    }
}
