//! A stream that gives up a client which does not take what it asked for.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a client may take for [`PART`] bytes of an answer that has more.
const WAIT: Duration = Duration::from_secs(15);

/// A client that takes less in that time holds its place in vain.
const PART: usize = 64 << 10;

/// A stream whose writes fail when they go on too slowly.
pub(super) struct Patience<Stream> {
    stream: Stream,
    /// Since a write had to wait: when that ends, and how much was taken meanwhile.
    waiting: Option<(Pin<Box<Sleep>>, usize)>,
    /// The client has sent something since the last answer.
    asking: bool,
}

impl<Stream> Patience<Stream> {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, waiting: None, asking: false }
    }

    /// Whether the client has begun a request that is not answered.
    pub(super) fn is_asking(&self) -> bool {
        self.asking
    }

    /// Counts what was written, and looks whether there is patience left.
    fn after_write(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.asking = false;
                if let Some((_, taken)) = &mut self.waiting {
                    *taken += bytes;
                    if *taken >= PART {
                        self.waiting = None;
                    }
                }
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let (end, _) = self.waiting.get_or_insert_with(|| (Box::pin(sleep(WAIT)), 0));
                ready!(end.as_mut().poll(context));
                Poll::Ready(Err(ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<Stream: AsyncRead + Unpin> AsyncRead for Patience<Stream> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.asking |= buffer.filled().len() > before;
        Poll::Ready(Ok(()))
    }
}

impl<Stream: AsyncWrite + Unpin> AsyncWrite for Patience<Stream> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.after_write(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.after_write(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Everything that was to be sent has been taken.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waiting = None;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::runtime::Builder;
    use tokio::time::{advance, pause};

    use super::*;

    fn run<T>(test: impl Future<Output = T>) -> T {
        Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
            pause();
            test.await
        })
    }

    #[test]
    fn who_takes_nothing_is_given_up() {
        let error = run(async {
            let (near, _far) = duplex(1024);
            Patience::new(near).write_all(&[0; 4096]).await.unwrap_err()
        });
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn who_takes_it_drop_by_drop_is_given_up_too() {
        let error = run(async {
            let (near, mut far) = duplex(1024);
            let drip = tokio::spawn(async move {
                let mut byte = [0];
                while far.read_exact(&mut byte).await.is_ok() {
                    advance(Duration::from_millis(500)).await;
                }
            });
            let error = Patience::new(near).write_all(&[0; 4096]).await.unwrap_err();
            drip.abort();
            error
        });
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn who_takes_enough_may_take_all_day() {
        run(async {
            let (near, mut far) = duplex(1024);
            tokio::spawn(async move {
                let mut part = vec![0; PART];
                while far.read_exact(&mut part).await.is_ok() {
                    advance(WAIT * 2 / 3).await;
                }
            });
            Patience::new(near).write_all(&vec![0; 20 * PART]).await.unwrap();
        });
    }
}
