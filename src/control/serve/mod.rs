//! Where the API is reached: the control socket, and an address of TCP.

mod connection;
mod patience;

use std::fmt::Write as _;
use std::fs;
use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
#[cfg(unix)]
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::future::try_join;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Control;
use super::api::{Door, Token, router};
use crate::config::{Address, Admin};
use crate::sys;
use crate::sys::input::open_to_read;

/// Clients at a time, of the socket and of TCP each. More wait until one leaves, and those that rest are sent away.
pub const MOST_CLIENTS: usize = 64;

/// The pause when no client can be taken, for want of descriptors usually.
const REST: Duration = Duration::from_millis(50);

/// Everything that is listened on. Dropping it removes the socket's file.
#[derive(Debug)]
pub struct Bound {
    #[cfg(unix)]
    socket: Option<(sys::SocketFile, std::os::unix::net::UnixListener)>,
    /// The folder that had to be made for its file.
    #[cfg(unix)]
    folder: Option<PathBuf>,
    http: Option<TcpListener>,
    token: Option<Token>,
}

/// Everything that cannot be had, with the reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BindError(String);

impl Bound {
    /// Listens on all that `[admin]` names, or on nothing. Nobody is answered yet.
    ///
    /// # Errors
    /// All that hinders it, and what to do about it.
    pub fn new(admin: &Admin) -> Result<Self, BindError> {
        let mut problems = String::new();
        let mut note = |what: &str, cause: &str, help: &str| {
            let _ = writeln!(problems, "admin: {what}: {cause}\n  = help: {help}");
        };
        let token = admin.http_token_file.as_deref().map(|file| read_token(file, open_to_read(file)));
        let token = token.transpose().map_err(|(what, cause, help)| note(&what, &cause, help)).ok().flatten();
        #[cfg(unix)]
        let folder = admin.socket.as_deref().and_then(folder_for);
        #[cfg(unix)]
        let socket = admin.socket.as_deref().and_then(|path| {
            let bound = listen(path, admin.socket_mode);
            bound.map_err(|(what, cause, help)| note(&what, &cause, help)).ok()
        });
        let http = admin.http.and_then(|at| {
            let bound = TcpListener::bind(at).map_err(|error| why_not(&Address::Ip(at), &error));
            bound.map_err(|(what, cause, help)| note(&what, &cause, help)).ok()
        });
        if !problems.is_empty() {
            return Err(BindError(problems.trim_end().to_owned()));
        }
        Ok(Self {
            #[cfg(unix)]
            socket,
            #[cfg(unix)]
            folder,
            http,
            token,
        })
    }

    /// The file of the control socket.
    #[cfg(unix)]
    #[must_use]
    pub fn file(&self) -> Option<&sys::SocketFile> {
        self.socket.as_ref().map(|(file, _)| file)
    }

    /// The folder that was made for it, if there was none.
    #[cfg(unix)]
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// The address of TCP; what port 0 became.
    #[must_use]
    pub fn http(&self) -> Option<SocketAddr> {
        self.http.as_ref()?.local_addr().ok()
    }
}

