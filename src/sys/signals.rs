//! What somebody outside asks of this process: signals on unix, the console's control events on Windows.

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// To end: SIGTERM, SIGINT, SIGQUIT; Ctrl-C, Ctrl-Break, or the console is closed.
    Stop,
    /// SIGHUP.
    Reload,
    /// SIGUSR1.
    Reopen,
    /// SIGUSR2.
    Upgrade,
}

#[cfg(windows)]
pub use by_console::{Requests, keep_from_terminal, request_stop, tell_of_stop};
#[cfg(unix)]
pub use by_signal::{Requests, keep_from_terminal, request_stop, tell_of_stop};

#[cfg(unix)]
mod by_signal {
    use std::io;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use rustix::process::{Signal, getpid, kill_process};
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    use signal_hook::iterator::Signals;

    use super::Request;

    /// Requests as they come, from when this is made.
    #[derive(Debug)]
    pub struct Requests(Signals);

    impl Requests {
        /// Catches the signals of this process from now on.
        ///
        /// # Errors
        /// The operating system's.
        pub fn new() -> io::Result<Self> {
            Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2]).map(Self)
        }

        /// Has `obey` do what is asked, until the process ends.
        pub fn each(mut self, mut obey: impl FnMut(Request)) {
            for signal in self.0.forever() {
                obey(match signal {
                    SIGHUP => Request::Reload,
                    SIGUSR1 => Request::Reopen,
                    SIGUSR2 => Request::Upgrade,
                    _ => Request::Stop,
                });
            }
        }
    }

    /// Asks this process to end, as somebody outside would.
    ///
    /// # Errors
    /// The operating system's.
    pub fn request_stop() -> io::Result<()> {
        Ok(kill_process(getpid(), Signal::TERM)?)
    }

    /// Sets `flag` as soon as this process is asked to end.
    ///
    /// # Errors
    /// The operating system's.
    pub fn tell_of_stop(flag: &Arc<AtomicBool>) -> io::Result<()> {
        for signal in [SIGTERM, SIGINT, SIGQUIT] {
            signal_hook::flag::register(signal, Arc::clone(flag))?;
        }
        Ok(())
    }

    /// A Ctrl-C in the terminal is not for the process that `command` starts.
    pub fn keep_from_terminal(command: &mut Command) -> &mut Command {
        command.process_group(0)
    }
}

#[cfg(windows)]
mod by_console {
    use std::io;
    use std::os::windows::process::CommandExt as _;
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Arc, OnceLock};

    use super::Request;

    /// Processes of another group hear no Ctrl-C (CreateProcess, `CREATE_NEW_PROCESS_GROUP`).
    const NEW_GROUP: u32 = 0x200;

    static STOP: OnceLock<Sender<()>> = OnceLock::new();
    static TOLD: OnceLock<Arc<AtomicBool>> = OnceLock::new();

    /// Requests as they come, from when this is made: once in a process.
    #[derive(Debug)]
    pub struct Requests(Receiver<()>);

    impl Requests {
        /// Catches the console's events from now on.
        ///
        /// # Errors
        /// The operating system's, or a second call.
        pub fn new() -> io::Result<Self> {
            let (stop, stops) = channel();
            STOP.set(stop).map_err(|_| io::ErrorKind::AlreadyExists)?;
            ctrlc::set_handler(|| {
                let _ = request_stop();
            })
            .map_err(io::Error::other)?;
            Ok(Self(stops))
        }

        /// Has `obey` do what is asked, until the process ends.
        pub fn each(self, mut obey: impl FnMut(Request)) {
            for () in self.0 {
                obey(Request::Stop);
            }
        }
    }

    /// Asks this process to end, as somebody outside would.
    ///
    /// # Errors
    /// Nobody listens for requests yet.
    pub fn request_stop() -> io::Result<()> {
        if let Some(told) = TOLD.get() {
            told.store(true, Ordering::Relaxed);
        }
        let stop = STOP.get().ok_or(io::ErrorKind::NotConnected)?;
        stop.send(()).map_err(io::Error::other)
    }

    /// Sets `flag` as soon as this process is asked to end.
    ///
    /// # Errors
    /// Another flag is set already.
    pub fn tell_of_stop(flag: &Arc<AtomicBool>) -> io::Result<()> {
        TOLD.set(Arc::clone(flag)).map_err(|_| io::ErrorKind::AlreadyExists.into())
    }

    /// A Ctrl-C in the console is not for the process that `command` starts.
    pub fn keep_from_terminal(command: &mut Command) -> &mut Command {
        command.creation_flags(NEW_GROUP)
    }
}
