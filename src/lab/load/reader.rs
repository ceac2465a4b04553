//! Streams: sending the pattern, and comparing what arrives with it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use rustix::net::RecvFlags;

use super::pattern::{HEAD, Name, Pattern, Way};

/// Bytes that are offered to a socket at a time.
pub(super) const CHUNK: usize = 64 << 10;
/// Of so many reads of a measured stream one is compared, so that the load stays cheaper than any proxy: the others are
/// counted, and dropped by the kernel. Bytes that were lost, doubled or moved are seen all the same, because every byte
/// behind them is then at another offset.
const COMPARED: u64 = 16;

/// One end that sends the pattern.
#[derive(Debug)]
pub(super) struct Sending {
    name: Name,
    way: Way,
    /// Bytes that were sent, the head included.
    pub(super) sent: u64,
}

impl Sending {
    pub(super) fn new(name: Name, way: Way) -> Self {
        Self { name, way, sent: 0 }
    }

    /// Writes once, `most` bytes of the pattern at most, or a part of the head; 0 when the socket takes nothing now.
    pub(super) fn write(
        &mut self,
        mut stream: &TcpStream,
        pattern: &Pattern,
        most: usize,
    ) -> io::Result<usize> {
        let head = self.name.to_bytes();
        let bytes = match usize::try_from(self.sent) {
            Ok(sent) if sent < HEAD => &head[sent..],
            _ => pattern.at(self.name, self.way, self.sent - HEAD as u64, most),
        };
        let count = or_nothing(stream.write(bytes))?;
        self.sent += count as u64;
        Ok(count)
    }
}

/// One end that receives a stream.
#[derive(Debug)]
pub(super) struct Receiving {
    way: Way,
    head: [u8; HEAD],
    /// Whose stream it must be, where that is known before.
    expected: Option<Name>,
    every_byte: bool,
    reads: u64,
    /// Bytes that arrived, the head included.
    pub(super) received: u64,
}

/// What came of a read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    Bytes(usize),
    Nothing,
    End,
    /// They are not those that were sent: where.
    Wrong(u64),
}

impl Receiving {
    pub(super) fn new(expected: Option<Name>, way: Way, every_byte: bool) -> Self {
        Self { way, head: [0; HEAD], expected, every_byte, reads: 0, received: 0 }
    }

    /// The stream's name; known when its head is there.
    pub(super) fn name(&self) -> Option<Name> {
        (self.received >= HEAD as u64).then(|| Name::from_bytes(self.head))
    }

    /// Reads once, as much as the buffer takes; at most [`super::pattern::LONGEST`].
    pub(super) fn read(
        &mut self,
        mut stream: &TcpStream,
        pattern: &Pattern,
        buffer: &mut [u8],
    ) -> io::Result<Got> {
        if let Some(missing @ 1..) = (HEAD as u64).checked_sub(self.received) {
            let start = HEAD - missing as usize;
            return match stream.read(&mut self.head[start..]) {
                Ok(0) => Ok(Got::End),
                Ok(count) => {
                    self.received += count as u64;
                    let wrong = self.name().is_some_and(|name| self.expected.is_some_and(|it| it != name));
                    Ok(if wrong { Got::Wrong(0) } else { Got::Bytes(count) })
                }
                Err(error) => nothing_or(error),
            };
        }
        self.reads += 1;
        let compared = self.every_byte || self.reads % COMPARED == 1;
        let flags = if compared { RecvFlags::empty() } else { RecvFlags::TRUNC };
        let count = match rustix::net::recv(stream, &mut *buffer, flags) {
            Ok((_, 0)) => return Ok(Got::End),
            Ok((_, count)) => count,
            Err(error) => return nothing_or(error.into()),
        };
        let offset = self.received - HEAD as u64;
        self.received += count as u64;
        let right = pattern.at(Name::from_bytes(self.head), self.way, offset, count);
        match compared && buffer[..count] != *right {
            true => Ok(Got::Wrong(offset + first_difference(&buffer[..count], right))),
            false => Ok(Got::Bytes(count)),
        }
    }
}

fn first_difference(left: &[u8], right: &[u8]) -> u64 {
    left.iter().zip(right).position(|(left, right)| left != right).unwrap_or(0) as u64
}

fn nothing_or(error: io::Error) -> io::Result<Got> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(Got::Nothing),
        _ => Err(error),
    }
}

/// A call that would block did nothing.
pub(super) fn or_nothing(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::super::pattern::LONGEST;
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    /// What the receiver says of a stream that `change` has changed; until its end, or the first thing that is wrong.
    fn received(every_byte: bool, change: impl Fn(&mut Vec<u8>)) -> (u64, Got) {
        let (near, far) = pair();
        let (pattern, name) = (Pattern::new(), Name { connection: 9, number: 0 });
        let mut bytes = name.to_bytes().to_vec();
        for at in 0..64 {
            bytes.extend_from_slice(pattern.at(name, Way::Up, at * CHUNK as u64, CHUNK));
        }
        change(&mut bytes);
        let sender = std::thread::spawn(move || (&near).write_all(&bytes));
        let mut receiving = Receiving::new(Some(name), Way::Up, every_byte);
        let mut buffer = vec![0; LONGEST];
        let got = loop {
            match receiving.read(&far, &pattern, &mut buffer).unwrap() {
                Got::Bytes(_) | Got::Nothing => {}
                got => break got,
            }
        };
        drop(far);
        let _ = sender.join().unwrap();
        (receiving.received, got)
    }

    #[test]
    fn a_stream_that_was_not_touched_is_whole() {
        let whole = (HEAD + 64 * CHUNK) as u64;
        assert_eq!(received(true, |_| {}), (whole, Got::End));
        assert_eq!(received(false, |_| {}), (whole, Got::End));
    }

    #[test]
    fn one_byte_that_was_changed_lost_or_doubled_is_seen_where_every_byte_is_compared() {
        let at = HEAD + 70_000;
        assert_eq!(received(true, |bytes| bytes[at] ^= 1).1, Got::Wrong(70_000));
        assert!(matches!(received(true, |bytes| _ = bytes.remove(at)).1, Got::Wrong(70_000..70_010)));
        assert!(matches!(received(true, |bytes| bytes.insert(at, bytes[at])).1, Got::Wrong(70_000..70_010)));
        assert_eq!(received(true, |bytes| bytes[0] ^= 1).1, Got::Wrong(0));
    }

    #[test]
    fn a_byte_that_is_missing_is_seen_by_samples_too() {
        let at = HEAD + 10_000;
        assert!(matches!(received(false, |bytes| _ = bytes.remove(at)).1, Got::Wrong(_)));
    }
}