/// What cannot be had, why, and what to do about it.
type Hindrance = (String, String, &'static str);

fn why_not(at: &Address, error: &io::Error) -> Hindrance {
    let (cause, help) = sys::why_not_bound(at, error);
    (format!("cannot listen on {at}"), cause, help)
}

/// Makes the folder of the socket if there is none: one of its own in /run is gone after every start of the system.
#[cfg(unix)]
fn folder_for(socket: &Path) -> Option<PathBuf> {
    let folder = socket.parent().filter(|folder| !folder.exists())?;
    fs::create_dir(folder).is_ok().then(|| folder.to_owned())
}

#[cfg(unix)]
fn listen(path: &Path, mode: u32) -> Result<(sys::SocketFile, std::os::unix::net::UnixListener), Hindrance> {
    let bound = sys::listen_with_mode(path, mode);
    bound.map_err(|error| why_not(&Address::Unix(path.to_owned()), &error))
}

/// The token in that file, which was `opened`.
fn read_token(file: &Path, opened: io::Result<fs::File>) -> Result<Token, Hindrance> {
    let help =
        "`head -c 32 /dev/urandom | base64` makes one; only this program's user must be able to read it";
    let what = || format!("no token in {}", file.display());
    let text = opened.and_then(io::read_to_string).map_err(|error| (what(), error.to_string(), help))?;
    let shortest = Token::SHORTEST;
    let rule = || format!("it is one word of {shortest} or more letters, digits and signs of ASCII");
    Token::new(&text).ok_or_else(|| (what(), rule(), help))
}

/// Whom else `[admin]` lets control this process on this host, in words.
#[must_use]
pub fn oddities(admin: &Admin) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(path) = admin.socket.as_deref().filter(|_| admin.socket_mode & 0o007 != 0) {
        found.push(format!(
            "admin: with socket_mode = \"{:04o}\" every user of this host may control this process by {}",
            admin.socket_mode,
            path.display()
        ));
    }
    #[cfg(unix)]
    if let Some(file) = &admin.http_token_file {
        use std::os::unix::fs::PermissionsExt as _;
        if fs::metadata(file).is_ok_and(|file| file.permissions().mode() & 0o004 != 0) {
            let file = file.display();
            found.push(format!(
                "admin: every user of this host may read the token in {file}: `chmod o= {file}` leaves it to its owner"
            ));
        }
    }
    found
}

/// What is wrong with the token, if this user may know.
#[must_use]
pub fn token_fault(admin: &Admin) -> Option<BindError> {
    let file = admin.http_token_file.as_deref()?;
    let opened = open_to_read(file);
    if opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
        return None;
    }
    let (what, cause, help) = read_token(file, opened).err()?;
    Some(BindError(format!("admin: {what}: {cause}\n  = help: {help}")))
}

/// Answers all clients, for ever. Dropping it ends their connections and removes the socket's file.
///
/// # Errors
/// What hinders it from beginning.
pub async fn serve(config: &Admin, bound: Bound, control: Arc<impl Control>) -> io::Result<()> {
    let http = async {
        let Some(listener) = &bound.http else { return Ok(()) };
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
        let at = listener.local_addr()?;
        log::info!("admin: http://{at}");
        let door = Door::Http {
            write: config.http_write,
            reads_need_token: !at.ip().is_loopback(),
            token: bound.token.clone(),
        };
        let answers = router(Arc::clone(&control), door);
        attend(answers, async || listener.accept().await.map(|(stream, _)| stream)).await
    };
    #[cfg(unix)]
    let socket = async {
        let Some((_, listener)) = &bound.socket else { return Ok(()) };
        listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(listener.try_clone()?)?;
        if let Some(path) = &config.socket {
            log::info!("admin: {}", Address::Unix(path.clone()));
        }
        let answers = router(Arc::clone(&control), Door::Socket);
        attend(answers, async || listener.accept().await.map(|(stream, _)| stream)).await
    };
    #[cfg(not(unix))]
    let socket = async { Ok(()) };
    try_join(socket, http).await?;
    pending().await
}

/// Answers the clients that `accept` gives.
async fn attend<Stream>(answers: Router, accept: impl AsyncFn() -> io::Result<Stream>) -> io::Result<()>
where
    Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let room = Arc::new(Semaphore::new(MOST_CLIENTS));
    let (crowded, _) = watch::channel(false);
    let mut clients = JoinSet::new();
    loop {
        tell(&crowded, room.available_permits() == 0);
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return Ok(()) };
        tell(&crowded, false);
        match accept().await {
            Ok(stream) => {
                let answered = connection::answer(stream, answers.clone(), crowded.subscribe());
                clients.spawn(async move {
                    answered.await;
                    drop(place);
                });
            }
            Err(error) => {
                log::debug!("admin: cannot take a client: {error}");
                sleep(REST).await;
            }
        }
        while clients.try_join_next().is_some() {}
    }
}

/// Says whether others wait for a place.
fn tell(crowded: &watch::Sender<bool>, now: bool) {
    crowded.send_if_modified(|before| std::mem::replace(before, now) != now);
}
