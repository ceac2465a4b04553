//! What the engine needs from a ring: the kernel's, or the simulator's.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::flight::{Id, Parcel};
use crate::relay::Fault;
use crate::sys::Net;

/// An operation that has come to an end, or one of the results of one that goes on.
#[derive(Debug)]
pub struct Completion<Stream> {
    /// Which.
    pub id: Id,
    /// More results follow: what it uses stays in use.
    pub more: bool,
    /// What came of it.
    pub answer: Answer<Stream>,
}

/// What came of an operation.
#[derive(Debug)]
pub enum Answer<Stream> {
    /// Of [`Ring::accept`]: a client, with its address unless it came over a unix socket.
    Client(Stream, Option<SocketAddr>),
    /// Of [`Ring::receive`]: so many bytes, the first of them in this buffer; 0 is the peer's FIN, and has
    /// none. Of [`Ring::send`]: so many bytes were taken. Of the others: it is done.
    Done(u32, Option<u16>),
    /// Of [`Ring::watch`]: there is a hang-up, and with `true` an error, too.
    Hung(bool),
    /// Of [`Ring::receive`]: all buffers are out.
    NoBuffers,
    /// It was cancelled, or had to wait although it was asked not to.
    Nothing,
    /// It failed.
    Failed(Fault),
}

/// Submits operations and tells what came of them.
///
/// An operation is under way from when it is pushed until a completion of it says that no more follow; all
/// that long, what it was given stays where it is. It is submitted by [`Ring::enter`] at the latest.
pub trait Ring {
    /// The sockets, and what is done to them without the ring.
    type Net: Net;

    /// Takes clients from a listener: one, or with `many` as many as come. Each is an answer.
    fn accept(&mut self, listener: &<Self::Net as Net>::Listener, many: bool, id: Id);

    /// Connects a socket that [`Net::socket`] made. Proven by [`Net::dialed`] only.
    fn connect(&mut self, stream: &<Self::Net as Net>::Stream, to: &socket2::SockAddr, id: Id);

    /// Reads into the ring's own buffers, once or again and again until it has `most` bytes; or with `None` as much as
    /// there is, until the end, a failure, no buffer, or [`Ring::cancel`]. A buffer that an answer names, and those
    /// behind it that its count reaches ([`Ring::next`]), belong to the engine until it gives them back.
    fn receive(&mut self, stream: &<Self::Net as Net>::Stream, most: Option<u32>, id: Id);

    /// Writes a parcel. `waits`: until all of it is taken, or the socket fails. Otherwise it takes what it can at
    /// once, and *success of the whole says nothing*: whoever sees no answer after the next [`Ring::enter`] may
    /// believe it.
    fn send(&mut self, stream: &<Self::Net as Net>::Stream, parcel: &mut Parcel, waits: bool, id: Id);

    /// Waits for a hang-up or an error of a socket. Answers once.
    fn watch(&mut self, stream: &<Self::Net as Net>::Stream, id: Id);

    /// Waits for something to read: bytes, FIN or an error. Answers once.
    fn await_input(&mut self, stream: &<Self::Net as Net>::Stream, id: Id);

    /// Ends an operation early. It still answers, by [`Answer::Nothing`] or as if nobody had cancelled it.
    fn cancel(&mut self, id: Id);

    /// Submits what was pushed, waits for a completion (at most `wait`, for ever if `None`), and appends all that
    /// there are.
    ///
    /// # Errors
    /// The operating system's, when the ring is of no use any more.
    fn enter(
        &mut self,
        wait: Option<Duration>,
        out: &mut Vec<Completion<<Self::Net as Net>::Stream>>,
    ) -> io::Result<()>;

    /// Bytes that a buffer holds at most.
    fn buffer_size(&self) -> u32;

    /// The buffer that is filled after `buffer`.
    fn next(&self, buffer: u16) -> u16;

    /// The first `count` bytes of a buffer that belongs to the engine.
    fn bytes(&self, buffer: u16, count: u32) -> &[u8];

    /// Takes a buffer back.
    fn give(&mut self, buffer: u16);

    /// How many buffers could be filled now.
    fn spare(&self) -> usize;

    /// A client was let in, or a socket towards its server was made: the simulator must know who belongs to
    /// whom.
    #[cfg(feature = "sim")]
    fn introduce(
        &mut self,
        _client: &<Self::Net as Net>::Stream,
        _server: Option<&<Self::Net as Net>::Stream>,
    ) {
    }
}
