//! What TLS clients say first in the simulated world, PostgreSQL's requests before it, and what they are told.

use super::kernel::{OURS, Role, World};
use super::plan::{Dice, Hellos};
use crate::client_hello::UNRECOGNIZED_NAME;
use crate::client_hello::postgres::{GSSENC_REQUEST, REQUEST_LEN, SSL_REQUEST};

/// The name that a route takes.
pub const KNOWN: &str = "db.test";
/// One that none takes.
const UNKNOWN: &str = "no.test";

/// How a client opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Opening {
    /// Nobody looks for a hello.
    #[default]
    Plain,
    /// A hello that a route takes.
    Known,
    /// The same, and it does not wait for the answers to its requests: whether that is seen hangs on when its bytes arrive.
    Hasty,
    /// A hello that no route takes.
    Unknown,
    /// No hello, or more of it than is taken.
    Bad,
}

/// A client's first words.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) opening: Opening,
    /// The requests that are not passed on, and the answer to each.
    pub(super) requests: Vec<[u8; REQUEST_LEN]>,
    pub(super) answers: Vec<u8>,
    /// What follows them.
    pub(super) hello: Vec<u8>,
}

impl Words {
    pub(super) fn draw(hellos: Hellos, dice: &mut Dice) -> Self {
        let opening = match dice.between(0, 9) {
            0..=6 => Opening::Known,
            7 => Opening::Unknown,
            _ => Opening::Bad,
        };
        let mut words = Self { opening, ..Self::default() };
        if hellos.starttls && opening != Opening::Bad && dice.chance(600) {
            if dice.chance(200) {
                words.requests.push(GSSENC_REQUEST);
                words.answers.push(b'N');
            }
            words.requests.push(SSL_REQUEST);
            words.answers.push(b'S');
            if opening == Opening::Known && dice.chance(100) {
                words.opening = Opening::Hasty;
            }
        }
        words.hello = match opening {
            Opening::Unknown => hello(UNKNOWN, hellos.most, dice),
            Opening::Bad => no_hello(hellos.most, dice),
            Opening::Plain | Opening::Known | Opening::Hasty => hello(KNOWN, hellos.most, dice),
        };
        words
    }
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [(bytes.len() as u16).to_be_bytes().as_slice(), bytes].concat()
}

/// A hello that asks for a name, in records of at most `fragment` bytes.
fn records(name: &str, padding: usize, fragment: usize) -> Vec<u8> {
    let extension = |kind: u16, data: &[u8]| [kind.to_be_bytes().as_slice(), &long(data)].concat();
    let name = extension(0, &long(&[&[0], long(name.as_bytes()).as_slice()].concat()));
    let extensions = [name, extension(21, &vec![0; padding])].concat();
    let body = [&[3, 3], [7; 32].as_slice(), &[0, 0, 2, 0x13, 1, 1, 0], &long(&extensions)].concat();
    let [_, len @ ..] = (body.len() as u32).to_be_bytes();
    let message = [&[1], len.as_slice(), &body].concat();
    message.chunks(fragment).flat_map(|fragment| [&[22, 3, 1], long(fragment).as_slice()].concat()).collect()
}

/// One of at most `most` bytes.
fn hello(name: &str, most: u32, dice: &mut Dice) -> Vec<u8> {
    let (mut padding, fragment) = (dice.size(most.into()) as usize, 1 + dice.size(5_000) as usize);
    loop {
        let bytes = records(name, padding, fragment);
        if bytes.len() <= most as usize {
            return bytes;
        }
        padding /= 2;
    }
}

fn no_hello(most: u32, dice: &mut Dice) -> Vec<u8> {
    let fragment = 1 + dice.size(5_000) as usize;
    match dice.between(0, 3) {
        0 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        1 => [22, 3, 1, 0, 0].to_vec(),
        2 => {
            let mut other = records(KNOWN, 0, 1_000);
            other[5] = 2;
            other
        }
        _ => records(KNOWN, most as usize, fragment),
    }
}

