//! Where lines are written to: files, the standard streams, sockets for datagrams.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

#[cfg(not(unix))]
pub use nowhere::UnixDatagram;
#[cfg(unix)]
pub use std::os::unix::net::UnixDatagram;

/// A handle of our own for the standard output: no lock is shared with `println!`, and no buffer hides how much
/// was written.
///
/// # Errors
/// The operating system's.
pub fn own_stdout() -> io::Result<File> {
    own(&io::stdout())
}

/// The same for the standard error.
///
/// # Errors
/// The operating system's.
pub fn own_stderr() -> io::Result<File> {
    own(&io::stderr())
}

#[cfg(unix)]
fn own(stream: &impl std::os::fd::AsFd) -> io::Result<File> {
    Ok(stream.as_fd().try_clone_to_owned()?.into())
}

#[cfg(windows)]
fn own(stream: &impl std::os::windows::io::AsHandle) -> io::Result<File> {
    Ok(stream.as_handle().try_clone_to_owned()?.into())
}

/// Opens a file to append to it. Does not wait to open: a FIFO that nobody reads is an error, not a start-up that
/// hangs.
///
/// # Errors
/// The operating system's.
pub fn open_to_append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o640).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    options.open(path)
}

/// Waits until `file`, which took no byte without waiting, takes some.
///
/// # Errors
/// The operating system's.
pub fn wait_for_room(file: &File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use rustix::event::{PollFd, PollFlags, poll};
        match poll(&mut [PollFd::new(file, PollFlags::OUT)], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
    // Writes wait there themselves.
    #[cfg(not(unix))]
    {
        let _ = file;
        Err(io::ErrorKind::WouldBlock.into())
    }
}

#[cfg(not(unix))]
mod nowhere {
    use std::io;
    use std::path::Path;
    use std::time::Duration;

    /// There is none: only unix has sockets for datagrams with a path.
    #[derive(Debug)]
    pub enum UnixDatagram {}

    impl UnixDatagram {
        /// There is none.
        ///
        /// # Errors
        /// Always.
        pub fn unbound() -> io::Result<Self> {
            Err(io::Error::new(io::ErrorKind::Unsupported, "there are no unix sockets on this system"))
        }

        /// Never called.
        ///
        /// # Errors
        /// None.
        pub fn connect(&self, _: &Path) -> io::Result<()> {
            match *self {}
        }

        /// Never called.
        ///
        /// # Errors
        /// None.
        pub fn set_write_timeout(&self, _: Option<Duration>) -> io::Result<()> {
            match *self {}
        }

        /// Never called.
        ///
        /// # Errors
        /// None.
        pub fn set_nonblocking(&self, _: bool) -> io::Result<()> {
            match *self {}
        }

        /// Never called.
        ///
        /// # Errors
        /// None.
        pub fn send_to(&self, _: &[u8], _: &Path) -> io::Result<usize> {
            match *self {}
        }
    }
}
