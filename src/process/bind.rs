//! Listening sockets: all of them, or none.

use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::thread;
use std::time::Duration;

use super::sets::Sets;
use crate::config::{self, Address, Config, Tcp};
use crate::snapshot::ListenerId;
use crate::sys;
use crate::sys::net::{self, Listener};

/// How often, and with what pause, an address is looked at that is in use by nobody who can be seen.
const LOOKS: u32 = 20;
const LOOK: Duration = Duration::from_millis(50);

/// The listening sockets of one worker.
pub(super) type Sockets = Vec<(ListenerId, Listener)>;

/// Every address that cannot be had, with the reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BindError(String);

/// Binds every address of every listener, once for each worker that serves it. Whether another process has an address is
/// tried first for all of them, so that the message names all that are not free.
pub(super) fn all(config: &Config, sets: &Sets) -> Result<Vec<Sockets>, BindError> {
    let mut problems = String::new();
    for listener in &config.listeners {
        for at in listener.bind.iter().filter(|at| at.ip().is_none_or(|at| at.port() != 0)) {
            if let Err(error) = probe(at) {
                explain(&mut problems, listener, at, &error);
            }
        }
    }
    if !problems.is_empty() {
        return Err(BindError(problems.trim_end().to_string()));
    }
    let mut sockets: Vec<Sockets> = (0..sets.workers()).map(|_| Vec::new()).collect();
    for (index, listener) in config.listeners.iter().enumerate() {
        let id = ListenerId(u16::try_from(index).expect("configuration limits the number of listeners"));
        for at in &listener.bind {
            match share(at, backlog(listener), &config.tcp, sets.each()) {
                Ok(shared) => {
                    let workers = &mut sockets[sets.workers_of(index)];
                    for (worker, socket) in workers.iter_mut().zip(shared) {
                        worker.push((id, socket));
                    }
                }
                Err(error) => explain(&mut problems, listener, at, &error),
            }
        }
    }
    if problems.is_empty() { Ok(sockets) } else { Err(BindError(problems.trim_end().to_string())) }
}

/// Whether an address is free. One that nobody is seen to hold is waited for: the kernel closes the sockets of a killed
/// process that had an io_uring a moment after the process is gone, and a restart must not fail by that.
fn probe(at: &Address) -> io::Result<()> {
    for _ in 0..LOOKS {
        match net::probe(at) {
            Err(error)
                if cfg!(target_os = "linux")
                    && error.kind() == ErrorKind::AddrInUse
                    && sys::holder_of(at).is_none() =>
            {
                thread::sleep(LOOK);
            }
            result => return result,
        }
    }
    net::probe(at)
}

/// Names and addresses of all listeners, for the log: what port 0 became is known only now.
pub(super) fn addresses<'a>(config: &'a Config, sets: &Sets, sockets: &[Sockets]) -> Vec<(&'a str, Address)> {
    let mut addresses = Vec::new();
    for (index, listener) in config.listeners.iter().enumerate() {
        let first_worker = &sockets[sets.workers_of(index).start];
        let own = first_worker.iter().filter(|(id, _)| usize::from(id.0) == index);
        addresses
            .extend(own.filter_map(|(_, socket)| Some((listener.name.as_str(), socket.address().ok()?))));
    }
    addresses
}

/// One socket for each of `workers` workers on the same address. Port 0 is given a number by the first. A path, and on
/// some systems a port, can have one socket only: the first worker's, which hands connections over if `accept_balance`
/// says so.
fn share(at: &Address, backlog: i32, tcp: &Tcp, workers: u16) -> io::Result<Vec<Listener>> {
    let shared = workers > 1 && net::SHARES_PORTS;
    let first = net::listen(at, backlog, shared, tcp)?;
    let at = first.address()?;
    let mut sockets = vec![first];
    if at.ip().is_none() || !shared {
        return Ok(sockets);
    }
    for _ in 1..workers {
        sockets.push(net::listen(&at, backlog, shared, tcp)?);
    }
    Ok(sockets)
}

/// `auto` asks for as much as there is: the kernel cuts it to `net.core.somaxconn` (listen(2)).
fn backlog(listener: &config::Listener) -> i32 {
    listener.backlog.map_or(i32::MAX, |backlog| backlog.get().try_into().unwrap_or(i32::MAX))
}

fn explain(out: &mut String, listener: &config::Listener, at: &Address, error: &io::Error) {
    let name = &listener.name;
    let (cause, help) = match at {
        Address::Ip(_) => reason_of_port(at, error),
        Address::Unix(_) => reason_of_path(at, error),
    };
    let _ = writeln!(out, "listener {name}: cannot listen on {at}: {cause}\n  = help: {help}");
}

/// Why a port cannot be had, and what to do about it.
fn reason_of_port(at: &Address, error: &io::Error) -> (String, &'static str) {
    match error.kind() {
        ErrorKind::AddrInUse => match sys::holder_of(at) {
            Some(holder) => (format!("in use by {holder}"), "stop it, or choose another port"),
            None => (
                "in use by another process".to_string(),
                "`ss -ltnp` as root shows which; stop it, or choose another port",
            ),
        },
        ErrorKind::PermissionDenied => (
            format!("not permitted ({error})"),
            "ports below 1024 need CAP_NET_BIND_SERVICE: AmbientCapabilities=CAP_NET_BIND_SERVICE in the \
             systemd unit, or a port from 1024 up",
        ),
        ErrorKind::AddrNotAvailable => (
            "no interface of this host has this address".to_string(),
            "`ip address` shows those that there are",
        ),
        _ => (error.to_string(), "nothing was bound; mend the cause and start again"),
    }
}

/// Why a path cannot be had, and what to do about it.
fn reason_of_path(at: &Address, error: &io::Error) -> (String, &'static str) {
    match error.kind() {
        ErrorKind::AddrInUse => {
            let holder = sys::holder_of(at).unwrap_or_else(|| "another process".to_string());
            (format!("in use by {holder}"), "stop it, or choose another path")
        }
        ErrorKind::AlreadyExists => (
            "there is a file that is no socket".to_string(),
            "it may be precious, so it stays: remove it, or choose another path",
        ),
        ErrorKind::NotFound => {
            ("its directory does not exist".to_string(), "make it, or choose another path")
        }
        ErrorKind::PermissionDenied => (
            format!("not permitted ({error})"),
            "this user must be allowed to write in the directory; RuntimeDirectory= in the systemd unit \
             makes one below /run",
        ),
        _ => (error.to_string(), "nothing was bound; mend the cause and start again"),
    }
}
