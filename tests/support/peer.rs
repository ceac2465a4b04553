//! One end of a connection: what it sends, what it got, and how the other end closed.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use tidegate::sys::Os;
use tidegate::sys::net::{Net as _, Stream};

use super::PATIENCE;

/// Everything that one end learned of its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transcript {
    /// Bytes received.
    pub(crate) bytes: u64,
    /// Position, in what the other side writes, of the first byte that is not what belongs there.
    pub(crate) wrong_at: Option<u64>,
    /// How it ended.
    pub(crate) end: End,
}

/// How a connection ended for the end that looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The other side sent FIN.
    Fin,
    /// The other side sent RST.
    Reset,
    /// It closed or reset the connection itself, before it saw the other side do so.
    Left,
    /// Nothing came for so long that the test gave up.
    Open,
}

/// The transcript of an end that got `bytes` bytes, each of them right, and then `end`.
pub(crate) fn got(bytes: u64, end: End) -> Transcript {
    Transcript { bytes, wrong_at: None, end }
}

/// Who wrote a stream of bytes; the two streams differ at every position where that can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    Client,
    Server,
}

/// A prime, so that bytes moved by any likely buffer's size do not look right.
const PERIOD: usize = 1_000_003;

static CLIENT_BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| noise(0x9e37_79b9_7f4a_7c15));
static SERVER_BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| noise(0xd1b5_4a32_d192_ed03));

fn noise(mut state: u64) -> Vec<u8> {
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..PERIOD).map(step).collect()
}

impl Author {
    /// What this author writes at `position`: at least one byte and at most `most`.
    fn bytes(self, position: u64, most: usize) -> &'static [u8] {
        let all = match self {
            Self::Client => CLIENT_BYTES.as_slice(),
            Self::Server => SERVER_BYTES.as_slice(),
        };
        let start = (position % PERIOD as u64) as usize;
        &all[start..PERIOD.min(start + most)]
    }

    /// Where in `bytes`, received at `position`, the first wrong byte is.
    fn first_wrong(self, position: u64, bytes: &[u8]) -> Option<u64> {
        let mut checked = 0;
        while checked < bytes.len() {
            let right = self.bytes(position + checked as u64, bytes.len() - checked);
            let seen = &bytes[checked..checked + right.len()];
            if seen != right {
                let same = seen.iter().zip(right).take_while(|(a, b)| a == b).count();
                return Some(position + (checked + same) as u64);
            }
            checked += right.len();
        }
        None
    }
}

/// One end of a connection, with blocking calls that all end in time.
pub(crate) struct Peer {
    stream: TcpStream,
    incoming: Incoming,
    writes: Author,
    sent: u64,
}

/// The receiving half: counts and checks.
struct Incoming {
    author: Author,
    /// Where in the author's stream this connection begins.
    start: u64,
    buffer: Vec<u8>,
    bytes: u64,
    wrong_at: Option<u64>,
    end: End,
}

/// Bytes of one ordinary read or write.
const CHUNK: usize = 64 * 1024;

impl Peer {
    /// The end that connected.
    pub(crate) fn client(stream: TcpStream) -> Self {
        Self::new(stream, Author::Client, Author::Server)
    }

    /// The end that accepted.
    pub(crate) fn server(stream: TcpStream) -> Self {
        Self::new(stream, Author::Server, Author::Client)
    }

    /// The end that connected, over a unix socket. All that it does but what is named after TCP or asks for
    /// an address is the same there.
    pub(crate) fn unix_client(stream: UnixStream) -> Self {
        Self::any(OwnedFd::from(stream).into(), Author::Client, Author::Server)
    }

    /// The end that accepted, over a unix socket.
    pub(crate) fn unix_server(stream: UnixStream) -> Self {
        Self::any(OwnedFd::from(stream).into(), Author::Server, Author::Client)
    }

    fn new(stream: TcpStream, writes: Author, reads: Author) -> Self {
        stream.set_nodelay(true).unwrap();
        Self::any(stream, writes, reads)
    }

