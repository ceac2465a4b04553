//! Listening sockets that the supervisor has opened: `bind = ["fd:NAME"]`.

use crate::config::{Address, Config, Tcp};
use crate::sys::net::Listener;
use crate::sys::supervisor::Socket;

/// All of them, open as long as the process is: a listener that comes back finds its sockets again, and clients who come
/// meanwhile wait.
#[derive(Debug)]
pub(super) struct Handed(Vec<Socket>);

/// Why a socket cannot be had, and what to do about it.
#[derive(Debug)]
pub(super) struct Lacking {
    pub(super) cause: String,
    pub(super) help: String,
}

impl Handed {
    pub(super) fn new(sockets: Vec<Socket>) -> Self {
        Self(sockets)
    }

    /// All sockets of that name, which listen already. With a `backlog` their queues get another length.
    pub(super) fn listen(
        &self,
        name: &str,
        backlog: Option<i32>,
        tcp: &Tcp,
    ) -> Result<Vec<Listener>, Lacking> {
        let own: Vec<&Socket> = self.0.iter().filter(|socket| socket.name() == name).collect();
        if own.is_empty() {
            return Err(self.lacking(name));
        }
        let listen = |socket: &Socket| {
            socket.listen(backlog, tcp).map_err(|error| Lacking {
                cause: format!("what was handed over by this name cannot be listened on: {error}"),
                help: "a .socket unit of systemd needs ListenStream= and Accept=no".to_owned(),
            })
        };
        own.into_iter().map(listen).collect()
    }

    /// A listener with these options has the sockets of that name no more: the next one finds them as if it were the first.
    pub(super) fn release(&self, name: &str, had: &Tcp) {
        for socket in self.0.iter().filter(|socket| socket.name() == name) {
            if let Err(error) = socket.release(had) {
                log::warn!("the socket {name} keeps options of the listener that had it: {error}");
            }
        }
    }

    fn lacking(&self, name: &str) -> Lacking {
        let cause = "no socket of this name was handed over".to_owned();
        let names = self.names();
        let help = if names.is_empty() {
            format!(
                "start it by a .socket unit with FileDescriptorName={name}, or try it out: \
                 `systemd-socket-activate --fdname={name} -l 8080 tidegate run`"
            )
        } else {
            format!("there are: {}; the name is FileDescriptorName= of the .socket unit", names.join(", "))
        };
        Lacking { cause, help }
    }

    /// Says which sockets no listener uses: their clients wait for nobody.
    pub(super) fn report(&self, config: &Config) {
        let is_used = |name: &str| {
            let mut all = config.listeners.iter().flat_map(|listener| &listener.bind);
            all.any(|at| matches!(at, Address::Handed(used) if used == name))
        };
        for name in self.names().into_iter().filter(|name| !is_used(name)) {
            log::warn!(
                "the socket {name} was handed over, and no listener uses it: write bind = [\"fd:{name}\"], or take it out \
                 of the .socket unit"
            );
        }
    }

    /// Their names, each once.
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.iter().map(Socket::name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}
