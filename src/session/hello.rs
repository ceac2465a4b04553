//! A client's hello: whom it wants to reach decides where it goes. And what a proxy in front tells of it.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use crate::balance::hash_of_name;
use crate::client_hello::postgres::{REQUEST_LEN, Requests, Step};
use crate::client_hello::{Alpn, ClientHello, First, Reader};
use crate::config::Asked;
use crate::proxy_header::{Tlvs, UNIQUE_ID_MAX};
use crate::snapshot::{PoolId, ReadsHello};

use super::inspect::{Flaw, Seen, Verdict};

/// Reads one client's hello, and what it may ask before it.
#[derive(Debug, Default)]
pub(super) struct HelloReader {
    reader: Reader,
    /// Looks for requests for TLS, until there is something else.
    requests: Option<Requests>,
    /// The client has asked for TLS, and was told to go on.
    pub(super) starttls: bool,
}

/// The most bytes of [`Heard::alpn`], but for the mark that some were left out.
const ALPN_MAX: usize = 255;

/// The most bytes of [`Heard::authority`], [`Heard::unique_id`] and [`Heard::vpce_id`], but for the mark that some were left
/// out: enough for any unique id.
const TLV_MAX: usize = 3 * UNIQUE_ID_MAX;

/// What is kept of what a client has said, or a proxy in front of it, and where that leads. Clients of a listener without
/// routes that reads no hello have none, unless a PROXY header tells more than addresses, so that they cost nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The name that it asks for, as routes compare it.
    pub sni: Option<Box<str>>,
    /// Protocols that it offers, with commas between them: 255 bytes of them at most, and `,...` where there are more. What is no
    /// visible ASCII, `"`, `%`, `,`, `=` and `\` are written as `%` with two hexadecimal digits.
    pub alpn: Option<Box<str>>,
    /// The name that it asks for, as a proxy in front has told it: 384 bytes at most, and `...` where there are more, written
    /// as in `alpn`. It decides nothing.
    pub authority: Option<Box<str>>,
    /// The connection's id at a proxy in front, written in the same way.
    pub unique_id: Option<Box<str>>,
    /// The VPC endpoint of AWS through which it has come, written in the same way.
    pub vpce_id: Option<Box<str>>,
    /// The number of the route that takes it, from 1; none: no route does, or there are none.
    pub route: Option<NonZeroU16>,
    /// The pool that this leads to; none: it is turned away, or its listener has a pool.
    pub pool: Option<PoolId>,
    /// A hash of the name.
    pub name: Option<NonZeroU32>,
    /// It has asked for TLS as clients of PostgreSQL do, so that its server has to be asked, too.
    pub starttls: bool,
}

impl HelloReader {
    pub(super) fn new(reads: ReadsHello) -> Self {
        Self { requests: reads.postgres.then(Requests::default), ..Self::default() }
    }

    /// Looks at all that has come so far; `ended`: nothing more will. The hello is none where the client speaks something
    /// else. An error tells what is to be done first, or instead.
    pub(super) fn look<'a>(
        &mut self,
        head: &'a [u8],
        ended: bool,
        most: u16,
    ) -> Result<Option<ClientHello<'a>>, Seen> {
        let more = || match (ended, head.len()) {
            (false, len) => {
                Verdict::More { more_than: u16::try_from(len).unwrap_or(most).min(most - 1), most }
            }
            (true, 0) => Verdict::Nothing,
            (true, len) => Verdict::Wrong(Flaw::HelloCut(len)),
        };
        if let Some(requests) = &mut self.requests {
            match requests.look(head).map_err(|malformed| Verdict::Wrong(malformed.into()))? {
                Step::More => return Err(more().into()),
                Step::NoRequest => self.requests = None,
                Step::AnswerNo => return Err(Seen::answered(REQUEST_LEN, b"N", most)),
                Step::AnswerYes => {
                    (self.requests, self.starttls) = (None, true);
                    return Err(Seen::answered(REQUEST_LEN, b"S", most));
                }
            }
        }
        match self.reader.look(head, most.into()).map_err(|malformed| Verdict::Wrong(malformed.into()))? {
            First::More => Err(more().into()),
            First::NotTls if self.starttls => Err(Verdict::Wrong(Flaw::NoHello).into()),
            First::NotTls => Ok(None),
            First::Hello(hello) => Ok(Some(hello)),
        }
    }
}

impl Heard {
    /// Of a client of whom a proxy in front tells this; `None`: nothing that is kept.
    pub(super) fn told(tlvs: Tlvs<'_>) -> Option<Arc<Self>> {
        let heard = Self {
            authority: tlvs.authority().and_then(escaped),
            unique_id: tlvs.unique_id().and_then(escaped),
            vpce_id: tlvs.vpce_id().and_then(escaped),
            ..Self::default()
        };
        (heard != Self::default()).then(|| Arc::new(heard))
    }

    /// Of the same client, which has said this itself.
    pub(super) fn and_said(self, asked: &Asked<'_>) -> Self {
        let name = asked.hello.and_then(|hello| hello.server_name);
        Self {
            sni: name.map(|name| name.as_str().into()),
            alpn: asked.hello.and_then(|hello| offered(hello.alpn)),
            name: name.map(|name| hash_of_name(name.as_str())),
            starttls: asked.starttls,
            ..self
        }
    }
}

/// As [`Heard::alpn`].
fn offered(protocols: Alpn<'_>) -> Option<Box<str>> {
    let mut text = String::new();
    let mut room = [0; 255];
    for protocol in protocols {
        let before = text.len();
        text.push_str(if text.is_empty() { "" } else { "," });
        protocol.copy_to(&mut room).iter().for_each(|byte| push(&mut text, *byte));
        if text.len() > ALPN_MAX {
            text.truncate(before);
            text.push_str(",...");
            break;
        }
    }
    (!text.is_empty()).then(|| text.into())
}

/// As [`Heard::authority`].
fn escaped(value: &[u8]) -> Option<Box<str>> {
    let mut text = String::new();
    for byte in value {
        let before = text.len();
        push(&mut text, *byte);
        if text.len() > TLV_MAX {
            text.truncate(before);
            text.push_str("...");
            break;
        }
    }
    (!text.is_empty()).then(|| text.into())
}

/// Appends a byte so that the text needs no quotes and no escapes, whatever the format of the log.
fn push(text: &mut String, byte: u8) {
    if byte.is_ascii_graphic() && !b"\"%,=\\".contains(&byte) {
        text.push(char::from(byte));
        return;
    }
    text.push('%');
    for half in [byte >> 4, byte & 0xf] {
        text.push(char::from(b"0123456789ABCDEF"[usize::from(half)]));
    }
}
