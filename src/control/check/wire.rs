//! The connection of a check: what comes in is counted, and its end is kept to be shown.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::net::{TcpSocket, TcpStream};

use super::Target;
use crate::config::Address;
use crate::sys::net;

/// The last bytes that are kept.
pub(super) const KEPT: usize = 64;

/// The most that a server may send in a check.
pub(super) const MOST: usize = 64 << 10;

enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// A connection to a server.
pub(super) struct Wire {
    socket: Socket,
    kept: VecDeque<u8>,
    /// Bytes that may still come.
    left: usize,
    /// What was read and not yet looked at.
    ahead: Vec<u8>,
    /// Which of the configured steps goes on, from 1; none where there are none.
    pub(super) step: Option<usize>,
    /// When the certificate that came ends, in seconds since 1970.
    pub(super) certificate_ends: Option<u64>,
}

impl Wire {
    pub(super) async fn connect(target: &Target) -> io::Result<Self> {
        let socket = match &target.addr {
            Address::Ip(at) => {
                let socket = net::unconnected(*at, &target.tcp, target.source)?;
                let socket = TcpSocket::from_std_stream(socket);
                Socket::Tcp(socket.connect(*at).await?)
            }
            #[cfg(unix)]
            Address::Unix(path) => Socket::Unix(UnixStream::connect(path).await?),
            // A zero byte in front is what makes it one.
            #[cfg(target_os = "linux")]
            Address::Abstract(name) => Socket::Unix(UnixStream::connect(format!("\0{name}")).await?),
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        let kept = VecDeque::with_capacity(KEPT);
        Ok(Self { socket, kept, left: MOST, ahead: Vec::new(), step: None, certificate_ends: None })
    }

    /// The last bytes that came.
    pub(super) fn received(&self) -> Vec<u8> {
        self.kept.iter().copied().collect()
    }

    /// What has come and is not, or not yet, what is waited for: from its beginning.
    pub(super) fn unfit(&self) -> &[u8] {
        &self.ahead
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes).await
    }

    /// The next line, without its end.
    pub(super) async fn line(&mut self) -> io::Result<String> {
        let line = self.up_to(b"\n").await?;
        Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
    }

    /// What comes up to these bytes, and them.
    pub(super) async fn up_to(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        let mut from = 0;
        loop {
            let found = self.ahead[from..].windows(end.len()).position(|part| part == end);
            if let Some(at) = found {
                return Ok(self.ahead.drain(..from + at + end.len()).collect());
            }
            from = self.ahead.len().saturating_sub(end.len() - 1);
            self.fill().await?;
        }
    }

    /// The next bytes, so many: at most [`MOST`].
    pub(super) async fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < count {
            self.fill().await?;
        }
        Ok(self.ahead.drain(..count).collect())
    }

    /// Reads some more.
    async fn fill(&mut self) -> io::Result<()> {
        let mut some = [0; 1024];
        match self.read(&mut some).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.ahead.extend_from_slice(&some[..count]);
                Ok(())
            }
        }
    }

    /// Ends it with FIN: what the server still has to say is read, so that nothing makes a reset of it.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        self.shutdown().await?;
        let mut sink = [0; 1024];
        while self.read(&mut sink).await? > 0 {}
        Ok(())
    }

    /// Ends it with a reset.
    pub(super) fn reset(self) {
        match self.socket {
            // One that cannot be reset is closed.
            Socket::Tcp(stream) => drop(stream.set_zero_linger()),
            #[cfg(unix)]
            Socket::Unix(_) => {}
        }
    }
}

/// Adds to the last bytes.
pub(super) fn keep(kept: &mut VecDeque<u8>, new: &[u8]) {
    kept.extend(&new[new.len().saturating_sub(KEPT)..]);
    let over = kept.len().saturating_sub(KEPT);
    kept.drain(..over);
}

fn too_much() -> io::Error {
    io::Error::other(format!("it sent more than {} KiB", MOST >> 10))
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(too_much()));
        }
        let before = buffer.filled().len();
        ready!(match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            #[cfg(unix)]
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        })?;
        let new = &buffer.filled()[before..];
        self.left = self.left.saturating_sub(new.len());
        keep(&mut self.kept, new);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(unix)]
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(unix)]
            Socket::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(unix)]
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
