//! What a TLS client says first: whom it wants to reach (`server_name`), and in which protocols (ALPN). Pure: no socket,
//! no clock, no allocation. Nothing is decrypted: the hello is in the clear, and every byte of it is passed on.
//!
//! Sources: [RFC 8446](https://www.rfc-editor.org/rfc/rfc8446), 4.1.2 and 5.1, whose hello older versions share;
//! [RFC 6066](https://www.rfc-editor.org/rfc/rfc6066), 3; [RFC 7301](https://www.rfc-editor.org/rfc/rfc7301), 3.1. With
//! an encrypted hello inside (ECH) the name is the outer one.
//!
//! A [`Reader`] is given what has arrived so far, from the first byte, as often as more arrives. It remembers which
//! records it has passed, so a hello that drips, or comes in records of one byte, costs each byte once.

mod cursor;
mod name;
pub mod postgres;
#[cfg(test)]
pub(crate) mod tests;

use cursor::{Cursor, RECORD_HEADER};
pub use name::{BadName, NAME_MAX, ServerName};

/// A fatal alert `unrecognized_name` in a record of its own: RFC 6066, 3, and RFC 8446, 6.2.
pub const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 1, 0, 2, 2, 112];

/// The longest fragment of a record, in bytes: RFC 8446, 5.1.
const FRAGMENT_MAX: usize = 1 << 14;
/// A record's type for handshake messages.
const HANDSHAKE: u8 = 22;
/// A handshake message's type for a client's hello.
const CLIENT_HELLO: usize = 1;
/// Before the hello's body: its type, and its length in three bytes.
const MESSAGE_HEADER: usize = 4;
/// Types of extensions that mean something here.
const SERVER_NAME: usize = 0;
const ALPN: usize = 16;
/// The type of a name in `server_name` that is a host's; there is no other one yet.
const HOST_NAME: usize = 0;

/// What the first bytes of a connection are.
#[expect(
    clippy::large_enum_variant,
    reason = "a box would be an allocation; it lives on the stack, and not for long"
)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum First<'a> {
    /// That cannot be told yet.
    More,
    /// The first two bytes are not those of a TLS record with a handshake.
    NotTls,
    /// A whole hello.
    Hello(ClientHello<'a>),
}

/// What a hello tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClientHello<'a> {
    /// The host that the client wants to reach; `None` also where it names something that is no host's name, such as an
    /// address, which RFC 6066, 3 forbids and some clients send.
    pub server_name: Option<ServerName>,
    /// Protocols that it offers.
    pub alpn: Alpn<'a>,
}

/// What is wrong with a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// More bytes than are taken, with the headers of its records.
    #[error("the hello has more than {0} bytes")]
    TooLarge(usize),
    /// RFC 8446, 5.1: no other record may stand between those of a message.
    #[error("a record of type {0} in the middle of the hello")]
    OtherRecord(u8),
    /// RFC 8446, 5.1: 3 in every version of TLS.
    #[error("a record of version {0}.x in the middle of the hello")]
    RecordVersion(u8),
    /// RFC 8446, 5.1: forbidden for handshakes.
    #[error("a record of the hello is empty")]
    EmptyRecord,
    /// RFC 8446, 5.1: more than 16,384 bytes.
    #[error("a record of {0} bytes; {FRAGMENT_MAX} at most are allowed")]
    RecordTooLong(usize),
    /// Another handshake message.
    #[error("the first message is of type {0}, not a client's hello")]
    NotAHello(usize),
    /// A field goes on behind the end of what it is in.
    #[error("the hello ends inside of {0}")]
    Cut(&'static str),
    /// RFC 8446, 4.1.2: a length that its field cannot have.
    #[error("{field} of {len} bytes")]
    Length {
        /// Whose.
        field: &'static str,
        /// In bytes.
        len: usize,
    },
    /// RFC 8446, 4.1.2: bytes behind what should end there.
    #[error("bytes behind the end of {0}")]
    Trailing(&'static str),
    /// RFC 8446, 4.2: none may be there twice.
    #[error("the extension {0} is there twice")]
    ExtensionTwice(usize),
    /// RFC 6066, 3: one name of each type.
    #[error("more than one host name")]
    NameTwice,
    /// A client that does not wait for an answer to its request: its bytes could be somebody else's.
    #[error("bytes behind a PostgreSQL request, before its answer")]
    BeforeAnswer,
}

/// Reads a hello as it arrives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reader {
    /// Where the first record begins that is not passed yet.
    next: usize,
    /// Bytes of the message in the records before it.
    passed: usize,
}

