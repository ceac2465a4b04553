//! What is particular to unix sockets: their files, those that have none, and how they connect.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener as Plain;
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, SockRef, Socket};

use super::calls::{self, Call};
use super::net::{fault, new_socket};
use super::socket::{Listener, Stream};
use crate::config::Address;
use crate::relay::Fault;

/// Clients of the control socket that may wait to be accepted.
const MOST_WAITING: i32 = 128;

/// The file of a listening socket. Dropping it removes the file, unless another one has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), id: id_of(path)? })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether that is this file.
    #[cfg(target_os = "linux")]
    pub(super) fn is(&self, found: &rustix::fs::Stat) -> bool {
        (found.st_dev, found.st_ino) == self.id
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Our socket is still open, so no other file can have got its inode.
        if id_of(&self.path).is_ok_and(|id| id == self.id)
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// What tells a file from every other: its device and its inode.
fn id_of(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// The system's own form of an abstract name: a zero byte, and the name without any behind it (unix(7)).
pub(super) fn abstract_name(name: &str) -> io::Result<SockAddr> {
    SockAddr::unix(format!("\0{name}"))
}

/// Begins to connect, which on a unix socket also ends it, one way or the other.
pub(super) fn dial(to: io::Result<SockAddr>) -> Result<Stream, Fault> {
    let connect = |to: SockAddr| -> io::Result<Socket> {
        let socket = socket()?;
        socket.connect(&to)?;
        Ok(socket)
    };
    match to.and_then(connect) {
        Ok(socket) => Ok(Stream::Unix(UnixStream::from_std(socket.into()))),
        Err(error) => Err(match error.kind() {
            // A full queue. TCP would go on trying; here nothing is under way, and no event will come.
            ErrorKind::WouldBlock => Fault::Busy,
            _ => fault(&error),
        }),
    }
}

/// Where it listens.
pub(super) fn address(listener: &UnixListener) -> io::Result<Address> {
    let socket = SockRef::from(listener).local_addr()?;
    Ok(match socket.as_pathname() {
        Some(path) => Address::Unix(path.to_owned()),
        None => {
            let name = socket.as_abstract_namespace().unwrap_or_default();
            Address::Abstract(String::from_utf8_lossy(name).into_owned())
        }
    })
}

/// Takes one connection. Unlike those of TCP, it inherits no option of its listener.
pub(super) fn accept(listener: &UnixListener) -> io::Result<Stream> {
    let (stream, _) = listener.accept()?;
    let stream = Stream::Unix(stream);
    calls::made(Call::Setsockopt, stream.number(), || stream.with_ref(|socket| set_options(&socket)))?;
    Ok(stream)
}

/// Binds and listens. The file that a process left behind which listens no more is replaced.
pub(super) fn listen(path: &Path, backlog: i32) -> io::Result<Listener> {
    let (file, socket) = bind(path)?;
    socket.listen(backlog)?;
    Ok(Listener::Unix(Some(file), UnixListener::from_std(socket.into())))
}

/// Binds an abstract name and listens. There is no file, so none is left behind and nobody's permissions are asked for.
///
/// # Errors
/// AddrInUse when somebody has the name; or the operating system's.
pub(super) fn listen_without_file(name: &str, backlog: i32) -> io::Result<Listener> {
    let socket = bind_name(name)?;
    socket.listen(backlog)?;
    Ok(Listener::Unix(None, UnixListener::from_std(socket.into())))
}

/// Whether an abstract name is free: it is bound and let go.
///
/// # Errors
/// AddrInUse when somebody has it; or the operating system's.
pub(super) fn probe_name(name: &str) -> io::Result<()> {
    bind_name(name).map(drop)
}

fn bind_name(name: &str) -> io::Result<Socket> {
    let socket = socket()?;
    socket.bind(&abstract_name(name)?)?;
    Ok(socket)
}

/// Binds and listens, for clients whom the permissions `mode` let in. The file that a process left behind which listens
/// no more is replaced.
///
/// # Errors
/// AddrInUse when somebody listens there, AlreadyExists for a file that is no socket; or the operating system's.
pub fn listen_with_mode(path: &Path, mode: u32) -> io::Result<(SocketFile, Plain)> {
    let (file, socket) = bind(path)?;
    // Nobody gets in before it listens: until then a connect is refused, whatever the permissions were.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(MOST_WAITING)?;
    Ok((file, socket.into()))
}

/// Binds. The file that a process left behind which listens no more is replaced.
fn bind(path: &Path) -> io::Result<(SocketFile, Socket)> {
    probe(path)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = socket()?;
    socket.bind(&SockAddr::unix(path)?)?;
    Ok((SocketFile::new(path)?, socket))
}

/// Whether `path` is free, or nobody listens there any more. Changes nothing, but whoever listens there
/// meets a client that leaves at once.
///
/// # Errors
/// AddrInUse when somebody listens there, AlreadyExists for a file that is no socket; or the operating
/// system's.
pub(super) fn probe(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        // Its directory must be there.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::metadata(path.parent().unwrap_or(path)).map(drop)
        }
        Err(error) => Err(error),
        Ok(file) if !file.file_type().is_socket() => Err(ErrorKind::AlreadyExists.into()),
        Ok(_) => match socket()?.connect(&SockAddr::unix(path)?) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            // A full queue, or a socket for datagrams: somebody is there.
            Err(error)
                if error.kind() != ErrorKind::WouldBlock
                    && error.raw_os_error() != Some(Errno::PROTOTYPE.raw_os_error()) =>
            {
                Err(error)
            }
            _ => Err(ErrorKind::AddrInUse.into()),
        },
    }
}

