//! How a client of PostgreSQL asks for TLS before its hello, and gets an answer of one byte.
//!
//! Source: [PostgreSQL, "SSL Session Encryption" and "GSSAPI Session
//! Encryption"](https://www.postgresql.org/docs/17/protocol-flow.html): `SSLRequest` and `GSSENCRequest`. A client of version 17 or newer may begin with its hello (`sslnegotiation=direct`).

use super::Malformed;

/// A request's bytes: its own length, and a code in place of a version.
pub const REQUEST_LEN: usize = 8;
/// `SSLRequest`: may TLS begin? One byte is the answer, [`YES`] or `N`.
pub const SSL_REQUEST: [u8; REQUEST_LEN] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// The answer to [`SSL_REQUEST`] upon which TLS begins.
pub const YES: [u8; 1] = *b"S";
/// `GSSENCRequest`: may Kerberos encrypt what follows?
pub const GSSENC_REQUEST: [u8; REQUEST_LEN] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

/// What is to be done with a client's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: more bytes are needed to tell.
    More,
    /// Take [`REQUEST_LEN`] bytes off, answer `S`, and look for a hello.
    AnswerYes,
    /// Take [`REQUEST_LEN`] bytes off, answer `N`, and look again: a client that would like Kerberos asks for TLS next.
    AnswerNo,
    /// Look for a hello at once: there is no request.
    NoRequest,
}

/// Looks for requests; each look begins behind the last request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Requests {
    /// Kerberos was asked for. Nobody asks twice: another request would be answered over and over.
    has_refused: bool,
}

impl Requests {
    /// Looks at the `bytes` so far.
    ///
    /// # Errors
    /// [`Malformed::BeforeAnswer`]: a client has to wait for its answer. What stands behind a request could be another's who
    /// is in between, and would be taken for what came over TLS (CVE-2021-23214).
    pub fn look(&mut self, bytes: &[u8]) -> Result<Step, Malformed> {
        let step = match request(bytes, SSL_REQUEST, Step::AnswerYes) {
            Step::NoRequest if !self.has_refused => request(bytes, GSSENC_REQUEST, Step::AnswerNo),
            step => step,
        };
        if matches!(step, Step::AnswerYes | Step::AnswerNo) && bytes.len() > REQUEST_LEN {
            return Err(Malformed::BeforeAnswer);
        }
        self.has_refused |= step == Step::AnswerNo;
        Ok(step)
    }
}

fn request(bytes: &[u8], request: [u8; REQUEST_LEN], then: Step) -> Step {
    if bytes.starts_with(&request) {
        then
    } else if request.starts_with(bytes) {
        Step::More
    } else {
        Step::NoRequest
    }
}