impl Reader {
    /// Looks at all `bytes` so far, of which a hello may take `max` at most. What was there at the last look must be there
    /// still.
    ///
    /// # Errors
    /// [`Malformed`], as soon as no more bytes could make it right; then nothing is left to look for.
    pub fn look<'a>(&mut self, bytes: &'a [u8], max: usize) -> Result<First<'a>, Malformed> {
        let bytes = &bytes[..bytes.len().min(max)];
        if bytes.first().is_some_and(|kind| *kind != HANDSHAKE)
            || bytes.get(1).is_some_and(|major| *major != 3)
        {
            return Ok(First::NotTls);
        }
        while let Some(header) = bytes.get(self.next..).and_then(|rest| rest.first_chunk()) {
            let record_len = fragment_len(*header)?;
            let arrived = (bytes.len() - self.next - RECORD_HEADER).min(record_len);
            if let Some(message) = message(bytes, self.passed + arrived, max)? {
                return parse(message).map(First::Hello);
            }
            if arrived < record_len {
                break;
            }
            self.next += RECORD_HEADER + record_len;
            self.passed += record_len;
        }
        if bytes.len() == max { Err(Malformed::TooLarge(max)) } else { Ok(First::More) }
    }
}

/// How many bytes follow a record's header.
fn fragment_len([kind, major, _, high, low]: [u8; RECORD_HEADER]) -> Result<usize, Malformed> {
    match (kind, major, usize::from(u16::from_be_bytes([high, low]))) {
        (HANDSHAKE, 3, 0) => Err(Malformed::EmptyRecord),
        (HANDSHAKE, 3, len) if len <= FRAGMENT_MAX => Ok(len),
        (HANDSHAKE, 3, len) => Err(Malformed::RecordTooLong(len)),
        (HANDSHAKE, major, _) => Err(Malformed::RecordVersion(major)),
        (kind, ..) => Err(Malformed::OtherRecord(kind)),
    }
}

/// The hello's body, if all of it is among the `have` bytes of messages that the records hold.
fn message(records: &[u8], have: usize, max: usize) -> Result<Option<Cursor<'_>>, Malformed> {
    let mut all = Cursor::new(records, have);
    let Some(kind) = all.number::<1>() else { return Ok(None) };
    if kind != CLIENT_HELLO {
        return Err(Malformed::NotAHello(kind));
    }
    let Some(len) = all.number::<3>() else { return Ok(None) };
    if RECORD_HEADER + MESSAGE_HEADER + len > max {
        return Err(Malformed::TooLarge(max));
    }
    Ok(all.take(len))
}

