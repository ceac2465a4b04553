//! Listening sockets that the supervisor has opened: `bind = ["fd:NAME"]`.

use crate::config::Tcp;
use crate::sys::net::Listener;
use crate::sys::supervisor::Socket;

/// Those that no listener has taken yet.
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
    pub(super) fn take(
        &mut self,
        name: &str,
        backlog: Option<i32>,
        tcp: &Tcp,
    ) -> Result<Vec<Listener>, Lacking> {
        let taken: Vec<Socket> = self.0.extract_if(.., |socket| socket.name() == name).collect();
        if taken.is_empty() {
            return Err(self.lacking(name));
        }
        let listen = |socket: Socket| {
            socket.listen(backlog, tcp).map_err(|error| Lacking {
                cause: format!("what was handed over by this name cannot be listened on: {error}"),
                help: "a .socket unit of systemd needs ListenStream= and Accept=no".to_owned(),
            })
        };
        taken.into_iter().map(listen).collect()
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
    pub(super) fn report(&self) {
        for name in self.names() {
            log::warn!(
                "the socket {name} was handed over, and no listener uses it: write bind = [\"fd:{name}\"], or take it out \
                 of the .socket unit"
            );
        }
    }

    /// The names of those that are left, each once.
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.iter().map(Socket::name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}
