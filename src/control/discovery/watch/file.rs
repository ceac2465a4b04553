//! A file with a list. It is read again and again, and compared: that tells of every change on every system and file
//! system, also where a file is replaced, is a link to another one, or has the old time.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::{LARGEST_LIST, Look};
use super::Seen;
use crate::sys::input::open_to_read;

/// A file that has changed is taken when it is the same after so long: somebody may be writing.
const SETTLES: Duration = Duration::from_millis(50);

/// How often that is tried in one look.
const TRIES: u32 = 20;

/// How long a look takes at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at a file by a thread of its own: a file system may hang.
pub(super) struct File {
    path: PathBuf,
    hand: Option<Sender<oneshot::Sender<Look>>>,
    /// A look that takes long.
    pending: Option<oneshot::Receiver<Look>>,
}

impl File {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, hand: None, pending: None }
    }

    pub(super) async fn look(&mut self) -> Look {
        let pending = match self.pending.take() {
            Some(pending) => Ok(pending),
            None => self.begin(),
        };
        let mut pending = match pending {
            Ok(pending) => pending,
            Err(error) => return Look::Failed(format!("no thread can be started to read it: {error}")),
        };
        match timeout(PATIENCE, &mut pending).await {
            Ok(Ok(look)) => look,
            Ok(Err(_)) => {
                self.hand = None;
                Look::Failed("the thread that reads it has ended".to_owned())
            }
            Err(_) => {
                self.pending = Some(pending);
                Look::Failed("reading it takes too long".to_owned())
            }
        }
    }

    fn begin(&mut self) -> io::Result<oneshot::Receiver<Look>> {
        let (reply, pending) = oneshot::channel();
        let hand = match self.hand.take() {
            Some(hand) => hand,
            None => {
                let (hand, asked) = channel();
                let path = self.path.clone();
                thread::Builder::new()
                    .name("list".to_owned())
                    .spawn(move || read_when_asked(&path, &asked))?;
                hand
            }
        };
        // A thread that has ended drops the reply, which is seen above.
        let _ = hand.send(reply);
        self.hand = Some(hand);
        Ok(pending)
    }
}

fn read_when_asked(path: &Path, asked: &Receiver<oneshot::Sender<Look>>) {
    let mut seen = Seen::default();
    while let Ok(reply) = asked.recv() {
        let look = match read_settled(path, seen.bytes()) {
            Ok(bytes) => seen.judge(bytes),
            Err(error) => Look::Failed(error.to_string()),
        };
        let _ = reply.send(look);
    }
}

/// The file when nobody writes it, as far as can be seen.
fn read_settled(path: &Path, before: Option<&[u8]>) -> io::Result<Vec<u8>> {
    let mut bytes = read(path)?;
    for _ in 0..TRIES {
        if before == Some(&bytes) {
            return Ok(bytes);
        }
        thread::sleep(SETTLES);
        let now = read(path)?;
        if now == bytes {
            return Ok(bytes);
        }
        bytes = now;
    }
    Err(io::Error::other("it is being written"))
}

/// One byte more than a list may have tells that there are too many.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_to_read(path)?.take(LARGEST_LIST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
