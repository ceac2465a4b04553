//! A client's hello: whom it wants to reach decides where it goes.

use std::num::NonZeroU32;

use crate::balance::hash_of_name;
use crate::client_hello::postgres::{REQUEST_LEN, Requests, Step};
use crate::client_hello::{ClientHello, First, Reader};
use crate::config::Asked;
use crate::snapshot::ReadsHello;

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

/// What is kept of what a client has said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said {
    /// A hash of the name that it asks for.
    pub(super) name: Option<NonZeroU32>,
    /// It has asked for TLS as clients of PostgreSQL do, so that its server has to be asked, too.
    pub(super) starttls: bool,
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

impl Said {
    /// What is kept of it.
    pub(super) fn of(asked: &Asked<'_>) -> Self {
        let name = asked.hello.and_then(|hello| hello.server_name);
        Self { name: name.map(|name| hash_of_name(name.as_str())), starttls: asked.starttls }
    }
}