impl World {
    /// A client is told something: what it is to be told, in time, and nothing twice.
    pub(super) fn law_answer(&mut self, client: usize, bytes: &[u8]) {
        let lead = &self.conns[client].lead;
        let told = [&lead.told, bytes].concat();
        let alert: &[u8] = if lead.opening == Opening::Unknown { &UNRECOGNIZED_NAME } else { &[] };
        let is_right = [&lead.answers, alert].concat().starts_with(&told);
        let asked = match told.len() {
            len if len <= lead.answers.len() => lead.header + (len * REQUEST_LEN) as u64,
            _ => lead.bytes.len() as u64,
        };
        if !is_right || self.conns[client].ends[OURS].read < asked {
            self.laws.fail(format!("#{client} was told {}", bytes.escape_ascii()));
        }
    }

    /// Whether a client has been told that nobody has the name that it asks for.
    pub(super) fn is_alerted(&self, client: usize) -> bool {
        self.conns[client].lead.told.ends_with(&UNRECOGNIZED_NAME)
    }

    /// Whether a client has ended without a byte that is not used up already.
    pub(super) fn said_nothing(&self, client: usize) -> bool {
        let (it, arrived) = (&self.conns[client], self.conns[client].ends[OURS].arrived);
        let is_between = it.lead.opening != Opening::Plain
            && (it.lead.header..=it.lead.own).contains(&arrived)
            && (arrived - it.lead.header).is_multiple_of(REQUEST_LEN as u64);
        it.laws.eof && (arrived == 0 || is_between)
    }

    /// Whether what a client has said may be the reason for its reset.
    pub(super) fn is_refused(&self, client: usize) -> bool {
        matches!(self.conns[client].lead.opening, Opening::Bad | Opening::Hasty)
    }

    /// A server's client is known: servers of one that has asked for TLS are going to be asked, too.
    pub(super) fn law_serves(&mut self, server: usize, client: usize) {
        let lead = &self.conns[client].lead;
        if matches!(lead.opening, Opening::Unknown | Opening::Bad) {
            self.laws.fail(format!("#{client} gets the server #{server}, and is to have none"));
        }
        if !lead.told.contains(&b'S') {
            return;
        }
        let answer = self.dice.pick(b"SSSSSSSSNE");
        let is_silent = self.dice.chance(100);
        let asked = if is_silent { u64::MAX } else { self.expected(server).len() as u64 };
        let it = &mut self.conns[server];
        it.lead.bytes = vec![answer];
        it.lead.own = 1;
        it.script.waits_before_lead(asked);
    }

    /// Whether bytes may be relayed to a server: it is connected, and has answered `S` if it was to be asked.
    pub(super) fn is_reached(&self, server: usize) -> bool {
        let it = &self.conns[server];
        it.laws.proven && (it.lead.bytes.is_empty() || (it.ends[OURS].read > 0 && it.lead.bytes == b"S"))
    }

    /// A server that was asked has been heard.
    pub(super) fn heard(&mut self, conn: usize) {
        if self.conns[conn].role == Role::Server && self.conns[conn].lead.bytes.len() == 1 {
            if self.is_reached(conn) {
                self.progressed(conn);
            } else {
                self.fails_to_serve(conn);
            }
        }
    }

    /// What could be done about a connected server whose answer is waited for.
    pub(super) fn answer_left_to_do(&self, client: usize, server: usize) -> Option<String> {
        let (it, end) = (&self.conns[server], &self.conns[server].ends[OURS]);
        if end.read > 0 || it.laws.eof || it.laws.fault_at.is_some() {
            return None;
        }
        if end.unread() > 0 || end.fin_arrived || end.error.is_some() {
            return Some(format!("#{server} has answered, and nobody looked"));
        }
        let is_watched =
            self.trigger == crate::engine::Trigger::Edge || !self.conns[client].ends[OURS].fin_arrived;
        (is_watched && self.conns[client].ends[OURS].error.is_some())
            .then(|| format!("#{client} has failed, and its server is waited for"))
    }
}
