//! Bytes from the network as a TLS hello: what must hold whatever they are.

use tidegate::client_hello::postgres::{REQUEST_LEN, Requests, Step};
use tidegate::client_hello::{ClientHello, First, Malformed, Reader, ServerName};

/// As `max_client_hello` is by default.
const MAX: usize = 16 << 10;

/// Reads `bytes` as they may arrive, piece by piece, behind PostgreSQL's requests if there are any; says whether a hello
/// came of them.
///
/// # Panics
/// When an answer depends on how bytes arrive, or on how the hello is cut into records.
pub(crate) fn check(bytes: &[u8]) -> bool {
    let bytes = behind_requests(bytes);
    let at_once = Reader::default().look(bytes, MAX);
    let mut reader = Reader::default();
    let mut dripped = Ok(First::More);
    for end in 0..=bytes.len() {
        dripped = reader.look(&bytes[..end], MAX);
        if dripped != Ok(First::More) {
            break;
        }
    }
    assert_eq!(dripped, at_once);
    assert!(at_once != Ok(First::More) || bytes.len() < MAX, "more than the limit is waited for");
    let Ok(First::Hello(hello)) = at_once else { return false };
    if let Some(name) = hello.server_name {
        assert_eq!(ServerName::new(name.as_str().as_bytes()), Ok(name));
    }
    assert!(hello.alpn.take(64).all(|protocol| hello.alpn.offers(protocol.copy_to(&mut [0; 255]))));
    cut_again(bytes, hello);
    true
}

/// The hello in one record after another of few bytes, and in one record.
fn cut_again(bytes: &[u8], hello: ClientHello<'_>) {
    let mut rest = bytes;
    let mut message = Vec::new();
    while let Some((&[22, 3, _, high, low], after)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes([high, low])).min(after.len());
        message.extend_from_slice(&after[..len]);
        rest = &after[len..];
    }
    let len = 4 + message[1..4].iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
    for size in [1, 3, 1 << 14] {
        let records: Vec<u8> = message[..len]
            .chunks(size)
            .flat_map(|fragment| {
                let [high, low] = u16::try_from(fragment.len()).expect("it is at most 16 KiB").to_be_bytes();
                [&[22, 3, 1, high, low], fragment].concat()
            })
            .collect();
        assert_eq!(Reader::default().look(&records, 1 << 20), Ok(First::Hello(hello)));
    }
}

/// What stands behind requests for TLS, once each is answered.
fn behind_requests(bytes: &[u8]) -> &[u8] {
    let mut requests = Requests::default();
    let mut rest = bytes;
    loop {
        let first = &rest[..rest.len().min(REQUEST_LEN)];
        let step = requests.look(first);
        match step {
            Ok(Step::More | Step::NoRequest) => return rest,
            Ok(Step::AnswerYes | Step::AnswerNo) => rest = &rest[REQUEST_LEN..],
            Err(malformed) => panic!("{malformed} in {REQUEST_LEN} bytes"),
        }
        if let Some(next) = rest.first() {
            let early = [first, &[*next]].concat();
            assert_eq!(Requests::default().look(&early), Err(Malformed::BeforeAnswer));
        }
        if step == Ok(Step::AnswerYes) {
            return rest;
        }
    }
}