fn socket() -> io::Result<Socket> {
    let socket = new_socket(Domain::UNIX, None)?;
    set_options(&socket)?;
    Ok(socket)
}

/// An urgent byte, which unix sockets have on Linux, stays at its place in the stream. Systems that have
/// none there may not know the option either.
fn set_options(socket: &Socket) -> io::Result<()> {
    if cfg!(target_os = "linux") { socket.set_out_of_band_inline(true) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_with_its_listener() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let listener = listen(&path, 1).unwrap();
        assert!(path.exists());
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_another_listener_put_there_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let listener = listen(&path, 1).unwrap();
        fs::remove_file(&path).unwrap();
        let other = Plain::bind(&path).unwrap();
        drop(listener);
        assert!(path.exists());
        drop(other);
    }

    #[test]
    fn only_what_nobody_listens_on_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let kind = |path: &Path| listen(path, 1).map(drop).map_err(|error| error.kind());
        let live = Plain::bind(&path).unwrap();
        assert_eq!(kind(&path), Err(ErrorKind::AddrInUse));
        drop(live);
        assert!(path.exists(), "left behind");
        assert_eq!(probe(&path).map_err(|error| error.kind()), Ok(()));
        assert!(path.exists(), "a probe changes nothing");
        assert_eq!(kind(&path), Ok(()));
        fs::write(&path, "precious").unwrap();
        assert_eq!(kind(&path), Err(ErrorKind::AlreadyExists));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert_eq!(kind(&directory.path().join("no/a")), Err(ErrorKind::NotFound));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_name_without_a_file_is_had_once_and_is_free_when_its_socket_is_closed() {
        let name = format!("tidegate-test-{}-ä/b", std::process::id());
        let listener = listen_without_file(&name, 1).unwrap();
        assert_eq!(listener.address().unwrap(), Address::Abstract(name.clone()));
        let in_use = Some(ErrorKind::AddrInUse);
        assert_eq!(probe_name(&name).err().map(|error| error.kind()), in_use);
        assert_eq!(listen_without_file(&name, 1).err().map(|error| error.kind()), in_use);
        assert!(dial(abstract_name(&name)).is_ok());
        drop(listener);
        assert_eq!(dial(abstract_name(&name)).unwrap_err(), Fault::Refused, "nobody listens");
        assert!(probe_name(&name).is_ok());
        // The longest is whole: a zero byte and 107 more.
        let longest = "x".repeat(107);
        let listener = listen_without_file(&longest, 1).unwrap();
        assert_eq!(listener.address().unwrap(), Address::Abstract(longest));
    }

    #[test]
    fn permissions_are_those_that_were_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        for mode in [0o600, 0o666] {
            let (file, _listener) = listen_with_mode(&path, mode).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
            assert_eq!(listen_with_mode(&path, mode).unwrap_err().kind(), ErrorKind::AddrInUse);
            drop(file);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_full_queue_is_not_a_refusal() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        assert_eq!(dial(SockAddr::unix(&path)).unwrap_err(), Fault::Absent, "no file");
        let listener = socket().unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        assert_eq!(dial(SockAddr::unix(&path)).unwrap_err(), Fault::Refused, "nobody listens");
        listener.listen(0).unwrap();
        let _first = dial(SockAddr::unix(&path)).unwrap();
        assert_eq!(dial(SockAddr::unix(&path)).unwrap_err(), Fault::Busy);
        assert_eq!(probe(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(listener.accept().unwrap());
        assert!(dial(SockAddr::unix(&path)).is_ok());
    }
}
