//! The API as a process has it: on a thread of its own, over a control socket and TCP.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tempfile::TempDir;
use tidegate::config::Admin;
use tidegate::control::serve::{Bound, serve};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::Fake;
use crate::support::http::Wire;

pub(crate) const TOKEN: &str = "a-token-that-is-long-enough";

pub(crate) struct Served {
    pub(crate) fake: Arc<Fake>,
    pub(crate) http: SocketAddr,
    pub(crate) socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _directory: TempDir,
}

impl Served {
    /// Read-only over TCP.
    pub(crate) fn new(fake: Fake) -> Self {
        Self::with(fake, |_| {})
    }

    /// Who has [`TOKEN`] may change things over TCP.
    pub(crate) fn writable(fake: Fake) -> Self {
        Self::with(fake, |admin| admin.http_write = true)
    }

    /// With other values in `[admin]`. There is a token.
    pub(crate) fn with(fake: impl Into<Arc<Fake>>, change: impl FnOnce(&mut Admin)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let token = directory.path().join("token");
        fs::write(&token, format!("{TOKEN}\n")).unwrap();
        let mut admin = Admin {
            socket: Some(directory.path().join("admin.sock")),
            http: Some("127.0.0.1:0".parse().unwrap()),
            http_token_file: Some(token),
            ..Admin::default()
        };
        change(&mut admin);
        let bound = Bound::new(&admin).unwrap();
        let (fake, mut http, socket): (Arc<Fake>, _, _) =
            (fake.into(), bound.http().unwrap(), admin.socket.clone().unwrap());
        if http.ip().is_unspecified() {
            http.set_ip([127, 0, 0, 1].into());
        }
        let (stop, stopped) = oneshot::channel();
        let control = Arc::clone(&fake);
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    result = serve(&admin, bound, control) => panic!("it ended by itself: {result:?}"),
                    _ = stopped => {}
                }
            });
        });
        Self { fake, http, socket, stop: Some(stop), thread: Some(thread), _directory: directory }
    }

    /// A connection to its address.
    pub(crate) fn tcp(&self) -> Wire {
        Wire::tcp(TcpStream::connect(self.http).unwrap())
    }

    /// A connection to its control socket.
    pub(crate) fn unix(&self) -> Wire {
        Wire::unix(UnixStream::connect(&self.socket).unwrap())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.unwrap();
            assert!(!self.socket.exists(), "the socket's file is left behind");
        }
    }
}