fn parse(mut body: Cursor<'_>) -> Result<ClientHello<'_>, Malformed> {
    body.take(2 + 32).ok_or(Malformed::Cut("version and random"))?;
    let session = body.vector::<1>().ok_or(Malformed::Cut("the session id"))?;
    bounded("a session id", session, |len| len <= 32)?;
    let suites = body.vector::<2>().ok_or(Malformed::Cut("the cipher suites"))?;
    bounded("cipher suites", suites, |len| len >= 2 && len % 2 == 0)?;
    let methods = body.vector::<1>().ok_or(Malformed::Cut("the compression methods"))?;
    bounded("compression methods", methods, |len| len >= 1)?;
    let mut hello = ClientHello { server_name: None, alpn: Alpn(body.end()) };
    if body.is_empty() {
        // TLS 1.2 and older know hellos without extensions: RFC 5246, 7.4.1.2.
        return Ok(hello);
    }
    let mut extensions = body.vector::<2>().ok_or(Malformed::Cut("the extensions"))?;
    if !body.is_empty() {
        return Err(Malformed::Trailing("the extensions"));
    }
    // One bit for each type there can be: a hello of 16 KiB has room for 4,000 of them.
    let mut seen = [0_u64; (1 << 16) / 64];
    while !extensions.is_empty() {
        let kind = extensions.number::<2>().ok_or(Malformed::Cut("an extension"))?;
        let data = extensions.vector::<2>().ok_or(Malformed::Cut("an extension"))?;
        let (word, bit) = (&mut seen[kind / 64], 1 << (kind % 64));
        if *word & bit != 0 {
            return Err(Malformed::ExtensionTwice(kind));
        }
        *word |= bit;
        match kind {
            SERVER_NAME => hello.server_name = server_name(data)?,
            ALPN => hello.alpn = Alpn(protocols(data)?),
            _ => {}
        }
    }
    Ok(hello)
}

fn bounded(field: &'static str, bytes: Cursor<'_>, fits: impl Fn(usize) -> bool) -> Result<(), Malformed> {
    if fits(bytes.len()) { Ok(()) } else { Err(Malformed::Length { field, len: bytes.len() }) }
}

/// The one list that an extension is.
fn only_list<'a>(mut data: Cursor<'a>, field: &'static str) -> Result<Cursor<'a>, Malformed> {
    let list = data.vector::<2>().ok_or(Malformed::Cut(field))?;
    if !data.is_empty() {
        return Err(Malformed::Trailing(field));
    }
    bounded(field, list, |len| len > 0)?;
    Ok(list)
}

/// RFC 6066, 3. A type that is not known yet begins with a length as well, so it can be passed over.
fn server_name(data: Cursor<'_>) -> Result<Option<ServerName>, Malformed> {
    let field = "server_name";
    let mut list = only_list(data, field)?;
    let mut name = None;
    while !list.is_empty() {
        let kind = list.number::<1>().ok_or(Malformed::Cut(field))?;
        let value = list.vector::<2>().ok_or(Malformed::Cut(field))?;
        if kind != HOST_NAME {
            continue;
        }
        bounded("the host name", value, |len| len > 0)?;
        // With the dot at its end that none should have.
        let mut bytes = [0; NAME_MAX + 1];
        let read = value.copy_to(&mut bytes).and_then(|read| ServerName::new(read).ok());
        if name.replace(read).is_some() {
            return Err(Malformed::NameTwice);
        }
    }
    Ok(name.flatten())
}

/// RFC 7301, 3.1: names of 1 to 255 bytes.
fn protocols(data: Cursor<'_>) -> Result<Cursor<'_>, Malformed> {
    let field = "the protocols of ALPN";
    let list = only_list(data, field)?;
    let mut rest = list;
    while !rest.is_empty() {
        let name = rest.vector::<1>().ok_or(Malformed::Cut(field))?;
        bounded("a protocol", name, |len| len > 0)?;
    }
    Ok(list)
}

/// The protocols that a client offers, the one that it likes best first; each is whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alpn<'a>(Cursor<'a>);

/// Protocols as [`Alpn::of`] reads them; those that no hello can have are left out.
#[must_use]
pub fn protocol_list<'n>(names: impl IntoIterator<Item = &'n str>) -> Vec<u8> {
    let mut record = vec![HANDSHAKE, 3, 1, 0, 0];
    for name in names {
        let fits = record.len() + name.len() < FRAGMENT_MAX;
        if let (Ok(len @ 1..), true) = (u8::try_from(name.len()), fits) {
            record.push(len);
            record.extend_from_slice(name.as_bytes());
        }
    }
    let len = u16::try_from(record.len() - RECORD_HEADER).unwrap_or(0);
    record[RECORD_HEADER - 2..RECORD_HEADER].copy_from_slice(&len.to_be_bytes());
    record
}

impl<'a> Alpn<'a> {
    /// Those of a [`protocol_list`].
    #[must_use]
    pub fn of(list: &'a [u8]) -> Self {
        Self(Cursor::new(list, list.len().saturating_sub(RECORD_HEADER)))
    }
}

impl Alpn<'_> {
    /// Whether this one is among them. Names are bytes: case matters.
    #[must_use]
    pub fn offers(mut self, protocol: &[u8]) -> bool {
        self.any(|offered| offered.is(protocol))
    }
}

impl<'a> Iterator for Alpn<'a> {
    type Item = Protocol<'a>;

    fn next(&mut self) -> Option<Protocol<'a>> {
        self.0.vector::<1>().map(Protocol)
    }
}

/// The name of a protocol; it may be spread over records.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Protocol<'a>(Cursor<'a>);

impl Protocol<'_> {
    /// Whether that is it.
    #[must_use]
    pub fn is(self, name: &[u8]) -> bool {
        self.0.is(name)
    }

    /// Copies it to where it is in one piece.
    #[must_use]
    pub fn copy_to(self, into: &mut [u8; 255]) -> &[u8] {
        self.0.copy_to(into).unwrap_or(&[])
    }
}