    fn any(stream: TcpStream, writes: Author, reads: Author) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let buffer = vec![0; CHUNK];
        let incoming = Incoming { author: reads, start: 0, buffer, bytes: 0, wrong_at: None, end: End::Left };
        Self { stream, incoming, writes, sent: 0 }
    }

    /// The socket, for options and for bytes that are not part of the pattern.
    pub(crate) fn socket(&self) -> SockRef<'_> {
        SockRef::from(&self.stream)
    }

    /// Its own address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// From now on its own bytes are expected back.
    pub(crate) fn expect_echo(&mut self) {
        self.incoming.author = self.writes;
    }

    /// A client of a server that echoes, when a byte was there and is back.
    pub(crate) fn echoed(mut self) -> Self {
        self.expect_echo();
        self.send(1);
        self.receive(1);
        self
    }

    /// From now on its own bytes are expected back, and its bytes begin at `start`: other connections carry other bytes.
    pub(crate) fn expect_echo_from(&mut self, start: u64) {
        self.expect_echo();
        self.sent = start;
        self.incoming.start = start;
    }

    /// Sends the next `count` bytes of its stream.
    pub(crate) fn send(&mut self, count: u64) {
        self.send_in_pieces(count, CHUNK);
    }

    /// The same with at most `piece` bytes in each write.
    pub(crate) fn send_in_pieces(&mut self, count: u64, piece: usize) {
        self.sent = write_pattern(&self.stream, self.writes, self.sent, count, piece)
            .unwrap_or_else(|error| panic!("{:?} sends {count} bytes: {error}", self.writes));
    }

    /// Sends until the other side takes nothing for half a second, and says how many bytes it has sent.
    pub(crate) fn send_until_stuck(&mut self, most: u64) -> u64 {
        self.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let before = self.sent;
        loop {
            let bytes = self.writes.bytes(self.sent, CHUNK);
            match (&self.stream).write(bytes) {
                Ok(count) => self.sent += count as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{:?} sends: {error}", self.writes),
            }
            assert!(self.sent - before < most, "{most} bytes were taken although nobody reads them");
        }
        self.stream.set_write_timeout(Some(PATIENCE)).unwrap();
        self.sent - before
    }

    /// Sends a byte every 10 ms until the connection fails.
    pub(crate) fn send_until_broken(&mut self) -> ErrorKind {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Err(error) = write_pattern(&self.stream, self.writes, self.sent, 1, 1) {
                return error.kind();
            }
            self.sent += 1;
            thread::sleep(Duration::from_millis(10));
        }
        panic!("{:?} could send although the other side is gone", self.writes);
    }

    /// Sends `count` bytes and FIN, so that a small count travels in one segment with the FIN.
    pub(crate) fn send_with_fin(&mut self, count: u64) {
        self.socket().set_tcp_cork(true).unwrap();
        self.send(count);
        self.finish();
    }

    /// Sends FIN.
    pub(crate) fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("FIN can be sent");
    }

    /// Receives exactly `count` bytes.
    pub(crate) fn receive(&mut self, count: u64) {
        let until = self.incoming.bytes + count;
        while self.incoming.bytes < until {
            let most = usize::try_from(until - self.incoming.bytes).unwrap().min(CHUNK);
            if let Some(end) = self.incoming.read(&self.stream, most) {
                panic!("{count} bytes expected, {} to come, but {end:?}", until - self.incoming.bytes);
            }
        }
    }

    /// Receives exactly these bytes, which are none of the pattern.
    pub(crate) fn receive_text(&mut self, text: &[u8]) {
        let mut seen = vec![0; text.len()];
        self.receive_raw(&mut seen);
        assert_eq!(seen, text);
        self.incoming.bytes += text.len() as u64;
    }

    /// Fills `buffer` with bytes that are none of the pattern, and do not count.
    pub(crate) fn receive_raw(&mut self, buffer: &mut [u8]) {
        (&self.stream).read_exact(buffer).expect("all bytes of the text arrive");
    }

    /// Sends bytes that are none of the pattern.
    pub(crate) fn say(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.stream).write_all(bytes)
    }

    /// Receives until the other side ends it.
    pub(crate) fn receive_to_end(&mut self) -> End {
        self.receive_slowly(CHUNK, Duration::ZERO)
    }

    /// The same in pieces of at most `piece` bytes with a pause before each.
    pub(crate) fn receive_slowly(&mut self, piece: usize, pause: Duration) -> End {
        loop {
            thread::sleep(pause);
            if let Some(end) = self.incoming.read(&self.stream, piece) {
                self.incoming.end = end;
                return end;
            }
        }
    }

    /// Sends `count` bytes in writes of at most `piece` and then FIN, and receives at the same time until
    /// the other side ends it.
    pub(crate) fn exchange(&mut self, count: u64, piece: usize) -> End {
        let (stream, incoming) = (&self.stream, &mut self.incoming);
        let (author, position) = (self.writes, self.sent);
        let end = thread::scope(|scope| {
            let sender = scope.spawn(move || {
                write_pattern(stream, author, position, count, piece).expect("all can be sent");
                stream.shutdown(Shutdown::Write).expect("FIN can be sent");
            });
            let end = loop {
                if let Some(end) = incoming.read(stream, CHUNK) {
                    break end;
                }
            };
            sender.join().expect("the sending thread");
            end
        });
        self.sent += count;
        self.incoming.end = end;
        end
    }

    /// Writes back what it receives until FIN, then sends FIN too.
    pub(crate) fn echo(&mut self) -> End {
        let end = loop {
            let before = self.incoming.bytes;
            if let Some(end) = self.incoming.read(&self.stream, CHUNK) {
                break end;
            }
            let count = usize::try_from(self.incoming.bytes - before).unwrap();
            (&self.stream).write_all(&self.incoming.buffer[..count]).expect("the echo can be sent");
        };
        self.incoming.end = end;
        if end == End::Fin {
            self.finish();
        }
        end
    }

    /// Whether nothing comes, neither bytes nor an end, while `span` goes by.
    pub(crate) fn hears_nothing_for(&mut self, span: Duration) -> bool {
        self.stream.set_read_timeout(Some(span)).unwrap();
        let heard = self.incoming.read(&self.stream, CHUNK);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        heard == Some(End::Open)
    }

    /// Waits until the kernel at the other end of this connection has all that was sent. Asks the socket itself: one look at
    /// the table of all connections takes seconds on a machine that has many and is busy.
    pub(crate) fn wait_until_delivered(&self) {
        let stream = self.stream.try_clone().unwrap();
        let stream = Stream::Tcp(mio::net::TcpStream::from_std(stream));
        let began = Instant::now();
        while Os::is_delivering(&stream) {
            assert!(began.elapsed() < PATIENCE, "{:?}: what was sent is not delivered", self.writes);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until bytes or an end can be read, and reads nothing.
    pub(crate) fn wait_for_input(&self) {
        self.stream.peek(&mut [0]).expect("something comes");
    }

    /// Resets the connection.
    pub(crate) fn abort(self) -> Transcript {
        self.socket().set_linger(Some(Duration::ZERO)).unwrap();
        self.leave()
    }

    /// Closes the connection: FIN, or RST when input is left unread.
    pub(crate) fn leave(self) -> Transcript {
        Transcript { bytes: self.incoming.bytes, wrong_at: self.incoming.wrong_at, end: self.incoming.end }
    }
}

impl Incoming {
    /// One read; `Some` when it was not bytes.
    fn read(&mut self, mut stream: &TcpStream, most: usize) -> Option<End> {
        match stream.read(&mut self.buffer[..most]) {
            Ok(0) => Some(End::Fin),
            Ok(count) => {
                let wrong_at = self.author.first_wrong(self.start + self.bytes, &self.buffer[..count]);
                self.wrong_at = self.wrong_at.or(wrong_at);
                self.bytes += count as u64;
                None
            }
            Err(error) => match error.kind() {
                ErrorKind::ConnectionReset => Some(End::Reset),
                ErrorKind::WouldBlock => Some(End::Open),
                // A read with a time limit ends so when the process was stopped meanwhile (signal(7)).
                ErrorKind::Interrupted => self.read(stream, most),
                _ => panic!("{:?}'s bytes cannot be read: {error}", self.author),
            },
        }
    }
}

/// Writes the `count` bytes of `author` from `position` on, and gives the position after them.
fn write_pattern(
    mut stream: &TcpStream,
    author: Author,
    position: u64,
    count: u64,
    piece: usize,
) -> io::Result<u64> {
    let until = position + count;
    let mut position = position;
    while position < until {
        let most = usize::try_from(until - position).unwrap_or(usize::MAX).min(piece);
        position += stream.write(author.bytes(position, most))? as u64;
    }
    Ok(position)
}
