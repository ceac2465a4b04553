//! Listening sockets: all of them, or none.

use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::thread;
use std::time::Duration;

use super::handed::{Handed, Lacking};
use crate::config::{self, Address};
use crate::sys;
use crate::sys::net::{self, Binding, Listener};

/// How often an address is looked at again that is in use by nobody who can be seen: when the process starts, since the one
/// before it may just have been killed, and in a reload, which others would have to wait for.
pub(super) const LOOKS_AT_START: u32 = 20;
pub(super) const LOOKS_IN_RELOAD: u32 = 0;
/// The pause before each.
const LOOK: Duration = Duration::from_millis(50);

/// An address that is listened on.
#[derive(Debug)]
pub(super) struct Bound {
    /// The name of the listener.
    pub(super) listener: String,
    /// As the configuration has it.
    pub(super) at: Address,
    /// What it is: with the port that 0 became.
    pub(super) locals: Vec<Address>,
    /// Its sockets, each with its worker's place in the set.
    pub(super) sockets: Vec<(u16, Listener)>,
}

/// Every address that cannot be had, with the reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BindError(String);

/// Binds addresses of listeners, once for each of the `each` workers that serve it: all of them, or none. Whether another
/// process has an address is tried first for all, again so many `looks`, so that the message names all that are not free.
/// What is handed over is bound already.
pub(super) fn all(
    wanted: &[(&config::Listener, &Address)],
    each: u16,
    looks: u32,
    handed: &Handed,
) -> Result<Vec<Bound>, BindError> {
    let mut problems = String::new();
    for (listener, at) in wanted.iter().filter(|(_, at)| at.ip().is_none_or(|at| at.port() != 0)) {
        if let Err(error) = probe(listener, at, looks) {
            explain(&mut problems, listener, at, &error);
        }
    }
    if !problems.is_empty() {
        return Err(BindError(problems.trim_end().to_string()));
    }
    let mut bound = Vec::with_capacity(wanted.len());
    for (listener, at) in wanted {
        let sockets = match at {
            // Each is one socket, as a path has one: the first worker's.
            Address::Handed(name) => handed
                .listen(name, listener.backlog.map(|_| backlog(listener)), &listener.tcp)
                .map(|taken| taken.into_iter().map(|socket| (0, socket)).collect())
                .map_err(|Lacking { cause, help }| tell(&mut problems, listener, at, &cause, &help)),
            _ => share(listener, at, each)
                .map(|shared| (0..).zip(shared).collect::<Vec<_>>())
                .map_err(|error| explain(&mut problems, listener, at, &error)),
        };
        let Ok(sockets) = sockets else { continue };
        let mut locals: Vec<Address> =
            sockets.iter().filter_map(|(_, socket)| socket.address().ok()).collect();
        locals.dedup();
        bound.push(Bound { listener: listener.name.clone(), at: (*at).clone(), locals, sockets });
    }
    if problems.is_empty() { Ok(bound) } else { Err(BindError(problems.trim_end().to_string())) }
}

/// Binds an address again that was given back, for each of the `each` workers.
pub(super) fn anew(listener: &config::Listener, at: &Address, each: u16) -> io::Result<Bound> {
    net::probe(at, binding(listener))?;
    let sockets = (0..).zip(share(listener, at, each)?).collect();
    Ok(Bound { listener: listener.name.clone(), at: at.clone(), locals: vec![at.clone()], sockets })
}

/// Whether an address is free. One that nobody is seen to hold is waited for: the kernel closes the sockets of a killed
/// process that had an io_uring a moment after the process is gone, and a restart must not fail by that.
fn probe(listener: &config::Listener, at: &Address, looks: u32) -> io::Result<()> {
    let is_in_use =
        |result: &io::Result<()>| result.as_ref().is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
    let mut result = net::probe(at, binding(listener));
    // Looked for once: that takes its time where there are many sockets.
    if !cfg!(target_os = "linux") || looks == 0 || !is_in_use(&result) || sys::holder_of(at).is_some() {
        return result;
    }
    for _ in 0..looks {
        if !is_in_use(&result) {
            break;
        }
        thread::sleep(LOOK);
        result = net::probe(at, binding(listener));
    }
    result
}

/// One socket for each of `workers` workers on the same address. Port 0 is given a number by the first. A path, and on
/// some systems a port, can have one socket only: the first worker's, which hands connections over if `accept_balance`
/// says so.
fn share(listener: &config::Listener, at: &Address, workers: u16) -> io::Result<Vec<Listener>> {
    let (backlog, with) = (backlog(listener), binding(listener));
    let shared = workers > 1 && net::SHARES_PORTS;
    let first = net::listen(at, backlog, shared, with)?;
    let at = first.address()?;
    let mut sockets = vec![first];
    if at.ip().is_none() || !shared {
        return Ok(sockets);
    }
    for _ in 1..workers {
        sockets.push(net::listen(&at, backlog, shared, with)?);
    }
    Ok(sockets)
}

fn binding(listener: &config::Listener) -> Binding<'_> {
    Binding { v6only: listener.v6only, tcp: &listener.tcp }
}

/// `auto` asks for as much as there is: the kernel cuts it to `net.core.somaxconn` (listen(2)).
pub(super) fn backlog(listener: &config::Listener) -> i32 {
    listener.backlog.map_or(i32::MAX, |backlog| backlog.get().try_into().unwrap_or(i32::MAX))
}

fn explain(out: &mut String, listener: &config::Listener, at: &Address, error: &io::Error) {
    let (cause, help) = sys::why_not_bound(at, error);
    tell(out, listener, at, &cause, help);
}

fn tell(out: &mut String, listener: &config::Listener, at: &Address, cause: &str, help: &str) {
    let name = &listener.name;
    let _ = writeln!(out, "listener {name}: cannot listen on {at}: {cause}\n  = help: {help}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_waits_for_no_address() {
        let text = "[listener.l]\nbind = [\"127.0.0.1:1\"]\npool = \"p\"\n\
                    [pool.p]\nserver = [{ name = \"a\", addr = \"127.0.0.1:2\" }]";
        let config = config::parse(text, "test").unwrap_or_else(|report| panic!("{report}"));
        // Bound, and not listening: no holder can be seen, and a start would wait for it.
        let busy = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        busy.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let at = Address::Ip(busy.local_addr().unwrap().as_socket().unwrap());
        let clock = sys::Clock::start();
        for _ in 0..5 {
            let result = probe(&config.listeners[0], &at, LOOKS_IN_RELOAD);
            assert_eq!(result.unwrap_err().kind(), ErrorKind::AddrInUse);
        }
        assert!(
            Duration::from_millis(clock.now().0) < LOOK * LOOKS_AT_START,
            "as long as a start waits for one"
        );
    }
}
